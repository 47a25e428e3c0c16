"""The shapes of Mem0's answers, and how ours are brought into them."""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, cast

from memstack.records import ROLES, AddResult, Change, Hit, Memory

__all__ = [
    "Added",
    "AddedItem",
    "Done",
    "FoundItem",
    "HistoryItem",
    "Listing",
    "MemoryItem",
    "Results",
    "added",
    "found",
    "history",
    "listed",
    "single",
]

_MICROSECOND: Final = timedelta(microseconds=1)


class _Stored(TypedDict):
    id: str
    memory: str
    hash: str
    metadata: dict[str, Any] | None
    created_at: str
    updated_at: str


class _Known(_Stored, total=False):
    user_id: str
    agent_id: str
    run_id: str
    actor_id: str
    role: str
    expiration_date: str


class MemoryItem(_Known, total=False):
    """A memory as Mem0 shows it: with the owners and the last day that it has."""

    score: None  # from `get` alone


class _Scored(_Known):
    score: float


class FoundItem(_Scored, total=False):
    """A memory that ``search`` found, with its score, and how it came about where that was asked for."""

    score_details: dict[str, Any]


class Results(TypedDict):
    """What ``search`` answers."""

    results: list[FoundItem]


class Listing(TypedDict):
    """What ``get_all`` answers."""

    results: list[MemoryItem]


class _Event(TypedDict):
    id: str
    memory: str
    event: str


class AddedItem(_Event, total=False):
    """A memory that ``add`` stored; who spoke, where it was stored as said."""

    actor_id: str | None
    role: str


class _Added(TypedDict):
    results: list[AddedItem]


class Added(_Added, total=False):
    """What ``add`` answers. `failed` is there only when something was lost on the way: Mem0 does not tell."""

    failed: list[dict[str, Any]]


class Done(TypedDict):
    """What ``update``, ``delete`` and ``delete_all`` answer."""

    message: str


class HistoryItem(TypedDict):
    """A change as Mem0 shows it."""

    id: str
    memory_id: str
    old_memory: str | None
    new_memory: str | None
    event: str
    created_at: str
    updated_at: str
    is_deleted: bool
    actor_id: str | None
    role: str | None


def single(memory: Memory) -> MemoryItem:
    """A memory as ``get`` answers it."""
    return cast("MemoryItem", {**_known(memory), "score": None})


def listed(memory: Memory) -> MemoryItem:
    """A memory as ``get_all`` answers it."""
    return cast("MemoryItem", _known(memory))


def found(hit: Hit) -> FoundItem:
    """A memory as ``search`` answers it."""
    details = {} if hit.explain is None else {"score_details": dict(hit.explain)}
    return cast("FoundItem", {**_known(hit), "score": hit.score, **details})


def _known(memory: Memory) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": memory.id,
        "memory": memory.text,
        "hash": hashlib.md5(memory.text.encode(), usedforsecurity=False).hexdigest(),  # Mem0's formula
        "metadata": copy.deepcopy(dict(memory.metadata)) or None,
        "created_at": memory.created_at.isoformat(),
        "updated_at": memory.updated_at.isoformat(),
        **memory.scope.as_dict(),
    }
    if memory.source:
        shown["role"] = memory.source[0].role
        if memory.source[0].name is not None:
            shown["actor_id"] = memory.source[0].name
    if memory.expires_at is not None:
        shown["expiration_date"] = (memory.expires_at - _MICROSECOND).date().isoformat()  # the last day it is seen
    return shown


def added(result: AddResult, *, inferred: bool) -> Added:
    """The outcome of an ``add`` in Mem0's shape; what was left out on purpose is not in it, as in Mem0."""
    results: list[AddedItem] = []
    for memory in result.stored:
        entry: AddedItem = {"id": memory.id, "memory": memory.text, "event": "ADD"}
        if not inferred and memory.source:
            entry["actor_id"], entry["role"] = memory.source[0].name, memory.source[0].role
        results.append(entry)
    answer: Added = {"results": results}
    if result.failed:
        answer["failed"] = result.to_dict()["failed"]
    return answer


def history(memory_id: str, changes: Sequence[Change]) -> list[HistoryItem]:
    """The changes of one memory in Mem0's shape, oldest first."""
    own = [change for change in changes if change.memory_id == memory_id]
    return [
        {
            "id": str(uuid.uuid5(uuid.UUID(memory_id), str(place))),  # the same at every call
            "memory_id": memory_id,
            "old_memory": change.old_text,
            "new_memory": change.new_text,
            "event": change.event,
            "created_at": own[0].at.isoformat(),
            "updated_at": change.at.isoformat(),
            "is_deleted": change.event == "DELETE",
            "actor_id": None if change.actor in ROLES else change.actor,
            "role": change.actor if change.actor in ROLES else None,
        }
        for place, change in enumerate(own)
    ]
