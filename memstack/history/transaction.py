"""A write transaction of the history: entries of the log, keys, positions, and how to undo what the store is told."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from memstack import metadata as codec
from memstack.errors import HistoryError
from memstack.history import erasure
from memstack.history.erasure import ErasedHistory
from memstack.history.journal import Journal
from memstack.history.log import COLUMNS, ENTRY, LAST_AT, change_of, key_of, owners_of
from memstack.history.tables import TABLES
from memstack.history.waiting import WaitingTable
from memstack.ids import new_id
from memstack.instants import to_micros, utcnow
from memstack.records import Change
from memstack.scope import Scope

__all__ = ["MAKE_ROOM", "Transaction", "UsedKey", "last_write"]

MAKE_ROOM: Final = "Free some space, or name a file on a larger disk with `history.path`."
_WAYS_OUT: Final = {
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: MAKE_ROOM,
    errno.ENOENT: "If the folder was moved while it was open, put it back, or open the memory where it is now.",
}


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
            f"VALUES (?, ?, ?, ?, max(?, {LAST_AT}), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        return owners_of(self._connection, self._collection, memory_ids)

    def erase(self, scope: Scope, memory_ids: Sequence[str]) -> ErasedHistory:
        """Delete everything of a scope, and the entries of these memories that nobody else owns."""
        return erasure.erase(self._connection, self._collection, scope, memory_ids)

    def clear(self) -> None:
        """Delete everything of the collection. What was announced stays so until the commit."""
        for table in TABLES:
            self._connection.execute(f"DELETE FROM {table} WHERE collection = ?", (self._collection,))  # noqa: S608

    def restore(self, memory_id: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries that `SqliteHistory.entries` gave, here or elsewhere; those that are here already stay.

        All are in the order of time then, as they are read, also where a memory was changed here and elsewhere.
        """
        those = "collection = ? AND memory_id = ?"
        found = self._connection.execute(
            f"SELECT {', '.join(ENTRY)} FROM changes WHERE {those} ORDER BY seq",  # noqa: S608  # names of columns
            (self._collection, memory_id),
        )
        here: list[Mapping[str, Any]] = [dict(zip(ENTRY, row, strict=True)) for row in found]
        known = {entry["id"] for entry in here}
        new: dict[str, Mapping[str, Any]] = {}
        for entry in entries:
            if entry["id"] not in known:
                new.setdefault(entry["id"], entry)
        added: Sequence[Mapping[str, Any]] = list(new.values())
        if here and any(entry["at"] < here[-1]["at"] for entry in added):
            added = sorted([*here, *added], key=itemgetter("at"))
            self._connection.execute(f"DELETE FROM changes WHERE {those}", (self._collection, memory_id))  # noqa: S608
        self._connection.executemany(
            f"INSERT INTO changes (collection, memory_id, {', '.join(ENTRY)}) "  # noqa: S608
            f"VALUES (?, ?, {', '.join('?' * len(ENTRY))})",
            ((self._collection, memory_id, *map(entry.get, ENTRY)) for entry in added),
        )

    def reach(self, scope: Scope, position: int) -> None:
        """Note that a run has got so far."""
        self._connection.execute(
            "INSERT INTO runs (collection, scope, next_position) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET next_position = max(next_position, excluded.next_position)",
            (self._collection, key_of(scope), position + 1),
        )

    def use_key(self, scope: Scope, key: str, used: UsedKey) -> None:
        """Remember an idempotency key."""
        self._connection.execute(
            "INSERT INTO idempotency (collection, scope, key, digest, memory_ids, at) VALUES (?, ?, ?, ?, ?, ?)",
            (self._collection, key_of(scope), key, used.digest, json.dumps(used.memory_ids), to_micros(utcnow())),
        )

    def advance(self, scope: Scope, count: int) -> int:
        """Take `count` positions of a run; returns the first of them."""
        (following,) = self._connection.execute(
            "INSERT INTO runs (collection, scope, next_position) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET next_position = next_position + excluded.next_position RETURNING next_position",
            (self._collection, key_of(scope), count),
        ).fetchone()
        return int(following) - count

    def last(self, memory_id: str) -> Change | None:
        """The newest entry of a memory."""
        found = self._connection.execute(
            f"SELECT {COLUMNS} FROM changes WHERE collection = ? AND memory_id = ? "  # noqa: S608
            "ORDER BY seq DESC LIMIT 1",
            (self._collection, memory_id),
        ).fetchone()
        return None if found is None else change_of(found)

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
        return last_write(self._connection, self._collection) if self.number is None else self.number - 1


def last_write(connection: sqlite3.Connection, collection: str) -> int:
    """The number of the last transaction that wrote to the store."""
    found = connection.execute("SELECT number FROM writes WHERE collection = ?", (collection,)).fetchone()
    return 0 if found is None else int(found[0])
