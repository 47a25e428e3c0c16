"""An environment without settings, and an empty working directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

LLM: Final[dict[str, Any]] = {"llm": {"provider": "ollama", "model": "m"}}  # what `custom_instructions` are for
_FOREIGN = ("MEMSTACK_", "OPENAI_", "OPENROUTER_", "OLLAMA_", "QDRANT_", "DATABASE_URL", "PG")


@pytest.fixture(autouse=True)
def _empty_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's environment or folder reaches a test."""
    for name in list(os.environ):
        if name.upper().startswith(_FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file in the working directory, ``memstack.yaml`` unless it is named."""

    def _write(content: str | bytes, name: str = "memstack.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write
