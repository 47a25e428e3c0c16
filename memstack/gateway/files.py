"""The files and streams that an export is written to, and read from."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from memstack.errors import InvalidInput, describe
from memstack.stores.tally import sync_folder

__all__ = ["Target", "reading", "writing"]

Target = str | os.PathLike[str] | IO[str]

_WAYS: Final = {
    "target": "Pass the path of a file that can be written, or a text stream that is open for it.",
    "source": "Pass the path of a file that export() wrote, or a text stream that is open for reading.",
}
_BOM: Final = "\ufeff"
_STANDARD: Final = {"/dev/stdout": 1, "/dev/stderr": 2}
_NAME: Final = 40  # characters of a file's name that its draft has too: names have an end


@contextmanager
def writing(target: Target) -> Iterator[Callable[[str], object]]:
    """What writes text to a target.

    A file is written whole or not at all: beside the place that a symbolic link leads to, and then put there. What is
    there and is no file, such as a pipe, is written to as it is, and so is a stream.

    Raises:
        InvalidInput: it cannot be written to; also later, where a write fails.
    """
    if not isinstance(target, (str, os.PathLike)):
        _check_stream(target, "target")
        yield _writer(target, "the stream")
        return
    path = _path(target, "target")
    with _told("target", str(path)):
        place, mode = _place(path)
    if place is None:
        with _file(path, "w", path) as stream:
            yield _writer(stream, str(path))
        return
    draft = place.with_name(f".{place.name[:_NAME]}.{secrets.token_hex(6)}.part")
    try:
        with _file(draft, "x", path) as stream:
            if mode is not None:
                with _told("target", str(path)):
                    draft.chmod(mode)
            yield _writer(stream, str(path))
            with _told("target", str(path)):  # before it takes the place of what is there
                stream.flush()
                os.fsync(stream.fileno())
        with _told("target", str(path)):
            draft.replace(place)
        with suppress(OSError):  # who may write in a folder may not always read it; the file is whole in its place
            sync_folder(place.parent)
    finally:
        with suppress(OSError):  # it is in its place, or what failed first is what is told
            draft.unlink()


@contextmanager
def reading(source: Target) -> Iterator[Iterator[str]]:
    """The lines of a source. Bytes that are no UTF-8 come as lone surrogates: they spoil no line but their own.

    Raises:
        InvalidInput: it cannot be read; also later, where a read fails.
    """
    if not isinstance(source, (str, os.PathLike)):
        _check_stream(source, "source")
        yield _lines(source, "the stream")
        return
    path = _path(source, "source")
    with _told("source", str(path)):
        stream = path.open(encoding="utf-8", errors="surrogateescape")
    with stream:
        yield _lines(stream, str(path))


def _place(path: Path) -> tuple[Path | None, int | None]:
    """Where a file is to be put, with the permissions of the one there; no place where there is something else."""
    if str(path) in _STANDARD:
        return None, None
    real = Path(os.path.realpath(path))
    try:
        there = path.stat()
    except FileNotFoundError:
        return real, None
    if not stat.S_ISREG(there.st_mode) or not real.exists() or not real.samefile(path):
        return None, None
    return real, stat.S_IMODE(there.st_mode)


@contextmanager
def _file(path: Path, mode: str, shown: Path) -> Iterator[IO[str]]:
    """A file to write to; what fails when it is opened or closed is told too."""
    with _told("target", str(shown)):
        standard = _STANDARD.get(str(path))
        place = path if standard is None else os.dup(standard)  # opened by its name, a file would be emptied
        # The place is not always a path, it is closed below, and its lines end alike on every system.
        stream = open(place, mode, encoding="utf-8", newline="\n")  # noqa: PTH123, SIM115
    try:
        yield stream
    except BaseException:
        with suppress(OSError):  # what failed first is what is told
            stream.close()
        raise
    with _told("target", str(shown)):
        stream.close()


def _writer(stream: IO[str], shown: str) -> Callable[[str], object]:
    def write(text: str) -> None:
        with _told("target", shown):
            stream.write(text)

    return write


def _lines(stream: IO[str], shown: str) -> Iterator[str]:
    with _told("source", shown):
        for number, line in enumerate(stream):
            yield line if number else line.removeprefix(_BOM)


def _path(value: str | os.PathLike[str], field: str) -> Path:
    text: object = os.fspath(value)
    if not isinstance(text, str) or not text:
        raise InvalidInput(field, f"is {describe(text)}, not a path", _WAYS[field])
    return Path(text)


def _check_stream(stream: Any, field: str) -> None:
    """Try a stream with a text of no length: nothing is written, and nothing is read."""
    with _told(field, "the stream"):
        try:
            if field == "target":
                stream.write("")
            fits = field == "target" or isinstance(stream.read(0), str)
        except (AttributeError, TypeError):
            fits = False
    if not fits:
        raise InvalidInput(field, f"is {describe(stream)}, neither a path nor a text stream", _WAYS[field])


@contextmanager
def _told(field: str, shown: str) -> Iterator[None]:
    """Tells what the system refuses, but for a reader that has gone: who writes to a pipe knows what that means."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        done = "written" if field == "target" else "read"
        raise InvalidInput(field, f"{shown} cannot be {done} ({_reason(error)})", _WAYS[field]) from None


def _reason(error: OSError | ValueError) -> str:
    """Why, without a character of the text."""
    if isinstance(error, UnicodeEncodeError):
        return f"a character of it has no place in {error.encoding}"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding}"
    return getattr(error, "strerror", None) or str(error)
