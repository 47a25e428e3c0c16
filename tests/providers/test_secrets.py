"""No key in anything that a run writes: logs at every level, reprs, tracebacks, config show, doctor, files."""

from __future__ import annotations

import io
import logging
import traceback
from base64 import b64decode
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import yaml
from typer.testing import CliRunner

from memstack import Settings, open_memory
from memstack.cli import app, checks
from memstack.cli.checks import Check
from memstack.errors import MemstackError, ProviderError
from memstack.registry import PROVIDERS
from memstack.testing import Fault, OpenAIServer

KEY = "sk-proj-Zq7-a-key-that-nobody-may-ever-see-0123456789"
HEADER = "header-Zq7-that-nobody-may-see-either"


def _everything_said(action: Any) -> str:
    """What a call says: its result or error, in every form, with the traceback and the values of its frames' errors."""
    try:
        result = action()
    except MemstackError as error:
        chain = traceback.TracebackException.from_exception(error, capture_locals=False)
        parts = [str(error), repr(error), repr(vars(error)), "".join(chain.format())]
        cause: BaseException | None = error.__cause__
        while cause is not None:
            parts += [str(cause), repr(cause)]
            cause = cause.__cause__ or cause.__context__
        return "\n".join(parts)
    return f"{result!r}\n{result}"


