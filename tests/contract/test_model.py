"""Whatever is done, in whatever order: a memory holds what the model says, on every backend.

`tests.contract.model` says in plain Python what the verbs promise. Hypothesis makes up sequences of calls, by several
owners, some of them wrong; after each one everything that is stored, of everybody, is compared with the model, and
what a call returns is what the model foretold. Time is the test's: it stands still unless a step lets it pass, and
stops at the very instants at which something begins or ends.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

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

from memstack import MemoryGateway, instants
from memstack.errors import (
    CursorError,
    FilterError,
    GatewayClosed,
    IdempotencyMismatch,
    InvalidInput,
    LLMNotConfigured,
    MemoryNotFound,
    MetadataError,
    ScopeError,
)
from memstack.gateway import parts
from memstack.records import AddResult, Hit, Memory
from memstack.scope import SCOPE_FIELDS, Scope
from memstack.testing.contract import Backend, opening
from memstack.testing.contract.base import OpenHere
from memstack.testing.contract.oracle import Spec
from memstack.testing.contract.strategies import Drawn, a_filter, examples
from tests.contract.model import ANY, Draft, Model, Saved, exact, told

START: Final = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
TICK: Final = timedelta(microseconds=1)
Near = tuple[int, timedelta]
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
metadata: Final = st.sampled_from(METADATA)
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
        "metadata": metadata,
        "expires_at": st.sampled_from((*PAST, *FUTURE)),
        "valid_from": st.sampled_from((*PAST, *FUTURE)),
    },
)
policies: Final = st.sampled_from(("keep", "keep", "supersede"))  # what has no schema contradicts nothing for certain

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
    (TypeError, lambda m: m.delete_all(run="r1")),  # type: ignore[call-arg]
)


class Clock:
    """The time of day, for the whole of memstack."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = START
        self._patch = patch
        for name, module in list(sys.modules.items()):
            if (
                name.startswith("memstack.")
                and vars(module).get("utcnow") is instants.utcnow
                and module is not instants
            ):
                patch.setattr(module, "utcnow", lambda: self.now)

    def start(self) -> None:
        """Everything begins again."""
        self.now = START
        self._patch.setattr(parts, "_last", instants.EPOCH)


class Home:
    """Where the memory is opened, and opened again."""

    def __init__(self, open_here: OpenHere, folder: Path, *, reopens: bool) -> None:
        self.reopens = reopens
        self._open: Callable[[], MemoryGateway] = lambda: open_here(folder)
        self.memory = self._open()

    def reopen(self) -> None:
        self.memory.close()
        self.memory = self._open()


def ids_of(scope: Scope) -> dict[str, Any]:
    """A scope as arguments."""
    return {**scope.as_dict()}


def memory_of(hit: Hit) -> Memory:
    """What a hit is, without its score."""
    return Memory(**{item.name: getattr(hit, item.name) for item in dataclasses.fields(Memory)})


