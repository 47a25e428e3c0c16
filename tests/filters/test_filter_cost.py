"""What evaluating a filter costs where it has thousands of values."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.filters import Or, evaluate
from memstack.filters.ast import And, Eq, IContains, In
from memstack.filters.evaluate import equal, resolve
from memstack.filters.scoping import split_scope
from memstack.scope import Scope

_NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
_VALUES: tuple[Any, ...] = (
    *(0, 1, 1.0, -0.0, True, False, "1", "", "true", 2**53, 2**53 + 1, float(2**53), 1e300),
    *(date(2026, 1, 31), datetime(2026, 1, 31), datetime(2026, 1, 31, tzinfo=timezone.utc), _NOON),  # noqa: DTZ001
    "2026-01-31",
)


@given(st.lists(st.sampled_from(_VALUES), max_size=20), st.sampled_from((*_VALUES, None, [1], {"a": 1})))
def test_in_is_equal_to_any(values: list[Any], value: object) -> None:
    """However many values there are, `in` holds where one of them is equal."""
    fields = {"n": value}
    expected = evaluate(Or(tuple(Eq("n", each) for each in values)), fields)
    assert evaluate(In("n", tuple(values)), fields) is expected
    assert any(equal(value, each) for each in values) is expected


def test_many_values_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is not compared with each of them: what a filter costs is not its length times the rows."""
    module = import_module("memstack.filters.evaluate")
    looked_at = 0
    key_of: Callable[[object], Any] = module.comparable

    def counting(value: object) -> Any:
        nonlocal looked_at
        looked_at += 1
        return key_of(value)

    monkeypatch.setattr(module, "comparable", counting)
    node = In("n", tuple(range(1000)))
    assert [n for n in range(-500, 1500) if evaluate(node, {"n": n})] == list(range(1000))
    assert looked_at <= 1000 + 2000


def test_a_name_of_many_dots_is_looked_up_at_once() -> None:
    """Of a path's beginnings those are tried that the memory has, however many dots the caller writes."""
    path = ".".join("a" * 100_000)
    fields = {"a": {"b": 1, "a.a": {"c": 2}}, path[:199]: {"x": 3}, "text": "tea"}
    begun = time.perf_counter()
    for _ in range(100):
        assert not evaluate(IContains(path, "tea"), fields)
    assert time.perf_counter() - begun < 2


_NESTED = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from(["a", "a.a", "a.b", "b"]), inner), max_leaves=30
)


@given(_NESTED, st.sampled_from(["a", "b", "a.a", "b.a", "a.b.a.a", "a.a.a.b"]), st.integers(0, 12))
def test_long_and_short_paths_are_one(value: object, end: str, depth: int) -> None:
    """Paths are split at each dot from the left, whatever their length."""
    fields: dict[str, object] = {"a": value}
    for _ in range(depth):
        fields = {"a": fields}
    path = f"{'a.' * depth}{end}"
    assert resolve(fields, path) == _by_its_dots(fields, path)


def _by_its_dots(fields: Mapping[str, object], path: str) -> object:
    """The value at the end of a path, tried at every dot."""
    value = fields.get(path)
    for at, character in enumerate(path):
        inner = fields.get(path[:at]) if character == "." and value is None else None
        if isinstance(inner, Mapping):
            value = _by_its_dots(inner, path[at + 1 :])
    return value


def test_many_conditions_in_an_and_are_taken_apart_at_once() -> None:
    """The scope is taken out of a filter of 300,000 conditions in a time that grows with their number."""
    node = And((*(Eq("n", number) for number in range(300_000)), Eq("user_id", "alex")))
    begun = time.perf_counter()
    scope, rest = split_scope(node)
    assert time.perf_counter() - begun < 5
    assert scope == Scope(user_id="alex")
    assert rest == And(node.children[:-1])


def test_a_text_that_is_looked_for_is_folded_once() -> None:
    """However many rows are compared with it: it may be as long as a request."""
    node = IContains("note", "ß" * 1_000_000)
    begun = time.perf_counter()
    for _ in range(500):
        assert not evaluate(node, {"note": "tea"})
    assert time.perf_counter() - begun < 2
