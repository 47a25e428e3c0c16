"""A Chroma collection, wherever the engine runs: `chroma_embedded` and `chroma_server` open one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from chromadb.errors import ChromaError, NotFoundError

from memstack.batching import batched
from memstack.errors import StoreError
from memstack.filters.visit import FilterCompiler
from memstack.instants import to_micros
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored, SortField, Store
from memstack.stores.chroma_failures import translated
from memstack.stores.chroma_filters import CONDITIONS, MANY, Both, ChromaCompiler, where_of
from memstack.stores.chroma_rows import (
    EXACT_UP_TO,
    KEPT,
    Listing,
    Told,
    compared,
    hash_of,
    nearest_first,
    row_of,
    rows_of,
    to_chroma,
    told_of,
)
from memstack.stores.foreign import not_ours
from memstack.stores.gate import Gate
from memstack.stores.kept import Kept
from memstack.stores.remote import retrying

__all__ = ["ChromaStore"]

T = TypeVar("T")
_MANIFEST: Final = "memstack"
_BATCH: Final = 5_000  # its own limit is 5 461
# So many writes Chroma keeps in its queue before its vector index is written to the disk, and each write reads all that
# are there anew: of its own 1,000, that takes 35 ms on an average.
_SYNC_AFTER: Final = 100
_LONG: Final = 1_000  # rows of a listing that are read at once even for a short page
_FEW: Final = 300  # rows whose vectors are read at once
_SAMPLE: Final = 300
_LISTED: Final = 20_000  # ids that are kept for the count that follows a search
_NAMED: Final = 1_000  # ids that Chroma is asked for beside a condition: of more, it is faster told without them


class ChromaStore(Store):
    """A Chroma collection, wherever the engine runs."""

    capabilities = Capabilities(
        pushdown=frozenset({"And", "Or", "Not", "Eq", "In", "Compare", "Contains", "Exists"}),
        shared_by_processes=True,
        exact_up_to=EXACT_UP_TO,
        notes=(
            "`contains` with a string and `icontains` are evaluated on the candidates of the scope.",
            f"`in` with more than {MANY} values is, too, and what a filter has beyond {CONDITIONS:,} conditions.",
            "Listings are sorted here; for a page of a long one, all its ids are asked for, and the rows near it.",
            "Its index keeps what was deleted: after 9,000, a small write took 8 times as long. `migrate` begins anew.",
            "A condition is looked up in the whole collection: 25,000 memories take 40 ms; after `chroma_tuning` 8.",
        ),
    )

    def __init__(
        self,
        client: Any,
        label: str,
        collection: str,
        dimensions: int,
        on_close: Callable[[], object] | None = None,
        *,
        gate: Gate | None = None,
        kept: Kept[str, Told] | None = None,
        vectors: Kept[str, bytes] | None = None,
        place: Path | None = None,
    ) -> None:
        self.client = client
        self.label = label
        self.collection = collection
        self.dimensions = dimensions
        self._on_close = on_close
        self._gate = gate or Gate()
        self._kept = kept
        self._vectors = vectors
        self._place = place
        self._closed = False
        self._last: tuple[int | None, Any, list[str]] = (None, None, [])  # which ids, under which version and condition
        self._rows: Any = None
        self._rows = self._call("open", self._prepare)

    @property
    def compiler(self) -> FilterCompiler[Both]:
        return ChromaCompiler()

    # -- rows ------------------------------------------------------------------------------------

    def upsert(self, rows: Sequence[Row]) -> None:
        self.check_room(rows)
        for row in rows:  # all of them, before the first is written
            self._check_vector(row)
        for some in batched(rows, _BATCH):
            embeddings = np.asarray([row.vector for row in some], dtype=np.float32)
            ids = [row.id for row in some]
            with self._forgetting(ids):
                self._call("write", partial(self._write, ids, some, embeddings))

    def _write(self, ids: list[str], rows: Sequence[Row], embeddings: Any) -> None:
        """Chroma merges what it is given into what is there: what is gone has to be named."""
        found = self._rows.get(ids=ids, include=["metadatas"])
        stale = {row_id: dict.fromkeys(stored) for row_id, stored in zip(found["ids"], found["metadatas"], strict=True)}
        metadatas = [{**stale.get(row.id, {}), **to_chroma(row)} for row in rows]
        self._rows.upsert(ids=ids, embeddings=embeddings, metadatas=metadatas)

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        wanted = list(dict.fromkeys(ids))
        if not vectors:
            return [row_of(row_id, told, None) for row_id, told in self._read(wanted).items()]
        include = ["metadatas", "embeddings"]
        rows: list[Row] = []
        for some in batched(wanted, _BATCH):
            rows += rows_of(self._call("read", lambda some=some: self._rows.get(ids=some, include=include)))  # type: ignore[misc]
        return rows

    def remove(self, ids: Sequence[str]) -> None:
        self.check_room()
        self._remove(ids)

    def _remove(self, ids: Sequence[str]) -> None:
        wanted = list(dict.fromkeys(ids))
        for some in batched(wanted, _BATCH):
            with self._forgetting(some):
                self._call("delete", lambda some=some: self._rows.delete(ids=some))  # type: ignore[misc]

    def native_nearest(self, vector: Sequence[float], condition: Both | None, limit: int) -> list[Scored]:
        found = self._nearest(vector, condition, limit)
        return [Scored(row_of(row_id, metadata, None), similarity) for row_id, similarity, metadata in found]

    def native_leads(self, vector: Sequence[float], condition: Both | None, limit: int) -> list[Lead]:
        found = self._nearest(vector, condition, limit)
        return self.clued((row_id, similarity, metadata.get("clue")) for row_id, similarity, metadata in found)

    def _nearest(self, vector: Sequence[float], condition: Both | None, limit: int) -> list[tuple[str, float, Told]]:
        query = np.asarray(vector, dtype=np.float32)
        best, told = self._best(query, condition, limit)
        if not told:
            told = self._read([row_id for row_id, _ in best])
        if len(told) < len(best):  # some were deleted in between: others take their places
            return self._nearest(vector, condition, limit)
        return [(row_id, similarity, told[row_id]) for row_id, similarity in best]

    def _best(
        self, query: Any, condition: Both | None, limit: int
    ) -> tuple[list[tuple[str, float]], Mapping[str, Told]]:
        """The nearest rows, and their metadata, where these came with them.

        Chroma's index is approximate under a filter: up to `exact_up_to` candidates are compared here, and those whose
        ids are named, since it takes none. Where vectors are not kept, most scopes are small, and told at once. Else
        the ids come first: to read vectors takes several times as long, and to read metadata even longer.
        """
        where, named = where_of(condition), None if condition is None else condition.ids
        if named is not None:
            return self._compared(query, self._ids(where, named), limit), {}
        if self._vectors is None:
            few = self._get(where=where, limit=_FEW + 1, include=self._with_metadata("embeddings"))
            if len(few["ids"]) <= _FEW:
                return compared(query, few, limit), told_of(few)
        ids = self._passing(where, (EXACT_UP_TO if self._version is None else _LISTED) + 1)
        if len(ids) > EXACT_UP_TO:
            return self._by_index(query, where, limit)
        return self._compared(query, ids, limit), {}

    def _by_index(self, query: Any, where: Any, limit: int) -> tuple[list[tuple[str, float]], Mapping[str, Told]]:
        """What Chroma's index finds.

        From a few rows no way leads to others in the index: it tells fewer than there are. These are compared here.
        """
        include = self._with_metadata("distances")
        answer = self._call(
            "search",
            lambda: self._rows.query(query_embeddings=query[None, :], n_results=limit, where=where, include=include),
        )
        ids, distances = answer["ids"][0], answer["distances"][0]
        found = [(row_id, 1.0 - float(distance)) for row_id, distance in zip(ids, distances, strict=True)]
        if len(found) < limit:
            reached = set(ids)
            missed = [row_id for row_id in self._ids(where, None) if row_id not in reached]
            if missed:
                return nearest_first([*found, *self._compared(query, missed, limit)])[:limit], {}
        return found, told_of({"ids": ids, "metadatas": answer["metadatas"][0]}) if self._kept is None else {}

    def _with_metadata(self, what: str) -> list[str]:
        """What to ask for: metadata, too, but where they are kept. To read them takes five times as long."""
        return [what] if self._kept is not None else [what, "metadatas"]

    def _compared(self, query: Any, ids: Sequence[str], limit: int) -> list[tuple[str, float]]:
        """The nearest of some rows, however many, as far as they are there."""
        found: list[tuple[str, float]] = []
        for some in batched(ids, _BATCH):
            found += compared(query, self._vectors_of(some), limit)
        return nearest_first(found)[:limit]

    def _vectors_of(self, ids: Sequence[str]) -> Mapping[str, Any]:
        """The vectors of rows; most were read before, where the process has the folder alone."""
        if self._vectors is None:
            return self._get(ids=ids, include=["embeddings"])
        vectors = self._vectors.through(ids, self._directions)
        there = [row_id for row_id in ids if row_id in vectors]  # others were deleted in between
        told = np.frombuffer(b"".join([vectors[row_id] for row_id in there]), dtype=np.float32)
        return {"ids": there, "embeddings": told.reshape(len(there), self.dimensions)}

    def _directions(self, ids: Sequence[str]) -> dict[str, bytes]:
        self._check_open("search")
        told: dict[str, bytes] = {}
        for some in batched(ids, _BATCH):
            found = self._get(ids=some, include=["embeddings"])
            vectors = np.asarray(found["embeddings"], dtype=np.float32)
            told.update(zip(found["ids"], [vector.tobytes() for vector in vectors], strict=True))
        return told

    def _told(self, ids: Sequence[str]) -> dict[str, Told]:
        self._check_open("read")
        told: dict[str, Told] = {}
        for some in batched(ids, _BATCH):
            found = self._call("read", lambda some=some: self._rows.get(ids=some, include=["metadatas"]))  # type: ignore[misc]
            for row_id, metadata in zip(found["ids"], found["metadatas"], strict=True):
                told[row_id] = {name: metadata[name] for name in KEPT if name in (metadata or {})}
        return told

    @contextmanager
    def _forgetting(self, ids: Sequence[str]) -> Iterator[None]:
        """What is kept of these rows is dropped after the block, also where it fails half-way."""
        try:
            yield
        finally:
            for kept in (self._kept, self._vectors):
                if kept is not None:
                    kept.forget(ids)

    def native_scan(
        self,
        condition: Both | None,
        field: SortField,
        *,
        descending: bool,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Row]:
        listing = self._narrowed(Listing(condition, field, descending=descending, after=after), limit)
        return list(islice(self._in_order(listing), limit))

    def native_pages(
        self,
        condition: Both | None,
        field: SortField,
        *,
        descending: bool,
        after: tuple[datetime, str] | None,
        size: int,
    ) -> Iterator[list[Row]]:
        return batched(self._in_order(Listing(condition, field, descending=descending, after=after)), size)

    def native_batches(self, condition: Both | None, *, size: int, vectors: bool) -> Iterator[list[Row]]:
        """Named first; what later batches have is named once more, since to read under ids and a condition is slow.

        Rows that come meanwhile are not among them.
        """
        where, named = where_of(condition), None if condition is None else condition.ids
        version = self._version
        ids = self._ids(where, named)
        for number, some in enumerate(batched(ids, min(size, _BATCH))):
            there = some
            if number and condition is not None and (version is None or version != self._version):
                still = {row_id for few in batched(some, _NAMED) for row_id in self._ids(where, frozenset(few))}
                there = [row_id for row_id in some if row_id in still]
            if vectors:
                yield rows_of(self._get(ids=there, include=["metadatas", "embeddings"])) if there else []
            else:
                yield [row_of(row_id, told, None) for row_id, told in self._read(there).items()]

    def _narrowed(self, listing: Listing, limit: int) -> Listing:
        """The same listing, ended where at least `limit` rows of a long one are before the end.

        Where that is, a sample of them tells: to name rows is cheap, and to read them is not.
        """
        ids = self._named(listing)
        before: int | None = None
        while len(ids) > max(_LONG, 2 * limit):
            if before is None:
                before = self._before(listing)
            step = len(ids) // _SAMPLE
            sample = sorted(listing.places(self._read(ids[::step])))
            expected = limit / step
            for place, _ in sample[int(expected + 2 * expected**0.5) + 1 :: _SAMPLE // 8]:
                shorter = listing.until(place)
                named = self._named(shorter)
                if len(named) - before >= limit:
                    break
            else:
                return listing
            if len(named) > len(ids) // 2:
                return shorter
            listing, ids = shorter, named
        return listing

    def _before(self, listing: Listing) -> int:
        """How many rows are named that tie with the cursor, and are not behind it."""
        if listing.after is None:
            return 0
        instant, last = listing.after
        tied = self._named(listing.until(listing.sign * to_micros(instant)))
        return sum(row_id <= last for row_id in tied)

    def _named(self, listing: Listing) -> list[str]:
        return self._ids(listing.where, listing.named)

    def _ids(self, where: Any, named: frozenset[str] | None) -> list[str]:
        """The ids of the rows where a condition holds, of those that are named; of all, where that is None."""
        if named is not None and len(named) <= _NAMED:
            self._check_open("scan")
            few: list[str] = self._get(ids=sorted(named), where=where, include=[])["ids"] if named else []
            return few
        version, last, ids = self._last
        if last is not where or version is None or version != self._version:
            ids = self._passing(where)
        self._check_open("scan")
        return list(ids) if named is None else [row_id for row_id in ids if row_id in named]

    def _passing(self, where: Any, limit: int | None = None) -> list[str]:
        """The ids of the rows where a condition holds, or so many of them; not very many are kept for the next call."""
        version = self._version
        ids: list[str] = self._get(where=where, limit=limit, include=[])["ids"]
        whole = limit is None or len(ids) < limit
        if version is not None and whole and len(ids) <= _LISTED:
            self._last = (version, where, ids)
        return ids

    def _in_order(self, listing: Listing) -> Iterator[Row]:
        """Chroma lists in no order: all rows are looked at, and sorted here.

        Few are read at once. Of more, the places are noted, and each is read again when its turn has come: Chroma fails
        when it is to read more than 32 766.
        """
        most = _BATCH if self._kept is None else _FEW  # of more, what is kept has not to be read again
        if listing.named is None:
            found = self._get(where=listing.where, limit=most + 1, include=["metadatas"])
            if len(found["ids"]) <= most:
                few = told_of(found)
                for _, row_id in sorted(listing.places(few)):
                    yield row_of(row_id, few[row_id], None)
                return
        places: list[tuple[int, str]] = []
        bodies: dict[str, int] = {}
        for some in batched(self._named(listing), _BATCH):
            told = self._read(some)
            places.extend(listing.places(told))
            bodies.update((row_id, hash_of(metadata)) for row_id, metadata in told.items())
        for some in batched((row_id for _, row_id in sorted(places)), _BATCH):
            told = self._read(some)
            gone = {row_id for row_id, metadata in told.items() if hash_of(metadata) != bodies[row_id]}
            if gone:  # of those that were changed meanwhile, some may still be asked for
                gone -= set(self._get(ids=list(gone), where=listing.where, include=[])["ids"])
            yield from (row_of(row_id, told[row_id], None) for row_id in some if row_id in told and row_id not in gone)

    @property
    def _version(self) -> int | None:
        """Changes with what is written; None where others may write, too."""
        return None if self._kept is None else self._kept.version

    def _read(self, ids: Sequence[str]) -> Mapping[str, Told]:
        """The metadata of rows, as far as these are there; kept, where nobody else writes: most of it takes long."""
        return self._told(ids) if self._kept is None else self._kept.through(ids, self._told)

    def _get(self, **asked: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._call("scan", lambda: self._rows.get(**asked))
        return found

    def native_count(self, condition: Both | None) -> int:
        if condition is None:
            return int(self._call("count", lambda: self._rows.count()))  # noqa: PLW0108  # of those that are open then
        return len(self._ids(where_of(condition), condition.ids))

    def clear(self) -> None:
        self.check_room()
        while ids := self._call("clear", lambda: self._rows.get(limit=_BATCH, include=[]))["ids"]:
            self._remove(ids)

    # -- the collection --------------------------------------------------------------------------

    def read_fingerprint(self) -> Fingerprint | None:
        stored = self._note()
        if not stored:  # what is known here is of when it was opened
            self._rows = self._call(
                "read", lambda: self.client.get_collection(self.collection, embedding_function=None)
            )
            stored = self._note()
        if not stored:
            return None
        content = json.loads(stored)
        return Fingerprint(content["provider"], content["model"], content["dimensions"])

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        self.check_room()
        content = {
            "provider": fingerprint.provider,
            "model": fingerprint.model,
            "dimensions": fingerprint.dimensions,
        }
        self._call("write", lambda: self._rows.modify(metadata={_MANIFEST: json.dumps(content)}))

    def has_sibling(self, suffix: str) -> bool:
        return self._call("read", lambda: self._found(f"{self.collection}_{suffix}")) is not None

    def sibling(self, suffix: str) -> ChromaStore:
        return ChromaStore(self.client, self.label, f"{self.collection}_{suffix}", self.dimensions)

    def scrub(self) -> str:
        return (
            f"{self.label}: stop the server, run `python -m memstack.stores.chroma_rewrite <its folder>` there, and "
            "start it again: its database keeps deleted bytes until then."
        )

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._on_close is not None:
                self._on_close()

    # -- inside ----------------------------------------------------------------------------------

    def _prepare(self) -> Any:
        found = self._found(self.collection)
        if found is None:
            try:
                return self.client.create_collection(
                    self.collection,
                    configuration={"hnsw": {"space": "cosine", "sync_threshold": _SYNC_AFTER}},
                    embedding_function=None,
                    metadata={_MANIFEST: ""},
                )
            except ChromaError:
                found = self._found(self.collection)
                if found is None:
                    raise  # otherwise another process has made it in between
        if _MANIFEST not in (found.metadata or {}):
            raise not_ours(self.label, f"the collection {self.collection!r}")
        return found

    def _note(self) -> str | None:
        note: str | None = (self._rows.metadata or {}).get(_MANIFEST)
        return note

    def _found(self, name: str) -> Any:
        try:
            return self.client.get_collection(name, embedding_function=None)
        except (NotFoundError, ValueError):
            return None

    def _check_vector(self, row: Row) -> None:
        if row.vector is None or len(row.vector) != self.dimensions:
            got = "none" if row.vector is None else str(len(row.vector))
            raise StoreError(self.label, f"the vector has {got} dimensions, and the collection {self.dimensions}")

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise StoreError(self.label, f"cannot {what}: the store is closed", "Open it again with open_memory().")

    def _call(self, what: str, call: Callable[[], T]) -> T:
        self._check_open(what)

        def once() -> T:
            with translated(self.label, what, self._place), self._gate.together():
                return call()

        return retrying(once)
