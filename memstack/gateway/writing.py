"""Writing: what ``add``, ``update`` and ``delete`` do to the store and the history, together or not at all.

The history's write transaction stands around the write to the store, and the look for duplicates stands inside it: so
concurrent writers cannot store the same memory twice, and a write that fails leaves nothing in either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from memstack import payload as payloads
from memstack.batching import batched
from memstack.errors import IdempotencyMismatch, InvalidInput, MemoryNotFound
from memstack.filters.ast import Node, all_of
from memstack.filters.scoping import scope_filter
from memstack.gateway.drafts import Draft, draft_of, payload_of
from memstack.gateway.parts import Parts, tick
from memstack.gateway.replacing import Replacement, Timeline, ended
from memstack.gateway.shown import visible
from memstack.gateway.together import Write, together
from memstack.history.transaction import Transaction, UsedKey
from memstack.ids import new_id
from memstack.instants import iso
from memstack.metadata import check_metadata, encode, merge
from memstack.payload import Payload, memory_from
from memstack.records import AddResult, Change, Event, Memory, Message, Skipped, Source
from memstack.schemas import MemorySchema
from memstack.scope import Scope
from memstack.stores.base import Row, holds, sort_value

__all__ = [
    "UNSET",
    "Unset",
    "add",
    "add_facts",
    "addition",
    "by_role",
    "delete",
    "delete_rows",
    "repeated",
    "replace",
    "restore",
    "sorted_out",
    "supersede",
    "update",
]


class Unset:
    """The type of `UNSET`: an argument that was not given, where None means something."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
_BATCH: Final = 1000
_Same = tuple[str, datetime | None, datetime | None]


# -- add -----------------------------------------------------------------------------------------


def add(
    parts: Parts,
    drafts: Sequence[Draft],
    *,
    key: tuple[Scope, str, str] | None = None,
    replacement: Replacement | None = None,
    first: Callable[[Transaction], object] | None = None,
) -> AddResult:
    """Store messages verbatim.

    Args:
        parts: where.
        drafts: the messages, of any scopes.
        key: scope, idempotency key and digest of the content, where the caller gave a key.
        replacement: what they take the place of; None is nothing.
        first: what is done in the transaction before anything else.

    Returns:
        What became of each message.

    Raises:
        IdempotencyMismatch: the key was used for other content.
        ProviderError, StoreError, HistoryError: nothing was stored.
    """
    if key is not None and (used := repeated(parts, drafts, key)) is not None:
        return used
    skipped, wanted = by_role(parts, drafts)
    known = {} if parts.embedder.quick else _duplicates(parts, wanted)  # looked for once more where they are written
    fresh = [draft for draft in wanted if _same(draft) not in known]
    vectors = parts.embedder.vectors([draft.message.content for draft in fresh])
    found = {draft.fingerprint: vector for draft, vector in zip(fresh, vectors, strict=True)}
    result = _write(parts, wanted, known, found, messages=drafts, key=key, replacement=replacement, first=first)
    skipped = sorted([*skipped, *result.skipped], key=lambda item: item.index)
    return AddResult(result.stored, tuple(skipped))


def add_facts(
    parts: Parts,
    drafts: Sequence[Draft],
    vectors: Sequence[Sequence[float]],
    *,
    messages: Sequence[Draft],
    key: tuple[Scope, str, str] | None = None,
) -> AddResult:
    """Store facts that were drawn from messages, all of one scope.

    Args:
        parts: where.
        drafts: the facts.
        vectors: theirs.
        messages: what they were drawn from.
        key: as in `add`.

    Raises:
        IdempotencyMismatch: the key was used for other content.
        StoreError, HistoryError: nothing was stored.
    """
    found = {draft.fingerprint: vector for draft, vector in zip(drafts, vectors, strict=True)}
    return _write(parts, drafts, {}, found, messages=messages, key=key)


