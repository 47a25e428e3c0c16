"""Candidates: the memories that a search scores, and what the query asks of them.

They are the union of the nearest by vector, those that have its words, those of the times and by the speakers that it
names, all answered by the engine inside of the filter, and the neighbours of the best of them. Where few memories pass
the filter, all of them are candidates. How many are asked for, and the counts behind the weights of words, are the same
on every engine: so are the candidates, and the scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from memstack.clues import place_of
from memstack.filters.ast import NAME, PLACE, WORD, Compare, In, Node, Or, all_of
from memstack.instants import from_micros
from memstack.retrieval.dates import Window, windows
from memstack.retrieval.scoring import Asked, Scores, Texts, idf, score
from memstack.words import query_words

if TYPE_CHECKING:
    from memstack.retrieval.scoring import Likeness
    from memstack.retrieval.weights import Weights
    from memstack.stores.base import Lead, Store

__all__ = ["evaluated", "scored"]

_AT_FIRST: Final = 2  # so many times `candidates` are asked for, and where no more pass, all are looked at, ...
_WHOLE: Final = 4  # ... up to so many times: to draw takes half a dozen questions, which cost more than to look
_BY_WORDS: Final = 2  # so many times `candidates` are found by words
_MOST_WORDS: Final = 32  # of a query, the first ones: a pasted document is no question
_REACH: Final = 2  # neighbours to either side
_BEST: Final = 128  # whose neighbours are looked at; those of all that are wanted, where more are
_TIE: Final = 1e-6  # nearer than that, no engine tells them apart: see `memstack.stores.base.Store.leads`
_MOST_IDS: Final = 10_000  # of what passes a filter; a server takes so many in a request
_AT_ONCE: Final = 1024  # rows
_SOME_ID: Final = "00000000-0000-4000-8000-000000000000"
_Words = list[tuple[str, ...]]
_Counts = list[tuple[int, tuple[str, ...]]]  # how many memories have a word


def evaluated(store: Store, where: Node) -> Node:
    """A filter in which nothing is left to be evaluated on rows: what passes is named by its ids.

    A search asks for candidates, and counts words, a score of times; each would read all the rows again.

    Returns:
        The filter as it is, where the engine answers all of it, has no condition on ids, or too many pass.
    """
    plan = store.plan(where)
    if plan.residual is None or store.plan(In("id", (_SOME_ID,))).residual is not None:
        return where
    ids: list[str] = []
    for rows in store.batches(where=where, size=_AT_ONCE):
        ids += [row.id for row in rows]
        if len(ids) > _MOST_IDS:
            return where
    return all_of(*(part for part in plan.pushed if store.plan(part).residual is None), In("id", tuple(ids)))


def scored(
    store: Store,
    vector: Sequence[float],
    query: str,
    *,
    where: Node,
    limit: int,
    weights: Weights,
    now: datetime,
    likeness: Likeness | None = None,
) -> tuple[list[Lead], Scores]:
    """Find the candidates for a query, and score them.

    Args:
        store: where they are.
        vector: the query's.
        query: its text.
        where: what passes.
        limit: how many are wanted.
        weights: of the parts.
        now: what "yesterday" is told from.
        likeness: tells which words are related.

    Returns:
        The candidates, oldest first, and their scores.
    """
    size = max(limit, weights.candidates)
    most = _AT_FIRST * size
    nearest = store.leads(vector, where=where, limit=most + 1)
    memories = 0 if len(nearest) <= most else store.count(where)
    if most < memories <= _WHOLE * size:
        most = _WHOLE * size
        nearest = store.leads(vector, where=where, limit=most + 1)
    words = query_words(query)[:_MOST_WORDS]
    absent = 0.0 if likeness is None else weights.related
    times = windows(query, now) if weights.time else ()
    if len(nearest) <= most:  # these are all
        found = _ordered(nearest)
        texts = Texts(lead.clue.words for lead in found)
        asked = _asked_of(found, texts, words, times, absent)
        return found, score(found, asked, weights, likeness, texts=texts)
    leads = {lead.clue.id: lead for lead in _best(nearest, size)}
    known = _names(nearest)
    asked, counts = _asked(store, where, words, times, absent, memories=memories, known=known)
    rare = _rare(counts, _BY_WORDS * size) if weights.words else ()
    for special, most in (
        (In(WORD, rare) if rare else None, _BY_WORDS * size),
        (_said_in(asked.windows) if asked.windows else None, size),
        (In(NAME, tuple(sorted(asked.names))) if asked.names and weights.speaker else None, size),
    ):
        if special is not None:
            some = store.leads(vector, where=all_of(where, special), limit=most)
            leads.update({lead.clue.id: lead for lead in some})
    found = _ordered(leads.values())
    scores = score(found, asked, weights, likeness)
    places = _missing_places(found, scores, max(limit, _BEST)) if weights.neighbours or weights.answers else ()
    if places:
        beside = store.leads(vector, where=all_of(where, In(PLACE, places)), limit=len(places))
        leads.update({lead.clue.id: lead for lead in beside})
        found = _ordered(leads.values())
        scores = score(found, asked, weights, likeness)
    return found, scores


def _best(nearest: Sequence[Lead], size: int) -> Iterable[Lead]:
    """The first of them, and those that tie with the last of these."""
    least = nearest[size - 1].similarity - _TIE
    return takewhile(lambda lead: lead.similarity >= least, nearest)


def _ordered(leads: Iterable[Lead]) -> list[Lead]:
    """In an order that no engine decides: by age."""
    return sorted(leads, key=lambda lead: (lead.clue.created, lead.clue.id))


def _asked_of(leads: Sequence[Lead], texts: Texts, words: _Words, times: tuple[Window, ...], absent: float) -> Asked:
    """What is asked, told from all the memories that pass, and their texts."""
    spoken = _names(leads)
    names, kept = _without_names(words, spoken)
    counts = [(int(texts.having(keys).sum()), keys) for keys in kept]
    return Asked(_weighed(counts, len(leads), absent), names, times)


def _asked(
    store: Store,
    where: Node,
    words: _Words,
    times: tuple[Window, ...],
    absent: float,
    *,
    memories: int,
    known: set[str],
) -> tuple[Asked, _Counts]:
    """The same, told from the engine's counts; and the words with how many of the memories have each.

    Of the words of speakers' names some are `known`.
    """
    unknown = tuple(dict.fromkeys(key for keys in words for key in keys if key not in known))
    spoken = known | _spoken(store, where, unknown)
    names, kept = _without_names(words, spoken)
    counts = list(zip(store.counts(where, WORD, kept), kept, strict=True))
    return Asked(_weighed(counts, memories, absent), names, times), counts


def _names(leads: Iterable[Lead]) -> set[str]:
    """The words of the names of those who spoke."""
    return {key for name in {lead.clue.name for lead in leads} for key in name.split()}


def _spoken(store: Store, where: Node, keys: tuple[str, ...]) -> set[str]:
    """Those of the keys that are in a speaker's name. Few are, if any, and the others are told in few answers."""
    if not keys or not store.count(all_of(where, In(NAME, keys))):
        return set()
    if len(keys) == 1:
        return set(keys)
    half = len(keys) // 2
    return _spoken(store, where, keys[:half]) | _spoken(store, where, keys[half:])


