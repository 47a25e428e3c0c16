"""Filters on an engine select what they mean: through search, listing, pages and deletion, whatever was done before."""

from __future__ import annotations

import base64
import json
import threading
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from itertools import count
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from memstack.errors import CursorError, FilterError, InvalidInput, MemoryNotFound, ScopeError
from memstack.filters import F, Node, evaluate, parse
from memstack.gateway import MemoryGateway, queries
from memstack.payload import fingerprint_of
from memstack.records import Memory, Order
from memstack.scope import Scope
from memstack.testing.contract.base import Contract
from memstack.testing.contract.oracle import Spec, fields_of, holds, instant_of
from memstack.testing.contract.strategies import (
    OCCASIONS,
    PHRASES,
    SCALARS,
    Drawn,
    Seeded,
    Vocabulary,
    a_corpus,
    a_filter,
    a_metadata,
    a_spec,
    examples,
    texts,
    vocabulary_of,
    words_of,
)

UTC = timezone.utc
NOW = datetime.now(UTC)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
BOTH: dict[str, Any] = {"agent_id": "bot", "run_id": "r1"}
ORDERS: tuple[Order, ...] = get_args(Order)
PARTS = 8
_fresh = (f"user-{number}" for number in count())


def hidden(memory: Memory) -> bool:
    """Whether a memory had expired when the tests began."""
    return memory.expires_at is not None and memory.expires_at <= NOW


def sorted_by(memories: Sequence[Memory], order: Order) -> list[str]:
    """The ids in an order: ties by id, ascending whichever way the order goes."""
    name = order.lstrip("-")
    by_id = sorted(memories, key=lambda memory: memory.id)
    return [memory.id for memory in sorted(by_id, key=lambda memory: getattr(memory, name), reverse=order != name)]


