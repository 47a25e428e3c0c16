"""What the wire-level servers share: real HTTP on 127.0.0.1, a log of what was received, and faults on demand.

>>> with OpenAIServer() as server:
...     server.fail(Fault.status(429, retry_after=1), times=2, path="/v1/embeddings")
...     ...  # two answers of 429, then the server is well again
...     [request.status for request in server.requests]
"""

from __future__ import annotations

import json
import logging
import math
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, cast
from urllib.parse import urlsplit

from memstack.errors import describe

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Answer", "Fault", "Headers", "Task", "WireRequest", "WireServer"]

Task = Literal["chat", "embed", "other"]

_HOST: Final = "127.0.0.1"
_SECRET_HEADERS: Final = frozenset({"api-key", "authorization", "cookie", "proxy-authorization", "x-api-key"})
_STATUSES: Final = range(HTTPStatus.BAD_REQUEST, 600)
_log: Final = logging.getLogger(__name__)

# -- faults ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. Made by the class methods; handed to :meth:`WireServer.fail`.

    Attributes:
        kind: the name of the class method that made it.
        task: the endpoints that it can happen to (``"chat"``, ``"embed"``); None: all.
    """

    kind: str
    task: Task | None = None
    code: int = 0
    retry_after: float | str | None = None
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    seconds: float = 0.0
    style: str = ""
    text: str = field(default="", repr=False)
    dimensions: int | None = None
    missing: int = 0

    # -- of the transport: whatever was asked ----------------------------------------------------

    @classmethod
    def status(
        cls, code: int, *, retry_after: float | str | None = None, body: str | Mapping[str, Any] | None = None
    ) -> Fault:
        """The request is answered with an error status, and the body that the real server sends with it.

        Args:
            code: 400 to 599. 502 and 504 come with an HTML page, as from a proxy before the server.
            retry_after: seconds, or a text to send as it is (an HTTP date). A fraction of a second is rounded up in
                ``Retry-After``, which knows whole seconds only; OpenAI's ``retry-after-ms`` has it exactly.
            body: another body than the usual: a mapping is sent as JSON.
        """
        if code not in _STATUSES:
            raise ValueError(f"a status of {code} is no error: 400 to 599 are")
        if isinstance(retry_after, (int, float)) and not (math.isfinite(retry_after) and retry_after >= 0):
            raise ValueError("retry_after: a number of seconds from 0 on, or a text")
        if body is None:
            return cls("status", code=code, retry_after=retry_after)
        if isinstance(body, str):
            kind = "text/html" if body.lstrip().startswith("<") else "text/plain; charset=utf-8"
            return cls("status", code=code, retry_after=retry_after, body=body.encode(), content_type=kind)
        return cls("status", code=code, retry_after=retry_after, body=json.dumps(body).encode())

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """The right answer, after a wait. Stopping the server ends the wait."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError("slow: a number of seconds from 0 on")
        return cls("slow", seconds=seconds)

    @classmethod
    def cut(cls) -> Fault:
        """The connection is closed before there is any answer."""
        return cls("cut")

    @classmethod
    def cut_midway(cls, *, clean: bool = False) -> Fault:
        """The connection is closed in the middle of the right answer: half of the body, half of the stream.

        Args:
            clean: HTTP does not show it, as behind a proxy that gave up: the half is declared to be all.
        """
        return cls("cut_midway", style="clean" if clean else "")

    @classmethod
    def malformed_json(cls, where: Literal["body", "answer"] = "body") -> Fault:
        """JSON that ends in the middle.

        Args:
            where: ``"body"``: that of the HTTP response, whose length and status are in order. ``"answer"``: what the
                chat model says, inside a response that is in order and names a natural end.
        """
        if where == "answer":
            return cls("malformed_json", task="chat", style="answer")
        return cls("malformed_json", style="body")

    # -- of a chat model -------------------------------------------------------------------------

    @classmethod
    def answer(cls, text: str) -> Fault:
        """The chat model says exactly this, whatever was asked and in whatever format: ``""`` is one of the worst."""
        return cls("answer", task="chat", text=text)

    @classmethod
    def prose(cls, style: Literal["around", "fenced", "instead"] = "around") -> Fault:
        """The chat model talks: around the JSON, around a code fence with the JSON, or instead of it."""
        return cls("prose", task="chat", style=style)

    @classmethod
    def old_shape(cls, shape: Literal["facts", "strings"] = "facts") -> Fault:
        """The chat model answers in a layout of older prompts: ``{"facts": ["…"]}`` or ``{"memory": ["…"]}``."""
        return cls("old_shape", task="chat", style=shape)

    @classmethod
    def length(cls) -> Fault:
        """The chat model's answer ends in the middle, at the limit of tokens, and the response says so."""
        return cls("length", task="chat")

    @classmethod
    def refusal(cls, style: Literal["refusal", "content_filter"] = "refusal") -> Fault:
        """The chat model refuses to answer, or a filter takes the answer away. Ollama has no such responses."""
        return cls("refusal", task="chat", style=style)

    # -- of a stream -----------------------------------------------------------------------------

    @classmethod
    def stream_error(cls, text: str) -> Fault:
        """A stream that began well goes on with an error in the middle, and ends. Only Ollama's server streams here.

        Args:
            text: the error; what the real server says of a model that is in no library is ``pull model manifest: file
                does not exist``.
        """
        return cls("stream_error", text=text)

    # -- of an embedding model -------------------------------------------------------------------

    @classmethod
    def wrong_dimensions(cls, dimensions: int | None = None) -> Fault:
        """Vectors of another length than the model's: of half of it, or of the one given."""
        if dimensions is not None and dimensions < 1:
            raise ValueError("wrong_dimensions: at least 1")
        return cls("wrong_dimensions", task="embed", dimensions=dimensions)

    @classmethod
    def fewer_vectors(cls, missing: int = 1) -> Fault:
        """Fewer vectors than texts: the last ones are missing."""
        if missing < 1:
            raise ValueError("fewer_vectors: at least 1 has to be missing")
        return cls("fewer_vectors", task="embed", missing=missing)

    # -- what the servers do with it -------------------------------------------------------------

    def bend(self, vectors: list[list[float]]) -> list[list[float]]:
        """The vectors as this fault leaves them."""
        if self.kind == "fewer_vectors":
            return vectors[: max(0, len(vectors) - self.missing)]
        if self.kind == "wrong_dimensions" and vectors:
            wanted = self.dimensions if self.dimensions is not None else max(1, len(vectors[0]) // 2)
            return [(vector * (wanted // len(vector) + 1))[:wanted] for vector in vectors]
        return vectors


@dataclass(eq=False)
class _Pending:
    """A fault that waits for its requests; `left` None: for all of them."""

    fault: Fault
    left: int | None
    path: str | None
    after: int

    def meets(self, path: str, task: Task | None) -> bool:
        return (
            self.left != 0
            and (self.path is None or self.path == path)
            and (self.fault.task is None or self.fault.task == task)
        )


# -- what comes in, what goes out ------------------------------------------------------------


class Headers(Mapping[str, str]):
    """HTTP headers by name, in any case. Their representation shows no key and no cookie."""

    def __init__(self, items: Mapping[str, str]) -> None:
        self._items = {name.lower(): value for name, value in items.items()}

    def __getitem__(self, name: str) -> str:
        return self._items[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        shown = {name: "***" if name in _SECRET_HEADERS else value for name, value in self._items.items()}
        return f"Headers({shown!r})"


@dataclass(eq=False)
class WireRequest:
    """A request as it was received.

    Attributes:
        method: the HTTP method.
        path: the path, without the query.
        query: the query, as sent.
        headers: by name, in any case.
        body: as sent.
        status: what it was answered with; None as long as it was not, or where the connection was cut instead.
        fault: the fault that it met.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    status: int | None = None
    fault: Fault | None = None

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        met = f", {self.fault.kind}" if self.fault is not None else ""
        return f"<{self.method} {self.path}: {self.status}{met}, {len(self.body)} bytes>"


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        lines: the parts of a stream; None: the body is sent whole.
        cut: it ends in the middle, and the connection with it.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    lines: tuple[bytes, ...] | None = None
    cut: bool = False

    @classmethod
    def of(cls, value: Any, status: int = HTTPStatus.OK) -> Answer:
        """A value as JSON."""
        return cls(status, json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))

    def half(self) -> Answer:
        """The first half of it, as if that were all."""
        if self.lines is None:
            return replace(self, body=self.body[: len(self.body) // 2])
        return replace(self, lines=self.lines[: len(self.lines) // 2])

    def ending_with(self, value: Any) -> Answer:
        """The first half of a stream, and a line after it."""
        return replace(self, lines=(*(self.half().lines or ()), json.dumps(value).encode() + b"\n"))

    def malformed(self) -> Answer:
        """The same, with JSON that ends in the middle."""
        if self.lines is None:
            return replace(self, body=self.body[: len(self.body) * 2 // 3])
        middle = len(self.lines) // 2
        line = self.lines[middle]
        return replace(
            self, lines=(*self.lines[:middle], line[: len(line) * 2 // 3] + b"\n", *self.lines[middle + 1 :])
        )


# -- the server ------------------------------------------------------------------------------


class WireServer:
    """The base of the servers: a thread that listens on a free port of 127.0.0.1, from `start` to `stop`.

    A context manager; it can be started again after it was stopped, on the port that it had: a server that goes away
    and comes back. Everything may be called from any thread.

    A subclass says what the endpoints are (`endpoint`), what they answer (`respond`), and what the body of an error is
    (`refusal`).

    Args:
        port: the port to listen on; 0: any free one.
    """

    def __init__(self, *, port: int = 0) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._listener: _Listener | None = None
        self._stopping = threading.Event()
        self._requests: list[WireRequest] = []
        self._faults: list[_Pending] = []

    # -- what a subclass says --------------------------------------------------------------------

    lacks: ClassVar[frozenset[str]] = frozenset()
    """Kinds of faults that its protocol has no words for."""

    def endpoint(self, path: str) -> Task | None:
        """What an endpoint is for; None where there is no such endpoint."""
        raise NotImplementedError

    def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
        """The answer to a request, as a fault of the model leaves it."""
        raise NotImplementedError

    def refusal(self, status: int, request: WireRequest, retry_after: float | str | None) -> Answer:
        """What the real server says with an error status that has nothing to do with the request."""
        raise NotImplementedError

    # -- its life --------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen."""
        if self._listener is not None:
            raise RuntimeError("the server is running already")
        self._stopping.clear()
        self._listener = _Listener(self, self._port)
        self._port = self._listener.server_port
        return self

    def stop(self) -> None:
        """End every connection, and stop listening. What was received can still be looked at."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._stopping.set()
            listener.end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = f"127.0.0.1:{self._port}" if self._port else "not started"
        return f"<{type(self).__name__} {where}, {'running' if self._listener is not None else 'stopped'}>"

    @property
    def url(self) -> str:
        """Where it listens: ``http://127.0.0.1:54321``."""
        if not self._port:
            raise RuntimeError("the server was never started: it has no address yet")
        return f"http://{_HOST}:{self._port}"

    # -- what it received ------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[WireRequest, ...]:
        """What was received, in order. Neither keys nor bodies show in its representation."""
        with self._lock:
            return tuple(self._requests)

    def forget(self) -> None:
        """Empty the log of what was received."""
        with self._lock:
            self._requests.clear()

    # -- what goes wrong -------------------------------------------------------------------------

    def fail(self, fault: Fault, *, times: int | None = 1, path: str | None = None, after: int = 0) -> None:
        """Let something go wrong with the next requests that it can happen to.

        Each request meets one fault at most: the first that waits for it. A fault of the model (of what it says, of its
        vectors) waits for requests that the server would have answered with 200; the others come before anything of the
        request is looked at, except `cut_midway` and `malformed_json`, which also spoil the answer that is on its way.

        Args:
            fault: what.
            times: how many requests meet it; None: all, until `heal`.
            path: only those to this endpoint.
            after: how many of them are spared first.
        """
        given: object = fault
        if not isinstance(given, Fault):
            raise TypeError(f"fail takes a Fault, not {describe(given)}: as in Fault.status(429) or Fault.slow(5)")
        if (times is not None and times < 1) or after < 0:
            raise ValueError("times: at least 1, or None; after: at least 0")
        if fault.kind in self.lacks:
            raise ValueError(f"{fault.kind} cannot happen to {type(self).__name__}: its protocol has no such thing")
        if path is not None:
            task = self.endpoint(path)
            if task is None:
                raise ValueError(f"{type(self).__name__} has no endpoint {path}")
            if fault.task not in (None, task):
                raise ValueError(f"{fault.kind} cannot happen to {path}")
        with self._lock:
            self._faults.append(_Pending(fault, times, path, after))

    def heal(self) -> None:
        """Nothing more goes wrong."""
        with self._lock:
            self._faults.clear()

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults that still wait for requests."""
        with self._lock:
            return tuple(pending.fault for pending in self._faults if pending.left != 0)

    def _next(self, request: WireRequest) -> _Pending | None:
        task = self.endpoint(request.path)
        with self._lock:
            for pending in self._faults:
                if not pending.meets(request.path, task):
                    continue
                if pending.after:
                    pending.after -= 1
                    continue
                if pending.left is not None:
                    pending.left -= 1
                request.fault = pending.fault
                return pending
        return None

    def _put_back(self, request: WireRequest, pending: _Pending) -> None:
        with self._lock:
            request.fault = None
            if pending.left is not None:
                pending.left += 1

    # -- one request -----------------------------------------------------------------------------

    def exchange(self, request: WireRequest) -> Answer | None:
        """What goes out for what came in; None: nothing, and the connection is closed."""
        with self._lock:
            self._requests.append(request)
        pending = self._next(request)
        fault = pending.fault if pending is not None else None
        answer = self._before(request, fault)
        if answer is None and (fault is None or fault.kind != "cut"):
            answer = self._safely(request, fault)
            if fault is not None and pending is not None:
                if fault.kind == "cut_midway":
                    answer = answer.half() if fault.style == "clean" else replace(answer, cut=True)
                elif fault.kind == "malformed_json" and fault.style == "body":
                    answer = answer.malformed()
                elif fault.kind == "stream_error" and answer.lines is not None:
                    answer = answer.ending_with({"error": fault.text})
                elif fault.task is not None and answer.status != HTTPStatus.OK:
                    self._put_back(request, pending)
        request.status = None if answer is None else answer.status
        return answer

    def _before(self, request: WireRequest, fault: Fault | None) -> Answer | None:
        """What a fault answers in place of the endpoint."""
        if fault is None:
            return None
        if fault.kind == "slow":
            self._stopping.wait(fault.seconds)
        if fault.kind != "status":
            return None
        if fault.body is None:
            answer = self.refusal(fault.code, request, fault.retry_after)
        else:
            answer = Answer(fault.code, fault.body, fault.content_type)
        return replace(answer, headers={**answer.headers, **self.retry_headers(fault.retry_after)})

    def retry_headers(self, after: float | str | None) -> dict[str, str]:
        """The headers that say when to try again."""
        if after is None:
            return {}
        return {"Retry-After": after if isinstance(after, str) else str(math.ceil(after))}

    def _safely(self, request: WireRequest, fault: Fault | None) -> Answer:
        try:
            return self.respond(request, fault)
        except Exception as error:  # noqa: BLE001  # what is wrong here must not look like something of the client
            _log.exception("%r failed on %r", self, request)
            text = f"{type(self).__name__} failed, which is a bug of memstack.testing: {type(error).__name__}: {error}"
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, text.encode(), "text/plain; charset=utf-8")


class _Listener(ThreadingHTTPServer):
    """The socket of a server, and the threads of its connections, all of which end with it."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, wire: WireServer, port: int) -> None:
        self.wire = wire
        self._guard = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__((_HOST, port), _Handler)
        self._loop = threading.Thread(target=self.serve_forever, args=(0.02,), name=type(wire).__name__, daemon=True)
        self._loop.start()

    def server_bind(self) -> None:
        """Bind, and look no name up: ``HTTPServer`` asks the resolver for its own."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread that is known."""
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        with self._guard:
            self._connections[thread] = request
        thread.start()

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._connections.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # named by the base class
        """A client that went away is no error of the server."""
        _log.debug("a connection from %s ended early", client_address, exc_info=True)

    def end(self) -> None:
        """Stop listening, close the connections, wait for the threads."""
        self.shutdown()
        self._loop.join()
        self.server_close()
        with self._guard:
            open_now = dict(self._connections)
        for connection in open_now.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in open_now:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with connections that stay open."""

    protocol_version = "HTTP/1.1"
    server_version = "memstack-testing"
    sys_version = ""
    disable_nagle_algorithm = True

    def _any(self) -> None:
        if "transfer-encoding" in self.headers:
            self.close_connection = True
            self._send(Answer(HTTPStatus.LENGTH_REQUIRED, b"memstack.testing reads bodies with a Content-Length only"))
            return
        target = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = Headers({name: str(value) for name, value in self.headers.items()})
        wire = cast("_Listener", self.server).wire
        answer = wire.exchange(WireRequest(self.command, target.path, target.query, headers, body))
        if answer is None or answer.cut:
            self.close_connection = True
        if answer is not None:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _any  # noqa: N815  # named by the base class

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        sent = answer.half() if answer.cut else answer
        if sent.lines is None:
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else sent.body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in sent.lines:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        if not answer.cut:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # named by the base class
        """Keep quiet: the log is `requests`."""
