"""docs/plugins.md: its package works as the page says, and its store passes the contract."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, installed in a folder: its modules, and the entry points that it names."""
    folder = tmp_path_factory.mktemp("package")
    about = folder / "my_app-1.dist-info"
    for place in (folder / "my_app", about):
        place.mkdir()
    for block in BLOCKS:
        if block.startswith("# my_app/"):
            (folder / block.partition("\n")[0][2:]).write_text(block, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_app\nVersion: 1\n", encoding="utf-8")
    (named,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    points = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", named).replace('"', "")
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    return folder


def _python(package: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", ""), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )


def test_its_package_does_what_the_page_shows(package: Path, tmp_path: Path) -> None:
    """A memory of the page's store, embedder, LLM and reranker prints what the page shows."""
    (code,) = (block for block in BLOCKS if block.startswith("from memstack import"))
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    done = _python(package, tmp_path, "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


def test_its_reranker_may_be_a_class(package: Path, tmp_path: Path) -> None:
    """The second reranker of the page orders hits too."""
    code = """
import memstack
with memstack.open_memory(vector_store={"path": "memory"}, retrieval={"reranker": "my_app.ranking.Ranker"}) as memory:
    memory.add(["a walk", "green tea"], user_id="alex")
    print([(hit.text, hit.score) for hit in memory.search("tea", user_id="alex")])
"""
    done = _python(package, tmp_path, "-W", "error", "-c", code)
    assert done.stdout == "[('green tea', 0.5), ('a walk', 0.0)]\n", done.stderr


def test_its_store_passes_the_contract(package: Path, tmp_path: Path) -> None:
    """All that is asked of a store itself, and a part of what is asked of the gateway on it."""
    (tmp_path / "my.yaml").write_text("vector_store: {provider: cabinet, path: ./memory}\n", encoding="utf-8")
    some = "TestStore or lesson or owner or operator_alone or duplicate or thresholds"
    pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--memstack-config", "my.yaml")
    done = _python(package, tmp_path, *pytest_, "-k", some, "-m", "not exhaustive", f"--basetemp={tmp_path / 'base'}")
    assert done.returncode == 0, done.stdout[-3000:]
