"""History in SQLite: one file, several collections, safe under threads and processes.

Also what the gateway must remember beside the store: which idempotency keys were used, and how far each run has got.
A write transaction stands around the write to the store: where that fails, nothing of it is in the history either.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memstack import metadata as codec
from memstack.errors import GatewayClosed, HistoryError, MemstackError
from memstack.history import waiting
from memstack.history.waiting import Waiting, WaitingTable
from memstack.ids import new_id
from memstack.instants import as_instant, from_micros, iso, to_micros, utcnow
from memstack.records import Change
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["MEMORY", "SqliteHistory", "Transaction"]

MEMORY: Final = ":memory:"  # a history that is kept nowhere
_VERSION: Final = 2
_BUSY_SECONDS: Final = 30.0
_TABLES: Final = ("changes", "idempotency", "runs", "messages", "pending")
_LAST_MESSAGES: Final = 10  # how many Mem0 keeps for a scope
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    collection TEXT NOT NULL,
    memory_id TEXT NOT NULL,
    event TEXT NOT NULL,
    at INTEGER NOT NULL,
    user_id TEXT, agent_id TEXT, run_id TEXT,
    old_text TEXT, new_text TEXT,
    old_metadata TEXT, new_metadata TEXT,
    actor TEXT, role TEXT, reason TEXT
);
CREATE INDEX IF NOT EXISTS changes_of_memory ON changes (collection, memory_id, seq);
CREATE TABLE IF NOT EXISTS idempotency (
    collection TEXT NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    memory_ids TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (collection, scope, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    collection TEXT NOT NULL,
    scope TEXT NOT NULL,
    next_position INTEGER NOT NULL,
    PRIMARY KEY (collection, scope)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    scope TEXT NOT NULL,
    role TEXT, content TEXT, name TEXT,
    at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_of_scope ON messages (collection, scope, seq);
"""
# What makes each version out of the one before.
_STEPS: Final = (
    _SCHEMA,
    f"""
ALTER TABLE changes ADD COLUMN superseded_by TEXT;
CREATE INDEX changes_of_successor ON changes (collection, superseded_by) WHERE superseded_by IS NOT NULL;
{waiting.TABLE}
""",
)
_COLUMNS: Final = (
    "memory_id, event, at, user_id, agent_id, run_id, old_text, new_text, old_metadata, new_metadata, actor, reason, "
    "superseded_by"
)
_CHAIN: Final = f"""
WITH RECURSIVE chain (id) AS (
    VALUES (:id)
    UNION
    SELECT CASE WHEN changes.memory_id = chain.id THEN changes.superseded_by ELSE changes.memory_id END
    FROM chain JOIN changes ON changes.collection = :collection AND changes.superseded_by IS NOT NULL
        AND (changes.memory_id = chain.id OR changes.superseded_by = chain.id)
)
SELECT {_COLUMNS} FROM changes WHERE collection = :collection AND memory_id IN (SELECT id FROM chain) ORDER BY seq
"""  # noqa: S608  # names of columns


@dataclass(frozen=True, slots=True)
class UsedKey:
    """What an idempotency key stands for: the digest of the content, and the memories that it made."""

    digest: str
    memory_ids: tuple[str, ...]


class Transaction:
    """What can be written while the transaction is open. See `SqliteHistory.transaction`."""

    def __init__(self, connection: sqlite3.Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection
        self.waiting = WaitingTable(connection, collection)

    def append(self, changes: Iterable[Change], *, roles: Mapping[str, str] | None = None) -> None:
        """Add entries to the log.

        Args:
            changes: the entries, in order.
            roles: the role of the message by memory id, where known (Mem0 shows it).
        """
        self._connection.executemany(
            "INSERT INTO changes (id, collection, memory_id, event, at, user_id, agent_id, run_id, old_text, new_text, "
            "old_metadata, new_metadata, actor, role, reason, superseded_by) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    new_id(),
                    self._collection,
                    change.memory_id,
                    change.event,
                    to_micros(change.at),
                    change.scope.user_id,
                    change.scope.agent_id,
                    change.scope.run_id,
                    change.old_text,
                    change.new_text,
                    None if change.old_metadata is None else codec.encode(change.old_metadata),
                    None if change.new_metadata is None else codec.encode(change.new_metadata),
                    change.actor,
                    (roles or {}).get(change.memory_id),
                    change.reason,
                    change.superseded_by,
                )
                for change in changes
            ],
        )

    def use_key(self, scope: Scope, key: str, used: UsedKey) -> None:
        """Remember an idempotency key."""
        self._connection.execute(
            "INSERT INTO idempotency (collection, scope, key, digest, memory_ids, at) VALUES (?, ?, ?, ?, ?, ?)",
            (self._collection, _key(scope), key, used.digest, json.dumps(used.memory_ids), to_micros(utcnow())),
        )

    def advance(self, scope: Scope, count: int) -> int:
        """Take `count` positions of a run; returns the first of them."""
        (following,) = self._connection.execute(
            "INSERT INTO runs (collection, scope, next_position) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET next_position = next_position + excluded.next_position RETURNING next_position",
            (self._collection, _key(scope), count),
        ).fetchone()
        return int(following) - count


