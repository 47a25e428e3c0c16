"""Rows of Chroma under a size of batches, ties and deletions that its answers must not depend on."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memstack.config import ChromaEmbedded
from memstack.errors import StoreCorrupted, StoreError
from memstack.payload import build
from memstack.scope import Scope
from memstack.stores.base import Row

if TYPE_CHECKING:
    from memstack.stores.chroma_embedded import ChromaEmbeddedStore

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChromaEmbeddedStore]:
    pytest.importorskip("chromadb")
    from memstack.stores.chroma_embedded import ChromaEmbeddedStore

    store = ChromaEmbeddedStore.open(ChromaEmbedded(path=tmp_path), dimensions=2)
    yield store
    store.close()


def a_row(number: int, at: datetime = START, vector: Sequence[float] = (1.0, 0.5)) -> Row:
    payload = build(
        text=f"row {number}", scope=Scope("alex"), metadata={}, created_at=at, updated_at=at, occurred_at=at
    )
    return Row(str(uuid.UUID(int=number)), payload, vector)


def test_nothing_of_a_bad_call_is_written(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector of another length is refused before the first batch is written, in whichever batch it is."""
    monkeypatch.setattr("memstack.stores.chroma._BATCH", 2)
    with pytest.raises(StoreError, match="dimensions"):
        store.upsert([*map(a_row, range(1, 5)), a_row(5, vector=(1.0,))])
    assert store.count() == 0


