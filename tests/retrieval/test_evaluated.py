"""Filters that memstack evaluates on rows, in a ranked search."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from memstack import open_memory
from memstack.filters import F
from memstack.filters.ast import And, IContains, In, all_of
from memstack.retrieval import candidates
from memstack.stores.base import holds


@pytest.mark.parametrize("most", [10_000, 10])
def test_a_search_reads_the_rows_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """What passes is found in one reading of the rows, and the answer is that of many readings."""
    monkeypatch.setattr(candidates, "_MOST_IDS", most)
    monkeypatch.setattr(candidates, "_WHOLE", 2)
    section = {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "retrieval": {"candidates": 16}}) as memory:
        alex = memory.for_user("alex")
        items: list[Any] = [
            {"content": f"tea number {n}", "run_id": f"run {n % 7}", "metadata": {"kind": f"Kind {n % 5}"}}
            for n in range(200)
        ]
        alex.add_many(items)
        memory.for_user("bo").add_many(items)
        evaluated = Mock(side_effect=holds)
        monkeypatch.setattr("memstack.stores.base.holds", evaluated)
        hits = alex.search("which tea was number 12?", filters={"kind": {"icontains": "KIND 2"}}, limit=40)
        assert evaluated.call_count <= 200 or most < 40
        assert {hit.text for hit in hits} == {f"tea number {n}" for n in range(2, 200, 5)}
        for limit in (40, 12):  # more than are drawn as candidates, and fewer
            found, exact = (
                alex.search("which tea was number 12?", filters={"kind": kind}, limit=limit)
                for kind in ({"icontains": "KIND 2"}, "Kind 2")
            )
            assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in exact]
        assert hits[0].text == "tea number 12"


def test_what_very_many_pass_stays_a_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many ids as an engine takes in a request are named; of more, the filter is left as it is."""
    with open_memory({"vector_store": {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}}) as memory:
        memory.for_user("alex").add_many([f"green tea {n}" for n in range(20)])
        store, where = memory._core.parts.store, IContains("data", "TEA")
        ids = tuple(sorted(row.id for row in store.scan()))
        monkeypatch.setattr(candidates, "_MOST_IDS", 20)
        found = candidates.evaluated(store, where)
        assert isinstance(found, In)
        assert tuple(sorted(map(str, found.values))) == ids
        monkeypatch.setattr(candidates, "_MOST_IDS", 19)
        assert candidates.evaluated(store, where) is where


def test_what_the_engine_answers_stays_a_condition(tmp_path: Path) -> None:
    """Beside the ids, the parts that an engine answers are asked for, the owner before all; nothing else is read."""
    with open_memory({"vector_store": {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}}) as memory:
        memory.for_user("alex").add_many(["green tea", "black coffee"])
        store, owner = memory._core.parts.store, F.user_id == "alex"
        assert candidates.evaluated(store, owner) is owner
        found = candidates.evaluated(store, all_of(owner, IContains("data", "TEA")))
        (row,) = store.scan(where=found)
        assert isinstance(found, And)
        assert set(found.children) == {owner, In("id", (row.id,))}


def test_what_no_longer_passes_is_no_hit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory that is changed while a search is under way is told only where the filter holds for it still."""
    section = {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section}) as memory:
        alex = memory.for_user("alex")
        (one, other) = alex.add_many(
            [{"content": f"{kind} tea", "metadata": {"kind": kind}} for kind in ("green", "Green")]
        ).stored
        scored = candidates.scored

        def late(*args: Any, **options: Any) -> Any:
            alex.update(one.id, metadata={"kind": "black"})
            return scored(*args, **options)

        monkeypatch.setattr(candidates, "scored", late)
        assert [hit.id for hit in alex.search("tea", filters={"kind": {"icontains": "GREEN"}})] == [other.id]
