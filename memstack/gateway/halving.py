"""Finding the one text of a batch that the embedder finds too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from memstack.errors import MemstackError, TextTooLong

__all__ = ["refused"]

T = TypeVar("T")


def refused(batch: Sequence[T], store: Callable[[Sequence[T]], object]) -> Iterator[tuple[Sequence[T], MemstackError]]:
    """Store a batch: whole, or in halves of halves where it holds a text that is too long.

    Args:
        batch: what to store; nothing is done where it is empty.
        store: stores some of it, whole or not at all.

    Yields:
        What was not stored, and why.
    """
    if not batch:
        return
    try:
        store(batch)
    except TextTooLong as error:
        if len(batch) == 1:
            yield batch, error
            return
        middle = len(batch) // 2
        yield from refused(batch[:middle], store)
        yield from refused(batch[middle:], store)
    except MemstackError as error:
        yield batch, error
