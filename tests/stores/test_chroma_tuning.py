"""Chroma's SQLite begins a search with the rows that fit, in new folders, in older ones and in a server's."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import F, MemoryGateway, open_memory
from memstack.stores import chroma_tuning
from memstack.testing.servers import chroma_server

pytest.importorskip("chromadb")

TUNE: Final = [sys.executable, "-W", "error", "-m", "memstack.stores.chroma_tuning"]
# What Chroma asks for the rows of a user and a category (`SqliteMetadataReader::get` in its sources).
ASKED: Final = """
SELECT id, embedding_id FROM (
    SELECT DISTINCT embeddings.id, embeddings.embedding_id FROM embeddings
    WHERE embeddings.segment_id = ? AND ?
    AND embeddings.id IN (
        SELECT id FROM embedding_metadata WHERE key = ? AND key IS NOT NULL AND string_value IN (?)
    )
    AND embeddings.id IN (
        SELECT id FROM embedding_metadata_array WHERE key = ? AND key IS NOT NULL AND string_value = ?
    )
    ORDER BY embeddings.id ASC LIMIT ? OFFSET ?
)
"""
# As Chroma makes them (its migrations 00004 and 00006).
CHROMAS_OWN: Final = tuple(
    f"CREATE INDEX {name} ON {table} (key, {kind}_value) WHERE {kind}_value IS NOT NULL"
    for name, table, kind in (
        ("embedding_metadata_int_value", "embedding_metadata", "int"),
        ("embedding_metadata_string_value", "embedding_metadata", "string"),
        ("embedding_metadata_array_key_string", "embedding_metadata_array", "string"),
    )
)


def config(folder: Path) -> Mapping[str, Any]:
    """An embedded store in a folder."""
    return {
        "vector_store": {"provider": "chroma", "mode": "embedded", "path": str(folder)},
        "history": {"path": str(folder / "history.db")},
    }


def on_server(options: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """A store on a server."""
    return {"vector_store": {"provider": "chroma", **options}, "history": {"path": str(folder / "history.db")}}


def fill(memory: MemoryGateway) -> None:
    """Memories of several users, in two categories."""
    for user in ("alex", "bo", "caro"):
        items = [{"content": f"{user} drinks tea {i}", "metadata": {"category": "ab"[i % 2]}} for i in range(20)]
        memory.add_many(items, user_id=user)


def answers(memory: MemoryGateway) -> list[Any]:
    """What some questions are answered with."""
    found: list[Any] = []
    for filters in (None, {"category": "a"}, {"category": {"ne": "a"}}, F.category.in_(["a", "c"])):
        found.append([(hit.id, round(hit.score, 6)) for hit in memory.search("tea 7", user_id="bo", filters=filters)])
        found.append([item.id for item in memory.iter_all(user_id="bo", filters=filters)])
    return found


def plan(database: Path) -> str:
    """How SQLite answers what Chroma asks."""
    with closing(sqlite3.connect(database)) as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {ASKED}", ("s", 1, "user_id", "bo", "terms", "t", 10, 0))
        return "\n".join(step[3] for step in steps)


def is_tuned(database: Path) -> bool:
    """Whether it begins with the user's rows, and looks up entries in the indexes alone."""
    told = plan(database)
    return "embeddings USING INTEGER PRIMARY KEY (rowid=?)" in told and told.count("USING COVERING INDEX") == 2


def as_chroma_leaves_it(database: Path) -> None:
    """Take the tuning back."""
    with closing(sqlite3.connect(database)) as connection:
        for create in CHROMAS_OWN:
            connection.execute(f"DROP INDEX {create.split()[2]}")
            connection.execute(create)
        connection.execute("DROP TABLE sqlite_stat1")
        connection.commit()
    assert not is_tuned(database)


def test_a_new_folder(tmp_path: Path) -> None:
    """From the first memory on, a search begins with the rows of its scope."""
    with open_memory(config(tmp_path)) as memory:
        fill(memory)
    (database,) = tmp_path.rglob("chroma.sqlite3")
    assert is_tuned(database)


