"""What Qdrant in this process and Qdrant on a server share: filters, and the order of listings.

The two clients name their classes differently, so the compiler is written against `Vocabulary`, which each store fills.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from memstack.errors import InvalidInput, StoreError
from memstack.filters.ast import INSTANT_FIELDS, WORD, Compare, Contains, Eq, Exists, IContains, In, Scalar
from memstack.filters.evaluate import is_number
from memstack.filters.visit import Compiled, FilterCompiler
from memstack.ids import canonical_id
from memstack.instants import as_instant, to_micros
from memstack.scope import SCOPE_FIELDS
from memstack.stores.base import Row, SortField, Store, sort_value
from memstack.stores.index import EXACT, eq_term, exists_term, member_term, number_key, path_key

__all__ = [
    "EXACT_UP_TO",
    "NOTES",
    "PUSHDOWN",
    "QdrantCompiler",
    "QdrantStore",
    "Vocabulary",
    "full_scan_kibibytes",
    "is_exact",
]

EXACT_UP_TO: Final = 20_000
_EXACT_FROM: Final = 64  # hits. For fewer, Qdrant's graph takes a third of the time
_PAGE: Final = 1_000
NOTES: Final = ("`contains` with a string and `icontains` are evaluated on the candidates of the scope.",)
PUSHDOWN: Final = frozenset({"And", "Or", "Not", "Eq", "In", "Compare", "Contains", "Exists"})


class Vocabulary(Protocol):
    """How a Qdrant client spells conditions. Keys are paths of our own making, never a caller's words."""

    def match(self, key: str, values: Sequence[str]) -> Any:
        """The keyword field at `key` has any of the values."""

    def terms(self, terms: Sequence[str]) -> Any:
        """The memory has any of the terms."""

    def words(self, words: Sequence[str]) -> Any:
        """The memory has any of the words."""

    def between(self, key: str, **bounds: float) -> Any:
        """The number at `key` is within the bounds (gt, gte, lt, lte): one range, since the engine walks each."""

    def equals(self, key: str, number: int) -> Any:
        """The integer at `key` is this one, exactly."""

    def ids(self, ids: Sequence[str]) -> Any:
        """The point has one of these ids."""

    def all(self, conditions: Sequence[Any]) -> Any:
        """All hold."""

    def any(self, conditions: Sequence[Any]) -> Any:
        """Any holds (of at least one)."""

    def none(self, condition: Any) -> Any:
        """It does not hold."""


