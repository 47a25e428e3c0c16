"""Nothing that a caller passes returns or changes the memory of another scope."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from typing import Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.errors import CursorError, InvalidInput, MemoryNotFound, MetadataError, ScopeError, StoreError
from memstack.filters import F, parse
from memstack.filters.ast import all_of
from memstack.filters.scoping import scope_filter
from memstack.filters.visit import Plan
from memstack.gateway import MemoryGateway
from memstack.gateway.cursors import write_cursor
from memstack.ids import new_id
from memstack.records import AddResult, ImportReport, Memory, Order
from memstack.schemas import Preference
from memstack.scope import SCOPE_FIELDS, Scope
from memstack.testing.contract.base import Contract
from memstack.testing.contract.state import parts_of
from memstack.testing.contract.strategies import (
    SCOPE_IDS,
    Drawn,
    Vocabulary,
    a_filter,
    a_spec,
    examples,
    scopes,
    texts,
    words_of,
)

UTC = timezone.utc
ORDERS: tuple[Order, ...] = get_args(Order)
Owner = dict[str, Any]
IDS = ("alice", "bob", *SCOPE_IDS[2:])
_number = count()
_RED: Final = Preference(key="colour", value="red")
# What reads the rows of a scope, for a user who is not the only one.
_VERBS: Final[dict[str, Callable[[MemoryGateway], object]]] = {
    "search": lambda memory: memory.search("colour", user_id="alice"),
    "search, newest": lambda memory: memory.search("", user_id="alice"),
    "get_all": lambda memory: memory.get_all(user_id="alice"),
    "iter_all": lambda memory: list(memory.iter_all(user_id="alice")),
    "export": lambda memory: memory.export(io.StringIO(), user_id="alice"),
    "conflicts by slot": lambda memory: memory.conflicts("red", metadata=_RED, user_id="alice"),
    "conflicts by meaning": lambda memory: memory.conflicts("red", user_id="alice"),
    "add, supersede": lambda memory: memory.add(
        "My favourite colour is red", metadata=_RED, on_conflict="supersede", infer=False, user_id="alice"
    ),
    "delete_all": lambda memory: memory.delete_all(user_id="alice"),
    "erase": lambda memory: memory.erase(user_id="alice"),
    "Mem0's search": lambda memory: memory.mem0.search("colour", filters={"user_id": "alice"}),
    "Mem0's get_all": lambda memory: memory.mem0.get_all(filters={"user_id": "alice"}),
    "Mem0's delete_all": lambda memory: memory.mem0.delete_all(user_id="alice"),
}


@dataclass(frozen=True)
class World:
    """Everybody's memories."""

    memory: MemoryGateway
    memories: tuple[Memory, ...]
    words: Vocabulary
    cursors: tuple[str, ...]

    def inside(self, scope: Scope) -> set[str]:
        """The ids of a scope's memories."""
        return {memory.id for memory in self.memories if scope.covers(memory.scope)}

    def rows(self) -> int:
        """How many memories there are of everybody."""
        return int(self.memory.stats()["vector_store"]["rows"])

    def unchanged(self) -> None:
        """Assert that everybody's memories are as they were made."""
        for owner in {memory.scope for memory in self.memories}:
            mine = {memory.id: memory for memory in self.memories if owner.covers(memory.scope)}
            named: Owner = {**owner.as_dict()}
            assert {found.id: found for found in self.memory.iter_all(**named)} == mine


# -- what a caller may try -------------------------------------------------------------------------


def _payload(user_id: str, text: str, **more: Any) -> str:
    """A payload as an export has it, which anybody can write."""
    then = "2026-01-01T00:00:00.000000+00:00"
    times = {"created_at": then, "updated_at": then, "occurred_at": then}
    return json.dumps({"user_id": user_id, "data": text, **times, **more})


def _imported(memory: MemoryGateway, record: dict[str, Any]) -> ImportReport:
    head = {"format": "memstack-export", "version": 1, "embedder": {}}
    return memory.import_(io.StringIO(f"{json.dumps(head)}\n{json.dumps(record)}\n"))


