"""Calls to model servers: deadlines, pauses, the breaker, places, batches, and what is sent along."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from memstack.config import OllamaEmbedder, OllamaLLM, OpenAIEmbedder, OpenAILLM
from memstack.errors import GatewayClosed, MemstackError, ProviderError
from memstack.providers import answers
from memstack.providers.base import Embedder
from memstack.providers.calls import Caller, CallFailed, Limits, retry_after
from memstack.providers.ollama import OllamaChat, OllamaEmbeddings
from memstack.providers.openai import OpenAIChat, OpenAIEmbeddings
from memstack.testing import Fault, OllamaServer, OpenAIServer
from memstack.testing.openai_server import OpenAIModel
from memstack.testing.wire import Answer, WireRequest
from tests.providers.conftest import Provider

TUNED = "ft:o4-mini-2025-04-16:acme::abc123"
ASK = [{"role": "user", "content": "Say something."}]


def _embedder(provider: Provider, **options: Any) -> Embedder:
    section = {**provider.embedder, **options}
    if provider.name == "openai":
        return OpenAIEmbeddings(OpenAIEmbedder.model_validate(section))
    return OllamaEmbeddings(OllamaEmbedder.model_validate(section))


def _caller(**limits: Any) -> Caller:
    given: dict[str, Any] = {
        "timeout": 5,
        "max_retries": 0,
        "concurrency": 4,
        "breaker_failures": 2,
        "breaker_pause": 0.2,
    }
    return Caller("openai", "m", Limits(**{**given, **limits}))


def _fail() -> None:
    raise CallFailed("down", retryable=True)


# -- deadlines -------------------------------------------------------------------------------


@contextmanager
def _dripping() -> Iterator[str]:
    """A server that sends a byte of its answer every tenth of a second, without end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n"
                    )
                    try:
                        while not over.wait(0.1):
                            connection.sendall(b" ")
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.close()
            thread.join(5)


@pytest.mark.parametrize("name", ["openai", "ollama"])
def test_a_call_ends_at_its_deadline(name: str) -> None:
    """A server that drips its answer is silent for no time at all: the whole call ends all the same."""
    limits: dict[str, Any] = {"timeout": 0.5, "read_timeout": 5, "max_retries": 0}
    with _dripping() as url:
        embedder = (
            OpenAIEmbeddings(OpenAIEmbedder(model="m", base_url=url, **limits))
            if name == "openai"
            else OllamaEmbeddings(OllamaEmbedder(model="m", host=url, **limits))
        )
        begun = time.monotonic()
        with pytest.raises(ProviderError, match="in time"):
            embedder.vectors(["tea"])
        assert time.monotonic() - begun < 3
        embedder.close()


# -- answers without end ---------------------------------------------------------------------


@contextmanager
def _sending(head: bytes, parts: Iterable[bytes]) -> Iterator[str]:
    """A server that answers every request with the same parts."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + head + b"\r\n")
            with suppress(OSError):  # whoever asked has heard enough
                for part in parts:
                    self.connection.sendall(part)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)


def _embeddings(name: str, url: str) -> Embedder:
    limits: dict[str, Any] = {"timeout": 30, "max_retries": 0, "dimensions": 2}
    if name == "openai":
        return OpenAIEmbeddings(OpenAIEmbedder(model="m", base_url=url, **limits))
    return OllamaEmbeddings(OllamaEmbedder(model="m", host=url, **limits))


_VECTORS = {
    "openai": b'{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[1.0,2.0]}]}',
    "ollama": b'{"model":"m","embeddings":[[1.0,2.0]]}',
}


@pytest.mark.parametrize("name", ["openai", "ollama"])
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_fills_no_memory(name: str, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read up to a length, also where a few bytes of it are unpacked to many; asking again would not help."""
    monkeypatch.setattr(answers, "LONGEST", 2**22)
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        packer = zlib.compressobj(9, wbits=31)
        for _ in range(64):
            sent += 1
            yield packer.compress(b" " * 2**20) + packer.flush(zlib.Z_SYNC_FLUSH) if packed else b" " * 2**20

    with _sending(b"Content-Encoding: gzip\r\n" if packed else b"", parts()) as url:
        embedder = _embeddings(name, url)
        with pytest.raises(ProviderError, match="longer than") as caught:
            embedder.vectors(["tea"])
        embedder.close()
    assert not caught.value.retryable
    assert packed or sent < 64


