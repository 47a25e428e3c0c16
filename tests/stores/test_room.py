"""Little room, or a disk that fails, under an embedded store: a clear refusal, nothing by halves, and on it goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import MemstackError, StoreCorrupted, StoreError, StoreFull
from memstack.stores import edge_folder
from memstack.stores.room import FREE_BYTES, check_room, length_of
from tests.stores.test_edge_folder import PROVIDERS, environment

FACTS: Final = [f"fact number {number}" for number in range(20)]


def opened(path: Path, provider: str) -> MemoryGateway:
    """The memory of a folder, its history elsewhere."""
    section = {"provider": provider, "mode": "embedded", "path": str(path / "store")}
    return open_memory({"vector_store": section, "history": {"path": str(path / "history.db")}})


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    """Each engine that keeps its data in a folder."""
    pytest.importorskip(PROVIDERS[request.param])
    return str(request.param)


@pytest.fixture
def memory(tmp_path: Path, provider: str) -> Iterator[MemoryGateway]:
    """A memory with some facts."""
    with opened(tmp_path, provider) as memory:
        memory.add_many(FACTS, user_id="alex")
        yield memory


def texts(memory: MemoryGateway) -> list[str]:
    """What is there."""
    return sorted(found.text for found in memory.iter_all(user_id="alex"))


WRITES: Final[dict[str, Callable[[MemoryGateway, str], object]]] = {
    "add": lambda memory, _: memory.add("one more", user_id="alex"),
    "update": lambda memory, key: memory.update(key, text="changed"),
    "delete": lambda memory, key: memory.delete(key),
    "delete_all": lambda memory, _: memory.delete_all(user_id="alex"),
    "erase": lambda memory, _: memory.erase(user_id="alex"),
    "reset": lambda memory, _: memory.reset(),
}


def test_a_disk_without_room(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write is refused before anything is done, all that was stored is read, and room makes writes work."""
    key = memory.get_all(user_id="alex", limit=1).memories[0].id
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30, 0))
        for write in WRITES.values():
            with pytest.raises(StoreFull, match="Free some space") as caught:
                write(memory, key)
            assert caught.value.retryable
        (failed, *_) = memory.add_many(["one more"], user_id="alex").failed
        assert failed.retryable
        assert texts(memory) == sorted(FACTS)
        assert [change.event for change in memory.history(key)] == ["ADD"]
    assert memory.add("one more", user_id="alex").stored
    assert texts(memory) == sorted([*FACTS, "one more"])


def test_no_room_to_erase(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is room to delete and none to rewrite the files, nothing is erased: it could not be looked for."""
    little = FREE_BYTES + 2**16
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30 - little, little))
        with pytest.raises(StoreFull):
            memory.erase(user_id="alex")
        assert texts(memory) == sorted(FACTS)
    assert memory.erase(user_id="alex").complete


def test_what_is_missing_is_told() -> None:
    """Also where it is less than a MiB: what is needed is told as more than what is free."""
    assert "has 64 MiB free and a write needs 65 MiB" in str(StoreFull("here", "/place", 2**26, 2**26 + 1))


def test_just_enough_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many bytes as are needed are enough, and one less is not."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30 - 1000, 1000))
    check_room("here", tmp_path, 1000)
    with pytest.raises(StoreFull):
        check_room("here", tmp_path, 1001)


def test_a_folder_that_is_gone(tmp_path: Path, provider: str, memory: MemoryGateway) -> None:
    """Where the folder of an open memory is moved, nothing is said to be stored that nobody will find again."""
    if provider == "pgvector":
        pytest.skip("its server ends when its folder is gone")
    (tmp_path / "store").rename(tmp_path / "moved")
    for write in (lambda: memory.add("one more", user_id="alex"), lambda: memory.erase(user_id="bob")):
        with pytest.raises(StoreError, match="put it back"):
            write()
    (tmp_path / "moved").rename(tmp_path / "store")
    assert memory.add("one more", user_id="alex").stored
    assert texts(memory) == sorted([*FACTS, "one more"])


# The system refuses what would make a file longer than it may be: engines hear of it as of a disk that fails.
_FAILING: Final = """
import resource, sys
from pathlib import Path
from memstack.errors import StoreError
from tests.stores.test_room import FACTS, opened, texts

place, provider = Path(sys.argv[1]), sys.argv[2]
memory = opened(place, provider)
memory.add_many(FACTS, user_id="alex")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
longest = (place / "store" / "chroma" / "chroma.sqlite3").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (longest, hard))
for number in range(3):
    try:
        memory.add(f"{number} " + "word " * 2000, user_id="alex")
    except StoreError as error:
        assert "disk I/O error" in str(error), error
    else:
        raise AssertionError(number)
    assert texts(memory) == sorted(FACTS)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for number in range(3):
    memory.add(f"after all {number}", user_id="alex")
    assert len(texts(memory)) == len(FACTS) + number + 1
memory.close()
with opened(place, provider) as memory:
    assert len(texts(memory)) == len(FACTS) + 3
