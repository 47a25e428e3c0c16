"""Drafts: messages and facts that are checked, and not stored yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from memstack import payload as payloads
from memstack.instants import FIRST, iso
from memstack.metadata import encode
from memstack.payload import Payload
from memstack.records import ROLES, Memory, Message, Source
from memstack.schemas import MemorySchema
from memstack.scope import Scope

__all__ = ["Draft", "digest_of", "draft_of", "payload_of"]

_STEP: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Draft:
    """A message on its way to become a memory.

    Attributes:
        index: its place in the call.
        message: what was said.
        scope: who it belongs to.
        metadata: checked.
        expires_at: from when on it is hidden.
        valid_from: since when it holds; None is since it was said.
        said: for a fact, the messages that it was drawn from.
        id: of the memory; None is a new one.
        attributed_to: for a fact, whose it is, in Mem0's words.
        schema: the class of the metadata, where the caller passed an instance; None is that of its category.
    """

    index: int
    message: Message
    scope: Scope
    metadata: Mapping[str, Any]
    expires_at: datetime | None
    valid_from: datetime | None = None
    said: tuple[Draft, ...] = ()
    id: str | None = None
    attributed_to: str | None = None
    schema: type[MemorySchema] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """What a duplicate of it has too."""
        return payloads.fingerprint_of(
            {
                **self.metadata,
                **self.scope.as_dict(),
                "data": self.message.content,
                "actor_id": self.message.name,
            }
        )

    def seen_at(self, now: datetime) -> datetime:
        """When what is equal to it has to be there: now, once it holds, or when it was last seen, if it has expired."""
        at = now if self.valid_from is None else max(now, self.valid_from)
        if self.expires_at is None or self.expires_at > at:
            return at
        return max(self.expires_at, FIRST + _STEP) - _STEP


def draft_of(memory: Memory) -> Draft:
    """A stored memory as it was before it was stored."""
    source = memory.source[0] if memory.source else Source("user")
    role = source.role if source.role in ROLES else "user"
    message = Message(role, memory.text, source.name, memory.occurred_at)
    return Draft(0, message, memory.scope, memory.metadata, memory.expires_at, memory.valid_from)


def payload_of(draft: Draft, now: datetime, places: Mapping[int, int]) -> Payload:
    """What is stored of it.

    Args:
        draft: the message, or the fact.
        now: when it is stored.
        places: of the messages in their run, by their index.
    """
    message = draft.message
    payload = payloads.build(
        text=message.content,
        scope=draft.scope,
        metadata=draft.metadata,
        created_at=now,
        updated_at=now,
        occurred_at=message.occurred_at or now,
        expires_at=draft.expires_at,
        valid_from=draft.valid_from,
        source=tuple(
            Source(said.message.role, said.message.name, places[said.index]) for said in draft.said or (draft,)
        ),
    )
    return payload if draft.attributed_to is None else {**payload, "attributed_to": draft.attributed_to}


def digest_of(drafts: Sequence[Draft]) -> str:
    """What tells the content of two calls apart."""
    content = [
        [
            draft.message.role,
            draft.message.content,
            draft.message.name,
            None if draft.message.occurred_at is None else iso(draft.message.occurred_at),
            encode(draft.metadata, canonical=True),
            None if draft.expires_at is None else iso(draft.expires_at),
            *([] if draft.valid_from is None else [iso(draft.valid_from)]),
        ]
        for draft in drafts
    ]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
