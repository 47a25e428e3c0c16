"""The file of the history: whose it is, its tables, and how an older one is brought up to date."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from memstack.errors import HistoryError
from memstack.history import waiting

__all__ = ["BUSY_SECONDS", "TABLES", "check_owner", "prepare"]

BUSY_SECONDS: Final = 30.0
TABLES: Final = ("changes", "idempotency", "runs", "messages", "pending")
_VERSION: Final = 2
_APPLICATION: Final = 0x6D73746B  # "mstk", in the header of the file: a database without it is somebody else's
_MAGIC: Final = b"SQLite format 3\0"
_APPLICATION_AT: Final = slice(68, 72)
_PAUSE_SECONDS: Final = 0.01
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


def check_owner(path: str) -> None:
    """Refuse a file of something else by its first bytes, before SQLite does anything to it.

    Raises:
        HistoryError: it is none of ours.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(_APPLICATION_AT.stop)
    except FileNotFoundError:
        return
    if head and not head.startswith(_MAGIC):
        raise HistoryError(path, "is no SQLite database", "Name another file with `history.path`, or restore it.")
    if head and int.from_bytes(head[_APPLICATION_AT], "big") != _APPLICATION:
        raise HistoryError(path, "is a database of something else", "Name another file with `history.path`.")


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make what is missing, and set how the file is written.

    Raises:
        HistoryError: a later release made it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= _VERSION:
        raise HistoryError(path, f"has version {version}, and this release reads up to {_VERSION}", "Upgrade memstack.")
    if version < _VERSION:  # before the write-ahead log, so that the header of a new file says whose it is
        _make(connection)
    _use_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")


def _make(connection: sqlite3.Connection) -> None:
    """Make the tables, or those that are missing; one opener of a new file does, and the others wait for it."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in "".join(_STEPS[version:]).split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("COMMIT")


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait by itself while others open the same new file."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
