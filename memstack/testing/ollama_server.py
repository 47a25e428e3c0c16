"""A server that speaks Ollama's API over real HTTP, as strictly as the real one: for tests, with no model, no network.

What it knows of the real one is in the API reference and in its source (``server/routes.go``, ``server/prompt.go``,
``llm/llama_server.go``, ``api/types.go`` of August 2026):

* https://github.com/ollama/ollama/blob/main/docs/api.md (also at https://docs.ollama.com/api)
* https://docs.ollama.com/api/errors (statuses, and errors in the middle of a stream)
* https://docs.ollama.com/capabilities/structured-outputs, https://docs.ollama.com/capabilities/thinking,
  https://docs.ollama.com/capabilities/embeddings
* https://docs.ollama.com/context-length (what ``num_ctx`` is where nobody sets it)

What the models embed and say: :mod:`memstack.testing.stand_in`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any, Final, Literal

from memstack.testing.stand_in import Chat, SchemaNotSupported, Turn, count_tokens, embed, first_tokens, pieces, reply
from memstack.testing.wire import Answer, Fault, Task, WireRequest, WireServer

__all__ = ["OllamaModel", "OllamaServer"]

# -- models ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class OllamaModel:
    """A model that a server has, or that it can pull.

    Attributes:
        name: its name, with or without a tag.
        family: its architecture, which begins the keys of ``model_info``.
        context: the tokens it was trained for (``context_length``).
        dimensions: the length of its vectors, or of its hidden states (``embedding_length``).
        capabilities: ``("embedding",)`` for an embedding model; else ``"completion"``, ``"tools"``, ``"thinking"``.
        num_ctx: what its Modelfile sets ``num_ctx`` to; None: nothing.
        overflow: what happens to a prompt that does not fit: ``"truncate"``, silently, or ``"refuse"``, with a 400.
            The real server does the one or the other depending on how a model's chat template is rendered.
        parameters: how many it has, for a person.
    """

    name: str
    family: str = "llama"
    context: int = 131_072
    dimensions: int = 4096
    capabilities: tuple[str, ...] = ("completion", "tools")
    num_ctx: int | None = None
    overflow: Literal["truncate", "refuse"] = "truncate"
    parameters: str = "8.0B"


_EMBEDDING: Final = ("embedding",)
_THINKING: Final = ("completion", "tools", "thinking")
_KNOWN: Final = {
    model.name: model
    for model in (
        OllamaModel("all-minilm", "bert", 512, 384, _EMBEDDING, parameters="23M"),
        OllamaModel("bge-m3", "bert", 8192, 1024, _EMBEDDING, parameters="566.70M"),
        OllamaModel("embeddinggemma", "gemma3", 2048, 768, _EMBEDDING, parameters="307.58M"),
        OllamaModel("mxbai-embed-large", "bert", 512, 1024, _EMBEDDING, parameters="334M"),
        OllamaModel("nomic-embed-text", "nomic-bert", 2048, 768, _EMBEDDING, num_ctx=8192, parameters="137M"),
        OllamaModel("qwen3-embedding:0.6b", "qwen3", 32_768, 1024, _EMBEDDING, parameters="595.78M"),
        OllamaModel("gemma3", "gemma3", 131_072, 2560, ("completion", "vision"), parameters="4.3B"),
        OllamaModel("llama3.2", "llama", 131_072, 3072, parameters="3.2B"),
        OllamaModel("llama3.1", "llama", 131_072, 4096, parameters="8.0B"),
        OllamaModel("mistral", "llama", 32_768, 4096, parameters="7.2B"),
        OllamaModel("qwen2.5", "qwen2", 32_768, 3584, parameters="7.6B"),
        OllamaModel("qwen3", "qwen3", 40_960, 4096, _THINKING, parameters="8.2B"),
    )
}
_INSTALLED: Final = ("nomic-embed-text", "all-minilm", "llama3.2", "qwen3")
_NAME: Final = re.compile(
    r"(?:(?:(?P<host>\w[\w.:-]*)/)?(?P<namespace>\w[\w-]*)/)?(?P<model>\w[\w.-]*)(?::(?P<tag>\w[\w.-]*))?", re.ASCII
)
_DEFAULT_HOST: Final = "registry.ollama.ai"
_DEFAULT_NAMESPACE: Final = "library"


def _full_name(name: str) -> str | None:
    """A name as the server writes it, with its tag; None where it is none."""
    parts = _NAME.fullmatch(name.strip().removeprefix("https://").removeprefix("http://"))
    if parts is None:
        return None
    host, namespace = parts["host"] or _DEFAULT_HOST, parts["namespace"] or _DEFAULT_NAMESPACE
    shown = f"{parts['model']}:{parts['tag'] or 'latest'}"
    if host.lower() != _DEFAULT_HOST:
        return f"{host}/{namespace}/{shown}"
    return shown if namespace.lower() == _DEFAULT_NAMESPACE else f"{namespace}/{shown}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


# -- requests, as Go reads them --------------------------------------------------------------


class _Refused(Exception):
    """An error of the API, on its way to the client."""

    def __init__(self, message: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.answer = Answer.of({"error": message}, status)


_GO_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "bool"),
    (int, "number"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)
_PYTHON_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "bool": bool,
    "int": int,
    "string": str,
    "[]api.Message": list,
    "[]api.Tool": list,
    "[]api.ImageData": list,
    "map[string]interface {}": dict,
}
_COMMON: Final = {"model": "string", "options": "map[string]interface {}"}
_FIELDS: Final[dict[str, dict[str, str]]] = {
    "ChatRequest": {
        **_COMMON,
        "messages": "[]api.Message",
        "stream": "bool",
        "tools": "[]api.Tool",
        "truncate": "bool",
        "shift": "bool",
        "logprobs": "bool",
        "top_logprobs": "int",
    },
    "EmbedRequest": {**_COMMON, "truncate": "bool", "dimensions": "int"},
    "EmbeddingRequest": {**_COMMON, "prompt": "string"},
    "PullRequest": {"model": "string", "name": "string", "stream": "bool", "insecure": "bool"},
    "ShowRequest": {**_COMMON, "name": "string", "system": "string", "verbose": "bool"},
}
_MESSAGE_FIELDS: Final = {
    "role": "string",
    "content": "string",
    "thinking": "string",
    "tool_name": "string",
    "images": "[]api.ImageData",
}
_INTEGER_OPTIONS: Final = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict", "top_k",
     "repeat_last_n"}
)  # fmt: skip
_FLOAT_OPTIONS: Final = frozenset(
    {"top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"}
)
_DURATION: Final = re.compile(r"[-+]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_THINK_LEVELS: Final = ("high", "medium", "low", "max")


def _go_kind(value: Any) -> str:
    return next(kind for type_, kind in _GO_KINDS if isinstance(value, type_))


def _check(value: Any, wanted: str, place: str) -> None:
    """Go's error for a value that does not go into a field; null goes into any."""
    if value is None:
        return
    kind = _go_kind(value)
    if wanted == "int" and isinstance(value, float):
        kind = f"number {value!r}"
    elif isinstance(value, _PYTHON_TYPES[wanted]) and (wanted == "bool" or not isinstance(value, bool)):
        return
    raise _Refused(f"json: cannot unmarshal {kind} into Go struct field {place} of type {wanted}")


