"""Two ways to run the command line: in this process, and as a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

import memstack
from memstack import open_memory
from memstack.cli import app

COMMAND: Final = (sys.executable, "-m", "memstack")


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON of standard output; nothing else may be there."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error, as JSON on standard error."""
        found: dict[str, str] = json.loads(self.err)["error"]
        return found


Runner = Callable[..., Run]


@pytest.fixture(scope="session")
def _shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a store that tests share, each with a user of its own: making and opening one takes its time.

    This process holds it: what runs as a process of its own needs `store`.
    """
    folder = tmp_path_factory.mktemp("shared") / "memory"
    with open_memory({"vector_store": {"path": str(folder)}}):
        yield folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _shared_store: Path) -> None:
    """Every test has a working directory of its own, with a configuration that names the shared store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(memstack.__file__).parents[1]))
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTHONUNBUFFERED", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    _configure(tmp_path, _shared_store)


@pytest.fixture
def store(tmp_path: Path, _own_folder: None) -> Path:
    """The folder of a store of the test's own, not made yet; the configuration names it."""
    _configure(tmp_path, tmp_path / "memory")
    return tmp_path / "memory"


def _configure(folder: Path, store: Path) -> None:
    (folder / "memstack.yaml").write_text(f"vector_store: {{path: {json.dumps(str(store))}}}\n", encoding="utf-8")


@pytest.fixture
def alex() -> str:
    """A user whom no other test knows."""
    return f"alex-{uuid.uuid4()}"


@pytest.fixture
def run() -> Runner:
    """``run("search", "tea", "--user", "alex")`` in this process."""

    def invoke(*arguments: str, stdin: str | bytes | None = None) -> Run:
        done = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="memstack")
        return Run(done.exit_code, done.stdout, done.stderr)

    return invoke


@pytest.fixture
def spawn() -> Runner:
    """The same as a process of its own."""

    def invoke(*arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Run:
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
            timeout=120,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return invoke
