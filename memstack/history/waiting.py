"""The table of pending changes, beside the log."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from memstack.instants import from_micros, to_micros
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["TABLE", "Waiting", "WaitingTable"]

TABLE: Final = """
CREATE TABLE IF NOT EXISTS pending (
    token TEXT NOT NULL,
    collection TEXT NOT NULL,
    user_id TEXT, agent_id TEXT, run_id TEXT,
    fingerprint TEXT NOT NULL,
    content TEXT NOT NULL,
    at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (collection, token),
    UNIQUE (collection, fingerprint)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that waits for an answer.

    Attributes:
        token: what the answer names.
        scope: whose it is.
        fingerprint: of the memory to be: the same one waits once.
        content: what is to be stored, and what it replaces.
        at: since when.
        expires_at: until when.
    """

    token: str
    scope: Scope
    fingerprint: str
    content: str
    at: datetime
    expires_at: datetime


class WaitingTable:
    """The changes of one collection that wait; inside a transaction where something is written."""

    def __init__(self, connection: sqlite3.Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection

    def put(self, waiting: Waiting) -> str:
        """Let a change wait; returns its token: the one that it has, where it waits already."""
        scope = [getattr(waiting.scope, name) for name in SCOPE_FIELDS]
        (token,) = self._connection.execute(
            "INSERT INTO pending (token, collection, user_id, agent_id, run_id, fingerprint, content, at, expires_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, fingerprint) "
            "DO UPDATE SET content = excluded.content, expires_at = excluded.expires_at RETURNING token",
            (
                waiting.token,
                self._collection,
                *scope,
                waiting.fingerprint,
                waiting.content,
                to_micros(waiting.at),
                to_micros(waiting.expires_at),
            ),
        ).fetchone()
        return str(token)

    def get(self, token: str) -> Waiting | None:
        """What waits under a token."""
        found = self._connection.execute(
            "SELECT user_id, agent_id, run_id, fingerprint, content, at, expires_at FROM pending "
            "WHERE collection = ? AND token = ?",
            (self._collection, token),
        ).fetchone()
        return None if found is None else _waiting(token, found)

    def of(self, fingerprint: str) -> Waiting | None:
        """What waits to become the memory with a fingerprint."""
        found = self._connection.execute(
            "SELECT token FROM pending WHERE collection = ? AND fingerprint = ?", (self._collection, fingerprint)
        ).fetchone()
        return None if found is None else self.get(found[0])

    def take(self, token: str) -> bool:
        """Remove what waits under a token; False where nothing does."""
        done = self._connection.execute(
            "DELETE FROM pending WHERE collection = ? AND token = ?", (self._collection, token)
        )
        return done.rowcount > 0

    def forget_expired(self, now: datetime) -> None:
        """Remove what nobody answered in time."""
        self._connection.execute(
            "DELETE FROM pending WHERE collection = ? AND expires_at <= ?", (self._collection, to_micros(now))
        )


def _waiting(token: str, row: Any) -> Waiting:
    user, agent, run, fingerprint, content, at, expires = row
    return Waiting(token, Scope(user, agent, run), fingerprint, content, from_micros(at), from_micros(expires))
