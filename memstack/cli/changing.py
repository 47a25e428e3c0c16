"""``conflicts``, ``supersede``, ``confirm``, ``dismiss`` and ``erase``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from memstack.cli import exits
from memstack.cli.options import (
    AgentOption,
    CategoryOption,
    IdArgument,
    MetadataOption,
    RunOption,
    UserOption,
    read_metadata,
    scope_of,
)
from memstack.cli.output import literal
from memstack.cli.rendering import show_added, show_conflicts, show_fields, show_memories
from memstack.cli.session import Session
from memstack.errors import InvalidInput

__all__ = ["confirm", "conflicts", "dismiss", "erase", "supersede"]

TokenArgument = Annotated[
    str, typer.Argument(metavar="TOKEN", help="The token that `add --on-conflict ask` told.", show_default=False)
]


def conflicts(
    session: Session,
    text: Annotated[str, typer.Argument(help="The new statement.", show_default=False)],
    *,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    category: CategoryOption = None,
    metadata: MetadataOption = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Least score of a possible contradiction that nobody judged, 0 to 1.")
    ] = 0.5,
) -> None:
    """Show what a new statement would contradict; nothing is stored.

    With the fields of a schema in --metadata, as in '{"category": "preferences", "key": "time of day", "value":
    "evening"}', what has the same slot and another value is certain. Otherwise it is looked for by meaning.
    """
    scope = scope_of(user, agent, run)
    fields = read_metadata(metadata, category)
    with session.memory() as memory:
        found = memory.conflicts(text, **scope, metadata=fields, threshold=threshold)
    session.output.result(
        {"conflicts": [conflict.to_dict() for conflict in found]}, lambda console: show_conflicts(console, found)
    )


def supersede(
    session: Session,
    id_: IdArgument,
    text: Annotated[str, typer.Argument(help="What holds now.", show_default=False)],
    *,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    category: CategoryOption = None,
    metadata: MetadataOption = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the history.")] = None,
    valid_from: Annotated[
        str | None, typer.Option("--valid-from", metavar="TIME", help="Since when it holds: ISO 8601. Default: now.")
    ] = None,
) -> None:
    """Put a new memory in the place of one that no longer holds; the old one is kept, with the end of its time."""
    fields = read_metadata(metadata, category)
    with session.memory() as memory:
        new = memory.supersede(
            id_,
            text,
            metadata=fields,
            reason=reason,
            valid_from=valid_from,
            **scope_of(user, agent, run, needed=False),
        )
    session.output.result(new.to_dict(), lambda console: show_memories(console, [new]))


def confirm(
    session: Session, token: TokenArgument, user: UserOption = None, agent: AgentOption = None, run: RunOption = None
) -> None:
    """Store what waited for an answer, in the place of what it contradicts. Exit code 4 where nothing waits."""
    with session.memory() as memory:
        result = memory.confirm(token, **scope_of(user, agent, run, needed=False))
    session.output.result(result.to_dict(), lambda console: show_added(console, result))


def dismiss(
    session: Session, token: TokenArgument, user: UserOption = None, agent: AgentOption = None, run: RunOption = None
) -> None:
    """Forget what waited for an answer; nothing is stored. Exit code 4 where nothing waits."""
    with session.memory() as memory:
        memory.dismiss(token, **scope_of(user, agent, run, needed=False))
    session.output.result({"dismissed": 1}, lambda console: console.print("Dismissed 1 change."))


def erase(
    session: Session,
    *,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_compact: Annotated[
        bool, typer.Option("--no-compact", help="Do not rewrite the files: bytes stay until a later erasure.")
    ] = False,
) -> None:
    """Erase everything of a scope for good: memories, history, what waits, Mem0's messages and entities.

    It asks first. The files that keep deleted bytes are rewritten, and searched for what was erased; the receipt tells
    what was done, without content. Exit code 3 where something is left, or left to do. `delete --all` is the soft one.
    """
    scope = scope_of(user, agent, run)
    if not yes:
        if session.output.json:
            raise InvalidInput("--yes", "is not given, and --json asks no questions", "Pass --yes.")
        named = ", ".join(f"{key.removesuffix('_id')} {value}" for key, value in scope.items() if value)
        _ask(f"Erase everything of {named}, with its history? This cannot be undone.")
    with session.memory() as memory:
        receipt = memory.erase(**scope, compact=not no_compact)

    def show(console: Console) -> None:
        fields: dict[str, Any] = {key: value for key, value in receipt.to_dict().items() if key != "scope"}
        show_fields(console, {key: value for key, value in fields.items() if value != []})

    session.output.result(receipt.to_dict(), show)
    if not receipt.complete:
        raise typer.Exit(exits.PARTLY)


def _ask(question: str) -> None:
    try:
        agreed = typer.confirm(literal(question).plain, err=True)
    except typer.Abort:
        typer.echo(err=True)
        raise InvalidInput("--yes", "is not given, and there was no answer", "Pass --yes to erase at once.") from None
    if not agreed:
        typer.echo("Nothing was erased.", err=True)
        raise typer.Exit(exits.FAILED)
