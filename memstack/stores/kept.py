"""What was read of rows, kept in the process that alone has a store open, so that a search does not read it anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

__all__ = ["Kept"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """What was read last of some rows. Whoever writes a row says so with `forget`.

    Args:
        most: how much is kept, in bytes.
        weigh: how many one of them takes.

    Attributes:
        version: changes with every `forget`. What was read before must not be put in after.
    """

    def __init__(self, most: int, weigh: Callable[[V], int]) -> None:
        self.version = 0
        self._most = most
        self._weigh = weigh
        self._values: dict[K, V] = {}
        self._bytes = 0
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
            for key, value in values.items():
                self._drop(key)
                self._values[key] = value
                self._bytes += self._weigh(value)
            for key in self._surplus():
                self._drop(key)

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
                self._bytes = 0
                return
            for key in keys:
                self._drop(key)

    def _surplus(self) -> list[K]:
        """What makes room, the first first."""
        going: list[K] = []
        left = self._bytes
        for key, value in self._values.items():
            if left <= self._most:
                break
            left -= self._weigh(value)
            going.append(key)
        return going

    def _drop(self, key: K) -> None:
        value = self._values.pop(key, None)
        if value is not None:
            self._bytes -= self._weigh(value)
