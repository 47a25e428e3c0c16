"""What stores that are reached over a network share: trying again, where that is safe."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from memstack.errors import StoreError

__all__ = ["retrying"]

T = TypeVar("T")
_PAUSES: Final = (0.1, 0.4, 1.0)  # seconds before the second, third and fourth try
_ENOUGH: Final = 5.0  # seconds: a call that waited so long already is not made again


def retrying(call: Callable[[], T]) -> T:
    """Make a call again while its error says that this may help: up to four tries in about two seconds.

    None follows where the tries took 5 seconds: a client that waits for a connection by itself has waited.

    Every call of a store can be repeated: rows are written whole, by their ids.

    Raises:
        StoreError: the last one.
    """
    begun = time.monotonic()
    for pause in _PAUSES:
        try:
            return call()
        except StoreError as error:
            if not error.retryable or time.monotonic() - begun > _ENOUGH:
                raise
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # jitter
    return call()
