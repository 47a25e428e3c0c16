"""Chroma: inside this process, its data in a folder; or a server.

Its conditions have no negation, so each is kept with its complement (`_Both`), and a negation swaps the two. Numbers
are compared as the small integers of `number_key`, since Chroma keeps integers and floats apart.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import chromadb
import httpx
import numpy as np
from chromadb.api.client import Client as ChromaClient
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import ChromaError, InternalError, NotFoundError
from filelock import FileLock, Timeout

from memstack import metadata as codec
from memstack.batching import batched
from memstack.config import ChromaEmbedded, ChromaServer
from memstack.errors import MemstackError, StoreCorrupted, StoreError, StoreLocked
from memstack.filters.ast import FINGERPRINT, INSTANT_FIELDS, Compare, Contains, Eq, Exists, IContains, In, Scalar
from memstack.filters.evaluate import is_number
from memstack.filters.visit import Compiled, FilterCompiler
from memstack.folders import make_folder
from memstack.instants import as_instant, to_micros
from memstack.scope import SCOPE_FIELDS
from memstack.stores import chroma_rewrite, chroma_tuning
from memstack.stores.base import Capabilities, Fingerprint, Lead, Row, Scored, SortField, Store
from memstack.stores.foreign import check_no_file, check_nobody_elses, not_ours, payload_of_row, writing_to
from memstack.stores.gate import Gate
from memstack.stores.index import eq_term, exists_term, index_of, member_term, number_key, path_key
from memstack.stores.kept import Kept
from memstack.stores.remote import retrying
from memstack.stores.room import FREE_BYTES, FULL, MAKE_ROOM, check_room, length_of
from memstack.stores.rows import DAMAGED
from memstack.stores.shared import Shared

__all__ = ["ChromaEmbeddedStore", "ChromaServerStore"]

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)
_EXACT_UP_TO: Final = 5_000
_MANIFEST: Final = "memstack"
_BATCH: Final = 5_000  # its own limit is 5 461
# So many writes Chroma keeps in its queue before its vector index is written to the disk, and each write reads all that
# are there anew: of its own 1,000, that takes 35 ms on an average.
_SYNC_AFTER: Final = 100
_LONG: Final = 1_000  # rows of a listing that are read at once even for a short page
_SAMPLE: Final = 300
_GROUP: Final = 50
_MANY: Final = 300  # values of an `in`: each is a condition of its own, and thousands take longer than looking
_CONDITIONS: Final = 2_000  # of a filter: each is several variables of SQLite, which takes 32,766 in a statement
_RAREST: Final = ("fingerprint", "run_id", "user_id", "agent_id")
_INVERSE: Final = {"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}
_UNAUTHORISED: Final = (401, 403)
_BUSY: Final = (408, 429)
_VECTORS: Final = "*/*.bin"  # files of an index; each index is in a folder of its own
_REWRITE_SECONDS: Final = 600
_PANIC: Final = "PanicException"  # PyO3's, which can be imported from nowhere
_OF_SQLITE: Final = re.compile(r"\(code: \d+\) ([a-zA-Z/ ]+)")  # in Chroma's messages, what SQLite says
_Condition = Mapping[str, Any]
_Told = Mapping[str, Any]  # of the metadata of a row: what it is, and its clue
_KEPT_ROWS: Final = 20_000  # about 20 MB, for messages of common length
_ROW_BYTES: Final = 8_192  # what a row takes on the disk, besides ...
_GROWTH: Final = 32  # ... for each byte of its texts: in the queue, in its terms, and in their indexes


@dataclass(frozen=True, slots=True)
class _Both:
    """A condition, and the one that holds just where it does not."""

    holds: _Condition
    fails: _Condition


_NEVER: Final = _Both({"terms": {"$contains": "never"}}, {"terms": {"$not_contains": "never"}})


class _Compiler(FilterCompiler[_Both]):
    """Filters as Chroma's ``where``. Keys are ours, never a caller's words."""

    largest = _CONDITIONS

    def size(self, condition: _Both) -> int:
        return max(_leaves(condition.holds), _leaves(condition.fails))

    def conjunction(self, conditions: Sequence[_Both]) -> _Both:
        """Chroma's SQLite begins with the rows for which the first condition holds."""
        conditions = sorted(conditions, key=lambda both: _rarity(both.holds))
        return _Both(_all([c.holds for c in conditions]), _any([c.fails for c in conditions]))

    def disjunction(self, conditions: Sequence[_Both]) -> _Both:
        return _Both(_any([c.holds for c in conditions]), _all([c.fails for c in conditions]))

    def negation(self, condition: _Both) -> _Both:
        return _Both(condition.fails, condition.holds)

    def nothing(self) -> _Both:
        return _NEVER

    def visit_eq(self, node: Eq) -> Compiled[_Both] | None:
        return self._any_of(node.field, (node.value,))

    def visit_in(self, node: In) -> Compiled[_Both] | None:
        return self._any_of(node.field, node.values)

    def visit_compare(self, node: Compare) -> Compiled[_Both] | None:
        if is_number(node.bound):
            key = path_key(node.field)
            parts = [(f"{key}{name}", part) for name, part in number_key(node.bound).items()]  # type: ignore[arg-type]
            return Compiled(self._lexicographic(parts, node.op))
        instant = as_instant(node.bound)
        if instant is None or node.field == "data":
            return None  # a text may read as an instant too
        declared = node.field in INSTANT_FIELDS
        key = node.field if declared else f"{path_key(node.field)}t"
        return Compiled(_between(key, node.op, to_micros(instant)))

    def visit_contains(self, node: Contains) -> Compiled[_Both] | None:
        if isinstance(node.value, str):
            return None  # also a substring of a string
        return Compiled(_term(member_term(node.field, node.value)))

    def visit_icontains(self, node: IContains) -> None:
        return None

    def visit_exists(self, node: Exists) -> Compiled[_Both] | None:
        if node.field in INSTANT_FIELDS:
            return Compiled(_between(node.field, "gte", -(2**62)))
        if node.field in (*SCOPE_FIELDS, "id", "data"):
            return None
        return Compiled(_term(exists_term(node.field)))

    def _any_of(self, field: str, values: Sequence[Scalar]) -> Compiled[_Both] | None:
        if not values:
            return Compiled(_NEVER)
        if field in ("id", "data") or (len(values) > _MANY and field != FINGERPRINT):
            return None
        if field == FINGERPRINT:  # asked for by the thousand: one condition, not one for each
            return Compiled(_Both({"fingerprint": {"$in": list(values)}}, {"fingerprint": {"$nin": list(values)}}))
        if field in INSTANT_FIELDS:
            micros = [to_micros(instant) for value in values if (instant := as_instant(value)) is not None]
            return Compiled(_Both({field: {"$in": micros}}, {field: {"$nin": micros}}))
        if field in SCOPE_FIELDS:
            strings = [value for value in values if isinstance(value, str)]
            return Compiled(_Both({field: {"$in": strings}}, {field: {"$nin": strings}}) if strings else _NEVER)
        return Compiled(self.disjunction([_term(eq_term(field, value)) for value in values]))

    def _lexicographic(self, parts: Sequence[tuple[str, int]], op: str) -> _Both:
        (key, part), *rest = parts
        if not rest:
            return _between(key, op, part)
        tail = self.conjunction([_between(key, "gte", part), _between(key, "lte", part), self._lexicographic(rest, op)])
        return self.disjunction([_between(key, op[:2], part), tail])


