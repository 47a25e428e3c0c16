"""What holds of a Chroma server's client alone."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from memstack import open_memory
from memstack.errors import StoreError

pytest.importorskip("chromadb")


def test_closing_closes_its_connections(tmp_path: Path) -> None:
    """No connection outlives `close`, with several memories open at once."""
    from memstack.testing.servers import chroma_server

    with chroma_server(tmp_path) as server:
        config = {"vector_store": {"provider": "chroma", **server}, "history": {"path": ":memory:"}}
        memories = [open_memory(config) for _ in range(3)]
        for memory in memories:
            memory.add("I drink tea", user_id="alex")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            while memories:
                memories.pop().close()
            gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


def test_closing_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """What chromadb keeps of a client goes with it, when it is closed and when it was refused."""
    from chromadb.api.shared_system_client import SharedSystemClient

    from memstack.testing.servers import chroma_server

    kept = vars(SharedSystemClient)["_identifier_to_system"]
    before = set(kept)
    with chroma_server(tmp_path) as server:
        section = {"provider": "chroma", **server}
        open_memory({"vector_store": section, "history": {"path": ":memory:"}}).close()
        assert set(kept) == before
        with pytest.raises(StoreError, match="no such tenant"):
            open_memory({"vector_store": {**section, "tenant": "nobody"}, "history": {"path": ":memory:"}})
        assert set(kept) == before
