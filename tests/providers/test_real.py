"""The same against the real services: with ``OPENAI_API_KEY`` (and ``OPENAI_BASE_URL``), or ``OLLAMA_HOST``.

Other tests never see these variables (see ``tests/conftest.py``). The models are named by
``MEMSTACK_TEST_{OPENAI,OLLAMA}_{EMBEDDER,LLM}``; Ollama's have to be there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import open_memory
from memstack.errors import ProviderError

KEY: Final = os.environ.get("OPENAI_API_KEY", "")  # read before the fixtures take it away
URL: Final = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
HOST: Final = os.environ.get("OLLAMA_HOST", "")


def _named(provider: str, part: str, default: str) -> str:
    return os.environ.get(f"MEMSTACK_TEST_{provider}_{part}", default)


OPENAI: Final = {"provider": "openai", "api_key": KEY, "base_url": URL}
OLLAMA: Final = {"provider": "ollama", "host": HOST}
REAL: Final = [
    pytest.param(
        {**OPENAI, "model": _named("OPENAI", "EMBEDDER", "text-embedding-3-small")},
        {**OPENAI, "model": _named("OPENAI", "LLM", "gpt-4.1-mini")},
        id="openai",
        marks=pytest.mark.skipif(not KEY, reason="OPENAI_API_KEY is not set: the real service is not asked"),
    ),
    pytest.param(
        {**OLLAMA, "model": _named("OLLAMA", "EMBEDDER", "nomic-embed-text")},
        {**OLLAMA, "model": _named("OLLAMA", "LLM", "qwen3")},
        id="ollama",
        marks=pytest.mark.skipif(not HOST, reason="OLLAMA_HOST is not set: the real service is not asked"),
    ),
]
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(("embedder", "llm"), REAL)
def test_facts_are_extracted_and_found(embedder: dict[str, Any], llm: dict[str, Any], tmp_path: Path) -> None:
    """A real model extracts facts that say what was said, knows their messages, and they are found by meaning."""
    said: list[Any] = [
        {"role": "user", "content": "I drink green tea every morning, never coffee."},
        {"role": "assistant", "content": "Noted!"},
        {"role": "user", "content": "My train to Berlin leaves at eight on Monday."},
    ]
    with open_memory({"vector_store": {"path": str(tmp_path / "memory")}}, embedder=embedder, llm=llm) as memory:
        result = memory.add(said, user_id="alex")
        assert result.failed == ()
        assert any("tea" in found.text.lower() for found in result.stored)
        assert any("berlin" in found.text.lower() for found in result.stored)
        assert all(found.source for found in result.stored)
        assert "tea" in memory.search("hot drinks", user_id="alex", limit=1)[0].text.lower()
        figures = memory.stats()
        assert figures["llm"]["tokens"]["prompt"] > 1000
        assert figures["embedder"]["tokens"]["embedding"] > 0


@pytest.mark.parametrize(("embedder", "llm"), REAL)
def test_a_model_that_does_not_exist(embedder: dict[str, Any], llm: dict[str, Any], tmp_path: Path) -> None:
    """The real service's refusal is a typed error, made once, without the key."""
    place = {"vector_store": {"path": str(tmp_path / "memory")}}
    with open_memory(place, embedder=embedder, llm={**llm, "model": "no-such-model-memstack"}) as memory:
        with pytest.raises(ProviderError) as caught:
            memory.add("I drink tea.", user_id="alex")
        assert (caught.value.attempts, caught.value.retryable) == (1, False)
        assert not KEY or KEY not in str(caught.value)
