"""What a language model is asked for when it draws facts out of messages, and how its answer is read.

The prompt is Mem0's. What is added to it: a JSON Schema that the answer has to fulfil, the numbers of the messages, so
that a fact can say which of them it comes from, and, where an answer cannot be read, a request to give it again.
Reading is tolerant of form (code fences, prose around, the layouts of older prompts) and strict about content: what
cannot be read is told, and never taken for "nothing to remember".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from memstack.errors import InvalidInput
from memstack.metadata import check_text

__all__ = [
    "PROMPT_TOKENS",
    "RESPONSE_FORMAT",
    "Extraction",
    "Fact",
    "Reading",
    "Unreadable",
    "numbered",
    "read",
    "repair_request",
]

RESPONSE_FORMAT: Final[Mapping[str, Any]] = {
    "type": "json_schema",
    "json_schema": {
        "name": "memories",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "memory": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": {"type": "string"},
                            "text": {"type": "string"},
                            "attributed_to": {"type": "string", "enum": ["user", "assistant"]},
                            "linked_memory_ids": {"type": "array", "items": {"type": "string"}},
                            "source": {"type": "array", "items": {"type": "integer"}},
                        },
                        "required": ["id", "text", "attributed_to", "linked_memory_ids", "source"],
                        "additionalProperties": False,
                    },
                }
            },
            "required": ["memory"],
            "additionalProperties": False,
        },
    },
}
"""The answer's form, as OpenAI's ``response_format`` has it; a subset that ``strict`` takes."""

PROMPT_TOKENS: Final = 8400
"""About how many tokens the prompt takes without any message: Mem0's, in the tokenizers of current models."""

_LISTS: Final = ("memory", "memories", "facts")
_TEXTS: Final = ("text", "memory", "fact", "content", "data")
_SOURCES: Final = ("source", "sources", "message", "messages")
_NO_FACTS: Final = frozenset({"NONE", "NOOP", "DELETE"})  # events of Mem0's older prompt that add nothing
_THOUGHTS: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE: Final = re.compile(r"```\w*[^\S\n]*\n")  # what a code fence begins with
_OBJECT: Final = re.compile(r'\{\s*(?=")')  # where one begins that has something in it
_OUTPUT: Final = "# Output:"
_SHOWN: Final = 60
_FALSE_STARTS: Final = 100  # of objects in an answer with words around: each costs as much as all that follows it
_TOLD: Final = 5  # of what is wrong with an answer


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to remember, as the model said it.

    Attributes:
        text: the words.
        messages: places of the messages that it comes from, from 0, in order; empty where the model did not say.
        attributed_to: whose it is, ``user`` or ``assistant``, where the model said so.
    """

    text: str
    messages: tuple[int, ...] = ()
    attributed_to: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says.

    Attributes:
        facts: the facts, equal ones once.
        broken: what is wrong with each entry that is no fact.
    """

    facts: tuple[Fact, ...]
    broken: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """What is wrong with the first of these entries, and how many more there are; empty where nothing is."""
        left = len(self.broken) - _TOLD
        return "; ".join([*self.broken[:_TOLD], *([f"and {left:,} more"] if left > 0 else [])])


@dataclass(slots=True)
class Extraction:
    """One conversation with a model about some messages.

    Attributes:
        messages: role and content of each.
        reading: what the answer says, once there is one that can be used.
        answer: the answer as it came.
        attempts: how often the model was asked.
    """

    messages: Sequence[tuple[str, str]] = ()
    reading: Reading = Reading(())
    answer: object = None
    attempts: int = 1


class Unreadable(ValueError):  # named for what happened
    """An answer in which no list of facts can be found; its text says what is wrong, and quotes nothing."""


# -- what is asked ---------------------------------------------------------------------------


def numbered(prompt: str, messages: Sequence[tuple[str, str]]) -> str:
    """Mem0's user prompt, with the numbers of the new messages, and the wish to be told them.

    Args:
        prompt: the prompt.
        messages: role and content of each message, in their order.
    """
    lines = "\n".join(f"{place} ({role}): {_beginning(content)}" for place, (role, content) in enumerate(messages))
    section = (
        "## Message Numbers\n"
        "Give every memory a `source`: the list of the numbers of the New Messages that it comes from, as in "
        f'"source": [0]. Their numbers, with how each begins:\n{lines}'
    )
    before, mark, after = prompt.rpartition(_OUTPUT)
    return f"{before}{section}\n\n{mark}{after}" if mark else f"{prompt}\n\n{section}"