"""


def test_a_disk_that_fails_under_chroma(tmp_path: Path) -> None:
    """A write that fails inside the engine is told with its cause, and no later call waits for ever."""
    pytest.importorskip("chromadb")
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", _FAILING, str(tmp_path), "chroma"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_engine_that_panics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chroma's engine may raise what is no `Exception`, as where no file can be opened any more."""
    chromadb: Any = pytest.importorskip("chromadb")

    class PanicException(BaseException):  # its name
        """As PyO3's."""

    class TimeIsUp(BaseException):  # as others name theirs
        """As those raise who end a call that takes too long."""

    def raising(error: BaseException) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    with monkeypatch.context() as failing:
        failing.setattr(chromadb, "PersistentClient", raising(PanicException("too many open files")))
        with pytest.raises(StoreError, match="cannot open"):
            opened(tmp_path, "chroma")
        failing.setattr(chromadb, "PersistentClient", raising(TimeIsUp()))
        with pytest.raises(TimeIsUp):
            opened(tmp_path, "chroma")
    with opened(tmp_path, "chroma") as memory:
        assert memory.add("fine", user_id="alex").stored


@pytest.mark.parametrize(
    ("error", "told", "again"),
    [
        (psycopg.errors.DiskFull(), "disk is full", True),
        (psycopg.errors.IoError(), "disk fails", False),
        (psycopg.errors.TooManyColumns(), "cannot write: PostgreSQL error 54011", False),
        (psycopg.errors.StatementTooComplex(), "cannot write: PostgreSQL error 54001", False),
    ],
)
def test_a_server_that_can_be_reached(error: psycopg.Error, told: str, again: bool) -> None:
    """What PostgreSQL says of its disk, or of what is too much for it, is told as that, and not as out of reach."""
    from memstack.stores.pgvector_failures import translated

    with pytest.raises(MemstackError, match=told) as caught, translated("pgvector", "write"):
        raise error
    assert caught.value.retryable is again
    assert "reached" not in str(caught.value)


@contextmanager
def descriptors(left: int) -> Iterator[None]:
    """So many more files can be opened."""
    resource: Any = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 512), limits[1]))
        with suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        for descriptor in taken[len(taken) - left :]:
            os.close(descriptor)
        del taken[len(taken) - left :]
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("provider", ["qdrant", "chroma"])
def test_no_file_can_be_opened(tmp_path: Path, provider: str) -> None:
    """A process with too many open files is told so, and of no damage; it opens the memory once there are fewer."""
    pytest.importorskip(PROVIDERS[provider])
    with opened(tmp_path, provider) as memory:
        memory.add_many(FACTS, user_id="alex")
    refused: list[MemstackError] = []
    for left in range(0, 24, 2):
        with descriptors(left):
            try:
                opened(tmp_path, provider).close()
            except MemstackError as error:
                refused.append(error)
    assert len(refused) > 1
    assert not [error for error in refused if isinstance(error, StoreCorrupted)]
    with opened(tmp_path, provider) as memory:
        assert texts(memory) == sorted(FACTS)


def _fail(*_: object) -> None:
    raise StoreError("qdrant", "Too many open files")


@pytest.mark.parametrize("what", ["replace_shard", "load"])
def test_erasing_that_fails_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Where Qdrant's files cannot be replaced, or opened again, the memory goes on, and erasing once more ends it."""
    with opened(tmp_path, "qdrant") as memory:
        memory.add_many(FACTS, user_id="alex")
        memory.add("somebody else's", user_id="bob")
        with monkeypatch.context() as failing:
            failing.setattr(edge_folder, what, _fail)
            with pytest.raises(StoreError, match="Too many"):
                memory.erase(user_id="bob")
        assert texts(memory) == sorted(FACTS)
        assert memory.add("one more", user_id="alex").stored
        receipt = memory.erase(user_id="bob")
        assert receipt.compacted
        assert not receipt.residue
    with opened(tmp_path, "qdrant") as memory:
        assert len(texts(memory)) == len(FACTS) + 1


def test_closed_while_the_engine_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory whose engine could not be opened again is closed as any other, and opened with all that is there."""
    with opened(tmp_path, "qdrant") as memory:
        memory.add_many(FACTS, user_id="alex")
        monkeypatch.setattr(edge_folder, "load", _fail)
        with pytest.raises(StoreError, match="Too many"):
            memory.erase(user_id="bob")
        with pytest.raises(StoreError, match="Too many"):
            memory.get_all(user_id="alex")
    monkeypatch.undo()
    with opened(tmp_path, "qdrant") as memory:
        assert texts(memory) == sorted(FACTS)


@pytest.mark.parametrize("text", ["tea", "thé", "茶", "🍵"])
def test_what_texts_take(text: str) -> None:
    """No text takes more bytes than are reckoned with, whatever it is written in."""
    assert length_of([{"data": text, "n": 1}, {"data": text}]) >= 2 * len(text.encode())