def _read(request: WireRequest, struct: str) -> dict[str, Any]:
    """The body of a request, its fields of the types that Go's structs have."""
    if not request.body.strip():
        raise _Refused("missing request body")
    try:
        body = request.json
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc):
            raise _Refused("unexpected EOF") from None
        raise _Refused(f"invalid character {error.doc[error.pos]!r} looking for beginning of value") from None
    except (ValueError, RecursionError):
        raise _Refused("invalid character in the request body") from None
    if not isinstance(body, dict):
        raise _Refused(f"json: cannot unmarshal {_go_kind(body)} into Go value of type api.{struct}")
    for name, wanted in _FIELDS[struct].items():
        _check(body.get(name), wanted, f"{struct}.{name}")
    _check_keep_alive(body.get("keep_alive"))
    return body


def _check_keep_alive(value: Any) -> None:
    if isinstance(value, str) and not _DURATION.fullmatch(value):
        lacks_unit = re.fullmatch(r"[-+]?[\d.]+", value)
        raise _Refused(f"time: {'missing unit in' if lacks_unit else 'invalid'} duration {json.dumps(value)}")
    if isinstance(value, (bool, list, dict)):
        kind = {"array": "[]interface {}", "object": "map[string]interface {}"}.get(_go_kind(value), "bool")
        raise _Refused(f"Unsupported type: '{kind}'")


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a request; those that the server does not know are ignored there, too."""
    options = {name: value for name, value in (body.get("options") or {}).items() if value is not None}
    for name, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name in _INTEGER_OPTIONS and not number:
            raise _Refused(f'option "{name}" must be of type integer', HTTPStatus.INTERNAL_SERVER_ERROR)
        if name in _FLOAT_OPTIONS and not number:
            raise _Refused(f'option "{name}" must be of type float32', HTTPStatus.INTERNAL_SERVER_ERROR)
        if name == "stop" and not isinstance(value, list):
            raise _Refused('option "stop" must be of type array', HTTPStatus.INTERNAL_SERVER_ERROR)
    return options


def _turns(body: Mapping[str, Any]) -> list[Turn]:
    turns: list[Turn] = []
    for message in body.get("messages") or ():
        if message is None:
            turns.append(Turn("", ""))
            continue
        if not isinstance(message, dict):
            kind = _go_kind(message)
            raise _Refused(
                f"json: cannot unmarshal {kind} into Go struct field ChatRequest.messages of type api.Message"
            )
        for name, wanted in _MESSAGE_FIELDS.items():
            _check(message.get(name), wanted, f"ChatRequest.messages.{name}")
        turns.append(Turn(str(message.get("role") or "").lower(), message.get("content") or ""))
    return turns


# -- the server ------------------------------------------------------------------------------

_ENDPOINTS: Final[dict[str, tuple[str, Task]]] = {
    "/": ("GET", "other"),
    "/api/chat": ("POST", "chat"),
    "/api/embed": ("POST", "embed"),
    "/api/embeddings": ("POST", "embed"),
    "/api/pull": ("POST", "other"),
    "/api/show": ("POST", "other"),
    "/api/tags": ("GET", "other"),
    "/api/version": ("GET", "other"),
}
_REFUSALS: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not found",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests",
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check "
        "ollama server logs for details"
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: "server busy, please try again.  maximum pending requests exceeded",
}
_GATEWAY: Final = "<html><head><title>{status} {phrase}</title></head><body><h1>{status} {phrase}</h1></body></html>\n"
_NO_EMBEDDINGS: Final = "This server does not support embeddings. Start it with `--embeddings`"
_TOO_LONG: Final = "the input length exceeds the context length"
_OVER_CONTEXT: Final = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)
_THOUGHT: Final = "The user wants an answer in the format that was asked for. This is what it says."
_LEAST_CTX: Final = 4
_NUM_KEEP: Final = 4
_TURN_TOKENS: Final = 4
_SPECIAL_TOKENS: Final = 2
_PIECE: Final = 4
_MOST_LOGPROBS: Final = 20


class OllamaServer(WireServer):
    """``/api/embed``, ``/api/embeddings``, ``/api/chat``, ``tags``, ``show``, ``pull`` and ``version``.

    What the real server rejects is rejected with its status and its error body. Like the real one it cuts a prompt that
    is longer than ``num_ctx`` without a word: whole messages first (never a system message, never the last one), then
    tokens after the first ``num_keep``, down to half of the context; ``prompt_eval_count`` is what is left. A request
    with ``"shift": false`` or ``"truncate": false``, and a model whose `overflow` is ``"refuse"``, get a 400 instead.

    Args:
        models: those that are present, by name where it is one that this module knows; default: `nomic-embed-text`,
            `all-minilm`, `llama3.2` (chat), `qwen3` (chat, thinking).
        library: those that a pull finds; default: every one that this module knows.
        num_ctx: the context length where neither the request nor the model sets one (``OLLAMA_CONTEXT_LENGTH``).
        version: of the server.
        chat: what the chat models say, in place of the rules of :mod:`memstack.testing.stand_in`.
        port: the port to listen on; 0: any free one.
    """

    def __init__(
        self,
        *,
        models: Iterable[OllamaModel | str] = _INSTALLED,
        library: Iterable[OllamaModel | str] | None = None,
        num_ctx: int = 4096,
        version: str = "0.33.2",
        chat: Chat | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self._present = _by_name(models)
        self._library = _by_name(_KNOWN.values() if library is None else library)
        self._num_ctx = num_ctx
        self._version = version
        self._chat = chat

    @property
    def host(self) -> str:
        """What ``ollama.Client(host=…)`` and ``OLLAMA_HOST`` take."""
        return self.url

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that are present, pulled ones included."""
        with self._lock:
            return tuple(self._present)

    # -- the base's questions --------------------------------------------------------------------

    lacks = frozenset({"refusal"})

    def endpoint(self, path: str) -> Task | None:
        """What an endpoint is for."""
        return _ENDPOINTS[path][1] if path in _ENDPOINTS else None

    def refusal(self, status: int, request: WireRequest, retry_after: float | str | None) -> Answer:  # noqa: ARG002
        """The body of an error that has nothing to do with the request."""
        if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT):
            page = _GATEWAY.format(status=status, phrase=HTTPStatus(status).phrase)
            return Answer(status, page.encode(), "text/html")
        return _by_gin(Answer.of({"error": _REFUSALS.get(status, f"status {status}")}, status))

    def respond(self, request: WireRequest, fault: Fault | None) -> Answer:
        """The answer to a request."""
        known = _ENDPOINTS.get(request.path)
        if known is None:
            return Answer(HTTPStatus.NOT_FOUND, b"404 page not found", "text/plain")
        if request.method not in (known[0], "HEAD" if known[0] == "GET" else known[0]):
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"405 method not allowed", "text/plain")
        try:
            answer = self._respond(request, fault)
        except _Refused as refused:
            answer = refused.answer
        if request.path == "/api/pull" and answer.status != HTTPStatus.BAD_REQUEST:
            return answer  # it says of itself what it is
        return _by_gin(answer)

    def _respond(self, request: WireRequest, fault: Fault | None) -> Answer:
        match request.path:
            case "/api/chat":
                return self._chatting(request, fault)
            case "/api/embed":
                return self._embed(request, fault)
            case "/api/embeddings":
                return self._embeddings(request, fault)
            case "/api/pull":
                return self._pull(request)
            case "/api/show":
                return self._show(request)
            case "/api/tags":
                with self._lock:
                    return Answer.of({"models": [_tag(name, model) for name, model in self._present.items()]})
            case "/api/version":
                return Answer.of({"version": self._version})
            case _:
                return Answer(HTTPStatus.OK, b"Ollama is running", "text/plain; charset=utf-8")

    # -- models ----------------------------------------------------------------------------------

    def _find(self, full_name: str) -> OllamaModel | None:
        with self._lock:
            return next((model for name, model in self._present.items() if name.lower() == full_name.lower()), None)

    def _model(self, body: Mapping[str, Any], empty: _Refused, missing: str) -> OllamaModel:
        """The model that is asked for."""
        asked = body.get("model") or ""
        if not asked.strip():
            raise empty
        full_name = _full_name(asked)
        if full_name is None:
            raise _Refused("invalid model name")
        model = self._find(full_name)
        if model is None:
            raise _Refused(missing, HTTPStatus.NOT_FOUND)
        return model

    def _context(self, model: OllamaModel, options: Mapping[str, Any]) -> int:
        """The context that a model is loaded with: at most the one that it was trained for."""
        asked = int(options.get("num_ctx", model.num_ctx or self._num_ctx))
        return min(max(asked, _LEAST_CTX), model.context)

    def _show(self, request: WireRequest) -> Answer:
        body = _read(request, "ShowRequest")
        body["model"] = body.get("model") or body.get("name")
        full_name = _full_name(body["model"] or "")
        model = self._model(body, _Refused("model is required"), f"model '{full_name}' not found")
        parameters = [] if model.num_ctx is None else [f"{'num_ctx':<30} {model.num_ctx}"]
        return Answer.of(
            {
                "modelfile": f'# Modelfile generated by "ollama show"\n# FROM {full_name}\n',
                **({"parameters": "\n".join(parameters)} if parameters else {}),
                "template": "{{ .Prompt }}",
                "details": _details(model),
                "model_info": {
                    "general.architecture": model.family,
                    "general.file_type": 2,
                    f"{model.family}.context_length": model.context,
                    f"{model.family}.embedding_length": model.dimensions,
                    **({f"{model.family}.pooling_type": 1} if "embedding" in model.capabilities else {}),
                },
                "capabilities": list(model.capabilities),
                "modified_at": _MODIFIED,
            }
        )

    def _pull(self, request: WireRequest) -> Answer:
        body = _read(request, "PullRequest")
        full_name = _full_name(body.get("model") or body.get("name") or "")
        if full_name is None:
            raise _Refused("invalid model name")
        model = self._find(full_name) or next(
            (model for name, model in self._library.items() if name.lower() == full_name.lower()), None
        )
        streams = body.get("stream") is not False
        if model is None:
            error = {"error": "pull model manifest: file does not exist"}
            if streams:
                return _stream([{"status": "pulling manifest"}, error])
            return Answer.of(error, HTTPStatus.INTERNAL_SERVER_ERROR)
        with self._lock:
            self._present[full_name] = model
        return _stream(_progress(full_name)) if streams else Answer.of({"status": "success"})

    # -- embeddings ------------------------------------------------------------------------------

    def _embed(self, request: WireRequest, fault: Fault | None) -> Answer:
        begun = time.perf_counter_ns()
        body = _read(request, "EmbedRequest")
        asked = body.get("model") or ""
        missing = f"model '{asked}' not found"
        if not asked.strip():
            raise _Refused(missing, HTTPStatus.NOT_FOUND)
        if _full_name(asked) is None:
            raise _Refused("invalid model name")
        texts = _inputs(body.get("input"))
        model = self._model(body, _Refused(missing), missing)
        options = _options(body)
        if not texts:
            return Answer.of({"model": asked, "embeddings": []})
        if "embedding" not in model.capabilities:
            raise _Refused(_NO_EMBEDDINGS, HTTPStatus.NOT_IMPLEMENTED)
        limit = self._context(model, options) - _SPECIAL_TOKENS
        if body.get("truncate") is False and any(count_tokens(text) > limit for text in texts):
            raise _Refused(_TOO_LONG)
        texts = [first_tokens(text, limit) for text in texts]
        wanted = body.get("dimensions") or 0
        vectors = embed(texts, model.dimensions, wanted if 0 < wanted < model.dimensions else None)
        if fault is not None:
            vectors = fault.bend(vectors)
        return Answer.of(
            {
                "model": asked,
                "embeddings": vectors,
                "total_duration": time.perf_counter_ns() - begun,
                "load_duration": 1,
                "prompt_eval_count": sum(count_tokens(text) + _SPECIAL_TOKENS for text in texts),
            }
        )

    def _embeddings(self, request: WireRequest, fault: Fault | None) -> Answer:
        body = _read(request, "EmbeddingRequest")
        missing = f'model "{body.get("model")}" not found, try pulling it first'
        model = self._model(body, _Refused("model is required"), missing)
        options = _options(body)
        prompt = body.get("prompt") or ""
        if not prompt:
            return Answer.of({"embedding": []})
        if "embedding" not in model.capabilities:
            raise _Refused(_NO_EMBEDDINGS, HTTPStatus.INTERNAL_SERVER_ERROR)
        if count_tokens(prompt) > self._context(model, options) - _SPECIAL_TOKENS:
            raise _Refused(_TOO_LONG, HTTPStatus.INTERNAL_SERVER_ERROR)
        vectors = embed([prompt], model.dimensions)
        if fault is not None:
            vectors = fault.bend(vectors)
        return Answer.of({"embedding": vectors[0] if vectors else []})

    # -- chat ------------------------------------------------------------------------------------

    def _chatting(self, request: WireRequest, fault: Fault | None) -> Answer:
        begun = time.perf_counter_ns()
        body = _read(request, "ChatRequest")
        turns = _turns(body)
        think = _think(body)
        if not 0 <= (body.get("top_logprobs") or 0) <= _MOST_LOGPROBS:
            raise _Refused("top_logprobs must be between 0 and 20")
        asked = body.get("model") or ""
        model = self._model(body, _Refused("model is required"), f"model '{asked}' not found")
        if not turns and body.get("keep_alive") == 0:
            return Answer.of(_said(asked, "", done="unload"))
        thinks = self._thinks(asked, model, body, wanted=think)
        options = _options(body)
        if not turns:
            return Answer.of(_said(asked, "", done="load"))
        kept, evaluated, lost = self._fitted(turns, model, body, options)
        json_only, schema = _format(body.get("format"))
        try:
            full = reply(kept, json_only=json_only, schema=schema, lost=lost, chat=self._chat, fault=fault)
        except SchemaNotSupported as error:
            raise _Refused(f"failed to parse grammar: {error}") from None
        limit = int(options.get("num_predict", -1))
        text = full if limit < 0 else first_tokens(full, limit)
        metrics = {
            "total_duration": time.perf_counter_ns() - begun,
            "load_duration": 1,
            "prompt_eval_count": evaluated,
            "prompt_eval_duration": 1,
            "eval_count": count_tokens(text) + (count_tokens(_THOUGHT) if thinks else 0),
            "eval_duration": 1,
        }
        done = "stop" if text == full and (fault is None or fault.kind != "length") else "length"
        if body.get("stream") is False:
            return Answer.of({**_said(asked, text, _THOUGHT if thinks else "", done=done), **metrics})
        return _stream(
            [
                *([_said(asked, "", _THOUGHT)] if thinks else []),
                *(_said(asked, piece) for piece in _in_pieces(text)),
                {**_said(asked, "", done=done), **metrics},
            ]
        )

    def _thinks(self, asked: str, model: OllamaModel, body: Mapping[str, Any], *, wanted: bool | None) -> bool:
        """Whether the model thinks first: one that can does, unless it is told not to."""
        can = "thinking" in model.capabilities
        if wanted and not can:
            raise _Refused(f"{json.dumps(asked)} does not support thinking")
        if "completion" not in model.capabilities:
            raise _Refused(f"{json.dumps(asked)} does not support chat")
        if body.get("tools") and "tools" not in model.capabilities:
            full_name = f"{_DEFAULT_HOST}/{_DEFAULT_NAMESPACE}/{_full_name(asked)}"
            raise _Refused(f"{full_name} does not support tools")
        return can and wanted is not False

    def _fitted(
        self, turns: list[Turn], model: OllamaModel, body: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[list[Turn], int, bool]:
        """The messages that fit, the tokens that are left of them, and whether some were lost inside a message."""
        context = self._context(model, options)
        truncates = body.get("truncate") is not False
        kept = turns
        if truncates:
            for first in range(len(turns)):
                kept = [*(turn for turn in turns[:first] if turn.role == "system"), *turns[first:]]
                if _prompt_tokens(kept) <= context:
                    break
        tokens = _prompt_tokens(kept)
        if tokens < context:
            return kept, tokens, False
        if not truncates or model.overflow == "refuse":
            message = (
                f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
            )
            error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
            raise _Refused(json.dumps({"error": {**error, "n_prompt_tokens": tokens, "n_ctx": context}}))
        if body.get("shift") is False:
            raise _Refused(_OVER_CONTEXT)
        kept_tokens = min(max(int(options.get("num_keep", _NUM_KEEP)), 0), context - 1)
        return kept, context - max((context - kept_tokens) // 2, 1), True


# -- what it answers -------------------------------------------------------------------------

_MODIFIED: Final = "2026-01-01T00:00:00Z"


def _by_name(models: Iterable[OllamaModel | str]) -> dict[str, OllamaModel]:
    found: dict[str, OllamaModel] = {}
    for given in models:
        if isinstance(given, str) and given.removesuffix(":latest") not in _KNOWN:
            raise ValueError(f"{given!r} is not known: describe it with OllamaModel. Known: {', '.join(_KNOWN)}")
        model = _KNOWN[given.removesuffix(":latest")] if isinstance(given, str) else given
        full_name = _full_name(model.name)
        if full_name is None:
            raise ValueError(f"{model.name!r} is no name of a model")
        found[full_name] = model
    return found


def _details(model: OllamaModel) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameters,
        "quantization_level": "Q4_K_M",
    }


def _tag(name: str, model: OllamaModel) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": _MODIFIED,
        "size": 2_019_393_189,
        "digest": _digest(name),
        "details": _details(model),
        "capabilities": list(model.capabilities),
    }


