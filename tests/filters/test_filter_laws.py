"""The laws of the language, and the evaluator against an oracle that shares no code with it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memstack.filters import And, Node, Not, Or, evaluate, parse
from memstack.testing.contract.oracle import Spec, holds
from memstack.testing.contract.strategies import (
    Drawn,
    Seeded,
    a_filter,
    a_metadata,
    a_spec,
    as_dict,
    as_node,
    examples,
    vocabulary_of,
)

ALL, NOTHING = And(()), Or(())


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[Spec]]:
    """Some memories' metadata, and three filters over their fields and values."""
    source = Drawn(draw)
    memories = [a_metadata(source) for _ in range(draw(st.integers(1, 4)))]
    words = vocabulary_of(memories)
    return memories, [a_spec(source, words, 3) for _ in range(3)]


def _split(node: Node, memories: list[dict[str, Any]]) -> tuple[bool, ...]:
    return tuple(evaluate(node, fields) for fields in memories)


@examples(250)
@given(_worlds())
def test_laws(world: tuple[list[dict[str, Any]], list[Spec]]) -> None:
    """NOT NOT p is p; p and NOT p split; De Morgan; all and none are neutral and absorbing; AND and OR commute."""
    memories, specs = world
    p, q, r = (as_node(spec) for spec in specs)
    of_p, of_q = _split(p, memories), _split(q, memories)
    assert _split(~~p, memories) == of_p
    assert _split(~p, memories) == tuple(not held for held in of_p)
    assert _split(p & q, memories) == _split(q & p, memories) == tuple(map(min, of_p, of_q))
    assert _split(p | q, memories) == _split(q | p, memories) == tuple(map(max, of_p, of_q))
    assert _split(~(p & q), memories) == _split(~p | ~q, memories)
    assert _split(~(p | q), memories) == _split(~p & ~q, memories)
    assert _split(p & (q | r), memories) == _split((p & q) | (p & r), memories)
    assert _split(p | (q & r), memories) == _split((p | q) & (p | r), memories)
    everything = tuple(True for _ in memories)
    assert _split(p & ALL, memories) == of_p == _split(p | NOTHING, memories)
    assert _split(p | ALL, memories) == everything == _split(~(p & NOTHING), memories)
    assert _split(p | ~p, memories) == everything == _split(~(p & ~p), memories)


@examples(150)
@given(_worlds())
def test_complements_by_name(world: tuple[list[dict[str, Any]], list[Spec]]) -> None:
    """`ne` is NOT `eq`, `nin` is NOT `in`, `in` is OR of `eq`, ``NOT [a, b]`` is NOT (a OR b)."""
    memories, (p, q, _) = world
    source = Seeded(0)
    both = [as_dict(source, p), as_dict(source, q)]
    assert _split(parse({"NOT": both}), memories) == _split(Not(parse({"OR": both})), memories)
    assert _split(parse({"AND": both}), memories) == _split(parse(both[0]) & parse(both[1]), memories)
    for name, values in vocabulary_of(memories).values.items():
        if name.startswith("$") or not values:
            continue
        one = parse({name: {"eq": values[0]}})
        assert _split(parse({name: {"ne": values[0]}}), memories) == _split(Not(one), memories)
        some = Or(tuple(parse({name: {"eq": value}}) for value in values))
        assert _split(parse({name: {"in": list(values)}}), memories) == _split(some, memories)
        assert _split(parse({name: {"nin": list(values)}}), memories) == _split(Not(some), memories)


@examples(250)
@given(_worlds(), st.data())
def test_the_evaluator_equals_the_oracle(world: tuple[list[dict[str, Any]], list[Spec]], data: st.DataObject) -> None:
    """However a filter is spelled, the evaluator and a naive one written from the blueprint's table agree."""
    memories, specs = world
    for spec in specs:
        filters = a_filter(Drawn(data.draw), spec)
        for fields in memories:
            expected = holds(spec, fields)
            assert evaluate(parse(filters), fields) is expected, filters
            assert evaluate(as_node(spec), fields) is expected


def test_the_evaluator_equals_the_oracle_on_thousands() -> None:
    """6 000 seeded filters over 40 memories agree with the oracle, and about half of them match something."""
    source = Seeded(2026)
    memories = [a_metadata(source) for _ in range(40)]
    words = vocabulary_of(memories)
    matching = 0
    for _ in range(6000):
        spec = a_spec(source, words)
        node = parse(a_filter(source, spec))
        found = _split(node, memories)
        assert found == tuple(holds(spec, fields) for fields in memories), spec
        matching += 0 < sum(found) < len(memories)
    assert 0.35 < matching / 6000 < 0.75


@examples(100)
@given(_worlds(), st.data())
def test_spellings_are_equal_nodes(world: tuple[list[dict[str, Any]], list[Spec]], data: st.DataObject) -> None:
    """Nodes are values: the same mapping gives equal nodes with equal hashes, and a node parses to itself."""
    _, (spec, *_) = world
    filters = as_dict(Drawn(data.draw), spec)
    first, second = parse(filters), parse(filters)
    assert first == second
    assert hash(first) == hash(second)
    assert parse(first) is first
