"""Scope inside filters: a filter may narrow its scope at the top, and never do anything else to it."""

from __future__ import annotations

from memstack.errors import ScopeError
from memstack.filters.ast import And, Compare, Contains, Eq, Exists, IContains, In, Node, Not, all_of
from memstack.filters.visit import fields_of
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["scope_filter", "split_scope"]

_WAY_OUT = "Pass it as an argument, or as a plain value at the top of the filter (or inside an AND there)."
_ANY = "Leave it out: an id that the scope leaves open may be any, or none, as long as another one is named."
_OPERATOR = (
    "Name one id as a plain value, and call once for each of several; or leave it out, and choose among what is found "
    "by its ids."
)


def split_scope(node: Node) -> tuple[Scope, Node]:
    """Take the scope out of a filter.

    Args:
        node: a filter, in which ``user_id``, ``agent_id`` and ``run_id`` may stand as plain equalities at the top or
            inside ANDs there.

    Returns:
        The scope that it names (it may be empty), and the rest of the filter, which names no owner.

    Raises:
        ScopeError: an owner is named anywhere else, by another operator or ``*``, or two different ones are.
    """
    scope = Scope()
    rest: list[Node] = []
    pending = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, And):
            pending += reversed(part.children)
        elif isinstance(part, Eq) and part.field in SCOPE_FIELDS:
            if not isinstance(part.value, str):
                raise ScopeError(part.where, "is not a string", "Ids are strings.")
            scope = scope.narrow(Scope(**{part.field: part.value}))
        else:
            named = sorted(fields_of(part) & set(SCOPE_FIELDS))
            if named:
                raise _refusal(part, named[0])
            rest.append(part)
    return scope, all_of(*rest)


def _refusal(part: Node, owner: str) -> ScopeError:
    """Why an owner is refused that is no plain equality."""
    leaf = part.child if isinstance(part, Not) else part
    if not isinstance(leaf, (Eq, In, Compare, Contains, IContains, Exists)):
        return ScopeError(f"filters: {owner}", "stands where it could widen or replace the scope", _WAY_OUT)
    where = f"filters.{owner}" if leaf.where == "filters" else leaf.where  # that of the builder
    if isinstance(part, Exists):
        return ScopeError(where, "asks for any id, and a filter names one of an owner", _ANY)
    return ScopeError(where, "negates an id or compares it by an operator, and an id is only equal", _OPERATOR)


def scope_filter(scope: Scope) -> Node:
    """The filter that holds inside a scope. Only the library makes it."""
    return all_of(*(Eq(name, value) for name, value in scope.as_dict().items()))
