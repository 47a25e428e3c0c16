"""The nodes of a filter. Checked when they are made, so that a node that exists has a meaning.

`ne` is ``Not(Eq)``, `nin` is ``Not(In)``: the complement by construction.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from memstack.errors import FilterError, describe, named
from memstack.instants import as_instant
from memstack.metadata import Scalar, check_text, check_value, plain_text

__all__ = [
    "ALL",
    "FINGERPRINT",
    "INSTANT_FIELDS",
    "NAME",
    "NOTHING",
    "OWN",
    "PLACE",
    "WORD",
    "And",
    "Compare",
    "ComparisonOp",
    "Contains",
    "Eq",
    "Exists",
    "IContains",
    "In",
    "Node",
    "Not",
    "Or",
    "Scalar",
    "all_of",
    "canonical_field",
    "check_scalar",
]

ComparisonOp = Literal["gt", "gte", "lt", "lte"]

# Fields of a memory that are instants by declaration: ISO text in a filter is read as an instant there.
INSTANT_FIELDS: Final = frozenset({"created_at", "updated_at", "occurred_at", "expires_at", "valid_from", "valid_to"})
# What makes a memory a duplicate, as a field that stores index (`memstack.stores.index`) and only the library filters
# by, with `Eq` and `In`: no caller can name it, since names hold no NUL.
FINGERPRINT: Final = "\0fingerprint"
# Likewise what retrieval asks for: a word of the text, a word of the speaker's name, the place in a run.
WORD: Final = "\0word"
NAME: Final = "\0name"
PLACE: Final = "\0place"
OWN: Final = frozenset({FINGERPRINT, WORD, NAME, PLACE})  # all of them; a memory may have several values in one
# The text of a memory has three names: ours, Mem0's payload's, Mem0's results'.
_ALIASES: Final = {"text": "data", "memory": "data"}


def canonical_field(field: object, where: str = "filters") -> str:
    """The one name of a field.

    Raises:
        FilterError: it is not a non-empty string, or looks like an operator.
    """
    if not isinstance(field, str):
        raise FilterError(
            where, f"a field name is {describe(field)}, not a string", "Name a field of the metadata or of a memory."
        )
    field = plain_text(field)
    if field.isidentifier() and field.isascii():  # as most are
        return _ALIASES.get(field, field)
    if field is WORD or field is FINGERPRINT or field is NAME or field is PLACE:
        return field
    if not field:
        raise FilterError(where, "a field name is empty", "Name a field of the metadata or of a memory.")
    if field.startswith("$"):
        raise FilterError(f"{where}.{field}", "is not a field", "Operators have no '$': use AND, OR, NOT, gte, in, …")
    check_text(where, field, FilterError)
    return _ALIASES.get(field, field)


def check_scalar(value: object, where: str) -> Scalar:
    """A value that can be compared with the values of metadata.

    Raises:
        FilterError: it is null, NaN, an integer beyond 64 bits, or of another type.
    """
    if value is None:
        raise FilterError(
            where, "is null, and null equals nothing", 'To find where a field is missing: {"NOT": [{"field": "*"}]}.'
        )
    return check_value(
        value,
        where,
        FilterError,
        "Use str, int, float, bool, date or datetime; for lists `in`, `nin` or `contains`.",
    )


class Node:
    """A filter. Combine with ``&``, ``|`` and ``~``."""

    __slots__ = ()

    def __and__(self, other: Node) -> Node:
        return And((*_parts(self, And), *_parts(_node(other), And)))

    def __or__(self, other: Node) -> Node:
        return Or((*_parts(self, Or), *_parts(_node(other), Or)))

    def __invert__(self) -> Node:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise FilterError(
            "filters",
            "a filter has no truth value",
            "Combine with & | ~ (not and, or, not), and put comparisons in parentheses.",
        )


@dataclass(frozen=True, slots=True)
class And(Node):
    """All hold; with no children, everything does."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or(Node):
    """At least one holds; with no children, nothing does."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """The complement."""

    child: Node


@dataclass(frozen=True, slots=True)
class Eq(Node):
    """The field is present, not null, and equal. ``1 == 1.0``; ``True`` is not ``1``; strings are exact."""

    field: str
    value: Scalar
    where: str = dataclasses.field(default="filters", compare=False, repr=False)

    def __post_init__(self) -> None:
        _init_field(self)
        _set(self, "value", _operand(self.field, self.value, self.where))


@dataclass(frozen=True, slots=True)
class In(Node):
    """Equal to any of the values."""

    field: str
    values: tuple[Scalar, ...]
    where: str = dataclasses.field(default="filters", compare=False, repr=False)

    def __post_init__(self) -> None:
        _init_field(self)
        if not isinstance(self.values, (list, tuple, set, frozenset)):
            raise FilterError(
                self.where, f"is {describe(self.values)}, and `in` takes a list", "Put the values in brackets."
            )
        checked = (_operand(self.field, value, f"{self.where}[{i}]") for i, value in enumerate(self.values))
        _set(self, "values", tuple(checked))


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """Both numbers or both instants, and in this order; otherwise it does not hold."""

    field: str
    op: ComparisonOp
    bound: Scalar
    where: str = dataclasses.field(default="filters", compare=False, repr=False)

    def __post_init__(self) -> None:
        _init_field(self)
        if self.op not in ("gt", "gte", "lt", "lte"):
            raise FilterError(self.where, f"unknown comparison {named(self.op)}", "Known: gt, gte, lt, lte.")
        bound = check_scalar(self.bound, self.where)
        is_number = isinstance(bound, (int, float)) and not isinstance(bound, bool)
        if not is_number and as_instant(bound) is None:
            raise FilterError(
                self.where,
                f"is {describe(self.bound)}, and a bound is a number or an instant",
                "Pass an int, a float, a date, a datetime, or ISO text such as 2026-01-31 or 2026-01-31T08:00:00Z.",
            )
        if is_number and self.field in INSTANT_FIELDS:
            raise FilterError(self.where, "is a number, and the field is an instant", "Pass a datetime or ISO text.")
        _set(self, "bound", bound)


@dataclass(frozen=True, slots=True)
class Contains(Node):
    """A string holds this one (case counts); a list has this member."""

    field: str
    value: Scalar
    where: str = dataclasses.field(default="filters", compare=False, repr=False)

    def __post_init__(self) -> None:
        _init_field(self)
        _set(self, "value", check_scalar(self.value, self.where))


@dataclass(frozen=True, slots=True)
class IContains(Node):
    """A string holds this one, whatever the case."""

    field: str
    value: str
    where: str = dataclasses.field(default="filters", compare=False, repr=False)

    def __post_init__(self) -> None:
        _init_field(self)
        if not isinstance(self.value, str):
            raise FilterError(
                self.where,
                f"is {describe(self.value)}, and `icontains` takes a string",
                "For numbers and dates use `eq` or `in`.",
            )
        _set(self, "value", check_scalar(self.value, self.where))


@dataclass(frozen=True, slots=True)
class Exists(Node):
    """The field is present and not null."""

    field: str
    where: str = dataclasses.field(default="filters", compare=False, repr=False)

    def __post_init__(self) -> None:
        _init_field(self)


ALL: Final = And(())
NOTHING: Final = Or(())


def all_of(*nodes: Node | None) -> Node:
    """The conjunction of some filters, flattened; None and `ALL` among them say nothing."""
    flat: list[Node] = []
    for node in nodes:
        if isinstance(node, And):
            flat.extend(node.children)
        elif node is not None:
            flat.append(node)
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def _node(value: object) -> Node:
    if not isinstance(value, Node):
        raise FilterError("filters", f"a filter is combined with {describe(value)}", "Put comparisons in parentheses.")
    return value


def _parts(node: Node, kind: type[And | Or]) -> tuple[Node, ...]:
    """The children of a node of this kind, so that long chains stay flat; else the node alone."""
    return node.children if isinstance(node, kind) else (node,)


def _init_field(node: Any) -> None:
    _set(node, "field", canonical_field(node.field, node.where))


def _operand(field: str, value: object, where: str) -> Scalar:
    """A value for equality. On fields that are instants by declaration, it is an instant too."""
    if field not in INSTANT_FIELDS:
        return check_scalar(value, where)
    instant = as_instant(check_scalar(value, where))
    if instant is None:
        raise FilterError(where, f"is {describe(value)}, and the field is an instant", "Pass a datetime or ISO text.")
    return instant


def _set(node: object, name: str, value: object) -> None:
    object.__setattr__(node, name, value)
