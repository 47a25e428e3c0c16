"""One open engine for each folder within a process: the second store of a folder gets the first one's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
            if shared is None or shared.forked:
                shared = cls(key, make(), close)
                cls._open[key] = shared
            shared._users += 1
            return shared

    @classmethod
    @contextmanager
    def turn(cls) -> Iterator[None]:
        """While the block runs, no other thread opens or closes an engine."""
        with cls._lock:
            yield

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened it."""
        return self.pid != os.getpid()

    def release(self) -> None:
        """Give it back. In a forked process nothing is closed: it is the parent's."""
        if self.forked:
            return
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._open.get(self._key) is self:
                del self._open[self._key]
                self._close(self.engine)

    @classmethod
    def forget(cls) -> None:
        """In a forked process: what is open is the parent's, and who held the lock does not live here."""
        cls._lock = threading.RLock()
        _parents.append(cls._open)
        cls._open = {}


_parents: list[object] = []  # an engine that is collected would write, or release the parent's lock
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Shared.forget)
