"""The contract of a store: what an engine adapter must do, and what it gets for it.

An adapter writes rows, fetches them by id, and answers *native* conditions: the nearest vectors, a sorted scan, a
count. `Store` makes the rest of it, once for all engines: it splits every filter into what the engine answers and a
residual evaluated here, fetches candidates in growing rounds until the answer is complete, and breaks ties, so that
every engine gives the same answer.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

from memstack import payload as payloads
from memstack.batching import batched
from memstack.clues import Clue, read_clue, write_clue
from memstack.errors import EmbedderMismatch, MemstackError, NotSupported, StoreError
from memstack.filters.ast import ALL, FINGERPRINT, In, Node, all_of
from memstack.filters.evaluate import evaluate
from memstack.filters.visit import FilterCompiler, Plan
from memstack.instants import EPOCH, to_micros
from memstack.payload import Payload
from memstack.scope import Scope
from memstack.stores.foreign import odd_row
from memstack.stores.index import own_values
from memstack.stores.mem0 import Mem0VectorStore
from memstack.stores.translated import failed, translate

__all__ = [
    "ENTITIES",
    "Capabilities",
    "Fingerprint",
    "Lead",
    "Row",
    "Scored",
    "SortField",
    "Store",
    "holds",
    "sort_value",
    "with_payload",
]

_log: Final = logging.getLogger(__name__)
ENTITIES: Final = "entities"  # what the sibling is called that has Mem0's entities
_FIRST_ROUND: Final = 64
_GROWTH: Final = 4
_LARGEST_ROUND: Final = 4096
_TIE: Final = 1e-6
_LATEST: Final = ":latest"

SortField = Literal["created_at", "updated_at", "occurred_at"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a store.

    Attributes:
        id: a UUID in its canonical form.
        payload: see `memstack.payload`.
        vector: the embedding; None where it was not asked for.
        fingerprint: what `payload.fingerprint_of` says of the payload, where it is known; None is to be computed.
    """

    id: str
    payload: Payload
    vector: Sequence[float] | None = None
    fingerprint: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Scored:
    """A row with its cosine similarity to the query, in [-1, 1]."""

    row: Row
    similarity: float

    @property
    def score(self) -> float:
        """The similarity with opposite directions counted as 0: in [0, 1], as Mem0 documents for cosine."""
        return min(1.0, max(0.0, self.similarity))


class Lead(NamedTuple):
    """A row in short: what ranking looks at, and the cosine of its vector and the query's, in [-1, 1]."""

    clue: Clue
    similarity: float


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What filled a collection: vectors of different embedders cannot be compared.

    Attributes:
        provider: name of the embedding provider.
        model: name of its model.
        dimensions: length of its vectors.
    """

    provider: str
    model: str
    dimensions: int

    def is_of(self, other: Fingerprint) -> bool:
        """Whether both are of one embedder: a model without a tag is the one with ``:latest``, as Ollama has it."""
        return replace(self, model=self.model.removesuffix(_LATEST)) == replace(
            other, model=other.model.removesuffix(_LATEST)
        )

    def __str__(self) -> str:
        return f"{self.provider}/{self.model} ({self.dimensions} dimensions)"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine does. The docs table, `explain` and the contract tests are derived from this declaration.

    Attributes:
        pushdown: the filter nodes that the engine answers itself (by class name), exactly unless noted.
        shared_by_processes: whether several processes may have it open.
        persistent: whether what it keeps outlives the gateway that opened it.
        one_writer: whether `Store.exclusive` reaches everybody who writes to the collection, also on another machine.
        exact_up_to: a search within a scope of up to this many memories compares every one of them; beyond it the
            engine may answer approximately. None is always exact.
        notes: what a user should know, in words.
    """

    pushdown: frozenset[str]
    shared_by_processes: bool
    persistent: bool = True
    one_writer: bool = False
    exact_up_to: int | None = None
    notes: tuple[str, ...] = ()


