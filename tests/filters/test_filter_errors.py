"""What has no meaning is refused, at once, with its place in the filter and without the text of a value."""

from __future__ import annotations

import copy
import math
import pickle
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import F, Preference
from memstack.errors import FilterError, InvalidInput, MemstackError, describe
from memstack.filters import Compare, Contains, Eq, IContains, In, Node, evaluate, parse
from memstack.filters.visit import render
from memstack.testing.contract.strategies import examples

NAN = math.nan
BEYOND = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))


@pytest.mark.parametrize(
    ("filters", "place"),
    [
        # unknown operators
        ({"n": {"$gte": 20}}, "filters.n.$gte"),
        ({"n": {"between": [1, 2]}}, "filters.n.between"),
        ({"n": {"GTE": 1}}, "filters.n.GTE"),
        ({"n": {"": 1}}, "filters.n."),
        ({"n": {1: 1}}, "filters.n"),
        ({"n": {None: 1}}, "filters.n"),
        ({"n": {"gte": 1, "like": "a%"}}, "filters.n.like"),
        ({"n": {}}, "filters.n"),
        ({"n": {"eq": {"gt": 1}}}, "filters.n.eq"),
        ({"AND": [{"a": 1}, {"OR": [{"b": {"startswith": "x"}}]}]}, "filters.AND[1].OR[0].b.startswith"),
        ({"$and": [{"a": 1}]}, "filters.$and"),
        ({"$or": []}, "filters.$or"),
        ({"OR": [{"a": 1}, {"$not": {"a": 1}}]}, "filters.OR[1].$not"),
        # field names
        ({"": 1}, "filters"),
        ({1: 1}, "filters"),
        ({None: 1}, "filters"),
        ({("a", "b"): 1}, "filters"),
        ({"AND": [{"": {"gt": 1}}]}, "filters.AND[0]"),
        ({"a\0b": 1}, "filters"),
        ({"\ud800": 1}, "filters"),
        # values
        ({"n": None}, "filters.n"),
        ({"n": {"eq": None}}, "filters.n.eq"),
        ({"n": {"ne": None}}, "filters.n.ne"),
        ({"n": [1, None]}, "filters.n[1]"),
        ({"n": {"in": ["a", None]}}, "filters.n.in[1]"),
        ({"n": math.nan}, "filters.n"),
        ({"n": {"eq": math.nan}}, "filters.n.eq"),
        ({"n": {"gt": math.nan}}, "filters.n.gt"),
        ({"n": {"lt": math.inf}}, "filters.n.lt"),
        ({"n": {"nin": [-math.inf]}}, "filters.n.nin[0]"),
        ({"n": 2**63}, "filters.n"),
        ({"n": {"gte": -(2**63) - 1}}, "filters.n.gte"),
        ({"n": b"bytes"}, "filters.n"),
        ({"n": Decimal(1)}, "filters.n"),
        ({"n": object()}, "filters.n"),
        ({"n": 1j}, "filters.n"),
        ({"n": {"eq": [1, 2]}}, "filters.n.eq"),
        ({"n": {"ne": [1]}}, "filters.n.ne"),
        ({"n": [[1]]}, "filters.n[0]"),
        ({"n": {"in": [{"a": 1}]}}, "filters.n.in[0]"),
        ({"n": "a\0b"}, "filters.n"),
        ({"n": "\udfff"}, "filters.n"),
        ({"n": BEYOND}, "filters.n"),
        # lists
        ({"n": {"in": "abc"}}, "filters.n.in"),
        ({"n": {"in": 5}}, "filters.n.in"),
        ({"n": {"nin": {"a": 1}}}, "filters.n.nin"),
        ({"n": {"in": None}}, "filters.n.in"),
        # bounds
        ({"n": {"gt": "abc"}}, "filters.n.gt"),
        ({"n": {"gt": "20"}}, "filters.n.gt"),
        ({"n": {"gt": ""}}, "filters.n.gt"),
        ({"n": {"gt": "2026-02-30"}}, "filters.n.gt"),
        ({"n": {"gte": True}}, "filters.n.gte"),
        ({"n": {"lt": None}}, "filters.n.lt"),
        ({"n": {"lte": [1]}}, "filters.n.lte"),
        ({"AND": [{"due": {"gte": "soon"}}]}, "filters.AND[0].due.gte"),
        # declared instants
        ({"created_at": 5}, "filters.created_at"),
        ({"created_at": "yesterday"}, "filters.created_at"),
        ({"created_at": {"gt": 1735689600}}, "filters.created_at.gt"),
        ({"updated_at": ["2026-01-01", True]}, "filters.updated_at[1]"),
        # contains, exists
        ({"n": {"contains": None}}, "filters.n.contains"),
        ({"n": {"contains": ["a"]}}, "filters.n.contains"),
        ({"n": {"icontains": 5}}, "filters.n.icontains"),
        ({"n": {"icontains": None}}, "filters.n.icontains"),
        ({"n": {"exists": 1}}, "filters.n.exists"),
        ({"n": {"exists": "*"}}, "filters.n.exists"),
        ({"n": {"exists": None}}, "filters.n.exists"),
        # logic
        ({"AND": {"a": 1}}, "filters.AND"),
        ({"OR": None}, "filters.OR"),
        ({"NOT": {"a": 1}}, "filters.NOT"),
        ({"NOT": "a"}, "filters.NOT"),
        ({"AND": [{"a": 1}, 5]}, "filters.AND[1]"),
        ({"OR": [None]}, "filters.OR[0]"),
        ({"AND": [["a"]]}, "filters.AND[0]"),
        ({"and": [{"a": 1}]}, "filters.and"),
        ({"AND": [{"Or": ({"a": 1},)}]}, "filters.AND[0].Or"),
        # the whole
        ([{"a": 1}], "filters"),
        ("category = 'x'", "filters"),
        (5, "filters"),
        (True, "filters"),
    ],
)
def test_refused_with_its_place(filters: Any, place: str) -> None:
    """Each is a `FilterError` (a ValueError of ours) whose `field` is the place in the filter."""
    with pytest.raises(FilterError) as caught:
        parse(filters)
    assert caught.value.field == place
    assert str(caught.value).startswith(f"{place}: ")
    assert isinstance(caught.value, (MemstackError, ValueError, InvalidInput))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("gte ", "gte"), ("$gte", "gte"), ("contain", "contains"), ("exist", "exists"), ("nin_", "nin")],
)
def test_the_nearest_operator_is_named(wrong: str, right: str) -> None:
    """A misspelt operator is answered with the one that was meant."""
    with pytest.raises(FilterError, match=f"Did you mean '{right}'"):
        parse({"n": {wrong: "x"}})


