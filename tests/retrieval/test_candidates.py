"""What a search asks an engine for, beside the nearest."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstack.clues import Clue
from memstack.filters import F, Node
from memstack.filters.ast import NAME, PLACE, WORD, And, In
from memstack.gateway import MemoryGateway
from memstack.retrieval import candidates
from memstack.retrieval.candidates import _best, _missing_places, _ordered, _rare, _spoken, _without_names, scored
from memstack.retrieval.scoring import Scores
from memstack.stores.base import Lead
from memstack.testing.contract.base import OpenHere


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1, ("quokka",)), (2, ("quokka",)), (5, ("quokka", "wombat")), (305, ("quokka", "wombat", "tea", "teas"))],
)
def test_the_rarest_words_are_looked_for(most: int, expected: tuple[str, ...]) -> None:
    """As many of the rarest as few memories have, one at least; a word that no memory has is not looked for."""
    counts = [(300, ("tea", "teas")), (2, ("quokka",)), (0, ("okapi",)), (3, ("wombat",))]
    assert _rare(counts, most) == expected
    assert _rare([(0, ("okapi",))], most) == ()


def test_a_word_that_no_memory_has_counts(open_here: OpenHere, tmp_path: Path) -> None:
    """Where the embedder knows words, something like it could have been there: what has the others covers less."""
    alex = open_here(tmp_path).for_user("alex")
    alex.add_many(["green tea", "a walk in the park"])

    def covered(query: str) -> float:
        explain = alex.search(query, explain=True)[0].explain
        assert explain is not None
        return float(explain["parts"]["words"])

    assert covered("green okapi") < covered("green")


def test_names_are_not_looked_for_as_words() -> None:
    """Names tell who speaks, and the other words what is said; where a query has no other, its names do."""
    words = [("ann",), ("drink", "drinks")]
    assert _without_names(words, {"ann", "ben"}) == (frozenset({"ann"}), [("drink", "drinks")])
    assert _without_names(words[:1], {"ann"}) == (frozenset({"ann"}), [("ann",)])
    assert _without_names(words, set()) == (frozenset(), words)


@pytest.mark.parametrize("spoken", [[], [0], [36], [3, 4], [0, 17, 35, 36], [*range(37)]])
def test_all_names_are_told_apart(open_here: OpenHere, tmp_path: Path, spoken: list[int]) -> None:
    """Of many words each that is in a speaker's name is found, in few questions where hardly any is."""
    memory = open_here(tmp_path)
    alex = memory.for_user("alex")
    alex.add_many([{"content": "hello", "name": f"name{i}"} for i in spoken] or ["hello"])
    store = memory._core.parts.store
    asked = 0
    count = store.count

    def counted(where: Node) -> int:
        nonlocal asked
        asked += 1
        return count(where)

    memory._core.parts.store.count = counted  # type: ignore[method-assign,assignment]
    keys = tuple(f"name{i}" for i in range(37))
    assert _spoken(store, F.user_id == "alex", keys) == {f"name{i}" for i in spoken}
    assert asked <= 1 + 12 * len(spoken)


def test_places_beside_the_best_are_looked_for() -> None:
    """Two to either side of the best, in a run alone: not what is there, nor what is before the first."""
    places = [("r", 1), ("r", 2), ("", 7), ("s", 9), ("t", 5)]
    leads = [Lead(Clue(str(n), run, at, "", False, 0, n, ""), 0.5) for n, (run, at) in enumerate(places)]
    total = np.array([0.9, 0.1, 0.8, 0.2, 0.7])
    assert set(_missing_places(leads, Scores(total, {}), 3)) == {"r:0", "r:3", "t:3", "t:4", "t:6", "t:7"}
    assert set(_missing_places(leads, Scores(total, {}), 1)) == {"r:0", "r:3"}


NOW = datetime(2026, 7, 2, 12, tzinfo=timezone.utc)
OFF: dict[str, Any] = {
    "words": 0, "neighbours": 0, "session": 0, "speaker": 0, "answers": 0, "time": 0, "candidates": 16,
}  # fmt: skip