def repair_request(problem: str) -> str:
    """What the model is told when its answer cannot be used."""
    return (
        f"That answer cannot be used: {problem}. Give it again, complete, as nothing but one JSON object of the form "
        '{"memory": [{"id": "0", "text": "…", "attributed_to": "user", "linked_memory_ids": [], "source": [0]}]}, with '
        'no words and no code fence around it. If there is nothing worth remembering, answer {"memory": []}.'
    )


def _beginning(content: str) -> str:
    words = " ".join(content.split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


# -- what is answered ------------------------------------------------------------------------


def read(answer: object, messages: int, longest: float = math.inf) -> Reading:
    """The facts of an answer.

    Args:
        answer: what the model said.
        messages: how many messages it was given.
        longest: the characters that a fact may have.

    Raises:
        Unreadable: there is no list of facts in it.
    """
    if not isinstance(answer, str) or not answer.strip():
        raise Unreadable("it is empty" if isinstance(answer, str) else "it is no text")
    lists = list(_lists(answer))
    if not lists:
        raise Unreadable("it holds no JSON object with a list `memory`")
    facts: dict[str, Fact] = {}
    broken: list[str] = []
    for entries in lists:
        for place, entry in enumerate(entries):
            if isinstance(entry, Mapping) and _adds_nothing(entry.get("event")):
                continue
            fact = _fact(entry, messages, longest)
            if isinstance(fact, str):
                broken.append(f"its entry {place} {fact}")
            elif fact.text in facts:
                before = facts[fact.text]
                facts[fact.text] = replace(before, messages=tuple(sorted({*before.messages, *fact.messages})))
            else:
                facts[fact.text] = fact
    return Reading(tuple(facts.values()), tuple(broken))


def _lists(answer: str) -> Iterator[list[Any]]:
    """Every list of facts in a text: the whole of it, or, where words stand around, each JSON object in it."""
    text = _THOUGHTS.sub("", answer).strip().removeprefix("\ufeff").strip()
    fence = _FENCE.match(text)
    if fence is not None and text.endswith("```") and len(text) >= fence.end() + len("```"):
        text = text[fence.end() : -len("```")].strip()
    try:
        whole: Any = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        for value in _objects(text):
            if (found := _list_in(value)) is not None:
                yield found
    else:
        found = whole if isinstance(whole, list) else _list_in(whole)
        if found is not None:
            yield found


def _objects(text: str) -> Iterator[Any]:
    """Each JSON object in a text.

    Raises:
        Unreadable: too much in it begins like one and is none.
    """
    decoder = json.JSONDecoder(strict=False)
    start = _OBJECT.search(text)
    left = _FALSE_STARTS
    while start is not None:
        try:
            value, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            end = start.end()
            left -= 1
            if not left:
                raise Unreadable(f"{_FALSE_STARTS} times a JSON object begins in it that is none") from None
        else:
            yield value
        start = _OBJECT.search(text, end)


def _adds_nothing(event: Any) -> bool:
    """Whether an entry says that there is nothing to remember; an event of null, or none at all, says nothing."""
    return isinstance(event, str) and event.upper() in _NO_FACTS


def _list_in(value: Any) -> list[Any] | None:
    if not isinstance(value, Mapping):
        return None
    empty = None
    for name in _LISTS:
        found = value.get(name)
        if isinstance(found, Mapping):
            return [found]
        if isinstance(found, list):
            if found:
                return found
            empty = found
    return empty


def _fact(entry: Any, messages: int, longest: float) -> Fact | str:
    """The fact of an entry; else what is wrong with it."""
    if isinstance(entry, str):
        text: Any = entry
        entry = {}
    elif isinstance(entry, Mapping):
        text = next((entry[name] for name in _TEXTS if isinstance(entry.get(name), str)), None)
    else:
        return "is neither text nor an object"
    if not isinstance(text, str) or not text.strip():
        return "has no `text`"
    if len(text.strip()) > longest:
        return f"has {len(text.strip()):,} characters, and a memory has at most {longest:,}"
    try:
        check_text("text", text, InvalidInput)
    except InvalidInput:
        return "holds a character that cannot be stored"
    owner = entry.get("attributed_to")
    return Fact(text.strip(), _places(entry, messages), owner if owner in ("user", "assistant") else None)


def _places(entry: Mapping[str, Any], messages: int) -> tuple[int, ...]:
    """The places that an entry names, those that there are."""
    given = next((entry[name] for name in _SOURCES if entry.get(name) is not None), None)
    named = given if isinstance(given, list) else [given]
    places: set[int] = set()
    for item in named:
        text = str(item) if isinstance(item, (int, str)) and not isinstance(item, bool) else ""
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < messages:  # noqa: PLR2004
            places.add(int(text))
    return tuple(sorted(places))
