"""The Ollama server, through the official client over real HTTP. What all servers share is in test_openai_server.py."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import pytest
from pydantic import BaseModel

from memstack.providers.builtin import WordLlamaEmbedder
from memstack.testing import Fault, OllamaModel, OllamaServer
from memstack.testing.stand_in import count_tokens

from .conftest import ExtractionPrompt

pytest.importorskip("ollama")
import httpx
import ollama

TEXTS: Final = (
    "I drink tea in the morning",
    "Tea is what I have for breakfast",
    "The plane to Lisbon was late",
    "Пью чай",
)
NOMIC: Final = "nomic-embed-text"
LLAMA: Final = "llama3.2"
QWEN: Final = "qwen3"
CHAT: Final = "/api/chat"
EMBED: Final = "/api/embed"
HELLO: Final[list[Any]] = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[OllamaServer, ollama.Client]]:
    """A server, running, and the official client."""
    with OllamaServer() as running, ollama.Client(host=running.host, timeout=30) as client:
        yield running, client


@pytest.fixture
def server(shared: tuple[OllamaServer, ollama.Client]) -> OllamaServer:
    """The server, well, and with an empty log."""
    shared[0].heal()
    shared[0].forget()
    return shared[0]


@pytest.fixture
def client(server: OllamaServer, shared: tuple[OllamaServer, ollama.Client]) -> ollama.Client:
    """The official client of the server."""
    return shared[1]


@pytest.fixture
def own() -> Iterator[Callable[..., tuple[OllamaServer, ollama.Client]]]:
    """``own(**arguments)``: a server of the test's own, and its client."""
    with ExitStack() as closing:

        def make(**arguments: Any) -> tuple[OllamaServer, ollama.Client]:
            server = closing.enter_context(OllamaServer(**arguments))
            return server, closing.enter_context(ollama.Client(host=server.host, timeout=30))

        yield make


def ask(server: OllamaServer, method: str, path: str, body: Any = None) -> httpx.Response:
    """A request that the client would not send."""
    content = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
    return httpx.request(method, server.url + path, content=content, timeout=30, trust_env=False, verify=False)  # noqa: S501  # loopback


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and message of an error."""
    assert set(answer.json()) == {"error"}
    return answer.status_code, answer.json()["error"]


def cosines(vectors: Any) -> Any:
    """The similarities of vectors, all of which have length 1."""
    matrix = np.asarray(vectors, dtype=np.float64)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-6)
    return matrix @ matrix.T


# -- embeddings ------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "dimensions"), [(NOMIC, 768), ("all-minilm:latest", 384)])
def test_similarities_are_the_built_in_model_s(client: ollama.Client, model: str, dimensions: int) -> None:
    """Vectors have the model's dimensions and length 1, and cosines are those of the built-in model within 1e-5."""
    answer = client.embed(model=model, input=TEXTS)
    assert {len(vector) for vector in answer.embeddings} == {dimensions}
    assert np.allclose(cosines(answer.embeddings), cosines(WordLlamaEmbedder().vectors(TEXTS)), atol=1e-5)
    assert answer.model == model
    assert answer.prompt_eval_count == sum(count_tokens(text) + 2 for text in TEXTS)
    assert answer.total_duration


def test_one_text_and_the_older_endpoint_say_the_same(client: ollama.Client) -> None:
    """A string is a list of one; ``/api/embeddings`` has the same vector."""
    vectors = client.embed(model=NOMIC, input=TEXTS[0]).embeddings
    assert len(vectors) == 1
    assert list(client.embeddings(model=NOMIC, prompt=TEXTS[0]).embedding) == list(vectors[0])


def test_nothing_to_embed_loads_the_model(server: OllamaServer, client: ollama.Client) -> None:
    """No input and empty input are no error: there is no vector."""
    bodies: tuple[dict[str, Any], ...] = ({}, {"input": ""}, {"input": []}, {"input": None})
    for body in bodies:
        assert ask(server, "POST", EMBED, {"model": NOMIC, **body}).json() == {"model": NOMIC, "embeddings": []}
    assert client.embeddings(model=NOMIC, prompt="").embedding == []
    assert len(client.embed(model=NOMIC, input=["", "tea"]).embeddings) == 2


