"""What a model extracts, over the wire: nothing is lost, every fact knows its messages, and what fails is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from memstack import MemoryGateway, open_memory
from memstack.compat import Memory
from memstack.errors import IdempotencyMismatch, InvalidInput, ProviderError, StoreError, UnreadableAnswer
from memstack.records import Message, Source
from memstack.stores.base import Row
from memstack.testing import Fault, OllamaServer, OpenAIModel, OpenAIServer, Turn
from tests.providers.conftest import Provider, running

TEA, TRAIN = "I drink tea in the morning.", "My train leaves at eight."
CHAT = {"openai": "/v1/chat/completions", "ollama": "/api/chat"}


@pytest.fixture
def memory(provider: Provider, tmp_path: Path) -> Iterator[MemoryGateway]:
    with open_memory({"vector_store": {"path": str(tmp_path / "memory")}}, llm=provider.llm) as opened:
        yield opened


def _asked(provider: Provider) -> list[Any]:
    """The chat requests that the server received."""
    return [request.json for request in provider.server.requests if request.path == CHAT[provider.name]]


def _texts(memory: MemoryGateway, user: str = "alex") -> list[str]:
    return [found.text for found in memory.get_all(user_id=user, order="created_at")]


# -- what is asked ---------------------------------------------------------------------------


def test_the_answer_is_constrained_by_a_schema(provider: Provider, memory: MemoryGateway) -> None:
    """The server is asked for JSON that fulfils a schema, with Mem0's prompt."""
    assert memory.add(TEA, user_id="alex").stored
    (request,) = _asked(provider)
    schema = request["format"] if provider.name == "ollama" else request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["memory"]["items"]["properties"]["text"] == {"type": "string"}
    assert "Memory Extractor" in request["messages"][0]["content"]
    assert TEA in request["messages"][1]["content"]


def test_another_prompt_and_more_instructions(provider: Provider, tmp_path: Path) -> None:
    """`extraction_prompt` stands in place of Mem0's prompt, `custom_instructions` beside it."""
    said = {"extraction_prompt": "Find facts. Answer in JSON.", "custom_instructions": "Only about drinks."}
    with open_memory({"vector_store": {"path": str(tmp_path / "memory")}}, llm=provider.llm, **said) as memory:
        assert memory.add(TEA, user_id="alex").stored
    (request,) = _asked(provider)
    assert request["messages"][0]["content"] == "Find facts. Answer in JSON."
    assert "Only about drinks." in request["messages"][1]["content"]


def test_instructions_of_one_call(provider: Provider, tmp_path: Path) -> None:
    """`instructions`, Mem0's `prompt`, stand in place of `custom_instructions` for one call, or are an error."""
    config = {"vector_store": {"path": str(tmp_path / "memory")}, "llm": provider.llm, "custom_instructions": "All."}
    with Memory(config) as m:
        assert m.gateway.add(TEA, user_id="alex", instructions="Only about drinks.").stored
        assert m.add(TEA, user_id="blake", prompt="Only about coffee.")["results"]
        assert m.add(TEA, user_id="carol", prompt="")["results"]
        for wrong in (" ", 5):
            with pytest.raises(InvalidInput, match="instructions"):
                m.gateway.add(TEA, user_id="dora", instructions=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="instructions: is for an LLM"):
            m.gateway.add(TEA, user_id="dora", instructions="Only about drinks.", infer=False)
    for request, told in zip(_asked(provider), ["Only about drinks.", "Only about coffee.", "All."], strict=True):
        content = request["messages"][1]["content"]
        assert told in content
        assert ("All." in content) is (told == "All.")


@pytest.mark.parametrize("structured", [True, False])
def test_json_mode_where_there_are_no_schemas(tmp_path: Path, structured: bool) -> None:
    """A server that knows no JSON Schema is asked once for one, and from then on for a JSON object."""
    model = OpenAIModel("local", structured=structured)
    with OpenAIServer(models=[model]) as server:
        llm = {"provider": "openai", "base_url": server.base_url, "api_key": server.api_key, "model": "local"}
        with open_memory({"vector_store": {"path": str(tmp_path / "memory")}}, llm=llm) as memory:
            assert memory.add(TEA, user_id="alex").stored
            assert memory.add(TRAIN, user_id="alex").stored
            forms = [request.json["response_format"]["type"] for request in server.requests]
            assert forms == (["json_schema"] * 2 if structured else ["json_schema", "json_object", "json_object"])
            assert memory.stats()["llm"]["failures"] == 0


