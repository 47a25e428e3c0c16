"""The folder of Chroma in this process: its client, and the lock that keeps other processes out."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import chromadb
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings as ChromaSettings
from filelock import FileLock, Timeout

from memstack.errors import StoreCorrupted, StoreLocked
from memstack.folders import make_folder
from memstack.stores import chroma_rewrite, chroma_tuning
from memstack.stores.chroma_failures import is_damage, translated
from memstack.stores.chroma_rows import EXACT_UP_TO, Told
from memstack.stores.foreign import writing_to
from memstack.stores.gate import Gate
from memstack.stores.kept import Kept

__all__ = ["Folder", "open_folder"]

_log: Final = logging.getLogger(__name__)
_VECTORS: Final = "*/*.bin"  # files of an index; each index is in a folder of its own
_KEPT_ROWS: Final = 24_000_000  # bytes of metadata: a little more than 20,000, for messages of common length
_ROW_BYTES: Final = 400  # of the metadata of a row, besides its texts
_NUMBER_BYTES: Final = 4
_KEPT_VECTORS: Final = 20_000_000  # bytes of vectors; at least as many as one search compares


def _size_of_row(told: Told) -> int:
    return _ROW_BYTES + sum(sys.getsizeof(value) for value in told.values() if isinstance(value, str))


@dataclass(slots=True)
class Folder:
    """An open folder: Chroma's client, the lock that keeps other processes out, and the gate before the client.

    Attributes:
        failed: whether the engine has failed. Its connections may stay in a transaction that failed, and the next call
            would wait for its end for ever.
    """

    folder: Path
    client: Any  # None where it could not be opened anew
    lock: FileLock
    gate: Gate
    failed: bool = False
    kept: dict[str, Kept[str, Told]] = field(default_factory=dict)
    vectors: dict[str, Kept[str, bytes]] = field(default_factory=dict)

    def kept_of(self, collection: str) -> Kept[str, Told]:
        """What is kept of the rows of a collection; the folder is this process's alone."""
        return self.kept.setdefault(collection, Kept(_KEPT_ROWS, _size_of_row))

    def vectors_of(self, collection: str, dimensions: int) -> Kept[str, bytes]:
        """The same of its vectors: each as the bytes of its numbers, of 32 bits."""
        most = max(_KEPT_VECTORS, EXACT_UP_TO * dimensions * _NUMBER_BYTES)
        return self.vectors.setdefault(collection, Kept(most, len))

    @contextmanager
    def using(self, label: str) -> Iterator[Any]:
        """A call to the client, among others."""
        while True:
            if self.failed:
                self._open_anew(label)
            with self.gate.together():
                if not self.failed:  # it may have failed while this thread waited at the gate
                    yield self.client
                    return

    def close(self) -> None:
        """Close the client, and let other processes in."""
        try:
            self._hang_up()
        finally:
            self.lock.release()

    def _open_anew(self, label: str) -> None:
        """Take another client, when nobody uses the one that failed.

        Raises:
            StoreCorrupted: the database is gone; Chroma would make a new one.
        """
        with self.gate.alone():
            if not self.failed:
                return  # another thread was faster
            if not (self.folder / chroma_rewrite.DATABASE).exists():
                raise StoreCorrupted(label, str(self.folder), f"{chroma_rewrite.DATABASE} is gone")
            self._hang_up()
            self.client = _client_in(self.folder)
            self.failed = False

    def _hang_up(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.close()


def open_folder(folder: Path, label: str) -> Folder:
    """Open a folder, making it when missing.

    Raises:
        StoreLocked: another process has it open.
        StoreCorrupted: its files cannot be read.
        StoreError: it cannot be opened.
    """
    with writing_to(label):
        make_folder(folder)
        lock = FileLock(folder / ".memstack.lock", thread_local=False)  # another thread may close it
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreLocked(label, str(folder)) from error
    try:
        with translated(label, "open", folder):
            if not _tuned(folder, label):  # there is no database yet
                _check_new(folder, label)
                _client_in(folder).close()
                _tuned(folder, label)
            return Folder(folder, _client_in(folder), lock, Gate())
    except BaseException:
        lock.release()
        raise


def _check_new(folder: Path, label: str) -> None:
    """See that a folder without a database never had one.

    Raises:
        StoreCorrupted: files of an index are there.
    """
    if (left := next(folder.glob(_VECTORS), None)) is not None:
        problem = f"{left.relative_to(folder)} is there, and {chroma_rewrite.DATABASE} is empty"
        raise StoreCorrupted(label, str(folder), problem)


def _client_in(folder: Path) -> Any:
    try:
        return chromadb.PersistentClient(str(folder), settings=ChromaSettings(anonymized_telemetry=False))
    except BaseException:
        # Chroma keeps what it could not start, and the next client would get it. What is in use has users.
        if str(folder) not in getattr(SharedSystemClient, "_identifier_to_refcount", {}):
            getattr(SharedSystemClient, "_identifier_to_system", {}).pop(str(folder), None)
        raise


def _tuned(folder: Path, label: str) -> bool:
    """Whether there is a database, which now answers fast. Where it cannot be written, it answers as it did.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    try:
        return chroma_tuning.tune(folder)
    except sqlite3.Error as error:
        if is_damage(error):
            raise
        _log.warning("%s: searches take longer, since its indexes cannot be written anew (%s)", label, error)
        return True
