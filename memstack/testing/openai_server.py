"""A server that speaks OpenAI's API over real HTTP, as strictly as the real one: for tests, with no key and no network.

What it knows of the real one is in the API reference and in what the real one was seen to answer:

* https://platform.openai.com/docs/api-reference/embeddings/create
* https://platform.openai.com/docs/api-reference/chat/create
* https://platform.openai.com/docs/api-reference/models
* https://platform.openai.com/docs/guides/error-codes (statuses), https://platform.openai.com/docs/guides/rate-limits
* https://platform.openai.com/docs/guides/structured-outputs (what ``strict`` schemas may hold)
* https://platform.openai.com/docs/guides/reasoning (what reasoning models do not take)
* https://github.com/openai/openai-openapi (names and bounds of all parameters)

What the models embed and say: :mod:`memstack.testing.stand_in`.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, NoReturn

from memstack.testing.stand_in import Chat, SchemaNotSupported, Turn, count_tokens, embed, first_tokens, reply
from memstack.testing.wire import Answer, Fault, Task, WireRequest, WireServer

__all__ = ["OpenAIModel", "OpenAIServer"]

# -- models ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenAIModel:
    """A model that a server has.

    Attributes:
        id: its name.
        dimensions: of its vectors; None: it is a chat model.
        shortens: an embedding model that takes ``dimensions``.
        context: tokens that a chat model takes.
        output: tokens that a chat model says at most.
        reasoning: a chat model that takes neither ``max_tokens`` nor sampling parameters.
        structured: a chat model that takes ``response_format: json_schema``.
    """

    id: str
    dimensions: int | None = None
    shortens: bool = False
    context: int = 128_000
    output: int = 16_384
    reasoning: bool = False
    structured: bool = True


def _reasoning(name: str, context: int = 400_000, output: int = 128_000) -> OpenAIModel:
    return OpenAIModel(name, context=context, output=output, reasoning=True)


_KNOWN: Final = {
    model.id: model
    for model in (
        OpenAIModel("text-embedding-3-small", dimensions=1536, shortens=True),
        OpenAIModel("text-embedding-3-large", dimensions=3072, shortens=True),
        OpenAIModel("text-embedding-ada-002", dimensions=1536),
        OpenAIModel("gpt-3.5-turbo", context=16_385, output=4_096, structured=False),
        OpenAIModel("gpt-4-turbo", output=4_096, structured=False),
        OpenAIModel("gpt-4o"),
        OpenAIModel("gpt-4o-mini"),
        OpenAIModel("gpt-4.1", context=1_047_576, output=32_768),
        OpenAIModel("gpt-4.1-mini", context=1_047_576, output=32_768),
        OpenAIModel("gpt-4.1-nano", context=1_047_576, output=32_768),
        _reasoning("o1", 200_000, 100_000),
        _reasoning("o3", 200_000, 100_000),
        _reasoning("o3-mini", 200_000, 100_000),
        _reasoning("o4-mini", 200_000, 100_000),
        _reasoning("gpt-5"),
        _reasoning("gpt-5-mini"),
        _reasoning("gpt-5-nano"),
    )
}

# -- errors ----------------------------------------------------------------------------------


class _Refused(Exception):
    """An error of the API, on its way to the client."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.answer = Answer.of(
            {"error": {"message": message, "type": kind, "param": param, "code": code}}, status=status
        )


def _bad(message: str, param: str | None = None, code: str | None = None) -> _Refused:
    return _Refused(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


_NOT_JSON: Final = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "
    "figuring out how to fix this, please contact us through our help center at help.openai.com.)"
)
_NO_KEY: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API "
    "from your browser and are prompted for a username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys."
)
_INVALID_INPUT: Final = (
    "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
)
_SERVER_ERROR: Final = (
    "The server had an error processing your request. Sorry about that! You can retry your request, or contact us "
    "through our help center at help.openai.com if you keep seeing this error. (Please include the request ID "
    "{request_id} in your email.)"
)
_OVERLOADED: Final = "The engine is currently overloaded, please try again later."
_RATE_LIMIT: Final = (
    "Rate limit reached for {model} in organization org-memstack on requests per min (RPM): Limit 3, Used 3, "
    "Requested 1. Please try again in {after}. Visit https://platform.openai.com/account/rate-limits to learn more."
)
_RATE_CODE: Final = "rate_limit_exceeded"
_REFUSALS: Final[dict[int, tuple[str, str, str | None]]] = {
    HTTPStatus.UNAUTHORIZED: (_NO_KEY, "invalid_request_error", None),
    HTTPStatus.FORBIDDEN: (
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (_OVERLOADED, "server_error", None),
}
_GATEWAY: Final = (
    "<html>\r\n<head><title>{status} {phrase}</title></head>\r\n<body>\r\n<center><h1>{status} {phrase}</h1></center>"
    "\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
)
_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a decimal"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
)


