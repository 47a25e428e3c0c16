"""A configuration that `Memory()` finds by itself: each backend, with the built-in embedder and with OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from memstack.compat import Memory
from memstack.testing import OpenAIServer
from memstack.testing.contract import Backend

KEY = "sk-test-not-to-be-shown"


@pytest.fixture(params=["builtin", "openai"])
def models(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The sections of an embedder and an LLM: none but the built-in one, or OpenAI's over the wire."""
    if request.param == "builtin":
        yield {}
        return
    pytest.importorskip("openai")
    with OpenAIServer(api_key=KEY) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield {
            "embedder": {"provider": "openai", "model": "text-embedding-3-small"},
            "llm": {"provider": "openai", "model": "gpt-4.1-nano"},
        }


def _write(path: Path, sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    file = path / "memstack.yaml"
    file.write_text(yaml.safe_dump(sections), encoding="utf-8")
    monkeypatch.setenv("MEMSTACK_CONFIG", str(file))


@pytest.fixture
def configured(
    backend: Backend, models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """``Memory()`` opens the backend of this run, with these models."""
    sections = {**backend.config(tmp_path), **models}
    _write(tmp_path, sections, monkeypatch)
    return sections


@pytest.fixture
def m(backend: Backend, tmp_path: Path) -> Iterator[Memory]:
    """An empty memory of the backend of this run, with the built-in embedder."""
    with Memory(backend.config(tmp_path)) as memory:
        yield memory