def test_dimensions_shorten(client: ollama.Client) -> None:
    """A shortened vector is the beginning of the whole one, brought to length 1; more than there are is no error."""
    whole = np.array(client.embed(model=NOMIC, input=TEXTS).embeddings)
    short = client.embed(model=NOMIC, input=TEXTS, dimensions=256).embeddings
    beginning = whole[:, :256] / np.linalg.norm(whole[:, :256], axis=1, keepdims=True)
    assert np.allclose(short, beginning, atol=1e-6)
    assert len(client.embed(model=NOMIC, input="tea", dimensions=4096).embeddings[0]) == 768


def test_a_long_text_is_cut_unless_that_is_forbidden(server: OllamaServer, client: ollama.Client) -> None:
    """Beyond the context the end of a text does not count; ``truncate: false`` refuses it."""
    long = "tea " * 3000
    answer = client.embed(model=NOMIC, input=[f"{long} planes", f"{long} music"])
    assert answer.embeddings[0] == answer.embeddings[1]
    assert answer.prompt_eval_count == 2 * 2048
    assert client.embed(model=NOMIC, input=long, options={"num_ctx": 100}).prompt_eval_count == 100
    with pytest.raises(ollama.ResponseError, match="the input length exceeds the context length") as error:
        client.embed(model=NOMIC, input=["tea", long], truncate=False)
    assert error.value.status_code == 400
    assert client.embed(model=NOMIC, input="tea", truncate=False, keep_alive="5m").embeddings
    assert refused(ask(server, "POST", "/api/embeddings", {"model": NOMIC, "prompt": long}))[0] == 500


