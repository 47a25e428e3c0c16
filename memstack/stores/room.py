"""Room on the disk: seen to before a write, since what an engine does on a full disk is not what it says.

One leaves a transaction open and never ends another call, one is killed by the system, one stops its server. A disk
that others fill in the middle of a write is another matter: that is what the way back is for.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memstack.errors import StoreError, StoreFull
from memstack.payload import Payload

__all__ = ["FREE_BYTES", "FULL", "MAKE_ROOM", "check_room", "free_bytes", "length_of"]

FULL: Final = "database or disk is full"  # in SQLite's words
MAKE_ROOM: Final = "Free some space, or move the store to a larger disk."
FREE_BYTES: Final = 64 * 2**20  # Qdrant maps pages of 32 MiB ahead, PostgreSQL makes segments of 16 MiB


def check_room(label: str, place: Path, needed: int) -> None:
    """See that so many bytes are free.

    Raises:
        StoreFull: they are not.
        StoreError: the place is gone.
    """
    free = free_bytes(label, place)
    if free < needed:
        raise StoreFull(label, str(place), free, needed)


def free_bytes(label: str, place: Path) -> int:
    """How many bytes are free where a folder is.

    Raises:
        StoreError: it is gone, or cannot be looked at.
    """
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise StoreError(
            label,
            f"{place} cannot be written ({error.strerror})",
            "If it was moved while it was open, put it back, or open the memory where it is now.",
        ) from error


def length_of(payloads: Iterable[Payload]) -> int:
    """The bytes of the texts among the values of rows, about; of others there are few."""
    texts = (value for payload in payloads for value in payload.values() if isinstance(value, str))
    return sum(len(text) * (1 if text.isascii() else 4) for text in texts)
