"""examples/combinations.py on all six, with the models' protocols spoken by real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.combinations import MODELS, STORES
from memstack.testing import OllamaServer, OpenAIServer

SCRIPT = Path(__file__).parents[2] / "examples" / "combinations.py"
KEY = "sk-test-not-to-be-shown"


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """A provider that answers, and the variables of the environment that reach it."""
    pytest.importorskip(request.param)
    if request.param == "openai":
        with OpenAIServer(api_key=KEY) as openai:
            yield "openai", {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": openai.base_url}
    else:
        with OllamaServer() as ollama:
            yield "ollama", {"OLLAMA_HOST": ollama.host}


def test_the_same_answer_on_every_engine(model: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """One program and one provider print the same on the three engines, scores included."""
    for module in ("chromadb", "psycopg"):
        pytest.importorskip(module)
    name, environment = model
    printed: dict[str, str] = {}
    for store in STORES:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(SCRIPT), store, name, str(tmp_path)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr
        printed[store] = done.stdout
    assert len(set(printed.values())) == 1, printed
    lines = printed["qdrant"].splitlines()
    assert lines[:2] == [
        "remembered: I prefer tasks scheduled in the morning.",
        "remembered: I work on the Phoenix project.",
    ]
    assert lines[2].startswith("found: ")


@pytest.mark.parametrize("arguments", [(), ("qdrant",), ("qdrant", "nobody"), ("nothing", "openai")])
def test_how_to_call_it_is_told(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Without its two arguments it prints the usage, and makes nothing."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert "python examples/combinations.py {qdrant,chroma,pgvector} {openai,ollama} [FOLDER]" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
