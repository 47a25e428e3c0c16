"""Conflicts: which stored memories a new statement contradicts.

Certain where a schema declares its slot: the same slot with another value. Possible where it does not: similar enough,
in the same scope and category. Where a language model is configured, it judges the possible ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from memstack import payload as payloads
from memstack.errors import ConflictFound, InvalidInput, ProviderError, named
from memstack.filters.ast import Eq, Node, all_of
from memstack.filters.scoping import scope_filter
from memstack.gateway import pending, writing
from memstack.gateway.drafts import Draft, draft_of
from memstack.gateway.judging import judge
from memstack.gateway.parts import Parts
from memstack.gateway.replacing import Replacement
from memstack.gateway.shown import visible
from memstack.instants import utcnow
from memstack.payload import memory_from
from memstack.records import AddResult, Conflict, Failed, Memory, PendingChange
from memstack.schemas import CATEGORY, MemorySchema
from memstack.scope import Scope

__all__ = ["SIMILAR", "OnConflict", "Rivals", "add", "after_inference", "check_policy", "find", "unchanged"]

OnConflict = Literal["keep", "supersede", "raise", "ask"]
SIMILAR: Final = 0.5  # least score of a memory that may contradict, where nobody judges
_CANDIDATES: Final = 5  # how many the model is asked about


def check_policy(policy: object) -> OnConflict:
    """What to do about conflicts.

    Raises:
        InvalidInput: it is unknown.
    """
    for known in get_args(OnConflict):
        if policy == known:
            found: OnConflict = known
            return found
    raise InvalidInput("on_conflict", f"{named(policy)} is unknown", f"Known: {', '.join(get_args(OnConflict))}.")


def find(parts: Parts, draft: Draft, *, threshold: float = SIMILAR, by_meaning: bool = True) -> list[Conflict]:
    """The visible memories that a draft contradicts.

    Args:
        parts: where.
        draft: the new statement.
        threshold: least score of a possible contradiction, where no model judges.
        by_meaning: look for possible ones, too.

    Returns:
        The certain ones where the draft's schema declares a slot; else those by meaning, most similar first.

    Raises:
        ProviderError: the embedder or the model failed.
    """
    schema = parts.schemas.read(draft.metadata, draft.schema)
    if schema is not None and not schema.contradicts:
        return []
    if schema is not None and schema.slot:
        return _by_slot(parts, draft, schema)
    return _by_meaning(parts, draft, threshold) if by_meaning else []


def add(
    parts: Parts, drafts: Sequence[Draft], policy: OnConflict, *, key: tuple[Scope, str, str] | None = None
) -> AddResult:
    """Store messages verbatim, and deal with what they contradict: where somebody else is faster, with that, too.

    Raises:
        ConflictFound: with the policy ``raise``, something is contradicted; nothing was stored.
        IdempotencyMismatch, ProviderError, StoreError, HistoryError: as `writing.add`.
    """
    while True:
        try:
            return _add(parts, drafts, policy, key)
        except _TakenError:
            continue


class Rivals:
    """Drafts that are to be stored together, by their slots. Each is read once, however many come after it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._drafts: list[Draft] = []
        self._read: dict[type[MemorySchema], int] = {}  # so many of the drafts were read as this
        self._slots: dict[tuple[type[MemorySchema], Node | None], list[tuple[Scope, MemorySchema]]] = {}

    def add(self, draft: Draft) -> None:
        """Another one is to be stored with them."""
        self._drafts.append(draft)

    def clear(self) -> None:
        """They are stored."""
        for kept in (self._drafts, self._read, self._slots):
            kept.clear()

    def have(self, one: Draft) -> bool:
        """Whether one of them and this one say different things of a slot, and one scope lies in the other."""
        schema = self._parts.schemas.read(one.metadata, one.schema)
        if schema is None or not schema.contradicts or not schema.slot:
            return False
        kind = type(schema)
        for other in self._drafts[self._read.get(kind, 0) :]:
            stored = self._parts.schemas.read(other.metadata, kind)
            if stored is not None:
                self._slots.setdefault((kind, stored.slot_filter()), []).append((other.scope, stored))
        self._read[kind] = len(self._drafts)
        return any(
            (one.scope.covers(scope) or scope.covers(one.scope)) and schema.contradicted_by(stored)
            for scope, stored in self._slots.get((kind, schema.slot_filter()), ())
        )


