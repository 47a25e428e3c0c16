"""Lines of time: rows in the order in which they began, so that a new one looks at its neighbours alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import datetime

from memstack import payload as payloads
from memstack.instants import EPOCH, FIRST, as_instant
from memstack.stores.base import Row

__all__ = ["Line", "Span"]


class Span:
    """A row, and when it holds.

    Attributes:
        row: as it is by now.
        begin: since when it holds; it is never changed.
        end: until when; None is without an end.
        said: whether it was said since when it holds.
    """

    __slots__ = ("begin", "end", "row", "said")

    def __init__(self, row: Row) -> None:
        since = as_instant(row.payload.get("valid_from"))
        self.begin = since or payloads.instant_of(row.payload, "occurred_at") or EPOCH
        self.said = "valid_from" in row.payload
        self.become(row)

    def become(self, row: Row) -> None:
        """Be another state of the row."""
        self.row = row
        self.end = as_instant(row.payload.get("valid_to"))

    def ends_after(self, instant: datetime) -> bool:
        """Whether it ends after an instant, or has no end."""
        return self.end is None or self.end > instant

    def stays(self, bound: datetime, *, said: bool) -> bool:
        """Whether it begins after a bound, and that was said of it, or of what would take its place."""
        return self.begin > bound and (said or self.said)


class Line:
    """Rows by (begin, id). Their ends may change from outside; where one becomes later, `raised` has to be told."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        # None of the first n + 1 ends after the nth of these; None is without an end. They may be later than need be.
        self._reach: list[datetime | None] = []
        self._places: dict[str, int] = {}

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._places

    def place(self, row_id: str) -> int:
        """When a row came, as a number; one that is not here would come last."""
        return self._places.get(row_id, len(self._places))

    def add(self, span: Span) -> None:
        """Add a row that is not here."""
        at = bisect_left(self._spans, (span.begin, span.row.id), key=_key)
        self._places[span.row.id] = len(self._places)
        self._spans.insert(at, span)
        self._reach.insert(at, self._reach[at - 1] if at else FIRST)
        self._raise(at, span.end)

    def raised(self, span: Span) -> None:
        """One of the rows ends later than before."""
        self._raise(bisect_left(self._spans, (span.begin, span.row.id), key=_key), span.end)

    def holding(self, begin: datetime, bound: datetime) -> list[Span]:
        """The rows that began up to a bound, and end after `begin`."""
        found: list[Span] = []
        last = bisect_right(self._spans, bound, key=_begin)
        first = last
        while first and _is_after(self._reach[first - 1], begin):
            first -= 1
            if self._spans[first].ends_after(begin):
                found.append(self._spans[first])
        for at in range(first, last):  # the next one need not look at what has ended by now
            end = self._spans[at].end
            self._reach[at] = end if at == 0 or _is_after(end, self._reach[at - 1]) else self._reach[at - 1]
        return found

    def reached(self, begin: datetime, bound: datetime, *, said: bool) -> tuple[list[Span], Span | None]:
        """What has to make room for a new row.

        Args:
            begin: since when the new one holds.
            bound: what began up to then holds no longer, wherever the new one begins.
            said: whether it was said since when it holds.

        Returns:
            What ends where it begins, and the row until which it holds. What begins later stays where that was said.
        """
        ending = self.holding(begin, bound)
        following: Span | None = None
        for span in self.after(bound):
            if span.stays(bound, said=said):
                following = following or span
                if said:
                    break
            elif span.ends_after(begin):
                ending.append(span)
        return ending, following

    def after(self, bound: datetime) -> Iterator[Span]:
        """The rows that began after a bound, the first one first."""
        return (self._spans[at] for at in range(bisect_right(self._spans, bound, key=_begin), len(self._spans)))

    def _raise(self, at: int, end: datetime | None) -> None:
        while at < len(self._reach) and _is_after(end, self._reach[at]):
            self._reach[at] = end
            at += 1


def _begin(span: Span) -> datetime:
    return span.begin


def _key(span: Span) -> tuple[datetime, str]:
    return span.begin, span.row.id


def _is_after(end: datetime | None, other: datetime | None) -> bool:
    """Whether an end is after another one; None is without an end."""
    return other is not None and (end is None or end > other)
