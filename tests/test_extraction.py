"""How a model's answer is read: tolerant of form, strict about content, and never an empty success by mistake."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.extraction import RESPONSE_FORMAT, Fact, Unreadable, numbered, read, repair_request

SCHEMA = RESPONSE_FORMAT["json_schema"]["schema"]
TEA = Fact("I drink tea", (0,), "user")
ANSWER = json.dumps({"memory": [{"id": "0", "text": "I drink tea", "attributed_to": "user", "source": [0]}]})


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        f"\ufeff  {ANSWER}\n",
        f"```json\n{ANSWER}\n```",
        f"```\n{ANSWER}```",
        f"Sure! Here it is:\n\n```json\n{ANSWER}\n```\n\nAnything else?",
        f"Sure! Here it is: {ANSWER} Anything else?",
        f"<think>The user {{drinks}} tea. {{}}</think>{ANSWER}",
        f"A set like {{x}} or {{1: 2}} is no answer. {ANSWER}",
        json.dumps({"memory": [{"text": "I drink tea", "attributed_to": "user", "source": 0}]}),
        json.dumps({"memory": [{"text": "I drink tea", "attributed_to": "user", "sources": ["0"]}]}),
        json.dumps([{"text": "I drink tea", "attributed_to": "user", "message": [0, 0, 7, -1, True, None, "x"]}]),
        json.dumps({"memory": {"text": "I drink tea", "attributed_to": "user", "source": [0]}}),
        ANSWER + "\n" + ANSWER,
    ],
)
def test_forms_that_are_read(answer: str) -> None:
    """Fences, prose, thoughts, and other spellings of the same are the same facts."""
    found = read(answer, 1)
    assert (found.facts, found.broken) == ((TEA,), ())


@pytest.mark.parametrize(
    "answer",
    [
        '\ufeff["I drink tea"]',
        '{"memory": ["I drink\ntea"]}',
        '["I drink\ntea"]',
        'Sure! {"memory": ["I drink\ntea"]} Anything else?',
        '<think>{"memory": ["I drink coffee"]}? No, tea.</think>{"memory": ["I drink tea"]}',
    ],
)
def test_what_is_around_and_inside(answer: str) -> None:
    """A mark before a list, a line break inside a text, and drafts among the thoughts change no fact."""
    assert [" ".join(fact.text.split()) for fact in read(answer, 1).facts] == ["I drink tea"]


@pytest.mark.parametrize("source", ["9" * 5000, 10**9, "\u00b2", "\u0660", True, 1.0, [[0]], {"0": 0}, "-1", -1, 1])
def test_sources_that_are_none(source: Any) -> None:
    """What names no message of the call, of whatever type and length, is passed over, and the fact is kept."""
    (fact,) = read(json.dumps({"memory": [{"text": "I drink tea", "source": source}]}), 1).facts
    assert (fact.text, fact.messages) == ("I drink tea", ())


@pytest.mark.parametrize("owner", ["system", "User", "", None, 5, ["user"]])
def test_owners_that_are_none(owner: Any) -> None:
    """A fact is attributed to the user or the assistant; what else the model says there is passed over."""
    (fact,) = read(json.dumps({"memory": [{"text": "I drink tea", "attributed_to": owner}]}), 1).facts
    assert fact.attributed_to is None


@pytest.mark.parametrize(
    "answer",
    [
        '{"facts": ["I drink tea"]}',
        '{"memory": ["I drink tea"]}',
        '{"facts": [{"fact": "I drink tea"}]}',
        '["I drink tea"]',
        '{"memory": [{"id": "0", "text": "I drink tea", "event": "ADD"}, {"id": "1", "text": "old", "event": "NONE"}]}',
        '{"memory": [{"id": "0", "text": "I drink tea", "event": "UPDATE", "old_memory": "I drink coffee"}]}',
        '{"memory": [{"id": "0", "text": "I drink tea", "event": null}]}',
        '{"memory": [], "facts": ["I drink tea"]}',
    ],
)
def test_shapes_of_older_prompts(answer: str) -> None:
    """The layouts that Mem0's older prompts asked for are read too; what says that nothing changes is no fact."""
    assert [fact.text for fact in read(answer, 1).facts] == ["I drink tea"]


@pytest.mark.parametrize("answer", ['{"memory": []}', '{"facts": []}', "[]", 'Nothing. {"memory": []}'])
def test_nothing_to_remember(answer: str) -> None:
    """An empty list is an answer: nothing to remember."""
    assert read(answer, 1).facts == ()


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "  ",
        None,
        3,
        "{}",
        "null",
        '{"memory": null}',
        '{"memory": "tea"}',
        '{"echo": "x"}',
        "I noted it.",
        "[" * 9999,
        ANSWER[:-9],
        '{"memory": [{"text": "I drink',
        "{" * 9999,
    ],
)
def test_what_cannot_be_read_is_told(answer: object) -> None:
    """No list of facts is never taken for an empty one."""
    with pytest.raises(Unreadable):
        read(answer, 1)


