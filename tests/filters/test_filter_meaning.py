"""The table of operators, example by example, in both spellings."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

from memstack import F
from memstack.filters import And, Node, Not, Or, evaluate, parse

UTC = timezone.utc
CET = timezone(timedelta(hours=1))

EMPTY: dict[str, Any] = {}


def holds(filters: Any, fields: dict[str, Any]) -> bool:
    return evaluate(parse(filters), fields)


@pytest.mark.parametrize(
    ("value", "operand", "expected"),
    [
        ("a", "a", True),
        ("a", "A", False),
        ("ab", "a", False),
        ("two words", "words", False),
        ("a ", "a", False),
        ("", "", True),
        ("é", "e\u0301", False),
        ("*", "a", False),
        ("50%", "50_", False),
        (1, 1.0, True),
        (1.0, 1, True),
        (0.0, -0.0, True),
        (2**53 + 1, 2**53, False),
        (2**53 + 1, float(2**53), False),
        (2**53, float(2**53), True),
        (2**63 - 1, float(2**63), False),
        (-(2**63), -float(2**63), True),
        (0.1 + 0.2, 0.3, False),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (False, 0, False),
        (True, "true", False),
        (1, "1", False),
        ("1", 1, False),
        (date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), True),
        (date(2026, 1, 1), datetime(2026, 1, 1), True),  # noqa: DTZ001
        (datetime(2026, 1, 1, 1, tzinfo=CET), date(2026, 1, 1), True),
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), date(2026, 1, 1), False),
        (date(2026, 1, 1), "2026-01-01", False),
        ("2026-01-01", date(2026, 1, 1), False),
        ("2026-01-01T00:00:00Z", "2026-01-01", False),
        (["a"], "a", False),
        ([], "a", False),
        ({"b": 1}, 1, False),
        (None, "a", False),
    ],
)
def test_eq_is_exact_and_typed(value: Any, operand: Any, expected: bool) -> None:
    """`eq`, `in`, `ne` and `nin` agree: numbers are equal as numbers, everything else by type and value."""
    fields = {"f": value}
    assert holds({"f": {"eq": operand}}, fields) is expected
    assert holds({"f": {"in": ["zzz", operand]}}, fields) is expected
    assert holds({"f": [operand, "zzz"]}, fields) is expected
    assert holds({"f": {"ne": operand}}, fields) is not expected
    assert holds({"f": {"nin": [operand]}}, fields) is not expected
    assert holds(F.f == operand, fields) is expected
    assert holds(F.f != operand, fields) is not expected
    assert holds(F.f.in_([operand]), fields) is expected
    assert holds(F.f.nin((operand, "zzz")), fields) is not expected
    if operand != "*":
        assert holds({"f": operand}, fields) is expected


@pytest.mark.parametrize("fields", [{}, {"f": None}, {"g": 1}])
def test_a_missing_field(fields: dict[str, Any]) -> None:
    """Missing and null are the same: only the complements hold."""
    for asked in (1, [1], {"gt": 0}, {"contains": "a"}, {"icontains": ""}, "*"):
        assert holds({"f": asked}, fields) is False
        assert holds({"NOT": [{"f": asked}]}, fields) is True
    for operator, operand in (("ne", 1), ("nin", [1]), ("nin", []), ("exists", False)):
        assert holds({"f": {operator: operand}}, fields) is True


@pytest.mark.parametrize(
    ("value", "op", "bound", "expected"),
    [
        (2, "gt", 1, True),
        (2, "gt", 2, False),
        (2, "gte", 2.0, True),
        (2, "lt", 2.5, True),
        (2, "lte", 1.9, False),
        (2**53 + 1, "gt", 2**53, True),
        (2**53 + 1, "gt", float(2**53), True),
        (2**63 - 1, "lt", float(2**63), True),
        (5e-324, "gt", 0, True),
        (-0.0, "lt", 0, False),
        (True, "gte", 0, False),
        (True, "lte", 1, False),
        ("2", "gt", 1, False),
        ("20", "lt", "2026-01-01", False),
        (2027, "gt", "2026-01-01", False),
        ("b", "gt", 1, False),
        ("2026-01-01", "gt", 1, False),
        ("2026-01-02", "gt", "2026-01-01", True),
        ("2026-01-01", "gte", date(2026, 1, 1), True),
        ("2026-01-01T00:00:00Z", "lte", "2026-01-01", True),
        ("2026-01-01T00:30:00+01:00", "lt", "2026-01-01", True),
        ("2026-01-01T00:00:00", "gte", "2026-01-01T01:00:00+01:00", True),
        (date(2026, 1, 1), "gte", datetime(2026, 1, 1, 1, tzinfo=CET), True),
        (datetime(2026, 1, 1), "gt", "2025-12-31T23:59:59.999999Z", True),  # noqa: DTZ001
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "gt", date(2026, 1, 1), True),
        (date(1, 1, 1), "lt", date(1, 1, 2), True),
        ("2026-02-30", "gt", "2026-01-01", False),
        ("2026-01-01 soon", "gt", "2025-01-01", False),
        ([3], "gt", 1, False),
        ({"a": 3}, "gt", 1, False),
    ],
)
def test_comparisons(value: Any, op: str, bound: Any, expected: bool) -> None:
    """Both are numbers, or both are instants; otherwise a comparison does not hold, and its complement does."""
    by_builder: dict[str, Node] = {"gt": F.f > bound, "gte": F.f >= bound, "lt": F.f < bound, "lte": F.f <= bound}
    assert holds({"f": {op: bound}}, {"f": value}) is expected
    assert holds(by_builder[op], {"f": value}) is expected
    assert holds({"NOT": [{"f": {op: bound}}]}, {"f": value}) is not expected


@pytest.mark.parametrize(
    ("value", "operand", "expected"),
    [
        ("say hello", "hell", True),
        ("say Hello", "hell", False),
        ("50% of it", "%", True),
        ("abc", "a_c", False),
        ("abc", "a.c", False),
        ("a\\b", "\\", True),
        ("abc", "", True),
        ("", "", True),
        ("1", 1, False),
        (["a", "b"], "a", True),
        (["ab"], "a", False),
        ([1, "x"], 1.0, True),
        ([True], 1, False),
        ([1], True, False),
        ([date(2026, 1, 1)], datetime(2026, 1, 1, tzinfo=UTC), True),
        (["2026-01-01"], date(2026, 1, 1), False),
        ([], "", False),
        ([["a"]], "a", False),
        ([None], "None", False),
        (12, "1", False),
        ({"a": 1}, "a", False),
        (None, "", False),
    ],
)
def test_contains(value: Any, operand: Any, expected: bool) -> None:
    """`contains` is a substring of a string (case counts) or a member of a list, and nothing of anything else."""
    assert holds({"f": {"contains": operand}}, {"f": value}) is expected
    assert holds(F.f.contains(operand), {"f": value}) is expected


@pytest.mark.parametrize(
    ("value", "operand", "expected"),
    [
        ("Say HELLO", "hello", True),
        ("say hello", "HELLO", True),
        ("STRASSE", "straße", True),
        ("Ça", "ÇA", True),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", True),
        ("abc", "a%", False),
        ("abc", "", True),
        (["abc"], "abc", False),
        (5, "5", False),
    ],
)
def test_icontains(value: Any, operand: str, expected: bool) -> None:
    """`icontains` is a substring of a string whatever the case, in every script, and never a member of a list."""
    assert holds({"f": {"icontains": operand}}, {"f": value}) is expected
    assert holds(F.f.icontains(operand), {"f": value}) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", True), (0, True), (False, True), ([], True), ({}, True), ("*", True), (None, False)],
)
def test_exists(value: Any, expected: bool) -> None:
    """Present and not null: empty values are present."""
    for filters in ({"f": "*"}, {"f": {"exists": True}}, F.f.exists()):
        assert holds(filters, {"f": value}) is expected
    assert holds({"f": {"exists": False}}, {"f": value}) is not expected


def test_the_star_alone_is_a_wildcard() -> None:
    """Only a plain "*" in a mapping means "exists"; spelled out, and in the builder, it is a string."""
    assert holds({"f": "*"}, {"f": "a"})
    for filters in ({"f": {"eq": "*"}}, {"f": ["*"]}, F.f == "*"):
        assert not holds(filters, {"f": "a"})
        assert holds(filters, {"f": "*"})


def test_logic_of_lists() -> None:
    """`NOT [a, b]` is neither; `AND []` is all, `OR []` none, `NOT []` all, `{}` and None all."""
    a, b = {"a": 1}, {"b": 1}
    for fields, neither in (({}, True), ({"a": 1}, False), ({"b": 1}, False), ({"a": 1, "b": 1}, False)):
        assert holds({"NOT": [a, b]}, fields) is neither
        assert holds({"OR": [a, b]}, fields) is not neither
    every: list[Any] = [{"AND": []}, {"NOT": []}, {}, None, {"AND": [{}]}, {"NOT": [{"OR": []}]}, And(()), Not(Or(()))]
    none: list[Any] = [{"OR": []}, {"NOT": [{}]}, {"NOT": [{"AND": []}]}, {"OR": [{"OR": []}]}, Or(()), Not(And(()))]
    assert [holds(filters, EMPTY) for filters in every] == [True] * len(every)
    assert [holds(filters, EMPTY) for filters in none] == [False] * len(none)
    assert holds({"f": []}, {"f": 1}) is False
    assert holds({"f": {"nin": []}}, {"f": 1}) is True


def test_entries_of_a_mapping_all_hold() -> None:
    """Several fields, several operators on a field, and logic beside fields are one conjunction."""
    filters = {"n": {"gte": 2, "lt": 5, "ne": 3}, "c": "x", "OR": [{"d": 1}, {"e": 1}], "NOT": [{"g": "*"}]}
    base = {"n": 4, "c": "x", "e": 1}
    assert holds(filters, base)
    for change in ({"n": 3}, {"n": 5}, {"n": 1}, {"c": "y"}, {"e": 2}, {"g": 0}, {"n": None}):
        assert not holds(filters, {**base, **change}), change
    assert holds({"AND": [{"n": {"gte": 2}}, {"n": {"lt": 5}}]}, {"n": 4})
    assert not holds({"AND": [{"n": {"gte": 2}}, {"n": {"lt": 5}}]}, {"n": 1})


def test_the_filter_of_the_lesson() -> None:
    """The lesson's complex filter works as written."""
    filters = {"AND": [{"user_id": "alex"}, {"category": "preferences"}, {"created_at": {"gte": "2025-01-01"}}]}
    memory = {"user_id": "alex", "category": "preferences", "created_at": datetime(2025, 1, 1, tzinfo=UTC)}
    assert holds(filters, memory)
    for change in (
        {"user_id": "bob"},
        {"category": "projects"},
        {"created_at": datetime(2024, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)},
    ):
        assert not holds(filters, {**memory, **change}), change
    same = (F.user_id == "alex") & (F.category == "preferences") & (F.created_at >= date(2025, 1, 1))
    assert holds(same, memory)


