"""What every test stands on: an environment of its own, hypothesis profiles, and the stores under test.

A test that asks for `memory`, `shared_memory`, `open_here` or `backend` runs once for each backend that is chosen: the
embedded default, what ``MEMSTACK_TEST_STORE=qdrant-embedded,pgvector`` names, or ``all`` of `BACKENDS`. What such a
test shows holds on every backend: it never asks which one it runs on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from memstack import MemoryGateway
from memstack.testing.contract import Backend, opening
from memstack.testing.contract.base import OpenHere
from memstack.testing.servers import chroma_server

# -- hypothesis ------------------------------------------------------------------------------

# "ci" finds the same on every machine and every day. "thorough" looks twenty times as long, elsewhere each time:
# `pytest --hypothesis-profile thorough`. Tests scale with it through `strategies.examples`.
_SLOW: Final = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("ci", derandomize=True, deadline=None, database=None, suppress_health_check=_SLOW)
settings.register_profile("thorough", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=_SLOW)
settings.load_profile("ci")

# -- backends --------------------------------------------------------------------------------


@contextmanager
def _qdrant_embedded(folder: Path) -> Iterator[Backend]:
    yield Backend(lambda path: _config(path, provider="qdrant", mode="embedded", path=str(path / "store")))


@contextmanager
def _qdrant_memory(folder: Path) -> Iterator[Backend]:
    yield Backend(lambda path: _config(path, provider="qdrant", mode="memory"))


@contextmanager
def _chroma_embedded(folder: Path) -> Iterator[Backend]:
    yield Backend(lambda path: _config(path, provider="chroma", mode="embedded", path=str(path / "store")))


@contextmanager
def _chroma_server(folder: Path) -> Iterator[Backend]:
    with chroma_server(folder) as options:
        yield Backend(lambda path: _config(path, provider="chroma", collection=_collection(path), **options))


@contextmanager
def _pgvector(folder: Path) -> Iterator[Backend]:
    server = {"provider": "pgvector", "mode": "embedded", "path": str(folder)}  # one for all
    yield Backend(lambda path: _config(path, collection=_collection(path), **server))


def _config(folder: Path, /, **section: Any) -> dict[str, Any]:
    return {"vector_store": section, "history": {"path": str(folder / "history.db")}}


def _collection(path: Path) -> str:
    """A collection for each folder, for backends whose data lies on a server."""
    return f"c{hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()}"


# Each entry starts what its backend needs (a server on a free port, given a folder for its files), and stops it.
BACKENDS: Final[dict[str, Callable[[Path], AbstractContextManager[Backend]]]] = {
    "qdrant-embedded": _qdrant_embedded,
    "qdrant-memory": _qdrant_memory,
    "chroma-embedded": _chroma_embedded,
    "chroma-server": _chroma_server,
    "pgvector": _pgvector,
}


DEFAULT: Final = "qdrant-embedded"  # the others take longer, and are asked for


def _chosen() -> list[str]:
    asked = [name.strip() for name in os.environ.get("MEMSTACK_TEST_STORE", "").split(",") if name.strip()]
    unknown = [name for name in asked if name not in BACKENDS and asked != ["all"]]
    if unknown:
        raise pytest.UsageError(f"MEMSTACK_TEST_STORE: there is no {', '.join(unknown)}. Known: {', '.join(BACKENDS)}.")
    return list(BACKENDS) if asked == ["all"] else asked or [DEFAULT]


def pytest_configure(config: pytest.Config) -> None:
    """Stop before collection when a store is named that does not exist."""
    _chosen()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a store once for each that was chosen."""
    if "store_name" in metafunc.fixturenames:
        metafunc.parametrize("store_name", _chosen(), indirect=True, scope="session")


# -- the environment -------------------------------------------------------------------------

_FOREIGN: Final = ("MEMSTACK_", "OPENAI_", "OLLAMA_", "QDRANT_", "MEM0_", "DATABASE_URL")


def _isolate(patch: pytest.MonkeyPatch, home: Path) -> None:
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            patch.delenv(name)
    home.mkdir(parents=True, exist_ok=True)
    patch.setenv("HOME", str(home))
    patch.setenv("USERPROFILE", str(home))
    for name in ("DATA", "CONFIG", "CACHE", "STATE"):
        patch.setenv(f"XDG_{name}_HOME", str(home / f".{name.lower()}"))


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting of the developer's reaches a test; homes are temporary. Here for what opens before a test does."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def _environment_of_test(_own_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test, or a library that it runs, changes in the environment ends with the test."""
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("home"))
        yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


# -- stores ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def store_name(request: pytest.FixtureRequest) -> str:
    """The name of the backend of this run. For reports: a test that asks for it is not the same on every backend."""
    return str(request.param)


@pytest.fixture(scope="session")
def backend(store_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The backend of this run, started."""
    with BACKENDS[store_name](tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def open_here(backend: Backend) -> Iterator[OpenHere]:
    """``open_here(path, **overrides)`` opens the memory of a folder; the test's end closes it."""
    with opening(backend) as open_here:
        yield open_here


@pytest.fixture
def memory(open_here: OpenHere, tmp_path: Path) -> MemoryGateway:
    """An empty memory."""
    return open_here(tmp_path)


@pytest.fixture(scope="module")
def shared_memory(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryGateway]:
    """A memory that the tests of a module share: each keeps to scopes of its own."""
    with opening(backend) as open_here:
        yield open_here(tmp_path_factory.mktemp("shared"))
