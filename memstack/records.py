"""What goes in and what comes out: messages, memories, hits, outcomes. Frozen, and free of any engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Literal, SupportsIndex, overload

from typing_extensions import TypeVar

from memstack.instants import iso
from memstack.scope import Scope

__all__ = [
    "ROLES",
    "AddResult",
    "Change",
    "Conflict",
    "ConflictKind",
    "ErasureReceipt",
    "Event",
    "ExportReport",
    "Failed",
    "Hit",
    "Hits",
    "ImportReport",
    "Memory",
    "Message",
    "Order",
    "Page",
    "PendingChange",
    "Role",
    "SkipReason",
    "Skipped",
    "Source",
]

M_co = TypeVar("M_co", covariant=True, default=Mapping[str, Any])  # the metadata: a mapping, or a schema
S = TypeVar("S", default=Mapping[str, Any])

Role = Literal["user", "assistant", "system", "tool", "developer"]
ROLES: Final[tuple[Role, ...]] = ("user", "assistant", "system", "tool", "developer")
Event = Literal["ADD", "UPDATE", "SUPERSEDE", "DELETE"]
ConflictKind = Literal["slot", "judged", "meaning"]
SkipReason = Literal["duplicate", "role", "nothing to remember"]
Order = Literal[
    "-created_at", "created_at", "-updated_at", "updated_at", "-occurred_at", "occurred_at"
]  # "-" is newest first


@dataclass(frozen=True, slots=True)
class Message:
    """What was said.

    Attributes:
        role: who said it: ``user``, ``assistant``, ``system``, ``tool`` or ``developer``.
        content: the words.
        name: which user, agent or tool, where that matters.
        occurred_at: when it was said; None is now. Without a zone it is UTC.
    """

    role: Role
    content: str
    name: str | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A message that a memory came from.

    Attributes:
        role: the role of the message.
        name: who spoke, where the message said so.
        position: place of the message among those stored with just the same user, agent and run, from 0.
    """

    role: str
    name: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Generic[M_co]):
    """A stored record. All instants are aware and in UTC.

    Attributes:
        id: a UUID.
        text: what is remembered.
        scope: who it belongs to.
        metadata: the caller's fields, equal to and of the same types as what was stored; an instance of the schema
            where one was asked for (``Memory[Preference]``).
        created_at: when it was stored.
        updated_at: when it was last changed.
        occurred_at: when it was said.
        expires_at: from when on it is hidden; None is never.
        valid_from: since when it holds; None is since it was said.
        valid_to: until when it held; None is still.
        superseded_by: id of the memory that replaced it.
        source: the messages that it came from.
        schema_error: why the metadata does not fit the schema that was asked for; then it is raw, among the misfits.
    """

    id: str
    text: str
    scope: Scope
    metadata: M_co
    created_at: datetime
    updated_at: datetime
    occurred_at: datetime
    expires_at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    superseded_by: str | None = None
    source: tuple[Source, ...] = ()
    schema_error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types: instants (and dates in the metadata) as ISO text, the scope's ids flat."""
        out: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "scope":
                out.update(self.scope.as_dict())
            elif value is None or value == ():
                continue
            else:
                out[item.name] = _plain(value)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit(Memory[M_co]):
    """A memory that a search found.

    Attributes:
        score: in [0, 1], to six digits; higher is better. The same on every engine, give or take a millionth.
        explain: how the score and the filter came about, where the search asked for it.
    """

    score: float
    explain: Mapping[str, Any] | None = None


