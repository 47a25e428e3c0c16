"""Retrieval: from a query to hits. One formula for scores, on every engine; see `memstack.retrieval.scoring`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memstack.filters.evaluate import evaluate
from memstack.payload import fields, memory_from, parts_of
from memstack.records import Hit, Memory
from memstack.retrieval.reranking import reranked
from memstack.retrieval.weights import Weights

if TYPE_CHECKING:
    from memstack.filters.ast import Node
    from memstack.providers.base import Embedder
    from memstack.retrieval.reranking import Reranker
    from memstack.retrieval.scoring import Likeness
    from memstack.scope import Scope
    from memstack.stores.base import Row, Store

__all__ = ["Weights", "memory_of", "newest", "search"]


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
    weights: Weights,
    now: datetime,
    reranker: Reranker | None = None,
) -> list[Hit]:
    """The memories that fit a query best.

    Args:
        store: where they are.
        embedder: what made their vectors.
        query: not empty.
        scope: every hit lies in it.
        where: the filter, the scope's included.
        limit: how many at most.
        threshold: least score; None is any.
        explain: whether hits tell how they were found.
        weights: how much each part of the score counts.
        now: what "yesterday" is told from.
        reranker: what orders the best anew.

    Returns:
        Best first; ties by ``created_at``, then id.
    """
    (vector,) = embedder.vectors([query])
    wanted = limit if reranker is None else max(limit, reranker.candidates)
    find = _by_similarity if weights.similarity_alone else _by_parts
    hits = find(
        store,
        vector,
        query,
        scope=scope,
        where=where,
        limit=wanted,
        explain=explain,
        weights=weights,
        now=now,
        likeness=embedder.likeness if embedder.knows_words and weights.related else None,
    )
    if reranker is not None:
        hits = reranked(reranker, query, hits)
    hits = [hit for hit in hits[:limit] if threshold is None or hit.score >= threshold]
    return _explained(hits, store, where) if explain else hits


def _by_similarity(
    store: Store,
    vector: Sequence[float],
    _query: str,
    *,
    scope: Scope,
    where: Node,
    limit: int,
    explain: bool,
    **_: Any,
) -> list[Hit]:
    return [
        _hit(store, found.row, scope, _told(found.score), {"similarity": found.similarity} if explain else None)
        for found in store.nearest(vector, where=where, limit=limit)
    ]


def _by_parts(
    store: Store,
    vector: Sequence[float],
    query: str,
    *,
    scope: Scope,
    where: Node,
    limit: int,
    explain: bool,
    weights: Weights,
    now: datetime,
    likeness: Likeness | None,
) -> list[Hit]:
    from memstack.retrieval.candidates import evaluated, scored  # noqa: PLC0415  # it takes numpy

    asked = evaluated(store, where)
    leads, scores = scored(store, vector, query, where=asked, limit=limit, weights=weights, now=now, likeness=likeness)
    total = [_told(value) for value in scores.total.tolist()]
    best = sorted(range(len(leads)), key=lambda place: -total[place])[:limit]  # they come by age, and ties stay so
    rows = {row.id: row for row in store.fetch([leads[place].clue.id for place in best])} if best else {}
    return [
        _hit(
            store,
            row,
            scope,
            total[place],
            {"similarity": leads[place].similarity, "parts": scores.explain(place)} if explain else None,
        )
        for place in best
        if (row := rows.get(leads[place].clue.id)) is not None  # it can be deleted in between, or changed
        and (asked is where or evaluate(where, fields(row.id, row.payload)))
    ]


def _told(score: float) -> float:
    """A score as it is told, and ranked by: engines agree on that much of a cosine."""
    return round(score, 6)


def newest(store: Store, *, scope: Scope, where: Node, limit: int, explain: bool) -> list[Hit]:
    """The newest memories, for a query without words. All fit it equally well: their score is 1."""
    rows = store.scan(where=where, limit=limit)
    hits = [_hit(store, row, scope, 1.0, {"similarity": None} if explain else None) for row in rows]
    return _explained(hits, store, where) if explain else hits


def memory_of(store: Store, row: Row, scope: Scope) -> Memory:
    """The memory of a row, checked once more to lie inside the scope.

    Raises:
        StoreError: the engine returned a row of somebody else.
    """
    store.check_inside(row, scope)
    return memory_from(row.id, row.payload)


def _hit(store: Store, row: Row, scope: Scope, score: float, explain: dict[str, Any] | None) -> Hit:
    store.check_inside(row, scope)
    return Hit(**parts_of(row.id, row.payload), score=score, explain=explain)


def _explained(hits: list[Hit], store: Store, where: Node) -> list[Hit]:
    plan = store.plan(where).explain()
    return [dataclasses.replace(hit, explain={**(hit.explain or {}), "filter": plan}) for hit in hits]
