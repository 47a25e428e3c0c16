"""Filters as Chroma's conditions.

These have no negation, so each is kept with its complement (`Both`), and a negation swaps the two. Numbers are
compared as the small integers of `number_key`, since Chroma keeps integers and floats apart. Ids are no metadata: those
that a filter names are kept beside the condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from memstack.batching import batched
from memstack.filters.ast import (
    FINGERPRINT,
    INSTANT_FIELDS,
    PLACE,
    And,
    Compare,
    Contains,
    Eq,
    Exists,
    IContains,
    In,
    Node,
    Scalar,
    all_of,
)
from memstack.filters.evaluate import is_number
from memstack.filters.visit import Compiled, FilterCompiler, Plan
from memstack.instants import as_instant, to_micros
from memstack.scope import SCOPE_FIELDS
from memstack.stores.index import eq_term, exists_term, member_term, number_key, path_key

__all__ = ["CONDITIONS", "MANY", "Both", "ChromaCompiler", "all_hold", "between", "where_of"]

_GROUP: Final = 50
MANY: Final = 300  # values of an `in`: each is a condition of its own, and thousands take longer than looking
CONDITIONS: Final = 2_000  # of a filter: each is several variables of SQLite, which takes 32,766 in a statement
_RAREST: Final = ("place", "fingerprint", "run_id", "user_id", "agent_id")
_OWN_KEYS: Final = {FINGERPRINT: "fingerprint", PLACE: "place"}
_INVERSE: Final = {"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}
_Condition = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Both:
    """A condition, and the one that holds just where it does not.

    Attributes:
        holds: the condition; empty is all rows.
        fails: its complement.
        ids: only the rows with these, of those where it holds; None is all of them. Only a whole plan has any.
    """

    holds: _Condition
    fails: _Condition
    ids: frozenset[str] | None = None


_ALL: Final = Both({}, {})
_NEVER: Final = Both({"terms": {"$contains": "never"}}, {"terms": {"$not_contains": "never"}})


class ChromaCompiler(FilterCompiler[Both]):
    """Filters as Chroma's ``where``. Keys are ours, never a caller's words."""

    largest = CONDITIONS

    def size(self, condition: Both) -> int:
        return max(_leaves(condition.holds), _leaves(condition.fails))

    def plan(self, node: Node) -> Plan[Both]:
        """The same, and ids that all must be among are no residual."""
        plan = super().plan(node)
        parts = plan.residual.children if isinstance(plan.residual, And) else (plan.residual,)
        named: list[Eq | In] = []
        rest: list[Node | None] = []
        for part in parts:
            if isinstance(part, (Eq, In)) and part.field == "id":
                named.append(part)
            else:
                rest.append(part)
        if not named:
            return plan
        ids = frozenset.intersection(*map(_texts, named))
        native = replace(plan.native or _ALL, ids=ids)
        return Plan(native, all_of(*rest) if rest else None, (*plan.pushed, *named))

    def conjunction(self, conditions: Sequence[Both]) -> Both:
        """Chroma's SQLite begins with the rows for which the first condition holds."""
        conditions = sorted(conditions, key=lambda both: _rarity(both.holds))
        return Both(all_hold([c.holds for c in conditions]), _any_holds([c.fails for c in conditions]))

    def disjunction(self, conditions: Sequence[Both]) -> Both:
        return Both(_any_holds([c.holds for c in conditions]), all_hold([c.fails for c in conditions]))

    def negation(self, condition: Both) -> Both:
        return Both(condition.fails, condition.holds)

    def nothing(self) -> Both:
        return _NEVER

    def visit_eq(self, node: Eq) -> Compiled[Both] | None:
        return self._any_of(node.field, (node.value,))

    def visit_in(self, node: In) -> Compiled[Both] | None:
        return self._any_of(node.field, node.values)

    def visit_compare(self, node: Compare) -> Compiled[Both] | None:
        if is_number(node.bound):
            key = path_key(node.field)
            parts = [(f"{key}{name}", part) for name, part in number_key(node.bound).items()]  # type: ignore[arg-type]
            return Compiled(self._lexicographic(parts, node.op))
        instant = as_instant(node.bound)
        if instant is None or node.field == "data":
            return None  # a text may read as an instant too
        declared = node.field in INSTANT_FIELDS
        key = node.field if declared else f"{path_key(node.field)}t"
        return Compiled(between(key, node.op, to_micros(instant)))

    def visit_contains(self, node: Contains) -> Compiled[Both] | None:
        if isinstance(node.value, str):
            return None  # also a substring of a string
        return Compiled(_term(member_term(node.field, node.value)))

    def visit_icontains(self, node: IContains) -> None:
        return None

    def visit_exists(self, node: Exists) -> Compiled[Both] | None:
        if node.field in INSTANT_FIELDS:
            return Compiled(between(node.field, "gte", -(2**62)))
        if node.field in (*SCOPE_FIELDS, "id", "data"):
            return None
        return Compiled(_term(exists_term(node.field)))

    def _any_of(self, field: str, values: Sequence[Scalar]) -> Compiled[Both] | None:
        if not values:
            return Compiled(_NEVER)
        if (key := _OWN_KEYS.get(field)) is not None:  # asked for by the thousand: one condition, not one for each
            return Compiled(Both({key: {"$in": list(values)}}, {key: {"$nin": list(values)}}))
        if field in ("id", "data") or len(values) > MANY:
            return None
        if field in INSTANT_FIELDS:
            micros = [to_micros(instant) for value in values if (instant := as_instant(value)) is not None]
            return Compiled(Both({field: {"$in": micros}}, {field: {"$nin": micros}}))
        if field in SCOPE_FIELDS:
            strings = [value for value in values if isinstance(value, str)]
            return Compiled(Both({field: {"$in": strings}}, {field: {"$nin": strings}}) if strings else _NEVER)
        return Compiled(self.disjunction([_term(eq_term(field, value)) for value in values]))

    def _lexicographic(self, parts: Sequence[tuple[str, int]], op: str) -> Both:
        (key, part), *rest = parts
        if not rest:
            return between(key, op, part)
        tail = self.conjunction([between(key, "gte", part), between(key, "lte", part), self._lexicographic(rest, op)])
        return self.disjunction([between(key, op[:2], part), tail])