def _drawn(memory: MemoryGateway, query: str, limit: int = 5, **weights: Any) -> tuple[int, dict[str, tuple[Any, int]]]:
    """How many candidates a search has, and what it asks for beside the nearest: the values, and how many at most."""
    parts = memory._core.parts
    store: Any = parts.store
    asked: dict[str, tuple[Any, int]] = {}
    leads = store.leads

    def spied(vector: Any, *, where: Node, limit: int) -> Any:
        special = where.children[-1] if isinstance(where, And) else where
        name = special.field if isinstance(special, In) else "times"
        asked["nearest" if where is everything else name] = (getattr(special, "values", None), limit)
        return leads(vector, where=where, limit=limit)

    everything = F.user_id == "alex"
    store.leads = spied
    try:
        chosen = replace(parts.options.weights, **{**OFF, **weights})
        vector = parts.embedder.embed(query)
        found, _ = scored(store, vector, query, where=everything, limit=limit, weights=chosen, now=NOW)
    finally:
        del store.leads
    asked.pop("nearest")
    return len(found), asked


@pytest.mark.parametrize(("there", "limit", "looked_at"), [(64, 5, 64), (65, 5, 16), (80, 20, 80), (81, 20, 20)])
def test_up_to_four_times_the_candidates_all_are_looked_at(
    open_here: OpenHere, tmp_path: Path, there: int, limit: int, looked_at: int
) -> None:
    """As `retrieval.candidates` says; of more, so many of the nearest, or as many as are wanted where that is more."""
    memory = open_here(tmp_path)
    memory.add_many([f"number {i}, {i * i} and {i * i * i}" for i in range(there)], user_id="alex")
    assert _drawn(memory, "tea", limit) == (looked_at, {})


def test_what_is_asked_for_beside_the_nearest(
    open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words, speakers, times and places are each asked for where they count, and nowhere else; so many at most."""
    memory = open_here(tmp_path)
    said = ["green tea"] * 10 + ["a walk in the park"] * 12 + ["something else"] * 50
    talk = [
        {"content": f"{text} {i}", "name": "Ann" if i % 2 else "Ben", "run_id": f"run {i // 8}"}
        for i, text in enumerate(said)
    ]
    memory.add_many(talk, user_id="alex")
    query = "Did Ann walk for tea on 7 May 2023?"

    def of(**weights: Any) -> dict[str, tuple[Any, int]]:
        return _drawn(memory, query, **weights)[1]

    (words, most) = of(words=1)[WORD]
    assert {"tea", "walk"} <= set(words)
    assert most == 32
    assert of(speaker=1) == {NAME: (("ann",), 16)}
    assert of(time=1) == {"times": (None, 16)}
    for part in ("neighbours", "answers"):
        asked = of(**{part: 1})
        assert set(asked) == {PLACE}
        assert asked[PLACE][1] == len(asked[PLACE][0]) > 0
    assert of(session=1) == {}
    monkeypatch.setattr(candidates, "_BEST", 1)
    few, many = (_drawn(memory, query, limit, answers=1)[1].get(PLACE, ((), 0))[1] for limit in (1, 12))
    assert few < many  # beside all that are wanted


def _lead(number: int, created: int = 0, similarity: float = 0.5) -> Lead:
    return Lead(Clue(str(number), "", 0, "", False, 0, created, ""), similarity)


def test_what_ties_with_the_last_is_nearest_too() -> None:
    """Engines put those in different orders that they cannot tell apart: all are candidates, or none."""
    leads = [_lead(n, similarity=similarity) for n, similarity in enumerate((0.9, 0.5, 0.5 - 5e-7, 0.5 - 3e-6))]
    assert [lead.clue.id for lead in _best(leads, 2)] == ["0", "1", "2"]


def test_candidates_of_one_instant_have_an_order() -> None:
    """By age, and by id where that is the same, in whichever order an engine told them."""
    leads = [_lead(1, 7), _lead(2, 7), _lead(3, 5)]
    assert _ordered(leads) == _ordered(leads[::-1]) == [leads[2], leads[0], leads[1]]