@pytest.mark.parametrize("name", ["$and", "$or", "$not", "$AND"])
def test_a_dollar_is_answered_with_the_operator(name: str) -> None:
    """MongoDB's spelling is refused with ours."""
    with pytest.raises(FilterError, match=f"Write '{name[1:].upper()}'"):
        parse({name: []})


def _nested(depth: int) -> dict[str, Any]:
    filters: dict[str, Any] = {"a": 1}
    for level in range(depth):
        filters = {("AND", "OR", "NOT")[level % 3]: [filters]}
    return filters


def test_deep_mappings() -> None:
    """Sixty levels are a filter, in whatever mix; what nests without end is refused, not a RecursionError."""
    mixed: dict[str, Any] = {"a": {"ne": 1, "gt": 2}}
    for _ in range(60):
        mixed = {"b": 1, "OR": [{"c": 1}, mixed]}
    for filters in (_nested(60), mixed):
        node = parse(filters)
        assert parse(node) is node
        assert evaluate(node, {"a": 3, "b": 1}) in (True, False)
        assert render(node)
    endless: dict[str, Any] = {"AND": []}
    endless["AND"] += [endless, endless]
    for filters in (_nested(65), _nested(100_000), endless):
        with pytest.raises(FilterError, match="nested"):
            parse(filters)


def test_deep_nodes() -> None:
    """The builder's filters have the same limit: a filter that `parse` lets through can be evaluated and rendered."""
    deep: Node = F.a == 1
    for _ in range(5000):
        deep = ~deep
    mixed: Node = F.a == 1
    for _ in range(5000):
        mixed = (mixed & (F.b == 1)) | (F.c == 1)
    for node in (deep, mixed):
        with pytest.raises(FilterError, match="nested"):
            parse(node)
        with pytest.raises(FilterError, match="nested"):
            parse({"AND": [node]})


def test_long_chains_are_flat() -> None:
    """A chain of one operator is one level, however long."""
    either: Node = F.a == 0
    both: Node = F.a != 0
    for i in range(1, 5000):
        either |= F.a == i
        both &= F.a != i
    assert parse(either) == either
    assert parse(both) == both


# -- the builder -------------------------------------------------------------------------------


