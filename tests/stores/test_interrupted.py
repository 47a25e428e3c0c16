"""Ctrl-C in the middle of a write, at the worst moments: the memory goes on, and keeps nobody out."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import MemoryGateway
from memstack.history import SqliteHistory
from memstack.stores.rows import RowFile
from memstack.testing.contract.state import assert_agreement, parts_of
from tests.stores.test_edge_folder import open_at

WRITES: Final[dict[str, Callable[[MemoryGateway, str], object]]] = {
    "add": lambda memory, _: memory.add("a new fact", user_id="alex"),
    "update": lambda memory, id_: memory.update(id_, text="changed"),
    "delete": lambda memory, id_: memory.delete(id_),
    "delete_all": lambda memory, _: memory.delete_all(user_id="alex"),
}


class Interrupted:
    """A connection to SQLite: Ctrl-C is pressed while its n-th statement runs, and heard once that is done."""

    def __init__(self, real: sqlite3.Connection, statement: int) -> None:
        self._real = real
        self.left = statement

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        done = self._real.execute(statement, *values)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize("file", ["history", "rows"])
@pytest.mark.parametrize("verb", WRITES)
def test_ctrl_c_in_any_statement(tmp_path: Path, verb: str, file: str) -> None:
    """Whichever statement of a write Ctrl-C comes in: others can write, the next write works, and waits for others."""
    with open_at(tmp_path / "store") as memory:
        parts: Any = parts_of(memory)
        owner = parts.history if file == "history" else parts.store._shared.engine.told
        real: sqlite3.Connection = owner._connection
        statement = 0
        while True:
            statement += 1
            (stored,) = memory.add(f"fact {statement}", user_id="alex").stored
            owner._connection = interrupted = Interrupted(real, statement)
            try:
                WRITES[verb](memory, stored.id)
            except KeyboardInterrupt:
                pass
            finally:
                owner._connection = real
            assert not real.in_transaction
            if file == "history":
                patience = real.execute("PRAGMA busy_timeout").fetchone()
                assert patience == (30_000,)
                with sqlite3.connect(parts.history.path, timeout=0, isolation_level=None) as other:
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("ROLLBACK")
                other.close()
            memory.delete_all(user_id="alex")
            assert_agreement(memory)
            if interrupted.left > 0:
                break
        assert statement > (5 if file == "history" else 2)


def test_ctrl_c_while_a_history_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history whose opening was interrupted keeps nobody out, whoever still looks at the traceback."""
    path = tmp_path / "history.db"
    connect = sqlite3.connect

    def interrupted(*args: Any, **options: Any) -> Any:
        return Interrupted(connect(*args, **options), 2)  # the tables are being made

    monkeypatch.setattr(sqlite3, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        SqliteHistory(path, "memories")
    monkeypatch.undo()
    other = connect(path, timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.close()
    assert caught.traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt, sqlite3.OperationalError("disk I/O error")])
def test_a_close_that_fails_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException]
) -> None:
    """A folder whose close was interrupted, or failed, can be opened again, and holds what it held."""
    memory = open_at(tmp_path)
    memory.add("tea", user_id="alex")
    close = RowFile.close

    def failing(self: RowFile) -> None:
        close(self)
        raise error

    monkeypatch.setattr(RowFile, "close", failing)
    with pytest.raises(BaseException, match=r"disk I/O|^$"):
        memory.close()
    monkeypatch.undo()
    with open_at(tmp_path) as again:
        assert [stored.text for stored in again.iter_all(user_id="alex")] == ["tea"]


def test_ctrl_c_while_a_folder_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So can one whose opening was interrupted while what a dead process left was removed."""
    with open_at(tmp_path) as memory:
        memory.add("tea", user_id="alex")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        open_at(tmp_path)
    monkeypatch.undo()
    with open_at(tmp_path) as again:
        assert [stored.text for stored in again.iter_all(user_id="alex")] == ["tea"]
    assert caught.traceback
