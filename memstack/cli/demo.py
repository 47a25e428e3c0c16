"""``demo``: the lesson's conversation, remembered, and found again by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from memstack.cli.output import literal
from memstack.cli.rendering import pairs, show_changes
from memstack.cli.session import Session
from memstack.errors import InvalidInput, MemstackError

if TYPE_CHECKING:
    from rich.console import Console

    from memstack.gateway import MemoryGateway
    from memstack.records import AddResult, Hit, Memory

__all__ = ["demo"]

_MARK: Final = ".memstack-demo"
_CONFIG: Final = "memstack.yaml"
_STORE: Final = "memory"
_USER: Final = "alex"
_QUESTION: Final = "Who is Alex?"
_SECONDS: Final = 120
_CONFIG_TEXT: Final = """\
# The memory of `memstack demo`. Look around in it: memstack --config memstack.yaml search "tasks" --user alex
vector_store: {provider: qdrant, mode: embedded, path: ./memory, collection: memories}
embedder: {provider: builtin}
llm: {provider: none}
history: {path: ./memory/history.db}
"""

_SAID: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    (
        "Hi, I'm Alex. I love basketball and gaming.",
        "Hey Alex! Great to meet you. I'll remember your interests.",
        {},
    ),
    (
        "I prefer tasks scheduled in the morning.",
        "Noted! I'll prioritize morning for your tasks.",
        {"category": "preferences", "domain": "task-management"},
    ),
    (
        "I'm working on the Phoenix project.",
        "Got it: the Phoenix project is your current focus.",
        {"category": "projects", "domain": "task-management"},
    ),
    ("My name is Alex and I'm a senior engineer.", "Good to know!", {}),
)
_CHANGED: Final = "I prefer tasks scheduled in the afternoon (updated from morning)."


class _RestartFailed(MemstackError):
    """The second process did not find what the first one stored."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the second process failed: {problem}")


def demo(
    session: Session,
    path: Annotated[Path, typer.Option("--path", metavar="DIR", help="The demo's own folder.")] = Path("memstack-demo"),
) -> None:
    """See it work: a conversation is added, searched, filtered, updated, and found again after a restart.

    Everything happens in a folder of its own, with the embedded default: no key, no server, no download. The folder is
    made here, and emptied when the demo runs again; a folder that the demo did not make is refused. The restart is a
    real one: a second process opens the folder and searches.
    """
    session.refuse_configuration("demo", "runs the embedded default in a folder of its own")
    folder = path.expanduser().absolute()
    again = _prepare(folder)
    story = _Story(session)
    try:
        with _opened(folder) as memory:
            if again:
                memory.reset()
            changed = _tell(story, memory)
        _restart(story, folder)
        with _opened(folder) as memory:
            _end(story, memory, changed)
    finally:
        if session.output.json and story.data:
            session.output.result({"folder": str(folder), **story.data}, lambda _: None)
    if not session.output.json:
        session.output.console.print(literal(f"\nIt is all in {folder}; delete the folder when you have seen enough."))


@dataclass
class _Story:
    """Shows every step as it happens, and keeps it for JSON."""

    session: Session

    def __post_init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.console = self.session.output.console
        self._shown = not self.session.output.json

    def step(self, title: str) -> None:
        """Begin a step."""
        if self._shown:
            self.console.print(Text(f"\n{title}", style="bold"))

    def call(self, text: str) -> None:
        """Show the call that is made."""
        if self._shown:
            self.console.print(literal(f"  >>> {text}", style="cyan"))

    def came(self, name: str, data: Any, show: Any, value: Any) -> None:
        """Show and keep what came of it."""
        if isinstance(data, list):
            self.data.setdefault(name, []).extend(data)
        else:
            self.data[name] = data
        if self._shown:
            show(self.console, value)


