"""A reranker orders the best hits anew: a cross-encoder, a language model, any callable. None by default."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from memstack.errors import MemstackError, ProviderError, amount, describe
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
        ProviderError: it failed, or did not give one score in [0, 1] for each text. Errors of ours stay what they are.
    """
    best, rest = hits[: reranker.candidates], hits[reranker.candidates :]
    if not best:
        return list(hits)
    given = _scores(reranker, query, [hit.text for hit in best])
    order = sorted(range(len(best)), key=lambda place: -given[place])
    first = [dataclasses.replace(best[i], score=given[i], explain=_told(best[i])) for i in order]
    lowest = min(given)
    return first + [dataclasses.replace(hit, score=min(hit.score, lowest)) for hit in rest]


def _scores(reranker: Reranker, query: str, texts: list[str]) -> list[float]:
    wanted = len(texts)
    try:
        told = reranker.scores(query, texts)
        unfit = isinstance(told, str | Coroutine)
        given: list[object] = [] if unfit else list(told)
    except MemstackError:
        raise
    except Exception as error:
        raise ProviderError("rerank", reranker.name, f"failed ({type(error).__name__})") from error
    if isinstance(told, Coroutine):
        told.close()
    if unfit:
        raise ProviderError("rerank", reranker.name, f"gave {describe(told)}, and not a score for each text")
    if len(given) != wanted:
        raise ProviderError("rerank", reranker.name, f"gave {len(given)} scores for {wanted} texts")
    scores: list[float] = []
    for i, value in enumerate(given):
        number = _number(value)
        if not 0 <= number <= 1:
            problem = f"gave {amount(value)} as score {i + 1} of {wanted}: one is a number from 0 to 1"
            raise ProviderError("rerank", reranker.name, problem)
        scores.append(number)
    return scores


def _number(value: Any) -> float:
    """A score as Python has it, of whichever library's kind it is; NaN where it is no number."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except Exception:  # noqa: BLE001  # that kind's: of a number too large, or a tensor of several
        return math.nan


def _told(hit: Hit) -> dict[str, Any] | None:
    """Where a hit tells how it was found, its score before too."""
    return None if hit.explain is None else {**hit.explain, "before": hit.score}
