"""The house is built as docs/architecture.md says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import memstack

ROOT = Path(__file__).parents[2]
PACKAGE = Path(memstack.__file__).parent  # the tests of the built wheel run without the source tree


def _declared() -> dict[str, set[str]]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", allowed)) for room, allowed in rows}


def _imports(path: Path) -> Iterator[str]:
    """The modules that a file imports at run time, at its top and inside functions."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == "memstack":
                yield from (f"memstack.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _files() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room not in ("__init__", "__main__"):
            found.append((room, path))
    return found


@pytest.mark.parametrize(("room", "path"), _files(), ids=lambda value: value.stem if isinstance(value, Path) else value)
def test_a_room_imports_only_what_it_may(room: str, path: Path) -> None:
    """Every import of a module is allowed by the table; the table knows every room."""
    allowed = _declared()[room] | {room}
    used = {name.split(".")[1] for name in _imports(path) if name.startswith("memstack.")}
    assert used <= allowed


def test_the_table_has_no_circles() -> None:
    """Rooms can be put in an order in which each imports only earlier ones."""
    left = _declared()
    while left:
        free = [room for room, allowed in left.items() if not allowed & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def test_one_room_imports_mem0() -> None:
    """One module imports Mem0."""
    using = {room for room, path in _files() for name in _imports(path) if name.split(".")[0] == "mem0"}
    assert using == {"composed"}
