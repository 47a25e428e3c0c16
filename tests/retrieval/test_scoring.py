"""The formula of scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.clues import Clue
from memstack.config import RetrievalConfig
from memstack.retrieval.dates import Window
from memstack.retrieval.scoring import Asked, idf, score
from memstack.retrieval.weights import Weights
from memstack.stores.base import Lead

DEFAULT = Weights(**RetrievalConfig().model_dump(exclude={"reranker", "rerank"}))
PARTS = ("words", "neighbours", "session", "speaker", "answers", "time")
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
leads = st.lists(st.builds(Lead, clues, st.floats(-1, 1)), max_size=12)
weights = st.builds(Weights, **{name: st.floats(0, 1) for name in PARTS}, candidates=st.just(128))


def _without(*names: str) -> Weights:
    off: dict[str, Any] = dict.fromkeys(names, 0.0)
    return dataclasses.replace(DEFAULT, **off)


@given(leads, weights)
def test_scores_lie_in_their_range(found: list[Lead], given_: Weights) -> None:
    """Every score is in [0, 1], whatever the weights, and its parts sum up to it."""
    scores = score(found, ASKED, given_)
    for place in range(len(found)):
        assert 0.0 <= scores.total[place] <= 1.0
        assert sum(float(part[place]) for part in scores.parts.values()) == pytest.approx(scores.total[place], abs=1e-9)


@given(leads)
def test_a_part_of_no_weight_has_no_share(found: list[Lead]) -> None:
    """A part that is switched off has no share in any score; with all of them off the score is the similarity."""
    for name in PARTS:
        scores = score(found, ASKED, _without(name))
        assert abs(scores.parts[name]).max(initial=0) < 1e-12
    assert score(found, ASKED, _without(*PARTS)).total.tolist() == [max(0.0, lead.similarity) for lead in found]


@given(leads, st.data())
def test_being_nearer_is_better(found: list[Lead], data: st.DataObject) -> None:
    """A memory that is more similar, or has one more word, never scores less."""
    if not found:
        return
    place = data.draw(st.integers(0, len(found) - 1))
    before = float(score(found, ASKED, DEFAULT).total[place])
    nearer = found.copy()
    nearer[place] = found[place]._replace(similarity=min(1.0, found[place].similarity + 0.1))
    assert float(score(nearer, ASKED, DEFAULT).total[place]) >= before - 1e-12
    wordy = found.copy()
    wordy[place] = found[place]._replace(clue=dataclasses.replace(found[place].clue, words=" green tea "))
    assert float(score(wordy, ASKED, DEFAULT).total[place]) >= before - 1e-12


def test_rare_words_weigh_more() -> None:
    """A word weighs the more the fewer memories have it, and never nothing."""
    found = [idf(100, having) for having in range(101)]
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0