def test_clearing_more_than_a_batch(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are deleted, however many batches they are."""
    monkeypatch.setattr("memstack.stores.chroma._BATCH", 2)
    store.upsert([*map(a_row, range(1, 6))])
    store.clear()
    assert store.count() == 0


def test_a_database_that_is_gone_when_it_is_opened_anew(store: ChromaEmbeddedStore) -> None:
    """After a failure of the engine no new database is made in place of one that is gone."""
    from memstack.stores.chroma_rewrite import DATABASE

    store.upsert([a_row(1)])
    (store.folder / DATABASE).unlink()
    store._opened.failed = True
    with pytest.raises(StoreCorrupted, match="is gone"):
        store.count()
    assert not (store.folder / DATABASE).exists()


@pytest.mark.parametrize("descending", [False, True])
def test_a_page_behind_many_that_tie(store: ChromaEmbeddedStore, descending: bool) -> None:
    """A page behind a cursor is full, also where hundreds tie with the cursor and a sample tells a wrong end."""
    behind = iter(range(801, 1401))
    ties = iter(range(1, 801))
    step = 1400 // 300  # the rows that a sample looks at are the next ones behind the cursor, and no others are near
    numbers = [next(behind) if place % step == 0 else next(ties, None) or next(behind) for place in range(1400)]
    sign = -1 if descending else 1
    store.upsert([a_row(number, START + sign * timedelta(seconds=max(0, number - 800))) for number in numbers])
    after = (START, str(uuid.UUID(int=790)))
    page = store.scan(descending=descending, after=after, limit=300)
    assert [uuid.UUID(row.id).int for row in page] == list(range(791, 1091))


def test_others_take_the_place_of_what_is_deleted(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the best hits are deleted during a search, the next ones are told, as many as were asked for."""
    store.upsert([a_row(number, vector=(1.0, number / 100)) for number in range(20)])
    told = store._told

    def late(ids: Sequence[str]) -> dict[str, Any]:
        monkeypatch.setattr(store, "_told", told)
        store.remove([str(uuid.UUID(int=number)) for number in range(4)])
        return told(ids)

    monkeypatch.setattr(store, "_told", late)
    hits = store.nearest((1.0, 0.0), limit=6)
    assert [uuid.UUID(hit.row.id).int for hit in hits] == list(range(4, 10))


def test_threads_meet_a_folder_that_is_opened_anew(
    store: ChromaEmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure of the engine, no thread calls the client that was closed; and a collection can be made."""
    from memstack.stores import chroma_folder

    store.upsert([a_row(1)])
    open_client = chroma_folder._client_in
    slow = threading.Event()

    def opened(folder: Path) -> Any:
        client = open_client(folder)
        found = client.get_collection
        monkeypatch.setattr(client, "get_collection", lambda *args, **named: slow.wait(0.2) or found(*args, **named))
        return client

    monkeypatch.setattr(chroma_folder, "_client_in", opened)
    for _ in range(3):
        store._opened.failed = True
        with ThreadPoolExecutor(4) as threads:
            calls = []
            for _ in range(4):
                calls.append(threads.submit(store.count))
                time.sleep(0.05)
            assert [call.result() for call in calls] == [1] * 4
    store._opened.failed = True
    other = type(store).open(ChromaEmbedded(path=tmp_path, collection="other"), dimensions=2)
    assert other.count() == 0
    other.close()


def test_rows_that_the_index_does_not_reach(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for all rows of a scope, and for one more than the index tells, it tells all, the best first."""
    monkeypatch.setattr("memstack.stores.chroma._EXACT_UP_TO", 4)
    monkeypatch.setattr("memstack.stores.chroma._FEW", 4)
    rows = [a_row(number, vector=(1.0, number / 10)) for number in range(1, 13)]
    store.upsert(rows)
    query = store._rows.query

    def unreached(**asked: Any) -> Any:  # as of 20,000 rows one was
        answer = query(**asked)
        found = [place for place, row_id in enumerate(answer["ids"][0]) if row_id not in (rows[0].id, rows[6].id)]
        told = {name: [[answer[name][0][place] for place in found]] for name in ("ids", "distances")}
        return {**answer, **told}

    monkeypatch.setattr(store._rows, "query", unreached)
    for limit in (11, 12, 13):
        found = store.native_leads([1.0, 0.0], None, limit)
        assert [lead.clue.id for lead in found] == [row.id for row in rows][:limit]


def test_what_the_index_finds_is_read_once(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second search among more rows than are compared reads no metadata again; what changed since is read anew."""
    monkeypatch.setattr("memstack.stores.chroma._EXACT_UP_TO", 4)
    monkeypatch.setattr("memstack.stores.chroma._FEW", 4)
    store.upsert([a_row(number, vector=(1.0, number / 10)) for number in range(1, 13)])
    read: list[Sequence[str]] = []
    told = store._told

    def noted(ids: Sequence[str]) -> Any:
        read.append(ids)
        return told(ids)

    monkeypatch.setattr(store, "_told", noted)
    asked: list[Any] = []
    query = store._rows.query

    def watched(**given: Any) -> Any:
        asked.append(given["include"])
        return query(**given)

    monkeypatch.setattr(store._rows, "query", watched)
    first, again = (store.native_leads([1.0, 0.0], None, 8) for _ in range(2))
    assert first == again
    store.upsert([a_row(3, START + timedelta(days=1), vector=(1.0, 0.3))])
    assert [lead.clue.created for lead in store.native_leads([1.0, 0.0], None, 8)] != [
        lead.clue.created for lead in first
    ]
    assert [len(ids) for ids in read] == [8, 0, 1]
    assert asked == [["distances"]] * 3


def test_a_long_listing_is_read_once(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were listed are not read again, in whatever order; what changed or went since is told as it is."""
    monkeypatch.setattr("memstack.stores.chroma._FEW", 4)
    rows = [a_row(number, START + timedelta(days=number % 5)) for number in range(1, 13)]
    store.upsert(rows)
    assert {row.id for some in store.batches(size=5) for row in some} == {row.id for row in rows}
    read: list[str] = []
    told = store._told

    def noted(ids: Sequence[str]) -> Any:
        read.extend(ids)
        return told(ids)

    monkeypatch.setattr(store, "_told", noted)
    changed = a_row(5, START + timedelta(days=9))
    ids = [row.id for row in sorted(rows, key=lambda row: (row.payload["created_at"], row.id))]
    assert [row.id for row in store.iter_scan(descending=False)] == ids
    assert read == []
    store.upsert([changed])
    store.remove([rows[7].id])
    left = [row_id for row_id in ids if row_id not in (changed.id, rows[7].id)]
    assert [row.id for row in store.iter_scan(descending=False)] == [*left, changed.id]
    listed = {row.id: row for some in store.batches(size=5) for row in some}
    assert sorted(listed) == sorted([*left, changed.id])
    assert listed[changed.id].payload == changed.payload
    assert read == [changed.id]
