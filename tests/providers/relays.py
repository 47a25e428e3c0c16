"""What can stand before a model server: an HTTP proxy, and TLS with the certificate of a CA that nobody else knows."""

from __future__ import annotations

import base64
import socket
import ssl
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

HERE: Final = Path(__file__).parent / "certificates"
CA: Final = HERE / "ca.pem"
"""The CA that signed the certificate of 127.0.0.1 and localhost; both are good until 2126."""
# Of the certificate for 127.0.0.1 alone, which nobody trusts but these tests.
_KEY: Final = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglPAUAF2n9wSq5+g+v4AlmtisaGMTszB/uoUlM8sYHDihRANC"
    "AASIBF3qgs/K+3Qh+uick1fUx099mC1C5n2QS9thIMDKWuBxQ3ICnXQI1oF/Ywu9/shpPWIpIRZdEtTFi0wBmwFU"
)
_DONE: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Relay:
    """Listens on 127.0.0.1 and passes on what comes, a thread for each direction.

    Args:
        tls: whether it is spoken to by TLS.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.TemporaryDirectory() as folder:
                key = Path(folder) / "key.pem"
                key.write_text(
                    "-----BEGIN {0}-----\n{1}\n-----END {0}-----\n".format("PRIVATE KEY", _KEY), encoding="ascii"
                )
                self._tls.load_cert_chain(HERE / "server.pem", key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def passed_on(self, client: socket.socket) -> socket.socket | None:
        """The connection to whom it is passed on; None where the client has its answer."""
        raise NotImplementedError

    def _start(self, work: object, *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        self._open.append(client)
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                self._open.append(client)
            server = self.passed_on(client)
        except OSError:
            server = None
        if server is None:
            client.close()
            return
        self._open.append(server)
        self._start(_pump, server, client)
        _pump(client, server)


class TLS(Relay):
    """A server on this machine, by TLS.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        super().__init__(tls=True)
        self._target = port

    def passed_on(self, client: socket.socket) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._target))


class Proxy(Relay):
    """An HTTP proxy (RFC 9110, 9.3.6): ``CONNECT``, and requests of absolute form.

    Args:
        user: ``user:password`` that it asks for; None: nobody is asked.
        tls: whether it is spoken to by TLS.

    Attributes:
        asked: the first line of each request that came.
        status: what every request is refused with; None for none.
    """

    def __init__(self, user: str | None = None, *, tls: bool = False) -> None:
        super().__init__(tls=tls)
        self._token = None if user is None else f"Basic {base64.b64encode(user.encode()).decode()}"
        self.asked: list[str] = []
        self.status: int | None = None

    def passed_on(self, client: socket.socket) -> socket.socket | None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(1)
            if not part:
                return None
            head += part
        lines = head.decode("latin-1").rstrip().split("\r\n")
        self.asked.append(lines[0])
        method, target, version = lines[0].split(" ")
        headers = [line for line in lines[1:] if not line.lower().startswith("proxy-")]
        token = next((line.partition(": ")[2] for line in lines if line.lower().startswith("proxy-auth")), None)
        status = 407 if self._token is not None and token != self._token else self.status
        if status is not None:
            client.sendall(f"HTTP/1.1 {status} Refused here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return None
        place = urlsplit(f"//{target}" if method == "CONNECT" else target)
        server = socket.create_connection((place.hostname, place.port or 80))
        if method == "CONNECT":
            client.sendall(_DONE)
        else:
            kept = [line for line in headers if not line.lower().startswith("connection:")]
            path = target.partition("://")[2].partition("/")[2]
            request = [f"{method} /{path} {version}", *kept, "Connection: close"]
            server.sendall("\r\n".join(request).encode("latin-1") + b"\r\n\r\n")
        return server


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
