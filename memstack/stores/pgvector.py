"""PostgreSQL with pgvector, on a server.

Tables are made by memstack: the owner's ids in indexed columns, terms in an array under a GIN index, numbers as JSON
(PostgreSQL's are exact, however long), instants as integers. Every value is a parameter and every name an identifier
of psycopg's: no text of a caller becomes SQL.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import psycopg
from pgvector import Vector
from psycopg import sql
from psycopg_pool import ConnectionPool

from memstack import metadata as codec
from memstack.batching import batched
from memstack.config import PgvectorEmbedded, PgvectorServer
from memstack.errors import StoreError
from memstack.filters.visit import FilterCompiler
from memstack.instants import EPOCH, iso, to_micros
from memstack.payload import INSTANTS, Payload
from memstack.scope import SCOPE_FIELDS
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored, SortField, Store, sort_value
from memstack.stores.foreign import payload_of_row
from memstack.stores.index import index_of
from memstack.stores.patience import PatientConnection
from memstack.stores.pgvector_failures import translated
from memstack.stores.pgvector_filters import PARAMETERS, PgvectorCompiler, Where
from memstack.stores.pgvector_pool import CONNECT_SECONDS, parameters_of, pool_for
from memstack.stores.pgvector_schema import Tables
from memstack.stores.remote import retrying

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PgvectorStore"]

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)
_EXACT_UP_TO: Final = 20_000  # with HNSW: up to so many candidates are all compared
_INDEX_FROM: Final = _EXACT_UP_TO  # a collection of more rows gets the index
_TELL_FROM: Final = 5_000  # rows written, then twice as many each time, until the planner is told what there is
_INDEX_EVERY: Final = 100_000  # rows written without an index, until one is built under a process that goes on
_COLUMNS: Final = (
    "id", *SCOPE_FIELDS, "data", "body", "terms", "numbers", "instants", *INSTANTS, "clue", "place", "fingerprint",
    "embedding",
)  # fmt: skip
_COUNTS: Final = 1_000  # in one answer; the server takes 1,664 columns
# Named `id`, rows would be sorted by it; as a UUID, psycopg would make an object of it.
_KEY: Final = "id::text AS key"
_KEPT: Final = "Backups, replicas and the write-ahead log (pg_wal) keep what they hold until you replace them."


class PgvectorStore(Store):
    """A collection in a table of a PostgreSQL server."""

    config_model: ClassVar[type[PgvectorServer | PgvectorEmbedded]] = PgvectorServer
    index_memory: ClassVar[str | None] = None  # while the index is built; None is what the server's owner set
    capabilities = Capabilities(
        pushdown=frozenset({"And", "Or", "Not", "Eq", "In", "Compare", "Contains", "Exists"}),
        shared_by_processes=True,
        one_writer=True,
        exact_up_to=None,
        notes=(
            "`icontains`, and `contains` with a string on metadata, are evaluated on the candidates of the scope.",
            f"What a filter has beyond {PARAMETERS:,} values is, too.",
            f"With `hnsw: true`, a search with more than {_EXACT_UP_TO:,} candidates is approximate.",
            f"The index of `hnsw: true` is built when a collection of more than {_INDEX_FROM:,} memories is opened.",
        ),
    )

    def __init__(
        self,
        pool: ConnectionPool[PatientConnection],
        label: str,
        collection: str,
        dimensions: int,
        *,
        schema: str,
        hnsw: bool,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self.pool = pool
        self.label = label
        self.collection = collection
        self.dimensions = dimensions
        self._schema = schema
        self._hnsw = hnsw
        self._on_close = on_close
        self._closed = False
        self._held = threading.local()  # the connection of `exclusive`
        tables = Tables(label, schema, collection, dimensions)
        self._table = tables.table
        self._registry = tables.registry
        # Rendered once: psycopg composes a query anew with every call, which takes it longer than the server the query.
        self._name = self._table.as_string()
        self._upsert = _upsert(self._name)
        lock = sql.Literal(f"memstack:{schema}.{collection}")
        self._begin = sql.SQL("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended({}, 0))").format(lock).as_bytes()
        self._unindexed = 0  # rows written since the index was last thought of
        self._indexed = False
        self._unknown = 0  # rows written since the planner was told what there is
        self._tell_after = _TELL_FROM
        self._transact("open", tables.prepare)
        self.tidy()

    @classmethod
    def open(cls, config: Any, *, dimensions: int) -> Self:
        """Connect to the server that a config section names, and make the table when it is missing.

        Raises:
            ConfigError: the `url` cannot be read.
            StoreError: the server cannot be reached, refuses the user, has no extension ``vector``, or has a table of
                this name that memstack did not make.
        """
        if config.url is not None:
            parameters = parameters_of(config.url.get_secret_value())
        else:
            password = None if config.password is None else config.password.get_secret_value()
            parameters = {
                "host": config.host,
                "port": str(config.port),
                "dbname": config.dbname,
                "user": config.user,
                "password": password,
            }
        if config.sslmode is not None:
            parameters["sslmode"] = config.sslmode
        at = "{}:{}/{}".format(*(parameters.get(name) or "" for name in ("host", "port", "dbname")))
        return cls._connect(config, parameters, dimensions, f"pgvector (server) at {at}")

    @classmethod
    def _connect(
        cls,
        config: Any,
        parameters: dict[str, Any],
        dimensions: int,
        label: str,
        on_close: Callable[[], object] | None = None,
    ) -> Self:
        pool = pool_for(config, parameters, label)

        def close() -> None:
            pool.close()
            if on_close is not None:
                on_close()

        try:
            with translated(label, "open"):
                pool.open(wait=True, timeout=CONNECT_SECONDS)
            return cls(
                pool,
                label,
                config.collection,
                dimensions,
                schema=config.schema_name,
                hnsw=config.hnsw,
                on_close=close,
            )
        except BaseException:
            pool.close()
            raise

    @property
    def compiler(self) -> FilterCompiler[Where]:
        return PgvectorCompiler()

    # -- rows ------------------------------------------------------------------------------------

    def upsert(self, rows: Sequence[Row]) -> None:
        self.check_room(rows)
        if not rows:
            return
        values = [self._record(row) for row in rows]

        def write(connection: psycopg.Connection[Any]) -> None:
            if len(values) == 1:  # one exchange with the server; several take three
                connection.execute(self._upsert, values[0])
            else:
                connection.cursor().executemany(self._upsert, values)

        self._transact("write", write)
        self._unindexed += len(rows)
        self._unknown += len(rows)
        if self._connection is None:
            self._maintain_if_due()

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        query = f"SELECT {_columns(vectors=vectors)} FROM {self._name} WHERE id = ANY(%s::uuid[])"  # noqa: S608
        return [self._row(found) for found in self._select("read", query, (list(ids),))]

    def remove(self, ids: Sequence[str]) -> None:
        self.check_room()
        query = f"DELETE FROM {self._name} WHERE id = ANY(%s::uuid[])".encode()  # noqa: S608
        self._transact("delete", lambda connection: connection.execute(query, (list(ids),)))

    def native_nearest(self, vector: Sequence[float], condition: Where | None, limit: int) -> list[Scored]:
        found = self._nearest(_columns(), vector, condition, limit)
        return [Scored(self._row(row[:-1]), float(row[-1])) for row in found]

    def native_leads(self, vector: Sequence[float], condition: Where | None, limit: int) -> list[Lead]:
        found = self._nearest(f"{_KEY}, clue", vector, condition, limit)
        return self.clued((row_id, float(similarity), clue) for row_id, clue, similarity in found)

    def _nearest(
        self, columns: str, vector: Sequence[float], condition: Where | None, limit: int
    ) -> list[tuple[Any, ...]]:
        where, params = _where(condition)
        wanted = Vector(list(vector))
        similarity = "COALESCE(NULLIF(1 - (embedding <=> %s), 'NaN'), 0)"  # NaN: one of the two is zero
        ranked = "ORDER BY embedding <=> %s LIMIT %s"
        if self._hnsw and not self._more_than(_EXACT_UP_TO, where, params):
            query = (
                f"WITH candidates AS MATERIALIZED (SELECT * FROM {self._name} WHERE {where}) "  # noqa: S608
                f"SELECT {columns}, {similarity} FROM candidates {ranked}"
            )
            return self._select("search", query, (*params, wanted, wanted, limit))
        query = f"SELECT {columns}, {similarity} FROM {self._name} WHERE {where} {ranked}"  # noqa: S608
        return self._select("search", query, (wanted, *params, wanted, limit))

    def native_scan(
        self,
        condition: Where | None,
        field: SortField,
        *,
        descending: bool,
        after: tuple[datetime, str] | None,
        limit: int,
        vectors: bool = False,
    ) -> list[Row]:
        where, params = _where(condition)
        if after is not None:
            step = "<" if descending else ">"
            where = f"({where}) AND ({field} {step} %s OR ({field} = %s AND id > %s::uuid))"
            params = (*params, to_micros(after[0]), to_micros(after[0]), after[1])
        order = f"{field} {'DESC' if descending else 'ASC'}, id"
        query = f"SELECT {_columns(vectors=vectors)} FROM {self._name} WHERE {where} ORDER BY {order} LIMIT %s"  # noqa: S608
        return [self._row(found) for found in self._select("scan", query, (*params, limit))]

    def native_batches(self, condition: Where | None, *, size: int, vectors: bool) -> Iterator[list[Row]]:
        """The same, the vectors told with the rows."""
        after = None
        while True:
            found = self.native_scan(
                condition, "created_at", descending=False, after=after, limit=size, vectors=vectors
            )
            yield found
            if len(found) < size:
                return
            after = (sort_value(found[-1], "created_at"), found[-1].id)

    def native_count(self, condition: Where | None) -> int:
        where, params = _where(condition)
        query = f"SELECT count(*) FROM {self._name} WHERE {where}"  # noqa: S608
        ((count,),) = self._select("count", query, params)
        return int(count)

    def native_counts(self, conditions: Sequence[Where | None]) -> list[int]:
        """The same, told in one answer, or a few where conditions are long."""
        counts: list[int] = []
        longest = max((len(condition.params) for condition in conditions if condition is not None), default=0)
        for some in batched(conditions, max(1, min(_COUNTS, PARAMETERS // max(1, longest)))):
            parts = [_where(condition) for condition in some]
            query = ", ".join(f"(SELECT count(*) FROM {self._name} WHERE {where})" for where, _ in parts)  # noqa: S608
            (told,) = self._select("count", f"SELECT {query}", [param for _, params in parts for param in params])
            counts += told
        return counts

    def clear(self) -> None:
        self.check_room()
        query = sql.SQL("TRUNCATE {}").format(self._table)
        self._transact("clear", lambda connection: connection.execute(query))

    def tidy(self) -> None:
        """Build the HNSW index, once there are so many rows that a search may use it.

        Rows that are put into an index one by one take several times as long as all of them at once, and a smaller
        collection has no use for one. Others write on meanwhile; one process builds it at a time.
        """
        if self._hnsw and not self._indexed:
            self._unindexed = 0
            self._indexed = self._maintain("index", self._build_index)

    def _build_index(self, connection: psycopg.Connection[Any]) -> bool:
        lock = f"memstack:{self._schema}.{self.collection}:hnsw"
        if not _is_true(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (lock,)):
            return False
        name = f"{self.collection}_hnsw"
        index = sql.Identifier(self._schema, name)
        try:
            if _is_true(
                connection, "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (index.as_string(),)
            ):
                return True
            query, params = self._counting(_INDEX_FROM, "true", ())
            if not _is_true(connection, query, params):  # asked here: there may be no other connection
                return False
            # One that is not valid is left of a process that died while it built it.
            connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(index))
            if self.index_memory is not None:
                connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(self.index_memory)))
            connection.execute(
                sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (embedding vector_cosine_ops)").format(
                    sql.Identifier(name), self._table
                )
            )
            return True
        finally:
            connection.execute("RESET maintenance_work_mem")
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (lock,))

    def _maintain_if_due(self) -> None:
        """What is better done after many rows: for the HNSW index, and for the server's planner.

        The server looks at a table by itself within a minute or so. Until it has, it reads all rows of an owner where
        the index of terms tells in a hundredth of the time.
        """
        if self._unindexed >= _INDEX_EVERY:
            self._try("the index could not be built", self.tidy)
        if self._unknown >= self._tell_after:
            self._unknown = 0
            self._tell_after *= 2
            self._try("the table could not be analysed", lambda: self._maintain("analyse", self._analyse))

    def _try(self, failed: str, action: Callable[[], object]) -> None:
        """What was written is there, and is found without it."""
        try:
            action()
        except StoreError as error:
            _log.warning("%s: %s: %s", self.label, failed, error)

    def _analyse(self, connection: psycopg.Connection[Any]) -> None:
        """Tell the planner what there is, and put into the index of terms what waits to be; whoever owns them may.

        Where the table is locked for as long as another process builds its index, nobody waits for that.
        """
        connection.execute(sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(self._table))
        index = sql.Identifier(self._schema, f"{self.collection}_terms")
        connection.execute(
            "SELECT gin_clean_pending_list(oid) FROM pg_class WHERE oid = to_regclass(%s) "
            "AND pg_has_role(relowner, 'USAGE')",
            (index.as_string(),),
        )

    def scrub(self) -> str:
        """Rewrite the table with its indexes (VACUUM FULL locks it meanwhile), and what the statistics quote of it."""
        return self._maintain("vacuum", self._rewrite)

    def _rewrite(self, connection: psycopg.Connection[Any]) -> str:
        self._forget_figures(connection)
        file = ("SELECT pg_relation_filenode(%s)", (self._name,))
        before = connection.execute(*file).fetchone()
        connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(self._table))
        if connection.execute(*file).fetchone() == before:  # the server warns, and goes on
            run = f"VACUUM (FULL, ANALYZE) {self._name}; VACUUM FULL pg_catalog.pg_statistic; CHECKPOINT"
            return f"{self.label}: the table is another user's: as a superuser run `{run}`. {_KEPT}"
        try:
            connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
            connection.execute("CHECKPOINT")
        except psycopg.errors.InsufficientPrivilege:
            return f"{self.label}: as a superuser run `VACUUM FULL pg_catalog.pg_statistic; CHECKPOINT`. {_KEPT}"
        return f"{self.label}: {_KEPT}"

    def _forget_figures(self, connection: psycopg.Connection[Any]) -> None:
        """Of a table without rows, ANALYZE leaves the figures as they are, and these quote rows: it is given a row."""
        with connection.transaction():
            if _is_true(connection, f"SELECT EXISTS (SELECT FROM {self._name})", ()):  # noqa: S608
                return
            row = self._record(Row(str(uuid.uuid4()), {"created_at": iso(EPOCH)}, [0.0] * self.dimensions))
            connection.execute(self._upsert, row)
            connection.execute(sql.SQL("ANALYZE {}").format(self._table))
            connection.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(self._table), row[:1])

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One writer of the collection, whoever else has it open: an advisory lock, until the block ends.

        What this thread does meanwhile, in siblings too, is one transaction.

        Raises:
            StoreError: others held it for longer than `statement_timeout`, or the server fails; nothing was written.
        """
        if self._connection is not None:
            yield
            return
        with ExitStack() as stack:
            self._held.connection = self._tried(lambda: self._lock(stack))
            try:
                yield
            finally:
                del self._held.connection
        self._maintain_if_due()

    @property
    def _connection(self) -> psycopg.Connection[Any] | None:
        return getattr(self._held, "connection", None)

    def _lock(self, stack: ExitStack) -> psycopg.Connection[Any]:
        self._check_open("write")
        with ExitStack() as begun:
            begun.enter_context(translated(self.label, "write"))
            connection = begun.enter_context(self.pool.connection())
            # In one exchange with the server. The pool ends the transaction as the block ends; one of psycopg's own,
            # begun in a pipeline, would keep the connection in it, and each statement would wait for its end, too.
            connection.execute(self._begin)
            stack.push(begun.pop_all())
            return connection

    # -- the collection --------------------------------------------------------------------------

    def read_fingerprint(self) -> Fingerprint | None:
        query = f"SELECT provider, model, dimensions FROM {self._registry.as_string()} WHERE collection = %s"  # noqa: S608
        for provider, model, dimensions in self._select("read", query, (self.collection,)):
            return None if provider is None else Fingerprint(provider, model, dimensions)
        return None

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        query = sql.SQL("UPDATE {} SET provider = %s, model = %s, dimensions = %s WHERE collection = %s").format(
            self._registry
        )
        params = (fingerprint.provider, fingerprint.model, fingerprint.dimensions, self.collection)
        self._transact("write", lambda connection: connection.execute(query, params))

    def sibling(self, suffix: str) -> PgvectorStore:
        return self._sibling(suffix)

    def has_sibling(self, suffix: str) -> bool:
        name = sql.Identifier(self._schema, f"{self.collection}_{suffix}").as_string()
        ((found,),) = self._select("read", "SELECT to_regclass(%s) IS NOT NULL", (name,))
        return bool(found)

    def _sibling(self, suffix: str) -> Self:
        sibling = type(self)(
            self.pool,
            self.label,
            f"{self.collection}_{suffix}",
            self.dimensions,
            schema=self._schema,
            hnsw=False,
        )
        sibling._held = self._held  # noqa: SLF001  # another one of us
        return sibling

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._on_close is not None:
                self._on_close()

    # -- inside ----------------------------------------------------------------------------------

    def _record(self, row: Row) -> tuple[Any, ...]:
        if row.vector is None or len(row.vector) != self.dimensions:
            got = "none" if row.vector is None else str(len(row.vector))
            raise StoreError(self.label, f"the vector has {got} dimensions, and the collection {self.dimensions}")
        payload: Payload = row.payload
        index = index_of(payload, row.fingerprint)
        numbers = ", ".join(f'"{key}": {Decimal(value):f}' for key, value in index.numbers.items())
        return (
            row.id,
            *(payload.get(name) for name in SCOPE_FIELDS),
            payload.get("data", ""),
            codec.encode({key: value for key, value in payload.items() if key != "data"}),
            index.shared,
            f"{{{numbers}}}",
            json.dumps(index.instants),
            *(index.times.get(name) for name in INSTANTS),
            index.clue,
            index.place or None,
            index.fingerprint,
            Vector(list(row.vector)),
        )

    def _row(self, found: Sequence[Any]) -> Row:
        """A row of `_columns`."""
        row_id, data, body, *rest = found
        vector: list[float] | None = None
        if rest:  # older releases of pgvector tell an array of numpy's
            vector = rest[0].to_list() if isinstance(rest[0], Vector) else rest[0].tolist()
        return Row(row_id, payload_of_row(self.label, row_id, body, data), vector)

    def _more_than(self, limit: int, where: str, params: tuple[Any, ...]) -> bool:
        query, given = self._counting(limit, where, params)
        ((more,),) = self._select("count", query, given)
        return bool(more)

    def _counting(self, limit: int, where: str, params: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        """Asks whether more rows than that are there, and counts no more of them than it has to."""
        query = f"SELECT count(*) > %s FROM (SELECT 1 FROM {self._name} WHERE {where} LIMIT %s) AS found"  # noqa: S608
        return query, (limit, *params, max(0, limit + 1))

    def _select(self, what: str, query: str, params: Sequence[Any]) -> list[Any]:
        def read(connection: psycopg.Connection[Any]) -> list[Any]:
            if self._hnsw:
                connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            # Binary, a vector takes a tenth of the time that its text does.
            return connection.execute(query.encode(), params, binary=True).fetchall()

        return self._call(what, read, transaction=self._hnsw)  # one statement is a transaction by itself

    def _maintain(self, what: str, action: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do what takes its time, outside of a transaction."""
        self._check_open(what)
        with translated(self.label, what), self.pool.connection() as connection, connection.waiting(None):
            before = connection.execute("SHOW statement_timeout").fetchone()
            connection.execute("SET statement_timeout = 0")
            try:
                return action(connection)
            finally:
                connection.execute("SELECT set_config('statement_timeout', %s, false)", before)

    def _transact(self, what: str, action: Callable[[psycopg.Connection[Any]], T]) -> T:
        return self._call(what, action, transaction=True)

    def _call(self, what: str, action: Callable[[psycopg.Connection[Any]], T], *, transaction: bool) -> T:
        """Do something with a connection: the one that `exclusive` holds, whose transaction it then belongs to.

        What fails there ends that transaction, and the caller's block with it.
        """
        self._check_open(what)
        if (held := self._connection) is not None:  # not tried again: with the connection the lock would be lost
            with translated(self.label, what):
                return action(held)

        def begun(connection: PatientConnection) -> AbstractContextManager[object]:
            return connection.transaction() if transaction else nullcontext()

        def once() -> T:
            with translated(self.label, what), self.pool.connection() as connection, begun(connection):
                return action(connection)

        return self._tried(once)

    def _tried(self, call: Callable[[], T]) -> T:
        """Make a call, again where that may help."""
        return retrying(call)

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise StoreError(self.label, f"cannot {what}: the store is closed", "Open it again with open_memory().")


def _is_true(connection: psycopg.Connection[Any], query: str, params: tuple[Any, ...]) -> bool:
    """Whether the one value of an answer is true; no answer is not."""
    found = connection.execute(query.encode(), params).fetchone()
    return bool(found and found[0])


def _upsert(table: str) -> bytes:
    """The statement that writes a row into a table, given by its quoted name."""
    names = ", ".join(_COLUMNS)
    # As text, psycopg looks at every term for what is to be quoted: three times the work.
    marks = ", ".join("%b" if name == "terms" else "%s" for name in _COLUMNS)
    changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}".encode()  # noqa: S608


def _where(condition: Where | None) -> tuple[str, tuple[Any, ...]]:
    """The text of a condition, made of the constants of `PgvectorCompiler`, and its parameters."""
    return ("true", ()) if condition is None else (condition.text, condition.params)


def _columns(*, vectors: bool = False) -> str:
    """What `PgvectorStore._row` reads."""
    return f"{_KEY}, data, body{', embedding' if vectors else ''}"
