"""The OpenAI server, through the official client over real HTTP; and what all wire-level servers share."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from memstack.providers.builtin import WordLlamaEmbedder
from memstack.testing import Fault, OpenAIModel, OpenAIServer
from memstack.testing.stand_in import SchemaNotSupported, embed, fulfil
from memstack.testing.wire import Headers

from .conftest import ExtractionPrompt

pytest.importorskip("openai")
import httpx
import openai

TEXTS: Final = (
    "I drink tea in the morning",
    "Tea is what I have for breakfast",
    "The plane to Lisbon was late",
    "Пью чай",
)
SMALL: Final = "text-embedding-3-small"
EMBED: Final = "/v1/embeddings"
CHAT: Final = "/v1/chat/completions"
HELLO: Final[list[Any]] = [{"role": "user", "content": "Say it in JSON"}]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[OpenAIServer, openai.OpenAI]]:
    """A server, running, and the official client, on its own: it does not try again."""
    with (
        OpenAIServer() as running,
        openai.OpenAI(base_url=running.base_url, api_key=running.api_key, max_retries=0, timeout=30) as client,
    ):
        yield running, client


@pytest.fixture
def server(shared: tuple[OpenAIServer, openai.OpenAI]) -> OpenAIServer:
    """The server, well, and with an empty log."""
    shared[0].heal()
    shared[0].forget()
    return shared[0]


@pytest.fixture
def client(server: OpenAIServer, shared: tuple[OpenAIServer, openai.OpenAI]) -> openai.OpenAI:
    """The official client of the server."""
    return shared[1]


@pytest.fixture
def own_server() -> Iterator[OpenAIServer]:
    """A server of the test's own, to be stopped."""
    with OpenAIServer() as running:
        yield running


def ask(method: str, url: str, *, timeout: float = 30, **sent: Any) -> httpx.Response:
    """A request that the client would not send."""
    return httpx.request(method, url, timeout=timeout, verify=False, trust_env=False, **sent)  # noqa: S501  # loopback


def post(server: OpenAIServer, path: str, body: Any) -> httpx.Response:
    """A body that the client would not send."""
    content = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return ask("POST", server.url + path, content=content, headers={"authorization": f"Bearer {server.api_key}"})


def refused(answer: httpx.Response) -> tuple[int, str | None, str | None, str]:
    """Status, param, code and message of an error, whose body has the real one's four fields."""
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("max_tokens_per_request" if error["code"] == error["type"] else "invalid_request_error")
    return answer.status_code, error["param"], error["code"], error["message"]


def cosines(vectors: Any) -> Any:
    """The similarities of vectors, all of which have length 1."""
    matrix = np.asarray(vectors, dtype=np.float64)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-6)
    return matrix @ matrix.T


# -- embeddings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "dimensions"), [(SMALL, 1536), ("text-embedding-3-large", 3072), ("text-embedding-ada-002", 1536)]
)
def test_similarities_are_the_built_in_model_s(client: openai.OpenAI, model: str, dimensions: int) -> None:
    """Vectors have the model's dimensions and length 1, and cosines are those of the built-in model within 1e-5."""
    answer = client.embeddings.create(model=model, input=list(TEXTS))
    assert [item.index for item in answer.data] == list(range(len(TEXTS)))
    assert {len(item.embedding) for item in answer.data} == {dimensions}
    built_in = cosines(WordLlamaEmbedder().vectors(TEXTS))
    assert np.allclose(cosines([item.embedding for item in answer.data]), built_in, atol=1e-5)
    assert answer.model == model
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)


@pytest.mark.parametrize("dimensions", [256, 300, 384, 768, 1000, 1024])
def test_similarities_survive_any_dimensions_from_256_on(dimensions: int) -> None:
    """The map to a model's dimensions is orthonormal, whatever they are."""
    assert np.allclose(cosines(embed(TEXTS, dimensions)), cosines(embed(TEXTS, 256)), atol=1e-5)


def test_a_text_without_tokens_has_a_vector_of_length_1() -> None:
    """No vector is zero: real models have none."""
    assert np.allclose(cosines(embed(["", ""], 768)), 1)


def test_base64_is_what_the_client_asks_for_and_float_says_the_same(
    server: OpenAIServer, client: openai.OpenAI
) -> None:
    """Both encodings hold the same 32-bit floats."""
    packed = client.embeddings.create(model=SMALL, input=TEXTS[0]).data[0].embedding
    assert server.requests[0].json["encoding_format"] == "base64"
    plain = client.embeddings.create(model=SMALL, input=TEXTS[0], encoding_format="float").data[0].embedding
    assert packed == plain
    raw = post(server, "/v1/embeddings", {"model": SMALL, "input": TEXTS[0], "encoding_format": "base64"}).json()
    assert struct.unpack("<1536f", base64.b64decode(raw["data"][0]["embedding"])) == tuple(plain)


def test_float_is_the_default_of_the_api(server: OpenAIServer) -> None:
    """Without ``encoding_format`` a vector is a list of numbers."""
    answer = post(server, "/v1/embeddings", {"model": SMALL, "input": "tea"}).json()
    assert isinstance(answer["data"][0]["embedding"][0], float)
    assert answer["object"] == "list"


@pytest.mark.parametrize("dimensions", [256, 512, 1024])
def test_dimensions_shorten_and_keep_similarities(client: openai.OpenAI, dimensions: int) -> None:
    """A shortened vector is the beginning of the whole one, brought to length 1."""
    whole = client.embeddings.create(model=SMALL, input=list(TEXTS)).data
    short = client.embeddings.create(model=SMALL, input=list(TEXTS), dimensions=dimensions).data
    beginning = np.array([item.embedding[:dimensions] for item in whole])
    beginning /= np.linalg.norm(beginning, axis=1, keepdims=True)
    assert np.allclose([item.embedding for item in short], beginning, atol=1e-6)
    assert np.allclose(cosines(beginning), cosines(WordLlamaEmbedder().vectors(TEXTS)), atol=1e-5)


def test_vectors_are_the_same_on_every_server(client: openai.OpenAI) -> None:
    """What is stored today is found tomorrow: nothing of a vector depends on the run."""
    here = client.embeddings.create(model=SMALL, input="tea").data[0].embedding
    code = "from memstack.testing.stand_in import embed; print(embed(['tea'], 1536)[0], embed(['tea'], 384)[0])"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there == f"{here} {embed(['tea'], 384)[0]}\n"


