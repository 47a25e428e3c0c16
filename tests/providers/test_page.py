"""docs/providers.md: its code runs and prints what the page says; its figures are those of the configuration."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from memstack.config import OllamaLLM, OpenAIEmbedder

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")


def test_the_code_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is run as it stands."""
    pytest.importorskip("qdrant_client")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "docs/providers.md", "exec"), {})  # noqa: S102  # our own page
    assert printed.getvalue() == shown


@pytest.mark.parametrize("option", re.findall(r"^\| `(\w+)` \| (\d+)(?: s)? \|", PAGE, re.MULTILINE))
def test_defaults_are_as_the_page_says(option: tuple[str, str]) -> None:
    """Each default in the table is the configuration's."""
    name, value = option
    for section in (OllamaLLM(model="m"), OpenAIEmbedder(model="m")):
        assert getattr(section, name) == float(value)