def test_a_chat_model_embeds_nothing(server: OllamaServer) -> None:
    """The runner of a chat model was not started for that."""
    message = "This server does not support embeddings. Start it with `--embeddings`"
    assert refused(ask(server, "POST", EMBED, {"model": LLAMA, "input": "tea"})) == (501, message)
    assert refused(ask(server, "POST", "/api/embeddings", {"model": LLAMA, "prompt": "tea"})) == (500, message)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (EMBED, "", 400, "missing request body"),
        (EMBED, "{", 400, "unexpected EOF"),
        (EMBED, "{x", 400, "invalid character 'x' looking for beginning of value"),
        (EMBED, b"\xff", 400, "invalid character"),
        (EMBED, "[]", 400, "json: cannot unmarshal array into Go value of type api.EmbedRequest"),
        (EMBED, {"model": 3}, 400,
         "json: cannot unmarshal number into Go struct field EmbedRequest.model of type string"),
        (EMBED, {"model": NOMIC, "truncate": "no"}, 400,
         "json: cannot unmarshal string into Go struct field EmbedRequest.truncate of type bool"),
        (EMBED, {"model": NOMIC, "dimensions": 1.5}, 400,
         "json: cannot unmarshal number 1.5 into Go struct field EmbedRequest.dimensions of type int"),
        (EMBED, {"model": NOMIC, "dimensions": True}, 400,
         "json: cannot unmarshal bool into Go struct field EmbedRequest.dimensions of type int"),
        (EMBED, {"model": NOMIC, "keep_alive": "5"}, 400, 'time: missing unit in duration "5"'),
        (EMBED, {"model": NOMIC, "keep_alive": "soon"}, 400, 'time: invalid duration "soon"'),
        (EMBED, {"model": NOMIC, "keep_alive": [1]}, 400, "Unsupported type: '[]interface {}'"),
        (EMBED, {"model": NOMIC, "input": 3}, 400, "invalid input type"),
        (EMBED, {"model": NOMIC, "input": {"a": 1}}, 400, "invalid input type"),
        (EMBED, {"model": "no-such-model", "input": ["tea", 3]}, 400, "invalid input type"),
        (EMBED, {"input": "tea"}, 404, "model '' not found"),
        (EMBED, {"model": "no-such-model", "input": "tea"}, 404, "model 'no-such-model' not found"),
        (EMBED, {"model": "a b", "input": "tea"}, 400, "invalid model name"),
        (EMBED, {"model": NOMIC, "input": "tea", "options": {"num_ctx": "8"}}, 500,
         'option "num_ctx" must be of type integer'),
        (EMBED, {"model": NOMIC, "input": "tea", "options": {"temperature": True}}, 500,
         'option "temperature" must be of type float32'),
        (EMBED, {"model": NOMIC, "input": "tea", "options": {"stop": "x"}}, 500, 'option "stop" must be of type array'),
        (EMBED, {"model": NOMIC, "input": "tea", "options": [1]}, 400,
         "json: cannot unmarshal array into Go struct field EmbedRequest.options of type map[string]interface {}"),
        ("/api/embeddings", {"prompt": "tea"}, 400, "model is required"),
        ("/api/embeddings", {"model": "no-such-model", "prompt": "tea"}, 404,
         'model "no-such-model" not found, try pulling it first'),
        ("/api/embeddings", {"model": NOMIC, "prompt": ["tea"]}, 400,
         "json: cannot unmarshal array into Go struct field EmbeddingRequest.prompt of type string"),
        (CHAT, "", 400, "missing request body"),
        (CHAT, {"messages": HELLO}, 400, "model is required"),
        (CHAT, {"model": " ", "messages": HELLO}, 400, "model is required"),
        (CHAT, {"model": "no-such-model", "messages": HELLO}, 404, "model 'no-such-model' not found"),
        (CHAT, {"model": "llama3.2:70b", "messages": HELLO}, 404, "model 'llama3.2:70b' not found"),
        (CHAT, {"model": "a//b", "messages": HELLO}, 400, "invalid model name"),
        (CHAT, {"model": LLAMA, "messages": "hi"}, 400,
         "json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message"),
        (CHAT, {"model": LLAMA, "messages": ["hi"]}, 400,
         "json: cannot unmarshal string into Go struct field ChatRequest.messages of type api.Message"),
        (CHAT, {"model": LLAMA, "messages": [{"role": "user", "content": ["hi"]}]}, 400,
         "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"),
        (CHAT, {"model": LLAMA, "messages": HELLO, "format": "xml"}, 500,
         'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
        (CHAT, {"model": LLAMA, "messages": HELLO, "format": {"type": "string", "pattern": "^x{40}$"}}, 400,
         "failed to parse grammar: memstack.testing cannot make up a string for the pattern '^x{40}$'"),
        (CHAT, {"model": LLAMA, "messages": HELLO, "think": True}, 400, '"llama3.2" does not support thinking'),
        (CHAT, {"model": QWEN, "messages": HELLO, "think": "very"}, 400,
         'invalid think value: "very" (must be "high", "medium", "low", "max", true, or false)'),
        (CHAT, {"model": QWEN, "messages": HELLO, "think": 1}, 400,
         'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
        (CHAT, {"model": QWEN, "messages": HELLO, "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        (CHAT, {"model": NOMIC, "messages": HELLO}, 400, '"nomic-embed-text" does not support chat'),
        (CHAT, {"model": LLAMA, "messages": HELLO, "options": {"num_ctx": True}}, 500,
         'option "num_ctx" must be of type integer'),
        ("/api/show", {}, 400, "model is required"),
        ("/api/show", {"model": "mistral"}, 404, "model 'mistral:latest' not found"),
        ("/api/show", {"name": "someone/own"}, 404, "model 'someone/own:latest' not found"),
        ("/api/pull", {}, 400, "invalid model name"),
        ("/api/pull", {"model": "a b"}, 400, "invalid model name"),
        ("/api/pull", {"model": "no-such-model", "stream": False}, 500, "pull model manifest: file does not exist"),
    ],
)  # fmt: skip
def test_what_is_refused(server: OllamaServer, path: str, body: Any, status: int, text: str) -> None:
    """Status and message of each refusal are the real server's."""
    found = refused(ask(server, "POST", path, body))
    assert (found[0], found[1][: len(text)]) == (status, text)


# -- chat ------------------------------------------------------------------------------------

CONVERSATION: Final = "user: Hi! I live in Oslo. Do you?\nassistant: I do not.\nuser: I prefer mornings\n"
FACTS: Final = ("I live in Oslo.", "I prefer mornings")
ANSWER: Final = {"memory": [{"id": str(n), "text": text, "attributed_to": "user"} for n, text in enumerate(FACTS)]}
ROOM: Final = {"num_ctx": 16_384}


def test_facts_are_the_user_s_sentences(client: ollama.Client, extraction_prompt: ExtractionPrompt) -> None:
    """On Mem0's prompt the sentences of the user are extracted, with ``format: json`` and without."""
    for form in ("json", None):
        answer = client.chat(LLAMA, extraction_prompt(CONVERSATION), format=form, options=ROOM)
        assert json.loads(answer.message.content or "") == ANSWER
        assert answer.message.role == "assistant"
        assert (answer.done, answer.done_reason) == (True, "stop")
        assert answer.prompt_eval_count is not None
        assert 8_000 < answer.prompt_eval_count < 9_000
        assert answer.eval_count == count_tokens(answer.message.content or "")


class Extracted(BaseModel):
    """A memory, as a schema of ours might ask for it."""

    text: str
    linked_memory_ids: list[str]
    source: int


class Extraction(BaseModel):
    """What an extraction answers."""

    memory: list[Extracted]


def test_the_answer_fulfils_a_schema(client: ollama.Client, extraction_prompt: ExtractionPrompt) -> None:
    """A JSON schema as ``format`` constrains what is said."""
    schema = Extraction.model_json_schema()
    answer = client.chat(LLAMA, extraction_prompt(CONVERSATION), format=schema, options=ROOM)
    found = Extraction.model_validate_json(answer.message.content or "", strict=True)
    assert [(memory.text, memory.source) for memory in found.memory] == [(FACTS[0], 0), (FACTS[1], 2)]
    echo = client.chat(LLAMA, HELLO, format=schema)
    assert Extraction.model_validate_json(echo.message.content or "") == Extraction(memory=[])


def test_anything_else_is_echoed(client: ollama.Client) -> None:
    """The last thing that the user said comes back, as text or as JSON."""
    assert client.chat(LLAMA, HELLO).message.content == "echo: Hello there"
    assert client.chat(LLAMA, HELLO, format="json").message.content == '{"echo": "Hello there"}'


def test_a_stream_has_the_answer_in_pieces(server: OllamaServer, client: ollama.Client) -> None:
    """Streaming is the default of the API; the parts make up the answer, the last one has the figures."""
    whole = client.chat(LLAMA, HELLO * 3, format="json")
    parts = list(client.chat(LLAMA, HELLO * 3, format="json", stream=True))
    assert len(parts) > 2
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].prompt_eval_count == whole.prompt_eval_count
    assert parts[0].prompt_eval_count is None
    answer = ask(server, "POST", CHAT, {"model": LLAMA, "messages": HELLO})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert json.loads(answer.text.splitlines()[-1])["done"] is True


def test_a_model_that_can_think_does_unless_told_not_to(client: ollama.Client) -> None:
    """``think: false`` is needed to have the answer alone."""
    assert client.chat(QWEN, HELLO).message.thinking
    assert client.chat(QWEN, HELLO, think=True).message.thinking
    assert client.chat(QWEN, HELLO, think="low").message.thinking
    silent = client.chat(QWEN, HELLO, think=False)
    assert silent.message.thinking is None
    assert silent.message.content == "echo: Hello there"
    parts = list(client.chat(QWEN, HELLO, stream=True))
    assert parts[0].message.thinking
    assert not parts[0].message.content
    assert client.chat(LLAMA, HELLO, think=False).message.thinking is None


def test_null_is_as_good_as_absent(server: OllamaServer) -> None:
    """Any field may be null, as for Go."""
    names = ("options", "format", "think", "keep_alive", "tools", "truncate", "shift", "top_logprobs")
    message = {"role": None, "content": None, "images": None}
    body = {"model": LLAMA, "messages": [None, message, *HELLO], "stream": False, **dict.fromkeys(names)}
    assert ask(server, "POST", CHAT, body).json()["message"]["content"] == "echo: Hello there"


def test_num_predict_ends_with_length(client: ollama.Client) -> None:
    """An answer that is cut says so."""
    answer = client.chat(LLAMA, HELLO, options={"num_predict": 3})
    assert (answer.message.content, answer.done_reason, answer.eval_count) == ("echo: Hello", "length", 3)


def test_no_messages_load_and_unload(client: ollama.Client) -> None:
    """Without messages nothing is said."""
    assert client.chat(LLAMA, []).done_reason == "load"
    assert client.chat(LLAMA, [], keep_alive=0).done_reason == "unload"
    assert client.chat(LLAMA, HELLO, keep_alive=-1).done_reason == "stop"


def test_tools_are_taken_where_the_model_has_them(server: OllamaServer) -> None:
    """They are never called; a model without them refuses."""
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}]
    body = {"messages": HELLO, "tools": tools, "stream": False}
    assert ask(server, "POST", CHAT, {"model": LLAMA, **body}).json()["message"]["content"] == "echo: Hello there"
    with OllamaServer(models=["gemma3"]) as other:
        expected = (400, "registry.ollama.ai/library/gemma3:latest does not support tools")
        assert refused(ask(other, "POST", CHAT, {"model": "gemma3", **body})) == expected


