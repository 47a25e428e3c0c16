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


def retrying(call: Callable[[], T]) -> T:
    """Make a call again while its error says that this may help: up to four tries in about two seconds.

    Every call of a store can be repeated: rows are written whole, by their ids.

    Raises:
        StoreError: the last one.
    """
    for pause in _PAUSES:
        try:
            return call()
        except StoreError as error:
            if not error.retryable:
                raise
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # jitter
    return call()
