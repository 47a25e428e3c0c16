"""Filters as SQL: every value is a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from memstack.errors import InvalidInput
from memstack.filters.ast import (
    FINGERPRINT,
    INSTANT_FIELDS,
    PLACE,
    Compare,
    Contains,
    Eq,
    Exists,
    IContains,
    In,
    Scalar,
)
from memstack.filters.evaluate import is_number
from memstack.filters.visit import Compiled, FilterCompiler
from memstack.ids import canonical_id
from memstack.instants import as_instant, to_micros
from memstack.scope import SCOPE_FIELDS
from memstack.stores.index import eq_term, exists_term, member_term, path_key

__all__ = ["PARAMETERS", "PgvectorCompiler", "Where"]

PARAMETERS: Final = 10_000  # of a filter: the server takes 65,535 in a statement, and seconds to plan that many
_FEW: Final = 50  # values that a field may equal
_HAS_ANY: Final = "EXISTS (SELECT FROM unnest(terms) AS term WHERE term = ANY(%s::text[]))"  # these are hashed
# Asked for by the thousand: among the terms, each row would be compared with all of them.
_OWN_COLUMNS: Final = {FINGERPRINT: "fingerprint", PLACE: "place"}
_OPERATORS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class Where:
    """A condition in SQL with its parameters. NULL counts as false; a negation says so."""

    text: str
    params: tuple[Any, ...] = ()


class PgvectorCompiler(FilterCompiler[Where]):
    """Filters as SQL. The texts are constants of this class; whatever a caller gave is a parameter."""

    largest = PARAMETERS

    def size(self, condition: Where) -> int:
        return len(condition.params)

    def conjunction(self, conditions: Sequence[Where]) -> Where:
        return self._joined(" AND ", conditions)

    def disjunction(self, conditions: Sequence[Where]) -> Where:
        return self._joined(" OR ", conditions)

    def negation(self, condition: Where) -> Where:
        return Where(f"NOT COALESCE(({condition.text}), false)", condition.params)

    def nothing(self) -> Where:
        return Where("false")

    def visit_eq(self, node: Eq) -> Compiled[Where]:
        return self._any_of(node.field, (node.value,))

    def visit_in(self, node: In) -> Compiled[Where]:
        return self._any_of(node.field, node.values)

    def visit_compare(self, node: Compare) -> Compiled[Where] | None:
        operator = _OPERATORS[node.op]
        if is_number(node.bound):
            bound = Decimal(node.bound)  # type: ignore[arg-type]  # exact, also for floats
            return Compiled(Where(f"(numbers->>%s)::numeric {operator} %s", (path_key(node.field), bound)))
        instant = as_instant(node.bound)
        if instant is None or node.field == "data":
            return None  # a text may read as an instant too
        if node.field in INSTANT_FIELDS:
            return Compiled(Where(f"{node.field} {operator} %s", (to_micros(instant),)))
        return Compiled(Where(f"(instants->>%s)::bigint {operator} %s", (path_key(node.field), to_micros(instant))))

    def visit_contains(self, node: Contains) -> Compiled[Where] | None:
        if node.field == "data":
            if isinstance(node.value, str):
                return Compiled(Where("position(%s in data) > 0", (node.value,)))
            return Compiled(self.nothing())
        if isinstance(node.value, str):
            return None  # also a substring of a string
        return Compiled(Where("terms && %s::text[]", ([member_term(node.field, node.value)],)))

    def visit_icontains(self, node: IContains) -> None:
        return None  # case folding is Python's: PostgreSQL's depends on the database's locale

    def visit_exists(self, node: Exists) -> Compiled[Where]:
        if node.field in (*INSTANT_FIELDS, *SCOPE_FIELDS, "id", "data"):
            return Compiled(Where(f"{node.field} IS NOT NULL"))
        return Compiled(Where("terms && %s::text[]", ([exists_term(node.field)],)))

    def _any_of(self, field: str, values: Sequence[Scalar]) -> Compiled[Where]:
        if field in INSTANT_FIELDS:
            micros = [to_micros(instant) for value in values if (instant := as_instant(value)) is not None]
            return Compiled(Where(f"{field} = ANY(%s::bigint[])", (micros,)))
        if field in (*SCOPE_FIELDS, "data"):
            return Compiled(Where(f"{field} = ANY(%s::text[])", ([v for v in values if isinstance(v, str)],)))
        if (column := _OWN_COLUMNS.get(field)) is not None:
            return Compiled(Where(f"{column} = ANY(%s::text[])", ([str(value) for value in values],)))
        if field == "id":
            return Compiled(Where("id = ANY(%s::uuid[])", ([v for v in values if _is_id(v)],)))
        # The index of terms finds the rows of a few; without it, `&&` compares each of a row's terms with every value.
        has = "terms && %s::text[]" if len(values) <= _FEW else _HAS_ANY
        return Compiled(Where(has, ([eq_term(field, value) for value in values],)))

    @staticmethod
    def _joined(word: str, conditions: Sequence[Where]) -> Where:
        text = word.join(f"({condition.text})" for condition in conditions)
        return Where(text, tuple(param for condition in conditions for param in condition.params))


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and canonical_id(value) == value
    except InvalidInput:
        return False