class MemoryMachine(RuleBasedStateMachine):
    """A memory and its model; the rules are the verbs."""

    def __init__(self, home: Home, clock: Clock) -> None:
        super().__init__()
        self.home, self.clock = home, clock
        self.model = Model()
        self.known: list[str] = []  # the ids that there ever were, by age
        self.saved: list[tuple[Saved, str]] = []
        self.touched: set[str] = set()
        self.looks = 0

    @initialize(added=st.lists(items, max_size=12))
    def begin(self, added: list[dict[str, Any]]) -> None:
        self.clock.start()
        self.memory.reset()
        self.add_many(added, size=256, policy="keep")

    @property
    def memory(self) -> MemoryGateway:
        return self.home.memory

    # -- what the rules are made of --------------------------------------------------------------

    def write(self) -> datetime:
        """Before a write: a second passes, as its instants are later than every one before."""
        self.clock.now += timedelta(seconds=1)
        return self.clock.now

    def of(self, scope: Scope, how: int) -> tuple[MemoryGateway, dict[str, Any]]:
        """The scope as a handle, as arguments, or as a handle that is narrowed."""
        ids = ids_of(scope)
        if how % 3 == 0:
            return self.memory, ids
        first = next(iter(ids))
        bound = ids if how % 3 == 1 else {first: ids.pop(first)}
        return self.memory.scoped(**bound), ids if how % 3 == 2 else {}

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

    def check_added(self, result: AddResult, drafts: Mapping[int, Draft], failed: Sequence[int] = ()) -> None:
        """Each draft is stored, or skipped with the right reason, as if they came one after the other."""
        stored, skipped = iter(result.stored), {item.index: item for item in result.skipped}
        for index, draft in drafts.items():
            equal = self.model.equal_to(draft, self.clock.now)
            if draft.role != "user":
                assert skipped.pop(index).reason == "role"
            elif equal is not None:
                item = skipped.pop(index)
                assert (item.reason, item.memory_id) == ("duplicate", equal.id)
            else:
                memory = next(stored)
                assert memory.id not in self.known
                assert self.clock.now <= memory.created_at < self.clock.now + timedelta(seconds=1)
                assert exact(memory) == exact(self.model.store(draft, memory))
                self.learn(memory)
        assert not list(stored)
        assert not skipped
        assert [item.index for item in result.failed] == list(failed)
        assert not result.pending
        assert {conflict.kind for conflict in result.conflicts} <= {"meaning"}  # reported, and nothing else

    def arrive(self, jump: int | None, as_of: Near | None) -> datetime | None:
        """Let time pass until the very instant at which something begins or ends, and find one to look back from."""
        known = self.model.instants()
        ahead = [at for at in known if at > self.clock.now]
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

        def call() -> AddResult:
            return handle.add(
                messages if isinstance(messages, str) else [{"role": "user", **one} for one in messages],
                metadata=fields,
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
        if used is not None and used != content:
            with pytest.raises(IdempotencyMismatch):
                call()
            return
        result = call()
        if used is not None:
            assert not result.stored + result.failed
            assert [(item.index, item.reason) for item in result.skipped] == [(i, "duplicate") for i in drafts]
            return
        self.check_added(result, drafts)
        if key is not None:
            self.model.keys[owner, key] = content

    @rule(added=st.lists(items, min_size=1, max_size=5), size=st.sampled_from((1, 2, 256)), policy=policies)
    def add_many(self, added: list[dict[str, Any]], size: int, policy: Any) -> None:
        self.write()
        drafts: dict[int, Draft] = {}
        given: list[dict[str, Any]] = []
        for index, item in enumerate(added):
            fields = {name: value for name, value in item.items() if name not in ("content", "owner")}
            given.append({"content": item["content"], **item["owner"].as_dict(), **fields})
            drafts[index] = Draft(text=item["content"], scope=item["owner"], **fields)
        broken = {"content": "I drink tea", "user_id": "alex", "metadata": {"run_id": "r1"}}
        result = self.memory.add_many([*given, broken], batch_size=size, on_conflict=policy)
        failed = [index for index, draft in drafts.items() if draft.never_holds]
        holding = {index: draft for index, draft in drafts.items() if not draft.never_holds}
        self.check_added(result, holding, failed=[*failed, len(given)])

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
        if text is None and fields is None and not new:
            with pytest.raises(InvalidInput, match="nothing to change"):
                handle.update(memory_id, **ids)
        elif not self.reach(memory_id, owner):
            with pytest.raises(MemoryNotFound):
                handle.update(memory_id, text=text, metadata=fields, **new, **ids)
        else:
            now = handle.update(memory_id, text=text, metadata=fields, **new, **ids)
            assert exact(now) == exact(self.model.update(memory_id, text, fields, new, self.clock.now))
            self.touched.add(memory_id)

    @rule(
        place=places,
        owner=owners,
        text=texts,
        fields=st.none() | metadata,
        reason=st.sampled_from((None, "we moved")),
        valid_from=times,
        how=places,
    )
    def supersede(
        self,
        *,
        place: int,
        owner: Scope,
        text: str,
        fields: dict[str, Any] | None,
        reason: str | None,
        valid_from: datetime | None,
        how: int,
    ) -> None:
        self.write()
        memory_id = self.some_id(place)
        owner = self.who(memory_id, owner, how)
        handle, ids = self.of(owner, how)
        new = {"metadata": fields, "reason": reason, "valid_from": valid_from}
        if not self.reach(memory_id, owner):
            with pytest.raises(MemoryNotFound):
                handle.supersede(memory_id, text, **new, **ids)  # type: ignore[arg-type]
            return
        now = handle.supersede(memory_id, text, **new, **ids)  # type: ignore[arg-type]
        told_so = self.model.supersede(memory_id, text, fields, reason=reason, valid_from=valid_from, chosen=now)
        assert exact(now) == exact(told_so)
        self.learn(now)
        self.touched.add(memory_id)

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
    @rule(owner=st.just(Scope()) | owners)
    def purge_expired(self, owner: Scope) -> None:
        now = self.write()
        gone = [one.id for one in self.model.inside(owner) if one.expires_at is not None and one.expires_at <= now]
        assert self.memory.purge_expired(**ids_of(owner)) == len(gone)
        self.model.delete(gone)
        self.touched.update(gone)

    @precondition(lambda self: len(self.model.memories) > 4)  # else there would be little to look at
    @rule(owner=owners, compact=st.integers(0, 4), how=places)
    def erase(self, owner: Scope, compact: int, how: int) -> None:
        self.write()
        handle, ids = self.of(owner, how)
        gone, log = self.model.inside(owner), self.model.save(owner).log
        runs = [run for run in [*self.model.places, *(scope for scope, _ in self.model.keys)] if owner.covers(run)]
        receipt = handle.erase(compact=compact == 0, **ids)
        assert (receipt.scope, receipt.memories, receipt.changes) == (owner, len(gone), len(log))
        assert receipt.superseded == sum(1 for one in gone if one.superseded_by is not None)
        assert (receipt.keys, receipt.pending, receipt.residue) == (len(runs), 0, ())
        self.model.erase(owner)
        for memory_id in {one.id for one in gone} | {entry.memory_id for entry in log}:
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
        order=st.sampled_from(("created_at", "updated_at", "occurred_at")),
        newest=st.booleans(),
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
        newest: bool,
        size: int,
        how: int,
        data: st.DataObject,
    ) -> None:
        """Page by page and all at once, in order, and with the scope in the filter."""
        then = self.arrive(jump, as_of)
        shown = self.model.shown(owner, spec, self.clock.now, as_of=then, expired=expired)
        shown.sort(key=lambda one: (getattr(one, order), one.id), reverse=newest)
        handle, ids = self.of(owner, how)
        filters = a_filter(Drawn(data.draw), spec)
        asked: dict[str, Any] = {
            "filters": filters, "as_of": then, "show_expired": expired, "order": f"{'-' * newest}{order}",
        }  # fmt: skip
        assert [exact(one) for one in handle.iter_all(**asked, **ids)] == [exact(one) for one in shown]
        assert self.by_page(handle, ids, asked, size) == [one.id for one in shown]
        within: dict[str, Any] = {
            **asked,
            "filters": {"AND": [*({name: value} for name, value in owner.as_dict().items()), filters]},
        }
        assert [one.id for one in self.memory.get_all(**within)] == [one.id for one in shown]

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
        shown = self.model.shown(owner, spec, self.clock.now, as_of=then, expired=expired)
        handle, ids = self.of(owner, how)
        asked: dict[str, Any] = {
            "filters": a_filter(Drawn(data.draw), spec), "as_of": then, "show_expired": expired, **ids,
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
            least = scores[len(scores) // 2]
            over = handle.search(query, limit=10_000, threshold=max(0.0, least - 1e-4), **asked)
            assert {hit.id for hit in hits if hit.score >= least} <= {hit.id for hit in over}
            assert all(hit.score >= least - 1e-3 for hit in over)

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

    # -- what comes in between -------------------------------------------------------------------

    @precondition(lambda self: self.home.reopens)
    @rule()
    def close_and_reopen(self) -> None:
        closed = self.memory
        self.home.reopen()
        with pytest.raises(GatewayClosed):
            closed.add("I drink tea", user_id="alex")
        self.touched.update(self.known)

    @rule(owner=owners, wrong=st.sampled_from(WRONG))
    def go_wrong(self, owner: Scope, wrong: tuple[type[Exception], Callable[[MemoryGateway], object]]) -> None:
        """What cannot be done changes nothing: the invariant says so."""
        error, call = wrong
        self.write()
        with pytest.raises(error):
            call(self.memory.scoped(**ids_of(owner)))
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
            shown = [one.id for one in self.model.shown(owner, ANY, self.clock.now, as_of=as_of)]
            asked = {"as_of": as_of, "order": "created_at"}
            assert self.by_page(self.memory, ids_of(owner), asked, 1 + self.looks % 3) == shown

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
        run_state_machine_as_test(
            lambda: MemoryMachine(home, clock),  # type: ignore[arg-type]  # it takes whatever makes a machine
            settings=settings(examples(40), stateful_step_count=30),
        )
