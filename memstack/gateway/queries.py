"""Searching and listing, once the arguments of the call are read."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from memstack import retrieval
from memstack.filters.ast import Node, all_of
from memstack.filters.scoping import scope_filter
from memstack.gateway.cursors import read_cursor, write_cursor
from memstack.gateway.parts import Parts
from memstack.gateway.shown import Shown
from memstack.gateway.typed import fit_all, search_fitting
from memstack.instants import utcnow
from memstack.records import Hit, Hits, Order, Page
from memstack.schemas import MemorySchema
from memstack.scope import Scope
from memstack.stores.base import SortField, sort_value

__all__ = ["page", "search"]

S = TypeVar("S", bound=MemorySchema)


def search(
    parts: Parts,
    query: str,
    scope: Scope,
    where: Node,
    *,
    schema: type[S] | None,
    shown: Shown,
    limit: int,
    threshold: float | None,
    explain: bool,
) -> list[Hit] | Hits[S]:
    """The memories that fit a query best; the newest ones, where it is empty.

    Args:
        parts: where.
        query: what to look for.
        scope: whose memories.
        where: only those for which it holds.
        schema: only those of its category that fit it.
        shown: which of them, by their times.
        limit, threshold, explain: as for `MemoryGateway.search`.
    """
    now = shown.then or utcnow()
    of_schema = None if schema is None else schema.where()
    where = all_of(scope_filter(scope), shown.where(now), of_schema, where)
    if query:
        find = partial(
            retrieval.search,
            parts.store,
            parts.embedder,
            query,
            scope=scope,
            where=where,
            threshold=threshold,
            explain=explain,
            weights=parts.options.weights,
            now=now,
            reranker=parts.options.reranker,
        )
    else:
        find = partial(retrieval.newest, parts.store, scope=scope, where=where, explain=explain)
    if schema is None:
        return find(limit=limit)
    return search_fitting(lambda size: find(limit=size), schema, limit)


def page(
    parts: Parts,
    scope: Scope,
    where: Node,
    *,
    schema: type[S] | None,
    shown: Shown,
    order: Order,
    limit: int,
    cursor: str | None,
) -> Page | Page[S]:
    """One page of a listing.

    Args:
        parts: where.
        scope, where, schema, shown: as for `search`.
        order, limit, cursor: as for `MemoryGateway.get_all`.

    Raises:
        CursorError: the cursor is not of this listing.
    """
    of_schema = None if schema is None else schema.where()
    then = shown.then
    base = all_of(scope_filter(scope), of_schema, None if then is None else shown.where(then), where)
    listing = f"{order}{shown.words}"
    after = None if cursor is None else read_cursor(cursor, scope, base, listing)
    field, descending = _sort(order)
    rows = parts.store.scan(
        where=base if then is not None else all_of(base, shown.where(utcnow())),
        field=field,
        descending=descending,
        after=after,
        limit=limit + 1,
    )
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = write_cursor(scope, base, listing, (sort_value(rows[-1], field), rows[-1].id))
    memories = tuple(retrieval.memory_of(parts.store, row, scope) for row in rows)
    if schema is None:
        return Page(memories, following)
    fitting, misfits = fit_all(memories, schema)
    return Page(fitting, following, misfits)


def _sort(order: Order) -> tuple[SortField, bool]:
    field: Any = order.lstrip("-")
    return field, order.startswith("-")
