"""What a statement says, by rules that fit on a page. Put a language model in its place when you outgrow them."""

from __future__ import annotations

import re
from typing import Final

from memstack import Preference

__all__ = ["DOMAIN", "TIME_OF_DAY", "understand"]

DOMAIN: Final = "task-management"
TIME_OF_DAY: Final = "time of day"
_TIMES: Final = re.compile(r"\b(morning|afternoon|evening)s?\b", re.IGNORECASE)


def understand(text: str) -> Preference | None:
    """The preference that a statement tells; None where the rules do not understand it.

    A statement that names exactly one of morning, afternoon and evening tells the preferred time of day.
    """
    times = {found.lower() for found in _TIMES.findall(text)}
    if len(times) != 1:
        return None
    return Preference(domain=DOMAIN, key=TIME_OF_DAY, value=times.pop())