NO_JSON: Final = "We could not parse the JSON body of your request. (HINT:"
BAD_INPUT: Final = (
    "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
)
TOO_MANY: Final = "max_tokens_per_request"
MISSING: Final = "missing_required_parameter"
INPUT: Final[dict[str, Any]] = {"model": SMALL, "input": "tea"}


@pytest.mark.parametrize(
    ("body", "param", "code", "text"),
    [
        ({"model": SMALL}, "input", MISSING, "Missing required parameter: 'input'."),
        (INPUT | {"input": ""}, None, None, BAD_INPUT),
        (INPUT | {"input": None}, None, None, BAD_INPUT),
        (INPUT | {"input": []}, None, None, BAD_INPUT),
        (INPUT | {"input": ["tea", ""]}, None, None, BAD_INPUT),
        (INPUT | {"input": ["tea", None]}, None, None, BAD_INPUT),
        (INPUT | {"input": {"text": "tea"}}, None, None, BAD_INPUT),
        (INPUT | {"input": ["tea"] * 2049}, None, None, BAD_INPUT),
        (INPUT | {"input": [1, 2]}, "input", None, "memstack.testing embeds text only"),
        (INPUT | {"input": [[1], [2]]}, "input", None, "memstack.testing embeds text only"),
        (INPUT | {"input": ["a", "tea " * 8193]}, None, None, "Invalid 'input[1]': maximum input length is 8192 token"),
        (INPUT | {"input": "tea " * 8193}, None, None, "Invalid 'input': maximum input length is 8192 tokens."),
        (INPUT | {"input": ["tea " * 8000] * 38}, None, TOO_MANY, "Requested 304038 tokens, max 300000 tokens per req"),
        (INPUT | {"encoding_format": "hex"}, "encoding_format", "invalid_value",
         "Invalid value: 'hex'. Supported values are: 'float' and 'base64'."),
        (INPUT | {"dimensions": 1537}, None, None,
         "Invalid value for 'dimensions' = 1537. Must be less than or equal to 1536."),
        (INPUT | {"dimensions": 0}, "dimensions", "integer_below_min_value",
         "Invalid 'dimensions': integer below minimum value. Expected a value >= 1, but got 0 instead."),
        (INPUT | {"dimensions": "256"}, "dimensions", "invalid_type",
         "Invalid type for 'dimensions': expected an integer, but got a string instead."),
        (INPUT | {"model": "text-embedding-ada-002", "dimensions": 256}, None, None,
         "This model does not support specifying dimensions."),
        ({"input": "tea"}, None, None, "you must provide a model parameter"),
        (INPUT | {"model": 3}, "model", "invalid_type", "Invalid type for 'model': expected a string, but got an inte"),
        (INPUT | {"truncate": True}, None, None, "Unrecognized request argument supplied: truncate"),
        ("[]", None, None, NO_JSON),
        ('{"model": ', None, None, NO_JSON),
        (b"\xff", None, None, NO_JSON),
        ("[" * 100_000, None, None, NO_JSON),
    ],
)  # fmt: skip
def test_what_embeddings_refuse(
    server: OpenAIServer, body: Any, param: str | None, code: str | None, text: str
) -> None:
    """Status, param, code and message of each refusal are the real server's."""
    found = refused(post(server, "/v1/embeddings", body))
    assert (*found[:3], found[3][: len(text)]) == (400, param, code, text)


def test_embeddings_of_other_models(client: openai.OpenAI) -> None:
    """A model that there is not, and one that embeds nothing."""
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="text-embedding-4", input="tea")
    assert missing.value.code == "model_not_found"
    assert missing.value.param is None
    assert "The model `text-embedding-4` does not exist or you do not have access to it." in missing.value.message
    with pytest.raises(
        openai.PermissionDeniedError, match="You are not allowed to generate embeddings from this model"
    ):
        client.embeddings.create(model="gpt-4o", input="tea")


# -- chat: what it says ----------------------------------------------------------------------

CONVERSATION: Final = (
    "user: Hi! I live in Oslo. I prefer mornings for deep work.\nDo you like it?\nassistant: I'm glad to hear it.\n"
    "user: Thanks!\nMy sister's name is Anna. I live in Oslo.\n"
)
FACTS: Final = ("I live in Oslo.", "I prefer mornings for deep work.", "My sister's name is Anna.")


def said(answer: Any) -> str:
    """The text of a completion that ended by itself."""
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    return str(answer.choices[0].message.content)


def test_facts_are_the_user_s_sentences(client: openai.OpenAI, extraction_prompt: ExtractionPrompt) -> None:
    """On Mem0's prompt the sentences of the user are extracted; greetings, questions, repetitions are not."""
    messages: Any = extraction_prompt(CONVERSATION, existing_memories=[{"id": "0", "text": "I live in Rome."}])
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, response_format={"type": "json_object"})
    assert json.loads(said(answer)) == {
        "memory": [{"id": str(n), "text": text, "attributed_to": "user"} for n, text in enumerate(FACTS)]
    }
    assert answer.usage is not None
    assert 8_000 < answer.usage.prompt_tokens < 9_000
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_prompt_without_messages_has_no_facts(client: openai.OpenAI, extraction_prompt: ExtractionPrompt) -> None:
    """Mem0 sends such a one where a message is an image alone."""
    messages: Any = extraction_prompt("")
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, response_format={"type": "json_object"})
    assert json.loads(said(answer)) == {"memory": []}


@pytest.mark.parametrize(
    ("messages", "facts"),
    [
        (
            [{"role": "user", "content": "I like tea. Really?"}, {"role": "assistant", "content": "I do too."}],
            ["I like tea."],
        ),
        ([{"role": "user", "content": "Good morning, Anna. Sounds good!"}], []),
        ([{"role": "assistant", "content": "You like tea."}], []),
        (
            [{"role": "user", "content": "私は東京に住んでいます。お茶が好きです！元気ですか？"}],
            ["私は東京に住んでいます。", "お茶が好きです！"],
        ),
        (
            [{"role": "user", "content": "Great coffee matters to me\n- no sugar, 2.5 dl"}],
            ["Great coffee matters to me", "- no sugar, 2.5 dl"],
        ),
        ([], []),
    ],
)
def test_messages_as_json_are_read_too(
    client: openai.OpenAI, extraction_prompt: ExtractionPrompt, messages: list[dict[str, str]], facts: list[str]
) -> None:
    """The new messages may be a JSON list; any script has sentences."""
    prompt: Any = extraction_prompt(messages, custom_instructions="Answer briefly", use_input_language=True)
    answer = client.chat.completions.create(model="gpt-4o", messages=prompt)
    assert [memory["text"] for memory in json.loads(said(answer))["memory"]] == facts


