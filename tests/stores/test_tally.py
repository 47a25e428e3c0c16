"""The note of what a folder must hold: compared when it is opened, and on the disk when that matters."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memstack.errors import StoreCorrupted
from memstack.stores import tally
from memstack.stores.tally import Tally


@dataclass
class Engine:
    """An engine with so many rows, so many texts, and one row that was written last."""

    points: int
    told: int
    last: str | None = None

    def rows(self) -> int:
        return self.points

    def texts(self) -> int:
        return self.told

    def digest(self, row_id: str) -> str | None:
        return self.last if row_id == "1" else None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows"


def test_what_is_noted_is_compared(file: Path) -> None:
    """Rows, texts, and what was written last: where one of them is another, the folder is refused."""
    Tally(file, "here").after(2, "1", "written")
    note = Tally(file, "here")
    assert not note.check(Engine(2, 2, "written"))
    assert note.in_use  # who closes it says so, whether more was written or not
    for other in (Engine(1, 2, "written"), Engine(2, 3, "written"), Engine(2, 2, "older"), Engine(2, 2)):
        with pytest.raises(StoreCorrupted, match=str(file)):
            Tally(file, "here").check(other)


def test_a_write_that_was_under_way(file: Path) -> None:
    """It may be there or not, and is told to be there in part, perhaps; nothing beyond it is taken."""
    Tally(file, "here").before(5, added=2, removed=1)
    for count in (4, 5, 7):
        assert Tally(file, "here").check(Engine(count, count))
    for count in (3, 8):
        with pytest.raises(StoreCorrupted, match="4 to 7 were stored"):
            Tally(file, "here").check(Engine(count, count))


def test_a_machine_that_stopped(file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What was not closed before the machine stopped is not compared, and a warning says so; what was closed is."""
    Tally(file, "here").after(2, "1", "written")
    monkeypatch.setattr(tally, "_boot", lambda: "another run")
    assert Tally(file, "here").check(Engine(1, 1))
    assert "the machine stopped" in caplog.text
    Tally(file, "here").close(2)
    assert not Tally(file, "here").check(Engine(2, 2))
    with pytest.raises(StoreCorrupted):
        Tally(file, "here").check(Engine(1, 1))


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="this system does not tell")
def test_a_system_that_tells_its_runs_apart() -> None:
    """Linux and macOS tell that the machine has stopped since, and this run of it has one name."""
    tally._boot.cache_clear()
    first = tally._boot()
    tally._boot.cache_clear()
    assert len(first) == 36
    assert tally._boot() == first


def test_a_mac_that_stopped(file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What the call of macOS tells decides, as the file of Linux does; without the call, each run is the same."""

    def sysctl(name: bytes, found: Any, size: Any, new: None, length: object) -> int:
        assert name == b"kern.bootsessionuuid"
        found.value = runs[-1]
        return 0

    @contextmanager
    def mac(library: object) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", "darwin")
            patch.setattr(ctypes, "CDLL", lambda _: library)
            tally._boot.cache_clear()
            yield
        tally._boot.cache_clear()

    runs = [b"5A3C1F0E-0000-4000-8000-000000000001"]
    library = SimpleNamespace(sysctlbyname=sysctl)
    with mac(library):
        Tally(file, "here").after(2)
        assert not Tally(file, "here").check(Engine(2, 2))
    runs.append(b"5A3C1F0E-0000-4000-8000-000000000002")
    with mac(library):
        assert Tally(file, "here").check(Engine(1, 1))
    assert "the machine stopped" in caplog.text
    with mac(object()):
        Tally(file, "here").after(2)
        assert not Tally(file, "here").check(Engine(2, 2))


def test_when_it_is_on_the_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made durable with the first write after an opening and with the closing, and costs nothing in between."""
    Tally(file, "here").close(0)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    note = Tally(file, "here")
    assert not note.check(Engine(0, 0))
    counts = []
    steps: list[Callable[[], None]] = [
        lambda: note.before(0, added=1),
        lambda: note.after(1),
        lambda: note.after(2),
        lambda: note.close(2),
    ]
    for step in steps:
        step()
        counts.append((len(synced), note.in_use))
    assert counts == [(1, True), (1, True), (1, True), (2, False)]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", '{"least": 1}', '{"least": 1, "most": 1, "closed": true, "boot": "", "more": 1}', "\u00fc"],
)
def test_what_is_no_note(file: Path, content: str) -> None:
    """What somebody else wrote there is damage, with the way out; without a file there is nothing to compare."""
    assert not Tally(file, "here").check(Engine(3, 3))
    file.write_text(content, encoding="utf-8")
    with pytest.raises(StoreCorrupted, match=f"delete {file}"):
        Tally(file, "here").check(Engine(3, 3))
    fields = {"least": "1", "most": 1, "closed": True, "boot": "", "last": None, "digest": None}
    file.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(StoreCorrupted, match="is no note"):
        Tally(file, "here").check(Engine(1, 1))
