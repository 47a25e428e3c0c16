"""Residue: whether bytes of what was erased are still in a file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["needles", "search"]

_SPECIAL: Final = re.compile(r'["\\\x00-\x1f\x7f]')  # what engines and JSON write in another way
_SHORTEST: Final = 8  # characters: what is shorter is found by chance
_MOST: Final = 100
_PIECE: Final = 4 * 2**20  # bytes


def needles(texts: Iterable[str]) -> list[str]:
    """What to look for: of each text its longest part that every engine writes as it is; at most 100, the longest."""
    parts = {max(_SPECIAL.split(text), key=len).strip() for text in texts}
    return sorted((part for part in parts if len(part) >= _SHORTEST), key=lambda part: (-len(part), part))[:_MOST]


def search(files: Iterable[Path], parts: Sequence[str], elsewhere: Callable[[set[str]], set[str]]) -> list[str]:
    """The files in which a part is still found.

    Args:
        files: where to look; those that are gone meanwhile are passed over.
        parts: see `needles`.
        elsewhere: which of the parts that were found may be there, since somebody else's memory has them.
    """
    there: dict[str, set[str] | None] = {}
    wanted = {part: part.encode() for part in parts}
    for path in files:
        try:
            there[str(path)] = _found_in(path, wanted)
        except PermissionError:
            there[f"{path} (cannot be read)"] = None
    suspected = {part for found in there.values() for part in found or ()}
    innocent = elsewhere(suspected) if suspected else set[str]()
    return [name for name, found in there.items() if found is None or found - innocent]


def _found_in(path: Path, wanted: Mapping[str, bytes]) -> set[str]:
    """The parts that are in a file, given with their bytes."""
    overlap = max((len(content) for content in wanted.values()), default=1) - 1
    found: set[str] = set()
    try:
        with path.open("rb") as file:
            for begin, end in _written(file.fileno(), path.stat().st_size):
                file.seek(begin)
                tail = b""
                while piece := file.read(max(0, min(_PIECE, end - file.tell()))):
                    content = tail + piece
                    found.update(part for part, sought in wanted.items() if part not in found and sought in content)
                    tail = piece[-overlap:] if overlap else b""
    except FileNotFoundError:  # removed while we looked
        return set()
    return found


def _written(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that were ever written: engines make files large ahead of need."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    end = 0
    while end < size:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a file system that does not tell
                yield end, size
            return
        yield begin, end
