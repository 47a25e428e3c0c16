"""Visitors are complete, compilers push down what is exact, and filters cannot be taken for one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import F
from memstack.errors import ScopeError
from memstack.filters import (
    And,
    Compare,
    Compiled,
    Contains,
    Eq,
    Exists,
    FilterCompiler,
    FilterVisitor,
    IContains,
    In,
    Node,
    Not,
    Or,
    evaluate,
    fields_of,
    parse,
)
from memstack.filters.scoping import scope_filter, split_scope
from memstack.filters.visit import NODES, render
from memstack.scope import Scope
from memstack.testing.contract.oracle import holds
from memstack.testing.contract.strategies import Drawn, Seeded, a_metadata, a_spec, as_node, examples, vocabulary_of

METHODS = [f"visit_{node.__name__.lower()}" for node in NODES]


def test_the_list_of_nodes_is_the_list_of_nodes() -> None:
    """A new subclass of `Node` cannot be left out of what visitors must handle."""
    made = {node.__name__ for node in Node.__subclasses__()}  # by name: with slots, dataclasses make each class twice
    assert {node.__name__ for node in NODES} == made


@pytest.mark.parametrize("missing", METHODS)
def test_a_visitor_that_leaves_out_a_node_cannot_be_defined(missing: str) -> None:
    """The class statement itself fails, and names the method."""
    body = {name: lambda _self, _node: True for name in METHODS if name != missing}
    with pytest.raises(TypeError, match=missing):
        type("Forgetful", (FilterVisitor,), body)


def test_a_partial_base_defers_to_its_subclasses() -> None:
    """A base marked `partial` may leave nodes out; what is derived from it may not."""
    base: Any = type("Base", (FilterVisitor,), {"partial": True})
    with pytest.raises(TypeError, match="visit_exists"):
        type("Derived", (base,), {name: lambda _self, _node: True for name in METHODS if name != "visit_exists"})
    with pytest.raises(TypeError, match="visit_eq"):
        type("Compiler", (FilterCompiler,), {})
    whole: Any = type("Whole", (base,), {name: lambda _self, _node: 7 for name in METHODS})
    assert whole().visit(F.a == 1) == 7


class _Engine(FilterCompiler[Any]):
    """An engine that answers some leaves exactly, some not quite, and some not at all; conditions are predicates.

    Of those that it answers, some are larger than others, and not all of them go into one query.
    """

    largest: ClassVar[float] = 6

    def size(self, condition: Any) -> int:
        return self._source.number(0, 4)

    def __init__(self, seed: int) -> None:
        self._source = Seeded(seed)

    def conjunction(self, conditions: Sequence[Any]) -> Any:
        assert conditions
        return lambda fields: all(condition(fields) for condition in conditions)

    def disjunction(self, conditions: Sequence[Any]) -> Any:
        assert conditions
        return lambda fields: any(condition(fields) for condition in conditions)

    def negation(self, condition: Any) -> Any:
        return lambda fields: not condition(fields)

    def nothing(self) -> Any:
        return lambda fields: False

    def _leaf(self, node: Node) -> Compiled[Any] | None:
        roll = self._source.number(0, 3)
        if roll == 0:
            return None
        if roll == 1:  # selects some more
            return Compiled(lambda fields: evaluate(node, fields) or len(fields) % 2 == 0, exact=False)
        return Compiled(lambda fields: evaluate(node, fields))

    def visit_eq(self, node: Eq) -> Compiled[Any] | None:
        return self._leaf(node)

    def visit_in(self, node: In) -> Compiled[Any] | None:
        return self._leaf(node)

    def visit_compare(self, node: Compare) -> Compiled[Any] | None:
        return self._leaf(node)

    def visit_contains(self, node: Contains) -> Compiled[Any] | None:
        return self._leaf(node)

    def visit_icontains(self, node: IContains) -> Compiled[Any] | None:
        return self._leaf(node)

    def visit_exists(self, node: Exists) -> Compiled[Any] | None:
        return self._leaf(node)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], Any, int]:
    source = Drawn(draw)
    memories = [a_metadata(source) for _ in range(4)]
    return memories, a_spec(source, vocabulary_of(memories)), draw(st.integers(0, 10_000))


@examples(250)
@given(_cases())
def test_what_is_pushed_down_and_the_residual_make_the_filter(case: tuple[list[dict[str, Any]], Any, int]) -> None:
    """Whatever an engine can express: its condition and the residual together select just what the filter does."""
    memories, spec, seed = case
    plan = _Engine(seed).plan(as_node(spec))
    for fields in memories:
        native = plan.native is None or plan.native(fields)
        residual = plan.residual is None or evaluate(plan.residual, fields)
        assert (native and residual) is holds(spec, fields)
        if not native:
            assert not holds(spec, fields)


class _Words(_Engine):
    """An engine whose conditions are words; it answers what equals."""

    largest: ClassVar[float] = math.inf

    def __init__(self) -> None:
        super().__init__(0)

    def conjunction(self, conditions: Sequence[Any]) -> Any:
        return " AND ".join(conditions)

    def disjunction(self, conditions: Sequence[Any]) -> Any:
        return f"({' OR '.join(conditions)})"

    def negation(self, condition: Any) -> Any:
        return f"NOT {condition}"

    def _leaf(self, node: Node) -> Compiled[Any] | None:
        return Compiled(render(node)) if isinstance(node, (Eq, In)) else None


@pytest.mark.parametrize(
    ("filters", "native"),
    [
        ({"OR": [{"a": 1}, {"a": 2}, {"a": {"in": [3, 4]}}]}, "a in [1, 2, 3, 4]"),
        ({"OR": [{"a": 1}, {"b": 2}, {"a": "1"}]}, "(a in [1, '1'] OR b eq 2)"),
        ({"OR": [{"OR": [{"a": 1}, {"a": 2}]}, {"a": 3}]}, "a in [1, 2, 3]"),
        ({"NOT": [{"OR": [{"a": 1}, {"a": 2}]}]}, "NOT a in [1, 2]"),
        ({"AND": [{"a": 1}, {"a": 2}]}, "a eq 1 AND a eq 2"),
        ({"OR": [{"a": 1}, {"NOT": [{"a": 2}]}, {"NOT": [{"a": 3}]}]}, "(a eq 1 OR NOT a eq 2 OR NOT a eq 3)"),
    ],
)
def test_alternatives_of_one_field_are_one_condition(filters: dict[str, Any], native: str) -> None:
    """What a field may equal, named one by one, is looked up at once; what it may not be is left as it is."""
    assert _Words().plan(parse(filters)).native == native


def test_alternatives_that_no_engine_answers_are_one_condition_too() -> None:
    """The residual, evaluated row by row, has them in one `In`."""
    plan = _Words().plan(parse({"OR": [{"a": 1}, {"b": {"contains": "x"}}, {"a": 2}]}))
    assert plan.residual == Or((In("a", (1, 2)), Contains("b", "x")))


def test_the_edges_of_compiling() -> None:
    """Empty ANDs and ORs, alone, nested, negated and repeated, mean on an engine what they mean in the evaluator."""
    nothing, everything, exists = Or(()), And(()), Exists("a")
    for node in (
        nothing,
        everything,
        Not(nothing),
        Not(everything),
        Not(Not(nothing)),
        And((everything, nothing)),
        Or((nothing, everything)),
        Or((everything, everything)),
        Or((exists, exists, F.a == 2)),
        Not(And((everything, everything))),
        Not(Or((everything, nothing))),
        Or((And((everything,)), F.a == 1)),
        And((Not(everything), F.a == 1)),
    ):
        for seed in range(8):
            plan = _Engine(seed).plan(node)
            for fields in ({}, {"a": 1}):
                held = (plan.native is None or plan.native(fields)) and (
                    plan.residual is None or evaluate(plan.residual, fields)
                )
                assert held is evaluate(node, fields), (node, seed)


# -- rendering -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": "1"}),
        ({"a": "x"}, {"a": {"contains": "x"}}),
        ({"AND": [{"a": 1}, {"b": 2}]}, {"a eq 1 AND b": 2}),
        ({"OR": [{"a": 1}, {"b": 2}]}, {"OR": [{"a eq 1 OR b": 2}]}),
        ({"AND": [{"a": 1}, {"b": "*"}]}, {"a eq 1 AND b": "*"}),
        ({"NOT": [{"a": "*"}]}, {"NOT a": "*"}),
        ({"a": [1, 2]}, {"a": ["1, 2"]}),
        ({"a in": [1]}, {"a": {"in": [1]}}),
        ({"a": "2026-01-01"}, {"a": "2026-01-01T00:00:00"}),
        ({"created_at": {"gt": "2026-01-01"}}, {"created_at": {"gte": "2026-01-01"}}),
    ],
)
def test_rendering_tells_filters_apart(one: Any, other: Any) -> None:
    """A cursor knows its listing by the rendered filter: filters that mean different things render differently."""
    assert render(parse(one)) != render(parse(other))


def test_fields_of_a_filter() -> None:
    """Every field that a filter names, at any depth, by its one name."""
    filters = {
        "OR": [{"a": 1}, {"NOT": [{"b.c": {"gt": 1, "contains": 2}}]}],
        "text": {"icontains": "x"},
        "d": "*",
        "e": [1],
    }
    assert fields_of(parse(filters)) == {"a", "b.c", "data", "d", "e"}


# -- scope in filters ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "scope", "rest"),
    [
        ({"user_id": "alex"}, Scope("alex"), {}),
        ({"user_id": {"eq": "alex"}, "a": 1}, Scope("alex"), {"a": 1}),
        ({"AND": [{"user_id": "alex"}, {"a": 1}]}, Scope("alex"), {"a": 1}),
        ({"AND": [{"AND": [{"user_id": "alex"}]}, {"run_id": "r"}]}, Scope("alex", run_id="r"), {}),
        ({"user_id": "alex", "AND": [{"user_id": "alex"}]}, Scope("alex"), {}),
        ({"agent_id": "bot", "OR": [{"a": 1}, {"b": 1}]}, Scope(agent_id="bot"), {"OR": [{"a": 1}, {"b": 1}]}),
        ((F.user_id == "alex") & (F.a == 1), Scope("alex"), {"a": 1}),
        ({"user_id.x": 1}, Scope(), {"user_id.x": 1}),
        ({"a": 1}, Scope(), {"a": 1}),
    ],
)
def test_scope_at_the_top(filters: Any, scope: Scope, rest: Any) -> None:
    """Plain equality at the top, or inside ANDs there, narrows or supplies the scope and leaves the filter."""
    named, left = split_scope(parse(filters))
    assert named == scope
    assert left == parse(rest)


@pytest.mark.parametrize("name", ["user_id", "agent_id", "run_id"])
@pytest.mark.parametrize(
    "shape",
    [
        lambda name: {name: "*"},
        lambda name: {name: ["alex"]},
        lambda name: {name: []},
        lambda name: {name: {"in": ["alex", "bob"]}},
        lambda name: {name: {"ne": "bob"}},
        lambda name: {name: {"nin": ["bob"]}},
        lambda name: {name: {"contains": "a"}},
        lambda name: {name: {"icontains": ""}},
        lambda name: {name: {"exists": True}},
        lambda name: {name: {"exists": False}},
        lambda name: {name: {"gte": "2026-01-01"}},
        lambda name: {name: {"eq": "alex", "ne": "bob"}},
        lambda name: {"OR": [{name: "alex"}]},
        lambda name: {"OR": [{"a": 1}, {"AND": [{name: "bob"}]}]},
        lambda name: {"NOT": [{name: "bob"}]},
        lambda name: {"NOT": [{"NOT": [{name: "alex"}]}]},
        lambda name: {"AND": [{"OR": [{name: "alex"}]}]},
        lambda name: {name: "alex", "AND": [{name: "bob"}]},
        lambda name: {"AND": [{name: "alex"}, {name: "bob"}]},
        lambda name: {name: 5},
        lambda name: {name: True},
        lambda name: {name: ""},
        lambda name: {name: " "},
        lambda name: {name: " alex"},
        lambda name: ~(F[name] == "alex"),
        lambda name: (F[name] == "alex") | (F.a == 1),
        lambda name: F[name].exists(),
        lambda name: F[name] != "bob",
    ],
)
def test_scope_anywhere_else_is_refused(name: str, shape: Any) -> None:
    """An owner under OR or NOT, by another operator, as "*", of another type, or beside another one: `ScopeError`."""
    with pytest.raises(ScopeError):
        split_scope(parse(shape(name)))


@pytest.mark.parametrize(
    ("filters", "where", "problem", "way_out"),
    [
        ({"user_id": "a", "run_id": "*"}, "filters.run_id", "any id", "Leave it out"),
        ({"AND": [{"run_id": {"exists": True}}]}, "filters.AND[0].run_id.exists", "any id", "Leave it out"),
        (F.run_id.exists(), "filters.run_id.exists", "any id", "Leave it out"),
        ({"run_id": {"exists": False}}, "filters.run_id.exists", "only equal", "plain value"),
        ({"run_id": {"ne": "r"}}, "filters.run_id.ne", "only equal", "plain value"),
        ({"run_id": ["r", "s"]}, "filters.run_id", "only equal", "once for each"),
        ({"run_id": {"gte": "2026-01-01"}}, "filters.run_id.gte", "only equal", "plain value"),
        ({"NOT": [{"run_id": "r"}]}, "filters.NOT[0].run_id", "only equal", "leave it out"),
        (F.run_id != "r", "filters.run_id", "only equal", "leave it out"),
        ({"OR": [{"run_id": "r"}, {"a": 1}]}, "filters: run_id", "widen or replace", "as an argument"),
        ({"NOT": [{"OR": [{"run_id": "r"}, {"a": 1}]}]}, "filters: run_id", "widen or replace", "as an argument"),
    ],
    ids=str,
)
def test_why_an_owner_is_refused(filters: Any, where: str, problem: str, way_out: str) -> None:
    """The error names the place of the id, says what is wrong with it there, and tells what can be done instead."""
    with pytest.raises(ScopeError) as caught:
        split_scope(parse(filters))
    assert caught.value.field == where
    assert problem in caught.value.problem
    assert way_out in caught.value.hint


@examples(100)
@given(_cases())
def test_splitting_keeps_the_rest(case: tuple[list[dict[str, Any]], Any, int]) -> None:
    """Taking the scope out of a filter leaves what selects the same among that scope's memories."""
    memories, spec, _ = case
    scope, rest = split_scope(parse({"AND": [{"user_id": "alex"}, as_node(spec)]}))
    assert scope == Scope("alex")
    assert scope_filter(scope) == (F.user_id == "alex")
    for fields in memories:
        assert evaluate(rest, {**fields, "user_id": "alex"}) is holds(spec, fields)
