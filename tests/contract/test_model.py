"""Whatever is done, in whatever order: a memory holds what the model says, on every backend.

`tests.contract.model` says in plain Python what the verbs promise. Hypothesis makes up sequences of calls, by several
owners, some of them wrong; after each one everything that is stored, of everybody, is compared with the model, and
what a call returns is what the model foretold. Time is the test's: it stands still unless a step lets it pass, and
stops at the very instants at which something begins or ends. Half of the calls are awaited, on the asynchronous gateway
over the same memory. Pages and batches are small, so that there are several of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from memstack import AsyncMemoryGateway, MemoryGateway, Preference, instants
from memstack.errors import (
    ConflictFound,
    CursorError,
    FilterError,
    GatewayClosed,
    IdempotencyMismatch,
    InvalidInput,
    LLMNotConfigured,
    MemoryNotFound,
    MetadataError,
    PendingNotFound,
    ScopeError,
)
from memstack.gateway import aio, parts, portability, sync, writing
from memstack.records import AddResult, Conflict, Hit, Memory, PendingChange
from memstack.scope import SCOPE_FIELDS, Scope
from memstack.testing.contract import Backend, opening
from memstack.testing.contract.base import OpenHere
from memstack.testing.contract.oracle import Spec
from memstack.testing.contract.strategies import Drawn, a_filter, examples
from tests.contract.model import ANY, Draft, Model, Saved, exact, preference, told

START: Final = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
LATE: Final = datetime.max.replace(tzinfo=timezone.utc)
TICK: Final = timedelta(microseconds=1)
Near = tuple[int, timedelta]
Turn = tuple[str, dict[str, Any] | None, datetime | None]
NOBODY: Final = "00000000-0000-4000-8000-000000000000"

# -- what is drawn: few values, so that they meet ------------------------------------------------

PAST: Final = tuple(START - timedelta(days=days) for days in (20, 10, 5))
FUTURE: Final = tuple(START + timedelta(days=days) for days in (5, 10, 20))
OWNERS: Final = (
    Scope("alex"), Scope("bo"), Scope("Alex"), Scope("alex", run_id="r1"), Scope("alex", run_id="r2"),
    Scope("alex", "a1"), Scope("bo", run_id="r1"), Scope("alex", "a1", "r1"), Scope(agent_id="a1"), Scope(run_id="r1"),
)  # fmt: skip
TEXTS: Final = (
    "I drink tea", "I  drink\ttea ", "I drink Tea", "coffee in the morning", "caf\u00e9 in Lisbon",
    "cafe\u0301 in Lisbon", "Phoenix is due in March", "100% 'sure'; --",
)  # fmt: skip
METADATA: Final[tuple[dict[str, Any], ...]] = (
    {}, {"kind": "a"}, {"kind": "b"}, {"kind": None}, {"n": 1}, {"n": 1.0}, {"n": True}, {"n": None, "kind": "a"},
    {"kind": "a", "n": 2, "tags": ["x", "y"]}, {"tags": []}, {"due": date(2030, 1, 1)}, {"due": START},
    {"x": {"y": 1, "z": None}}, {"x": {"y": "1"}, "tags": ["x", 1, True]},
)  # fmt: skip
WHOLE: Final = {"category": "preferences", "key": "drink", "domain": "general", "strength": 1.0, "source": "stated"}
SLOTTED: Final[tuple[dict[str, Any], ...]] = (
    {**WHOLE, "value": "tea"}, {**WHOLE, "value": "coffee"}, {**WHOLE, "value": "tea", "domain": "work"},
    {"category": "preferences", "key": "drink", "value": "tea"},
    {"category": "preferences", "key": "drink", "value": "water"},
    {"category": "interactions", "action": "asked"},
)  # fmt: skip
LEAVES: Final[tuple[Spec, ...]] = (
    ("eq", "kind", "a"), ("ne", "kind", "a"), ("in", "kind", ["a", "b"]), ("nin", "kind", ["b"]), ("eq", "n", 1),
    ("eq", "n", True), ("gte", "n", 1), ("lt", "n", 2), ("contains", "tags", "x"), ("contains", "tags", 1),
    ("exists", "tags", True), ("eq", "x.y", 1), ("gt", "due", "2029-12-31"), ("eq", "due", START),
    ("icontains", "text", "TEA"), ("contains", "text", "Lisbon"), ("eq", "text", "I drink tea"),
    ("eq", "actor_id", "Ann"), ("eq", "role", "user"), ("exists", "superseded_by", True),
    ("exists", "expires_at", True), ("lte", "expires_at", FUTURE[1]), ("lt", "occurred_at", PAST[1]),
    ("gte", "valid_from", PAST[1]), ("gt", "created_at", START + timedelta(seconds=8)),
    ("lte", "updated_at", START + timedelta(seconds=8)), ("or", []),
)  # fmt: skip

owners: Final = st.sampled_from(OWNERS)
texts: Final = st.sampled_from(TEXTS)
slotted: Final = st.sampled_from(SLOTTED)
metadata: Final = st.sampled_from(METADATA) | slotted
times: Final = st.none() | st.none() | st.sampled_from((*PAST, *FUTURE))
occasions: Final = st.none() | st.none() | st.sampled_from(PAST)
steps: Final = st.none() | st.integers(0, 99)
near: Final = st.tuples(st.integers(0, 99), st.sampled_from((-TICK, timedelta(), TICK)))  # a stored one, or beside
places: Final = st.integers(0, 99)
specs: Final[st.SearchStrategy[Spec]] = (
    st.just(ANY)
    | st.just(ANY)
    | st.recursive(
        st.sampled_from(LEAVES),
        lambda inner: st.tuples(st.sampled_from(("and", "or", "not")), st.lists(inner, min_size=1, max_size=3)),
        max_leaves=4,
    )
)
said: Final = st.fixed_dictionaries(
    {"content": texts},
    optional={
        "role": st.sampled_from(("user", "user", "assistant")),
        "name": st.sampled_from(("Ann", "Ben")),
        "occurred_at": st.sampled_from(PAST),
    },
)
items: Final = st.fixed_dictionaries(
    {"content": texts, "owner": owners},
    optional={
        "name": st.just("Ann"),
        "occurred_at": st.sampled_from(PAST),
        "metadata": metadata,
        "expires_at": st.sampled_from((*PAST, *FUTURE)),
        "valid_from": st.sampled_from((*PAST, *FUTURE)),
    },
)
policies: Final = st.sampled_from(("keep", "keep", "supersede", "supersede", "raise", "ask"))
ORDERS: Final = tuple(f"{sign}{name}" for name in ("created_at", "updated_at", "occurred_at") for sign in ("", "-"))

# What is wrong whatever the memory holds: a call on a handle of one owner, and the error that it has to be.
WRONG: Final[tuple[tuple[type[Exception], Callable[[MemoryGateway], object]], ...]] = (
    (ScopeError, lambda m: m.search("tea", filters=dict.fromkeys(SCOPE_FIELDS, "nobody else"))),
    (ScopeError, lambda m: m.get_all(filters={"OR": [{"user_id": "alex"}, {"kind": "a"}]})),
    (ScopeError, lambda m: m.delete_all(filters={"NOT": [{"run_id": "r1"}]})),
    (ScopeError, lambda m: m.delete_all(filters={"agent_id": "*"})),
    (ScopeError, lambda m: m.iter_all(filters={"AND": [{"OR": [{"user_id": "bo"}]}]})),
    (ScopeError, lambda m: m.erase(user_id="nobody else", agent_id="nobody else", run_id="nobody else")),
    (ScopeError, lambda m: m.add("I drink tea", user_id=" ")),
    (FilterError, lambda m: m.delete_all(filters={"n": {"between": [1, 2]}})),
    (FilterError, lambda m: m.delete_all(filters={"n": {"gt": "soon"}})),
    (MetadataError, lambda m: m.add("I drink tea", metadata={"user_id": "bo"})),
    (MetadataError, lambda m: m.add("I drink tea", metadata={"n": float("nan")})),
    (MetadataError, lambda m: m.add("I drink tea", metadata={"n": 2**63})),
    (MetadataError, lambda m: m.add("I drink tea", metadata={"n": object()})),
    (InvalidInput, lambda m: m.add(["I drink tea", " "])),
    (InvalidInput, lambda m: m.add([{"role": "nobody", "content": "I drink tea"}])),
    (InvalidInput, lambda m: m.add("I drink tea", expires_at="soon")),
    (InvalidInput, lambda m: m.add("I drink tea", idempotency_key=" ")),
    (InvalidInput, lambda m: m.add("I drink tea", on_conflict="perhaps")),  # type: ignore[arg-type]
    (InvalidInput, lambda m: m.add_many("I drink tea")),
    (InvalidInput, lambda m: m.import_(io.StringIO("no export\n"))),
    (InvalidInput, lambda m: m.search("tea", limit=0)),
    (InvalidInput, lambda m: m.delete("no id")),
    (LLMNotConfigured, lambda m: m.add("I drink tea", infer=True)),
    (CursorError, lambda m: m.get_all(cursor="AAAA")),
    (MemoryNotFound, lambda m: m.delete(NOBODY)),
    (MemoryNotFound, lambda m: m.history(NOBODY)),
    (PendingNotFound, lambda m: m.confirm("no token")),
    (PendingNotFound, lambda m: m.dismiss("no token")),
    (ScopeError, lambda m: m.reset()),
    (ScopeError, lambda m: m.stats()),
    (TypeError, lambda m: m.delete_all(run="r1")),  # type: ignore[call-arg]
)


class Clock:
    """The time of day, for the whole of memstack; it does not fall behind what was dated by it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._now = START
        self._patch = patch
        for name, module in list(sys.modules.items()):
            if (
                name.startswith("memstack.")
                and vars(module).get("utcnow") is instants.utcnow
                and module is not instants
            ):
                patch.setattr(module, "utcnow", lambda: self.now)

    @property
    def now(self) -> datetime:
        last: datetime = vars(parts)["_last"]
        return max(self._now, last)

    @now.setter
    def now(self, instant: datetime) -> None:
        self._now = instant

    def start(self) -> None:
        """Everything begins again."""
        self._now = START
        self._patch.setattr(parts, "_last", instants.EPOCH)