def _progress(name: str) -> Iterator[dict[str, Any]]:
    yield {"status": "pulling manifest"}
    for layer, total in (("model", 274_290_656), ("config", 420)):
        digest = _digest(f"{name}/{layer}")
        pulling = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": total}
        yield pulling
        yield {**pulling, "completed": total // 2}
        yield {**pulling, "completed": total}
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    yield {"status": "success"}


def _by_gin(answer: Answer) -> Answer:
    """The same, with the type that the server's framework gives to JSON."""
    plain = answer.content_type == "application/json"
    return replace(answer, content_type="application/json; charset=utf-8") if plain else answer


def _stream(values: Iterable[Any]) -> Answer:
    lines = tuple(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for value in values)
    return Answer(HTTPStatus.OK, content_type="application/x-ndjson", lines=lines)


def _said(model: str, content: str, thinking: str = "", *, done: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **({"thinking": thinking} if thinking else {})}
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    answer: dict[str, Any] = {"model": model, "created_at": now, "message": message, "done": done is not None}
    return answer if done is None else {**answer, "done_reason": done}


def _in_pieces(text: str) -> Iterator[str]:
    tokens = list(pieces(text))
    for start in range(0, len(tokens), _PIECE):
        yield "".join(tokens[start : start + _PIECE])


def _prompt_tokens(turns: Sequence[Turn]) -> int:
    return sum(count_tokens(turn.text) + _TURN_TOKENS for turn in turns)


def _inputs(given: Any) -> list[str]:
    """The texts to embed: an empty one alone is none."""
    if given is None or given == "":
        return []
    texts = given if isinstance(given, list) else [given]
    if not all(isinstance(text, str) for text in texts):
        raise _Refused("invalid input type")
    return texts


def _think(body: Mapping[str, Any]) -> bool | None:
    value = body.get("think")
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _Refused('think must be a boolean or string ("high", "medium", "low", "max", true, or false)')
    if value not in _THINK_LEVELS:
        message = 'must be "high", "medium", "low", "max", true, or false'
        raise _Refused(f"invalid think value: {json.dumps(value)} ({message})")
    return True


def _format(value: Any) -> tuple[bool, dict[str, Any] | None]:
    """Whether the answer has to be JSON, and the schema that it has to fulfil."""
    if value is None or value == "":
        return False, None
    if value == "json":
        return True, None
    if isinstance(value, dict):
        return True, value
    raw = json.dumps(json.dumps(value))
    raise _Refused(
        f'invalid format: {raw}; expected "json" or a valid JSON Schema object', HTTPStatus.INTERNAL_SERVER_ERROR
    )