def _owner_leaf(name: str, one: str, other: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(
        (
            {name: one},
            {name: {"eq": one}},
            {name: "*"},
            {name: [one]},
            {name: [one, other]},
            {name: {"in": [other]}},
            {name: {"ne": one}},
            {name: {"nin": [one]}},
            {name: {"exists": True}},
            {name: {"exists": False}},
            {name: {"contains": one[:1]}},
            {name: {"icontains": ""}},
            {name: {"gt": 0}},
            {name: None},
            {name: ""},
            {name: 1},
            {name: {"$ne": one}},
            {f"{name} ": one},
            {f"payload.{name}": one},
            {f"x.{name}": other},
            {f"{name}.x": other},
            F[name] == one,
            F[name] != one,
            ~(F[name] == one),
            F[name].exists(),
        )
    )


def _beside(one: Any, other: Any) -> Any:
    """Two filters in one mapping, where both are mappings."""
    return {**one, **other} if isinstance(one, dict) and isinstance(other, dict) else {"AND": [one, other]}


@st.composite
def hostile_filters(draw: st.DrawFn, words: Vocabulary, ids: tuple[str, ...]) -> Any:
    """Filters that name owners everywhere, beside ones that do not."""
    one_of_them = st.sampled_from(IDS)
    leaf: st.SearchStrategy[Any] = st.one_of(
        st.tuples(st.sampled_from(SCOPE_FIELDS), one_of_them, one_of_them).flatmap(lambda names: _owner_leaf(*names)),
        st.sampled_from(ids).map(lambda key: {"id": key}),
        st.sampled_from(ids).map(lambda key: {"id": {"ne": key}}),
        st.just({}),
    )
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.dictionaries(st.sampled_from(("AND", "OR", "NOT")), st.lists(inner, max_size=3), min_size=1, max_size=1),
            st.builds(_beside, inner, inner),
        ),
        max_leaves=5,
    )
    hostile = draw(tree)
    if draw(st.booleans()):
        plain = a_filter(Drawn(draw), a_spec(Drawn(draw), words, 2))
        return {draw(st.sampled_from(("AND", "OR"))): [hostile, plain]}
    return hostile


def reach(memory: MemoryGateway, owner: Owner, way: str) -> tuple[MemoryGateway, Owner]:
    """A scope by a handle, by arguments, or half and half."""
    if way == "handle":
        return memory.scoped(**owner), {}
    if way == "arguments":
        return memory, owner
    first = next(iter(owner))
    rest = {name: value for name, value in owner.items() if name != first}
    return memory.scoped(**{first: owner[first]}), rest


ways = st.sampled_from(("handle", "arguments", "both"))


# -- by id -----------------------------------------------------------------------------------------


def _told(handle: MemoryGateway, key: str, named: Owner) -> set[str]:
    """What the by-id verbs say of an id, each of which must refuse it."""
    verbs: list[Callable[[], object]] = [
        lambda: handle.get(key, **named),
        lambda: handle.update(key, text="mine now", **named),
        lambda: handle.update(key, metadata={"owner": "mallory"}, **named),
        lambda: handle.update(key, expires_at=None, **named),
        lambda: handle.update(key, expires_at=datetime(2020, 1, 1, tzinfo=UTC), **named),
        lambda: handle.delete(key, **named),
        lambda: handle.history(key, **named),
    ]
    told: set[str] = set()
    for verb in verbs:
        with pytest.raises(MemoryNotFound) as caught:
            verb()
        told.add(str(caught.value).replace(caught.value.memory_id, "…"))
    return told


# -- writing ---------------------------------------------------------------------------------------


_OWN_NAMES = ("id", "data", "hash", "created_at", "_memstack")


def _hostile_metadata() -> st.SearchStrategy[Any]:
    harmless = ("user_id.x", "x", "owner", "$user_id", "payload", "USER_ID", "user_id ")
    name = st.sampled_from((*SCOPE_FIELDS, *_OWN_NAMES, *harmless))
    value = st.recursive(
        st.sampled_from(IDS),
        lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(name, inner, max_size=2)),
    )
    return st.dictionaries(name, value, max_size=3)


_own_scopes = st.lists(
    st.dictionaries(st.sampled_from((*SCOPE_FIELDS, "id", "scope")), st.sampled_from(IDS), max_size=2),
    min_size=1,
    max_size=3,
)
"""What items of a bulk write say of their owner."""


# -- through Mem0 ----------------------------------------------------------------------------------


def _ids(answer: Any) -> set[str]:
    return {item["id"] for item in answer["results"]}


# What ends a name, a string or a condition in SQL, JSON paths, templates and query languages, and begins another.
_BREAKING: Final = (
    "'", '"', "`", "\\", "--", ";", ")", "(", "}", "{", "]", "[", "$", "%s", "%(x)s",
    "{}", "{0}", "?", ":x", "/*", "*/",
    " OR ", " AND ", "1=1", "true", "NULL", "DROP TABLE memories", "pg_sleep(9)", "UNION SELECT", "$or", "$ne", "@>",
    "->>", "#>", "terms", "user_id", "body", "*", ".", "..", "\n", "\t", "\u2028", "\u200b", "\x1b", "é", "🙂",
)  # fmt: skip
hostile_texts = st.lists(st.sampled_from(_BREAKING), min_size=1, max_size=6).map("".join)


