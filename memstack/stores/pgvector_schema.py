"""What is made in a database: the extension, the schema, and our tables with their indexes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from memstack.errors import StoreError
from memstack.filters.ast import FINGERPRINT, PLACE
from memstack.scope import SCOPE_FIELDS
from memstack.stores.foreign import not_ours
from memstack.stores.index import eq_term
from memstack.stores.patience import PatientConnection

__all__ = ["Tables", "ensure_extension"]

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Tables:
    """The table of a collection, and the one where the collections of a schema are noted.

    Attributes:
        label: what the store is called, for messages.
        schema: where both lie.
        collection: the name of its table.
        dimensions: of its vectors.
    """

    label: str
    schema: str
    collection: str
    dimensions: int

    @property
    def table(self) -> sql.Identifier:
        """The collection's."""
        return sql.Identifier(self.schema, self.collection)

    @property
    def registry(self) -> sql.Identifier:
        """The schema's."""
        return sql.Identifier(self.schema, "memstack_collections")

    def prepare(self, connection: psycopg.Connection[Any]) -> None:
        """Make our tables, or bring them up to date; under a lock, since several processes may begin at once."""
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('memstack'))")
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (collection text PRIMARY KEY, version integer NOT NULL, "
                "provider text, model text, dimensions integer)"
            ).format(self.registry)
        )
        known = connection.execute(
            sql.SQL("SELECT version, dimensions FROM {} WHERE collection = %s").format(self.registry),
            (self.collection,),
        ).fetchone()
        exists = connection.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
            (self.schema, self.collection),
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
                ).format(self.registry),
                (self.collection, _VERSION),
            )
        else:
            self._complete(connection)

    def _complete(self, connection: psycopg.Connection[Any]) -> None:
        """Give a table of an earlier release what it lacks. Clues of its rows are made when they are asked for."""
        found = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            (self.schema, self.collection),
        ).fetchall()
        columns = {name for (name,) in found}
        if "clue" not in columns:
            connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN clue text").format(self.table))
        if "fingerprint" not in columns:
            connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN fingerprint text").format(self.table))
            connection.execute(
                sql.SQL(
                    "UPDATE {} SET fingerprint = "
                    "(SELECT substr(term, 2) FROM unnest(terms) AS term WHERE left(term, 1) = %s LIMIT 1)"
                ).format(self.table),
                (eq_term(FINGERPRINT, ""),),
            )
            self._index_fingerprints(connection)
        if "place" not in columns:
            connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN place text").format(self.table))
            connection.execute(
                sql.SQL(
                    "UPDATE {} SET place = (SELECT substr(term, 2) FROM unnest(terms) AS term WHERE left(term, 1) = %s)"
                ).format(self.table),
                (eq_term(PLACE, ""),),
            )
            self._index_places(connection)

    def _index_places(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            sql.SQL("CREATE INDEX {} ON {} (place) WHERE place IS NOT NULL").format(
                sql.Identifier(f"{self.collection}_place"), self.table
            )
        )

    def _index_fingerprints(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            sql.SQL("CREATE INDEX {} ON {} (fingerprint)").format(
                sql.Identifier(f"{self.collection}_equal"), self.table
            )
        )

    def _create(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} (id uuid PRIMARY KEY, user_id text, agent_id text, run_id text, data text NOT NULL, "
                "body text NOT NULL, terms text[] NOT NULL, numbers jsonb NOT NULL, instants jsonb NOT NULL, "
                "created_at bigint NOT NULL, updated_at bigint NOT NULL, occurred_at bigint NOT NULL, "
                "expires_at bigint, valid_from bigint, valid_to bigint, clue text, place text, "
                "fingerprint text, embedding vector({}) NOT NULL) WITH (toast_tuple_target = 4080)"
            ).format(self.table, sql.Literal(self.dimensions))
        )
        for name in SCOPE_FIELDS:
            connection.execute(
                sql.SQL("CREATE INDEX {} ON {} ({}, created_at, id)").format(
                    sql.Identifier(f"{self.collection}_{name}"), self.table, sql.Identifier(name)
                )
            )
        connection.execute(
            sql.SQL("CREATE INDEX {} ON {} USING gin (terms) WITH (gin_pending_list_limit = 256)").format(
                sql.Identifier(f"{self.collection}_terms"), self.table
            )
        )
        self._index_places(connection)
        self._index_fingerprints(connection)


def ensure_extension(text: str, label: str, schema: str, patience: float) -> None:
    """Make the extension and the schema where they are missing.

    Args:
        text: the connection string.
        label: what the store is called, for messages.
        schema: where our tables will lie.
        patience: seconds that the server may be silent.

    Raises:
        StoreError: one cannot be made, or the extension lies where types are not looked for.
    """
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
