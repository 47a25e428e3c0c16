"""``doctor`` on model servers: reachable, authorised, the model there, its context long enough, dimensions as said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstack.cli import checks
from memstack.cli.checks import Check
from memstack.testing import Fault, OllamaModel, OllamaServer, OpenAIServer
from memstack.testing.servers import free_port
from memstack.testing.wire import Answer, WireRequest
from tests.cli.conftest import Run, Runner

KEY = "sk-test-not-to-be-shown"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """A store of the test's own; and Mem0's row is another test's: its import takes seconds."""
    monkeypatch.setattr(checks, "_mem0", lambda _: Check("mem0", "ok", "left out"))


@pytest.fixture
def openai() -> Iterator[OpenAIServer]:
    with OpenAIServer(api_key=KEY) as server:
        yield server


def _set(section: str, **options: Any) -> list[str]:
    return [word for name, value in options.items() for word in ("--set", f"{section}.{name}={value}")]


def _openai(server: OpenAIServer, key: str = KEY, **models: str) -> list[str]:
    place = {"provider": "openai", "base_url": server.base_url, "api_key": key}
    embedder = _set("embedder", **place, model=models.get("embedder", "text-embedding-3-small"))
    return [*embedder, *_set("llm", **place, model=models.get("llm", "gpt-4.1-nano"))]


def _ollama(host: str, *, num_ctx: int = 16384, embedder: str = "nomic-embed-text", llm: str = "qwen3") -> list[str]:
    place = {"provider": "ollama", "host": host}
    return [*_set("embedder", **place, model=embedder), *_set("llm", **place, model=llm, num_ctx=num_ctx)]


def _rows(done: Run) -> dict[str, dict[str, Any]]:
    assert KEY not in done.out
    assert KEY not in done.err
    return {check["name"]: check for check in done.data["checks"]}


def _failing(done: Run) -> dict[str, str]:
    """The rows that fail, each with its way out."""
    rows = _rows(done)
    failing = {name: row["todo"] for name, row in rows.items() if row["status"] == "fail"}
    assert done.code == (1 if failing else 0)
    assert all(failing.values()), rows
    return failing


def test_openai_in_order(run: Runner, openai: OpenAIServer) -> None:
    """Every row of a server that is in order is ok, the store is written to, and no key is shown."""
    done = run(*_openai(openai), "--json", "doctor", "--round-trip")
    rows = _rows(done)
    assert done.code == 0, done
    assert [rows[name]["status"] for name in ("embedder server", "embedder model", "llm server", "llm model")] == [
        "ok"
    ] * 4
    assert "1536 dimensions" in rows["embedder"]["found"]
    assert rows["round trip"]["status"] == "ok"
    assert "openai" in rows["packages"]["found"]


def test_ollama_in_order(run: Runner) -> None:
    """So is every row of an Ollama server, with its version and the context."""
    with OllamaServer() as server:
        done = run(*_ollama(server.host), "--json", "doctor")
    rows = _rows(done)
    assert done.code == 0, done
    assert "Ollama 0.33.2" in rows["llm server"]["found"]
    assert "16,384 tokens" in rows["llm context"]["found"]
    assert "768 dimensions" in rows["embedder"]["found"]


def test_a_wrong_key(run: Runner, openai: OpenAIServer) -> None:
    """A key that the server refuses fails with where to set it."""
    failing = _failing(run(*_openai(openai, key="sk-wrong"), "--json", "doctor"))
    assert "OPENAI_API_KEY" in failing["llm server"]
    assert "OPENAI_API_KEY" in failing["embedder server"]


def test_a_missing_key(run: Runner) -> None:
    """So does a key that is missing, for each section."""
    models = [
        *_set("embedder", provider="openai", model="text-embedding-3-small"),
        *_set("llm", provider="openai", model="m"),
    ]
    failing = _failing(run(*models, "--json", "doctor"))
    assert "OPENAI_API_KEY" in failing["llm server"]
    assert "OPENAI_API_KEY" in failing["embedder server"]


def test_a_model_that_is_not_there(run: Runner, openai: OpenAIServer) -> None:
    """A model that the server does not have fails with those that it has."""
    done = run(*_openai(openai, llm="gpt-9"), "--json", "doctor")
    assert _failing(done) == {"llm model": "Set `llm.model`."}
    assert "gpt-3.5-turbo" in _rows(done)["llm model"]["found"]


def test_a_server_that_lists_no_models(run: Runner, openai: OpenAIServer) -> None:
    """A server that does not tell its models gets a warning, no failure."""
    openai.fail(Fault.status(404), times=None, path="/v1/models")
    openai.fail(Fault.status(404), times=None, path="/v1/models/gpt-4.1-nano")
    done = run(*_openai(openai), "--json", "doctor")
    assert _failing(done) == {}
    assert _rows(done)["llm model"]["status"] == "warn"


_PAGE = (b"<html>Welcome</html>", "text/html")


@pytest.mark.parametrize(("body", "kind"), [_PAGE, (b"null", "application/json"), (b"[]", "application/json")])
def test_somebody_else_there(run: Runner, body: bytes, kind: str) -> None:
    """What answers everything, and not as a model server does, is no server in order, whatever the provider."""

    class Page(OpenAIServer):
        def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
            return Answer(200, body, kind)

    with Page() as server:
        failing = _failing(run(*_openai(server), "--json", "doctor"))
        assert "base_url" in failing["embedder server"]
        assert "base_url" in failing["llm server"]
        failing = _failing(run(*_ollama(server.url), "--json", "doctor"))
        assert "host" in failing["embedder server"]
        assert "host" in failing["llm server"]


