"""The stand-ins for the models behind the wire-level servers: what they embed, and what they say.

**Tokens.** A token is a run of up to nine ASCII letters, up to three digits, or any one other character, with the white
space before it. That is close enough to count with (Mem0's extraction prompt is about 8 300 of them), and it needs no
tokenizer.

**Vectors.** Those of the built-in embedder, so that what is similar stays similar, in the dimensions of the model that
is stood in for. Where these are more than the built-in 256, a fixed orthonormal map leads to them, and cosine
similarities are the same within 1e-5: 256·k dimensions hold the vector k times, each time in another order and with
other signs, so that a vector that is shortened to 256·j dimensions keeps its similarities as well; numbers between
those hold the mirror image of such a vector, with zeros at its end, in a seeded plane. Fewer than 256 are the first
coordinates, which say the most: similarities are close, not the same. Every vector has length 1; a text without any
token has a fixed one.

**Chat.** A conversation is an *extraction* when a user turn has a section ``## New Messages``, which is how Mem0's
``generate_additive_extraction_prompt`` lays it out. The last such turn counts, so a request to repair the answer gets
the answer again. The section is read as JSON, or as lines ``role: content``; then

1. the sentences of the user's messages are taken (split after ``.``, ``!``, ``?`` and their like, and at line ends);
2. those that are a greeting, a word of thanks or of leave are dropped (``Hi!``, ``Good morning, Anna.``);
3. those that end with a question mark are dropped;
4. of equal ones the first is kept;
5. what is left is the answer, word for word:
   ``{"memory": [{"id": "0", "text": "…", "attributed_to": "user"}, …]}``.

Any other conversation gets an echo of the last user turn (its last 200 characters): ``echo: …`` as text,
``{"echo": "…"}`` as JSON. A prompt that was cut to fit a context has lost its beginning, where the instructions stand:
it gets the echo too.

Where a JSON schema is given, the answer fulfils it: what the rules above found goes into the properties of the same
name (into the only list there is, when none is called ``memory``; a memory for which the schema wants a string is its
text), ``source`` and ``message`` (``sources``, ``messages``) are the position of the message that a sentence stands in,
``linked_memory_ids`` is empty, and everything else that is required is the least that the schema allows.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from memstack.testing.wire import Fault

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from memstack.providers.builtin import WordLlamaEmbedder

__all__ = ["Chat", "SchemaNotSupported", "Turn", "count_tokens", "embed", "first_tokens", "fulfil", "pieces", "reply"]

# -- tokens ----------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"\s*(?:[A-Za-z]{1,9}|\d{1,3}|[^\sA-Za-z\d])|\s+\Z")


def count_tokens(text: str) -> int:
    """How many tokens a text has."""
    return sum(1 for _ in _TOKEN.finditer(text))


def first_tokens(text: str, limit: int) -> str:
    """The beginning of a text, of so many tokens at most."""
    end = 0
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number >= limit:
            return text[:end]
        end = token.end()
    return text


def pieces(text: str) -> Iterator[str]:
    """A text token by token, as a model says it."""
    return (token.group() for token in _TOKEN.finditer(text))


# -- vectors ---------------------------------------------------------------------------------

_BUILTIN: Final = 256


@lru_cache(maxsize=1)
def _embedder() -> WordLlamaEmbedder:
    from memstack.providers.builtin import WordLlamaEmbedder  # noqa: PLC0415  # costs a second, once something is embedded

    return WordLlamaEmbedder()


@lru_cache(maxsize=32)
def _shuffle(block: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The order and the signs that the coordinates have in a block; those of block 0 are as they were."""
    import numpy as np  # noqa: PLC0415

    random = np.random.default_rng(block)
    if block == 0:
        return np.arange(_BUILTIN), np.ones(_BUILTIN)
    return random.permutation(_BUILTIN), random.choice((-1.0, 1.0), _BUILTIN)


