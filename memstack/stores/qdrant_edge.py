"""Qdrant Edge: the real engine, in this process. The embedded default.

One folder is one collection, indexed by tenant: a search walks the rows of its scope and no others. Measured choices:
HNSW graphs per tenant only (``m=0, payload_m=16``), and full comparison of every row up to `EXACT_UP_TO` in a scope.

What a row is lies beside the engine (`memstack.stores.rows`); its points have what they are found by, and no more. They
are flat, and the words and the terms are one text under one index that splits at white space: of each value the
bindings find out the type by trying, three microseconds for a number, nine for a text, fifteen for a list or a mapping.
Terms begin with a mark that no word has.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import qdrant_edge as edge

from memstack import metadata as codec
from memstack.clues import Clue, read_clue
from memstack.config import QdrantEmbedded
from memstack.errors import ConfigError, MemstackError, StoreCorrupted, StoreError, StoreFull, StoreLocked
from memstack.payload import Payload
from memstack.scope import SCOPE_FIELDS
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored
from memstack.stores.foreign import check_nobody_elses
from memstack.stores.gate import Gate
from memstack.stores.index import Index, index_of, number_key
from memstack.stores.kept import Kept
from memstack.stores.qdrant_common import EXACT_UP_TO, NOTES, PUSHDOWN, TIMES, QdrantStore, full_scan_kibibytes
from memstack.stores.rows import RowFile
from memstack.stores.shared import Shared
from memstack.stores.tally import Tally, digest_of, sync_folder, write_durably

__all__ = ["QdrantEdgeStore"]

P = TypeVar("P", edge.ScoredPoint, edge.Record)
T = TypeVar("T")
_Ids = dict[int, UUID]  # by their numbers

_log: Final = logging.getLogger(__name__)
_FORMAT: Final = 3
_OLDER: Final = (1, 2)
_MANIFEST: Final = "memstack.json"
_TALLY: Final = "rows"
_ROWS: Final = "rows.db"
_SHARD: Final = "shard"
_CONFIG: Final = "edge_config.json"
_DRAFT: Final = "shard.new-"  # an empty shard that is being made
_NEW: Final = "shard.new"  # a copy that takes the place of the shard ...
_OLD: Final = "shard.old"  # ... and what it takes the place of, for as long as that lasts
_CLIENTS_OWN: Final = "collection/*/storage.sqlite"  # what qdrant-client, and so Mem0, makes in a folder
_FREE_BYTES: Final = 64 * 2**20  # Qdrant maps pages of 32 MiB ahead; a full disk under a mapping kills the process
_UNDO_BYTES: Final = 32 * 2**20  # what must be left when a deletion is to be taken back
_COPIES: Final = 3  # a write takes its room in logs, in the segment or the file of rows, and in indexes
_ROW_BYTES: Final = 2048  # of ids and numbers
_TERM_BYTES: Final = 16  # of a term, besides its text
_INDEX: Final = "index"
_KEPT_CLUES: Final = 50_000  # about 30 MB
# So many rows are written between two reorganisations: the more there are, the longer one takes. What was written since
# is read whole when the folder is opened: 20 000 rows take a quarter of a second.
_TIDY_AFTER: Final = range(20_000, 50_000)
_TIDY_SHARE: Final = 10  # and in between, a tenth of what is there
_SEGMENTS: Final = 4  # one of them is written to. Fewer are rewritten more often, and each takes 15 ms to open
_COPY: Final = 1_000  # rows copied at a time


class _Words:
    """`qdrant_filters.Vocabulary` in Qdrant Edge's classes."""

    def match(self, key: str, values: Sequence[str]) -> Any:
        match = edge.MatchValue(values[0]) if len(values) == 1 else edge.MatchAny(list(values))
        return edge.FieldCondition(key, match=match)

    def terms(self, terms: Sequence[str]) -> Any:
        return self.words([_as_word(term) for term in terms])

    def words(self, words: Sequence[str]) -> Any:
        return edge.FieldCondition(_INDEX, match=edge.MatchTextAny(" ".join(words)))

    def between(self, key: str, op: str, bound: float) -> Any:
        return edge.FieldCondition(_flat(key), range=edge.RangeFloat(**{op: bound}))

    def equals(self, key: str, number: int) -> Any:
        return edge.FieldCondition(_flat(key), match=edge.MatchValue(number))

    def ids(self, ids: Sequence[str]) -> Any:
        return edge.HasIdCondition(set(ids))

    def all(self, conditions: Sequence[Any]) -> Any:
        # A complement inside of a condition of its own costs the engine twice the time of the whole query.
        return edge.Filter(
            must=[part for part in conditions if not isinstance(part, _Complement)],
            must_not=[part.of for part in conditions if isinstance(part, _Complement)],
        )

    def any(self, conditions: Sequence[Any]) -> Any:
        return edge.Filter(should=[self.all([part]) if isinstance(part, _Complement) else part for part in conditions])

    def none(self, condition: Any) -> Any:
        return condition.of if isinstance(condition, _Complement) else _Complement(condition)