def _builders() -> list[tuple[str, Any]]:
    return [
        ("filters.n", lambda: F.n == None),  # noqa: E711  # the point
        ("filters.n", lambda: F.n != None),  # noqa: E711
        ("filters.n", lambda: F.n == [1, 2]),
        ("filters.n", lambda: F.n == NAN),
        ("filters.n.gt", lambda: F.n > "abc"),
        ("filters.n.gte", lambda: F.n >= True),
        ("filters.n.lt", lambda: F.n < None),
        ("filters.n.lte", lambda: F.n <= [1]),
        ("filters.n.in", lambda: F.n.in_("abc")),
        ("filters.n.in", lambda: F.n.in_(5)),  # type: ignore[arg-type]
        ("filters.n.in[1]", lambda: F.n.in_([1, None])),
        ("filters.n.nin[0]", lambda: F.n.nin([b""])),
        ("filters.n.contains", lambda: F.n.contains(None)),
        ("filters.n.icontains", lambda: F.n.icontains(5)),  # type: ignore[arg-type]
        ("filters.created_at.gt", lambda: F.created_at > 5),
        ("filters.created_at", lambda: F.created_at == "soon"),
        ("filters.", lambda: F[""] == 1),
        ("filters.$gt", lambda: F["$gt"] == 1),
    ]


@pytest.mark.parametrize("index", range(len(_builders())))
def test_the_builder_refuses_at_once(index: int) -> None:
    """A wrong value is refused where the comparison is written, with the field in the place."""
    place, make = _builders()[index]
    with pytest.raises(FilterError) as caught:
        make()
    assert caught.value.field.startswith(place.rstrip("."))


def test_and_or_not_are_refused() -> None:
    """Python's `and`, `or`, `not`, `if` and chained comparisons ask for a truth value, and a filter has none."""
    a: Any = F.a == 1
    b: Any = F.b == 2
    for make in (
        lambda: a and b,
        lambda: a or b,
        lambda: not a,
        lambda: bool(a),
        lambda: 1 < F.n < 5,
        lambda: all([a, b]),
        lambda: [x for x in (a, b) if x],
    ):
        with pytest.raises(FilterError, match=r"&"):
            make()


@pytest.mark.parametrize("field", [F.archived, F["no identifier"], Preference.f.strength], ids=repr)
def test_a_field_alone_is_no_condition(field: Any) -> None:
    """``F.archived and (F.n == 1)`` would be the second condition alone, and find, or delete, more than was meant."""
    for make in (lambda: field and (F.n == 1), lambda: field or (F.n == 1), lambda: not field):
        with pytest.raises(FilterError, match=r"has no truth value.*exists\(\).*&"):
            make()


def test_missing_parentheses_are_refused() -> None:
    """``F.a == 1 & F.b == 2`` binds otherwise than it reads, and is an error."""
    with pytest.raises((FilterError, TypeError)):
        _ = F.a == 1 & F.b == 2  # type: ignore[operator]
    for other in (1, True, None, "a", {"b": 1}, F.b):
        with pytest.raises(FilterError, match="parentheses"):
            _ = (F.a == 1) & other  # type: ignore[operator]
        with pytest.raises(FilterError, match="parentheses"):
            _ = (F.a == 1) | other  # type: ignore[operator]


def test_a_bare_field_is_no_filter() -> None:
    """A field alone, in place of a filter or of a value, is refused."""
    for filters in (F.a, {"AND": [F.a]}, {"a": F.b}, {"a": {"gt": F.b}}):
        with pytest.raises(FilterError):
            parse(filters)  # type: ignore[arg-type]
    with pytest.raises(FilterError):
        _ = F.a == F.b


