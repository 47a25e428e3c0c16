"""What a collection may be called, and how it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from tests.stores.test_one_place import at

NAMES = {
    "qdrant": ["m", "my.memories", "_m-", "9", "..a", "collection", "a" * 240],
    "chroma": ["my.memories", "9lives", "a" * 503],
    "pgvector": ["m", "my.memories", "_m-", "9", "..a", "pg_catalog.x", "a" * 48],
}


@pytest.mark.parametrize(("engine", "name"), [(engine, name) for engine, names in NAMES.items() for name in names])
def test_names_that_an_engine_takes(
    engine: str, name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Memories and Mem0's entities can be kept under the shortest, longest and strangest names that are allowed."""
    shared = tmp_path_factory.getbasetemp() / "postgres"  # to start one takes its time
    section = at(engine, shared if engine == "pgvector" else tmp_path / "memory", name)
    config = {"vector_store": section, "history": {"path": str(tmp_path / "h.db")}}
    with open_memory(config) as memory:
        (stored,) = memory.add("I drink tea", user_id="alex").stored
        store = memory._core.parts.store
        entities = store.sibling("entities")
        entities.upsert(store.fetch([stored.id], vectors=True))
        assert store.has_sibling("entities")
        entities.close()
    with open_memory(config) as memory:
        assert [hit.id for hit in memory.search("tea", user_id="alex")] == [stored.id]
        memory.reset()
        assert memory.stats()["vector_store"]["rows"] == 0


@pytest.mark.parametrize("given", [False, True])
def test_vectors_on_the_disk_of_a_qdrant_server(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection, and the one beside it, is made with its vectors on disk where that is asked for."""
    qdrant = pytest.importorskip("qdrant_client")
    from memstack.stores.qdrant_server import QdrantServerStore

    client = qdrant.QdrantClient(":memory:")
    made: dict[str, Any] = {}
    real = client.create_collection

    def create(name: str, **how: Any) -> None:
        made[name] = how["vectors_config"].on_disk
        real(name, **how)

    monkeypatch.setattr(client, "create_collection", create)
    monkeypatch.setattr(client, "create_payload_index", lambda *_, **__: None)  # it warns that it has none
    QdrantServerStore(client, "qdrant", "mine", 4, on_disk=given).sibling("entities")
    assert made == dict.fromkeys(("mine", "mine_entities"), given or None)
    client.close()