def test_nested_logic() -> None:
    """Logic nests to any mix of the two spellings."""
    filters = {
        "OR": [
            {"AND": [{"a": 1}, {"NOT": [{"OR": [{"b": 1}, {"c": 1}]}]}]},
            (F.d == 1) & ~(F.e == 1),
            {"AND": [F.f.exists(), {"f": {"in": ["x", "y"]}}]},
        ]
    }
    assert holds(filters, {"a": 1})
    assert not holds(filters, {"a": 1, "c": 1})
    assert holds(filters, {"a": 1, "c": 1, "d": 1})
    assert not holds(filters, {"d": 1, "e": 1})
    assert holds(filters, {"f": "y"})


@pytest.mark.parametrize("name", ["created_at", "updated_at", "occurred_at", "expires_at", "valid_from", "valid_to"])
def test_declared_instants(name: str) -> None:
    """On fields that are instants by declaration, ISO text is an instant for equality too."""
    fields = {name: datetime(2026, 1, 1, tzinfo=UTC)}
    for operand in ("2026-01-01", "2026-01-01T01:00:00+01:00", date(2026, 1, 1), datetime(2026, 1, 1)):  # noqa: DTZ001
        assert holds({name: operand}, fields)
        assert holds({name: [operand]}, fields)
        assert not holds({name: {"ne": operand}}, fields)
        assert holds({name: {"gte": operand, "lte": operand}}, fields)
    assert not holds({name: {"contains": "2026"}}, fields)
    assert not holds({name: {"icontains": "2026"}}, fields)