class _Mute:
    """What cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("shown")

    __repr__ = __str__


@pytest.mark.parametrize("name", [5, 10**5000, b"sesame-4711", None, ("sesame-4711",), _Mute()], ids=describe)
def test_names_that_are_no_text(name: Any) -> None:
    """A field or an operator that is no string is described: nothing of it is shown, whatever it is."""
    made: list[Callable[[], object]] = [
        lambda: F[name] == 1,
        lambda: F[name] > 1,
        lambda: F[name].in_([1]),
        lambda: parse({name: 1}),
        lambda: parse({"n": {name: 1}}),
        lambda: Compare("n", name, 1),
    ]
    for make in made:
        with pytest.raises(FilterError) as caught:
            make()
        assert caught.value.field.startswith("filters")
        assert describe(name) in str(caught.value)
        assert "sesame" not in str(caught.value)
    assert describe(name) in repr(F[name])


@pytest.mark.parametrize("name", ["x" * 100_000, "$" + "x" * 100_000, "$\ud800", "$a\0b", "$a\nb"], ids=describe)
def test_odd_names_can_be_told(name: str) -> None:
    """A message is short, in one line, and can be written, whatever the name of a field or an operator."""
    for bad in ({name: {"gt": "x"}}, {"n": {name: 1}}):
        with pytest.raises(FilterError) as caught:
            parse(bad)
        message = str(caught.value)
        assert len(message.encode()) < 1000
        assert message.isprintable()


def test_names_that_are_attributes() -> None:
    """``F["any name"]`` reaches every name; dunder names do not become fields by accident."""
    assert (F["a b.c"] == 1) == Eq("a b.c", 1)
    assert F.in_ is not None
    assert (F.items == 1) == Eq("items", 1)
    with pytest.raises(AttributeError):
        _ = F.__wrapped__
    with pytest.raises(TypeError):
        hash(F.a)


@pytest.mark.parametrize("name", ["and", "or", "not", "Or"])
def test_a_logical_operator_in_small_letters_is_answered_with_capitals(name: str) -> None:
    """What holds filters is no field; a field that is called so goes on working, with whatever a field can have."""
    for filters in ([{"a": 1}], [F.a == 1], {"a": 1}, {"a": {"gt": 1}}, F.a == 1):
        with pytest.raises(FilterError, match=f"^filters.{name}: holds filters.* Write '{name.upper()}'"):
            parse({name: filters})
    for value in ("x", 1, True, [1, "x"], [], {"gt": 1}, {"in": ["x"], "exists": True}):
        assert parse({name: value}) is not None
    with pytest.raises(FilterError, match="no operator"):
        parse({name: {}})


def test_a_nested_field_is_told_how_it_is_written() -> None:
    """``F.repo.name`` and ``{"repo": {"name": …}}`` are answered with the dot that reaches into a mapping."""
    with pytest.raises(FilterError, match=r'^filters\.repo\.name: .*written F\["repo\.name"\]') as caught:
        _ = F.repo.name == "api"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert "Did you mean" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(FilterError, match=r'^filters\.repo\.name: .*written \{"repo\.name": …\}'):
        parse({"repo": {"name": "api"}})
    with pytest.raises(FilterError, match=r"Did you mean 'exists'"):
        F.repo.exist()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("field", [F.repo, Preference.f.strength], ids=repr)
def test_a_field_is_asked_for_attributes_as_any_object_is(field: Any) -> None:
    """`hasattr` answers, defaults are taken, and a field can be copied and pickled."""
    assert not hasattr(field, "keys")
    assert not hasattr(field, "_private")
    assert getattr(field, "model_dump", 7) == 7
    for again in (copy.copy(field), copy.deepcopy(field), pickle.loads(pickle.dumps(F.repo))):  # noqa: S301
        assert repr(again).startswith("F[")


def test_nodes_are_checked_however_they_are_made() -> None:
    """A node that exists has a meaning, also when it is made by hand."""
    for make in (
        lambda: Eq("", 1),
        lambda: Eq("a", None),  # type: ignore[arg-type]
        lambda: In("a", "abc"),  # type: ignore[arg-type]
        lambda: In("a", (math.nan,)),
        lambda: Compare("a", "between", 1),  # type: ignore[arg-type]
        lambda: Compare("a", "gt", "x"),
        lambda: Contains("$a", "x"),
        lambda: IContains("a", 1),  # type: ignore[arg-type]
    ):
        with pytest.raises(FilterError):
            make()
    with pytest.raises(AttributeError):
        Eq("a", 1).value = 2  # type: ignore[misc]


# -- messages ----------------------------------------------------------------------------------

SECRET = "sesame-4711"


@pytest.mark.parametrize(
    "filters",
    [
        {"n": {"gt": SECRET}},
        {"n": {"lte": f"2026-01-01 {SECRET}"}},
        {"n": {"in": SECRET}},
        {"n": {"eq": [SECRET]}},
        {"n": {"eq": {"x": SECRET}}},
        {"n": f"{SECRET}\0"},
        {"n": {"contains": f"{SECRET}\ud800"}},
        {"n": {"icontains": [SECRET]}},
        {"n": {"exists": SECRET}},
        {"AND": SECRET},
        {"OR": [SECRET]},
        {"NOT": [{"n": {"near": SECRET}}]},
        {"created_at": SECRET},
        {"created_at": [SECRET]},
        {"$text": SECRET},
        {"": SECRET},
        {"n": SECRET.encode()},
        SECRET,
        [SECRET],
    ],
)
def test_messages_never_show_a_value(filters: Any) -> None:
    """A filter may hold something private: its errors tell where and what shape, never the value of a string."""
    with pytest.raises(FilterError) as caught:
        parse(filters)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


_WORDS = ("AND", "OR", "NOT", "eq", "gt", "in", "nin", "contains", "exists", "n", "created_at", "$or")
_junk = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3), st.datetimes()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(_WORDS), st.text(max_size=3), st.none()), inner, max_size=3),
    ),
    max_leaves=10,
)


@examples(700)
@given(_junk)
def test_anything_is_a_filter_or_a_filter_error(junk: Any) -> None:
    """Whatever is passed for a filter: a node or a `FilterError` with a place, never another exception."""
    place = "filters"
    node: Node | None = None
    try:
        node = parse(junk)
    except FilterError as error:
        place = error.field
    assert place.startswith("filters")
    assert node is None or isinstance(node, Node)