def test_a_request_to_repair_gets_the_answer_again(client: openai.OpenAI, extraction_prompt: ExtractionPrompt) -> None:
    """What follows the extraction prompt in a conversation does not make it another one."""
    messages: Any = [
        *extraction_prompt(CONVERSATION),
        {"role": "assistant", "content": '{"memory": [{"id'},
        {"role": "user", "content": "That was no JSON. Answer with the JSON only."},
    ]
    answer = client.chat.completions.create(model="gpt-4o", messages=messages)
    assert [memory["text"] for memory in json.loads(said(answer))["memory"]] == list(FACTS)


def test_anything_else_is_echoed(client: openai.OpenAI) -> None:
    """The last thing that the user said comes back, as text or as JSON; content may come in parts."""
    messages: Any = [
        {"role": "developer", "content": "Talk JSON"},
        {"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}],
        },
        {"role": "tool", "content": "done", "tool_call_id": "1"},
    ]
    assert said(client.chat.completions.create(model="gpt-4o", messages=messages)) == "echo: Hello there"
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, response_format={"type": "json_object"})
    assert json.loads(said(answer)) == {"echo": "Hello there"}


def test_an_own_chat_model_says_what_it_likes() -> None:
    """``chat=`` takes the place of the rules."""
    with (
        OpenAIServer(chat=lambda turns: {"turns": len(turns)}) as server,
        openai.OpenAI(base_url=server.base_url, api_key=server.api_key) as client,
    ):
        assert said(client.chat.completions.create(model="gpt-4o", messages=HELLO)) == '{"turns": 1}'


class Extracted(BaseModel):
    """A memory, as a schema of ours might ask for it."""

    text: str
    attributed_to: Literal["user", "assistant"]
    linked_memory_ids: list[str]
    source: int
    confidence: float | None
    kind: Literal["fact", "plan"]


class Extraction(BaseModel):
    """What an extraction answers."""

    memory: list[Extracted]
    done: bool


def test_the_answer_fulfils_a_strict_schema(client: openai.OpenAI, extraction_prompt: ExtractionPrompt) -> None:
    """What the rules found stands where the schema has a place for it; the rest is the least that it allows."""
    messages: Any = extraction_prompt(CONVERSATION)
    answer = client.chat.completions.parse(model="gpt-4o", messages=messages, response_format=Extraction)
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    assert [(memory.text, memory.source) for memory in parsed.memory] == [(FACTS[0], 0), (FACTS[1], 0), (FACTS[2], 2)]
    rest: dict[str, Any] = {"attributed_to": "user", "linked_memory_ids": [], "confidence": None, "kind": "fact"}
    assert all(memory.model_dump(exclude={"text", "source"}) == rest for memory in parsed.memory)


def test_an_echo_fulfils_a_schema_too(client: openai.OpenAI) -> None:
    """A conversation that is no extraction gets the least that the schema allows."""
    answer = client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Extraction)
    assert answer.choices[0].message.parsed == Extraction(memory=[], done=False)