class _TakenError(Exception):
    """A slot was free when it was looked at, and is taken by another value when it is written to."""


def _add(parts: Parts, drafts: Sequence[Draft], policy: OnConflict, key: tuple[Scope, str, str] | None) -> AddResult:
    _, said = writing.by_role(parts, drafts)
    if key is not None and (before := writing.repeated(parts, drafts, key)) is not None:
        return _still_waiting(parts, said, before) if policy == "ask" else before
    found = {draft.index: find(parts, draft, by_meaning=policy != "keep") for draft in said}
    conflicts = [conflict for draft in said for conflict in found[draft.index]]
    if policy == "raise" and conflicts:
        raise ConflictFound(tuple(conflicts))
    if policy == "ask":
        asked = [draft for draft in said if found[draft.index]]
        return _ask(parts, drafts, {draft.index: found[draft.index] for draft in asked}, key)
    replacement = None if policy == "keep" else Replacement()  # what held in the past has its place, too
    if policy == "supersede":
        judged = {
            index: tuple(conflict.memory.id for conflict in of_draft if conflict.kind == "judged")
            for index, of_draft in found.items()
        }
        reasons = {index: of_draft[0].reason for index, of_draft in found.items() if of_draft}
        replacement = Replacement(ids=judged, reasons=reasons)
    first = _check_free(parts, said) if policy == "raise" else None
    result = writing.add(parts, drafts, key=key, replacement=replacement, first=first)
    return _with_conflicts(result, conflicts)


def _check_free(parts: Parts, said: Sequence[Draft]) -> Callable[[object], None]:
    """Looks, once nobody else can write, whether the slots of what is remembered are still free."""

    def check(_: object) -> None:
        if any(find(parts, draft, by_meaning=False) for draft in said):
            raise _TakenError

    return check


def after_inference(parts: Parts, result: AddResult, policy: OnConflict) -> AddResult:
    """Deal with what facts contradict that a model drew out of messages, once they are stored.

    Where the embedder or the model fails meanwhile, `failed` says of which memory; the others are dealt with.
    """
    conflicts: list[Conflict] = []
    failed: list[Failed] = []
    for memory in result.stored:
        draft = draft_of(memory)
        try:
            found = find(parts, draft, by_meaning=policy != "keep")
        except ProviderError as error:  # raised, it would say that nothing is stored
            failed.append(Failed(draft.index, f"{memory.id} is stored, and what it contradicts was not found: {error}"))
            continue
        found = [conflict for conflict in found if conflict.memory.created_at < memory.created_at]
        conflicts += found
        certain = [conflict for conflict in found if conflict.kind != "meaning"]
        if policy == "supersede" and certain:
            writing.replace(parts, memory, [conflict.memory.id for conflict in certain], certain[0].reason)
    return _with_conflicts(dataclasses.replace(result, failed=(*result.failed, *failed)), conflicts)


def unchanged(parts: Parts, old: Memory) -> Mapping[str, Any]:
    """The metadata of a memory for the one that supersedes it, where the caller gave none.

    Raises:
        InvalidInput: its schema's fields say what held: they would contradict the new text.
    """
    schema = parts.schemas.read(old.metadata)
    if schema is not None and schema.slot:
        raise InvalidInput(
            "metadata",
            f"is left out, and the old one is a {type(schema).__name__} that says what held",
            "Pass the fields that change, or a new instance.",
        )
    return old.metadata


