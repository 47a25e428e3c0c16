"""``import``: many memories from a file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer
from rich.console import Console

from memstack.cli import exits, moving
from memstack.cli.importer import Failure, Importer
from memstack.cli.options import AgentOption, RunOption, ScopeIds, UserOption, scope_of
from memstack.cli.output import literal
from memstack.cli.session import Session
from memstack.cli.sources import Source, open_source
from memstack.errors import InvalidInput
from memstack.records import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["import_"]

_BATCH: Final = 256
_LARGEST_BATCH: Final = 10_000


def import_(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; '-' is standard input.", show_default=False)],
    *,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role", help="Of lines of JSON, store messages of this role. May be repeated. Default: remember_roles."
        ),
    ] = None,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="How many are embedded and written at a time. Default: 256.")
    ] = None,
    failures: Annotated[
        Path | None, typer.Option("--failures", metavar="FILE", help="Write every failure there, as lines of JSON.")
    ] = None,
) -> None:
    """Store many messages, as they were said, from lines of JSON or from LoCoMo's JSON.

    Lines of JSON are objects with `content` and `user_id` (or `agent_id`, `run_id`), and if need be `role` (default:
    user), `name`, `occurred_at`, `metadata`, `expires_at`, `valid_from`. They are read one by one: the file may be of
    any size. A line that cannot be stored is reported and stops no other. --user, --agent and --run hold for lines that
    do not say, and refuse those that name somebody else.

    What `memstack export` wrote is known by its first line, and restored as it was, with ids, times and history:
    --role and --batch-size say nothing of one, and --user, --agent and --run refuse memories of somebody else.

    LoCoMo's JSON is known by its content. Each conversation is a user, each session a run, and every turn is stored.

    To resume an import, run it again: what is in the store already is skipped as a duplicate. There is no second record
    of how far it got, which could disagree with the store. Lines that have expired are skipped. The import gives up
    where 5 batches in a row fail whole for the same reason. Exit code 3 where something failed.
    """
    _check(role, batch_size)
    scope = scope_of(user, agent, run, needed=False)
    began = time.monotonic()
    with ExitStack() as stack:
        stream = stack.enter_context(_opened(file))
        if moving.is_export(stream):
            _refuse({"--role": role, "--batch-size": batch_size})
            moving.restore(session, stream, file, scope, stack.enter_context(_written(failures, file)))
            return
        source = open_source(stream, file)
        overrides = _overrides(source, role, scope)
        failed = stack.enter_context(_written(failures, file))
        memory = stack.enter_context(session.memory(**overrides))
        progressed = stack.enter_context(_progress(session, source))
        importer = Importer(memory, batch_size=batch_size or _BATCH, scope=scope, failed=failed, progressed=progressed)
        interrupted = False
        try:
            importer.run(source.entries())
        except KeyboardInterrupt:
            interrupted = True
            importer.report.stopped = "interrupted"
    report = importer.report
    data = {"file": file, "format": source.form, **report.to_dict(), "seconds": round(time.monotonic() - began, 3)}
    session.output.result(data, lambda console: _show(console, data, failures))
    if interrupted:
        raise typer.Exit(exits.INTERRUPTED)
    if report.failed:
        raise typer.Exit(exits.PARTLY)


def _check(role: list[str] | None, batch_size: int | None) -> None:
    for name in role or ():
        if name not in ROLES:
            raise InvalidInput("--role", f"{name[:40]!r} is unknown", f"Known: {', '.join(ROLES)}.")
    if batch_size is not None and not 1 <= batch_size <= _LARGEST_BATCH:
        raise InvalidInput("--batch-size", f"is {batch_size}", f"Pass a number from 1 to {_LARGEST_BATCH:,}.")


def _refuse(given: Mapping[str, object]) -> None:
    """Refuse options that say nothing of an export."""
    for name, value in given.items():
        if value:
            problem = "is given, and the file is an export, which is restored as it was"
            raise InvalidInput(name, problem, "Leave it out.")


def _overrides(source: Source, role: list[str] | None, scope: ScopeIds) -> dict[str, Any]:
    """What the configuration must say for this import."""
    if source.form != "locomo":
        return {"remember_roles": list(role)} if role else {}
    if role or scope["user_id"] is not None or scope["run_id"] is not None:
        raise InvalidInput(
            "FILE",
            "is LoCoMo's JSON, which says itself who is the user, which the run, and stores every turn",
            "Leave --role, --user and --run out.",
        )
    return {"remember_roles": ["user"]}


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115  # closed below
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput("FILE", f"{file} cannot be read ({reason})", "Check the path.") from None
    with stream:
        yield stream


@contextmanager
def _written(path: Path | None, source: str) -> Iterator[Callable[[Failure], object]]:
    """What writes failures to their file."""
    if path is None:
        yield lambda _: None
        return
    if path.exists() and source != "-" and os.path.samefile(path, source):  # noqa: PTH121  # `source` is text
        raise InvalidInput("--failures", "names the file that is imported", "Name another file.")
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise InvalidInput("--failures", f"{path} cannot be written ({error.strerror})", "Name another file.") from None
    with file:
        yield lambda failure: file.write(json.dumps(failure.to_dict()) + "\n")


@contextmanager
def _progress(session: Session, source: Source) -> Iterator[Callable[[int], object]]:
    """A bar on standard error, where a person looks at it."""
    errors = session.output.errors
    if session.output.json or not errors.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Importing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("", total=source.total)
        yield lambda done: progress.update(task, completed=done)


def _show(console: Console, data: dict[str, Any], failures: Path | None) -> None:
    skipped: dict[str, int] = data["skipped"]
    console.print(literal(f"{data['file']}: {data['read']:,} read in {data['seconds']:,.1f} s"))
    console.print(f"  stored   {data['stored']:,}", style="green")
    why = f" ({', '.join(f'{reason}: {count:,}' for reason, count in sorted(skipped.items()))})" if skipped else ""
    console.print(f"  skipped  {sum(skipped.values()):,}{why}", style="yellow" if skipped else "")
    console.print(f"  failed   {data['failed']:,}", style="red" if data["failed"] else "")
    for failure in data["failures"]:
        console.print(literal(f"    {failure['place']}: {failure['reason']}"))
    left = data["failed"] - len(data["failures"])
    if left:
        where = f"in {failures}" if failures is not None else "with --failures FILE"
        console.print(literal(f"    … and {left:,} more: all of them {where}"))
    elif failures is not None:
        console.print(literal(f"  every failure is in {failures}"))
    if "role" in skipped:
        console.print("  To store messages of other roles too, name them: --role user --role assistant.")
    if data["stopped"]:
        console.print(literal(f"  Stopped before the end: {data['stopped']}. Run it again to go on."), style="bold")