def has(**properties: Any) -> dict[str, Any]:
    """A schema for an object that has these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


MEMORIES: Final = {"memory": [{"id": "0", "text": "I like tea.", "attributed_to": "user", "message": 2}]}


@pytest.mark.parametrize(
    ("schema", "wanted", "made"),
    [
        ({}, {"a": 1}, {"a": 1}),
        (has(facts={"type": "array", "items": {"type": "string"}}), MEMORIES, {"facts": ["I like tea."]}),
        (has(memory={"items": has(message={"type": "array"})}), MEMORIES, {"memory": [{"message": [2]}]}),
        (has(a={"type": "string", "minLength": 3}), {}, {"a": "..."}),
        ({"type": "object", "required": ["b"]}, {"a": 1}, {"b": None, "a": 1}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "x", "b": 2}, {"a": 0, "b": 2}),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, {}, {}),
        ({"type": "array", "minItems": 2, "maxItems": 2, "items": {"const": 7}}, [1, 2, 3], [7, 7]),
        ({"type": ["string", "null"]}, [], None),
        ({"type": ["integer", "null"]}, 5, 5),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, 2, 2),
        ({"oneOf": [{"type": "boolean"}, {"type": "string"}]}, "x", "x"),
        ({"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]}, {}, {"a": 0}),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer", "minimum": 3}}}, 1, 3),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, 0, 0.5),
        ({"type": "integer", "minimum": 4, "multipleOf": 3}, 0, 6),
        ({"type": "integer", "exclusiveMaximum": 3}, 9, 2),
        ({"type": "string", "maxLength": 2}, "long", "lo"),
        ({"type": "string"}, 5, "5"),
        ({"type": "string", "format": "date"}, "x", "2025-01-01"),
        ({"type": "string", "pattern": "^[0-9]+$"}, "x", "0"),
        ({"enum": ["a", "b"]}, "b", "b"),
        ({"enum": [1, 2]}, True, 1),
        ({"type": "boolean"}, 1, False),
        ({"type": "null"}, "x", None),
        (has(next={"anyOf": [{"$ref": "#"}, {"type": "null"}]}), {}, {"next": None}),
    ],
)
def test_what_fulfils_a_schema(schema: dict[str, Any], wanted: Any, made: Any) -> None:
    """As much of the wanted value as fits, and else the least that is allowed."""
    assert fulfil(schema, wanted) == made


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^x{40}$"},
        {"$ref": "#/$defs/none"},
        {"$ref": "#"},
        has(next={"$ref": "#"}),
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "text"},
    ],
)
def test_a_schema_that_nothing_can_be_made_up_for_is_an_error(schema: dict[str, Any]) -> None:
    """Better none than a wrong answer."""
    with pytest.raises(SchemaNotSupported):
        fulfil(schema)


def test_such_a_schema_is_refused_over_the_wire(server: OpenAIServer) -> None:
    """The client learns which limit of this server it met."""
    schema = has(a={"type": "string", "pattern": "^x{40}$"})
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = post(server, "/v1/chat/completions", {"model": "gpt-4o", "messages": HELLO, "response_format": wanted})
    assert refused(answer)[:2] == (400, "response_format")
    assert "memstack.testing cannot make up a string" in refused(answer)[3]


def test_an_answer_that_is_too_long_ends_with_length(client: openai.OpenAI) -> None:
    """``max_tokens`` and ``max_completion_tokens`` cut the answer, and the finish reason says so."""
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, **limit)  # type: ignore[call-overload]
        assert answer.choices[0].finish_reason == "length"
        assert answer.choices[0].message.content == "echo: Say"
        assert answer.usage.completion_tokens == 3


def test_several_choices(client: openai.OpenAI) -> None:
    """``n`` answers are given, and counted."""
    answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


# -- chat: what it refuses -------------------------------------------------------------------

FORMAT: Final = "response_format"
SCHEMA: Final = "response_format.json_schema"
TYPE: Final = "invalid_type"
TOO_LONG: Final = "context_length_exceeded"
VALUE: Final = "invalid_value"
ROLES: Final = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'"
CLOSED: Final[dict[str, Any]] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


TOOL: Final = {"type": "function", "function": {"name": "look_up"}}
CALLING: Final[dict[str, Any]] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}],
}


def message(**fields: Any) -> dict[str, Any]:
    """The parameter for one message."""
    return {"messages": [fields]}


def content(*parts: Any) -> dict[str, Any]:
    """The parameter for one message in parts."""
    return message(role="user", content=list(parts))


def described(**fields: Any) -> dict[str, Any]:
    """The parameter for a schema."""
    return {FORMAT: {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": CLOSED, **fields}}}


def strict(**properties: Any) -> dict[str, Any]:
    """The parameter for a strict schema with these properties."""
    return described(schema={**has(**properties), "additionalProperties": False})


@pytest.mark.parametrize(
    ("changes", "param", "code", "text"),
    [
        ({"model": None}, None, None, "you must provide a model parameter"),
        ({"messages": None}, "messages", MISSING, "Missing required parameter: 'messages'."),
        ({"messages": []}, "messages", "empty_array",
         "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."),
        ({"messages": "hi"}, "messages", TYPE,
         "Invalid type for 'messages': expected an array of objects, but got a string instead."),
        ({"messages": ["hi"]}, "messages[0]", TYPE, "Invalid type for 'messages[0]': expected an object, but got a st"),
        (message(content="x"), "messages[0].role", MISSING, "Missing required parameter: 'messages[0].role'."),
        (message(role="user"), "messages[0].content", MISSING, "Missing required parameter: 'messages[0].content'."),
        (message(role="bot", content="x"), "messages[0].role", VALUE,
         f"Invalid value: 'bot'. Supported values are: {ROLES}."),
        (message(role="user", content=None), "messages.[0].content", None,
         "Invalid value for 'content': expected a string, got null."),
        (message(role="user", content={"a": 1}), "messages[0].content", TYPE,
         "Invalid type for 'messages[0].content': expected one of a string or array of objects, but got an object ins"),
        (content({"text": "x"}), "messages[0].content[0].type", MISSING, "Missing required parameter: 'messages[0].co"),
        (content({"type": "x"}), "messages[0].content[0].type", VALUE, "Invalid value: 'x'. Supported values are: 'te"),
        (content({"type": "text"}), "messages[0].content[0].text", MISSING, "Missing required parameter: 'messages[0]"),
        (content({"type": "text", "text": 1}), "messages[0].content[0].text", TYPE, "Invalid type for 'messages[0].co"),
        (content("x"), "messages[0].content[0]", TYPE, "Invalid type for 'messages[0].content[0]': expected an object"),
        ({"num_ctx": 8}, None, None, "Unrecognized request argument supplied: num_ctx"),
        ({"top_k": 8, "min_p": 1}, None, None, "Unrecognized request arguments supplied: top_k, min_p"),
        ({"reasoning_effort": "low"}, None, None, "Unrecognized request argument supplied: reasoning_effort"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value",
         "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.5 instead."),
        ({"top_p": -1}, "top_p", "decimal_below_min_value", "Invalid 'top_p': decimal below minimum value."),
        ({"temperature": "0"}, "temperature", TYPE,
         "Invalid type for 'temperature': expected a decimal, but got a string instead."),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", "Invalid 'max_tokens': integer below minimum val"),
        ({"max_tokens": True}, "max_tokens", TYPE, "Invalid type for 'max_tokens': expected an integer, but got a boo"),
        ({"max_tokens": 20_000}, "max_tokens", VALUE,
         "max_tokens is too large: 20000. This model supports at most 16384 completion tokens, whereas you provided 2"),
        ({"n": 200}, "n", "integer_above_max_value", "Invalid 'n': integer above maximum value."),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "invalid_parameter_combination",
         "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."),
        ({"stream": "yes"}, "stream", TYPE, "Invalid type for 'stream': expected a boolean, but got a string instead."),
        ({"seed": "1"}, "seed", TYPE, "Invalid type for 'seed': expected an integer, but got a string instead."),
        ({"seed": True}, "seed", TYPE, "Invalid type for 'seed': expected an integer, but got a boolean instead."),
        ({"user": 1}, "user", TYPE, "Invalid type for 'user': expected a string, but got an integer instead."),
        ({"store": 1}, "store", TYPE, "Invalid type for 'store': expected a boolean, but got an integer instead."),
        ({"metadata": {"a": 1}}, "metadata.a", TYPE, "Invalid type for 'metadata.a': expected a string, but got an in"),
        ({"stop": 5}, "stop", TYPE, "Invalid type for 'stop': expected one of an array of strings or a string, but go"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length",
         "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 ins"),
        ({"model": "gpt-5", "stop": ["a"]}, "stop", "unsupported_parameter",
         "Unsupported parameter: 'stop' is not supported with this model."),
        ({"stream_options": {"include_usage": True}}, "stream_options", None,
         "The 'stream_options' parameter is only allowed when 'stream' is enabled."),
        ({"top_logprobs": 3}, "top_logprobs", None,
         "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "integer_above_max_value", "Invalid 'top_logprobs': "),
        ({"tool_choice": "auto"}, "tool_choice", None,
         "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."),
        ({"parallel_tool_calls": True}, "parallel_tool_calls", None, "Invalid value for 'parallel_tool_calls': 'paral"),
        ({"tools": []}, "tools", "empty_array", "Invalid 'tools': empty array. Expected an array with minimum length"),
        ({"tools": {}}, "tools", TYPE, "Invalid type for 'tools': expected an array of objects, but got an object in"),
        ({"tools": [{}]}, "tools[0].type", MISSING, "Missing required parameter: 'tools[0].type'."),
        ({"tools": [{"type": "x"}]}, "tools[0].type", VALUE, "Invalid value: 'x'. Supported values are: 'function' an"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", MISSING, "Missing required parameter: 'tools[0].func"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", VALUE,
         "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the pattern"),
        ({"tools": [TOOL], "tool_choice": "yes"}, "tool_choice", VALUE, "Invalid value: 'yes'. Supported values are:"),
        (message(role="tool", content="x", tool_call_id="1"), "messages.[0].role", None,
         "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."),
        ({"messages": [CALLING, *HELLO]}, "messages", None,
         "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."),
        ({"messages": [CALLING, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id", MISSING, "Missing req"),
        ({"stream": True}, "stream", "unsupported_value", "memstack.testing does not stream: leave 'stream' out."),
        ({"model": "gpt-3.5-turbo", **message(role="user", content="tea " * 17_000)}, "messages", TOO_LONG,
         "This model's maximum context length is 16385 tokens. However, your messages resulted in 17005 tokens. Pleas"),
        ({FORMAT: "json"}, FORMAT, TYPE, "Invalid type for 'response_format': expected an object, but got a string in"),
        ({FORMAT: {}}, "response_format.type", MISSING, "Missing required parameter: 'response_format.type'."),
        ({FORMAT: {"type": "object"}}, "response_format.type", VALUE,
         "Invalid value: 'object'. Supported values are: 'json_object', 'json_schema', and 'text'."),
        ({FORMAT: {"type": "json_object"}, **message(role="user", content="hi")}, "messages", None,
         "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."),
        ({FORMAT: {"type": "json_schema"}}, SCHEMA, MISSING, f"Missing required parameter: '{SCHEMA}'."),
        ({FORMAT: {"type": "json_schema", "json_schema": 1}}, SCHEMA, TYPE, f"Invalid type for '{SCHEMA}': expected a"),
        (described(name=None), f"{SCHEMA}.name", MISSING, f"Missing required parameter: '{SCHEMA}.name'."),
        (described(name="a b"), f"{SCHEMA}.name", VALUE, f"Invalid '{SCHEMA}.name': string does not match pattern. Ex"),
        (described(schema=None), f"{SCHEMA}.schema", MISSING, f"Missing required parameter: '{SCHEMA}.schema'."),
        (described(schema=[]), f"{SCHEMA}.schema", TYPE, f"Invalid type for '{SCHEMA}.schema': expected an object, bu"),
        ({"model": "gpt-4-turbo", **described()}, None, None,
         "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model. Learn more abo"),
    ],
)  # fmt: skip
def test_what_chat_refuses(
    server: OpenAIServer, changes: dict[str, Any], param: str | None, code: str | None, text: str
) -> None:
    """Status, param, code and message of each refusal are the real server's."""
    found = refused(post(server, CHAT, {"model": "gpt-4o", "messages": HELLO, **changes}))
    assert (*found[:3], found[3][: len(text)]) == (400, param, code, text)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (described(schema={"type": "array"}), "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array"),
        (described(schema={"type": "object"}),
         "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        (strict(a={**CLOSED, "properties": {"b": {"type": "string"}}}),
         "In context=('properties', 'a'), 'required' is required to be supplied and to be an array including every ke"),
        (strict(a={"description": "x"}), "In context=('properties', 'a'), schema must have a 'type' key."),
        (strict(a={"type": "array", "items": {"oneOf": []}}),
         "In context=('properties', 'a', 'items'), 'oneOf' is not permitted."),
        (strict(a={"anyOf": [{"type": "null"}, {"allOf": []}]}),
         "In context=('properties', 'a', 'anyOf', '1'), 'allOf' is not permitted."),
    ],
)  # fmt: skip
def test_which_schemas_strict_does_not_take(server: OpenAIServer, wanted: dict[str, Any], text: str) -> None:
    """A schema outside the subset of structured outputs is refused in the real server's words; loose ones are taken."""
    body = {"model": "gpt-4o", "messages": HELLO, **wanted}
    answer = refused(post(server, CHAT, body))
    assert answer[:3] == (400, FORMAT, None)
    assert answer[3].startswith(f"Invalid schema for response_format 'x': {text}")
    wanted[FORMAT]["json_schema"]["strict"] = False
    if "oneOf" not in text and "allOf" not in text:
        assert post(server, CHAT, body).status_code == 200


