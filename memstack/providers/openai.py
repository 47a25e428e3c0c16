"""OpenAI, and whatever speaks its API: embeddings and chat completions, by the official client.

References: https://platform.openai.com/docs/api-reference/embeddings, …/chat, …/guides/error-codes,
…/guides/structured-outputs. Only what is configured is used: the client's own retries are off (`Caller` makes them),
what it takes from the environment by itself (``OPENAI_ORG_ID``, ``OPENAI_PROJECT_ID``, ``OPENAI_CUSTOM_HEADERS``) is
taken out again, and variables such as ``OPENROUTER_API_KEY`` are never read.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import openai

from memstack.config import OpenAIEmbedder as EmbedderConfig
from memstack.config import OpenAILLM as LLMConfig
from memstack.config.urls import without_credentials
from memstack.errors import ConfigError
from memstack.providers.base import LLM, Finding, Provider
from memstack.providers.calls import Caller, CallFailed, Limits, RemoteEmbedder, refuse
from memstack.providers.deadlines import transport
from memstack.providers.findings import openai_findings
from memstack.providers.network import way
from memstack.providers.openai_failures import failure_of

__all__ = ["OpenAIChat", "OpenAIEmbeddings", "OpenAIProvider"]

_BATCH_BYTES: Final = 300_000  # tokens that the API takes in a request of embeddings; a token has a byte at least
_REASONING: Final = ("o1", "o3", "o4", "gpt-5")
_TUNED: Final = "ft:"  # and then the model that was tuned
# Lengths that the provider documents, so that opening a memory need not call it.
_DIMENSIONS: Final = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}


def _client(config: EmbedderConfig | LLMConfig, section: str) -> openai.OpenAI:
    key = config.api_key.get_secret_value() if config.api_key is not None else None
    if key is None and "api.openai.com" in config.base_url:
        raise ConfigError(
            f"{section}.api_key",
            "is missing",
            f"Set the environment variable OPENAI_API_KEY, or `{section}.api_key`.",
        )
    bases = (base.__module__.partition(".")[0] for base in openai.DefaultHttpxClient.__mro__)
    library = importlib.import_module(
        next(name for name in bases if name.startswith("httpx"))
    )  # httpx2 from openai 3 on
    address, credentials = without_credentials(config.base_url)
    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    keeping = transport(library, address, headers, **way(library, config, section))
    client = openai.OpenAI(
        api_key=key or "none",
        base_url=address,
        max_retries=0,
        timeout=openai.Timeout(config.read_timeout, connect=config.connect_timeout),
        # No proxy that nobody configured here.
        http_client=openai.DefaultHttpxClient(trust_env=False, transport=keeping, auth=credentials),
    )
    client.organization, client.project = config.organization, None
    client._custom_headers = headers  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # without the environment's
    return client


class OpenAIEmbeddings(RemoteEmbedder):
    """Embeddings by an OpenAI model."""

    def __init__(self, config: EmbedderConfig) -> None:
        caller = Caller("openai", config.model, Limits.of(config))
        known = config.dimensions or _DIMENSIONS.get(config.model)
        super().__init__(caller, config.batch_size, known, batch_bytes=_BATCH_BYTES)
        self._config = config
        self._client = _client(config, "embedder")

    def close(self) -> None:
        self._caller.close()
        self._client.close()

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        asked = {} if self._config.dimensions is None else {"dimensions": self._config.dimensions}

        def attempt() -> list[list[float]]:
            try:
                answer = self._client.embeddings.create(
                    model=self.model,
                    input=list(texts),
                    encoding_format="float",
                    **asked,  # type: ignore[arg-type]
                )
                if answer.usage is not None:
                    self._caller.count_tokens(embedding=answer.usage.prompt_tokens)
                return _in_order(answer.data or [], len(texts))
            except CallFailed:
                raise
            except Exception as error:  # the client takes whatever comes: what is amiss shows when it is read
                raise failure_of(error, "embedder") from error

        return self._caller.run(attempt)


class OpenAIChat(LLM):
    """A chat model by OpenAI. Reasoning models are sent only what they accept.

    Where a JSON Schema is asked for and the server does not know that, any JSON object is asked for instead; where it
    does not know that either, the prompt alone says it. What was found out is remembered.
    """

    provider = "openai"

    def __init__(self, config: LLMConfig) -> None:
        self.model = config.model
        self._config = config
        self._client = _client(config, "llm")
        self._caller = Caller(self.provider, self.model, Limits.of(config))
        self._refused: frozenset[str] = frozenset()  # types of `response_format`

    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        request: dict[str, Any] = {"model": self.model, "messages": list(messages), **self._sampling()}
        if tools:
            request["tools"], request["tool_choice"] = list(tools), tool_choice

        def attempt() -> Any:
            while True:
                form = self._form(kwargs.get("response_format"))
                formed = {} if form is None else {"response_format": form}
                try:
                    create: Any = self._client.chat.completions.create  # its overloads know every model by name
                    return self._said(create(**request, **formed), with_tools=bool(tools))
                except CallFailed:
                    raise
                except Exception as error:  # the client takes whatever comes: what is amiss shows when it is read
                    if form is not None and _lacks_form(error):
                        self._refused |= {str(form.get("type"))}
                        continue
                    raise failure_of(error, "llm") from error

        return self._caller.run(attempt)

    def _form(self, wanted: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The answer's form, as far as the server knows such."""
        if wanted is not None and wanted.get("type") == "json_schema" and "json_schema" in self._refused:
            wanted = {"type": "json_object"}
        return None if wanted is None or wanted.get("type") in self._refused else wanted

    def _said(self, answer: Any, *, with_tools: bool) -> Any:
        if answer.usage is not None:
            self._caller.count_tokens(prompt=answer.usage.prompt_tokens, completion=answer.usage.completion_tokens)
        if not answer.choices:
            refuse("the answer holds no choice", retryable=True)
        choice = answer.choices[0]
        if choice.finish_reason == "length":
            refuse("the answer was cut off", hint="Raise `llm.max_tokens`, or add fewer messages at a time.")
        if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None):
            refuse("the model refused to answer", hint="Add these messages with infer=False, or use another model.")
        if with_tools:
            return _with_tools(choice.message)
        return choice.message.content or ""

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), **self._caller.stats()}

    def close(self) -> None:
        self._caller.close()
        self._client.close()

    def _sampling(self) -> dict[str, Any]:
        config = self._config
        if self.model.rsplit("/", 1)[-1].removeprefix(_TUNED).startswith(_REASONING):
            effort = {} if config.reasoning_effort is None else {"reasoning_effort": config.reasoning_effort}
            return {"max_completion_tokens": config.max_tokens, **effort}
        top_p = {} if config.top_p is None else {"top_p": config.top_p}
        return {"temperature": config.temperature, "max_tokens": config.max_tokens, **top_p}


