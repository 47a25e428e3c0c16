"""What an import costs and does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = ("mem0", "qdrant_client", "qdrant_edge", "chromadb", "openai", "ollama", "psycopg", "wordllama", "numpy")


def _loaded(code: str, cwd: Path) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=cwd)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import memstack",
        "from memstack import *",
        "import memstack.cli",
        "from memstack import Settings; Settings.load({})",
    ],
)
def test_no_backend_is_imported(code: str, tmp_path: Path) -> None:
    """Importing memstack, all its names, its command line, or loading settings imports no engine and no model."""
    assert not _loaded(code, tmp_path) & set(BACKENDS)


def test_the_gateway_works_without_mem0(tmp_path: Path) -> None:
    """Storing and searching with the embedded default imports no Mem0 and no client for HTTP: both take their time."""
    code = (
        "import memstack\n"
        "with memstack.open_memory({'vector_store': {'path': 'memory'}}) as memory:\n"
        "    memory.add('I drink tea', user_id='alex')\n"
        "    assert memory.search('tea', user_id='alex')"
    )
    assert not _loaded(code, tmp_path) & {"mem0", "requests", "urllib3", "httpx"}


def test_every_public_name_is_there() -> None:
    """``memstack.__all__`` names what exists, once, in order."""
    import memstack

    assert len(set(memstack.__all__)) == len(memstack.__all__)
    assert all(hasattr(memstack, name) for name in memstack.__all__)