def test_an_older_folder(tmp_path: Path) -> None:
    """A folder of before answers as it did, is tuned when it is opened, and takes in more."""
    with open_memory(config(tmp_path)) as memory:
        fill(memory)
        before = answers(memory)
    (database,) = tmp_path.rglob("chroma.sqlite3")
    as_chroma_leaves_it(database)
    with open_memory(config(tmp_path)) as memory:
        assert answers(memory) == before
        memory.add("bo drinks coffee", user_id="bo")
    assert is_tuned(database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with open_memory(config(tmp_path)) as memory:
        assert memory.search("coffee", user_id="bo")[0].text == "bo drinks coffee"


def test_the_queue_of_writes_is_kept_short(tmp_path: Path) -> None:
    """Each write reads the whole queue anew: what is left in it is little, and nothing is lost by that."""
    with open_memory(config(tmp_path)) as memory:
        for i in range(15):
            memory.add_many([f"coffee {i} {j}" for j in range(10)], user_id="bo")
        assert len(memory.search("coffee", user_id="bo", limit=200)) == 150
    (database,) = tmp_path.rglob("chroma.sqlite3")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM embeddings_queue").fetchone()[0] <= 110
    with open_memory(config(tmp_path)) as memory:
        assert len(memory.search("coffee", user_id="bo", limit=200)) == 150


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    """A folder that is tuned is not written to."""
    with open_memory(config(tmp_path)) as memory:
        memory.add("tea", user_id="bo")
    (database,) = tmp_path.rglob("chroma.sqlite3")
    before = (database.read_bytes(), database.stat().st_mtime_ns)
    assert chroma_tuning.tune(database.parent)
    assert (database.read_bytes(), database.stat().st_mtime_ns) == before


def test_half_of_it_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it fails on its way, the database is what it was."""
    with open_memory(config(tmp_path)) as memory:
        fill(memory)
    (database,) = tmp_path.rglob("chroma.sqlite3")
    as_chroma_leaves_it(database)
    broken = {**chroma_tuning._INDEXES, "embedding_metadata_array_key_string": "CREATE INDEX broken ON nowhere (x)"}
    with monkeypatch.context() as patched:
        patched.setattr(chroma_tuning, "_INDEXES", broken)
        with pytest.raises(sqlite3.OperationalError):
            chroma_tuning.tune(database.parent)
    with closing(sqlite3.connect(database)) as connection:
        made = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index'")}
    assert set(CHROMAS_OWN) <= made
    assert not is_tuned(database)


def test_a_database_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers as it did, and a warning says what takes longer."""
    with open_memory(config(tmp_path)) as memory:
        fill(memory)
        before = answers(memory)
    (database,) = tmp_path.rglob("chroma.sqlite3")
    as_chroma_leaves_it(database)

    def full(_: Path) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(chroma_tuning, "tune", full)
    with caplog.at_level(logging.WARNING), open_memory(config(tmp_path)) as memory:
        assert answers(memory) == before
    assert any("searches take longer" in record.getMessage() for record in caplog.records)


def test_a_server(tmp_path: Path) -> None:
    """The folder of a server is tuned by the command that docs/stores.md names, and the server answers as before."""
    folder = tmp_path / "server"
    with chroma_server(folder) as options, open_memory(on_server(options, tmp_path)) as memory:
        fill(memory)
        before = answers(memory)
    assert not is_tuned(folder / "chroma.sqlite3")
    done = subprocess.run([*TUNE, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert is_tuned(folder / "chroma.sqlite3")
    with chroma_server(folder) as options, open_memory(on_server(options, tmp_path)) as memory:
        assert answers(memory) == before


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    """Where there is no database of Chroma's, it says so, and leaves nothing behind."""
    done = subprocess.run([*TUNE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"there is no chroma.sqlite3 of Chroma's in {tmp_path}\n")
    assert list(tmp_path.iterdir()) == []
