"""Mem0's class, on memstack: change the import line, and code written for Mem0 1.x or 2.x runs.

>>> from memstack.compat import Memory
>>> m = Memory()
>>> m.add("I prefer tasks scheduled in the morning", user_id="alex")
>>> m.search("when to schedule tasks?", user_id="alex", limit=5)["results"]

Results are Mem0's dicts. `Memory.gateway` is the typed memory below, for the day on which you want more.
"""

from memstack.compat.aio import AsyncMemory
from memstack.compat.shapes import Added, AddedItem, Done, FoundItem, HistoryItem, Listing, MemoryItem, Results
from memstack.compat.sync import Memory, NotFound

__all__ = [
    "Added",
    "AddedItem",
    "AsyncMemory",
    "Done",
    "FoundItem",
    "HistoryItem",
    "Listing",
    "Memory",
    "MemoryItem",
    "NotFound",
    "Results",
]
