"""A store as Mem0 sees it: the methods of Mem0's ``VectorStoreBase``, by the store's own.

The engine module registers `Store` as a virtual subclass of ``VectorStoreBase``; Mem0 itself is not imported here, so
that opening a store does not cost the seconds that importing Mem0 takes. A test compares the two signature by
signature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from memstack.errors import InvalidInput, NotSupported
from memstack.filters.ast import Node, all_of
from memstack.filters.parse import parse
from memstack.filters.scoping import scope_filter, split_scope
from memstack.ids import canonical_id, new_id
from memstack.instants import iso, utcnow
from memstack.metadata import RESERVED, check_metadata, check_text
from memstack.payload import INTERNAL, Payload
from memstack.scope import SCOPE_FIELDS, Scope

if TYPE_CHECKING:
    from memstack.stores.base import Row, Store

__all__ = ["Mem0VectorStore", "OutputData"]

_DERIVED = frozenset({"text_lemmatized"})  # Mem0's copy for engines that search words; without spaCy it is the text
_LINKS = "linked_memory_ids"  # of an entity: which memories name it, without end. Nobody filters by them
_MOST_LINKS = 1_000_000


@dataclass(slots=True)
class OutputData:
    """A row as Mem0 reads it: ``id``, ``score`` in [0, 1] (None where nothing was compared), ``payload``."""

    id: str
    score: float | None
    payload: dict[str, Any]


class Mem0VectorStore:
    """Mem0's side of a store. Filters are parsed by the one parser; a filter cannot leave the scope it names."""

    def create_col(self, name: str, vector_size: int, distance: Any = "cosine") -> None:
        """Refused: memstack makes collections when it opens them."""
        raise NotSupported("a memstack store", "create_col", "Open another collection with open_memory().")

    def insert(
        self,
        vectors: Sequence[Sequence[float]],
        payloads: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Store vectors with their payloads."""
        from memstack.stores.base import Row  # noqa: PLC0415  # the two modules describe one class

        given = payloads if payloads is not None else [{} for _ in vectors]
        keys = [canonical_id(key) for key in ids] if ids is not None else [new_id() for _ in vectors]
        if not len(vectors) == len(given) == len(keys):
            raise InvalidInput(
                "payloads", f"{len(vectors)} vectors, {len(given)} payloads, {len(keys)} ids", "Pass as many of each."
            )
        self._store.upsert(
            [Row(key, _checked(item), vector) for key, item, vector in zip(keys, given, vectors, strict=True)]
        )

    def search(
        self,
        query: str,
        vectors: Sequence[float],
        top_k: int = 5,
        filters: Mapping[str, Any] | Node | None = None,
    ) -> list[OutputData]:
        """The rows nearest to a vector, best first."""
        scope, where = _split(filters)
        hits = self._store.nearest(vectors, where=where, limit=top_k)
        for hit in hits:
            self._store.check_inside(hit.row, scope)
        return [OutputData(hit.row.id, hit.score, _told(hit.row.payload)) for hit in hits]

    def search_batch(
        self,
        queries: Sequence[str],
        vectors_list: Sequence[Sequence[float]],
        top_k: int = 1,
        filters: Mapping[str, Any] | Node | None = None,
    ) -> list[list[OutputData]]:
        """`search` for several queries."""
        return [self.search(query, vector, top_k, filters) for query, vector in zip(queries, vectors_list, strict=True)]

    def keyword_search(
        self, query: str, top_k: int = 5, filters: Mapping[str, Any] | Node | None = None
    ) -> list[OutputData] | None:
        """None: what Mem0 makes of an engine's own word scores differs on each engine. The gateway ranks by words."""
        return None

    def delete(self, vector_id: str) -> None:
        """Delete a row."""
        self._store.remove([canonical_id(vector_id)])

    def update(
        self,
        vector_id: str,
        vector: Sequence[float] | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace the vector, the payload, or both; a row that is not there is left so."""
        from memstack.stores.base import Row  # noqa: PLC0415

        found = self._fetch(vector_id, vectors=vector is None)
        if found is None:
            return
        self._store.upsert(
            [
                Row(
                    found.id,
                    found.payload if payload is None else _checked(payload, found.payload.get("created_at")),
                    found.vector if vector is None else vector,
                )
            ]
        )

    def get(self, vector_id: str) -> OutputData | None:
        """A row by its id; None where there is none, also for what is no UUID."""
        found = self._fetch(vector_id)
        return None if found is None else OutputData(found.id, None, _told(found.payload))

    def list(self, filters: Mapping[str, Any] | Node | None = None, top_k: int | None = None) -> list[list[OutputData]]:
        """The newest rows, in the list of one list that Mem0 expects."""
        scope, where = _split(filters)
        rows = self._store.scan(where=where, limit=top_k)
        for row in rows:
            self._store.check_inside(row, scope)
        return [[OutputData(row.id, None, _told(row.payload)) for row in rows]]

    def list_cols(self) -> Sequence[str]:
        """The names of the collections: this one."""
        return [self._store.collection]

    def delete_col(self) -> None:
        """Delete every row."""
        self._store.clear()

    def col_info(self) -> dict[str, Any]:
        """Figures about the collection."""
        return self._store.stats()

    def reset(self) -> None:
        """Delete every row."""
        self._store.clear()

    @property
    def _store(self) -> Store:
        return cast("Store", self)

    def _fetch(self, vector_id: str, *, vectors: bool = False) -> Row | None:
        try:
            key = canonical_id(vector_id)
        except InvalidInput:
            return None
        rows = self._store.fetch([key], vectors=vectors)
        return rows[0] if rows else None


def _split(filters: Mapping[str, Any] | Node | None) -> tuple[Scope, Node]:
    """The scope that a filter names, and the whole of the filter."""
    scope, rest = split_scope(parse(filters))
    return scope, all_of(scope_filter(scope), rest)


def _checked(payload: Mapping[str, Any], created_at: object = None) -> Payload:
    """A payload that can be stored on every engine; the metadata in it follows the rules for metadata.

    Args:
        payload: as Mem0 gives it. That of an entity does not tell when it was stored.
        created_at: when that was, where it is known; None is now.
    """
    own = {key: value for key, value in payload.items() if key in RESERVED and key not in _DERIVED}
    check_text("text", own.get("data", ""))
    Scope(**{name: own.get(name) for name in SCOPE_FIELDS})  # says what cannot be an id
    metadata = {key: value for key, value in payload.items() if key not in RESERVED}
    if own.get("created_at") is None:
        own["created_at"] = iso(utcnow()) if created_at is None else created_at
    if "entity_type" in metadata and _LINKS in metadata:
        own[INTERNAL] = {
            **own.get(INTERNAL, {}),
            **check_metadata({_LINKS: metadata.pop(_LINKS)}, max_values=_MOST_LINKS, max_text=math.inf),
        }
    return {**check_metadata(metadata), **own}


def _told(payload: Payload) -> Payload:
    """A payload as Mem0 gave it."""
    internal = payload.get(INTERNAL)
    if not isinstance(internal, dict) or _LINKS not in internal:
        return dict(payload)
    rest = {key: value for key, value in internal.items() if key != _LINKS}
    told = {key: value for key, value in payload.items() if key != INTERNAL}
    return {**told, _LINKS: internal[_LINKS], **({INTERNAL: rest} if rest else {})}