@dataclass(frozen=True)
class _Listing:
    """Rows where a condition holds, in the order of an instant and the id.

    Attributes:
        condition: None is all rows.
        field: the instant.
        descending: whether the latest come first.
        after: the cursor: what the row before the first is sorted by; None is from the beginning.
        end: the last place that belongs to it; None is to the end.
    """

    condition: _Both | None
    field: SortField
    descending: bool
    after: tuple[datetime, str] | None = None
    end: int | None = None

    @property
    def where(self) -> Any:
        """The condition, the cursor and the end in Chroma's words."""
        behind, before = ("lte", "gte") if self.descending else ("gte", "lte")
        parts = [] if self.condition is None else [self.condition]
        if self.after is not None:
            parts.append(_between(self.field, behind, to_micros(self.after[0])))
        if self.end is not None:
            parts.append(_between(self.field, before, self.sign * self.end))
        return _all([part.holds for part in parts]) if parts else None

    def places(self, found: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
        """What found rows are sorted by; those before the cursor are left out."""
        first = None if self.after is None else (self.sign * to_micros(self.after[0]), self.after[1])
        for row_id, metadata in zip(found["ids"], found["metadatas"], strict=True):
            instant = (metadata or {}).get(self.field)  # others may have written it
            place = (self.sign * instant if isinstance(instant, int) else 0, row_id)
            if first is None or place > first:
                yield place

    def until(self, place: int) -> _Listing:
        """The same, ended after the instant of a place."""
        return replace(self, end=place)

    @property
    def sign(self) -> int:
        """What a number is multiplied by, to be smaller the sooner it comes."""
        return -1 if self.descending else 1


class ChromaStore(Store):
    """A Chroma collection, wherever the engine runs."""

    capabilities = Capabilities(
        pushdown=frozenset({"And", "Or", "Not", "Eq", "In", "Compare", "Contains", "Exists"}),
        shared_by_processes=True,
        exact_up_to=_EXACT_UP_TO,
        notes=(
            "`contains` with a string and `icontains` are evaluated on the candidates of the scope.",
            f"`in` with more than {_MANY} values is, too, and what a filter has beyond {_CONDITIONS:,} conditions.",
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
        kept: Kept[str, _Told] | None = None,
        place: Path | None = None,
    ) -> None:
        self.client = client
        self.label = label
        self.collection = collection
        self.dimensions = dimensions
        self._on_close = on_close
        self._gate = gate or Gate()
        self._kept = kept
        self._place = place
        self._closed = False
        self._rows: Any = None
        self._rows = self._call("open", self._prepare)

    @property
    def compiler(self) -> FilterCompiler[_Both]:
        return _Compiler()

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
        metadatas = [{**stale.get(row.id, {}), **_to_chroma(row)} for row in rows]
        self._rows.upsert(ids=ids, embeddings=embeddings, metadatas=metadatas)

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        wanted = list(dict.fromkeys(ids))
        if self._kept is not None and not vectors:
            return [_row(row_id, told, None) for row_id, told in self._kept.through(wanted, self._told).items()]
        include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
        rows: list[Row] = []
        for some in batched(wanted, _BATCH):
            rows += _rows(self._call("read", lambda some=some: self._rows.get(ids=some, include=include)))  # type: ignore[misc]
        return rows

    def remove(self, ids: Sequence[str]) -> None:
        self.check_room()
        self._remove(ids)

    def _remove(self, ids: Sequence[str]) -> None:
        wanted = list(dict.fromkeys(ids))
        for some in batched(wanted, _BATCH):
            with self._forgetting(some):
                self._call("delete", lambda some=some: self._rows.delete(ids=some))  # type: ignore[misc]

    def native_nearest(self, vector: Sequence[float], condition: _Both | None, limit: int) -> list[Scored]:
        found = self._nearest(vector, condition, limit)
        return [Scored(_row(row_id, metadata, None), similarity) for row_id, similarity, metadata in found]

    def native_leads(self, vector: Sequence[float], condition: _Both | None, limit: int) -> list[Lead]:
        found = self._nearest(vector, condition, limit)
        return self.clued((row_id, similarity, metadata.get("clue")) for row_id, similarity, metadata in found)

    def _nearest(
        self, vector: Sequence[float], condition: _Both | None, limit: int
    ) -> list[tuple[str, float, Mapping[str, Any]]]:
        """Chroma's index is approximate under a filter: up to `exact_up_to` candidates are compared here."""
        query = np.asarray(vector, dtype=np.float32)
        where = None if condition is None else condition.holds
        found = self._call(
            "search",
            lambda: self._rows.get(
                where=where,
                limit=_EXACT_UP_TO + 1,
                include=["embeddings"] if self._kept is not None else ["metadatas", "embeddings"],
            ),
        )
        if len(found["ids"]) <= _EXACT_UP_TO:
            best = _compared(query, found, limit)
            if self._kept is None:
                return [(found["ids"][place], similarity, found["metadatas"][place]) for place, similarity in best]
            told = self._kept.through([found["ids"][place] for place, _ in best], self._told)
            if len(told) < len(best):  # some were deleted in between: others take their places
                return self._nearest(vector, condition, limit)
            named = ((found["ids"][place], similarity) for place, similarity in best)
            return [(row_id, similarity, told[row_id]) for row_id, similarity in named]
        answer = self._call(
            "search",
            lambda: self._rows.query(
                query_embeddings=query[None, :], n_results=limit, where=where, include=["metadatas", "distances"]
            ),
        )
        return [
            (row_id, 1.0 - float(distance), metadata)
            for row_id, metadata, distance in zip(
                answer["ids"][0], answer["metadatas"][0], answer["distances"][0], strict=True
            )
        ]

    def _told(self, ids: Sequence[str]) -> dict[str, _Told]:
        self._check_open("read")
        told: dict[str, _Told] = {}
        for some in batched(ids, _BATCH):
            found = self._call("read", lambda some=some: self._rows.get(ids=some, include=["metadatas"]))  # type: ignore[misc]
            for row_id, metadata in zip(found["ids"], found["metadatas"], strict=True):
                told[row_id] = {name: metadata[name] for name in ("body", "clue") if name in (metadata or {})}
        return told

    @contextmanager
    def _forgetting(self, ids: Sequence[str]) -> Iterator[None]:
        """What is kept of these rows is dropped after the block, also where it fails half-way."""
        try:
            yield
        finally:
            if self._kept is not None:
                self._kept.forget(ids)

    def native_scan(
        self,
        condition: _Both | None,
        field: SortField,
        *,
        descending: bool,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Row]:
        listing = self._narrowed(_Listing(condition, field, descending=descending, after=after), limit)
        return list(islice(self._in_order(listing), limit))

    def native_pages(
        self,
        condition: _Both | None,
        field: SortField,
        *,
        descending: bool,
        after: tuple[datetime, str] | None,
        size: int,
    ) -> Iterator[list[Row]]:
        return batched(self._in_order(_Listing(condition, field, descending=descending, after=after)), size)

    def native_batches(self, condition: _Both | None, *, size: int, vectors: bool) -> Iterator[list[Row]]:
        """Named first; what later batches have is named once more, since to read under ids and a condition is slow.

        Rows that come meanwhile are not among them.
        """
        where = None if condition is None else condition.holds
        include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
        ids = self._get(where=where, include=[])["ids"]
        for number, some in enumerate(batched(ids, min(size, _BATCH))):
            still = set(self._get(where=where, include=[])["ids"]) if number and where is not None else set(some)
            there = [row_id for row_id in some if row_id in still]
            yield _rows(self._get(ids=there, include=include)) if there else []

    def _narrowed(self, listing: _Listing, limit: int) -> _Listing:
        """The same listing, ended where at least `limit` rows of a long one are before the end.

        Where that is, a sample of them tells: to name rows is cheap, and to read them is not.
        """
        ids = self._named(listing)
        before: int | None = None
        while len(ids) > max(_LONG, 2 * limit):
            if before is None:
                before = self._before(listing)
            step = len(ids) // _SAMPLE
            sample = sorted(listing.places(self._get(ids=ids[::step], include=["metadatas"])))
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

    def _before(self, listing: _Listing) -> int:
        """How many rows are named that tie with the cursor, and are not behind it."""
        if listing.after is None:
            return 0
        instant, last = listing.after
        tied = self._named(listing.until(listing.sign * to_micros(instant)))
        return sum(row_id <= last for row_id in tied)

    def _named(self, listing: _Listing) -> list[str]:
        ids: list[str] = self._get(where=listing.where, include=[])["ids"]
        return ids

    def _in_order(self, listing: _Listing) -> Iterator[Row]:
        """Chroma lists in no order: all rows are looked at, and sorted here.

        Few are read at once. Of more, the places are noted, and each is read again when its turn has come: Chroma fails
        when it is to read more than 32 766.
        """
        found = self._get(where=listing.where, limit=_BATCH + 1, include=["metadatas"])
        if len(found["ids"]) <= _BATCH:
            told = dict(zip(found["ids"], found["metadatas"], strict=True))
            for _, row_id in sorted(listing.places(found)):
                yield _row(row_id, told[row_id], None)
            return
        places: list[tuple[int, str]] = []
        bodies: dict[str, int] = {}
        for some in batched(self._named(listing), _BATCH):
            found = self._get(ids=some, include=["metadatas"])
            places.extend(listing.places(found))
            bodies.update((key, _hash(told)) for key, told in zip(found["ids"], found["metadatas"], strict=True))
        for some in batched((row_id for _, row_id in sorted(places)), _BATCH):
            found = self._get(ids=some, include=["metadatas"])
            told = dict(zip(found["ids"], found["metadatas"], strict=True))
            gone = {key for key in told if _hash(told[key]) != bodies[key]}
            if gone:  # of those that were changed meanwhile, some may still be asked for
                gone -= set(self._get(ids=list(gone), where=listing.where, include=[])["ids"])
            yield from (_row(row_id, told[row_id], None) for row_id in some if row_id in told and row_id not in gone)

    def _get(self, **asked: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._call("scan", lambda: self._rows.get(**asked))
        return found

    def native_count(self, condition: _Both | None) -> int:
        if condition is None:
            return int(self._call("count", lambda: self._rows.count()))  # noqa: PLW0108  # of those that are open then
        return len(self._call("count", lambda: self._rows.get(where=condition.holds, include=[]))["ids"])

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
            with _translated(self.label, what, self._place), self._gate.together():
                return call()

        return retrying(once)


class ChromaServerStore(ChromaStore):
    """A collection on a Chroma server."""

    config_model: ClassVar[type[ChromaServer]] = ChromaServer

    @classmethod
    def open(cls, config: ChromaServer, *, dimensions: int) -> ChromaServerStore:
        """Connect to the server that a config section names, and make the collection when it is missing.

        Raises:
            StoreError: the server cannot be reached or refuses the token, or it has a collection of this name that
                memstack did not make.
        """
        label = f"chroma (server) at {config.host}:{config.port}"
        token = config.token.get_secret_value() if config.token is not None else None
        settings = ChromaSettings(
            anonymized_telemetry=False,
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=config.host,
            chroma_server_http_port=config.port,
            chroma_server_ssl_enabled=config.ssl,
            chroma_server_headers={"Authorization": f"Bearer {token}", "X-Chroma-Token": token} if token else None,
        )
        with _translated(label, "open"):
            client = _dialled(settings, config)
        try:
            return cls(client, label, config.collection, dimensions, partial(_hang_up, client))
        except BaseException:
            _hang_up(client)
            raise


class _Client(ChromaClient):
    """Chroma's own client of a server, which would wait for an answer for ever."""

    seconds: int
    direct: bool

    def get_user_identity(self) -> Any:
        """The first question of a client."""
        self._prepare(self._server)
        return super().get_user_identity()

    def _validate_tenant_database(self, tenant: str, database: str) -> None:
        """The first questions of another client inside of it, which has connections of its own."""
        inside: Any = self._admin_client
        self._prepare(inside._server)  # noqa: SLF001
        super()._validate_tenant_database(tenant, database)

    def _prepare(self, server: Any) -> None:
        """Tell connections how long to wait, and which way to go: there are no settings for that.

        What is said to this machine goes through no proxy, whatever the environment has for the rest of the world.
        """
        session: httpx.Client = server._session  # noqa: SLF001
        if self.direct:
            session.close()
            session = server._session = httpx.Client(  # noqa: SLF001
                headers=session.headers, limits=server.http_limits, trust_env=False
            )
        session.timeout = httpx.Timeout(self.seconds)


def _dialled(settings: ChromaSettings, config: ChromaServer) -> Any:
    """A client of a server. Where it is refused, no connection is left open, as `chromadb.HttpClient` does."""
    client: Any = _Client.__new__(_Client)
    client.seconds = config.timeout
    client.direct = config.is_here
    try:
        client.__init__(tenant=config.tenant, database=config.database, settings=settings)
    except BaseException:
        _hang_up(client)
        raise
    return client


def _hang_up(client: Any) -> None:
    """Close a client of a server, and its connections: of chromadb's own `close` they survive until collected.

    And Chroma puts what a client consists of under a second name, which nothing ever takes away: a megabyte.
    """
    servers = [getattr(part, "_server", None) for part in (client, getattr(client, "_admin_client", None))]
    client.close()
    named: dict[str, Any] = getattr(SharedSystemClient, "_identifier_to_system", {})
    systems = [getattr(server, "_system", None) for server in servers]
    for name, system in list(named.items()):
        if any(system is own for own in systems):
            named.pop(name, None)
    for server in servers:
        session = getattr(server, "_session", None)
        if session is not None:
            session.close()


class ChromaEmbeddedStore(ChromaStore):
    """A collection in a folder, opened by one process at a time: several that write corrupt it."""

    config_model: ClassVar[type[ChromaEmbedded]] = ChromaEmbedded
    capabilities = Capabilities(
        pushdown=ChromaStore.capabilities.pushdown,
        shared_by_processes=False,
        exact_up_to=_EXACT_UP_TO,
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
        shared = Shared.acquire(ChromaEmbeddedStore, folder, lambda: _open_folder(folder, label), _Folder.close)
        try:
            return cls(shared.engine, label, config.collection, dimensions, shared.release)
        except BaseException:
            shared.release()
            raise

    def __init__(
        self,
        opened: _Folder,
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
        with _translated(self.label, what, self._place), self._opened.using(self.label) as client:
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
            told = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip() or _reason(error)
            raise StoreError(
                self.label,
                f"cannot rewrite {chroma_rewrite.DATABASE} ({told.splitlines()[-1]})",
                "Call it again.",
                retryable=True,
            ) from error
        return ""

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@dataclass(slots=True)
class _Folder:
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
    kept: dict[str, Kept[str, _Told]] = field(default_factory=dict)

    def kept_of(self, collection: str) -> Kept[str, _Told]:
        """What is kept of the rows of a collection; the folder is this process's alone."""
        return self.kept.setdefault(collection, Kept(_KEPT_ROWS))

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


def _open_folder(folder: Path, label: str) -> _Folder:
    with writing_to(label):
        make_folder(folder)
        lock = FileLock(folder / ".memstack.lock", thread_local=False)  # another thread may close it
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreLocked(label, str(folder)) from error
    try:
        with _translated(label, "open", folder):
            if not _tuned(folder, label):  # there is no database yet
                _check_new(folder, label)
                _client_in(folder).close()
                _tuned(folder, label)
            return _Folder(folder, _client_in(folder), lock, Gate())
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
        if _is_damage(error):
            raise
        _log.warning("%s: searches take longer, since its indexes cannot be written anew (%s)", label, error)
        return True


# -- conditions ----------------------------------------------------------------------------------


def _all(conditions: Sequence[_Condition]) -> _Condition:
    return _joined("$and", conditions)


def _any(conditions: Sequence[_Condition]) -> _Condition:
    return _joined("$or", conditions)


def _rarity(condition: _Condition) -> int:
    """A place among conditions: the fewer rows they hold for, as a rule, the sooner they come."""
    (key, value), *_ = condition.items()
    if key == "$and":
        return min(map(_rarity, value))
    return _RAREST.index(key) if key in _RAREST else len(_RAREST)


def _leaves(condition: _Condition) -> int:
    """How many comparisons a condition is made of; those of a fingerprint are never too many."""
    (key, value), *_ = condition.items()
    if key in ("$and", "$or"):
        return sum(map(_leaves, value))
    (operand,) = value.values()
    return len(operand) if isinstance(operand, list) and key != "fingerprint" else 1


def _joined(operator: str, conditions: Sequence[_Condition]) -> _Condition:
    """Conditions under one operator, in groups: SQLite takes a thousand in a row for an expression that is too deep."""
    while len(conditions) > _GROUP:
        conditions = [_joined(operator, some) for some in batched(conditions, _GROUP)]
    return conditions[0] if len(conditions) == 1 else {operator: list(conditions)}


def _term(term: str) -> _Both:
    return _Both({"terms": {"$contains": term}}, {"terms": {"$not_contains": term}})


def _between(key: str, op: str, bound: int) -> _Both:
    """A range over integers; its complement holds where the key is missing too (only `$ne` and `$nin` do)."""
    missing = {"keys": {"$not_contains": key}}
    return _Both({key: {f"${op}": bound}}, {"$or": [{key: {f"${_INVERSE[op]}": bound}}, missing]})


# -- rows ------------------------------------------------------------------------------------------


def _to_chroma(row: Row) -> dict[str, Any]:
    payload = row.payload
    index = index_of(payload, row.fingerprint)
    numbers = {f"{key}{name}": part for key, value in index.numbers.items() for name, part in number_key(value).items()}
    ranged = {**numbers, **{f"{key}t": micros for key, micros in index.instants.items()}, **index.times}
    return {
        **{name: payload[name] for name in SCOPE_FIELDS if payload.get(name)},
        **ranged,
        "body": codec.encode(payload),
        "clue": index.clue,
        "fingerprint": index.fingerprint,
        "terms": index.shared,
        "keys": list(ranged),
    }


def _hash(metadata: Mapping[str, Any] | None) -> int:
    return hash((metadata or {}).get("body"))


def _row(row_id: str, metadata: Mapping[str, Any] | None, vector: Sequence[float] | None) -> Row:
    return Row(row_id, payload_of_row("chroma", row_id, (metadata or {}).get("body")), vector)


def _rows(found: Mapping[str, Any]) -> list[Row]:
    told = found.get("embeddings")
    vectors = [None] * len(found["ids"]) if told is None else np.asarray(told, dtype=np.float32).tolist()
    return [_row(*parts) for parts in zip(found["ids"], found["metadatas"], vectors, strict=True)]


def _compared(query: Any, found: Mapping[str, Any], limit: int) -> list[tuple[int, float]]:
    """The places of the nearest among what was found, and their similarities."""
    if not found["ids"]:
        return []
    vectors = np.asarray(found["embeddings"], dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    similarities = np.divide(vectors @ query, lengths, out=np.zeros(len(vectors), np.float32), where=lengths > 0)
    best = np.argsort(-similarities, kind="stable")[:limit]
    return [(place, float(similarities[place])) for place in best.tolist()]


@contextmanager
def _translated(label: str, what: str, folder: Path | None = None) -> Iterator[None]:
    """Chroma's exceptions as ours; `folder` is where an embedded one keeps its files, and None a server."""
    try:
        yield
    except MemstackError:
        raise
    except httpx.TimeoutException as error:
        raise _late(label, what) from error
    except (httpx.HTTPError, ConnectionError) as error:
        raise _unreachable(label, what) from error
    except BaseException as error:  # the embedded engine panics
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise  # somebody wants the call to end
        if folder is not None:
            if _is_damage(error):
                raise StoreCorrupted(label, str(folder), " ".join(str(error).split())) from error
            told = _OF_SQLITE.search(str(error))
            reason = _reason(error) if told is None else told[1]
            full = reason == FULL
            raise StoreError(label, f"cannot {what}: {reason}", MAKE_ROOM if full else "", retryable=full) from error
        status = _status_of(error)
        if status in _UNAUTHORISED:
            raise StoreError(
                label, f"cannot {what}: the server refuses the token (HTTP {status})", "Set `vector_store.token`."
            ) from error
        if what == "open" and isinstance(error, NotFoundError):
            raise StoreError(
                label,
                "cannot open: the server has no such tenant or database",
                "Make it there, or name another with `vector_store.tenant` and `vector_store.database`.",
            ) from error
        if _timed_out(error):
            raise _late(label, what) from error
        if status is None and "Could not connect" in str(error):
            raise _unreachable(label, what) from error
        again = status is not None and (status in _BUSY or status >= 500)  # noqa: PLR2004
        named = f"HTTP {status}" if type(error) in (Exception, ValueError) and status else type(error).__name__
        raise StoreError(label, f"cannot {what}: {named}", retryable=again) from error


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _is_damage(error: BaseException) -> bool:
    """Whether SQLite, Python's or Chroma's own, says that the file is not what it wrote."""
    return any(words in str(error) for words in DAMAGED)


def _status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer: Chroma's exceptions have it, and what it makes of others' follows from one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ChromaError):
            return int(seen.code())
        if isinstance(seen, httpx.HTTPStatusError):
            return seen.response.status_code
        seen = seen.__cause__ or seen.__context__
    return None


def _timed_out(error: BaseException) -> bool:
    return isinstance(error.__context__, httpx.TimeoutException)


def _late(label: str, what: str) -> StoreError:
    way = "Is the server overloaded? See `vector_store.timeout`."
    return StoreError(label, f"cannot {what}: the server did not answer in time", way, retryable=True)


def _unreachable(label: str, what: str) -> StoreError:
    return StoreError(
        label,
        f"cannot {what}: the server cannot be reached",
        "Is it running there? See `vector_store.host` and `vector_store.port`.",
        retryable=True,
    )
