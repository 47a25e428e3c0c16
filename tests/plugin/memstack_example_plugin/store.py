"""A store that keeps everything in a dict: the smallest adapter that fulfils the contract."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from memstack import payload as payloads
from memstack.config import StoreConfig
from memstack.errors import StoreError
from memstack.filters import (
    OWN,
    Compare,
    Compiled,
    Contains,
    Eq,
    Exists,
    FilterCompiler,
    IContains,
    In,
    Node,
    evaluate,
)
from memstack.instants import to_micros
from memstack.stores.base import Capabilities, Fingerprint, Row, Scored, SortField, Store, sort_value
from memstack.stores.index import eq_term, index_of

Condition = Callable[[Row], bool]


class ShelfConfig(StoreConfig, frozen=True):
    """``vector_store: {provider: shelf}``."""

    provider: Literal["shelf"] = "shelf"

    @property
    def persistent(self) -> bool:
        """A dict ends with its process."""
        return False


class ShelfCompiler(FilterCompiler[Condition]):
    """Conditions are functions of a row. Half of the language is left to the residual, to show that this works."""

    def conjunction(self, conditions: Sequence[Condition]) -> Condition:
        return lambda row: all(condition(row) for condition in conditions)

    def disjunction(self, conditions: Sequence[Condition]) -> Condition:
        return lambda row: any(condition(row) for condition in conditions)

    def negation(self, condition: Condition) -> Condition:
        return lambda row: not condition(row)

    def nothing(self) -> Condition:
        return lambda _: False

    def visit_eq(self, node: Eq) -> Compiled[Condition]:
        return _evaluated(node)

    def visit_in(self, node: In) -> Compiled[Condition]:
        if node.field in OWN:  # the library's own, which no payload has
            wanted = {eq_term(node.field, value) for value in node.values}
            return Compiled(lambda row: not wanted.isdisjoint(index_of(row.payload).terms))
        return _evaluated(node)

    def visit_compare(self, node: Compare) -> Compiled[Condition]:
        return _evaluated(node)

    def visit_contains(self, node: Contains) -> None:
        return None

    def visit_icontains(self, node: IContains) -> None:
        return None

    def visit_exists(self, node: Exists) -> None:
        return None


def _evaluated(node: Node) -> Compiled[Condition]:
    return Compiled(lambda row: evaluate(node, payloads.fields(row.id, row.payload)))


class ShelfStore(Store):
    """Rows in a dict."""

    config_model = ShelfConfig
    capabilities = Capabilities(
        pushdown=frozenset({"And", "Or", "Not", "Eq", "In", "Compare"}), shared_by_processes=False, persistent=False
    )

    def __init__(self, collection: str, dimensions: int) -> None:
        self.collection = collection
        self.dimensions = dimensions
        self.label = "shelf (memory)"
        self._rows: dict[str, Row] = {}
        self._siblings: dict[str, ShelfStore] = {}
        self._notes: list[Fingerprint] = []  # the last one counts
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, config: ShelfConfig, *, dimensions: int) -> ShelfStore:
        return cls(config.collection, dimensions)

    @property
    def compiler(self) -> ShelfCompiler:
        return ShelfCompiler()

    def upsert(self, rows: Sequence[Row]) -> None:
        if any(row.vector is None or len(row.vector) != self.dimensions for row in rows):
            raise StoreError(self.label, f"a vector has not the {self.dimensions} dimensions of the collection")
        with self._open():
            self._rows.update({row.id: _copied(row) for row in rows})

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        with self._open():
            found = [self._rows[key] for key in dict.fromkeys(ids) if key in self._rows]
        return [_copied(row) if vectors else replace(_copied(row), vector=None) for row in found]

    def remove(self, ids: Sequence[str]) -> None:
        with self._open():
            for key in ids:
                self._rows.pop(key, None)

    def native_nearest(self, vector: Sequence[float], condition: Condition | None, limit: int) -> list[Scored]:
        hits = [Scored(row, _cosine(vector, row.vector or ())) for row in self._where(condition)]
        best = sorted(hits, key=lambda hit: -hit.similarity)[:limit]
        return [replace(hit, row=_copied(hit.row)) for hit in best]

    def native_scan(
        self,
        condition: Condition | None,
        field: SortField,
        *,
        descending: bool,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Row]:
        def key(instant: datetime, row_id: str) -> tuple[int, str]:
            micros = to_micros(instant)
            return (-micros if descending else micros, row_id)

        rows = sorted(self._where(condition), key=lambda row: key(sort_value(row, field), row.id))
        if after is not None:
            rows = [row for row in rows if key(sort_value(row, field), row.id) > key(*after)]
        return [_copied(row) for row in rows[:limit]]

    def native_count(self, condition: Condition | None) -> int:
        return len(self._where(condition))

    def read_fingerprint(self) -> Fingerprint | None:
        return self._notes[-1] if self._notes else None

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        self._notes.append(fingerprint)

    def sibling(self, suffix: str) -> ShelfStore:
        first = self._siblings.setdefault(suffix, ShelfStore(f"{self.collection}_{suffix}", self.dimensions))
        return copy(first)  # a handle of its own, on the same rows and notes behind the same lock

    def clear(self) -> None:
        with self._open():
            self._rows.clear()

    def close(self) -> None:
        self._closed = True

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StoreError(self.label, "the store is closed", "Open it again with open_memory().")
            yield

    def _where(self, condition: Condition | None) -> list[Row]:
        with self._open():
            rows = list(self._rows.values())
        return [row for row in rows if condition is None or condition(row)]


def _copied(row: Row) -> Row:
    """The same row, of which a caller may do with the payload what it likes."""
    return replace(row, payload=deepcopy(row.payload))


def _cosine(left: Sequence[Any], right: Sequence[Any]) -> float:
    lengths = math.hypot(*left) * math.hypot(*right)
    return sum(a * b for a, b in zip(left, right, strict=False)) / lengths if lengths else 0.0
