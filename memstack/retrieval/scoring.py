"""The score of a memory: one formula, the same on every engine.

For a query with the words ``w``, each of weight ``idf(w) = ln(1 + (N - df + 0.5) / (df + 0.5))`` (Robertson and Spärck
Jones, as in BM25; ``N`` memories are searched, ``df`` of them have the word):

1. *words*: the share of the weight that the memory covers. A word of its own counts whole; a *related* one, that is
   one whose cosine ``c`` with the query's is above 0.4, ``(c - 0.4) / 0.6`` of `related`; one that only a neighbour in
   the same run has counts `neighbours` of that, two places away half; more than whole is whole. A word that none of
   them has weighs `related` of its weight: that is the most that can be covered of it.
2. *similarity*: the cosine, opposite directions counted as 0; the weighted mean over the memory and its neighbours, or
   the fourth power of its own where that is more: what is said beside it takes little from a memory that says nearly
   what the query says, and nothing from one that says just that.
3. Their mean, weighted by `words`; the similarity alone where none of them has any of the words.
4. Bonuses that close a part of the gap to 1: `speaker` where the query names who spoke; `answers` for what follows a
   question; `time` for what was said when the query says, fading outside of it. A question that was asked loses the
   part `answers`, the less of it the more it is the query itself.
5. *session*: the mean with the best memory of the same run, weighted 1 and `session`.

What stands in no run has no neighbours, no session, and answers nothing. A memory that has all the words of the query
and its direction scores 1, in a run too. Every step stays in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memstack.clues import Clue
    from memstack.retrieval.dates import Window
    from memstack.retrieval.weights import Weights
    from memstack.stores.base import Lead

    Numbers = NDArray[np.float64]
    Likeness = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]

__all__ = ["Asked", "Scores", "Texts", "idf", "score"]

_DAY: Final = 86_400_000_000
_ROOM: Final = 2**40  # between the places of two runs
_NOTHING_ALIKE: Final = 0.4  # the cosine of words that are not related
_PARTS: Final = ("words", "related", "similarity", "neighbours", "speaker", "time", "answers", "session")
_NEAR: Final = ((-1, 1.0), (1, 1.0), (-2, 0.5), (2, 0.5))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query asks for.

    Attributes:
        words: the keys of each word, and its weight.
        names: the keys of words that are speakers' names.
        windows: the times that it names.
    """

    words: tuple[tuple[tuple[str, ...], float], ...]
    names: frozenset[str]
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Scores:
    """The scores of some memories, and the part that each step has in them: they sum up to the score."""

    total: Numbers
    parts: Mapping[str, Numbers]

    def explain(self, place: int) -> dict[str, Any]:
        """The parts of one."""
        return {name: round(float(values[place]), 6) for name, values in self.parts.items()}


def idf(memories: int, with_word: int) -> float:
    """The weight of a word that so many of the memories have."""
    return math.log(1 + (max(0, memories - with_word) + 0.5) / (with_word + 0.5))


class Texts:
    """Some texts (`Clue.words`), in all of which keys are looked for at once: one by one takes ten times as long."""

    def __init__(self, texts: Iterable[str]) -> None:
        import numpy as np  # noqa: PLC0415

        texts = list(texts)
        self._whole = "\n".join(texts)  # no key has one
        self._ends = np.array([len(text) + 1 for text in texts], dtype=np.intp).cumsum()
        self._told: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    def having(self, keys: tuple[str, ...]) -> NDArray[np.bool_]:
        """Which of them have one of the keys. An answer is kept: a search asks twice."""
        told = self._told.get(keys)
        if told is None:
            told = self._told[keys] = self._looked_up(keys)
        return told

    def _looked_up(self, keys: tuple[str, ...]) -> NDArray[np.bool_]:
        import numpy as np  # noqa: PLC0415

        having = np.zeros(len(self._ends), dtype=np.bool_)
        found = [place for key in keys for place in self._places(f" {key} ")]
        if found:
            having[np.searchsorted(self._ends, found, side="right")] = True
        return having

    def _places(self, wanted: str) -> list[int]:
        found: list[int] = []
        place = self._whole.find(wanted)
        while place >= 0:
            found.append(place)
            place = self._whole.find(wanted, place + 1)
        return found


