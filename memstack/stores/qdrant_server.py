"""Qdrant on a server or cluster, and the client's own ``:memory:`` mode for tests.

The same filters and listings as the embedded engine's; a point has all of its row. A collection is indexed by tenant
when it is made.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Final, TypeVar

import grpc
import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from memstack import metadata as codec
from memstack.batching import batched
from memstack.config import QdrantInMemory, QdrantServer
from memstack.config.urls import mask
from memstack.errors import MemstackError, StoreError
from memstack.filters.ast import WORD
from memstack.payload import INSTANTS
from memstack.scope import SCOPE_FIELDS
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored
from memstack.stores.foreign import not_ours, payload_of_row
from memstack.stores.index import eq_term, index_of, number_key
from memstack.stores.qdrant_common import (
    EXACT_UP_TO,
    NOTES,
    PUSHDOWN,
    QdrantStore,
    full_scan_kibibytes,
    is_exact,
)
from memstack.stores.remote import retrying

__all__ = ["QdrantMemoryStore", "QdrantServerStore"]

T = TypeVar("T")
_MANIFESTS: Final = "memstack_manifests"  # one point for each collection: what filled it
_PAYLOAD: Final = ["data", "body"]  # all that a row is; the rest of a point is index
_BATCH: Final = 500  # points in one request: well below the server's limit of 32 MiB
_UNAUTHORISED: Final = (401, 403)
_REFUSED: Final = (UnexpectedResponse, grpc.RpcError, ValueError)  # by REST, by gRPC, in memory


class _Words:
    """`Vocabulary` in qdrant-client's models."""

    def match(self, key: str, values: Sequence[str]) -> Any:
        match = models.MatchValue(value=values[0]) if len(values) == 1 else models.MatchAny(any=list(values))
        return models.FieldCondition(key=key, match=match)

    def terms(self, terms: Sequence[str]) -> Any:
        return self.match("terms", terms)

    def words(self, words: Sequence[str]) -> Any:
        return self.terms([eq_term(WORD, word) for word in words])

    def between(self, key: str, **bounds: float) -> Any:
        return models.FieldCondition(key=key, range=models.Range(**bounds))

    def equals(self, key: str, number: int) -> Any:
        return models.FieldCondition(key=key, match=models.MatchValue(value=number))

    def ids(self, ids: Sequence[str]) -> Any:
        return models.HasIdCondition(has_id=list(ids))

    def all(self, conditions: Sequence[Any]) -> Any:
        return models.Filter(must=list(conditions))

    def any(self, conditions: Sequence[Any]) -> Any:
        return models.Filter(should=list(conditions))

    def none(self, condition: Any) -> Any:
        return models.Filter(must_not=[condition])


