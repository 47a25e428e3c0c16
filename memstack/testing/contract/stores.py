"""A store keeps rows, finds them, and does what its capabilities declare."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pytest

from memstack.clues import name_keys, place_in_run, place_of, read_clue, word_keys, write_clue
from memstack.config import Settings
from memstack.errors import EmbedderMismatch, StoreError
from memstack.filters import F, Node
from memstack.filters.ast import ALL, FINGERPRINT, NAME, OWN, PLACE, WORD, Contains, IContains, In, Not, all_of
from memstack.filters.visit import NODES, render
from memstack.gateway import MemoryGateway
from memstack.ids import new_id
from memstack.payload import build, fingerprint_of, instant_of
from memstack.records import Source
from memstack.scope import Scope
from memstack.stores.base import Fingerprint, Row, SortField, Store, sort_value
from memstack.stores.index import own_values
from memstack.testing.contract.base import Backend, Contract, OpenHere
from memstack.testing.contract.state import parts_of

UTC: Final = timezone.utc
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
SAME: Final = 1e-5
FIELDS: Final[tuple[SortField, ...]] = ("created_at", "updated_at", "occurred_at")

# One filter of each kind that an engine may answer by itself, on fields of metadata.
LEAVES: Final[dict[str, Node]] = {
    "Eq": F.category == "work",
    "In": F.category.in_(["work", "home"]),
    "Compare": F.n > 1,
    "Contains": Contains("tags", 1),
    "IContains": IContains("category", "W"),
    "Exists": F.n.exists(),
}


def a_turn(store: Store, number: int) -> Row:
    """A row that stands in a run, where somebody says something; every fifth one stands in none."""
    at = START + timedelta(seconds=number)
    payload = build(
        text=f"turn {number} about word{number % 7}",
        scope=Scope("alex", run_id=None if number % 5 == 4 else f"run {number // 5}"),
        metadata={"n": number},
        created_at=at,
        updated_at=at,
        occurred_at=at,
        source=(Source("user", f"Ann Speaker{number % 3}", number),),
    )
    return Row(new_id(), payload, a_vector(store, number))


def a_row(store: Store, number: int, *, user: str = "alex", **metadata: Any) -> Row:
    """A row whose vector and instants follow from its number; every third one shares its instants."""
    at = START + timedelta(seconds=number // 3)
    payload = build(
        text=f"row {number}",
        scope=Scope(user),
        metadata={"n": number, **metadata},
        created_at=at,
        updated_at=at + timedelta(hours=number % 7),
        occurred_at=at - timedelta(days=number % 5),
    )
    return Row(new_id(), payload, a_vector(store, number))


def a_vector(store: Store, seed: int) -> list[float]:
    """A vector of length 1."""
    drawn = np.random.default_rng(seed).standard_normal(store.dimensions)
    return [float(value) for value in (drawn / np.linalg.norm(drawn)).astype(np.float32)]


def by_id(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The payloads of some rows."""
    return {row.id: dict(row.payload) for row in rows}


# What metadata may hold and engines are tempted to change: in type, in precision, in spelling, in size.
ODD_VALUES: Final[dict[str, Any]] = {
    "ints": [2**63 - 1, -(2**63), 2**53 + 1, 0, 1],
    "floats": [1.0, -0.0, 0.1 + 0.2, 5e-324, 1.7976931348623157e308],
    "int": 2**53 + 1,
    "whole": 3.0,
    "zero": -0.0,
    "flags": [True, 1, False, 0],
    "texts": ["e\u0301", "\u00e9", " x ", "", "\U0001f375", "2024-05-01", "1", "true", "null", "\u2028\x7f", "a", "a"],
    "decomposed": "e\u0301",
    "long": "ü" * 40_000,
    "nothing": None,
    "no text": "",
    "no items": [],
    "no fields": {},
    "day": date(2024, 2, 29),
    "at": datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
    "Case": 1,
    "case": 2,
    "deep": {"a.b": {"$date": [{"": None, "k": [[], {}, [1.0]]}]}, "1": 1},
    "ключ ü e\u0301": "значение",
}


