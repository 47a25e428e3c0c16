"""An import that is killed, and run again."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from memstack import open_memory
from tests.cli.conftest import COMMAND, Runner

LINES = 600
USERS = 3


def _changes(log: Path) -> int:
    """How many memories the history of a running import knows."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM changes").fetchone()
        return int(count)
    return 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_killed_import_goes_on(run: Runner, store: Path, tmp_path: Path) -> None:
    """Killed twice in the middle and run again, an import ends with every line stored once."""
    lines = [
        {"user_id": f"user-{i % USERS}", "content": f"line number {i}", "metadata": {"place": i}} for i in range(LINES)
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    log = store / "history.db"
    before = 0
    for _ in range(2):
        with subprocess.Popen([*COMMAND, "import", "lines.jsonl", "--batch-size", "8"]) as process:
            deadline = time.monotonic() + 60
            while _changes(log) < before + LINES // 4:
                assert process.poll() is None, "it was done before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
        assert process.returncode == -9
        before = _changes(log)
        assert 0 < before < LINES

    done = run("--json", "import", "lines.jsonl")
    assert (done.code, done.data["read"], done.data["failed"]) == (0, LINES, 0)
    assert done.data["stored"] + done.data["skipped"]["duplicate"] == LINES
    assert done.data["stored"] <= LINES - before
    with open_memory(tmp_path / "memstack.yaml") as memory:
        stored = [found for user in range(USERS) for found in memory.iter_all(user_id=f"user-{user}")]
        assert Counter(found.metadata["place"] for found in stored) == Counter(range(LINES))
        hits = memory.search("line number 77", user_id=f"user-{77 % USERS}", filters={"place": 77})
        assert [hit.text for hit in hits] == ["line number 77"]
