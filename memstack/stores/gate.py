"""A gate: many may use an engine at a time, or one alone may rework its files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """Lets calls through together, and a rework alone. A thread that is inside may come in again."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._inside = 0
        self._mine = threading.local()

    @contextmanager
    def together(self) -> Iterator[None]:
        """With others who come in together."""
        with self._condition:
            self._inside += 1
            self._mine.count = getattr(self._mine, "count", 0) + 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._mine.count -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """When the others are out; nobody comes in until it is done. Calls of this thread do."""
        with self._condition:
            self._condition.wait_for(lambda: self._inside == getattr(self._mine, "count", 0))
            yield
