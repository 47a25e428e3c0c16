"""The file of rows beside the embedded engine: what is told of them, and what a write that was interrupted leaves."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from memstack.errors import StoreCorrupted, StoreError
from memstack.filters.ast import Eq
from memstack.instants import iso, utcnow
from memstack.stores import rows as rows_module
from memstack.stores.base import Row
from memstack.stores.qdrant_edge import QdrantEdgeStore
from memstack.stores.rows import RowFile

VECTOR = (0.0, 1.0, 0.0)


def row(text: str) -> Row:
    """A row of somebody."""
    now = iso(utcnow())
    return Row(str(uuid4()), {"data": text, "user_id": "ada", "created_at": now, "updated_at": now}, VECTOR)


def opened(folder: Path) -> closing[QdrantEdgeStore]:
    """The store of a folder."""
    return closing(QdrantEdgeStore(folder, "memories", len(VECTOR)))


def beside(folder: Path) -> Path:
    """The file of rows."""
    return folder / "memories" / "rows.db"


def interrupted(folder: Path) -> None:
    """Make the note in the folder say that a write was under way when the process ended."""
    note = folder / "memories" / "rows"
    content = note.read_text(encoding="ascii")
    note.write_text(content.replace('"least": 2', '"least": 0').replace('"most": 2', '"most": 9'), encoding="ascii")


def test_what_is_put_is_told(tmp_path: Path) -> None:
    """Rows are told as they were put last, by any number of ids at once; those that are not there are left out."""
    with closing(RowFile(tmp_path / "rows.db")) as rows:
        many = [(str(number), f"{number:032x}", f"clue {number}", f"payload {number}") for number in range(1_234)]
        rows.put(many)
        rows.put([("7", f"{9:032x}", "another clue", "another payload")])
        rows.drop(["8", "nobody"])
        expected = {row_id: clue for row_id, _, clue, _ in many} | {"7": "another clue"}
        del expected["8"]
        assert rows.clues([row_id for row_id, *_ in many]) == expected
        assert rows.payloads(["7", "8", "9", "nobody"]) == {"7": "another payload", "9": "payload 9"}
        assert rows.ids() == set(expected)
        assert rows.equal([f"{7:032x}", f"{9:032x}"]) == {"7": "another payload", "9": "payload 9"}
        rows.drop(None)
        assert rows.ids() == set()


def test_a_transaction_that_raises(tmp_path: Path) -> None:
    """What was written in a block that raises is as it was before, also for the next one who opens the file."""
    with closing(RowFile(tmp_path / "rows.db")) as rows:
        rows.put([("1", "00", "clue", "payload")])
        with pytest.raises(RuntimeError), rows.transaction():  # noqa: PT012  # what is written before counts
            rows.put([("1", "01", "other", "other"), ("2", "01", "other", "other")])
            raise RuntimeError
        assert rows.clues(["1", "2"]) == {"1": "clue"}
    with closing(RowFile(tmp_path / "rows.db")) as rows:
        assert rows.clues(["1", "2"]) == {"1": "clue"}


@pytest.mark.parametrize("made", [0, 1, 2])
def test_making_that_was_interrupted(tmp_path: Path, made: int) -> None:
    """A file whose making ended before any of its steps is made whole by the next one who opens it."""
    statements = ["PRAGMA journal_mode = WAL", rows_module._SCHEMA]
    with closing(sqlite3.connect(tmp_path / "rows.db", isolation_level=None)) as connection:
        for statement in statements[:made]:
            connection.executescript(statement)
    with closing(RowFile(tmp_path / "rows.db")) as rows:
        rows.put([("1", "00", "clue", "payload")])
        assert rows.clues(["1"]) == {"1": "clue"}


def test_compacting(tmp_path: Path) -> None:
    """No byte of a row that was deleted is left in any file; the others are as they were."""
    with closing(RowFile(tmp_path / "rows.db")) as rows:
        rows.put([(str(number), "00", "clue", f"secret {number} of somebody " * 40) for number in range(300)])
        rows.put([("kept", "00", "clue", "what stays")])
        rows.drop(map(str, range(300)))
        rows.compact()
        for file in tmp_path.iterdir():
            assert b"of somebody" not in file.read_bytes(), file.name
        assert rows.payloads(["kept"]) == {"kept": "what stays"}


def lose_row(folder: Path, lost: str) -> None:
    """Take a row out of the file, and leave its point."""
    with closing(sqlite3.connect(beside(folder))) as connection, connection:
        connection.execute("DELETE FROM rows WHERE id = ?", (lost,))


def lose_point(folder: Path, lost: str) -> None:
    """Take a point out of the engine, and leave its row."""
    with closing(sqlite3.connect(beside(folder))) as connection:
        found = connection.execute("SELECT * FROM rows WHERE id = ?", (lost,)).fetchone()
        with opened(folder) as store:
            store.remove([lost])
        with connection:
            connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", found)


@pytest.mark.parametrize("lose", [lose_row, lose_point])
def test_a_write_that_was_interrupted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lose: Callable[[Path, str], None]
) -> None:
    """What it has left in the engine or in the file alone is deleted when the folder is opened; the rest stays."""
    rows = [row("one"), row("two"), row("three")]
    with opened(tmp_path) as store:
        store.upsert(rows)
        if lose is lose_row:
            store.remove([rows[2].id])
    doomed = rows[1] if lose is lose_row else rows[2]
    lose(tmp_path, doomed.id)
    interrupted(tmp_path)
    staying = {item.id for item in rows[:2]} - {doomed.id}
    with caplog.at_level(logging.WARNING), opened(tmp_path) as store:
        assert {item.id for item in store.fetch([item.id for item in rows])} == staying
        assert {item.id for item in store.scan()} == staying
        assert store.count() == len(staying)
    assert "interrupted" in caplog.text
    assert "one" not in caplog.text.split()


def test_a_row_that_is_lost(tmp_path: Path) -> None:
    """A point whose row is gone is never passed over in silence, and the folder is refused when it is opened again."""
    rows = [row("one"), row("two")]
    with opened(tmp_path) as store:
        store.upsert(rows)
        lose_row(tmp_path, rows[0].id)
        for call in (
            lambda: store.nearest(VECTOR, limit=5),
            lambda: store.leads(VECTOR, limit=5),
            lambda: store.scan(where=Eq("user_id", "ada")),
            lambda: store.fetch([item.id for item in rows]),
        ):
            with pytest.raises(StoreError, match="lost their texts"):
                call()
        assert [item.id for item in store.fetch([rows[1].id, str(uuid4())])] == [rows[1].id]
    with pytest.raises(StoreCorrupted, match="the texts of 1 rows are there, and 2 were stored") as caught:
        QdrantEdgeStore(tmp_path, "memories", len(VECTOR))
    assert f"delete {tmp_path / 'memories' / 'rows'}" in str(caught.value)
    (tmp_path / "memories" / "rows").unlink()  # the way out
    with opened(tmp_path) as store:
        assert [item.id for item in store.scan()] == [rows[1].id]


def empty(file: Path) -> None:
    """A file of no bytes."""
    file.write_bytes(b"")


def another(file: Path) -> None:
    """A sound file of rows, without rows."""
    file.unlink()
    RowFile(file).close()


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("lose", [empty, another])
def test_a_file_that_has_lost_all_rows(tmp_path: Path, lose: Callable[[Path], None], noted: bool) -> None:
    """It is refused when the folder is opened, also where the note is gone; nothing of the engine is deleted."""
    rows = [row("one"), row("two")]
    with opened(tmp_path) as store:
        store.upsert(rows)
    sound = beside(tmp_path).read_bytes()
    note = tmp_path / "memories" / "rows"
    kept = note.read_bytes()
    if not noted:
        note.unlink()
    for _ in range(2):
        lose(beside(tmp_path))
        with pytest.raises(StoreCorrupted):
            QdrantEdgeStore(tmp_path, "memories", len(VECTOR))
    note.write_bytes(kept)
    beside(tmp_path).write_bytes(sound)
    with opened(tmp_path) as store:
        assert {item.id for item in store.scan()} == {item.id for item in rows}


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.DatabaseError("database disk image is malformed"),
        Exception("Service runtime error: vector 0 is not readable from /x/vector_storage/vectors"),
    ],
)
def test_damage_that_shows_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Damage that a verb comes upon is an error of its own kind, with the way out, and nothing to be tried again."""

    def fail(*_: object) -> None:
        raise error

    with opened(tmp_path) as store:
        store.upsert([row("one")])
        monkeypatch.setattr(RowFile, "payloads", fail)
        with pytest.raises(StoreCorrupted, match="backup") as caught:
            store.scan()
    assert not caught.value.retryable


