"""Mem0's dict syntax: ``{"AND": [{"category": "projects"}, {"due": {"gte": "2026-01-01"}}]}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from memstack.errors import FilterError, describe, nearest
from memstack.filters.ast import (
    ALL,
    And,
    Compare,
    Contains,
    Eq,
    Exists,
    IContains,
    In,
    Node,
    Not,
    Or,
    all_of,
    canonical_field,
)

__all__ = ["OPERATORS", "parse"]

OPERATORS: Final = ("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "icontains", "exists")
_LONGEST_SHOWN: Final = 64
_MAX_DEPTH: Final = 64
_NODES: Final = 2  # levels of nodes that one level of a mapping becomes at most: several fields, and an OR among them


def parse(filters: Node | Mapping[str, Any] | None) -> Node:
    """Read a filter in either spelling.

    Args:
        filters: a `Node` made with ``F``, a mapping in Mem0's syntax, or None for everything.

    Returns:
        The filter.

    Raises:
        FilterError: naming the place in the filter that has no meaning.
    """
    if filters is None:
        return ALL
    return _mapping(filters, "filters", _MAX_DEPTH)


def _mapping(value: object, where: str, depth: int) -> Node:
    if isinstance(value, Node):
        return _not_too_deep(value, _NODES * (depth + 1))
    if not isinstance(value, Mapping):
        raise FilterError(where, f"is {describe(value)}, not a mapping", 'As in {"category": "projects"}.')
    if depth <= 0:
        raise FilterError(
            "filters", f"is nested deeper than {_MAX_DEPTH} levels", "Flatten it: AND and OR take long lists."
        )
    parts = [_entry(key, item, where, depth) for key, item in value.items()]
    return all_of(*parts) if parts else ALL


def _not_too_deep(node: Node, levels: int) -> Node:
    """The node, where its visitors can follow it."""
    level = [node]
    while level:
        if levels <= 0:
            raise FilterError(
                "filters", f"is nested deeper than {_MAX_DEPTH} levels", "Flatten it: AND and OR take long lists."
            )
        levels -= 1
        below = [child for parent in level for child in _children(parent)]
        level = list({id(child): child for child in below}.values())
    return node


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, (And, Or)):
        return node.children
    return (node.child,) if isinstance(node, Not) else ()


def _entry(key: object, value: object, where: str, depth: int) -> Node:
    if isinstance(key, str) and key in ("AND", "OR", "NOT"):
        return _logical(key, value, f"{where}.{key}", depth)
    if isinstance(key, str) and key.startswith("$"):
        guess = key[1:].upper()
        hint = f"Write {guess!r}." if guess in ("AND", "OR", "NOT") else "Operators have no '$'."
        raise FilterError(f"{where}.{key}", "is neither a field nor an operator", hint)
    field = canonical_field(key, where)
    place = f"{where}.{key}"
    if field.upper() in ("AND", "OR", "NOT") and _holds_filters(value):
        raise FilterError(place, "holds filters, and is a field as it is written", f"Write {field.upper()!r}.")
    if isinstance(value, Mapping):
        if not value:
            raise FilterError(place, "has no operator", f"Known: {', '.join(OPERATORS)}.")
        return all_of(*(_operator(field, op, operand, place) for op, operand in value.items()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return In(field, tuple(value), place)
    if isinstance(value, str) and value == "*":
        return Exists(field, place)
    return Eq(field, value, place)  # type: ignore[arg-type]  # checked there


def _holds_filters(value: object) -> bool:
    """Whether a value is that of AND, OR or NOT: no field has one of its kind."""
    if isinstance(value, (list, tuple)):
        return any(isinstance(item, (Mapping, Node)) for item in value)
    return isinstance(value, Node) or (isinstance(value, Mapping) and any(name not in OPERATORS for name in value))


def _logical(operator: str, value: object, where: str, depth: int) -> Node:
    if not isinstance(value, (list, tuple)):
        raise FilterError(where, f"is {describe(value)}, and {operator} takes a list of filters", "Put it in brackets.")
    children = tuple(_mapping(child, f"{where}[{i}]", depth - 1) for i, child in enumerate(value))
    if operator == "AND":
        return And(children)
    if operator == "OR":
        return Or(children)
    return And(tuple(Not(child) for child in children))


def _operator(field: str, op: Any, operand: Any, where: str) -> Node:  # one line an operator
    if not isinstance(op, str):
        raise FilterError(where, f"an operator is {describe(op)}, not a string", f"Known: {', '.join(OPERATORS)}.")
    place = f"{where}.{op}"
    match op:
        case "eq":
            return Eq(field, operand, place)
        case "ne":
            return Not(Eq(field, operand, place))
        case "in":
            return In(field, operand, place)
        case "nin":
            return Not(In(field, operand, place))
        case "gt" | "gte" | "lt" | "lte" as comparison:
            return Compare(field, comparison, operand, place)
        case "contains":
            return Contains(field, operand, place)
        case "icontains":
            return IContains(field, operand, place)
        case "exists":
            if not isinstance(operand, bool):
                raise FilterError(
                    place, f"is {describe(operand)}, and `exists` takes true or false", 'Or write {"field": "*"}.'
                )
            return Exists(field, place) if operand else Not(Exists(field, place))
        case _:
            pass
    guess = nearest(op.lstrip("$"), OPERATORS)
    hint = f"Did you mean {guess!r}? " if guess else ""
    dotted = f"{field}.{op}"
    if op and not op.startswith("$") and len(dotted) <= _LONGEST_SHOWN:
        hint += f'A nested field is written {{"{dotted}": …}}. '
    raise FilterError(place, "is not an operator", f"{hint}Known: {', '.join(OPERATORS)}.")
