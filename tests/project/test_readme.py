"""The README says what is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def _block(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found is not None, f"there is no block after {marker!r}"
    return found.group(1)


def test_its_python_prints_its_output(tmp_path: Path) -> None:
    """The twelve lines run as they stand, print what the README shows, and print it again the second time."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", _block("run: twelve")],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == _block("output: twelve")


def test_its_engines_are_configurations(tmp_path: Path) -> None:
    """Each line of the YAML that moves a memory to another engine loads by itself."""
    from memstack import Settings

    lines = [line.lstrip("# ") for line in README.splitlines() if "vector_store: {" in line]
    assert len(lines) == 6
    for line in lines:
        path = tmp_path / "memstack.yaml"
        path.write_text(line, encoding="utf-8")
        assert Settings.load(path).vector_store.provider in line


def test_the_example_runs(tmp_path: Path) -> None:
    """examples/quickstart.py does what its comments say."""
    script = Path(__file__).parents[2] / "examples" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "stored 1, skipped ['role']",
        "found: I prefer tasks scheduled in the morning",
        "due 2027-03-01: The Phoenix project is due in March",
        "ADD: None -> I prefer tasks scheduled in the morning",
        "UPDATE: I prefer tasks scheduled in the morning -> I prefer tasks scheduled in the evening",
        "deleted 2",
    ]
