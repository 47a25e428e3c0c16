"""docs/filters.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memstack.filters.ast import INSTANT_FIELDS
from memstack.filters.parse import OPERATORS
from memstack.payload import fields

PAGE = Path(__file__).parents[2] / "docs" / "filters.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks, one after the other; what they assert holds."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 4
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {"__name__": "docs_filters"})  # noqa: S102  # our own page


@pytest.mark.parametrize("name", sorted({*OPERATORS, *fields("", {}), *INSTANT_FIELDS}))
def test_nothing_is_left_out(name: str) -> None:
    """Every operator, and every field that each memory has, stands on the page; what only Mem0 needs does not."""
    assert name == "hash" or re.search(rf"\b{name}\b", TEXT)
