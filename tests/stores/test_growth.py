"""What a process keeps is what it has open: opening and closing leave nothing behind."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from memstack import open_memory

pytest.importorskip("psycopg")

from pgvector.psycopg.vector import VectorDumper


def _kinds(kind: type[object]) -> int:
    """How many classes are made of one."""
    below = kind.__subclasses__()
    return len(below) + sum(map(_kinds, below))


def test_connections_share_their_classes(tmp_path: Path) -> None:
    """Psycopg keeps each class that it is given: they must not be made anew for every connection."""
    config = {"vector_store": {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path / "store")}}
    with open_memory(config) as memory:
        memory.add("tea is nice", user_id="ada")
        gc.collect()
        before = _kinds(VectorDumper)
        for _ in range(3):
            with open_memory(config) as other:
                assert [hit.text for hit in other.search("tea", user_id="ada")] == ["tea is nice"]
                other.add("so is coffee", user_id="bob")
        gc.collect()
        assert _kinds(VectorDumper) == before
