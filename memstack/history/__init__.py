"""History: the append-only log of changes."""

from memstack.history.sqlite import MEMORY, SqliteHistory
from memstack.history.transaction import Transaction

__all__ = ["MEMORY", "SqliteHistory", "Transaction"]
