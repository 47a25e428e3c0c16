"""``doctor``: what works, what does not, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memstack.cli import exits
from memstack.cli.output import literal
from memstack.cli.session import Session

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    session: Session,
    round_trip: Annotated[
        bool | None,
        typer.Option(
            "--round-trip/--no-round-trip",
            help="Write, find and delete a memory. Default: where there is a store already.",
        ),
    ] = None,
    pull: Annotated[
        bool,
        typer.Option("--pull", help="Let an Ollama server download models that it lacks; never with offline: true."),
    ] = False,
) -> None:
    """Examine the installation: versions, configuration, disk, model servers, embedder, store, history, Mem0.

    The memory of the round trip lies in a scope of its own, and its history is not kept. Where there is no store yet,
    none is made, unless --round-trip asks for it. Exit code 1 where a check fails.
    """
    from memstack.cli.checks import examine

    checks = examine(session, round_trip=round_trip, pull=pull)
    failed = any(check.status == "fail" for check in checks)

    def table(console: Console) -> None:
        grid = Table("check", "", "found", header_style="bold")
        for check in checks:
            found = literal(check.found)
            if check.todo:
                found = Text("\n", overflow="fold").join([found, literal(f"To do: {check.todo}", style="bold")])
            grid.add_row(literal(check.name), literal(check.status, style=_STYLES[check.status]), found)
        console.print(grid)

    session.output.result({"ok": not failed, "checks": [check.to_dict() for check in checks]}, table)
    if failed:
        raise typer.Exit(exits.FAILED)