def score(
    leads: Sequence[Lead],
    asked: Asked,
    weights: Weights,
    likeness: Likeness | None = None,
    *,
    texts: Texts | None = None,
) -> Scores:
    """Score memories by their clues; neighbours and sessions are those among them.

    Args:
        leads: the memories.
        asked: what the query asks for.
        weights: of the parts.
        likeness: tells which words are related; see `memstack.providers.base.Embedder.likeness`.
        texts: their texts, where they are known.
    """
    import numpy as np  # noqa: PLC0415

    clues = [lead.clue for lead in leads]
    runs = _runs(clues)
    near = _neighbours(runs, clues)
    similarity = np.clip(np.array([lead.similarity for lead in leads], dtype=np.float64), 0.0, 1.0)
    own, covers = _coverage(clues, asked, weights, likeness, texts)
    weight = np.array([weight for _, weight in asked.words], dtype=np.float64)
    share = weights.words if weight.any() else 0.0
    weight /= weight.sum() or 1.0
    around = _around(similarity, near, weights.neighbours)
    nothing = np.zeros(len(clues))
    parts: dict[str, Numbers] = dict.fromkeys(_PARTS, nothing)
    parts["words"] = share * (own @ weight)
    parts["related"] = share * (covers @ weight) - parts["words"]
    parts["similarity"] = (1 - share) * similarity
    total = share * (_lent(covers, near, weights.neighbours) @ weight) + (1 - share) * around
    parts["neighbours"] = total - parts["words"] - parts["related"] - parts["similarity"]

    def bonus(name: str, weight: float, holds: Numbers) -> None:
        nonlocal total
        raised = total + (1 - total) * weight * holds
        parts[name] = raised - total
        total = raised

    if asked.names:
        bonus("speaker", weights.speaker, _speakers(clues, asked))
    if asked.windows:
        bonus("time", weights.time, _times(clues, asked))
    if near is not None:  # who stands in no run answers nothing, and has no session
        asks = np.array([clue.asks for clue in clues], dtype=np.float64) * (runs >= 0)
        follows = np.where(near.there[0], asks[near.which[0]], 0.0)
        asks *= 1 - np.square(np.square(similarity))
        answered = (total + (1 - total) * weights.answers * follows) * (1 - weights.answers * asks)
        parts["answers"] = answered - total
        total = (answered + weights.session * _best_of_run(runs, answered)) / (1 + weights.session)
        parts["session"] = total - answered
    return Scores(np.clip(total, 0.0, 1.0), parts)


def _runs(clues: Sequence[Clue]) -> Any:
    """The run of each memory as a number; -1 for what stands in none."""
    import numpy as np  # noqa: PLC0415

    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(clue.run, len(numbers)) if clue.run else -1 for clue in clues], dtype=np.int64)


class _Near(NamedTuple):
    """What stands beside each memory, by distance (see `_NEAR`) and memory.

    Attributes:
        which: the memory that stands there, by its number; anything where none does.
        there: whether one does.
        counts: what it counts; 0 where there is none.
    """

    which: NDArray[np.intp]
    there: NDArray[np.bool_]
    counts: Numbers


def _neighbours(runs: Any, clues: Sequence[Clue]) -> _Near | None:
    """What stands beside each of the memories; None where nobody stands in any run.

    Of several in one place the first, that is the oldest, stands there.
    """
    import numpy as np  # noqa: PLC0415

    inside = runs >= 0
    if not inside.any():
        return None
    places = runs * _ROOM + np.array([clue.position for clue in clues], dtype=np.int64)
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    wanted = places + np.array([[distance] for distance, _ in _NEAR])
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    there = (ordered[at] == wanted) & inside
    return _Near(order[at], there, there * np.array([[counts] for _, counts in _NEAR]))


def _coverage(
    clues: Sequence[Clue], asked: Asked, weights: Weights, likeness: Likeness | None, texts: Texts | None
) -> tuple[Numbers, Numbers]:
    """How much of each of the query's words each memory covers: by that word alone, and by related ones too."""
    import numpy as np  # noqa: PLC0415

    words = [clue.words for clue in clues]
    texts = Texts(words) if texts is None else texts
    has = [texts.having(keys) for keys, _ in asked.words]
    own = np.array(has, dtype=np.float64).reshape(len(has), len(clues)).T
    if likeness is None or not own.size:
        return own, own
    nearest = likeness(words, [keys[0] for keys, _ in asked.words])
    alike = (nearest.astype(np.float64) - _NOTHING_ALIKE) * (weights.related / (1 - _NOTHING_ALIKE))
    return own, np.maximum(own, np.minimum(alike, weights.related))


def _lent(covers: Numbers, near: _Near | None, lent: float) -> Numbers:
    """The same with what neighbours lend."""
    import numpy as np  # noqa: PLC0415

    if near is None or not near.there.any():
        return covers
    beside: Numbers = np.einsum("dm,dmw->mw", near.counts, covers[near.which])
    return np.minimum(covers + lent * beside, 1.0)


def _around(similarity: Any, near: _Near | None, lent: float) -> Any:
    """The mean of each similarity with its neighbours'; no less than the fourth power of its own."""
    import numpy as np  # noqa: PLC0415

    if near is None:
        return similarity
    total = similarity + lent * (near.counts * similarity[near.which]).sum(axis=0)
    return np.maximum(total / (1 + lent * near.counts.sum(axis=0)), np.square(np.square(similarity)))


def _speakers(clues: Sequence[Clue], asked: Asked) -> Any:
    """1 where the query names who spoke."""
    import numpy as np  # noqa: PLC0415

    return Texts(clue.name for clue in clues).having(tuple(sorted(asked.names))).astype(np.float64)


def _times(clues: Sequence[Clue], asked: Asked) -> Any:
    """1 inside the times that the query names; outside it fades, to 1/e within their length and a week."""
    import numpy as np  # noqa: PLC0415

    best = np.zeros(len(clues))
    occurred = np.array([clue.occurred for clue in clues], dtype=np.float64)
    for window in asked.windows:
        away = np.maximum(0.0, np.maximum(window.start - occurred, occurred - window.end))
        best = np.maximum(best, np.exp(-away / (window.end - window.start + 7 * _DAY)))
    return best


def _best_of_run(runs: Any, total: Any) -> Any:
    """The best score in each memory's run; its own where it stands in none."""
    import numpy as np  # noqa: PLC0415

    best = np.zeros(int(runs.max(initial=-1)) + 1)
    inside = runs >= 0
    np.maximum.at(best, runs[inside], total[inside])
    found = total.copy()
    found[inside] = best[runs[inside]]
    return found