def _prepare(folder: Path) -> bool:
    """Make the demo's folder; returns whether it is there from an earlier run.

    Raises:
        InvalidInput: it is somebody else's, or cannot be made.
    """
    mark = folder / _MARK
    try:
        again = mark.is_file()
        if not again and (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
            raise InvalidInput(
                "--path", f"{folder} was not made by the demo, and may hold something dear", "Name another folder."
            )
        if mark.is_symlink() or (folder / _STORE).is_symlink():
            raise InvalidInput("--path", f"{folder} holds links, and the demo makes none", "Name another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(
            "This folder was made by `memstack demo`, which empties it when it runs again.\n", encoding="utf-8"
        )
        (folder / _CONFIG).write_text(_CONFIG_TEXT, encoding="utf-8")
    except OSError as error:
        raise InvalidInput("--path", f"{folder} cannot be used ({error.strerror})", "Name another folder.") from None
    return again


def _opened(folder: Path) -> MemoryGateway:
    """The demo's memory. All that decides where it lies is given here: no variable of the environment can move it."""
    from memstack.factory import open_memory

    return open_memory(
        {},
        vector_store={
            "provider": "qdrant",
            "mode": "embedded",
            "path": str(folder / _STORE),
            "collection": "memories",
        },
        embedder={"provider": "builtin"},
        llm={"provider": "none"},
        history={"path": str(folder / _STORE / "history.db")},
        remember_roles=["user"],
    )


def _tell(story: _Story, memory: MemoryGateway) -> Memory:
    alex = memory.for_user(_USER)
    story.step("1. Add what was said. What the user says is remembered; what the assistant answers is not.")
    for said, answer, metadata in _SAID:
        messages = [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
        story.call(f"alex.add([{said!r}, …]{f', metadata={metadata}' if metadata else ''})")
        result = alex.add(messages, metadata=metadata, infer=False)
        story.came("added", [result.to_dict()], _show_added, result)

    story.step("2. Search by meaning.")
    for query in ("What do you know about me?", "Which games and sports do I like?"):
        story.call(f"alex.search({query!r}, limit=2)")
        hits = alex.search(query, limit=2)
        story.came("found", [{"query": query, "hits": [hit.to_dict() for hit in hits]}], _show_hits, hits)

    story.step("3. Filter by metadata.")
    filters: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("task preferences", {"category": "preferences"}),
        ("current work", {"category": "projects"}),
        ("work patterns", {"AND": [{"category": "preferences"}, {"created_at": {"gte": "2025-01-01"}}]}),
    )
    for query, where in filters:
        story.call(f"alex.search({query!r}, filters={where})")
        hits = alex.search(query, filters=where)
        kept = {"query": query, "filters": dict(where), "hits": [hit.to_dict() for hit in hits]}
        story.came("filtered", [kept], _show_hits, hits)

    story.step("4. Update.")
    (changed,) = alex.get_all(filters={"category": "preferences"})
    story.call(f"alex.update({changed.id!r}, text={_CHANGED!r})")
    now = alex.update(changed.id, text=_CHANGED)
    story.came("updated", now.to_dict(), _show_memory, now)
    return now


def _restart(story: _Story, folder: Path) -> None:
    story.step(f"5. Restart: this process ({os.getpid()}) has closed the memory, and another one opens it.")
    config = str(folder / _CONFIG)
    arguments = ["--json", "--config", config, "search", _QUESTION, "--user", _USER, "--limit", "2"]
    story.call(f"memstack search {_QUESTION!r} --user {_USER} --limit 2")
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("MEMSTACK_")}
    with subprocess.Popen(  # noqa: S603  # this very program
        [sys.executable, "-m", "memstack", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**environment, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        try:
            found, problems = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise _RestartFailed(f"it did not answer within {_SECONDS} seconds") from None
    if process.returncode != 0:
        raise _RestartFailed(problems.strip() or f"exit code {process.returncode}")
    hits = json.loads(found)["hits"]
    if not any("senior engineer" in hit["text"] for hit in hits):
        raise _RestartFailed("it did not find what the first one stored")
    data = {"pid": process.pid, "query": _QUESTION, "hits": hits}
    story.came("restarted", data, lambda console, value: _show_found(console, process.pid, value), hits)


def _show_added(console: Console, result: AddResult) -> None:
    for memory in result.stored:
        _show_memory(console, memory)
    for skipped in result.skipped:
        console.print(literal(f"  skipped: {skipped.detail}", style="dim"))


def _show_memory(console: Console, memory: Memory) -> None:
    console.print(Text("  stored: ", style="green").append_text(literal(memory.text)))


def _show_hits(console: Console, hits: list[Hit]) -> None:
    for hit in hits:
        line = Text(f"  {hit.score:.3f}  ", style="green").append_text(literal(hit.text))
        if hit.metadata:
            line.append_text(literal(f"  {pairs(hit.metadata)}", style="dim"))
        console.print(line)


def _show_found(console: Console, pid: int, hits: list[dict[str, Any]]) -> None:
    console.print(f"  process {pid} found:")
    for hit in hits:
        console.print(Text(f"  {hit['score']:.3f}  ", style="green").append_text(literal(hit["text"])))


def _end(story: _Story, memory: MemoryGateway, changed: Memory) -> None:
    story.step("6. History: every change is kept.")
    story.call(f"alex.history({changed.id!r})")
    changes = memory.for_user(_USER).history(changed.id)
    story.came("history", [change.to_dict() for change in changes], show_changes, changes)
