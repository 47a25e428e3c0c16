"""docs/providers.md: its code runs and prints what the page says; its figures are those of the configuration."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from memstack import open_memory
from memstack.config import OllamaLLM, OpenAIEmbedder

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")


def test_the_code_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is run as it stands."""
    pytest.importorskip("qdrant_client")
    monkeypatch.chdir(tmp_path)
    _, code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "docs/providers.md", "exec"), {})  # noqa: S102  # our own page
    assert printed.getvalue() == shown


def test_the_provider_of_ones_own_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class stands where the page says, is named as the page says, and embeds."""
    code, _ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (names,) = re.findall(r"```toml\n.*?\n(.*?)```", PAGE, re.DOTALL)
    about = tmp_path / "my_app-1.dist-info"
    for folder in (tmp_path / "my_app", about):
        folder.mkdir()
    (tmp_path / "my_app" / "models.py").write_text(code, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_app\nVersion: 1\n", encoding="utf-8")
    (group,) = re.findall(r'"(memstack\.\w+)"', names)
    (about / "entry_points.txt").write_text(f"[{group}]\n{names.splitlines()[1].replace(chr(34), '')}\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    store = {"path": str(tmp_path / "memory")}
    with open_memory({"vector_store": store, "embedder": {"provider": "letters", "weight": 2}}) as memory:
        memory.add(["aab", "zzz"], user_id="alex")
        assert [hit.text for hit in memory.search("ba", user_id="alex", limit=1)] == ["aab"]


@pytest.mark.parametrize("option", re.findall(r"^\| `(\w+)` \| (\d+)(?: s)? \|", PAGE, re.MULTILINE))
def test_defaults_are_as_the_page_says(option: tuple[str, str]) -> None:
    """Each default in the table is the configuration's."""
    name, value = option
    for section in (OllamaLLM(model="m"), OpenAIEmbedder(model="m")):
        assert getattr(section, name) == float(value)
