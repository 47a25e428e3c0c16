"""What every command gets: the global options, which may stand before the command or after it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec

import typer

from memstack.cli import exits
from memstack.cli.output import Output, close_streams
from memstack.errors import InvalidInput, MemstackError

if TYPE_CHECKING:
    from memstack.config import Settings
    from memstack.gateway import MemoryGateway

__all__ = ["ConfigOption", "DebugOption", "Globals", "JsonOption", "Session", "SetOption", "with_session"]

P = ParamSpec("P")
_PANEL: Final = "Global options (before or after the command)"

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The YAML file. Default: $MEMSTACK_CONFIG, else ./memstack.yaml, else the built-in defaults.",
        rich_help_panel=_PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="OPTION=VALUE",
        help="Set an option of the configuration, as in vector_store.path=./memory. May be repeated, and wins.",
        rich_help_panel=_PANEL,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help='Print JSON: the result on standard output, errors as {"error": …} on standard error.',
        rich_help_panel=_PANEL,
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL)]


@dataclass(frozen=True, slots=True)
class Globals:
    """The global options."""

    config: str | None = None
    assignments: tuple[str, ...] = ()
    json: bool = False
    debug: bool = False

    def under(self, inner: Globals) -> Globals:
        """These, with others on top that stood nearer to the command."""
        return Globals(
            inner.config if inner.config is not None else self.config,
            (*self.assignments, *inner.assignments),
            self.json or inner.json,
            self.debug or inner.debug,
        )


class Session:
    """One run of a command.

    Attributes:
        given: the global options.
        output: where it prints to.
    """

    def __init__(self, given: Globals) -> None:
        self.given = given
        self.output = Output(json=given.json, debug=given.debug)

    def refuse_configuration(self, command: str, problem: str) -> None:
        """For a command that looks at no configuration, or at others.

        Raises:
            InvalidInput: one is given.
        """
        if self.given.config is not None or self.given.assignments:
            raise InvalidInput(command, problem, "Leave --config and --set out.")

    def settings(self, **overrides: Any) -> Settings:
        """The configuration; overrides lie upon ``--set``.

        Raises:
            ConfigError: it cannot be used.
        """
        from memstack.config import Settings

        return Settings.load(self.given.config, **{**read_assignments(self.given.assignments), **overrides})

    @contextmanager
    def memory(self, **overrides: Any) -> Iterator[MemoryGateway]:
        """The configured memory, open for the length of a block."""
        from memstack.factory import open_memory

        with open_memory(self.settings(**overrides)) as gateway:
            yield gateway


def read_assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """The options that ``--set`` names, nested; values are read like those of environment variables.

    Raises:
        InvalidInput: an assignment has no ``=``, or goes into an option that another one sets whole.
    """
    options: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        *groups, last = path.strip().split(".")
        if not equals or not last or not all(groups):
            raise InvalidInput("--set", f"{path[:80]!r} is no assignment", "Write --set section.option=value.")
        place = options
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise InvalidInput("--set", f"{path!r} goes into an option that is set whole", "Drop one of the two.")
        if isinstance(place.get(last), dict):
            raise InvalidInput("--set", f"{path!r} is a section with options of its own", "Set those one by one.")
        place[last] = value
    return options


def with_session(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Make a command of a function: its first argument becomes the session, made of the global options.

    Errors are printed, and end in the exit codes of `memstack.cli.exits`.
    """
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in _parameters(function)[1:]]

    def command(
        context: typer.Context,
        *,
        global_config: ConfigOption = None,
        global_set: SetOption = None,
        global_json: JsonOption = False,
        global_debug: DebugOption = False,
        **arguments: Any,
    ) -> None:
        outer = context.obj if isinstance(context.obj, Globals) else Globals()
        session = Session(outer.under(Globals(global_config, tuple(global_set or ()), global_json, global_debug)))
        run: Any = function
        with reported(session.output):
            run(session, **arguments)

    context_, *shared, _ = _parameters(command)
    parameters = [context_, *own, *shared]
    command.__name__, command.__doc__ = function.__name__, _unwrapped(inspect.getdoc(function) or "")
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    return command


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _unwrapped(text: str) -> str:
    """Text with one line a paragraph: typer would keep the line breaks of the source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


@contextmanager
def reported(output: Output) -> Iterator[None]:
    """Prints the errors of a block, and leaves with their exit codes."""
    try:
        yield
    except MemstackError as error:
        output.error(error)
        raise typer.Exit(exits.code_of(error)) from error
    except BrokenPipeError as error:
        raise SystemExit(close_streams(exits.PIPE_CLOSED)) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own, which it words itself
            raise
        output.error(error)
        raise typer.Exit(exits.FAILED) from error
