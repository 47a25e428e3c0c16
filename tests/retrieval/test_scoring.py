"""The formula of scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.clues import Clue
from memstack.config import RetrievalConfig
from memstack.retrieval.dates import Window
from memstack.retrieval.scoring import Asked, Texts, idf, score
from memstack.retrieval.weights import Weights
from memstack.stores.base import Lead

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memstack.retrieval.scoring import Likeness

DEFAULT = Weights(**RetrievalConfig().model_dump(exclude={"reranker", "rerank"}))
PARTS = ("words", "related", "neighbours", "session", "speaker", "answers", "time")
ASKED = Asked(((("tea",), 2.0), (("green",), 1.0)), frozenset({"ann"}), (Window(100, 200),))

clues = st.builds(
    Clue,
    id=st.uuids().map(str),
    run=st.sampled_from(["", "a", "b"]),
    position=st.integers(0, 6),
    name=st.sampled_from(["", " ann ", " ben "]),
    asks=st.booleans(),
    occurred=st.integers(-(2**60), 2**60),
    created=st.integers(0, 2**50),
    words=st.sampled_from(["", " tea ", " green ", " green tea ", " teapot "]),
)
ALIKE = {("teapot", "tea"): 0.7, ("teapot", "green"): 0.3, ("green", "tea"): 0.5}
words_ = st.sampled_from(["a", "aa", "ab", "b", "ba", "\u6771", "\U0001f375"])
leads = st.lists(st.builds(Lead, clues, st.floats(-1, 1)), max_size=12)
weights = st.builds(Weights, **{name: st.floats(0, 1) for name in PARTS}, candidates=st.just(128))


def _without(*names: str) -> Weights:
    off: dict[str, Any] = dict.fromkeys(names, 0.0)
    return dataclasses.replace(DEFAULT, **off)


def _likeness(texts: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
    """The cosines of `ALIKE`; 1 for a word and itself."""
    cosines = [
        [
            max([1.0 if mine == word else ALIKE.get((mine, word), 0.0) for mine in text.split()] or [0.0])
            for word in words
        ]
        for text in texts
    ]
    return np.array(cosines, dtype=np.float32).reshape(len(texts), len(words))


def _score_of(words: str, *others: str, asked: Asked = ASKED, given_: Weights = DEFAULT) -> float:
    """The score of a memory with these words, beside memories with others."""
    clues_ = [Clue(str(place), "", 0, "", False, 0, 0, f" {held} ") for place, held in enumerate([words, *others])]
    return float(score([Lead(clue, 0.2) for clue in clues_], asked, given_, _likeness).total[0])


@given(st.lists(st.lists(words_, max_size=4, unique=True), max_size=8), st.lists(words_, max_size=3))
def test_keys_are_looked_up_in_all_texts(held: list[list[str]], keys: list[str]) -> None:
    """A text has a key where that is one of its words whole, whatever the words beside it and in other texts are."""
    found = Texts(f" {' '.join(words)} " if words else "" for words in held).having(tuple(keys))
    assert found.tolist() == [not set(words).isdisjoint(keys) for words in held]


@given(leads, weights, st.sampled_from([None, _likeness]))
def test_scores_lie_in_their_range(found: list[Lead], given_: Weights, likeness: Likeness | None) -> None:
    """Every score is in [0, 1], whatever the weights, and its parts sum up to it."""
    scores = score(found, ASKED, given_, likeness)
    for place in range(len(found)):
        assert 0.0 <= scores.total[place] <= 1.0
        assert sum(float(part[place]) for part in scores.parts.values()) == pytest.approx(scores.total[place], abs=1e-9)


@given(leads)
def test_a_part_of_no_weight_has_no_share(found: list[Lead]) -> None:
    """A part that is switched off has no share in any score; with all of them off the score is the similarity."""
    for name in PARTS:
        scores = score(found, ASKED, _without(name), _likeness)
        assert abs(scores.parts[name]).max(initial=0) < 1e-12
    assert score(found, ASKED, _without(*PARTS), _likeness).total.tolist() == [
        max(0.0, lead.similarity) for lead in found
    ]


@given(leads, st.sampled_from([None, _likeness]), st.data())
def test_being_nearer_is_better(found: list[Lead], likeness: Likeness | None, data: st.DataObject) -> None:
    """A memory that is more similar, or has one more word, never scores less."""
    if not found:
        return
    place = data.draw(st.integers(0, len(found) - 1))
    before = float(score(found, ASKED, DEFAULT, likeness).total[place])
    nearer = found.copy()
    nearer[place] = found[place]._replace(similarity=min(1.0, found[place].similarity + 0.1))
    assert float(score(nearer, ASKED, DEFAULT, likeness).total[place]) >= before - 1e-12
    wordy = found.copy()
    wordy[place] = found[place]._replace(clue=dataclasses.replace(found[place].clue, words=" green tea "))
    assert float(score(wordy, ASKED, DEFAULT, likeness).total[place]) >= before - 1e-12


@given(leads, st.data())
def test_what_says_just_that_scores_one(found: list[Lead], data: st.DataObject) -> None:
    """All words and the very direction are a score of 1, whoever stands beside it in the run."""
    if not found:
        return
    place = data.draw(st.integers(0, len(found) - 1))
    clue = dataclasses.replace(found[place].clue, words=" green tea ")
    found[place] = Lead(clue, 1.0)
    assert float(score(found, ASKED, DEFAULT, _likeness).total[place]) == pytest.approx(1.0)


@given(leads)
def test_what_stands_in_no_run_is_alone(found: list[Lead]) -> None:
    """A memory outside of runs scores what it scores by itself, whoever is beside it, and whatever they ask."""
    scores = score(found, ASKED, DEFAULT, _likeness).total
    for place, lead in enumerate(found):
        if not lead.clue.run:
            assert float(scores[place]) == pytest.approx(float(score([lead], ASKED, DEFAULT, _likeness).total[0]))


def test_related_words() -> None:
    """A word that means about the same as the query's counts something, and less than the query's own word."""
    assert _score_of("teapot", "tea") > _score_of("cup", "tea")
    assert _score_of("teapot", "tea") < _score_of("tea", "tea")
    assert _score_of("teapot", "tea", given_=_without("related")) == _score_of("cup", "tea")


def test_words_that_are_not_related() -> None:
    """Below the least cosine of related words nothing is counted."""
    only_green = Asked(((("green",), 1.0),), frozenset(), ())
    assert _score_of("teapot", "green", asked=only_green) == _score_of("cup", "green", asked=only_green)


def test_rare_words_weigh_more() -> None:
    """A word weighs the more the fewer memories have it, and never nothing."""
    found = [idf(100, having) for having in range(101)]
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0
