"""``demo``: what it tells is what happened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memstack import open_memory
from tests.cli.conftest import Runner


def test_the_demo_tells_what_happened(
    spawn: Runner, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added, searched, filtered, updated, found by another process, with its history; again on the second run.

    Variables of the environment cannot lead it to another store: what is there stays.
    """
    with open_memory(vector_store={"path": str(tmp_path / "dear")}) as memory:
        memory.add("I am dear to somebody", user_id="alex")
    monkeypatch.setenv("MEMSTACK_VECTOR_STORE__PATH", str(tmp_path / "dear"))
    monkeypatch.setenv("MEMSTACK_HISTORY__PATH", str(tmp_path / "dear" / "history.db"))

    shown = spawn("demo")
    assert shown.code == 0, shown.err
    for part in ("stored: I prefer tasks", "skipped: role 'assistant'", "senior engineer", "UPDATE by user", "Phoenix"):
        assert part in shown.out
    assert "\x1b" not in shown.out

    told = run("--json", "demo")
    assert told.code == 0, told.err
    data = told.data
    assert [len(result["stored"]) for result in data["added"]] == [1, 1, 1, 1]
    assert [len(result["skipped"]) for result in data["added"]] == [1, 1, 1, 1]
    assert all(found["hits"] for found in data["found"])
    for found in data["filtered"]:
        assert found["hits"]
        assert len({hit["metadata"]["category"] for hit in found["hits"]}) == 1
    assert "senior engineer" in data["restarted"]["hits"][0]["text"]
    assert data["restarted"]["pid"] != os.getpid()
    assert [change["event"] for change in data["history"]] == ["ADD", "UPDATE"]
    assert data["history"][1]["new_text"] == data["updated"]["text"]

    monkeypatch.delenv("MEMSTACK_VECTOR_STORE__PATH")
    monkeypatch.delenv("MEMSTACK_HISTORY__PATH")
    listed = run("--config", "memstack-demo/memstack.yaml", "--json", "list", "--user", "alex").data["memories"]
    assert len(listed) == 4
    with open_memory(vector_store={"path": str(tmp_path / "dear")}) as memory:
        assert [found.text for found in memory.get_all(user_id="alex")] == ["I am dear to somebody"]


def test_a_foreign_folder_is_refused(run: Runner, tmp_path: Path) -> None:
    """A folder that the demo did not make, or a file, is left as it is."""
    dear = tmp_path / "dear"
    dear.mkdir()
    (dear / "letter.txt").write_text("dear", encoding="utf-8")
    (tmp_path / "file").write_text("dear", encoding="utf-8")
    for place in ("dear", "file"):
        done = run("--json", "demo", "--path", str(tmp_path / place))
        assert (done.code, done.error["type"]) == (2, "InvalidInput")
    assert [path.name for path in dear.iterdir()] == ["letter.txt"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_are_not_followed(run: Runner, tmp_path: Path) -> None:
    """A store that was put in the demo's place by a link is not emptied."""
    folder = tmp_path / "memstack-demo"
    folder.mkdir()
    (folder / ".memstack-demo").write_text("", encoding="utf-8")
    (folder / "memory").symlink_to(tmp_path / "dear")
    assert run("demo").code == 2
