"""``offline: true`` at run time: while such a memory is open, an attempt to leave the machine is a typed error."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from memstack.errors import ConfigError, OfflineViolation
from memstack.offline import VARIABLES, Guard
from memstack.testing import OllamaServer

OUTSIDE = "192.0.2.1"  # kept for documentation (RFC 5737): nobody is there


def _udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.sendto(b"x", (OUTSIDE, 9))


def _dial(address: str | bytearray, family: socket.AddressFamily = socket.AF_INET) -> None:
    with socket.socket(family) as plain:
        plain.settimeout(0.05)
        plain.connect((address, 9))


def _dial_ex() -> None:
    with socket.socket() as plain:
        plain.connect_ex((OUTSIDE, 9))


def _sendmsg() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.sendmsg([b"x"], [], 0, (OUTSIDE, 9))


LEAVING: dict[str, Callable[[], Any]] = {
    "connect": lambda: _dial(OUTSIDE),
    "connect_ex": _dial_ex,
    "udp": _udp,
    "look-up": lambda: socket.getaddrinfo("example.com", 443),
    "look-up of bytes": lambda: socket.getaddrinfo(b"example.com", 443),
    "look-up of an address": lambda: socket.getnameinfo((OUTSIDE, 443), 0),
    "gethostbyname": lambda: socket.gethostbyname("example.com"),
    "gethostbyname of bytes": lambda: socket.gethostbyname(bytearray(b"example.com")),  # type: ignore[arg-type]
    "gethostbyaddr": lambda: socket.gethostbyaddr(OUTSIDE),
    "sendmsg": _sendmsg,
    "connect of bytes": lambda: _dial(bytearray(OUTSIDE.encode())),
    "mapped": lambda: _dial(f"::ffff:{OUTSIDE}", socket.AF_INET6),
}


@pytest.fixture
def section(tmp_path: Path) -> dict[str, Any]:
    return {"vector_store": {"path": str(tmp_path / "memory")}, "offline": True}


@pytest.fixture
def guarded() -> Iterator[None]:
    guard = Guard("process")
    yield
    guard.leave()


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.usefixtures("guarded")
def test_leaving_is_refused(name: str) -> None:
    """A connection, a datagram, a look-up of a name: each is an OfflineViolation that names whom it was for."""
    with pytest.raises(OfflineViolation, match=r"192\.0\.2\.1|example\.com") as caught:
        LEAVING[name]()
    assert "offline: false" in str(caught.value)


@pytest.mark.usefixtures("guarded")
def test_this_machine_is_not_left(tmp_path: Path) -> None:
    """Loopback, by name or number, and Unix sockets are as before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for host in ("127.0.0.1", "localhost", "0.0.0.0"):  # noqa: S104  # dialled, not bound
            socket.create_connection((host, listener.getsockname()[1]), timeout=5).close()
    assert socket.getaddrinfo("localhost", 80)
    place = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(place)
        server.listen()
        client.connect(place)


def test_it_lasts_while_a_memory_is_open(section: dict[str, Any], tmp_path: Path) -> None:
    """The guard is up from the first such memory that is opened to the last that is closed, and libraries are told."""
    before = dict(os.environ)
    with open_memory(section) as memory:
        with open_memory(section, vector_store={"path": str(tmp_path / "other")}):
            assert {name: os.environ[name] for name in VARIABLES} == VARIABLES
        assert memory.add("tea", user_id="alex").stored
        with pytest.raises(OfflineViolation):
            _dial(OUTSIDE)
    assert dict(os.environ) == before
    with pytest.raises(OSError):  # a time-out or no route, and none of ours
        _dial(OUTSIDE)


def test_a_memory_that_cannot_be_opened_leaves_no_guard(section: dict[str, Any]) -> None:
    """Where opening fails, the guard goes down again."""
    with pytest.raises(ConfigError):
        open_memory(section, vector_store={"embedding_dims": 7})
    assert "HF_HUB_OFFLINE" not in os.environ


def test_other_threads_are_guarded_too(section: dict[str, Any]) -> None:
    """A thread that a library started cannot leave either."""
    caught: list[BaseException] = []

    def leave() -> None:
        try:
            socket.getaddrinfo("example.com", 443)
        except OfflineViolation as error:
            caught.append(error)

    with open_memory(section):
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_the_application_may_leave_where_it_is_told_so(
    section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `offline_guard: memory` the application goes where it likes, and the memory stays at home."""
    with open_memory(section, offline_guard="memory") as memory:
        with pytest.raises(OSError):
            _dial(OUTSIDE)

        def leaving(texts: list[str]) -> list[list[float]]:
            _dial(OUTSIDE)
            return []

        monkeypatch.setattr(memory._core.parts.embedder, "vectors", leaving)
        with pytest.raises(OfflineViolation):
            memory.add("tea", user_id="alex")


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends whoever asks to another machine."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(307)
        self.send_header("Location", f"http://{OUTSIDE}:9{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.mark.parametrize("name", ["openai", "ollama"])
def test_a_redirect_leads_nowhere(section: dict[str, Any], name: str) -> None:
    """A server of this machine that redirects to another one: the call is the typed error, tried once."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        place = {"openai": {"base_url": url}, "ollama": {"host": url}}[name]
        with pytest.raises(OfflineViolation):
            open_memory(section, embedder={"provider": name, "model": "m", **place})
        server.shutdown()


def test_offline_ollama_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file in configs/ stores, infers and finds with an Ollama server of this machine."""
    text = (Path(__file__).parents[1] / "configs" / "offline-ollama.yaml").read_text(encoding="utf-8")
    (tmp_path / "memstack.yaml").write_text(text, encoding="utf-8")
    with OllamaServer() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.host)
        with open_memory(tmp_path / "memstack.yaml") as memory:
            assert memory.add("I drink tea in the morning.", user_id="alex").stored
            assert memory.search("tea", user_id="alex")[0].text == "I drink tea in the morning."
            with pytest.raises(OfflineViolation):
                socket.getaddrinfo("example.com", 443)
    monkeypatch.setenv("OLLAMA_HOST", "http://ollama.example")
    with pytest.raises(ConfigError, match="offline"):
        open_memory(tmp_path / "memstack.yaml")
