"""History: the append-only log of changes."""

from memstack.history.sqlite import SqliteHistory, Transaction

__all__ = ["SqliteHistory", "Transaction"]
