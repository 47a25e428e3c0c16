"""The import itself: from entries to memories, batch by batch, with an account of every entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from memstack.batching import batched
from memstack.cli.options import ScopeIds
from memstack.cli.sources import Entry
from memstack.instants import as_instant, utcnow
from memstack.scope import SCOPE_FIELDS

if TYPE_CHECKING:
    from memstack.gateway import MemoryGateway

__all__ = ["Failure", "Importer", "Report"]

_KEPT: Final = 20
_OWNERLESS: Final = (
    "scope: nobody is named. Give the line a user_id, agent_id or run_id, or pass --user, --agent or --run."
)
_HOPELESS: Final = 5  # batches in a row that fail whole, for one and the same reason


@dataclass(frozen=True, slots=True)
class Failure:
    """An entry that could not be stored."""

    place: str
    line: int | None
    reason: str
    retryable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        line = {} if self.line is None else {"line": self.line}
        return {**line, "place": self.place, "reason": self.reason, "retryable": self.retryable}


@dataclass(slots=True)
class Report:
    """What became of the entries: each is counted once.

    Attributes:
        read: how many there were.
        stored: how many are memories now.
        skipped: how many were left out, by reason.
        failed: how many could not be stored.
        failures: the first of those.
        stopped: why the import ended before its source did; empty where it did not.
    """

    read: int = 0
    stored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    stopped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return {
            "read": self.read,
            "stored": self.stored,
            "skipped": dict(self.skipped),
            "failed": self.failed,
            "failures": [failure.to_dict() for failure in self.failures],
            "stopped": self.stopped or None,
        }


class Importer:
    """Stores entries in batches. Each batch is stored whole or not at all.

    Args:
        memory: where to.
        batch_size: how many are embedded and written at a time.
        scope: whose they are, where they do not say so themselves.
        failed: told of every failure.
        progressed: told how far the source is read, after every batch.
    """

    def __init__(
        self,
        memory: MemoryGateway,
        *,
        batch_size: int,
        scope: ScopeIds,
        failed: Callable[[Failure], object],
        progressed: Callable[[int], object],
    ) -> None:
        self.report = Report()
        self._memory = memory
        self._size = batch_size
        self._scope = scope
        self._failed = failed
        self._progressed = progressed
        self._hopeless: tuple[str, int] = ("", 0)

    def run(self, entries: Iterable[Entry]) -> None:
        """Go through the entries; `report` tells what became of them, also while it runs."""
        for batch in batched(entries, self._size):
            self._store(batch)
            self._progressed(batch[-1].done)
            if self.report.stopped:
                return

    def _store(self, batch: Sequence[Entry]) -> None:
        ready: list[Entry] = []
        failures: list[tuple[int, Failure]] = []
        skipped: Counter[str] = Counter()
        places = {id(entry): place for place, entry in enumerate(batch)}
        for place, entry in enumerate(batch):
            if entry.item is None:
                failures.append((place, Failure(entry.place, entry.line, entry.problem)))
            elif _has_expired(entry.item.get("expires_at")):
                skipped["expired"] += 1
            else:
                ready.append(entry)
        result = self._memory.add_many(
            [entry.item for entry in ready if entry.item is not None], batch_size=self._size, **self._scope
        )
        for item in result.failed:
            entry = ready[item.index]
            reason = item.reason if self._is_owned(entry) else _OWNERLESS
            failures.append((places[id(entry)], Failure(entry.place, entry.line, reason, item.retryable)))
        skipped.update(item.reason for item in result.skipped)
        report = self.report
        report.read += len(batch)
        report.stored += len(result.stored)
        report.skipped.update(skipped)
        for _, failure in sorted(failures, key=lambda pair: pair[0]):
            report.failed += 1
            self._failed(failure)
            if len(report.failures) < _KEPT:
                report.failures.append(failure)
        self._consider({item.reason for item in result.failed}, whole=len(result.failed) == self._size)

    def _is_owned(self, entry: Entry) -> bool:
        """Whether somebody is named; the library's words for it are of Python."""
        return any(ids.get(name) is not None for ids in (entry.item or {}, self._scope) for name in SCOPE_FIELDS)

    def _consider(self, reasons: set[str], *, whole: bool) -> None:
        """Stop where batch after batch fails for one and the same reason: a full disk, a dead server."""
        if not whole or len(reasons) != 1:
            self._hopeless = ("", 0)
            return
        (reason,) = reasons
        before, count = self._hopeless
        self._hopeless = (reason, count + 1 if reason == before else 1)
        if self._hopeless[1] >= _HOPELESS:
            self.report.stopped = f"{_HOPELESS} batches in a row failed: {reason}"


def _has_expired(value: object) -> bool:
    instant = as_instant(value)
    return instant is not None and instant <= utcnow()
