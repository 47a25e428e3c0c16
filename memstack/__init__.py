"""memstack: one memory for AI agents on Mem0, with the same answer on every vector store.

>>> from memstack import open_memory
>>> with open_memory() as memory:
...     alex = memory.for_user("alex")
...     alex.add("I prefer tasks scheduled in the morning", metadata={"category": "preferences"})
...     alex.search("when to schedule tasks?", filters={"category": "preferences"})
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memstack.config import Settings
    from memstack.factory import open_async_memory, open_memory
    from memstack.filters import F
    from memstack.gateway import AsyncMemoryGateway, Filters, MemoryGateway, OnConflict
    from memstack.records import (
        AddResult,
        Change,
        Conflict,
        ErasureReceipt,
        Hit,
        Hits,
        Memory,
        Message,
        Order,
        Page,
        PendingChange,
    )
    from memstack.schemas import Interaction, MemorySchema, Preference, Project, TaskPattern
    from memstack.scope import Scope

__version__ = "0.1.0"

__all__ = [
    "AddResult",
    "AsyncMemoryGateway",
    "Change",
    "Conflict",
    "ErasureReceipt",
    "F",
    "Filters",
    "Hit",
    "Hits",
    "Interaction",
    "Memory",
    "MemoryGateway",
    "MemorySchema",
    "Message",
    "OnConflict",
    "Order",
    "Page",
    "PendingChange",
    "Preference",
    "Project",
    "Scope",
    "Settings",
    "TaskPattern",
    "__version__",
    "open_async_memory",
    "open_memory",
]

# Where the names come from. Each module is imported when one of its names is first used, so that whoever needs a
# record does not wait for the gateway.
_MODULES = {
    "memstack.config": ("Settings",),
    "memstack.factory": (
        "open_async_memory",
        "open_memory",
    ),
    "memstack.filters": ("F",),
    "memstack.gateway": (
        "AsyncMemoryGateway",
        "Filters",
        "MemoryGateway",
        "OnConflict",
    ),
    "memstack.records": (
        "AddResult",
        "Change",
        "Conflict",
        "ErasureReceipt",
        "Hit",
        "Hits",
        "Memory",
        "Message",
        "Order",
        "Page",
        "PendingChange",
    ),
    "memstack.schemas": (
        "Interaction",
        "MemorySchema",
        "Preference",
        "Project",
        "TaskPattern",
    ),
    "memstack.scope": ("Scope",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
