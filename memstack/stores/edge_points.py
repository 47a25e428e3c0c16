"""The points of Qdrant Edge: what a memory is found by, and how it is asked for.

Points are flat, and the words and the terms of a memory are one text under one index that splits at white space: of
each value the bindings find out the type by trying, three microseconds for a number, nine for a text, fifteen for a
list or a mapping. Terms begin with a mark that no word has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import qdrant_edge as edge

from memstack.batching import batched
from memstack.payload import Payload
from memstack.scope import SCOPE_FIELDS
from memstack.stores.index import Index, number_key
from memstack.stores.qdrant_common import is_exact

__all__ = [
    "INDEX",
    "Ids",
    "Later",
    "Words",
    "condition_of",
    "flat",
    "ids_of",
    "nearest_to",
    "point_of",
    "points_having",
    "settled",
    "vector_of",
]

INDEX: Final = "index"
_MANY: Final = 100  # words: with more of them, it takes less time to look for the ids first
_PAGE: Final = 10_000
Ids = dict[int, UUID]  # by their numbers


class Words:
    """`qdrant_common.Vocabulary` in Qdrant Edge's classes.

    Whether a point has one of some words is looked up word by word, for every point that comes into question. So many
    words become ids, which are looked up at once: a condition with many is a `Later` one.
    """

    def match(self, key: str, values: Sequence[str]) -> Any:
        match = edge.MatchValue(values[0]) if len(values) == 1 else edge.MatchAny(list(values))
        return edge.FieldCondition(key, match=match)

    def terms(self, terms: Sequence[str]) -> Any:
        return self.words([_as_word(term) for term in terms])

    def words(self, words: Sequence[str]) -> Any:
        if len(words) > _MANY:
            return Later(lambda having: having(tuple(words)))
        return having_any(words)

    def between(self, key: str, **bounds: float) -> Any:
        return edge.FieldCondition(flat(key), range=edge.RangeFloat(**bounds))

    def equals(self, key: str, number: int) -> Any:
        return edge.FieldCondition(flat(key), match=edge.MatchValue(number))

    def ids(self, ids: Sequence[str]) -> Any:
        return edge.HasIdCondition(set(ids))

    def all(self, conditions: Sequence[Any]) -> Any:
        if _any_later(conditions):
            return Later(lambda having: self.all([settled(part, having) for part in conditions]))
        # A complement inside of a condition of its own costs the engine twice the time of the whole query.
        return edge.Filter(
            must=[part for part in conditions if not isinstance(part, _Complement)],
            must_not=[part.of for part in conditions if isinstance(part, _Complement)],
        )

    def any(self, conditions: Sequence[Any]) -> Any:
        if _any_later(conditions):
            return Later(lambda having: self.any([settled(part, having) for part in conditions]))
        return edge.Filter(should=[self.all([part]) if isinstance(part, _Complement) else part for part in conditions])

    def none(self, condition: Any) -> Any:
        if isinstance(condition, Later):
            return Later(lambda having: self.none(settled(condition, having)))
        return condition.of if isinstance(condition, _Complement) else _Complement(condition)


@dataclass(frozen=True, slots=True)
class Later:
    """A condition that is made when it is asked: told which points have any of many words, as a condition."""

    of: Callable[[Callable[[tuple[str, ...]], Any]], Any]


def settled(condition: Any, having: Callable[[tuple[str, ...]], Any]) -> Any:
    """A condition as the engine takes it."""
    return condition.of(having) if isinstance(condition, Later) else condition


def having_any(words: Sequence[str]) -> edge.FieldCondition:
    """Holds for the points that have one of some words, of which there should not be many."""
    return edge.FieldCondition(INDEX, match=edge.MatchTextAny(" ".join(words)))


def points_having(engine: edge.EdgeShard, words: Sequence[str]) -> edge.HasIdCondition:
    """Holds for the points that have any of many words now."""
    ids: set[Any] = set()
    for some in batched(words, _MANY):
        following: Any = None
        while True:
            request = edge.ScrollRequest(
                limit=_PAGE,
                offset=following,
                filter=edge.Filter(must=[having_any(some)]),
                with_payload=False,
                with_vector=False,
            )
            found, following = engine.scroll(request)
            ids.update(point.id for point in found)
            if following is None:
                break
    return edge.HasIdCondition(ids)


def _any_later(conditions: Sequence[Any]) -> bool:
    return any(isinstance(condition, Later) for condition in conditions)


@dataclass(frozen=True, slots=True)
class _Complement:
    """Where a condition does not hold."""

    of: Any


def point_of(payload: Payload, index: Index) -> dict[str, Any]:
    """What a memory is found by, as the point keeps it."""
    terms = [*index.words, *(_as_word(term) for term in (*index.facts, *index.own))]
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
    return edge.QueryRequest(
        limit=limit,
        query=edge.Query.Nearest(list(vector)),
        filter=condition_of(condition),
        params=edge.SearchParams(exact=is_exact(limit)),
        with_payload=False,
    )


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
