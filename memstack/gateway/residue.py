"""Residue: whether bytes of what was erased are still in a file."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["needles", "search"]

_SPECIAL: Final = re.compile(r'["\\\x00-\x1f\x7f]')  # what engines and JSON write in another way
_SHORTEST: Final = 8  # characters: what is shorter is found by chance
_MOST: Final = 100
_PIECE: Final = 2**18  # bytes; what is made of them fits into the cache of a processor
_END: Final = 8  # bytes: one number
_FACTOR: Final = 0x9E37_79B9_7F4A_7C15  # 2**64 by the golden ratio: multiplied by it, numbers that are alike spread
_SHIFT: Final = 48  # leaves 16 bits


def needles(texts: Iterable[str]) -> list[str]:
    """What to look for: of each text its longest part that every engine writes as it is; at most 100, the longest."""
    parts = {max(_SPECIAL.split(text), key=len).strip() for text in texts}
    return sorted((part for part in parts if len(part) >= _SHORTEST), key=lambda part: (-len(part), part))[:_MOST]


def search(files: Iterable[Path], parts: Sequence[str], elsewhere: Callable[[set[str]], set[str]]) -> list[str]:
    """The files in which a part is still found.

    Args:
        files: where to look; those that are gone meanwhile are passed over.
        parts: what to look for, each of eight bytes or more; see `needles`.
        elsewhere: which of the parts that were found may be there, since somebody else's memory has them.
    """
    there: dict[str, set[str] | None] = {}
    sought = _Sought(parts)
    for path in files:
        try:
            there[str(path)] = _found_in(path, sought)
        except PermissionError:
            there[f"{path} (cannot be read)"] = None
    suspected = {part for found in there.values() for part in found or ()}
    innocent = elsewhere(suspected) if suspected else set[str]()
    return [name for name, found in there.items() if found is None or found - innocent]


class _Sought:
    """Many parts, all looked for in one reading: one after the other takes three to six times as long.

    Every eight bytes of the content, wherever they begin, are one number, and a hash of it is looked up in a table that
    tells whether any part ends with such a number. What is found so is compared.

    Attributes:
        overlap: so many bytes before a piece of a file may belong to a part that ends in it.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        import numpy as np  # noqa: PLC0415

        self._by_end: dict[bytes, list[tuple[str, bytes]]] = {}
        for part in parts:
            content = part.encode()
            self._by_end.setdefault(content[-_END:], []).append((part, content))
        self.overlap = max((len(part.encode()) for part in parts), default=1) - 1
        self._table = np.zeros(2 ** (64 - _SHIFT), dtype=np.bool_)
        ends = np.array([int.from_bytes(end, "little") for end in self._by_end], dtype=np.uint64)
        self._table[_hashed(ends)] = True

    def inside(self, content: bytes) -> Iterator[str]:
        """The parts that are in it, each as often as it is."""
        import numpy as np  # noqa: PLC0415

        for begin in range(min(_END, len(content) - _END + 1)):
            numbers = np.frombuffer(content, dtype="<u8", offset=begin, count=(len(content) - begin) // _END)
            for place in np.flatnonzero(self._table.take(_hashed(numbers))).tolist():
                end = begin + (place + 1) * _END
                for part, sought in self._by_end.get(content[end - _END : end], ()):
                    if content.endswith(sought, 0, end):
                        yield part


def _hashed(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places in the table: signed, since not every NumPy takes others for places."""
    import numpy as np  # noqa: PLC0415

    return ((numbers * np.uint64(_FACTOR)) >> np.uint64(_SHIFT)).view(np.int64)


def _found_in(path: Path, sought: _Sought) -> set[str]:
    """The parts that are in a file."""
    found: set[str] = set()
    size = max(_PIECE, sought.overlap)
    try:
        with path.open("rb") as file:
            for begin, end in _written(file.fileno(), path.stat().st_size):
                file.seek(begin)
                tail = b""
                while piece := file.read(max(0, min(size, end - file.tell()))):
                    content = tail + piece
                    found.update(sought.inside(content))
                    tail = content[-sought.overlap :] if sought.overlap else b""
    except FileNotFoundError:  # removed while we looked
        return set()
    return found


def _written(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that were ever written: engines make files large ahead of need.

    Only Linux is asked. Windows does not tell, and macOS takes for a hole what lies in memory still.
    """
    if sys.platform != "linux":
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
