"""The verbs: ``add``, ``search``, ``list``, ``show``, ``update``, ``delete``, ``history``, ``stats``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from rich.console import Console

from memstack.cli import exits
from memstack.cli.options import (
    AgentOption,
    AsOfOption,
    CategoryOption,
    ExpiredOption,
    ExpiresOption,
    FilterOption,
    IdArgument,
    MetadataOption,
    RunOption,
    SupersededOption,
    UserOption,
    read_expiry,
    read_filters,
    read_metadata,
    scope_of,
)
from memstack.cli.output import literal
from memstack.cli.rendering import fields_of, show_added, show_changes, show_fields, show_hits, show_memories
from memstack.cli.session import Session
from memstack.errors import InvalidInput

if TYPE_CHECKING:
    from memstack.gateway.conflicts import OnConflict
    from memstack.records import Order

__all__ = ["add", "delete", "history", "list_", "search", "show", "stats", "update"]

T = TypeVar("T")
_PAGE: Final = 20


def add(
    session: Session,
    text: Annotated[
        list[str],
        typer.Argument(metavar="TEXT…", help="What was said; '-' is all of standard input.", show_default=False),
    ],
    *,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    category: CategoryOption = None,
    metadata: MetadataOption = None,
    role: Annotated[
        str, typer.Option("--role", help="Who said it: user, assistant, system, tool, developer.")
    ] = "user",
    name: Annotated[str | None, typer.Option("--name", help="Which of them said it.")] = None,
    occurred_at: Annotated[
        str | None, typer.Option("--occurred-at", metavar="TIME", help="When it was said: ISO 8601. Default: now.")
    ] = None,
    expires_at: ExpiresOption = None,
    infer: Annotated[
        bool | None,
        typer.Option(
            "--infer/--verbatim",
            help="Let the language model draw facts out of it, or store it as said. Default: if one is configured.",
        ),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            "--on-conflict",
            help="What becomes of memories that it contradicts: keep, supersede, raise (store nothing), or ask "
            "(wait for `memstack confirm` or `memstack dismiss`).",
        ),
    ] = "keep",
) -> None:
    """Remember what was said; each TEXT is a message.

    Equal memories are stored once. As with the library, messages of other roles than `remember_roles` (default: user)
    are skipped where no language model is used. Exit code 3 where something failed.
    """
    scope = scope_of(user, agent, run)
    fields = read_metadata(metadata, category)
    messages: list[dict[str, Any]] = [
        {"role": role, "content": part, "name": name, "occurred_at": occurred_at} for part in _said(text)
    ]
    expiry = None if expires_at is None else read_expiry(expires_at)
    policy: OnConflict = on_conflict  # type: ignore[assignment]  # checked by the gateway
    with session.memory() as memory:
        result = memory.add(messages, **scope, metadata=fields, infer=infer, expires_at=expiry, on_conflict=policy)
    session.output.result(result.to_dict(), lambda console: show_added(console, result))
    if result.failed:
        raise typer.Exit(exits.PARTLY)


def _said(text: list[str]) -> list[str]:
    """The messages that were given, with standard input in the place of ``-``."""
    if "-" not in text:
        return text
    if text.count("-") > 1:
        raise InvalidInput("TEXT", "names standard input more than once", "It can be read once.")
    try:
        read = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is standard input, and that is not UTF-8 (byte {error.start})"
        raise InvalidInput("TEXT", problem, "Convert it, as with iconv.") from None
    return [read.rstrip("\r\n") if part == "-" else part for part in text]


def search(
    session: Session,
    query: Annotated[str, typer.Argument(help="What to look for; '' for the newest memories.", show_default=False)],
    *,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    filters: FilterOption = None,
    category: CategoryOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many at most.")] = 10,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Least score, 0 to 1.")] = None,
    as_of: AsOfOption = None,
    show_expired: ExpiredOption = False,
    show_superseded: SupersededOption = False,
    explain: Annotated[bool, typer.Option("--explain", help="Tell how each was found.")] = False,
) -> None:
    """Find the memories that fit a query best, with their scores from 0 to 1."""
    from memstack.gateway.inputs import check_limit

    check_limit(limit, "--limit")
    scope = scope_of(user, agent, run, needed=filters is None)
    where = read_filters(filters, category)
    with session.memory() as memory:
        hits = memory.search(
            query,
            **scope,
            filters=where,
            limit=limit,
            threshold=threshold,
            as_of=as_of,
            show_expired=show_expired,
            show_superseded=show_superseded,
            explain=explain,
        )
    session.output.result({"hits": [hit.to_dict() for hit in hits]}, lambda console: show_hits(console, hits))


def list_(
    session: Session,
    *,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    filters: FilterOption = None,
    category: CategoryOption = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="How many on a page. Default: 20.")] = None,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    order: Annotated[
        str,
        typer.Option("--order", help="created_at, updated_at or occurred_at; with a leading '-' the newest first."),
    ] = "-created_at",
    as_of: AsOfOption = None,
    show_expired: ExpiredOption = False,
    show_superseded: SupersededOption = False,
    everything: Annotated[bool, typer.Option("--all", help="All of them, in place of a page.")] = False,
) -> None:
    """List memories, page by page."""
    from memstack.gateway.inputs import check_limit

    if everything and cursor is not None:
        raise InvalidInput("--cursor", "stands beside --all, which begins at the beginning", "Drop one of the two.")
    if everything and limit is not None:
        raise InvalidInput("--limit", "stands beside --all, which has no pages", "Drop one of the two.")
    size = check_limit(_PAGE if limit is None else limit, "--limit", more="--all has no limit")
    scope = scope_of(user, agent, run, needed=filters is None)
    where = read_filters(filters, category)
    by: Order = order  # type: ignore[assignment]  # checked by the gateway

    def listing(verb: Callable[..., T], **more: Any) -> T:
        shown = {"as_of": as_of, "show_expired": show_expired, "show_superseded": show_superseded}
        return verb(**scope, filters=where, **shown, order=by, **more)

    with session.memory() as memory:
        if not everything:
            page = listing(memory.get_all, limit=size, cursor=cursor)
            session.output.result(page.to_dict(), lambda console: show_memories(console, page))
            if page.next_cursor is not None:
                session.output.note(f"There are more: --cursor {page.next_cursor}")
        elif session.output.json:
            found = [item.to_dict() for item in listing(memory.iter_all)]
            session.output.result({"memories": found, "next_cursor": None}, lambda _: None)
        else:
            show_memories(session.output.console, listing(memory.iter_all))


def show(
    session: Session, id_: IdArgument, user: UserOption = None, agent: AgentOption = None, run: RunOption = None
) -> None:
    """Show everything about a memory. With a scope, only one of that scope is found."""
    with session.memory() as memory:
        found = memory.get(id_, **scope_of(user, agent, run, needed=False))
    session.output.result(found.to_dict(), lambda console: show_fields(console, fields_of(found)))


def update(
    session: Session,
    id_: IdArgument,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The new text.", show_default=False)] = None,
    *,
    new_text: Annotated[str | None, typer.Option("--text", help="The new text, in place of TEXT.")] = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", "-m", metavar="JSON", help="Fields to set; null removes one, the others stay."),
    ] = None,
    category: CategoryOption = None,
    expires_at: Annotated[
        str | None,
        typer.Option("--expires-at", metavar="TIME", help="From when on it is hidden: ISO 8601, or 'never'."),
    ] = None,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
) -> None:
    """Change a memory. With a scope, only one of that scope is found."""
    if text is not None and new_text is not None:
        raise InvalidInput("--text", "stands beside TEXT, which is the same", "Drop one of the two.")
    said = text if new_text is None else new_text
    changes: dict[str, Any] = {"text": said, "metadata": read_metadata(metadata, category)}
    if expires_at is not None:
        changes["expires_at"] = read_expiry(expires_at)
    if all(value is None for value in changes.values()) and "expires_at" not in changes:
        raise InvalidInput("update", "nothing to change is given", "Pass TEXT, --metadata or --expires-at.")
    with session.memory() as memory:
        changed = memory.update(id_, **changes, **scope_of(user, agent, run, needed=False))
    session.output.result(changed.to_dict(), lambda console: show_memories(console, [changed]))


def delete(
    session: Session,
    id_: Annotated[str | None, typer.Argument(metavar="ID", help="The id of a memory.", show_default=False)] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All memories of the scope, in place of one.")] = False,
    user: UserOption = None,
    agent: AgentOption = None,
    run: RunOption = None,
    filters: FilterOption = None,
    category: CategoryOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a memory, or with --all those of a scope (it asks first). Their history stays."""
    if (id_ is None) == (not everything):
        raise InvalidInput("delete", "takes an ID or --all, one of the two", "See memstack delete --help.")
    scope = scope_of(user, agent, run, needed=everything)
    where = read_filters(filters, category)
    if id_ is not None:
        if where is not None:
            raise InvalidInput("--filter", "stands beside an ID", "Drop it, or pass --all in place of the ID.")
        with session.memory() as memory:
            memory.delete(id_, **scope)
        session.output.result({"deleted": 1}, lambda console: console.print("Deleted 1 memory."))
        return
    if not yes:
        if session.output.json:
            raise InvalidInput("--yes", "is not given, and --json asks no questions", "Pass --yes.")
        named = ", ".join(f"{key.removesuffix('_id')} {value}" for key, value in scope.items() if value)
        _ask(f"Delete all memories of {named}{' for which the filter holds' if where is not None else ''}?")
    with session.memory() as memory:
        count = memory.delete_all(**scope, filters=where)
    session.output.result({"deleted": count}, lambda console: console.print(f"Deleted {_count(count, 'memory')}."))


