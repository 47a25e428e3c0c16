"""A reranker orders the best hits anew: a cross-encoder, a language model, any callable. None by default."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from memstack.errors import ProviderError
from memstack.records import Hit

__all__ = ["Reranker", "reranked"]


@dataclass(frozen=True, slots=True)
class Reranker:
    """What orders hits anew.

    Attributes:
        scores: given the query and the texts, a score in [0, 1] for each text, higher is better.
        candidates: how many of the best are given to it.
        name: how errors call it.
    """

    scores: Callable[[str, Sequence[str]], Sequence[float]]
    candidates: int
    name: str


def reranked(reranker: Reranker, query: str, hits: Sequence[Hit]) -> list[Hit]:
    """The best hits in the reranker's order, with its scores; ties, and what it was not given, stay in theirs.

    Raises:
        ProviderError: it failed, or did not give one score in [0, 1] for each text.
    """
    best, rest = hits[: reranker.candidates], hits[reranker.candidates :]
    if not best:
        return list(hits)
    try:
        given = [float(value) for value in reranker.scores(query, [hit.text for hit in best])]
    except Exception as error:
        raise ProviderError("rerank", reranker.name, f"failed ({type(error).__name__})") from error
    if len(given) != len(best) or not all(0 <= value <= 1 for value in given):
        raise ProviderError("rerank", reranker.name, f"did not give {len(best)} scores from 0 to 1")
    order = sorted(range(len(best)), key=lambda place: -given[place])
    first = [dataclasses.replace(best[i], score=given[i], explain=_told(best[i])) for i in order]
    lowest = min(given)
    return first + [dataclasses.replace(hit, score=min(hit.score, lowest)) for hit in rest]


def _told(hit: Hit) -> dict[str, Any] | None:
    """Where a hit tells how it was found, its score before too."""
    return None if hit.explain is None else {**hit.explain, "before": hit.score}