class Hits(list[Hit[S]]):
    """The hits of a search with a schema: each one's metadata is an instance of it.

    Attributes:
        misfits: hits of the schema's category whose metadata does not fit, raw, with the reason in `schema_error`.
    """

    def __init__(self, hits: Iterable[Hit[S]] = (), misfits: Iterable[Hit] = ()) -> None:
        super().__init__(hits)
        self.misfits = tuple(misfits)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A message that was not stored, on purpose.

    Attributes:
        index: its place among the messages (items) of the call, counted from 0.
        reason: ``duplicate`` (an equal memory is there), ``role`` (not one of `remember_roles`), or
            ``nothing to remember``.
        detail: the reason in words.
        memory_id: the memory that is there already.
    """

    index: int
    reason: SkipReason
    detail: str
    memory_id: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A message that could not be stored, or not all that was asked for was done with it; `reason` says which.

    Attributes:
        index: its place among the messages (items) of the call, counted from 0.
        reason: what went wrong, in words.
        retryable: whether adding it again may help.
        answer: what the language model said, where it could not be used: for inspection. It may hold the text of
            memories, so it does not show in the representation.
    """

    index: int
    reason: str
    retryable: bool = False
    answer: str | None = dataclasses.field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A stored memory that contradicts what was added.

    Attributes:
        memory: the stored one, as it was.
        reason: why they contradict; in the model's words where one judged.
        kind: ``slot`` (certain: the same slot of a schema, another value), ``judged`` (a language model says so), or
            ``meaning`` (possible: similar, and nobody judged).
        score: how similar the two are, where that was asked.
        index: place of the message among those of the call, counted from 0.
    """

    memory: Memory
    reason: str
    kind: ConflictKind = "slot"
    score: float | None = None
    index: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        score = {} if self.score is None else {"score": self.score}
        return {"memory": self.memory.to_dict(), "reason": self.reason, "kind": self.kind, **score, "index": self.index}


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A message that contradicts something, and is stored when somebody confirms it.

    Attributes:
        token: what `MemoryGateway.confirm` and `MemoryGateway.dismiss` take.
        index: place of the message among those of the call, counted from 0.
        text: what would be remembered.
        expires_at: until when it waits.
        conflicts: what it contradicts, and would replace.
    """

    token: str
    index: int
    text: str
    expires_at: datetime
    conflicts: tuple[Conflict, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return {
            "token": self.token,
            "index": self.index,
            "text": self.text,
            "expires_at": iso(self.expires_at),
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
        }


@dataclass(frozen=True, slots=True)
class AddResult:
    """What became of every message: each is in one of `stored`, `skipped`, `failed` and `pending`.

    Attributes:
        stored: the new memories.
        skipped: messages left out on purpose, with the reason.
        failed: messages that could not be stored, with the reason.
        conflicts: stored memories that contradict the new ones; with ``on_conflict="supersede"`` the certain and the
            judged ones are superseded.
        pending: messages that wait for `MemoryGateway.confirm`, with ``on_conflict="ask"``.
    """

    stored: tuple[Memory, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failed, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    pending: tuple[PendingChange, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return {
            "stored": [memory.to_dict() for memory in self.stored],
            "skipped": [dataclasses.asdict(item) for item in self.skipped],
            "failed": [dataclasses.asdict(item) for item in self.failed],
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
            "pending": [change.to_dict() for change in self.pending],
        }


@dataclass(frozen=True, slots=True)
class Page(Generic[M_co]):
    """Some memories of a listing, in its order: iterated, counted and told by their place, as in a tuple.

    Attributes:
        memories: the memories of this page.
        next_cursor: what to pass as ``cursor=`` for the next page; None where this is the last.
        misfits: where a schema was asked for, those of its category whose metadata does not fit, raw, with the reason
            in `schema_error`.
    """

    memories: tuple[Memory[M_co], ...] = ()
    next_cursor: str | None = None
    misfits: tuple[Memory, ...] = ()

    def __iter__(self) -> Iterator[Memory[M_co]]:
        return iter(self.memories)

    def __len__(self) -> int:
        return len(self.memories)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Memory[M_co]: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Memory[M_co], ...]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Memory[M_co] | tuple[Memory[M_co], ...]:
        return self.memories[place]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        misfits = {"misfits": [memory.to_dict() for memory in self.misfits]} if self.misfits else {}
        return {
            "memories": [memory.to_dict() for memory in self.memories],
            **misfits,
            "next_cursor": self.next_cursor,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry of the history, which is only ever appended to.

    Attributes:
        memory_id: the memory that was changed.
        event: ``ADD``, ``UPDATE``, ``SUPERSEDE`` or ``DELETE``.
        at: when.
        old_text, new_text: the text before and after; None where there was or is none. Of a memory that was superseded
            the text stays; the new one's is in its own entry.
        old_metadata, new_metadata: likewise.
        actor: who spoke (the message's name, else its role), where that is known.
        reason: why, where the caller said so.
        scope: who the memory belongs to.
        superseded_by: id of the memory that took its place, for ``SUPERSEDE``.
    """

    memory_id: str
    event: Event
    at: datetime
    scope: Scope
    old_text: str | None = None
    new_text: str | None = None
    old_metadata: Mapping[str, Any] | None = None
    new_metadata: Mapping[str, Any] | None = None
    actor: str | None = None
    reason: str | None = None
    superseded_by: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types; fields that are None are left out."""
        out: dict[str, Any] = {"memory_id": self.memory_id, "event": self.event, "at": iso(self.at)}
        for name in ("old_text", "new_text", "old_metadata", "new_metadata", "actor", "reason", "superseded_by"):
            if (value := getattr(self, name)) is not None:
                out[name] = _plain(value)
        return {**out, **self.scope.as_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReceipt:
    """What was erased of a scope: figures, and no content.

    Attributes:
        scope: whose it was.
        at: when.
        memories: how many, superseded and expired ones among them.
        superseded: how many of them were superseded.
        entities: rows that Mem0 kept of names in them.
        changes: entries of the history.
        pending: changes that waited for an answer.
        messages: of Mem0's message log.
        keys: idempotency keys.
        compacted: whether every file that this machine holds was rewritten.
        to_do: what is left to the operator, in words: what cannot be done from here, and how to do it.
        residue: the files in which something of it was still found; empty is none.
    """

    scope: Scope
    at: datetime
    memories: int
    superseded: int
    entities: int
    changes: int
    pending: int
    messages: int
    keys: int
    compacted: bool
    to_do: tuple[str, ...] = ()
    residue: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left, and nothing is left to do."""
        return not self.to_do and not self.residue

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        out = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        lists = {"to_do": list(self.to_do), "residue": list(self.residue)}
        return {**out, "scope": self.scope.as_dict(), "at": iso(self.at), **lists, "complete": self.complete}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        memories: how many.
        changes: entries of their history, and of memories that were deleted.
        checksum: over all of it, whatever the engine and the order.
    """

    memories: int
    changes: int
    checksum: str

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did.

    Attributes:
        memories: how many the export has.
        stored: how many of them are new here.
        present: how many were here already, equal.
        embedded: how many were embedded here: those that came without a vector of the same embedder.
        changes: entries of the history that the export has.
        failed: lines that could not be stored, by their place, with the reason.
        checksum: over what was read.
        complete: whether the export has its end, with these counts and this checksum.
    """

    memories: int
    stored: int
    present: int
    embedded: int
    changes: int
    failed: tuple[Failed, ...]
    checksum: str
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return {**dataclasses.asdict(self), "failed": [dataclasses.asdict(item) for item in self.failed]}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Source):
        return {k: v for k, v in dataclasses.asdict(value).items() if v is not None}
    if hasattr(value, "to_metadata"):  # a schema
        return _plain(value.to_metadata())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
