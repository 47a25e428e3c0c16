"""docs/migrating-from-mem0.md says what is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory

GUIDE = (Path(__file__).parents[2] / "docs" / "migrating-from-mem0.md").read_text(encoding="utf-8")


def _block(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None, f"there is no block after {marker!r}"
    return found.group(1)


def _run(arguments: list[str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", re.findall(r"<!-- output: (\w+) -->", GUIDE))
def test_its_python_prints_its_output(name: str, tmp_path: Path) -> None:
    """Every block runs as it stands and prints what the guide shows."""
    assert _run(["-c", _block(f"run: {name}")], tmp_path).replace(f"{tmp_path}/", "") == _block(f"output: {name}")


def test_what_mem0_has_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that it writes out of a Mem0 memory are imported with their words, roles, times and metadata."""
    monkeypatch.chdir(tmp_path)
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "I drink tea"},
        {"role": "assistant", "content": "Tea is noted"},
    ]
    with open_memory({"vector_store": {"path": "old"}}) as memory:
        old = memory.mem0
        old.add(said, user_id="alex", metadata={"category": "food"}, infer=False)
        old.add("I ride a bike", user_id="alex", infer=False)
        before = old.get_all(filters={"user_id": "alex"})["results"]
        code = _block("run: export").replace("old = Memory.from_config(...)", "").replace("from mem0 import Memory", "")
        exec(code, {"old": old})  # noqa: S102  # our own guide
    roles = ["--role", "user", "--role", "assistant"]
    _run(["-m", "memstack", "import", "memories.jsonl", *roles, "--set", "vector_store.path=new"], tmp_path)
    with open_memory({"vector_store": {"path": "new"}}) as memory:
        after = {m.text: m for m in memory.get_all(user_id="alex")}
    assert len(after) == 3
    for mem in before:
        found = after[mem["memory"]]
        assert (found.source[0].role, found.occurred_at.isoformat()) == (mem["role"], mem["created_at"])
        assert found.metadata == (mem.get("metadata") or {})
