"""Memories, hits and outcomes for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memstack.cli.output import literal

if TYPE_CHECKING:
    from memstack.records import AddResult, Change, Conflict, Hit, Memory

__all__ = [
    "fields_of",
    "moment",
    "pairs",
    "show_added",
    "show_changes",
    "show_conflicts",
    "show_fields",
    "show_hits",
    "show_memories",
]

_LONGEST: Final = 500


def moment(instant: datetime) -> str:
    """An instant, to the minute."""
    return f"{instant.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def show_hits(console: Console, hits: Sequence[Hit]) -> None:
    """Print what a search found, best first."""
    grid = _grid(3)
    for place, hit in enumerate(hits, 1):
        lines: list[RenderableType] = [_described(hit)]
        if hit.explain is not None:
            lines.append(literal(json.dumps(dict(hit.explain), ensure_ascii=False, default=str), style="dim"))
        grid.add_row(f"{place}.", Text(f"{hit.score:.3f}", style="green"), Group(*lines))
    console.print(grid if hits else "Nothing found.")


def show_memories(console: Console, memories: Iterable[Memory]) -> int:
    """Print memories one after the other, as they come; returns how many.

    A dash begins each, and nothing else stands under it: a text may have several lines.
    """
    count = 0
    for memory in memories:
        count += 1
        grid = _grid(2)
        grid.add_row("-", _described(memory))
        console.print(grid)
    return count


def show_added(console: Console, result: AddResult) -> None:
    """Print what became of messages."""
    grid = _grid(2)
    for memory in result.stored:
        grid.add_row(Text("stored", style="green"), _described(memory))
    for skipped in result.skipped:
        there = f" {skipped.memory_id}" if skipped.memory_id else ""
        grid.add_row(Text("skipped", style="yellow"), literal(f"{skipped.detail}{there}"))
    for failed in result.failed:
        grid.add_row(Text("failed", style="red"), literal(failed.reason))
    for conflict in result.conflicts:
        grid.add_row(Text("conflict", style="yellow"), Group(literal(conflict.reason), _described(conflict.memory)))
    for waiting in result.pending:
        until = f"until {moment(waiting.expires_at)}: memstack confirm {waiting.token}"
        grid.add_row(Text("waits", style="yellow"), Group(literal(waiting.text), literal(until, style="dim")))
    console.print(grid)


def show_conflicts(console: Console, conflicts: Sequence[Conflict]) -> None:
    """Print what a statement contradicts: how sure that is and why, and the memory."""
    if not conflicts:
        console.print("It contradicts nothing.")
        return
    grid = _grid(2)
    for conflict in conflicts:
        sure = "possible" if conflict.kind == "meaning" else "certain" if conflict.kind == "slot" else "judged"
        grid.add_row(Text(sure, style="yellow"), Group(literal(conflict.reason), _described(conflict.memory)))
    console.print(grid)


def show_changes(console: Console, changes: Sequence[Change]) -> None:
    """Print the history of a memory, oldest first: what went and what came."""
    for change in changes:
        who = f" by {change.actor}" if change.actor else ""
        why = f": {change.reason}" if change.reason else ""
        successor = f" by {change.superseded_by}" if change.superseded_by else ""
        who = successor or who
        console.print(literal(f"{moment(change.at)}  {change.event}{who}{why}", style="bold"))
        for old, new in ((change.old_text, change.new_text), (pairs(change.old_metadata), pairs(change.new_metadata))):
            if old and old != new:
                console.print(Padding(literal(f"- {old}", style="red"), (0, 0, 0, 2), expand=False))
            if new and new != old:
                console.print(Padding(literal(f"+ {new}", style="green"), (0, 0, 0, 2), expand=False))


def show_fields(console: Console, fields: Mapping[str, Any]) -> None:
    """Print names and values."""
    grid = _grid(2)
    for name, value in fields.items():
        grid.add_row(literal(name, style="bold"), literal(value if isinstance(value, str) else _scalar(value)))
    console.print(grid)


def fields_of(memory: Memory) -> dict[str, Any]:
    """Everything about a memory, by name."""
    found = memory.to_dict()
    metadata = found.pop("metadata", {})
    sources = found.pop("source", [])
    named = {f"metadata.{name}": value for name, value in metadata.items()}
    said = {f"source[{i}]": pairs(source) for i, source in enumerate(sources)}
    return {**found, **named, **said}


def _grid(columns: int) -> Table:
    grid = Table.grid(padding=(0, 1))
    for _ in range(columns - 1):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    return grid


def _described(memory: Memory) -> Group:
    """A memory in two or three lines: its text; when and whose; its metadata and id."""
    text = memory.text
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text):,} characters)"
    about = [moment(memory.occurred_at), *(f"{name} {value}" for name, value in _owners(memory))]
    if memory.source and memory.source[0].name:
        about.append(f"said by {memory.source[0].name}")
    lines = [literal(text), literal(", ".join(about), style="dim")]
    if memory.metadata:
        lines.append(literal(pairs(memory.metadata), style="cyan"))
    return Group(*lines, literal(memory.id, style="dim"))


def _owners(memory: Memory) -> list[tuple[str, str]]:
    return [(name.removesuffix("_id"), value) for name, value in memory.scope.as_dict().items()]


def pairs(metadata: Mapping[str, Any] | None) -> str:
    """Fields in one line; nothing where there are none."""
    return "" if metadata is None else "  ".join(f"{name}={_scalar(value)}" for name, value in metadata.items())


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
