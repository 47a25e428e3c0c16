"""Inference: Mem0's extraction, with every fact that it names accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from memstack.errors import MemstackError, ProviderError
from memstack.filters.ast import Eq, all_of
from memstack.filters.scoping import scope_filter
from memstack.gateway.parts import Parts, visible
from memstack.gateway.writing import Draft, repeated
from memstack.history.sqlite import UsedKey
from memstack.instants import utcnow
from memstack.payload import build, memory_from
from memstack.records import AddResult, Failed, Memory, Skipped
from memstack.scope import Scope

if TYPE_CHECKING:
    import mem0

__all__ = ["add"]


def add(
    parts: Parts,
    mem0_memory: Callable[[], mem0.Memory],
    drafts: Sequence[Draft],
    *,
    key: tuple[Scope, str, str] | None,
) -> AddResult:
    """Let the LLM extract facts from messages, and store those.

    Returns:
        The new memories; facts that are there already as `skipped`; facts that Mem0 lost on the way as `failed`.
        Where there was nothing to remember, every message is `skipped` for that reason.

    Raises:
        ProviderError: the LLM failed or its answer cannot be read; nothing was stored.
        IdempotencyMismatch: the key was used for other content.
    """
    if key is not None and (before := repeated(parts, drafts, key)) is not None:
        return before
    scope = drafts[0].scope
    memory = mem0_memory()
    from memstack.composed import extracted_facts  # noqa: PLC0415  # importable once Mem0 is

    with extracted_facts() as facts:
        try:
            answer = memory.add(
                [_message(draft) for draft in drafts], **scope.as_dict(), metadata=_metadata(drafts[-1]), infer=True
            )
        except MemstackError:
            raise
        except Exception as error:
            if isinstance(error.__cause__, MemstackError):
                raise error.__cause__ from error
            llm = parts.llm
            name, model = ("none", "none") if llm is None else (llm.provider, llm.model)
            raise ProviderError(name, model, f"extraction failed ({type(error).__name__})") from error
    ids = [item["id"] for item in answer["results"]]
    rows = {row.id: row for row in parts.store.fetch(ids)} if ids else {}
    stored = [memory_from(row.id, row.payload) for key_ in ids if (row := rows.get(key_)) is not None]
    result = _account(parts, scope, facts, stored, drafts)
    if key is not None and not result.failed:
        with parts.history.transaction() as transaction:
            transaction.use_key(key[0], key[1], UsedKey(key[2], tuple(ids)))
    return result


def _message(draft: Draft) -> dict[str, Any]:
    message = draft.message
    named = {} if message.name is None else {"name": message.name}
    return {"role": message.role, "content": message.content, **named}


def _metadata(draft: Draft) -> dict[str, Any]:
    """The metadata of the facts, with the times of the call, which Mem0 hands through."""
    times = build(
        text="",
        scope=Scope(),
        metadata={},
        created_at=utcnow(),
        updated_at=utcnow(),
        occurred_at=draft.message.occurred_at or utcnow(),
        expires_at=draft.expires_at,
    )
    kept = ("occurred_at", "expires_at", "expiration_date")
    return {**draft.metadata, **{name: times[name] for name in kept if name in times}}


def _account(
    parts: Parts, scope: Scope, facts: Sequence[str], stored: Sequence[Memory], drafts: Sequence[Draft]
) -> AddResult:
    left = list(facts)
    for memory in stored:
        if memory.text in left:
            left.remove(memory.text)
    skipped: list[Skipped] = []
    failed: list[Failed] = []
    for fact in left:
        digest = hashlib.md5(fact.encode(), usedforsecurity=False).hexdigest()
        same = parts.store.scan(where=all_of(scope_filter(scope), Eq("hash", digest), visible(utcnow())), limit=1)
        if same:
            skipped.append(Skipped(0, "duplicate", "an equal memory is there already", same[0].id))
        else:
            failed.append(Failed(0, f"a fact of {len(fact)} characters was extracted and not stored", retryable=True))
    if not facts:
        detail = "the model found nothing to remember"
        skipped = [Skipped(draft.index, "nothing to remember", detail) for draft in drafts]
    return AddResult(tuple(stored), tuple(skipped), tuple(failed))