def test_no_form_where_there_is_none(tmp_path: Path) -> None:
    """A server that knows no `response_format` at all is asked without, and its answer is read all the same."""
    refusal: dict[str, Any] = {"error": {"message": "Unsupported parameter: 'response_format'", "type": "bad"}}
    with running("openai") as provider:
        provider.server.fail(Fault.status(400, body=refusal), times=2)
        with open_memory({"vector_store": {"path": str(tmp_path / "memory")}}, llm=provider.llm) as memory:
            assert [found.text for found in memory.add(TEA, user_id="alex").stored] == [TEA]
            assert "response_format" not in _asked(provider)[-1]


# -- where a fact comes from -----------------------------------------------------------------


def test_a_fact_knows_its_messages(memory: MemoryGateway) -> None:
    """Each fact has role, name and position of the message that it came from, and when that was said."""
    said = [
        {"role": "user", "content": "Hello!"},
        {"role": "user", "content": TEA, "name": "Alex", "occurred_at": "2024-05-01T10:00:00Z"},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": TRAIN},
    ]
    result = memory.add(said, user_id="alex", metadata={"topic": "day"})
    by_text = {found.text.removeprefix("Alex: "): found for found in result.stored}
    assert by_text[TEA].source == (Source("user", "Alex", 0),)
    assert by_text[TRAIN].source == (Source("user", None, 1),)
    assert by_text[TEA].occurred_at == datetime(2024, 5, 1, 10, tzinfo=timezone.utc)
    assert {found.metadata["topic"] for found in result.stored} == {"day"}
    assert [(item.index, item.reason) for item in result.skipped] == [
        (0, "nothing to remember"),
        (2, "nothing to remember"),
    ]
    assert not result.failed
    assert memory.get(by_text[TEA].id) == by_text[TEA]
    (change,) = memory.history(by_text[TEA].id)
    assert (change.event, change.actor, change.new_text) == ("ADD", "Alex", by_text[TEA].text)


@pytest.mark.parametrize("given", [None, [7], "x", []])
def test_where_the_model_does_not_say_it_can_be_any(tmp_path: Path, given: Any) -> None:
    """A fact without a usable `source` is of all messages of the role that it is attributed to."""

    def chat(turns: Sequence[Turn]) -> Any:
        return {"memory": [{"text": "Tea at eight", "attributed_to": "user", "source": given}]}

    place = {"vector_store": {"path": str(tmp_path / "memory")}}
    with running("openai", chat=chat) as provider, open_memory(place, llm=provider.llm) as memory:
        (stored,) = memory.add([TEA, Message("assistant", "Fine"), TRAIN], user_id="alex").stored
        assert stored.source == (Source("user", None, 0), Source("user", None, 1))


def test_a_fact_of_several_messages(tmp_path: Path) -> None:
    """It was said when the last of them was, by who said the first; drawn out of them again, it is there already."""
    said = [
        {"role": "user", "content": TEA, "name": "Al", "occurred_at": "2024-05-01T10:00:00Z"},
        {"role": "user", "content": TRAIN, "name": "Bo", "occurred_at": "2024-05-02T10:00:00Z"},
    ]

    def chat(turns: Sequence[Turn]) -> Any:
        return {"memory": [{"text": "Tea at eight", "attributed_to": "user"}]}

    place = {"vector_store": {"path": str(tmp_path / "memory")}}
    with running("openai", chat=chat) as provider, open_memory(place, llm=provider.llm) as memory:
        (stored,) = memory.add(said, user_id="alex").stored
        assert stored.occurred_at == datetime(2024, 5, 2, 10, tzinfo=timezone.utc)
        assert memory.history(stored.id)[0].actor == "Al"
        again = memory.add(said, user_id="alex")
        assert (again.stored, {item.memory_id for item in again.skipped}) == ((), {stored.id})


