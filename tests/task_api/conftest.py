"""The example application, served by a real uvicorn."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from pydantic import SecretStr

from examples.task_api.tokens import make_token
from memstack.testing.contract import Backend
from memstack.testing.servers import free_port

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SECRET: Final = "a secret of the tests, of 32 characters and more"
_PATIENCE: Final = 180.0  # seconds: a machine may be busy


def token_of(user: str, *, secret: str = SECRET, valid_for: timedelta = timedelta(hours=1)) -> str:
    return make_token(user, SecretStr(secret), valid_for=valid_for)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str
    folder: Path

    def client(self, user: str | None = None) -> httpx.Client:
        headers = {} if user is None else {"Authorization": f"Bearer {token_of(user)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


def command(port: int) -> list[str]:
    """The command of the README."""
    served = ["--app-dir", str(EXAMPLES), "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-W", "error", "-m", "uvicorn", "task_api.main:app", *served]


@contextmanager
def serving(folder: Path, sections: Mapping[str, Any]) -> Iterator[Server]:
    """Serve a folder until the block ends."""
    config = folder / "memory.yaml"
    config.write_text(yaml.safe_dump({**sections, "offline": True}), encoding="utf-8")
    environment = {
        **os.environ,
        "TASK_API_SECRET": SECRET,
        "TASK_API_DATABASE": str(folder / "tasks.db"),
        "TASK_API_MEMORY": str(config),
    }
    port = free_port()
    log = folder / "server.log"
    with log.open("ab") as out:
        running = subprocess.Popen(command(port), stdout=out, stderr=out, cwd=folder, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, running, log)
        yield Server(url, folder)
    finally:
        running.terminate()
        try:
            code = running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
    assert code in (0, -15), log.read_text(errors="replace")[-2000:]


def _wait(url: str, running: subprocess.Popen[bytes], log: Path) -> None:
    patience = time.monotonic() + _PATIENCE
    while running.poll() is None and time.monotonic() < patience:
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the server does not answer; its log ends:\n{log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of a module share: each has users of its own."""
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, backend.config(folder)) as running:
        yield running