@pytest.mark.parametrize("name", ["openai", "ollama"])
@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_a_packed_answer_is_read(name: str, pieces: int) -> None:
    """In whatever pieces it comes."""
    packed = gzip.compress(_VECTORS[name])
    parts = [packed[begin : begin + pieces] for begin in range(0, len(packed), pieces)]
    with _sending(b"Content-Encoding: gzip\r\n", parts) as url:
        embedder = _embeddings(name, url)
        assert embedder.vectors(["tea"]) == [[1.0, 2.0]]
        embedder.close()


@pytest.mark.parametrize("name", ["openai", "ollama"])
def test_what_comes_behind_a_packed_answer_is_not_read(name: str) -> None:
    """The answer ends where it is told to end, whatever the server goes on to send."""
    sent: list[int] = []

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield gzip.compress(_VECTORS[name])
            for number in range(64):
                sent.append(number)
                yield b" " * 2**20

    with _sending(b"Content-Encoding: gzip\r\n", Parts()) as url:
        embedder = _embeddings(name, url)
        assert embedder.vectors(["tea"]) == [[1.0, 2.0]]
        embedder.close()
    assert max(sent, default=0) < 63


@pytest.mark.parametrize("name", ["openai", "ollama"])
@pytest.mark.parametrize(("coding", "cut"), [(b"br", 0), (b"gzip, gzip", 0), (b"gzip", 9), (b"zstd", 0)])
def test_a_packed_answer_that_cannot_be_read(name: str, coding: bytes, cut: int) -> None:
    """What is packed in another way than was asked for, or cut short, is an error, and no half of an answer."""
    packed = gzip.compress(_VECTORS[name])
    with _sending(b"Content-Encoding: " + coding + b"\r\n", [packed[: len(packed) - cut]]) as url:
        embedder = _embeddings(name, url)
        with pytest.raises(ProviderError):
            embedder.vectors(["tea"])
        embedder.close()


def test_silence_ends_at_the_deadline_too(provider: Provider) -> None:
    """What is left of the call is the longest silence, however long `read_timeout` is."""
    embedder = _embedder(provider, read_timeout=60, timeout=0.5, dimensions=256 if provider.name == "openai" else None)
    provider.server.fail(Fault.slow(20), times=None)
    begun = time.monotonic()
    with pytest.raises(ProviderError, match="in time"):
        embedder.vectors(["tea"])
    assert time.monotonic() - begun < 5
    embedder.close()


def test_a_place_is_waited_for_until_the_deadline() -> None:
    """Where all places for requests stay taken, the call ends with the option that gives more of them."""
    caller = _caller(concurrency=1, timeout=0.3)
    inside, leave = threading.Event(), threading.Event()

    def long() -> None:
        inside.set()
        leave.wait(10)

    thread = threading.Thread(target=lambda: caller.run(long))
    thread.start()
    inside.wait(10)
    with pytest.raises(ProviderError, match="concurrency"):
        caller.run(lambda: None)
    leave.set()
    thread.join()
    caller.run(lambda: None)


@pytest.mark.parametrize("fault", [Fault.slow(1), Fault.status(429, retry_after=5)], ids=["an answer", "a pause"])
def test_a_call_ends_when_its_memory_is_closed(provider: Provider, tmp_path: Path, fault: Fault) -> None:
    """A call that is waited for while the memory is closed ends as any verb does then, and nobody is asked again."""
    memory = open_memory({"vector_store": {"path": str(tmp_path / "memory")}}, embedder=provider.embedder)
    memory.add("I drink tea", user_id="alex")
    provider.server.fail(fault, times=None)
    errors: list[MemstackError] = []

    def ask() -> None:
        with pytest.raises(MemstackError) as caught:
            memory.search("hot drinks", user_id="alex")
        errors.append(caught.value)

    thread = threading.Thread(target=ask)
    asked = len(provider.server.requests)
    thread.start()
    while len(provider.server.requests) == asked:
        time.sleep(0.01)
    time.sleep(0.2)
    memory.close()
    begun = time.monotonic()
    thread.join(10)
    assert time.monotonic() - begun < 3
    assert [type(error) for error in errors] == [GatewayClosed]
    assert len(provider.server.requests) == asked + 1


