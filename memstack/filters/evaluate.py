"""The meaning of a filter, in plain Python: the reference that every engine is compared with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Hashable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

from memstack.filters.ast import OWN, And, Compare, Contains, Eq, Exists, IContains, In, Node, Not, Or
from memstack.filters.visit import FilterVisitor
from memstack.instants import as_instant

__all__ = ["comparable", "equal", "evaluate", "is_number", "resolve"]

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_FEW: Final = 8  # values, or parts of a path: so many are tried one by one


def evaluate(node: Node, fields: Mapping[str, Any], own: Callable[[str], Collection[str]] | None = None) -> bool:
    """Whether a filter holds for a memory.

    Args:
        node: the filter.
        fields: the memory's fields by name, its metadata among them (see `memstack.payload.fields`).
        own: tells what the memory has in a field of the library's own, such as `WORD`; only filters of the library name
            any.
    """
    return _Evaluator(fields, own).visit(node)


def resolve(fields: Mapping[str, Any], path: str) -> Any:
    """The value of a field; None where it is missing or null.

    A name with dots is looked up as it is written first, then as a path into nested mappings, split at each dot from
    the left.
    """
    value = fields.get(path)
    if value is not None:
        return value
    if "." not in path:
        return None
    for name in _beginnings(fields, path):
        inner = fields.get(name)
        if isinstance(inner, Mapping):
            value = resolve(inner, path[len(name) + 1 :])
            if value is not None:
                return value
    return None


def _beginnings(fields: Mapping[str, Any], path: str) -> list[str]:
    """The names that a path may begin with, the shortest first."""
    dots = path.count(".")
    if dots <= _FEW:
        parts = path.split(".")
        return [".".join(parts[:end]) for end in range(1, dots + 1)]
    # A caller may write a hundred thousand dots; the names that are there are fewer.
    return sorted((name for name in fields if path.startswith(f"{name}.")), key=len)


def is_number(value: object) -> bool:
    """An int or a float, but not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(value: Any, other: Any) -> bool:
    """Equality of filters: numbers as numbers, instants as instants, all else by type and value."""
    key = comparable(value)
    return key is not None and key == comparable(other)


def comparable(value: object) -> tuple[str, Hashable] | None:
    """A key of a value: equal for just those values that are `equal`; None for what equals nothing."""
    if isinstance(value, bool):
        return "bool", bool(value)
    if isinstance(value, (int, float)):
        return "number", value
    if isinstance(value, str):
        return "text", value
    if isinstance(value, date):  # a datetime is a date
        return "instant", as_instant(value)
    return None


class _Same:
    """Some values, which are compared by being the same object: to hash them takes as long as to compare them all."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values

    def __hash__(self) -> int:
        return id(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.values is other.values


@lru_cache(maxsize=8)  # a filter is evaluated on row after row
def _keys(same: _Same) -> frozenset[tuple[str, Hashable]]:
    return frozenset(key for key in map(comparable, same.values) if key is not None)


@lru_cache(maxsize=8)  # likewise
def _folded(value: str) -> str:
    return value.casefold()


class _Evaluator(FilterVisitor[bool]):
    def __init__(self, fields: Mapping[str, Any], own: Callable[[str], Collection[str]] | None) -> None:
        self._fields = fields
        self._own = own

    def visit_and(self, node: And) -> bool:
        return all(self.visit(child) for child in node.children)

    def visit_or(self, node: Or) -> bool:
        return any(self.visit(child) for child in node.children)

    def visit_not(self, node: Not) -> bool:
        return not self.visit(node.child)

    def visit_eq(self, node: Eq) -> bool:
        if node.field in OWN:
            return self._has_any(node.field, (node.value,))
        return equal(resolve(self._fields, node.field), node.value)

    def visit_in(self, node: In) -> bool:
        if node.field in OWN:
            return self._has_any(node.field, node.values)
        key = comparable(resolve(self._fields, node.field))
        if len(node.values) <= _FEW:
            return key is not None and any(key == comparable(candidate) for candidate in node.values)
        return key in _keys(_Same(node.values))

    def _has_any(self, field: str, values: tuple[Any, ...]) -> bool:
        if self._own is None:
            raise LookupError(f"nobody tells what a memory has in {field!r}")
        return any(value in values for value in self._own(field))

    def visit_compare(self, node: Compare) -> bool:
        value = resolve(self._fields, node.field)
        if is_number(value) and is_number(node.bound):
            return _ORDER[node.op](value, node.bound)
        if is_number(value) or is_number(node.bound):
            return False
        instant, bound = as_instant(value), as_instant(node.bound)
        return instant is not None and bound is not None and _ORDER[node.op](instant, bound)

    def visit_contains(self, node: Contains) -> bool:
        value = resolve(self._fields, node.field)
        if isinstance(value, str):
            return isinstance(node.value, str) and node.value in value
        if isinstance(value, (list, tuple)):
            return any(equal(member, node.value) for member in value)
        return False

    def visit_icontains(self, node: IContains) -> bool:
        value = resolve(self._fields, node.field)
        return isinstance(value, str) and _folded(node.value) in value.casefold()

    def visit_exists(self, node: Exists) -> bool:
        return resolve(self._fields, node.field) is not None