def paged(handle: MemoryGateway, limit: int, **arguments: Any) -> list[Memory]:
    """A listing, page by page."""
    found: list[Memory] = []
    cursor: str | None = None
    while True:
        page = handle.get_all(limit=limit, cursor=cursor, **arguments)
        assert len(page) <= limit
        assert page.next_cursor is None or len(page) == limit
        found.extend(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


# -- a seeded corpus -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """The memories of one user; another user has equal ones."""

    handle: MemoryGateway
    memories: tuple[Memory, ...]
    words: Vocabulary

    def expected(self, spec: Spec) -> set[str]:
        """What the oracle says a filter selects."""
        return {memory.id for memory in self.memories if not hidden(memory) and holds(spec, fields_of(memory))}


def _check(handle: MemoryGateway, spec: Spec, fields: dict[str, dict[str, Any]]) -> None:
    op, name, operand = spec
    expected = {key for key, seen in fields.items() if holds(spec, seen)}
    assert {hit.id for hit in handle.get_all(filters={name: {op: operand}}, limit=10_000)} == expected, spec


def _verbs(handle: MemoryGateway) -> list[Callable[[Any], object]]:
    """The verbs that take a filter."""
    return [
        lambda filters: handle.search("", filters=filters),
        lambda filters: handle.get_all(filters=filters),
        lambda filters: handle.iter_all(filters=filters),
        lambda filters: handle.delete_all(filters=filters),
    ]


# -- any sequence of operations ----------------------------------------------------------------------


class _AgainstModel(RuleBasedStateMachine):
    """A gateway beside a dict of memories: after every step, any filter selects the same of both."""

    memory: MemoryGateway  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.handle = self.memory.for_user(next(_fresh))
        self.model: dict[str, Memory] = {}
        self.clock = datetime(1970, 1, 1, tzinfo=UTC)

    def _equal(self, text: str, metadata: dict[str, Any], name: str | None) -> list[str]:
        wanted = _identity(text, metadata, name)
        return [
            memory.id
            for memory in self._visible()
            if _identity(memory.text, dict(memory.metadata), memory.source[0].name) == wanted
        ]

    def _words(self) -> Vocabulary:
        return words_of(self.model.values()) if self.model else vocabulary_of([{"category": "work", "n": 1}])

    @rule(text=texts, data=st.data())
    def add(self, text: str, data: st.DataObject) -> None:
        metadata = a_metadata(Drawn(data.draw))
        at = data.draw(st.one_of(st.none(), st.sampled_from(OCCASIONS)))
        expires_at = data.draw(st.sampled_from((None, None, None, PAST, datetime(2100, 1, 1, tzinfo=UTC))))
        message = {"role": "user", "content": text, "occurred_at": at}
        result = self.handle.add(message, metadata=metadata, expires_at=expires_at)
        equal = self._equal(text, metadata, None)
        if equal:
            assert [(skip.reason, skip.memory_id in equal) for skip in result.skipped] == [("duplicate", True)]
            assert not result.stored
            return
        (stored,) = result.stored
        assert stored.text == text
        assert stored.metadata == {key: value for key, value in metadata.items() if value is not None}
        assert stored.expires_at == expires_at
        assert stored.created_at == stored.updated_at > self.clock
        assert stored.occurred_at == (stored.created_at if at is None else instant_of(at))
        self.clock = stored.created_at
        self.model[stored.id] = stored

    @precondition(lambda self: self.model)
    @rule(data=st.data(), text=st.one_of(st.none(), texts))
    def update(self, data: st.DataObject, text: str | None) -> None:
        source = Drawn(data.draw)
        before = source.pick(list(self.model.values()))
        metadata = a_metadata(source) if text is None or source.number(0, 1) else None
        expiry: dict[str, Any] = source.pick(({}, {}, {}, {"expires_at": None}, {"expires_at": PAST}))
        after = self.handle.update(before.id, text=text, metadata=metadata, **expiry)
        assert after.text == (before.text if text is None else text)
        merged = {**before.metadata, **(metadata or {})}
        assert after.metadata == {key: value for key, value in merged.items() if value is not None}
        assert after.expires_at == expiry.get("expires_at", before.expires_at)
        for kept in ("id", "scope", "created_at", "occurred_at", "source"):
            assert getattr(after, kept) == getattr(before, kept)
        assert after.updated_at >= before.updated_at
        self.model[after.id] = after

    @precondition(lambda self: self.model)
    @rule(data=st.data(), text=texts)
    def supersede(self, data: st.DataObject, text: str) -> None:
        source = Drawn(data.draw)
        named = source.pick(list(self.model.values()))
        old = self._in_place_of(named)
        changes = a_metadata(source)
        merged = {key: value for key, value in {**old.metadata, **changes}.items() if value is not None}
        new = self.handle.supersede(named.id, text, metadata=changes)
        if _identity(text, merged, None) == _identity(old.text, dict(old.metadata), old.source[0].name):
            assert new == old
            return
        assert (new.text, new.metadata, new.scope, new.expires_at) == (text, merged, old.scope, None)
        assert new.occurred_at == new.created_at == new.updated_at > self.clock
        self.clock = new.created_at
        self.model[new.id] = new
        # Where its successor is deleted, it ended then, and is followed by the new one.
        self.model[old.id] = replace(old, valid_to=old.valid_to or new.occurred_at, superseded_by=new.id)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.model)))
        self.handle.delete(key)
        del self.model[key]
        with pytest.raises(MemoryNotFound):
            self.handle.delete(key)

    @precondition(lambda self: len(self.model) > 3)
    @rule(data=st.data())
    def delete_some(self, data: st.DataObject) -> None:
        spec = a_spec(Drawn(data.draw), self._words(), 2)
        gone = [key for key, memory in self.model.items() if holds(spec, fields_of(memory))]
        assert self.handle.delete_all(filters=a_filter(Drawn(data.draw), spec)) == len(gone)
        for key in gone:
            del self.model[key]

    @rule(data=st.data())
    def filter(self, data: st.DataObject) -> None:
        source = Drawn(data.draw)
        spec = a_spec(source, self._words())
        filters = a_filter(source, spec)
        expected = [memory for memory in self._visible() if holds(spec, fields_of(memory))]
        hits = self.handle.search("tea", filters=filters, limit=1000)
        assert {hit.id for hit in hits} == {memory.id for memory in expected}
        order = source.pick(ORDERS)
        found = paged(self.handle, source.number(1, 10), filters=filters, order=order)
        assert [memory.id for memory in found] == sorted_by(expected, order)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        expected = data.draw(st.sampled_from(list(self.model.values())))
        assert self.handle.get(expected.id) == expected

    @invariant()
    def same_memories(self) -> None:
        listed = list(self.handle.iter_all())
        assert [memory.id for memory in listed] == sorted_by(self._visible(), "-created_at")
        assert {memory.id: memory for memory in listed} == {memory.id: memory for memory in self._visible()}

    def teardown(self) -> None:
        assert self.handle.delete_all() == len(self.model)

    def _visible(self) -> list[Memory]:
        return [memory for memory in self.model.values() if not hidden(memory) and memory.valid_to is None]

    def _in_place_of(self, memory: Memory) -> Memory:
        """The last of those that took a memory's place; itself, where that one is deleted."""
        while memory.superseded_by in self.model:
            memory = self.model[memory.superseded_by]
        return memory


