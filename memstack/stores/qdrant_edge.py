"""Qdrant Edge: the real engine, in this process. The embedded default.

One folder is one collection, indexed by tenant: a search walks the rows of its scope and no others. Measured choices:
HNSW graphs per tenant only (``m=0, payload_m=16``), and full comparison of every row up to `EXACT_UP_TO` in a scope.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import qdrant_edge as edge

from memstack.clues import Clue
from memstack.config import QdrantEmbedded
from memstack.errors import ConfigError, MemstackError, StoreCorrupted, StoreError, StoreFull, StoreLocked
from memstack.scope import SCOPE_FIELDS
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored
from memstack.stores.kept import KeptClues
from memstack.stores.qdrant_common import (
    EXACT_UP_TO,
    NOTES,
    PUSHDOWN,
    TIMES,
    QdrantStore,
    full_scan_kibibytes,
    to_point,
    to_row,
)
from memstack.stores.shared import Shared

__all__ = ["QdrantEdgeStore"]

_FORMAT: Final = 1
_FREE_BYTES: Final = 64 * 2**20  # Qdrant maps pages of 32 MiB ahead; a full disk under a mapping kills the process
_TIDY_EVERY: Final = 20_000  # rows written between two reorganisations


class _Words:
    """`qdrant_filters.Vocabulary` in Qdrant Edge's classes."""

    def match(self, key: str, values: Sequence[str]) -> Any:
        match = edge.MatchValue(values[0]) if len(values) == 1 else edge.MatchAny(list(values))
        return edge.FieldCondition(key, match=match)

    def between(self, key: str, op: str, bound: float) -> Any:
        return edge.FieldCondition(key, range=edge.RangeFloat(**{op: bound}))

    def equals(self, key: str, number: int) -> Any:
        return edge.FieldCondition(key, match=edge.MatchValue(number))

    def ids(self, ids: Sequence[str]) -> Any:
        return edge.HasIdCondition(set(ids))

    def all(self, conditions: Sequence[Any]) -> Any:
        return edge.Filter(must=list(conditions))

    def any(self, conditions: Sequence[Any]) -> Any:
        return edge.Filter(should=list(conditions))

    def none(self, condition: Any) -> Any:
        return edge.Filter(must_not=[condition])


class _Shard:
    """An open shard, and how many rows were written to it since it was last reorganised."""

    def __init__(self, engine: edge.EdgeShard, folder: Path, label: str) -> None:
        self.engine = engine
        self.written = 0
        self.clues = KeptClues()
        self._note = folder / "rows"
        self._check(folder, label)

    def close(self) -> None:
        rows = self.engine.count(edge.CountRequest(exact=True))
        self.engine.close()
        self._note.write_text(str(rows), encoding="ascii")

    def _check(self, folder: Path, label: str) -> None:
        """Compare with how many rows there were when it was closed: the engine passes over files that it cannot read.

        Where the process died instead, there is no note, and the engine's log is the judge.
        """
        if not self._note.exists():
            return
        try:
            noted = int(self._note.read_text(encoding="ascii"))
        except ValueError:
            noted = -1
        rows = self.engine.count(edge.CountRequest(exact=True))
        if rows != noted:
            self.engine.close()
            raise StoreCorrupted(label, str(folder), f"{rows} rows are left of {noted}")
        self._note.unlink()