@dataclass(frozen=True, slots=True)
class _Complement:
    """Where a condition does not hold."""

    of: Any


class _Shard:
    """An open shard with its rows, the note of what it must hold, and how many were written since it was reorganised.

    Writes take turns: the note is right between two of them, and so when it is closed under threads that write.
    """

    def __init__(self, engine: edge.EdgeShard, folder: Path, label: str) -> None:
        self.engine = engine
        self.gate = Gate()
        self.written = 0
        self.count = 0  # how many rows there are between two writes
        self.clues: Kept[int, Clue] = Kept(_KEPT_CLUES)  # by the number of the UUID
        self.lock = threading.RLock()
        self.tally = Tally(folder / _TALLY, label)
        self._folder = folder
        self._label = label
        with ExitStack() as opened:
            opened.callback(engine.close)
            opened.enter_context(_translated(label, folder, "open"))
            self.told = _rows_of(folder, self.tally)
            opened.callback(self.told.close)
            if self.tally.check(self):
                self._settle()
            self.count = self.rows()
            opened.pop_all()

    def rows(self) -> int:
        return self.engine.info().points_count

    def digest(self, row_id: str) -> str | None:
        found = self.engine.retrieve([row_id], with_payload=False, with_vector=False)
        told = self.told.payloads([row_id])
        return digest_of(*told.values()) if found and told else None

    def note(self, last: str | None = None, digest: str | None = None) -> None:
        """Note that a write has happened, and what was written last."""
        self.count = self.rows()
        self.tally.after(self.count, last, digest)

    def _settle(self) -> None:
        """Delete what a write that was interrupted has left in one of the two."""
        points = {str(point.id) for some in _pages(self.engine, payload=False, vector=False) for point in some}
        rows = self.told.ids()
        if points == rows:
            return
        _log.warning(
            "%s: a write was interrupted: %d rows without a point and %d points without a row are deleted",
            self._label,
            len(rows - points),
            len(points - rows),
        )
        if points - rows:
            self.engine.update(edge.UpdateOperation.delete_points(list(points - rows)))
        with self.told.transaction():
            self.told.drop(rows - points)
        self.note()

    def close(self) -> None:
        # The engine refuses to be closed while a call is in it: those that are under way come out first.
        with self.gate.alone(), self.lock, _translated(self._label, self._folder, "close"):
            rows = self.rows()
            self.told.close()
            self.engine.close()
            if self.tally.in_use:
                self.tally.close(rows)