def _write(
    parts: Parts,
    wanted: Sequence[Draft],
    known: dict[_Same, tuple[str, ...]],
    vectors: Mapping[str, Sequence[float]],
    *,
    messages: Sequence[Draft],
    key: tuple[Scope, str, str] | None,
    replacement: Replacement | None = None,
    first: Callable[[Transaction], object] | None = None,
) -> AddResult:
    """Store what is not known, with its history, or nothing; `vectors` are by fingerprint."""
    skipped: list[Skipped] = []
    stored: list[Memory] = []
    rows: list[Row] = []
    made = dict(vectors)
    now = tick()
    with together(parts) as write:
        if first is not None:
            first(write.log)
        if key is not None and (used := repeated(parts, messages, key)) is not None:
            return used
        known.update(_duplicates(parts, [draft for draft in wanted if _same(draft) not in known]))
        timeline = Timeline(parts, replacement or Replacement(slots=False))
        new: list[tuple[str, Draft]] = []
        before: dict[str, list[tuple[str, Draft]]] = {}  # of this call, by fingerprint
        for draft in wanted:
            others = before.setdefault(draft.fingerprint, [])
            there = known.get(_same(draft), ())
            at = draft.seen_at(now if replacement is None else tick()) if others or there else now
            written = [row_id for row_id, other in reversed(others) if _there(other, at)]
            equal = next((row_id for row_id in (*written, *there) if not timeline.is_over(row_id, at)), None)
            if equal is not None and (replacement is None or not timeline.contradicted(draft, equal)):
                skipped.append(Skipped(draft.index, "duplicate", _equal(draft), equal))
                continue
            row_id = draft.id or new_id()
            others.append((row_id, draft))
            if replacement is None:
                new.append((row_id, draft))
                continue
            # One after the other: what is in the place of what depends on those before it.
            if draft.fingerprint not in made:
                made[draft.fingerprint] = _vector_of(parts, there)
            payload = payload_of(draft, tick(), _positions(write.log, [draft]))
            row = Row(row_id, payload, made[draft.fingerprint], draft.fingerprint)
            timeline.place(draft, row, equal=equal)
        places = _positions(write.log, [draft for _, draft in new])
        for row_id, draft in new:
            payload = payload_of(draft, tick(), places)
            row = Row(row_id, payload, vectors[draft.fingerprint], draft.fingerprint)
            timeline.place(draft, row)
        rows.extend(timeline.rows)
        stored.extend(memory_from(row.id, row.payload) for row in rows)
        changes = [addition(memory) for memory in stored]
        changes += _supersedings(timeline, stored)
        write.log.append(changes, roles=_roles({memory.id: memory.source for memory in stored}))
        if key is not None:
            write.log.use_key(key[0], key[1], UsedKey(key[2], tuple(memory.id for memory in stored)))
        write.upsert([*rows, *timeline.changed.values()], timeline.before)
    return AddResult(tuple(stored), tuple(skipped))


def supersede(
    parts: Parts,
    memory_id: str,
    scope: Scope,
    *,
    message: Message,
    metadata: Callable[[Memory], Mapping[str, Any]],
    schema: type[MemorySchema] | None,
    reason: str | None,
    expires_at: datetime | None,
    valid_from: datetime | None,
) -> Memory:
    """Put a new memory in the place of another, or of what has taken that one's place since.

    Args:
        parts: where.
        memory_id: the one that no longer holds.
        scope: where it must lie.
        message: what the new one says.
        metadata: makes the new one's out of the memory that it replaces.
        schema: the class of it, where the caller passed an instance.
        reason: why, for the history.
        expires_at: from when on the new one is hidden.
        valid_from: since when it holds; None is since it was said.

    Returns:
        The new memory; the one that holds already, where it is equal.

    Raises:
        MemoryNotFound: there is none with this id in the scope.
    """
    (vector,) = parts.embedder.vectors([message.content])
    rows: list[Row] = []
    with together(parts) as write:
        timeline = Timeline(parts, Replacement({0: (memory_id,)}, reasons={} if reason is None else {0: reason}))
        old = memory_from(memory_id, _find(parts, memory_id, scope).payload)
        current = timeline.current(memory_id, scope)
        if current is not None:
            old = memory_from(current.id, current.payload)
        if not scope.covers(old.scope):
            raise MemoryNotFound(memory_id, str(scope))
        draft = Draft(0, message, old.scope, metadata(old), expires_at, valid_from, schema=schema)
        if draft.fingerprint == draft_of(old).fingerprint:
            return old
        row = Row(new_id(), payload_of(draft, tick(), _positions(write.log, [draft])), vector)
        timeline.place(draft, row)
        rows.extend(timeline.rows)
        new = memory_from(row.id, rows[0].payload)
        changes = [addition(new), *_supersedings(timeline, [new])]
        write.log.append(changes, roles=_roles({new.id: new.source}))
        write.upsert([*rows, *timeline.changed.values()], timeline.before)
    return new


