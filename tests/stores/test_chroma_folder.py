"""The folder of the embedded Chroma: damage is told as what it is, with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import StoreCorrupted, StoreError

ROWS = 30


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    pytest.importorskip("chromadb")


def opened(path: Path) -> MemoryGateway:
    """The memory of a folder, without a history that knows what must be there."""
    section = {"provider": "chroma", "mode": "embedded", "path": str(path)}
    return open_memory({"vector_store": section, "history": {"path": ":memory:"}})


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The database of a folder with `ROWS` memories, which is closed."""
    with opened(tmp_path) as memory:
        memory.add_many([f"fact {number}" for number in range(ROWS)], user_id="alex")
    return tmp_path / "chroma" / "chroma.sqlite3"


def _garbled(begin: int, end: int) -> Callable[[bytes], bytes]:
    def damage(sound: bytes) -> bytes:
        return sound[:begin] + bytes((byte * 7 + 99) % 256 for byte in sound[begin:end]) + sound[end:]

    return damage


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "another file": lambda _: b"no database" * 1000,
    "cut off": lambda sound: sound[: len(sound) // 2],
    "emptied": lambda _: b"",
    "garbled header": _garbled(0, 4096),
    "garbled tables": _garbled(100, 4096),
    "garbled pages": _garbled(8192, 40960),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_database(tmp_path: Path, database: Path, damage: Callable[[bytes], bytes]) -> None:
    """It is refused each time it is opened, is nothing to try again, and opens in the same process once it is sound."""
    sound = database.read_bytes()
    database.write_bytes(damage(sound))
    for _ in range(2):
        with pytest.raises(StoreCorrupted, match="backup") as caught:
            opened(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert not caught.value.retryable
    database.write_bytes(sound)
    with opened(tmp_path) as memory:
        assert len(memory.get_all(user_id="alex")) == ROWS


def test_a_database_that_is_gone(tmp_path: Path, database: Path) -> None:
    """Where the vectors are there without it, no empty store takes its place."""
    database.unlink()
    with pytest.raises(StoreCorrupted, match="is there, and"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("told", "kind"),
    [("(code: 11) database disk image is malformed", StoreCorrupted), ("the disk is full", StoreError)],
)
def test_no_failure_of_an_embedded_engine_is_worth_a_try(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, told: str, kind: type[StoreError]
) -> None:
    """Its errors have HTTP codes, which say nothing of a server; damage that a verb comes upon is told as such."""
    from chromadb.errors import InternalError

    def fail(**_: Any) -> None:
        raise InternalError(told)

    assert database.exists()
    with opened(tmp_path) as memory:
        store: Any = memory._core.parts.store
        monkeypatch.setattr(store, "_rows", type("Rows", (), {"get": staticmethod(fail)}))
        with pytest.raises(StoreError) as caught:
            memory.get_all(user_id="alex")
    assert type(caught.value) is kind
    assert not caught.value.retryable
