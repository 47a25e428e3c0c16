"""Folders and files of memories: of the user who made them, and of nobody else on the machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["FOR_ME", "make_file", "make_folder", "open_for_me"]

FOR_ME: Final = 0o600


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are missing: only this user can look into what is made here.

    What is there keeps its permissions: whoever made it has chosen them.

    Raises:
        OSError: it cannot be made.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(exist_ok=True)  # a file in its place is an error


def make_file(file: Path) -> None:
    """Make an empty file that only this user can read, where there is none.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FOR_ME))


def open_for_me(file: str, flags: int) -> int:
    """Opener of a file that, where it is made, only this user can read."""
    return os.open(file, flags, FOR_ME)
