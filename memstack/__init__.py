"""memstack: one memory for AI agents on Mem0, with the same answer on every vector store.

>>> from memstack import open_memory
>>> with open_memory() as memory:
...     alex = memory.for_user("alex")
...     alex.add("I prefer tasks scheduled in the morning", metadata={"category": "preferences"})
...     alex.search("when to schedule tasks?", filters={"category": "preferences"})
"""

from memstack.config import Settings
from memstack.factory import open_async_memory, open_memory
from memstack.filters import F
from memstack.gateway import AsyncMemoryGateway, MemoryGateway
from memstack.records import AddResult, Change, Conflict, ErasureReceipt, Hit, Memory, Message, Page, PendingChange
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
    "Hit",
    "Interaction",
    "Memory",
    "MemoryGateway",
    "MemorySchema",
    "Message",
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
