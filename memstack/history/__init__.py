"""History: the append-only log of changes."""

from memstack.history.sqlite import MEMORY, SqliteHistory, Transaction

__all__ = ["MEMORY", "SqliteHistory", "Transaction"]