class QdrantServerStore(QdrantStore):
    """A collection on a Qdrant server."""

    config_model: ClassVar[type[QdrantServer | QdrantInMemory]] = QdrantServer
    words = _Words()
    capabilities = Capabilities(pushdown=PUSHDOWN, shared_by_processes=True, exact_up_to=EXACT_UP_TO, notes=NOTES)

    def __init__(
        self,
        client: QdrantClient,
        label: str,
        collection: str,
        dimensions: int,
        *,
        on_close: Callable[[], object] | None = None,
        lock: threading.RLock | None = None,
        creation: dict[str, int] | None = None,
        on_disk: bool = False,
    ) -> None:
        self.client = client
        self.label = label
        self.collection = collection
        self.dimensions = dimensions
        self._on_close = on_close
        self._lock = lock
        self._creation = creation or {}
        self._on_disk = on_disk
        self._local = lock is not None
        self._closed = False
        self._prepare()

    @classmethod
    def open(cls, config: Any, *, dimensions: int) -> QdrantServerStore:
        """Connect to the server that a config section names, and make the collection when it is missing.

        Raises:
            StoreError: the server cannot be reached, refuses the key, or has a collection of this name that memstack
                did not make.
        """
        key = config.api_key.get_secret_value() if config.api_key is not None else None
        place = {"url": config.url} if config.url is not None else {"host": config.host, "port": config.port}
        https = {} if config.https is None else {"https": config.https}
        # What is said to this machine goes through no proxy, whatever the environment has for the rest of the world.
        direct: dict[str, Any] = {"trust_env": False, "grpc_options": {"grpc.enable_http_proxy": 0}}
        client = QdrantClient(
            **place,
            **https,
            **(direct if config.is_here else {}),
            grpc_port=config.grpc_port,
            prefer_grpc=config.prefer_grpc,
            api_key=key,
            timeout=config.timeout,
            check_compatibility=False,
        )
        names = ("shard_number", "replication_factor", "write_consistency_factor")
        creation = {name: value for name in names if (value := getattr(config, name)) is not None}
        at = mask(config.url) if config.url is not None else f"{config.host}:{config.port}"
        try:
            return cls(
                client,
                f"qdrant (server) at {at}",
                config.collection,
                dimensions,
                on_close=client.close,
                creation=creation,
                on_disk=config.on_disk,
            )
        except BaseException:
            client.close()
            raise

    # -- rows ------------------------------------------------------------------------------------

    def upsert(self, rows: Sequence[Row]) -> None:
        points = [models.PointStruct(id=row.id, vector=self._checked_vector(row), payload=_point(row)) for row in rows]
        for some in batched(points, _BATCH):
            self._call("write", lambda some=some: self.client.upsert(self.collection, some, wait=True))  # type: ignore[misc]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        wanted = list(dict.fromkeys(ids))
        rows: list[Row] = []
        for some in batched(wanted, _BATCH):
            found = self._call(
                "read",
                lambda some=some: self.client.retrieve(  # type: ignore[misc]
                    self.collection, some, with_payload=_PAYLOAD, with_vectors=vectors
                ),
            )
            rows += [_row(point.id, point.payload, point.vector) for point in found]
        return rows

    def remove(self, ids: Sequence[str]) -> None:
        for some in batched(ids, _BATCH):  # none at all is an error to the client
            selector = models.PointIdsList(points=list[Any](some))
            self._call(
                "delete",
                lambda selector=selector: self.client.delete(self.collection, selector, wait=True),  # type: ignore[misc]
            )

    def native_nearest(self, vector: Sequence[float], condition: Any, limit: int) -> list[Scored]:
        found = self._nearest(vector, condition, limit, _PAYLOAD)
        return [Scored(_row(point.id, point.payload, None), point.score) for point in found]

    def native_leads(self, vector: Sequence[float], condition: Any, limit: int) -> list[Lead]:
        found = self._nearest(vector, condition, limit, ["clue"])
        return self.clued((str(point.id), point.score, (point.payload or {}).get("clue")) for point in found)

    def _nearest(
        self, vector: Sequence[float], condition: Any, limit: int, payload: list[str]
    ) -> list[models.ScoredPoint]:
        always = self.capabilities.exact_up_to is None  # in memory: there it is not to be asked for
        found = self._call(
            "search",
            lambda: self.client.query_points(
                self.collection,
                list(vector),
                query_filter=_filter(condition),
                search_params=None if always else models.SearchParams(exact=is_exact(limit)),
                limit=limit,
                with_payload=payload,
            ),
        )
        return found.points

    def native_count(self, condition: Any) -> int:
        answer = self._call(
            "count", lambda: self.client.count(self.collection, count_filter=_filter(condition), exact=True)
        )
        return answer.count

    def clear(self) -> None:
        self._call(
            "clear",
            lambda: self.client.delete(self.collection, models.FilterSelector(filter=models.Filter()), wait=True),
        )

    # -- the collection --------------------------------------------------------------------------

    def read_fingerprint(self) -> Fingerprint | None:
        def read() -> list[Any]:
            if not self.client.collection_exists(_MANIFESTS):
                return []
            return self.client.retrieve(_MANIFESTS, [self._manifest_id], with_payload=True)

        for point in self._call("read", read):
            stored = point.payload or {}
            return Fingerprint(stored["provider"], stored["model"], stored["dimensions"])
        return None

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        payload = {
            "collection": self.collection,
            "provider": fingerprint.provider,
            "model": fingerprint.model,
            "dimensions": fingerprint.dimensions,
        }
        point = models.PointStruct(id=self._manifest_id, vector=[1.0], payload=payload)

        def write() -> None:
            if not self.client.collection_exists(_MANIFESTS):
                self._make(_MANIFESTS, vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
            self.client.upsert(_MANIFESTS, [point], wait=True)

        self._call("write", write)

    def scrub(self) -> str:
        return (
            f"{self.label}: the server keeps deleted bytes until its optimizer rewrites their segments. "
            "For a rewrite at once, migrate the collection into a new one (`memstack migrate`) and delete the old one."
        )

    def has_sibling(self, suffix: str) -> bool:
        return self._call("read", lambda: self.client.collection_exists(f"{self.collection}_{suffix}"))

    def sibling(self, suffix: str) -> QdrantServerStore:
        sibling = type(self)(
            self.client,
            self.label,
            f"{self.collection}_{suffix}",
            self.dimensions,
            lock=self._lock,
            creation=self._creation,
            on_disk=self._on_disk,
        )
        if sibling.read_fingerprint() is None and (mine := self.read_fingerprint()) is not None:
            sibling.write_fingerprint(mine)
        return sibling

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._on_close is not None:
                self._on_close()

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _manifest_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"memstack:{self.collection}"))

    def _prepare(self) -> None:
        exists = self._call("open", lambda: self.client.collection_exists(self.collection))
        if not exists:
            self._call("create the collection", self._create)
        elif self.read_fingerprint() is None and not self._is_blank():
            raise not_ours(self.label, f"the collection {self.collection!r}")
        if not self._local:
            for name, schema in _indexes().items():
                self._call("index", lambda name=name, schema=schema: self._index(name, schema))  # type: ignore[misc]

    def _is_blank(self) -> bool:
        """Whether it is as good as a new one: empty, and made for one vector of our length, by the cosine."""
        params = self._call("open", lambda: self.client.get_collection(self.collection)).config.params
        vectors = params.vectors
        return (
            isinstance(vectors, models.VectorParams)
            and (vectors.size, vectors.distance) == (self.dimensions, models.Distance.COSINE)
            and not params.sparse_vectors
            and self.native_count(None) == 0
        )

    def _create(self) -> None:
        self._make(
            self.collection,
            vectors_config=models.VectorParams(
                size=self.dimensions, distance=models.Distance.COSINE, on_disk=self._on_disk or None
            ),
            hnsw_config=models.HnswConfigDiff(
                m=0, payload_m=16, full_scan_threshold=full_scan_kibibytes(self.dimensions)
            ),
            **self._creation,
        )

    def _make(self, name: str, **how: Any) -> None:
        """Make a collection, unless another process does so in between."""
        try:
            self.client.create_collection(name, **how)
        except _REFUSED:
            if not self.client.collection_exists(name):
                raise

    def _index(self, name: str, schema: Any) -> None:
        self.client.create_payload_index(self.collection, name, field_schema=schema, wait=True)

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
            direction = models.Direction.DESC if descending else models.Direction.ASC
            directed = models.OrderBy(key=key, direction=direction, start_from=start)
        found, _ = self._call(
            "scan",
            lambda: self.client.scroll(
                self.collection,
                scroll_filter=_filter(*conditions),
                limit=limit,
                offset=offset,
                order_by=directed,
                with_payload=_PAYLOAD,
                with_vectors=vectors,
            ),
        )
        return [_row(point.id, point.payload, point.vector) for point in found]

    def _call(self, what: str, call: Callable[[], T]) -> T:
        if self._closed:
            raise StoreError(self.label, f"cannot {what}: the store is closed", "Open it again with open_memory().")

        def translated() -> T:
            try:
                with self._lock or nullcontext():
                    return call()
            except MemstackError:
                raise
            except Exception as error:
                raise _ours(error, self.label, what) from error

        return retrying(translated)


