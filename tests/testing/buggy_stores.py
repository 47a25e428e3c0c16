"""Stores with one bug each, and the tests of the contract that find them. `test_buggy_stores` runs these.

Two have none: `Shelf` is the example plug-in, `FileStore` the same in a file, for what shows when it is opened again.
"""

from __future__ import annotations

import fcntl
import math
import pickle
import struct
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from memstack.config import LocalPath, StoreConfig
from memstack.errors import StoreError, StoreLocked
from memstack.filters import NAME, PLACE, Compiled, In
from memstack.instants import to_micros
from memstack.stores.base import Fingerprint, Lead, Row, Scored, SortField, sort_value
from tests.plugin.memstack_example_plugin.store import Condition, ShelfCompiler, ShelfStore


class AnyConfig(StoreConfig, frozen=True):
    """The section of whichever of these."""

    provider: str
    path: LocalPath | None = None

    @property
    def persistent(self) -> bool:
        """A store in a file is named by its path."""
        return self.path is not None


class Shelf(ShelfStore):
    config_model = AnyConfig  # type: ignore[assignment]


class FileStore(Shelf):
    """One file for each collection, written anew with every change; the folder is locked."""

    capabilities = replace(ShelfStore.capabilities, persistent=True)
    _file: Path
    _held: IO[str] | None = None

    @classmethod
    def open(cls, config: Any, *, dimensions: int) -> FileStore:
        config.path.mkdir(parents=True, exist_ok=True)
        held = (config.path / "lock").open("a")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.close()
            raise StoreLocked("file", str(config.path)) from None
        try:
            store = cls.read(config.path, config.collection, dimensions)
        except BaseException:
            held.close()
            raise
        store._held = held
        return store

    @classmethod
    def read(cls, folder: Path, collection: str, dimensions: int) -> FileStore:
        store = cls(collection, dimensions)
        store._file = folder / f"{collection}.pickle"
        if store._file.exists():
            there, store._rows, store._notes = pickle.loads(store._file.read_bytes())  # noqa: S301  # our own
            if there != dimensions:
                raise StoreError(store.label, f"it has {there} dimensions, and not {dimensions}")
        return store

    def write(self) -> None:
        self._file.write_bytes(pickle.dumps((self.dimensions, self._rows, self._notes)))

    def upsert(self, rows: Sequence[Row]) -> None:
        super().upsert(rows)
        self.write()

    def remove(self, ids: Sequence[str]) -> None:
        super().remove(ids)
        self.write()

    def clear(self) -> None:
        super().clear()
        self.write()

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        super().write_fingerprint(fingerprint)
        self.write()

    def sibling(self, suffix: str) -> FileStore:
        return self.read(self._file.parent, f"{self.collection}_{suffix}", self.dimensions)

    def close(self) -> None:
        super().close()
        if self._held is not None:
            self._held.close()


# -- rows ----------------------------------------------------------------------------------------


