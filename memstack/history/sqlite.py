"""History in SQLite: one file, several collections, safe under threads and processes.

Also what the gateway must remember beside the store: which idempotency keys were used, and how far each run has got.
A write transaction stands around the write to the store: where that fails, nothing of it is in the history either.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memstack import metadata as codec
from memstack.batching import batched
from memstack.errors import GatewayClosed, HistoryError, MemstackError
from memstack.folders import make_file, make_folder
from memstack.history import erasure, waiting
from memstack.history.erasure import ErasedHistory
from memstack.history.journal import Journal
from memstack.history.waiting import Waiting, WaitingTable
from memstack.ids import new_id
from memstack.instants import as_instant, from_micros, iso, to_micros, utcnow
from memstack.records import Change, Event
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["ENTRY", "MEMORY", "SqliteHistory", "Transaction"]

_log: Final = logging.getLogger(__name__)

MEMORY: Final = ":memory:"  # a history that is kept nowhere
_VERSION: Final = 2
_APPLICATION: Final = 0x6D73746B  # "mstk", in the header of the file: a database without it is somebody else's
_MAGIC: Final = b"SQLite format 3\0"
_APPLICATION_AT: Final = slice(68, 72)
_AT_ONCE: Final = 500  # ids of a query: older releases of SQLite take up to 999
_BUSY_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.01
_MAKE_ROOM: Final = "Free some space, or name a file on a larger disk with `history.path`."
_WAYS_OUT: Final = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.ENOENT: "If the folder was moved while it was open, put it back, or open the memory where it is now.",
}
_DAMAGED: Final = ("malformed", "file is not a database")  # in SQLite's words
_RESTORE: Final = "Restore it from a backup, or name another file with `history.path`."
_TABLES: Final = ("changes", "idempotency", "runs", "messages", "pending")
_KEYS: Final = json.JSONEncoder(ensure_ascii=False)
_SHOWN: Final = 60  # characters of a collection's name in that of its journal's file
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
CREATE TABLE writes (
    collection TEXT NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;
""",
)
_COLUMNS: Final = (
    "memory_id, event, at, user_id, agent_id, run_id, old_text, new_text, old_metadata, new_metadata, actor, reason, "
    "superseded_by"
)
# The instant of the last entry of a memory; before all instants, where it has none.
_LAST_AT: Final = (
    "COALESCE((SELECT at FROM changes WHERE collection = ? AND memory_id = ? ORDER BY seq DESC LIMIT 1), "
    "-9223372036854775808)"
)
# In a chain, of one instant: what is new comes before what it took the place of, and what was deleted comes last.
_RANK: Final[Mapping[Event, int]] = {"ADD": 0, "UPDATE": 0, "SUPERSEDE": 1, "DELETE": 2}
# What an entry is told with.
ENTRY: Final = (
    "id", "event", "at", "user_id", "agent_id", "run_id", "old_text", "new_text", "old_metadata", "new_metadata",
    "actor", "role", "reason", "superseded_by",
)  # fmt: skip
# Two ways to go on, each by an index of its own (the + keeps the first from the other's): as one with OR, every step
# reads all that was ever superseded.
_CHAIN: Final = f"""
WITH RECURSIVE chain (id) AS (
    VALUES (:id)
    UNION
    SELECT changes.superseded_by FROM chain CROSS JOIN changes
    WHERE changes.collection = :collection AND changes.memory_id = chain.id AND +changes.superseded_by IS NOT NULL
    UNION
    SELECT changes.memory_id FROM chain CROSS JOIN changes
    WHERE changes.collection = :collection AND changes.superseded_by = chain.id
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

    def __init__(self, connection: sqlite3.Connection, collection: str, journal: Journal, path: str) -> None:
        self.number: int | None = None
        self._connection = connection
        self._collection = collection
        self._journal = journal
        self._path = path
        self.waiting = WaitingTable(connection, collection)

    def append(self, changes: Iterable[Change], *, roles: Mapping[str, str] | None = None) -> None:
        """Add entries to the log. None is dated before the last one of its memory: a clock can have been set back.

        Args:
            changes: the entries, in order.
            roles: the role of the message by memory id, where known (Mem0 shows it).
        """
        self._connection.executemany(
            "INSERT INTO changes (id, collection, memory_id, event, at, user_id, agent_id, run_id, old_text, new_text, "  # noqa: S608
            "old_metadata, new_metadata, actor, role, reason, superseded_by) "
            f"VALUES (?, ?, ?, ?, max(?, {_LAST_AT}), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    new_id(),
                    self._collection,
                    change.memory_id,
                    change.event,
                    to_micros(change.at),
                    self._collection,
                    change.memory_id,
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

    def owners(self, memory_ids: Iterable[str]) -> dict[str, set[Scope]]:
        """Whose these memories are, by the log; those that it does not know, or knows no owner of, are left out."""
        return _owners(self._connection, self._collection, memory_ids)

    def erase(self, scope: Scope, memory_ids: Sequence[str]) -> ErasedHistory:
        """Delete everything of a scope, and the entries of these memories that nobody else owns."""
        return erasure.erase(self._connection, self._collection, scope, memory_ids)

    def clear(self) -> None:
        """Delete everything of the collection. What was announced stays so until the commit."""
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM {table} WHERE collection = ?", (self._collection,))  # noqa: S608

    def restore(self, memory_id: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries that `SqliteHistory.entries` gave, here or elsewhere; those that are here already stay."""
        known = self._connection.execute(
            "SELECT id FROM changes WHERE collection = ? AND memory_id = ?", (self._collection, memory_id)
        )
        here = {entry_id for (entry_id,) in known}
        new: dict[str, Mapping[str, Any]] = {}
        for entry in entries:
            if entry["id"] not in here:
                new.setdefault(entry["id"], entry)
        self._connection.executemany(
            f"INSERT INTO changes (collection, memory_id, {', '.join(ENTRY)}) "  # noqa: S608
            f"VALUES (?, ?, {', '.join('?' * len(ENTRY))})",
            ((self._collection, memory_id, *map(entry.get, ENTRY)) for entry in new.values()),
        )

    def reach(self, scope: Scope, position: int) -> None:
        """Note that a run has got so far."""
        self._connection.execute(
            "INSERT INTO runs (collection, scope, next_position) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET next_position = max(next_position, excluded.next_position)",
            (self._collection, _key(scope), position + 1),
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

    def last(self, memory_id: str) -> Change | None:
        """The newest entry of a memory."""
        found = self._connection.execute(
            f"SELECT {_COLUMNS} FROM changes WHERE collection = ? AND memory_id = ? "  # noqa: S608
            "ORDER BY seq DESC LIMIT 1",
            (self._collection, memory_id),
        ).fetchone()
        return None if found is None else _change(found)

    # -- what is done to the store ---------------------------------------------------------------

    def announce(self, undo: str) -> Callable[[], None]:
        """Note how to take back what is about to be done to the store, for whoever comes after this process.

        Args:
            undo: one line, which `unfinished` hands out.

        Returns:
            Takes the note back, for what was refused before it was done.

        Raises:
            HistoryError: it cannot be noted.
        """
        try:
            begin = self._journal.append(self._own_number(), undo)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            problem = f"cannot note what is being done ({error.strerror})"
            raise HistoryError(self._path, problem, _WAYS_OUT.get(error.errno or 0, ""), retryable=full) from error
        return lambda: self._journal.cut(begin)

    def resume(self) -> None:
        """Take over what was announced and not committed: it is done with the commit of this transaction."""
        self._own_number()

    def _own_number(self) -> int:
        if self.number is None:
            (number,) = self._connection.execute(
                "INSERT INTO writes (collection, number) VALUES (?, 1) "
                "ON CONFLICT DO UPDATE SET number = number + 1 RETURNING number",
                (self._collection,),
            ).fetchone()
            self.number = int(number)
        return self.number

    def unfinished(self) -> list[str]:
        """What was announced and not committed, newest first: by this transaction, or by a process that died."""
        if self._journal.empty:
            return []
        committed = self._committed
        return [undo for number, undo in reversed(self._journal.read()) if number > committed]

    def forget(self) -> None:
        """Forget what was announced: it was taken back, or committed."""
        if not self._journal.empty:
            self._journal.cut()

    @property
    def _committed(self) -> int:
        """The number of the last transaction that was committed before this one and wrote to the store."""
        return _last_write(self._connection, self._collection) if self.number is None else self.number - 1


class SqliteHistory:
    """The history of one collection, and Mem0's message log.

    Args:
        path: the file; made with its folder when missing. ``:memory:`` keeps nothing.
        collection: whose history this is, by a name that tells it from others that share the file.
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
        self._pid = os.getpid()
        self._journal = Journal(None if self.path == MEMORY else Path(f"{self.path}.{_file_name(collection)}.undo"))
        self._connection: sqlite3.Connection | None = None
        try:
            if self.path != MEMORY:
                make_folder(Path(self.path).parent)
                self._check_owner()
                make_file(Path(self.path))
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._connection)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise HistoryError(
                self.path, f"cannot be opened ({error})", "Name another file with `history.path`, or restore it."
            ) from error
        except BaseException:  # Ctrl-C, too: its traceback would keep the file open, and locked
            self.close()
            raise

    def _check_owner(self) -> None:
        """Refuse a file of something else by its first bytes, before SQLite does anything to it."""
        try:
            with Path(self.path).open("rb") as file:
                head = file.read(_APPLICATION_AT.stop)
        except FileNotFoundError:
            return
        if head and not head.startswith(_MAGIC):
            raise HistoryError(
                self.path, "is no SQLite database", "Name another file with `history.path`, or restore it."
            )
        if head and int.from_bytes(head[_APPLICATION_AT], "big") != _APPLICATION:
            raise HistoryError(self.path, "is a database of something else", "Name another file with `history.path`.")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not 0 <= version <= _VERSION:
            raise HistoryError(
                self.path, f"has version {version}, and this release reads up to {_VERSION}", "Upgrade memstack."
            )
        if version < _VERSION:  # before the write-ahead log, so that the header of a new file says whose it is
            self._make(connection)
        _use_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")

    def _make(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or those that are missing; one opener of a new file does, and the others wait for it."""
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statement in "".join(_STEPS[version:]).split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    # -- the gateway's side ----------------------------------------------------------------------

    @contextmanager
    def transaction(self, undo: Callable[[Transaction], object] | None = None) -> Iterator[Transaction]:
        """A write transaction: committed when the block ends, taken back when it raises.

        Args:
            undo: takes back what the block announced (`Transaction.announce`) where it or the commit fails. Nobody
                else can write meanwhile.

        Raises:
            HistoryError: it cannot be begun or committed.
            GatewayClosed: the history is closed.
        """
        with self._locked() as connection:
            transaction = Transaction(connection, self.collection, self._journal, self.path)
            try:
                connection.execute("BEGIN IMMEDIATE")  # it may wait for others: Ctrl-C then comes once it has begun
                yield transaction
                connection.execute("COMMIT")
            except BaseException:
                self._take_back(connection, transaction, undo)
                raise
            if transaction.number is not None:
                self._forget(connection, transaction.number)

    def _take_back(
        self, connection: sqlite3.Connection, transaction: Transaction, undo: Callable[[Transaction], object] | None
    ) -> None:
        """End a transaction that failed, the store first: nobody may see its rows once others can write."""
        try:
            if undo is None or transaction.number is None or self._is_committed(connection, transaction.number):
                return
            if not connection.in_transaction:  # some failures of SQLite have rolled back already
                with suppress(sqlite3.Error):
                    connection.execute("BEGIN IMMEDIATE")
            undo(transaction)
        except MemstackError as error:  # the engine is gone: what the caller hears is the failure that came first
            _log.error("a failed write is taken back in the store before the next one: %s", error)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _is_committed(self, connection: sqlite3.Connection, number: int) -> bool:
        """Whether what raised came after the commit, as Ctrl-C may."""
        if connection.in_transaction:
            return False
        try:
            return _last_write(connection, self.collection) >= number
        except sqlite3.Error:  # a file that cannot be read was not committed to
            return False

    def _forget(self, connection: sqlite3.Connection, committed: int) -> None:
        """Let the journal forget what is committed: it holds texts. Whoever has the lock now has done so already."""
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("BEGIN IMMEDIATE")
            if all(number <= committed for number in self._journal.numbers()):
                self._journal.cut()
        except (sqlite3.Error, OSError):  # the write is done; the next one comes back to this
            pass
        finally:
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            finally:  # Ctrl-C must not leave a memory that never waits for others
                connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")

    @property
    def unfinished(self) -> bool:
        """Whether something may be left of a write that was interrupted, or one is under way."""
        return not self._journal.empty

    def known(self) -> bool:
        """Whether there is any entry."""
        with self._locked() as connection:
            found = connection.execute(
                "SELECT 1 FROM changes WHERE collection = ? LIMIT 1", (self.collection,)
            ).fetchone()
        return found is not None

    def living(self) -> int:
        """How many memories there are, by what the log says. It reads all of it."""
        with self._locked() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM changes WHERE event != 'DELETE' AND seq IN "
                "(SELECT max(seq) FROM changes WHERE collection = ? GROUP BY memory_id)",
                (self.collection,),
            ).fetchone()
        return int(count)

    def changes(self, memory_id: str) -> list[Change]:
        """The entries of a memory, oldest first."""
        with self._locked() as connection:
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM changes WHERE collection = ? AND memory_id = ? ORDER BY seq",  # noqa: S608
                (self.collection, memory_id),
            ).fetchall()
        return [_change(row) for row in found]

    def chain(self, memory_id: str) -> list[Change]:
        """The entries of a memory, and of those that it replaced or that replaced it, in the order of time."""
        with self._locked() as connection:
            found = connection.execute(_CHAIN, {"id": memory_id, "collection": self.collection}).fetchall()
        changes = [_change(row) for row in found]
        if len({change.memory_id for change in changes}) > 1:  # also where they were imported memory by memory
            changes.sort(key=lambda change: (change.at, _RANK[change.event], change.memory_id))
        return changes

    def owners(self, memory_ids: Iterable[str]) -> dict[str, set[Scope]]:
        """As `Transaction.owners`."""
        with self._locked() as connection:
            return _owners(connection, self.collection, memory_ids)

    def entries(self, memory_id: str, scope: Scope) -> list[dict[str, Any]]:
        """The entries of a memory that lie in a scope, as they are kept, oldest first; what is null is left out.

        An empty scope has all inside.
        """
        inside = "".join(f" AND {name} = ?" for name in scope.as_dict())
        with self._locked() as connection:
            found = connection.execute(
                f"SELECT {', '.join(ENTRY)} FROM changes WHERE collection = ? AND memory_id = ?{inside} ORDER BY seq",  # noqa: S608
                (self.collection, memory_id, *scope.as_dict().values()),
            ).fetchall()
        return [{name: value for name, value in zip(ENTRY, row, strict=True) if value is not None} for row in found]

    def departed(self, scope: Scope, living: Collection[str]) -> list[str]:
        """The memories of a scope that have a history and are not among the living, the oldest first."""
        where = "".join(f" AND {name} = ?" for name in scope.as_dict())
        with self._locked() as connection:
            found = connection.execute(
                f"SELECT memory_id FROM changes WHERE collection = ?{where} GROUP BY memory_id ORDER BY min(seq)",  # noqa: S608
                (self.collection, *scope.as_dict().values()),
            ).fetchall()
        return [memory_id for (memory_id,) in found if memory_id not in living]

    def waiting(self, token: str) -> Waiting | None:
        """The change that waits under a token."""
        with self._locked() as connection:
            return WaitingTable(connection, self.collection).get(token)

    def waiting_for(self, fingerprint: str) -> Waiting | None:
        """The change that waits to become the memory with a fingerprint."""
        with self._locked() as connection:
            return WaitingTable(connection, self.collection).of(fingerprint)

    def texts(self, scope: Scope) -> list[str]:
        """The texts of a scope in the log."""
        with self._locked() as connection:
            return erasure.texts(connection, self.collection, scope)

    def holds(self, part: str) -> bool:
        """Whether words are in the log, of any collection, or in what waits."""
        with self._locked() as connection:
            return erasure.holds(connection, part)

    def compact(self) -> list[str]:
        """Rewrite the file, so that nothing that was deleted is left in it.

        Returns:
            What is left to do, in words.
        """
        with self._locked() as connection:
            if erasure.compact(connection):
                return []
        return [f"history at {self.path}: another process reads it just now: call erase() once more."]

    def files(self) -> list[Path]:
        """The files of the history."""
        name = glob.escape(Path(self.path).name)
        return [path for path in Path(self.path).parent.glob(f"{name}*") if path.is_file()]

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
        """Forget everything of this collection. What a write that was interrupted left in the store is still undone."""
        with self.transaction() as transaction:
            transaction.clear()

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened it, and its locks and files are not ours."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Close the file. A second call does nothing; nor does one in a forked process, where it is the parent's."""
        if self.forked:
            return
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        if self.forked:  # whoever held the lock may not live here
            raise HistoryError(
                self.path,
                "was opened before this process was forked",
                "Open the memory in the process that uses it.",
            )
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
                full = "full" in str(error)
                if any(words in str(error) for words in _DAMAGED):
                    raise HistoryError(self.path, f"is damaged ({error})", _RESTORE) from error
                raise HistoryError(self.path, str(error), _MAKE_ROOM if full else "", retryable=busy or full) from error

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
        """The scope that the store knows for a memory, or the log, where it is gone."""
        there = self._scope_of(memory_id)
        if there is not None:
            return there
        known = self.changes(memory_id)
        return known[-1].scope if known else Scope()


def _file_name(collection: str) -> str:
    """A name for a file of a collection's, of whatever characters and length its own name is."""
    shown = re.sub(r"[^A-Za-z0-9_]+", "-", collection)[:_SHOWN]
    return f"{shown}-{hashlib.sha256(collection.encode()).hexdigest()[:12]}"


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait by itself while others open the same new file."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _last_write(connection: sqlite3.Connection, collection: str) -> int:
    """The number of the last transaction that wrote to the store."""
    found = connection.execute("SELECT number FROM writes WHERE collection = ?", (collection,)).fetchone()
    return 0 if found is None else int(found[0])


def _owners(connection: sqlite3.Connection, collection: str, memory_ids: Iterable[str]) -> dict[str, set[Scope]]:
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


def _key(scope: Scope) -> str:
    return _KEYS.encode([getattr(scope, name) for name in SCOPE_FIELDS])


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
