"""Ollama: embeddings and chat by the official client.

Reference: https://github.com/ollama/ollama/blob/main/docs/api.md. A prompt that does not fit the context is an error
here; the server would cut it off without a word. Thinking is off, and nothing is downloaded unless ``auto_pull`` says
so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import httpx
import ollama

from memstack.config import OllamaEmbedder as EmbedderConfig
from memstack.config import OllamaLLM as LLMConfig
from memstack.providers.base import LLM, Provider
from memstack.providers.calls import Caller, CallFailed, Limits, RemoteEmbedder, refuse

__all__ = ["OllamaChat", "OllamaEmbeddings", "OllamaProvider"]

T = TypeVar("T")
_NOT_FOUND: Final = 404
_CHARACTERS_PER_TOKEN: Final = 6  # no tokenizer makes fewer tokens of prose than one in six characters


def _client(config: EmbedderConfig | LLMConfig) -> ollama.Client:
    timeout = httpx.Timeout(config.read_timeout, connect=config.connect_timeout)
    return ollama.Client(host=config.host, timeout=timeout, trust_env=False)


class _Server:
    """An Ollama server: a model that is missing is pulled where that is allowed."""

    def __init__(self, config: EmbedderConfig | LLMConfig, section: str) -> None:
        self.client = _client(config)
        self.caller = Caller("ollama", config.model, Limits.of(config))
        self._model = config.model
        self._section = section
        self._auto_pull = config.auto_pull
        self._pulling = threading.Lock()

    def call(self, request: Callable[[], T]) -> T:
        """Make a request."""

        def attempt(_: float) -> T:
            try:
                return request()
            except Exception as error:
                missing = isinstance(error, ollama.ResponseError) and error.status_code == _NOT_FOUND
                if missing and self._auto_pull:
                    self._pull()
                    raise CallFailed("the model was just pulled", retryable=True, retry_after=0.0) from error
                raise _failed(error, self._section, self._model) from error

        return self.caller.run(attempt)

    def close(self) -> None:
        """Close the connections."""
        self.client._client.close()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # it has no close of its own

    def _pull(self) -> None:
        with self._pulling:
            try:
                self.client.pull(self._model)
            except Exception as error:
                raise CallFailed(
                    f"the model cannot be pulled ({type(error).__name__})",
                    retryable=False,
                    hint=f"Run: ollama pull {self._model}",
                ) from error


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

        def request() -> Any:
            answer = self._server.client.chat(
                model=self.model,
                messages=list(messages),
                tools=list(tools) if tools else None,
                format=form,
                think=False,
                options=options,
                keep_alive=config.keep_alive,
            )
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

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), **self._caller.stats()}

    def close(self) -> None:
        self._server.close()

    def _check_length(self, messages: Sequence[dict[str, Any]]) -> None:
        """Refuse what cannot fit: the server cuts the beginning off, and with it the instructions."""
        least = sum(len(str(message.get("content", ""))) for message in messages) // _CHARACTERS_PER_TOKEN
        if least > self._config.num_ctx:
            problem = f"the prompt has at least {least} tokens, and the context {self._config.num_ctx}"
            self._caller.run(lambda _: refuse(problem, hint="Raise `llm.num_ctx`, or add fewer messages at a time."))


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


def _failed(error: Exception, section: str, model: str) -> CallFailed:
    """The client's exceptions; the server's own words are left out: they can quote the text."""
    if isinstance(error, CallFailed):
        return error
    if isinstance(error, ollama.ResponseError):
        status = error.status_code
        hints = {
            _NOT_FOUND: f"Run: ollama pull {model}",
            400: f"Check `{section}.model`: does it do this, and is its context long enough?",
        }
        passing = status in (408, 429) or status >= 500  # noqa: PLR2004
        return CallFailed(f"HTTP {status}", retryable=passing, hint=hints.get(status, ""))
    if isinstance(error, httpx.TimeoutException):
        return CallFailed("the server did not answer in time", retryable=True, hint=f"See `{section}.read_timeout`.")
    if isinstance(error, (httpx.HTTPError, ConnectionError)):
        return CallFailed(
            "the server cannot be reached", retryable=True, hint=f"Is Ollama running? See `{section}.host`."
        )
    return CallFailed(f"the answer cannot be read ({type(error).__name__})", retryable=True)
