"""What a gateway is made of, and the clock that dates its writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from memstack.instants import EPOCH, utcnow

if TYPE_CHECKING:
    from pathlib import Path

    from memstack.history import SqliteHistory
    from memstack.offline import Guard
    from memstack.providers.base import LLM, Embedder
    from memstack.retrieval.reranking import Reranker
    from memstack.retrieval.weights import Weights
    from memstack.schemas import Schemas
    from memstack.stores.base import Store

__all__ = ["Options", "Parts", "tick"]


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the verbs.

    Attributes:
        remember_roles: roles whose messages are stored when nothing is inferred.
        max_text: characters that one text may have.
        max_metadata_values: values that the metadata of one memory may have.
        max_metadata_depth: how deep it may be nested.
        max_metadata_text: characters that its keys and texts may have.
        pending_minutes: how long a change waits for an answer.
        telemetry: whether Mem0's telemetry may stay on.
        custom_instructions: instructions for Mem0's extraction.
        extraction_prompt: the prompt of the extraction, in place of Mem0's.
        data_folder: tells where Mem0 may keep its own files.
        weights: how much each part of a score counts.
        reranker: what orders the best hits anew; None is nothing.
    """

    remember_roles: tuple[str, ...]
    max_text: int
    max_metadata_values: int
    max_metadata_depth: int
    max_metadata_text: int
    pending_minutes: int
    telemetry: bool
    custom_instructions: str | None
    extraction_prompt: str | None
    data_folder: Callable[[], Path]
    weights: Weights
    reranker: Reranker | None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that the factory puts together."""

    store: Store
    embedder: Embedder
    llm: LLM | None
    history: SqliteHistory
    options: Options
    schemas: Schemas
    guard: Guard | None = None


_clock = threading.Lock()
_last = EPOCH
_STEP: Final = timedelta(microseconds=1)


def tick() -> datetime:
    """The current instant, later than every one that this process got before: writes have an order of their own."""
    global _last  # noqa: PLW0603  # one clock for the process
    with _clock:
        _last = max(utcnow(), _last + _STEP)
        return _last