def test_the_three_names_of_the_text() -> None:
    """`text`, `memory` and `data` are one field."""
    for name in ("text", "memory", "data"):
        assert holds({name: {"contains": "tea"}}, {"data": "green tea"})
        assert holds(F[name] == "green tea", {"data": "green tea"})


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"a": {"b": 1}}, "a.b", 1),
        ({"a.b": 1}, "a.b", 1),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a.b": None, "a": {"b": 2}}, "a.b", 2),
        ({"a": {"b.c": 1}}, "a.b.c", 1),
        ({"a.b": {"c": 1}}, "a.b.c", 1),
        ({"a": {"b": {"c": 1}, "b.c": 2}}, "a.b.c", 2),
        ({"a": {"b": None}, "a.b": None}, "a.b", None),
        ({"a": {"x": 1}, "a.b": {"c": 3}}, "a.b.c", 3),
        ({"a": [{"b": 1}]}, "a.b", None),
        ({"a": "b"}, "a.b", None),
        ({"": {"": 5}}, ".", 5),
        ({"a": {"": 5}}, "a.", 5),
    ],
)
def test_dotted_paths(fields: dict[str, Any], path: str, expected: Any) -> None:
    """A dotted name is read as it stands first, then as a path; lists are not entered."""
    assert holds({path: "*"}, fields) is (expected is not None)
    if expected is not None:
        assert holds({path: expected}, fields)
        assert holds(F[path] == expected, fields)
    assert holds({path: 99}, fields) is False


def test_evaluation_leaves_the_fields_alone() -> None:
    """A filter only reads."""
    fields = {"tags": ["a"], "x": {"y": 1}}
    holds({"AND": [{"tags": {"contains": "a"}}, {"x.y": 1}, {"NOT": [{"z": [1]}]}]}, fields)
    assert fields == {"tags": ["a"], "x": {"y": 1}}
