"""Errors: one line or one JSON object on standard error, and a documented exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memstack.errors import (
    ConfigError,
    HistoryError,
    InvalidInput,
    MemoryNotFound,
    MemstackError,
    ProviderError,
    ScopeError,
    StoreError,
)
from memstack.gateway import MemoryGateway
from tests.cli.conftest import COMMAND, Runner

NOWHERE = "4d7ffcdb-921b-4ee3-8310-e01ac76a8993"


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["search"], 2, "UsageError"),
        (["serch", "tea"], 2, "UsageError"),
        (["search", "tea", "--limit", "many"], 2, "UsageError"),
        (["search", "tea", "--colour", "red"], 2, "UsageError"),
        (["search", "tea"], 2, "ScopeError"),
        (["search", "tea", "--user", " "], 2, "ScopeError"),
        (["search", "tea", "--user", "alex", "--limit", "0"], 2, "InvalidInput"),
        (["search", "tea", "--user", "alex", "--filter", "{"], 2, "InvalidInput"),
        (["search", "tea", "--user", "alex", "--filter", "[]"], 2, "InvalidInput"),
        (["search", "tea", "--user", "alex", "--filter", '{"a": {"$gte": 1}}'], 2, "FilterError"),
        (["search", "tea", "--user", "alex", "--filter", '{"OR": [{"user_id": "sam"}]}'], 2, "ScopeError"),
        (["list", "--user", "alex", "--order", "sideways"], 2, "InvalidInput"),
        (["list", "--user", "alex", "--cursor", "x"], 2, "CursorError"),
        (["list", "--user", "alex", "--cursor", "x", "--all"], 2, "InvalidInput"),
        (["add", " ", "--user", "alex"], 2, "InvalidInput"),
        (["add", "tea", "--user", "alex", "--role", "king"], 2, "InvalidInput"),
        (["add", "tea", "--user", "alex", "--metadata", '{"user_id": "sam"}'], 2, "MetadataError"),
        (["add", "tea", "--user", "alex", "--metadata", '{"category": "a"}', "--category", "b"], 2, "InvalidInput"),
        (["add", "tea", "--user", "alex", "--infer"], 2, "LLMNotConfigured"),
        (["show", "12"], 2, "InvalidInput"),
        (["show", NOWHERE], 4, "MemoryNotFound"),
        (["history", NOWHERE], 4, "MemoryNotFound"),
        (["update", NOWHERE, "--text", "tea"], 4, "MemoryNotFound"),
        (["update", NOWHERE], 2, "InvalidInput"),
        (["delete", NOWHERE], 4, "MemoryNotFound"),
        (["delete"], 2, "InvalidInput"),
        (["delete", NOWHERE, "--all"], 2, "InvalidInput"),
        (["delete", "--all"], 2, "ScopeError"),
        (["delete", "--all", "--user", "alex"], 2, "InvalidInput"),
        (["delete", NOWHERE, "--filter", '{"a": 1}'], 2, "InvalidInput"),
        (["import", "missing.jsonl"], 2, "InvalidInput"),
        (["import", "."], 2, "InvalidInput"),
        (["export", "."], 2, "InvalidInput"),
        (["export", ""], 2, "InvalidInput"),
        (["export", "missing/all.jsonl"], 2, "InvalidInput"),
        (["import", "memstack.yaml", "--role", "king"], 2, "InvalidInput"),
        (["import", "memstack.yaml", "--batch-size", "0"], 2, "InvalidInput"),
        (["--config", "missing.yaml", "stats"], 2, "ConfigError"),
        (["--set", "offlin=true", "stats"], 2, "UnknownName"),
        (["--set", "offline", "stats"], 2, "InvalidInput"),
        (["--set", "offline.x=1", "--set", "offline=1", "stats"], 2, "InvalidInput"),
        (["--set", "offline=1", "--set", "offline.x=1", "stats"], 2, "InvalidInput"),
        (["demo", "--set", "offline=true"], 2, "InvalidInput"),
        (["init", "other.yaml", "--set", "offline=true"], 2, "InvalidInput"),
        (["config", "schema", "--config", "memstack.yaml"], 2, "InvalidInput"),
        (["migrate", "--from", "a.yaml", "--to", "b.yaml", "--config", "memstack.yaml"], 2, "InvalidInput"),
        (["list", "--user", "alex", "--all", "--limit", "5"], 2, "InvalidInput"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_json_object(run: Runner, arguments: list[str], code: int, kind: str) -> None:
    """With ``--json``, wrong usage and our errors are one JSON object on standard error, and nothing on the other."""
    done = run("--json", *arguments)
    assert (done.code, done.error["type"]) == (code, kind)
    assert done.error["message"]
    assert not done.out


def test_a_limit_is_told_in_words_of_the_command_line(run: Runner) -> None:
    """The way out is an option, not a method."""
    for command, hint in ((["search", "tea"], "10,000."), (["list"], "10,000; --all has no limit.")):
        message = run("--json", *command, "-n", "0", "--user", "alex").error["message"]
        assert message.startswith("--limit: is 0. ")
        assert message.endswith(hint)


def test_an_error_is_one_line(run: Runner) -> None:
    """For people an error is one line without a traceback, however narrow the terminal."""
    done = run("show", NOWHERE)
    assert done.err == f"Error: no memory has the id {NOWHERE!r}\n"
    assert not done.out


def test_debug_shows_the_traceback(run: Runner) -> None:
    """``--debug`` shows where an error came from, before or after the command."""
    for arguments in (["--debug", "show", NOWHERE], ["show", NOWHERE, "--debug"]):
        done = run(*arguments)
        assert done.code == 4
        assert "Traceback" in done.err
        assert done.err.endswith(f"Error: no memory has the id {NOWHERE!r}\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("store", "failed"), 1),
        (HistoryError("history.db", "failed"), 1),
        (ProviderError("openai", "model", "failed"), 1),
        (ConfigError("llm", "is wrong"), 2),
        (InvalidInput("text", "is wrong", "Correct it."), 2),
        (ScopeError("scope", "is wrong", "Correct it."), 2),
        (MemoryNotFound(NOWHERE), 4),
        (RuntimeError("never thought of"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_kind_of_error_has_its_exit_code(
    run: Runner, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    """Exit codes follow from the kind of error; one that is none of ours is told as a bug, without a traceback."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(MemoryGateway, "stats", fail)
    done = run("stats")
    assert done.code == code
    assert "Traceback" not in done.err
    assert ("a bug of memstack" in done.err) == (not isinstance(error, MemstackError))


