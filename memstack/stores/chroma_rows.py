"""Rows as Chroma keeps them, and the order in which they are listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np

from memstack import metadata as codec
from memstack.instants import to_micros
from memstack.scope import SCOPE_FIELDS
from memstack.stores.base import Row, SortField
from memstack.stores.chroma_filters import Both, all_hold, between
from memstack.stores.foreign import payload_of_row
from memstack.stores.index import index_of, number_key

__all__ = ["EXACT_UP_TO", "KEPT", "Listing", "Told", "compared", "hash_of", "row_of", "rows_of", "to_chroma"]

EXACT_UP_TO: Final = 5_000  # rows: of so many each is compared
KEPT: Final = ("body", "clue", "created_at", "updated_at", "occurred_at")
Told = Mapping[str, Any]  # of the metadata of a row: these, at least


@dataclass(frozen=True)
class Listing:
    """Rows where a condition holds, in the order of an instant and the id.

    Attributes:
        condition: None is all rows.
        field: the instant.
        descending: whether the latest come first.
        after: the cursor: what the row before the first is sorted by; None is from the beginning.
        end: the last place that belongs to it; None is to the end.
    """

    condition: Both | None
    field: SortField
    descending: bool
    after: tuple[datetime, str] | None = None
    end: int | None = None

    @property
    def where(self) -> Any:
        """The condition, the cursor and the end in Chroma's words; None is all rows."""
        behind, before = ("lte", "gte") if self.descending else ("gte", "lte")
        parts = [self.condition] if self.condition is not None and self.condition.holds else []
        if self.after is not None:
            parts.append(between(self.field, behind, to_micros(self.after[0])))
        if self.end is not None:
            parts.append(between(self.field, before, self.sign * self.end))
        return all_hold([part.holds for part in parts]) if parts else None

    @property
    def named(self) -> frozenset[str] | None:
        """The ids beside it."""
        return None if self.condition is None else self.condition.ids

    def places(self, told: Mapping[str, Told | None]) -> Iterator[tuple[int, str]]:
        """What rows are sorted by; those before the cursor are left out."""
        first = None if self.after is None else (self.sign * to_micros(self.after[0]), self.after[1])
        for row_id, metadata in told.items():
            instant = (metadata or {}).get(self.field)  # others may have written it
            place = (self.sign * instant if isinstance(instant, int) else 0, row_id)
            if first is None or place > first:
                yield place

    def until(self, place: int) -> Listing:
        """The same, ended after the instant of a place."""
        return replace(self, end=place)

    @property
    def sign(self) -> int:
        """What a number is multiplied by, to be smaller the sooner it comes."""
        return -1 if self.descending else 1


def to_chroma(row: Row) -> dict[str, Any]:
    """The metadata of a row: what it is, and what it is found by."""
    payload = row.payload
    index = index_of(payload, row.fingerprint)
    numbers = {f"{key}{name}": part for key, value in index.numbers.items() for name, part in number_key(value).items()}
    ranged = {**numbers, **{f"{key}t": micros for key, micros in index.instants.items()}, **index.times}
    return {
        **{name: payload[name] for name in SCOPE_FIELDS if payload.get(name)},
        **ranged,
        "body": codec.encode(payload),
        "clue": index.clue,
        "fingerprint": index.fingerprint,
        **({"place": index.place} if index.place else {}),
        "terms": index.shared,
        "keys": list(ranged),
    }


def hash_of(metadata: Mapping[str, Any] | None) -> int:
    """What changes with a row."""
    return hash((metadata or {}).get("body"))


def row_of(row_id: str, metadata: Mapping[str, Any] | None, vector: Sequence[float] | None) -> Row:
    """A row of its metadata."""
    return Row(row_id, payload_of_row("chroma", row_id, (metadata or {}).get("body")), vector)


def rows_of(found: Mapping[str, Any]) -> list[Row]:
    """The rows of an answer."""
    told = found.get("embeddings")
    vectors = [None] * len(found["ids"]) if told is None else np.asarray(told, dtype=np.float32).tolist()
    return [row_of(*parts) for parts in zip(found["ids"], found["metadatas"], vectors, strict=True)]


def told_of(found: Mapping[str, Any]) -> dict[str, Told]:
    """The metadata of an answer, as far as they were asked for; others may have written rows without."""
    metadatas = found.get("metadatas")
    if metadatas is None:
        return {}
    return {row_id: told or {} for row_id, told in zip(found["ids"], metadatas, strict=True)}


def nearest_first(found: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The ids and similarities of rows, the greatest first."""
    return sorted(found, key=lambda each: -each[1])


def compared(query: Any, found: Mapping[str, Any], limit: int) -> list[tuple[str, float]]:
    """The nearest among what was found: their ids, and similarities."""
    ids = found["ids"]
    if not ids:
        return []
    vectors = np.asarray(found["embeddings"], dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    similarities = np.divide(vectors @ query, lengths, out=np.zeros(len(vectors), np.float32), where=lengths > 0)
    best = np.argsort(-similarities, kind="stable")[:limit].tolist()
    return [(ids[place], float(similarities[place])) for place in best]