def test_a_file_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    """Each verb says so and names the way out, or answers rightly: pages of SQLite are read when they are needed."""
    rows = [row(f"number {number}") for number in range(400)]
    with opened(tmp_path) as store:
        store.upsert(rows)
    with beside(tmp_path).open("r+b") as file:
        size = file.seek(0, 2)
        for place in range(8 * 4096, size, 4096):
            file.seek(place)
            file.write(b"\xff" * 4096)
    try:
        store = QdrantEdgeStore(tmp_path, "memories", len(VECTOR))
    except StoreCorrupted:
        return
    with closing(store), pytest.raises(StoreCorrupted, match="backup"):
        store.fetch([item.id for item in rows])


def test_the_row_that_was_written_last_is_lost(tmp_path: Path) -> None:
    """A file of rows with what was there before the last write is refused when the folder is opened after a crash."""
    last = row("two")
    with opened(tmp_path) as store:
        store.upsert([row("one"), last])
        note = (tmp_path / "memories" / "rows").read_bytes()
    (tmp_path / "memories" / "rows").write_bytes(note)  # it says that the folder is in use
    with closing(sqlite3.connect(beside(tmp_path))) as connection, connection:
        connection.execute("UPDATE rows SET payload = '{}' WHERE id = ?", (last.id,))
    with pytest.raises(StoreCorrupted, match="written last"):
        QdrantEdgeStore(tmp_path, "memories", len(VECTOR))