def history(
    session: Session, id_: IdArgument, user: UserOption = None, agent: AgentOption = None, run: RunOption = None
) -> None:
    """Show the changes of a memory, oldest first; also of one that was deleted."""
    with session.memory() as memory:
        changes = memory.history(id_, **scope_of(user, agent, run, needed=False))
    session.output.result(
        {"changes": [change.to_dict() for change in changes]}, lambda console: show_changes(console, changes)
    )


def stats(session: Session) -> None:
    """Show figures: the engine and how many memories it holds, the embedder, the model, the history."""
    with session.memory() as memory:
        found = memory.stats()

    def fields(console: Console) -> None:
        show_fields(
            console, {f"{part}.{name}": value for part, values in found.items() for name, value in values.items()}
        )

    session.output.result(found, fields)


def _ask(question: str) -> None:
    """Ask; leave where the answer is no.

    Raises:
        InvalidInput: nobody is there to answer.
    """
    try:
        agreed = typer.confirm(literal(question).plain, err=True)
    except typer.Abort:
        typer.echo(err=True)
        raise InvalidInput(
            "--yes", "is not given, and there was no answer", "Pass --yes to delete without a question."
        ) from None
    if not agreed:
        typer.echo("Nothing was deleted.", err=True)
        raise typer.Exit(exits.FAILED)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what.removesuffix('y')}ies"