def replace(parts: Parts, new: Memory, ids: Sequence[str], reason: str) -> None:
    """Let a stored memory take the place of others."""
    with together(parts) as write:
        found = [row for row in parts.store.fetch(list(ids), vectors=True) if "superseded_by" not in row.payload]
        at = new.valid_from or new.occurred_at
        changed = [Row(row.id, ended(row, at, new.id), row.vector) for row in found]
        memories = [memory_from(row.id, row.payload) for row in changed]
        write.log.append([_superseding(memory, new.id, reason, at=tick()) for memory in memories])
        write.upsert(changed, found)


def restore(
    parts: Parts, write: Write, rows: Sequence[Row], entries: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
) -> None:
    """Write rows as they are, with their history as it is, and that of memories that are here already, or gone.

    Of a memory that is there while its history ends with its deletion, the log says that it is there again.

    Args:
        parts: where.
        write: the same, within its transaction.
        rows: none of which is there yet.
        entries: of the history, with the id of their memory.
    """
    histories: dict[str, list[Mapping[str, Any]]] = {}
    for memory_id, history in entries:
        histories.setdefault(memory_id, []).extend(history)
    for memory_id, history in histories.items():
        write.log.restore(memory_id, history)
    for row in rows:
        for source in payloads.source_of(row.payload):
            if source.position is not None:
                write.log.reach(payloads.scope_of(row.payload), source.position)
    there = {row.id: row for row in rows}
    lasts = {memory_id: write.log.last(memory_id) for memory_id in {**histories, **there}}
    deleted = [memory_id for memory_id, last in lasts.items() if last is not None and last.event == "DELETE"]
    if others := [memory_id for memory_id in deleted if memory_id not in there]:
        there |= {row.id: row for row in parts.store.fetch(others)}
    for row in (there[memory_id] for memory_id in deleted if memory_id in there):
        memory = memory_from(row.id, row.payload)
        again = dataclasses.replace(_change("ADD", memory, new=memory, at=tick()), reason="imported")
        write.log.append([again], roles=_roles({row.id: memory.source}))
    write.upsert(rows)


def repeated(parts: Parts, drafts: Sequence[Draft], key: tuple[Scope, str, str]) -> AddResult | None:
    """The result for an idempotency key that was used before; None where it was not.

    Raises:
        IdempotencyMismatch: it was used for other content.
    """
    used = parts.history.used_key(key[0], key[1])
    if used is None:
        return None
    if used.digest != key[2]:
        raise IdempotencyMismatch
    equal = _duplicates(parts, drafts)
    other = None if equal or not used.memory_ids else used.memory_ids[0]  # a fact that was drawn from them, or changed
    detail = "this idempotency key was used before"
    return AddResult(
        skipped=tuple(
            Skipped(draft.index, "duplicate", detail, next(iter(equal.get(_same(draft), ())), other))
            for draft in drafts
        )
    )


def by_role(parts: Parts, drafts: Sequence[Draft]) -> tuple[list[Skipped], list[Draft]]:
    """What is left out, and what is remembered."""
    roles = parts.options.remember_roles
    return sorted_out(drafts, roles, f"role {{}} is not among remember_roles ({', '.join(roles)})")


def sorted_out(drafts: Sequence[Draft], roles: Container[str], problem: str) -> tuple[list[Skipped], list[Draft]]:
    """What is left out for its role, or because it has no words; and the rest."""
    skipped: list[Skipped] = []
    for draft in drafts:
        if draft.message.role not in roles:
            skipped.append(Skipped(draft.index, "role", problem.format(repr(draft.message.role))))
        elif not draft.message.content:
            skipped.append(Skipped(draft.index, "nothing to remember", "it has no words beside the call of a tool"))
    left_out = {item.index for item in skipped}
    return skipped, [draft for draft in drafts if draft.index not in left_out]


def _equal(draft: Draft) -> str:
    """What is told of a duplicate: times that were asked for are not those of the memory that is there."""
    if draft.expires_at is None and draft.valid_from is None:
        return "an equal memory is there already"
    return "an equal memory is there already, and keeps its times: update(id, expires_at=…) changes when it expires"


def _same(draft: Draft) -> _Same:
    """What drafts have in common that are duplicates of the same memories."""
    return draft.fingerprint, draft.valid_from, draft.expires_at


