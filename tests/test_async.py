"""`AsyncMemoryGateway` is `MemoryGateway`, awaited: the same verbs, parameters, defaults and results."""

from __future__ import annotations

import asyncio
import copy
import inspect
import io
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import AsyncMemoryGateway, F, MemoryGateway, Page, Preference, factory, open_async_memory, open_memory
from memstack.errors import FilterError
from memstack.factory import OpeningMemory
from memstack.filters import Node
from memstack.records import AddResult, Change, Conflict, Hit, Memory
from memstack.stores.base import Row, holds

OpenHere = Callable[..., MemoryGateway]

# How a gateway is made, and what it has for memstack's own use.
NO_VERBS: Final = {"of", "mem0_of_core"}


def public(kind: type) -> dict[str, Any]:
    """The public members that a class defines, as it defines them."""
    return {name: inspect.getattr_static(kind, name) for name in vars(kind) if not name.startswith("_")}


VERBS: Final = sorted(public(MemoryGateway).keys() - NO_VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_can_be_awaited(name: str) -> None:
    """What `MemoryGateway` offers, `AsyncMemoryGateway` offers too, with equal parameters, kinds and defaults."""
    ours = public(AsyncMemoryGateway)
    assert name in ours
    sync, awaited = public(MemoryGateway)[name], ours[name]
    assert isinstance(awaited, property) == isinstance(sync, property)
    if isinstance(sync, property):
        return
    expected, found = inspect.signature(sync).parameters, inspect.signature(awaited).parameters
    assert list(found) == list(expected)
    for key, parameter in expected.items():
        assert (found[key].kind, found[key].default) == (parameter.kind, parameter.default)
        assert found[key].annotation == parameter.annotation
    assert awaited.__doc__


def test_there_are_no_verbs_beside() -> None:
    """`AsyncMemoryGateway` has nothing public that `MemoryGateway` lacks."""
    assert public(AsyncMemoryGateway).keys() <= public(MemoryGateway).keys()


def test_what_is_awaited() -> None:
    """All verbs that do something are coroutines (`iter_all` an async iterator); those that make handles are not."""
    for name, member in public(AsyncMemoryGateway).items():
        plain = name in {"for_user", "scoped", "mem0", "closed", "forked"}
        assert (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)) != plain, name


def results(memory: MemoryGateway) -> Iterator[Any]:
    """What a small scenario returns, step by step."""
    alex = memory.for_user("alex")
    added = alex.add(["tea in the morning", "a walk at noon"], metadata={"kind": "habit"}, idempotency_key="k")
    yield added
    yield alex.add(["tea in the morning", "a walk at noon"], metadata={"kind": "habit"}, idempotency_key="k")
    yield memory.add_many([{"user_id": "bo", "content": "bo's cake"}, {"content": "nobody's"}], batch_size=1)
    yield alex.update(added.stored[0].id, text="tea at night", expires_at="2999-01-01")
    yield alex.search("tea", limit=1, threshold=0.1, explain=True)
    yield alex.search("", filters=F.kind == "habit")
    page = alex.get_all(limit=1, order="created_at")
    yield page
    yield alex.get_all(limit=1, order="created_at", cursor=page.next_cursor)
    yield list(alex.iter_all(filters={"kind": "habit"}))
    yield memory.scoped(user_id="alex", run_id="r").add("in a run")
    yield alex.get(added.stored[1].id)
    alex.delete(added.stored[1].id)
    yield alex.history(added.stored[1].id)
    yield memory.purge_expired()
    alex.add("tea", metadata=Preference(key="drink", value="tea"))
    yield alex.conflicts("coffee", metadata=Preference(key="drink", value="coffee"))
    for answer in (alex.dismiss, alex.confirm):
        asked = alex.add("coffee", metadata=Preference(key="drink", value="coffee"), on_conflict="ask")
        yield answer(asked.pending[0].token)
    (current,) = alex.search("", schema=Preference)
    yield alex.supersede(current.id, "water", metadata={"value": "water"})
    yield alex.delete_all(filters={"kind": "habit"})
    exported = io.StringIO()
    yield memory.export(exported, user_id="bo").memories
    yield memory.import_(io.StringIO(exported.getvalue())).present
    yield memory.for_user("bo").erase(compact=False).memories
    yield memory.stats()["vector_store"]["rows"]
    memory.reset()
    yield list(memory.iter_all(user_id="bo"))


