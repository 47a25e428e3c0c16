"""A gate: many may use an engine at a time, or one alone may rework its files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """Lets calls through together, and a rework alone. A thread that is inside may come in again.

    While a rework waits, nobody else comes in: under steady load it would wait for ever.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._inside = 0
        self._waiting = 0  # reworks
        self._mine = threading.local()

    @contextmanager
    def together(self) -> Iterator[None]:
        """With others who come in together."""
        with self._condition:
            if not self._own:
                self._condition.wait_for(lambda: not self._waiting)
            self._enter()
        try:
            yield
        finally:
            with self._condition:
                self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """When the others are out; nobody comes in until it is done. Calls of this thread do."""
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: self._inside == self._own)
            finally:
                self._waiting -= 1
                self._condition.notify_all()
            self._enter()
            try:
                yield
            finally:
                self._leave()

    @property
    def _own(self) -> int:
        """How often this thread is inside."""
        count: int = getattr(self._mine, "count", 0)
        return count

    def _enter(self) -> None:
        self._inside += 1
        self._mine.count = self._own + 1

    def _leave(self) -> None:
        self._inside -= 1
        self._mine.count -= 1
        self._condition.notify_all()
