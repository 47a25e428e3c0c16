"""Portability: a memory as lines of JSON, and back, from any engine into any other.

Each line is one object. The first says what the file is and which embedder made the vectors; then comes each memory
with its payload (every field as it is stored), its vector where that was asked for, and its history; the last line
has the counts and a checksum, so that a file that was cut short is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from memstack import metadata as codec
from memstack.errors import InvalidInput
from memstack.filters.ast import ALL, Node
from memstack.filters.scoping import scope_filter
from memstack.gateway import files, writing
from memstack.gateway.exported import End, Record, read_line, vector_text
from memstack.gateway.halving import refused
from memstack.gateway.parts import Parts
from memstack.gateway.together import together
from memstack.instants import iso, utcnow
from memstack.payload import scope_of, text_of
from memstack.records import ExportReport, Failed, ImportReport
from memstack.scope import Scope
from memstack.stores.base import Row

__all__ = ["FORMAT", "export", "import_lines", "is_export", "lines_of"]

FORMAT: Final = "memstack-export"
_VERSION: Final = 1
_BATCH: Final = 256


# -- out -------------------------------------------------------------------------------------------


def lines_of(parts: Parts, scope: Scope, *, vectors: bool) -> Iterator[str]:
    """The lines of an export, one after the other.

    Args:
        parts: where from.
        scope: whose; everybody's, where it is empty.
        vectors: write the vectors, too: an import into the same embedder then embeds nothing.
    """
    embedder = parts.embedder
    made_by = {"provider": embedder.provider, "model": embedder.model, "dimensions": embedder.dimensions}
    yield _line({"format": FORMAT, "version": _VERSION, "at": iso(utcnow()), "embedder": made_by})
    digest = Checksum()
    for row in _rows(parts, scope_filter(scope) if scope else ALL, vectors=vectors):
        parts.store.check_inside(row, scope)
        changes = parts.history.entries(row.id, scope)
        record: dict[str, Any] = {"id": row.id, "payload": codec.encode(row.payload), "history": changes}
        if vectors and row.vector is not None:
            record["vector"] = vector_text(row.vector)
        digest.add(row.id, record["payload"], changes)
        yield _line(record)
    for memory_id in parts.history.departed(scope, digest.ids):
        changes = parts.history.entries(memory_id, scope)
        digest.add(memory_id, "", changes)
        yield _line({"id": memory_id, "history": changes})
    yield _line({"end": True, **digest.summary()})


class Checksum:
    """Counts and a checksum that do not depend on the order of the memories, nor on vectors."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.memories = 0
        self.changes = 0
        self._sum = 0

    def add(self, memory_id: str, payload: str, changes: Sequence[Mapping[str, Any]]) -> None:
        """Count a memory, with its payload as text (empty for one that is gone) and its history."""
        self.ids.add(memory_id)
        self.memories += bool(payload)
        self.changes += len(changes)
        fields = None if not payload else codec.encode(codec.decode(payload), canonical=True)
        content = json.dumps([memory_id, fields, list(changes)], sort_keys=True, ensure_ascii=False)
        digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % 2**128

    def summary(self) -> dict[str, Any]:
        """What the last line tells."""
        return {"memories": self.memories, "changes": self.changes, "checksum": f"{self._sum:032x}"}


def export(parts: Parts, scope: Scope, target: files.Target, *, vectors: bool) -> ExportReport:
    """Write an export to a file or a stream."""
    last = "{}"
    with files.writing(target) as write:
        for line in lines_of(parts, scope, vectors=vectors):
            write(line + "\n")
            last = line
    end = json.loads(last)
    return ExportReport(end["memories"], end["changes"], end["checksum"])


def _rows(parts: Parts, where: Node, *, vectors: bool) -> Iterator[Row]:
    """All rows, the oldest first, batch by batch."""
    for found in parts.store.pages(where=where, descending=False, size=_BATCH):
        if vectors:
            by_id = {row.id: row for row in parts.store.fetch([row.id for row in found], vectors=True)}
            yield from (by_id.get(row.id, row) for row in found)
        else:
            yield from found


# -- in --------------------------------------------------------------------------------------------


def is_export(first_line: str | bytes) -> bool:
    """Whether a file begins like an export."""
    try:
        head = json.loads(first_line)
    except (ValueError, RecursionError):
        return False
    return isinstance(head, dict) and head.get("format") == FORMAT


def _utf8(line: str) -> str:
    """A line without the lone surrogates that stand for bytes that are no UTF-8."""
    try:
        line.encode()
    except UnicodeEncodeError:
        raise InvalidInput("import", "a line is not UTF-8", "Export it again.") from None
    return line


@dataclass(slots=True)
class _Done:
    """What became of some memories."""

    stored: int = 0
    present: int = 0
    embedded: int = 0
    failed: list[Failed] = field(default_factory=list)

    def count(self, more: _Done) -> None:
        """Add the figures of others."""
        self.stored += more.stored
        self.present += more.present
        self.embedded += more.embedded
        self.failed += more.failed


