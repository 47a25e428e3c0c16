"""What a search asks an engine for, beside the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memstack.clues import Clue
from memstack.filters import F, Node
from memstack.retrieval.candidates import _missing_places, _rare, _spoken, _without_names
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