def where_of(condition: Both | None) -> Any:
    """A condition as Chroma takes it; None is all rows. The ids that it names are not in it."""
    return condition.holds or None if condition is not None else None


def all_hold(conditions: Sequence[_Condition]) -> _Condition:
    """All of them hold."""
    return _joined("$and", conditions)


def _any_holds(conditions: Sequence[_Condition]) -> _Condition:
    return _joined("$or", conditions)


def _texts(node: Eq | In) -> frozenset[str]:
    """What a node names; an id equals nothing but a text."""
    values = node.values if isinstance(node, In) else (node.value,)
    return frozenset(value for value in values if isinstance(value, str))


def _rarity(condition: _Condition) -> int:
    """A place among conditions: the fewer rows they hold for, as a rule, the sooner they come."""
    (key, value), *_ = condition.items()
    if key == "$and":
        return min(map(_rarity, value))
    return _RAREST.index(key) if key in _RAREST else len(_RAREST)


def _leaves(condition: _Condition) -> int:
    """How many comparisons a condition is made of; those of a fingerprint or a place are never too many."""
    (key, value), *_ = condition.items()
    if key in ("$and", "$or"):
        return sum(map(_leaves, value))
    (operand,) = value.values()
    return len(operand) if isinstance(operand, list) and key not in _OWN_KEYS.values() else 1


def _joined(operator: str, conditions: Sequence[_Condition]) -> _Condition:
    """Conditions under one operator, in groups: SQLite takes a thousand in a row for an expression that is too deep."""
    while len(conditions) > _GROUP:
        conditions = [_joined(operator, some) for some in batched(conditions, _GROUP)]
    return conditions[0] if len(conditions) == 1 else {operator: list(conditions)}


def _term(term: str) -> Both:
    return Both({"terms": {"$contains": term}}, {"terms": {"$not_contains": term}})


def between(key: str, op: str, bound: int) -> Both:
    """A range over integers; its complement holds where the key is missing too (only `$ne` and `$nin` do)."""
    missing = {"keys": {"$not_contains": key}}
    return Both({key: {f"${op}": bound}}, {"$or": [{key: {f"${_INVERSE[op]}": bound}}, missing]})
