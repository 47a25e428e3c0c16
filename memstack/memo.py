"""Answers that are kept for texts that come up again and again."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

__all__ = ["kept_for_short"]

T = TypeVar("T")


def kept_for_short(longest: int, *, entries: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Keep what a function answers for texts of up to `longest` characters, for the `entries` asked for last.

    Longer ones come up once, and would fill the memory.
    """

    def decorate(function: Callable[[str], T]) -> Callable[[str], T]:
        kept = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def answer(text: str) -> T:
            return kept(text) if len(text) <= longest else function(text)

        return answer

    return decorate