def test_chat_with_other_models(client: openai.OpenAI) -> None:
    """A model that there is not, and one that does not chat."""
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", None)
    with pytest.raises(
        openai.NotFoundError, match="This is not a chat model and thus not supported in the v1/chat"
    ) as no:
        client.chat.completions.create(model=SMALL, messages=HELLO)
    assert (no.value.code, no.value.param) == (None, "model")


@pytest.mark.parametrize("model", ["o1", "o3", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5-nano"])
def test_reasoning_models_take_no_sampling_and_no_max_tokens(client: openai.OpenAI, model: str) -> None:
    """``temperature`` other than 1 and ``max_tokens`` are refused as by the real ones; what they do take is taken."""
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as error:
        create(model=model, messages=HELLO, temperature=0.1)
    only = "Only the default (1) value is supported."
    if model == "o3-mini":
        expected = ("unsupported_parameter", "Unsupported parameter: 'temperature' is not supported with this model.")
    else:
        expected = (
            "unsupported_value",
            f"Unsupported value: 'temperature' does not support 0.1 with this model. {only}",
        )
    assert error.value.param == "temperature"
    assert error.value.code == expected[0]
    assert error.value.body == {
        "message": expected[1], "type": "invalid_request_error", "param": "temperature", "code": expected[0]
    }  # fmt: skip
    with pytest.raises(openai.BadRequestError, match="Use 'max_completion_tokens' instead") as error:
        create(model=model, messages=HELLO, max_tokens=100)
    assert (error.value.param, error.value.code) == ("max_tokens", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError, match="Unsupported parameter: 'top_p' is not supported with this model"):
        create(model=model, messages=HELLO, top_p=0.5)
    with pytest.raises(openai.BadRequestError, match="Supported values are: 'none', 'minimal'"):
        create(model=model, messages=HELLO, reasoning_effort="huge")  # type: ignore[call-overload]
    said(create(model=model, messages=HELLO, temperature=1, max_completion_tokens=100, reasoning_effort="low"))


def test_what_goes_with_tools_is_taken(server: OpenAIServer) -> None:
    """Tools, a choice among them, and a conversation in which one was called and has answered."""
    answered = [*HELLO, CALLING, {"role": "tool", "content": "tea", "tool_call_id": "call_1"}]
    for choice in ("none", "auto", "required", {"type": "function", "function": {"name": "look_up"}}):
        body = {"model": "gpt-4o", "messages": answered, "tools": [TOOL], "tool_choice": choice, "stop": ["\n"] * 4}
        assert post(server, CHAT, {**body, "parallel_tool_calls": False}).status_code == 200


def test_null_is_as_good_as_absent(server: OpenAIServer) -> None:
    """Optional parameters may be null."""
    names = ("temperature", "max_tokens", "n", "response_format", "reasoning_effort", "stream", "top_p", "tools")
    body = {"model": "gpt-4o", "messages": HELLO, **dict.fromkeys(names)}
    assert post(server, "/v1/chat/completions", body).status_code == 200


# -- models, keys, addresses -----------------------------------------------------------------


def test_models_are_listed_and_described(client: openai.OpenAI) -> None:
    """A model can be looked up by its name; another is a 404 that names it."""
    names = [model.id for model in client.models.list()]
    assert {SMALL, "gpt-4o-mini", "gpt-5-mini"} <= set(names)
    assert client.models.retrieve("gpt-4o-mini").object == "model"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-9")
    assert error.value.body == {
        "message": "The model 'gpt-9' does not exist", "type": "invalid_request_error", "param": "model",
        "code": "model_not_found",
    }  # fmt: skip


def test_a_server_has_the_models_that_it_is_given() -> None:
    """Known names and descriptions; an unknown name alone is an error."""
    own = OpenAIModel("local/embedder", dimensions=512)
    with (
        OpenAIServer(models=["gpt-4o", own]) as server,
        openai.OpenAI(base_url=server.base_url, api_key=server.api_key) as client,
    ):
        assert [model.id for model in client.models.list()] == ["gpt-4o", "local/embedder"]
        assert len(client.embeddings.create(model="local/embedder", input="tea").data[0].embedding) == 512
    with pytest.raises(ValueError, match="'gpt-9' is not known: describe it with OpenAIModel"):
        OpenAIServer(models=["gpt-9"])


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions", "/v1/models", "/v1/models/gpt-4o"])
@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (
            "",
            None,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bea",
        ),
        ("Basic abc", None, "You didn't provide an API key."),
        ("Bearer", None, "You didn't provide an API key."),
        (
            "Bearer sk-wrong-0123456789-abcd",
            "invalid_api_key",
            "Incorrect API key provided: sk-wrong************abcd. You",
        ),
        ("Bearer short", "invalid_api_key", "Incorrect API key provided: *****. You can find your API key at https://"),
    ],
)
def test_no_key_and_a_wrong_key(server: OpenAIServer, path: str, sent: str, code: str | None, text: str) -> None:
    """Every endpoint wants the key, and no refusal shows one."""
    method = "GET" if "models" in path else "POST"
    answer = ask(method, server.url + path, headers={"authorization": sent} if sent else {})
    assert refused(answer)[:3] == (401, None, code)
    assert refused(answer)[3].startswith(text)