def _named(value: Any) -> str:
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "null")


def _wrong_type(param: str, expected: str, value: Any) -> _Refused:
    message = f"Invalid type for '{param}': expected {expected}, but got {_named(value)} instead."
    return _bad(message, param, "invalid_type")


def _missing(param: str) -> _Refused:
    return _bad(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _unknown_value(param: str, value: Any, supported: Sequence[str]) -> _Refused:
    quoted = [f"'{name}'" for name in supported]
    listed = f"{', '.join(quoted[:-1])}{',' if len(quoted) > 2 else ''} and {quoted[-1]}"  # noqa: PLR2004
    return _bad(f"Invalid value: '{value}'. Supported values are: {listed}.", param, "invalid_value")


# -- parameters ------------------------------------------------------------------------------

_EMBEDDING_PARAMETERS: Final = frozenset({"dimensions", "encoding_format", "input", "model", "user"})
_CHAT_PARAMETERS: Final = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
        "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
        "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    }
)  # fmt: skip
_ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")
_FORMATS: Final = ("json_object", "json_schema", "text")
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_PARTS: Final = ("text", "image_url", "input_audio", "refusal", "audio", "file")
_DECIMALS: Final = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
_DEFAULTS: Final = {"temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}
_MOST_INPUTS: Final = 2048
_MOST_TOKENS: Final = 8192
_MOST_TOKENS_OF_REQUEST: Final = 300_000
_MOST_CHOICES: Final = 128
_MOST_STOPS: Final = 4
_MOST_LOGPROBS: Final = 20
_TYPED: Final[dict[str, tuple[type, str]]] = {
    "logit_bias": (dict, "an object"),
    "logprobs": (bool, "a boolean"),
    "metadata": (dict, "an object"),
    "parallel_tool_calls": (bool, "a boolean"),
    "seed": (int, "an integer"),
    "store": (bool, "a boolean"),
    "stream": (bool, "a boolean"),
    "stream_options": (dict, "an object"),
    "tools": (list, "an array of objects"),
    "user": (str, "a string"),
}
_TOOLS: Final = ("function", "custom")
_CHOICES: Final = ("none", "auto", "required")
_STOPPING: Final = ("o1", "o3-mini")  # the reasoning models that take `stop`
_TURN_TOKENS: Final = 4
_SHOWN_KEY: Final = 12


def _integer(body: Mapping[str, Any], name: str, low: int, high: float = math.inf) -> int | None:
    """An integer parameter; null is as good as absent."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(name, "an integer", value)
    if value < low:
        message = f"Invalid '{name}': integer below minimum value. Expected a value >= {low}, but got {value} instead."
        raise _bad(message, name, "integer_below_min_value")
    if value > high:
        message = f"Invalid '{name}': integer above maximum value. Expected a value <= {high}, but got {value} instead."
        raise _bad(message, name, "integer_above_max_value")
    return value


def _decimal(body: Mapping[str, Any], name: str) -> float | None:
    """A number within its bounds; null is as good as absent."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _wrong_type(name, "a decimal", value)
    low, high = _DECIMALS[name]
    if value < low:
        message = f"Invalid '{name}': decimal below minimum value. Expected a value >= {low}, but got {value} instead."
        raise _bad(message, name, "decimal_below_min_value")
    if value > high:
        message = f"Invalid '{name}': decimal above maximum value. Expected a value <= {high}, but got {value} instead."
        raise _bad(message, name, "decimal_above_max_value")
    return value


# -- the server ------------------------------------------------------------------------------


class OpenAIServer(WireServer):
    """``POST /v1/embeddings``, ``POST /v1/chat/completions``, ``GET /v1/models`` and ``GET /v1/models/{id}``.

    What the real server rejects is rejected with its status and its error body. Two things it does are refused with a
    400 that says so: streaming, and tokens as the input of embeddings. Tools may be sent and are never called; images
    and sounds may be sent and are not looked at.

    Args:
        api_key: the key that it wants.
        models: those it has, by name where the name is OpenAI's; default: every one that it knows.
        chat: what the chat models say, in place of the rules of :mod:`memstack.testing.stand_in`.
        port: the port to listen on; 0: any free one.

    Attributes:
        api_key: the key that it wants.
    """

    def __init__(
        self,
        *,
        api_key: str = "sk-test-memstack",
        models: Iterable[OpenAIModel | str] | None = None,
        chat: Chat | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self.api_key = api_key
        self._models: dict[str, OpenAIModel] = {}
        for model in _KNOWN.values() if models is None else models:
            if isinstance(model, str):
                if model not in _KNOWN:
                    known = ", ".join(_KNOWN)
                    raise ValueError(f"{model!r} is not known: describe it with OpenAIModel. Known: {known}")
                self._models[model] = _KNOWN[model]
            else:
                self._models[model.id] = model
        self._chat = chat
        self._numbers = itertools.count(1)

    @property
    def base_url(self) -> str:
        """What ``OpenAI(base_url=…)`` and ``OPENAI_BASE_URL`` take."""
        return f"{self.url}/v1"

    # -- the base's questions --------------------------------------------------------------------

    lacks = frozenset({"stream_error"})

    def endpoint(self, path: str) -> Task | None:
        """What an endpoint is for."""
        if path == "/v1/embeddings":
            return "embed"
        if path == "/v1/chat/completions":
            return "chat"
        return "other" if path == "/v1/models" or path.startswith("/v1/models/") else None

    def refusal(self, status: int, request: WireRequest, retry_after: float | str | None) -> Answer:
        """The body of an error that has nothing to do with the request."""
        code: str | None = None
        if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT):
            page = _GATEWAY.format(status=status, phrase=HTTPStatus(status).phrase)
            return Answer(status, page.encode(), "text/html")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            after = f"{retry_after}s" if isinstance(retry_after, (int, float)) else "20s"
            message, kind, code = _RATE_LIMIT.format(model=_model_of(request), after=after), "requests", _RATE_CODE
        elif status in _REFUSALS:
            message, kind, code = _REFUSALS[status]
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            message, kind = _SERVER_ERROR.format(request_id=self._request_id()), "server_error"
        else:
            message, kind = "The request was refused.", "invalid_request_error"
        return _Refused(status, message, code=code, kind=kind).answer

    def retry_headers(self, after: float | str | None) -> dict[str, str]:
        """``Retry-After`` in seconds, and OpenAI's own header in milliseconds."""
        headers = super().retry_headers(after)
        if isinstance(after, (int, float)):
            headers["retry-after-ms"] = str(round(after * 1000))
        return headers

    def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
        """The answer to a request."""
        try:
            answer = self._respond(request, fault)
        except _Refused as refused:
            answer = refused.answer
        return replace(answer, headers={**answer.headers, "x-request-id": self._request_id()})

    def _request_id(self) -> str:
        return f"req_{next(self._numbers):032x}"

    def _respond(self, request: WireRequest, fault: Fault | None) -> Answer:
        path = request.path
        task = self.endpoint(path)
        if task is None:
            self._no_such_endpoint(request)
        wanted = "GET" if task == "other" else "POST"
        if request.method != wanted:
            raise _Refused(
                HTTPStatus.METHOD_NOT_ALLOWED, f"Only {wanted} requests are accepted.", code="method_not_supported"
            )
        self._authorise(request)
        if task == "embed":
            return self._embeddings(_body(request), fault)
        if task == "chat":
            return self._completion(_body(request), fault)
        return self._listed(path.removeprefix("/v1/models").removeprefix("/"))

    def _no_such_endpoint(self, request: WireRequest) -> NoReturn:
        asked = f"{request.method} {request.path}"
        if request.path.startswith("/v1/"):
            raise _Refused(HTTPStatus.NOT_FOUND, f"Invalid URL ({asked})")
        raise _Refused(
            HTTPStatus.NOT_FOUND,
            f"Unknown request URL: {asked}. Please check the URL for typos, or see the docs at "
            "https://platform.openai.com/docs/api-reference/.",
            code="unknown_url",
        )

    def _authorise(self, request: WireRequest) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise _Refused(HTTPStatus.UNAUTHORIZED, _NO_KEY)
        if key != self.api_key:
            shown = "*" * len(key) if len(key) <= _SHOWN_KEY else f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}"
            raise _Refused(
                HTTPStatus.UNAUTHORIZED,
                f"Incorrect API key provided: {shown}. You can find your API key at "
                "https://platform.openai.com/account/api-keys.",
                code="invalid_api_key",
            )

    def _listed(self, name: str) -> Answer:
        if not name:
            return Answer.of({"object": "list", "data": [_described(model) for model in self._models.values()]})
        if name not in self._models:
            raise _Refused(
                HTTPStatus.NOT_FOUND, f"The model '{name}' does not exist", param="model", code="model_not_found"
            )
        return Answer.of(_described(self._models[name]))

    def _model(self, body: Mapping[str, Any], parameters: frozenset[str]) -> OpenAIModel:
        """The model that is asked for, and no parameter that there is not."""
        name = body.get("model")
        if name is None or name == "":
            raise _bad("you must provide a model parameter")
        if not isinstance(name, str):
            raise _wrong_type("model", "a string", name)
        if name not in self._models:
            raise _Refused(
                HTTPStatus.NOT_FOUND,
                f"The model `{name}` does not exist or you do not have access to it.",
                code="model_not_found",
            )
        model = self._models[name]
        unknown = [key for key in body if key not in parameters]
        if "reasoning_effort" in body and body["reasoning_effort"] is not None and not model.reasoning:
            unknown.append("reasoning_effort")
        if unknown:
            plural = "s" if len(unknown) > 1 else ""
            raise _bad(f"Unrecognized request argument{plural} supplied: {', '.join(unknown)}")
        return model

    # -- embeddings ------------------------------------------------------------------------------

    def _embeddings(self, body: Mapping[str, Any], fault: Fault | None) -> Answer:
        model = self._model(body, _EMBEDDING_PARAMETERS)
        if model.dimensions is None:
            raise _Refused(HTTPStatus.FORBIDDEN, "You are not allowed to generate embeddings from this model")
        texts = _inputs(body)
        encoding = body.get("encoding_format") or "float"
        if encoding not in ("float", "base64"):
            raise _unknown_value("encoding_format", encoding, ("float", "base64"))
        shortened = _integer(body, "dimensions", 1)
        if shortened is not None:
            if not model.shortens:
                raise _bad("This model does not support specifying dimensions.")
            if shortened > model.dimensions:
                raise _bad(
                    f"Invalid value for 'dimensions' = {shortened}. Must be less than or equal to {model.dimensions}."
                )
        tokens = _tokens_of(texts, listed=isinstance(body["input"], list))
        vectors = embed(texts, model.dimensions, shortened)
        if fault is not None:
            vectors = fault.bend(vectors)
        return Answer.of(
            {
                "object": "list",
                "data": [
                    {
                        "object": "embedding",
                        "index": index,
                        "embedding": vector if encoding == "float" else _packed(vector),
                    }
                    for index, vector in enumerate(vectors)
                ],
                "model": model.id,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    # -- chat ------------------------------------------------------------------------------------

    def _completion(self, body: Mapping[str, Any], fault: Fault | None) -> Answer:
        model = self._model(body, _CHAT_PARAMETERS)
        if model.dimensions is not None:
            raise _Refused(
                HTTPStatus.NOT_FOUND,
                "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to "
                "use v1/completions?",
                param="model",
            )
        turns = _turns(body)
        _check_types(body)
        _check_together(body, model)
        _check_tools(body)
        limit = _limits(body, model)
        choices = _integer(body, "n", 1, _MOST_CHOICES) or 1
        json_only, schema = _format(body, model, turns)
        if body.get("stream"):
            raise _bad("memstack.testing does not stream: leave 'stream' out.", "stream", "unsupported_value")
        asked = sum(count_tokens(turn.text) + _TURN_TOKENS for turn in turns)
        if asked > model.context:
            raise _bad(
                f"This model's maximum context length is {model.context} tokens. However, your messages resulted in "
                f"{asked} tokens. Please reduce the length of the messages.",
                "messages",
                "context_length_exceeded",
            )
        try:
            said = reply(turns, json_only=json_only, schema=schema, chat=self._chat, fault=fault)
        except SchemaNotSupported as error:
            raise _bad(f"Invalid schema for response_format: {error}.", "response_format") from None
        text = first_tokens(said, limit)
        answered = count_tokens(text) * choices
        message, finish = _finished(text, fault, whole=text == said)
        return Answer.of(
            {
                "id": f"chatcmpl-{next(self._numbers):029x}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": model.id,
                "choices": [
                    {
                        "index": index,
                        "message": message,
                        "logprobs": None,
                        "finish_reason": finish,
                    }
                    for index in range(choices)
                ],
                "usage": {
                    "prompt_tokens": asked,
                    "completion_tokens": answered,
                    "total_tokens": asked + answered,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {
                        "reasoning_tokens": 0,
                        "audio_tokens": 0,
                        "accepted_prediction_tokens": 0,
                        "rejected_prediction_tokens": 0,
                    },
                },
                "service_tier": "default",
                "system_fingerprint": "fp_memstack",
            }
        )


def _described(model: OpenAIModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": 1_700_000_000, "owned_by": "system"}


def _packed(vector: Sequence[float]) -> str:
    """A vector as ``encoding_format: base64`` has it: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _body(request: WireRequest) -> dict[str, Any]:
    try:
        body = request.json
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _bad(_NOT_JSON)
    return body


def _model_of(request: WireRequest) -> str:
    try:
        return str(_body(request).get("model"))
    except _Refused:
        return "default"


# -- the input of embeddings -----------------------------------------------------------------


def _inputs(body: Mapping[str, Any]) -> list[str]:
    given = body.get("input")
    if given is None:
        raise _missing("input") if "input" not in body else _bad(_INVALID_INPUT)
    texts = given if isinstance(given, list) else [given]
    if texts and all(isinstance(text, (int, list)) and not isinstance(text, bool) for text in texts):
        raise _bad("memstack.testing embeds text only, no tokens: send strings as 'input'.", "input")
    if not 0 < len(texts) <= _MOST_INPUTS or not all(isinstance(text, str) and text for text in texts):
        raise _bad(_INVALID_INPUT)
    return texts


def _tokens_of(texts: Sequence[str], *, listed: bool) -> int:
    counts = [count_tokens(text) for text in texts]
    for index, count in enumerate(counts):
        if count > _MOST_TOKENS:
            place = f"input[{index}]" if listed else "input"
            raise _bad(f"Invalid '{place}': maximum input length is {_MOST_TOKENS} tokens.")
    total = sum(counts)
    if total > _MOST_TOKENS_OF_REQUEST:
        message = f"Requested {total} tokens, max {_MOST_TOKENS_OF_REQUEST} tokens per request"
        code = "max_tokens_per_request"
        raise _Refused(HTTPStatus.BAD_REQUEST, message, code=code, kind=code)
    return total


# -- the parameters of chat ------------------------------------------------------------------


def _turns(body: Mapping[str, Any]) -> list[Turn]:
    messages = body.get("messages")
    if messages is None:
        raise _missing("messages")
    if not isinstance(messages, list):
        raise _wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise _bad(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    turns = [_turn(f"messages[{index}]", index, message) for index, message in enumerate(messages)]
    _check_calls(messages)
    return turns


def _check_calls(messages: Sequence[Mapping[str, Any]]) -> None:
    """What a tool answered stands behind the call of it, and behind each call stands an answer."""
    open_calls: list[str] = []
    answering = False
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if not answering:
                raise _bad(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    f"messages.[{index}].role",
                )
            if message.get("tool_call_id") is None:
                raise _missing(f"messages[{index}].tool_call_id")
            open_calls = [call for call in open_calls if call != message["tool_call_id"]]
            continue
        _check_answered(open_calls)
        calls = message.get("tool_calls") or [] if role == "assistant" else []
        open_calls = [str(call.get("id")) for call in calls if isinstance(call, dict)]
        answering = bool(open_calls)
    _check_answered(open_calls)


def _check_answered(calls: Sequence[str]) -> None:
    if calls:
        raise _bad(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(calls)}",
            "messages",
        )


def _turn(place: str, index: int, message: Any) -> Turn:
    if not isinstance(message, dict):
        raise _wrong_type(place, "an object", message)
    role = message.get("role")
    if role is None:
        raise _missing(f"{place}.role")
    if role not in _ROLES:
        raise _unknown_value(f"{place}.role", role, _ROLES)
    content = message.get("content")
    if content is None:
        if role == "assistant" and (message.get("tool_calls") or message.get("function_call")):
            return Turn(role, "")
        if "content" not in message:
            raise _missing(f"{place}.content")
        raise _bad("Invalid value for 'content': expected a string, got null.", f"messages.[{index}].content")
    if isinstance(content, str):
        return Turn(role, content)
    if not isinstance(content, list):
        raise _wrong_type(f"{place}.content", "one of a string or array of objects", content)
    return Turn(role, "".join(_part(f"{place}.content[{number}]", part) for number, part in enumerate(content)))


def _part(place: str, part: Any) -> str:
    if not isinstance(part, dict):
        raise _wrong_type(place, "an object", part)
    kind = part.get("type")
    if kind is None:
        raise _missing(f"{place}.type")
    if kind not in _PARTS:
        raise _unknown_value(f"{place}.type", kind, _PARTS)
    if kind != "text":
        return ""
    if "text" not in part:
        raise _missing(f"{place}.text")
    if not isinstance(part["text"], str):
        raise _wrong_type(f"{place}.text", "a string", part["text"])
    return part["text"]


def _check_types(body: Mapping[str, Any]) -> None:
    for name, (kind, expected) in _TYPED.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise _wrong_type(name, expected, value)
    for name, value in (body.get("metadata") or {}).items():
        if not isinstance(value, str):
            raise _wrong_type(f"metadata.{name}", "a string", value)
    stop = body.get("stop")
    if stop is not None and not isinstance(stop, (str, list)):
        raise _wrong_type("stop", "one of an array of strings or a string", stop)
    if isinstance(stop, list) and len(stop) > _MOST_STOPS:
        raise _bad(
            f"Invalid 'stop': array too long. Expected an array with maximum length {_MOST_STOPS}, but got an array "
            f"with length {len(stop)} instead.",
            "stop",
            "array_above_max_length",
        )
    _integer(body, "top_logprobs", 0, _MOST_LOGPROBS)


def _check_together(body: Mapping[str, Any], model: OpenAIModel) -> None:
    """What goes with other parameters only, or not with them, or not with a model that reasons."""
    for name, needed in (("stream_options", "stream"), ("top_logprobs", "logprobs")):
        if body.get(name) is not None and not body.get(needed):
            raise _bad(f"The '{name}' parameter is only allowed when '{needed}' is enabled.", name)
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise _bad(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    if model.reasoning and body.get("stop") is not None and not model.id.startswith(_STOPPING):
        message = "Unsupported parameter: 'stop' is not supported with this model."
        raise _bad(message, "stop", "unsupported_parameter")


def _check_tools(body: Mapping[str, Any]) -> None:
    """Tools that can be called by name, and nothing about them where there are none."""
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                raise _bad(f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", name)
        return
    if not tools:
        raise _bad(
            "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "tools",
            "empty_array",
        )
    for place, tool in ((f"tools[{number}]", tool) for number, tool in enumerate(tools)):
        if not isinstance(tool, dict):
            raise _wrong_type(place, "an object", tool)
        kind = tool.get("type")
        if kind is None:
            raise _missing(f"{place}.type")
        if kind not in _TOOLS:
            raise _unknown_value(f"{place}.type", kind, _TOOLS)
        described = tool.get(kind)
        if described is None:
            raise _missing(f"{place}.{kind}")
        if not isinstance(described, dict):
            raise _wrong_type(f"{place}.{kind}", "an object", described)
        _check_name(f"{place}.{kind}.name", described.get("name"))
    choice = body.get("tool_choice")
    if choice is not None and not isinstance(choice, dict) and choice not in _CHOICES:
        raise _unknown_value("tool_choice", choice, _CHOICES)


def _check_name(place: str, name: Any) -> None:
    if name is None:
        raise _missing(place)
    if not isinstance(name, str):
        raise _wrong_type(place, "a string", name)
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise _bad(
            f"Invalid '{place}': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            place,
            "invalid_value",
        )


def _limits(body: Mapping[str, Any], model: OpenAIModel) -> int:
    """The tokens that may be said; and nothing that the model does not take."""
    if model.reasoning and body.get("max_tokens") is not None:
        raise _bad(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    for name, default in _DEFAULTS.items():
        value = _decimal(body, name)
        if model.reasoning and value is not None and value != default:
            if name != "temperature" or model.id.startswith("o3-mini"):
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                raise _bad(message, name, "unsupported_parameter")
            raise _bad(
                f"Unsupported value: 'temperature' does not support {json.dumps(value)} with this model. Only the "
                "default (1) value is supported.",
                "temperature",
                "unsupported_value",
            )
    if (effort := body.get("reasoning_effort")) is not None and effort not in _EFFORTS:
        raise _unknown_value("reasoning_effort", effort, _EFFORTS)
    limit = model.output
    for name in ("max_tokens", "max_completion_tokens"):
        asked = _integer(body, name, 1)
        if asked is not None and asked > model.output:
            raise _bad(
                f"{name} is too large: {asked}. This model supports at most {model.output} completion tokens, whereas "
                f"you provided {asked}.",
                name,
                "invalid_value",
            )
        limit = min(limit, asked or limit)
    return limit


def _format(body: Mapping[str, Any], model: OpenAIModel, turns: Sequence[Turn]) -> tuple[bool, dict[str, Any] | None]:
    """Whether the answer has to be JSON, and the schema that it has to fulfil."""
    wanted = body.get("response_format")
    if wanted is None:
        return False, None
    if not isinstance(wanted, dict):
        raise _wrong_type("response_format", "an object", wanted)
    kind = wanted.get("type")
    if kind is None:
        raise _missing("response_format.type")
    if kind not in _FORMATS:
        raise _unknown_value("response_format.type", kind, _FORMATS)
    if kind == "json_schema":
        return True, _schema(wanted, model)
    if kind == "json_object" and not any("json" in turn.text.lower() for turn in turns):
        raise _bad(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
        )
    return kind == "json_object", None


def _schema(wanted: Mapping[str, Any], model: OpenAIModel) -> dict[str, Any]:
    if not model.structured:
        raise _bad(
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model. Learn more "
            "about supported models at the Structured Outputs guide: "
            "https://platform.openai.com/docs/guides/structured-outputs"
        )
    place = "response_format.json_schema"
    described = wanted.get("json_schema")
    if described is None:
        raise _missing(place)
    if not isinstance(described, dict):
        raise _wrong_type(place, "an object", described)
    name, schema = described.get("name"), described.get("schema")
    _check_name(f"{place}.name", name)
    if schema is None:
        raise _missing(f"{place}.schema")
    if not isinstance(schema, dict):
        raise _wrong_type(f"{place}.schema", "an object", schema)
    if described.get("strict"):
        problem = _not_strict(schema)
        if problem is not None:
            raise _bad(f"Invalid schema for response_format '{name}': {problem}", "response_format")
    return schema


_NOT_PERMITTED: Final = ("allOf", "oneOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else")


def _not_strict(schema: Mapping[str, Any]) -> str | None:
    """Why a schema is none that ``strict`` takes, in the words of the real server."""
    kind = schema.get("type")
    if kind != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    return _not_strict_within(schema, ())


def _not_strict_within(schema: Any, place: tuple[str, ...]) -> str | None:
    if not isinstance(schema, dict):
        return f"In context={place!r}, schema must be an object."
    for keyword in _NOT_PERMITTED:
        if keyword in schema:
            return f"In context={place!r}, '{keyword}' is not permitted."
    if not {"$ref", "anyOf", "type", "enum", "const"} & schema.keys():
        return f"In context={place!r}, schema must have a 'type' key."
    kinds = schema.get("type")
    if kinds == "object" or (isinstance(kinds, list) and "object" in kinds):
        if schema.get("additionalProperties") is not False:
            return f"In context={place!r}, 'additionalProperties' is required to be supplied and to be false."
        required = schema.get("required")
        for name in schema.get("properties", {}):
            if not isinstance(required, list) or name not in required:
                return (
                    f"In context={place!r}, 'required' is required to be supplied and to be an array including every "
                    f"key in properties. Missing '{name}'."
                )
    parts = [
        *(((*place, key, name), part) for key in ("properties", "$defs", "definitions")
          for name, part in schema.get(key, {}).items()),
        *(((*place, "anyOf", str(number)), part) for number, part in enumerate(schema.get("anyOf", ()))),
        *([((*place, "items"), schema["items"])] if "items" in schema else []),
    ]  # fmt: skip
    return next((problem for where, part in parts if (problem := _not_strict_within(part, where))), None)


def _finished(text: str, fault: Fault | None, *, whole: bool) -> tuple[dict[str, Any], str]:
    """The message of a choice, and why it ended; see the guide to structured outputs for refusals."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if fault is not None and fault.kind == "refusal":
        if fault.style == "content_filter":
            return {**message, "content": ""}, "content_filter"
        return {**message, "content": None, "refusal": "I'm sorry, I cannot assist with that request."}, "stop"
    return message, "stop" if whole and (fault is None or fault.kind != "length") else "length"
