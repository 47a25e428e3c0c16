"""Bad input: a clear error of ours that names the field and the way out, never the value; nothing stored by halves."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from memstack.errors import (
    CursorError,
    FilterError,
    IdempotencyMismatch,
    InvalidInput,
    LLMNotConfigured,
    MemoryNotFound,
    MemstackError,
    MetadataError,
    ProviderError,
    ScopeError,
)
from memstack.filters import F
from memstack.filters.ast import Node
from memstack.gateway import MemoryGateway
from memstack.metadata import RESERVED
from memstack.records import Message, Order
from memstack.scope import SCOPE_FIELDS
from memstack.testing.contract.base import Contract, OpenHere
from memstack.testing.contract.state import State, assert_agreement, parts_of, snapshot, wipe

Call = Callable[[MemoryGateway, str], object]  # the memory, and the id of one that is there

# Stands in every bad value that is text; no message may repeat it.
SECRET: Final = "xyzzy-plugh"
NUL: Final = f"{SECRET}\0"
LONE: Final = f"{SECRET}\ud800"
MEGABYTE: Final = f"{SECRET} " * (2**20 // len(f"{SECRET} "))
TOO_LARGE: Final = 10**5000  # more digits than Python prints
EARLY: Final = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))  # before the year 1, in UTC
NEVER: Final[Any] = object()  # Any, as all bad values are: what the annotations refuse is tried all the same


@dataclasses.dataclass(frozen=True)
class Case:
    """A bad call.

    Attributes:
        call: what is called.
        error: what it raises.
        field: what the error names.
        name: what tells it from others of the same test.
    """

    call: Call
    error: type[InvalidInput]
    field: str
    name: str = ""


def refused(memory: MemoryGateway, known: str, *bad: Case) -> InvalidInput:
    """Make bad calls, and check all that holds for every one of them. Returns the last error."""
    before = snapshot(memory)
    last: InvalidInput | None = None
    for case in bad:
        with pytest.raises(case.error) as caught:
            case.call(memory, known)
        last = caught.value
        assert last.field == case.field, case
        assert str(last).startswith(f"{case.field}: "), case
        assert last.problem, case
        assert not last.retryable, case
        assert_discreet(last)
    assert snapshot(memory) == before
    assert last is not None
    assert last.hint, "the message does not say the way out"
    return last


def assert_discreet(error: BaseException | None) -> None:
    """Neither the message nor those of its causes hold the value, and none is long."""
    while error is not None:
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        assert len(str(error)) < 1000
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def cases(found: Mapping[str, Case]) -> pytest.MarkDecorator:
    """The cases as parameters with readable ids."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in found.items()])


# -- texts -----------------------------------------------------------------------------------

TEXTS: Final[dict[str, Any]] = {
    "empty": "",
    "spaces": "   ",
    "white space": " \t\r\n\v\f",
    "other white space": "\u2003\u3000\u00a0",
    "NUL": NUL,
    "lone surrogate": LONE,
    "1 MB": MEGABYTE,
}
GOOD: Final[Any] = [{"role": "user", "content": "good"}, "fine", {"role": "assistant", "content": "well"}]


def _in_every_text(name: str, bad: Any) -> Iterator[tuple[str, Case]]:
    said: Any = {"role": "user", "content": bad}
    calls: dict[str, tuple[Call, str]] = {
        "add": (lambda m, _: m.add(bad, user_id="alex"), "messages"),
        "add, message": (lambda m, _: m.add(said, user_id="alex"), "messages.content"),
        "add, Message": (lambda m, _: m.add(Message("user", bad), user_id="alex"), "messages.content"),
        "add, the last": (lambda m, _: m.add([*GOOD, said], user_id="alex"), "messages[3].content"),
        "add, with a key": (lambda m, _: m.add([*GOOD, bad], user_id="alex", idempotency_key="k"), "messages[3]"),
        "update": (lambda m, known: m.update(known, text=bad), "text"),
        "update, with metadata": (lambda m, known: m.update(known, text=bad, metadata={"n": 2}), "text"),
    }
    yield from ((f"{called}: {name}", Case(call, InvalidInput, field)) for called, (call, field) in calls.items())


def _in_query(name: str, bad: Any) -> tuple[str, Case]:
    return f"search: {name}", Case(lambda m, _: m.search(bad, user_id="alex"), InvalidInput, "query")


def _in_update(name: str, bad: Any) -> tuple[str, Case]:
    return f"update: {name}", Case(lambda m, known: m.update(known, text=bad), InvalidInput, "text")


def _texts() -> Iterator[tuple[str, Case]]:
    for name, text in TEXTS.items():
        yield from _in_every_text(name, text)
    yield from (_in_query(name, TEXTS[name]) for name in ("NUL", "lone surrogate", "1 MB"))
    others: dict[str, Any] = {"int": 7, "bytes": b"tea", "list": ["tea"], "False": False}
    for name, bad in others.items():
        yield _in_query(name, bad)
        yield _in_update(name, bad)
    yield _in_query("None", None)


# -- messages --------------------------------------------------------------------------------


def _message(**fields: Any) -> Any:
    return {"role": "user", "content": SECRET, **fields}


def _part(part: object) -> Any:
    return _message(content=[{"type": "text", "text": SECRET}, part])


