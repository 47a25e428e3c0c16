"""What evaluating a filter costs where it has thousands of values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timezone
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.filters import Or, evaluate
from memstack.filters.ast import Eq, In
from memstack.filters.evaluate import equal

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
