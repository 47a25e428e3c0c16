"""The core of the contract with every other embedder, on every store."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from memstack.errors import EmbedderMismatch
from memstack.testing import OllamaServer
from memstack.testing.contract.base import OpenHere
from memstack.testing.contract.scores import ScoreContract
from memstack.testing.contract.verbs import VerbContract


class TestVerbs(VerbContract):
    embedders: ClassVar[tuple[str, ...]] = ("openai", "ollama")


class TestScores(ScoreContract):
    embedders: ClassVar[tuple[str, ...]] = ("openai", "ollama")


def test_a_memory_is_refused_to_another_embedder(open_here: OpenHere, tmp_path: Path) -> None:
    """With another model, of other dimensions, a memory is not opened: the error names both, and all is as it was."""
    first = open_here(tmp_path)
    first.add("I drink tea", user_id="alex")
    store = first._core.parts.store
    kept, mine = store.capabilities.persistent, store.read_fingerprint()
    assert mine is not None
    first.close()
    if kept:
        with OllamaServer() as server:
            section = {"provider": "ollama", "model": "nomic-embed-text", "host": server.host}
            with pytest.raises(EmbedderMismatch) as caught:
                open_here(tmp_path, embedder=section)
        assert str(mine) in str(caught.value)
        assert "nomic-embed-text" in str(caught.value)
        assert not caught.value.retryable
    again = open_here(tmp_path)
    assert [hit.text for hit in again.search("tea", user_id="alex")] == (["I drink tea"] if kept else [])
