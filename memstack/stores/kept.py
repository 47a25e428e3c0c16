"""What was read of rows, kept in the process that alone has a store open, so that a search does not read it anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

__all__ = ["Kept"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """What was read last of some rows. Whoever writes a row says so with `forget`.

    Attributes:
        version: changes with every `forget`. What was read before must not be put in after.
    """

    def __init__(self, most: int) -> None:
        self.version = 0
        self._most = most
        self._values: dict[K, V] = {}
        self._lock = threading.Lock()

    def get(self, keys: Iterable[K]) -> list[V | None]:
        """What is kept of these rows; None for each of which nothing is."""
        known = self._values.get
        return [known(key) for key in keys]

    def put(self, values: Mapping[K, V], version: int) -> None:
        """Keep what was read when `version` was this; what was put in first makes room."""
        with self._lock:
            if version != self.version:
                return
            self._values.update(values)
            surplus = len(self._values) - self._most
            if surplus > 0:
                for key in list(islice(self._values, surplus)):
                    del self._values[key]

    def through(self, keys: Sequence[K], read: Callable[[Sequence[K]], Mapping[K, V]]) -> dict[K, V]:
        """What is kept of these rows, and what `read` tells of the others, which is kept from now on.

        Args:
            keys: of the rows.
            read: told which are not kept; called in any case, so that a store that is closed can refuse.
        """
        told = {key: found for key, found in zip(keys, self.get(keys), strict=True) if found is not None}
        version = self.version
        found = read([key for key in keys if key not in told])
        self.put(found, version)
        return {**told, **found}

    def forget(self, keys: Iterable[K] | None = None) -> None:
        """These rows have changed; None is all of them."""
        with self._lock:
            self.version += 1
            if keys is None:
                self._values.clear()
                return
            for key in keys:
                self._values.pop(key, None)
