"""The payload: a memory as Mem0 keeps it, and what filters see of it.

A payload is Mem0's flat dict: its own fields (``data``, ``hash``, ``user_id``, …) with the caller's metadata beside
them. Instants of the system are ISO text in UTC; metadata keeps its Python types. Mem0 and memstack read and write
the same rows through it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from memstack import metadata as codec
from memstack.instants import EPOCH, FIRST, LAST, as_instant, iso
from memstack.metadata import RESERVED
from memstack.records import Memory, Source
from memstack.scope import SCOPE_FIELDS, Scope
from memstack.spelling import normal

__all__ = [
    "INSTANTS",
    "INTERNAL",
    "Payload",
    "build",
    "fields",
    "fingerprint_of",
    "instant_of",
    "instants_of",
    "memory_from",
    "metadata_of",
    "normalised",
    "parts_of",
    "scope_of",
    "source_of",
    "text_of",
]

Payload = dict[str, Any]
INTERNAL: Final = "_memstack"  # what nobody filters by
# The system's instants; `filters.ast.INSTANT_FIELDS` are the same.
INSTANTS: Final = ("created_at", "updated_at", "occurred_at", "expires_at", "valid_from", "valid_to")
_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_DAY: Final = LAST - _DAY


def build(
    *,
    text: str,
    scope: Scope,
    metadata: Mapping[str, Any],
    created_at: datetime,
    updated_at: datetime,
    occurred_at: datetime,
    expires_at: datetime | None = None,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    superseded_by: str | None = None,
    source: tuple[Source, ...] = (),
) -> Payload:
    """The payload of a memory."""
    stored = iso(created_at)
    payload: Payload = {
        **metadata,
        **scope.as_dict(),
        "data": text,
        "hash": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),  # Mem0's field, Mem0's formula
        "created_at": stored,
        "updated_at": stored if updated_at is created_at else iso(updated_at),
        "occurred_at": stored if occurred_at is created_at else iso(occurred_at),
    }
    if expires_at is not None:
        payload["expires_at"] = iso(expires_at)
        # Mem0 hides from the day after this date on (its dates have no time of day).
        payload["expiration_date"] = (expires_at - _MICROSECOND if expires_at > FIRST else FIRST).date().isoformat()
    for name, instant in (("valid_from", valid_from), ("valid_to", valid_to)):
        if instant is not None:
            payload[name] = iso(instant)
    if superseded_by is not None:
        payload["superseded_by"] = superseded_by
    if source:
        payload["role"] = source[0].role
        if source[0].name is not None:
            payload["actor_id"] = source[0].name
        payload[INTERNAL] = {"source": [[item.role, item.name, item.position] for item in source]}
    return payload


def memory_from(memory_id: str, payload: Mapping[str, Any]) -> Memory:
    """The memory that a payload describes, whoever wrote it."""
    return Memory(**parts_of(memory_id, payload))


def parts_of(memory_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What that memory is made of, by the names of `Memory`'s attributes: a hit is made of it at once."""
    known = instants_of(payload)
    created = known.get("created_at", EPOCH)
    return {
        "id": memory_id,
        "text": text_of(payload),
        "scope": scope_of(payload),
        "metadata": metadata_of(payload),
        "created_at": created,
        "updated_at": known.get("updated_at", created),
        "occurred_at": known.get("occurred_at", created),
        "expires_at": known.get("expires_at"),
        "valid_from": known.get("valid_from"),
        "valid_to": known.get("valid_to"),
        "superseded_by": payload.get("superseded_by"),
        "source": source_of(payload),
    }


def text_of(payload: Mapping[str, Any]) -> str:
    """The text of a memory."""
    text = payload.get("data")
    return text if isinstance(text, str) else ""


def scope_of(payload: Mapping[str, Any]) -> Scope:
    """Who a memory belongs to."""
    owner = (payload.get("user_id") or None, payload.get("agent_id") or None, payload.get("run_id") or None)
    try:
        return _scope(*owner)
    except TypeError:  # it cannot be hashed, and is no id either
        return Scope(*owner)


@lru_cache(maxsize=4096)  # few owners have many memories, and a scope is checked when it is made
def _scope(user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope:
    return Scope(user_id, agent_id, run_id)


def metadata_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's metadata alone."""
    return {key: value for key, value in payload.items() if key not in RESERVED}


def source_of(payload: Mapping[str, Any]) -> tuple[Source, ...]:
    """The messages that a memory came from."""
    internal = payload.get(INTERNAL)
    if isinstance(internal, dict) and isinstance(internal.get("source"), list):
        return tuple(Source(*item) for item in internal["source"])
    role = payload.get("role")
    return (Source(role, payload.get("actor_id")),) if isinstance(role, str) else ()


def fields(memory_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a filter sees of a memory: its metadata and the system's fields, instants as instants."""
    seen: dict[str, Any] = metadata_of(payload)
    seen["id"] = memory_id
    seen["data"] = text_of(payload)
    for name in ("hash", "actor_id", "role", "superseded_by", *SCOPE_FIELDS):
        seen[name] = payload.get(name)
    seen.update(dict.fromkeys(INSTANTS), **instants_of(payload))
    return seen


def instants_of(payload: Mapping[str, Any]) -> dict[str, datetime]:
    """Those of the system's instants that a row has, by name."""
    return {name: instant for name in INSTANTS if (instant := instant_of(payload, name)) is not None}


def instant_of(payload: Mapping[str, Any], name: str) -> datetime | None:
    """One of the system's instants, as `fields` has it: a row that does not tell was changed and said when stored."""
    value = payload.get(name)
    instant = None if value is None else as_instant(value)
    if instant is None and name in _INSTEAD:
        return _INSTEAD[name](payload)
    return instant


def _stored(payload: Mapping[str, Any]) -> datetime | None:
    return instant_of(payload, "created_at")


def _after_last_day(payload: Mapping[str, Any]) -> datetime | None:
    """From when on a memory is hidden that has a date of Mem0's, which covers its whole day."""
    day = payload.get("expiration_date")
    instant = as_instant(day) if isinstance(day, (str, date)) else None
    return None if instant is None else min(instant, _LAST_DAY) + _DAY


_INSTEAD: Final = {"updated_at": _stored, "occurred_at": _stored, "expires_at": _after_last_day}


def fingerprint_of(payload: Mapping[str, Any]) -> str:
    """What makes a memory a duplicate of another: same scope, speaker, normalised text, and metadata.

    Text is normalised to NFC with runs of white space folded. Case counts: "Polish" is not "polish".
    """
    parts = (
        *[payload.get(name) or "" for name in SCOPE_FIELDS],
        payload.get("actor_id") or "",
        normalised(text_of(payload)),
        codec.encode(metadata_of(payload), canonical=True),
    )
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def normalised(text: str) -> str:
    """A text as duplicates are told by: in NFC, with runs of white space folded."""
    return " ".join(normal("NFC", text).split())