def test_an_own_chat_model_says_what_it_likes(own: Callable[..., tuple[OllamaServer, ollama.Client]]) -> None:
    """``chat=`` takes the place of the rules."""
    _, client = own(chat=lambda turns: [turn.role for turn in turns])
    assert client.chat(LLAMA, [{"role": "System", "content": "x"}, *HELLO]).message.content == '["system", "user"]'


# -- the context -----------------------------------------------------------------------------


def test_a_prompt_that_does_not_fit_is_cut_without_a_word(
    client: ollama.Client, extraction_prompt: ExtractionPrompt
) -> None:
    """Half of the context is left of it, and with its beginning went the instructions: the answer is of no use."""
    for options, left in ((None, 2050), ({"num_ctx": 8192}, 4098), ({"num_ctx": 8192, "num_keep": 0}, 4096)):
        answer = client.chat(LLAMA, extraction_prompt(CONVERSATION), format="json", options=options)
        assert answer.prompt_eval_count == left
        assert "memory" not in json.loads(answer.message.content or "")
        assert answer.done_reason == "stop"


def test_old_messages_go_first(client: ollama.Client) -> None:
    """Whole messages are dropped from the front, the system's never; what is left is not cut."""
    messages = [
        {"role": "system", "content": "rules" + " rules" * 9},
        *({"role": "user", "content": "tea" + " tea" * 19} for _ in range(9)),
    ]
    assert client.chat(LLAMA, messages, options={"num_ctx": 1000}).prompt_eval_count == 14 + 9 * 24
    assert client.chat(LLAMA, messages, options={"num_ctx": 100}).prompt_eval_count == 14 + 3 * 24
    assert client.chat(LLAMA, messages, options={"num_ctx": 39}).prompt_eval_count == 14 + 24
    assert client.chat(LLAMA, messages, options={"num_ctx": 38}).prompt_eval_count == 38 - 17


