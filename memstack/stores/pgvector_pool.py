"""Connections to a server: what a URL says of them, and how they are set up and looked after."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import conninfo
from psycopg.abc import Dumper, Loader
from psycopg.adapt import PyFormat
from psycopg.pq import Format
from psycopg.types import TypeInfo
from psycopg_pool import ConnectionPool

from memstack.errors import ConfigError
from memstack.stores.patience import PatientConnection, ServerSilent
from memstack.stores.pgvector_failures import translated
from memstack.stores.pgvector_schema import ensure_extension

__all__ = ["CONNECT_SECONDS", "parameters_of", "pool_for"]

CONNECT_SECONDS: Final = 10
_FRESH_SECONDS: Final = 1.0  # what fails all the same is tried again
_GRACE_SECONDS: Final = 5.0  # after `statement_timeout` the server says that it is over; until then it may be silent
_RECONNECT_SECONDS: Final = 5.0  # the pool tries ever more rarely; given up, the next call tries at once
# How vectors are written and read, by the number of their type: each database has its own.
_known: Final[dict[int, tuple[tuple[type[Dumper], ...], tuple[type[Loader], ...]]]] = {}


def parameters_of(url: str) -> dict[str, Any]:
    """What a connection string says, by libpq's names.

    Raises:
        ConfigError: it cannot be read. Psycopg's own error quotes it, and is not in the chain of this one.
    """
    with suppress(psycopg.Error, UnicodeError):
        return dict(conninfo.conninfo_to_dict(url))
    raise ConfigError(
        "vector_store.url",
        "cannot be read as a connection string of PostgreSQL",
        "Percent-encode what is special in user and password, or give `host`, `user` and `password` instead.",
    )


def pool_for(config: Any, parameters: dict[str, Any], label: str) -> ConnectionPool[PatientConnection]:
    """A pool of connections that is not open yet, to a database that has the extension and the schema.

    Raises:
        StoreError: the server cannot be reached, refuses the user, or has no extension ``vector``.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    given.setdefault("connect_timeout", str(CONNECT_SECONDS))
    if given.get("host") and "service" not in given:
        given.setdefault("hostaddr", "")  # else libpq dials what PGHOSTADDR or PGSERVICE says in its place
    text = conninfo.make_conninfo(**given)
    # Set once it is connected: poolers such as PgBouncer refuse to pass them on as options of the connection.
    # Statements are prepared. A plan that is kept was made for as many rows as there were then: it reads them all.
    session = f"SET statement_timeout = {int(config.statement_timeout * 1000)}; "
    session += "SET plan_cache_mode = force_custom_plan"
    patience = config.statement_timeout + _GRACE_SECONDS
    with translated(label, "open"):
        ensure_extension(text, label, config.schema_name, patience)

    def configure(connection: PatientConnection) -> None:
        connection.patience = patience
        connection.execute(session.encode())
        _teach_vectors(connection)

    def check(connection: PatientConnection) -> None:
        try:
            _check(connection)
        except ServerSilent:
            raise
        except psycopg.OperationalError:
            pool.check()  # the others have died, too, and the pool gives one after another, ever more rarely
            raise

    pool: ConnectionPool[PatientConnection] = ConnectionPool(
        text,
        connection_class=PatientConnection,
        min_size=config.pool_min,
        max_size=config.pool_max,
        timeout=CONNECT_SECONDS,
        reconnect_timeout=_RECONNECT_SECONDS,
        kwargs={"autocommit": True},
        configure=configure,
        check=check,
        open=False,
    )
    return pool


def _teach_vectors(connection: PatientConnection) -> None:
    """Let a connection write and read vectors, by the same classes as those before it.

    Pgvector makes new ones for every connection, and psycopg keeps each class that it is given for as long as the
    process lives.
    """
    found = TypeInfo.fetch(connection, "vector")
    adapters = connection.adapters
    if found is None or found.oid not in _known:
        register_vector(connection)  # which raises where there is no such type
        if found is not None:
            dumpers = tuple(adapters.get_dumper(Vector, PyFormat.from_pq(form)) for form in Format)
            loaders = tuple(kept for form in Format if (kept := adapters.get_loader(found.oid, form)) is not None)
            _known[found.oid] = (dumpers, loaders)
        return
    found.register(connection)
    dumpers, loaders = _known[found.oid]
    for dumper in dumpers:
        adapters.register_dumper(Vector, dumper)
    for loader in loaders:
        adapters.register_loader(found.oid, loader)


def _check(connection: PatientConnection) -> None:
    """Look whether a connection that lay idle still works. One that just worked is believed to."""
    if time.monotonic() - connection.heard < _FRESH_SECONDS:
        return
    with connection.waiting(CONNECT_SECONDS):
        ConnectionPool.check_connection(connection)
