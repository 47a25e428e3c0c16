"""How much each part of a score counts. The defaults stand in `memstack.config`; 0 switches a part off."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Weights"]


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of the parts, each in [0, 1]; see `memstack.retrieval.scoring`.

    Attributes:
        words: share of the words in the first sum; the rest is the similarity's. 0 is similarity alone.
        related: what a word counts, at most, that means about the same as one of the query's.
        neighbours: what the memory next to it in the run lends; the one after that lends half of it.
        session: share of the best of its run.
        speaker: bonus where the query names who spoke.
        answers: bonus for what follows a question, and malus for the question itself.
        time: bonus for what was said when the query says.
        candidates: how many memories are looked at closely for their similarity, and twice as many for their words.
    """

    words: float
    related: float
    neighbours: float
    session: float
    speaker: float
    answers: float
    time: float
    candidates: int

    @property
    def similarity_alone(self) -> bool:
        """Whether the score is the cosine and nothing else."""
        return not any((self.words, self.neighbours, self.session, self.speaker, self.answers, self.time))
