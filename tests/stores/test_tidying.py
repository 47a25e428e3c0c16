"""The embedded store reorganises itself as it grows: seldom enough, and without a change in what it answers."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from memstack import open_memory
from memstack.instants import utcnow
from memstack.payload import build
from memstack.scope import Scope
from memstack.stores import qdrant_edge
from memstack.stores.base import Row
from memstack.stores.qdrant_edge import QdrantEdgeStore


def test_a_growing_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reorganisations come after a tenth more, within bounds; segments stay few, and every memory is found."""
    monkeypatch.setattr(qdrant_edge, "_TIDY_AFTER", range(20, 50))
    at: list[int] = []
    tidy = QdrantEdgeStore.tidy

    def noted(store: QdrantEdgeStore) -> None:
        at.append(store.count())
        tidy(store)

    monkeypatch.setattr(QdrantEdgeStore, "tidy", noted)
    texts = [f"number {number}" for number in range(800)]
    with open_memory(
        {"vector_store": {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path / "store")}}
    ) as memory:
        memory.add_many(texts, user_id="ada", batch_size=10)
        assert memory.stats()["vector_store"]["segments"] <= 4
        assert {found.text for found in memory.iter_all(user_id="ada")} == set(texts)
        for number in (0, 399, 799):
            assert memory.search(f"number {number}", user_id="ada", limit=1)[0].text == f"number {number}"
    steps = [later - earlier for earlier, later in zip([0, *at], at, strict=False)]
    assert set(steps[: 200 // 20]) == {20}  # a tenth of what is there is less
    assert steps == sorted(steps)
    assert steps[-1] == 50


def test_a_store_that_is_opened_for_a_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is counted beyond the end of the process: else what is deleted would be kept for ever."""
    monkeypatch.setattr(qdrant_edge, "_TIDY_AFTER", range(20, 50))
    times = 0
    tidy = QdrantEdgeStore.tidy

    def noted(store: QdrantEdgeStore) -> None:
        nonlocal times
        times += 1
        tidy(store)

    monkeypatch.setattr(QdrantEdgeStore, "tidy", noted)
    for number in range(30):
        with open_memory({"vector_store": {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}}) as memory:
            memory.delete_all(user_id="ada")
            memory.add_many([f"{number} and {other}" for other in range(4)], user_id="ada")
    assert times == 30 * 4 // 20


def test_a_disk_without_room_to_reorganise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for it, the engine's log is cut all the same: it would grow for ever."""
    dimensions = 8_192  # a vector takes as much of the log as thirty common memories
    monkeypatch.setattr(qdrant_edge, "_TIDY_AFTER", range(500, 501))
    monkeypatch.setattr(qdrant_edge, "free_bytes", lambda *_: 0)
    store = QdrantEdgeStore(tmp_path, "rows", dimensions)
    vector = [1.0 + number / dimensions for number in range(dimensions)]
    now = utcnow()
    payload = build(text="tea", scope=Scope("ada"), metadata={}, created_at=now, updated_at=now, occurred_at=now)
    try:
        for _ in range(100):
            store.upsert([Row(str(uuid.UUID(int=number)), payload, vector) for number in range(50)])
            logs = [file.stat().st_size for file in (tmp_path / "rows" / "shard" / "wal").iterdir()]
            assert sum(logs) <= 5.5 * 32 * 2**20  # so large is each; all of them would be nine
    finally:
        store.close()