def test_the_context_is_the_request_s_the_model_s_or_the_server_s(
    own: Callable[..., tuple[OllamaServer, ollama.Client]],
) -> None:
    """``num_ctx`` comes from the request, the Modelfile, the server, in this order, and ends at the trained one."""
    models = [
        OllamaModel("plain"),
        OllamaModel("set", num_ctx=1000),
        OllamaModel("small", context=500),
    ]
    _, client = own(models=models, num_ctx=2000)
    long = [{"role": "user", "content": "tea" + " tea" * 4999}]

    def left(model: str, **options: Any) -> int | None:
        return client.chat(model, long, options=options).prompt_eval_count

    assert (left("plain"), left("set"), left("small")) == (1002, 502, 252)
    assert (left("plain", num_ctx=6000), left("set", num_ctx=600), left("small", num_ctx=9000)) == (5004, 302, 252)


def test_a_prompt_that_must_not_be_cut_is_refused(
    server: OllamaServer, own: Callable[..., tuple[OllamaServer, ollama.Client]]
) -> None:
    """``shift: false``, ``truncate: false``, and models that the real server does not cut for: 400."""
    messages = [{"role": "user", "content": "tea" + " tea" * 4999}]
    long = {"messages": messages, "stream": False}
    status, text = refused(ask(server, "POST", CHAT, {"model": LLAMA, "shift": False, **long}))
    assert (status, text[:74]) == (400, "the prompt is longer than the context length currently available to the mo")
    exceeds = {
        "code": 400,
        "message": "request (5004 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5004,
        "n_ctx": 4096,
    }
    status, text = refused(ask(server, "POST", CHAT, {"model": LLAMA, "truncate": False, **long}))
    assert (status, json.loads(text)) == (400, {"error": exceeds})
    _, client = own(models=[OllamaModel("native", overflow="refuse")])
    with pytest.raises(ollama.ResponseError, match="exceeds the available context size") as error:
        client.chat("native", messages)
    assert error.value.status_code == 400


