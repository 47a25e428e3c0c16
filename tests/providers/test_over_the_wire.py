"""OpenAI and Ollama through the official clients, over real HTTP, against servers that speak the protocol strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import ConfigError, ProviderError, TextTooLong
from memstack.testing import Fault, OllamaServer
from tests.providers.conftest import KEY, Provider


def _open(path: Path, **sections: Any) -> MemoryGateway:
    return open_memory({"vector_store": {"path": str(path / "memory")}}, **sections)


def test_an_embedder_stores_and_finds(provider: Provider, tmp_path: Path) -> None:
    """With a provider's embeddings and no LLM, everything but inference works, and usage is counted."""
    with _open(tmp_path, embedder=provider.embedder) as memory:
        alex = memory.for_user("alex")
        assert len(alex.add(["I drink tea in the morning", "The train was late"]).stored) == 2
        assert alex.search("hot drinks", limit=1)[0].text == "I drink tea in the morning"
        assert memory.stats()["embedder"]["tokens"]["embedding"] > 0
        assert memory.stats()["embedder"]["dimensions"] in (768, 1536)


def test_an_llm_infers(provider: Provider, tmp_path: Path) -> None:
    """With a provider's LLM, add extracts facts, and they are found."""
    with _open(tmp_path, llm=provider.llm) as memory:
        result = memory.add("I drink tea in the morning. I work on the Phoenix project.", user_id="alex")
        assert len(result.stored) >= 1
        assert not result.failed
        assert memory.search("tea", user_id="alex")


def test_one_text_that_is_too_long_stops_no_other(provider: Provider, tmp_path: Path) -> None:
    """A text that the embedder refuses for its length is in `failed` alone; an import does the same."""
    config = {"vector_store": {"path": str(tmp_path / "here")}, "embedder": provider.embedder}
    long = "word " * 9_000
    told: list[int] = []
    with open_memory(config) as memory:
        said = [f"a short fact, number {i}" for i in range(20)]
        result = memory.add_many([*said[:7], long, *said[7:]], user_id="alex", progress=told.append)
        assert [failed.index for failed in result.failed] == [7]
        assert "longer than the model takes" in result.failed[0].reason
        assert not result.failed[0].retryable
        assert sorted(one.text for one in memory.iter_all(user_id="alex")) == sorted(said)
        assert told == [21]
        with pytest.raises(TextTooLong, match="a longer context"):
            memory.add(["a new fact", long], user_id="alex", infer=False)
        assert len(memory.get_all(user_id="alex")) == 20
    with open_memory(vector_store={"path": str(tmp_path / "builtin")}) as builtin:
        builtin.add_many([*said, long], user_id="alex")
        builtin.export(tmp_path / "all.jsonl")
    with open_memory({**config, "vector_store": {"path": str(tmp_path / "there")}}) as memory:
        report = memory.import_(tmp_path / "all.jsonl")
        assert (report.stored, len(report.failed)) == (20, 1)


@pytest.mark.parametrize(
    "fault",
    [Fault.status(429, retry_after=0), Fault.status(500), Fault.status(503), Fault.cut(), Fault.cut_midway()],
    ids=["429", "500", "503", "cut", "cut midway"],
)
def test_a_passing_fault_is_tried_again(provider: Provider, tmp_path: Path, fault: Fault) -> None:
    """A fault that passes is not seen by the caller: nothing is lost, nothing is stored twice."""
    with _open(tmp_path, embedder=provider.embedder) as memory:
        provider.server.fail(fault, times=2)
        assert len(memory.add("I drink tea", user_id="alex").stored) == 1
        assert len(memory.get_all(user_id="alex")) == 1


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        (Fault.status(500), True),
        (Fault.status(401), False),
        (Fault.status(404), False),
        (Fault.status(400), False),
        (Fault.slow(5), True),
        (Fault.wrong_dimensions(), False),
        (Fault.fewer_vectors(), True),
    ],
    ids=["500", "401", "404", "400", "slow", "wrong dimensions", "fewer vectors"],
)
def test_a_lasting_fault_is_an_error(provider: Provider, tmp_path: Path, fault: Fault, retryable: bool) -> None:
    """A fault that stays is a ProviderError that tells all but key and text; nothing is stored; the next call works."""
    with _open(tmp_path, embedder=provider.embedder) as memory:
        memory.add("the first", user_id="alex")
        provider.server.fail(fault, times=None)
        with pytest.raises(ProviderError) as caught:
            memory.add("I drink tea", user_id="alex")
        error = caught.value
        assert error.retryable is retryable
        assert error.provider == provider.embedder["provider"]
        assert error.model == provider.embedder["model"]
        assert error.attempts == (3 if retryable else 1)
        assert KEY not in str(error)
        assert "tea" not in str(error)
        provider.server.heal()
        assert len(memory.get_all(user_id="alex")) == 1
        assert len(memory.add("I drink tea", user_id="alex").stored) == 1


def test_the_breaker_opens_and_says_so(provider: Provider, tmp_path: Path) -> None:
    """After repeated failure calls are refused at once, without reaching the server."""
    embedder = {**provider.embedder, "max_retries": 0, "breaker_failures": 2, "breaker_pause": 60}
    with _open(tmp_path, embedder=embedder) as memory:
        memory.add("the first", user_id="alex")
        provider.server.fail(Fault.status(500), times=None)
        for _ in range(2):
            with pytest.raises(ProviderError, match="HTTP 500"):
                memory.add("I drink tea", user_id="alex")
        reached = len(provider.server.requests)
        with pytest.raises(ProviderError, match="in a row failed"):
            memory.add("I drink tea", user_id="alex")
        assert len(provider.server.requests) == reached


def test_a_missing_key_names_the_variable(tmp_path: Path) -> None:
    """Without a key, OpenAI's own address is refused with the variable and the option that set it."""
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        _open(tmp_path, embedder={"provider": "openai", "model": "text-embedding-3-small"})
    assert caught.value.where == "embedder.api_key"


def test_an_ollama_model_may_be_named_with_its_tag(tmp_path: Path) -> None:
    """What `nomic-embed-text` filled opens with `nomic-embed-text:latest`, which is the same model, and the reverse."""
    with OllamaServer(models=["nomic-embed-text"]) as server:
        section = {"provider": "ollama", "host": server.host}
        for number, model in enumerate(("nomic-embed-text", "nomic-embed-text:latest", "nomic-embed-text")):
            with _open(tmp_path, embedder={**section, "model": model}) as memory:
                assert len(memory.add(f"I drink {number} cups of tea", user_id="alex").stored) == 1
