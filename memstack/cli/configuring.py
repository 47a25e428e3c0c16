"""``init`` and ``config``: writing a configuration file, and looking at what is in force."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from memstack.cli.output import literal
from memstack.cli.session import Session
from memstack.errors import InvalidInput

if TYPE_CHECKING:
    from memstack.config import Settings

__all__ = ["check", "init", "schema", "show", "sources"]


def init(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file.")] = Path("memstack.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented configuration file: the embedded default, with the alternatives as comments."""
    from memstack.cli.template import TEMPLATE

    session.refuse_configuration("init", "writes the same file whatever is configured")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise InvalidInput("PATH", f"{path} is there already", "Name another file, or pass --force.") from None
    except OSError as error:
        raise InvalidInput("PATH", f"{path} cannot be written ({error.strerror})", "Name another file.") from error
    place = str(path.absolute())
    session.output.result({"path": place}, lambda console: console.print(literal(f"Wrote {place}"), soft_wrap=True))


def show(session: Session) -> None:
    """Show every option: its value, and where it came from. Secrets are masked."""
    settings = session.settings()
    origins = settings.origins
    values = dict(_flat(settings.masked()))
    rows = [(option, value, _origin(option, origins)) for option, value in values.items()]

    def table(console: Console) -> None:
        grid = Table("option", "value", "from", header_style="bold")
        for option, value, origin in rows:
            grid.add_row(literal(option), literal(_text(value)), literal(origin, style="dim"))
        console.print(grid)

    data = {option: {"value": value, "from": origin} for option, value, origin in rows}
    session.output.result({"options": data}, table)


def check(session: Session) -> None:
    """Load the configuration, and say whether it can be used: whether all that it names is there, and every key.

    No store is opened, and no server asked: `memstack doctor` does both.
    """
    from memstack.factory import check_openable

    settings = session.settings()
    check_openable(settings)
    data = {
        "ok": True,
        "vector_store": settings.vector_store.key,
        "embedder": settings.embedder.key,
        "llm": settings.llm.key,
        "from": sources(settings),
    }
    text = (
        f"OK: vector store {data['vector_store']}, embedder {data['embedder']}, llm {data['llm']}; "
        f"from {', '.join(sources(settings))}."
    )
    session.output.result(data, lambda console: console.print(literal(text), soft_wrap=True))


def schema(session: Session) -> None:
    """Print the JSON Schema of the configuration file, for editors to complete it by."""
    from memstack.config.schema import config_schema

    session.refuse_configuration("config schema", "is the same whatever is configured")
    found = config_schema()
    session.output.result(found, lambda console: console.out(json.dumps(found, indent=2), highlight=False))


def sources(settings: Settings) -> list[str]:
    """The places that a configuration came from."""
    found = {_origin(option, settings.origins) for option in settings.origins} - {"default", "inferred"}
    return sorted(found) or ["the built-in defaults"]


def _origin(option: str, origins: Mapping[str, str]) -> str:
    """Where an option came from; what is nested in an option came from where that did."""
    while option not in origins and "." in option:
        option = option.rpartition(".")[0]
    origin = origins.get(option, "default")
    return "--set" if origin == "override" else origin


def _flat(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            found.extend(_flat(value, f"{prefix}{name}."))
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