# -- models ----------------------------------------------------------------------------------


def test_models_are_listed(server: OllamaServer, client: ollama.Client) -> None:
    """Names have tags; digests and sizes are there."""
    models = client.list().models
    assert [model.model for model in models] == [f"{name}:latest" for name in (NOMIC, "all-minilm", LLAMA, QWEN)]
    assert models[0].details is not None
    assert models[0].details.family == "nomic-bert"
    assert len(models[0].digest or "") == 64
    assert models[0].modified_at is not None
    assert ask(server, "GET", "/api/tags").json()["models"][0]["name"] == "nomic-embed-text:latest"


def test_show_tells_context_and_dimensions(client: ollama.Client) -> None:
    """``model_info`` has the context length and the embedding length, under the architecture's name."""
    embedder = client.show(NOMIC)
    assert embedder.modelinfo is not None
    assert embedder.modelinfo["general.architecture"] == "nomic-bert"
    assert embedder.modelinfo["nomic-bert.context_length"] == 2048
    assert embedder.modelinfo["nomic-bert.embedding_length"] == 768
    assert embedder.capabilities == ["embedding"]
    assert (embedder.parameters or "").split() == ["num_ctx", "8192"]
    chat = client.show("QWEN3:latest")
    assert chat.modelinfo is not None
    assert chat.modelinfo["qwen3.context_length"] == 40_960
    assert chat.capabilities == ["completion", "tools", "thinking"]
    assert chat.parameters is None
    with pytest.raises(ollama.ResponseError) as error:
        client.show("no-such-model")
    assert (error.value.status_code, error.value.error) == (404, "model 'no-such-model:latest' not found")


