"""What settings tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from memstack.config import Settings
from memstack.config.layers import SECTIONS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"vector_store": {"path": "a"}}, "a/history.db"),
        ({"vector_store": {"provider": "chroma", "path": "a"}}, "a/history.db"),
        ({"vector_store": {"provider": "pgvector", "path": "a"}}, "a/history.db"),
        ({}, "home/data/memstack/memory/history.db"),
        ({"vector_store": {"url": "http://h"}}, "home/data/memstack/history.db"),
        ({"vector_store": {"provider": "chroma", "host": "h"}}, "home/data/memstack/history.db"),
        ({"vector_store": {"provider": "pgvector", "host": "h"}}, "home/data/memstack/history.db"),
        ({"vector_store": {"mode": "memory"}}, None),
        ({"vector_store": {"mode": "memory"}, "history": {"path": "h.db"}}, "h.db"),
        ({"vector_store": {"url": "http://h"}, "history": {"path": "x/h.db"}}, "x/h.db"),
        ({"vector_store": {"path": "a"}, "history": {"path": ":memory:"}}, None),
    ],
)
def test_the_history_lies_beside_the_store(options: dict[str, Any], expected: str | None, tmp_path: Path) -> None:
    """Beside an embedded store, else in the user's data folder; in memory (None) with a store in memory."""
    assert Settings.load(options).history_path == (expected and tmp_path / expected)


def test_masked_is_plain_data() -> None:
    """What is shown can be written as JSON, and has every option."""
    settings = Settings.load({"embedder": {"provider": "ollama", "model": "m"}})
    shown = settings.masked()
    assert json.loads(json.dumps(shown)) == shown
    assert list(shown) == list(Settings.model_fields)
    assert shown["embedder"]["host"] == "http://127.0.0.1:11434"


def test_the_dump_has_the_options_of_each_provider() -> None:
    """A dump by pydantic has the provider's options, not only those that all providers have."""
    settings = Settings.load({"llm": {"provider": "ollama", "model": "m"}})
    assert settings.model_dump()["llm"]["num_ctx"] == 16384


def test_the_sections_are_those_of_the_model() -> None:
    """The list of sections and the fields of the settings agree."""
    values = {name: getattr(Settings.load(), name) for name in Settings.model_fields}
    assert {name for name, value in values.items() if isinstance(value, BaseModel)} == set(SECTIONS)


def test_settings_made_directly_are_loaded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is its own loader, as with every pydantic-settings class."""
    monkeypatch.setenv("MEMSTACK_OFFLINE", "true")
    settings = Settings(custom_instructions="x")
    assert (settings.offline, settings.custom_instructions) == (True, "x")
    assert Settings({"offline": False}).offline


def test_a_caller_s_mapping_is_left_as_it_was() -> None:
    """Loading changes nothing of what it is given."""
    given = {
        "vector_store": {"provider": "qdrant", "config": {"path": "a"}},
        "llm": {"provider": "openai", "config": {}},
    }
    before = json.dumps(given)
    Settings.load(given, vector_store={"collection": "abc"})
    assert json.dumps(given) == before


def test_importing_config_is_cheap(tmp_path: Path) -> None:
    """No engine, no client library, not even the YAML reader is loaded by an import."""
    script = "import sys; import memstack.config; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = set(done.stdout.split())
    heavy = {"mem0", "qdrant_client", "qdrant_edge", "chromadb", "openai", "ollama", "psycopg", "wordllama", "yaml"}
    assert "pydantic_settings" in loaded
    assert not loaded & heavy