class Store(Mem0VectorStore, ABC):
    """An engine adapter. Safe to be called from several threads. `docs/plugins.md` writes one.

    What a third party's adapter raises that is no `MemstackError` is made a `StoreError` here, with its cause.

    Attributes:
        config_model: the model of its section in the configuration, a `memstack.config.StoreConfig`.
        capabilities: what the engine does.
        one_search_at_a_time: whether threads that search at once get less done than one: where the engine answers in a
            fraction of a millisecond, they spend more on passing the interpreter lock around.
        label: how errors name this store: engine, mode and place, never a secret.
        collection: name of the collection.
        dimensions: length of its vectors.
    """

    config_model: ClassVar[type[Any]]
    capabilities: ClassVar[Capabilities]
    one_search_at_a_time: ClassVar[bool] = False
    label: str
    collection: str
    dimensions: int
    _planned: tuple[Node, Plan[Any]] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "memstack":  # ours translate what their engines raise themselves
            translate(cls, Store)

    # -- what an adapter writes ------------------------------------------------------------------

    @classmethod
    def open(cls, config: Any, *, dimensions: int) -> Store:
        """Open the collection that a section names, making it when missing.

        Args:
            config: the section, a `config_model`.
            dimensions: length of its vectors. One that has others is refused, and is left as it is.

        Raises:
            StoreLocked: another process has it, and it is not shared.
            StoreError: it cannot be opened, or has vectors of other dimensions.
        """
        raise NotSupported(f"the store {cls.__name__}", "being opened", "Its class method `open` is to be written.")

    @property
    @abstractmethod
    def compiler(self) -> FilterCompiler[Any]:
        """The compiler from filters to the engine's conditions."""

    @abstractmethod
    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows, replacing those with the same ids; all of them, or none and an error.

        Raises:
            StoreError: the engine refused or failed.
        """

    @abstractmethod
    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        """The rows with these ids, in any order, each once; ids that are not there are left out.

        Payloads are as they were written, types included: `memstack.metadata.encode` and `decode` see to that.
        """

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> None:
        """Delete the rows with these ids; those that are not there are no error."""

    @abstractmethod
    def native_nearest(self, vector: Sequence[float], condition: Any, limit: int) -> list[Scored]:
        """The `limit` rows nearest to a vector, best first, among those where a native condition holds.

        Nearness is the cosine, whatever the lengths of the vectors; a zero vector's is 0 to all. Two rows with the same
        vector have the same, to 1e-6, whatever else is among the candidates. Fewer than `limit`: there are no more.
        """

    @abstractmethod
    def native_scan(
        self, condition: Any, field: SortField, *, descending: bool, after: tuple[datetime, str] | None, limit: int
    ) -> list[Row]:
        """`limit` rows where a native condition holds, sorted by (field, id).

        A row is sorted by `sort_value`, to the microsecond. Ties in the field are sorted by id, ascending in both
        directions. `after` is the sort key of the last row before them. Fewer than `limit`: there are no more.
        """

    @abstractmethod
    def native_count(self, condition: Any) -> int:
        """How many rows there are where a native condition holds."""

    def native_counts(self, conditions: Sequence[Any]) -> list[int]:
        """How many rows there are where each of some native conditions holds.

        A search asks for dozens of these. An engine that tells them in one answer should.
        """
        return [self.native_count(condition) for condition in conditions]

    @abstractmethod
    def read_fingerprint(self) -> Fingerprint | None:
        """What filled the collection; None where nothing did yet."""

    @abstractmethod
    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        """Remember what fills the collection."""

    @abstractmethod
    def sibling(self, suffix: str) -> Store:
        """The collection ``<collection>_<suffix>`` of the same engine, made when missing (Mem0's entities).

        It is a handle of its own: closing it closes neither this store nor what another call returned.
        """

    def has_sibling(self, suffix: str) -> bool:
        """Whether there is such a sibling already; also True where that is not known without making it."""
        return True

    @abstractmethod
    def clear(self) -> None:
        """Delete every row; the collection stays."""

    @abstractmethod
    def close(self) -> None:
        """Release what it holds: locks, clients, pools. A second call does nothing."""

    def native_pages(
        self, condition: Any, field: SortField, *, descending: bool, after: tuple[datetime, str] | None, size: int
    ) -> Iterator[list[Row]]:
        """All that `native_scan` would tell, page by page: the first of `size` rows, then growing up to 4096.

        An engine that sorts all rows for one page should tell them all for that.
        """
        while True:
            found = self.native_scan(condition, field, descending=descending, after=after, limit=size)
            yield found
            if len(found) < size:
                return
            after = (sort_value(found[-1], field), found[-1].id)
            size = min(size * _GROWTH, _LARGEST_ROUND)

    def native_batches(self, condition: Any, *, size: int, vectors: bool) -> Iterator[list[Row]]:
        """All rows where a native condition holds, in any order, `size` at a time; see `batches`.

        An engine that lists them in some order faster than in that of an instant should.
        """
        after = None
        while True:
            found = self.native_scan(condition, "created_at", descending=False, after=after, limit=size)
            yield self.fetch([row.id for row in found], vectors=True) if vectors else found
            if len(found) < size:
                return
            after = (sort_value(found[-1], "created_at"), found[-1].id)

    def native_leads(self, vector: Sequence[float], condition: Any, limit: int) -> list[Lead]:
        """The same as `native_nearest`, told in short. An engine that can leave out the payloads should.

        Ranking asks for hundreds of these in a search, and for the payloads of the few that are shown.
        """
        found = self.native_nearest(vector, condition, limit)
        return [_lead(hit) for hit in found]

    def stats(self) -> dict[str, Any]:
        """Figures for a person: engine, place, how many rows."""
        return {"store": self.label, "collection": self.collection, "rows": self.count()}

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep others from writing to the collection until a block ends: it reads what is there, and changes that.

        Gateways with the same history take turns already: its write transaction stands around this. An engine that is
        shared more widely, and has locks, keeps out those with another history, too, and declares `one_writer`. Here it
        keeps out nobody.

        Raises:
            StoreError: the lock is not to be had.
        """
        return nullcontext()

    def tidy(self) -> None:  # optional: nothing to do is a fine answer
        """Let the engine reorganise what was written in bulk."""

    def check_room(self, rows: Sequence[Row] = ()) -> None:
        """See that there is room for a write, of these rows: what engines do on a full disk is not what they say.

        Raises:
            StoreFull: there is none.
        """
        return

    def check_scrub(self) -> None:
        """See that `scrub` can be done: asked before anything is erased.

        Raises:
            StoreFull: there is no room to write it anew.
        """
        return

    def scrub(self) -> str:
        """Rewrite what the engine keeps of deleted rows, so that none of their bytes is left.

        Returns:
            What the operator is to do instead, where that cannot be done from here; empty is nothing.
        """
        return f"{self.label}: this store declares no way to rewrite what the engine keeps of deleted rows."

    def files(self) -> Sequence[Path]:
        """The files that hold the rows, as far as they are on this machine."""
        return ()

    # -- what it gets ----------------------------------------------------------------------------

    def plan(self, where: Node) -> Plan[Any]:
        """How a filter is answered here. The last one is kept: a search asks twice."""
        kept = self._planned
        if kept is None or kept[0] is not where:
            try:
                kept = self._planned = (where, self.compiler.plan(where))
            except MemstackError:
                raise
            except Exception as error:
                raise failed(self, "compiler", error) from error
        return kept[1]

    def nearest(self, vector: Sequence[float], *, where: Node = ALL, limit: int) -> list[Scored]:
        """The rows nearest to a vector for which a filter holds.

        Args:
            vector: of `dimensions` floats.
            where: the filter.
            limit: how many at most.

        Returns:
            Best score first; ties (closer than 1e-6) by ``created_at``, then id.
        """
        if limit <= 0:
            return []
        plan = self.plan(where)
        size = limit + 1 if plan.residual is None else max(limit + 1, _FIRST_ROUND)
        while True:
            found = self.native_nearest(vector, plan.native, size)
            kept = [hit for hit in found if plan.residual is None or holds(plan.residual, hit.row)]
            complete = len(found) < size
            if complete or (len(kept) > limit and kept[limit - 1].score - kept[-1].score > _TIE):
                kept.sort(key=_rank)
                return kept[:limit]
            size *= _GROWTH

    def leads(self, vector: Sequence[float], *, where: Node = ALL, limit: int) -> list[Lead]:
        """What ranking looks at of the rows nearest to a vector for which a filter holds.

        Args:
            vector: of `dimensions` floats.
            where: the filter.
            limit: how many at most; more where some tie with the last (closer than 1e-6).

        Returns:
            Best similarity first. Fewer than `limit`: there are no more.
        """
        plan = self.plan(where)
        if plan.residual is not None:
            return [_lead(hit) for hit in self.nearest(vector, where=where, limit=limit)]
        size = limit + 1
        while True:
            leads = self.native_leads(vector, plan.native, size)
            if len(leads) < size or leads[limit - 1].similarity - leads[-1].similarity > _TIE:
                return leads
            size *= _GROWTH

    def clued(self, found: Iterable[tuple[str, float, str | None]]) -> list[Lead]:
        """Leads from ids, similarities and clues.

        A clue is None where the row was written before there were clues, or by somebody else: it is made now.
        """
        found = list(found)
        missing = [row_id for row_id, _, text in found if text is None]
        made = {row.id: write_clue(row.payload) for row in self.fetch(missing)} if missing else {}
        texts = ((row_id, similarity, text or made.get(row_id)) for row_id, similarity, text in found)
        # One that is missing still was deleted in between.
        return [Lead(self._clue(row_id, text), similarity) for row_id, similarity, text in texts if text is not None]

    def _clue(self, row_id: str, text: str) -> Clue:
        try:
            return read_clue(row_id, text)
        except ValueError:
            raise odd_row(self.label, row_id) from None

    def scan(
        self,
        *,
        where: Node = ALL,
        field: SortField = "created_at",
        descending: bool = True,
        after: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Rows for which a filter holds, sorted by (field, id); see `native_scan`. `limit` None is all."""
        if limit is not None and limit <= _LARGEST_ROUND:
            plan = self.plan(where)
            if plan.residual is None:
                return self.native_scan(plan.native, field, descending=descending, after=after, limit=limit)
        rows = self.iter_scan(where=where, field=field, descending=descending, after=after, size=limit)
        return list(islice(rows, limit))

    def iter_scan(
        self,
        *,
        where: Node = ALL,
        field: SortField = "created_at",
        descending: bool = True,
        after: tuple[datetime, str] | None = None,
        size: int | None = None,
    ) -> Iterator[Row]:
        """The same, fetched in rounds: the first of `size` rows, then growing up to 4096."""
        plan = self.plan(where)
        size = max(1, min(size or 1024, _LARGEST_ROUND)) if plan.residual is None else max(size or 0, _FIRST_ROUND)
        for found in self.native_pages(plan.native, field, descending=descending, after=after, size=size):
            yield from (row for row in found if plan.residual is None or holds(plan.residual, row))

    def pages(self, *, where: Node = ALL, descending: bool = True, size: int) -> Iterator[list[Row]]:
        """All rows for which a filter holds, by (created_at, id), `size` at a time; they may be deleted meanwhile."""
        return batched(self.iter_scan(where=where, descending=descending, size=size), size)

    def batches(self, *, where: Node = ALL, size: int, vectors: bool = False) -> Iterator[list[Row]]:
        """All rows for which a filter holds, in any order, up to `size` at a time; with their vectors, where asked.

        Each batch is read when its turn comes, and is as the rows are then; those before may be deleted meanwhile.
        """
        plan = self.plan(where)
        residual = plan.residual
        if residual is None:
            yield from self.native_batches(plan.native, size=size, vectors=vectors)
            return
        for found in self.native_batches(plan.native, size=size, vectors=False):
            kept = [row for row in found if holds(residual, row)]
            if vectors and kept:  # of those that pass alone; they may be others by now
                kept = [row for row in self.fetch([row.id for row in kept], vectors=True) if holds(residual, row)]
            yield kept

    def equal_to(self, fingerprints: Sequence[str]) -> list[Row]:
        """The rows that have one of these fingerprints (`payload.fingerprint_of`), in any order."""
        where = In(FINGERPRINT, tuple(fingerprints))
        return [row for some in self.batches(where=where, size=_LARGEST_ROUND) for row in some]

    def count(self, where: Node = ALL) -> int:
        """How many rows a filter holds for."""
        plan = self.plan(where)
        if plan.residual is None:
            return self.native_count(plan.native)
        return sum(map(len, self.batches(where=where, size=_LARGEST_ROUND)))

    def counts(self, where: Node, field: str, groups: Sequence[Sequence[str]]) -> list[int]:
        """How many rows a filter holds for that have one of some values in a field of the library's own.

        Args:
            where: the filter.
            field: one of `memstack.filters.OWN`.
            groups: values; each of these is counted for itself.
        """
        asked = [all_of(where, In(field, tuple(values))) for values in groups]
        plans = [self.plan(node) for node in asked]
        if any(plan.residual is not None for plan in plans):
            return [self.count(node) for node in asked]
        return self.native_counts([plan.native for plan in plans])

    def check_inside(self, row: Row, scope: Scope) -> None:
        """Check once more that a row which the engine returned lies inside a scope; an empty one has all inside.

        Raises:
            StoreError: it is somebody else's.
        """
        if not scope.covers(payloads.scope_of(row.payload)):
            raise StoreError(self.label, "the engine returned a row outside of the scope", "Report this: it is a bug.")

    def bind(self, fingerprint: Fingerprint) -> None:
        """Tie the collection to an embedder: remembered for a new collection, compared for another.

        Raises:
            EmbedderMismatch: another embedder filled it.
            StoreError: it has rows, and nobody knows whose vectors they are.
        """
        stored = self.read_fingerprint()
        if stored is None and self.native_count(None) > 0:
            # Somebody may have bound it and written since: the note comes before the first row, so it is there by now.
            stored = self.read_fingerprint()
            if stored is None:
                raise StoreError(
                    self.label,
                    "it has rows, and the note of the embedder that filled it is lost",
                    "Restore the store from a backup, or choose another collection with `vector_store.collection`.",
                )
        if stored is None:
            self.write_fingerprint(fingerprint)
        elif not stored.is_of(fingerprint):
            raise EmbedderMismatch(self.label, str(stored), str(fingerprint))


def sort_value(row: Row, field: SortField) -> datetime:
    """The instant that a row is sorted by."""
    return payloads.instant_of(row.payload, field) or EPOCH


def _lead(hit: Scored) -> Lead:
    return Lead(read_clue(hit.row.id, write_clue(hit.row.payload)), hit.similarity)


def holds(where: Node, row: Row) -> bool:
    """Whether a filter holds for a row, by the reference."""
    return evaluate(where, payloads.fields(row.id, row.payload), partial(own_values, row.payload))


def _rank(hit: Scored) -> tuple[float, int, str]:
    return (-round(hit.score, 6), to_micros(sort_value(hit.row, "created_at")), hit.row.id)


def with_payload(row: Row, payload: Mapping[str, Any]) -> Row:
    """The row with another payload."""
    return Row(row.id, dict(payload), row.vector)