def test_pull_streams_its_progress_and_the_model_is_there(
    own: Callable[..., tuple[OllamaServer, ollama.Client]],
) -> None:
    """From the manifest to success, layer by layer; then the model answers."""
    server, client = own(models=[LLAMA])
    with pytest.raises(ollama.ResponseError, match="model 'nomic-embed-text' not found") as error:
        client.embed(model=NOMIC, input="tea")
    assert error.value.status_code == 404
    progress = list(client.pull(NOMIC, stream=True))
    assert progress[0].status == "pulling manifest"
    assert [part.status for part in progress[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    layers = [part for part in progress if part.digest]
    assert all(part.status == f"pulling {(part.digest or '')[7:19]}" for part in layers)
    assert layers[0].completed is None
    assert layers[2].completed == layers[2].total
    assert server.models == ("llama3.2:latest", "nomic-embed-text:latest")
    assert len(client.embed(model=NOMIC, input="tea").embeddings[0]) == 768
    assert client.pull("mistral").status == "success"
    assert client.pull("mistral").status == "success"
    assert "mistral:latest" in server.models


def test_pulling_what_there_is_not(own: Callable[..., tuple[OllamaServer, ollama.Client]]) -> None:
    """The stream begins well and ends with an error; without a stream it is a 500."""
    server, client = own(models=[], library=["mistral"])
    stream = client.pull(NOMIC, stream=True)
    assert next(iter(stream)).status == "pulling manifest"
    with pytest.raises(ollama.ResponseError, match="pull model manifest: file does not exist"):
        next(iter(stream))
    with pytest.raises(ollama.ResponseError, match="pull model manifest: file does not exist") as error:
        client.pull("mistral:70b")
    assert error.value.status_code == 500
    assert server.models == ()


def test_names(own: Callable[..., tuple[OllamaServer, ollama.Client]]) -> None:
    """Hosts, namespaces and tags have their defaults; case makes no difference."""
    server, client = own(models=[OllamaModel("Someone/Own:7b"), "qwen3-embedding:0.6b", "mistral:latest"])
    assert server.models == ("Someone/Own:7b", "qwen3-embedding:0.6b", "mistral:latest")
    for name in (
        "someone/own:7b",
        "registry.ollama.ai/someone/own:7b",
        "registry.ollama.ai/library/mistral",
        "Mistral",
    ):
        assert client.chat(name, HELLO).model == name
    with pytest.raises(ollama.ResponseError, match="model 'own:7b' not found"):
        client.chat("own:7b", HELLO)
    with pytest.raises(ValueError, match="'llama9' is not known: describe it with OllamaModel"):
        OllamaServer(models=["llama9"])
    with pytest.raises(ValueError, match="'a b' is no name of a model"):
        OllamaServer(models=[OllamaModel("a b")])


def test_the_version_and_a_sign_of_life(server: OllamaServer) -> None:
    """What a probe asks for."""
    assert ask(server, "GET", "/api/version").json() == {"version": "0.33.2"}
    assert ask(server, "GET", "/").text == "Ollama is running"
    head = ask(server, "HEAD", "/")
    assert (head.status_code, head.text, head.headers["content-length"]) == (200, "", "17")


def test_json_is_of_the_type_that_the_real_server_gives_it(server: OllamaServer) -> None:
    """Answers and errors name their character set; a download that is not streamed says of itself what it is."""
    answers = [
        ask(server, "GET", "/api/version"),
        ask(server, "POST", EMBED, {"model": "nomic-embed-text", "input": "tea"}),
        ask(server, "POST", EMBED, {"model": "nope", "input": "tea"}),
        ask(server, "POST", "/api/pull", {}),
    ]
    server.fail(Fault.status(503))
    answers.append(ask(server, "GET", "/api/version"))
    assert [answer.status_code for answer in answers] == [200, 200, 404, 400, 503]
    assert {answer.headers["content-type"] for answer in answers} == {"application/json; charset=utf-8"}
    pulled = ask(server, "POST", "/api/pull", {"model": "all-minilm", "stream": False})
    assert pulled.headers["content-type"] == "application/json"


def test_addresses_and_methods_that_there_are_not(server: OllamaServer) -> None:
    """Plain text, as from the real server's router."""
    missing = ask(server, "POST", "/api/generated", {})
    assert (missing.status_code, missing.text, missing.headers["content-type"]) == (
        404,
        "404 page not found",
        "text/plain",
    )
    wrong = ask(server, "GET", EMBED)
    assert (wrong.status_code, wrong.text) == (405, "405 method not allowed")
    assert ask(server, "POST", "/api/tags").status_code == 405


# -- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (401, "unauthorized"),
        (404, "not found"),
        (418, "status 418"),
        (429, "too many requests"),
        (500, "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error"),
        (503, "server busy, please try again.  maximum pending requests exceeded"),
    ],
)
def test_any_status_on_demand(server: OllamaServer, client: ollama.Client, code: int, text: str) -> None:
    """An error status comes with the body that the real server sends; then the server is well again."""
    for path, call in (
        (EMBED, lambda: client.embed(model=NOMIC, input="tea")),
        (CHAT, lambda: client.chat(LLAMA, HELLO)),
        (CHAT, lambda: list(client.chat(LLAMA, HELLO, stream=True))),
        ("/api/tags", client.list),
        ("/api/show", lambda: client.show(LLAMA)),
    ):
        server.fail(Fault.status(code, retry_after=2), path=path)
        with pytest.raises(ollama.ResponseError) as error:
            call()
        assert error.value.status_code == code
        assert error.value.error.startswith(text)
        call()


def test_retry_after_and_gateways(server: OllamaServer) -> None:
    """``Retry-After`` has whole seconds; a gateway answers with a page."""
    server.fail(Fault.status(429, retry_after=0.2))
    answer = ask(server, "GET", "/api/tags")
    assert answer.headers["retry-after"] == "1"
    assert "retry-after-ms" not in answer.headers
    server.fail(Fault.status(502))
    answer = ask(server, "GET", "/api/tags")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    server.fail(Fault.status(400, body={"error": "own"}))
    assert refused(ask(server, "GET", "/api/tags")) == (400, "own")


