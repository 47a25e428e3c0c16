"""The tasks, in SQLite. Every statement names the user: nobody sees another's."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

__all__ = ["Task", "Tasks"]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, title TEXT NOT NULL, description TEXT, priority TEXT NOT NULL,
    task_type TEXT, scheduled_for TEXT NOT NULL, preference_id TEXT, project_id TEXT, estimate_minutes REAL,
    created_at TEXT NOT NULL, completed_at TEXT, actual_minutes REAL
) STRICT;
CREATE INDEX IF NOT EXISTS tasks_by_user ON tasks (user_id);
"""


class Task(BaseModel):
    """A task. Of memories it keeps the ids alone: a text that is forgotten must not live on in here."""

    id: str
    title: str
    description: str | None = None
    priority: str
    task_type: str | None = None
    scheduled_for: str
    preference_id: str | None = None
    project_id: str | None = None
    estimate_minutes: float | None = None
    created_at: datetime
    completed_at: datetime | None = None
    actual_minutes: float | None = None


class Tasks:
    """The tasks of all users, in one file."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten
        self._connection.executescript(_TABLE)

    async def add(self, user_id: str, **fields: Any) -> Task:
        """Keep a new task."""
        task = Task(id=str(uuid.uuid4()), created_at=datetime.now(timezone.utc), **fields)
        row = {**task.model_dump(mode="json"), "user_id": user_id}
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        await self._run(f"INSERT INTO tasks ({names}) VALUES ({values})", row)  # noqa: S608  # names of our own
        return task

    async def get(self, user_id: str, task_id: str) -> Task | None:
        """A task of this user; None where there is none."""
        rows, _ = await self._run("SELECT * FROM tasks WHERE user_id = ? AND id = ?", (user_id, task_id))
        return Task.model_validate(dict(rows[0])) if rows else None

    async def complete(self, user_id: str, task_id: str, minutes: float) -> bool:
        """Note that a task is done; False where it was already."""
        _, changed = await self._run(
            "UPDATE tasks SET completed_at = ?, actual_minutes = ? "
            "WHERE user_id = ? AND id = ? AND completed_at IS NULL",
            (datetime.now(timezone.utc).isoformat(), minutes, user_id, task_id),
        )
        return changed == 1

    async def erase(self, user_id: str) -> int:
        """Delete everything of a user, and overwrite it on the disk. Returns how many tasks there were."""
        _, changed = await self._run("DELETE FROM tasks WHERE user_id = ?", (user_id,))
        await self._run("PRAGMA wal_checkpoint(TRUNCATE)", ())
        return changed

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    async def _run(self, statement: str, values: Any) -> tuple[list[sqlite3.Row], int]:
        def run() -> tuple[list[sqlite3.Row], int]:
            with self._lock:
                cursor = self._connection.execute(statement, values)
                return cursor.fetchall(), cursor.rowcount

        return await asyncio.to_thread(run)
