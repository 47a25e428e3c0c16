"""The rows of a folder, in SQLite, beside an engine that finds them.

An engine in this process takes a payload over value by value, and parses all of it to tell any of it. SQLite writes and
tells a row in a fraction of that time. So the engine has what it searches by, and this file what a row is.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from memstack.batching import batched

__all__ = ["DAMAGED", "RowFile"]

# How SQLite, whoever uses it, says that a file is not what it wrote.
DAMAGED: Final = ("database disk image is malformed", "file is not a database", "malformed database schema")

_APPLICATION: Final = 0x6D737277  # "msrw", in the header of the file
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rows (
    id TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, clue TEXT NOT NULL, payload TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS rows_equal ON rows (fingerprint);
"""
_AT_ONCE: Final = 500  # keys of a query: older releases of SQLite take up to 999
_LOG_PAGES: Final = 4_000  # of 4 KiB: a bulk of rows is brought to its place less often than by default


class RowFile:
    """Payloads and clues, as texts, by the row's id or by what makes rows equal. Safe in several threads.

    It outlives the process, however that ends, with each transaction that was committed. Where the machine stops, the
    last ones may be lost.

    Args:
        file: where they are kept.
        new: whether it is made when missing, and made whole when it is not. Otherwise it has to be there.

    Raises:
        sqlite3.Error: (so do all methods) the file cannot be used.
    """

    def __init__(self, file: Path, *, new: bool = True) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(new=new)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, *, new: bool) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION:
            if not new:
                raise sqlite3.DatabaseError("the file of rows has lost its tables")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(_SCHEMA)
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")  # it is whole
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What the block does is kept when it ends, and taken back when it raises. Threads take turns."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # some failures of SQLite have taken it back already
                    self._connection.execute("ROLLBACK")
                raise

    def put(self, rows: Iterable[tuple[str, str, str, str]]) -> None:
        """Write rows, given as id, fingerprint (hexadecimal), clue and payload, over those with the same ids."""
        with self._lock:
            self._connection.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
                ((row_id, bytes.fromhex(fingerprint), clue, payload) for row_id, fingerprint, clue, payload in rows),
            )

    def drop(self, ids: Iterable[str] | None) -> None:
        """Delete rows; None is all of them."""
        with self._lock:
            if ids is None:
                self._connection.execute("DELETE FROM rows")
            else:
                self._connection.executemany("DELETE FROM rows WHERE id = ?", ((row_id,) for row_id in ids))

    def payloads(self, ids: Iterable[str]) -> dict[str, str]:
        """The payloads of these rows; those that are not there are left out."""
        return self._told("payload", "id", ids)

    def equal(self, fingerprints: Iterable[str]) -> dict[str, str]:
        """The payloads of the rows that have one of these fingerprints, by id."""
        return self._told("payload", "fingerprint", map(bytes.fromhex, fingerprints))

    def clues(self, ids: Iterable[str]) -> dict[str, str]:
        """The clues of these rows; those that are not there are left out."""
        return self._told("clue", "id", ids)

    def _told(self, column: str, by: str, keys: Iterable[str | bytes]) -> dict[str, str]:
        told: dict[str, str] = {}
        for some in batched(keys, _AT_ONCE):
            query = f"SELECT id, {column} FROM rows WHERE {by} IN ({', '.join('?' * len(some))})"  # noqa: S608
            with self._lock:
                told.update(self._connection.execute(query, some).fetchall())
        return told

    def count(self) -> int:
        """How many rows there are. SQLite counts them in its smallest index."""
        with self._lock:
            (count,) = self._connection.execute("SELECT count(*) FROM rows").fetchone()
        return int(count)

    def ids(self) -> set[str]:
        """The ids of all rows."""
        with self._lock:
            return {row_id for (row_id,) in self._connection.execute("SELECT id FROM rows")}

    def compact(self) -> None:
        """Write the file anew, without what was deleted from it."""
        with self._lock:
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Bring everything to the disk, and release the file."""
        with self._lock:
            self._connection.close()
