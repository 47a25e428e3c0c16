"""Servers for tests: real ones, on a free port, stopped at the end."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

__all__ = ["chroma_server", "free_port"]

_PATIENCE: Final = 180.0  # seconds: a machine may be busy
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # through no proxy of the environment


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def chroma_server(folder: Path, *, port: int | None = None) -> Iterator[dict[str, Any]]:
    """A real Chroma server (``chroma run``).

    Args:
        folder: where it keeps its data.
        port: where it listens. Default: a free port.

    Yields:
        The options of a ``vector_store`` section that reach it: mode, host and port.

    Raises:
        RuntimeError: it does not answer within three minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port() if port is None else port
    code = "from chromadb.cli.cli import app; app()"
    command = [sys.executable, "-c", code, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)  # noqa: S603  # our own command
    try:
        _wait(f"http://127.0.0.1:{port}/api/v2/heartbeat", server, folder / "server.log")
        yield {"mode": "server", "host": "127.0.0.1", "port": port}
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    patience = time.monotonic() + _PATIENCE
    while time.monotonic() < patience:
        if server.poll() is not None:
            break
        try:
            with _DIRECT.open(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"the server does not answer; its log ends: {log.read_text(errors='replace')[-500:]}")