class Awaited:
    """The asynchronous gateway over a memory, called as if it were the other one."""

    def __init__(self, gateway: AsyncMemoryGateway, run: Callable[[Any], Any]) -> None:
        self._gateway = gateway
        self._run = run

    def scoped(self, **ids: Any) -> Awaited:
        return Awaited(self._gateway.scoped(**ids), self._run)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found = getattr(self._gateway, name)(*args, **kwargs)
            return self._run(_all_of(found) if isinstance(found, AsyncIterator) else found)

        assert inspect.isroutine(getattr(self._gateway, name))
        return call


async def _all_of(items: AsyncIterator[Memory]) -> list[Memory]:
    return [item async for item in items]


class Home:
    """Where the memory is opened, and opened again."""

    def __init__(self, open_here: OpenHere, folder: Path, *, reopens: bool) -> None:
        self.reopens = reopens
        self._open: Callable[[], MemoryGateway] = lambda: open_here(folder)
        self._loop = asyncio.new_event_loop()
        self._begin()

    def _begin(self) -> None:
        self.memory = self._open()
        self._gateway = AsyncMemoryGateway(self.memory)
        self.awaited = cast("MemoryGateway", Awaited(self._gateway, self._loop.run_until_complete))

    def at_once(self, calls: Iterable[Callable[[AsyncMemoryGateway], Awaitable[AddResult]]]) -> list[AddResult]:
        """What several callers get, none of whom waits for another."""

        async def gathered() -> list[AddResult]:
            return await asyncio.gather(*(call(self._gateway) for call in calls))

        return self._loop.run_until_complete(gathered())

    def reopen(self) -> None:
        self._loop.run_until_complete(self._gateway.close())
        self._begin()

    def close(self) -> None:
        self._loop.run_until_complete(self._gateway.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def ids_of(scope: Scope) -> dict[str, Any]:
    """A scope as arguments."""
    return {**scope.as_dict()}


def memory_of(hit: Hit) -> Memory:
    """What a hit is, without its score."""
    return Memory(**{item.name: getattr(hit, item.name) for item in dataclasses.fields(Memory)})


def given(fields: dict[str, Any] | None, how: int) -> Any:
    """Metadata as a caller may pass it: where it is all that a preference has, sometimes as an instance of that."""
    if fields is None or how % 2 == 0 or fields.keys() != {*WHOLE, "value"} or None in fields.values():
        return fields
    return Preference(**{name: value for name, value in fields.items() if name != "category"})


def of_user(drafts: Mapping[int, Draft]) -> dict[int, Draft]:
    """What is remembered of some messages."""
    return {index: draft for index, draft in drafts.items() if draft.role == "user"}


@dataclasses.dataclass
class Listing:
    """A listing of which some pages were read: whose, by which filter, how it was asked for, and the last key."""

    owner: Scope
    spec: Spec
    asked: dict[str, Any]
    cursor: str
    last: tuple[datetime, str]


def in_order(found: Iterable[Memory], order: str) -> list[Memory]:
    """Memories in the order of a listing; ties by id, ascending in both directions."""
    by_id = sorted(found, key=lambda one: one.id)
    return sorted(by_id, key=lambda one: getattr(one, order.lstrip("-")), reverse=order.startswith("-"))


class MemoryMachine(RuleBasedStateMachine):
    """A memory and its model; the rules are the verbs."""

    def __init__(self, home: Home, clock: Clock) -> None:
        super().__init__()
        self.home, self.clock = home, clock
        self.model = Model()
        self.known: list[str] = []  # the ids that there ever were, by age
        self.saved: list[tuple[Saved, str]] = []
        self.touched: set[str] = set()
        self.tokens: list[str] = []
        self.listing: Listing | None = None
        self.looks = 0

    @initialize(added=st.lists(items, max_size=12))
    def begin(self, added: list[dict[str, Any]]) -> None:
        self.clock.start()
        self.memory.reset()
        self.add_many(added, size=256, policy="keep", how=2)

    @property
    def memory(self) -> MemoryGateway:
        return self.home.memory

    # -- what the rules are made of --------------------------------------------------------------

    def write(self) -> datetime:
        """Before a write: a second passes, as its instants are later than every one before."""
        self.clock.now += timedelta(seconds=1)
        self.at = self.clock.now
        return self.at

    def either(self, how: int) -> MemoryGateway:
        """The memory, called or awaited."""
        return self.home.awaited if how % 2 else self.memory

    def of(self, scope: Scope, how: int) -> tuple[MemoryGateway, dict[str, Any]]:
        """The scope as a handle, as arguments, or as a handle that is narrowed; called, or awaited."""
        ids = ids_of(scope)
        memory = self.either(how // 3)
        if how % 3 == 0:
            return memory, ids
        first = next(iter(ids))
        bound = ids if how % 3 == 1 else {first: ids.pop(first)}
        return memory.scoped(**bound), ids if how % 3 == 2 else {}

    def some_id(self, place: int) -> str:
        return self.known[place % len(self.known)] if self.known else NOBODY

    def who(self, memory_id: str, other: Scope, how: int) -> Scope:
        """Mostly the one whose memory it is."""
        one = self.model.memories.get(memory_id)
        return other if one is None or how % 4 == 0 else one.scope

    def reach(self, memory_id: str, scope: Scope) -> bool:
        """Whether a memory is there, for this scope."""
        one = self.model.memories.get(memory_id)
        return one is not None and scope.covers(one.scope)

    def learn(self, memory: Memory) -> None:
        if memory.id not in self.known:
            self.known.append(memory.id)
        self.touched.add(memory.id)

    def check_added(
        self, result: AddResult, batches: Iterable[Mapping[int, Draft]], failed: Iterable[int], policy: str
    ) -> None:
        """Each draft is stored, waits, is refused, or skipped with the right reason, as if they came one by one."""
        stored, waiting = iter(result.stored), iter(result.pending)
        skipped = {item.index: item for item in result.skipped}
        told = [(conflict.index, conflict.memory.id) for conflict in result.conflicts if conflict.kind != "meaning"]
        contradicted: list[tuple[int, str]] = []
        refused = set(failed)
        for drafts in batches:
            found = {index: self.model.contradicted(one, self.clock.now) for index, one in of_user(drafts).items()}
            if policy == "raise" and any(found.values()):
                refused.update(drafts)
                continue
            news: list[Memory] = []
            for index, draft in drafts.items():
                equal, left_out = self.model.duplicate(draft, self.clock.now)
                if draft.role != "user":
                    assert skipped.pop(index).reason == "role"
                    continue
                if policy == "ask" and found[index]:
                    self.check_waiting(next(waiting), index, draft, found[index])
                elif equal is not None and (left_out or policy == "keep"):
                    item = skipped.pop(index)
                    assert (item.reason, item.memory_id) == ("duplicate", equal.id)
                    continue
                else:
                    news.append(next(stored))
                    assert news[-1].id not in self.known
                    reason = "another value for the same domain and key" if found[index] else None
                    self.store(draft, news[-1], equal, policy, reason if policy == "supersede" else None)
                contradicted += [(index, one.id) for one in found[index]]
            for memory in news:
                assert exact(memory) == exact(self.model.memories[memory.id])
        assert not [*stored, *waiting, *skipped]
        assert [item.index for item in result.failed] == sorted(refused)
        assert sorted(told) == sorted(contradicted)

    def store(self, draft: Draft, chosen: Memory, equal: Memory | None, policy: str, reason: str | None) -> None:
        if policy == "keep":
            self.model.store(draft, chosen)
        else:
            self.replaced(lambda: self.model.replace(draft, chosen, equal=equal, reason=reason))
        assert self.at <= chosen.created_at < self.at + timedelta(seconds=1)
        self.learn(self.model.memories[chosen.id])

    def replaced(self, foretell: Callable[[], Memory]) -> Memory:
        """A memory is put in the place of others: what became of these is looked at after the step."""
        before = dict(self.model.memories)
        new = foretell()
        self.touched.update(one.id for one in self.model.memories.values() if before.get(one.id) is not one)
        return new

    def check_waiting(self, change: PendingChange, index: int, draft: Draft, found: Sequence[Memory]) -> None:
        """What contradicts something waits, once; asked again, it waits anew."""
        token = self.model.token_of(draft, self.clock.now)
        assert change.token == token if token is not None else change.token not in self.tokens
        since = change.expires_at - timedelta(days=1)
        assert self.at <= since <= self.clock.now
        self.model.wait(draft, change.token, found, since)
        assert (change.index, change.text) == (index, draft.text)
        self.check_conflicts(change.conflicts, found)
        if token is None:
            self.tokens.append(change.token)

    def check_conflicts(self, told: Iterable[Conflict], found: Sequence[Memory]) -> None:
        assert {conflict.memory.id: exact(conflict.memory) for conflict in told} == {
            one.id: exact(one) for one in found
        }

    def arrive(self, jump: int | None, as_of: Near | None = None, *names: str) -> datetime | None:
        """Let time pass until the very instant at which something begins or ends, and find one to look back from."""
        known = self.model.instants()
        ahead = [at for at in (self.model.instants(names) if names else known) if at > self.clock.now]
        if jump is not None and ahead:
            self.clock.now = ahead[jump % len(ahead)]
        if as_of is None or not known:
            return None
        place, beside = as_of
        return known[place % len(known)] + beside

    def by_page(self, handle: MemoryGateway, ids: dict[str, Any], asked: dict[str, Any], size: int) -> list[str]:
        """The ids of a listing, read page by page; a cursor is of its owner's listing alone."""
        page = handle.get_all(**asked, limit=size, **ids)
        found = [one.id for one in page]
        while page.next_cursor is not None:
            assert len(page) == size
            if size == 1:
                with pytest.raises(CursorError):
                    self.memory.get_all(**asked, user_id="somebody else", cursor=page.next_cursor)
            page = handle.get_all(**asked, limit=size, cursor=page.next_cursor, **ids)
            found += [one.id for one in page]
        return found

    # -- writing ---------------------------------------------------------------------------------

    @rule(
        messages=st.lists(said, min_size=1, max_size=3) | texts,
        owner=owners,
        fields=metadata,
        expires_at=times,
        valid_from=times,
        key=st.none() | st.sampled_from(("k1", "k2")),
        policy=policies,
        how=places,
    )
    def add(
        self,
        *,
        messages: Any,
        owner: Scope,
        fields: dict[str, Any],
        expires_at: datetime | None,
        valid_from: datetime | None,
        key: str | None,
        policy: Any,
        how: int,
    ) -> None:
        self.write()
        handle, ids = self.of(owner, how)
        spoken: list[dict[str, Any]] = [{"content": messages}] if isinstance(messages, str) else messages
        drafts = {
            index: Draft(
                text=one["content"],
                scope=owner,
                metadata=fields,
                role=one.get("role", "user"),
                name=one.get("name"),
                occurred_at=one.get("occurred_at"),
                expires_at=expires_at,
                valid_from=valid_from,
            )
            for index, one in enumerate(spoken)
        }
        if fields not in SLOTTED and policy in ("raise", "ask"):
            policy = "supersede"  # what is possibly contradicted depends on an embedder

        def call() -> AddResult:
            return handle.add(
                messages if isinstance(messages, str) else [{"role": "user", **one} for one in messages],
                metadata=given(fields, how),
                infer=False,
                expires_at=expires_at,
                valid_from=valid_from,
                idempotency_key=key,
                on_conflict=policy,
                **ids,
            )

        if any(draft.never_holds for draft in drafts.values()):
            with pytest.raises(InvalidInput, match="would never hold"):
                call()
            return
        content = [exact(draft.content()) for draft in drafts.values()]
        used = None if key is None else self.model.keys.get((owner, key))
        if used is not None:
            self.add_again(call, drafts, same=used == content, policy=policy)
            return
        found = [one for draft in of_user(drafts).values() for one in self.model.contradicted(draft, self.clock.now)]
        if policy == "raise" and found:
            with pytest.raises(ConflictFound) as caught:
                call()
            self.check_conflicts(caught.value.conflicts, found)
            return
        self.check_added(call(), [drafts], [], policy)
        if key is not None:
            self.model.keys[owner, key] = content

    def add_again(self, call: Callable[[], AddResult], drafts: Mapping[int, Draft], *, same: bool, policy: str) -> None:
        """With a key that was used: nothing new is stored, and what waits is told once more."""
        if not same:
            with pytest.raises(IdempotencyMismatch):
                call()
            return
        result = call()
        assert not result.stored + result.failed
        tokens = {i: self.model.token_of(draft, self.clock.now) for i, draft in of_user(drafts).items()}
        waiting = {i: token for i, token in tokens.items() if token is not None and policy == "ask"}
        assert [(change.index, change.token) for change in result.pending] == list(waiting.items())
        for change in result.pending:
            assert change.expires_at == self.model.waiting[change.token].expires_at
            self.check_conflicts(change.conflicts, self.model.contradicted(drafts[change.index], self.clock.now))
        skipped = [(item.index, item.reason) for item in result.skipped]
        assert skipped == [(i, "duplicate") for i in drafts if i not in waiting]

    @rule(added=st.lists(items, min_size=1, max_size=5), size=st.sampled_from((1, 2, 256)), policy=policies, how=places)
    def add_many(self, added: list[dict[str, Any]], size: int, policy: Any, how: int) -> None:
        self.write()
        drafts: dict[int, Draft] = {}
        items: list[dict[str, Any]] = []
        if how % 3 == 0:  # all of one owner, of one or two slots, with texts that come again
            more = ("owner", "valid_from") if how % 4 == 1 else ("owner",)
            one = OWNERS[0] if how % 2 else added[0]["owner"]
            added = [
                {
                    **{name: value for name, value in {**item, "owner": one}.items() if name in more},
                    "content": TEXTS[i % 2 * 2],
                    "metadata": SLOTTED[i % 3 if how % 4 == 3 else how % 5],
                }
                for i, item in enumerate(added)
            ]
        for index, item in enumerate(added):
            fields = {name: value for name, value in item.items() if name not in ("content", "owner")}
            if policy in ("raise", "ask") and fields.get("metadata") not in SLOTTED:
                fields["metadata"] = SLOTTED[index % len(SLOTTED)]
            about = {"metadata": given(fields["metadata"], how)} if "metadata" in fields else {}
            items.append({"content": item["content"], **item["owner"].as_dict(), **fields, **about})
            drafts[index] = Draft(text=item["content"], scope=item["owner"], **fields)
        place = how % (len(items) + 1)  # of what cannot be stored
        items.insert(place, {"content": "I drink tea", "user_id": "alex", "metadata": {"run_id": "r1"}})
        drafts = {index + (index >= place): draft for index, draft in drafts.items()}
        failed = [place, *(index for index, draft in drafts.items() if draft.never_holds)]
        batches = self.batches({i: draft for i, draft in drafts.items() if not draft.never_holds}, size, policy)
        heard: list[int] = []
        result = self.either(how).add_many(items, batch_size=size, on_conflict=policy, progress=heard.append)
        self.check_added(result, batches, failed, policy)
        assert heard[-1] == len(items)

    @rule(spoken=st.lists(st.tuples(texts, owners), min_size=2, max_size=4))
    def add_at_once(self, spoken: list[tuple[str, Scope]]) -> None:
        """What several callers say at once is there as if one had come after the other."""
        self.write()
        drafts = [Draft(text=text, scope=owner) for text, owner in spoken]
        results = self.home.at_once(
            partial(AsyncMemoryGateway.add, messages=one.text, infer=False, **ids_of(one.scope)) for one in drafts
        )
        done = sorted(
            zip(results, drafts, strict=True),
            key=lambda pair: [memory.created_at for memory in pair[0].stored] or [LATE],
        )
        for result, draft in done:
            self.check_added(result, [{0: draft}], [], "keep")

    def batches(self, drafts: Mapping[int, Draft], size: int, policy: str) -> list[dict[int, Draft]]:
        """What is stored together: with `raise` and `ask`, nothing that contradicts what comes before it."""
        found: list[dict[int, Draft]] = [{}]
        for index, draft in drafts.items():
            if len(found[-1]) == size or (
                policy in ("raise", "ask") and any(self.differ(draft, other) for other in found[-1].values())
            ):
                found.append({})
            found[-1][index] = draft
        return found

    def differ(self, one: Draft, other: Draft) -> bool:
        """Whether two drafts say different things of a slot, where one sees the other."""
        about = preference(one.metadata)
        near = one.scope.covers(other.scope) or other.scope.covers(one.scope)
        same = about is not None and about == preference(other.metadata)
        return near and same and one.metadata["value"] != other.metadata["value"]

    @precondition(lambda self: self.tokens)
    @rule(place=places, owner=owners, dismissed=st.integers(0, 3), late=st.integers(0, 2), how=places)
    def answer(self, place: int, owner: Scope, dismissed: int, late: int, how: int) -> None:
        """What waits is stored once, in the place of what it contradicts; or forgotten."""
        token = self.tokens[-1 - place % len(self.tokens)]
        self.write()
        waiting = self.model.waiting.get(token)
        if waiting is not None and late == 0:
            self.clock.now = max(self.clock.now, waiting.expires_at)
        owner = owner if waiting is None or how % 4 == 0 else waiting.draft.scope
        handle, ids = self.of(owner, how)
        if waiting is None or waiting.expires_at <= self.clock.now or not owner.covers(waiting.draft.scope):
            for verb in (handle.confirm, handle.dismiss):
                with pytest.raises(PendingNotFound):
                    verb(token, **ids)
            return
        del self.model.waiting[token]
        if dismissed == 0:
            handle.dismiss(token, **ids)
            return
        result = handle.confirm(token, **ids)
        draft = waiting.draft
        equal, left_out = self.model.duplicate(draft, self.clock.now, waiting.replaces)
        if left_out and equal is not None:
            assert [(item.reason, item.memory_id) for item in result.skipped] == [("duplicate", equal.id)]
            assert not result.stored
            return
        (new,) = result.stored
        reason = "another value for the same domain and key"
        foretold = self.replaced(lambda: self.model.replace(draft, new, waiting.replaces, equal=equal, reason=reason))
        assert exact(new) == exact(foretold)
        self.learn(new)

    @rule(
        place=places,
        owner=owners,
        text=st.none() | texts,
        fields=st.none() | metadata,
        expires_at=st.just("keep") | st.none() | st.sampled_from((*PAST, *FUTURE)),
        how=places,
    )
    def update(
        self, *, place: int, owner: Scope, text: str | None, fields: dict[str, Any] | None, expires_at: Any, how: int
    ) -> None:
        self.write()
        memory_id = self.some_id(place)
        owner = self.who(memory_id, owner, how)
        handle, ids = self.of(owner, how)
        new = {} if expires_at == "keep" else {"expires_at": expires_at}
        if how % 5 == 0 and (one := self.model.memories.get(memory_id)) is not None and one.metadata:
            fields = {**(fields or {}), list(one.metadata)[how % len(one.metadata)]: None}
        if text is None and fields is None and not new:
            with pytest.raises(InvalidInput, match="nothing to change"):
                handle.update(memory_id, **ids)
        elif not self.reach(memory_id, owner):
            with pytest.raises(MemoryNotFound):
                handle.update(memory_id, text=text, metadata=fields, **new, **ids)
        else:
            about = given(fields, how)
            now = handle.update(memory_id, text=text, metadata=about, **new, **ids)
            alone = isinstance(about, Preference)
            assert exact(now) == exact(self.model.update(memory_id, text, fields, new, self.at, alone=alone))
            self.touched.add(memory_id)

    @rule(
        place=places,
        owner=owners,
        turns=st.lists(st.tuples(texts, st.none() | metadata, times), min_size=1, max_size=3),
        reason=st.sampled_from((None, "we moved")),
        how=places,
    )
    def supersede(
        self,
        *,
        place: int,
        owner: Scope,
        turns: list[Turn],
        reason: str | None,
        how: int,
    ) -> None:
        """A memory, or what has taken its place meanwhile; what is told later may have begun earlier."""
        memory_id = self.some_id(place)
        owner = self.who(memory_id, owner, how)
        for turn in turns:
            self.write()
            self.supersede_once(memory_id, owner, turn, reason, how)

    def supersede_once(self, memory_id: str, owner: Scope, turn: Turn, reason: str | None, how: int) -> None:
        text, fields, valid_from = turn
        handle, ids = self.of(owner, how)
        about = given(fields, how)
        new: dict[str, Any] = {"metadata": about, "reason": reason, "valid_from": valid_from, **ids}
        old = self.model.current(memory_id, owner)
        if old is None:
            with pytest.raises(MemoryNotFound):
                handle.supersede(memory_id, text, **new)
            return
        if fields is None and preference(old.metadata):
            with pytest.raises(InvalidInput, match="says what held"):
                handle.supersede(memory_id, text, **new)
            return
        now = handle.supersede(memory_id, text, **new)
        foretold = self.replaced(
            lambda: self.model.supersede(
                memory_id,
                text,
                fields,
                scope=owner,
                reason=reason,
                valid_from=valid_from,
                chosen=now,
                alone=isinstance(about, Preference),
            )
        )
        assert exact(now) == exact(foretold)
        self.learn(now)

    @rule(place=places, owner=owners, how=places)
    def delete(self, place: int, owner: Scope, how: int) -> None:
        self.write()
        memory_id = self.some_id(place)
        owner = self.who(memory_id, owner, how)
        handle, ids = self.of(owner, how)
        if not self.reach(memory_id, owner):
            with pytest.raises(MemoryNotFound):
                handle.delete(memory_id, **ids)
            return
        handle.delete(memory_id, **ids)
        self.model.delete([memory_id])
        self.touched.add(memory_id)

    @precondition(lambda self: len(self.model.memories) > 4)  # else there would be little to look at
    @rule(owner=owners, spec=specs, how=places, data=st.data())
    def delete_all(self, owner: Scope, spec: Spec, how: int, data: st.DataObject) -> None:
        self.write()
        handle, ids = self.of(owner, how)
        gone = [one.id for one in self.model.inside(owner, spec)]
        assert handle.delete_all(filters=a_filter(Drawn(data.draw), spec), **ids) == len(gone)
        self.model.delete(gone)
        self.touched.update(gone)

    @precondition(lambda self: len(self.model.memories) > 4)  # else there would be little to look at
    @rule(owner=st.just(Scope()) | st.just(Scope()) | owners, jump=steps, how=places)
    def purge_expired(self, owner: Scope, jump: int | None, how: int) -> None:
        self.write()
        self.arrive(jump, None, "expires_at")
        now = self.clock.now
        gone = [one.id for one in self.model.inside(owner) if one.expires_at is not None and one.expires_at <= now]
        assert self.either(how).purge_expired(**ids_of(owner)) == len(gone)
        self.model.delete(gone)
        self.touched.update(gone)

    @precondition(lambda self: len(self.model.memories) > 4)  # else there would be little to look at
    @rule(owner=owners, compact=st.integers(0, 4), how=places)
    def erase(self, owner: Scope, compact: int, how: int) -> None:
        self.write()
        handle, ids = self.of(owner, how)
        gone, log = self.model.inside(owner), self.model.save(owner).log
        keys = [key for scope, key in self.model.keys if owner.covers(scope)]
        receipt = handle.erase(compact=compact == 0, **ids)
        assert (receipt.scope, receipt.memories, receipt.changes) == (owner, len(gone), len(log))
        assert receipt.superseded == sum(1 for one in gone if one.superseded_by is not None)
        waiting = [one for one in self.model.waiting.values() if owner.covers(one.draft.scope)]
        assert (receipt.keys, receipt.pending, receipt.residue) == (len(keys), len(waiting), ())
        self.model.erase(owner)
        for memory_id in {one.id for one in gone} | {entry.memory_id for entry in log}:
            with pytest.raises(MemoryNotFound):
                self.memory.history(memory_id)

    @precondition(lambda self: len(self.model.memories) > 4)  # else there would be little to look at
    @rule(how=places)
    def reset(self, how: int) -> None:
        """Nothing is left of anybody, as in a new memory; tokens and ids of before are of nothing."""
        self.write()
        self.either(how).reset()
        self.model.erase(Scope())
        for memory_id in self.known:
            with pytest.raises(MemoryNotFound):
                self.memory.history(memory_id)

    @rule(owner=st.just(Scope()) | owners, vectors=st.booleans())
    def export(self, owner: Scope, vectors: bool) -> None:
        file = io.StringIO()
        saved = self.model.save(owner)
        report = self.memory.export(file, vectors=vectors, **ids_of(owner))
        assert (report.memories, report.changes) == (len(saved.memories), len(saved.log))
        self.saved.append((saved, file.getvalue()))

    @precondition(lambda self: self.saved)
    @rule(place=places, owner=st.just(Scope()) | st.just(Scope()) | owners, dry_run=st.integers(0, 4))
    def import_(self, place: int, owner: Scope, dry_run: int) -> None:
        self.write()
        saved, text = self.saved[place % len(self.saved)]
        if dry_run == 0:
            report = self.memory.import_(io.StringIO(text), dry_run=True)
            assert (report.stored, report.complete) == (0, True)
            return
        report = self.memory.import_(io.StringIO(text), **ids_of(owner))
        done = self.model.restore(saved, owner)
        assert (report.stored, report.present, len(report.failed)) == (done.stored, done.present, done.failed)
        assert report.complete is (done.outside == 0)
        self.touched.update(saved.memories, (entry.memory_id for entry in saved.log))

    @rule(owner=st.just(Scope()) | owners, spec=specs, data=st.data())
    def lose_and_restore(self, owner: Scope, spec: Spec, data: st.DataObject) -> None:
        """What was deleted since an export is back with it, and the history says so."""
        self.export(owner, vectors=True)
        if owner:
            self.delete_all(owner, spec, how=0, data=data)
        else:
            gone = self.known[len(self.known) // 2 :]
            for memory_id in [one for one in gone if one in self.model.memories]:
                self.write()
                self.memory.delete(memory_id)
                self.model.delete([memory_id])
                self.touched.add(memory_id)
        self.import_(place=len(self.saved) - 1, owner=owner, dry_run=1)

    # -- reading ---------------------------------------------------------------------------------

    @rule(
        owner=owners,
        spec=specs,
        as_of=st.none() | near,
        jump=steps,
        expired=st.booleans(),
        order=st.sampled_from(ORDERS),
        size=st.integers(1, 4),
        how=places,
        data=st.data(),
    )
    def get_all(
        self,
        *,
        owner: Scope,
        spec: Spec,
        as_of: Near | None,
        jump: int | None,
        expired: bool,
        order: str,
        size: int,
        how: int,
        data: st.DataObject,
    ) -> None:
        """Page by page and all at once, in order, and with the scope in the filter."""
        then = self.arrive(jump, as_of)
        superseded = then is None and data.draw(st.booleans())
        flags = {"expired": expired, "superseded": superseded}
        shown = in_order(self.model.shown(owner, spec, self.clock.now, as_of=then, **flags), order)
        handle, ids = self.of(owner, how)
        filters = a_filter(Drawn(data.draw), spec)
        asked: dict[str, Any] = {
            "filters": filters, "as_of": then, "show_expired": expired, "show_superseded": superseded, "order": order,
        }  # fmt: skip
        assert [exact(one) for one in handle.iter_all(**asked, **ids)] == [exact(one) for one in shown]
        assert self.by_page(handle, ids, asked, size) == [one.id for one in shown]
        within: dict[str, Any] = {
            **asked,
            "filters": {"AND": [*({name: value} for name, value in owner.as_dict().items()), filters]},
        }
        assert [one.id for one in self.memory.get_all(**within)] == [one.id for one in shown]
        of_kind = [one for one in shown if one.metadata.get("category") == "preferences"]
        typed = handle.get_all(**asked, **ids, schema=Preference)
        assert [one.id for one in typed] == [one.id for one in of_kind if preference(one.metadata)]
        assert [one.id for one in typed.misfits] == [one.id for one in of_kind if not preference(one.metadata)]
        page = handle.get_all(**asked, **ids, limit=size)
        if page.next_cursor is not None:
            last = (getattr(page[-1], order.lstrip("-")), page[-1].id)
            self.listing = Listing(owner, spec, asked, page.next_cursor, last)

    @precondition(lambda self: self.listing is not None)
    @rule(jump=steps, size=st.integers(1, 4), how=places)
    def turn_the_page(self, jump: int | None, size: int, how: int) -> None:
        """A page goes on behind the last key of the one before, in what is there by now."""
        listing = cast("Listing", self.listing)
        self.arrive(jump)
        name, sign = listing.asked["order"].lstrip("-"), -1 if listing.asked["order"].startswith("-") else 1
        shown = self.model.shown(
            listing.owner,
            listing.spec,
            self.clock.now,
            as_of=listing.asked["as_of"],
            expired=listing.asked["show_expired"],
            superseded=listing.asked["show_superseded"],
        )

        def key(at: datetime, memory_id: str) -> tuple[timedelta, str]:
            return sign * (at - START), memory_id

        left = [one for one in shown if key(getattr(one, name), one.id) > key(*listing.last)]
        left = in_order(left, listing.asked["order"])
        handle, ids = self.of(listing.owner, how)
        page = handle.get_all(**listing.asked, **ids, cursor=listing.cursor, limit=size)
        assert [exact(one) for one in page] == [exact(one) for one in left[:size]]
        assert (page.next_cursor is not None) is (len(left) > size)
        self.listing = None
        if page.next_cursor is not None:
            last = (getattr(page[-1], name), page[-1].id)
            self.listing = Listing(listing.owner, listing.spec, listing.asked, page.next_cursor, last)

    @rule(
        query=st.sampled_from(("", "tea", "where in Lisbon?", "Phoenix March", "nothing of the kind")),
        owner=owners,
        spec=specs,
        as_of=st.none() | near,
        jump=steps,
        expired=st.booleans(),
        limit=st.integers(1, 4),
        how=places,
        data=st.data(),
    )
    def search(
        self,
        *,
        query: str,
        owner: Scope,
        spec: Spec,
        as_of: Near | None,
        jump: int | None,
        expired: bool,
        limit: int,
        how: int,
        data: st.DataObject,
    ) -> None:
        """Without a limit, all that the filter leaves are hits, best first; with one, the best of these."""
        then = self.arrive(jump, as_of)
        superseded = then is None and data.draw(st.booleans())
        shown = self.model.shown(owner, spec, self.clock.now, as_of=then, expired=expired, superseded=superseded)
        handle, ids = self.of(owner, how)
        asked: dict[str, Any] = {
            "filters": a_filter(Drawn(data.draw), spec), "as_of": then, "show_expired": expired,
            "show_superseded": superseded, **ids,
        }  # fmt: skip
        hits = handle.search(query, limit=10_000, **asked)
        by_id = {one.id: one for one in shown}
        assert sorted(hit.id for hit in hits) == sorted(by_id)
        for hit in hits:
            assert exact(memory_of(hit)) == exact(by_id[hit.id])
        scores = [hit.score for hit in hits]
        assert all(0 <= score <= 1 for score in scores)
        assert scores == sorted(scores, reverse=True)
        assert [hit.id for hit in handle.search(query, limit=limit, **asked)] == [hit.id for hit in hits[:limit]]
        if not query:
            newest = sorted(shown, key=lambda one: (one.created_at, one.id), reverse=True)
            assert [hit.id for hit in hits] == [one.id for one in newest]
        elif hits:
            for least in {scores[-1], scores[len(scores) // 2], 1.0}:
                over = handle.search(query, limit=10_000, threshold=max(0.0, least - 1e-4), **asked)
                passing = {hit.id for hit in hits if hit.score >= least}
                assert passing <= {hit.id for hit in over} <= {hit.id for hit in hits if hit.score >= least - 1e-3}

    @rule(place=places, owner=owners, how=places)
    def get_and_history(self, place: int, owner: Scope, how: int) -> None:
        """Of an id, with a scope: one of another's is as one that is not there."""
        memory_id = self.some_id(place)
        owner = self.who(memory_id, owner, how)
        handle, ids = self.of(owner, how)
        if self.reach(memory_id, owner):
            assert exact(handle.get(memory_id, **ids)) == exact(self.model.memories[memory_id])
        else:
            with pytest.raises(MemoryNotFound):
                handle.get(memory_id, **ids)
        self.check_history(memory_id, owner)

    @rule(text=texts, fields=slotted, owner=owners, how=places)
    def conflicts(self, text: str, fields: dict[str, Any], owner: Scope, how: int) -> None:
        """What a statement would contradict is told, and nothing is stored."""
        handle, ids = self.of(owner, how)
        found = handle.conflicts(text, metadata=given(fields, how), **ids)
        assert {conflict.kind for conflict in found} <= {"slot"}
        draft = Draft(text=text, scope=owner, metadata=fields)
        self.check_conflicts(found, self.model.contradicted(draft, self.clock.now))

    # -- what comes in between -------------------------------------------------------------------

    @precondition(lambda self: self.home.reopens)
    @rule()
    def close_and_reopen(self) -> None:
        closed = self.memory
        self.home.reopen()
        with pytest.raises(GatewayClosed):
            closed.add("I drink tea", user_id="alex")
        self.touched.update(self.known)

    @rule(owner=owners, wrong=st.sampled_from(WRONG), how=places)
    def go_wrong(
        self, owner: Scope, wrong: tuple[type[Exception], Callable[[MemoryGateway], object]], how: int
    ) -> None:
        """What cannot be done changes nothing: the invariant says so."""
        error, call = wrong
        self.write()
        with pytest.raises(error):
            call(self.either(how).scoped(**ids_of(owner)))
        self.touched.update(self.known[:3])

    @rule(call=st.sampled_from(("add", "search", "get_all", "iter_all", "delete_all", "erase")))
    def name_nobody(self, call: str) -> None:
        with pytest.raises(ScopeError):
            getattr(self.memory, call)(*(["I drink tea"] if call in ("add", "search") else []))

    # -- the whole -------------------------------------------------------------------------------

    def check_history(self, memory_id: str, owner: Scope) -> None:
        expected = self.model.history(memory_id, owner)
        if not expected:
            with pytest.raises(MemoryNotFound):
                self.memory.history(memory_id, **ids_of(owner))
            return
        changes = self.memory.history(memory_id, **ids_of(owner))
        assert [change.at for change in changes] == sorted(change.at for change in changes)
        for one in {entry.memory_id for entry in expected}:
            of_one = [told(change) for change in changes if change.memory_id == one]
            assert of_one == [entry.told() for entry in expected if entry.memory_id == one]
        assert len(changes) == len(expected)
        for place, change in enumerate(changes):  # of one instant, what is new comes first
            news = [(one.memory_id, one.at) for one in changes[place:] if one.event == "ADD"]
            assert change.event != "SUPERSEDE" or (change.superseded_by, change.at) not in news

    @invariant()
    def the_memory_holds_what_the_model_says(self) -> None:
        """Each memory of everybody, no other, and the history of what was touched."""
        assert self.memory.stats()["vector_store"]["rows"] == len(self.model.memories)
        for one in self.model.memories.values():
            assert exact(self.memory.get(one.id)) == exact(one)
        for memory_id in self.known:
            if memory_id not in self.model.memories:
                with pytest.raises(MemoryNotFound):
                    self.memory.get(memory_id)
        for memory_id in sorted(self.touched, key=self.known.index):
            self.check_history(memory_id, Scope())
        self.touched.clear()
        self.look_around()

    def look_around(self) -> None:
        """What somebody sees, page by page: now, and as of the instants that are stored, and just beside them."""
        self.looks += 1
        owner = OWNERS[self.looks // 2 % len(OWNERS) if self.looks % 2 else 0]
        known = self.model.instants()
        then = known[7 * self.looks % len(known)] + (self.looks % 3 - 1) * TICK if known else None
        for as_of in (None, then):
            order, expired = ORDERS[self.looks % len(ORDERS)], self.looks % 4 == 3
            superseded = as_of is None and self.looks % 5 == 4
            flags = {"expired": expired, "superseded": superseded}
            shown = in_order(self.model.shown(owner, ANY, self.clock.now, as_of=as_of, **flags), order)
            asked = {"as_of": as_of, "order": order, **{f"show_{name}": value for name, value in flags.items()}}
            assert self.by_page(self.memory, ids_of(owner), asked, 1 + self.looks % 3) == [one.id for one in shown]

    def teardown(self) -> None:
        """What became of each id, as every owner sees it."""
        for memory_id in self.known:
            self.check_history(memory_id, Scope())


@pytest.mark.timeout(1800)
def test_whatever_is_done_the_memory_holds_what_the_model_says(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences of calls leave, and return, what the model says, to the last change of the history."""
    with opening(backend) as open_here:
        home = Home(open_here, tmp_path, reopens=backend.persistent)
        clock = Clock(monkeypatch)  # with all that is open by now
        for module, name in ((sync, "FIRST_PAGE"), (aio, "FIRST_PAGE"), (writing, "_BATCH"), (portability, "_BATCH")):
            monkeypatch.setattr(module, name, 3)
        try:
            run_state_machine_as_test(
                lambda: MemoryMachine(home, clock),  # type: ignore[arg-type]  # it takes whatever makes a machine
                settings=settings(examples(40), stateful_step_count=30),
            )
        finally:
            home.close()