def _duplicates(parts: Parts, drafts: Sequence[Draft]) -> dict[_Same, tuple[str, ...]]:
    """The ids of memories that are equal to drafts, and there when these are; of several, the oldest is the first."""
    rows: dict[str, list[Row]] = {}
    for some in batched(drafts, _BATCH):
        for row in parts.store.equal_to([draft.fingerprint for draft in some]):
            rows.setdefault(payloads.fingerprint_of(row.payload), []).append(row)
    if not rows:
        return {}
    for equal in rows.values():
        equal.sort(key=lambda row: (sort_value(row, "created_at"), row.id))
    now = tick()
    found: dict[_Same, tuple[str, ...]] = {}
    for draft in (draft for draft in drafts if draft.fingerprint in rows):
        there = visible(draft.seen_at(now))  # evaluated here: they are few, and the engine looks for one term alone
        if ids := tuple(row.id for row in rows[draft.fingerprint] if holds(there, row)):
            found[_same(draft)] = ids
    return found


def _there(draft: Draft, at: datetime) -> bool:
    """Whether what becomes of a draft is visible at an instant."""
    begun = draft.valid_from is None or draft.valid_from <= at
    return begun and (draft.expires_at is None or draft.expires_at > at)


def _vector_of(parts: Parts, equal: Sequence[str]) -> Sequence[float]:
    """The vector of stored memories that say the same as one to be."""
    found = parts.store.fetch(equal[:1], vectors=True) if equal else []
    return (found[0].vector or ()) if found else ()


def _positions(transaction: Transaction, drafts: Sequence[Draft]) -> dict[int, int]:
    """The place of each message, by its index, among the stored ones of its run."""
    spoken: dict[Scope, set[int]] = {}
    for draft in drafts:
        spoken.setdefault(draft.scope, set()).update(said.index for said in draft.said or (draft,))
    places: dict[int, int] = {}
    for scope, indexes in spoken.items():
        first = transaction.advance(scope, len(indexes))
        places.update({index: first + offset for offset, index in enumerate(sorted(indexes))})
    return places


# -- update and delete -----------------------------------------------------------------------------


def update(
    parts: Parts,
    memory_id: str,
    scope: Scope,
    *,
    text: str | None,
    metadata: Mapping[str, Any] | None,
    expires_at: datetime | Unset | None,
    alone: bool = False,
    kept: Mapping[str, datetime] | None = None,
) -> Memory:
    """Change a memory. Metadata is merged, a field that is None removed.

    Args:
        parts: where.
        memory_id: the memory's.
        scope: where it must lie.
        text: the new one; None is the one it has.
        metadata: what changes in it.
        expires_at: from when on it is hidden.
        alone: whether nothing that it had stays beside the metadata.
        kept: times that it must have, by name.

    Raises:
        MemoryNotFound: there is none with this id in the scope.
        InvalidInput: it has other times.
    """
    vector = None if text is None else parts.embedder.vectors([text])[0]
    with together(parts) as write:
        row = _find(parts, memory_id, scope)
        for name, instant in (kept or {}).items():
            if payloads.instant_of(row.payload, name) != instant:
                raise InvalidInput(
                    f"metadata.{name}",
                    "is another instant than the memory has, and an update does not change it",
                    "Leave it out, or use supersede().",
                )
        payload = _changed(row.payload, text, metadata, expires_at, alone=alone)
        if metadata is not None:
            options = parts.options
            check_metadata(
                payloads.metadata_of(payload),
                max_values=options.max_metadata_values,
                max_depth=options.max_metadata_depth,
                max_text=options.max_metadata_text,
            )
        if encode(payload, canonical=True) == encode(row.payload, canonical=True):  # types count, the order does not
            return memory_from(row.id, row.payload)
        old = memory_from(row.id, row.payload)
        payload["updated_at"] = iso(max(tick(), old.updated_at))  # another machine's clock, or this one's, was ahead
        new = memory_from(row.id, payload)
        write.log.append([_change("UPDATE", new, old=old, new=new)], roles=_roles({new.id: new.source}))
        write.upsert([Row(row.id, payload, row.vector if vector is None else vector)], [row])
    return new


def delete(parts: Parts, memory_id: str, scope: Scope) -> None:
    """Delete a memory; its history stays.

    Raises:
        MemoryNotFound: there is none with this id in the scope.
    """
    with together(parts) as write:
        row = _find(parts, memory_id, scope)
        _delete(write, [row])