@pytest.mark.parametrize("line", [b"null\n", b"[]\n", b"5\n", b"<html>\n"])
def test_a_download_of_something_else_is_told(line: bytes) -> None:
    """Lines that are no progress of a download end in a ProviderError, never a Python error."""

    class Odd(OllamaServer):
        def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
            if request.path != "/api/pull":
                return super().respond(request, fault)
            return Answer(200, content_type="application/x-ndjson", lines=(line,))

    with Odd(models=[]) as server:
        section = OllamaEmbedder(model="nomic-embed-text", host=server.host, max_retries=0, auto_pull=True)
        embedder = OllamaEmbeddings(section)
        with pytest.raises(ProviderError, match="cannot be pulled"):
            embedder.vectors(["tea"])
        embedder.close()


# -- pauses and the breaker ------------------------------------------------------------------


def test_retry_after_is_read() -> None:
    """Seconds or an HTTP date; what is neither is nothing."""
    assert retry_after("1.5") == 1.5
    assert retry_after("-3") == 0
    later = datetime.now(timezone.utc) + timedelta(seconds=60)
    assert 50 < (retry_after(format_datetime(later, usegmt=True)) or 0) <= 60
    assert [retry_after(text) for text in ("", None, "soon", "nan", "inf")] == [None] * 5
    assert retry_after("Wed, 21 Oct 2026 07:28:00 +99999999999999999999") is None


def test_the_servers_pause_is_kept(provider: Provider) -> None:
    """A 429 with Retry-After is tried again then, not sooner; where that is too late, the call ends at once."""
    embedder = _embedder(provider, dimensions=256 if provider.name == "openai" else None)
    embedder.vectors(["tea"])
    provider.server.fail(Fault.status(429, retry_after=1))
    begun = time.monotonic()
    embedder.vectors(["tea"])
    assert time.monotonic() - begun >= 1
    provider.server.fail(Fault.status(429, retry_after=3600), times=None)
    begun = time.monotonic()
    with pytest.raises(ProviderError, match="429") as caught:
        embedder.vectors(["tea"])
    assert (caught.value.attempts, caught.value.retryable) == (1, True)
    assert time.monotonic() - begun < 3
    embedder.close()


def test_an_open_breaker_lets_one_through() -> None:
    """After the pause one call is made; while it is under way and after it failed, the others are refused."""
    caller = _caller()
    for _ in range(2):
        with pytest.raises(ProviderError, match="down"):
            caller.run(_fail)
    with pytest.raises(ProviderError, match="2 calls in a row failed") as caught:
        caller.run(lambda: None)
    assert (caught.value.attempts, caught.value.retryable) == (0, True)
    assert caller.stats()["refusing"] is True
    time.sleep(0.25)
    inside: list[Callable[[], None]] = []

    def first() -> None:
        with pytest.raises(ProviderError, match="under way"):
            caller.run(lambda: None)
        inside.append(_fail)
        _fail()

    with pytest.raises(ProviderError, match="down"):
        caller.run(first)
    assert inside
    with pytest.raises(ProviderError, match="3 calls in a row failed"):
        caller.run(lambda: None)
    time.sleep(0.25)
    assert caller.run(lambda: 1) == 1
    assert caller.run(lambda: 2) == 2


def test_an_interrupted_trial_is_no_verdict() -> None:
    """Where the one call that is let through is interrupted, the next one is let through."""
    caller = _caller(breaker_failures=1)
    with pytest.raises(ProviderError):
        caller.run(_fail)
    time.sleep(0.25)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caller.run(interrupted)
    assert caller.run(lambda: 1) == 1


def test_what_is_the_callers_fault_opens_no_breaker() -> None:
    """Calls that fail for good count neither towards the breaker nor keep it shut."""
    caller = _caller()

    def refused() -> None:
        raise CallFailed("no", retryable=False)

    for _ in range(5):
        with pytest.raises(ProviderError, match="no"):
            caller.run(refused)
    assert caller.run(lambda: 1) == 1


