"""Many at once: no error, no lost write, nothing stored twice; in threads, in two gateways, and in asyncio."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from memstack.errors import GatewayClosed, MemoryNotFound, MemstackError
from memstack.gateway import AsyncMemoryGateway, MemoryGateway
from memstack.records import AddResult
from memstack.testing.contract.base import Contract, OpenHere
from memstack.testing.contract.state import assert_agreement, is_persistent, parts_of, snapshot

THREADS: Final = 8
OPERATIONS: Final = 200


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """The results of some threads that start together; an error of any is raised."""
    barrier = threading.Barrier(count)

    def start(worker: int) -> Any:
        barrier.wait()
        return work(worker)

    with ThreadPoolExecutor(count) as pool:
        return [done.result() for done in [pool.submit(start, worker) for worker in range(count)]]


def several(open_here: OpenHere, folder: Path, count: int) -> list[MemoryGateway]:
    """Some gateways on one store: each opens it, or, where nothing outlives its gateway, they have one store."""
    first = open_here(folder)
    if is_persistent(first):
        return [first, *(open_here(folder) for _ in range(count - 1))]
    return [first, *(MemoryGateway.of(parts_of(first)) for _ in range(count - 1))]


class Worker:
    """Does what a seeded sequence says in a scope of its own, and keeps a model of what must be there."""

    def __init__(self, memory: MemoryGateway, name: str) -> None:
        self.memory = memory.for_user(name)
        self.name = name
        self.random = random.Random(name)
        self.model: dict[str, tuple[str, dict[str, Any]]] = {}
        self.events: dict[str, list[str]] = {}
        self.number = 0

    def run(self) -> None:
        """All operations, one after the other."""
        verbs = [self.add] * 8 + [self.search] * 5 + [self.listing, self.get, self.history] * 2
        verbs += [self.update] * 4 + [self.delete] * 2 + [self.add_many]
        for turn in range(OPERATIONS):
            if turn == OPERATIONS // 2:
                self.delete_all()
            else:
                self.random.choice(verbs)()

    def text(self) -> str:
        """A text that nobody else has."""
        self.number += 1
        return f"{self.name} says {self.number}"

    def keep(self, key: str, text: str, metadata: dict[str, Any], event: str) -> None:
        """Note what must be there."""
        self.model[key] = (text, metadata)
        self.events.setdefault(key, []).append(event)

    def add(self) -> None:
        text, metadata = self.text(), {"n": self.number % 3}
        (stored,) = self.memory.add(text, metadata=metadata).stored
        self.keep(stored.id, text, metadata, "ADD")

    def add_many(self) -> None:
        result = self.memory.add_many([self.text() for _ in range(5)], batch_size=2)
        assert len(result.stored) == 5
        for stored in result.stored:
            self.keep(stored.id, stored.text, {}, "ADD")

    def some(self) -> str | None:
        return self.random.choice(sorted(self.model)) if self.model else None

    def update(self) -> None:
        if (key := self.some()) is None:
            return
        text, metadata = self.text(), {"n": 7}
        self.memory.update(key, text=text, metadata=metadata)
        self.keep(key, text, {**self.model[key][1], **metadata}, "UPDATE")

    def delete(self) -> None:
        if (key := self.some()) is None:
            return
        self.memory.delete(key)
        del self.model[key]
        self.events[key].append("DELETE")
        with pytest.raises(MemoryNotFound):
            self.memory.get(key)

    def delete_all(self) -> None:
        assert self.memory.delete_all() == len(self.model)
        for key in self.model:
            self.events[key].append("DELETE")
        self.model.clear()

    def get(self) -> None:
        if (key := self.some()) is not None:
            found = self.memory.get(key)
            assert (found.text, found.metadata) == self.model[key]

    def search(self) -> None:
        if (key := self.some()) is None:
            assert self.memory.search("anything") == []
            return
        hits = self.memory.search(self.model[key][0], limit=5)
        assert len(hits) == min(5, len(self.model))
        assert {hit.id for hit in hits} <= self.model.keys()
        assert all(hit.scope.user_id == self.name for hit in hits)

    def listing(self) -> None:
        wanted = {key for key, (_, metadata) in self.model.items() if metadata.get("n") == 7}
        assert {found.id for found in self.memory.get_all(filters={"n": 7}, limit=1000)} == wanted

    def history(self) -> None:
        if (key := self.some()) is not None:
            assert [change.event for change in self.memory.history(key)] == self.events[key]

    def check(self) -> None:
        """Everything is as this worker left it."""
        found = {stored.id: (stored.text, stored.metadata) for stored in self.memory.iter_all()}
        assert found == self.model
        for key, events in self.events.items():
            assert [change.event for change in self.memory.history(key)] == events


class ConcurrencyContract(Contract):
    """Many at once lose nothing and store nothing twice."""

    def test_mixed_operations_in_threads(self, empty: MemoryGateway) -> None:
        """Eight threads do 200 mixed operations each on scopes of their own: no error, and nobody loses a write."""
        workers = [Worker(empty, f"worker{i}") for i in range(THREADS)]
        at_once(THREADS, lambda i: workers[i].run())
        for worker in workers:
            worker.check()
        assert_agreement(empty)

    def test_distinct_texts_in_one_scope(self, empty: MemoryGateway) -> None:
        """Threads that add to one scope lose nothing; positions in the run are distinct and have no gaps."""
        texts = [[f"thread {i} says {j}" for j in range(25)] for i in range(THREADS)]
        run = empty.scoped(user_id="alex", run_id="talk")
        at_once(THREADS, lambda i: [run.add(text) for text in texts[i]])
        stored = run.get_all(limit=1000).memories
        assert sorted(memory.text for memory in stored) == sorted(text for some in texts for text in some)
        assert sorted(memory.source[0].position or 0 for memory in stored) == list(range(THREADS * 25))
        created = [memory.created_at for memory in stored]
        assert len(set(created)) == len(created)
        assert_agreement(empty)

    @pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
    def test_the_same_text_at_once(self, open_here: OpenHere, tmp_path: Path, gateways: int) -> None:
        """Of concurrent adds of one text exactly one is stored; the others are told which memory it is."""
        opened = several(open_here, tmp_path, gateways)
        for turn in range(10):
            text = f"the same {turn}"

            def add(worker: int, text: str = text) -> AddResult:
                return opened[worker % gateways].add(text, user_id="alex", metadata={"n": 1})

            results: list[AddResult] = at_once(THREADS, add)
            (stored,) = [memory for result in results for memory in result.stored]
            skipped = [skipped for result in results for skipped in result.skipped]
            assert [(item.reason, item.memory_id) for item in skipped] == [("duplicate", stored.id)] * (THREADS - 1)
        assert len(opened[0].get_all(user_id="alex")) == 10
        assert_agreement(opened[0])

    @pytest.mark.parametrize("gateways", [1, 2], ids=["one gateway", "two gateways"])
    def test_one_idempotency_key_at_once(self, open_here: OpenHere, tmp_path: Path, gateways: int) -> None:
        """Concurrent adds with one idempotency key store their messages once; every caller learns which."""
        opened = several(open_here, tmp_path, gateways)
        for turn in range(10):
            messages = [f"first of {turn}", f"second of {turn}"]

            def add(worker: int, messages: list[str] = messages, key: str = f"key {turn}") -> AddResult:
                return opened[worker % gateways].add(messages, user_id="alex", idempotency_key=key)

            results: list[AddResult] = at_once(THREADS, add)
            stored = [memory for result in results for memory in result.stored]
            assert [memory.text for memory in stored] == messages
            told = {item.memory_id for result in results for item in result.skipped}
            assert told <= {memory.id for memory in stored}
            assert sum(len(result.skipped) for result in results) == 2 * (THREADS - 1)
        assert len(opened[0].get_all(user_id="alex")) == 20
        assert_agreement(opened[0])

    def test_two_gateways_on_one_path(self, open_here: OpenHere, tmp_path: Path) -> None:
        """Threads on two gateways of one store do mixed operations without an error or a lost write."""
        first, second = several(open_here, tmp_path, 2)
        workers = [Worker((first, second)[i % 2], f"worker{i}") for i in range(4)]
        at_once(4, lambda i: workers[i].run())
        for worker in workers:
            worker.check()
        assert_agreement(second)
        assert snapshot(first) == snapshot(second)

    def test_updates_of_one_memory(self, empty: MemoryGateway) -> None:
        """Concurrent updates of different fields of one memory all arrive, and its history tells of each."""
        (stored,) = empty.add("tea", user_id="alex").stored
        at_once(THREADS, lambda i: [empty.update(stored.id, metadata={f"k{i}": j}) for j in range(10)])
        assert empty.get(stored.id).metadata == {f"k{i}": 9 for i in range(THREADS)}
        changes = empty.history(stored.id)
        assert Counter(change.event for change in changes) == {"ADD": 1, "UPDATE": THREADS * 10}
        for before, after in itertools.pairwise(changes):
            assert before.new_metadata == after.old_metadata
            assert before.at < after.at

    def test_deletions_of_one_memory(self, empty: MemoryGateway) -> None:
        """Of concurrent deletions of one memory one succeeds; the others find nothing."""
        for _ in range(5):
            (stored,) = empty.add("tea", user_id="alex").stored

            def delete(worker: int, key: str = stored.id) -> bool:
                with suppress(MemoryNotFound):
                    empty.delete(key)
                    return True
                return False

            assert sum(at_once(THREADS, delete)) == 1
            assert [change.event for change in empty.history(stored.id)] == ["ADD", "DELETE"]

    def test_everything_is_deleted_under_writers(self, empty: MemoryGateway) -> None:
        """`delete_all` among writers of its scope takes some, leaves some; each is there, or was deleted once."""

        def work(worker: int) -> list[str]:
            if worker == 0:
                for _ in range(10):
                    empty.delete_all(user_id="alex")
                return []
            return [empty.add(f"{worker} says {i}", user_id="alex").stored[0].id for i in range(30)]

        added = {key for keys in at_once(THREADS, work) for key in keys}
        there = {stored.id for stored in empty.iter_all(user_id="alex")}
        assert there <= added
        for key in added:
            assert [change.event for change in empty.history(key)] == (["ADD"] if key in there else ["ADD", "DELETE"])
        assert_agreement(empty)

    @pytest.mark.parametrize("through", ["the gateway", "Mem0"])
    def test_everything_is_reset_under_writers(self, empty: MemoryGateway, through: str) -> None:
        """A reset among writers leaves memories with their history, and no history or key of those that are gone."""
        reset = empty.reset if through == "the gateway" else empty.mem0.reset

        def work(worker: int) -> list[str]:
            if worker == 0:
                for _ in range(5):
                    reset()
                return []
            return [
                empty.add(f"{worker} says {i}", user_id="alex", idempotency_key=f"{worker}-{i}").stored[0].id
                for i in range(20)
            ]

        added = {key for keys in at_once(THREADS, work) for key in keys}
        there = {stored.id for stored in empty.iter_all(user_id="alex")}
        assert there <= added
        for key in there:
            assert [change.event for change in empty.history(key)] == ["ADD"]
        for key in added - there:
            with pytest.raises(MemoryNotFound):
                empty.history(key)
        assert_agreement(empty)
        again = empty.add("1 says 0", user_id="alex", idempotency_key="1-0")
        assert len(again.stored) + len(again.skipped) == 1
        assert len(empty.get_all(user_id="alex", limit=1000)) == len(there) + len(again.stored)

    def test_readers_see_whole_memories(self, empty: MemoryGateway) -> None:
        """While a memory is changed, every reader sees it as it was before or after a change, and never not at all."""
        (stored,) = empty.add("version 0", user_id="alex", metadata={"version": 0}).stored
        done = threading.Event()

        def work(worker: int) -> None:
            if worker == 0:
                try:
                    for version in range(1, 60):
                        empty.update(stored.id, text=f"version {version}", metadata={"version": version})
                finally:
                    done.set()
            while not done.is_set():
                one = empty.get(stored.id)
                (two,) = empty.get_all(user_id="alex")
                (three,) = empty.search("version", user_id="alex")
                for seen in (one, two, three):
                    assert seen.text == f"version {seen.metadata['version']}"

        at_once(4, work)

    # -- asyncio ---------------------------------------------------------------------------------

    @pytest.fixture
    def awaited(self, empty: MemoryGateway) -> Iterator[AsyncMemoryGateway]:
        """The same memory, awaited; the test ends when its threads are done."""
        with ThreadPoolExecutor() as pool:
            yield AsyncMemoryGateway(empty, pool)

    @pytest.mark.asyncio
    async def test_many_tasks(self, empty: MemoryGateway, awaited: AsyncMemoryGateway) -> None:
        """Sixty-four tasks at once add, search, change and delete, each its own, without an error or a lost write."""

        async def work(i: int) -> str:
            mine = awaited.for_user(f"user {i}")
            result = await mine.add([f"{i} likes tea", f"{i} walks"], metadata={"n": i})
            tea, walks = result.stored
            assert len(await mine.search("tea")) == 2
            await mine.update(tea.id, text=f"{i} likes coffee")
            await mine.delete(walks.id)
            assert [found.text async for found in mine.iter_all()] == [f"{i} likes coffee"]
            assert [change.event for change in await mine.history(walks.id)] == ["ADD", "DELETE"]
            return tea.id

        ids = await asyncio.gather(*(work(i) for i in range(64)))
        assert len(set(ids)) == 64
        assert snapshot(empty).rows.keys() == set(ids)
        assert_agreement(empty)

    @pytest.mark.asyncio
    async def test_the_same_text_in_tasks(self, awaited: AsyncMemoryGateway) -> None:
        """Of 64 tasks that add one text, one stores it."""
        results = await asyncio.gather(*(awaited.add("the same", user_id="alex") for _ in range(64)))
        assert sum(len(result.stored) for result in results) == 1
        assert len(await awaited.get_all(user_id="alex")) == 1

    @pytest.mark.asyncio
    async def test_the_loop_is_not_blocked(self, awaited: AsyncMemoryGateway) -> None:
        """While a bulk write is under way, the event loop goes on."""
        writing = asyncio.create_task(awaited.add_many([f"fact {i}" for i in range(3000)], user_id="alex"))
        ticks = 0
        while not writing.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert len((await writing).stored) == 3000
        assert ticks > 20

    @pytest.mark.asyncio
    async def test_cancelled_tasks(self, empty: MemoryGateway, awaited: AsyncMemoryGateway) -> None:
        """A cancelled task leaves its write whole or undone; what others do at the same time is not touched."""
        (kept,) = (await awaited.add("kept", user_id="kept")).stored
        chance = random.Random(7)
        tasks: list[asyncio.Task[Any]] = []
        for i in range(40):
            tasks.append(asyncio.create_task(awaited.add([f"{i} one", f"{i} two"], user_id=f"u{i}")))
            tasks.append(asyncio.create_task(awaited.update(kept.id, text=f"kept {i}")))
        for task in chance.sample(tasks, 40):
            await asyncio.sleep(chance.choice([0, 0, 0.002]))
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(not isinstance(result, Exception) for result in results)  # a CancelledError is none
        assert any(isinstance(result, asyncio.CancelledError) for result in results)
        await awaited.stats()  # behind those that were cancelled on their way
        for _ in range(200):
            before = snapshot(empty)
            await asyncio.sleep(0.01)
            if snapshot(empty) == before:
                break
        assert_agreement(empty)
        for i, result in enumerate(results[::2]):
            found = len(await awaited.get_all(user_id=f"u{i}"))
            assert found == 2 if not isinstance(result, asyncio.CancelledError) else found in {0, 2}

    @pytest.mark.asyncio
    async def test_a_timeout(self, awaited: AsyncMemoryGateway) -> None:
        """A verb that is given up after a timeout raises TimeoutError, and the memory goes on working."""
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaited.add_many([f"fact {i}" for i in range(2000)], user_id="alex"), 0.01)
        assert (await awaited.add("afterwards", user_id="bo")).stored

    @pytest.mark.asyncio
    async def test_async_verbs_after_close(self, open_here: OpenHere, tmp_path: Path) -> None:
        """Every awaited verb of a closed memory and its handles says that it is closed; closing again does nothing."""
        memory = AsyncMemoryGateway(open_here(tmp_path))
        (stored,) = (await memory.add("tea", user_id="alex")).stored
        handle = memory.for_user("alex")
        await memory.close()
        await memory.close()
        await handle.close()
        calls: list[Callable[[], Any]] = [
            lambda: memory.add("tea", user_id="alex"),
            lambda: memory.add_many(["tea"], user_id="alex"),
            lambda: memory.search("tea", user_id="alex"),
            lambda: memory.get_all(user_id="alex"),
            lambda: memory.get(stored.id),
            lambda: memory.update(stored.id, text="coffee"),
            lambda: memory.delete(stored.id),
            lambda: memory.delete_all(user_id="alex"),
            memory.purge_expired,
            lambda: memory.history(stored.id),
            memory.stats,
            memory.reset,
            lambda: handle.search("tea"),
            lambda: handle.add("tea"),
        ]
        for call in calls:
            with pytest.raises(GatewayClosed, match="open_memory"):
                await call()
        with pytest.raises(GatewayClosed):
            await anext(aiter(memory.iter_all(user_id="alex")))
        with pytest.raises(GatewayClosed):
            assert memory.mem0
        with pytest.raises(GatewayClosed):
            async with memory:
                pass

    @pytest.mark.asyncio
    async def test_close_waits_for_verbs_under_way(self, open_here: OpenHere, tmp_path: Path) -> None:
        """Closing lets the verbs under way end; those that come too late are told: each is done, or GatewayClosed."""
        first = open_here(tmp_path)
        memory = AsyncMemoryGateway(first)
        await memory.add("first", user_id="alex")
        early = [asyncio.create_task(memory.add(f"early {i}", user_id="alex")) for i in range(30)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(memory.close())
        late: list[asyncio.Task[Any]] = []
        while not closing.done():
            late.append(asyncio.create_task(memory.add(f"late {len(late)}", user_id="alex")))
            await asyncio.sleep(0.0005)
        assert all(len(result.stored) == 1 for result in await asyncio.gather(*early))
        outcomes = await asyncio.gather(*late, return_exceptions=True)
        assert {type(found) for found in outcomes if isinstance(found, BaseException)} <= {GatewayClosed}
        done = sum(not isinstance(found, BaseException) for found in outcomes)
        kept = is_persistent(first)
        with open_here(tmp_path) as again:
            assert len(again.get_all(user_id="alex", limit=1000)) == (31 + done if kept else 0)
            if kept:
                assert_agreement(again)

    @pytest.mark.asyncio
    async def test_errors_come_through(self, empty: MemoryGateway, awaited: AsyncMemoryGateway) -> None:
        """Bad input of an awaited verb raises the same error as without await; a handle keeps its scope."""
        with pytest.raises(MemstackError, match="messages"):
            await awaited.add("", user_id="alex")
        with pytest.raises(MemstackError, match="nobody is named"):
            await awaited.search("tea")
        with pytest.raises(MemstackError, match="another owner"):
            await awaited.for_user("alex").add("tea", user_id="bo")
        assert parts_of(empty).store.count() == 0
