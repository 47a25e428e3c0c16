"""``export`` and ``migrate``; and what ``import`` does with an export."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, cast

import typer

from memstack.cli import exits
from memstack.cli.importer import Failure
from memstack.cli.options import AgentOption, RunOption, ScopeIds, UserOption, scope_of
from memstack.cli.rendering import show_fields
from memstack.cli.session import Session
from memstack.errors import InvalidInput

if TYPE_CHECKING:
    from memstack.gateway import MemoryGateway
    from memstack.records import ExportReport, ImportReport

__all__ = ["export", "is_export", "migrate", "restore"]

_HEAD: Final = 4096  # bytes, in which the first line of an export ends
_FIRST: Final = 2  # the line of the first memory


def export(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; '-' is standard output.", show_default=False)],
    *,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Write the vectors, too: the same embedder need not embed again.")
    ] = False,
) -> None:
    """Write memories with their history to a file, as lines of JSON; everybody's, where no scope is given.

    `memstack import` restores it, into any engine: ids, times, typed metadata, what superseded what, and histories.
    """
    scope = scope_of(user, agent, run, needed=False)
    with session.memory() as memory:
        try:
            if file == "-":
                with _standard_output() as stream:
                    report = memory.export(stream, vectors=vectors, **scope)
            else:
                report = memory.export(file, vectors=vectors, **scope)
        except InvalidInput as error:
            if error.field != "target":
                raise
            raise InvalidInput("FILE", error.problem, "Name another file.") from None
    data = {"file": file, **report.to_dict()}
    if file in ("-", "/dev/stdout"):  # nothing but the export is to stand there; its last line has the figures
        session.output.note(f"{report.memories} memories, {report.changes} changes, checksum {report.checksum}")
    else:
        session.output.result(data, lambda console: show_fields(console, data))


@contextmanager
def _standard_output() -> Iterator[io.TextIOWrapper]:
    """Standard output as what an export is written in, whatever the terminal's encoding."""
    # Not wrapped once more: what is wrapped is closed with its wrapper, where that cannot be emptied any more.
    stream = cast("io.TextIOWrapper", sys.stdout)
    stream.reconfigure(encoding="utf-8", newline="\n")
    yield stream
    stream.flush()


def migrate(
    session: Session,
    source: Annotated[
        str, typer.Option("--from", metavar="FILE", help="The configuration of the memory to copy.", show_default=False)
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="FILE", help="The configuration of the one to copy into.", show_default=False)
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, store nothing.")] = False,
) -> None:
    """Copy a memory into another one: another engine, another embedder, another place.

    Memories keep ids, times, metadata, what superseded what, and their history. They are embedded anew where the
    embedders differ. To resume a migration, run it again: what is there already is left alone. At the end, counts and
    checksums of the two are compared. Exit code 3 where something failed or differs.
    """
    from memstack.factory import open_memory

    session.refuse_configuration("migrate", "is told the two configurations by --from and --to")
    with open_memory(source) as old, open_memory(target) as new:
        total = int(old.stats()["vector_store"]["rows"])
        with _bar(session, total) as progress:
            written, report = _copy(old, new, dry_run=dry_run, progress=progress)
        there = None if dry_run else new.export(_Nowhere())
    verified = None if there is None else there == written
    data: dict[str, Any] = {**report.to_dict(), "dry_run": dry_run, "verified": verified}
    shown = {name: value for name, value in data.items() if value not in ([], None)}
    session.output.result(data, lambda console: show_fields(console, shown))
    if report.failed or not report.complete:
        raise typer.Exit(exits.PARTLY)
    if there is not None and not verified:
        if there.memories <= written.memories:
            raise typer.Exit(exits.PARTLY)
        session.output.note("The target has other memories, too, so the two checksums cannot be compared.")


def is_export(stream: BinaryIO) -> bool:
    """Whether the first line of a stream is that of an export; nothing of it is consumed."""
    from memstack.gateway import portability

    peek: Callable[[int], bytes] | None = getattr(stream, "peek", None)
    return peek is not None and portability.is_export(peek(_HEAD).partition(b"\n")[0])


def restore(
    session: Session, stream: BinaryIO, file: str, scope: ScopeIds, failed: Callable[[Failure], object]
) -> None:
    """Import an export; `failed` is told of every memory that could not be stored."""
    with session.memory() as memory, _bar(session, None) as progress:
        lines = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape")
        report = memory.import_(lines, progress=progress, **scope)
        lines.detach()
    for item in report.failed:
        line = item.index + _FIRST
        failed(Failure(f"line {line}", line, item.reason, item.retryable))
    data = {"file": file, "format": "export", **report.to_dict()}
    session.output.result(data, lambda console: show_fields(console, {k: v for k, v in data.items() if v != []}))
    if report.failed or not report.complete:
        raise typer.Exit(exits.PARTLY)


def _copy(
    old: MemoryGateway, new: MemoryGateway, *, dry_run: bool, progress: Callable[[int], object]
) -> tuple[ExportReport, ImportReport]:
    """Export in one thread what is imported in another: nothing of it is written to a file."""
    reading, writing = os.pipe()
    written: list[ExportReport] = []
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8") as stream:
                written.append(old.export(stream, vectors=True))
        except BaseException as error:  # noqa: BLE001  # raised below, in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with os.fdopen(reading, encoding="utf-8") as lines:
            report = new.import_(lines, dry_run=dry_run, progress=progress)
    finally:
        thread.join()
    if failures:
        raise failures[0]
    return written[0], report


class _Nowhere(io.StringIO):
    """A stream that keeps nothing: for the checksum alone."""

    def write(self, text: str, /) -> int:
        return len(text)


@contextmanager
def _bar(session: Session, total: int | None) -> Iterator[Callable[[int], object]]:
    """A progress bar for people at a terminal."""
    if session.output.json or not session.output.errors.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("memories"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=session.output.errors) as bar:
        task = bar.add_task("memories", total=total)
        yield lambda done: bar.update(task, completed=done)
