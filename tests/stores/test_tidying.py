"""The embedded store reorganises itself as it grows: seldom enough, and without a change in what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstack import open_memory
from memstack.stores import qdrant_edge
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