def test_addresses_and_methods_that_there_are_not(server: OpenAIServer) -> None:
    """A base URL with one ``/v1`` too few or too many is found out, and so is a wrong method."""
    assert refused(post(server, "/v1/v1/embeddings", {})) == (404, None, None, "Invalid URL (POST /v1/v1/embeddings)")
    assert refused(post(server, "/embeddings", {}))[:3] == (404, None, "unknown_url")
    assert refused(ask("GET", server.base_url + "/embeddings")) == (
        405, None, "method_not_supported", "Only POST requests are accepted.",
    )  # fmt: skip
    assert refused(post(server, "/v1/models", {}))[0] == 405


def test_every_answer_has_a_request_id(client: openai.OpenAI) -> None:
    """The client shows it in its errors."""
    ids = {client.models.list()._request_id for _ in range(3)}
    assert len(ids) == 3
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-9")
    assert str(error.value.request_id).startswith("req_")


# -- faults ----------------------------------------------------------------------------------


def embedding(client: openai.OpenAI, texts: Any = ("tea", "milk")) -> Any:
    return client.embeddings.create(model=SMALL, input=list(texts)).data


def test_a_rate_limit_says_when_to_try_again(server: OpenAIServer, client: openai.OpenAI) -> None:
    """429 has the real body and headers; it ends after as many requests as was said."""
    server.fail(Fault.status(429, retry_after=0.25), times=2, path="/v1/embeddings")
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as error:
            embedding(client)
        assert error.value.code == "rate_limit_exceeded"
        assert error.value.type == "requests"
        assert "Rate limit reached for text-embedding-3-small" in error.value.message
        assert "Please try again in 0.25s" in error.value.message
        assert error.value.response.headers["retry-after"] == "1"
        assert error.value.response.headers["retry-after-ms"] == "250"
    assert len(embedding(client)) == 2
    assert [request.status for request in server.requests] == [429, 429, 200]


def test_the_client_tries_again_by_itself(server: OpenAIServer) -> None:
    """What is retryable is retried by the official client, as on the real server."""
    server.fail(Fault.status(429, retry_after=0), times=1)
    server.fail(Fault.status(503, retry_after=0), times=1)
    with openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=2) as client:
        assert len(embedding(client)) == 2
    assert [request.status for request in server.requests] == [429, 503, 200]


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (401, "invalid_request_error", "You didn't provide an API key"),
        (403, "request_forbidden", "Country, region, or territory not supported"),
        (409, "invalid_request_error", "The request was refused."),
        (500, "server_error", "The server had an error processing your request. Sorry about that!"),
        (503, "server_error", "The engine is currently overloaded, please try again later."),
        (599, "server_error", "The server had an error processing your request."),
    ],
)
def test_any_status_on_demand(server: OpenAIServer, client: openai.OpenAI, code: int, kind: str, text: str) -> None:
    """An error status comes with the body that the real server sends."""
    server.fail(Fault.status(code))
    with pytest.raises(openai.APIStatusError) as error:
        embedding(client)
    assert (error.value.status_code, error.value.type) == (code, kind)
    assert error.value.message.find(text) >= 0


def test_a_gateway_answers_with_a_page(server: OpenAIServer, client: openai.OpenAI) -> None:
    """502 and 504 are HTML, as from a proxy."""
    for code in (502, 504):
        server.fail(Fault.status(code))
        with pytest.raises(openai.InternalServerError) as error:
            embedding(client)
        assert error.value.response.headers["content-type"] == "text/html"
        assert f"<h1>{code} " in error.value.response.text


