"""The embedded default keeps to itself: nothing is dialled, and nothing is written outside the configured folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Runs first in the child: an audit hook notes every connection, look-up, and file opened for writing.
AUDIT = """
import json, os, sys
dialled, written = [], []
def audit(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        dialled.append([event, repr(args[-1] if event == "socket.connect" else args[0])])
    elif event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        flags = (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if flags or isinstance(args[1], str) and set("wax+") & set(args[1]):
            written.append(os.path.abspath(os.fsdecode(args[0])))
    elif event in ("os.mkdir", "os.rename", "sqlite3.connect"):
        written.append(os.path.abspath(os.fsdecode(args[0])))
sys.addaudithook(audit)
"""
SCENARIO = """
import memstack
with memstack.open_memory({"vector_store": {"provider": "qdrant", "path": "memory"}, "offline": True}) as memory:
    alex = memory.for_user("alex")
    stored = alex.add("I prefer tea in the morning", metadata={"category": "preferences"}).stored
    assert alex.search("drinks", filters={"category": "preferences"})
    alex.update(stored[0].id, text="I prefer coffee")
    composed = memory.mem0
    composed.add("Alex works on Phoenix in Berlin", user_id="alex", infer=False)
    composed.update(stored[0].id, text="Alex prefers tea in Paris")
    assert composed.search("Phoenix in Berlin", filters={"user_id": "alex"}, top_k=1000)["results"]
    assert composed.get_all(filters={"user_id": "alex"})["results"]
    composed.delete_all(user_id="alex")
print(json.dumps({"dialled": dialled, "written": sorted(set(written))}))
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], Path, Path, str]:
    """One run in an empty home, in a network namespace without any interface where the system allows that."""
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if key in os.environ}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    cut = ["unshare", "--user", "--map-root-user", "--net"]
    allowed = (
        shutil.which("unshare") and subprocess.run([*cut, "true"], check=False, capture_output=True).returncode == 0
    )
    done = subprocess.run(
        [*(cut if allowed else []), sys.executable, "-c", AUDIT + SCENARIO],
        capture_output=True,
        text=True,
        cwd=work,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), home, work, done.stderr


def test_nothing_is_dialled(child: tuple[dict[str, list[str]], Path, Path, str]) -> None:
    """No connection and no look-up of a name, also while Mem0 is composed and used."""
    assert child[0]["dialled"] == []


def test_nothing_is_written_elsewhere(child: tuple[dict[str, list[str]], Path, Path, str]) -> None:
    """The home stays empty (no ~/.mem0, no cache), and files are opened for writing in the memory's folder alone."""
    report, home, work, _ = child
    assert list(home.iterdir()) == []
    assert [path.name for path in work.iterdir()] == ["memory"]
    outside = [path for path in report["written"] if not Path(path).is_relative_to(work) and path != os.devnull]
    assert outside == []


def test_nothing_is_said(child: tuple[dict[str, list[str]], Path, Path, str]) -> None:
    """No notice, advertisement or warning of Mem0 reaches the terminal."""
    assert child[3] == ""


def test_telemetry_that_is_on_already_is_an_error(tmp_path: Path) -> None:
    """Where Mem0 was imported first with its telemetry on, composing it is refused and says how to go on."""
    script = f"""
import os, sys
os.environ["MEM0_DIR"] = {str(tmp_path / "mem0")!r}
import posthog
posthog.Posthog.__init__ = lambda self, *args, **kwargs: None  # nothing may leave in this test either
posthog.Posthog.capture = posthog.Posthog.shutdown = lambda self, *args, **kwargs: None
import mem0
import memstack
from memstack.errors import TelemetryActive
with memstack.open_memory({{"vector_store": {{"path": "memory"}}}}) as memory:
    memory.add("tea", user_id="alex")
    try:
        memory.mem0
    except TelemetryActive as error:
        print(error)
with memstack.open_memory({{"vector_store": {{"path": "memory"}}, "telemetry": True}}) as memory:
    print(len(memory.mem0.get_all(filters={{"user_id": "alex"}})["results"]))
"""
    environment = {key: value for key, value in os.environ.items() if key != "MEM0_TELEMETRY"}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    message, count = done.stdout.splitlines()
    assert "MEM0_TELEMETRY=False" in message
    assert count == "1"


def test_telemetry_that_is_on_already_is_an_error_before_anything_is_opened(tmp_path: Path) -> None:
    """Where there is an LLM, which needs Mem0, no way to open a memory leaves a file, a variable or a guard behind."""
    script = f"""
import asyncio, os, sys
os.environ["MEM0_DIR"] = {str(tmp_path / "mem0")!r}
import posthog
posthog.Posthog.__init__ = lambda self, *args, **kwargs: None  # nothing may leave in this test either
posthog.Posthog.capture = posthog.Posthog.shutdown = lambda self, *args, **kwargs: None
from mem0.configs.base import MemoryConfig
import memstack
from memstack import compat, offline
from memstack.errors import TelemetryActive
before = dict(os.environ)
theirs = {{
    "vector_store": {{"provider": "qdrant", "config": {{"path": "memory"}}}},
    "llm": {{"provider": "openai", "config": {{"api_key": "none"}}}},
}}
ours = {{"vector_store": {{"path": "memory"}}, "llm": {{"provider": "ollama", "model": "m"}}}}
ways = [
    lambda: memstack.open_memory(theirs),
    lambda: memstack.open_memory(ours, offline=True),
    lambda: asyncio.run(memstack.open_async_memory(ours)._open()),
    lambda: compat.Memory(MemoryConfig(**theirs)),
    lambda: compat.Memory.from_config(theirs),
    lambda: compat.AsyncMemory(MemoryConfig(**theirs)),
]
for way in ways:
    try:
        way()
    except TelemetryActive as error:
        print(error)
assert dict(os.environ) == before and not offline._open
print(os.path.exists("memory"), "mem0.memory.main" in sys.modules)
with memstack.open_memory(ours, telemetry=True), memstack.open_memory({{"vector_store": {{"path": "plain"}}}}):
    print(sorted(name for name in ("memory", "plain") if os.path.exists(name)))
"""
    environment = {key: value for key, value in os.environ.items() if key != "MEM0_TELEMETRY"}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    *messages, nothing, opened = done.stdout.splitlines()
    assert len(messages) == 6
    assert set(messages) == {messages[0]}
    assert "MEM0_TELEMETRY=False" in messages[0]
    assert nothing == "False True"
    assert opened == "['memory', 'plain']"