async def awaited_results(memory: AsyncMemoryGateway) -> AsyncIterator[Any]:
    """The same, awaited."""
    alex = memory.for_user("alex")
    added = await alex.add(["tea in the morning", "a walk at noon"], metadata={"kind": "habit"}, idempotency_key="k")
    yield added
    yield await alex.add(["tea in the morning", "a walk at noon"], metadata={"kind": "habit"}, idempotency_key="k")
    yield await memory.add_many([{"user_id": "bo", "content": "bo's cake"}, {"content": "nobody's"}], batch_size=1)
    yield await alex.update(added.stored[0].id, text="tea at night", expires_at="2999-01-01")
    yield await alex.search("tea", limit=1, threshold=0.1, explain=True)
    yield await alex.search("", filters=F.kind == "habit")
    page = await alex.get_all(limit=1, order="created_at")
    yield page
    yield await alex.get_all(limit=1, order="created_at", cursor=page.next_cursor)
    yield [stored async for stored in alex.iter_all(filters={"kind": "habit"})]
    yield await memory.scoped(user_id="alex", run_id="r").add("in a run")
    yield await alex.get(added.stored[1].id)
    await alex.delete(added.stored[1].id)
    yield await alex.history(added.stored[1].id)
    yield await memory.purge_expired()
    await alex.add("tea", metadata=Preference(key="drink", value="tea"))
    yield await alex.conflicts("coffee", metadata=Preference(key="drink", value="coffee"))
    for answer in (alex.dismiss, alex.confirm):
        asked = await alex.add("coffee", metadata=Preference(key="drink", value="coffee"), on_conflict="ask")
        yield await answer(asked.pending[0].token)
    (current,) = await alex.search("", schema=Preference)
    yield await alex.supersede(current.id, "water", metadata={"value": "water"})
    yield await alex.delete_all(filters={"kind": "habit"})
    exported = io.StringIO()
    yield (await memory.export(exported, user_id="bo")).memories
    yield (await memory.import_(io.StringIO(exported.getvalue()))).present
    yield (await memory.for_user("bo").erase(compact=False)).memories
    yield (await memory.stats())["vector_store"]["rows"]
    await memory.reset()
    yield [stored async for stored in memory.iter_all(user_id="bo")]


def comparable(result: Any) -> Any:
    """A result without what differs from run to run: ids and instants."""
    match result:
        case Memory():
            scored = (round(result.score, 5), sorted(result.explain or ())) if isinstance(result, Hit) else ()
            return type(result), result.text, result.scope, result.metadata, result.expires_at, result.source, scored
        case Change():
            return result.event, result.old_text, result.new_text, result.scope, result.actor
        case AddResult():
            skipped = [(item.index, item.reason, item.detail) for item in result.skipped]
            conflicts = [comparable(conflict) for conflict in result.conflicts]
            return [comparable(memory) for memory in result.stored], skipped, result.failed, conflicts
        case Conflict():
            return comparable(result.memory), result.reason, result.kind, result.index
        case Page():
            return [comparable(memory) for memory in result], result.next_cursor is None
        case list():
            return [comparable(item) for item in result]
        case _:
            return result


async def test_equal_results(open_here: OpenHere, tmp_path: Path) -> None:
    """A scenario through every verb returns the same, awaited or not, step by step."""
    expected = [comparable(result) for result in results(open_here(tmp_path / "sync"))]
    async with AsyncMemoryGateway(open_here(tmp_path / "async")) as memory:
        found = [comparable(result) async for result in awaited_results(memory)]
    assert found == expected
    assert len(found) == 23


async def test_opening(tmp_path: Path) -> None:
    """`open_async_memory` can be awaited, or entered; leaving it closes; a bad configuration is told when it opens."""
    config = {"vector_store": {"provider": "qdrant", "path": str(tmp_path)}}
    memory = await open_async_memory(config)
    (stored,) = (await memory.add("tea", user_id="alex")).stored
    assert repr(memory).startswith("<AsyncMemoryGateway qdrant")
    await memory.close()
    assert "closed" in repr(memory)
    opening = open_async_memory(config)
    assert isinstance(opening, OpeningMemory)
    async with opening as again:
        assert (await again.get(stored.id)).text == "tea"
    assert "closed" in repr(again)
    with pytest.raises(ValueError, match="provider"):
        await open_async_memory({"vector_store": {"provider": "nothing"}})