def test_a_locked_store_is_told(spawn: Runner) -> None:
    """A store that another process (here: this one) holds ends in exit code 1 and the ways out."""
    done = spawn("--json", "stats")
    assert done.code == 1
    assert done.error["type"] == "StoreLocked"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_ctrl_c_ends_with_130(store: Path) -> None:
    """An interrupt ends a command at once, with exit code 130 and no traceback."""
    with subprocess.Popen(
        [*COMMAND, "import", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has interrupts ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stdin is not None
        process.stdin.write('{"user_id": "alex", "content": "tea"}\n')
        process.stdin.flush()  # it waits for more
        deadline = time.monotonic() + 60
        while not (store / "history.db").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Stopped before the end: interrupted" in out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.usefixtures("store")
def test_a_closed_pipe_ends_quietly(run: Runner, alex: str) -> None:
    """Where the reader goes before the end (``| head``), nothing is said about it."""
    assert run("add", *(f"{'tea ' * 100}{i}" for i in range(300)), "--user", alex).code == 0
    for arguments in (["list", "--all", "--user", alex], ["--json", "list", "--all", "--user", alex]):
        with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141


def test_leaving_takes_no_look_for_garbage(tmp_path: Path) -> None:
    """When Python ends, nothing is left for its collector to look through, which takes longer than a search."""
    script = (
        "import atexit, gc, sys\n"
        "from memstack.__main__ import main\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 10_000, gc.get_count()[0] < 1_000))\n"
        "sys.argv = ['memstack', '--version']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "True True")