def test_deleting_under_readers(tmp_path: Path) -> None:
    """Who lists while others delete is told of what is there: no error, and nothing twice."""
    rows = [row(f"number {number}") for number in range(600)]
    failures: list[BaseException] = []
    with opened(tmp_path) as store:
        store.upsert(rows)
        kept = {item.id for item in rows[500:]}

        def read() -> None:
            try:
                while store.count() > len(kept):
                    for found in (store.scan(limit=700), [hit.row for hit in store.nearest(VECTOR, limit=700)]):
                        ids = [item.id for item in found]
                        assert len(set(ids)) == len(ids)
                        assert kept <= set(ids)
            except BaseException as error:  # noqa: BLE001  # told to the test
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for begin in range(0, 500, 10):
            store.remove([item.id for item in rows[begin : begin + 10]])
        for thread in threads:
            thread.join()
    assert not failures, failures


def test_a_write_that_the_engine_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the rows as they were, and the next write and the next opening find the right number of them."""
    first, second = row("one"), row("two")
    with opened(tmp_path) as store:
        store.upsert([first])
        with monkeypatch.context() as patched:
            patched.setattr("memstack.stores.tally.Tally.after", lambda *_, **__: 1 / 0)  # the engine has written
            with pytest.raises(StoreError):
                store.upsert([second])
        assert store.count() == 2
        store.upsert([row("three")])
        wrong = Row(str(uuid4()), {"data": "four", "user_id": "ada"}, (0.0,) * 7)
        with pytest.raises(StoreError, match="dimensions"):
            store.upsert([wrong])
        assert store.fetch([wrong.id]) == []
    with opened(tmp_path) as store:
        assert sorted(item.payload["data"] for item in store.scan()) == ["one", "three", "two"]
