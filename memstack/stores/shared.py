"""One open engine for each folder within a process: the second store of a folder gets the first one's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

__all__ = ["Shared"]

T = TypeVar("T")


class Shared(Generic[T]):
    """An engine that several stores of this process use. The last one to release it closes it.

    Attributes:
        engine: what is shared.
        pid: the process that opened it: it must not be used in a forked one.
    """

    _open: ClassVar[dict[tuple[type, Path], Shared[Any]]] = {}
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, key: tuple[type, Path], engine: T, close: Callable[[T], object]) -> None:
        self.engine = engine
        self.pid = os.getpid()
        self._key = key
        self._close = close
        self._users = 0

    @classmethod
    def acquire(cls, owner: type, folder: Path, make: Callable[[], T], close: Callable[[T], object]) -> Shared[T]:
        """The engine of a folder.

        Args:
            owner: the class of store: each has its own engines.
            folder: where the engine keeps its data.
            make: opens it, for the first user.
            close: closes it, after the last.
        """
        with cls._lock:
            key = (owner, folder.resolve())
            shared: Shared[T] | None = cls._open.get(key)
            if shared is None or shared.pid != os.getpid():
                shared = cls(key, make(), close)
                cls._open[key] = shared
            shared._users += 1
            return shared

    def release(self) -> None:
        """Give it back."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._open.get(self._key) is self:
                del self._open[self._key]
                self._close(self.engine)
