"""Portability: a memory as lines of JSON, and back, from any engine into any other.

Each line is one object. The first says what the file is and which embedder made the vectors; then comes each memory
with its payload (every field as it is stored), its vector where that was asked for, and its history; the last line
has the counts and a checksum, so that a file that was cut short is noticed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from memstack import metadata as codec
from memstack.errors import InvalidInput, MemstackError, describe
from memstack.filters.ast import ALL, Node
from memstack.filters.scoping import scope_filter
from memstack.gateway import writing
from memstack.gateway.parts import Parts
from memstack.ids import canonical_id
from memstack.instants import iso, utcnow
from memstack.payload import scope_of, text_of
from memstack.records import ExportReport, Failed, ImportReport
from memstack.scope import Scope
from memstack.stores.base import Row

__all__ = ["FORMAT", "Target", "export", "import_lines", "is_export", "lines_of", "opened"]

FORMAT: Final = "memstack-export"
_VERSION: Final = 1
_BATCH: Final = 256

Target = str | os.PathLike[str] | IO[str]


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
        changes = parts.history.entries(row.id)
        record: dict[str, Any] = {"id": row.id, "payload": codec.encode(row.payload), "history": changes}
        if vectors and row.vector is not None:
            record["vector"] = _text(row.vector)
        digest.add(row.id, record["payload"], changes)
        yield _line(record)
    for memory_id in parts.history.departed(scope, digest.ids):
        changes = parts.history.entries(memory_id)
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


def export(parts: Parts, scope: Scope, target: Target, *, vectors: bool) -> ExportReport:
    """Write an export to a file or a stream."""
    last = "{}"
    with opened(target, "w") as stream:
        for line in lines_of(parts, scope, vectors=vectors):
            stream.write(line + "\n")
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
    same = head["embedder"] == {
        "provider": parts.embedder.provider,
        "model": parts.embedder.model,
        "dimensions": parts.embedder.dimensions,
    }
    digest = Checksum()
    stored = present = embedded = 0
    failed: list[Failed] = []
    end: Mapping[str, Any] | None = None
    batch: list[tuple[int, dict[str, Any]]] = []

    def flush() -> None:
        nonlocal stored, present, embedded
        if batch and not dry_run:
            try:
                new, old, made = _store(parts, [record for _, record in batch], same_embedder=same)
            except MemstackError as error:
                failed.extend(Failed(index, str(error), error.retryable) for index, _ in batch)
            else:
                stored, present, embedded = stored + new, present + old, embedded + made
        batch.clear()
        if progress is not None:
            progress(digest.memories)

    for index, line in enumerate(reading):
        if not line.strip():
            continue
        try:
            record = _record(line, scope)
        except InvalidInput as error:
            failed.append(Failed(index, str(error)))
            continue
        if record.get("end"):
            end = record
            break
        digest.add(record["id"], record.get("payload", ""), record["history"])
        batch.append((index, record))
        if len(batch) >= _BATCH:
            flush()
    flush()
    summary = digest.summary()
    complete = end is not None and all(end.get(name) == value for name, value in summary.items())
    return ImportReport(
        memories=digest.memories,
        stored=stored,
        present=present,
        embedded=embedded,
        changes=digest.changes,
        failed=tuple(failed),
        checksum=summary["checksum"],
        complete=complete,
    )


def _store(parts: Parts, records: Sequence[Mapping[str, Any]], *, same_embedder: bool) -> tuple[int, int, int]:
    """Write some memories with their history; returns how many were new, there already, and embedded."""
    living = {record["id"]: record for record in records if record.get("payload")}
    there = {row.id: row for row in parts.store.fetch(list(living))} if living else {}
    wanted: list[Mapping[str, Any]] = []
    for key, record in living.items():
        known = there.get(key)
        if known is None:
            wanted.append(record)
        elif codec.encode(known.payload, canonical=True) != codec.encode(
            codec.decode(record["payload"]), canonical=True
        ):
            raise InvalidInput(
                "import",
                f"the id {key} is there already, with other content",
                "Import into an empty collection, or delete that memory first.",
            )
    given = [record for record in wanted if same_embedder and "vector" in record]
    left = [record for record in wanted if not (same_embedder and "vector" in record)]
    texts = [text_of(codec.decode(record["payload"])) for record in left]
    made = parts.embedder.vectors(texts) if left else []
    vectors = {record["id"]: _vector(record["vector"]) for record in given}
    vectors.update({record["id"]: vector for record, vector in zip(left, made, strict=True)})
    rows = [Row(record["id"], codec.decode(record["payload"]), vectors[record["id"]]) for record in wanted]
    writing.restore(parts, rows, {record["id"]: record["history"] for record in records})
    return len(rows), len(living) - len(rows), len(left)


def _vector(text: str) -> list[float]:
    content = base64.b64decode(text)
    return list(struct.unpack(f"<{len(content) // 4}f", content))


def _text(vector: Sequence[float]) -> str:
    """A vector in the precision that engines keep."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _head(line: str) -> dict[str, Any]:
    if not is_export(line):
        raise InvalidInput("import", "does not begin like an export of memstack", "Pass a file that export() wrote.")
    head: dict[str, Any] = json.loads(line)
    if head.get("version") != _VERSION:
        raise InvalidInput("import", "is of a version that this release does not read", "Upgrade memstack.")
    return head


def _record(line: str, scope: Scope) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInput("import", "a line is not JSON", "Export it again.") from None
    if not isinstance(record, dict):
        raise InvalidInput("import", f"a line is {describe(record)}", "Export it again.")
    if record.get("end"):
        return record
    try:
        record["id"] = canonical_id(record["id"])
        history = list(record.get("history", ()))
        record["history"] = history
        owner = scope_of(codec.decode(record["payload"])) if record.get("payload") else _owner(history)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("import", f"a memory cannot be read ({type(error).__name__})", "Export it again.") from None
    if not owner or not scope.covers(owner):
        raise InvalidInput("import", "a memory is of another scope", "Import it without a scope, or with its own.")
    return record


def _owner(history: Sequence[Mapping[str, Any]]) -> Scope:
    last: Mapping[str, Any] = history[-1] if history else {}
    return Scope(last.get("user_id"), last.get("agent_id"), last.get("run_id"))


@contextmanager
def opened(target: Target, mode: str) -> Iterator[IO[str]]:
    """A file by its path, written whole or not at all; a stream as it is."""
    if not isinstance(target, (str, os.PathLike)):
        yield target
        return
    path = Path(target)
    if mode == "r":
        with path.open(encoding="utf-8") as stream:
            yield stream
        return
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            yield stream
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
