"""Erasing a scope from the history: the log, what waits, keys, positions, and Mem0's messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from memstack.batching import batched
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["ErasedHistory", "compact", "erase", "holds", "texts"]

_BATCH: Final = 500
_NOBODYS: Final = " AND ".join(f"{name} IS NULL" for name in SCOPE_FIELDS)


@dataclass(frozen=True, slots=True)
class ErasedHistory:
    """How much was erased.

    Attributes:
        changes: entries of the log.
        pending: changes that waited for an answer.
        messages: of Mem0's message log.
        keys: idempotency keys.
    """

    changes: int
    pending: int
    messages: int
    keys: int


def texts(connection: sqlite3.Connection, collection: str, scope: Scope) -> list[str]:
    """The texts of a scope in the log."""
    where, values = _scoped(scope)
    found = connection.execute(
        f"SELECT old_text, new_text FROM changes WHERE collection = ? AND {where}",  # noqa: S608  # names of columns
        (collection, *values),
    )
    return [text for row in found for text in row if text]


def erase(connection: sqlite3.Connection, collection: str, scope: Scope, memory_ids: Sequence[str]) -> ErasedHistory:
    """Delete what is of a scope, and the entries of these memories that nobody else owns.

    Stands inside a transaction.
    """
    where, values = _scoped(scope)
    changes = _delete(connection, f"changes WHERE collection = ? AND {where}", (collection, *values))
    for some in batched(memory_ids, _BATCH):
        marks = ", ".join("?" * len(some))
        those = f"changes WHERE collection = ? AND memory_id IN ({marks}) AND {_NOBODYS}"
        changes += _delete(connection, those, (collection, *some))
    pending = _delete(connection, f"pending WHERE collection = ? AND {where}", (collection, *values))
    keys = _delete_scopes(connection, "idempotency", collection, scope, _of_key)
    _delete_scopes(connection, "runs", collection, scope, _of_key)  # how far each has got
    messages = _delete_scopes(connection, "messages", collection, scope, _of_session)
    return ErasedHistory(changes, pending, messages, keys)


def holds(connection: sqlite3.Connection, part: str) -> bool:
    """Whether words are in the log, in what waits, or among the messages, of any collection."""
    places = (("changes", "old_text"), ("changes", "new_text"), ("pending", "content"), ("messages", "content"))
    return any(
        connection.execute(f"SELECT 1 FROM {table} WHERE instr({name}, ?) LIMIT 1", (part,)).fetchone()  # noqa: S608
        for table, name in places
    )


def compact(connection: sqlite3.Connection) -> bool:
    """Rewrite the file, so that nothing that was deleted is left in it. False where another process reads just now."""
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("VACUUM")
    (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _scoped(scope: Scope) -> tuple[str, tuple[str, ...]]:
    given = scope.as_dict()
    return " AND ".join(f"{name} = ?" for name in given), tuple(given.values())


def _delete(connection: sqlite3.Connection, what: str, values: Sequence[Any]) -> int:
    return connection.execute(f"DELETE FROM {what}", values).rowcount  # noqa: S608  # texts of this module


def _delete_scopes(connection: sqlite3.Connection, table: str, collection: str, scope: Scope, read: Any) -> int:
    known = connection.execute(f"SELECT DISTINCT scope FROM {table} WHERE collection = ?", (collection,))  # noqa: S608
    inside = [text for (text,) in known.fetchall() if _covers(scope, read(text))]
    return sum(
        _delete(connection, f"{table} WHERE collection = ? AND scope = ?", (collection, text)) for text in inside
    )


def _covers(scope: Scope, other: dict[str, str]) -> bool:
    return all(other.get(name) == value for name, value in scope.as_dict().items())


def _of_key(text: str) -> dict[str, str]:
    return {name: value for name, value in zip(SCOPE_FIELDS, json.loads(text), strict=True) if value is not None}


def _of_session(text: str) -> dict[str, str]:
    """The scope that Mem0 writes as ``agent_id=…&user_id=…``, its values escaped."""
    pairs = (part.partition("=") for part in text.split("&"))
    return {name: unquote(value) for name, _, value in pairs}
