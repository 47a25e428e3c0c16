"""Clues: what ranking looks at of a memory, short enough to be read hundreds of times in a search.

A clue is one line of text that stores keep beside the memory: where it stands in its run, who spoke, when, and the
words. It is derived from the payload alone, so a store that does not keep it can make it at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from memstack import payload as payloads
from memstack.instants import to_micros
from memstack.scope import SCOPE_FIELDS
from memstack.words import keys_of

__all__ = ["Clue", "name_keys", "place_in_run", "place_of", "read_clue", "word_keys", "write_clue"]

_CLOSING: Final = "\"')* \t\r\n\u201d\u2019\u00bb"
_QUESTION_MARKS: Final = ("?", "\uff1f", "\u061f", "\u037e")  # Latin, full width, Arabic, Greek


@dataclass(frozen=True, slots=True)
class Clue:
    """What ranking looks at of a memory.

    Attributes:
        id: the memory's.
        run: which run it stands in; empty where it stands in none.
        position: its place there.
        name: the words of the speaker's name, with a space before and after each.
        asks: whether it ends with a question mark.
        occurred: when it was said, in microseconds since 1970 UTC.
        created: when it was stored, likewise.
        words: the keys of its words, with a space before and after each.
    """

    id: str
    run: str
    position: int
    name: str
    asks: bool
    occurred: int
    created: int
    words: str


def write_clue(
    payload: Mapping[str, Any], *, words: Iterable[str] | None = None, times: Mapping[str, int] | None = None
) -> str:
    """The clue of a payload.

    Args:
        payload: of the memory.
        words: its `word_keys`, where they are known.
        times: its instants in microseconds since 1970 UTC, where they are known.
    """
    if times is None:
        times = {name: to_micros(instant) for name, instant in payloads.instants_of(payload).items()}
    run, position = place_in_run(payload)
    created = times.get("created_at", 0)
    asks = payloads.text_of(payload).rstrip(_CLOSING).endswith(_QUESTION_MARKS)
    keys = word_keys(payload) if words is None else words
    return "\t".join(
        (
            run,
            str(position),
            _spaced(name_keys(payload)),
            "?" if asks else "",
            str(times.get("occurred_at", created)),
            str(created),
            _spaced(keys),
        )
    )


def read_clue(memory_id: str, text: str) -> Clue:
    """A clue as `write_clue` wrote it."""
    run, position, name, asks, occurred, created, words = text.split("\t")
    return Clue(memory_id, run, int(position), name, asks == "?", int(occurred), int(created), words)


def word_keys(payload: Mapping[str, Any]) -> list[str]:
    """The keys of the words of a memory: of its text, and of the texts in its metadata."""
    texts = [payloads.text_of(payload), *_texts(payloads.metadata_of(payload).values())]
    return list(dict.fromkeys(chain.from_iterable([keys_of(text) for text in texts])))


def name_keys(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the words of the speaker's name."""
    name = payload.get("actor_id")
    return keys_of(name) if isinstance(name, str) else ()


def place_of(run: str, position: int) -> str:
    """A place in a run, as one word."""
    return f"{run}:{position}"


def place_in_run(payload: Mapping[str, Any]) -> tuple[str, int]:
    """The run and the place in it; an empty run for a memory without."""
    source = payloads.source_of(payload) if payload.get("run_id") else ()
    if not source or source[0].position is None:
        return "", 0
    owner = "\0".join(str(payload.get(name) or "") for name in SCOPE_FIELDS)
    return hashlib.blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest(), source[0].position


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _texts(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)


def _spaced(keys: Iterable[str]) -> str:
    joined = " ".join(keys)
    return f" {joined} " if joined else ""
