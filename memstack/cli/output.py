"""What is printed: text for people, JSON for programs. Text of users is printed as it is, never as markup."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from memstack.cli.exits import PIPE_CLOSED
from memstack.errors import MemstackError

__all__ = ["Output", "close_streams", "literal", "one_line", "prepare_streams", "silence", "to_json"]

# Control characters could take over the terminal; those of direction could show another text than there is.
_NARROWEST: Final = 40  # columns; what is narrower lets the terminal break the lines
_UNBROKEN: Final = 100_000  # columns, where no terminal reads: other programs take lines apart
_FILLING: Final = re.compile(" +$", re.MULTILINE)  # up to the end of the longest line
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Console(Console):
    """A console that leaves quietly when its reader has gone, as in ``memstack list --all | head``."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        silence()
        raise SystemExit(PIPE_CLOSED)


class Output:
    """Where a command prints to.

    Attributes:
        json: whether results and errors are JSON.
        console: standard output, for people.
        errors: standard error, for people.
    """

    def __init__(self, *, json: bool = False, debug: bool = False) -> None:
        self.json = json
        self.debug = debug
        self.console = _console()
        self.errors = _console(stderr=True)

    def result(self, data: Any, show: Callable[[Console], object]) -> None:
        """Print a result.

        Args:
            data: the result as plain JSON types, printed where JSON is wanted.
            show: prints it for people.
        """
        if self.json:
            sys.stdout.write(to_json(data) + "\n")
        elif self.console.width < _UNBROKEN:
            show(self.console)
        else:
            with self.console.capture() as printed:
                show(self.console)
            sys.stdout.write(_FILLING.sub("", printed.get()))

    def note(self, text: str) -> None:
        """Tell a person something that is no result; programs do not hear it."""
        if not self.json:
            self.errors.print(literal(text), style="dim", soft_wrap=True)

    def error(self, error: BaseException) -> None:
        """Print an error: one line, or a JSON object; with ``--debug`` the traceback before it."""
        if self.debug:
            traceback.print_exception(error, file=sys.stderr)
        message = str(error)
        if not isinstance(error, MemstackError):
            message = f"unexpected {type(error).__name__}: {message} (a bug of memstack; --debug shows where)"
        self.problem(type(error).__name__, message)

    def problem(self, kind: str, message: str) -> None:
        """Print what went wrong: one line, or a JSON object."""
        if self.json:
            sys.stderr.write(to_json({"error": {"type": kind, "message": message}}, stream="stderr") + "\n")
        else:
            self.errors.print(Text.assemble(("Error: ", "bold red"), one_line(message)), soft_wrap=True)


def _console(*, stderr: bool = False) -> Console:
    def make(width: int | None) -> Console:
        return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    console = make(None)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return make(_UNBROKEN)
    return console if console.width >= _NARROWEST else make(_NARROWEST)


def to_json(data: Any, *, stream: str = "stdout") -> str:
    """Data as one line of JSON that the stream can carry."""
    encoding = (getattr(getattr(sys, stream), "encoding", None) or "ascii").lower().replace("-", "")
    text = json.dumps(data, ensure_ascii=encoding != "utf8", default=_plain)
    # JSON itself leaves those above ASCII as they are; they stand in strings alone.
    return _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def literal(text: str, style: str = "") -> Text:
    """Text as it is: no markup; control characters are shown, not obeyed."""
    return Text(_CONTROL.sub(_escaped, text), style=style, overflow="fold")


def one_line(text: str) -> str:
    """The same, in one line."""
    return _CONTROL.sub(_escaped, " ".join(text.split()))


def prepare_streams() -> None:
    """Let a character that the terminal's encoding lacks be written as its number, not end the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def silence() -> None:
    """Send what is still to be written to standard output nowhere: its reader has gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def close_streams(code: int) -> int:
    """Write out what is left; returns the exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        return PIPE_CLOSED
    return code


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"  # noqa: PLR2004  # Python's own spelling


def _plain(value: object) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
