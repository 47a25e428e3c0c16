"""What a memory holds, said a second time: in plain Python, and from what the blueprint and the docstrings promise.

The model is a dict of memories, a list of changes, what waits for an answer, the idempotency keys that were used, and
how far each run has got.
Nothing of the gateway, the stores or the history is used here, only the records that go in and come out; filters are
those of `memstack.testing.contract.oracle`. What the memory chooses by itself, ids and the instants of writes, is told
to the model after the call; everything else the model foretells.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from memstack.records import Change, Event, Memory, Source
from memstack.scope import Scope
from memstack.testing.contract.oracle import Spec, fields_of, holds

__all__ = ["ANY", "Draft", "Entry", "Imported", "Model", "Saved", "Waiting", "exact", "preference", "told"]

ANY: Final[Spec] = ("and", [])
_INSTANTS: Final = ("created_at", "updated_at", "occurred_at", "valid_from", "valid_to", "expires_at")
_TICK: Final = timedelta(microseconds=1)
_A_DAY: Final = timedelta(minutes=1440)
_PREFERENCE: Final = frozenset({"category", "key", "value", "domain", "strength", "source"})


def exact(value: Any) -> Any:
    """A value with its types, to compare: True is not 1, and 1 is not 1.0; nor is the order of fields a difference."""
    if isinstance(value, Mapping):
        return {name: exact(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: exact(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return type(value).__name__, value


def _set(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata with fields set; None removes one, and is none."""
    return {name: value for name, value in {**old, **(new or {})}.items() if value is not None}