@lru_cache(maxsize=32)
def _mirror(dimensions: int) -> npt.NDArray[np.float64]:
    """The normal of a plane, of length 1."""
    import numpy as np  # noqa: PLC0415

    normal = np.random.default_rng(dimensions).standard_normal(dimensions)
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _mapped(found: npt.NDArray[np.float64], dimensions: int) -> npt.NDArray[np.float64]:
    import numpy as np  # noqa: PLC0415

    blocks = [_shuffle(block) for block in range(max(1, dimensions // _BUILTIN))]
    mapped = np.concatenate([found[:, order] * signs for order, signs in blocks], axis=1)[:, :dimensions]
    rest = dimensions - mapped.shape[1]
    if rest:
        mapped = np.pad(mapped, ((0, 0), (0, rest)))
        normal = _mirror(dimensions)
        mapped -= 2 * np.outer(mapped @ normal, normal)
    return mapped


def embed(texts: Sequence[str], dimensions: int, shortened: int | None = None) -> list[list[float]]:
    """The vectors of some texts: float32, of length 1.

    Args:
        texts: the texts.
        dimensions: those of the model.
        shortened: keep only so many, and bring the rest to length 1 again.
    """
    import numpy as np  # noqa: PLC0415

    if not texts:
        return []
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    found = np.asarray(_embedder().vectors(clean), dtype=np.float64)
    found[~found.any(axis=1)] = 1.0
    found = _mapped(found, dimensions)[:, :shortened]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    vectors: list[list[float]] = found.astype(np.float32).tolist()
    return vectors


# -- chat ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """A message of a conversation."""

    role: str
    text: str


Chat = Callable[[Sequence[Turn]], Any]
"""What a chat model says to a conversation: a text, or anything that is JSON."""

_SECTION: Final = re.compile(r"^## New Messages[ \t]*\n", re.MULTILINE)
_NEXT_SECTION: Final = "\n\n## Observation Date\n"
_SPEAKER: Final = re.compile(r"^(system|user|assistant): ?", re.MULTILINE)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。\uff01\uff1f])")
_PHATIC: Final = re.compile(
    r"(?:(?:hi|hello|hey|hiya|howdy|greetings|good (?:morning|afternoon|evening|night|day)|thanks|thank you|cheers|bye|"
    r"goodbye|see you)(?:[\s,]+(?:so much|a lot|very much|\w+))?|great|cool|ok|okay|sure|sounds good)[\s.,!…]*",
    re.IGNORECASE,
)
_QUESTION_MARKS: Final = ("?", "\uff1f", "\u061f")
_ECHOED: Final = 200


@dataclass(frozen=True)
class _Fact:
    text: str
    message: int


def reply(
    turns: Sequence[Turn],
    *,
    json_only: bool = False,
    schema: Mapping[str, Any] | None = None,
    lost: bool = False,
    chat: Chat | None = None,
    fault: Fault | None = None,
) -> str:
    """What the model says.

    Args:
        turns: the conversation.
        json_only: the answer has to be JSON.
        schema: the answer has to fulfil this.
        lost: the prompt was cut to fit, and its beginning is gone.
        chat: says it in place of the rules of this module.
        fault: what goes wrong with it.
    """
    if chat is not None:
        said = chat(turns)
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        return _spoilt(text, [text], fault)
    facts = None if lost else _facts(turns)
    if facts is None:
        echo = next((turn.text for turn in reversed(turns) if turn.role == "user"), "")[-_ECHOED:]
        answer: dict[str, Any] = {"echo": echo}
        text = f"echo: {echo}" if not json_only and schema is None else _dumped(answer, schema)
        return _spoilt(text, [echo], fault)
    answer = {"memory": [_memory(number, fact, full=schema is not None) for number, fact in enumerate(facts)]}
    return _spoilt(_dumped(answer, schema), [fact.text for fact in facts], fault)


def _dumped(answer: dict[str, Any], schema: Mapping[str, Any] | None) -> str:
    return json.dumps(answer if schema is None else fulfil(schema, answer), ensure_ascii=False)


def _memory(number: int, fact: _Fact, *, full: bool) -> dict[str, Any]:
    memory: dict[str, Any] = {"id": str(number), "text": fact.text, "attributed_to": "user"}
    if full:
        memory["linked_memory_ids"] = []
        memory["source"] = memory["message"] = fact.message
        memory["sources"] = memory["messages"] = [fact.message]
    return memory


def _spoilt(text: str, facts: list[str], fault: Fault | None) -> str:
    if fault is None:
        return text
    around = f"Sure! This is what I found worth remembering:\n\n{text}\n\nLet me know if you need anything else."
    fenced = f"Here is the JSON you asked for:\n\n```json\n{text}\n```\n\nLet me know if you need anything else."
    spoilt = {
        ("answer", ""): fault.text,
        ("malformed_json", "answer"): text[: len(text) * 2 // 3],
        ("length", ""): text[: len(text) * 2 // 3],
        ("prose", "around"): around,
        ("prose", "fenced"): fenced,
        ("prose", "instead"): "I found some things worth remembering, and have taken good note of them.",
        ("old_shape", "facts"): json.dumps({"facts": facts}, ensure_ascii=False),
        ("old_shape", "strings"): json.dumps({"memory": facts}, ensure_ascii=False),
    }
    return spoilt.get((fault.kind, fault.style), text)


def _facts(turns: Sequence[Turn]) -> list[_Fact] | None:
    """What is worth remembering; None where nobody asks for that."""
    for turn in reversed(turns):
        if turn.role == "user" and (section := _SECTION.search(turn.text)):
            end = turn.text.rfind(_NEXT_SECTION, section.end() - 1)
            said = turn.text[section.end() : end if end >= 0 else len(turn.text)]
            facts: dict[str, _Fact] = {}
            for position, message in enumerate(_messages(said)):
                if message.role == "user":
                    for sentence in _sentences(message.text):
                        facts.setdefault(sentence, _Fact(sentence, position))
            return list(facts.values())
    return None


def _messages(section: str) -> list[Turn]:
    """The messages of a section: a JSON list, or lines that begin with who speaks."""
    try:
        read = json.loads(section)
    except ValueError:
        read = None
    if isinstance(read, list):
        return [
            Turn(str(item.get("role", "")), str(item.get("content") or "")) for item in read if isinstance(item, dict)
        ]
    starts = list(_SPEAKER.finditer(section))
    if not starts:
        return []
    ends = [*(start.start() for start in starts[1:]), len(section)]
    return [Turn(start.group(1), section[start.end() : end]) for start, end in zip(starts, ends, strict=True)]


def _sentences(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for part in _SENTENCE_END.split(line):
            sentence = part.strip()
            if sentence and not sentence.endswith(_QUESTION_MARKS) and not _PHATIC.fullmatch(sentence):
                yield sentence


# -- JSON that fulfils a schema --------------------------------------------------------------


class SchemaNotSupported(ValueError):
    """A schema asks for something that cannot be made up here."""


class _Nothing:
    """No value is wanted in particular."""


_NOTHING: Final = _Nothing()
_DEEPEST: Final = 64
_FORMATS: Final = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def fulfil(schema: Mapping[str, Any], wanted: Any = _NOTHING) -> Any:
    """A value that fulfils a JSON schema: as much of the wanted one as fits, and else the least that is allowed.

    Raises:
        SchemaNotSupported: it cannot be made up (a pattern, a definition that is nowhere, nesting without end).
    """
    properties = schema.get("properties")
    if isinstance(wanted, dict) and "memory" in wanted and isinstance(properties, dict) and "memory" not in properties:
        lists = [name for name, part in properties.items() if isinstance(part, dict) and part.get("type") == "array"]
        if len(lists) == 1:
            wanted = {lists[0]: wanted["memory"]}
    return _fit(schema, schema, wanted, 0)


def _fit(root: Mapping[str, Any], schema: Any, wanted: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise SchemaNotSupported("the schema nests without end")
    if not isinstance(schema, Mapping) or not schema:
        return None if wanted is _NOTHING else wanted
    schema = _plain(root, schema)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        fits = any(wanted == value and type(wanted) is type(value) for value in schema["enum"])
        return wanted if fits else schema["enum"][0]
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        base = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
        branches = [_plain(root, {**base, **branch}) for branch in branches]
    elif isinstance(schema.get("type"), list):
        branches = [{**schema, "type": kind} for kind in schema["type"]]
    if branches:
        return _fit(root, _choose(branches, wanted), wanted, depth + 1)
    return _fit_kind(root, schema, wanted, depth)


def _fit_kind(root: Mapping[str, Any], schema: Mapping[str, Any], wanted: Any, depth: int) -> Any:
    kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else None)
    match kind:
        case "object":
            return _fit_object(root, schema, wanted, depth)
        case "array":
            return _fit_array(root, schema, wanted, depth)
        case "string":
            return _fit_string(schema, wanted)
        case "integer" | "number":
            return _fit_number(schema, wanted, whole=kind == "integer")
        case "boolean":
            return wanted is True
        case "null":
            return None
        case None:
            return None if wanted is _NOTHING else wanted
        case _:
            raise SchemaNotSupported(f"there is no type {kind!r}")


def _plain(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without references and conjunctions at its top."""
    for _ in range(_DEEPEST):
        if "$ref" in schema:
            found: Any = root
            for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/") if schema["$ref"] != "#" else ():
                found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
            if not isinstance(found, Mapping):
                raise SchemaNotSupported(f"there is no definition {schema['$ref']!r}")
            schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
        elif "allOf" in schema:
            merged = {key: value for key, value in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                for key, value in _plain(root, part).items():
                    if key == "properties":
                        merged[key] = {**merged.get(key, {}), **value}
                    elif key == "required":
                        merged[key] = [*merged.get(key, []), *value]
                    else:
                        merged.setdefault(key, value)
            schema = merged
        else:
            return schema
    raise SchemaNotSupported("the schema refers to itself")


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    for kind, types in (("integer", int), ("number", float), ("string", str), ("array", list), ("object", dict)):
        if isinstance(value, types):
            return kind
    return "nothing"


def _choose(branches: Sequence[Mapping[str, Any]], wanted: Any) -> Mapping[str, Any]:
    """The branch for a value: of its type, else null, else the first."""
    kinds = (_kind(wanted), "number") if _kind(wanted) == "integer" else (_kind(wanted),)
    for allowed in (kinds, ("null",)):
        for branch in branches:
            kind = branch.get("type") or ("object" if "properties" in branch else None)
            if kind in allowed or (isinstance(kind, list) and set(kind) & set(allowed)):
                return branch
    return branches[0]


def _fit_object(root: Mapping[str, Any], schema: Mapping[str, Any], wanted: Any, depth: int) -> dict[str, Any]:
    given = wanted if isinstance(wanted, dict) else {}
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    names = [name for name in properties if name in given or name in schema.get("required", ())]
    made = {name: _fit(root, properties[name], given.get(name, _NOTHING), depth + 1) for name in names}
    for name in schema.get("required", ()):
        if name not in made:
            made[name] = _fit(root, others, given.get(name, _NOTHING), depth + 1)
    if not properties and others is not False:
        made.update({name: _fit(root, others, value, depth + 1) for name, value in given.items()})
    return made


def _fit_array(root: Mapping[str, Any], schema: Mapping[str, Any], wanted: Any, depth: int) -> list[Any]:
    if wanted is _NOTHING or wanted is None or isinstance(wanted, dict):
        given: list[Any] = []
    else:
        given = wanted if isinstance(wanted, list) else [wanted]
    items = schema.get("items", True)
    made = [_fit(root, items, item, depth + 1) for item in given[: schema.get("maxItems")]]
    while len(made) < schema.get("minItems", 0):
        made.append(_fit(root, items, _NOTHING, depth + 1))
    return made


def _fit_string(schema: Mapping[str, Any], wanted: Any) -> str:
    if isinstance(wanted, dict):
        wanted = wanted.get("text")
    elif isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        wanted = str(wanted)
    text = wanted if isinstance(wanted, str) else ""
    text = _FORMATS.get(schema.get("format", ""), text)
    text = text[: schema.get("maxLength")].ljust(schema.get("minLength", 0), ".")
    pattern = schema.get("pattern")
    if pattern is not None and not re.search(pattern, text):
        for sample in ("", "0", "a", "A", *_FORMATS.values()):
            if re.search(pattern, sample):
                return sample
        raise SchemaNotSupported(f"memstack.testing cannot make up a string for the pattern {pattern!r}")
    return text


def _fit_number(schema: Mapping[str, Any], wanted: Any, *, whole: bool) -> float:
    number: float = wanted if isinstance(wanted, (int, float)) and not isinstance(wanted, bool) else 0
    if whole:
        number = int(number)
    step = schema.get("multipleOf", 1 if whole else 0)
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    number = min(max(number, low), high)
    if step:
        number = math.ceil(number / step) * step
    if number == schema.get("exclusiveMinimum"):
        number += step or min(1, (high - low) / 2)
    if number > high or number == schema.get("exclusiveMaximum"):
        number -= step or min(1, (high - low) / 2)
    if number < low or number > high:
        raise SchemaNotSupported("no number lies between the bounds")
    return number
