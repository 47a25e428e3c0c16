"""Stores of third parties: whatever their engines raise is a `StoreError`, wherever in a call it is raised."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from memstack.errors import StoreError, StoreFull
from memstack.gateway import MemoryGateway
from memstack.registry import STORES
from memstack.stores.base import Row, Store
from memstack.stores.qdrant_edge import QdrantEdgeStore
from tests.plugin.memstack_example_plugin.store import ShelfCompiler, ShelfStore


class Broken(ShelfStore):
    """A store whose engine fails in the method that is named."""

    failing = ""
    error: BaseException = RuntimeError("a secret of alex")

    def upsert(self, rows: Sequence[Row]) -> None:
        self._maybe("upsert")
        super().upsert(rows)

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        self._maybe("fetch")
        return super().fetch(ids, vectors=vectors)

    def remove(self, ids: Sequence[str]) -> None:
        self._maybe("remove")
        super().remove(ids)

    def native_nearest(self, *arguments: Any, **named: Any) -> Any:
        self._maybe("native_nearest")
        return super().native_nearest(*arguments, **named)

    def native_count(self, condition: Any) -> int:
        self._maybe("native_count")
        return super().native_count(condition)

    def native_pages(self, *arguments: Any, **named: Any) -> Iterator[list[Row]]:
        for page in super().native_pages(*arguments, **named):
            self._maybe("native_pages")
            yield page

    def clear(self) -> None:
        self._maybe("clear")
        super().clear()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        self._maybe("exclusive")
        yield
        self._maybe("exclusive at its end")

    @property
    def compiler(self) -> ShelfCompiler:
        self._maybe("compiler")
        return super().compiler

    def _maybe(self, method: str) -> None:
        if self.failing == method:
            raise self.error


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MemoryGateway]:
    """A memory of alex on such a store, which breaks when a test says so."""
    monkeypatch.setattr(STORES, "_entries", dict(STORES._entries))
    STORES.register("shelf", f"{__name__}:Broken")
    with open_memory({"vector_store": {"provider": "shelf"}, "history": {"path": str(tmp_path / "h.db")}}) as opened:
        opened.add("tea in the morning", user_id="alex")
        yield opened
        monkeypatch.undo()


VERBS: dict[str, Callable[[MemoryGateway], object]] = {
    "upsert": lambda memory: memory.add("coffee", user_id="alex"),
    "fetch": lambda memory: memory.delete(memory.get_all(user_id="alex").memories[0].id),
    "remove": lambda memory: memory.delete_all(user_id="alex"),
    "native_nearest": lambda memory: memory.search("tea", user_id="alex"),
    "native_count": lambda memory: memory.stats(),
    "native_pages": lambda memory: memory.get_all(user_id="alex", filters={"text": {"icontains": "TEA"}}),
    "clear": lambda memory: memory.reset(),
    "exclusive": lambda memory: memory.add("coffee", user_id="alex"),
    "compiler": lambda memory: memory.search("tea", user_id="alex", filters={"n": 1}),
}


@pytest.mark.parametrize("error", [RuntimeError("a secret of alex"), sqlite3.OperationalError("a secret"), OSError()])
@pytest.mark.parametrize("method", VERBS)
def test_what_an_engine_raises_is_told_as_the_stores(
    memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    """It is a `StoreError` with the store's name, the method, the kind and the cause, no text; and nothing was done."""
    with monkeypatch.context() as patch:
        patch.setattr(Broken, "failing", method)
        patch.setattr(Broken, "error", error)
        with pytest.raises(
            StoreError, match=rf"^shelf \(memory\): `{method}` failed \({type(error).__name__}\)"
        ) as caught:
            VERBS[method](memory)
    assert caught.value.__cause__ is error
    assert "secret" not in str(caught.value)
    assert [found.text for found in memory.get_all(user_id="alex")] == ["tea in the morning"]


@pytest.mark.parametrize("error", [StoreFull("shelf", "here", 0, 1), KeyboardInterrupt(), SystemExit(3)])
def test_what_is_no_failure_of_the_engine_stays(
    memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """An error of memstack's is what it is, and an interruption is none."""
    with monkeypatch.context() as patch:
        patch.setattr(Broken, "failing", "upsert")
        patch.setattr(Broken, "error", error)
        with pytest.raises(type(error)) as caught:
            memory.add("coffee", user_id="alex")
    assert caught.value is error


def test_a_block_that_cannot_be_left(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that fails when it is released is the store's failure; what failed inside of it stays what it is."""
    store = memory._core.parts.store
    with pytest.raises(ZeroDivisionError), store.exclusive():
        raise ZeroDivisionError
    monkeypatch.setattr(Broken, "failing", "exclusive at its end")
    with pytest.raises(StoreError, match="`exclusive` failed"), store.exclusive():
        pass


class Raising:
    """A block that raises once more what is raised inside of it, or swallows it."""

    def __init__(self, swallows: bool) -> None:
        self.swallows = swallows

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is not None and not self.swallows:
            raise error
        return self.swallows


class Blocking(ShelfStore):
    """A store whose blocks are of a class, and which fails before it has a name."""

    swallows = False

    def exclusive(self) -> Raising:
        return Raising(self.swallows)

    def tidy(self) -> None:
        del self.label
        raise OSError


def test_a_block_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised inside of a plug-in's block, and by it again, is the caller's; what it swallows is gone."""
    store = Blocking("memories", 2)
    with pytest.raises(ZeroDivisionError), store.exclusive():
        raise ZeroDivisionError
    monkeypatch.setattr(Blocking, "swallows", True)
    with store.exclusive():
        raise ZeroDivisionError


def test_a_store_that_has_no_name_yet() -> None:
    """One that fails before it has a label is told by its class."""
    with pytest.raises(StoreError, match=r"^Blocking: `tidy` failed \(OSError\)"):
        Blocking("memories", 2).tidy()


class Mixin:
    """A method that is written beside the store."""

    def tidy(self) -> None:
        raise RuntimeError


class Mixed(Mixin, ShelfStore):
    """A store that takes it from there."""


def test_what_a_mixin_raises_is_translated_too() -> None:
    """It makes no difference which class a method was written in."""
    with pytest.raises(StoreError, match="`tidy` failed"):
        Mixed("memories", 3).tidy()


def test_our_stores_pay_nothing() -> None:
    """The methods of our own stores are called as they were written."""
    assert not hasattr(QdrantEdgeStore.fetch, "__wrapped__")
    assert not hasattr(Store.nearest, "__wrapped__")
    assert hasattr(ShelfStore.fetch, "__wrapped__")
