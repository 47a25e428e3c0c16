"""Chroma in this process, its data in a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from chromadb.errors import InternalError

from memstack.config import ChromaEmbedded
from memstack.errors import StoreError
from memstack.stores import chroma_rewrite
from memstack.stores.base import Capabilities, Row
from memstack.stores.chroma import ChromaStore
from memstack.stores.chroma_failures import reason_of, translated
from memstack.stores.chroma_folder import Folder, open_folder
from memstack.stores.foreign import check_no_file, check_nobody_elses, writing_to
from memstack.stores.room import FREE_BYTES, check_room, length_of
from memstack.stores.shared import Shared

__all__ = ["ChromaEmbeddedStore"]

T = TypeVar("T")
_REWRITE_SECONDS: Final = 600
_ROW_BYTES: Final = 8_192  # what a row takes on the disk, besides ...
_GROWTH: Final = 32  # ... for each byte of its texts: in the queue, in its terms, and in their indexes


class ChromaEmbeddedStore(ChromaStore):
    """A collection in a folder, opened by one process at a time: several that write corrupt it."""

    config_model: ClassVar[type[ChromaEmbedded]] = ChromaEmbedded
    capabilities = Capabilities(
        pushdown=ChromaStore.capabilities.pushdown,
        shared_by_processes=False,
        exact_up_to=ChromaStore.capabilities.exact_up_to,
        notes=(
            *ChromaStore.capabilities.notes[:-1],
            "A condition is looked up in the whole collection: 25,000 memories take 8 ms.",
        ),
    )

    @classmethod
    def open(cls, config: ChromaEmbedded, *, dimensions: int) -> ChromaEmbeddedStore:
        """Open the folder that a config section names, making it when missing.

        Raises:
            StoreLocked: another process has it open.
            StoreCorrupted: its files cannot be read.
            ConfigError: the path is a file.
            StoreError: it cannot be opened.
        """
        folder = config.data
        label = f"chroma (embedded) at {folder}"
        with writing_to(label):
            check_no_file(Path(config.path), folder)
            check_nobody_elses(label, Path(config.path), chroma_rewrite.DATABASE, folder)
        shared = Shared.acquire(ChromaEmbeddedStore, folder, lambda: open_folder(folder, label), Folder.close)
        try:
            return cls(shared.engine, label, config.collection, dimensions, shared.release)
        except BaseException:
            shared.release()
            raise

    def __init__(
        self,
        opened: Folder,
        label: str,
        collection: str,
        dimensions: int,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self.folder = opened.folder
        self._opened = opened
        super().__init__(
            opened.client,
            label,
            collection,
            dimensions,
            on_close,
            gate=opened.gate,
            kept=opened.kept_of(collection),
            vectors=opened.vectors_of(collection, dimensions),
            place=opened.folder,
        )

    def sibling(self, suffix: str) -> ChromaEmbeddedStore:
        return ChromaEmbeddedStore(self._opened, self.label, f"{self.collection}_{suffix}", self.dimensions)

    def check_room(self, rows: Sequence[Row] = ()) -> None:
        self._check_room(_ROW_BYTES * len(rows) + _GROWTH * length_of(row.payload for row in rows))

    def _check_room(self, more: int = 0) -> None:
        self._check_open("write")
        check_room(self.label, self.folder, FREE_BYTES + more)

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """The same, with the client that is open now; a failure of the engine's is noted, and is not worth a try."""
        self._check_open(what)
        with translated(self.label, what, self._place), self._opened.using(self.label) as client:
            if self.client is not client:  # the folder was opened anew
                if self._rows is not None:
                    self._rows = client.get_collection(self.collection, embedding_function=None)
                self.client = client  # last: what other threads find is of one client
            try:
                return call()
            except BaseException as error:  # its engine panics, too
                self._opened.failed |= isinstance(error, InternalError) or not isinstance(error, Exception)
                raise

    def check_scrub(self) -> None:
        self._check_room()
        with writing_to(self.label):
            size = (self.folder / chroma_rewrite.DATABASE).stat().st_size
        self._check_room(2 * size)

    def scrub(self) -> str:
        """Take deleted rows out of Chroma's queue, which keeps what was written, and rewrite its database.

        Chroma has a SQLite of its own. Two in one process do not see each other's locks, so another process does it;
        calls wait meanwhile.
        """
        try:
            self.check_scrub()
            with self._gate.alone():
                subprocess.run(  # noqa: S603  # this Python, and a script of ours
                    [sys.executable, "-I", chroma_rewrite.__file__, str(self.folder)],
                    check=True,
                    capture_output=True,
                    timeout=_REWRITE_SECONDS,
                )
        except (subprocess.SubprocessError, OSError) as error:
            told = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip() or reason_of(error)
            raise StoreError(
                self.label,
                f"cannot rewrite {chroma_rewrite.DATABASE} ({told.splitlines()[-1]})",
                "Call it again.",
                retryable=True,
            ) from error
        return ""

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]
