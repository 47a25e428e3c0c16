"""Exit codes, and which error ends in which."""

from __future__ import annotations

from typing import Final

from memstack.errors import ConfigError, InvalidInput, MemoryNotFound, MemstackError, PendingNotFound

__all__ = ["FAILED", "INTERRUPTED", "NOT_FOUND", "OK", "PARTLY", "PIPE_CLOSED", "TABLE", "USAGE", "code_of"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
PARTLY: Final = 3
NOT_FOUND: Final = 4
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED: Final = 141  # 128 + SIGPIPE

TABLE: Final = (
    "Exit codes: 0 done; 1 the engine, a model or a check of `doctor` failed, a question was answered with no, or a "
    "contradiction was found that may not be; 2 wrong usage, configuration or input; 3 some of it failed, the rest is "
    "done; 4 no such memory or token; "
    "130 interrupted (Ctrl-C)."
)


def code_of(error: MemstackError) -> int:
    """The exit code that an error ends in."""
    if isinstance(error, (MemoryNotFound, PendingNotFound)):
        return NOT_FOUND
    return USAGE if isinstance(error, (ConfigError, InvalidInput)) else FAILED
