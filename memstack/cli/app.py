"""The application: which command is which function."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from memstack.cli import configuring, demo, doctor, exits, importing, memories
from memstack.cli.output import Output, close_streams, prepare_streams
from memstack.cli.session import ConfigOption, DebugOption, Globals, JsonOption, SetOption, with_session

__all__ = ["app", "main"]

_START: Final = "Begin"
_MEMORIES: Final = "Memories"
_CARE: Final = "Care"


@runtime_checkable
class _UsageProblem(Protocol):
    """Typer's errors of usage. Their class is not among its public names."""

    exit_code: int

    def format_message(self) -> str: ...


class _Group(TyperGroup):
    """The commands; errors of usage are JSON too where ``--json`` is given."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; see typer."""
        given = sys.argv[1:] if args is None else list(args)
        before_texts = given[: given.index("--")] if "--" in given else given
        if not standalone_mode or "--json" not in before_texts:
            return super().main(args, prog_name, complete_var, standalone_mode, windows_expand_args, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except typer.Abort:
            sys.exit(exits.FAILED)
        except Exception as error:
            if not isinstance(error, _UsageProblem):
                raise
            Output(json=True).problem("UsageError", error.format_message())
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else exits.OK)


app = typer.Typer(
    name="memstack",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=exits.TABLE,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config = typer.Typer(no_args_is_help=True, help="Look at the configuration.", epilog=exits.TABLE)

app.command("init", rich_help_panel=_START)(with_session(configuring.init))
app.command("demo", rich_help_panel=_START)(with_session(demo.demo))
app.command("doctor", rich_help_panel=_START)(with_session(doctor.doctor))
app.add_typer(config, name="config", rich_help_panel=_START)
config.command("show")(with_session(configuring.show))
config.command("check")(with_session(configuring.check))
config.command("schema")(with_session(configuring.schema))

app.command("add", rich_help_panel=_MEMORIES)(with_session(memories.add))
app.command("search", rich_help_panel=_MEMORIES)(with_session(memories.search))
app.command("list", rich_help_panel=_MEMORIES)(with_session(memories.list_))
app.command("show", rich_help_panel=_MEMORIES)(with_session(memories.show))
app.command("update", rich_help_panel=_MEMORIES)(with_session(memories.update))
app.command("delete", rich_help_panel=_MEMORIES)(with_session(memories.delete))
app.command("history", rich_help_panel=_MEMORIES)(with_session(memories.history))

app.command("import", rich_help_panel=_CARE)(with_session(importing.import_))
app.command("stats", rich_help_panel=_CARE)(with_session(memories.stats))


@app.callback()
def root(
    context: typer.Context,
    *,
    global_config: ConfigOption = None,
    global_set: SetOption = None,
    global_json: JsonOption = False,
    global_debug: DebugOption = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """A memory for agents and apps: offline out of the box, the same answers on every engine."""
    context.obj = Globals(global_config, tuple(global_set or ()), global_json, global_debug)
    if version:
        from memstack import __version__

        output = Output(json=global_json)
        output.result({"version": __version__}, lambda console: console.print(f"memstack {__version__}"))
        raise typer.Exit


def main() -> None:
    """Run the command line, and leave with its exit code."""
    prepare_streams()
    try:
        app(prog_name="memstack")
        code: object = exits.OK
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
    except SystemExit as exit_:
        code = exits.OK if exit_.code is None else exit_.code
    sys.exit(close_streams(code if isinstance(code, int) else exits.FAILED))
