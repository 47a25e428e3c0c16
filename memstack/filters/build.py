"""The builder: ``(F.category == "projects") & (F.due < date(2026, 1, 1))``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from memstack.errors import FilterError, UnknownOperator, named, nearest
from memstack.filters.ast import Compare, Contains, Eq, Exists, IContains, In, Node, Not

__all__ = ["F", "Field"]

_OPERATORS: Final = ("in_", "nin", "contains", "icontains", "exists")
_LONGEST_SHOWN: Final = 64


class Field:
    """A field in a filter. Comparing it makes a `Node`; every wrong value is a `FilterError` at once."""

    __slots__ = ("_name",)
    __hash__ = None  # type: ignore[assignment]  # == makes a filter, so a field is no key

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"F[{named(self._name)}]"

    def _place(self, operator: str = "") -> str:
        """The place in the filter, for messages; a name that is no string has none."""
        name: object = self._name
        place = f"filters.{name}" if isinstance(name, str) else "filters"
        return f"{place}.{operator}" if operator else place

    def __bool__(self) -> NoReturn:
        # ``F.archived and (F.n == 1)`` would be the second condition alone.
        name = self._name
        shown = f"F.{name}" if isinstance(name, str) and name.isidentifier() else repr(self)
        raise FilterError(
            self._place(),
            "has no truth value",
            f"Compare it, as in {shown} == True, or ask {shown}.exists(); combine with & | ~ (not and, or, not).",
        )

    if not TYPE_CHECKING:  # to a type checker what a field has not is an error as it stands

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            guess = nearest(name, _OPERATORS)
            hint = f"Did you mean {guess!r}? " if guess else ""
            dotted = f"{self._name}.{name}"
            nested = dotted if len(dotted) <= _LONGEST_SHOWN else f"….{name}"
            hint += f'A nested field is written F["{nested}"]. Known: {", ".join(_OPERATORS)}.'
            raise UnknownOperator(self._place(name), "is no operator of a field", hint)

    def __eq__(self, value: object) -> Node:  # type: ignore[override]  # the builder's point
        return Eq(self._name, value, self._place())  # type: ignore[arg-type]  # checked there

    def __ne__(self, value: object) -> Node:  # type: ignore[override]
        return Not(Eq(self._name, value, self._place()))  # type: ignore[arg-type]

    def __gt__(self, bound: Any) -> Node:
        return Compare(self._name, "gt", bound, self._place("gt"))

    def __ge__(self, bound: Any) -> Node:
        return Compare(self._name, "gte", bound, self._place("gte"))

    def __lt__(self, bound: Any) -> Node:
        return Compare(self._name, "lt", bound, self._place("lt"))

    def __le__(self, bound: Any) -> Node:
        return Compare(self._name, "lte", bound, self._place("lte"))

    def in_(self, values: Iterable[Any]) -> Node:
        """Equal to any of the values."""
        return In(self._name, _values(values), self._place("in"))

    def nin(self, values: Iterable[Any]) -> Node:
        """Equal to none of the values; holds where the field is missing."""
        return Not(In(self._name, _values(values), self._place("nin")))

    def contains(self, value: Any) -> Node:
        """A string that holds this one, or a list with this member."""
        return Contains(self._name, value, self._place("contains"))

    def icontains(self, value: str) -> Node:
        """A string that holds this one, whatever the case."""
        return IContains(self._name, value, self._place("icontains"))

    def exists(self) -> Node:
        """Present and not null."""
        return Exists(self._name, self._place("exists"))


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