class SqliteHistory:
    """The history of one collection, and Mem0's message log.

    Args:
        path: the file; made with its folder when missing. ``:memory:`` keeps nothing.
        collection: whose history this is; several may share the file.
        scope_of: finds the scope of a stored memory, for entries that Mem0 writes without one.

    Raises:
        HistoryError: the file cannot be opened, or is none of ours.
    """

    def __init__(
        self,
        path: str | Path,
        collection: str,
        scope_of: Callable[[str], Scope | None] | None = None,
    ) -> None:
        self.path = str(path)
        self.collection = collection
        self._scope_of = scope_of or (lambda _: None)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        try:
            if self.path != MEMORY:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._connection)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise HistoryError(
                self.path, f"cannot be opened ({error})", "Name another file with `history.path`, or restore it."
            ) from error
        except HistoryError:
            self.close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables - {*_TABLES, "sqlite_sequence"}:
                raise HistoryError(
                    self.path, "is a database of something else", "Name another file with `history.path`."
                )
        elif not 0 < version <= _VERSION:
            raise HistoryError(
                self.path, f"has version {version}, and this release reads up to {_VERSION}", "Upgrade memstack."
            )
        if version < _VERSION:
            steps = "\n".join(_STEPS[version:])
            connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {_VERSION}; COMMIT;")

    # -- the gateway's side ----------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A write transaction: committed when the block ends, taken back when it raises.

        Raises:
            HistoryError: it cannot be begun or committed.
            GatewayClosed: the history is closed.
        """
        with self._locked() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(connection, self.collection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # some failures of SQLite have rolled back already
                    connection.execute("ROLLBACK")
                raise

    def changes(self, memory_id: str) -> list[Change]:
        """The entries of a memory, oldest first."""
        with self._locked() as connection:
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM changes WHERE collection = ? AND memory_id = ? ORDER BY seq",  # noqa: S608
                (self.collection, memory_id),
            ).fetchall()
        return [_change(row) for row in found]

    def chain(self, memory_id: str) -> list[Change]:
        """The entries of a memory, and of those that it replaced or that replaced it, in the order of writing."""
        with self._locked() as connection:
            found = connection.execute(_CHAIN, {"id": memory_id, "collection": self.collection}).fetchall()
        return [_change(row) for row in found]

    def waiting(self, token: str) -> Waiting | None:
        """The change that waits under a token."""
        with self._locked() as connection:
            return WaitingTable(connection, self.collection).get(token)

    def used_key(self, scope: Scope, key: str) -> UsedKey | None:
        """What an idempotency key stands for; None where it was not used yet."""
        with self._locked() as connection:
            found = connection.execute(
                "SELECT digest, memory_ids FROM idempotency WHERE collection = ? AND scope = ? AND key = ?",
                (self.collection, _key(scope), key),
            ).fetchone()
        return None if found is None else UsedKey(found[0], tuple(json.loads(found[1])))

    def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        with self._locked() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM changes WHERE collection = ?", (self.collection,)
            ).fetchone()
        return {"history": self.path, "changes": count}

    def clear(self) -> None:
        """Forget everything of this collection."""
        with self._locked() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE collection = ?", (self.collection,))  # noqa: S608
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                raise GatewayClosed("history")
            try:
                yield self._connection
            except MemstackError:
                raise
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
                raise HistoryError(self.path, str(error), retryable=busy) from error

    # -- Mem0's side (its SQLiteManager) ---------------------------------------------------------

    def add_history(
        self,
        memory_id: str,
        old_memory: str | None,
        new_memory: str | None,
        event: str,
        *,
        created_at: str | None = None,
        updated_at: str | None = None,
        is_deleted: int = 0,
        actor_id: str | None = None,
        role: str | None = None,
    ) -> None:
        """Add an entry."""
        self.batch_add_history(
            [
                {
                    "memory_id": memory_id,
                    "old_memory": old_memory,
                    "new_memory": new_memory,
                    "event": event,
                    "created_at": created_at,
                    "updated_at": updated_at,
                    "is_deleted": is_deleted,
                    "actor_id": actor_id,
                    "role": role,
                }
            ]
        )

    def batch_add_history(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add entries."""
        changes = [
            Change(
                memory_id=record["memory_id"],
                event=record["event"],
                at=as_instant(record.get("updated_at") or record.get("created_at")) or utcnow(),
                scope=self._find_scope(record["memory_id"]),
                old_text=record.get("old_memory"),
                new_text=record.get("new_memory"),
                actor=record.get("actor_id") or record.get("role"),
            )
            for record in records
        ]
        roles = {record["memory_id"]: record["role"] for record in records if record.get("role")}
        with self.transaction() as transaction:
            transaction.append(changes, roles=roles)

    def get_history(self, memory_id: str) -> list[dict[str, Any]]:
        """The entries of a memory as Mem0 shows them, oldest first."""
        with self._locked() as connection:
            found = connection.execute(
                "SELECT id, old_text, new_text, event, at, actor, role FROM changes "
                "WHERE collection = ? AND memory_id = ? ORDER BY seq",
                (self.collection, memory_id),
            ).fetchall()
        created = iso(from_micros(found[0][4])) if found else None
        return [
            {
                "id": entry,
                "memory_id": memory_id,
                "old_memory": old,
                "new_memory": new,
                "event": event,
                "created_at": created,
                "updated_at": iso(from_micros(at)),
                "is_deleted": event == "DELETE",
                "actor_id": actor if actor != role else None,
                "role": role,
            }
            for entry, old, new, event, at, actor, role in found
        ]

    def save_messages(self, messages: Sequence[Mapping[str, Any]], session_scope: str) -> None:
        """Keep the last messages of a scope for Mem0's extraction prompt."""
        with self.transaction(), self._locked() as connection:
            now = to_micros(utcnow())
            connection.executemany(
                "INSERT INTO messages (collection, scope, role, content, name, at) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (self.collection, session_scope, m.get("role"), m.get("content"), m.get("name"), now)
                    for m in messages
                ],
            )
            connection.execute(
                "DELETE FROM messages WHERE collection = ? AND scope = ? AND seq NOT IN "
                "(SELECT seq FROM messages WHERE collection = ? AND scope = ? ORDER BY seq DESC LIMIT ?)",
                (self.collection, session_scope, self.collection, session_scope, _LAST_MESSAGES),
            )

    def get_last_messages(self, session_scope: str, limit: int = 10) -> list[dict[str, Any]]:
        """The last messages of a scope, oldest first."""
        with self._locked() as connection:
            found = connection.execute(
                "SELECT role, content, name, at FROM messages WHERE collection = ? AND scope = ? "
                "ORDER BY seq DESC LIMIT ?",
                (self.collection, session_scope, limit),
            ).fetchall()
        return [
            {"role": role, "content": content, "name": name, "created_at": iso(from_micros(at))}
            for role, content, name, at in reversed(found)
        ]

    def reset(self) -> None:
        """Forget everything of this collection."""
        self.clear()

    def _find_scope(self, memory_id: str) -> Scope:
        """The scope that the log or the store knows for a memory."""
        known = self.changes(memory_id)
        if known:
            return known[-1].scope
        return self._scope_of(memory_id) or Scope()


def _key(scope: Scope) -> str:
    return json.dumps([getattr(scope, name) for name in SCOPE_FIELDS], ensure_ascii=False)


def _change(row: Sequence[Any]) -> Change:
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