class OpenAIProvider(Provider):
    """``provider: openai``."""

    name = "openai"
    embedder_config = EmbedderConfig
    llm_config = LLMConfig

    @classmethod
    def embedder(cls, config: Any) -> OpenAIEmbeddings:
        return OpenAIEmbeddings(config)

    @classmethod
    def llm(cls, config: Any) -> OpenAIChat:
        return OpenAIChat(config)

    @classmethod
    def examine(cls, config: Any, section: str, *, pull: bool = False) -> Iterator[Finding]:
        client = _client(config, section)
        try:
            yield from openai_findings(client, config, section)
        finally:
            client.close()


def _in_order(items: Sequence[Any], count: int) -> list[list[float]]:
    """The vectors of an answer in the order of the texts; a server that gives all of them one number has kept it.

    Raises:
        CallFailed: one is missing, or nobody can tell whose they are.
    """
    if len(items) != count:
        refuse(f"{len(items)} vectors came back for {count} texts", retryable=True)
    if len({item.index for item in items}) > 1:
        items = sorted(items, key=lambda item: item.index)
        if [item.index for item in items] != list(range(count)):
            refuse("the vectors that came back are not numbered as the texts are", retryable=True)
    return [list(item.embedding) for item in items]


def _with_tools(message: Any) -> dict[str, Any]:
    """An answer in the form that Mem0 reads where it gave tools."""
    calls = [
        {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
        for call in message.tool_calls or []
    ]
    return {"content": message.content, "tool_calls": calls}


def _lacks_form(error: Exception) -> bool:
    """Whether the server said that it does not know this kind of `response_format` (each says it in its own words)."""
    if not isinstance(error, openai.APIStatusError) or error.status_code not in (400, 415, 422, 501):
        return False
    words = f"{error.message} {error.body}".lower().replace("_", " ")
    return any(name in words for name in ("response format", "json schema", "json object"))