def delete_rows(parts: Parts, scope: Scope, where: Node) -> int:
    """Delete all memories of a scope for which a filter holds, in batches; their history stays.

    Args:
        parts: where.
        scope: whose; everybody's, where it names nobody.
        where: the filter.

    Returns:
        How many there were.

    Raises:
        StoreError, HistoryError: nothing of the batch was deleted; nor was it where the engine told of somebody else's.
    """
    deleted = 0
    batches = parts.store.batches(where=all_of(scope_filter(scope), where), size=_BATCH, vectors=True)
    while True:
        with together(parts) as write:
            rows = next(batches, None)  # read where nobody can change them any more
            if rows is None:
                return deleted
            for row in rows:
                parts.store.check_inside(row, scope)
            _delete(write, rows)
        deleted += len(rows)


def _delete(write: Write, rows: Sequence[Row]) -> None:
    sources = {row.id: payloads.source_of(row.payload) for row in rows}
    now = tick()
    changes = [
        Change(
            memory_id=row.id,
            event="DELETE",
            at=now,
            scope=payloads.scope_of(row.payload),
            old_text=payloads.text_of(row.payload),
            old_metadata=payloads.metadata_of(row.payload),
            actor=_actor(sources[row.id]),
        )
        for row in rows
    ]
    write.log.append(changes, roles=_roles(sources))
    write.remove(rows)


def _find(parts: Parts, memory_id: str, scope: Scope) -> Row:
    rows = parts.store.fetch([memory_id], vectors=True)
    if not rows or not scope.covers(payloads.scope_of(rows[0].payload)):
        raise MemoryNotFound(memory_id, str(scope))
    return rows[0]


def _changed(
    payload: Payload,
    text: str | None,
    metadata: Mapping[str, Any] | None,
    expires_at: datetime | Unset | None,
    *,
    alone: bool,
) -> Payload:
    memory = memory_from("", payload)
    merged = memory.metadata if metadata is None else merge({} if alone else memory.metadata, metadata)
    changed = payloads.build(
        text=memory.text if text is None else text,
        scope=memory.scope,
        metadata=merged,
        created_at=memory.created_at,
        updated_at=memory.updated_at,
        occurred_at=memory.occurred_at,
        expires_at=memory.expires_at if isinstance(expires_at, Unset) else expires_at,
        valid_from=memory.valid_from,
        valid_to=memory.valid_to,
        superseded_by=memory.superseded_by,
        source=memory.source,
    )
    # What Mem0 or a later release keeps beside it stays as it is.
    rebuilt = {*changed, *payloads.metadata_of(payload), "expires_at", "expiration_date"}
    return {**{key: value for key, value in payload.items() if key not in rebuilt}, **changed}


def addition(memory: Memory) -> Change:
    """The entry for a memory that was stored."""
    return _change("ADD", memory, new=memory, at=memory.created_at)


def _roles(sources: Mapping[str, Sequence[Source]]) -> dict[str, str]:
    """The role of the message of each memory, where it is known."""
    return {memory_id: source[0].role for memory_id, source in sources.items() if source}


def _actor(source: Sequence[Source]) -> str | None:
    """Who spoke, where that is known."""
    return (source[0].name or source[0].role) if source else None


def _supersedings(timeline: Timeline, new: Sequence[Memory]) -> list[Change]:
    """The entries for what was superseded when new memories took their places, dated by the later of each two."""
    stored = {memory.id: memory.created_at for memory in new}
    return [
        _superseding(memory, successor, reason, at=stored.get(successor) or stored[memory.id])
        for memory, successor, reason in timeline.ended
    ]


def _superseding(memory: Memory, successor: str, reason: str | None, *, at: datetime) -> Change:
    """The entry for a memory that was superseded."""
    entry = _change("SUPERSEDE", memory, old=memory, new=memory, at=at)
    return dataclasses.replace(entry, reason=reason, superseded_by=successor)


def _change(
    event: Event, memory: Memory, *, old: Memory | None = None, new: Memory | None = None, at: datetime | None = None
) -> Change:
    if at is None:
        at = new.updated_at if new is not None else tick()
    return Change(
        memory_id=memory.id,
        event=event,
        at=at,
        scope=memory.scope,
        old_text=None if old is None else old.text,
        new_text=None if new is None else new.text,
        old_metadata=None if old is None else old.metadata,
        new_metadata=None if new is None else new.metadata,
        actor=_actor(memory.source),
    )