def preference(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a preference is about, as (domain, key); None where metadata is none, or does not fit."""
    about = _about(metadata)
    fits = isinstance(metadata.get("value"), str) and _PREFERENCE.issuperset(metadata)
    return about if fits else None


def _about(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """The slot of a preference, also where the rest of it does not fit."""
    if metadata.get("category") != "preferences" or "key" not in metadata:
        return None
    return metadata.get("domain", "general"), metadata["key"]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A message that is to be stored."""

    text: str
    scope: Scope
    metadata: Mapping[str, Any] = field(default_factory=dict)
    role: str = "user"
    name: str | None = None
    occurred_at: datetime | None = None
    expires_at: datetime | None = None
    valid_from: datetime | None = None

    @property
    def never_holds(self) -> bool:
        """Whether it expires by the time from which it holds: that is refused."""
        return self.valid_from is not None and self.expires_at is not None and self.expires_at <= self.valid_from

    def same(self) -> Any:
        """What duplicates have in common: scope, speaker, normalised text, metadata."""
        return _same(self.scope, self.name, self.text, _set({}, self.metadata))

    def content(self) -> Any:
        """What tells two calls with the same idempotency key apart."""
        return {**vars(self), "metadata": _set({}, self.metadata)}

    def memory(self, chosen: Memory, position: int) -> Memory:
        """What becomes of it; the memory chooses the id, and when it was stored."""
        return Memory(
            id=chosen.id,
            text=self.text,
            scope=self.scope,
            metadata=_set({}, self.metadata),
            created_at=chosen.created_at,
            updated_at=chosen.created_at,
            occurred_at=self.occurred_at or chosen.created_at,
            expires_at=self.expires_at,
            valid_from=self.valid_from,
            source=(Source(self.role, self.name, position),),
        )


def _same(scope: Scope, name: str | None, text: str, metadata: Mapping[str, Any]) -> Any:
    return scope, name, " ".join(unicodedata.normalize("NFC", text).split()), exact(metadata)


@dataclass(frozen=True)
class Entry:
    """A change, as the history has to tell it. `number` is its place among all of them."""

    number: int
    memory_id: str
    event: Event
    scope: Scope
    old: tuple[str, Mapping[str, Any]] | None
    new: tuple[str, Mapping[str, Any]] | None
    actor: str
    reason: str | None = None
    superseded_by: str | None = None

    def told(self) -> Any:
        """To compare with a `Change`."""
        return exact((self.memory_id, self.event, self.scope, self.old or (None, None), self.new or (None, None))), (
            self.actor,
            self.reason,
            self.superseded_by,
        )


def told(change: Change) -> Any:
    """A change of the history, to compare with an `Entry`; `at` is looked at elsewhere."""
    old, new = (change.old_text, change.old_metadata), (change.new_text, change.new_metadata)
    return exact((change.memory_id, change.event, change.scope, old, new)), (
        change.actor,
        change.reason,
        change.superseded_by,
    )


@dataclass(frozen=True)
class Waiting:
    """A draft that waits for an answer: what it was asked about, why, and until when it waits."""

    draft: Draft
    replaces: tuple[str, ...]
    expires_at: datetime


@dataclass(frozen=True)
class Saved:
    """What an export has: the memories of a scope, and all changes of that scope."""

    memories: Mapping[str, Memory]
    log: tuple[Entry, ...]


@dataclass
class Imported:
    """What an import has to report; `outside`: how many of the failed are of another scope."""

    stored: int = 0
    present: int = 0
    failed: int = 0
    outside: int = 0


class Model:
    """What is stored, for everybody.

    Attributes:
        memories: by id, as they were stored.
        log: every change, the oldest first; also of memories that are gone.
        keys: the content that each idempotency key of a scope was used for.
        places: how many messages each run has.
        waiting: what waits for an answer, by its token.
    """

    def __init__(self) -> None:
        self.memories: dict[str, Memory] = {}
        self.log: list[Entry] = []
        self.keys: dict[tuple[Scope, str], Any] = {}
        self.places: dict[Scope, int] = {}
        self.waiting: dict[str, Waiting] = {}
        self._number = 0

    # -- reading ---------------------------------------------------------------------------------

    def inside(self, scope: Scope, where: Spec = ANY) -> list[Memory]:
        """Whatever there is of a scope, the oldest first: also what is hidden."""
        found = [one for one in self.memories.values() if scope.covers(one.scope) and holds(where, fields_of(one))]
        return sorted(found, key=lambda one: (one.created_at, one.id))

    def shown(
        self,
        scope: Scope,
        where: Spec,
        now: datetime,
        *,
        as_of: datetime | None = None,
        expired: bool = False,
        superseded: bool = False,
    ) -> list[Memory]:
        """What a search or a listing can show."""
        if superseded:
            there = self.inside(scope, where)
            return [one for one in there if expired or one.expires_at is None or now < one.expires_at]
        at = as_of or now
        return [one for one in self.inside(scope, where) if _holds(one, at, said=as_of is not None, expired=expired)]

    def history(self, memory_id: str, scope: Scope) -> list[Entry]:
        """The changes of a memory, and of its chain; none where no memory of the scope ever had the id."""
        chain, size = {memory_id}, 0
        while len(chain) > size:
            size = len(chain)
            links = [{entry.memory_id, entry.superseded_by} for entry in self.log if entry.superseded_by]
            chain |= {str(one) for link in links if link & chain for one in link}
        found = [entry for entry in self.log if entry.memory_id in chain and scope.covers(entry.scope)]
        return found if any(entry.memory_id == memory_id for entry in found) else []

    def instants(self, names: Sequence[str] = _INSTANTS) -> list[datetime]:
        """When something begins, ends, was said, stored or changed, or is no longer waited for; the first first."""
        found = {getattr(one, name) for one in self.memories.values() for name in names}
        found |= {one.expires_at for one in self.waiting.values() if "expires_at" in names}
        return sorted(at for at in found if at is not None)

    # -- writing ---------------------------------------------------------------------------------

    def equal_to(self, draft: Draft, now: datetime) -> Memory | None:
        """The oldest memory that a draft is a duplicate of.

        It has to be there when the new one would be: now, once that holds, or just before it expired.
        """
        there = [one for one in self.inside(draft.scope) if _holds(one, _seen_at(draft, now))]
        return next((one for one in there if draft.same() == _same_of(one)), None)

    def store(self, draft: Draft, chosen: Memory) -> Memory:
        """A draft is stored."""
        position = self.places.get(draft.scope, 0)
        self.places[draft.scope] = position + 1
        new = draft.memory(chosen, position)
        self._note("ADD", None, new)
        return self._put(new)

    def update(
        self,
        memory_id: str,
        text: str | None,
        metadata: Mapping[str, Any] | None,
        times: Mapping[str, Any],
        at: datetime,
        *,
        alone: bool = False,
    ) -> Memory:
        """A memory is changed; where nothing is other than it was, nothing happened. `alone`: no old field stays."""
        old = self.memories[memory_id]
        fields = _set({} if alone else old.metadata, metadata)
        new = dataclasses.replace(old, text=text or old.text, metadata=fields, **times)
        if exact(new) == exact(old):
            return old
        self._note("UPDATE", old, new)
        return self._put(dataclasses.replace(new, updated_at=at))

    def current(self, memory_id: str, scope: Scope) -> Memory | None:
        """What stands in the place of a memory by now, as far as a scope sees; None where it is gone."""
        one, seen = self._seen(memory_id, scope), {memory_id}
        while one is not None and one.superseded_by not in seen:
            following = self._seen(one.superseded_by, scope)
            if following is None:
                break
            seen.add(following.id)
            one = following
        return one

    def supersede(
        self,
        memory_id: str,
        text: str,
        metadata: Mapping[str, Any] | None,
        *,
        scope: Scope,
        reason: str | None,
        valid_from: datetime | None,
        chosen: Memory,
        alone: bool = False,
    ) -> Memory:
        """A new memory takes the place of another, and of what that one had replaced since the new one began."""
        old = self.current(memory_id, scope)
        assert old is not None
        fields = _set({} if alone else old.metadata, metadata)
        draft = Draft(text=text, scope=old.scope, metadata=fields, valid_from=valid_from)
        if draft.same() == _same_of(old):
            return old
        return self.replace(draft, chosen, [memory_id], reason=reason)

    # -- contradictions --------------------------------------------------------------------------

    def slot(self, draft: Draft) -> list[Memory]:
        """What is about the same as a draft that is a preference, whenever it held, in the order of time."""
        about = preference(draft.metadata)
        found = [one for one in self.inside(draft.scope) if about is not None and _about(one.metadata) == about]
        return sorted(found, key=lambda one: (_begin(one), one.id))

    def contradicted(self, draft: Draft, at: datetime) -> list[Memory]:
        """What holds at an instant and says another thing of the draft's slot."""
        return [
            one
            for one in self.slot(draft)
            if _holds(one, at) and preference(one.metadata) and one.metadata["value"] != draft.metadata["value"]
        ]

    def duplicate(self, draft: Draft, now: datetime, named: Iterable[str] = ()) -> tuple[Memory | None, bool]:
        """The memory that a draft is equal to, and whether it is left out for that: not where it changes what holds."""
        equal = self.equal_to(draft, now)
        if equal is None:
            return None, False
        at = _seen_at(draft, now)
        standing = (self.current(one, draft.scope) for one in named)
        others = [one for one in standing if one is not None and _holds(one, at)]
        others += self.contradicted(draft, at)
        return equal, all(one.id == equal.id for one in others)

    def replace(
        self,
        draft: Draft,
        chosen: Memory,
        ids: Iterable[str] = (),
        *,
        equal: Memory | None = None,
        reason: str | None = None,
    ) -> Memory:
        """A draft is stored, in the place of some memories, and among those of its slot.

        What it takes the place of held until it begins. What is said to begin later than all that is named keeps its
        place, and the new one holds until then.
        """
        line = self.slot(draft)
        asked = [*ids, *([] if equal is None else [equal.id])]
        named = {one.id: one for one in (self.current(key, draft.scope) for key in asked) if one is not None}
        new = self.store(draft, chosen)
        begin = _begin(new)
        bound = max([begin, *map(_begin, named.values())])
        said = draft.valid_from is not None or draft.occurred_at is not None
        staying = [one for one in line if _begin(one) > bound and (said or one.valid_from is not None)]
        before = self._before(named.values(), begin, draft.scope)
        found = {one.id: one for one in (*line, *before, *named.values()) if one not in staying}
        for one in found.values():
            if one.valid_to is None or one.valid_to > begin:
                end = max(begin, one.valid_from or begin)  # what had not begun by then never held
            elif one.id in named:
                end = one.valid_to  # what had taken its place is gone
            else:
                continue
            self._end(one, end, new.id, reason)
        return self._end(new, _begin(staying[0]), staying[0].id, reason) if staying else new

    def _before(self, later: Iterable[Memory], begin: datetime, scope: Scope) -> list[Memory]:
        """What some memories took the place of, as far back as these began after an instant."""
        found: dict[str, Memory] = {}
        later = [one for one in later if _begin(one) > begin]
        while later:
            ids = {one.id for one in later}
            new = [one for one in self.inside(scope) if one.superseded_by in ids and one.id not in found]
            found.update({one.id: one for one in new})
            later = [one for one in new if _begin(one) > begin]
        return list(found.values())

    def _end(self, one: Memory, end: datetime, successor: str, reason: str | None) -> Memory:
        self._note("SUPERSEDE", one, one, reason=reason, superseded_by=successor)
        return self._put(dataclasses.replace(one, valid_to=end, superseded_by=successor))

    def wait(self, draft: Draft, token: str, replaces: Sequence[Memory], now: datetime) -> Waiting:
        """A draft waits for an answer, for a day; what waited longer is forgotten."""
        self.waiting = {key: one for key, one in self.waiting.items() if one.expires_at > now}
        self.waiting[token] = Waiting(draft, tuple(one.id for one in replaces), now + _A_DAY)
        return self.waiting[token]

    def token_of(self, draft: Draft, now: datetime) -> str | None:
        """Under which token an equal draft waits."""
        there = (key for key, one in self.waiting.items() if one.draft.same() == draft.same() and one.expires_at > now)
        return next(there, None)

    def _seen(self, memory_id: str | None, scope: Scope) -> Memory | None:
        one = None if memory_id is None else self.memories.get(memory_id)
        return one if one is not None and scope.covers(one.scope) else None

    # -- deleting --------------------------------------------------------------------------------

    def delete(self, ids: Iterable[str]) -> None:
        """Memories are deleted; what happened stays."""
        for memory_id in ids:
            self._note("DELETE", self.memories.pop(memory_id), None)

    def erase(self, scope: Scope) -> None:
        """Nothing of a scope is left."""
        self.memories = {one.id: one for one in self.memories.values() if not scope.covers(one.scope)}
        self.log = [entry for entry in self.log if not scope.covers(entry.scope)]
        self.keys = {used: content for used, content in self.keys.items() if not scope.covers(used[0])}
        self.places = {run: place for run, place in self.places.items() if not scope.covers(run)}
        self.waiting = {token: one for token, one in self.waiting.items() if not scope.covers(one.draft.scope)}

    # -- elsewhere and back ----------------------------------------------------------------------

    def save(self, scope: Scope) -> Saved:
        """What an export of a scope has."""
        log = tuple(entry for entry in self.log if scope.covers(entry.scope))
        return Saved({one.id: one for one in self.inside(scope)}, log)

    def restore(self, saved: Saved, scope: Scope) -> Imported:
        """An export is read; memories outside of the scope are refused, those that are here stay as they are."""
        report = Imported()
        owners = {entry.memory_id: entry.scope for entry in saved.log}
        for memory_id, owner in owners.items():
            one, here = saved.memories.get(memory_id), self.memories.get(memory_id)
            report.outside += not scope.covers(owner)
            if not scope.covers(owner) or (one and here and exact(one) != exact(here)):
                report.failed += 1
                continue
            known = {entry.number for entry in self.log}
            self.log += [entry for entry in saved.log if entry.memory_id == memory_id and entry.number not in known]
            self.log.sort(key=lambda entry: entry.number)
            report.present += one is not None and here is not None
            if one is not None and here is None:
                report.stored += 1
                here = self._put(one)
                for position in (source.position for source in one.source if source.position is not None):
                    self.places[owner] = max(self.places.get(owner, 0), position + 1)
            if here and [entry for entry in self.log if entry.memory_id == memory_id][-1].event == "DELETE":
                self._note("ADD", None, here, reason="imported")
        return report

    # -- inside ----------------------------------------------------------------------------------

    def _put(self, memory: Memory) -> Memory:
        self.memories[memory.id] = memory
        return memory

    def _note(self, event: Event, old: Memory | None, new: Memory | None, **more: Any) -> None:
        memory = new or old
        assert memory is not None
        was, now = ((one.text, one.metadata) if one else None for one in (old, new))
        (source,) = memory.source
        actor = source.name or source.role
        self.log.append(Entry(self._number, memory.id, event, memory.scope, was, now, actor, **more))
        self._number += 1


def _seen_at(draft: Draft, now: datetime) -> datetime:
    at = max(now, draft.valid_from or now)
    return at if draft.expires_at is None or draft.expires_at > at else draft.expires_at - _TICK


def _begin(memory: Memory) -> datetime:
    return memory.valid_from or memory.occurred_at


def _holds(memory: Memory, at: datetime, *, said: bool = False, expired: bool = False) -> bool:
    """Whether a memory is shown at an instant; `said`: also only once it had been said."""
    begin = _begin(memory) if said else memory.valid_from
    ends: Iterator[datetime | None] = iter((memory.valid_to, None if expired else memory.expires_at))
    return (begin is None or begin <= at) and all(end is None or at < end for end in ends)


def _same_of(memory: Memory) -> Any:
    return _same(memory.scope, memory.source[0].name, memory.text, memory.metadata)
