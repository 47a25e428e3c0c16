"""Ollama: embeddings and chat by the official client.

Reference: https://github.com/ollama/ollama/blob/main/docs/api.md. A prompt that does not fit the context is an error
here; left to itself, the server would cut it off without a word. Thinking is off, nothing is downloaded unless
``auto_pull`` says so, and the client's ``OLLAMA_API_KEY`` is sent to nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar

import httpx
import ollama

from memstack.config import OllamaEmbedder as EmbedderConfig
from memstack.config import OllamaLLM as LLMConfig
from memstack.config.urls import without_credentials
from memstack.errors import ProviderError
from memstack.providers.base import LLM, Finding, Provider
from memstack.providers.calls import Caller, CallFailed, Limits, RemoteEmbedder, refuse
from memstack.providers.deadlines import transport
from memstack.providers.findings import ollama_findings
from memstack.providers.network import way
from memstack.providers.ollama_failures import RAISE, failure_of, is_missing
from memstack.providers.pulling import pull

__all__ = ["OllamaChat", "OllamaEmbeddings", "OllamaProvider", "client_of"]

T = TypeVar("T")
_CHARACTERS_PER_TOKEN: Final = 6  # no tokenizer makes fewer tokens of prose than one in six characters


def client_of(config: EmbedderConfig | LLMConfig, section: str) -> ollama.Client:
    """The official client, as a section (`embedder` or `llm`) configures it."""
    address, credentials = without_credentials(config.host)
    client = ollama.Client(
        host=address,
        auth=credentials,
        timeout=httpx.Timeout(config.read_timeout, connect=config.connect_timeout),
        trust_env=False,  # no proxy that nobody configured here
        transport=transport(httpx, **way(httpx, config, section)),
    )
    client._client.headers.pop("authorization", None)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # OLLAMA_API_KEY's
    return client


class _Server:
    """An Ollama server: a model that is missing is pulled where that is allowed."""

    def __init__(self, config: EmbedderConfig | LLMConfig, section: str) -> None:
        self.client = client_of(config, section)
        self.caller = Caller("ollama", config.model, Limits.of(config))
        self._model = config.model
        self._section = section
        self._auto_pull = config.auto_pull
        self._pulling = threading.Lock()
        self._pulled = False

    def call(self, request: Callable[[], T]) -> T:
        """Make a request."""

        def attempt() -> T:
            try:
                return request()
            except CallFailed:
                raise
            except Exception as error:
                raise failure_of(error, self._section, self._model) from error

        try:
            return self.caller.run(attempt)
        except ProviderError as error:
            if not self._auto_pull or not is_missing(error.__cause__):
                raise
        self._pull()
        return self.caller.run(attempt)

    def close(self) -> None:
        """Close the connections."""
        self.caller.close()
        self.client._client.close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # older ones have no close

    def _pull(self) -> None:
        """Download the model: once, however many ask for it; it may take longer than a call."""
        with self._pulling:
            if not self._pulled:
                pull(self.client, self._model)
                self._pulled = True


class OllamaEmbeddings(RemoteEmbedder):
    """Embeddings by an Ollama model."""

    def __init__(self, config: EmbedderConfig) -> None:
        self._server = _Server(config, "embedder")
        super().__init__(self._server.caller, config.batch_size, required=config.dimensions)
        self._config = config

    def close(self) -> None:
        self._server.close()

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        def request() -> list[list[float]]:
            answer = self._server.client.embed(
                model=self.model, input=list(texts), truncate=False, keep_alive=self._config.keep_alive
            )
            vectors = [list(vector) for vector in answer.embeddings]
            if len(vectors) != len(texts):
                refuse(f"{len(vectors)} vectors came back for {len(texts)} texts", retryable=True)
            self._caller.count_tokens(embedding=answer.prompt_eval_count)
            return vectors

        return self._server.call(request)


class OllamaChat(LLM):
    """A chat model by Ollama."""

    provider = "ollama"

    def __init__(self, config: LLMConfig) -> None:
        self.model = config.model
        self._server = _Server(config, "llm")
        self._caller = self._server.caller
        self._config = config
        self._no_schema = False

    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        self._check_length(messages)
        config = self._config
        options: dict[str, Any] = {
            "num_ctx": config.num_ctx,
            "num_predict": config.max_tokens,
            "temperature": config.temperature,
        }
        if config.top_p is not None:
            options["top_p"] = config.top_p
        wanted = kwargs.get("response_format") or {}
        form: Any = None
        if wanted.get("type") == "json_object":
            form = "json"
        elif wanted.get("type") == "json_schema":
            form = wanted["json_schema"]["schema"]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "stream": False,
            "think": False,
            "options": options,
            "keep_alive": config.keep_alive,
            # The client's chat() does not know these two: a prompt that does not fit is refused, and not cut.
            "truncate": False,
            "shift": False,
            **({"tools": list(tools)} if tools else {}),
        }

        def request() -> Any:
            answer = self._chat(body, form)
            self._caller.count_tokens(prompt=answer.prompt_eval_count, completion=answer.eval_count)
            if answer.done_reason == "length":
                refuse("the answer was cut off", hint="Raise `llm.max_tokens` or `llm.num_ctx`.")
            if tools:
                calls = [
                    {"name": call.function.name, "arguments": dict(call.function.arguments)}
                    for call in answer.message.tool_calls or []
                ]
                return {"content": answer.message.content, "tool_calls": calls}
            return answer.message.content or ""

        return self._server.call(request)

    def _chat(self, body: dict[str, Any], form: Any) -> ollama.ChatResponse:
        """The answer, in the form that is wanted. A server older than 0.5 knows no schema: it is asked for any JSON."""
        form = "json" if isinstance(form, dict) and self._no_schema else form
        try:
            return self._send(body, form)
        except ollama.ResponseError as error:
            if (
                not isinstance(form, dict)
                or error.status_code not in (HTTPStatus.BAD_REQUEST, 500)
                or "format" not in error.error
            ):
                raise
            self._no_schema = True
        return self._send(body, "json")

    def _send(self, body: dict[str, Any], form: Any) -> ollama.ChatResponse:
        formed = body if form is None else {**body, "format": form}
        request: Any = self._server.client._request  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        answer: ollama.ChatResponse = request(ollama.ChatResponse, "POST", "/api/chat", json=formed)
        return answer

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), **self._caller.stats()}

    def close(self) -> None:
        self._server.close()

    def _check_length(self, messages: Sequence[dict[str, Any]]) -> None:
        """Refuse what cannot fit: the server cuts the beginning off, and with it the instructions."""
        least = sum(len(str(message.get("content", ""))) for message in messages) // _CHARACTERS_PER_TOKEN
        if least > self._config.num_ctx:
            problem = f"the prompt has at least {least} tokens, and the context {self._config.num_ctx}"
            self._caller.run(lambda: refuse(problem, hint=RAISE))


class OllamaProvider(Provider):
    """``provider: ollama``."""

    name = "ollama"
    embedder_config = EmbedderConfig
    llm_config = LLMConfig

    @classmethod
    def embedder(cls, config: Any) -> OllamaEmbeddings:
        return OllamaEmbeddings(config)

    @classmethod
    def llm(cls, config: Any) -> OllamaChat:
        return OllamaChat(config)

    @classmethod
    def examine(cls, config: Any, section: str, *, pull: bool = False) -> Iterator[Finding]:
        client = client_of(config, section)
        try:
            yield from ollama_findings(client, config, section, pull=pull or config.auto_pull)
        finally:
            client._client.close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
