"""The application: which command is which function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from memstack.cli import changing, configuring, demo, doctor, exits, importing, memories, moving
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
        """Run a command line; see typer. Arguments are texts: where no shell has expanded them, nor does typer."""
        given = sys.argv[1:] if args is None else list(args)
        before_texts = given[: given.index("--")] if "--" in given else given
        if not standalone_mode or "--json" not in before_texts:
            return super().main(given, prog_name, complete_var, standalone_mode, windows_expand_args, **extra)
        try:
            code = super().main(given, prog_name, complete_var, standalone_mode=False, **extra)
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

_COMMANDS: list[tuple[str, Callable[..., None], str]] = [
    ("init", configuring.init, _START),
    ("demo", demo.demo, _START),
    ("doctor", doctor.doctor, _START),
    ("add", memories.add, _MEMORIES),
    ("search", memories.search, _MEMORIES),
    ("list", memories.list_, _MEMORIES),
    ("show", memories.show, _MEMORIES),
    ("update", memories.update, _MEMORIES),
    ("delete", memories.delete, _MEMORIES),
    ("history", memories.history, _MEMORIES),
    ("conflicts", changing.conflicts, _MEMORIES),
    ("supersede", changing.supersede, _MEMORIES),
    ("confirm", changing.confirm, _MEMORIES),
    ("dismiss", changing.dismiss, _MEMORIES),
    ("import", importing.import_, _CARE),
    ("export", moving.export, _CARE),
    ("migrate", moving.migrate, _CARE),
    ("erase", changing.erase, _CARE),
    ("stats", memories.stats, _CARE),
]
for _name, _function, _panel in _COMMANDS:
    app.command(_name, rich_help_panel=_panel, epilog=exits.TABLE)(with_session(_function))
for _name, _function in (("show", configuring.show), ("check", configuring.check), ("schema", configuring.schema)):
    config.command(_name, epilog=exits.TABLE)(with_session(_function))
app.add_typer(config, name="config", rich_help_panel=_START)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    global_config: ConfigOption = None,
    global_set: SetOption = None,
    global_json: JsonOption = False,
    global_debug: DebugOption = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A memory for agents and apps: offline out of the box, the same answers on every engine."""
    context.obj = Globals(global_config, tuple(global_set or ()), global_json, global_debug)
    if version:
        import memstack

        found = memstack.__version__
        Output(json=global_json).result({"version": found}, lambda console: console.print(f"memstack {found}"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")


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
