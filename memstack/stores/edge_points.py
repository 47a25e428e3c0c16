"""The points of Qdrant Edge: what a memory is found by, and how it is asked for.

Points are flat, and the words and the terms of a memory are one text under one index that splits at white space: of
each value the bindings find out the type by trying, three microseconds for a number, nine for a text, fifteen for a
list or a mapping. Terms begin with a mark that no word has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import qdrant_edge as edge

from memstack.payload import Payload
from memstack.scope import SCOPE_FIELDS
from memstack.stores.index import Index, number_key

__all__ = ["INDEX", "Ids", "Words", "condition_of", "flat", "ids_of", "nearest_to", "point_of", "vector_of"]

INDEX: Final = "index"
Ids = dict[int, UUID]  # by their numbers


class Words:
    """`qdrant_common.Vocabulary` in Qdrant Edge's classes."""

    def match(self, key: str, values: Sequence[str]) -> Any:
        match = edge.MatchValue(values[0]) if len(values) == 1 else edge.MatchAny(list(values))
        return edge.FieldCondition(key, match=match)

    def terms(self, terms: Sequence[str]) -> Any:
        return self.words([_as_word(term) for term in terms])

    def words(self, words: Sequence[str]) -> Any:
        return edge.FieldCondition(INDEX, match=edge.MatchTextAny(" ".join(words)))

    def between(self, key: str, **bounds: float) -> Any:
        return edge.FieldCondition(flat(key), range=edge.RangeFloat(**bounds))

    def equals(self, key: str, number: int) -> Any:
        return edge.FieldCondition(flat(key), match=edge.MatchValue(number))

    def ids(self, ids: Sequence[str]) -> Any:
        return edge.HasIdCondition(set(ids))

    def all(self, conditions: Sequence[Any]) -> Any:
        # A complement inside of a condition of its own costs the engine twice the time of the whole query.
        return edge.Filter(
            must=[part for part in conditions if not isinstance(part, _Complement)],
            must_not=[part.of for part in conditions if isinstance(part, _Complement)],
        )

    def any(self, conditions: Sequence[Any]) -> Any:
        return edge.Filter(should=[self.all([part]) if isinstance(part, _Complement) else part for part in conditions])

    def none(self, condition: Any) -> Any:
        return condition.of if isinstance(condition, _Complement) else _Complement(condition)


@dataclass(frozen=True, slots=True)
class _Complement:
    """Where a condition does not hold."""

    of: Any


def point_of(payload: Payload, index: Index) -> dict[str, Any]:
    """What a memory is found by, as the point keeps it."""
    terms = [*index.words, *(_as_word(term) for term in (*index.facts, index.own))]
    return {
        **{name: payload[name] for name in SCOPE_FIELDS if payload.get(name)},
        INDEX: " ".join(terms),
        **{flat(f"times.{name}"): micros for name, micros in index.times.items()},
        **{flat(f"instants.{key}"): micros for key, micros in index.instants.items()},
        **{
            flat(f"numbers.{key}.{name}"): part
            for key, number in index.numbers.items()
            for name, part in number_key(number).items()
        },
    }


def flat(key: str) -> str:
    """A key as the compiler has it, as the name of a field of a point."""
    return key.replace(".", "_")


def ids_of(points: Sequence[edge.Record | edge.ScoredPoint]) -> Ids:
    """The ids of points, in their order, by number. Each look at an id makes a new UUID, which is slow to compare."""
    ids: list[Any] = [point.id for point in points]
    return {row_id.int: row_id for row_id in ids}


def vector_of(point: edge.Record | edge.ScoredPoint) -> list[float]:
    """The vector that was asked for with a point."""
    vector: Any = point.vector  # each look at it makes a new list
    return vector  # type: ignore[no-any-return]


def nearest_to(vector: Sequence[float], condition: Any, limit: int) -> edge.QueryRequest:
    """Asks for the ids of the points nearest to a vector where a condition holds."""
    nearest = edge.Query.Nearest(list(vector))
    return edge.QueryRequest(limit=limit, query=nearest, filter=condition_of(condition), with_payload=False)


def condition_of(*conditions: Any) -> edge.Filter | None:
    """All of some conditions; None among them says nothing."""
    given = [condition for condition in conditions if condition is not None]
    if len(given) == 1 and isinstance(given[0], edge.Filter):
        return given[0]
    found: edge.Filter | None = Words().all(given) if given else None
    return found


def _as_word(term: str) -> str:
    """A term as one word, whatever white space it has."""
    if term.isprintable() and " " not in term:  # as most are: all other white space is not printable
        return term
    if len(term.split()) == 1 and not term[-1].isspace():  # it begins with a mark
        return term
    return f"{term[0]}#{hashlib.blake2b(term.encode(), digest_size=16).hexdigest()}"
