"""How to take back what is being done to the store: noted in a file beside the history, for whoever finds it.

The store and the history are two things, and a process can die between the write of the one and the commit of the
other. So before the store is written, the way back is noted here, with the number that the commit will have. Whoever
has the history's write lock and finds a number that was never committed knows that its writer is dead.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from memstack.folders import open_for_me

__all__ = ["Journal"]

# What is left when all is forgotten: some file systems bring a file that loses its last byte to the disk at once.
_HEAD: Final = b"\n"
_ANY: Final = "surrogatepass"  # others may have written text that is none


class Journal:
    """The notes of one collection. Only who has the write lock of the history may call.

    Args:
        file: where they are kept; None keeps them in this process, as the history is.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._kept = b""

    def append(self, number: int, content: str) -> int:
        """Add a note, which must be one line; returns where it begins.

        Raises:
            OSError: there is no room for it. What is there of it is no note.
        """
        line = f"{number} {content}\n".encode("utf-8", _ANY)
        if self._file is None:
            self._kept += line
            return len(self._kept) - len(line)
        with open(self._file, "ab", opener=open_for_me) as file:
            begin = file.tell() or file.write(_HEAD)
            file.write(line)
        return begin

    def read(self) -> list[tuple[int, str]]:
        """The notes, oldest first. One that its writer did not finish was not acted on, and is left out."""
        return [(number, text.decode("utf-8", _ANY)) for number, text in self._lines()]

    def numbers(self) -> list[int]:
        """The numbers of the notes, oldest first."""
        return [number for number, _ in self._lines()]

    def _lines(self) -> list[tuple[int, bytes]]:
        content = self._kept
        if self._file is not None:
            try:
                content = self._file.read_bytes()
            except FileNotFoundError:
                return []
        *lines, _ = content.split(b"\n")
        split = [line.partition(b" ") for line in lines if line]
        return [(int(number), text) for number, _, text in split]

    def cut(self, length: int = 0) -> None:
        """Forget the notes from a place on."""
        if self._file is None:
            self._kept = self._kept[:length]
        elif self._file.exists():
            os.truncate(self._file, max(length, len(_HEAD)))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be read."""
        if self._file is None:
            return not self._kept
        try:
            return self._file.stat().st_size <= len(_HEAD)
        except FileNotFoundError:
            return True
