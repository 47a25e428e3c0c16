"""Help: complete, and free of backends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import Runner

COMMANDS = (
    ["init"], ["demo"], ["doctor"], ["config"], ["config", "show"], ["config", "check"], ["config", "schema"],
    ["add"], ["search"], ["list"], ["show"], ["update"], ["delete"], ["history"], ["conflicts"],
    ["supersede"], ["confirm"], ["dismiss"], ["import"], ["export"], ["migrate"], ["erase"], ["stats"],
)  # fmt: skip
BACKENDS = {
    "mem0", "qdrant_edge", "qdrant_client", "chromadb", "openai", "ollama", "psycopg", "wordllama", "numpy",
}  # fmt: skip


def test_help_imports_no_backend() -> None:
    """No engine, model or client is imported by the help of any command."""
    script = (
        "import contextlib, json, sys\n"
        "from memstack.cli import main\n"
        f"for words in [[], *{[list(words) for words in COMMANDS]!r}]:\n"
        "    sys.argv = ['memstack', *words, '--help']\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage:") == len(COMMANDS) + 1
    assert not BACKENDS & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=" ".join)
def test_help_documents_the_exit_codes(run: Runner, words: list[str]) -> None:
    """Every help ends with the exit codes."""
    done = run(*words, "--help")
    assert done.code == 0
    assert "3 some of it failed" in " ".join(done.out.split())


def test_no_command_shows_the_help(spawn: Runner) -> None:
    """``python -m memstack`` alone is the help, and wrong usage."""
    done = spawn()
    assert done.code == 2
    assert "Usage: memstack" in done.out + done.err


def test_version(run: Runner) -> None:
    """The version is that of the package, for people and for programs."""
    import memstack

    assert run("--version").out == f"memstack {memstack.__version__}\n"
    assert run("--json", "--version").data == {"version": memstack.__version__}