def exactly(value: Any) -> str:
    """A value in words that tell 1 from 1.0 and from True, but not the order of a mapping's keys."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{key!r}: {exactly(item)}' for key, item in value.items()))}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(exactly, value))})"
    return value.isoformat() + "@" + type(value).__name__ if isinstance(value, date) else repr(value)


def in_order(rows: Sequence[Row], field: SortField, *, descending: bool) -> list[str]:
    """The ids by an instant, ties by id."""
    ascending = sorted(rows, key=lambda row: row.id)
    ascending.sort(key=lambda row: instant_of(row.payload, field) or START, reverse=descending)
    return [row.id for row in ascending]


def ranked(rows: Sequence[Row], similar: Any) -> list[str]:
    """The ids by score, which counts opposite directions as 0, ties by creation and id."""

    def key(place: int) -> tuple[float, datetime, str]:
        row = rows[place]
        return (-round(max(0.0, float(similar[place])), 6), instant_of(row.payload, "created_at") or START, row.id)

    return [rows[place].id for place in sorted(range(len(rows)), key=key)]


class StoreContract(Contract):
    """What `memstack.stores.base.Store` promises, asked of the store itself."""

    @pytest.fixture
    def store(self, empty: MemoryGateway) -> Store:
        """The store of an empty memory."""
        return parts_of(empty).store

    @pytest.fixture
    def large(self, memory: MemoryGateway) -> Store:
        """A new store: some engines get slow for good where many rows were deleted."""
        return parts_of(memory).store

    # -- rows ------------------------------------------------------------------------------------

    def test_rows_come_back(self, store: Store) -> None:
        """A row that was written is read back equal, with the direction of its vector, and ids nobody has are none."""
        rows = [a_row(store, i, note=f"'{i}' \\ % _", nested={"a": [1, None, {"b": 2.5}]}) for i in range(5)]
        store.upsert(rows)
        found = store.fetch([*(row.id for row in rows), new_id()], vectors=True)
        assert by_id(found) == by_id(rows)
        vectors = {row.id: row.vector for row in rows}
        for row in found:
            assert row.vector is not None
            assert np.dot(row.vector, vectors[row.id] or ()) / np.linalg.norm(row.vector) > 1 - SAME
        assert all(row.vector is None for row in store.fetch([rows[0].id]))
        assert store.count() == len(rows)

    def test_a_row_is_replaced_whole(self, store: Store) -> None:
        """Writing an id again leaves nothing of what it had: no field, no instant, no direction, no second row."""
        old = a_row(store, 1, category="work", tags=[1], due=START)
        store.upsert([old])
        new = Row(old.id, a_row(store, 900).payload, a_vector(store, 900))
        store.upsert([new])
        assert by_id(store.scan()) == by_id([new])
        gone: list[Node] = [F.category.exists(), F.category == "work", F.due.exists(), F.due <= START, F.n < 900]
        for where in (*gone, Contains("tags", 1), F.created_at < START + timedelta(seconds=1)):
            assert store.scan(where=where) == []
            assert store.count(where) == 0
            assert store.count(~where) == 1
        (hit,) = store.nearest(a_vector(store, 900), limit=3)
        assert hit.similarity > 1 - SAME

    def test_what_is_removed_is_gone_at_once(self, store: Store) -> None:
        """Also where it was read just before, and a store keeps what it has read."""
        gone, other = a_row(store, 1), a_row(store, 2)
        store.upsert([gone, other])
        assert len(store.fetch([gone.id, other.id])) == len(store.leads(a_vector(store, 1), limit=2)) == 2
        store.remove([gone.id])
        assert [row.id for row in store.fetch([gone.id, other.id])] == [other.id]
        assert [lead.clue.id for lead in store.leads(a_vector(store, 1), limit=2)] == [other.id]

    def test_payloads_come_back_exactly(self, open_here: OpenHere, tmp_path: Path) -> None:
        """Every value that metadata may hold is read back as it was, by every way, and after opening again."""
        memory = open_here(tmp_path)
        store = parts_of(memory).store
        row = a_row(store, 1, **ODD_VALUES)
        store.upsert([row, a_row(store, 2)])
        mine, vector = exactly(row.payload), row.vector or ()
        for told in (
            store.fetch([row.id]),
            store.scan(where=F.n == 1),
            [hit.row for hit in store.nearest(vector, limit=1)],
            [found for some in store.batches(where=F.n == 1, size=5) for found in some],
        ):
            assert [exactly(found.payload) for found in told] == [mine]
        kept = store.capabilities.persistent
        memory.close()
        again = parts_of(open_here(tmp_path)).store
        assert [exactly(found.payload) for found in again.fetch([row.id])] == ([mine] if kept else [])

    def test_what_is_told_may_be_changed(self, store: Store) -> None:
        """What a caller does to a payload that it gave, or was given, changes nothing of what is stored."""
        row = a_row(store, 1, tags=["a"], nested={"deep": [1]})
        mine = exactly(row.payload)
        store.upsert([row])
        told: list[Callable[[], Row]] = [
            lambda: row,
            lambda: store.fetch([row.id])[0],
            lambda: store.scan()[0],
            lambda: store.nearest(row.vector or (), limit=1)[0].row,
            lambda: next(store.batches(size=5))[0],
        ]
        for tell in told:
            payload = tell().payload
            payload["tags"].append("b")
            payload["nested"]["deep"].clear()
            del payload["data"]
            assert [exactly(found.payload) for found in store.fetch([row.id])] == [mine]
            assert [exactly(found.payload) for found in store.scan(where=Contains("tags", "a"))] == [mine]

    def test_threads_write_at_once(self, store: Store) -> None:
        """What several threads write, read and delete at once is all there in the end, and nothing else."""
        rows = [[a_row(store, 10 * worker + i) for i in range(10)] for worker in range(8)]

        def work(mine: list[Row]) -> None:
            for row in mine:
                store.upsert([row])
                assert by_id(store.fetch([row.id])) == by_id([row])
            store.remove([row.id for row in mine[::2]])
            assert len(store.nearest(mine[1].vector or (), limit=5)) == 5

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, rows))
        assert by_id(store.scan()) == by_id([row for mine in rows for row in mine[1::2]])

    def test_nothing_to_do_is_done(self, store: Store) -> None:
        """No rows, no ids, an id twice, an id that is gone: none of them is an error."""
        store.upsert([])
        store.remove([])
        assert store.fetch([]) == []
        row = a_row(store, 1)
        store.upsert([row])
        assert len(store.fetch([row.id, row.id])) == 1
        store.remove([row.id, row.id, new_id()])
        store.remove([row.id])
        assert store.count() == 0
        assert store.scan() == []
        assert store.nearest(a_vector(store, 1), limit=5) == []
        assert store.nearest(a_vector(store, 1), limit=0) == []

    def test_thousands_at_once(self, large: Store) -> None:
        """Six thousand rows are written, read, listed and removed in one call each, whatever the engine's batches."""
        rows = [a_row(large, i) for i in range(6000)]
        large.upsert(rows)
        assert large.count() == len(rows)
        assert by_id(large.fetch([row.id for row in rows])) == by_id(rows)
        assert [row.id for row in large.scan(descending=False)] == in_order(rows, "created_at", descending=False)
        large.remove([row.id for row in rows[1:]])
        assert [row.id for row in large.scan()] == [rows[0].id]

    @pytest.mark.parametrize("shape", ["short", "long", "none"])
    def test_vectors_of_another_length_are_refused(self, store: Store, shape: str) -> None:
        """A row without a vector of the collection's length is a StoreError, and nothing of the call is written."""
        size = store.dimensions
        bad = {"short": [0.1] * (size - 1), "long": [0.1] * (size + 1), "none": None}[shape]
        with pytest.raises(StoreError, match="dimensions"):
            store.upsert([a_row(store, 1), Row(new_id(), a_row(store, 2).payload, bad)])
        assert store.count() == 0

    # -- searching and listing -------------------------------------------------------------------

    def test_the_nearest(self, store: Store) -> None:
        """The nearest rows are those of numpy's cosine, with its similarity, with and without a filter."""
        rows = [a_row(store, i, category="work" if i % 3 else "home") for i in range(400)]
        store.upsert(rows)
        matrix = np.asarray([row.vector for row in rows])
        for seed in range(1000, 1010):
            query = a_vector(store, seed)
            similar = matrix @ np.asarray(query)
            for where, chosen in ((ALL, range(400)), (F.category == "home", range(0, 400, 3))):
                best = sorted(chosen, key=lambda i: -similar[i])[:20]
                hits = store.nearest(query, where=where, limit=20)
                assert [hit.row.id for hit in hits] == [rows[i].id for i in best]
                assert [hit.similarity for hit in hits] == pytest.approx([similar[i] for i in best], abs=1e-4)

    def test_the_nearest_of_those_that_are_there_now(self, store: Store) -> None:
        """Among hundreds, too, rows that have other vectors since, or are gone, are found as they are."""
        rows = [a_row(store, i) for i in range(400)]
        store.upsert(rows)
        query = a_vector(store, 1000)
        for start in (0, 100, 200):
            now = [Row(row.id, row.payload, a_vector(store, 5000 + start + i)) for i, row in enumerate(rows)]
            rows = [*rows[:start], *now[start : start + 50], *rows[start + 100 :]]
            store.nearest(query, limit=5)  # it may keep what it reads
            store.upsert(now[start : start + 50])
            store.remove([row.id for row in now[start + 50 : start + 100]])
            similar = np.asarray([row.vector for row in rows]) @ np.asarray(query)
            for where in (ALL, F.user_id == "alex"):
                leads = store.leads(query, where=where, limit=1000)
                assert {lead.clue.id for lead in leads} == {row.id for row in rows}
                told = {lead.clue.id: lead.similarity for lead in leads}
                assert [told[row.id] for row in rows] == pytest.approx(similar.tolist(), abs=1e-4)

    def test_only_directions_count(self, store: Store) -> None:
        """Similarity is the cosine, whatever the lengths of the vectors: 1 along the query, -1 opposite to it."""
        along, across = a_vector(store, 1), a_vector(store, 2)
        across = [b - a * float(np.dot(along, across)) for a, b in zip(along, across, strict=True)]
        directions = {
            "along": [0.01 * x for x in along],
            "half": [3 * (a + b / float(np.linalg.norm(across))) for a, b in zip(along, across, strict=True)],
            "across": [20 * x for x in across],
            "opposite": [-4 * x for x in along],
        }
        store.upsert([Row(new_id(), a_row(store, 1, way=way).payload, some) for way, some in directions.items()])
        expected = {"along": 1.0, "half": 0.5**0.5, "across": 0.0, "opposite": -1.0}
        for length in (1, 0.2, 7):
            query = [length * x for x in along]
            hits = store.nearest(query, limit=3)
            assert [hit.row.payload["way"] for hit in hits[:2]] == ["along", "half"]
            told = {hit.row.payload["way"]: hit.similarity for hit in store.nearest(query, limit=9)}
            assert told == pytest.approx(expected, abs=1e-4)
            leads = sorted(lead.similarity for lead in store.leads(query, limit=9))
            assert leads == pytest.approx(sorted(expected.values()), abs=1e-4)

    def test_as_many_as_are_asked_for(self, large: Store) -> None:
        """There are fewer hits and leads than a limit only where there are no more rows, however large it is."""
        large.upsert([a_row(large, i, category="work" if i % 2 else "home") for i in range(1500)])
        query = a_vector(large, 3000)
        for where, there in ((ALL, 1500), (F.category == "work", 750)):
            for limit in (300, 749, 1400, 2000):
                assert len(large.nearest(query, where=where, limit=limit)) == min(limit, there)
                assert len(large.leads(query, where=where, limit=limit)) >= min(limit, there)
                assert len(large.scan(where=where, limit=limit)) == min(limit, there)

    def test_leads_are_the_nearest_in_short(self, store: Store) -> None:
        """What a store tells in short for ranking is what the rows say, also of those that changed since."""
        rows = [a_row(store, i, category="work" if i % 3 else "home", note=f"word{i % 7}") for i in range(60)]
        store.upsert(rows)
        stored = by_id(rows)
        query = a_vector(store, 2000)
        for change in range(3):
            for where, limit in ((ALL, 100), (ALL, 7), (F.category == "home", 30), (In(WORD, ("word3", "word5")), 30)):
                hits = store.nearest(query, where=where, limit=limit)
                leads = {lead.clue.id: lead for lead in store.leads(query, where=where, limit=limit)}
                assert by_id([hit.row for hit in hits]) == {hit.row.id: stored[hit.row.id] for hit in hits}
                assert leads.keys() >= {hit.row.id for hit in hits}
                assert len(leads) == len(hits) or len(leads) > limit
                for hit in hits:
                    lead = leads[hit.row.id]
                    assert lead.similarity == pytest.approx(hit.similarity, abs=1e-4)
                    assert lead.clue == read_clue(hit.row.id, write_clue(hit.row.payload))
            if change == 0:
                store.remove([row.id for row in rows[:5]])
                changed = [Row(row.id, a_row(store, 3 + i).payload, row.vector) for i, row in enumerate(rows[5:9])]
                store.upsert(changed)
                stored.update(by_id(changed))
            else:
                store.clear()
        assert store.leads(query, limit=5) == []

    def test_what_the_library_asks(self, store: Store) -> None:
        """The library's own fields have in a filter what they are made of, for few values and for hundreds."""
        rows = [a_turn(store, i) for i in range(20)]
        store.upsert(rows)
        query = a_vector(store, 2000)
        too_long = F.n.in_([*range(10, 20), *range(1_000, 1_400)])  # for some engines
        for field in sorted(OWN):
            of = {row.id: set(own_values(row.payload, field)) for row in rows}
            own = sorted(set().union(*of.values()))
            asked = [own[:1], own[3:6], [], ["none"], [*own[::2], *(f"none {i}" for i in range(400))]]
            counts = store.counts(F.n >= 10, field, asked)
            for values, count in zip(asked, counts, strict=True):
                has = In(field, tuple(values))
                having = {row.id for row in rows if not of[row.id].isdisjoint(values)}
                later = {row.id for row in rows[10:]}
                assert count == len(having & later), (field, len(values))
                for where, expected in (
                    (has, having),
                    (Not(has), of.keys() - having),
                    (all_of(too_long, has), having & later),
                    (has | (F.n == 19), having | {rows[19].id}),
                ):
                    told = (field, len(values), render(where)[:40])
                    assert store.count(where) == len(expected), told
                    assert {row.id for row in store.scan(where=where)} == expected, told
                    assert {hit.row.id for hit in store.nearest(query, where=where, limit=50)} == expected, told
                    assert {lead.clue.id for lead in store.leads(query, where=where, limit=50)} == expected, told

    def test_ties_are_cut_by_age(self, store: Store) -> None:
        """Of rows that are equally near the oldest are told, wherever a limit cuts; in short all of them are."""
        rows = [Row(row.id, row.payload, a_vector(store, 7)) for row in (a_row(store, i) for i in range(30))]
        store.upsert(rows[::-1])
        expected = in_order(rows, "created_at", descending=False)
        for where in (ALL, F.user_id == "alex", IContains("data", "ROW")):
            for limit in (1, 4, 29, 30, 40):
                assert [hit.row.id for hit in store.nearest(a_vector(store, 7), where=where, limit=limit)] == (
                    expected[:limit]
                )
        assert len(store.leads(a_vector(store, 7), limit=4)) == len(rows)

    @pytest.mark.parametrize("descending", [False, True])
    def test_what_is_evaluated_here_is_listed_whole(self, store: Store, descending: bool) -> None:
        """A listing that is fetched in rounds has every row once, in the order of whichever instant."""
        rows = [a_row(store, i) for i in range(200)]
        store.upsert(rows)
        for field in FIELDS:
            listed = store.scan(where=IContains("data", "ROW"), field=field, descending=descending)
            assert [row.id for row in listed] == in_order(rows, field, descending=descending)

    def test_pages_through_many_that_tie(self, store: Store) -> None:
        """More rows of one instant than a page takes are told page by page, and in batches, each of them once."""
        payload = a_row(store, 1).payload
        rows = [Row(new_id(), payload, a_vector(store, i)) for i in range(14)] + [a_row(store, i) for i in (0, 9, 30)]
        store.upsert(rows)
        orders: list[tuple[SortField, bool]] = [("created_at", True), ("created_at", False), ("occurred_at", True)]
        for field, descending in orders:
            found: list[Row] = []
            for _ in range(6):
                after = (instant_of(found[-1].payload, field) or START, found[-1].id) if found else None
                found += store.scan(field=field, descending=descending, after=after, limit=3)
            assert [row.id for row in found] == in_order(rows, field, descending=descending)
        batches = list(store.batches(size=4))
        assert sorted(row.id for some in batches for row in some) == sorted(row.id for row in rows)

    def test_filters_that_python_calls_equal(self, store: Store) -> None:
        """True and 1 are two values, also to a store that was just asked for the other."""
        store.upsert([a_row(store, 1, flag=True), a_row(store, 2, flag=1)])
        for value in (True, 1, True, 1.0):
            assert [row.payload["n"] for row in store.scan(where=F.flag == value)] == [1 if value is True else 2]

    def test_strings_that_differ_in_white_space(self, store: Store) -> None:
        """White space before, in and behind a string is part of it, of whichever kind it is."""
        values = ["x", "x ", " x", "x  ", "x\t", "x\n", "x\u00a0", "x\u2003", "x y", "x  y", "x\u00a0y", " "]
        store.upsert([a_row(store, i, said=value, all=[value]) for i, value in enumerate(values)])
        for i, value in enumerate(values):
            for where in (F.said == value, F.said.in_([value]), F.all.contains(value)):
                assert [row.payload["n"] for row in store.scan(where=where)] == [i]

    @pytest.mark.exhaustive
    @pytest.mark.timeout(900)
    def test_two_hundred_queries_over_two_thousand(self, large: Store) -> None:
        """The first ten of 200 queries over 2 000 rows are those of numpy, in its order but for ties."""
        rows = [a_row(large, i) for i in range(2000)]
        place = {row.id: i for i, row in enumerate(rows)}
        large.upsert(rows)
        matrix = np.asarray([row.vector for row in rows])
        for seed in range(10_000, 10_200):
            query = a_vector(large, seed)
            similar = matrix @ np.asarray(query)
            best = np.argsort(-similar, kind="stable")[:10]
            hits = large.nearest(query, where=F.user_id == "alex", limit=10)
            assert [hit.similarity for hit in hits] == pytest.approx([similar[i] for i in best], abs=1e-3)
            mine = [float(similar[place[hit.row.id]]) for hit in hits]  # in order, but for what nobody can tell apart
            assert mine == pytest.approx([similar[i] for i in best], abs=SAME)
            assert len({hit.row.id for hit in hits}) == 10

    @pytest.mark.exhaustive
    @pytest.mark.timeout(1800)
    @pytest.mark.filterwarnings("ignore:Local mode is not recommended")  # Qdrant's client, above 20 000
    def test_a_small_tenant_among_fifty_thousand(self, large: Store) -> None:
        """A tenant with 30 rows among 50 000 of others gets all of the 20 nearest, in every one of 20 searches."""
        small = [a_row(large, i, user="small") for i in range(30)]
        for start in range(0, 50_000, 5000):
            large.upsert([a_row(large, 100 + i, user=f"user {i % 50}") for i in range(start, start + 5000)])
        large.upsert(small)
        large.tidy()
        matrix = np.asarray([row.vector for row in small])
        for seed in range(200_000, 200_020):
            query = a_vector(large, seed)
            hits = large.nearest(query, where=F.user_id == "small", limit=20)
            assert [hit.row.id for hit in hits] == ranked(small, matrix @ np.asarray(query))[:20]
        assert large.count() == 50_030
        listed = [row.id for page in large.pages(size=1000) for row in page]
        assert (len(listed), len(set(listed))) == (50_030, 50_030)

    def test_vectors_without_a_direction(self, store: Store) -> None:
        """A row, or a query, whose vector is zero is similar to nothing: 0, and no error."""
        zero = [0.0] * store.dimensions
        store.upsert([Row(new_id(), a_row(store, 1).payload, zero), a_row(store, 2)])
        assert sorted(hit.similarity for hit in store.nearest(a_vector(store, 2), limit=5)) == pytest.approx([0, 1])
        assert [hit.similarity for hit in store.nearest(zero, limit=5)] == [0, 0]

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("field", FIELDS)
    def test_listings_are_sorted(self, store: Store, field: SortField, descending: bool) -> None:
        """Rows come by the instant and then the id; from any row on, the listing goes on behind it."""
        rows = [a_row(store, i, category="work" if i % 2 else "home") for i in range(60)]
        store.upsert(rows)
        for where, some in ((ALL, rows), (F.category == "work", rows[1::2])):
            expected = in_order(some, field, descending=descending)
            listed = store.scan(where=where, field=field, descending=descending)
            assert [row.id for row in listed] == expected
            for place in (0, 1, 7, 28, len(some) - 1):
                after = (instant_of(listed[place].payload, field) or START, listed[place].id)
                rest = store.scan(where=where, field=field, descending=descending, after=after, limit=9)
                assert [row.id for row in rest] == expected[place + 1 : place + 10]

    @pytest.mark.parametrize("descending", [False, True])
    def test_listings_to_the_microsecond(self, store: Store, descending: bool) -> None:
        """Instants a microsecond apart are in order, however they are written, also from a row on that is gone."""
        step = timedelta(microseconds=1)
        times = [START + i * step for i in (-1, 0, 1, 2, 1000, 1001, 10**6)]
        rows = []
        for i, at in enumerate(times[3:] + times[:3]):
            row = a_row(store, i)
            written = at.astimezone(timezone(timedelta(hours=-7))) if i % 2 else at
            rows.append(Row(row.id, {**row.payload, **dict.fromkeys(FIELDS, written.isoformat())}, row.vector))
        store.upsert(rows)
        for field in FIELDS:
            expected = in_order(rows, field, descending=descending)
            assert [row.id for row in store.scan(field=field, descending=descending)] == expected
        expected = in_order(rows, "created_at", descending=descending)
        (gone,) = store.fetch([expected[2]])
        store.remove([gone.id])
        rest = store.scan(descending=descending, after=(sort_value(gone, "created_at"), gone.id), limit=9)
        assert [row.id for row in rest] == expected[3:]

    def test_rows_without_an_instant(self, store: Store) -> None:
        """A row of Mem0's that tells only when it was stored is in every listing, where `sort_value` has it."""
        full, bare = [a_row(store, i) for i in range(4)], a_row(store, 9)
        payload = {name: value for name, value in bare.payload.items() if name not in ("updated_at", "occurred_at")}
        rows = [*full, Row(bare.id, payload, bare.vector)]
        store.upsert(rows)
        for field in FIELDS:
            dated = sorted((sort_value(row, field), row.id) for row in rows)
            expected = [row_id for _, row_id in dated]
            listed = [row.id for size in (1, 9) for row in store.iter_scan(field=field, descending=False, size=size)]
            assert listed == expected * 2

    def test_fields_that_no_payload_has(self, store: Store) -> None:
        """Rows are found by fingerprint, word, speaker and place in a run, as duplicates and ranking ask for them."""
        talk = Scope("alex", run_id="talk")
        when: dict[str, Any] = dict.fromkeys(FIELDS, START)
        rows = []
        for i, (name, text) in enumerate([("Maria", "tea at noon"), ("Ivo", "a walk"), (None, "tea and a walk")]):
            base = a_row(store, i)
            source = (Source("user", name, i),)
            payload = build(text=text, scope=talk, metadata={}, source=source, **when)
            rows.append(Row(base.id, payload, base.vector))
        store.upsert([*rows, a_row(store, 9)])

        def found(field: str, *values: str) -> list[int]:
            ids = {row.id for row in store.scan(where=all_of(F.user_id == "alex", In(field, values)))}
            return [i for i, row in enumerate(rows) if row.id in ids]

        prints = [fingerprint_of(row.payload) for row in rows]
        assert sorted(row.id for row in store.equal_to(prints[:2])) == sorted(row.id for row in rows[:2])
        assert found(FINGERPRINT, prints[2], "none") == [2]
        for word in word_keys({"data": "tea"}):
            assert found(WORD, word) == [0, 2]
        assert found(NAME, *name_keys(rows[0].payload)) == [0]
        assert found(NAME, *name_keys(rows[1].payload), *name_keys(rows[0].payload)) == [0, 1]
        places = [place_of(*place_in_run(row.payload)) for row in rows]
        assert found(PLACE, places[1], places[2]) == [1, 2]

    @pytest.mark.parametrize("where", [F.category == "work", F.category.icontains("WOR")], ids=["native", "residual"])
    @pytest.mark.parametrize("vectors", [False, True])
    def test_batches(self, store: Store, where: Node, vectors: bool) -> None:
        """Batches have every row once, those before may be deleted, and each is as its rows are when it is read."""
        store.upsert([a_row(store, i, category="work" if i % 3 else "home") for i in range(90)])
        work = {row.id for row in store.scan(where=F.category == "work")}
        batches = store.batches(where=where, size=7, vectors=vectors)
        read = next(batches)
        gone, other = (row for row in store.fetch(sorted(work - {row.id for row in read}), vectors=True)[:2])
        store.remove([gone.id, *(row.id for row in read)])
        store.upsert([Row(other.id, {**other.payload, "category": "home"}, other.vector)])
        for rows in batches:
            assert len(rows) <= 7
            store.remove([row.id for row in rows])
            read += rows
        assert sorted(row.id for row in read) == sorted(work - {gone.id, other.id})
        assert not vectors or all(len(row.vector or ()) == store.dimensions for row in read)
        assert store.count() == 31

    @pytest.mark.exhaustive
    @pytest.mark.timeout(900)
    def test_a_long_listing(self, large: Store) -> None:
        """Of 6 000 rows, any page is the same part of the whole; what changes meanwhile is told as it is, or not."""
        rows = [a_row(large, i, category="work" if i % 9 else "home") for i in range(6000)]
        for start in range(0, len(rows), 1000):
            large.upsert(rows[start : start + 1000])
        work = [row for row in rows if row.payload["category"] == "work"]
        place = {row.id: row for row in rows}
        for field in FIELDS:
            for descending in (False, True):
                expected = in_order(work, field, descending=descending)
                for first in (0, 1, 700, len(work) - 50):
                    at = None
                    if first:
                        at = (instant_of(place[expected[first - 1]].payload, field) or START, expected[first - 1])
                    for limit in (1, 100, 2000):
                        page = large.scan(
                            where=F.category == "work", field=field, descending=descending, after=at, limit=limit
                        )
                        assert [row.id for row in page] == expected[first : first + limit]
        expected = in_order(work, "created_at", descending=False)
        pages = large.pages(where=F.category == "work", descending=False, size=1000)
        assert [row.id for row in next(pages)] == expected[:1000]
        gone, other, same = (place[row_id] for row_id in expected[-3:])
        large.remove([gone.id])
        large.upsert([Row(other.id, {**other.payload, "category": "home"}, other.vector)])
        large.upsert([Row(same.id, {**same.payload, "n": -1}, same.vector)])
        rest = [row for page in pages for row in page]
        assert [row.id for row in rest] == [*expected[1000:-3], same.id]
        assert rest[-1].payload["n"] == -1

    # -- the collection --------------------------------------------------------------------------

    def test_a_collection_belongs_to_an_embedder(self, store: Store) -> None:
        """What filled the collection is remembered, and another embedder is refused by name."""
        mine = store.read_fingerprint()
        assert mine is not None
        assert mine.dimensions == store.dimensions
        store.bind(mine)
        with pytest.raises(EmbedderMismatch) as caught:
            store.bind(Fingerprint(mine.provider, "another", mine.dimensions))
        assert "another" in str(caught.value)
        assert store.read_fingerprint() == mine

    def test_a_model_without_a_tag_is_the_latest(self, store: Store) -> None:
        """A model's name with and without ``:latest`` is one model; with another tag it is another."""
        mine = store.read_fingerprint()
        assert mine is not None
        store.bind(Fingerprint(mine.provider, f"{mine.model}:latest", mine.dimensions))
        assert store.read_fingerprint() == mine
        with pytest.raises(EmbedderMismatch):
            store.bind(Fingerprint(mine.provider, f"{mine.model}:v1.5", mine.dimensions))

    def test_a_sibling_is_apart(self, store: Store) -> None:
        """A sibling has rows and a note of its own, has them when it is asked for again, and is closed alone."""
        row, other = a_row(store, 1), a_row(store, 2)
        store.upsert([row])
        sibling = store.sibling("other")
        assert sibling.count() == 0
        assert store.has_sibling("other")
        sibling.upsert([other])
        assert [found.id for found in store.scan()] == [row.id]
        sibling.close()
        assert store.count() == 1
        sibling = store.sibling("other")
        assert [found.id for found in sibling.scan()] == [other.id]
        sibling.clear()
        assert store.count() == 1
        mine = store.read_fingerprint()
        sibling.write_fingerprint(Fingerprint("another", "model", store.dimensions))
        assert store.read_fingerprint() == mine
        assert store.sibling("other").read_fingerprint() == Fingerprint("another", "model", store.dimensions)

    def test_siblings_are_apart_from_each_other(self, store: Store) -> None:
        """Two siblings have rows of their own, and neither `clear` of the store nor of another sibling takes them."""
        one, two = store.sibling("other"), store.sibling("another")
        rows = [a_row(store, i) for i in range(3)]
        for place, row in zip((store, one, two), rows, strict=True):
            place.upsert([row])
        for place, row in zip((store, one, two), rows, strict=True):
            assert [found.id for found in place.scan()] == [row.id]
        store.clear()
        assert (one.count(), two.count()) == (1, 1)
        one.clear()
        assert two.count() == 1
        two.clear()
        for place in (one, two):
            place.close()

    def test_the_note_is_told_as_it_was_written(self, store: Store) -> None:
        """Capitals, spaces and signs of a model's name are kept; what is written last counts."""
        sibling = store.sibling("other")
        for model in ("Org/Modell-Ü v1.5:Q4", "org/modell"):
            sibling.write_fingerprint(Fingerprint("Provider", model, store.dimensions))
            assert sibling.read_fingerprint() == Fingerprint("Provider", model, store.dimensions)
        assert store.sibling("other").read_fingerprint() == sibling.read_fingerprint()

    def test_rows_of_mem0s_entities(self, store: Store) -> None:
        """A row that does not tell when it was stored, and has links without end, is told as it was given."""
        owner = {"user_id": "alex"}
        mem0s = {"data": "Lisbon", "entity_type": "PROPER", "linked_memory_ids": [new_id()], **owner}
        store.insert([a_vector(store, 1)], [mem0s], [key := new_id()])
        (listed,), (hit,) = store.list(owner)[0], store.search("", a_vector(store, 1), filters=owner)
        assert listed.id == hit.id == key
        links = [new_id() for _ in range(5_462)]
        store.update(key, None, {**hit.payload, "linked_memory_ids": links})
        changed = store.get(key)
        assert changed is not None
        assert changed.payload == {**hit.payload, "linked_memory_ids": links}
        assert hit.payload == {**mem0s, "created_at": hit.payload["created_at"]}
        store.update(key, None, mem0s)
        assert [row.payload for row in store.list(owner)[0]] == [hit.payload]

    def test_clearing(self, store: Store) -> None:
        """Cleared, the collection is empty, belongs to the same embedder, and takes rows again."""
        store.upsert([a_row(store, i) for i in range(40)])
        mine = store.read_fingerprint()
        store.clear()
        assert (store.count(), store.scan(), store.read_fingerprint()) == (0, [], mine)
        store.clear()
        store.upsert([a_row(store, 1)])
        assert store.count() == 1

    def test_after_closing(self, memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every call of a closed store is a StoreError that says so, disk or none; closing again does nothing."""
        store = parts_of(memory).store
        row = a_row(store, 1)
        store.upsert([row])
        store.fetch([row.id])  # what a store keeps is closed, too
        store.close()
        store.close()
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))
        calls: list[Callable[[], object]] = [
            lambda: store.upsert([row]),
            lambda: store.fetch([row.id]),
            lambda: store.remove([row.id]),
            lambda: store.nearest(a_vector(store, 1), limit=1),
            store.scan,
            store.count,
            store.clear,
        ]
        for call in calls:
            with pytest.raises(StoreError, match="closed"):
                call()

    def test_it_describes_itself(self, store: Store) -> None:
        """`stats` names the engine and counts; the label is text on one line."""
        store.upsert([a_row(store, i) for i in range(3)])
        stats = store.stats()
        assert (stats["store"], stats["collection"], stats["rows"]) == (store.label, store.collection, 3)
        assert store.label.isprintable()

    # -- what is declared ------------------------------------------------------------------------

    def test_every_declared_kind_is_known(self, store: Store) -> None:
        """The declaration names kinds of filters, and nothing else."""
        assert store.capabilities.pushdown <= {node.__name__ for node in NODES}
        assert all(isinstance(note, str) and note for note in store.capabilities.notes)

    @pytest.mark.parametrize("kind", LEAVES)
    def test_what_is_pushed_down(self, store: Store, kind: str) -> None:
        """A kind of filter that is declared is answered by the engine; one that is not, by the reference evaluator."""
        plan = store.plan(LEAVES[kind])
        if kind in store.capabilities.pushdown:
            assert plan.native is not None
        else:
            assert plan.native is None
            assert plan.residual is not None
        metadata: dict[str, Any] = {"category": "work", "tags": [1]}
        store.upsert([a_row(store, i, **(metadata if i % 2 else {})) for i in range(2, 12)])
        scoped = all_of(F.user_id == "alex", LEAVES[kind])
        expected = 10 if kind in ("Compare", "Exists") else 5
        assert store.count(scoped) == len(store.scan(where=scoped)) == expected

    def test_the_declaration_agrees_with_the_options(self, store: Store, backend: Backend) -> None:
        """Whether rows outlive the gateway is said once by the store and once by its options: the same."""
        assert store.capabilities.persistent is backend.persistent

    def test_opening_again(self, open_here: OpenHere, tmp_path: Path) -> None:
        """A persistent store has its rows and its embedder when it is opened again; any other one is empty."""
        first = open_here(tmp_path)
        store = parts_of(first).store
        rows = [a_row(store, i) for i in range(10)]
        store.upsert(rows)
        kept = store.capabilities.persistent
        mine = store.read_fingerprint()
        first.close()
        again = parts_of(open_here(tmp_path)).store
        assert by_id(again.scan()) == (by_id(rows) if kept else {})
        assert again.read_fingerprint() == mine

    def test_opening_again_after_changes(self, open_here: OpenHere, tmp_path: Path) -> None:
        """What was replaced, removed or cleared is so when it is opened again, in the store and in a sibling."""
        first = open_here(tmp_path)
        store = parts_of(first).store
        kept = store.capabilities.persistent
        rows = [a_row(store, i, category="work") for i in range(6)]
        new = Row(rows[0].id, a_row(store, 50).payload, a_vector(store, 50))
        sibling = store.sibling("other")
        for place in (store, sibling):
            place.upsert(rows)
            place.upsert([new])
            place.remove([row.id for row in rows[3:]])
        sibling.close()
        first.close()
        second = open_here(tmp_path)
        store = parts_of(second).store
        sibling = store.sibling("other")
        expected = [new, *rows[1:3]]
        for place in (store, sibling):
            assert by_id(place.scan()) == (by_id(expected) if kept else {})
            assert place.count(F.category == "work") == (2 if kept else 0)
            place.clear()
        sibling.close()
        second.close()
        assert parts_of(open_here(tmp_path)).store.count() == 0

    def test_collections_are_apart(self, backend: Backend, open_here: OpenHere, tmp_path: Path) -> None:
        """Another collection in the same place has nothing of the first one, and takes nothing from it."""
        name = f"{Settings.load(backend.config(tmp_path)).vector_store.collection}_b"
        with open_here(tmp_path) as first:
            kept = parts_of(first).store.capabilities.persistent
            (tea,) = first.add("tea", user_id="alex").stored
        with open_here(tmp_path, vector_store={"collection": name}) as other:
            assert not other.get_all(user_id="alex").memories
            other.add("coffee", user_id="alex")
            other.reset()
        assert [found.id for found in open_here(tmp_path).get_all(user_id="alex")] == ([tea.id] if kept else [])

    def test_a_process_that_is_killed(self, backend: Backend, open_here: OpenHere, tmp_path: Path) -> None:
        """What a process was told is stored is there after its end, though it closed nothing; and nothing is locked."""
        config = repr(dict(backend.config(tmp_path)))
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, config], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.stdout.strip() == "stored", done.stderr
        memory = open_here(tmp_path)
        expected = ["coffee", "tea at noon"] if parts_of(memory).store.capabilities.persistent else []
        assert sorted(found.text for found in memory.get_all(user_id="alex")) == expected

    def test_an_embedder_of_other_dimensions(self, backend: Backend, open_here: OpenHere, tmp_path: Path) -> None:
        """A collection is refused to vectors of another length when it is opened, and is as it was; or it is gone."""
        first = open_here(tmp_path)
        store = parts_of(first).store
        rows = [a_row(store, i) for i in range(10)]
        store.upsert(rows)
        mine, kept = store.read_fingerprint(), store.capabilities.persistent
        assert mine is not None
        first.close()
        section, kind = Settings.load(backend.config(tmp_path)).vector_store, cast("Any", type(store))
        for size in (mine.dimensions // 2, mine.dimensions + 1):
            other: Any = None
            try:
                with pytest.raises(StoreError, match=str(size)) if kept else nullcontext():
                    other = kind.open(section, dimensions=size)
                    other.bind(Fingerprint("another", "model", size))
            finally:
                if other is not None:
                    other.close()
        again = parts_of(open_here(tmp_path)).store
        assert by_id(again.scan()) == (by_id(rows) if kept else {})
        assert again.read_fingerprint() == mine
        assert [hit.row.id for hit in again.nearest(a_vector(store, 3), limit=1)] == ([rows[3].id] if kept else [])

    def test_another_process(self, backend: Backend, open_here: OpenHere, tmp_path: Path) -> None:
        """A shared store is seen by a second process; one that is not shared refuses it, or has nothing to share."""
        first = open_here(tmp_path)
        (stored,) = first.add("tea", user_id="alex").stored
        done = subprocess.run(
            [sys.executable, "-c", _OTHER, repr(dict(backend.config(tmp_path)))],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        told = done.stdout.strip()
        capabilities = parts_of(first).store.capabilities
        if not capabilities.persistent:
            assert told == "[]", done.stderr
        elif capabilities.shared_by_processes:
            assert told == f"['{stored.id}']", done.stderr
        else:
            assert told.startswith("StoreLocked"), done.stderr
        assert [found.id for found in first.get_all(user_id="alex")] == [stored.id]

    def test_many_writers_of_one_slot(self, open_here: OpenHere, tmp_path: Path) -> None:
        """Many writers of one slot leave one value, and one chain.

        Where a store declares one writer, some of them have histories of their own; elsewhere all share one.
        """
        here = open_here(tmp_path)
        gateways = [here]
        if parts_of(here).store.capabilities.one_writer:
            gateways += [open_here(tmp_path, history={"path": str(tmp_path / f"other{i}.db")}) for i in range(2)]

        def write(number: int) -> list[str]:
            alex = gateways[number % len(gateways)].for_user("alex")
            slot = {"category": "preferences", "key": "time", "value": str(number)}
            alex.add("the same for all")
            return [new.id for new in alex.add(f"at {number}", metadata=slot, on_conflict="supersede").stored]

        with ThreadPoolExecutor(6) as pool:
            ids = [key for found in pool.map(write, range(30)) for key in found]
        assert len(ids) == 30
        chain = {key: here.get(key).superseded_by for key in ids}
        assert sorted(successor is None for successor in chain.values()) == [False] * 29 + [True]
        assert len({successor for successor in chain.values() if successor}) == 29
        assert len(here.get_all(user_id="alex")) == 2


_KILLED: Final = """
import ast, os, sys
from memstack.factory import open_memory
memory = open_memory(ast.literal_eval(sys.argv[1]))
tea, gone = memory.add(["tea", "water"], user_id="alex").stored
memory.add("coffee", user_id="alex")
memory.update(tea.id, text="tea at noon")
memory.delete(gone.id)
print("stored", flush=True)
os._exit(1)
"""

_OTHER: Final = """
import ast, sys
from memstack.errors import StoreLocked
from memstack.factory import open_memory
config = ast.literal_eval(sys.argv[1])
try:
    with open_memory({**config, "history": {"path": ":memory:"}}) as memory:
        print([found.id for found in memory.get_all(user_id="alex")])
except StoreLocked as error:
    print(type(error).__name__)
"""
