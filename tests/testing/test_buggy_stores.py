"""The contract finds what is wrong with a store: each bug by the test that is there for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testing.buggy_stores import FOUND_BY, FileStore, Shelf

ROOT = Path(__file__).parents[2]
SUITES = """
import pytest
from memstack.testing import Backend, StoreContract
from tests.testing.buggy_stores import FOUND_BY, FileStore, Shelf

def suite(kind, wanted):
    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls):
        def config(folder):
            path = {"path": str(folder / "store")} if issubclass(kind, FileStore) else {}
            return {"vector_store": {"provider": kind.__name__, **path}, "history": {"path": str(folder / "h.db")}}
        return Backend(config)
    others = [name for name in dir(StoreContract) if name.startswith("test") and name not in wanted]
    waived = dict.fromkeys(others, "another test finds this bug")
    return type(f"Test{kind.__name__}", (StoreContract,), {"backend": backend, "waived": waived})

for kind, wanted in [*FOUND_BY.items(), (Shelf, set(FOUND_BY.values())), (FileStore, set(FOUND_BY.values()))]:
    globals()[f"Test{kind.__name__}"] = suite(kind, {wanted} if isinstance(wanted, str) else wanted)
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Suite and test of whatever fails when the contract runs on all of these stores."""
    folder = tmp_path_factory.mktemp("buggy")
    about = folder / "buggy-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy\nVersion: 1\n")
    stores: list[type[Shelf]] = [*FOUND_BY, Shelf, FileStore]
    points = "".join(f"{store.__name__} = tests.testing.buggy_stores:{store.__name__}\n" for store in stores)
    (about / "entry_points.txt").write_text(f"[memstack.stores]\n{points}")
    (folder / "test_all.py").write_text(SUITES)
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers = exhaustive\nasyncio_default_fixture_loop_scope = function\n"
    )
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", ""), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE", "-m", "not exhaustive"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert " passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    return set(re.findall(r"^(?:FAILED|ERROR) test_all\.py::Test(\w+)::(\w+)", done.stdout, re.MULTILINE))


def test_each_bug_is_found(failed: set[tuple[str, str]]) -> None:
    """The test that is there for a bug fails on the store that has it."""
    expected = {(kind.__name__, test) for kind, test in FOUND_BY.items()}
    assert expected - failed == set()


def test_what_has_no_bug_passes(failed: set[tuple[str, str]]) -> None:
    """The stores that these are made of pass the same tests, so that a bug is all that they show."""
    assert [test for name, test in failed if name in ("Shelf", "FileStore")] == []