class QdrantEdgeStore(QdrantStore):
    """A collection in a folder of its own, opened by one process at a time."""

    config_model = QdrantEmbedded
    words = _Words()
    leads_at_once = 512
    capabilities = Capabilities(
        pushdown=PUSHDOWN,
        shared_by_processes=False,
        exact_up_to=EXACT_UP_TO,
        notes=NOTES,
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
        points = [edge.Point(row.id, self._checked_vector(row), to_point(row.payload)) for row in rows]
        if not points:
            return
        self._check_room()
        with self._call("write") as engine, self._forgetting([row.id for row in rows]):
            engine.update(edge.UpdateOperation.upsert_points(points))
        self._shared.engine.written += len(points)
        if self._shared.engine.written >= _TIDY_EVERY:
            self.tidy()

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        with self._call("read") as engine:
            found = engine.retrieve(list(ids), with_payload=True, with_vector=vectors)
        return [to_row(point.id, point.payload, point.vector) for point in found]

    def remove(self, ids: Sequence[str]) -> None:
        self._check_room()  # a deletion is a write too
        with self._call("delete") as engine, self._forgetting(ids):
            engine.update(edge.UpdateOperation.delete_points(list(ids)))

    def native_nearest(self, vector: Sequence[float], condition: Any, limit: int) -> list[Scored]:
        request = edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(list(vector)),
            filter=_filter(condition),
            with_payload=True,
        )
        with self._call("search") as engine:
            found = engine.query(request)
        return [Scored(to_row(point.id, point.payload, None), point.score) for point in found]

    def native_leads(self, vector: Sequence[float], condition: Any, limit: int) -> list[Lead]:
        """Each clue is read once and kept: the folder is this process's alone."""
        request = edge.QueryRequest(
            limit=limit, query=edge.Query.Nearest(list(vector)), filter=_filter(condition), with_payload=False
        )
        with self._call("search") as engine:
            found = engine.query(request)
        clues = self._clues([point.id for point in found])
        return [Lead(clue, point.score) for clue, point in zip(clues, found, strict=True) if clue is not None]

    def _clues(self, ids: Sequence[Any]) -> list[Clue | None]:
        kept = self._shared.engine.clues
        clues = kept.get(ids)
        missing: list[Any] = [str(row_id) for row_id, clue in zip(ids, clues, strict=True) if clue is None]
        if missing:
            version = kept.version
            with self._call("read") as engine:
                points = engine.retrieve(
                    missing, with_payload=edge.PayloadSelector.Include(["clue"]), with_vector=False
                )
            read = [lead.clue for lead in self.clued((str(p.id), 0.0, (p.payload or {}).get("clue")) for p in points)]
            kept.put(read, version)
            made = {clue.id: clue for clue in read}
            clues = [clue or made.get(str(row_id)) for row_id, clue in zip(ids, clues, strict=True)]
        return clues

    def native_count(self, condition: Any) -> int:
        with self._call("count") as engine:
            return engine.count(edge.CountRequest(exact=True, filter=_filter(condition)))

    def clear(self) -> None:
        self._check_room()
        with self._call("clear") as engine, self._forgetting(None):
            engine.update(edge.UpdateOperation.delete_points_by_filter(edge.Filter(must=[])))
        self.tidy()

    def tidy(self) -> None:
        self._shared.engine.written = 0
        with self._call("optimize") as engine:
            engine.optimize()
            engine.flush()

    # -- the collection --------------------------------------------------------------------------

    def read_fingerprint(self) -> Fingerprint | None:
        manifest = self.folder / "memstack.json"
        if not manifest.exists():
            return None
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            version, stored = content["format"], content["embedder"]
            fingerprint = Fingerprint(stored["provider"], stored["model"], stored["dimensions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreCorrupted(self.label, str(manifest), f"{type(error).__name__} in memstack.json") from error
        if version != _FORMAT:
            raise StoreError(
                self.label, f"its format is {version}, and this release reads {_FORMAT}", "Upgrade memstack."
            )
        return fingerprint

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        manifest = self.folder / "memstack.json"
        draft = manifest.with_suffix(".json.new")
        embedder = {
            "provider": fingerprint.provider,
            "model": fingerprint.model,
            "dimensions": fingerprint.dimensions,
        }
        try:
            draft.write_text(json.dumps({"format": _FORMAT, "embedder": embedder}, indent=1) + "\n", encoding="utf-8")
            draft.replace(manifest)
        except OSError as error:
            raise StoreError(self.label, f"cannot write {manifest} ({error.strerror})") from error

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
    ) -> list[Row]:
        directed = None
        if order is not None:
            key, descending, start = order
            directed = edge.OrderBy(key, edge.Direction.Desc if descending else edge.Direction.Asc, start)
        request = edge.ScrollRequest(
            limit=limit, offset=offset, order_by=directed, filter=_filter(*conditions), with_payload=True
        )
        with self._call("scan") as engine:
            found, _ = engine.scroll(request)
        return [to_row(point.id, point.payload, None) for point in found]

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.root).free
        if free < _FREE_BYTES:
            raise StoreFull(self.label, str(self.root), free, _FREE_BYTES)

    @contextmanager
    def _forgetting(self, ids: Sequence[str] | None) -> Iterator[None]:
        """Kept clues of what the block writes are dropped after it, also where it fails half-way."""
        try:
            yield
        finally:
            self._shared.engine.clues.forget(ids)

    @contextmanager
    def _call(self, what: str) -> Iterator[edge.EdgeShard]:
        if self._closed:
            raise StoreError(self.label, f"cannot {what}: the store is closed", "Open it again with open_memory().")
        if self._shared.pid != os.getpid():
            raise StoreError(
                self.label,
                f"cannot {what}: it was opened before this process was forked",
                "Open the memory in the process that uses it.",
            )
        with _translated(self.label, self.folder, what):
            yield self._shared.engine.engine


def _prepare(root: Path, folder: Path, label: str) -> None:
    for place in (root, folder):
        if place.exists() and not place.is_dir():
            raise ConfigError("vector_store.path", f"{place} is a file, and a store is a folder", "Name another path.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(
            label, f"the folder cannot be written ({error.strerror})", "Give it to this user, or name another path."
        ) from error
    free = shutil.disk_usage(root).free
    if free < _FREE_BYTES:
        raise StoreFull(label, str(root), free, _FREE_BYTES)


def _load(folder: Path, dimensions: int, label: str) -> edge.EdgeShard:
    place = folder / "shard"
    exists = (place / "edge_config.json").exists()
    with _translated(label, folder, "open"):
        if exists:
            shard = edge.EdgeShard.load(str(place))
        else:
            place.mkdir(exist_ok=True)
            shard = edge.EdgeShard.create(str(place), _edge_config(dimensions))
    with _translated(label, folder, "index"):
        indexed = shard.info().payload_schema
        for name, params in _indexes().items():
            if name not in indexed:
                shard.update(edge.UpdateOperation.create_field_index(name, params))
    return shard


def _edge_config(dimensions: int) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine),
        hnsw_config=edge.HnswIndexConfig(
            m=0, ef_construct=100, full_scan_threshold=full_scan_kibibytes(dimensions), payload_m=16
        ),
    )


def _indexes() -> dict[str, Any]:
    tenants = {name: edge.KeywordIndexParams(is_tenant=True) for name in SCOPE_FIELDS}
    times = {f"times.{name}": edge.IntegerIndexParams(lookup=False, range=True, enable_hnsw=False) for name in TIMES}
    return {**tenants, "terms": edge.KeywordIndexParams(enable_hnsw=False), **times}


def _filter(*conditions: Any) -> edge.Filter | None:
    given = [condition for condition in conditions if condition is not None]
    return edge.Filter(must=given) if given else None


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
