"""Rows of Chroma under a size of batches, ties and deletions that its answers must not depend on."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from memstack import open_memory
from memstack.config import ChromaEmbedded
from memstack.errors import StoreCorrupted, StoreError
from memstack.filters import F
from memstack.filters.ast import FINGERPRINT, PLACE, In, all_of
from memstack.payload import build
from memstack.scope import Scope
from memstack.stores.base import Fingerprint, Row, holds

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


def a_row(
    number: int, at: datetime = START, vector: Sequence[float] = (1.0, 0.5), text: str = "row", user: str = "alex"
) -> Row:
    payload = build(
        text=f"{text} {number}", scope=Scope(user), metadata={}, created_at=at, updated_at=at, occurred_at=at
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


def test_what_is_not_behind_the_cursor(store: ChromaEmbeddedStore) -> None:
    """Of those that tie with the cursor, the row that it names is not behind it, nor are those before."""
    from memstack.stores.chroma_rows import Listing

    store.upsert([*map(a_row, range(10))])
    for descending in (False, True):
        after = (START, str(uuid.UUID(int=5)))
        assert store._before(Listing(None, "created_at", descending=descending, after=after)) == 6
        assert store._before(Listing(None, "created_at", descending=descending)) == 0


def test_a_long_listing_under_changes(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is changed before its turn is told as it is then, and only where the filter holds for it still."""
    monkeypatch.setattr("memstack.stores.chroma._BATCH", 2)
    monkeypatch.setattr("memstack.stores.chroma._FEW", 2)
    rows = [a_row(number, START + timedelta(seconds=number)) for number in range(8)]
    store.upsert(rows)
    listed = store.iter_scan(where=F.user_id == "alex", descending=False, size=2)
    first = [next(listed), next(listed)]
    store.upsert([a_row(5, START + timedelta(seconds=5), text="new"), a_row(6, START, user="bo")])
    store.remove([rows[4].id])
    assert [row.payload["data"] for row in [*first, *listed]] == ["row 0", "row 1", "row 2", "row 3", "new 5", "row 7"]


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


def ids(*numbers: int) -> list[str]:
    return [str(uuid.UUID(int=number)) for number in numbers]


@pytest.mark.parametrize("gone", [range(4), range(8)])
def test_what_is_deleted_before_its_vector_is_read(
    store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch, gone: range
) -> None:
    """Rows that were named, and are gone when their vectors are read, are no hits, and no error."""
    monkeypatch.setattr("memstack.stores.chroma._FEW", 2)
    store.upsert([a_row(number, vector=(1.0, number / 100)) for number in range(8)])
    directions = store._directions

    def late(wanted: Sequence[str]) -> dict[str, bytes]:
        store.remove(ids(*gone))
        return directions(wanted)

    monkeypatch.setattr(store, "_directions", late)
    hits = store.nearest((1.0, 0.0), limit=6)
    assert [uuid.UUID(hit.row.id).int for hit in hits] == [number for number in range(8) if number not in gone]