def test_a_server_that_describes_no_model(run: Runner) -> None:
    """A server that has no address for a single model, and answers it with 200 all the same, is asked for its list."""

    class Terse(OpenAIServer):
        def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
            if request.path.startswith("/v1/models/"):
                return Answer.of({"error": "Unexpected endpoint or method. Returning 200 anyway"})
            return super().respond(request, fault)

    with Terse(api_key=KEY) as server:
        assert _failing(run(*_openai(server), "--json", "doctor")) == {}
        assert "llm model" in _failing(run(*_openai(server, llm="gpt-9"), "--json", "doctor"))


@pytest.mark.parametrize(("status", "words"), [(401, "HTTP 401"), (404, "HTTP 404"), (500, "HTTP 500")])
def test_an_ollama_server_behind_somebody(run: Runner, status: int, words: str) -> None:
    """A refusal by what stands before an Ollama server is told as such: it was reached."""
    with OllamaServer() as server:
        server.fail(Fault.status(status), times=None)
        done = run(*_set("llm", provider="ollama", host=server.host, model="qwen3"), "--json", "doctor")
        assert words in _rows(done)["llm server"]["found"]


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_nobody_there(run: Runner, provider: str) -> None:
    """A server that is not there fails with the option that names it, soon."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    place = {"base_url": f"{url}/v1"} if provider == "openai" else {"host": url}
    failing = _failing(run(*_set("llm", provider=provider, model="m", **place), "--json", "doctor"))
    assert ("llm.base_url" if provider == "openai" else "llm.host") in failing["llm server"]


def test_a_model_is_pulled_where_that_is_asked_for(run: Runner) -> None:
    """A model that is missing fails with the command; --pull downloads it, and then it is there."""
    with OllamaServer(models=["llama3.2"]) as server:
        given = _ollama(server.host, embedder="all-minilm", llm="llama3.2")
        failing = _failing(run(*given, "--json", "doctor"))
        assert "memstack doctor --pull" in failing["embedder model"]
        done = run(*given, "--json", "doctor", "--pull")
        assert _failing(done) == {}
        assert "pulled just now" in _rows(done)["embedder model"]["found"]
        assert "all-minilm:latest" in server.models


def test_a_model_that_nobody_has(run: Runner) -> None:
    """A name that Ollama's library does not know fails with where to look."""
    with OllamaServer() as server:
        failing = _failing(run(*_ollama(server.host, llm="no-such"), "--json", "doctor", "--pull"))
    assert "ollama.com/library" in failing["llm model"]


def test_nothing_is_pulled_offline(run: Runner) -> None:
    """With offline: true, --pull fails and says why, and nothing is downloaded."""
    with OllamaServer(models=["llama3.2"]) as server:
        given = [*_ollama(server.host, embedder="all-minilm", llm="llama3.2"), "--set", "offline=true"]
        done = run(*given, "--json", "doctor", "--pull")
        assert {"pull", "embedder model"} <= set(_failing(done))
        assert not [request for request in server.requests if request.path == "/api/pull"]
        for row in _rows(done).values():  # it advises no command that it refuses
            assert "--pull" not in row["todo"] or "unless `offline` is true" in row["todo"]
        assert "offline is true (guarded" in _rows(done)["network"]["found"]


@pytest.mark.parametrize(
    ("num_ctx", "context", "status", "words"),
    [
        (4096, 131_072, "fail", "Raise it"),
        (9000, 131_072, "warn", "Raise it"),
        (16384, 8192, "fail", "longer context"),
        (65536, 32_768, "fail", "Lower it"),
        (16384, 32_768, "ok", ""),
    ],
)
def test_the_context(run: Runner, num_ctx: int, context: int, status: str, words: str) -> None:
    """A context that the extraction prompt does not fit into, or that the model does not have, is told."""
    with OllamaServer(models=[OllamaModel("small", context=context)]) as server:
        done = run(
            *_set("llm", provider="ollama", host=server.host, model="small", num_ctx=num_ctx), "--json", "doctor"
        )
    row = _rows(done)["llm context"]
    assert row["status"] == status
    assert words in row["todo"]


def test_a_model_for_something_else(run: Runner) -> None:
    """A chat model as embedder, and the other way round, fail."""
    with OllamaServer() as server:
        failing = _failing(run(*_ollama(server.host, embedder="llama3.2", llm="nomic-embed-text"), "--json", "doctor"))
    assert {"embedder model", "llm model"} <= set(failing)


def test_dimensions_that_disagree(run: Runner, openai: OpenAIServer, store: Path) -> None:
    """Dimensions other than the configured ones fail in the row of the embedder."""
    given = [*_openai(openai), "--set", "vector_store.embedding_dims=256"]
    assert "embedding_dims" in _failing(run(*given, "--json", "doctor"))["embedder"]
    assert not store.exists()


def test_for_people(run: Runner) -> None:
    """The table names the way out under what was found."""
    with OllamaServer(models=[]) as server:
        done = run(*_set("llm", provider="ollama", host=server.host, model="qwen3"), "doctor")
    assert "llm model" in done.out
    assert "ollama pull qwen3" in done.out
