"""Visitors: what engines' compilers are made of. A visitor that leaves out a node cannot be defined."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any, ClassVar, Final, Generic, TypeVar

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
)

__all__ = ["NODES", "Compiled", "FilterCompiler", "FilterVisitor", "Plan", "fields_of", "render"]

NODES: Final[tuple[type[Node], ...]] = (And, Or, Not, Eq, In, Compare, Contains, IContains, Exists)

T = TypeVar("T")


_METHODS: Final[dict[type[Node], str]] = {node: f"visit_{node.__name__.lower()}" for node in NODES}


class FilterVisitor(Generic[T]):
    """Dispatch on the type of a node. A subclass defines ``visit_<node>`` for every node.

    A class attribute ``partial = True`` marks a base whose subclasses do.

    Raises:
        TypeError: when a subclass is defined that leaves a node out.
    """

    partial: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("partial", False):
            return
        cls.partial = False
        missing = [method for method in _METHODS.values() if not callable(getattr(cls, method, None))]
        if missing:
            raise TypeError(f"{cls.__name__} handles no {', '.join(missing)}: every filter node needs a visitor")

    def visit(self, node: Node) -> T:
        """The result for a node."""
        result: T = getattr(self, _METHODS[type(node)])(node)
        return result


@dataclass(frozen=True, slots=True)
class Compiled(Generic[T]):
    """An engine's condition for a node.

    Attributes:
        condition: in the engine's own terms.
        exact: whether it selects just the memories that the node does. Otherwise it selects some more, never fewer,
            and the node is evaluated again on what comes back.
    """

    condition: T
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """How an engine answers a filter.

    Attributes:
        native: the condition that the engine evaluates; None is everything.
        residual: what is evaluated on the candidates that come back; None is nothing.
        pushed: the parts that the engine answers, in words, for `explain`.
    """

    native: T | None
    residual: Node | None
    pushed: tuple[Node, ...] = ()

    def explain(self) -> dict[str, Any]:
        """The plan in words: ``{"pushed_down": […], "residual": …}``."""
        return {
            "pushed_down": [render(part) for part in self.pushed],
            "residual": None if self.residual is None else render(self.residual),
        }


class FilterCompiler(FilterVisitor[Compiled[T] | None], ABC):
    """Compiles filters for an engine. A subclass defines the leaves and how conditions combine.

    A leaf's visitor returns None where the engine cannot narrow the candidates at all.

    Attributes:
        largest: how much an engine takes in one query, as `size` measures it. What is beyond it is left out of the
            condition, and is part of the residual.
    """

    partial = True
    largest: ClassVar[float] = math.inf

    @abstractmethod
    def conjunction(self, conditions: Sequence[T]) -> T:
        """All of at least one condition."""

    @abstractmethod
    def disjunction(self, conditions: Sequence[T]) -> T:
        """Any of at least one condition."""

    @abstractmethod
    def negation(self, condition: T) -> T:
        """The complement of an exact condition."""

    @abstractmethod
    def nothing(self) -> T:
        """A condition that never holds."""

    def size(self, condition: T) -> int:  # noqa: ARG002  # for those that have a largest one
        """How much of `largest` a condition takes."""
        return 0

    def _fitting(self, nodes: Sequence[Node]) -> Iterator[tuple[Node, Compiled[T] | None]]:
        """Nodes with their conditions, of which as many as the engine takes in one query, from the first on."""
        room = self.largest
        for node in nodes:
            compiled = self.visit(node)
            if compiled is not None and (size := self.size(compiled.condition)) <= room:
                room -= size
                yield node, compiled
            else:
                yield node, None

    def plan(self, node: Node) -> Plan[T]:
        """Push down what the engine can answer; the rest is the residual."""
        node = _gathered(node)
        conjuncts = node.children if isinstance(node, And) else (node,)
        native: list[T] = []
        residual: list[Node] = []
        pushed: list[Node] = []
        for part, compiled in self._fitting(conjuncts):
            if compiled is not None:
                native.append(compiled.condition)
                pushed.append(part)
            if compiled is None or not compiled.exact:
                residual.append(part)
        return Plan(
            self.conjunction(native) if native else None,
            all_of(*residual) if residual else None,
            tuple(pushed),
        )

    def visit_and(self, node: And) -> Compiled[T] | None:
        """What can be pushed down of the children; exact when all of it can."""
        parts = [part for _, part in self._fitting(node.children)]
        found = [part for part in parts if part is not None]
        if not found:
            return None
        exact = len(found) == len(parts) and all(part.exact for part in found)
        return Compiled(self.conjunction([part.condition for part in found]), exact)

    def visit_or(self, node: Or) -> Compiled[T] | None:
        """Only as a whole: a child that cannot be pushed down may hold anywhere."""
        if not node.children:
            return Compiled(self.nothing())
        parts: list[Compiled[T]] = []
        for _, part in self._fitting(node.children):
            if part is None:
                return None
            parts.append(part)
        return Compiled(self.disjunction([part.condition for part in parts]), all(part.exact for part in parts))

    def visit_not(self, node: Not) -> Compiled[T] | None:
        """Only what is exact has a complement."""
        if isinstance(node.child, Not):
            return self.visit(node.child.child)
        if node.child == ALL:
            return Compiled(self.nothing())
        part = self.visit(node.child)
        return Compiled(self.negation(part.condition)) if part is not None and part.exact else None


def _gathered(node: Node) -> Node:
    """The same filter, with all that a field may equal in one `In`: engines and evaluator look those up at once."""
    if isinstance(node, Not):
        child = _gathered(node.child)
        return node if child is node.child else Not(child)
    if isinstance(node, And):
        children = tuple(map(_gathered, node.children))
        return node if all(map(is_, children, node.children)) else And(children)
    if not isinstance(node, Or):
        return node
    parts: dict[str | int, list[Node]] = {}  # what equals, by its field; each of the others by its place
    for child in map(_gathered, node.children):
        for part in child.children if isinstance(child, Or) else (child,):
            parts.setdefault(part.field if isinstance(part, (Eq, In)) else len(parts), []).append(part)
    alternatives = tuple(some[0] if len(some) == 1 else _equal_to_any(some) for some in parts.values())
    return alternatives[0] if len(alternatives) == 1 else Or(alternatives)


def _equal_to_any(nodes: Sequence[Node]) -> In:
    """What holds where one of some `Eq` and `In` of one field does."""
    told = [node for node in nodes if isinstance(node, (Eq, In))]
    values = tuple(value for node in told for value in (node.values if isinstance(node, In) else (node.value,)))
    return In(told[0].field, values)


class _Fields(FilterVisitor["frozenset[str]"]):
    """Which fields a filter names."""

    def visit_and(self, node: And) -> frozenset[str]:
        return frozenset().union(*(self.visit(child) for child in node.children))

    def visit_or(self, node: Or) -> frozenset[str]:
        return frozenset().union(*(self.visit(child) for child in node.children))

    def visit_not(self, node: Not) -> frozenset[str]:
        return self.visit(node.child)

    def visit_eq(self, node: Eq) -> frozenset[str]:
        return frozenset({node.field})

    def visit_in(self, node: In) -> frozenset[str]:
        return frozenset({node.field})

    def visit_compare(self, node: Compare) -> frozenset[str]:
        return frozenset({node.field})

    def visit_contains(self, node: Contains) -> frozenset[str]:
        return frozenset({node.field})

    def visit_icontains(self, node: IContains) -> frozenset[str]:
        return frozenset({node.field})

    def visit_exists(self, node: Exists) -> frozenset[str]:
        return frozenset({node.field})


def fields_of(node: Node) -> frozenset[str]:
    """The names of all fields in a filter."""
    return _Fields().visit(node)


def _name(field: str) -> str:
    """A field in words; quoted where it could be taken for something else."""
    return field if all(part.isidentifier() for part in field.split(".")) else repr(field)


class _Render(FilterVisitor[str]):
    """A filter in words, for `explain` and for telling filters apart."""

    def visit_and(self, node: And) -> str:
        return f"({' AND '.join(self.visit(c) for c in node.children)})" if node.children else "ALL"

    def visit_or(self, node: Or) -> str:
        return f"({' OR '.join(self.visit(c) for c in node.children)})" if node.children else "NOTHING"

    def visit_not(self, node: Not) -> str:
        return f"NOT {self.visit(node.child)}"

    def visit_eq(self, node: Eq) -> str:
        return f"{_name(node.field)} eq {node.value!r}"

    def visit_in(self, node: In) -> str:
        return f"{_name(node.field)} in {list(node.values)!r}"

    def visit_compare(self, node: Compare) -> str:
        return f"{_name(node.field)} {node.op} {node.bound!r}"

    def visit_contains(self, node: Contains) -> str:
        return f"{_name(node.field)} contains {node.value!r}"

    def visit_icontains(self, node: IContains) -> str:
        return f"{_name(node.field)} icontains {node.value!r}"

    def visit_exists(self, node: Exists) -> str:
        return f"{_name(node.field)} exists"


def render(node: Node) -> str:
    """A filter in words."""
    return _Render().visit(node)