def test_a_body_of_one_s_own(server: OpenAIServer, client: openai.OpenAI) -> None:
    """A fault may have any body: JSON, a page, text; and ``Retry-After`` may be a date."""
    quota = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None,
                       "code": "insufficient_quota"}}  # fmt: skip
    server.fail(Fault.status(429, body=quota, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"))
    with pytest.raises(openai.RateLimitError) as error:
        embedding(client)
    assert error.value.code == "insufficient_quota"
    assert error.value.response.headers["retry-after"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    for body, kind in (("<p>no</p>", "text/html"), ("no", "text/plain; charset=utf-8")):
        server.fail(Fault.status(400, body=body))
        answer = post(server, "/v1/embeddings", {})
        assert (answer.text, answer.headers["content-type"]) == (body, kind)


def test_slow_is_a_timeout_for_the_impatient(server: OpenAIServer, client: openai.OpenAI) -> None:
    """The answer is right, and late."""
    server.fail(Fault.slow(0.2), times=2)
    begun = time.monotonic()
    assert len(embedding(client)) == 2
    assert time.monotonic() - begun >= 0.2
    with pytest.raises(openai.APITimeoutError):
        embedding(client.with_options(timeout=0.05))


@pytest.mark.parametrize("fault", ["429", 429, Fault.cut, None])
def test_what_is_no_fault_is_refused(server: OpenAIServer, fault: Any) -> None:
    """What is passed in the place of a fault is told, and what to pass, before anything waits for a request."""
    with pytest.raises(TypeError, match=r"fail takes a Fault, not .*Fault\.status\(429\)"):
        server.fail(fault)
    assert not server.pending


@pytest.mark.parametrize("fault", [Fault.cut(), Fault.cut_midway()])
def test_a_cut_connection(server: OpenAIServer, client: openai.OpenAI, fault: Fault) -> None:
    """Before or in the middle of the answer; the next call works."""
    server.fail(fault)
    with pytest.raises(openai.APIConnectionError):
        embedding(client)
    assert server.requests[0].status == (None if fault.kind == "cut" else 200)
    assert len(embedding(client)) == 2


@pytest.mark.parametrize("fault", [Fault.malformed_json(), Fault.cut_midway(clean=True)])
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions", "/v1/models"])
def test_malformed_json(server: OpenAIServer, fault: Fault, path: str) -> None:
    """The response is in order but for its JSON, on every endpoint."""
    server.fail(fault, path=path)
    body = {"model": SMALL, "input": "tea"} if "embeddings" in path else {"model": "gpt-4o", "messages": HELLO}
    for broken in (True, False):
        if "models" in path:
            answer = ask("GET", server.url + path, headers={"authorization": f"Bearer {server.api_key}"})
        else:
            answer = post(server, path, body)
        assert answer.status_code == 200
        if broken:
            with pytest.raises(ValueError):
                answer.json()
        else:
            answer.json()


def test_wrong_dimensions_and_fewer_vectors(server: OpenAIServer, client: openai.OpenAI) -> None:
    """Half of the dimensions, or as many as one likes; one vector less, or several."""
    server.fail(Fault.wrong_dimensions())
    assert {len(item.embedding) for item in embedding(client)} == {768}
    server.fail(Fault.wrong_dimensions(2000))
    assert {len(item.embedding) for item in embedding(client)} == {2000}
    server.fail(Fault.fewer_vectors())
    assert [item.index for item in embedding(client)] == [0]
    server.fail(Fault.fewer_vectors(5))
    assert post(server, "/v1/embeddings", {"model": SMALL, "input": "tea"}).json()["data"] == []
    assert {len(item.embedding) for item in embedding(client)} == {1536}


MEMORY_JSON: Final = json.dumps({"memory": [{"id": "0", "text": "I like tea.", "attributed_to": "user"}]})


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault.prose(), f"Sure! This is what I found worth remembering:\n\n{MEMORY_JSON}\n\nLet me know"),
        (Fault.prose("fenced"), f"Here is the JSON you asked for:\n\n```json\n{MEMORY_JSON}\n```\n\nLet me know"),
        (Fault.prose("instead"), "I found some things worth remembering, and have taken good note of them."),
        (Fault.old_shape(), '{"facts": ["I like tea."]}'),
        (Fault.old_shape("strings"), '{"memory": ["I like tea."]}'),
        (Fault.malformed_json("answer"), MEMORY_JSON[:40]),
        (Fault.answer(""), ""),
        (Fault.answer("null"), "null"),
    ],
)
def test_what_a_chat_model_says_wrong(
    server: OpenAIServer, client: openai.OpenAI, extraction_prompt: ExtractionPrompt, fault: Fault, answer: str
) -> None:
    """Prose, old layouts, half an answer, none: in a response that is in order; the next one is right."""
    server.fail(fault)
    messages: Any = extraction_prompt("user: I like tea.\n")
    wrong = said(client.chat.completions.create(model="gpt-4o", messages=messages))
    assert wrong.startswith(answer)
    assert wrong != MEMORY_JSON
    assert server.requests[0].fault == fault
    assert said(client.chat.completions.create(model="gpt-4o", messages=messages)) == MEMORY_JSON


# -- how faults are met ----------------------------------------------------------------------


def statuses(server: OpenAIServer, *paths: str) -> list[int]:
    headers = {"authorization": f"Bearer {server.api_key}"}
    bodies = {
        "/v1/embeddings": {"model": SMALL, "input": "tea"},
        "/v1/chat/completions": {"model": "gpt-4o", "messages": HELLO},
    }
    return [
        ask("POST" if path in bodies else "GET", server.url + path, headers=headers, json=bodies.get(path)).status_code
        for path in paths
    ]


def test_a_fault_waits_for_its_path(server: OpenAIServer) -> None:
    """Requests to other endpoints do not meet it."""
    server.fail(Fault.status(500), path=CHAT)
    assert statuses(server, EMBED, "/v1/models", CHAT, CHAT) == [200, 200, 500, 200]


def test_a_fault_may_spare_some_first(server: OpenAIServer) -> None:
    """An embedder that dies half-way: the third of the batches."""
    server.fail(Fault.status(500), path=EMBED, after=2)
    assert statuses(server, EMBED, CHAT, EMBED, EMBED, EMBED) == [200, 200, 200, 500, 200]


