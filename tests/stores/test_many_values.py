"""Filters with thousands of values on the embedded default, and searches for all there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memstack import F, MemoryGateway, open_memory
from memstack.filters.ast import In
from memstack.stores import edge_points
from memstack.stores.edge_points import Later
from memstack.stores.qdrant_edge import QdrantEdgeStore


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[MemoryGateway]:
    section = {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        items = [{"content": f"tea {n}", "metadata": {"n": n, "odd": n % 2}} for n in range(300)]
        assert len(memory.for_user("alex").add_many(items).stored) == 300
        memory.for_user("bo").add_many(items[:200])
        yield memory


def test_many_values_mean_what_few_do(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every place of a filter and by every verb, also where there are more points than are told at once."""
    monkeypatch.setattr(edge_points, "_PAGE", 7)
    alex = memory.for_user("alex")
    many = list(range(100, 5_000))
    isin, notin = set(range(100, 300)), set(range(100))
    for filters, expected in (
        ({"n": {"in": many}}, isin),
        ({"n": {"nin": many}}, notin),
        ({"NOT": [{"n": {"nin": many}}]}, isin),
        ({"AND": [{"odd": 1}, {"n": {"in": many}}]}, {n for n in isin if n % 2}),
        ({"OR": [{"odd": 1}, {"n": {"in": many}}]}, isin | {n for n in notin if n % 2}),
        ({"NOT": [{"odd": 1}, {"n": {"in": many}}]}, {n for n in notin if not n % 2}),
        ({"AND": [{"n": {"in": many}}, {"n": {"nin": many}}]}, set[int]()),
    ):
        for found in (
            alex.search("tea", filters=filters, limit=1000),
            alex.search("", filters=filters, limit=1000),
            alex.get_all(filters=filters, limit=1000),
            alex.iter_all(filters=filters, order="occurred_at"),
        ):
            assert {item.metadata["n"] for item in found} == expected, filters
    assert alex.delete_all(filters={"n": {"in": many}}) == 200
    assert len(alex.get_all(limit=1000)) == 100
    assert len(memory.for_user("bo").get_all(limit=1000)) == 200


def test_what_is_written_counts_at_once(memory: MemoryGateway) -> None:
    """What many values stand for is kept until the next write, and no longer."""
    alex = memory.for_user("alex")
    many = list(range(1_000, 2_000))

    def found() -> set[str]:
        return {item.text for item in alex.get_all(filters=F.n.in_(many))}

    assert found() == set()
    (tea,) = [item for item in alex.get_all(limit=1000) if item.metadata["n"] == 7]
    alex.update(tea.id, metadata={"n": 1_007})
    assert found() == {"tea 7"}
    alex.add("coffee", metadata={"n": 1_008}, infer=False)
    assert found() == {"tea 7", "coffee"}
    alex.update(tea.id, metadata={"n": 7})
    assert found() == {"coffee"}


def test_many_values_are_looked_up_once(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine, which looks at word by word for each point, gets ids; a search asks for them once."""
    asked = 0
    look_up: Callable[..., Any] = edge_points.points_having

    def counting(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return look_up(*args)

    monkeypatch.setattr("memstack.stores.edge_folder.points_having", counting)
    store = memory._core.parts.store
    assert isinstance(store.plan(In("n", tuple(range(101)))).native, Later)
    assert not isinstance(store.plan(In("n", tuple(range(100)))).native, Later)
    assert memory.for_user("alex").search("tea 7", filters={"n": {"in": list(range(5_000))}})
    assert asked == 1


def test_few_look_ups_are_kept(memory: MemoryGateway) -> None:
    """What many values stand for may be the ids of all points: that of the last few filters is kept, and no more."""
    store = memory._core.parts.store
    assert isinstance(store, QdrantEdgeStore)
    for start in range(9):
        assert store.count(In("n", tuple(range(start, start + 101)))) == 202
    assert 0 < len(store._shared.engine._having) <= 4


def test_all_there_is_is_compared(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for more than a few gets all that pass: a graph does not reach each of them."""
    asked: list[tuple[int, bool]] = []
    nearest = edge_points.nearest_to

    def noted(vector: Any, condition: Any, limit: int) -> Any:
        request = nearest(vector, condition, limit)
        asked.append((limit, request.params is not None and request.params.exact))
        return request

    monkeypatch.setattr("memstack.stores.qdrant_edge.nearest_to", noted)
    alex = memory.for_user("alex")
    assert len(alex.search("tea", limit=1000)) == 300
    store = memory._core.parts.store
    (vector,) = memory._core.parts.embedder.vectors(["tea"])
    assert store.nearest(vector, where=F.data.icontains("coffee"), limit=1) == []
    assert len(store.nearest(vector, limit=1)) == 1
    assert (2002, True) in asked
    assert (2, False) in asked  # the best few may come from the graph
    assert {limit for limit, exact in asked if exact} == {limit for limit, _ in asked if limit >= 64}