# -- what is sent ----------------------------------------------------------------------------


def test_batches_keep_to_the_limits(provider: Provider) -> None:
    """More texts than a request takes, or longer ones, are sent in several; the vectors come in order."""
    embedder = _embedder(provider, batch_size=3)
    texts = [f"text {number}" for number in range(8)]
    vectors = embedder.vectors(texts)
    singly = [embedder.embed(text) for text in texts]
    assert vectors == [pytest.approx(vector, abs=1e-6) for vector in singly]
    if provider.name == "openai":
        provider.server.forget()
        embedder.vectors(["word " * 5000] * 2)  # 50 kB
        assert len(provider.server.requests) == 1
        wide = _embedder(provider)
        provider.server.forget()
        wide.vectors(["word " * 5000] * 15)  # 375 kB
        wide.close()
        assert len(provider.server.requests) == 2
        assert provider.server.requests[0].status == 200
    embedder.close()


def test_a_vector_of_no_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector with a NaN in it is an error, and reaches no store."""
    with OllamaServer() as server:
        embedder = OllamaEmbeddings(OllamaEmbedder(model="all-minilm", host=server.host))
        assert len(embedder.vectors(["tea"])[0]) == 384
        monkeypatch.setattr(embedder, "_embed", lambda texts: [[float("nan")] * 384 for _ in texts])
        with pytest.raises(ProviderError, match="no number"):
            embedder.vectors(["tea"])
        embedder.close()


class _Says(OpenAIServer):
    """A server that answers every request with the same bytes."""

    def __init__(self, body: bytes, content_type: str = "application/json") -> None:
        super().__init__()
        self.said = Answer(200, body, content_type)

    def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
        return self.said


def _at(server: OpenAIServer) -> dict[str, Any]:
    return {"base_url": server.base_url, "api_key": "k", "max_retries": 0, "breaker_failures": 100}


_NO_ANSWERS = {
    "a page": (b"<html>Welcome</html>", "text/html"),
    "null": (b"null", "application/json"),
    "a list": (b"[]", "application/json"),
    "a text": (b'"yes"', "application/json"),
    "an error with status 200": (b'{"error": {"message": "no", "code": 502}}', "application/json"),
    "a stream": (b'data: {"id": "x"}\n\ndata: [DONE]\n\n', "text/event-stream"),
}


@pytest.mark.parametrize(("body", "content_type"), _NO_ANSWERS.values(), ids=list(_NO_ANSWERS))
def test_what_is_no_answer_is_a_provider_error(body: bytes, content_type: str) -> None:
    """A body that OpenAI's client takes, and that is no answer, ends in a ProviderError, never a Python one."""
    with _Says(body, content_type) as server:
        embedder = OpenAIEmbeddings(OpenAIEmbedder(model="m", dimensions=2, **_at(server)))
        chat = OpenAIChat(OpenAILLM(model="m", **_at(server)))
        for ask in (lambda: embedder.vectors(["tea"]), lambda: chat.generate_response(ASK)):
            with pytest.raises(ProviderError) as caught:
                ask()
            assert caught.value.retryable
        embedder.close()
        chat.close()


