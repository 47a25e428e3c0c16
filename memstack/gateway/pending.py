"""Pending changes: statements that contradict something, and wait for somebody to say yes or no."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from memstack.errors import InvalidInput, PendingNotFound, describe
from memstack.gateway import writing
from memstack.gateway.drafts import Draft
from memstack.gateway.parts import Parts
from memstack.gateway.replacing import Replacement
from memstack.history.transaction import Transaction
from memstack.history.waiting import Waiting
from memstack.instants import utcnow
from memstack.metadata import check_text, decode, encode
from memstack.records import AddResult, Conflict, Message, PendingChange
from memstack.scope import Scope

__all__ = ["confirm", "dismiss", "keep"]


def keep(parts: Parts, draft: Draft, conflicts: Sequence[Conflict]) -> PendingChange:
    """Let a draft wait. The same draft waits once: asked again, it has the same token, and waits anew."""
    content = encode(
        {
            "message": {
                "role": draft.message.role,
                "content": draft.message.content,
                "name": draft.message.name,
                "occurred_at": draft.message.occurred_at,
            },
            "metadata": dict(draft.metadata),
            "expires_at": draft.expires_at,
            "valid_from": draft.valid_from,
            "replaces": [conflict.memory.id for conflict in conflicts],
            "reason": conflicts[0].reason,
        }
    )
    now = utcnow()
    waiting = Waiting(
        token=secrets.token_hex(18),  # one that begins with a dash would be an option to a shell
        scope=draft.scope,
        fingerprint=draft.fingerprint,
        content=content,
        at=now,
        expires_at=now + timedelta(minutes=parts.options.pending_minutes),
    )
    with parts.history.transaction() as transaction:
        transaction.waiting.forget_expired(now)
        token = transaction.waiting.put(waiting)
    return PendingChange(token, draft.index, draft.message.content, waiting.expires_at, tuple(conflicts))


def confirm(parts: Parts, token: str, scope: Scope) -> AddResult:
    """Store what waited, in the place of what it contradicts. What is of a role that is no longer remembered waits on.

    Raises:
        PendingNotFound: nothing waits under this token in the scope, or no longer.
        InvalidInput: the token is no text.
    """
    waiting = _find(parts, token, scope)
    content: dict[str, Any] = decode(waiting.content)
    message = Message(**content["message"])
    draft = Draft(0, message, waiting.scope, content["metadata"], content["expires_at"], content["valid_from"])
    skipped, _ = writing.by_role(parts, [draft])
    if skipped:
        return AddResult(skipped=tuple(skipped))

    def take(transaction: Transaction) -> None:
        if not transaction.waiting.take(token):
            raise PendingNotFound

    replacement = Replacement({0: tuple(content["replaces"])}, slots=True, reasons={0: content["reason"]})
    return writing.add(parts, [draft], replacement=replacement, first=take)


def dismiss(parts: Parts, token: str, scope: Scope) -> None:
    """Forget what waited.

    Raises:
        PendingNotFound: nothing waits under this token in the scope, or no longer.
        InvalidInput: the token is no text.
    """
    _find(parts, token, scope)
    with parts.history.transaction() as transaction:
        if not transaction.waiting.take(token):
            raise PendingNotFound


def _find(parts: Parts, token: object, scope: Scope) -> Waiting:
    if not isinstance(token, str):
        raise InvalidInput("token", f"is {describe(token)}, not a string", "Pass the `token` of a pending change.")
    now: datetime = utcnow()
    found = parts.history.waiting(check_text("token", token, InvalidInput))
    if found is None or found.expires_at <= now or not scope.covers(found.scope):
        raise PendingNotFound
    return found