@pytest.mark.parametrize(
    "entry", ["", " ", 3, None, {}, {"text": ""}, {"text": 3}, {"text": "a\0b"}, {"text": "\ud800"}]
)
def test_an_entry_that_is_no_fact_is_told(entry: Any) -> None:
    """Beside facts, each entry that cannot be one is named, and the facts are kept."""
    found = read(json.dumps({"memory": ["I drink tea", entry]}), 1)
    assert [fact.text for fact in found.facts] == ["I drink tea"]
    assert len(found.broken) == 1
    assert "entry 1" in found.broken[0]


@pytest.mark.parametrize("answer", ["{" * 300_000, '{"memory": ["' + "{" * 300_000, "{ " * 150_000])
def test_what_a_model_repeats_is_read_quickly(answer: str) -> None:
    """A model that says one brace over and over holds nobody up."""
    begun = time.monotonic()
    with pytest.raises(Unreadable):
        read(answer, 1)
    assert time.monotonic() - begun < 5


def test_a_fact_that_is_too_long_is_told() -> None:
    """A fact has at most as many characters as a memory, with the white space around it left out."""
    found = read(json.dumps({"memory": [f"  {'x' * 50}\n", "y" * 51]}), 1, 50)
    assert [fact.text for fact in found.facts] == ["x" * 50]
    assert found.broken == ("its entry 1 has 51 characters, and a memory has at most 50",)


def test_equal_facts_are_one_with_all_its_messages() -> None:
    """What the model says twice is one fact, from both messages."""
    found = read('{"memory": [{"text": "tea", "source": [2]}, {"text": "tea", "source": [0]}]}', 3)
    assert found.facts == (Fact("tea", (0, 2)),)


FACTS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(st.characters(codec="utf-8"), max_size=3),
            "text": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip),
            "attributed_to": st.sampled_from(["user", "assistant"]),
            "linked_memory_ids": st.just([]),
            "source": st.lists(st.integers(0, 4), max_size=3),
        }
    ),
    max_size=5,
)


@given(
    facts=FACTS,
    ascii_only=st.booleans(),
    around=st.sampled_from(["", "Sure!\n", "```json\n", "So: {", "<think>{</think>"]),
)
def test_every_answer_that_fulfils_the_schema_is_read_whole(
    facts: list[dict[str, Any]], ascii_only: bool, around: str
) -> None:
    """No text of a fact, whatever braces, fences or quotes it holds, keeps its answer from being read."""
    answer = {"memory": facts}
    jsonschema.validate(answer, SCHEMA)
    text = json.dumps(answer, ensure_ascii=ascii_only)
    found = read(f"{around}{text}{'```' if around.startswith('`') else ''}", 5)
    assert found.broken == ()
    assert [fact.text for fact in found.facts] == list(dict.fromkeys(fact["text"].strip() for fact in facts))
    assert all(set(fact.messages) <= set(range(5)) for fact in found.facts)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_read_or_told(text: str) -> None:
    """No answer ends in any other error."""
    with suppress(Unreadable):
        read(text, 3)


def test_the_messages_are_numbered_where_mem0_asks_for_the_output() -> None:
    """The numbers stand before the last section of Mem0's prompt, with the beginning of each message."""
    prompt = numbered("## New Messages\nuser: tea\n\n# Output:", [("user", "tea"), ("assistant", "x" * 99)])
    assert prompt.startswith("## New Messages\nuser: tea\n\n## Message Numbers\n")
    assert prompt.endswith("# Output:")
    assert "0 (user): tea\n1 (assistant): xxx" in prompt
    assert "x" * 61 not in prompt


def test_the_repair_asks_for_json() -> None:
    """The request to mend an answer says what is wrong and holds the word that OpenAI's JSON mode wants."""
    assert "it is empty" in repair_request("it is empty")
    assert "JSON" in repair_request("x")


@pytest.mark.parametrize(
    "answer",
    [
        "```\n" + "\n" * 50_000 + "x",
        "```" + " " * 50_000 + "x```",
        "```\n" + "\n```" * 50_000 + "x",
        '{"' * 100_000,
        '{"a":' * 100_000,
        '{"a":[' * 900 + "1," * 100_000,
    ],
)
def test_no_answer_takes_long_to_read(answer: str) -> None:
    """Whoever writes a message can have the model say what they like: broken fences and objects cost no more."""
    began = time.perf_counter()
    with pytest.raises(Unreadable):
        read(answer, 1)
    assert time.perf_counter() - began < 2


def test_what_is_wrong_with_many_entries_is_told_in_short() -> None:
    """Of thousands of entries that are no facts the first ones are told, and how many more there are."""
    found = read(json.dumps({"memory": [{"x": 1}] * 1000 + ["I drink tea"]}), 1)
    assert [fact.text for fact in found.facts] == ["I drink tea"]
    assert len(found.broken) == 1000
    assert found.problem.endswith("its entry 4 has no `text`; and 995 more")
    assert read(json.dumps({"memory": [{"x": 1}, "a"]}), 1).problem == "its entry 0 has no `text`"
    assert not read(json.dumps({"memory": ["a"]}), 1).problem
