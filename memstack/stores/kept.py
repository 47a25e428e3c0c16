"""Clues kept in the process that alone has a store open, so that ranking does not read them anew for every search."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final
from uuid import UUID

from memstack.clues import Clue

__all__ = ["KeptClues"]

_MOST: Final = 50_000  # about 30 MB for messages of common length


class KeptClues:
    """The clues that were read last, by id. Whoever writes a row says so with `forget`.

    Attributes:
        version: changes with every `forget`. What was read before must not be put in after.
    """

    def __init__(self, most: int = _MOST) -> None:
        self.version = 0
        self._most = most
        self._clues: dict[int, Clue] = {}
        self._lock = threading.Lock()

    def get(self, ids: Iterable[UUID]) -> list[Clue | None]:
        """The clues of these ids; None for each that is not kept."""
        known = self._clues.get
        return [known(row_id.int) for row_id in ids]

    def put(self, clues: Sequence[Clue], version: int) -> None:
        """Keep clues that were read when `version` was this; the ones that were put in first make room."""
        with self._lock:
            if version != self.version:
                return
            self._clues.update((UUID(clue.id).int, clue) for clue in clues)
            surplus = len(self._clues) - self._most
            if surplus > 0:
                for key in list(islice(self._clues, surplus)):
                    del self._clues[key]

    def forget(self, ids: Iterable[str] | None = None) -> None:
        """Rows with these ids have changed; None is all of them."""
        with self._lock:
            self.version += 1
            if ids is None:
                self._clues.clear()
                return
            for row_id in ids:
                self._clues.pop(UUID(row_id).int, None)
