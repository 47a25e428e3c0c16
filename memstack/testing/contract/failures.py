"""What breaks in the middle of a write: store and history agree afterwards, are as before, and the next call works."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest

from memstack.errors import HistoryError, MemoryNotFound, MemstackError, ProviderError, StoreError, StoreFull
from memstack.gateway import MemoryGateway
from memstack.testing.contract.base import Contract
from memstack.testing.contract.state import (
    BREAKS,
    Dying,
    State,
    assert_agreement,
    history_dies,
    parts_of,
    snapshot,
    store_dies,
    wipe,
    with_embedder,
)

# -- the calls -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Seeded:
    """A memory with something in it: two memories of alex, one of bo."""

    memory: MemoryGateway
    ids: tuple[str, str, str]


Call = Callable[[MemoryGateway, Seeded], object]

ADDS: Final[dict[str, Call]] = {
    "add": lambda memory, _: memory.add("cake on Sunday", user_id="alex", metadata={"n": 3}),
    "add of several": lambda memory, _: memory.add(["cake on Sunday", "bread", "salt"], user_id="alex", run_id="r"),
    "add with a key": lambda memory, _: memory.add("cake on Sunday", user_id="alex", idempotency_key="k1"),
}
UPDATES: Final[dict[str, Call]] = {
    "update of text": lambda memory, seeded: memory.update(seeded.ids[0], text="tea at night"),
    "update of metadata": lambda memory, seeded: memory.update(seeded.ids[1], metadata={"n": 9, "kind": None}),
    "update of expiry": lambda memory, seeded: memory.update(seeded.ids[0], expires_at="2999-01-01"),
}
DELETES: Final[dict[str, Call]] = {
    "delete": lambda memory, seeded: memory.delete(seeded.ids[1]),
    "delete_all": lambda memory, _: memory.delete_all(user_id="alex"),
}
EMBEDDING: Final = {**ADDS, "update of text": UPDATES["update of text"]}
WRITES: Final = {**ADDS, **UPDATES}
CALLS: Final = {**WRITES, **DELETES}


def check_after(seeded: Seeded, before: State, call: Call) -> None:
    """Nothing has changed, store and history agree, and the same call works now, once."""
    memory = seeded.memory
    assert snapshot(memory) == before
    assert_agreement(memory)
    call(memory, seeded)
    after = snapshot(memory)
    assert after != before
    assert_agreement(memory)


FULL: Final[dict[str, Call]] = {
    "add": lambda memory, _: memory.add("cake", user_id="alex", metadata={"long": _LONG}),
    "update": lambda memory, seeded: memory.update(seeded.ids[0], text="green tea", metadata={"long": _LONG}),
    "delete": lambda memory, seeded: memory.delete(seeded.ids[0]),
    "delete_all": lambda memory, _: memory.delete_all(user_id="alex"),
}
_LONG: Final = "x" * 60_000  # no text of a memory: that may be too long for an embedder


# -- in bulk ---------------------------------------------------------------------------------


def items(count: int) -> list[dict[str, Any]]:
    """Items of several users."""
    return [{"user_id": f"u{i % 3}", "content": f"fact {i}", "metadata": {"n": i}} for i in range(count)]


class FailureContract(Contract):
    """A write that breaks in the middle leaves everything as it was."""

    @pytest.fixture
    def seeded(self, shared_memory: MemoryGateway) -> Iterator[Seeded]:
        """The memory that the tests of this module share, filled; it is empty again afterwards."""
        memory = shared_memory
        tea, coffee = memory.add(
            ["tea in the morning", "coffee at noon"], user_id="alex", metadata={"kind": "drink", "n": 1}
        ).stored
        (walk,) = memory.add("a walk in the park", user_id="bo", idempotency_key="k0").stored
        memory.update(coffee.id, text="coffee at eleven", metadata={"n": 2})
        yield Seeded(memory, (tea.id, coffee.id, walk.id))
        wipe(memory)

    # -- the embedder ----------------------------------------------------------------------------

    @pytest.mark.parametrize("halfway", [False, True])
    @pytest.mark.parametrize("name", EMBEDDING)
    def test_a_dying_embedder_changes_nothing(self, seeded: Seeded, name: str, halfway: bool) -> None:
        """An embedder that dies before or in the middle of its work leaves everything as it was."""
        before = snapshot(seeded.memory)
        dying = with_embedder(seeded.memory, Dying(parts_of(seeded.memory).embedder, halfway=halfway))
        with pytest.raises(ProviderError) as caught:
            EMBEDDING[name](dying, seeded)
        assert caught.value.retryable
        check_after(seeded, before, EMBEDDING[name])

    def test_a_search_whose_embedder_dies_says_so(self, seeded: Seeded) -> None:
        """A search never answers "nothing found" because its embedder died."""
        dying = with_embedder(seeded.memory, Dying(parts_of(seeded.memory).embedder))
        with pytest.raises(ProviderError):
            dying.search("tea", user_id="alex")
        assert dying.search("tea", user_id="alex")

    # -- the store -------------------------------------------------------------------------------

    @pytest.mark.parametrize("share", [0, 0.5, 1])
    @pytest.mark.parametrize("name", WRITES)
    def test_a_store_that_fails_to_write_is_brought_back(self, seeded: Seeded, name: str, share: float) -> None:
        """A write that the engine refuses, does by halves, or does without an answer leaves everything as it was."""
        before = snapshot(seeded.memory)
        with (
            store_dies(parts_of(seeded.memory).store, "upsert", share=share),
            pytest.raises(StoreError, match="upsert"),
        ):
            WRITES[name](seeded.memory, seeded)
        check_after(seeded, before, WRITES[name])

    @pytest.mark.parametrize("share", [0, 0.5, 1])
    @pytest.mark.parametrize("name", DELETES)
    def test_a_store_that_fails_to_delete_is_brought_back(self, seeded: Seeded, name: str, share: float) -> None:
        """A deletion that the engine refuses, does by halves, or does without an answer leaves everything as it was."""
        before = snapshot(seeded.memory)
        with (
            store_dies(parts_of(seeded.memory).store, "remove", share=share),
            pytest.raises(StoreError, match="remove"),
        ):
            DELETES[name](seeded.memory, seeded)
        check_after(seeded, before, DELETES[name])

    @pytest.mark.parametrize("name", CALLS)
    def test_an_engine_that_is_gone_is_our_error(self, seeded: Seeded, name: str) -> None:
        """Where the engine fails for good before it did anything, the error is the first, and the log is unchanged."""
        before = snapshot(seeded.memory)
        store = parts_of(seeded.memory).store
        with (
            store_dies(store, "upsert", share=0, heals=False),
            store_dies(store, "remove", share=0, heals=False),
            pytest.raises(StoreError, match="remove died" if name in DELETES else "upsert died"),
        ):
            CALLS[name](seeded.memory, seeded)
        check_after(seeded, before, CALLS[name])

    # -- the history -----------------------------------------------------------------------------

    @pytest.mark.parametrize("how", BREAKS)
    @pytest.mark.parametrize("name", CALLS)
    def test_a_history_that_fails_takes_the_store_back(self, seeded: Seeded, name: str, how: str) -> None:
        """Where the log or its commit fails, the error says how; the store is as before, whatever came first."""
        before = snapshot(seeded.memory)
        with history_dies(seeded.memory, how), pytest.raises(HistoryError) as caught:
            CALLS[name](seeded.memory, seeded)
        assert snapshot(seeded.memory) == before
        check_after(seeded, before, CALLS[name])
        assert str(parts_of(seeded.memory).history.path) in str(caught.value)
        assert ("FOREIGN KEY" if how == "commit" else "disk I/O error") in str(caught.value)

    @pytest.mark.parametrize("name", FULL)
    def test_a_full_history_takes_the_store_back(self, seeded: Seeded, name: str) -> None:
        """Where the history's file cannot grow, the error says that it is full, and the store is as before."""
        memory = seeded.memory
        memory.update(seeded.ids[0], metadata={"note": _LONG})
        connection = parts_of(memory).history._connection
        assert connection is not None
        connection.execute("VACUUM")  # no page is free
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        before = snapshot(memory)
        try:
            with pytest.raises(HistoryError) as caught:
                FULL[name](memory, seeded)
        finally:
            connection.execute("PRAGMA max_page_count = 1000000")
        check_after(seeded, before, FULL[name])
        assert "full" in str(caught.value)

    def test_a_history_locked_by_another_process_is_retryable(self, seeded: Seeded) -> None:
        """A writer that waits too long for the history's lock is told to try again; nothing was stored."""
        memory = seeded.memory
        history = parts_of(memory).history
        if history.path == ":memory:":
            pytest.skip("this history is no file, and no other process can lock it")
        assert history._connection is not None
        history._connection.execute("PRAGMA busy_timeout = 100")
        before = snapshot(memory)
        with contextlib.closing(sqlite3.connect(history.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for name in CALLS:
                with pytest.raises(HistoryError) as caught:
                    CALLS[name](memory, seeded)
                assert caught.value.retryable
            other.execute("ROLLBACK")
        assert snapshot(memory) == before
        assert_agreement(memory)
        memory.add("cake on Sunday", user_id="alex")

    @pytest.mark.parametrize("halfway", [False, True])
    def test_a_batch_whose_embedder_dies_fails_alone(self, seeded: Seeded, halfway: bool) -> None:
        """A batch that cannot be embedded ends in `failed`, by item; the others are stored; adding again repairs."""
        memory = seeded.memory
        dying = with_embedder(memory, Dying(parts_of(memory).embedder, call=2, halfway=halfway))
        steps: list[int] = []
        result = dying.add_many(items(25), batch_size=10, progress=steps.append)
        assert [failed.index for failed in result.failed] == list(range(10, 20))
        assert all(failed.retryable and "died" in failed.reason for failed in result.failed)
        assert [stored.metadata["n"] for stored in result.stored] == [*range(10), *range(20, 25)]
        assert steps == [10, 20, 25]
        assert_agreement(memory)
        again = memory.add_many(items(25), batch_size=10)
        assert [stored.metadata["n"] for stored in again.stored] == list(range(10, 20))
        assert {skipped.reason for skipped in again.skipped} == {"duplicate"}
        assert_agreement(memory)

    def test_what_failed_is_told_in_the_order_of_the_items(self, seeded: Seeded) -> None:
        """An item that is none is read before the batch around it fails, and is told in its place all the same."""
        dying = with_embedder(seeded.memory, Dying(parts_of(seeded.memory).embedder, call=1, halfway=False))
        result = dying.add_many([*items(2), {"user_id": "u0", "content": " "}, *items(4)[2:]])
        assert [(failed.index, failed.retryable) for failed in result.failed] == [
            (index, index != 2) for index in range(5)
        ]

    @pytest.mark.parametrize("share", [0, 0.5, 1])
    def test_a_batch_that_the_engine_refuses_fails_alone(self, seeded: Seeded, share: float) -> None:
        """A batch that the engine refuses or writes by halves ends in `failed`, and nothing of it is there."""
        memory = seeded.memory
        with store_dies(parts_of(memory).store, "upsert", share=share, call=2):
            result = memory.add_many(items(25), batch_size=10)
        assert [failed.index for failed in result.failed] == list(range(10, 20))
        assert all("upsert died" in failed.reason for failed in result.failed)
        assert len(result.stored) == 15
        assert_agreement(memory)
        assert len(memory.add_many(items(25), batch_size=10).stored) == 10
        assert_agreement(memory)

    @pytest.mark.parametrize("how", BREAKS)
    def test_a_batch_that_the_history_refuses_fails_alone(self, seeded: Seeded, how: str) -> None:
        """Batches whose log fails end in `failed`, and nothing of them is in the store."""
        memory = seeded.memory
        before = snapshot(memory)
        with history_dies(memory, how):
            result = memory.add_many(items(12), batch_size=6)
        assert [failed.index for failed in result.failed] == list(range(12))
        assert not result.stored
        assert snapshot(memory) == before
        assert len(memory.add_many(items(12), batch_size=6).stored) == 12
        assert_agreement(memory)

    def test_a_deletion_that_stops_between_batches_can_be_called_again(self, empty: MemoryGateway) -> None:
        """Where `delete_all` fails in its second batch, the first stays deleted, with its log; the next goes on."""
        empty.add_many(({"user_id": "alex", "content": f"fact {i}"} for i in range(1003)), batch_size=1003)
        with store_dies(parts_of(empty).store, "remove", share=0.5, call=2), pytest.raises(StoreError):
            empty.delete_all(user_id="alex")
        assert_agreement(empty)
        left = len(empty.get_all(user_id="alex", limit=2000))
        assert left == 3
        assert empty.delete_all(user_id="alex") == left
        assert_agreement(empty)

    def test_items_that_raise_lose_nothing_acknowledged(self, empty: MemoryGateway) -> None:
        """Where the caller's own iterator raises, its error comes through, and the batches before it are whole."""

        def broken() -> Iterator[str]:
            yield from ("one", "two", "three")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            empty.add_many(broken(), user_id="alex", batch_size=2)
        assert sorted(stored.text for stored in empty.get_all(user_id="alex")) == ["one", "two"]
        assert_agreement(empty)

    def test_a_progress_that_raises_leaves_whole_batches(self, empty: MemoryGateway) -> None:
        """Where the caller's own callback raises, its error comes through, and what was stored agrees with the log."""

        def progress(done: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            empty.add_many(["one", "two", "three"], user_id="alex", batch_size=2, progress=progress)
        assert_agreement(empty)
        assert len(empty.add_many(["one", "two", "three"], user_id="alex").stored) == 1

    @pytest.mark.parametrize("name", CALLS)
    def test_an_interrupt_in_the_middle_changes_nothing(self, seeded: Seeded, name: str) -> None:
        """Ctrl-C that arrives just after the engine wrote takes the write back."""
        memory, before = seeded.memory, snapshot(seeded.memory)
        store = parts_of(memory).store
        verb = "remove" if name in DELETES else "upsert"
        real: Callable[[Sequence[Any]], None] = getattr(store, verb)
        calls = 0

        def interrupted(some: Sequence[Any]) -> None:
            nonlocal calls
            calls += 1
            real(some)
            if calls == 1:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, verb, interrupted)
            with pytest.raises(KeyboardInterrupt):
                CALLS[name](memory, seeded)
        check_after(seeded, before, CALLS[name])

    @pytest.mark.parametrize("begun", [False, True])
    def test_a_reset_that_fails_is_done_before_the_next_write(self, seeded: Seeded, begun: bool) -> None:
        """Where the engine dies in a reset, the next write ends it: nothing is left, and what is written then stays."""
        store = parts_of(seeded.memory).store
        real = store.clear

        def dying() -> None:
            if begun:
                real()
            raise StoreError(store.label, "clear died")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "clear", dying)
            with pytest.raises(StoreError, match="clear died"):
                seeded.memory.reset()
            with pytest.raises(StoreError, match="clear died"):
                seeded.memory.add("too early", user_id="alex")
        (stored,) = seeded.memory.add("a new beginning", user_id="alex").stored
        assert [row.id for row in store.scan()] == [stored.id]
        seeded.memory.add("and it goes on", user_id="alex")
        assert store.count() == 2
        assert_agreement(seeded.memory)

    @pytest.mark.parametrize("verb", ["count", "clear"])
    def test_a_reset_that_is_refused_does_nothing(self, seeded: Seeded, verb: str) -> None:
        """Where the engine is not there, or has no room, nothing is deleted, neither now nor later."""
        before = snapshot(seeded.memory)
        store = parts_of(seeded.memory).store

        def refuses(*_: object) -> int:
            raise StoreFull(store.label, "/nowhere", 1, 2) if verb == "clear" else StoreError(store.label, "is gone")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, verb, refuses)
            with pytest.raises(StoreError):
                seeded.memory.reset()
        assert snapshot(seeded.memory) == before
        seeded.memory.add("life goes on", user_id="alex")
        assert store.count() == len(before.rows) + 1

    def test_an_error_of_ours_is_what_every_failure_is(self, seeded: Seeded) -> None:
        """Store, history and provider fail with subclasses of one base; a missing memory is none of them."""
        assert all(issubclass(kind, MemstackError) for kind in (StoreError, HistoryError, ProviderError))
        with pytest.raises(MemoryNotFound):
            seeded.memory.delete(seeded.ids[0], user_id="bo")
        assert_agreement(seeded.memory)