def import_lines(
    parts: Parts,
    lines: Iterable[str],
    scope: Scope,
    *,
    progress: Callable[[int], object] | None = None,
    dry_run: bool = False,
) -> ImportReport:
    """Read an export.

    Args:
        parts: where to.
        lines: of the export.
        scope: only memories of this scope may be in it; anybody's, where it is empty.
        progress: called after every batch with the number of memories done so far.
        dry_run: read and check everything, store nothing.

    Returns:
        What became of every memory. Those that are there already, equal, are left alone: an import that was
        interrupted goes on when it is called again.

    Raises:
        InvalidInput: it is no export, or one of a version to come.
    """
    reading = iter(lines)
    head = _head(next(reading, ""))
    same = head.get("embedder") == {
        "provider": parts.embedder.provider,
        "model": parts.embedder.model,
        "dimensions": parts.embedder.dimensions,
    }
    digest = Checksum()
    dimensions = parts.embedder.dimensions if same else None
    total = _Done()
    end: Mapping[str, Any] | None = None
    batch: list[tuple[int, Record]] = []

    def flush() -> None:
        if batch and not dry_run:
            for some, error in refused(batch, lambda some: total.count(_store(parts, some))):
                total.failed.extend(Failed(index, str(error), error.retryable) for index, _ in some)
        batch.clear()
        if progress is not None:
            progress(digest.memories)

    for index, line in enumerate(reading):
        if not line.strip():
            continue
        try:
            record = read_line(_utf8(line), scope, dimensions)
        except InvalidInput as error:
            total.failed.append(Failed(index, str(error)))
            continue
        if isinstance(record, End):
            end = record.summary
            break
        digest.add(record.id, record.text, record.history)
        batch.append((index, record))
        if len(batch) >= _BATCH:
            flush()
    flush()
    summary = digest.summary()
    complete = end is not None and all(end.get(name) == value for name, value in summary.items())
    return ImportReport(
        memories=digest.memories,
        stored=total.stored,
        present=total.present,
        embedded=total.embedded,
        changes=digest.changes,
        failed=tuple(sorted(total.failed, key=lambda item: item.index)),
        checksum=summary["checksum"],
        complete=complete,
    )


def _store(parts: Parts, batch: Sequence[tuple[int, Record]]) -> _Done:
    """Write some memories with their history. Where others write the same ones meanwhile, it is looked at once more."""
    done = _Done()
    ids = [record.id for _, record in batch]
    there = {row.id: row for row in parts.store.fetch(ids)}
    known_owners = parts.history.owners(ids)
    owners = dict(known_owners)
    wanted: dict[str, Record] = {}
    taken: list[Record] = []
    for index, record in batch:
        known = there[record.id].payload if record.id in there else None
        if known is None and record.id in wanted:
            known = wanted[record.id].payload
        others = {*owners.get(record.id, ()), *([] if known is None else [scope_of(known)])} - {record.owner}
        if others:
            done.failed.append(Failed(index, str(_taken(record))))
            continue
        owners[record.id] = {record.owner}
        if record.payload is None:
            pass  # its history alone is left
        elif known is None:
            wanted[record.id] = record
        elif codec.encode(known, canonical=True) != codec.encode(record.payload, canonical=True):
            done.failed.append(Failed(index, str(_taken(record))))
            continue
        else:
            done.present += 1
        taken.append(record)
    left = {key: record for key, record in wanted.items() if record.vector is None}
    made = parts.embedder.vectors([text_of(record.payload or {}) for record in left.values()]) if left else []
    vectors = dict(zip(left, made, strict=True))
    rows = [Row(key, record.payload or {}, record.vector or vectors[key]) for key, record in wanted.items()]
    with together(parts) as write:
        faster = write.log.owners(ids) != known_owners or bool(wanted and parts.store.fetch(list(wanted)))
        if not faster:
            writing.restore(parts, write, rows, [(record.id, record.history) for record in taken])
    if faster:
        return _store(parts, batch)
    done.stored, done.embedded = len(rows), len(left)
    return done


def _taken(record: Record) -> InvalidInput:
    """The same whether what is there is the importer's own or somebody else's."""
    return InvalidInput(
        "import",
        f"the id {record.id} is taken, with other content",
        "Import into an empty collection, or delete that memory first.",
    )


def _head(line: str) -> dict[str, Any]:
    if not is_export(line):
        raise InvalidInput("import", "does not begin like an export of memstack", "Pass a file that export() wrote.")
    head: dict[str, Any] = json.loads(line)
    if head.get("version") != _VERSION or isinstance(head["version"], bool):
        raise InvalidInput("import", "is of a version that this release does not read", "Upgrade memstack.")
    return head


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
