"""A connection to PostgreSQL that does not wait for ever.

PostgreSQL ends a statement by itself after ``statement_timeout``. A server that is stopped, or behind a network that
swallows packets, does not: so the silence is measured on this side, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

__all__ = ["PatientConnection", "ServerSilent"]

T = TypeVar("T")


class ServerSilent(psycopg.OperationalError):
    """The server did not say anything for too long. The connection is closed: what it was doing is unknown."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection that gives up on a server that is silent.

    Attributes:
        patience: seconds of silence in a call; None is for ever.
        heard: when the server answered last, by `time.monotonic`.
    """

    patience: float | None = None
    heard: float = -math.inf

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Run what is to be done with the server.

        Raises:
            ServerSilent: it was silent for longer than `patience`.
        """
        try:
            answer = super().wait(gen if self.patience is None else _heard(gen, self.patience), *args, **options)
        except ServerSilent:
            self.pgconn.finish()
            raise
        self.heard = time.monotonic()
        return answer

    @contextmanager
    def waiting(self, patience: float | None) -> Iterator[None]:
        """Have another patience until the block ends."""
        before, self.patience = self.patience, patience
        try:
            yield
        finally:
            self.patience = before


def _heard(gen: Generator[Any, Any, T], patience: float) -> Generator[Any, Any, T]:
    """The same as a generator of psycopg's, which is told now and then that there is nothing, and how long already."""
    last = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            if ready:
                last = now
            elif now - last > patience:
                raise ServerSilent(f"no answer in {patience:g} seconds")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        gen.close()
