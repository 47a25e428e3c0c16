"""Options that several commands share, and the reading of their values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

import typer

from memstack.errors import InvalidInput, ScopeError, describe

if TYPE_CHECKING:
    from memstack.filters.ast import Node

__all__ = [
    "AgentOption",
    "AsOfOption",
    "CategoryOption",
    "ExpiredOption",
    "ExpiresOption",
    "FilterOption",
    "IdArgument",
    "MetadataOption",
    "RunOption",
    "ScopeIds",
    "SupersededOption",
    "UserOption",
    "read_expiry",
    "read_filters",
    "read_metadata",
    "read_object",
    "scope_of",
]

_WHOSE: Final = "Whose memories"

UserOption = Annotated[
    str | None, typer.Option("--user", "-u", metavar="ID", help="Of this user.", rich_help_panel=_WHOSE)
]
AgentOption = Annotated[
    str | None, typer.Option("--agent", metavar="ID", help="Of this agent.", rich_help_panel=_WHOSE)
]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", metavar="TIME", help="What held then, superseded memories too: ISO 8601. Default: now."),
]
ExpiredOption = Annotated[bool, typer.Option("--show-expired", help="Memories that have expired, too.")]
SupersededOption = Annotated[
    bool,
    typer.Option("--show-superseded", help="Memories that were superseded, and those that hold only later, too."),
]
RunOption = Annotated[
    str | None,
    typer.Option("--run", metavar="ID", help="Of this run: a session, a conversation.", rich_help_panel=_WHOSE),
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        "-f",
        metavar="JSON",
        help='Only memories for which this holds, as in \'{"category": "projects", "year": {"gte": 2025}}\'.',
    ),
]
CategoryOption = Annotated[
    str | None, typer.Option("--category", "-c", metavar="NAME", help="The field `category` of the metadata.")
]
MetadataOption = Annotated[
    str | None, typer.Option("--metadata", "-m", metavar="JSON", help="Fields to filter by, as a JSON object.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(
        "--expires-at", metavar="TIME", help="From when on it is hidden: ISO 8601, UTC where no zone is given."
    ),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of a memory.", show_default=False)]


class ScopeIds(TypedDict):
    """A scope as the verbs take it."""

    user_id: str | None
    agent_id: str | None
    run_id: str | None


def scope_of(user: str | None, agent: str | None, run: str | None, *, needed: bool = True) -> ScopeIds:
    """The scope as the verbs take it.

    Args:
        user: the option.
        agent: the option.
        run: the option.
        needed: whether somebody must be named.

    Raises:
        ScopeError: nobody is, and somebody must.
    """
    if needed and user is None and agent is None and run is None:
        raise ScopeError("scope", "nobody is named", "Pass --user, --agent or --run.")
    return {"user_id": user, "agent_id": agent, "run_id": run}


def read_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InvalidInput: it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidInput(option, f"is no JSON{place}", 'Quote it for the shell: \'{"field": "value"}\'.') from None
    if not isinstance(found, dict):
        raise InvalidInput(option, f"is {describe(found)}, not a JSON object", 'Write {"field": "value"}.')
    return found


def read_metadata(text: str | None, category: str | None) -> dict[str, Any] | None:
    """The metadata of ``--metadata`` and ``--category``; None where neither is given.

    Raises:
        InvalidInput: it is no JSON object, or the two name different categories.
    """
    if text is None and category is None:
        return None
    metadata = {} if text is None else read_object(text, "--metadata")
    if category is not None and metadata.setdefault("category", category) != category:
        raise InvalidInput("--category", "names another category than --metadata", "Drop one of the two.")
    return metadata


def read_filters(text: str | None, category: str | None) -> Node | None:
    """The filter of ``--filter`` and ``--category``; None where neither is given.

    Raises:
        InvalidInput: it is no JSON object.
        FilterError: it has no meaning.
    """
    from memstack.filters.ast import all_of
    from memstack.filters.parse import parse

    if text is None and category is None:
        return None
    given = None if text is None else parse(read_object(text, "--filter"))
    return all_of(given, None if category is None else parse({"category": category}))


def read_expiry(text: str) -> str | None:
    """When a memory expires; None for the word ``never``."""
    return None if text.strip().lower() == "never" else text
