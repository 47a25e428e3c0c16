"""The way to Mem0: its environment is set here, before it is imported.

Mem0 reads ``MEM0_TELEMETRY`` and ``MEM0_DIR`` once, on import, and writes into the latter at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from memstack.errors import TelemetryActive

if TYPE_CHECKING:
    from collections.abc import Callable

    from memstack.composed import ComposedMemory
    from memstack.gateway.parts import Options, Parts

__all__ = ["check_silent", "compose"]

_importing: Final = threading.Lock()
# Messages of Mem0 that hold the text of memories.
_TEXTS: Final = ("Updating memory with", "Skipping invalid message format", "Entity upsert failed for")


def compose(parts: Parts, reset: Callable[[], None]) -> ComposedMemory:
    """A ``mem0.Memory`` made of these parts. They stay the caller's to close.

    Args:
        parts: what it is made of.
        reset: deletes everything of theirs.

    Raises:
        TelemetryActive: Mem0 was imported before, with its telemetry on, and the user did not opt in.
    """
    with _importing:
        _prepare(parts.options)
        from memstack.composed import ComposedMemory  # noqa: PLC0415  # only now is the environment in place
    return ComposedMemory(parts, reset)


def check_silent(*, telemetry: bool) -> None:
    """See that Mem0 can be composed with what was imported so far; Mem0 itself is not imported here.

    Args:
        telemetry: whether the user opted in.

    Raises:
        TelemetryActive: Mem0 was imported before, with its telemetry on, and the user did not opt in.
    """
    loaded = sys.modules.get("mem0.memory.telemetry")
    if loaded is not None and loaded.MEM0_TELEMETRY and not telemetry:
        raise TelemetryActive


def _prepare(options: Options) -> None:
    check_silent(telemetry=options.telemetry)
    if "mem0.memory.telemetry" not in sys.modules:
        if not options.telemetry:
            os.environ["MEM0_TELEMETRY"] = "False"
        if not os.environ.get("MEM0_DIR"):
            os.environ["MEM0_DIR"] = str(options.data_folder() / "mem0")
    # Python prints warnings of those who have no handler; what Mem0 warns of is raised here, or is of no account.
    if not any(isinstance(known, logging.NullHandler) for known in logging.getLogger("mem0").handlers):
        logging.getLogger("mem0").addHandler(logging.NullHandler())
    logger = logging.getLogger("mem0.memory.main")
    if not any(isinstance(known, _TextsAreDebug) for known in logger.filters):
        logger.addFilter(_TextsAreDebug())


class _TextsAreDebug(logging.Filter):
    """Lowers what holds the text of memories to DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.DEBUG and str(record.msg).startswith(_TEXTS):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        return True
