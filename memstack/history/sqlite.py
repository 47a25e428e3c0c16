"""History in SQLite: one file, several collections, safe under threads and processes.

Also what the gateway must remember beside the store: which idempotency keys were used, and how far each run has got.
A write transaction stands around the write to the store: where that fails, nothing of it is in the history either.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from memstack.errors import GatewayClosed, HistoryError, MemstackError
from memstack.folders import make_file, make_folder
from memstack.history import erasure
from memstack.history.journal import Journal
from memstack.history.log import CHAIN, COLUMNS, ENTRY, RANK, change_of, key_of, owners_of
from memstack.history.tables import BUSY_SECONDS, check_owner, prepare
from memstack.history.transaction import MAKE_ROOM, Transaction, UsedKey, last_write
from memstack.history.waiting import Waiting, WaitingTable
from memstack.instants import as_instant, from_micros, iso, to_micros, utcnow
from memstack.records import Change
from memstack.scope import Scope

__all__ = ["MEMORY", "SqliteHistory"]

_log: Final = logging.getLogger(__name__)

MEMORY: Final = ":memory:"  # a history that is kept nowhere
_DAMAGED: Final = ("malformed", "file is not a database")  # in SQLite's words
_RESTORE: Final = "Restore it from a backup, or name another file with `history.path`."
_SHOWN: Final = 60  # characters of a collection's name in that of its journal's file
_LAST_MESSAGES: Final = 10  # how many Mem0 keeps for a scope


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
                check_owner(self.path)
                make_file(Path(self.path))
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            prepare(self._connection, self.path)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise HistoryError(
                self.path, f"cannot be opened ({error})", "Name another file with `history.path`, or restore it."
            ) from error
        except BaseException:  # Ctrl-C, too: its traceback would keep the file open, and locked
            self.close()
            raise

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
            return last_write(connection, self.collection) >= number
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
                connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

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
                f"SELECT {COLUMNS} FROM changes WHERE collection = ? AND memory_id = ? ORDER BY seq",  # noqa: S608
                (self.collection, memory_id),
            ).fetchall()
        return [change_of(row) for row in found]

    def chain(self, memory_id: str) -> list[Change]:
        """The entries of a memory, and of those that it replaced or that replaced it, in the order of time."""
        with self._locked() as connection:
            found = connection.execute(CHAIN, {"id": memory_id, "collection": self.collection}).fetchall()
        changes = [change_of(row) for row in found]
        if len({change.memory_id for change in changes}) > 1:  # also where they were imported memory by memory
            changes.sort(key=lambda change: (change.at, RANK[change.event], change.memory_id))
        return changes

    def owners(self, memory_ids: Iterable[str]) -> dict[str, set[Scope]]:
        """As `Transaction.owners`."""
        with self._locked() as connection:
            return owners_of(connection, self.collection, memory_ids)

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
                (self.collection, key_of(scope), key),
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
                raise HistoryError(self.path, str(error), MAKE_ROOM if full else "", retryable=busy or full) from error

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
