"""What is erased on a server is gone from its files after the step that the receipt and docs/schemas.md name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memstack import Preference, open_memory
from memstack.testing.servers import chroma_server

WORDS = ("The quokka of Zanzibar sleeps", "metadata-axolotl-of-Bishkek", "Wombats in Ouagadougou prefer mornings")
REWRITE = [sys.executable, "-W", "error", "-m", "memstack.stores.chroma_rewrite"]


def holding(folder: Path) -> set[str]:
    """The words in any file but those of Chroma's vector index.

    It writes parts of them from memory that it never set, in which by chance stands what the server has read.
    """
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".bin"]
    return {words for words in WORDS if any(words.encode() in content for content in contents)}


def test_a_chroma_server_after_the_rewrite(tmp_path: Path) -> None:
    """The bytes are there before, and until its folder is rewritten; then in no database. Others' are as before."""
    pytest.importorskip("chromadb")
    folder = tmp_path / "server"
    with chroma_server(folder) as options:
        place = {"vector_store": {"provider": "chroma", **options}, "history": {"path": str(tmp_path / "history.db")}}
        with open_memory(place) as memory:
            alex = memory.for_user("alex")
            alex.add(WORDS[0], metadata={"note": WORDS[1]})
            alex.add(WORDS[2], metadata=Preference(key="time", value="morning"))
            alex.add("evenings", metadata=Preference(key="time", value="evening"), on_conflict="supersede")
            memory.add("Bo drinks tea", user_id="bo")
            assert holding(folder) == set(WORDS)
            receipt = alex.erase()
            assert not receipt.complete
            assert any("memstack.stores.chroma_rewrite" in step for step in receipt.to_do)
    assert holding(folder), "the documented step is needed"
    done = subprocess.run([*REWRITE, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert holding(tmp_path) == set()
    with chroma_server(folder) as options:
        place = {"vector_store": {"provider": "chroma", **options}, "history": {"path": str(tmp_path / "history.db")}}
        with open_memory(place) as memory:
            assert [item.text for item in memory.iter_all(user_id="bo")] == ["Bo drinks tea"]
            assert memory.search("tea", user_id="bo")
            assert memory.search("", user_id="alex") == []


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    """Where there is no database of Chroma's, it says so, and leaves nothing behind."""
    done = subprocess.run([*REWRITE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"there is no chroma.sqlite3 in {tmp_path}\n")
    assert list(tmp_path.iterdir()) == []
