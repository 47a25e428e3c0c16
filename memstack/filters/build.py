"""The builder: ``(F.category == "projects") & (F.due < date(2026, 1, 1))``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memstack.filters.ast import Compare, Contains, Eq, Exists, IContains, In, Node, Not

__all__ = ["F", "Field"]


class Field:
    """A field in a filter. Comparing it makes a `Node`; every wrong value is a `FilterError` at once."""

    __slots__ = ("_name",)
    __hash__ = None  # type: ignore[assignment]  # == makes a filter, so a field is no key

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"F[{self._name!r}]"

    def __eq__(self, value: object) -> Node:  # type: ignore[override]  # the builder's point
        return Eq(self._name, value, f"filters.{self._name}")  # type: ignore[arg-type]  # checked there

    def __ne__(self, value: object) -> Node:  # type: ignore[override]
        return Not(Eq(self._name, value, f"filters.{self._name}"))  # type: ignore[arg-type]

    def __gt__(self, bound: Any) -> Node:
        return Compare(self._name, "gt", bound, f"filters.{self._name}.gt")

    def __ge__(self, bound: Any) -> Node:
        return Compare(self._name, "gte", bound, f"filters.{self._name}.gte")

    def __lt__(self, bound: Any) -> Node:
        return Compare(self._name, "lt", bound, f"filters.{self._name}.lt")

    def __le__(self, bound: Any) -> Node:
        return Compare(self._name, "lte", bound, f"filters.{self._name}.lte")

    def in_(self, values: Iterable[Any]) -> Node:
        """Equal to any of the values."""
        return In(self._name, _values(values), f"filters.{self._name}.in")

    def nin(self, values: Iterable[Any]) -> Node:
        """Equal to none of the values; holds where the field is missing."""
        return Not(In(self._name, _values(values), f"filters.{self._name}.nin"))

    def contains(self, value: Any) -> Node:
        """A string that holds this one, or a list with this member."""
        return Contains(self._name, value, f"filters.{self._name}.contains")

    def icontains(self, value: str) -> Node:
        """A string that holds this one, whatever the case."""
        return IContains(self._name, value, f"filters.{self._name}.icontains")

    def exists(self) -> Node:
        """Present and not null."""
        return Exists(self._name, f"filters.{self._name}.exists")


def _values(values: Any) -> Any:
    """What `In` checks: an iterable becomes a tuple; a string stays one, and is refused there."""
    return values if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)


class _Fields:
    """``F.name`` and ``F["any name"]``: a dotted name reaches into nested mappings."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__"):
            raise AttributeError(name)
        return Field(name)

    def __getitem__(self, name: str) -> Field:
        return Field(name)

    def __repr__(self) -> str:
        return "F"


F = _Fields()