def test_every_message_is_accounted_for(memory: MemoryGateway) -> None:
    """What is stored, skipped and failed is every message: roles that Mem0 does not read too."""
    said: list[dict[str, Any]] = [
        {"role": "tool", "content": "exit code 0"},
        {"role": "developer", "content": "Answer briefly."},
        {"role": "user", "content": f"{TEA} {TRAIN}"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
    ]
    result = memory.add(said, user_id="alex")
    assert [found.text for found in result.stored] == [TEA, TRAIN]
    outcomes = [(0, "role"), (1, "nothing to remember"), (3, "nothing to remember")]
    assert [(item.index, item.reason) for item in result.skipped] == outcomes
    assert memory.add(said[:1], user_id="alex").skipped[0].reason == "role"
    assert memory.add(said[3], user_id="alex").skipped[0].reason == "nothing to remember"


def test_an_id_with_a_space_can_be_inferred_for(memory: MemoryGateway) -> None:
    """The scope is ours: ids that Mem0 refuses are as good as any."""
    assert memory.add(TEA, user_id="alex smith").stored[0].scope.user_id == "alex smith"


def test_duplicates_are_told_by_our_rule(memory: MemoryGateway) -> None:
    """The same fact again is skipped, with other metadata it is another memory; repeating a key stores nothing."""
    first = memory.add(TEA, user_id="alex", idempotency_key="k").stored
    again = memory.add(TEA, user_id="alex")
    assert (again.stored, again.skipped[0].reason, again.skipped[0].memory_id) == ((), "duplicate", first[0].id)
    assert len(memory.add(TEA, user_id="alex", metadata={"cups": 1}).stored) == 1
    assert memory.add(TEA, user_id="alex", idempotency_key="k").skipped[0].memory_id == first[0].id
    with pytest.raises(IdempotencyMismatch):
        memory.add(TRAIN, user_id="alex", idempotency_key="k")


# -- answers that go wrong -------------------------------------------------------------------

READABLE = {
    "prose around": Fault.prose("around"),
    "a fence": Fault.prose("fenced"),
    "facts": Fault.old_shape("facts"),
    "strings": Fault.old_shape("strings"),
}
UNREADABLE = {
    "prose instead": Fault.prose("instead"),
    "malformed": Fault.malformed_json("answer"),
    "empty": Fault.answer(""),
    "another object": Fault.answer('{"echo": "x"}'),
    "no text": Fault.answer('{"memory": [{"id": "0"}]}'),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_form_that_can_be_read_is_read(provider: Provider, memory: MemoryGateway, name: str) -> None:
    """Prose, fences and the layouts of older prompts cost no further request and no fact."""
    provider.server.fail(READABLE[name], times=None)
    assert [found.text for found in memory.add(f"{TEA} {TRAIN}", user_id="alex").stored] == [TEA, TRAIN]
    assert len(_asked(provider)) == 1


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_answer_is_asked_for_again(provider: Provider, memory: MemoryGateway, name: str) -> None:
    """One answer that cannot be used costs a second request, and no fact."""
    provider.server.fail(UNREADABLE[name], times=1)
    result = memory.add([TEA, TRAIN], user_id="alex")
    assert ([found.text for found in result.stored], result.failed) == ([TEA, TRAIN], ())
    first, second = _asked(provider)
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert "cannot be used" in second["messages"][-1]["content"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_answer_that_stays_unreadable_is_failed(
    provider: Provider, memory: MemoryGateway, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every message is `failed`, with the raw answer for inspection and in no log; then it can be added again."""
    provider.server.fail(UNREADABLE[name], times=None)
    with caplog.at_level(logging.INFO):
        result = memory.add([TEA, TRAIN], user_id="alex", idempotency_key="k")
    assert (result.stored, result.skipped) == ((), ())
    assert [(item.index, item.retryable) for item in result.failed] == [(0, True), (1, True)]
    raw = result.failed[0].answer
    assert raw is not None
    if UNREADABLE[name].kind != "malformed_json":
        assert raw == UNREADABLE[name].text or "taken good note" in raw
    reason = result.failed[0].reason
    assert f"{provider.name} ({provider.llm['model']})" in reason
    assert "after 2 attempts" in reason
    assert "may help" in reason
    if raw:
        assert raw not in repr(result)
        assert raw not in reason
        assert raw not in caplog.text
    assert len(_asked(provider)) == 2
    assert _texts(memory) == []
    provider.server.heal()
    assert len(memory.add([TEA, TRAIN], user_id="alex", idempotency_key="k").stored) == 2


def test_the_raw_answer_is_in_the_debug_log(memory: MemoryGateway, provider: Provider, caplog: Any) -> None:
    """At DEBUG, and only there, the log has the answer."""
    provider.server.fail(UNREADABLE["prose instead"], times=None)
    with caplog.at_level(logging.DEBUG, "memstack"):
        memory.add(TEA, user_id="alex")
    assert "taken good note" in caplog.text
    assert all(record.levelno == logging.DEBUG for record in caplog.records if "good note" in record.getMessage())


def test_entries_that_are_no_facts_fail_alone(provider: Provider, memory: MemoryGateway) -> None:
    """Facts beside a broken entry are stored; the broken one is `failed`, and the key stays unused."""
    answer = json.dumps({"memory": [{"text": "Tea", "source": [0]}, {"note": "Train"}]})
    provider.server.fail(Fault.answer(answer), times=None)
    result = memory.add([TEA, TRAIN], user_id="alex", idempotency_key="k")
    assert [found.text for found in result.stored] == ["Tea"]
    assert [(item.index, item.answer, item.retryable) for item in result.failed] == [(1, answer, True)]
    assert "entry 1 has no `text`" in result.failed[0].reason
    provider.server.heal()
    assert [found.text for found in memory.add([TEA, TRAIN], user_id="alex", idempotency_key="k").stored] == [
        TEA,
        TRAIN,
    ]


def test_a_fact_is_no_longer_than_a_memory(provider: Provider, tmp_path: Path) -> None:
    """`limits.max_text` holds for facts too: one that is longer is asked for again, and else it is `failed`."""
    path = {"path": str(tmp_path / "memory")}
    with open_memory(vector_store=path, llm=provider.llm, limits={"max_text": 50}) as memory:
        provider.server.fail(Fault.answer(json.dumps({"memory": ["Tea", "x" * 51]})), times=2)
        result = memory.add(TEA[:50], user_id="alex")
        assert [found.text for found in result.stored] == ["Tea"]
        assert "at most 50" in result.failed[0].reason
        provider.server.fail(Fault.answer(json.dumps({"memory": ["x" * 51]})), times=1)
        provider.server.fail(Fault.answer(json.dumps({"memory": ["x" * 50]})), times=1)
        assert [found.text for found in memory.add(TEA[:50], user_id="alex").stored] == ["x" * 50]


@pytest.mark.parametrize("second", ['{"memory": []}', '{"memory": [{"id": "0"}]}', "Sorry!"])
def test_a_repair_loses_no_fact(provider: Provider, memory: MemoryGateway, second: str) -> None:
    """Facts beside a broken entry are stored too where the model, asked again, says nothing, or nothing better."""
    answer = json.dumps({"memory": ["Tea", "Train", {"note": "Rain"}]})
    provider.server.fail(Fault.answer(answer), times=1)
    provider.server.fail(Fault.answer(second), times=1)
    result = memory.add(TEA, user_id="alex")
    assert [found.text for found in result.stored] == ["Tea", "Train"]
    assert [(item.index, item.answer) for item in result.failed] == [(0, answer)]
    assert "entry 2 has no `text`" in result.failed[0].reason


def test_an_answer_with_half_a_character_is_asked_for_again(provider: Provider, memory: MemoryGateway) -> None:
    """What a model said can be sent back to it whatever it holds: half a character is replaced there."""
    answers = iter(['{"memory": ["Tea \ud83d"]}', '{"memory": ["Tea"]}'])
    llm: Any = memory._core.parts.llm
    said = llm.generate_response

    def halved(*args: Any, **kwargs: Any) -> str:
        said(*args, **kwargs)
        return next(answers)

    llm.generate_response = halved
    result = memory.add(TEA, user_id="alex")
    assert [found.text for found in result.stored] == ["Tea"]
    assert "Tea ?" in provider.server.requests[-1].body.decode()


def test_a_repair_may_take_facts_back(provider: Provider, memory: MemoryGateway) -> None:
    """A repaired answer that is in order stands in the place of the first, also where it has fewer facts."""
    provider.server.fail(Fault.answer(json.dumps({"memory": ["Tea", "Train", {"note": "Rain"}]})), times=1)
    provider.server.fail(Fault.answer(json.dumps({"memory": ["Tea"]})), times=1)
    result = memory.add(TEA, user_id="alex")
    assert [found.text for found in result.stored] == ["Tea"]
    assert not result.failed


def test_a_server_that_fails_at_the_repair(provider: Provider, memory: MemoryGateway) -> None:
    """Where the second request fails, the messages are `failed` with the first answer."""
    provider.server.fail(UNREADABLE["prose instead"], times=1)
    provider.server.fail(Fault.status(400), times=None, path=CHAT[provider.name])
    result = memory.add(TEA, user_id="alex")
    assert "HTTP 400" in result.failed[0].reason
    assert "taken good note" in (result.failed[0].answer or "")


def test_nothing_to_remember_is_skipped(memory: MemoryGateway) -> None:
    """Where the model finds nothing, every message is skipped for that reason, and the key is used."""
    result = memory.add(["Hello!", "Thanks"], user_id="alex", idempotency_key="k")
    assert [item.reason for item in result.skipped] == ["nothing to remember"] * 2
    assert memory.add(["Hello!", "Thanks"], user_id="alex", idempotency_key="k").skipped[0].reason == "duplicate"


def test_a_call_that_is_repeated_asks_no_model(provider: Provider, memory: MemoryGateway) -> None:
    """A key that was used tells what is there: the model could draw other facts out of the same words."""
    (stored,) = memory.add(TEA, user_id="alex", idempotency_key="k").stored
    again = memory.add(TEA, user_id="alex", idempotency_key="k")
    assert [(item.reason, item.memory_id) for item in again.skipped] == [("duplicate", stored.id)]
    assert len(_asked(provider)) == 1


def test_two_calls_with_one_key_that_find_nothing(tmp_path: Path) -> None:
    """Of two calls with one key under way at once, the second finds the key used, also where there are no facts."""
    others: list[Any] = []

    def chat(turns: Sequence[Turn]) -> Any:
        if not others:
            others.append(None)
            others[0] = opened.add("Hello!", user_id="alex", idempotency_key="k")
        return {"memory": []}

    place = {"vector_store": {"path": str(tmp_path / "memory")}}
    with running("openai", chat=chat) as provider, open_memory(place, llm=provider.llm) as opened:
        result = opened.add("Hello!", user_id="alex", idempotency_key="k")
        assert others[0].skipped[0].reason == "nothing to remember"
        assert result.skipped[0].reason == "duplicate"


def test_mem0_itself_loses_nothing(provider: Provider, memory: MemoryGateway) -> None:
    """On `gateway.mem0` an answer is read as tolerantly, and one that cannot be used is an error, with the answer."""
    provider.server.fail(READABLE["facts"], times=1)
    assert len(memory.mem0.add(TEA, user_id="alex")["results"]) == 1
    provider.server.fail(UNREADABLE["prose instead"], times=None)
    with pytest.raises(Exception, match="cannot be used") as caught:
        memory.mem0.add(TRAIN, user_id="alex")
    cause = caught.value.__cause__
    assert isinstance(cause, UnreadableAnswer)
    assert "taken good note" in cause.answer


def test_entries_that_are_no_facts_are_told_of_mem0_too(
    provider: Provider, memory: MemoryGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """On `gateway.mem0` an answer of broken entries alone is an error, and those beside facts are in the log."""
    provider.server.fail(Fault.answer('{"memory": [{"note": "Train"}]}'), times=2)
    with pytest.raises(Exception, match="cannot be used") as caught:
        memory.mem0.add(TRAIN, user_id="alex")
    assert isinstance(caught.value.__cause__, UnreadableAnswer)
    provider.server.fail(Fault.answer('{"memory": ["Tea", {"note": "Train"}]}'), times=2)
    with caplog.at_level(logging.WARNING, "memstack"):
        assert [item["memory"] for item in memory.mem0.add(TEA, user_id="alex")["results"]] == ["Tea"]
    assert "entry 1 has no `text`" in caplog.text


# -- parts that fail while facts are stored --------------------------------------------------


def test_a_store_that_fails_stores_no_fact(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails is the caller's error, asked once; no fact, no history, no key; the next call works."""
    store = memory._core.parts.store
    real, calls = store.upsert, []

    def failing(rows: Sequence[Row]) -> None:
        calls.append(len(rows))
        raise StoreError("store", "no", retryable=True)

    monkeypatch.setattr(store, "upsert", failing)
    with pytest.raises(StoreError):
        memory.add(f"{TEA} {TRAIN}", user_id="alex", idempotency_key="k")
    assert calls == [2]
    monkeypatch.setattr(store, "upsert", real)
    assert memory.stats()["history"]["changes"] == 0
    assert len(memory.add(f"{TEA} {TRAIN}", user_id="alex", idempotency_key="k").stored) == 2


def test_an_embedder_that_fails_stores_no_fact(tmp_path: Path) -> None:
    """An embedder that fails on the facts is the caller's error, and Mem0 does not try them one by one."""
    with running("openai") as provider, running("ollama") as other:
        place = {"vector_store": {"path": str(tmp_path / "memory")}}
        with open_memory(place, embedder=other.embedder, llm=provider.llm) as memory:
            memory.add("Something.", user_id="alex")
            other.server.forget()
            other.server.fail(Fault.status(400), times=None, path="/api/embed", after=1)
            with pytest.raises(ProviderError, match="HTTP 400"):
                memory.add(f"{TEA} {TRAIN}", user_id="alex")
            assert len(other.server.requests) == 2
            other.server.heal()
            assert _texts(memory) == ["Something."]
            assert len(memory.add(f"{TEA} {TRAIN}", user_id="alex").stored) == 2


def test_more_messages_than_the_embedder_takes(provider: Provider, tmp_path: Path) -> None:
    """A conversation that is too long to be embedded whole is still read: its facts are short."""
    said = [f"Fact number {number} is about the letter {chr(97 + number % 26)}." for number in range(60)]
    with OllamaServer() as server:
        embedder = {"provider": "ollama", "host": server.host, "model": "all-minilm"}
        place = {"vector_store": {"path": str(tmp_path / "memory")}}
        with open_memory(place, embedder=embedder, llm={**provider.llm, "max_tokens": 8000}) as memory:
            result = memory.add(said, user_id="alex")
            assert [found.text for found in result.stored] == said
            assert [found.source[0].position for found in result.stored] == list(range(60))


def test_a_judge_that_fails_loses_no_fact(tmp_path: Path) -> None:
    """The facts are stored by then: the result has them, and says of each whose contradictions nobody judged."""
    said: list[Any] = []

    def chat(turns: Sequence[Turn]) -> Any:
        if "New Messages" in turns[-1].text:
            return {"memory": ["I moved to Rome.", "I sold my flat in Paris."]}
        said.append(turns)
        verdicts = [{"memory": place, "contradicts": True, "reason": "moved"} for place in range(9)]
        return "no end " * 50_000 if len(said) == 1 else {"verdicts": verdicts}

    place = {"vector_store": {"path": str(tmp_path / "memory")}}
    with running("openai", chat=chat) as provider, open_memory(place, llm=provider.llm) as memory:
        (old,) = memory.add("I live in Paris.", user_id="alex", infer=False).stored
        result = memory.add("Rome it is", user_id="alex", infer=True, on_conflict="supersede")
        assert [found.text for found in result.stored] == ["I moved to Rome.", "I sold my flat in Paris."]
        (failed,) = result.failed
        assert failed.reason.startswith(
            f"{result.stored[0].id} is stored, and what it contradicts was not found: openai"
        )
        assert memory.get(old.id).superseded_by == result.stored[1].id