class ScopeContract(Contract):
    """Nothing that a caller passes returns or changes the memory of another scope."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, shared_memory: MemoryGateway) -> World:
        """Thirty owners whose ids look alike, with the same words: as users, agents and runs, alone and together."""
        items: list[dict[str, Any]] = []
        for number, one in enumerate(IDS):
            other = IDS[(number + 1) % len(IDS)]
            owners = (
                {"user_id": one},
                {"agent_id": one},
                {"run_id": one},
                {"user_id": one, "run_id": "r1"},
                {"user_id": one, "agent_id": other, "run_id": one},
            )
            for owner in owners:
                metadata = {
                    "category": "work",
                    "n": number % 3,
                    "owner": one,
                    "x": {"user_id": other},
                    "user_id.x": other,
                }
                items.append({"content": "we met in Lisbon", "metadata": metadata, **owner})
                items.append({"content": f"{one} likes tea", "metadata": {"tags": [one, other]}, **owner})
        result = shared_memory.add_many(items)
        assert len(result.stored) == len(items)
        cursors = []
        for one in IDS[:6]:
            for order in ORDERS:
                cursor = shared_memory.get_all(user_id=one, limit=2, order=order).next_cursor
                assert cursor is not None
                cursors.append(cursor)
        return World(shared_memory, result.stored, words_of(result.stored), tuple(cursors))

    # -- reading ---------------------------------------------------------------------------------------

    @pytest.mark.exhaustive
    def test_reading(self, world: World) -> None:
        """Search, get_all and iter_all give memories of the scope alone, or refuse, whatever is asked: 400 examples."""
        ids = tuple(memory.id for memory in world.memories[:40])
        answered = found_some = 0
        queries = st.one_of(st.just(""), texts, st.sampled_from(IDS), st.sampled_from(ids))

        cursors = st.one_of(st.none(), st.sampled_from(world.cursors))

        @examples(400)
        @given(scopes(IDS), ways, hostile_filters(world.words, ids), st.data())
        def run(owner: Owner, way: str, filters: Any, data: st.DataObject) -> None:
            nonlocal answered, found_some
            query, cursor = data.draw(queries), data.draw(cursors)
            order, limit = data.draw(st.sampled_from(ORDERS)), data.draw(st.integers(1, 50))
            mine = world.inside(Scope(**owner))
            handle, named = reach(world.memory, owner, way)
            found: list[Memory] = []
            for verb in (
                lambda: handle.search(query, filters=filters, limit=limit, **named),
                lambda: handle.search(query, filters=filters, limit=10_000, threshold=0.0, explain=True, **named),
                lambda: handle.get_all(filters=filters, limit=limit, order=order, **named),
                lambda: handle.get_all(limit=limit, order=order, cursor=cursor, **named),
                lambda: handle.iter_all(filters=filters, order=order, **named),
            ):
                try:
                    answer = list(verb())
                except InvalidInput:
                    continue
                answered += 1
                found_some += bool(answer)
                found.extend(answer)
            assert {memory.id for memory in found} <= mine
            assert all(Scope(**owner).covers(memory.scope) for memory in found)

        run()
        assert answered > 600  # most filters name an owner where none may stand, and many of the scopes are nobody's
        assert found_some > 100

    def test_reading_with_the_scope_in_the_filter(self, world: World) -> None:
        """Where the filter supplies the scope, what stands beside it cannot widen it: 200 examples."""
        ids = tuple(memory.id for memory in world.memories[:40])

        @examples(200)
        @given(scopes(IDS), hostile_filters(world.words, ids), st.booleans())
        def run(owner: Owner, filters: Any, flat: bool) -> None:
            mine = world.inside(Scope(**owner))
            beside = {**owner, "AND": [filters]} if flat else {"AND": [owner, filters]}
            for verb in (
                lambda: world.memory.search("tea", filters=beside, limit=1000),
                lambda: world.memory.get_all(filters=beside, limit=1000),
                lambda: world.memory.iter_all(filters=beside),
            ):
                try:
                    found = {memory.id for memory in verb()}
                except InvalidInput:
                    continue
                assert found <= mine

        run()

    def test_names_and_values_are_only_data(self, shared_memory: MemoryGateway) -> None:
        """Field names, values, texts and owners that would break out of a query are stored and found as they are."""

        @examples(60)
        @given(hostile_texts, hostile_texts, hostile_texts)
        def run(name: str, value: str, owner: str) -> None:
            mine = shared_memory.for_user(f"o{owner}o")
            other = shared_memory.for_user(f"p{owner}p")
            field = f"f{name}"
            text = f"{value} {next(_number)}"
            (kept,) = mine.add(text, metadata={field: value, "n": 1}).stored
            (others,) = other.add(text, metadata={field: value, "n": 1}).stored
            assert kept.metadata == {field: value, "n": 1}
            asked: list[Any] = [
                {field: value},
                {field: {"in": [value, "x"]}},
                {field: {"contains": value}},
                {field: "*"},
            ]
            asked += [{"text": {"contains": value}}, {"NOT": [{field: f"{value}!"}]}]
            for filters in asked:
                for found in (mine.get_all(filters=filters), mine.search(value, filters=filters, limit=100)):
                    assert kept.id in {memory.id for memory in found}
                    assert others.id not in {memory.id for memory in found}
            for filters in ({field: f"{value}!"}, {f"{field}!": "*"}, {field: {"gt": 0}}, {"NOT": asked}):
                assert kept.id not in {memory.id for memory in mine.get_all(filters=filters, limit=1000)}
            assert mine.delete_all(filters={"AND": [{"id": kept.id}, {field: value}]}) == 1
            assert other.get(others.id) == others

        run()

    def test_every_owner_sees_just_his_own(self, world: World) -> None:
        """Ids are exact: no case folding, no prefix, no wildcard, no normal form; open ids may be anything."""
        for one in IDS:
            owners: list[Owner] = [
                {"user_id": one},
                {"agent_id": one},
                {"run_id": one},
                {"user_id": one, "run_id": "r1"},
                {"user_id": one, "run_id": one},
            ]
            for owner in owners:
                mine = world.inside(Scope(**owner))
                assert {memory.id for memory in world.memory.get_all(limit=1000, **owner)} == mine
                assert {hit.id for hit in world.memory.search("tea in Lisbon", limit=1000, **owner)} == mine
                assert {hit.id for hit in world.memory.scoped(**owner).search("", limit=1000)} == mine
        for stranger in ("carol", "ALICE", "alic?", "alice%", "alice*", "bo", "bob2", "\u00c9"):
            assert not world.memory.get_all(user_id=stranger).memories
            assert world.memory.search("tea", user_id=stranger) == []

    @pytest.mark.parametrize(
        "filters",
        [
            {"user_id": "bob"},
            {"user_id": "*"},
            {"user_id": ["alice", "bob"]},
            {"user_id": {"ne": "alice"}},
            {"AND": [{"user_id": "bob"}]},
            {"user_id": "alice", "AND": [{"user_id": "bob"}]},
            {"OR": [{"user_id": "bob"}]},
            {"OR": [{"user_id": "alice"}, {"user_id": "bob"}]},
            {"OR": [{}, {"user_id": "bob"}]},
            {"NOT": [{"user_id": "alice"}]},
            {"NOT": [{"NOT": [{"user_id": "bob"}]}]},
            {"agent_id": "*"},
            {"run_id": {"in": ["r1"]}},
            F.user_id == "bob",
            (F.category == "work") | (F.user_id == "bob"),
            ~(F.user_id == "alice"),
        ],
    )
    def test_owners_in_filters_are_refused(self, world: World, filters: Any) -> None:
        """A handle, and an argument, refuse a filter that names another owner, or that could widen the scope."""
        before = world.rows()
        for way in ("handle", "arguments"):
            handle, named = reach(world.memory, {"user_id": "alice"}, way)
            for query in ("tea", ""):
                with pytest.raises(ScopeError):
                    handle.search(query, filters=filters, **named)
            for verb in (handle.get_all, handle.iter_all, handle.delete_all):
                with pytest.raises(ScopeError):
                    verb(filters=filters, **named)
        assert world.rows() == before

    def test_a_filter_may_narrow(self, world: World) -> None:
        """A run or agent named in the filter narrows the scope of a handle."""
        alice = world.memory.for_user("alice")
        narrowed = {memory.id for memory in alice.get_all(filters={"run_id": "r1"}, limit=1000)}
        assert narrowed == world.inside(Scope("alice", run_id="r1"))
        both = {"AND": [{"user_id": "alice"}, {"run_id": "r1"}]}
        assert narrowed == {hit.id for hit in alice.search("tea", filters=both, limit=1000)}

    def test_ids_of_others(self, world: World) -> None:
        """By-id verbs on another owner's memory: MemoryNotFound, told as for no memory at all; 250 examples."""

        @examples(250)
        @given(scopes(IDS), ways, st.sampled_from(world.memories), st.sampled_from(("as is", "upper", "bare")))
        def run(owner: Owner, way: str, victim: Memory, spelling: str) -> None:
            handle, named = reach(world.memory, owner, way)
            key = {"as is": victim.id, "upper": victim.id.upper(), "bare": victim.id.replace("-", "")}[spelling]
            if Scope(**owner).covers(victim.scope):
                assert handle.get(key, **named) == victim
                assert [change.new_text for change in handle.history(key, **named)] == [victim.text]
                return
            assert len(_told(handle, key, named) | _told(handle, new_id(), named)) == 1
            assert world.memory.get(victim.id) == victim
            assert len(world.memory.history(victim.id)) == 1

        run()
        world.unchanged()

    @pytest.mark.parametrize(
        "id_", ["", " ", "*", "%", "' OR '1'='1", "None", "0", "../x", "a" * 5000, None, 5, b"x", ["x"], {"$ne": ""}]
    )
    def test_ids_that_are_none(self, world: World, id_: Any) -> None:
        """What is no UUID is refused as input, by every verb, with or without a scope."""
        for handle in (world.memory, world.memory.for_user("alice")):
            for verb in (handle.get, handle.delete, handle.history, lambda i, h=handle: h.update(i, text="x")):
                with pytest.raises(InvalidInput) as caught:
                    verb(id_)
                assert caught.value.field == "id"

    def test_history_of_the_deleted_keeps_its_owner(self, shared_memory: MemoryGateway) -> None:
        """Also once a memory is gone, its history is its owner's."""
        mine, other = (shared_memory.for_user(f"gone-{next(_number)}") for _ in range(2))
        (stored,) = mine.add("a secret").stored
        mine.delete(stored.id)
        assert [change.event for change in mine.history(stored.id)] == ["ADD", "DELETE"]
        with pytest.raises(MemoryNotFound):
            other.history(stored.id)
        with pytest.raises(MemoryNotFound):
            mine.scoped(run_id="r").history(stored.id)

    # -- cursors ---------------------------------------------------------------------------------------

    def test_forged_cursors(self, world: World) -> None:
        """A cursor made by hand for any place of anybody's moves inside the listing and nowhere else: 200 examples."""

        @examples(200)
        @given(scopes(IDS), scopes(IDS), st.sampled_from(world.memories), st.sampled_from(ORDERS), st.booleans())
        def run(owner: Owner, claimed: Owner, at: Memory, order: Order, honest: bool) -> None:
            scope = Scope(**(owner if honest else claimed))
            place = (getattr(at, order.lstrip("-")), at.id)
            cursor = write_cursor(scope, all_of(scope_filter(scope), parse(None)), order, place)
            try:
                found = world.memory.get_all(cursor=cursor, order=order, limit=1000, **owner)
            except CursorError:
                assert not honest
                return
            assert {memory.id for memory in found} <= world.inside(Scope(**owner))

        run()

    def test_adding(self, world: World) -> None:
        """Whatever is added, with whatever metadata, key or scope of its own, is the caller's: 200 examples."""
        before = world.rows()

        @examples(200)
        @given(
            ways,
            texts,
            _hostile_metadata(),
            _own_scopes,
            st.one_of(st.none(), st.sampled_from(("key", "alice", "bob"))),
        )
        def run(way: str, text: str, metadata: Any, own: list[dict[str, str]], key: str | None) -> None:
            owner: Owner = {"user_id": f"mallory-{next(_number)}", "run_id": "r1"}
            handle, named = reach(world.memory, owner, way)
            stored: list[Memory] = []
            refused = False
            try:
                result: AddResult = handle.add(text, metadata=metadata, idempotency_key=key, **named)
                stored.extend(result.stored)
            except MetadataError:
                refused = True
            assert refused is bool(metadata.keys() & {*SCOPE_FIELDS, *_OWN_NAMES})
            result = handle.add_many([{"content": text, "metadata": metadata, **scope} for scope in own], **named)
            assert len(result.stored) + len(result.skipped) + len(result.failed) == len(own)
            stored.extend(result.stored)
            for scope, index in zip(own, range(len(own)), strict=True):
                if any(name in scope for name in ("user_id", "run_id", "id", "scope")):
                    assert index in {failure.index for failure in result.failed}
            assert all(Scope(**owner).covers(memory.scope) for memory in stored)
            known = {memory.id for memory in stored}
            assert all(skip.memory_id in known for skip in result.skipped)
            assert {memory.id for memory in handle.get_all(**named)} == known
            assert handle.delete_all(**named) == len(known)

        run()
        assert world.rows() == before
        world.unchanged()

    def test_deleting(self, world: World) -> None:
        """A filter on `delete_all` deletes at most what is in the scope: 200 examples."""
        ids = tuple(memory.id for memory in world.memories[:40])

        @examples(200)
        @given(ways, hostile_filters(world.words, ids))
        def run(way: str, filters: Any) -> None:
            owner: Owner = {"user_id": f"mallory-{next(_number)}", "agent_id": "alice"}
            handle, named = reach(world.memory, owner, way)
            handle.add("one", metadata={"category": "work"}, **named)
            handle.add("two", metadata={"n": 1}, **named)
            before = world.rows()
            try:
                deleted = handle.delete_all(filters=filters, **named)
            except InvalidInput:
                deleted = 0
            assert 0 <= deleted <= 2
            assert world.rows() == before - deleted
            assert handle.purge_expired(**named) == 0
            assert handle.delete_all(**named) == 2 - deleted

        run()
        world.unchanged()

    def test_equal_words_of_two_owners_are_two_memories(self, shared_memory: MemoryGateway) -> None:
        """A duplicate, and an idempotency key, is one within its scope: nobody learns what others have stored."""
        one, other = (shared_memory.for_user(f"twin-{next(_number)}") for _ in range(2))
        for handle in (one, other, one.scoped(run_id="r"), one.scoped(agent_id="a")):
            result = handle.add("the same words", metadata={"a": 1}, idempotency_key="k")
            assert (len(result.stored), len(result.skipped)) == (1, 0)
            again = handle.add("the same words", metadata={"a": 1})
            assert [skip.memory_id for skip in again.skipped] == [result.stored[0].id]

    def test_what_others_store_shows_in_no_answer(self, memory: MemoryGateway) -> None:
        """Hits, their order, their scores and how these were made are what they are without anybody else."""
        drinks = ("tea", "coffee", "milk", "water", "juice")
        said = [f"in the morning number {i} Alice drinks {drinks[i % 5]}" for i in range(40)]
        for run in ("r1", "r2"):
            memory.add(said[::2] if run == "r1" else said[1::2], user_id="alice", run_id=run, infer=False)

        def answers() -> list[list[tuple[str, float, dict[str, float]]]]:
            asked = ("tea in the morning", "what does Alice drink?", "number 7", said[3], "yesterday")
            found = [memory.search(query, user_id="alice", limit=20, explain=True) for query in asked]
            return [[(hit.id, hit.score, (hit.explain or {})["parts"]) for hit in hits] for hits in found]

        before = answers()
        memory.add_many(
            [{"content": text.replace("Alice", name), "user_id": "bob"} for text in said for name in ("Bob", "Alice")]
            + [{"content": f"tea, tea and tea {i}", "user_id": "bob", "run_id": "r1"} for i in range(200)]
        )
        for old, new in zip(before, answers(), strict=True):
            assert [hit[0] for hit in new] == [hit[0] for hit in old]
            for (_, score, parts), (_, now, of_now) in zip(old, new, strict=True):
                assert now == pytest.approx(score, abs=1e-6)  # vectors are of 32 bits
                assert of_now == pytest.approx(parts, abs=1e-6)

    @pytest.mark.parametrize("verb", sorted(_VERBS))
    def test_an_engine_that_forgets_the_filter_is_found_out(
        self, memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        """Each row that comes back is looked at once more: one of another owner is an error, and nothing changes."""
        blue = Preference(key="colour", value="blue")
        mine = memory.add("My favourite colour is blue", user_id="alice", metadata=blue, infer=False).stored[0]
        other = memory.add("My favourite colour is grey", user_id="bob", metadata=blue, infer=False).stored[0]
        _ = memory.mem0
        store = parts_of(memory).store
        everything: Plan[Any] = Plan(None, None)
        monkeypatch.setattr(store, "plan", lambda _: everything)
        with pytest.raises(StoreError, match="outside of the scope"):
            _VERBS[verb](memory)
        monkeypatch.undo()
        assert memory.get(mine.id, user_id="alice") == mine
        assert memory.get(other.id, user_id="bob") == other
        assert len(memory.get_all(user_id="alice")) == 1

    def test_an_import_takes_nobody_elses_id(self, memory: MemoryGateway) -> None:
        """Under the id of another owner's memory, there or deleted, nothing is stored, told, erased or logged."""
        bob, mallory = memory.for_user("bob"), memory.for_user("mallory")
        (there, gone) = bob.add(["his pin is 4711", "his diary"]).stored
        bob.update(there.id, text="his pin is 9999")
        bob.delete(gone.id)
        story = [bob.history(memory_id) for memory_id in (there.id, gone.id)]
        entry = {"id": new_id(), "event": "ADD", "at": 1, "user_id": "mallory", "new_text": "mine"}
        for memory_id in (there.id, gone.id):
            for record in ({"history": [entry]}, {"payload": _payload("mallory", "mine"), "history": []}):
                for importer in (mallory, memory):
                    report = _imported(importer, {"id": memory_id, **record})
                    assert (report.stored, report.present, len(report.failed)) == (0, 0, 1)
        mallory.export(exported := io.StringIO(), user_id="mallory")
        mallory.erase()
        assert "his" not in exported.getvalue()
        with pytest.raises(MemoryNotFound):
            mallory.history(there.id)
        assert [bob.history(memory_id) for memory_id in (there.id, gone.id)] == story

    def test_an_import_cannot_reach_out_of_its_scope(self, memory: MemoryGateway) -> None:
        """What names another owner's memory as its successor replaces nothing of it, nor tells whether it exists."""
        bob, mallory = memory.for_user("bob"), memory.for_user("mallory")
        (target,) = bob.add("Mallory's bank is Zebra").stored
        for successor in (target.id, new_id()):
            payload = _payload("mallory", "Mallory's bank is Lion", superseded_by=successor)
            assert _imported(mallory, {"id": (mine := new_id()), "payload": payload, "history": []}).stored == 1
            (waiting,) = mallory.add("Mallory's bank is Tiger now", infer=False, on_conflict="ask").pending
            assert len(mallory.confirm(waiting.token).stored) == 1
            assert mallory.supersede(mine, "Mallory's bank is Gnu").text == "Mallory's bank is Gnu"
            mallory.erase()
        assert bob.get(target.id) == target
        assert [change.event for change in bob.history(target.id)] == ["ADD"]

    @pytest.mark.parametrize("owner", [0, False, [], {}, 0.0, "", " x"])
    def test_an_import_has_ids_that_are_ids(self, memory: MemoryGateway, owner: Any) -> None:
        """An owner that no verb could name is refused: an engine may take it for somebody's."""
        payload = _payload("mallory", "mine", agent_id=owner)
        report = _imported(memory, {"id": new_id(), "payload": payload, "history": []})
        assert (report.stored, len(report.failed)) == (0, 1)
        store = parts_of(memory).store
        with pytest.raises(InvalidInput):
            store.insert([[1.0] * store.dimensions], [json.loads(payload)])
        assert store.count() == 0

    def test_confirming_changes_nothing_outside_of_the_handle(self, memory: MemoryGateway) -> None:
        """What was replaced from outside in the meantime is not followed out of the handle's scope."""
        alice = memory.for_user("alice")
        run = alice.scoped(run_id="r1")
        run.add("drinks tea", infer=False, metadata=Preference(key="drink", value="tea"))
        cola = Preference(key="drink", value="cola")
        (waiting,) = run.add("drinks cola", infer=False, on_conflict="ask", metadata=cola).pending
        coffee = Preference(key="drink", value="coffee")
        (whole,) = alice.add("drinks coffee", infer=False, on_conflict="supersede", metadata=coffee).stored
        with pytest.raises(MemoryNotFound):
            run.get(whole.id)
        run.confirm(waiting.token)
        assert alice.get(whole.id) == whole

    def test_purging_keeps_to_its_scope(self, shared_memory: MemoryGateway) -> None:
        """`purge_expired` of a scope leaves the expired memories of others."""
        one, other = (shared_memory.for_user(f"old-{next(_number)}") for _ in range(2))
        kept = [handle.add("old", expires_at=datetime(2020, 1, 1, tzinfo=UTC)).stored[0] for handle in (one, other)]
        assert one.purge_expired() == 1
        assert other.get(kept[1].id) == kept[1]
        assert other.purge_expired() == 1

    # -- handles ---------------------------------------------------------------------------------------

    def test_handles_cannot_be_left(self, world: World) -> None:
        """A handle narrows; naming another owner, by method or argument, is refused by every verb."""
        alice = world.memory.for_user("alice")
        some = world.memories[0].id
        for verb in (
            lambda: alice.for_user("bob"),
            lambda: alice.scoped(user_id="bob"),
            lambda: alice.scoped(run_id="r1").scoped(run_id="r2"),
            lambda: alice.search("tea", user_id="bob"),
            lambda: alice.get_all(user_id="bob"),
            lambda: alice.iter_all(user_id="bob"),
            lambda: alice.add("x", user_id="bob"),
            lambda: alice.add_many(["x"], user_id="bob"),
            lambda: alice.get(some, user_id="bob"),
            lambda: alice.update(some, text="x", user_id="bob"),
            lambda: alice.delete(some, user_id="bob"),
            lambda: alice.history(some, user_id="bob"),
            lambda: alice.delete_all(user_id="bob"),
            lambda: alice.purge_expired(user_id="bob"),
        ):
            with pytest.raises(ScopeError):
                verb()
        run = alice.scoped(run_id="r1")
        assert {memory.id for memory in run.get_all(limit=1000)} == world.inside(Scope("alice", run_id="r1"))
        assert {memory.id for memory in alice.for_user("alice").get_all(limit=1000)} == world.inside(Scope("alice"))
        world.unchanged()

    def test_handles_refuse_what_reaches_beyond(self, world: World) -> None:
        """`mem0`, `reset` and `stats` belong to the whole memory: a handle refuses them, without another way."""
        before = world.rows()
        alice = world.memory.for_user("alice")
        for handle in (alice, world.memory.scoped(run_id="r1"), alice.scoped(agent_id="x")):
            with pytest.raises(ScopeError):
                _ = handle.mem0
            with pytest.raises(ScopeError):
                handle.reset()
            with pytest.raises(ScopeError):
                handle.stats()
            shown = {name for name in dir(handle) if not name.startswith("_")}
            assert not {name for name in shown if "mem0" in name} - {"mem0"}
        assert world.rows() == before

    @pytest.mark.parametrize(
        "bad",
        [
            "",
            " ",
            "\t",
            " alice",
            "alice\n",
            5,
            0,
            False,
            b"alice",
            ["alice"],
            {"$ne": None},
            "a\0b",
            "\ud800",
            "u" * 513,
        ],
    )
    @pytest.mark.parametrize("name", SCOPE_FIELDS)
    def test_ids_that_name_nobody(self, world: World, name: str, bad: Any) -> None:
        """Ids are strings with something in them: anything else is a ScopeError, never "everybody"."""
        before = world.rows()
        some = world.memories[0].id
        owners: list[Owner] = [{name: bad}, {"user_id": "alice", name: bad}]
        for scope in owners:
            memory = world.memory
            for verb in (memory.scoped, memory.get_all, memory.iter_all, memory.delete_all, memory.purge_expired):
                with pytest.raises(ScopeError):
                    verb(**scope)
            for verb_of_one in (memory.search, memory.add, memory.get, memory.delete, memory.history):
                with pytest.raises(ScopeError):
                    verb_of_one(some, **scope)
            result = world.memory.add_many([{"content": "x", **scope}])
            assert (len(result.stored), len(result.failed)) == (0, 1)
        with pytest.raises(ScopeError):
            world.memory.for_user(bad)
        assert world.rows() == before

    @pytest.fixture
    def mem0(self, world: World) -> Iterator[Any]:
        """Mem0's own class, over the same data."""
        return world.memory.mem0  # type: ignore[no-any-return]

    @pytest.mark.parametrize(
        "filters",
        [
            {"user_id": "alice", "AND": [{"user_id": "bob"}]},
            {"user_id": "alice", "OR": [{"user_id": "bob"}]},
            {"user_id": "alice", "OR": [{"user_id": "alice"}, {"user_id": "bob"}]},
            {"user_id": "alice", "NOT": [{"user_id": "alice"}]},
            {"user_id": "*"},
            {"user_id": "alice", "agent_id": "*"},
            {"user_id": {"ne": "alice"}},
            {"user_id": ["alice", "bob"]},
            {"user_id": {"in": ["alice", "bob"]}},
            {"user_id": "alice", "AND": [{"OR": [{"run_id": "r1"}, {"user_id": "bob"}]}]},
            {"user_id": "alice", "OR": [{"AND": [{"user_id": "bob"}]}, {"category": "work"}]},
            {"run_id": "r1", "NOT": [{"user_id": "bob"}]},
        ],
    )
    def test_mem0_refuses_what_would_widen(self, mem0: Any, world: World, filters: Any) -> None:
        """The filters by which bare Mem0 hands out other users' rows are refused by our store under it."""
        before = world.rows()
        with pytest.raises(ValueError):  # ours is one, and Mem0 has its own checks before it
            mem0.search("tea", filters=filters, top_k=1000, threshold=0.0)
        with pytest.raises(ValueError):
            mem0.get_all(filters=filters, top_k=1000)
        assert world.rows() == before

    def test_mem0_sees_just_the_scope(self, mem0: Any, world: World) -> None:
        """With an owner in the filter, Mem0's search and get_all give what is his, for ids that Mem0 takes."""
        for one in IDS:
            if any(char.isspace() for char in one) or one == "*":
                continue
            mine = world.inside(Scope(one))
            assert _ids(mem0.get_all(filters={"user_id": one}, top_k=1000)) == mine
            assert _ids(mem0.search("tea in Lisbon", filters={"user_id": one}, top_k=1000, threshold=0.0)) <= mine
            run = {"user_id": one, "run_id": "r1", "category": "work"}
            assert _ids(mem0.get_all(filters=run, top_k=1000)) <= world.inside(Scope(one, run_id="r1"))

    @pytest.mark.exhaustive
    def test_through_mem0(self, mem0: Any, world: World) -> None:
        """Whatever stands beside the owner in a filter for Mem0's methods: his memories, or an error; 200 examples."""
        ids = tuple(memory.id for memory in world.memories[:40])

        @examples(200)
        @given(scopes(IDS[:12]), hostile_filters(world.words, ids), st.booleans())
        def run(owner: Owner, filters: Any, flat: bool) -> None:
            mine = world.inside(Scope(**owner))
            beside = {**filters, **owner} if flat and isinstance(filters, dict) else {**owner, "AND": [filters]}
            verbs: list[Callable[[], Any]] = [
                lambda: mem0.search("tea", filters=beside, top_k=1000, threshold=0.0),
                lambda: mem0.get_all(filters=beside, top_k=1000),
            ]
            for verb in verbs:
                try:
                    found = _ids(verb())
                except ValueError:
                    continue
                assert found <= mine

        run()
        world.unchanged()