class QdrantCompiler(FilterCompiler[Any]):
    """Terms are keyword matches, numbers the lexicographic order of their `number_key`, instants plain ranges.

    An instant beyond 2**53 microseconds (outside the years 1684 to 2255) cannot be told from its neighbours as the
    float that Qdrant compares: the range is widened to include it, and the node is evaluated again on what comes back.
    """

    def __init__(self, words: Vocabulary) -> None:
        self._words = words

    def conjunction(self, conditions: Sequence[Any]) -> Any:
        return conditions[0] if len(conditions) == 1 else self._words.all(conditions)

    def disjunction(self, conditions: Sequence[Any]) -> Any:
        return conditions[0] if len(conditions) == 1 else self._words.any(conditions)

    def negation(self, condition: Any) -> Any:
        return self._words.none(condition)

    def nothing(self) -> Any:
        return self._words.ids([])

    def visit_eq(self, node: Eq) -> Compiled[Any] | None:
        return self._any_of(node.field, (node.value,))

    def visit_in(self, node: In) -> Compiled[Any] | None:
        return self._any_of(node.field, node.values)

    def visit_contains(self, node: Contains) -> Compiled[Any] | None:
        if isinstance(node.value, str):
            return None  # also a substring: Qdrant's text matching splits words
        return Compiled(self._words.terms([member_term(node.field, node.value)]))

    def visit_icontains(self, node: IContains) -> Compiled[Any] | None:
        return None

    def visit_exists(self, node: Exists) -> Compiled[Any] | None:
        if node.field in INSTANT_FIELDS:
            return Compiled(self._words.between(f"times.{node.field}", gte=float("-inf")))
        if node.field in (*SCOPE_FIELDS, "id", "data"):
            return None
        return Compiled(self._words.terms([exists_term(node.field)]))

    def visit_compare(self, node: Compare) -> Compiled[Any] | None:
        if is_number(node.bound):
            return Compiled(self._number(f"numbers.{path_key(node.field)}", node.op, node.bound))  # type: ignore[arg-type]
        instant = as_instant(node.bound)
        if instant is None or node.field == "data":
            return None  # a text may read as an instant too
        declared = node.field in INSTANT_FIELDS
        key = f"times.{node.field}" if declared else f"instants.{path_key(node.field)}"
        return self._range(key, to_micros(instant), node.op)

    def _any_of(self, field: str, values: Sequence[Scalar]) -> Compiled[Any] | None:
        if not values:
            return Compiled(self.nothing())
        if field in INSTANT_FIELDS:
            ranges = [self._instant(field, value) for value in values]
            exact = all(part.exact for part in ranges)
            return Compiled(self.disjunction([part.condition for part in ranges]), exact)
        if field in SCOPE_FIELDS:
            return Compiled(self._match_strings(field, values))
        if field == "id":
            return Compiled(self._words.ids(_ids(values)))
        if field == "data":
            return None
        if field == WORD:
            return Compiled(self._words.words([str(value) for value in values]))
        return Compiled(self._words.terms([eq_term(field, value) for value in values]))

    def _match_strings(self, key: str, values: Sequence[Scalar]) -> Any:
        strings = [value for value in values if isinstance(value, str)]
        return self._words.match(key, strings) if strings else self.nothing()

    def _instant(self, field: str, value: Scalar) -> Compiled[Any]:
        instant = as_instant(value)
        micros = 0 if instant is None else to_micros(instant)
        return self._range(f"times.{field}", micros, "gte", "lte")

    def _number(self, key: str, op: str, bound: float) -> Any:
        parts = list(number_key(bound).items())
        strict = op[:2]
        condition = None
        for name, part in reversed(parts):
            path = f"{key}.{name}"
            if condition is None:  # the last part decides
                condition = self._words.between(path, **{op: float(part)})
                continue
            equal = self._words.between(path, gte=float(part), lte=float(part))
            condition = self._words.any(
                [self._words.between(path, **{strict: float(part)}), self._words.all([equal, condition])]
            )
        return condition

    def _range(self, key: str, bound: float, *ops: str) -> Compiled[Any]:
        if -EXACT < bound < EXACT:
            return Compiled(self._words.between(key, **dict.fromkeys(ops, float(bound))))
        return Compiled(self._words.between(key, **_widened(bound, *ops)), exact=False)


def _ids(values: Sequence[Scalar]) -> list[str]:
    """The ids among the values that a point can have: text in the canonical spelling."""
    found = []
    for value in values:
        try:
            if isinstance(value, str) and canonical_id(value) == value:
                found.append(value)
        except InvalidInput:
            continue
    return found


def _is_far(instant: datetime) -> bool:
    """Whether it is outside the years 1684 to 2255, where microseconds are no exact floats."""
    return not -EXACT < to_micros(instant) < EXACT


def _widened(bound: float, *ops: str) -> dict[str, float]:
    """Bounds as `Vocabulary.between` takes them, wide enough for every integer that is the same float as this one.

    Qdrant compares an integer with the float as it is in some places, and with the float as an integer in others.
    """
    nearest = float(bound)
    low, high = nearest, nearest
    if not -EXACT < bound < EXACT:
        low, high = _next(nearest, -math.inf), _next(nearest, math.inf)
    return {f"{op[:2]}e": low if op.startswith("g") else high for op in ops}


def _next(value: float, direction: float) -> float:
    """The float after this one (``math.nextafter`` twice: one step for each rounding)."""
    return math.nextafter(math.nextafter(value, direction), direction)


def full_scan_kibibytes(dimensions: int) -> int:
    """Qdrant's ``full_scan_threshold``: below so many KiB of vectors, every row that the filter leaves is compared."""
    return EXACT_UP_TO * dimensions * 4 // 1024


def is_exact(limit: int) -> bool:
    """Whether so many hits are found by comparing every row that the filter leaves, however many these are.

    A graph does not reach all of them: who asks for more than there are would take what comes for all there is. Where
    many are asked for, it takes as long as comparing them, or longer.
    """
    return limit >= _EXACT_FROM