MESSAGES: Final[dict[str, tuple[Any, str]]] = {
    "an unknown role": (_message(role="robot"), ".role"),
    "no role": ({"content": SECRET}, ".role"),
    "a role that is no string": (_message(role=7), ".role"),
    "a role in a list": (_message(role=["user"]), ".role"),
    "a Message of an unknown role": (Message("robot", SECRET), ".role"),  # type: ignore[arg-type]
    "no content": ({"role": "user"}, ".content"),
    "content None": (_message(content=None), ".content"),
    "content that is a number": (_message(content=7), ".content"),
    "content that is bytes": (_message(content=SECRET.encode()), ".content"),
    "content that is a mapping": (_message(content={"type": "text", "text": SECRET}), ".content"),
    "no parts": (_message(content=[]), ".content"),
    "blank parts": (_message(content=[{"type": "text", "text": " "}]), ".content"),
    "an image": (_part({"type": "image_url", "image_url": {"url": SECRET}}), ".content[1]"),
    "audio": (_part({"type": "input_audio", "input_audio": {"data": SECRET}}), ".content[1]"),
    "a part of a very long type": (_part({"type": SECRET * 1000}), ".content[1]"),
    "a part without a type": (_part({"text": SECRET}), ".content[1]"),
    "a part that is a string": (_part(SECRET), ".content[1]"),
    "a part that is None": (_part(None), ".content[1]"),
    "a text part without text": (_part({"type": "text"}), ".content[1].text"),
    "a text part of bytes": (_part({"type": "text", "text": SECRET.encode()}), ".content[1].text"),
    "a text part with a NUL": (_part({"type": "text", "text": NUL}), ".content"),
    "a text part with a lone surrogate": (_part({"type": "text", "text": LONE}), ".content"),
    "an unknown key": (_message(colour=SECRET), ""),
    "unknown keys": (_message(tool_calls=[{"id": SECRET}], colour=SECRET), ""),
    "an unknown key of a number": (_message(weight=0), ""),
    "an unknown key of an array": (_message(embedding=np.zeros(3)), ""),
    "an unknown key that is no string": ({"role": "user", "content": SECRET, 7: SECRET}, ""),
    "an unknown key of very many characters": (_message(**{SECRET * 1000: 1}), ""),
    "a number": (7, ""),
    "None": (None, ""),
    "bytes": (SECRET.encode(), ""),
    "a pair": (("user", SECRET), ""),
    "a list": ([SECRET], ""),
    "an object": (NEVER, ""),
    "a blank name": (_message(name=" "), ".name"),
    "an empty name": (_message(name=""), ".name"),
    "a name that is no string": (_message(name=7), ".name"),
    "a very long name": (_message(name=SECRET * 100), ".name"),
    "a name with a NUL": (_message(name=NUL), ".name"),
    "a name with a lone surrogate": (_message(name=LONE), ".name"),
    "a Message with a bad name": (Message("user", SECRET, name=7), ".name"),  # type: ignore[arg-type]
    "words for a time": (_message(occurred_at=SECRET), ".occurred_at"),
    "a number for a time": (_message(occurred_at=1700000000), ".occurred_at"),
    "a time that does not exist": (_message(occurred_at="2026-02-30T00:00:00Z"), ".occurred_at"),
    "a time before the year 1": (_message(occurred_at="0001-01-01T00:00:00+01:00"), ".occurred_at"),
    "a bool for a time": (_message(occurred_at=True), ".occurred_at"),
}


def _adding(message: Any) -> Call:
    return lambda memory, _: memory.add(message, user_id="alex")


# -- scopes ----------------------------------------------------------------------------------

IDS: Final[dict[str, Any]] = {
    "empty": "",
    "blank": " \t",
    "white space before": f" {SECRET}",
    "white space after": f"{SECRET}\n",
    "a number": 7,
    "zero": 0,
    "a bool": True,
    "bytes": SECRET.encode(),
    "a list": [SECRET],
    "a UUID": uuid.uuid4(),
    "a NUL": NUL,
    "a lone surrogate": LONE,
    "too long": SECRET * 100,
}
Scoped = Callable[[MemoryGateway, str, dict[str, Any]], object]
SCOPED: Final[dict[str, Scoped]] = {
    "add": lambda m, _, scope: m.add("tea at night", **scope),
    "add_many": lambda m, _, scope: m.add_many(["tea at night"], **scope),
    "update": lambda m, known, scope: m.update(known, text="tea at night", **scope),
    "delete": lambda m, known, scope: m.delete(known, **scope),
    "delete_all": lambda m, _, scope: m.delete_all(**scope),
    "purge_expired": lambda m, _, scope: m.purge_expired(**scope),
    "search": lambda m, _, scope: m.search("tea", **scope),
    "search for the newest": lambda m, _, scope: m.search("", **scope),
    "get_all": lambda m, _, scope: m.get_all(**scope),
    "iter_all": lambda m, _, scope: m.iter_all(**scope),
    "get": lambda m, known, scope: m.get(known, **scope),
    "history": lambda m, known, scope: m.history(known, **scope),
    "scoped": lambda m, _, scope: m.scoped(**scope),
}


def _scoped(verb: str, scope: dict[str, Any], field: str, handle: str | None = None) -> Case:
    def call(memory: MemoryGateway, known: str) -> object:
        return SCOPED[verb](memory if handle is None else memory.for_user(handle), known, scope)

    return Case(call, ScopeError, field, verb)


# -- ids of memories -------------------------------------------------------------------------

MEMORY_IDS: Final[dict[str, Any]] = {
    "empty": "",
    "blank": "  ",
    "words": SECRET,
    "a number": 7,
    "None": None,
    "bytes": uuid.uuid4().bytes,
    "a list": [str(uuid.uuid4())],
    "a NUL": f"{uuid.uuid4()}\0",
    "NULs": "\0" * 36,
    "a lone surrogate": "\ud800" * 32,
    "a line break": f"{uuid.uuid4()}\n",
    "very long": MEGABYTE,
    "not hexadecimal": "g" * 32,
    "a quote": "0' OR '1'='1",
    "a wildcard": "*",
}
BY_ID: Final[dict[str, Callable[[MemoryGateway, Any], object]]] = {
    "get": lambda m, key: m.get(key),
    "update": lambda m, key: m.update(key, text="tea at night"),
    "delete": lambda m, key: m.delete(key),
    "history": lambda m, key: m.history(key),
}


# -- metadata --------------------------------------------------------------------------------


def _cycle() -> Any:
    cycle: dict[str, Any] = {"a": {}}
    cycle["a"]["b"] = [cycle]
    return cycle


def _nested(depth: int) -> Any:
    value: Any = SECRET
    for _ in range(depth):
        value = [value]
    return value


