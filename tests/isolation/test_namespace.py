"""The contract where there is nothing but loopback: a network namespace, every connection traced, every file noted.

By default the core of the contract runs there; with ``MEMSTACK_TEST_NAMESPACE=whole`` all of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memstack

CONFIGS = Path(__file__).parents[2] / "configs"
WHOLE = os.environ.get("MEMSTACK_TEST_NAMESPACE") == "whole"
CORE = ["-k", "TestGateway and (search or called or awaited)", "-m", "not exhaustive"]
BUILTIN = "offline: true\nvector_store: {provider: qdrant, mode: embedded}\n"
OLLAMA = BUILTIN + "embedder: {provider: ollama, model: nomic-embed-text, host: '${OLLAMA_HOST}'}\n"

# Runs first in the child: loopback is brought up, and an audit hook notes connections, look-ups and written files.
CHILD = """
import fcntl, json, os, socket, struct, sys
with socket.socket() as plain:  # a new namespace has loopback, and it is down
    flags = struct.unpack("16sH", fcntl.ioctl(plain, 0x8913, struct.pack("16sH", b"lo", 0)))[1]
    if not flags & 1:
        fcntl.ioctl(plain, 0x8914, struct.pack("16sH", b"lo", flags | 1))
dialled, written = set(), set()
def audit(event, args):
    if event in ("socket.connect", "socket.sendto"):
        dialled.add(repr(args[1][0] if isinstance(args[1], tuple) else "unix"))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        dialled.add(repr(args[0]))
    elif event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        flags = (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if flags or isinstance(args[1], str) and set("wax+") & set(args[1]):
            written.add(os.path.abspath(os.fsdecode(args[0])))
    elif event in ("os.mkdir", "os.rename", "sqlite3.connect"):
        written.add(os.path.abspath(os.fsdecode(args[0])))
sys.addaudithook(audit)
def report(**more):
    print("REPORT" + json.dumps({"dialled": sorted(dialled), "written": sorted(written), **more}))
"""
CONTRACT = """
import pytest
from memstack.testing import OllamaServer
with OllamaServer() as server:
    os.environ["OLLAMA_HOST"] = server.host
    fixed = ["--rootdir", ".", "-c", os.devnull, "--basetemp", "tests", "-p", "no:cacheprovider", "-q"]
    quiet = ["-W", "ignore::pytest.PytestUnknownMarkWarning"]
    code = pytest.main(["--memstack-config", sys.argv[1], *fixed, *quiet, *sys.argv[2:]])
    report(code=int(code), embedded=len(server.requests))
"""
SCENARIO = """
import memstack
from memstack.testing import OllamaServer
with OllamaServer() as server:
    os.environ["OLLAMA_HOST"] = server.host
    with memstack.open_memory(sys.argv[1]) as memory:
        alex = memory.for_user("alex")
        stored = alex.add("I drink tea in the morning. My train leaves at eight.").stored
        assert [item.text for item in stored] == ["I drink tea in the morning.", "My train leaves at eight."], stored
        assert alex.search("hot drinks", limit=1)[0].id == stored[0].id
        assert memory.mem0.search("hot drinks", filters={"user_id": "alex"})["results"]
        memory.mem0.add("I work on Phoenix in Berlin.", user_id="alex")
    report(code=0, embedded=len(server.requests))
"""


def _run(work: Path, home: Path, script: str, *arguments: str) -> dict[str, Any]:
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(work), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = str(Path(memstack.__file__).parents[1])
    cut = ["unshare", "--user", "--map-root-user", "--net"]
    allowed = (
        shutil.which("unshare") and subprocess.run([*cut, "true"], check=False, capture_output=True).returncode == 0
    )
    done = subprocess.run(
        [*(cut if allowed else []), sys.executable, "-c", CHILD + script, *arguments],
        capture_output=True,
        text=True,
        cwd=work,
        env=environment,
        check=False,
    )
    reports = [line.removeprefix("REPORT") for line in done.stdout.splitlines() if line.startswith("REPORT")]
    assert reports, done.stdout[-3000:] + done.stderr[-3000:]
    report: dict[str, Any] = json.loads(reports[-1])
    assert report["code"] == 0, done.stdout.partition("REPORT")[0][-3000:] + done.stderr[-3000:]
    return report


def _check(report: dict[str, Any], work: Path, home: Path) -> None:
    assert set(report["dialled"]) <= {"'127.0.0.1'", "'unix'"}
    outside = [path for path in report["written"] if not Path(path).is_relative_to(work) and path != os.devnull]
    assert outside == []
    assert list(home.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
@pytest.mark.timeout(4 * 3600 if WHOLE else 1800)  # a busy machine takes hours for all of it
@pytest.mark.parametrize(("name", "text"), [("builtin", BUILTIN), ("ollama", OLLAMA)], ids=["builtin", "ollama"])
def test_the_contract_holds_with_nothing_but_loopback(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str
) -> None:
    """Offline, the contract passes; nobody but this machine is dialled; nothing is written but where the test said."""
    work, home = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("home")
    (work / "memstack.yaml").write_text(text, encoding="utf-8")
    report = _run(work, home, CONTRACT, "memstack.yaml", *([] if WHOLE else CORE))
    _check(report, work, home)
    assert (report["embedded"] > 0) is (name == "ollama")


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_ollama_infers_with_nothing_but_loopback(tmp_path_factory: pytest.TempPathFactory) -> None:
    """configs/offline-ollama.yaml extracts and finds there, Mem0 and all, and keeps to its folder."""
    work, home = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("home")
    shutil.copy(CONFIGS / "offline-ollama.yaml", work / "memstack.yaml")
    report = _run(work, home, SCENARIO, "memstack.yaml")
    _check(report, work, home)
    assert report["embedded"] > 0
    assert {path.name for path in work.iterdir()} == {"memstack.yaml", "memory"}
