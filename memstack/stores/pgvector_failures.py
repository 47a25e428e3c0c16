"""What fails in psycopg, and what a server refuses, as our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from memstack.errors import MemstackError, StoreError
from memstack.stores.patience import ServerSilent

__all__ = ["translated"]

_REFUSALS: Final = (
    "authentication failed", "no password supplied", "is not permitted to log in", "no pg_hba.conf entry",
)  # fmt: skip
_FULL: Final = ("too many connections", "too many clients", "connection slots are reserved")
_PASSING: Final = ("starting up", "shutting down", "in recovery", "not yet accepting", "terminating connection")
_TOO_MUCH: Final = "54"  # the class of what is too complex, or of too many parts: the server is there


@contextmanager
def translated(label: str, what: str) -> Iterator[None]:
    """Psycopg's exceptions as ours, without its messages where these can quote values."""
    try:
        yield
    except MemstackError:
        raise
    except PoolTimeout as error:
        raise _unreachable(label, what) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(
            label,
            f"cannot {what}: the user may not do that in the database",
            "Grant it, or name a schema of the user's own with `vector_store.schema`.",
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise StoreError(
            label,
            f"cannot {what}: the database takes no writes",
            "A standby takes none: see `vector_store.url` and `vector_store.host`.",
        ) from error
    except (psycopg.errors.DiskFull, psycopg.errors.IoError) as error:
        full = isinstance(error, psycopg.errors.DiskFull)
        raise StoreError(
            label,
            f"cannot {what}: the server's disk {'is full' if full else 'fails'} (PostgreSQL error {error.sqlstate})",
            "Free some space there." if full else "Its log says more.",
            retryable=full,
        ) from error
    except psycopg.errors.QueryCanceled as error:
        raise StoreError(
            label, f"cannot {what}: it took longer than `statement_timeout`", "Raise it.", retryable=True
        ) from error
    except ServerSilent as error:
        raise StoreError(
            label,
            f"cannot {what}: the server did not answer in time",
            "Does it still run? It is given `statement_timeout`, and five seconds more.",
            retryable=True,
        ) from error
    except psycopg.OperationalError as error:
        if (error.sqlstate or "").startswith(_TOO_MUCH):
            raise StoreError(label, f"cannot {what}: PostgreSQL error {error.sqlstate}") from error
        if (refused := _refusal(label, what, str(error))) is not None:
            raise refused from error
        raise _unreachable(label, what) from error
    except psycopg.Error as error:
        state = error.sqlstate or type(error).__name__
        raise StoreError(label, f"cannot {what}: PostgreSQL error {state}") from error


def _refusal(label: str, what: str, told: str) -> StoreError | None:
    """What a server says that refuses a connection, which psycopg tells by its words alone; None where it may pass."""
    if "database" in told and "does not exist" in told:
        return StoreError(
            label,
            f"cannot {what}: the server has no such database",
            "Make it, or name another (`vector_store.dbname`).",
        )
    if any(words in told for words in _REFUSALS) or ("role" in told and "does not exist" in told):
        return StoreError(
            label,
            f"cannot {what}: the server refuses the user or the password",
            "See `vector_store.user` and `vector_store.password`, or those in `vector_store.url`.",
        )
    if any(words in told for words in _FULL):
        return StoreError(
            label,
            f"cannot {what}: the server has no connection left for this user",
            "Close others, lower `vector_store.pool_max`, or raise the limit (max_connections, or that of the role).",
            retryable=True,
        )
    if "SSL" in told:
        return StoreError(
            label,
            f"cannot {what}: the server and `vector_store.sslmode` do not agree on encryption",
            "See `vector_store.sslmode`, the certificates, and what the server offers.",
        )
    if "FATAL" in told and not any(words in told for words in _PASSING):
        return StoreError(label, f"cannot {what}: the server refuses the connection", "Its log says why.")
    return None


def _unreachable(label: str, what: str) -> StoreError:
    return StoreError(
        label,
        f"cannot {what}: the server cannot be reached",
        "Is it running there? See `vector_store.url` and `vector_store.host`.",
        retryable=True,
    )