class QdrantStore(Store):
    """A Qdrant collection, wherever the engine runs. A subclass scrolls, and the rest of the contract.

    Attributes:
        words: the client's vocabulary.
    """

    words: Vocabulary

    @property
    def compiler(self) -> QdrantCompiler:
        return QdrantCompiler(self.words)

    @abstractmethod
    def _scroll(
        self,
        conditions: Sequence[Any],
        *,
        limit: int,
        offset: str | None = None,
        order: tuple[str, bool, int | None] | None = None,
        vectors: bool = False,
    ) -> list[Row]:
        """`limit` rows where all conditions hold (None among them says nothing).

        Sorted by id from `offset` on, or by `order`: the key of an integer, whether it descends, and from which number
        on.
        """

    def native_scan(
        self, condition: Any, field: SortField, *, descending: bool, after: tuple[datetime, str] | None, limit: int
    ) -> list[Row]:
        """Qdrant orders by the field alone: rows that tie with the first or the last are fetched by id."""
        key = f"times.{field}"
        rows: list[Row] = []
        start = None
        if after is not None:
            micros = to_micros(after[0])
            rows = [row for row in self._tied(condition, key, micros, after[1], limit + 1) if row.id != after[1]]
            start = micros - 1 if descending else micros + 1
        while (missing := limit - len(rows)) > 0:
            found = self._scroll([condition], limit=missing + 1, order=(key, descending, start))
            if any(_is_far(sort_value(row, field)) for row in found) or (after is not None and _is_far(after[0])):
                return self._scan_by_hand(condition, field, descending=descending, after=after, limit=limit)
            cut = len(found) > missing
            last = sort_value(found[missing - 1], field) if cut else None
            whole = [row for row in found[:missing] if sort_value(row, field) != last]
            whole.sort(key=lambda row: _sort_key(row, field, descending=descending))
            rows += whole
            if last is None:
                break
            rows += self._tied(condition, key, to_micros(last), None, missing - len(whole))
            # Short of the limit only where others deleted or changed what tied with the last: it goes on behind it.
            start = to_micros(last) - 1 if descending else to_micros(last) + 1
        return rows[:limit]

    def native_batches(self, condition: Any, *, size: int, vectors: bool) -> Iterator[list[Row]]:
        """By id, which costs Qdrant nothing."""
        following: str | None = None
        while True:
            found = self._scroll([condition], limit=size + 1, offset=following, vectors=vectors)
            yield found[:size]
            if len(found) <= size:
                return
            following = found[size].id

    def _scan_by_hand(
        self, condition: Any, field: SortField, *, descending: bool, after: tuple[datetime, str] | None, limit: int
    ) -> list[Row]:
        """The same among instants so far away that Qdrant cannot order them: every row is fetched, and sorted here."""
        rows = [row for some in self.native_batches(condition, size=_PAGE, vectors=False) for row in some]
        rows.sort(key=lambda row: _sort_key(row, field, descending=descending))
        if after is not None:
            micros = to_micros(after[0])
            last = (-micros if descending else micros, after[1])
            rows = [row for row in rows if _sort_key(row, field, descending=descending) > last]
        return rows[:limit]

    def _tied(self, condition: Any, key: str, micros: int, start: str | None, limit: int) -> list[Row]:
        """`limit` rows whose instant is this one, by id from `start` on."""
        near = self.words.between(key, **_widened(micros, "gte", "lte"))  # what the index narrows by
        same = self.words.equals(key, micros)
        return self._scroll([condition, near, same], limit=limit, offset=start) if limit > 0 else []

    def _checked_vector(self, row: Row) -> list[float]:
        if row.vector is None or len(row.vector) != self.dimensions:
            got = "none" if row.vector is None else str(len(row.vector))
            raise StoreError(self.label, f"the vector has {got} dimensions, and the collection {self.dimensions}")
        return list(row.vector)


def _sort_key(row: Row, field: SortField, *, descending: bool) -> tuple[int, str]:
    micros = to_micros(sort_value(row, field))
    return (-micros if descending else micros, row.id)