def _weighed(counts: _Counts, memories: int, absent: float) -> tuple[tuple[tuple[str, ...], float], ...]:
    """The words and their weights; none where no memory has any of them."""
    if not any(having for having, _ in counts):
        return ()
    weighed = [(keys, idf(memories, having) * (1.0 if having else absent)) for having, keys in counts]
    return tuple((keys, weight) for keys, weight in weighed if weight)


def _without_names(words: _Words, spoken: set[str]) -> tuple[frozenset[str], _Words]:
    """Which words name a speaker, and the others; all of them, where a query is nothing but names.

    Who speaks is named by the others: a memory that has the name in its text is likely not the one's who is meant.
    """
    names = frozenset(key for keys in words for key in keys if key in spoken)
    return names, [keys for keys in words if not names.intersection(keys)] or words


def _said_in(times: Sequence[Window]) -> Node:
    """Holds for what was said in one of some times."""
    return Or(
        tuple(
            all_of(
                Compare("occurred_at", "gte", from_micros(time.start)),
                Compare("occurred_at", "lt", from_micros(time.end)),
            )
            for time in times
        )
    )


def _rare(counts: _Counts, most: int) -> tuple[str, ...]:
    """The keys of the rarest words, as many as not more than `most` memories have; of one at least."""
    found: list[str] = []
    total = 0
    for having, keys in sorted(each for each in counts if each[0]):
        total += having
        if found and total > most:
            break
        found += keys
    return tuple(dict.fromkeys(found))


def _missing_places(leads: Sequence[Lead], scores: Scores, most: int) -> tuple[str, ...]:
    """The places beside the best candidates, `most` of them, that are not among them."""
    clues = [lead.clue for lead in leads]
    there = {(clue.run, clue.position) for clue in clues}
    best = sorted(range(len(clues)), key=lambda place: -scores.total[place])[:most]
    missing = dict.fromkeys(
        place_of(clues[place].run, position)
        for place in best
        if clues[place].run
        for position in range(clues[place].position - _REACH, clues[place].position + _REACH + 1)
        if position >= 0 and (clues[place].run, position) not in there
    )
    return tuple(missing)
