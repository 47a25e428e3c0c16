"""What Qdrant is asked for where a number or an instant is to be equal to another."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from memstack import open_memory
from memstack.filters.ast import Compare, Eq
from memstack.stores.edge_points import Words
from memstack.stores.qdrant_common import QdrantCompiler
from memstack.stores.qdrant_edge import QdrantEdgeStore

_NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class _Noting(Words):
    """Notes which bounds each range has."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []

    def between(self, key: str, **bounds: float) -> object:
        self.asked.append(frozenset(bounds))
        return super().between(key, **bounds)


def test_equality_is_one_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range from a value to the same value is narrow: as two half-open ones, the engine walks half of all rows."""
    words = _Noting()
    compiler = QdrantCompiler(words)
    compiler.plan(Eq("created_at", _NOON))
    assert words.asked == [{"gte", "lte"}]
    words.asked.clear()
    compiler.plan(Compare("n", "gte", 7))
    assert words.asked == [{"gte"}, {"gte", "lte"}, {"gt"}]

    monkeypatch.setattr(QdrantEdgeStore, "words", words)
    section = {"provider": "qdrant", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        alex = memory.for_user("alex")
        alex.add_many([f"tea {number}" for number in range(7)])
        page = alex.get_all(limit=2)
        words.asked.clear()
        assert len(alex.get_all(limit=2, cursor=page.next_cursor)) == 2
    assert words.asked.count(frozenset({"gte", "lte"})) == 2  # what ties with the first, and with the last
    assert not {frozenset({"gte"}), frozenset({"lte"})} <= set(words.asked)
