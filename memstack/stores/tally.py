"""What a store in a folder must hold, noted beside it: how many rows there are, and what was written last.

An engine that finds a file of its own missing or cut off may go on with the rows that are left. Nobody would notice:
so each write to the engine is noted here, and the note is compared when the folder is opened again.

The note is one small block that is written in place: it outlives the process, however that ends, and costs some
microseconds. It is made durable when the folder is closed and when it is written to for the first time. Where the
machine itself stops in between, parts of the engine's files and of the note may be older than others: then there is
nothing to compare, and a warning says so.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import sys
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from memstack.errors import StoreCorrupted, StoreError

__all__ = [
    "NOTHING_DAMAGED",
    "NO_DAMAGE",
    "Counted",
    "Tally",
    "check_readable",
    "digest_of",
    "sync_folder",
    "write_durably",
]

_log: Final = logging.getLogger(__name__)
_BLOCK: Final = 512
_IN_PLACE: Final = os.O_RDWR | getattr(os, "O_BINARY", 0)
NO_DAMAGE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO)
NOTHING_DAMAGED: Final = "Mend that, and open it again: nothing says that the files are damaged."
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_BOOT_OF_MAC: Final = b"kern.bootsessionuuid"


class Counted(Protocol):
    """An engine whose rows are noted."""

    def rows(self) -> int:
        """How many rows it has, exactly."""
        ...

    def texts(self) -> int:
        """Of how many the texts are there, in the file beside it, exactly."""
        ...

    def digest(self, row_id: str) -> str | None:
        """`digest_of` what it has stored in a row; None where there is no such row."""
        ...


@dataclass(frozen=True, slots=True)
class _Note:
    """What is noted.

    Attributes:
        least: so many rows there are at least, also when the write that is under way failed.
        most: so many there are at most.
        closed: whether the folder was closed after the last write.
        boot: the run of the machine in which that was; empty where the system does not tell.
        last: id of the row that was written last; None while a write is under way.
        digest: of that row; None where it was deleted.
        written: how many rows were written since the engine was reorganised.
    """

    least: int
    most: int
    closed: bool
    boot: str
    last: str | None = None
    digest: str | None = None
    written: int = 0


_NAMES: Final = tuple(field.name for field in fields(_Note))


class Tally:
    """The note of one folder. Its owner sees to it that one thread at a time calls.

    Attributes:
        written: how many rows were written since the engine was reorganised. Its owner counts; it is noted with every
            write, and known again once `check` was called.

    Args:
        file: where it is kept.
        label: how errors name the store.
    """

    def __init__(self, file: Path, label: str) -> None:
        self.file = file
        self._label = label
        self.written = 0
        self._open = False  # whether the file says that the folder is in use

    def check(self, engine: Counted) -> bool:
        """Compare the note with the engine. Where there is none, there is nothing to compare.

        Returns:
            Whether a write may be there in part: it was under way, or the machine stopped.

        Raises:
            StoreCorrupted: rows are missing, or there are some that were deleted.
        """
        note = self._read()
        if note is None:
            return False
        self._open = not note.closed
        self.written = note.written
        if not note.closed and note.boot != _boot():
            _log.warning(
                "%s: the machine stopped while it was open: what was written in the seconds before may be lost",
                self._label,
            )
            return True
        for count, what in ((engine.rows(), ""), (engine.texts(), "the texts of ")):
            if not note.least <= count <= note.most:
                raise self._damaged(f"{what}{count} rows are there, and {_range(note)} were stored")
        if note.last is not None and engine.digest(note.last) != note.digest:
            raise self._damaged("what was written last is not there")
        return note.least != note.most

    def before(self, rows: int, *, added: int = 0, removed: int = 0) -> None:
        """Note that a write is about to happen.

        Args:
            rows: how many there are.
            added: how many more there may be.
            removed: how many fewer there may be.
        """
        self._write(_Note(max(0, rows - removed), rows + added, closed=False, boot=_boot(), written=self.written))

    def after(self, rows: int, last: str | None = None, digest: str | None = None) -> None:
        """Note that it has happened: how many rows there are now, and the last of those written."""
        note = _Note(rows, rows, closed=False, boot=_boot(), last=last, digest=digest, written=self.written)
        self._write(note)

    @property
    def in_use(self) -> bool:
        """Whether something was written since the folder was closed."""
        return self._open

    def close(self, rows: int) -> None:
        """Note that the engine was closed with so many rows, all of them on the disk."""
        self._write(_Note(rows, rows, closed=True, boot="", written=self.written))

    def _read(self) -> _Note | None:
        try:
            content = json.loads(self.file.read_text(encoding="ascii"))
            note = _Note(**content)
            numbers = (note.least, note.most, note.written)
            if all(isinstance(number, int) for number in numbers) and isinstance(note.closed, bool):
                return note
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            check_readable(self._label, self.file, error)
        raise self._damaged(f"{self.file.name} is no note of ours")

    def _write(self, note: _Note) -> None:
        block = json.dumps({name: getattr(note, name) for name in _NAMES}).ljust(_BLOCK - 1).encode("ascii") + b"\n"
        try:
            try:
                handle = os.open(self.file, _IN_PLACE)  # that needs no room
            except FileNotFoundError:
                write_durably(self.file, block)
            else:
                try:
                    os.write(handle, block)
                    if note.closed or not self._open:
                        os.fsync(handle)
                finally:
                    os.close(handle)
        except OSError as error:
            raise StoreError(self._label, f"cannot write {self.file} ({error.strerror})") from error
        self._open = not note.closed

    def _damaged(self, problem: str) -> StoreCorrupted:
        return StoreCorrupted(
            self._label,
            str(self.file.parent),
            problem,
            hint=f"To go on with what is left, delete {self.file}.",
        )


def check_readable(label: str, file: Path, error: Exception) -> None:
    """Tell what keeps this process from reading a file from what is wrong with the file.

    Raises:
        StoreError: it is the process, the user or the disk: nothing is damaged.
    """
    if isinstance(error, OSError) and error.errno in NO_DAMAGE:
        raise StoreError(label, f"cannot read {file} ({error.strerror})", NOTHING_DAMAGED) from error


def digest_of(*texts: str) -> str:
    """A short digest of what a row holds."""
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()


def write_durably(file: Path, content: bytes) -> None:
    """Replace a file as a whole; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written; it is what it was.
    """
    draft = file.with_name(f"{file.name}.new")
    with draft.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if sys.platform == "win32":  # a folder cannot be opened there, and names are written at once
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@lru_cache(maxsize=1)
def _boot() -> str:
    """The run of the machine: Linux and macOS tell. Where the system does not, each is the same."""
    try:
        return _told_by_mac() if sys.platform == "darwin" else _BOOT.read_text(encoding="ascii").strip()
    except (OSError, AttributeError, ImportError):  # there is no such file, or no such call
        return ""


def _told_by_mac() -> str:
    """What macOS has in place of Linux's file. Empty where it does not say."""
    import ctypes  # noqa: PLC0415  # which nothing else here needs

    found = ctypes.create_string_buffer(64)  # a UUID has 36 characters
    size = ctypes.c_size_t(len(found))
    failed: int = ctypes.CDLL(None).sysctlbyname(_BOOT_OF_MAC, found, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else found.value.decode("ascii", "replace")


def _range(note: _Note) -> str:
    return str(note.least) if note.least == note.most else f"{note.least} to {note.most}"
