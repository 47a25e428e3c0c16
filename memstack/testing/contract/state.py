"""The whole state of a memory, to compare; and things that break in the middle of a write."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest

from memstack.errors import ProviderError, StoreError
from memstack.gateway import MemoryGateway
from memstack.gateway.parts import Parts
from memstack.providers.base import Embedder
from memstack.records import Change
from memstack.stores.base import Row, Store


@dataclasses.dataclass(frozen=True)
class State:
    """All that a memory keeps: the rows with their vectors, and every table of the history."""

    rows: dict[str, tuple[dict[str, Any], tuple[float, ...]]]
    tables: dict[str, list[tuple[Any, ...]]]


TABLES: Final = {
    "changes": "SELECT * FROM changes ORDER BY seq",
    "idempotency": "SELECT * FROM idempotency ORDER BY scope, key",
    "runs": "SELECT * FROM runs ORDER BY scope",
    "messages": "SELECT * FROM messages ORDER BY seq",
}


def parts_of(memory: MemoryGateway) -> Parts:
    """The parts of a gateway, which have no public name."""
    return memory._core.parts


def snapshot(memory: MemoryGateway) -> State:
    """Everything that is stored, for any scope."""
    store = parts_of(memory).store
    ids = [row.id for row in store.scan()]
    assert store.count() == len(ids)
    rows = {row.id: (row.payload, tuple(round(x, 5) for x in row.vector or ())) for row in fetched(store, ids)}
    with parts_of(memory).history._locked() as connection:
        assert not connection.in_transaction
        return State(rows, {table: connection.execute(query).fetchall() for table, query in TABLES.items()})


def fetched(store: Store, ids: Sequence[str]) -> Iterator[Row]:
    """Rows by id, with vectors, a few hundred at a time."""
    for start in range(0, len(ids), 500):
        yield from store.fetch(ids[start : start + 500], vectors=True)


def assert_agreement(memory: MemoryGateway) -> None:
    """Store and history tell the same: each row is what its last change made it, and nothing else is alive."""
    last: dict[str, Change] = {}
    state = snapshot(memory)
    collection = parts_of(memory).history.collection  # others may share the file
    for memory_id in {row[3] for row in state.tables["changes"] if row[2] == collection}:
        last[memory_id] = memory.history(memory_id)[-1]
    alive = {memory_id for memory_id, change in last.items() if change.event != "DELETE"}
    assert alive == set(state.rows)
    for memory_id in alive:
        stored, change = memory.get(memory_id), last[memory_id]
        assert (stored.text, stored.metadata, stored.scope) == (change.new_text, change.new_metadata, change.scope)
        assert stored.updated_at == change.at


# -- things that break -----------------------------------------------------------------------


class Dying(Embedder):
    """An embedder that dies in its n-th call: before it starts, or when half of the work is done."""

    def __init__(self, inner: Embedder, *, call: int = 1, halfway: bool = False) -> None:
        self.provider, self.model, self.dimensions = inner.provider, inner.model, inner.dimensions
        self._inner = inner
        self._left = call
        self._halfway = halfway

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        self._left -= 1
        if self._left == 0:
            if self._halfway:
                self._inner.vectors(texts[: len(texts) // 2])
            raise ProviderError(self.provider, self.model, "died", retryable=True)
        return self._inner.vectors(texts)


def with_embedder(memory: MemoryGateway, embedder: Embedder) -> MemoryGateway:
    """A gateway on the same store and history with another embedder."""
    return MemoryGateway.of(dataclasses.replace(parts_of(memory), embedder=embedder))


@contextlib.contextmanager
def store_dies(store: Store, verb: str, *, share: float, call: int = 1, heals: bool = True) -> Iterator[None]:
    """The engine fails in the n-th call of a verb, when it has done a share of the work.

    Args:
        store: the engine.
        verb: ``upsert`` or ``remove``.
        share: 0 is before anything was done, 1 is after all of it: the answer is lost.
        call: which call.
        heals: whether later calls work again.
    """
    real: Callable[[Sequence[Any]], None] = getattr(store, verb)
    calls = 0

    def dying(items: Sequence[Any]) -> None:
        nonlocal calls
        calls += 1
        if calls == call or (calls > call and not heals):
            if done := list(items)[: round(len(items) * share)]:
                real(done)
            raise StoreError(store.label, f"{verb} died")
        real(items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, verb, dying)
        yield


BREAKS: Final = {
    # The log refuses an entry.
    "insert": "CREATE TRIGGER broken BEFORE INSERT ON changes BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END",
    # The log refuses an entry, and SQLite takes the transaction back by itself, as it does when the disk fails.
    "rollback": "CREATE TRIGGER broken BEFORE INSERT ON changes BEGIN SELECT RAISE(ROLLBACK, 'disk I/O error'); END",
    # Everything is taken, and the commit fails: a constraint that SQLite checks last of all.
    "commit": "CREATE TRIGGER broken BEFORE INSERT ON changes BEGIN INSERT INTO doomed VALUES (1); END",
}


@contextlib.contextmanager
def history_dies(memory: MemoryGateway, how: str) -> Iterator[None]:
    """The history's file fails, in one of the ways of `BREAKS`."""
    connection = parts_of(memory).history._connection
    assert connection is not None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("CREATE TABLE IF NOT EXISTS other (id INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE IF NOT EXISTS doomed (id REFERENCES other (id) DEFERRABLE INITIALLY DEFERRED)")
    connection.execute(BREAKS[how])
    try:
        yield
    finally:
        connection.execute("DROP TRIGGER broken")


def wipe(memory: MemoryGateway) -> None:
    """Leave nothing of anybody."""
    parts = parts_of(memory)
    parts.store.remove([row.id for row in parts.store.scan()])
    parts.history.clear()


def is_persistent(memory: MemoryGateway) -> bool:
    """Whether what it keeps outlives the gateway."""
    return parts_of(memory).store.capabilities.persistent
