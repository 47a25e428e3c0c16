"""Qdrant Edge: the real engine, in this process. The embedded default.

One folder is one collection, indexed by tenant: a search walks the rows of its scope and no others. Measured choices:
HNSW graphs per tenant only (``m=0, payload_m=16``), and full comparison of every row up to `EXACT_UP_TO` in a scope.

What a row is lies beside the engine (`memstack.stores.rows`); its points (`memstack.stores.edge_points`) have what they
are found by, and no more.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import qdrant_edge as edge

from memstack import metadata as codec
from memstack.clues import Clue, read_clue
from memstack.config import QdrantEmbedded
from memstack.errors import StoreCorrupted, StoreError
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored
from memstack.stores.edge_folder import (
    MANIFEST,
    SHARD,
    Shard,
    copy_points,
    length_of_vectors,
    load,
    prepare,
    size_of,
    translated,
)
from memstack.stores.edge_points import (
    Ids,
    Later,
    Words,
    condition_of,
    flat,
    ids_of,
    nearest_to,
    point_of,
    settled,
    vector_of,
)
from memstack.stores.index import index_of
from memstack.stores.qdrant_common import EXACT_UP_TO, NOTES, PUSHDOWN, QdrantStore
from memstack.stores.room import FREE_BYTES, check_room, free_bytes
from memstack.stores.shared import Shared
from memstack.stores.tally import check_readable, digest_of, write_durably

__all__ = ["QdrantEdgeStore"]

P = TypeVar("P", edge.ScoredPoint, edge.Record)
T = TypeVar("T")

_log: Final = logging.getLogger(__name__)
_FORMAT: Final = 3
_OLDER: Final = (1, 2)
_UNDO_BYTES: Final = 32 * 2**20  # what must be left when a deletion is to be taken back
_COPIES: Final = 3  # a write takes its room in logs, in the segment or the file of rows, and in indexes
_ROW_BYTES: Final = 2048  # of ids and numbers
_TERM_BYTES: Final = 16  # of a term, besides its text
# So many rows are written between two reorganisations: the more there are, the longer one takes. What was written since
# is read whole when the folder is opened: 20 000 rows take a quarter of a second. They are counted beyond the end of
# the process: the engine keeps what was deleted until then.
_TIDY_AFTER: Final = range(20_000, 50_000)
_TIDY_SHARE: Final = 10  # and in between, a tenth of what is there


class QdrantEdgeStore(QdrantStore):
    """A collection in a folder of its own, opened by one process at a time."""

    config_model = QdrantEmbedded
    words = Words()
    one_search_at_a_time = True
    capabilities = Capabilities(
        pushdown=PUSHDOWN,
        shared_by_processes=False,
        exact_up_to=EXACT_UP_TO,
        notes=(
            *NOTES,
            "After 20,000 to 50,000 new memories it reorganises itself, and holds up the whole process for seconds.",
        ),
    )

    def __init__(self, path: str | os.PathLike[str], collection: str, dimensions: int) -> None:
        self.root = Path(path)
        self.collection = collection
        self.dimensions = dimensions
        self.folder = self.root / collection
        self.label = f"qdrant (embedded) at {self.folder}"
        self._closed = False
        prepare(self.root, self.folder, self.label)
        self._shared = Shared.acquire(
            QdrantEdgeStore,
            self.folder,
            lambda: Shard(load(self.folder, dimensions, self.label), self.folder, self.label),
            Shard.close,
        )

    @classmethod
    def open(cls, config: QdrantEmbedded, *, dimensions: int) -> QdrantEdgeStore:
        """Open the collection that a config section names, making it when missing.

        Raises:
            StoreLocked: another process has it open.
            StoreCorrupted: its files cannot be read.
            StoreError: the folder cannot be used.
        """
        return cls(config.path, config.collection, dimensions)

    # -- rows ------------------------------------------------------------------------------------

    def upsert(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        indexes = [index_of(row.payload, row.fingerprint) for row in rows]
        told = [
            (row.id, index.fingerprint, index.clue, codec.encode(row.payload))
            for row, index in zip(rows, indexes, strict=True)
        ]
        points = [
            edge.Point(row.id, self._checked_vector(row), point_of(row.payload, index))
            for row, index in zip(rows, indexes, strict=True)
        ]
        self._check_room(sum(_bytes_of(clue, payload, self.dimensions) for *_, clue, payload in told))
        with self._writing("write") as shard, self._forgetting([row.id for row in rows]):
            shard.tally.before(shard.count, added=len(points))
            with shard.told.transaction():
                shard.told.put(told)
                shard.engine.update(edge.UpdateOperation.upsert_points(points))
            shard.tally.written += len(points)
            shard.note(rows[-1].id, digest_of(told[-1][-1]))
            due = shard.tally.written >= min(max(_TIDY_AFTER.start, shard.count // _TIDY_SHARE), _TIDY_AFTER.stop)
        if due:
            self.tidy()

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        with self._reading("read") as shard:
            told = shard.told.payloads(dict.fromkeys(ids))
            missing = [row_id for row_id in ids if row_id not in told]
            lost = shard.engine.retrieve(list[Any](missing), with_payload=False, with_vector=False) if missing else []
            if lost:
                raise self._lost(len(lost))
            if not vectors:
                return [Row(row_id, codec.decode(text)) for row_id, text in told.items()]
            found = shard.engine.retrieve(list[Any](told), with_payload=False, with_vector=True)
        return [Row(row_id := str(point.id), codec.decode(told[row_id]), vector_of(point)) for point in found]

    def equal_to(self, fingerprints: Sequence[str]) -> list[Row]:
        with self._call("read"):
            told = self._shared.engine.told.equal(fingerprints)
        return [Row(row_id, codec.decode(text)) for row_id, text in told.items()]

    def remove(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        self._check_room(_UNDO_BYTES)  # a deletion is a write too
        with self._writing("delete") as shard, self._forgetting(ids):
            shard.tally.before(shard.count, removed=len(ids))
            with shard.told.transaction():
                shard.told.drop(ids)
                shard.engine.update(edge.UpdateOperation.delete_points(list(ids)))
            shard.note(ids[-1])

    def native_nearest(self, vector: Sequence[float], condition: Any, limit: int) -> list[Scored]:
        found, told = self._found("search", partial(self._ask, vector, condition, limit), self._rows)
        return [Scored(told[key], point.score) for key, point in found.items()]

    def native_leads(self, vector: Sequence[float], condition: Any, limit: int) -> list[Lead]:
        """Each clue is read once and kept: the folder is this process's alone."""
        found, told = self._found("search", partial(self._ask, vector, condition, limit), self._clues)
        return [Lead(told[key], point.score) for key, point in found.items()]

    def _ask(
        self, vector: Sequence[float], condition: Any, limit: int, engine: edge.EdgeShard
    ) -> Sequence[edge.ScoredPoint]:
        return engine.query(nearest_to(vector, self._settled(condition), limit))

    def _found(
        self, what: str, ask: Callable[[edge.EdgeShard], Sequence[P]], tell: Callable[[Ids], Mapping[int, T]]
    ) -> tuple[dict[int, P], Mapping[int, T]]:
        """The points that the engine finds, best first, and what the file of rows tells of them; both by number.

        Raises:
            StoreError: a row is lost.
        """
        with self._reading(what) as shard:
            points = ask(shard.engine)
            ids = ids_of(points)
            told = tell(ids)
        if len(told) < len(ids):
            raise self._lost(len(ids) - len(told))
        return dict(zip(ids, points, strict=True)), told

    def _lost(self, rows: int) -> StoreError:
        return StoreError(
            self.label, f"{rows} of the rows that it has have lost their texts", "Restore the store from a backup."
        )

    def _rows(self, ids: Ids) -> dict[int, Row]:
        spelt = {str(row_id): key for key, row_id in ids.items()}
        told = self._shared.engine.told.payloads(spelt)
        return {spelt[row_id]: Row(row_id, codec.decode(text)) for row_id, text in told.items()}

    def _clues(self, ids: Ids) -> dict[int, Clue]:
        shard = self._shared.engine

        def read(missing: Sequence[int]) -> dict[int, Clue]:
            spelt = {str(ids[key]): key for key in missing}
            told = shard.told.clues(spelt)
            return {spelt[row_id]: read_clue(row_id, text) for row_id, text in told.items()}

        return shard.clues.through(list(ids), read)

    def native_count(self, condition: Any) -> int:
        with self._call("count") as engine, self._shared.engine.lock if isinstance(condition, Later) else nullcontext():
            return engine.count(edge.CountRequest(exact=True, filter=condition_of(self._settled(condition))))

    def _settled(self, condition: Any) -> Any:
        """A condition as the engine takes it. What of it is looked up first holds while the shard's lock is held."""
        return settled(condition, self._shared.engine.having)

    def clear(self) -> None:
        self._check_room()
        with self._writing("clear") as shard, self._forgetting(None):
            shard.tally.before(shard.count, removed=shard.count)
            with shard.told.transaction():
                shard.told.drop(None)
                shard.engine.update(edge.UpdateOperation.delete_points_by_filter(edge.Filter(must=[])))
            shard.note()
        self.tidy()

    def tidy(self) -> None:
        self._shared.engine.tally.written = 0
        needed = FREE_BYTES + size_of(self.folder / SHARD)  # in the worst case every segment is written anew
        free = free_bytes(self.label, self.root)
        if free < needed:
            _log.warning(
                "%s is not reorganised: that needs %d MiB, and %d are free", self.label, needed // 2**20, free // 2**20
            )
            with self._writing("flush") as shard:
                shard.engine.flush()  # what its log holds is cut, at least
            return
        with self._writing("optimize") as shard:
            shard.engine.optimize()
            shard.engine.flush()

    def check_scrub(self) -> None:
        self._check_room(size_of(self.folder))

    def scrub(self) -> str:
        """Copy the points into a new shard, which takes the place of the old one, whose files hold the deleted ones.

        The file of rows is written anew, too.
        """
        shard = self._shared.engine
        with shard.gate.alone(), shard.lock:
            if not shard.tally.file.exists() and shard.rows() == 0:
                return ""  # nothing was ever written
            with self._call("rewrite") as engine:
                self.check_scrub()
                copy_points(engine, self.folder, self.dimensions)
            shard.replace(self.dimensions)
            with self._call("rewrite"):
                shard.told.compact()
        return ""

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    # -- the collection --------------------------------------------------------------------------

    def read_fingerprint(self) -> Fingerprint | None:
        manifest = self.folder / MANIFEST
        if not manifest.exists():
            return None
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            version, stored = content["format"], content["embedder"]
            fingerprint = Fingerprint(stored["provider"], stored["model"], stored["dimensions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            check_readable(self.label, manifest, error)
            raise StoreCorrupted(self.label, str(manifest), f"{type(error).__name__} in {MANIFEST}") from error
        if version != _FORMAT:
            hint = (
                "Export it with the release that made it, and import it anew."
                if version in _OLDER
                else "Upgrade memstack."
            )
            raise StoreError(self.label, f"its format is {version}, and this release reads {_FORMAT}", hint)
        return fingerprint

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        manifest = self.folder / MANIFEST
        embedder = {
            "provider": fingerprint.provider,
            "model": fingerprint.model,
            "dimensions": fingerprint.dimensions,
        }
        content = json.dumps({"format": _FORMAT, "embedder": embedder}, indent=1) + "\n"
        try:
            write_durably(manifest, content.encode())
        except OSError as error:
            raise StoreError(self.label, f"cannot write {manifest} ({error.strerror})") from error

    def bind(self, fingerprint: Fingerprint) -> None:
        shard = self._shared.engine
        with shard.gate.together(), shard.lock:  # several threads may open a new folder at once
            stored = self.read_fingerprint()
            if stored is None or stored.is_of(fingerprint):
                length = length_of_vectors(self.folder, self.label)
                if length != fingerprint.dimensions:
                    raise StoreError(
                        self.label,
                        f"its vectors have {length} dimensions, and those of {fingerprint} do not",
                        "Configure the embedder that filled it, or choose another collection with "
                        "`vector_store.collection`.",
                    )
            super().bind(fingerprint)

    def has_sibling(self, suffix: str) -> bool:
        return (self.root / f"{self.collection}_{suffix}").exists()

    def sibling(self, suffix: str) -> QdrantEdgeStore:
        return QdrantEdgeStore(self.root, f"{self.collection}_{suffix}", self.dimensions)

    def stats(self) -> dict[str, Any]:
        with self._call("info") as engine:
            info = engine.info()
        return {**super().stats(), "segments": info.segments_count, "indexed_vectors": info.indexed_vectors_count}

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._shared.release()

    # -- inside ----------------------------------------------------------------------------------

    def _scroll(
        self,
        conditions: Sequence[Any],
        *,
        limit: int,
        offset: str | None = None,
        order: tuple[str, bool, int | None] | None = None,
        vectors: bool = False,
    ) -> list[Row]:
        directed = None
        if order is not None:
            key, descending, start = order
            directed = edge.OrderBy(flat(key), edge.Direction.Desc if descending else edge.Direction.Asc, start)

        def ask(engine: edge.EdgeShard) -> Sequence[edge.Record]:
            request = edge.ScrollRequest(
                limit=limit,
                offset=offset,
                order_by=directed,
                filter=condition_of(*map(self._settled, conditions)),
                with_payload=False,
                with_vector=vectors,
            )
            return engine.scroll(request)[0]

        found, told = self._found("scan", ask, self._rows)
        return [
            Row((row := told[key]).id, row.payload, vector_of(point)) if vectors else told[key]
            for key, point in found.items()
        ]

    def _check_room(self, more: int = 0) -> None:
        self._check_usable("write")
        check_room(self.label, self.root, FREE_BYTES + more)

    @contextmanager
    def _reading(self, what: str) -> Iterator[Shard]:
        """What the engine finds is what the file of rows tells: nobody writes in between."""
        with self._call(what), self._shared.engine.lock:
            yield self._shared.engine

    @contextmanager
    def _writing(self, what: str) -> Iterator[Shard]:
        with self._call(what), self._shared.engine.writing():
            yield self._shared.engine

    @contextmanager
    def _forgetting(self, ids: Sequence[str] | None) -> Iterator[None]:
        """Kept clues of what the block writes are dropped after it, also where it fails half-way."""
        try:
            yield
        finally:
            self._shared.engine.clues.forget(None if ids is None else (UUID(row_id).int for row_id in ids))

    def _check_usable(self, what: str) -> None:
        if self._closed:
            raise StoreError(self.label, f"cannot {what}: the store is closed", "Open it again with open_memory().")
        if self._shared.forked:
            raise StoreError(
                self.label,
                f"cannot {what}: it was opened before this process was forked",
                "Open the memory in the process that uses it.",
            )

    @contextmanager
    def _call(self, what: str) -> Iterator[edge.EdgeShard]:
        self._check_usable(what)
        shard = self._shared.engine
        if shard.is_away:
            shard.bring_back(self.dimensions)
        with shard.gate.together(), translated(self.label, self.folder, what):
            yield shard.engine


def _bytes_of(clue: str, payload: str, dimensions: int) -> int:
    """How much room a row may take, generously: its terms are made of the words of the clue, and of the payload."""
    texts = (clue, payload)
    characters = sum(len(text) * (1 if text.isascii() else 4) for text in texts)
    terms = sum(text.count(mark) for text, mark in zip(texts, (" ", '":'), strict=True))
    return _COPIES * (2 * characters + 2 * terms * _TERM_BYTES + _ROW_BYTES + 5 * dimensions)