class KeepsTheOldRow(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        super().upsert([row for row in rows if row.id not in self._rows])


class MergesPayloads(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        old = self._rows
        merged = [replace(r, payload={**old[r.id].payload, **r.payload}) if r.id in old else r for r in rows]
        super().upsert(merged)


class WritesByHalves(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        for row in rows:
            super().upsert([row])


class LosesEachThousandth(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        super().upsert([row for i, row in enumerate(rows) if not i or i % 1000])


class LosesWritesOfThreads(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        super().upsert([])
        new = {**self._rows, **{row.id: row for row in rows}}
        time.sleep(0.001)
        self._rows = new


class KeepsWhatItIsGiven(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        super().upsert(rows)
        self._rows.update({row.id: row for row in rows})


class GivesWhatItKeeps(Shelf):
    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        found = [self._rows[key] for key in dict.fromkeys(ids) if key in self._rows]
        return found if vectors else [replace(row, vector=None) for row in found]


class TellsARowTwice(Shelf):
    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        return [row for key in ids for row in super(TellsARowTwice, self).fetch([key], vectors=vectors)]


class ChangesIds(Shelf):
    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        return [replace(row, id=row.id.upper()) for row in super().fetch(ids, vectors=vectors)]


class RefusesToRemoveNothing(Shelf):
    def remove(self, ids: Sequence[str]) -> None:
        if any(key not in self._rows for key in ids):
            raise StoreError(self.label, "there is no such row")
        super().remove(ids)


# -- values --------------------------------------------------------------------------------------


def changing(change: Callable[[Any], Any]) -> type[Shelf]:
    """A store that changes each scalar, and each key, of what it is given."""

    def deep(value: Any) -> Any:
        if isinstance(value, dict):
            return {change(key): deep(item) for key, item in value.items()}
        return [deep(item) for item in value] if isinstance(value, list) else change(value)

    class Changing(Shelf):
        def upsert(self, rows: Sequence[Row]) -> None:
            super().upsert([replace(row, payload=deep(row.payload)) for row in rows])

    return Changing


def _single(value: Any) -> Any:
    """A float as engines keep it that have four bytes for it."""
    return struct.unpack("f", struct.pack("f", value))[0] if type(value) is float and abs(value) < 1e38 else value


VALUES: Final[dict[str, Callable[[Any], Any]]] = {
    "Normalises": lambda value: unicodedata.normalize("NFC", value) if isinstance(value, str) else value,
    "Strips": lambda value: value.strip() if isinstance(value, str) else value,
    "Cuts": lambda value: value[:32_767] if isinstance(value, str) else value,
    "KnowsSixteenBits": lambda value: (
        "".join(sign for sign in value if ord(sign) <= 0xFFFF) if isinstance(value, str) else value
    ),
    "MakesFloats": lambda value: float(value) if type(value) is int else value,
    "RoundsLargeInts": lambda value: int(float(value)) if type(value) is int else value,
    "MakesInts": lambda value: int(value) if type(value) is float and value.is_integer() else value,
    "MakesBits": lambda value: int(value) if type(value) is bool else value,
    "RoundsFloats": _single,
    "LosesTheSignOfZero": lambda value: 0.0 if type(value) is float and value == 0 else value,
    "MakesText": lambda value: value.isoformat() if hasattr(value, "isoformat") else value,
}


class DropsEmpty(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        full = [{name: value for name, value in row.payload.items() if value not in ([], {}, "")} for row in rows]
        super().upsert([replace(row, payload=payload) for row, payload in zip(rows, full, strict=True)])


class DropsNull(Shelf):
    def upsert(self, rows: Sequence[Row]) -> None:
        full = [{name: value for name, value in row.payload.items() if value is not None} for row in rows]
        super().upsert([replace(row, payload=payload) for row, payload in zip(rows, full, strict=True)])


# -- searching and listing -----------------------------------------------------------------------


class TakesTheDotProduct(Shelf):
    def native_nearest(self, vector: Sequence[float], condition: Condition | None, limit: int) -> list[Scored]:
        rows = self._where(condition)
        hits = [Scored(row, math.fsum(a * b for a, b in zip(vector, row.vector or (), strict=True))) for row in rows]
        return sorted(hits, key=lambda hit: -hit.similarity)[:limit]


class HidesWhatIsOpposite(Shelf):
    def native_nearest(self, vector: Sequence[float], condition: Condition | None, limit: int) -> list[Scored]:
        return [replace(hit, similarity=hit.score) for hit in super().native_nearest(vector, condition, limit)]


class TellsAHundred(Shelf):
    def native_nearest(self, vector: Sequence[float], condition: Condition | None, limit: int) -> list[Scored]:
        return super().native_nearest(vector, condition, min(limit, 1000))


class FiltersWhatIsLeft(Shelf):
    def native_nearest(self, vector: Sequence[float], condition: Condition | None, limit: int) -> list[Scored]:
        found = super().native_nearest(vector, None, limit)
        return [hit for hit in found if condition is None or condition(hit.row)]


class LeadsAreFew(Shelf):
    def native_leads(self, vector: Sequence[float], condition: Condition | None, limit: int) -> list[Lead]:
        return super().native_leads(vector, condition, limit)[: max(1, limit - 2)]


class LeadsAreOld(Shelf):
    def __init__(self, collection: str, dimensions: int) -> None:
        super().__init__(collection, dimensions)
        self._kept: dict[str, Any] = {}

    def native_leads(self, vector: Sequence[float], condition: Condition | None, limit: int) -> list[Lead]:
        found = super().native_leads(vector, condition, limit)
        return [lead._replace(clue=self._kept.setdefault(lead.clue.id, lead.clue)) for lead in found]


class Scanning(Shelf):
    """A listing by a key of its own."""

    def key(self, at: datetime, row_id: str, *, descending: bool) -> tuple[Any, ...]:
        raise NotImplementedError

    def native_scan(
        self,
        condition: Condition | None,
        field: SortField,
        *,
        descending: bool,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Row]:
        def key(at: datetime, row_id: str) -> tuple[Any, ...]:
            return self.key(at, row_id, descending=descending)

        rows = sorted(self._where(condition), key=lambda row: key(sort_value(row, field), row.id))
        return [row for row in rows if after is None or key(sort_value(row, field), row.id) > key(*after)][:limit]


class SortsByMilliseconds(Scanning):
    def key(self, at: datetime, row_id: str, *, descending: bool) -> tuple[Any, ...]:
        millis = to_micros(at) // 1000
        return (-millis if descending else millis, row_id)


class TurnsTiesAround(Scanning):
    def key(self, at: datetime, row_id: str, *, descending: bool) -> tuple[Any, ...]:
        micros = to_micros(at)
        return (-micros, [-ord(sign) for sign in row_id]) if descending else (micros, [ord(sign) for sign in row_id])


class LooksForTheLastRow(Shelf):
    def native_scan(
        self, condition: Any, field: SortField, *, after: tuple[datetime, str] | None, limit: int, **how: Any
    ) -> list[Row]:
        rows = super().native_scan(condition, field, after=None, limit=1_000_000, **how)
        last = [i for i, row in enumerate(rows) if after is not None and row.id == after[1]]
        return rows[last[0] + 1 if last else 0 :][:limit]


class LeavesOutTheUndated(Shelf):
    def native_scan(self, condition: Any, field: SortField, **how: Any) -> list[Row]:
        return [row for row in super().native_scan(condition, field, **how) if field in row.payload]


class CountsAll(Shelf):
    def native_count(self, condition: Condition | None) -> int:
        return super().native_count(None)


class SkipsBetweenBatches(Shelf):
    def native_batches(self, condition: Any, *, size: int, vectors: bool) -> Iterator[list[Row]]:
        for some in super().native_batches(condition, size=size, vectors=vectors):
            yield some[: max(1, size - 1)]


class CountsBatches(Shelf):
    def native_batches(self, condition: Any, *, size: int, vectors: bool) -> Iterator[list[Row]]:
        start = 0
        while some := self._where(condition)[start : start + size]:
            yield some
            start += size


class KnowsNoSpeakersCompiler(ShelfCompiler):
    def visit_in(self, node: In) -> Compiled[Condition]:
        return Compiled(self.nothing()) if node.field in (NAME, PLACE) else super().visit_in(node)


class KnowsNoSpeakers(Shelf):
    @property
    def compiler(self) -> ShelfCompiler:
        return KnowsNoSpeakersCompiler()


# -- the collection ------------------------------------------------------------------------------


class SharesWithSiblings(Shelf):
    def sibling(self, suffix: str) -> ShelfStore:
        return copy(self)


class HasOneSibling(Shelf):
    def sibling(self, suffix: str) -> ShelfStore:
        return super().sibling("the one")


class ClearsSiblings(Shelf):
    def clear(self) -> None:
        super().clear()
        for sibling in self._siblings.values():
            sibling.clear()


class ForgetsWhenCleared(Shelf):
    def clear(self) -> None:
        super().clear()
        self._notes.clear()


class WritesNotesSmall(Shelf):
    def sibling(self, suffix: str) -> ShelfStore:
        sibling = super().sibling(suffix)
        sibling.__class__ = WritesNotesSmall
        return sibling

    def write_fingerprint(self, fingerprint: Fingerprint) -> None:
        super().write_fingerprint(replace(fingerprint, model=fingerprint.model.lower()))


class StaysOpen(Shelf):
    def close(self) -> None:
        pass


class LosesItsNote(FileStore):
    @classmethod
    def read(cls, folder: Path, collection: str, dimensions: int) -> FileStore:
        store = super().read(folder, collection, dimensions)
        store._notes = []
        return store


class StaysLocked(FileStore):
    held: Final[list[IO[str] | None]] = []

    def close(self) -> None:
        self.held.append(self._held)
        ShelfStore.close(self)


class WritesWhenClosed(FileStore):
    def upsert(self, rows: Sequence[Row]) -> None:
        ShelfStore.upsert(self, rows)

    def remove(self, ids: Sequence[str]) -> None:
        ShelfStore.remove(self, ids)

    def close(self) -> None:
        self.write()
        super().close()


class ForgetsRemovals(FileStore):
    def remove(self, ids: Sequence[str]) -> None:
        ShelfStore.remove(self, ids)


class HasOneCollection(FileStore):
    @classmethod
    def read(cls, folder: Path, collection: str, dimensions: int) -> FileStore:
        return super().read(folder, "one" if collection.startswith("memories") else collection, dimensions)


class LetsOthersIn(FileStore):
    @classmethod
    def open(cls, config: Any, *, dimensions: int) -> FileStore:
        config.path.mkdir(parents=True, exist_ok=True)
        return cls.read(config.path, config.collection, dimensions)


# Which test of the contract finds it.
FOUND_BY: Final[dict[type[Shelf], str]] = {
    KeepsTheOldRow: "test_a_row_is_replaced_whole",
    MergesPayloads: "test_a_row_is_replaced_whole",
    WritesByHalves: "test_vectors_of_another_length_are_refused",
    LosesEachThousandth: "test_thousands_at_once",
    LosesWritesOfThreads: "test_threads_write_at_once",
    KeepsWhatItIsGiven: "test_what_is_told_may_be_changed",
    GivesWhatItKeeps: "test_what_is_told_may_be_changed",
    TellsARowTwice: "test_nothing_to_do_is_done",
    ChangesIds: "test_rows_come_back",
    RefusesToRemoveNothing: "test_nothing_to_do_is_done",
    DropsEmpty: "test_payloads_come_back_exactly",
    DropsNull: "test_payloads_come_back_exactly",
    TakesTheDotProduct: "test_only_directions_count",
    HidesWhatIsOpposite: "test_only_directions_count",
    TellsAHundred: "test_as_many_as_are_asked_for",
    FiltersWhatIsLeft: "test_the_nearest",
    LeadsAreFew: "test_leads_are_the_nearest_in_short",
    LeadsAreOld: "test_leads_are_the_nearest_in_short",
    SortsByMilliseconds: "test_listings_to_the_microsecond",
    TurnsTiesAround: "test_listings_are_sorted",
    LooksForTheLastRow: "test_listings_to_the_microsecond",
    LeavesOutTheUndated: "test_rows_without_an_instant",
    CountsAll: "test_what_is_pushed_down",
    SkipsBetweenBatches: "test_batches",
    CountsBatches: "test_batches",
    KnowsNoSpeakers: "test_fields_that_no_payload_has",
    SharesWithSiblings: "test_a_sibling_is_apart",
    HasOneSibling: "test_siblings_are_apart_from_each_other",
    ClearsSiblings: "test_siblings_are_apart_from_each_other",
    ForgetsWhenCleared: "test_clearing",
    WritesNotesSmall: "test_the_note_is_told_as_it_was_written",
    StaysOpen: "test_after_closing",
    LosesItsNote: "test_opening_again",
    StaysLocked: "test_opening_again",
    WritesWhenClosed: "test_a_process_that_is_killed",
    ForgetsRemovals: "test_opening_again_after_changes",
    HasOneCollection: "test_collections_are_apart",
    LetsOthersIn: "test_another_process",
}
for _name, _change in VALUES.items():
    globals()[_name] = _kind = changing(_change)
    _kind.__name__ = _name
    FOUND_BY[_kind] = "test_payloads_come_back_exactly"