@pytest.mark.parametrize("fault", [Fault.cut(), Fault.cut_midway()])
@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_connection(server: OllamaServer, client: ollama.Client, fault: Fault, stream: bool) -> None:
    """Before or in the middle of the answer, of the stream; the next call works."""

    def say() -> Any:
        return list(client.chat(LLAMA, HELLO, stream=True)) if stream else client.chat(LLAMA, HELLO)

    server.fail(fault)
    with pytest.raises(httpx.RemoteProtocolError):
        say()
    say()
    server.fail(fault)
    with pytest.raises(httpx.RemoteProtocolError):
        client.embed(model=NOMIC, input="tea")
    assert client.embed(model=NOMIC, input="tea").embeddings


def test_a_stream_that_ends_too_early_and_does_not_say_so(server: OllamaServer, client: ollama.Client) -> None:
    """HTTP is in order, and the part that is ``done`` never comes: nothing else shows it."""
    server.fail(Fault.cut_midway(clean=True))
    parts = list(client.chat(LLAMA, HELLO * 9, stream=True))
    assert parts
    assert not any(part.done for part in parts)


def test_malformed_json(server: OllamaServer, client: ollama.Client) -> None:
    """In a body, or in a line of a stream; statuses are in order."""
    for call in (
        lambda: client.embed(model=NOMIC, input="tea"),
        lambda: client.chat(LLAMA, HELLO),
        lambda: list(client.chat(LLAMA, HELLO, stream=True)),
        client.list,
    ):
        server.fail(Fault.malformed_json())
        with pytest.raises(json.JSONDecodeError):
            call()
        assert server.requests[-1].status == 200
        call()


def test_slow_is_a_timeout_for_the_impatient(server: OllamaServer, client: ollama.Client) -> None:
    """The answer is right, and late."""
    server.fail(Fault.slow(0.2), times=2)
    begun = time.monotonic()
    client.list()
    assert time.monotonic() - begun >= 0.2
    with ollama.Client(host=server.host, timeout=0.05) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.list()


def test_wrong_dimensions_and_fewer_vectors(server: OllamaServer, client: ollama.Client) -> None:
    """On both endpoints; a request without input does not use a fault up in vain: there is nothing to bend."""
    server.fail(Fault.wrong_dimensions())
    assert {len(vector) for vector in client.embed(model=NOMIC, input=TEXTS).embeddings} == {384}
    server.fail(Fault.wrong_dimensions(1000))
    assert len(client.embeddings(model=NOMIC, prompt="tea").embedding) == 1000
    server.fail(Fault.fewer_vectors(2))
    assert len(client.embed(model=NOMIC, input=TEXTS).embeddings) == 2
    server.fail(Fault.fewer_vectors())
    assert client.embeddings(model=NOMIC, prompt="tea").embedding == []


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault.prose(), f"Sure! This is what I found worth remembering:\n\n{json.dumps(ANSWER)}\n\nLet me know"),
        (
            Fault.prose("fenced"),
            f"Here is the JSON you asked for:\n\n```json\n{json.dumps(ANSWER)}\n```\n\nLet me know",
        ),
        (Fault.prose("instead"), "I found some things worth remembering, and have taken good note of them."),
        (Fault.old_shape(), json.dumps({"facts": FACTS})),
        (Fault.old_shape("strings"), json.dumps({"memory": FACTS})),
        (Fault.malformed_json("answer"), json.dumps(ANSWER)[:80]),
        (Fault.answer(""), ""),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_a_chat_model_says_wrong(
    shared: tuple[OllamaServer, ollama.Client],
    extraction_prompt: ExtractionPrompt,
    fault: Fault,
    answer: str,
    stream: bool,
) -> None:
    """Prose, old layouts, half an answer, none: in a response that is in order; the next one is right."""
    server, client = shared
    messages = extraction_prompt(CONVERSATION)

    def say() -> str:
        if stream:
            parts = list(client.chat(LLAMA, messages, format="json", options=ROOM, stream=True))
            assert parts[-1].done_reason == "stop"
            return "".join(part.message.content or "" for part in parts)
        return client.chat(LLAMA, messages, format="json", options=ROOM).message.content or ""

    server.fail(fault)
    wrong = say()
    assert wrong.startswith(answer)
    assert wrong != json.dumps(ANSWER)
    assert json.loads(say()) == ANSWER