def test_a_run_writes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A run with faults of every kind, at the level DEBUG, and the command line beside it: the key is nowhere."""
    monkeypatch.setattr(checks, "_mem0", lambda _: Check("mem0", "ok", "left out"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    out, err = io.StringIO(), io.StringIO()
    said: list[str] = []
    with (
        OpenAIServer(api_key=KEY) as server,
        caplog.at_level(logging.DEBUG),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        options = {"base_url": server.base_url, "headers": {"X-Secret": HEADER}, "max_retries": 0, "read_timeout": 1}
        config = {
            "vector_store": {"path": str(tmp_path / "memory")},
            "embedder": {"provider": "openai", "model": "text-embedding-3-small", **options},
            "llm": {"provider": "openai", "model": "gpt-4.1-nano", **options},
        }
        settings = Settings.load(config)
        said += [repr(settings), str(settings), repr(settings.embedder), repr(settings.llm), str(settings.model_dump())]
        with open_memory(config) as memory:
            said += [repr(memory), repr(memory._core.parts), repr(memory.stats())]
            said.append(_everything_said(lambda: memory.add("I drink tea.", user_id="alex")))
            faults = [
                *(Fault.status(code) for code in (400, 401, 403, 404, 429, 500, 502)),
                Fault.status(401, body={"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}),
                Fault.status(400, body=f"<html>{KEY}</html>"),
                Fault.answer(f"My key is {KEY}"),
                Fault.cut(),
                Fault.cut_midway(),
                Fault.malformed_json(),
            ]
            for fault in faults:
                server.fail(fault, times=None)
                said.append(_everything_said(lambda: memory.add("I drink tea.", user_id="bo").failed and ""))
                said.append(_everything_said(lambda: memory.search("tea", user_id="alex")))
                server.heal()
            said.append(repr(memory.mem0))
            said += [repr(memory.history(item.id)) for item in memory.iter_all(user_id="alex")]
            memory.export(tmp_path / "export.jsonl")
        (tmp_path / "memstack.yaml").write_text(
            f"embedder: {{provider: openai, model: text-embedding-3-small, base_url: '{server.base_url}'}}\n"
            f"llm: {{provider: openai, model: gpt-4.1-nano, base_url: '{server.base_url}', headers: {{X: {HEADER}}}}}\n"
            "vector_store: {path: memory}\n"
        )
        for words in (["config", "show"], ["--json", "config", "show"], ["doctor"], ["--json", "doctor"], ["stats"]):
            for wrong in ([], ["--debug"], ["--set", f"llm.api_key={KEY}x"]):
                done = CliRunner().invoke(app, [*wrong, *words], prog_name="memstack")
                said += [done.stdout, done.stderr, repr(done.exception)]
    said += [caplog.text, *(str(record.__dict__) for record in caplog.records), out.getvalue(), err.getvalue()]
    everything = "\n".join(said)
    assert "gpt-4.1-nano" in everything
    for secret in (KEY, HEADER):
        lines = [line for line in everything.splitlines() if secret in line]
        assert not lines, lines[0][:300].replace(secret, "[the secret]")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "memstack.yaml"]
    assert len(files) > 3
    assert not [path for path in files if KEY.encode() in path.read_bytes() or HEADER.encode() in path.read_bytes()]


_PLACES: dict[str, dict[str, str]] = {
    "qdrant": {"provider": "qdrant", "url": "https://127.0.0.1:{port}", "api_key": KEY},
    "qdrant url": {"provider": "qdrant", "url": f"http://me:{KEY}@127.0.0.1:{{port}}?api_key={KEY}"},
    "chroma": {"provider": "chroma", "host": "127.0.0.1", "port": "{port}", "token": KEY},
    "pgvector url": {"provider": "pgvector", "url": f"postgresql://me:{KEY}@127.0.0.1:{{port}}/app"},
    "pgvector": {
        "provider": "pgvector",
        "host": "127.0.0.1",
        "port": "{port}",
        "user": "me",
        "dbname": "a",
        "password": KEY,
    },
}


@pytest.mark.parametrize(
    ("name", "answers"), [*((name, False) for name in _PLACES), ("qdrant", True), ("chroma", True)]
)
def test_a_store_that_fails_writes_no_key(
    name: str, answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a server that is not there, or is another: errors, logs, `config show`, doctor, and tracebacks have no key."""
    for module in ("qdrant_client", "chromadb", "psycopg"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    with OpenAIServer() as other:
        port = other.url.rpartition(":")[2]
        if not answers:
            other.stop()
        place = {name: value.replace("{port}", port) for name, value in _PLACES[name].items()}
        config = {"vector_store": place, "history": {"path": str(tmp_path / "history.db")}}
        (tmp_path / "memstack.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        said: list[str] = []
        with caplog.at_level(logging.DEBUG):
            said.append(_everything_said(lambda: open_memory(config)))
            for words in (
                ["config", "show"],
                ["config", "check"],
                ["doctor"],
                ["--json", "doctor"],
                ["--debug", "stats"],
            ):
                done = CliRunner().invoke(app, words, prog_name="memstack")
                said += [done.stdout, done.stderr, repr(done.exception)]
    everything = "\n".join([*said, caplog.text, *(str(record.__dict__) for record in caplog.records)])
    assert "StoreError" in everything
    assert "**********" in everything
    assert [line for line in everything.replace(KEY, "[the secret]").splitlines() if "[the secret]" in line] == []
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "memstack.yaml"]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize("part", ["message", "type", "param", "code"])
@pytest.mark.parametrize("status", [400, 401, 429])
def test_what_a_server_quotes_is_in_no_error(part: str, status: int) -> None:
    """A server may quote the key and the text in any part of its error; ours tells neither."""
    pytest.importorskip("openai")
    with OpenAIServer(api_key=KEY) as server:
        body = {"error": {"message": "no", "type": "x", "param": None, "code": None, part: f"{KEY}: tea at eight"}}
        server.fail(Fault.status(status, body=body), times=None)
        options = {"provider": "openai", "base_url": server.base_url, "api_key": KEY, "model": "m", "max_retries": 0}
        config = Settings.load({"embedder": options}).embedder
        model: Any = PROVIDERS.load("openai", "embedder")
        embedder = model.embedder(config)
        with pytest.raises(ProviderError) as caught:
            embedder.vectors(["tea at eight"])
        embedder.close()
    said = f"{caught.value} {caught.value!r} {caught.value.__dict__}"
    assert f"HTTP {status}" in said
    assert KEY not in said
    assert "tea" not in said


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_the_password_in_an_address_is_sent_and_never_logged(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    """User and password of a URL go into a header: the HTTP client logs the URL that it calls."""
    pytest.importorskip(provider)
    with OpenAIServer() as server, caplog.at_level(logging.DEBUG):
        address = server.base_url.replace("http://", f"http://me:{quote(KEY + '@/', safe='')}@")
        options = {"provider": provider, "model": "text-embedding-3-small", "max_retries": 0}
        place = {"base_url": address} if provider == "openai" else {"host": address}
        config = Settings.load({"embedder": {**options, **place}}).embedder
        model: Any = PROVIDERS.load(provider, "embedder")
        embedder = model.embedder(config)
        said = [_everything_said(lambda: embedder.vectors(["tea"]))]
        embedder.close()
        said += [str(finding) for finding in model.examine(config, "embedder")]
        sent = [request.headers["authorization"] for request in server.requests]
    assert sent
    assert {b64decode(header.removeprefix("Basic ")).decode() for header in sent} == {f"me:{KEY}@/"}
    said += [caplog.text, *(str(record.__dict__) for record in caplog.records)]
    assert "/v1" in caplog.text
    assert KEY not in unquote("\n".join(said))