METADATA: Final[dict[str, tuple[Any, str]]] = {
    "NaN": ({"n": float("nan")}, ".n"),
    "infinity": ({"n": float("inf")}, ".n"),
    "minus infinity in a list": ({"n": [1.0, float("-inf")]}, ".n[1]"),
    "NaN deep inside": ({"a": {"b": [0, {"c": float("nan")}]}}, ".a.b[1].c"),
    "bytes": ({"n": SECRET.encode()}, ".n"),
    "a bytearray": ({"n": bytearray(SECRET.encode())}, ".n"),
    "a set": ({"n": {SECRET}}, ".n"),
    "a Decimal": ({"n": Decimal(1)}, ".n"),
    "a complex number": ({"n": 1j}, ".n"),
    "a UUID": ({"n": uuid.uuid4()}, ".n"),
    "a path": ({"n": Path(SECRET)}, ".n"),
    "a timedelta": ({"n": timedelta(1)}, ".n"),
    "a time of day": ({"n": datetime(2026, 1, 1, tzinfo=timezone.utc).time()}, ".n"),
    "an array": ({"n": np.zeros(3)}, ".n"),
    "a numpy integer": ({"n": np.int64(3)}, ".n"),
    "an object": ({"n": NEVER}, ".n"),
    "a class": ({"n": int}, ".n"),
    "a generator": ({"n": (x for x in SECRET)}, ".n"),
    "65 bits": ({"n": 2**63}, ".n"),
    "minus 65 bits": ({"n": -(2**63) - 1}, ".n"),
    "an endless integer": ({"n": TOO_LARGE}, ".n"),
    "a date before the year 1": ({"n": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, ".n"),
    "a NUL": ({"n": NUL}, ".n"),
    "a NUL in a list": ({"n": ["a", NUL]}, ".n[1]"),
    "a lone surrogate": ({"n": LONE}, ".n"),
    "a NUL in a key": ({"a\0": 1}, ": a key"),
    "a lone surrogate in a key": ({"a\ud800": 1}, ": a key"),
    "a key of a number": ({7: SECRET}, ""),
    "a key of None": ({None: SECRET}, ""),
    "a key of a number inside": ({"a": {7: SECRET}}, ".a"),
    "an empty key": ({"": SECRET}, ""),
    "an empty key inside": ({"a": {"": SECRET}}, ".a"),
    "a cycle": (_cycle(), ".a.b[0]" + ".a.b[0]" * 4 + ".a"),
    "too deep": ({"n": _nested(20)}, ".n" + "[0]" * 15),
    "far too deep": ({"n": _nested(100_000)}, ".n" + "[0]" * 15),
    "10 000 keys": ({f"k{i}": i for i in range(10_000)}, ".k1000"),
    "10 000 items": ({"n": [SECRET] * 10_000}, ".n[999]"),
    "10 000 keys inside": ({"n": {f"k{i}": i for i in range(10_000)}}, ".n.k999"),
    "a string": (SECRET, ""),
    "a list": ([(SECRET, 1)], ""),
    "a number": (7, ""),
    "False": (False, ""),
    "an empty list": ([], ""),
    "an empty string": ("", ""),
    **{f"reserved {name}": ({"n": 1, name: SECRET}, f".{name}") for name in sorted(RESERVED)},
}
WITH_METADATA: Final[dict[str, Callable[[MemoryGateway, str, Any], object]]] = {
    "add": lambda m, _, metadata: m.add(["tea at night", "more tea"], user_id="alex", metadata=metadata),
    "update": lambda m, known, metadata: m.update(known, metadata=metadata),
    "update with a good text": lambda m, known, metadata: m.update(known, text="tea at night", metadata=metadata),
}


# -- filters ---------------------------------------------------------------------------------

FILTERING: Final[dict[str, Callable[[MemoryGateway, Any], object]]] = {
    "search": lambda m, filters: m.search("tea", user_id="alex", filters=filters),
    "search for the newest": lambda m, filters: m.search("", user_id="alex", filters=filters),
    "get_all": lambda m, filters: m.get_all(user_id="alex", filters=filters),
    "iter_all": lambda m, filters: m.iter_all(user_id="alex", filters=filters),
    "delete_all": lambda m, filters: m.delete_all(user_id="alex", filters=filters),
}


def _deep(key: str) -> Any:
    deep: dict[str, Any] = {"n": 1}
    for _ in range(10_000):
        deep = {key: [deep]}
    return deep


def _circular() -> Any:
    circular: dict[str, Any] = {}
    circular["AND"] = [circular, circular]
    return circular


FILTERS: Final[dict[str, tuple[Any, str]]] = {
    "a string": (SECRET, ""),
    "a number": (7, ""),
    "a list": ([{"n": 1}], ""),
    "False": (False, ""),
    "an empty field": ({"": 1}, ""),
    "a field that is no string": ({7: 1}, ""),
    "a field with a NUL": ({"a\0": 1}, ""),
    "a field with a lone surrogate": ({"a\ud800": 1}, ""),
    "a foreign operator": ({"n": {"$gte": 1}}, ".n.$gte"),
    "an unknown operator": ({"n": {"between": [1, 2]}}, ".n.between"),
    "an operator that is no string": ({"n": {7: 1}}, ".n"),
    "no operator": ({"n": {}}, ".n"),
    "a foreign AND": ({"$and": [{"n": 1}]}, ".$and"),
    "AND of a mapping": ({"AND": {"n": 1}}, ".AND"),
    "OR of None": ({"OR": None}, ".OR"),
    "NOT of a string": ({"NOT": SECRET}, ".NOT"),
    "AND of strings": ({"AND": [{"n": 1}, SECRET]}, ".AND[1]"),
    "null": ({"n": None}, ".n"),
    "null in a list": ({"n": [1, None]}, ".n[1]"),
    "NaN": ({"n": float("nan")}, ".n"),
    "NaN as a bound": ({"n": {"gt": float("nan")}}, ".n.gt"),
    "infinity": ({"n": {"lte": float("inf")}}, ".n.lte"),
    "65 bits": ({"n": 2**63}, ".n"),
    "an endless integer": ({"n": {"gt": TOO_LARGE}}, ".n.gt"),
    "bytes": ({"n": SECRET.encode()}, ".n"),
    "an object": ({"n": NEVER}, ".n"),
    "an array": ({"n": np.zeros(3)}, ".n"),
    "a list in eq": ({"n": {"eq": [1]}}, ".n.eq"),
    "a string in `in`": ({"n": {"in": SECRET}}, ".n.in"),
    "a number in `nin`": ({"n": {"nin": 7}}, ".n.nin"),
    "a list in a list": ({"n": [[1]]}, ".n[0]"),
    "words as a bound": ({"n": {"gte": SECRET}}, ".n.gte"),
    "a bool as a bound": ({"n": {"gte": True}}, ".n.gte"),
    "a number as a bound of an instant": ({"created_at": {"gte": 7}}, ".created_at.gte"),
    "words as an instant": ({"created_at": SECRET}, ".created_at"),
    "a number in icontains": ({"n": {"icontains": 7}}, ".n.icontains"),
    "words in exists": ({"n": {"exists": "yes"}}, ".n.exists"),
    "a NUL": ({"n": NUL}, ".n"),
    "a NUL in contains": ({"text": {"contains": NUL}}, ".text.contains"),
    "a NUL in icontains": ({"text": {"icontains": NUL}}, ".text.icontains"),
    "a lone surrogate": ({"n": {"in": [LONE]}}, ".n.in[0]"),
    "far too deep": (_deep("AND"), ""),
    "far too deep in NOT": (_deep("NOT"), ""),
    "a cycle": (_circular(), ""),
    "the second of two": ({"AND": [{"n": 1}, {"OR": [{"n": {"gt": 1, "lt": SECRET}}]}]}, ".AND[1].OR[0].n.lt"),
}


# -- the other arguments ---------------------------------------------------------------------


def _cursor(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


CURSORS: Final[dict[str, Any]] = {
    "a number": 7,
    "bytes": b"abc",
    "empty": "",
    "words": SECRET,
    "other letters": "é" * 8,
    "a lone surrogate": LONE,
    "a NUL": NUL,
    "very long": MEGABYTE,
    "no JSON": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "a number in JSON": _cursor(7),
    "a list in JSON": _cursor([]),
    "a mapping in JSON": _cursor({"a": 1, "b": 2, "c": 3}),
    "deep JSON": base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    "an instant that is none": _cursor([None, str(uuid.uuid4()), ""]),
    "an instant too late": _cursor([2**70, str(uuid.uuid4()), ""]),
    "an instant of NaN": _cursor([float("nan"), str(uuid.uuid4()), ""]),
    "an instant of infinity": _cursor([float("inf"), str(uuid.uuid4()), ""]),
    "an id that is none": _cursor([0, SECRET, ""]),
    "a forged digest": _cursor([0, str(uuid.uuid4()), "0" * 16]),
}


LIMITS: Final[dict[str, Any]] = {
    "0": 0,
    "-1": -1,
    "10 001": 10_001,
    "a float": 1.0,
    "a string": "10",
    "a bool": True,
    "None": None,
    "NaN": float("nan"),
    "an endless integer": TOO_LARGE,
    "an endless negative integer": -TOO_LARGE,
}
THRESHOLDS: Final[dict[str, Any]] = {
    "below 0": -0.01,
    "above 1": 1.01,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a string": "0.5",
    "a bool": True,
    "a list": [0.5],
    "an endless integer": TOO_LARGE,
}
ORDERS: Final[dict[str, Any]] = {
    "empty": "",
    "SQL": "created_at desc",
    "two dashes": "--created_at",
    "another field": "text",
    "metadata": "-n",
    "None": None,
    "a number": 7,
    "a list": ["created_at"],
    "an array": np.zeros(2),
}
EXPIRIES: Final[dict[str, Any]] = {
    "words": SECRET,
    "empty": "",
    "a number": 1_900_000_000,
    "a bool": True,
    "a list": ["2026-01-01"],
    "a day that does not exist": "2026-02-30",
    "a month that does not exist": "2026-13-01",
    "a time of day": "08:00",
    "a lone surrogate": LONE,
    "a NUL": "2026-01-01\0",
    "before the year 1": "0001-01-01T00:00:00+01:00",
    "after the year 9999": "9999-12-31T23:59:59-01:00",
    "other digits": "２０２６-01-01",
}
KEYS: Final[dict[str, Any]] = {
    "empty": "",
    "blank": " \t",
    "a number": 7,
    "bytes": SECRET.encode(),
    "a list": [SECRET],
    "False": False,
    "too long": SECRET * 100,
    "a NUL": NUL,
    "a lone surrogate": LONE,
}


FLAGS: Final[dict[str, Any]] = {"a string": "false", "empty": "", "a number": 0, "a list": [], "an array": np.zeros(2)}
TOKENS: Final[dict[str, Any]] = {"None": None, "a number": 5, "bytes": b"x", "NUL": NUL, "a lone surrogate": LONE}


async def _awaited(_: int) -> None:
    """A callback that nobody waits for."""


class _Awaited:
    """The same as an object."""

    async def __call__(self, _: int) -> None:
        """Nothing."""


PROGRESSES: Final[dict[str, Any]] = {
    "a number": 5,
    "a string": "print",
    "a coroutine function": _awaited,
    "part of one": partial(_awaited, 1),
    "an object that is one": _Awaited(),
}


def _others() -> Iterator[tuple[str, Case]]:
    for name, bad in LIMITS.items():
        yield f"search limit {name}", Case(_search(limit=bad), InvalidInput, "limit")
        yield f"newest limit {name}", Case(_search("", limit=bad), InvalidInput, "limit")
        yield f"get_all limit {name}", Case(_get_all(limit=bad), InvalidInput, "limit")
        yield f"batch_size {name}", Case(_add_many(batch_size=bad), InvalidInput, "batch_size")
    for name, bad in THRESHOLDS.items():
        yield f"threshold {name}", Case(_search(threshold=bad), InvalidInput, "threshold")
        yield f"newest threshold {name}", Case(_search("", threshold=bad), InvalidInput, "threshold")
    for name, bad in ORDERS.items():
        yield f"order {name}", Case(_get_all(order=bad), InvalidInput, "order")
        yield f"iter_all order {name}", Case(_iter_all(order=bad), InvalidInput, "order")
    for name, bad in EXPIRIES.items():
        yield f"add expires_at {name}", Case(_add(expires_at=bad), InvalidInput, "expires_at")
        yield f"update expires_at {name}", Case(_update(expires_at=bad), InvalidInput, "expires_at")
        yield f"occurred_at {name}", Case(_adding(_message(occurred_at=bad)), InvalidInput, "messages.occurred_at")
    for name, bad in KEYS.items():
        yield f"key {name}", Case(_add(idempotency_key=bad), InvalidInput, "idempotency_key")
    for name, bad in {**FLAGS, "None": None}.items():
        yield f"erase compact {name}", Case(_erase(bad), InvalidInput, "compact")
        yield f"export vectors {name}", Case(_export(bad), InvalidInput, "vectors")
        yield f"import dry_run {name}", Case(_import(dry_run=bad), InvalidInput, "dry_run")
        yield f"search explain {name}", Case(_search(explain=bad), InvalidInput, "explain")
        yield f"newest explain {name}", Case(_search("", explain=bad), InvalidInput, "explain")
    for name, bad in FLAGS.items():
        yield f"infer {name}", Case(_add(infer=bad), InvalidInput, "infer")
    for name, bad in TOKENS.items():
        yield f"confirm {name}", Case(_answer("confirm", bad), InvalidInput, "token")
        yield f"dismiss {name}", Case(_answer("dismiss", bad), InvalidInput, "token")
    for name, bad in PROGRESSES.items():
        yield f"add_many progress {name}", Case(_add_many(progress=bad), InvalidInput, "progress")
        yield f"import progress {name}", Case(_import(progress=bad), InvalidInput, "progress")
    yield "update of nothing", Case(lambda m, i: m.update(i), InvalidInput, "update")


def _search(query: str = "tea", **given: Any) -> Call:
    return lambda memory, _: memory.search(query, user_id="alex", **given)


def _get_all(**given: Any) -> Call:
    return lambda memory, _: memory.get_all(user_id="alex", **given)


def _iter_all(**given: Any) -> Call:
    return lambda memory, _: memory.iter_all(user_id="alex", **given)


def _update(**given: Any) -> Call:
    return lambda memory, known: memory.update(known, **given)


def _add(**given: Any) -> Call:
    return lambda memory, _: memory.add(["tea at night", "more tea"], user_id="alex", **given)


def _add_many(**given: Any) -> Call:
    return lambda memory, _: memory.add_many(["tea at night"], user_id="alex", **given)


def _erase(compact: Any) -> Call:
    return lambda memory, _: memory.erase(user_id="alex", compact=compact)


def _export(vectors: Any) -> Call:
    return lambda memory, _: memory.export(io.StringIO(), vectors=vectors)


def _import(**given: Any) -> Call:
    def call(memory: MemoryGateway, _: str) -> object:
        stream = io.StringIO()
        memory.export(stream)
        return memory.import_(io.StringIO(stream.getvalue()), **given)

    return call


def _answer(verb: str, token: Any) -> Call:
    return lambda memory, _: getattr(memory, verb)(token)


VERBS: Final[dict[str, tuple[Any, ...]]] = {
    "add": ("tea",),
    "add_many": (["tea"],),
    "update": ("id",),
    "delete": ("id",),
    "delete_all": (),
    "purge_expired": (),
    "search": ("tea",),
    "get_all": (),
    "iter_all": (),
    "get": ("id",),
    "history": ("id",),
    "for_user": ("alex",),
    "scoped": (),
    "stats": (),
    "reset": (),
    "close": (),
}


class InputContract(Contract):
    """Bad input is refused whole, by an error that names the field and the way out."""

    @pytest.fixture
    def known_id(self, shared_memory: MemoryGateway) -> Iterator[str]:
        """The id of a memory of alex, in the memory that the tests of this module share."""
        shared_memory.add("bo's walk", user_id="bo")
        (tea,) = shared_memory.add("tea", user_id="alex", metadata={"n": 1}, idempotency_key="used").stored
        yield tea.id
        wipe(shared_memory)

    @cases(dict(_texts()))
    def test_bad_texts(self, shared_memory: MemoryGateway, known_id: str, case: Case) -> None:
        """A text that is blank, too long, or cannot be stored is refused with its place, also as the last of a list."""
        refused(shared_memory, known_id, case)

    def test_metadata_has_a_greatest_length(self, open_here: OpenHere, tmp_path: Path) -> None:
        """All keys and texts of a memory's metadata count; `limits.max_metadata_text` says how many may be."""
        memory = open_here(tmp_path, limits={"max_metadata_text": 1000})
        fits = {"note": ["x" * 500, {"k" * 90: "y" * 406}]}
        (stored,) = memory.add("tea", user_id="alex", metadata=fits).stored
        assert memory.get(stored.id).metadata == fits
        for verb in (
            lambda: memory.add("tea", user_id="alex", metadata={"note": "x" * 997}),
            lambda: memory.add("tea", user_id="alex", metadata={"k" * 1001: 1}),
            lambda: memory.update(stored.id, metadata={"n": 1}),
        ):
            with pytest.raises(MetadataError, match=r"metadata: has 1,001 characters.*`limits.max_metadata_text`"):
                verb()
        assert [found.metadata for found in memory.get_all(user_id="alex")] == [fits]

    def test_a_long_text_fits_where_the_limit_is_raised(self, open_here: OpenHere, tmp_path: Path) -> None:
        """The way out of too long a text works: with `limits.max_text` raised, a megabyte is stored and found.

        An embedder whose context is shorter refuses it, and says so; nothing is cut off, and nothing stored.
        """
        memory = open_here(tmp_path, limits={"max_text": 2**21})
        try:
            parts_of(memory).embedder.vectors([MEGABYTE])
        except ProviderError:
            with pytest.raises(ProviderError, match="context") as caught:
                memory.add(MEGABYTE, user_id="alex")
            assert not caught.value.retryable
            assert SECRET not in str(caught.value)
            assert memory.search("", user_id="alex") == []
            return
        (stored,) = memory.add(MEGABYTE, user_id="alex").stored
        assert memory.get(stored.id).text == MEGABYTE
        assert [hit.id for hit in memory.search("xyzzy", user_id="alex")] == [stored.id]
        assert memory.history(stored.id)[0].new_text == MEGABYTE

    @pytest.mark.parametrize("name", MESSAGES)
    def test_bad_messages_as_the_last_of_a_list(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """A message that cannot be read is refused with its place and field; the good ones before it are not stored."""
        bad, field = MESSAGES[name]
        case = Case(lambda m, _: m.add([*GOOD, bad], user_id="alex"), InvalidInput, f"messages[3]{field}")
        refused(shared_memory, known_id, case)

    @pytest.mark.parametrize("name", [name for name in MESSAGES if name not in {"a pair", "a list"}])
    def test_bad_messages_alone(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """The same for a message that is passed alone."""
        bad, field = MESSAGES[name]
        case = Case(lambda m, _: m.add(bad, user_id="alex"), InvalidInput, f"messages{field}")
        refused(shared_memory, known_id, case)

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param([], id="no messages"),
            pytest.param((), id="an empty tuple"),
            pytest.param({}, id="an empty mapping"),
            pytest.param({"tea"}, id="a set"),
            pytest.param(iter(["tea"]), id="an iterator"),
        ],
    )
    def test_bad_lists(self, shared_memory: MemoryGateway, known_id: str, bad: Any) -> None:
        """What is no list of messages, or an empty one, is refused: never an empty success."""
        field = "messages.role" if bad == {} else "messages"
        refused(shared_memory, known_id, Case(lambda m, _: m.add(bad, user_id="alex"), InvalidInput, field))

    def test_unknown_names_are_told(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """Roles, kinds of parts and keys that are refused are named, with those that are known."""
        role = refused(shared_memory, known_id, Case(_adding(_message(role="robot")), InvalidInput, "messages.role"))
        assert "'robot'" in str(role)
        assert "assistant" in role.hint
        part = refused(
            shared_memory, known_id, Case(_adding(_part({"type": "image_url"})), InvalidInput, "messages.content[1]")
        )
        assert "'image_url'" in str(part)
        assert "text" in part.hint
        key = refused(shared_memory, known_id, Case(_adding(_message(colour=1, size=2)), InvalidInput, "messages"))
        assert "'colour', 'size'" in str(key)
        assert "occurred_at" in key.hint

    def test_text_parts_are_used(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """The text parts of a list are the text, line by line; empty keys that clients add beside them do no harm."""
        parts = [{"type": kind, "text": f"a {kind}"} for kind in ("text", "input_text", "output_text")]
        message = {"role": "user", "content": parts, "tool_calls": [], "refusal": None, "audio": ""}
        (stored,) = shared_memory.add(message, user_id="alex").stored
        assert stored.text == "a text\na input_text\na output_text"

    @pytest.mark.parametrize("name", IDS)
    def test_bad_scopes(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """An id that is blank, no string, has white space at its ends, or cannot be stored is refused by every verb."""
        bad = IDS[name]
        refused(
            shared_memory,
            known_id,
            *(_scoped(verb, {field: bad}, field) for verb in SCOPED for field in SCOPE_FIELDS),
            Case(lambda m, _: m.for_user(bad), ScopeError, "user_id", "for_user"),
        )

    @pytest.mark.parametrize("name", IDS)
    def test_bad_scopes_in_filters(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """Ids that come in a filter are held to the same rules."""
        before = snapshot(shared_memory)
        for call in FILTERING.values():
            with pytest.raises((ScopeError, FilterError)) as caught:
                call(shared_memory, {"AND": [{"user_id": IDS[name]}]})
            assert "user_id" in caught.value.field
            assert_discreet(caught.value)
        assert snapshot(shared_memory) == before

    @pytest.mark.parametrize("scope", [{}, dict.fromkeys(SCOPE_FIELDS)], ids=["nothing", "None"])
    def test_nobody_is_named(self, shared_memory: MemoryGateway, known_id: str, scope: dict[str, Any]) -> None:
        """Verbs that work on somebody's memories refuse to work on everybody's, and say how to name somebody."""
        for verb in ("add", "delete_all", "search", "search for the newest", "get_all", "iter_all", "scoped"):
            error = refused(shared_memory, known_id, _scoped(verb, scope, "scope"))
            assert "user_id=" in error.hint
            assert "for_user" in error.hint

    def test_a_handle_cannot_be_left(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """A handle of one user refuses another's id in every verb."""
        refused(
            shared_memory, known_id, *(_scoped(verb, {"user_id": "bo"}, "user_id", handle="alex") for verb in SCOPED)
        )

    @pytest.mark.parametrize("name", MEMORY_IDS)
    def test_ids_that_are_no_uuids(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """What is no UUID is refused by name, the same by every verb and on every engine."""

        def case(verb: str) -> Case:
            return Case(lambda m, _: BY_ID[verb](m, MEMORY_IDS[name]), InvalidInput, "id", verb)

        refused(shared_memory, known_id, *map(case, BY_ID))

    @pytest.mark.parametrize("verb", BY_ID)
    def test_ids_that_nobody_has(self, shared_memory: MemoryGateway, known_id: str, verb: str) -> None:
        """An id that is well-formed and unknown, or another owner's, is not found, and nothing changes."""
        before = snapshot(shared_memory)
        for scope, key in (({}, str(uuid.uuid4())), ({"user_id": "bo"}, known_id), ({"agent_id": "alex"}, known_id)):
            handle = shared_memory.scoped(**scope) if scope else shared_memory
            with pytest.raises(MemoryNotFound) as caught:
                BY_ID[verb](handle, key)
            assert key in str(caught.value)
            assert isinstance(caught.value, LookupError)
        assert snapshot(shared_memory) == before

    @pytest.mark.parametrize("spelling", [str.upper, lambda key: key.replace("-", ""), uuid.UUID])
    def test_other_spellings_of_an_id(
        self, shared_memory: MemoryGateway, known_id: str, spelling: Callable[[str], Any]
    ) -> None:
        """An id in another spelling of the same UUID means the same memory to every verb."""
        assert shared_memory.get(spelling(known_id)).id == known_id
        assert shared_memory.history(spelling(known_id))
        assert shared_memory.update(spelling(known_id), metadata={"n": 5}).id == known_id
        shared_memory.delete(spelling(known_id))
        assert_agreement(shared_memory)

    @pytest.mark.parametrize("name", METADATA)
    def test_bad_metadata(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """What cannot be stored the same on every engine is refused with its path inside the metadata."""
        bad, path = METADATA[name]

        def case(verb: str) -> Case:
            return Case(lambda m, known: WITH_METADATA[verb](m, known, bad), MetadataError, f"metadata{path}", verb)

        refused(shared_memory, known_id, *map(case, WITH_METADATA))

    def test_metadata_does_not_grow_beyond_its_limit_by_updates(
        self, shared_memory: MemoryGateway, known_id: str
    ) -> None:
        """What `update` merges is held to the limit too: a memory that is too large to add cannot be made by steps."""
        shared_memory.update(known_id, metadata={f"a{i}": i for i in range(900)})
        case = Case(
            lambda m, known: m.update(known, metadata={f"b{i}": i for i in range(900)}), MetadataError, "metadata.b99"
        )
        refused(shared_memory, known_id, case)

    def test_names_with_other_meanings_elsewhere_are_plain_inside(
        self, shared_memory: MemoryGateway, known_id: str
    ) -> None:
        """Reserved names are reserved at the top alone; what looks like a tag or an operator is stored as it is."""
        metadata = {"$date": "2026-01-01", "AND": [1], "deep": {"user_id": "bo", "$pairs": [[1]]}, "a.b": {"c.d": None}}
        (stored,) = shared_memory.add("odd names", user_id="alex", metadata=metadata).stored
        assert shared_memory.get(stored.id).metadata == metadata

    @pytest.mark.parametrize("name", FILTERS)
    def test_bad_filters(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """A filter without a meaning is refused with the place in it, before anything is read or deleted."""
        bad, place = FILTERS[name]

        def case(verb: str) -> Case:
            return Case(lambda m, _: FILTERING[verb](m, bad), FilterError, f"filters{place}", verb)

        refused(shared_memory, known_id, *map(case, FILTERING))

    @pytest.mark.parametrize(
        "filters",
        [
            {"user_id": "bo"},
            {"AND": [{"user_id": "bo"}]},
            {"user_id": "*"},
            {"user_id": {"ne": "alex"}},
            {"user_id": {"in": ["alex", "bo"]}},
            {"OR": [{"user_id": "bo"}, {"n": 1}]},
            {"NOT": [{"user_id": "alex"}]},
            {"AND": [{"OR": [{"agent_id": "*"}]}]},
        ],
        ids=str,
    )
    def test_filters_that_leave_the_scope(
        self, shared_memory: MemoryGateway, known_id: str, filters: dict[str, Any]
    ) -> None:
        """A filter that names another owner, or an owner anywhere but at the top, is refused."""
        before = snapshot(shared_memory)
        for call in FILTERING.values():
            with pytest.raises(ScopeError) as caught:
                call(shared_memory, filters)
            assert caught.value.hint
        assert snapshot(shared_memory) == before

    def test_filters_nested_with_the_builder(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """A filter that the builder nested without end is an error of ours, or works; it never exhausts the stack."""
        deep: Node = F.n == 1
        for i in range(20_000):
            deep = ~(deep | (F.n == i)) if i % 2 else ~deep
        before = snapshot(shared_memory)
        for call in FILTERING.values():
            with pytest.raises(FilterError) as caught:
                call(shared_memory, deep)
            assert "nested" in str(caught.value)
        assert snapshot(shared_memory) == before

    @pytest.mark.parametrize("name", CURSORS)
    def test_bad_cursors(self, shared_memory: MemoryGateway, known_id: str, name: str) -> None:
        """What is no cursor of ours is refused, whatever it decodes to."""
        case = Case(lambda m, _: m.get_all(user_id="alex", cursor=CURSORS[name]), CursorError, "cursor")
        assert "next_cursor" in refused(shared_memory, known_id, case).hint

    def test_cursors_of_other_listings(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """A cursor goes on in the listing that issued it and in no other: owner, filter and order are its own."""
        shared_memory.add(["one", "two", "three"], user_id="alex")
        cursor = shared_memory.get_all(user_id="alex", limit=2).next_cursor
        assert cursor is not None
        others: list[dict[str, Any]] = [
            {"user_id": "bo"},
            {"user_id": "alex", "run_id": "r"},
            {"user_id": "alex", "filters": {"n": 1}},
            {"user_id": "alex", "order": "created_at"},
        ]

        def case(other: dict[str, Any]) -> Case:
            return Case(lambda m, _: m.get_all(cursor=cursor, **other), CursorError, "cursor")

        refused(shared_memory, known_id, *map(case, others))
        assert len(shared_memory.get_all(user_id="alex", cursor=cursor)) == 2

    @cases(dict(_others()))
    def test_other_bad_arguments(self, shared_memory: MemoryGateway, known_id: str, case: Case) -> None:
        """Limits, flags, orders, times, keys and the like without a meaning are refused, with what would have one."""
        refused(shared_memory, known_id, case)

    @pytest.mark.parametrize(
        ("call", "told", "untold"),
        [
            (_search(limit=0), "is 0. Pass an int from 1 to 10,000; iter_all()", ""),
            (_search(limit=10**20), "an int of 67 bits", ""),
            (_search(limit=1.5), "is 1.5", ""),
            (_add_many(batch_size=0), "is 0. Pass", "iter_all"),
            (_search(threshold=2), "is 2. Pass", ""),
            (_search(threshold=float("nan")), "is NaN", ""),
            (_search(threshold=-0.5), "is -0.5", ""),
            (_add(idempotency_key=5), "is an int", ""),
            (_add(idempotency_key="  "), "is blank", ""),
            (_get_all(cursor=5), "is an int", ""),
            (lambda m, _: m.add_many("abc", user_id="alex"), "is a string of 3 characters", ""),
            (_add(expires_at=EARLY), "outside the years 1 to 9999", "not an instant"),
            (_adding({"role": "user", "content": "tea", "occurred_at": EARLY}), "years 1 to 9999", "not an instant"),
        ],
    )
    def test_messages_tell_what_is_the_fact(
        self, shared_memory: MemoryGateway, known_id: str, call: Call, told: str, untold: str
    ) -> None:
        """A message tells the number, or the shape of the value, and a way out that is the argument's own."""
        with pytest.raises(InvalidInput) as caught:
            call(shared_memory, known_id)
        assert told in str(caught.value)
        assert not untold or untold not in str(caught.value)

    @pytest.mark.parametrize(
        ("times", "told"), [({"expires_at": "2999-01-01"}, True), ({"valid_from": "2020-01-01"}, True), ({}, False)]
    )
    def test_a_duplicate_keeps_its_times(
        self, shared_memory: MemoryGateway, known_id: str, times: dict[str, Any], *, told: bool
    ) -> None:
        """Where times were asked for, the skip tells that the memory that is there keeps its own, and the way out."""
        (skipped,) = shared_memory.add("tea", user_id="alex", metadata={"n": 1}, **times).skipped
        assert skipped.memory_id == known_id
        assert skipped.detail.startswith("an equal memory is there already")
        assert ("update(id, expires_at=…)" in skipped.detail) == told

    @pytest.mark.parametrize("expiry", ["0001-01-01", date(1, 1, 1), datetime(1, 1, 1, tzinfo=timezone.utc)])
    def test_the_first_day_of_time(self, shared_memory: MemoryGateway, known_id: str, expiry: Any) -> None:
        """The earliest instant there is can be an expiry, or is refused by name; it breaks nothing."""
        before = snapshot(shared_memory)
        for call in (_add(expires_at=expiry), _update(expires_at=expiry)):
            try:
                call(shared_memory, known_id)
            except InvalidInput as error:
                assert error.field == "expires_at"  # noqa: PT017  # either outcome is fine
                assert snapshot(shared_memory) == before
        assert_agreement(shared_memory)

    @pytest.mark.parametrize("day", ["9999-12-31T23:59:59", "2300-01-01T00:00:00", "0001-01-01T00:00:00"])
    def test_the_ends_of_time_are_found_again(self, shared_memory: MemoryGateway, known_id: str, day: str) -> None:
        """Messages said at the first or the last instants there are can be filtered by, and listed page by page."""
        instants = [f"{day}.{i // 2:06}Z" for i in range(10)]
        for i, instant in enumerate(instants):
            shared_memory.add({"role": "user", "content": f"far {i}", "occurred_at": instant}, user_id="far")
        (stored,) = shared_memory.add(
            {"role": "user", "content": "x", "occurred_at": f"{day}.999999Z"}, user_id="f"
        ).stored
        for filters in ({"occurred_at": f"{day}.999999Z"}, {"occurred_at": {"gte": f"{day}.999999Z"}}):
            assert [memory.id for memory in shared_memory.get_all(user_id="f", filters=filters)] == [stored.id]
        assert not shared_memory.get_all(user_id="f", filters={"occurred_at": {"gt": f"{day}.999999Z"}}).memories
        orders: tuple[Order, ...] = ("occurred_at", "-occurred_at", "created_at")
        for order in orders:
            for limit in (1, 3, 10):
                seen: list[str] = []
                cursor: str | None = None
                for _ in instants:
                    page = shared_memory.get_all(user_id="far", order=order, limit=limit, cursor=cursor)
                    seen.extend(memory.text for memory in page)
                    cursor = page.next_cursor
                    if cursor is None:
                        break
                assert sorted(seen) == [f"far {i}" for i in range(10)]

    @pytest.mark.parametrize("verb", VERBS)
    def test_unknown_keyword_arguments(self, shared_memory: MemoryGateway, known_id: str, verb: str) -> None:
        """A misspelt keyword is a TypeError that names it, in every verb: it is never ignored."""
        before = snapshot(shared_memory)
        for unknown in ("userid", "top_k", "filter", "user"):
            with pytest.raises(TypeError, match=f"'{unknown}'"):
                getattr(shared_memory, verb)(*VERBS[verb], **{unknown: "alex"})
        assert snapshot(shared_memory) == before

    # -- idempotency and inference ---------------------------------------------------------------

    @pytest.mark.parametrize(
        ("messages", "given"),
        [
            ("coffee", {}),
            ("tea ", {}),
            (["tea", "tea"], {}),
            ("tea", {"metadata": {"n": 2}}),
            ("tea", {"expires_at": "2999-01-01"}),
            ("tea", {"valid_from": "2026-01-01"}),
            ({"role": "user", "content": "tea", "name": "Alex"}, {}),
            ({"role": "user", "content": "tea", "occurred_at": "2026-01-01"}, {}),
        ],
    )
    def test_a_key_with_other_content(
        self, shared_memory: MemoryGateway, known_id: str, messages: Any, given: dict[str, Any]
    ) -> None:
        """A key that comes back with other content is refused, whatever differs; the old still answers to it."""
        arguments: dict[str, Any] = {"metadata": {"n": 1}, **given}
        case = Case(
            lambda m, _: m.add(messages, user_id="alex", idempotency_key="used", **arguments),
            IdempotencyMismatch,
            "idempotency_key",
        )
        refused(shared_memory, known_id, case)
        again = shared_memory.add("tea", user_id="alex", metadata={"n": 1}, idempotency_key="used")
        assert [(skipped.reason, skipped.memory_id) for skipped in again.skipped] == [("duplicate", known_id)]

    def test_a_key_is_not_used_up_by_a_bad_call(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """A refused call leaves its key free for the corrected one; another scope's key is another key."""
        with pytest.raises(InvalidInput):
            shared_memory.add(["tea at night", " "], user_id="alex", idempotency_key="fresh")
        assert len(shared_memory.add(["tea at night"], user_id="alex", idempotency_key="fresh").stored) == 1
        assert len(shared_memory.add("coffee", user_id="bo", idempotency_key="used").stored) == 1

    def test_inference_without_a_model(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """Asking for inference without a language model says which options would give one, and stores nothing."""
        before = snapshot(shared_memory)
        with pytest.raises(LLMNotConfigured) as caught:
            shared_memory.add(SECRET, user_id="alex", infer=True, idempotency_key="k")
        message = str(caught.value)
        assert caught.value.where == "infer"
        assert all(word in message for word in ("llm.provider", "MEMSTACK_LLM__PROVIDER", "infer=False"))
        assert_discreet(caught.value)
        assert snapshot(shared_memory) == before

    def test_bad_input_comes_before_inference(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """With `infer=True` the input is checked as well, and first."""
        refused(
            shared_memory, known_id, Case(lambda m, _: m.add(" ", user_id="alex", infer=True), InvalidInput, "messages")
        )

    # -- in bulk ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("bad", "field"),
        [
            *(
                (pytest.param({"user_id": "alex", "content": text}, "item.content", id=name))
                for name, text in TEXTS.items()
            ),
            *(
                pytest.param({**message, "user_id": "alex"}, f"item{field}", id=name)
                for name, (message, field) in MESSAGES.items()
                if isinstance(message, dict) and name != "no role"
            ),
            *(
                pytest.param(
                    {"user_id": "alex", "content": SECRET, "metadata": bad}, f"metadata{path}", id=f"metadata: {name}"
                )
                for name, (bad, path) in METADATA.items()
            ),
            *(
                pytest.param({"user_id": bad, "content": SECRET}, "user_id", id=f"id: {name}")
                for name, bad in IDS.items()
            ),
            *(
                pytest.param(
                    {"user_id": "alex", "content": SECRET, "expires_at": bad}, "expires_at", id=f"expiry: {name}"
                )
                for name, bad in EXPIRIES.items()
            ),
            pytest.param({"content": SECRET}, "scope", id="nobody"),
            pytest.param(SECRET, "scope", id="a string of nobody"),
            pytest.param({}, "item.content", id="an empty mapping"),
            pytest.param(None, "item", id="None"),
            pytest.param(7, "item", id="a number"),
            pytest.param([{"role": "user", "content": SECRET}], "item", id="a list"),
            pytest.param(b"tea", "item", id="bytes"),
        ],
    )
    def test_a_bad_item_fails_alone(self, shared_memory: MemoryGateway, known_id: str, bad: Any, field: str) -> None:
        """A bad item ends in `failed` with its place and the reason; the items around it are stored."""
        before = snapshot(shared_memory)
        items = [{"user_id": "bo", "content": "first"}, bad, {"user_id": "bo", "content": "last"}]
        result = shared_memory.add_many(items)
        (failed,) = result.failed
        assert failed.index == 1
        assert failed.reason.startswith(f"{field}: ")
        assert SECRET not in failed.reason
        assert len(failed.reason) < 1000
        assert not failed.retryable
        assert [stored.text for stored in result.stored] == ["first", "last"]
        assert snapshot(shared_memory).rows.keys() - before.rows.keys() == {stored.id for stored in result.stored}
        assert_agreement(shared_memory)

    def test_bad_items_among_many(self, shared_memory: MemoryGateway, known_id: str) -> None:
        """Every item of a long mixed list is accounted for once, in its place, whatever the size of the batches."""
        items: list[Any] = [{"user_id": f"u{i}", "content": f"fact {i}" if i % 3 else " "} for i in range(61)]
        for size in (1, 7, 1000):
            steps: list[int] = []
            result = shared_memory.add_many(items, batch_size=size, progress=steps.append)
            assert [failed.index for failed in result.failed] == list(range(0, 61, 3))
            assert len(result.stored) + len(result.skipped) == 40
            assert steps == sorted(steps)
            assert steps[-1] == 61
        assert_agreement(shared_memory)

    @pytest.mark.parametrize("bad", ["tea", b"tea", {"content": "tea"}, 7, None, Message("user", "tea")])
    def test_items_that_are_no_list(self, shared_memory: MemoryGateway, known_id: str, bad: Any) -> None:
        """A text or a message where a list belongs is refused, rather than taken apart."""
        case = Case(lambda m, _: m.add_many(bad, user_id="alex"), InvalidInput, "items")
        refused(shared_memory, known_id, case)

    def test_errors_of_ours_have_one_base(self) -> None:
        """All of these errors are caught by one name, and those about values as ValueError too."""
        for kind in (InvalidInput, ScopeError, MetadataError, FilterError, CursorError, IdempotencyMismatch):
            assert issubclass(kind, MemstackError)
            assert issubclass(kind, ValueError)
        assert isinstance(State({}, {}), State)