def test_faults_come_in_order_one_for_each_request(server: OpenAIServer) -> None:
    """The first that was asked for is met first."""
    for code in (500, 503, 429):
        server.fail(Fault.status(code))
    assert [fault.code for fault in server.pending] == [500, 503, 429]
    assert statuses(server, EMBED, EMBED, EMBED, EMBED) == [500, 503, 429, 200]
    assert server.pending == ()


def test_a_fault_without_end_lasts_until_it_is_healed(server: OpenAIServer) -> None:
    """``times=None`` is an outage; ``heal`` ends it, and all others."""
    server.fail(Fault.status(500), times=None)
    assert statuses(server, EMBED, EMBED, EMBED) == [500, 500, 500]
    server.heal()
    assert statuses(server, EMBED) == [200]


def test_a_fault_of_the_model_waits_for_a_request_that_is_right(server: OpenAIServer, client: openai.OpenAI) -> None:
    """A refused request does not use it up."""
    server.fail(Fault.fewer_vectors())
    assert post(server, EMBED, {"model": SMALL, "input": ""}).status_code == 400
    assert server.requests[0].fault is None
    assert statuses(server, CHAT) == [200]
    assert len(embedding(client)) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"path": "/v1/embedings"}, "OpenAIServer has no endpoint /v1/embedings"),
        ({"path": EMBED}, "prose cannot happen to /v1/embeddings"),
        ({"times": 0}, "times: at least 1"),
        ({"after": -1}, "after: at least 0"),
    ],
)
def test_a_fault_that_could_never_be_met_is_an_error(
    server: OpenAIServer, arguments: dict[str, Any], problem: str
) -> None:
    """A misspelt path would make a test pass that shows nothing."""
    with pytest.raises(ValueError, match=problem):
        server.fail(Fault.prose(), **arguments)


def test_faults_that_make_no_sense_are_errors() -> None:
    """A status that is no error, a wait into the past, no vector missing."""
    makers: list[Any] = [
        lambda: Fault.status(200),
        lambda: Fault.status(429, retry_after=-1),
        lambda: Fault.slow(float("nan")),
        lambda: Fault.wrong_dimensions(0),
        lambda: Fault.fewer_vectors(0),
    ]
    for make in makers:
        with pytest.raises(ValueError):
            make()


# -- what all servers share ------------------------------------------------------------------


def test_requests_are_kept_and_show_no_key(server: OpenAIServer, client: openai.OpenAI) -> None:
    """Method, path, headers, body, status; keys and texts stay out of representations."""
    embedding(client, ["a secret thought"])
    ask("GET", server.base_url + "/models?limit=1", headers={"Authorization": "Bearer sk-other"})
    first, second = server.requests
    assert (first.method, first.path, first.status, first.fault) == ("POST", EMBED, 200, None)
    assert first.json["input"] == ["a secret thought"]
    assert first.headers["Authorization"] == f"Bearer {server.api_key}"
    assert (second.path, second.query, second.status) == ("/v1/models", "limit=1", 401)
    shown = (
        f"{server!r} {server.requests!r} {first.headers!r} {second!r} {Headers({'X-API-Key': 'k', 'api-key': 'k'})!r}"
    )
    assert server.api_key not in shown
    assert "sk-other" not in shown
    assert "secret" not in shown
    assert "'x-api-key': '***', 'api-key': '***'" in shown
    server.forget()
    assert server.requests == ()


def test_many_threads_at_once(server: OpenAIServer, client: openai.OpenAI) -> None:
    """Each gets its own answer; every fault is met exactly as often as was said."""
    server.fail(Fault.status(500), times=5)

    def one(number: int) -> bool:
        try:
            return len(embedding(client, [f"text {number}"] * (number % 3 + 1))) == number % 3 + 1
        except openai.InternalServerError:
            return False

    with ThreadPoolExecutor(16) as pool:
        right = list(pool.map(one, range(60)))
    assert right.count(False) == 5
    assert len(server.requests) == 60


def test_stopping_ends_everything(own_server: OpenAIServer) -> None:
    """No thread and no connection is left, a slow answer is not waited for, and the server can be told stopped."""
    server = own_server
    before = threading.active_count()
    server.fail(Fault.slow(60))
    failures: list[Exception] = []

    def wait() -> None:
        try:
            ask("GET", server.base_url + "/models", timeout=60)
        except httpx.HTTPError as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not server.requests:
        time.sleep(0.01)
    begun = time.monotonic()
    server.stop()
    waiting.join()
    assert time.monotonic() - begun < 20
    server.stop()
    assert threading.active_count() < before
    assert "stopped" in repr(server)
    with pytest.raises(httpx.ConnectError):
        ask("GET", server.url)


def test_a_server_can_come_back(own_server: OpenAIServer) -> None:
    """After an outage it listens where it did before."""
    server = own_server
    where = server.url
    server.stop()
    with pytest.raises(httpx.ConnectError):
        ask("GET", where)
    with server:
        assert server.url == where
        assert statuses(server, "/v1/models") == [200]


def test_misuse_is_said_so(own_server: OpenAIServer) -> None:
    """An address before the start, a second start."""
    server = own_server
    with pytest.raises(RuntimeError, match="never started"):
        _ = OpenAIServer().base_url
    with pytest.raises(RuntimeError, match="running already"):
        server.start()


def test_only_loopback_is_listened_on(server: OpenAIServer) -> None:
    """Nobody else on the network sees it."""
    assert server.url.startswith("http://127.0.0.1:")


def test_a_bug_here_looks_like_one(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the server is a 500 that names it, not a failure of the client's."""
    with OpenAIServer(chat=lambda turns: 1 / 0) as server:
        answer = post(server, CHAT, {"model": "gpt-4o", "messages": HELLO})
    assert answer.status_code == 500
    assert answer.text == "OpenAIServer failed, which is a bug of memstack.testing: ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in caplog.text


def test_a_body_without_a_length_is_refused(server: OpenAIServer) -> None:
    """Chunked requests, which neither client sends, are told so."""
    answer = ask("POST", server.base_url + "/embeddings", content=iter([b"{}"]))
    assert answer.status_code == 411


def test_importing_costs_nothing(tmp_path: Path) -> None:
    """Neither a model, nor numpy, nor a client, nor pytest is imported."""
    code = "import sys, memstack.testing; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "wordllama", "openai", "ollama", "httpx", "httpx2", "pytest", "mem0", "tokenizers"}
