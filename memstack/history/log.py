"""The log of changes: its columns, and how an entry is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from memstack import metadata as codec
from memstack.batching import batched
from memstack.instants import from_micros
from memstack.records import Change, Event
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["CHAIN", "COLUMNS", "ENTRY", "LAST_AT", "RANK", "change_of", "key_of", "owners_of"]

_AT_ONCE: Final = 500  # ids of a query: older releases of SQLite take up to 999
_KEYS: Final = json.JSONEncoder(ensure_ascii=False)
COLUMNS: Final = (
    "memory_id, event, at, user_id, agent_id, run_id, old_text, new_text, old_metadata, new_metadata, actor, reason, "
    "superseded_by"
)
# The instant of the last entry of a memory; before all instants, where it has none.
LAST_AT: Final = (
    "COALESCE((SELECT at FROM changes WHERE collection = ? AND memory_id = ? ORDER BY seq DESC LIMIT 1), "
    "-9223372036854775808)"
)
# In a chain, of one instant: what is new comes before what it took the place of, and what was deleted comes last.
RANK: Final[Mapping[Event, int]] = {"ADD": 0, "UPDATE": 0, "SUPERSEDE": 1, "DELETE": 2}
# What an entry is told with.
ENTRY: Final = (
    "id", "event", "at", "user_id", "agent_id", "run_id", "old_text", "new_text", "old_metadata", "new_metadata",
    "actor", "role", "reason", "superseded_by",
)  # fmt: skip
# Two ways to go on, each by an index of its own (the + keeps the first from the other's): as one with OR, every step
# reads all that was ever superseded.
CHAIN: Final = f"""
WITH RECURSIVE chain (id) AS (
    VALUES (:id)
    UNION
    SELECT changes.superseded_by FROM chain CROSS JOIN changes
    WHERE changes.collection = :collection AND changes.memory_id = chain.id AND +changes.superseded_by IS NOT NULL
    UNION
    SELECT changes.memory_id FROM chain CROSS JOIN changes
    WHERE changes.collection = :collection AND changes.superseded_by = chain.id
)
SELECT {COLUMNS} FROM changes WHERE collection = :collection AND memory_id IN (SELECT id FROM chain) ORDER BY seq
"""  # noqa: S608  # names of columns


def owners_of(connection: sqlite3.Connection, collection: str, memory_ids: Iterable[str]) -> dict[str, set[Scope]]:
    """Whose some memories are, by the log; those that it does not know, or knows no owner of, are left out."""
    found: dict[str, set[Scope]] = {}
    for some in batched(memory_ids, _AT_ONCE):
        those = f"collection = ? AND memory_id IN ({', '.join('?' * len(some))})"
        told = connection.execute(
            f"SELECT DISTINCT memory_id, user_id, agent_id, run_id FROM changes WHERE {those}",  # noqa: S608
            (collection, *some),
        )
        for memory_id, *owner in told:
            if scope := Scope(*owner):
                found.setdefault(memory_id, set()).add(scope)
    return found


def key_of(scope: Scope) -> str:
    """A scope as one text."""
    return _KEYS.encode([getattr(scope, name) for name in SCOPE_FIELDS])


def change_of(row: Sequence[Any]) -> Change:
    """An entry, told with `COLUMNS`."""
    memory_id, event, at, user, agent, run, old_text, new_text, old_metadata, new_metadata, actor, reason, successor = (
        row
    )
    return Change(
        memory_id=memory_id,
        event=event,
        at=from_micros(at),
        scope=Scope(user, agent, run),
        old_text=old_text,
        new_text=new_text,
        old_metadata=None if old_metadata is None else codec.decode(old_metadata),
        new_metadata=None if new_metadata is None else codec.decode(new_metadata),
        actor=actor,
        reason=reason,
        superseded_by=successor,
    )