@pytest.mark.parametrize(
    "data",
    [
        "[null, null]",
        '"ab"',
        '[{"index": 0, "embedding": null}, {"index": 1, "embedding": null}]',
        '[{"index": 0, "embedding": [null, 1]}, {"index": 1, "embedding": [1, 1]}]',
        '[{"index": 0, "embedding": ["1", "2"]}, {"index": 1, "embedding": ["1", "2"]}]',
        '[{"index": 0, "embedding": "AACAPwAAAAA="}, {"index": 1, "embedding": "AACAPwAAAAA="}]',
        '[{"index": 0, "embedding": [[1, 0]]}, {"index": 1, "embedding": [[1, 0]]}]',
        '[{"index": "1", "embedding": [1, 0]}, {"index": 0, "embedding": [0, 1]}]',
        '[{"index": 0, "embedding": [1, 0]}, {"index": 5, "embedding": [0, 1]}]',
        '[{"index": 0, "embedding": [1, 0]}, {"embedding": [0, 1]}]',
        '[{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [1, 0, 0]}]',
        '[{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]',
    ],
)
def test_vectors_that_are_none_are_a_provider_error(data: str) -> None:
    """What stands in place of vectors, or cannot be told whose it is, ends in a ProviderError, never a Python one."""
    with _Says(b'{"object": "list", "model": "m", "data": ' + data.encode() + b"}") as server:
        embedder = OpenAIEmbeddings(OpenAIEmbedder(model="m", dimensions=2, **_at(server)))
        with pytest.raises(ProviderError):
            embedder.vectors(["tea", "milk"])
        embedder.close()


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ('[{"index": 1, "embedding": [1, 0]}, {"index": 0, "embedding": [0, 1]}]', [[0, 1], [1, 0]]),
        ('[{"index": 0, "embedding": [1, 0]}, {"index": 0, "embedding": [0, 1]}]', [[1, 0], [0, 1]]),
        ('[{"embedding": [1, 0]}, {"embedding": [0, 1]}]', [[1, 0], [0, 1]]),
    ],
    ids=["numbered", "all of one number", "not numbered"],
)
def test_vectors_come_in_the_order_of_the_texts(data: str, wanted: list[list[float]]) -> None:
    """Vectors are put in the order of their numbers; where a server does not number them, they are in order."""
    with _Says(b'{"object": "list", "model": "m", "data": ' + data.encode() + b"}") as server:
        embedder = OpenAIEmbeddings(OpenAIEmbedder(model="m", dimensions=2, **_at(server)))
        assert embedder.vectors(["tea", "milk"]) == wanted
        embedder.close()


def test_a_model_without_dimensions_is_told() -> None:
    """A probe that finds vectors of length 0 is an error, and no collection of 0 dimensions."""
    with _Says(b'{"object": "list", "model": "m", "data": [{"index": 0, "embedding": []}]}') as server:
        embedder = OpenAIEmbeddings(OpenAIEmbedder(model="m", **_at(server)))
        with pytest.raises(ProviderError, match="no dimensions"):
            _ = embedder.dimensions
        embedder.close()


@pytest.mark.parametrize(
    "choice",
    [
        "null",
        '{"finish_reason": "stop", "message": null}',
        '{"finish_reason": "stop", "message": "yes"}',
        '{"message": {"content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{cut"}}]}}',
    ],
)
def test_a_choice_that_is_none_is_a_provider_error(choice: str) -> None:
    """A choice without a message, or with arguments of a tool that are no JSON, ends in a ProviderError."""
    with _Says(b'{"object": "chat.completion", "choices": [' + choice.encode() + b"]}") as server:
        chat = OpenAIChat(OpenAILLM(model="m", **_at(server)))
        with pytest.raises(ProviderError, match="cannot be read"):
            chat.generate_response(ASK, tools=[{"type": "function", "function": {"name": "f"}}])
        chat.close()


@pytest.mark.parametrize("fault", [Fault.fewer_vectors(), Fault.status(500)], ids=["refused here", "refused there"])
def test_the_causes_of_an_error_come_to_an_end(provider: Provider, fault: Fault) -> None:
    """Whoever walks along the causes of a ProviderError gets to the last one."""
    embedder = _embedder(provider, max_retries=0)
    embedder.vectors(["tea"])
    provider.server.fail(fault)
    with pytest.raises(ProviderError) as caught:
        embedder.vectors(["tea", "milk"])
    embedder.close()
    error: BaseException | None = caught.value
    seen: list[BaseException] = []
    while error is not None:
        assert error not in seen
        seen.append(error)
        error = error.__cause__
    assert seen[0] is caught.value


