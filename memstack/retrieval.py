"""Retrieval: from a query to hits. One formula for scores, on every engine.

The score is the cosine similarity of query and memory, with opposite directions counted as 0: what Mem0 documents for
cosine stores (``max(0, 1 - distance)``), and so in [0, 1].
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from memstack.errors import StoreError
from memstack.payload import memory_from
from memstack.records import Hit, Memory

if TYPE_CHECKING:
    from memstack.filters.ast import Node
    from memstack.providers.base import Embedder
    from memstack.scope import Scope
    from memstack.stores.base import Row, Store

__all__ = ["memory_of", "newest", "search"]


def search(
    store: Store,
    embedder: Embedder,
    query: str,
    *,
    scope: Scope,
    where: Node,
    limit: int,
    threshold: float | None,
    explain: bool,
) -> list[Hit]:
    """The memories nearest to a query.

    Args:
        store: where they are.
        embedder: what made their vectors.
        query: not empty.
        scope: every hit lies in it.
        where: the filter, the scope's included.
        limit: how many at most.
        threshold: least score; None is any.
        explain: whether hits tell how they were found.

    Returns:
        Best first; ties by ``created_at``, then id.
    """
    (vector,) = embedder.vectors([query])
    hits: list[Hit] = []
    for found in store.nearest(vector, where=where, limit=limit):
        if threshold is not None and found.score < threshold:
            continue
        details = {"similarity": found.similarity} if explain else None
        hits.append(_hit(memory_of(store, found.row, scope), found.score, details))
    return _explained(hits, store, where) if explain else hits


def newest(store: Store, *, scope: Scope, where: Node, limit: int, explain: bool) -> list[Hit]:
    """The newest memories, for a query without words. All fit it equally well: their score is 1."""
    rows = store.scan(where=where, limit=limit)
    hits = [_hit(memory_of(store, row, scope), 1.0, {"similarity": None} if explain else None) for row in rows]
    return _explained(hits, store, where) if explain else hits


def memory_of(store: Store, row: Row, scope: Scope) -> Memory:
    """The memory of a row, checked once more to lie inside the scope.

    Raises:
        StoreError: the engine returned a row of somebody else.
    """
    memory = memory_from(row.id, row.payload)
    if not scope.covers(memory.scope):
        raise StoreError(store.label, "the engine returned a row outside of the scope", "Report this: it is a bug.")
    return memory


def _hit(memory: Memory, score: float, explain: dict[str, Any] | None) -> Hit:
    given = {item.name: getattr(memory, item.name) for item in dataclasses.fields(Memory)}
    return Hit(**given, score=score, explain=explain)


def _explained(hits: list[Hit], store: Store, where: Node) -> list[Hit]:
    plan = store.plan(where).explain()
    return [dataclasses.replace(hit, explain={**(hit.explain or {}), "filter": plan}) for hit in hits]