def _identity(text: str, metadata: dict[str, Any], name: str | None) -> str:
    """What makes two memories of a scope the same one: words, speaker, metadata with its types."""
    folded = " ".join(unicodedata.normalize("NFC", text).split())
    return repr((folded, name, _typed(metadata)))


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _typed(item)) for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return (type(value).__name__, repr(value))


class _Named(str, Enum):
    KIND = "kind"


class FilterContract(Contract):
    """Filters on an engine select what they mean."""

    @pytest.fixture(scope="class")
    @classmethod
    def corpus(cls, shared_memory: MemoryGateway) -> Corpus:
        """Memories of alex, in several runs and some of an agent's; and as many of bob's. More than 200 together."""
        source = Seeded(17)
        items = a_corpus(source, 110)
        for item in items:
            item.update(source.pick(({}, {"run_id": "r1"}, {"run_id": "r2"}, {"agent_id": "bot"}, BOTH)))
        results = {user: shared_memory.add_many(items, user_id=user) for user in ("alex", "bob")}
        for result in results.values():
            assert not result.failed
            assert {skip.reason for skip in result.skipped} <= {"duplicate"}
            assert len(result.stored) > 100
        mine = results["alex"].stored
        return Corpus(shared_memory.for_user("alex"), mine, words_of(mine))

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("part", range(PARTS))
    def test_two_thousand_filters(self, corpus: Corpus, part: int) -> None:
        """Search, listing and pages give just what the evaluator and the oracle select: 2 000 filters, in parts."""
        source = Seeded(2000 + part)
        seen = [(memory, fields_of(memory)) for memory in corpus.memories if not hidden(memory)]
        matching = 0
        for number in range(2000 // PARTS):
            spec = a_spec(source, corpus.words)
            filters = a_filter(source, spec)
            node = parse(filters)
            expected = {memory.id for memory, fields in seen if evaluate(node, fields)}
            assert expected == corpus.expected(spec), filters
            matching += 0 < len(expected) < len(seen)

            query = PHRASES[number % len(PHRASES)] if number % 4 else ""
            hits = [hit.id for hit in corpus.handle.search(query, filters=filters, limit=10_000)]
            assert len(hits) == len(set(hits))
            assert set(hits) == expected, filters
            limit = 10_000 if number % 4 else source.number(30, 120)
            listed = [memory.id for memory in paged(corpus.handle, limit, filters=filters, order=ORDERS[number % 6])]
            assert len(listed) == len(set(listed))
            assert set(listed) == expected, filters
        assert 0.4 < matching / (2000 // PARTS) < 0.8

    def test_limits_cut_the_same_answer(self, corpus: Corpus) -> None:
        """The first `limit` hits and memories of a filter are the first of all of them, whatever is evaluated where."""
        source = Seeded(3)
        for number in range(25):
            filters = a_filter(source, a_spec(source, corpus.words))
            order, limit = ORDERS[number % 6], source.number(1, 40)
            query = PHRASES[number % 20]
            hits = [hit.id for hit in corpus.handle.search(query, filters=filters, limit=10_000)]
            assert [hit.id for hit in corpus.handle.search(query, filters=filters, limit=limit)] == hits[:limit]
            listed = [memory.id for memory in corpus.handle.get_all(filters=filters, limit=10_000, order=order)]
            page = corpus.handle.get_all(filters=filters, limit=limit, order=order)
            assert [memory.id for memory in page] == listed[:limit]
            assert (page.next_cursor is None) is (len(listed) <= limit)

    @pytest.mark.exhaustive
    def test_filters_within_a_run(self, corpus: Corpus, shared_memory: MemoryGateway) -> None:
        """A run or an agent named by argument, by handle or in the filter narrows to the same memories."""
        source = Seeded(5)
        for _ in range(25):
            spec = a_spec(source, corpus.words)
            filters = a_filter(source, spec)
            narrower: list[dict[str, Any]] = [{"run_id": "r1"}, {"agent_id": "bot"}, BOTH, {"run_id": "none"}]
            for scope in narrower:
                inside = {memory.id for memory in corpus.memories if Scope(**scope).covers(memory.scope)}
                expected = corpus.expected(spec) & inside
                named = {"AND": [{"user_id": "alex"}, scope, filters]}
                for found in (
                    corpus.handle.search("", filters=filters, limit=10_000, **scope),
                    corpus.handle.scoped(**scope).get_all(filters=filters, limit=10_000),
                    shared_memory.get_all(filters=named, limit=10_000),
                    shared_memory.search("tea", filters=named, limit=10_000),
                ):
                    assert {memory.id for memory in found} == expected

    def test_the_filter_of_the_lesson(self, memory: MemoryGateway) -> None:
        """The lesson's filter, word for word, finds alex's preferences of the time, and nothing else."""
        alex = memory.for_user("alex")
        (wanted,) = alex.add("I prefer tasks scheduled in the morning", metadata={"category": "preferences"}).stored
        alex.add("I'm working on the Phoenix project", metadata={"category": "projects"})
        memory.add("I prefer tasks scheduled in the evening", user_id="bob", metadata={"category": "preferences"})
        filters = {"AND": [{"user_id": "alex"}, {"category": "preferences"}, {"created_at": {"gte": "2025-01-01"}}]}
        for handle in (memory, alex):
            assert [hit.id for hit in handle.search("when?", filters=filters)] == [wanted.id]
            assert [found.id for found in handle.get_all(filters=filters)] == [wanted.id]
        assert memory.mem0.search("when?", filters={"user_id": "alex", **filters})["results"][0]["id"] == wanted.id

    def test_fields_that_are_members_of_an_enum(self, memory: MemoryGateway) -> None:
        """A field named by a member of a ``str`` Enum, in metadata or in a filter, is the one of the member's value."""
        alex = memory.for_user("alex")
        alex.add("tea", metadata={_Named.KIND: "a", "nested": {_Named.KIND: 1}})
        alex.add("coffee", metadata={"kind": "a", "nested": {"kind": 1}})
        assert [found.metadata for found in alex.get_all()] == [{"kind": "a", "nested": {"kind": 1}}] * 2
        spelled: list[Any] = [
            {_Named.KIND: "a"},
            F[_Named.KIND] == "a",
            {_Named.KIND: "*"},
            {_Named.KIND: {"in": ["a"]}},
        ]
        for filters in (*spelled, {"kind": "a"}, {"nested.kind": {"gte": 1}}):
            assert len(alex.get_all(filters=filters)) == 2, filters

    @pytest.mark.parametrize("text", ["2024-05-01", "2024-05-01T08:00:00Z"])
    def test_a_text_that_is_an_instant(self, memory: MemoryGateway, text: str) -> None:
        """The text is a field like others: where it is ISO text, it compares as an instant."""
        (stored,) = memory.add(text, user_id="alex").stored
        for name in ("text", "memory", "data"):
            for filters, expected in (
                ({name: {"gte": "2024-01-01"}}, True),
                ({name: {"lt": "2024-01-01"}}, False),
                ({"NOT": [{name: {"gt": date(2024, 1, 1)}}]}, False),
                ({name: text}, True),
                ({name: {"gt": 5}}, False),
            ):
                found = [hit.id for hit in memory.search("", user_id="alex", filters=filters)]
                assert found == ([stored.id] if expected else []), filters

    def test_instants_far_from_now(self, memory: MemoryGateway) -> None:
        """Microseconds count at both ends of the calendar, where a float cannot hold them."""
        alex = memory.for_user("alex")
        last, first = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)
        steps = [timedelta(microseconds=3 * k) for k in range(40)]
        times = [*(last - step for step in steps), *(first + step for step in steps)]
        items = [{"content": f"memory {i}", "occurred_at": at, "metadata": {"at": at}} for i, at in enumerate(times)]
        stored = alex.add_many(items).stored
        assert len(stored) == 80
        for base in (last, first):
            for number in range(0, 118, 9):
                step = timedelta(microseconds=number)
                bound = base - step if base is last else base + step
                for name in ("occurred_at", "at"):
                    for op in ("gt", "gte", "lt", "lte", "eq", "ne"):
                        expected = {memory_.id for memory_ in stored if holds((op, name, bound), fields_of(memory_))}
                        found = {hit.id for hit in alex.search("", filters={name: {op: bound}}, limit=100)}
                        assert found == expected, (name, op, bound)
        for order in ("occurred_at", "-occurred_at"):
            assert [found.id for found in paged(alex, 7, order=order)] == sorted_by(stored, order)

    def test_no_field_of_the_library_can_be_filtered_by(self, memory: MemoryGateway) -> None:
        """What the library keeps for itself beside a memory is no field of it: it is missing, as the reference says."""
        (stored,) = memory.add("tea", user_id="alex", metadata={"a": 1}).stored
        fingerprint = fingerprint_of({"data": "tea", "user_id": "alex", "a": 1})
        for name in ("_fingerprint", "_memstack", "terms", "numbers", "instants", "times", "body", "vector", "score"):
            for asked in ("*", fingerprint, [fingerprint, "tea"], {"contains": "a"}, {"gt": 0}):
                with suppress(FilterError):  # refusing the name is as good
                    assert memory.search("", user_id="alex", filters={name: asked}) == [], name
                    complement = memory.search("", user_id="alex", filters={"NOT": [{name: asked}]})
                    assert [hit.id for hit in complement] == [stored.id], name

    def test_every_operator_alone_on_every_kind_of_value(self, memory: MemoryGateway) -> None:
        """Each operator with each operand, over a field that has every value once: exactly the oracle's answer."""
        alex = memory.for_user("alex")
        items = [{"content": f"memory {i}", "metadata": {"v": value}} for i, value in enumerate(SCALARS)]
        stored = alex.add_many(items).stored
        fields = {one.id: fields_of(one) for one in stored}
        for number, value in enumerate(SCALARS):
            specs: list[Spec] = [("eq", "v", value), ("contains", "v", value)]
            if number % 8 == 0:
                specs.append(("ne", "v", value))
            if isinstance(value, str):
                specs.append(("icontains", "v", value))
            for spec in specs:
                _check(alex, spec, fields)
            for op in ("gt", "gte", "lt", "lte"):
                try:
                    parse({"v": {op: value}})
                except FilterError:
                    continue
                _check(alex, (op, "v", value), fields)

    def test_filters_that_delete(self, shared_memory: MemoryGateway) -> None:
        """`delete_all` removes what its filter selects, the expired too, tells how many, and leaves everything else."""
        source = Seeded(23)
        items = a_corpus(source, 60)
        for _ in range(15):
            user = next(_fresh)
            handle = shared_memory.for_user(user)
            stored = handle.add_many(items).stored
            spec = a_spec(source, words_of(stored))
            gone = {memory.id for memory in stored if holds(spec, fields_of(memory))}
            assert handle.delete_all(filters=a_filter(source, spec)) == len(gone)
            left = {memory.id for memory in stored if not hidden(memory)} - gone
            assert {memory.id for memory in handle.get_all(limit=1000)} == left
            for memory in stored:
                if memory.id in gone:
                    with pytest.raises(MemoryNotFound):
                        handle.get(memory.id)
                    assert handle.history(memory.id)[-1].event == "DELETE"
                else:
                    assert handle.get(memory.id) == memory
            assert handle.delete_all(filters={"OR": []}) == 0
            assert handle.delete_all() == len(stored) - len(gone)

    def test_errors_of_filters_reach_the_caller(self, shared_memory: MemoryGateway) -> None:
        """A filter without meaning is a `FilterError` with its place, from every verb that takes one."""
        handle = shared_memory.for_user(next(_fresh))
        handle.add("tea")
        wrong: list[tuple[Any, str]] = [
            ({"AND": [{"n": {"$gte": 1}}]}, "filters.AND[0].n.$gte"),
            ({"": 1}, "filters"),
            ([], "filters"),
        ]
        for filters, place in wrong:
            for verb in _verbs(handle):
                with pytest.raises(FilterError) as caught:
                    verb(filters)
                assert caught.value.field == place
        deep: Node = F.a == 1
        for _ in range(3000):
            deep = ~deep
        with pytest.raises(FilterError):
            handle.search("", filters=deep)
        assert len(handle.get_all()) == 1

    # -- listing ---------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def listing(cls, shared_memory: MemoryGateway) -> Corpus:
        """Memories of which many were said at the same instant."""
        handle = shared_memory.for_user(next(_fresh))
        source = Seeded(31)
        moments = [*OCCASIONS[:6], *OCCASIONS[-6:], datetime(2026, 5, 1, tzinfo=UTC)]
        items = [
            {"content": f"memory {i}", "metadata": {"n": i % 5}, "occurred_at": source.pick(moments)}
            for i in range(120)
        ]
        memories = list(handle.add_many(items).stored)
        for place in (3, 50, 7):
            memories[place] = handle.update(memories[place].id, metadata={"n": 9})
        return Corpus(handle, tuple(memories), words_of(memories))

    def test_pages_grow(self, listing: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
        """One after the other, a long listing takes few pages, and all of it is told, in every order."""
        monkeypatch.setattr("memstack.gateway.sync.FIRST_PAGE", 4)
        sizes: list[int] = []
        page = queries.page

        def noted(*given: Any, **asked: Any) -> Any:
            sizes.append(asked["limit"])
            return page(*given, **asked)

        monkeypatch.setattr(queries, "page", noted)
        for order in ORDERS:
            sizes.clear()
            told = [memory.id for memory in listing.handle.iter_all(order=order)]
            assert told == sorted_by(listing.memories, order)
            assert sizes == [4, 8, 16, 32, 64]

    @pytest.mark.parametrize("order", ORDERS)
    def test_pages_equal_the_whole(self, listing: Corpus, order: Order) -> None:
        """Page by page is all at once, in every order, for every page size, also where instants tie."""
        expected = sorted_by(listing.memories, order)
        for limit in (1, 2, 7, 59, 60, 119, 120, 121, 10_000):
            assert [memory.id for memory in paged(listing.handle, limit, order=order)] == expected
        assert [memory.id for memory in listing.handle.iter_all(order=order)] == expected
        some = [memory for memory in listing.memories if memory.metadata["n"] in (1, 9)]
        filters = {"n": {"in": [1, 9]}, "text": {"contains": "memory"}}
        for limit in (1, 4, 100):
            found = [memory.id for memory in paged(listing.handle, limit, order=order, filters=filters)]
            assert found == sorted_by(some, order)

    def test_the_default_order_is_newest_first(self, listing: Corpus) -> None:
        """Without an order, and for an empty query, the newest memory comes first."""
        newest = sorted_by(listing.memories, "-created_at")
        assert [memory.id for memory in listing.handle.get_all()] == newest[:100]
        assert [hit.id for hit in listing.handle.search("", limit=30)] == newest[:30]
        assert [hit.id for hit in listing.handle.search("  \n")] == newest[:10]

    def test_a_page_of_nothing(self, shared_memory: MemoryGateway) -> None:
        """A scope without memories has one page, which is empty and the last."""
        page = shared_memory.get_all(user_id=next(_fresh))
        assert (len(page), page.next_cursor, list(page)) == (0, None, [])

    @pytest.mark.parametrize("limit", [0, -1, 10_001, True, 2.5, "10", None])
    def test_limits_that_are_none(self, listing: Corpus, limit: Any) -> None:
        """A limit is an int from 1 to 10 000."""
        with pytest.raises(InvalidInput) as caught:
            listing.handle.get_all(limit=limit)
        assert caught.value.field == "limit"

    @pytest.mark.parametrize(
        "order", ["", "created", "--created_at", "-", "score", None, 5, "CREATED_AT", "created_at "]
    )
    def test_orders_that_are_none(self, listing: Corpus, order: Any) -> None:
        """An unknown order is refused by name."""
        with pytest.raises(InvalidInput) as caught:
            listing.handle.get_all(order=order)
        assert caught.value.field == "order"

    def test_a_cursor_belongs_to_its_listing(self, listing: Corpus, shared_memory: MemoryGateway) -> None:
        """With another scope, filter or order, a cursor is a `CursorError`."""
        filters = {"n": {"lt": 4}}
        cursor = listing.handle.get_all(limit=5, filters=filters, order="created_at").next_cursor
        assert cursor is not None
        same: dict[str, Any] = {"filters": {"AND": [{"n": {"lt": 4}}]}, "order": "created_at", "cursor": cursor}
        assert len(listing.handle.get_all(limit=3, **same)) == 3
        other = shared_memory.for_user(next(_fresh))
        other.add("tea", metadata={"n": 1})
        changes: list[tuple[MemoryGateway, dict[str, Any]]] = [
            (listing.handle, {"filters": {"n": {"lte": 4}}}),
            (listing.handle, {"filters": {"n": {"lt": 4.5}}}),
            (listing.handle, {"filters": None}),
            (listing.handle, {"order": "-created_at"}),
            (listing.handle, {"order": "updated_at"}),
            (listing.handle.scoped(run_id="r"), {}),
            (listing.handle, {"agent_id": "bot"}),
            (other, {}),
        ]
        for handle, change in changes:
            with pytest.raises(CursorError):
                handle.get_all(**{**same, **change})

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"AND": [{"a": 1}, {"b": 2}]}, {"a eq 1 AND b": 2}),
            ({"NOT": [{"a": 1}]}, {"NOT a": 1}),
            ({"a": {"ne": 1}}, {"a": {"ne": True}}),
            ({"a": {"nin": ["x", "y"]}}, {"a": {"nin": ["x', 'y"]}}),
        ],
    )
    def test_filters_that_read_alike(self, memory: MemoryGateway, one: Any, other: Any) -> None:
        """A cursor of one filter is refused with another, however much the two look alike in words."""
        alex = memory.for_user("alex")
        both = {"a eq 1 AND b": 2, "NOT a": 1, "b": 2}
        alex.add_many([{"content": f"memory {i}", "metadata": {**both, "a": 1 + 2 * (i % 2)}} for i in range(9)])
        cursor = alex.get_all(filters=one, limit=1).next_cursor
        assert cursor is not None
        with pytest.raises(CursorError):
            alex.get_all(filters=other, limit=1, cursor=cursor)

    def test_cursors_that_are_none(self, listing: Corpus) -> None:
        """Garbage, truncated, tampered or of another type: `CursorError`, always."""
        cursor = listing.handle.get_all(limit=5).next_cursor
        assert cursor is not None
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        content = json.loads(plain)

        def written(changed: Any) -> str:
            return base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")

        tampered = [
            written(changed)
            for changed in (
                None, 5, [], {}, "x", content[:2], [*content, 1], dict.fromkeys("abc"), [content[0], content[1], None],
                ["x", *content[1:]], [None, *content[1:]], [10**30, *content[1:]], [1e400, *content[1:]],
                [content[0], "no uuid", content[2]], [content[0], None, content[2]], [*content[:2], content[2][:-1]],
            )
        ]  # fmt: skip
        bad: list[Any] = [cursor[:length] for length in range(len(cursor))]
        bad += [*tampered, cursor + "A", "A" + cursor, cursor[::-1], "é" * 40, "\ud800", "A" * 100_000, " ", "\0"]
        bad += [base64.urlsafe_b64encode(b"[" * 100_000).decode(), base64.urlsafe_b64encode(b"9" * 5000).decode()]
        bad += [5, 2.5, True, b"x", ["x"], {"x": 1}, plain]
        for wrong in bad:
            with pytest.raises(CursorError):
                listing.handle.get_all(limit=5, cursor=wrong)

    def test_a_cursor_outlives_the_memory_it_stands_on(self, shared_memory: MemoryGateway) -> None:
        """Where the last memory of a page was deleted or changed, the next page still begins after it."""
        handle = shared_memory.for_user(next(_fresh))
        at = datetime(2026, 3, 1, tzinfo=UTC)
        stored = handle.add_many([{"content": f"memory {i}", "occurred_at": at} for i in range(12)]).stored
        expected = sorted(memory.id for memory in stored)
        page = handle.get_all(limit=4, order="occurred_at")
        assert [memory.id for memory in page] == expected[:4]
        handle.delete(expected[3])
        following = handle.get_all(limit=4, order="occurred_at", cursor=page.next_cursor)
        assert [memory.id for memory in following] == expected[4:8]

    @pytest.mark.parametrize("order", ORDERS)
    def test_listing_while_another_thread_writes(self, shared_memory: MemoryGateway, order: Order) -> None:
        """Memories that nobody touches are listed once each, in order, while others come, change and go around them."""
        handle = shared_memory.for_user(next(_fresh))
        moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 2, 2, 3)]
        calm: list[Memory] = []
        passing: list[Memory] = []
        for i in range(20):  # the calm and the passing lie between one another
            items = [
                {"content": f"{kind} {i} {j}", "metadata": {"kind": kind}, "occurred_at": moments[j]}
                for j in range(5)
                for kind in ("calm", "passing")
            ]
            stored = handle.add_many(items).stored
            calm += [memory for memory in stored if memory.metadata["kind"] == "calm"]
            passing += [memory for memory in stored if memory.metadata["kind"] == "passing"]
        expected = sorted_by(calm, order)
        stop = threading.Event()
        errors: list[BaseException] = []

        def write() -> None:
            try:
                for i in count():
                    if stop.is_set():
                        return
                    victim = passing.pop(i * 7 % len(passing))
                    handle.delete(victim.id)
                    moment = moments[i % 5]
                    passing.extend(handle.add({"role": "user", "content": f"new {i}", "occurred_at": moment}).stored)
                    changed = passing[i * 3 % len(passing)]
                    handle.update(changed.id, metadata={"i": i})
            except BaseException as error:  # noqa: BLE001  # shown by the test
                errors.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for limit in (7, 3, 20, 150) * 3:
                seen = [memory.id for memory in paged(handle, limit, order=order)]
                wanted = set(expected)
                assert [key for key in seen if key in wanted] == expected, f"limit {limit}"
                filtered = paged(handle, limit, order=order, filters={"kind": "calm", "text": {"contains": "calm"}})
                assert [memory.id for memory in filtered] == expected, f"limit {limit}, filtered"
        finally:
            stop.set()
            writer.join()
        assert not errors

    def test_changing_what_lies_around_hides_nothing(self, shared_memory: MemoryGateway) -> None:
        """A memory that is being updated is there at every moment: a search or listing by creation never misses it."""
        handle = shared_memory.for_user(next(_fresh))
        stored = handle.add_many([{"content": f"memory {i}", "metadata": {"n": 0}} for i in range(60)]).stored
        everything = {memory.id for memory in stored}
        stop = threading.Event()
        errors: list[BaseException] = []

        def change() -> None:
            try:
                for i in count():
                    if stop.is_set():
                        return
                    handle.update(stored[i % 60].id, metadata={"n": i})
            except BaseException as error:  # noqa: BLE001  # shown by the test
                errors.append(error)

        writer = threading.Thread(target=change)
        writer.start()
        try:
            for _ in range(20):
                listed = [memory.id for memory in paged(handle, 25, order="created_at")]
                assert sorted(listed) == sorted(everything)
                assert {hit.id for hit in handle.search("memory", limit=100)} == everything
                assert {hit.id for hit in handle.search("", filters={"n": {"gte": 0}}, limit=100)} == everything
        finally:
            stop.set()
            writer.join()
        assert not errors

    @pytest.mark.exhaustive
    @pytest.mark.timeout(900)  # hypothesis takes its time to make a failing sequence short
    def test_any_sequence_of_operations(self, shared_memory: MemoryGateway) -> None:
        """Whatever was added, changed, superseded and deleted, in any order: filters select what they do of a dict."""

        class Machine(_AgainstModel):
            memory = shared_memory

        run_state_machine_as_test(
            Machine,
            settings=settings(
                examples(60),
                stateful_step_count=25,
                suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
                report_multiple_bugs=False,
            ),
        )

    # -- any corpus --------------------------------------------------------------------------------------

    @pytest.mark.timeout(900)
    def test_any_corpus(self, shared_memory: MemoryGateway) -> None:
        """Random corpora of every type of value: any filter selects what the oracle does, by search and listing."""

        @examples(120)
        @given(st.data())
        def run(data: st.DataObject) -> None:
            source = Drawn(data.draw)
            handle = shared_memory.for_user(next(_fresh))
            stored = handle.add_many(a_corpus(source, source.number(1, 8))).stored
            words = words_of(stored)
            for _ in range(3):
                spec = a_spec(source, words)
                filters = a_filter(source, spec)
                expected = {memory.id for memory in stored if not hidden(memory) and holds(spec, fields_of(memory))}
                assert {hit.id for hit in handle.search("tea", filters=filters, limit=100)} == expected
                assert {memory.id for memory in paged(handle, 3, filters=filters)} == expected

        run()

    def test_scope_is_required(self, shared_memory: MemoryGateway) -> None:
        """Without an owner, by argument or at the top of the filter, nothing is searched, listed or deleted."""
        ownerless: list[Any] = [None, {}, {"AND": []}, {"a": 1}, {"OR": [{"user_id": "alex"}]}, {"NOT": []}]
        for verb in _verbs(shared_memory):
            for filters in ownerless:
                with pytest.raises(ScopeError):
                    verb(filters)