def test_nothing_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, organisations and headers that the clients look for by themselves reach no server."""
    loud = {
        "OPENAI_API_KEY": "sk-ambient",
        "OPENAI_ADMIN_KEY": "sk-ambient",
        "OPENAI_ORG_ID": "ambient",
        "OPENAI_PROJECT_ID": "ambient",
        "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer ambient\nX-Ambient: ambient",
        "OPENROUTER_API_KEY": "ambient",
        "OLLAMA_API_KEY": "ambient",
        "HTTP_PROXY": "http://ambient.invalid:1",
        "ALL_PROXY": "http://ambient.invalid:1",
    }
    for name, value in loud.items():
        monkeypatch.setenv(name, value)
    with OpenAIServer(api_key="configured") as server, OllamaServer() as ollama:
        place: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "configured",
            "organization": "ours",
            "headers": {"X-Team": "search"},
        }
        models = [
            OpenAIEmbeddings(OpenAIEmbedder(model="text-embedding-3-small", **place)),
            OllamaEmbeddings(OllamaEmbedder(model="all-minilm", host=ollama.host)),
        ]
        chats = [
            OpenAIChat(OpenAILLM(model="gpt-4.1-nano", **place)),
            OllamaChat(OllamaLLM(model="llama3.2", host=ollama.host)),
        ]
        for model in models:
            model.vectors(["tea"])
            model.close()
        for chat in chats:
            chat.generate_response(ASK)
            chat.close()
        for request in server.requests:
            assert request.headers["authorization"] == "Bearer configured"
            assert (request.headers["openai-organization"], request.headers["x-team"]) == ("ours", "search")
        sent = [
            f"{name}: {value}"
            for request in (*server.requests, *ollama.requests)
            for name, value in request.headers.items()
        ]
        assert len(sent) > 20
        assert not [line for line in sent if "ambient" in line]


def _headed(server: OpenAIServer, headers: dict[str, str]) -> OpenAIEmbedder:
    return OpenAIEmbedder.model_validate({"model": "m", "dimensions": 2, "headers": headers, **_at(server)})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another host", "another port"])
def test_headers_are_for_their_server_alone(host: str) -> None:
    """A server that redirects to another one hands over neither the key nor any header that was configured for it."""

    class Moved(OpenAIServer):
        def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
            return Answer(307, headers={"Location": there})

    with OpenAIServer(api_key="none") as other, Moved() as server:
        there = f"{other.url.replace('127.0.0.1', host)}/v1/embeddings"
        secrets = {"X-Api-Key": "sk-header", "Cf-Access-Client-Secret": "sk-header"}
        embedder = OpenAIEmbeddings(_headed(server, secrets))
        with pytest.raises(ProviderError):
            embedder.vectors(["tea"])
        embedder.close()
        assert {*map(str.lower, secrets), "authorization"} <= set(server.requests[0].headers)
        assert not {*map(str.lower, secrets), "authorization"} & set(other.requests[0].headers)


def test_headers_go_along_within_a_server() -> None:
    """A server that redirects to another address of its own is sent there all that it was sent before."""

    class Slashed(OpenAIServer):
        def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
            if not request.path.endswith("/"):
                return Answer(307, headers={"Location": f"{request.path}/"})
            return Answer.of({"data": [{"index": 0, "embedding": [1, 0]}]})

    with Slashed() as server:
        embedder = OpenAIEmbeddings(_headed(server, {"X-Api-Key": "k"}))
        assert embedder.vectors(["tea"]) == [[1, 0]]
        embedder.close()
        assert server.requests[1].headers["x-api-key"] == "k"


@pytest.mark.parametrize(
    ("model", "sent", "kept"),
    [
        ("gpt-4.1-nano", {"temperature", "max_tokens", "top_p"}, {"reasoning_effort", "max_completion_tokens"}),
        ("gpt-5-mini", {"max_completion_tokens", "reasoning_effort"}, {"temperature", "max_tokens", "top_p"}),
        ("o4-mini", {"max_completion_tokens", "reasoning_effort"}, {"temperature", "max_tokens", "top_p"}),
        (TUNED, {"max_completion_tokens", "reasoning_effort"}, {"temperature", "max_tokens", "top_p"}),
    ],
)
def test_models_are_sent_what_they_accept(model: str, sent: set[str], kept: set[str]) -> None:
    """A reasoning model gets no sampling, another one no effort: the server, which is strict, takes both."""
    with OpenAIServer(models=["gpt-4.1-nano", "gpt-5-mini", "o4-mini", OpenAIModel(TUNED, reasoning=True)]) as server:
        options: dict[str, Any] = {"top_p": 0.9, "reasoning_effort": "low"}
        place = {"model": model, "base_url": server.base_url, "api_key": server.api_key}
        config = OpenAILLM.model_validate({**place, **options})
        chat = OpenAIChat(config)
        assert chat.generate_response(ASK) == "echo: Say something."
        body = set(server.requests[0].json)
        assert sent <= body
        assert not kept & body
        assert chat.stats()["tokens"]["prompt"] > 0
        chat.close()


# -- Ollama ----------------------------------------------------------------------------------


def test_thinking_is_off_and_the_context_is_told() -> None:
    """Ollama is told the context, how long to keep the model, not to think, and not to cut anything off."""
    with OllamaServer() as server:
        chat = OllamaChat(OllamaLLM(model="qwen3", host=server.host, num_ctx=9000, keep_alive="1h"))
        chat.generate_response(ASK)
        body = server.requests[0].json
        assert (body["think"], body["truncate"], body["shift"], body["keep_alive"]) == (False, False, False, "1h")
        assert body["options"]["num_ctx"] == 9000
        chat.close()


@pytest.mark.parametrize("words", [300, 2000])
def test_a_prompt_that_does_not_fit_is_an_error(words: int) -> None:
    """A context that is too small is an error that names the option, whether we see it or the server does."""
    with OllamaServer() as server:
        chat = OllamaChat(OllamaLLM(model="llama3.2", host=server.host, num_ctx=256))
        with pytest.raises(ProviderError, match="num_ctx") as caught:
            chat.generate_response([{"role": "user", "content": "one " * words}, *ASK])
        assert caught.value.retryable is False
        assert len(server.requests) == (1 if words == 300 else 0)
        assert chat.generate_response(ASK) == "echo: Say something."
        chat.close()


def test_a_server_without_schemas_is_asked_for_json() -> None:
    """An Ollama server older than 0.5 refuses a schema: it is asked for any JSON, then and later."""
    error = "json: cannot unmarshal object into Go struct field ChatRequest.format of type string"
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {}}}}
    with OllamaServer() as server:
        server.fail(Fault.status(400, body={"error": error}))
        chat = OllamaChat(OllamaLLM(model="llama3.2", host=server.host))
        for _ in range(2):
            assert "echo" in chat.generate_response(ASK, response_format=form)
        assert [isinstance(request.json["format"], dict) for request in server.requests] == [True, False, False]
        chat.close()


def test_a_missing_model_is_pulled_only_where_that_is_wanted() -> None:
    """Without `auto_pull` the error names the command; with it the model is pulled once, and the call goes on."""
    with OllamaServer(models=["llama3.2"]) as server:
        section: dict[str, Any] = {"model": "all-minilm", "host": server.host}
        plain = OllamaEmbeddings(OllamaEmbedder.model_validate(section))
        with pytest.raises(ProviderError, match="ollama pull all-minilm"):
            plain.vectors(["tea"])
        assert "all-minilm:latest" not in server.models
        pulling = OllamaEmbeddings(OllamaEmbedder.model_validate({**section, "auto_pull": True}))
        assert len(pulling.vectors(["tea"])[0]) == 384
        assert [request.path for request in server.requests].count("/api/pull") == 1
        plain.close()
        pulling.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.cut_midway(), "pull"),
        (Fault.cut_midway(clean=True), "pull"),
        (Fault.status(500), "pull"),
        (None, "library"),
    ],
)
def test_a_pull_that_fails_is_told(fault: Fault | None, words: str) -> None:
    """A download that breaks off, however cleanly, is an error, and so is a model that does not exist."""
    model = "all-minilm" if fault is not None else "no-such-model"
    with OllamaServer(models=["llama3.2"]) as server:
        if fault is not None:
            server.fail(fault, path="/api/pull")
        embedder = OllamaEmbeddings(OllamaEmbedder(model=model, host=server.host, auto_pull=True))
        with pytest.raises(ProviderError, match=words):
            embedder.vectors(["tea"])
        if fault is not None:
            assert len(embedder.vectors(["tea"])[0]) == 384
        embedder.close()
