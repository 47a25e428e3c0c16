"""Inference: Mem0's extraction, with every message and every fact accounted for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from memstack.errors import ProviderError, UnreadableAnswer
from memstack.extraction import Extraction, Fact
from memstack.gateway import writing
from memstack.gateway.drafts import Draft
from memstack.gateway.parts import Parts
from memstack.gateway.shown import visible
from memstack.gateway.writing import repeated
from memstack.history.transaction import UsedKey
from memstack.instants import utcnow
from memstack.records import AddResult, Failed, Message, Skipped
from memstack.scope import Scope

if TYPE_CHECKING:
    from memstack.composed import ComposedMemory

__all__ = ["add"]

_READ: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}  # Mem0's roles
_NOTHING: Final = "nothing to remember"


def add(
    parts: Parts,
    composed: Callable[[], ComposedMemory],
    drafts: Sequence[Draft],
    *,
    key: tuple[Scope, str, str] | None,
    instructions: str | None = None,
) -> AddResult:
    """Let the LLM draw facts out of messages, and store those, all or none of them.

    Returns:
        The new memories, each with the messages that it came from. Facts that are there already, messages without a
        fact, and those of a role that Mem0 does not read are in `skipped`. Where the LLM's answer cannot be used, the
        messages are in `failed`, with the answer; where single entries of it cannot, the other facts are stored.

    Raises:
        ProviderError: the LLM or the embedder failed; nothing was stored.
        StoreError, HistoryError: nothing was stored.
        IdempotencyMismatch: the key was used for other content.
    """
    if key is not None and (before := repeated(parts, drafts, key)) is not None:
        return before
    problem = "Mem0's extraction does not read messages of the role {}"
    skipped, told = writing.sorted_out(drafts, _READ, problem)
    if not told:
        return AddResult(skipped=tuple(skipped))
    scope = drafts[0].scope
    kept = AddResult()

    def keep(
        extraction: Extraction, ids: Sequence[str], texts: Sequence[str], vectors: Sequence[Sequence[float]]
    ) -> None:
        nonlocal kept
        facts = {fact.text: fact for fact in extraction.reading.facts}
        new = [_draft(facts[text], told, memory_id) for memory_id, text in zip(ids, texts, strict=True)]
        used = key if not extraction.reading.broken else None  # what failed may be added again
        kept = writing.add_facts(parts, new, vectors, messages=drafts, key=used)

    try:
        extraction = composed().extract(
            [_message(draft.message) for draft in told],
            scope,
            known=visible(utcnow()),
            keep=keep,
            instructions=instructions,
        )
    except UnreadableAnswer as error:
        failed = tuple(Failed(draft.index, str(error), retryable=True, answer=error.answer) for draft in told)
        return AddResult(skipped=tuple(skipped), failed=failed)
    if key is not None and not extraction.reading.facts and not extraction.reading.broken:
        with parts.history.transaction() as transaction:
            if (before := repeated(parts, drafts, key)) is not None:  # somebody was faster
                return before
            transaction.use_key(key[0], key[1], UsedKey(key[2], ()))
    return _account(parts, extraction, told, kept, skipped)


def _message(message: Message) -> dict[str, Any]:
    """A message as Mem0's prompt shows it: it has no place for a name of its own."""
    content = message.content if message.name is None else f"{message.name}: {message.content}"
    return {"role": _READ[message.role], "content": content, "name": message.name}


def _sources(fact: Fact, told: Sequence[Draft]) -> tuple[Draft, ...]:
    """The messages of a fact; where the model did not say which, all that it can have come from."""
    if fact.messages:
        return tuple(told[place] for place in fact.messages)
    of_role = tuple(draft for draft in told if draft.message.role == fact.attributed_to)
    return of_role or tuple(told)


def _draft(fact: Fact, told: Sequence[Draft], memory_id: str) -> Draft:
    said = _sources(fact, told)
    first = said[0]
    times = [draft.message.occurred_at for draft in said if draft.message.occurred_at is not None]
    return Draft(
        first.index,
        Message(first.message.role, fact.text, first.message.name, max(times, default=None)),
        first.scope,
        first.metadata,
        first.expires_at,
        first.valid_from,
        said=said,
        id=memory_id,
        attributed_to=fact.attributed_to,
    )


def _account(
    parts: Parts, extraction: Extraction, told: Sequence[Draft], kept: AddResult, skipped: list[Skipped]
) -> AddResult:
    """The outcome of every message."""
    reading = extraction.reading
    named = {draft.index for fact in reading.facts for draft in _sources(fact, told)}
    silent = [draft.index for draft in told if draft.index not in named]
    failed: list[Failed] = []
    if reading.broken and parts.llm is not None:
        problem = f"a part of its answer cannot be used: {reading.problem}"
        error = ProviderError(
            parts.llm.provider, parts.llm.model, problem, attempts=extraction.attempts, retryable=True
        )
        answer = str(extraction.answer)
        failed = [Failed(index, str(error), retryable=True, answer=answer) for index in silent or [told[0].index]]
    else:
        detail = "the model found nothing to remember in it"
        skipped += [Skipped(index, _NOTHING, detail) for index in silent]
    skipped += kept.skipped
    skipped.sort(key=lambda item: item.index)
    return AddResult(kept.stored, tuple(skipped), tuple(failed), kept.conflicts)