def test_a_verb_of_a_memory_that_was_not_awaited() -> None:
    """It says what is missing; a name that is no verb is a plain attribute that is not there."""
    opening: Any = open_async_memory()
    for verb in ("add", "for_user", "mem0"):
        with pytest.raises(AttributeError, match=rf"^{verb}: .* await open_async_memory\(…\)"):
            getattr(opening, verb)
    with pytest.raises(AttributeError, match="'OpeningMemory' object has no attribute 'ad'"):
        opening.ad  # noqa: B018
    assert not hasattr(opening, "__len__")


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_a_memory_is_not_sent_to_another_process(
    copied: Callable[[Any], Any], open_here: OpenHere, tmp_path: Path
) -> None:
    """What is open cannot be pickled, nor copied whole; the error says how another process gets its own."""
    memory = open_here(tmp_path)
    for handle in (memory, memory.for_user("alex"), AsyncMemoryGateway(memory)):
        with pytest.raises(TypeError, match=r"Open it where it is used, with open_memory\(\)"):
            copied(handle)


async def test_an_opening_that_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory whose opening nobody waits for any more is closed as soon as it is open."""
    begun, go_on = threading.Event(), threading.Event()
    opened: list[MemoryGateway] = []
    closed = threading.Event()

    def slow(config: Any, **overrides: Any) -> MemoryGateway:
        begun.set()
        go_on.wait(10)
        memory = open_memory(config, **overrides)
        real = memory.close

        def close() -> None:
            real()
            closed.set()

        monkeypatch.setattr(memory, "close", close)
        opened.append(memory)
        return memory

    monkeypatch.setattr(factory, "open_memory", slow)

    async def use() -> None:
        async with open_async_memory({"vector_store": {"provider": "qdrant", "path": str(tmp_path)}}):
            pytest.fail("it was cancelled")

    task = asyncio.create_task(use())
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await asyncio.to_thread(closed.wait, 10)
    assert opened[0].closed


async def test_a_close_that_is_cancelled(tmp_path: Path) -> None:
    """A task that is cancelled again and again, as in a cancelled scope of anyio, leaves its memory closed."""
    left = asyncio.Event()

    async def use() -> None:
        async with open_async_memory({"vector_store": {"provider": "qdrant", "path": str(tmp_path)}}) as memory:
            opened.append(memory)
            left.set()
            await asyncio.sleep(60)

    opened: list[AsyncMemoryGateway] = []
    task = asyncio.create_task(use())
    await left.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    for _ in range(1000):
        if opened[0].closed:
            break
        await asyncio.sleep(0.01)
    assert opened[0].closed


async def test_nobody_waits_behind_a_search_that_reads_row_after_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where searches take turns, one whose filter is evaluated here does not hold up the others, however long it is."""
    begun, end = threading.Event(), threading.Event()

    def waiting(where: Node, row: Row) -> bool:
        begun.set()
        return end.wait(30) and holds(where, row)

    monkeypatch.setattr("memstack.stores.base.holds", waiting)
    section = {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}
    async with await open_async_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        assert memory._searching is not memory._pool
        alex = memory.for_user("alex")
        await alex.add("green tea", metadata={"kind": "habit"}, infer=False)
        long = asyncio.create_task(alex.search("tea", filters={"kind": {"icontains": "HABIT"}}))
        try:
            assert await asyncio.to_thread(begun.wait, 30)
            for filters in (None, {"kind": "habit"}):
                (quick,) = await asyncio.wait_for(alex.search("tea", filters=filters), 20)
                assert quick.text == "green tea"
            assert not long.done()
        finally:
            end.set()
        assert [hit.text for hit in await long] == ["green tea"]
        with pytest.raises(FilterError):
            await alex.search("tea", filters={"kind": {"$icontains": "habit"}})