def _ask(
    parts: Parts, drafts: Sequence[Draft], found: dict[int, list[Conflict]], key: tuple[Scope, str, str] | None
) -> AddResult:
    """Store what contradicts nothing; what does waits for an answer."""
    waiting: list[PendingChange] = [
        pending.keep(parts, draft, found[draft.index]) for draft in drafts if draft.index in found
    ]
    free = [draft for draft in drafts if draft.index not in found]
    _, said = writing.by_role(parts, free)
    result = AddResult()
    if free or key is not None:  # the key is used, also where all of it waits
        result = writing.add(parts, free, key=key, replacement=Replacement(), first=_check_free(parts, said))
    conflicts = tuple(conflict for of_draft in found.values() for conflict in of_draft)
    return dataclasses.replace(result, conflicts=conflicts, pending=tuple(waiting))


def _still_waiting(parts: Parts, said: Sequence[Draft], before: AddResult) -> AddResult:
    """The result of a call that was made before, with what still waits for an answer since then."""
    waiting: list[PendingChange] = []
    for draft in said:
        if (kept := parts.history.waiting_for(draft.fingerprint)) is not None and kept.expires_at > utcnow():
            found = tuple(find(parts, draft))
            waiting.append(PendingChange(kept.token, draft.index, draft.message.content, kept.expires_at, found))
    indexes = {change.index for change in waiting}
    return dataclasses.replace(
        before,
        skipped=tuple(item for item in before.skipped if item.index not in indexes),
        conflicts=tuple(conflict for change in waiting for conflict in change.conflicts),
        pending=tuple(waiting),
    )


def _with_conflicts(result: AddResult, conflicts: Sequence[Conflict]) -> AddResult:
    """A result with the conflicts of those messages that were not skipped."""
    skipped = {item.index for item in result.skipped}
    told = tuple(conflict for conflict in conflicts if conflict.index not in skipped)
    return dataclasses.replace(result, conflicts=(*result.conflicts, *told))


def _by_slot(parts: Parts, draft: Draft, schema: MemorySchema) -> list[Conflict]:
    where = all_of(scope_filter(draft.scope), visible(utcnow()), schema.slot_filter())
    found: list[Conflict] = []
    for row in parts.store.iter_scan(where=where):
        parts.store.check_inside(row, draft.scope)
        memory = memory_from(row.id, row.payload)
        stored = parts.schemas.read(memory.metadata, type(schema))
        other = () if stored is None else schema.contradicted_by(stored)
        if other:
            reason = f"another {' and '.join(other)} for the same {' and '.join(schema.slot)}"
            found.append(Conflict(memory, reason, kind="slot", index=draft.index))
    return found


def _by_meaning(parts: Parts, draft: Draft, threshold: float) -> list[Conflict]:
    text = draft.message.content
    category = draft.metadata.get(CATEGORY)
    same = Eq(CATEGORY, category) if isinstance(category, str) else None
    where = all_of(scope_filter(draft.scope), visible(utcnow()), same)
    (vector,) = parts.embedder.vectors([text])
    candidates: list[tuple[Memory, float]] = []
    for hit in parts.store.nearest(vector, where=where, limit=_CANDIDATES * 2):
        parts.store.check_inside(hit.row, draft.scope)
        memory = memory_from(hit.row.id, hit.row.payload)
        stored = parts.schemas.read(memory.metadata)
        never = stored is not None and not stored.contradicts
        if not never and payloads.normalised(memory.text) != payloads.normalised(text):
            candidates.append((memory, hit.score))
    candidates = candidates[:_CANDIDATES]
    if parts.llm is None or not candidates:
        return [_possible(draft, memory, score, "not judged") for memory, score in candidates if score >= threshold]
    verdicts = judge(parts.llm, text, [memory.text for memory, _ in candidates])
    found: list[Conflict] = []
    for (memory, score), verdict in zip(candidates, verdicts, strict=True):
        if verdict is None and score >= threshold:
            found.append(_possible(draft, memory, score, "the model's verdict cannot be read"))
        elif verdict is not None and verdict.contradicts:
            found.append(Conflict(memory, verdict.reason, kind="judged", score=score, index=draft.index))
    return found


def _possible(draft: Draft, memory: Memory, score: float, why: str) -> Conflict:
    reason = f"similar in meaning (score {score:.2f}); {why}"
    return Conflict(memory, reason, kind="meaning", score=score, index=draft.index)