class QdrantEdgeStore(QdrantStore):
    """A collection in a folder of its own, opened by one process at a time."""

    config_model = QdrantEmbedded
    words = _Words()
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
        _prepare(self.root, self.folder, self.label)
        self._shared = Shared.acquire(
            QdrantEdgeStore,
            self.folder,
            lambda: _Shard(_load(self.folder, dimensions, self.label), self.folder, self.label),
            _Shard.close,
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
        indexes = [index_of(row.payload) for row in rows]
        told = [
            (row.id, index.fingerprint, index.clue, codec.encode(row.payload))
            for row, index in zip(rows, indexes, strict=True)
        ]
        points = [
            edge.Point(row.id, self._checked_vector(row), _point(row.payload, index))
            for row, index in zip(rows, indexes, strict=True)
        ]
        self._check_room(sum(_bytes_of(clue, payload, self.dimensions) for *_, clue, payload in told))
        with self._writing("write") as shard, self._forgetting([row.id for row in rows]):
            shard.tally.before(shard.count, added=len(points))
            with shard.told.transaction():
                shard.told.put(told)
                shard.engine.update(edge.UpdateOperation.upsert_points(points))
            shard.note(rows[-1].id, digest_of(told[-1][-1]))
            shard.written += len(points)
            due = shard.written >= min(max(_TIDY_AFTER.start, shard.count // _TIDY_SHARE), _TIDY_AFTER.stop)
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
        return [Row(row_id := str(point.id), codec.decode(told[row_id]), _vector(point)) for point in found]

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
        request = _query(vector, condition, limit)
        found, told = self._found("search", lambda engine: engine.query(request), self._rows)
        return [Scored(told[key], point.score) for key, point in found.items()]

    def native_leads(self, vector: Sequence[float], condition: Any, limit: int) -> list[Lead]:
        """Each clue is read once and kept: the folder is this process's alone."""
        request = _query(vector, condition, limit)
        found, told = self._found("search", lambda engine: engine.query(request), self._clues)
        return [Lead(told[key], point.score) for key, point in found.items()]

    def _found(
        self, what: str, ask: Callable[[edge.EdgeShard], Sequence[P]], tell: Callable[[_Ids], Mapping[int, T]]
    ) -> tuple[dict[int, P], Mapping[int, T]]:
        """The points that the engine finds, best first, and what the file of rows tells of them; both by number.

        Raises:
            StoreError: a row is lost.
        """
        with self._reading(what) as shard:
            points = ask(shard.engine)
            ids = _ids_of(points)
            told = tell(ids)
        if len(told) < len(ids):
            raise self._lost(len(ids) - len(told))
        return dict(zip(ids, points, strict=True)), told

    def _lost(self, rows: int) -> StoreError:
        return StoreError(
            self.label, f"{rows} of the rows that it has have lost their texts", "Restore the store from a backup."
        )

    def _rows(self, ids: _Ids) -> dict[int, Row]:
        spelt = {str(row_id): key for key, row_id in ids.items()}
        told = self._shared.engine.told.payloads(spelt)
        return {spelt[row_id]: Row(row_id, codec.decode(text)) for row_id, text in told.items()}

    def _clues(self, ids: _Ids) -> dict[int, Clue]:
        shard = self._shared.engine

        def read(missing: Sequence[int]) -> dict[int, Clue]:
            spelt = {str(ids[key]): key for key in missing}
            told = shard.told.clues(spelt)
            return {spelt[row_id]: read_clue(row_id, text) for row_id, text in told.items()}

        return shard.clues.through(list(ids), read)

    def native_count(self, condition: Any) -> int:
        with self._call("count") as engine:
            return engine.count(edge.CountRequest(exact=True, filter=_filter(condition)))

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
        self._shared.engine.written = 0
        needed = _FREE_BYTES + _size_of(self.folder / _SHARD)  # in the worst case every segment is written anew
        free = shutil.disk_usage(self.root).free
        if free < needed:
            _log.warning(
                "%s is not reorganised: that needs %d MiB, and %d are free", self.label, needed // 2**20, free // 2**20
            )
            return
        with self._writing("optimize") as shard:
            shard.engine.optimize()
            shard.engine.flush()

    def scrub(self) -> str:
        """Copy the points into a new shard, which takes the place of the old one, whose files hold the deleted ones.

        The file of rows is written anew, too.
        """
        shard = self._shared.engine
        with shard.gate.alone(), shard.lock:
            if not shard.tally.file.exists() and shard.rows() == 0:
                return ""  # nothing was ever written
            with self._call("rewrite") as engine:
                self._check_room(_size_of(self.folder))
                _copy(engine, self.folder / _NEW, self.dimensions)
            shard.engine.close()
            _swap(self.folder, self.label)
            shard.engine = _load(self.folder, self.dimensions, self.label)
            with self._call("rewrite"):
                shard.told.compact()
        return ""

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    # -- the collection --------------------------------------------------------------------------

    def read_fingerprint(self) -> Fingerprint | None:
        manifest = self.folder / _MANIFEST
        if not manifest.exists():
            return None
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            version, stored = content["format"], content["embedder"]
            fingerprint = Fingerprint(stored["provider"], stored["model"], stored["dimensions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreCorrupted(self.label, str(manifest), f"{type(error).__name__} in {_MANIFEST}") from error
        if version != _FORMAT:
            hint = (
                "Export it with the release that made it, and import it anew."
                if version in _OLDER
                else "Upgrade memstack."
            )
            raise StoreError(self.label, f"its format is {version}, and this release reads {_FORMAT}", hint)
        return fingerprint

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        manifest = self.folder / _MANIFEST
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
        with self._shared.engine.lock:  # several threads may open a new folder at once
            if self.read_fingerprint() in (None, fingerprint):
                length = _length_of_vectors(self.folder, self.label)
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
            directed = edge.OrderBy(_flat(key), edge.Direction.Desc if descending else edge.Direction.Asc, start)
        request = edge.ScrollRequest(
            limit=limit,
            offset=offset,
            order_by=directed,
            filter=_filter(*conditions),
            with_payload=False,
            with_vector=vectors,
        )
        found, told = self._found("scan", lambda engine: engine.scroll(request)[0], self._rows)
        return [replace(told[key], vector=_vector(point)) if vectors else told[key] for key, point in found.items()]

    def _check_room(self, more: int = 0) -> None:
        _check_room(self.label, self.root, _FREE_BYTES + more)

    @contextmanager
    def _reading(self, what: str) -> Iterator[_Shard]:
        """What the engine finds is what the file of rows tells: nobody writes in between."""
        with self._call(what), self._shared.engine.lock:
            yield self._shared.engine

    @contextmanager
    def _writing(self, what: str) -> Iterator[_Shard]:
        with self._call(what), self._shared.engine.lock:
            yield self._shared.engine

    @contextmanager
    def _forgetting(self, ids: Sequence[str] | None) -> Iterator[None]:
        """Kept clues of what the block writes are dropped after it, also where it fails half-way."""
        try:
            yield
        finally:
            self._shared.engine.clues.forget(None if ids is None else (UUID(row_id).int for row_id in ids))

    @contextmanager
    def _call(self, what: str) -> Iterator[edge.EdgeShard]:
        if self._closed:
            raise StoreError(self.label, f"cannot {what}: the store is closed", "Open it again with open_memory().")
        if self._shared.forked:
            raise StoreError(
                self.label,
                f"cannot {what}: it was opened before this process was forked",
                "Open the memory in the process that uses it.",
            )
        with self._shared.engine.gate.together(), _translated(self.label, self.folder, what):
            yield self._shared.engine.engine


# -- the folder ----------------------------------------------------------------------------------


def _prepare(root: Path, folder: Path, label: str) -> None:
    try:
        for place in (root, folder):
            if place.exists() and not place.is_dir():
                raise ConfigError(
                    "vector_store.path", f"{place} is a file, and a store is a folder", "Name another path."
                )
        check_nobody_elses(label, root, _CLIENTS_OWN, folder)
        _check_room(label, next(place for place in (root, *root.parents) if place.exists()), _FREE_BYTES)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # whether it can be written, found out under no fixed name
            pass
    except OSError as error:
        raise StoreError(
            label, f"the folder cannot be written ({error.strerror})", "Give it to this user, or name another path."
        ) from error


def _check_room(label: str, place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StoreFull(label, str(place), free, needed)


def _load(folder: Path, dimensions: int, label: str) -> edge.EdgeShard:
    if not (folder / _SHARD).exists() and (folder / _OLD).exists():
        (folder / _OLD).rename(folder / _SHARD)  # a process died while it replaced the shard
    place = folder / _SHARD
    with _translated(label, folder, "open"):
        if not (place / _CONFIG).exists():
            for known in (_MANIFEST, _TALLY):  # both come after the shard
                if (folder / known).exists():
                    raise StoreCorrupted(label, str(folder), f"{known} is there, and {_SHARD}/{_CONFIG} is not")
            _create(folder, dimensions)
        shard = edge.EdgeShard.load(str(place))
    for left in (_NEW, _OLD):  # nobody else has it open, so nobody is replacing it
        shutil.rmtree(folder / left, ignore_errors=True)
    try:
        with _translated(label, folder, "index"):
            indexed = shard.info().payload_schema
            for name, params in _indexes().items():
                if name not in indexed:
                    shard.update(edge.UpdateOperation.create_field_index(name, params))
    except BaseException:
        shard.close()
        raise
    return shard


def _rows_of(folder: Path, tally: Tally) -> RowFile:
    """The file of rows; a new one where nothing was ever written.

    Raises:
        ValueError: it is gone.
    """
    file = folder / _ROWS
    if tally.file.exists() and not file.exists():
        raise ValueError(f"{tally.file.name} is there, and {file.name} is not")
    return RowFile(file)


def _create(folder: Path, dimensions: int) -> None:
    """Make the shard beside its place and move it there as a whole: there is never half of one."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=folder))
    try:
        edge.EdgeShard.create(str(draft), _edge_config(dimensions)).close()
        with suppress(OSError):  # another process was faster: its shard is the one
            draft.replace(folder / _SHARD)
            sync_folder(folder)
    finally:
        for left in folder.glob(f"{_DRAFT}*"):  # of processes that died here, too
            shutil.rmtree(left, ignore_errors=True)


def _length_of_vectors(folder: Path, label: str) -> int:
    """How many dimensions the shard was made for."""
    config = folder / _SHARD / _CONFIG
    try:
        return int(json.loads(config.read_text(encoding="utf-8"))["vectors"][""]["size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreCorrupted(label, str(config), f"{type(error).__name__} in {_CONFIG}") from error


def _size_of(folder: Path) -> int:
    """How many bytes of the disk its files take: most of them have holes."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # the engine has removed it
            found = file.stat()
            total += getattr(found, "st_blocks", found.st_size // 512) * 512
    return total


def _bytes_of(clue: str, payload: str, dimensions: int) -> int:
    """How much room a row may take, generously: its terms are made of the words of the clue, and of the payload."""
    texts = (clue, payload)
    characters = sum(len(text) * (1 if text.isascii() else 4) for text in texts)
    terms = sum(text.count(mark) for text, mark in zip(texts, (" ", '":'), strict=True))
    return _COPIES * (2 * characters + 2 * terms * _TERM_BYTES + _ROW_BYTES + 5 * dimensions)


def _pages(engine: edge.EdgeShard, *, payload: bool, vector: bool) -> Iterator[list[edge.Record]]:
    """All points."""
    offset: Any = None
    while True:
        request = edge.ScrollRequest(limit=_COPY, offset=offset, with_payload=payload, with_vector=vector)
        found, offset = engine.scroll(request)
        yield found
        if offset is None:
            return


def _copy(engine: edge.EdgeShard, place: Path, dimensions: int) -> None:
    """Write every row of a shard into a new one."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    copy = edge.EdgeShard.create(str(place), _edge_config(dimensions))
    try:
        for name, params in _indexes().items():
            copy.update(edge.UpdateOperation.create_field_index(name, params))
        for found in _pages(engine, payload=True, vector=True):
            points = [edge.Point(point.id, _vector(point), point.payload) for point in found]
            if points:
                copy.update(edge.UpdateOperation.upsert_points(points))
        copy.flush()
        if copy.count(edge.CountRequest(exact=True)) != engine.count(edge.CountRequest(exact=True)):
            raise ValueError("the copy has another number of rows")
    finally:
        copy.close()


def _swap(folder: Path, label: str) -> None:
    """Put the new shard in the place of the old one. Where this is interrupted, `_load` puts it right."""
    try:
        (folder / _SHARD).rename(folder / _OLD)
        (folder / _NEW).rename(folder / _SHARD)
        shutil.rmtree(folder / _OLD)
    except OSError as error:
        raise StoreError(label, f"cannot replace {folder / _SHARD} ({error.strerror})", "Open it again.") from error


def _edge_config(dimensions: int) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine),
        hnsw_config=edge.HnswIndexConfig(
            m=0, ef_construct=100, full_scan_threshold=full_scan_kibibytes(dimensions), payload_m=16
        ),
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=_SEGMENTS),
    )


def _indexes() -> dict[str, Any]:
    """What is searched by. `on_disk` maps the files that a reorganisation makes: they are not read to open them."""
    kept: Any = {"on_disk": True, "enable_hnsw": False}
    tenants = {name: edge.KeywordIndexParams(is_tenant=True, on_disk=True) for name in SCOPE_FIELDS}
    times = {_flat(f"times.{name}"): edge.IntegerIndexParams(lookup=False, range=True, **kept) for name in TIMES}
    words = edge.TextIndexParams(tokenizer=edge.TokenizerType.Whitespace, lowercase=False, **kept)
    return {**tenants, _INDEX: words, **times}


def _point(payload: Payload, index: Index) -> dict[str, Any]:
    """What a memory is found by, as the point keeps it."""
    terms = [*index.words, *(_as_word(term) for term in (*index.facts, index.own))]
    return {
        **{name: payload[name] for name in SCOPE_FIELDS if payload.get(name)},
        _INDEX: " ".join(terms),
        **{_flat(f"times.{name}"): micros for name, micros in index.times.items()},
        **{_flat(f"instants.{key}"): micros for key, micros in index.instants.items()},
        **{
            _flat(f"numbers.{key}.{name}"): part
            for key, number in index.numbers.items()
            for name, part in number_key(number).items()
        },
    }


def _flat(key: str) -> str:
    """A key as the compiler has it, as the name of a field of a point."""
    return key.replace(".", "_")


def _ids_of(points: Sequence[edge.Record | edge.ScoredPoint]) -> _Ids:
    """The ids of points, in their order, by number. Each look at an id makes a new UUID, which is slow to compare."""
    ids: list[Any] = [point.id for point in points]
    return {row_id.int: row_id for row_id in ids}


def _vector(point: edge.Record | edge.ScoredPoint) -> list[float]:
    vector: Any = point.vector
    return list(vector)


def _query(vector: Sequence[float], condition: Any, limit: int) -> edge.QueryRequest:
    nearest = edge.Query.Nearest(list(vector))
    return edge.QueryRequest(limit=limit, query=nearest, filter=_filter(condition), with_payload=False)


def _as_word(term: str) -> str:
    """A term as one word, whatever white space it has."""
    if term.isprintable() and " " not in term:  # as most are: all other white space is not printable
        return term
    if len(term.split()) == 1 and not term[-1].isspace():  # it begins with a mark
        return term
    return f"{term[0]}#{hashlib.blake2b(term.encode(), digest_size=16).hexdigest()}"


def _filter(*conditions: Any) -> edge.Filter | None:
    given = [condition for condition in conditions if condition is not None]
    if len(given) == 1 and isinstance(given[0], edge.Filter):
        return given[0]
    found: edge.Filter | None = QdrantEdgeStore.words.all(given) if given else None
    return found


@contextmanager
def _translated(label: str, folder: Path, what: str) -> Iterator[None]:
    """The engine's exceptions as ours. It raises plain ``Exception`` with text, and panics as ``BaseException``."""
    try:
        yield
    except (MemstackError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())
        if "WAL" in reason and "WouldBlock" in reason:
            raise StoreLocked(label, str(folder)) from error
        if what == "open":
            raise StoreCorrupted(label, str(folder), reason) from error
        raise StoreError(label, f"cannot {what}: {reason}") from error