class QdrantMemoryStore(QdrantServerStore):
    """qdrant-client's own engine in Python, without a server: nothing outlives it.

    It is not safe under threads by itself, so calls take turns.
    """

    config_model = QdrantInMemory
    capabilities = Capabilities(
        pushdown=PUSHDOWN,
        shared_by_processes=False,
        persistent=False,
        notes=("For tests: it compares with every row there is.",),
    )

    @classmethod
    def open(cls, config: Any, *, dimensions: int) -> QdrantMemoryStore:
        client = QdrantClient(":memory:")
        return cls(
            client,
            "qdrant (memory)",
            config.collection,
            dimensions,
            on_close=client.close,
            lock=threading.RLock(),
        )

    def remove(self, ids: Sequence[str]) -> None:
        """Older releases of the client fail at an id that is not there."""
        with self._turn:
            wanted = list[Any](ids)
            found = self._call(
                "read",
                lambda: self.client.retrieve(self.collection, wanted, with_payload=False, with_vectors=False),
            )
            super().remove([str(point.id) for point in found])
            self._compact()

    def clear(self) -> None:
        with self._turn:
            super().clear()
            self._compact()

    def _compact(self) -> None:
        """It keeps what was deleted, and looks at it in every search: an empty collection is made anew."""
        if self.native_count(None) == 0:
            self._call("delete", lambda: self.client.delete_collection(self.collection))
            self._call("create the collection", self._create)

    @property
    def _turn(self) -> threading.RLock:
        """Held by whoever does several things at once."""
        if self._lock is None:
            raise RuntimeError("this engine is not safe under threads")
        return self._lock

    def scrub(self) -> str:
        return ""  # nothing is in a file