def test_up_to_so_many_all_are_compared(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`exact_up_to` rows are all compared here; Chroma's index, which may leave out some, is asked for more."""
    monkeypatch.setattr("memstack.stores.chroma._FEW", 2)
    monkeypatch.setattr("memstack.stores.chroma.EXACT_UP_TO", 4)
    asked: list[str] = []
    call = store._call

    def noted(what: str, do: Callable[[], Any]) -> Any:
        asked.append(what)
        return call(what, do)

    monkeypatch.setattr(store, "_call", noted)
    for number in range(5):
        store.upsert([a_row(number, vector=(1.0, number / 100))])
        asked.clear()
        hits = store.nearest((1.0, 0.0), limit=3)
        assert [uuid.UUID(hit.row.id).int for hit in hits] == list(range(min(3, number + 1)))
        assert ("search" in asked) is (number == 4)
        cosines = [(1 + (n / 100) ** 2) ** -0.5 for n in range(len(hits))]
        assert [hit.similarity for hit in hits] == pytest.approx(cosines)


def test_nothing_is_kept_of_what_was_deleted(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of rows, vectors too, is in the process no longer than they are in the store."""
    monkeypatch.setattr("memstack.stores.chroma._FEW", 2)
    assert store._kept is not None
    assert store._vectors is not None
    store.upsert([*map(a_row, range(6))])
    forgetting: list[Callable[[], None]] = [lambda: store.remove(ids(0, 1)), store.clear]
    for wanted, forget in zip((ids(0, 1), ids(2, 3, 4, 5)), forgetting, strict=True):
        store.nearest((1.0, 0.0), limit=6)
        assert None not in [*store._kept.get(wanted), *store._vectors.get(wanted)]
        forget()
        assert [*store._kept.get(wanted), *store._vectors.get(wanted)] == [None] * 2 * len(wanted)


def test_a_vector_that_another_wrote(
    store: ChromaEmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors that were read through one handle are read anew after they were written through another one."""
    monkeypatch.setattr("memstack.stores.chroma._FEW", 2)
    other = type(store).open(ChromaEmbedded(path=tmp_path), dimensions=2)
    try:
        store.upsert([a_row(number, vector=(1.0, number)) for number in range(4)])
        assert store.nearest((1.0, 0.0), limit=1)[0].row.id == ids(0)[0]
        other.upsert([a_row(0, vector=(0.0, 1.0))])
        assert store.nearest((1.0, 0.0), limit=1)[0].row.id == ids(1)[0]
    finally:
        other.close()


def test_which_rows_pass_is_asked_once_until_something_is_written(
    store: ChromaEmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search and a count look one condition up once; what is written since, by whomever, is looked up anew."""
    other = type(store).open(ChromaEmbedded(path=tmp_path), dimensions=2)
    mine = F.user_id == "alex"
    try:
        store.upsert([a_row(number, vector=(1.0, number)) for number in range(4)])
        asked: list[Any] = []
        get = store._rows.get

        def noted(**given: Any) -> Any:
            asked.append(given.get("where"))
            return get(**given)

        monkeypatch.setattr(store._rows, "get", noted)
        writes: list[Callable[[], None]] = [
            lambda: None,
            lambda: store.remove(ids(0)),
            lambda: other.upsert([a_row(5)]),
            lambda: other.remove(ids(1, 2)),
            lambda: other.upsert([a_row(3, user="bo")]),
        ]
        for write, left in zip(writes, (4, 3, 4, 2, 1), strict=True):
            write()
            assert store.count(mine) == left
            asked.clear()
            assert len(store.leads((1.0, 0.0), where=mine, limit=9)) == left
            assert store.count(mine) == left
            assert sum(where is not None for where in asked) == 1
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.count(mine)
    finally:
        other.close()


def test_a_note_that_another_wrote(store: ChromaEmbeddedStore, tmp_path: Path) -> None:
    """What filled a collection is known to all who have it open, also to those who opened it before."""
    other = type(store).open(ChromaEmbedded(path=tmp_path), dimensions=2)
    try:
        assert other.read_fingerprint() is None
        store.write_fingerprint(Fingerprint("acme", "one", 2))
        assert other.read_fingerprint() == Fingerprint("acme", "one", 2)
    finally:
        other.close()


def test_a_collection_that_another_makes_just_now(
    store: ChromaEmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds no collection, and then cannot make it since another was faster, opens that one."""
    store.upsert([a_row(1)])
    find, looked = type(store)._found, 0

    def late(self: ChromaEmbeddedStore, name: str) -> Any:
        nonlocal looked
        looked += 1
        return find(self, name) if looked > 1 else None

    monkeypatch.setattr(type(store), "_found", late)
    other = type(store).open(ChromaEmbedded(path=tmp_path), dimensions=2)
    assert (other.count(), looked) == (1, 2)
    other.close()


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
    monkeypatch.setattr("memstack.stores.chroma.EXACT_UP_TO", 4)
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
    monkeypatch.setattr("memstack.stores.chroma.EXACT_UP_TO", 4)
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


def test_thousands_of_fingerprints_and_places_are_a_condition(store: ChromaEmbeddedStore) -> None:
    """What the library asks for by the thousand is looked up: it is not evaluated on all the rows of an owner."""
    for field in (FINGERPRINT, PLACE):
        many = In(field, tuple(f"value {number}" for number in range(4_096)))
        assert store.plan(all_of(F.user_id == "alex", many)).residual is None
        assert store.count(all_of(F.user_id == "alex", many)) == 0


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


def test_ids_beside_a_condition(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a filter names by id are found by every verb, few or many, in batches, and where else they stand."""
    monkeypatch.setattr("memstack.stores.chroma._FEW", 2)
    monkeypatch.setattr("memstack.stores.chroma._BATCH", 3)
    rows = [
        a_row(number, START + timedelta(days=number % 5), (1.0, number / 10), user="alex" if number % 3 else "bo")
        for number in range(1, 21)
    ]
    store.upsert(rows)
    one, other = rows[3].id, rows[4].id
    some = In("id", (*(row.id for row in rows[2:12]), "", "' OR 1=1", "nobody's", 7, "x" * 70_000))
    for most in (1_000, 2):  # ids that Chroma is told, and looked for among those that it tells
        monkeypatch.setattr("memstack.stores.chroma._NAMED", most)
        for where, left in (
            (some, False),
            (all_of(F.user_id == "alex", some), False),
            (all_of(F.user_id == "alex", some, F.id.in_([one, rows[15].id, rows[5].id])), False),
            (all_of(some, In("id", ())), False),
            (all_of(some, F.data.icontains("ROW 1")), True),
            ((F.id == one) | (F.id == other), False),
            ((F.id == one) | (F.data == "row 9"), True),
            (all_of(F.user_id == "alex", ~some), True),
        ):
            assert (store.plan(where).residual is not None) is left
            expected = [row for row in rows if holds(where, row)]
            ids = {row.id for row in expected}
            assert store.count(where) == len(ids)
            assert {row.id for batch in store.batches(where=where, size=3, vectors=True) for row in batch} == ids
            listed = sorted(expected, key=lambda row: (row.payload["created_at"], row.id))
            assert [row.id for row in store.scan(where=where, descending=False)] == [row.id for row in listed]
            assert [row.id for row in store.scan(where=where, descending=False, limit=3)] == [
                row.id for row in listed[:3]
            ]
            best = [row.id for row in expected]  # the smaller its number, the nearer
            assert [hit.row.id for hit in store.nearest([1.0, 0.0], where=where, limit=4)] == best[:4]
            assert [lead.clue.id for lead in store.leads([1.0, 0.0], where=where, limit=100)] == best


def test_ids_of_a_store_that_is_closed(store: ChromaEmbeddedStore) -> None:
    """A store that is closed says so, also where nothing is named."""
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.count(In("id", ()))


def test_what_is_evaluated_here_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search with a filter that Chroma does not answer evaluates it once on each row, and finds what it means."""
    pytest.importorskip("chromadb")
    evaluated = Mock(side_effect=holds)
    section = {"provider": "chroma", "mode": "embedded", "path": str(tmp_path)}
    with open_memory({"vector_store": section, "retrieval": {"candidates": 16}}) as memory:
        alex = memory.for_user("alex")
        items: list[Any] = [
            {"content": f"tea number {n}", "run_id": f"run {n % 7}", "metadata": {"kind": f"Kind {n % 2}"}}
            for n in range(400)
        ]
        alex.add_many(items)
        memory.for_user("bo").add_many(items)
        question = "which tea was number 12?"
        exact = alex.search(question, filters={"kind": "Kind 0"}, limit=12)
        monkeypatch.setattr("memstack.stores.base.holds", evaluated)
        found = alex.search(question, filters={"kind": {"icontains": "KIND 0"}}, limit=12)
        assert evaluated.call_count == 400
    assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in exact]


def test_what_is_deleted_is_named_batch_by_batch(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows are deleted in batches, each batch is looked for alone: not all that are left, again and again."""
    store.upsert([a_row(number) for number in range(1, 41)])
    told: list[int] = []
    get = store._rows.get

    def noted(**asked: Any) -> Any:
        found = get(**asked)
        told.append(len(found["ids"]))
        return found

    monkeypatch.setattr(store._rows, "get", noted)
    left = 40
    for rows in store.batches(where=F.user_id == "alex", size=4, vectors=True):
        store.remove([row.id for row in rows])
        left -= len(rows)
    assert left == 0
    assert sum(told) <= 40 + 2 * 40  # named at first, and once more; then read


def test_vectors_of_what_passes_alone(store: ChromaEmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows that are evaluated here, those that do not pass are not read with their vectors."""
    store.upsert([a_row(number, vector=(1.0, number / 10)) for number in range(1, 41)])
    fetched: list[str] = []
    fetch = store.fetch

    def noted(ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        fetched.extend(ids)
        if ids:
            store.upsert([a_row(12, text="changed")])  # just now
        return fetch(ids, vectors=vectors)

    monkeypatch.setattr(store, "fetch", noted)
    found = [row for rows in store.batches(where=F.data.icontains("ROW 1"), size=15, vectors=True) for row in rows]
    expected = [1, 10, 11, *range(13, 20)]
    assert sorted(uuid.UUID(row.id).int for row in found) == expected
    assert all(row.vector == pytest.approx([1.0, uuid.UUID(row.id).int / 10]) for row in found)
    assert len(fetched) == 11