def _point(row: Row) -> dict[str, Any]:
    """A row as the point keeps it: the text, the owner, everything else as one text, and the index beside it."""
    payload = row.payload
    index = index_of(payload, row.fingerprint)
    return {
        **{name: payload[name] for name in SCOPE_FIELDS if payload.get(name)},
        "data": payload.get("data", ""),
        "body": codec.encode({key: value for key, value in payload.items() if key != "data"}),
        **({"numbers": {key: number_key(value) for key, value in index.numbers.items()}} if index.numbers else {}),
        **({"instants": index.instants} if index.instants else {}),
        "times": index.times,
        "clue": index.clue,
        "terms": index.terms,
    }


def _row(point_id: object, stored: Mapping[str, Any] | None, vector: object) -> Row:
    """A point as a row."""
    content = stored or {}
    if "body" not in content or "data" not in content:
        raise StoreError("qdrant", f"the point {point_id} has lost its payload", "Restore the store from a backup.")
    return Row(
        str(point_id),
        payload_of_row("qdrant", point_id, content["body"], content["data"]),
        vector if isinstance(vector, list) else None,
    )


def _indexes() -> dict[str, Any]:
    tenants = {
        name: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True) for name in SCOPE_FIELDS
    }
    terms = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
    times = {
        f"times.{name}": models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True)
        for name in INSTANTS
    }
    return {**tenants, "terms": terms, **times}


def _filter(*conditions: Any) -> models.Filter | None:
    given = [condition for condition in conditions if condition is not None]
    return models.Filter(must=given) if given else None


def _ours(error: Exception, label: str, what: str) -> StoreError:
    """The client's exceptions as ours. Messages of the server are kept short: they can quote what was sent."""
    if isinstance(error, UnexpectedResponse):
        status = error.status_code or 0
        if status in _UNAUTHORISED:
            return StoreError(
                label, f"cannot {what}: the server refuses the key (HTTP {status})", "Set `vector_store.api_key`."
            )
        again = status in (408, 429) or status >= 500  # noqa: PLR2004
        return StoreError(label, f"cannot {what}: HTTP {status} {error.reason_phrase}", retryable=again)
    if isinstance(error, (ResponseHandlingException, httpx.HTTPError, ConnectionError)):
        return StoreError(
            label,
            f"cannot {what}: the server cannot be reached",
            "Is it running there? See `vector_store.url`.",
            retryable=True,
        )
    if isinstance(error, grpc.RpcError):
        code = getattr(error, "code", lambda: None)()
        name = getattr(code, "name", "UNKNOWN")
        if name in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return StoreError(label, f"cannot {what}: the server refuses the key", "Set `vector_store.api_key`.")
        again = name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
        return StoreError(label, f"cannot {what}: gRPC {name}", retryable=again)
    return StoreError(label, f"cannot {what}: {type(error).__name__}")
