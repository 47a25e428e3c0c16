"""Replacing: how a new memory takes the place of others on the line of time.

What is replaced is kept: it held until the new one began, and names it. A memory that began before others of its slot
(what was learnt late) takes its place among them, and held until the next one began.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from memstack import payload as payloads
from memstack.filters.ast import And, Eq, In, Node, all_of
from memstack.filters.evaluate import comparable, resolve
from memstack.filters.scoping import scope_filter
from memstack.gateway.drafts import Draft, draft_of
from memstack.gateway.lines import Line, Span
from memstack.gateway.parts import Parts, tick
from memstack.gateway.shown import visible
from memstack.instants import as_instant, iso
from memstack.payload import memory_from
from memstack.records import Memory
from memstack.schemas import MemorySchema
from memstack.scope import Scope
from memstack.stores.base import Row, holds, with_payload

__all__ = ["Replacement", "Timeline", "ended"]


@dataclass(frozen=True, slots=True)
class Replacement:
    """What new memories take the place of.

    Attributes:
        ids: memories by the index of the draft; of those that were replaced before, the ones in their place.
        slots: also what is current of the draft's slot.
        reasons: why, by the index of the draft.
    """

    ids: Mapping[int, Sequence[str]] = field(default_factory=dict)
    slots: bool = True
    reasons: Mapping[int, str] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Whether there is nothing that could be replaced."""
        return not (self.slots or self.ids)


class _NewRows:
    """Rows that are not written yet, in the order in which they came.

    What a condition says is equal is looked up, and only the rest evaluated: of what it names, no row changes more than
    what has taken its place.

    Attributes:
        rows: by id.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._ids: list[str] = []
        self._places: dict[str, int] = {}  # among the ids
        self._having: dict[str, dict[Hashable, list[int]]] = {}  # places, by field and value
        self._replaced: dict[str, set[int]] = {}  # places, by what has taken the row's place

    def put(self, row: Row) -> None:
        """Add a row, or have it in the place of the one with its id."""
        before = self.rows.get(row.id)
        self.rows[row.id] = row
        if before is None:
            self._places[row.id] = len(self._ids)
            self._ids.append(row.id)
            for name, by_value in self._having.items():
                self._note(by_value, name, row)
        elif (successor := before.payload.get("superseded_by")) is not None:
            self._replaced[successor].discard(self._places[row.id])
        if (successor := row.payload.get("superseded_by")) is not None:
            self._replaced.setdefault(successor, set()).add(self._places[row.id])

    def where(self, condition: Node, *, since: int = 0) -> list[Row]:
        """The rows for which a condition holds, as they came; so many that came first are passed over."""
        among: Sequence[int] = range(since, len(self._ids))
        for part in condition.children if isinstance(condition, And) else (condition,):
            if isinstance(part, Eq):
                having = self._by_value(part.field).get(comparable(part.value), [])
            elif isinstance(part, In) and part.field == "superseded_by":
                having = sorted(place for one in part.values for place in self._replaced.get(str(one), ()))
            else:
                continue
            first = bisect_left(having, since)
            if len(having) - first < len(among):
                among = having[first:]
        return [row for place in among if holds(condition, row := self.rows[self._ids[place]])]

    def _by_value(self, name: str) -> dict[Hashable, list[int]]:
        if name not in self._having:
            by_value: dict[Hashable, list[int]] = {}
            for row in self.rows.values():
                self._note(by_value, name, row)
            self._having[name] = by_value
        return self._having[name]

    def _note(self, by_value: dict[Hashable, list[int]], name: str, row: Row) -> None:
        value = resolve(payloads.fields(row.id, row.payload), name)
        by_value.setdefault(comparable(value), []).append(self._places[row.id])


class Timeline:
    """Puts new rows in their place, one after the other. Stands inside a write transaction.

    Attributes:
        before: the rows of the store that are changed, as they were, with their vectors.
        changed: the same, as they are to be written.
        ended: what was replaced: (the old memory, the new one's id, why).
    """

    def __init__(self, parts: Parts, replacement: Replacement) -> None:
        self._parts = parts
        self._replacement = replacement
        self._new = _NewRows()
        self._spans: dict[str, Span] = {}  # of all rows that were looked at, by id
        self._fetched: dict[str, Row | None] = {}  # by id, as they are stored: nobody else writes meanwhile
        self._lines: dict[str, tuple[Line, int]] = {}  # by the slot's condition; so many of the new rows were looked at
        self.before: list[Row] = []
        self.changed: dict[str, Row] = {}
        self.ended: list[tuple[Memory, str, str | None]] = []

    def place(self, draft: Draft, row: Row, *, equal: str | None = None) -> None:
        """Put a new row in its place; it is among `rows` then.

        Args:
            draft: what the row was made of.
            row: the new row.
            equal: a row that says the same, in the place of which the new one stands, too.
        """
        if self._replacement.nothing and equal is None:
            self._new.put(row)
            return
        begin = Span(row).begin
        given = draft.valid_from is not None or draft.message.occurred_at is not None
        named = {found.id: self._span(found) for found in self._named(draft)}
        if equal is not None and (same := self.current(equal, draft.scope)) is not None:
            named[same.id] = self._span(same)
        line = self._of_slot(draft)
        # What begins later stays, where that was said; not what is to be replaced, nor what held before that.
        bound = max([begin, *(other.begin for other in named.values())])
        ending, following = line.reached(begin, bound, said=given)
        earlier = [
            other
            for other in self._earlier(named.values(), begin, draft.scope)
            if other.row.id not in line or not other.stays(bound, said=given)
        ]
        reason = self._replacement.reasons.get(draft.index)
        found = {other.row.id: other for other in (*ending, *named.values(), *earlier)}
        for other in sorted(found.values(), key=lambda other: line.place(other.row.id)):
            if other.ends_after(begin):
                # What had not begun by then never held. One whose message alone is of later ends at once all the same.
                since = as_instant(other.row.payload.get("valid_from"))
                self._end(other, max(begin, since or begin), row.id, reason)
            elif other.row.id in named and other.end is not None:  # what took its place is gone
                self._end(other, other.end, row.id, reason)
        if following is not None:
            row = with_payload(row, ended(row, following.begin, following.row.id))
            self.ended.append((memory_from(row.id, row.payload), following.row.id, reason))
        self._new.put(row)

    def is_over(self, key: str, at: datetime) -> bool:
        """Whether a row was replaced here, or is new, and is not visible at an instant."""
        row = self._new.rows.get(key) or self.changed.get(key)
        return row is not None and not holds(visible(at), row)

    def contradicted(self, draft: Draft, equal: str) -> bool:
        """Whether something else holds that a draft would take the place of, beside a row that says the same."""
        at = draft.seen_at(tick())
        now = visible(at)
        schema = self._schema(draft)
        for row in self._named(draft):
            if row.id != equal and holds(now, row):
                return True
        line = self._of_slot(draft)
        for row in (span.row for span in (*line.holding(at, at), *line.after(at))):
            if row.id != equal and schema is not None and holds(now, row):
                stored = self._parts.schemas.read(payloads.metadata_of(row.payload), type(schema))
                if stored is not None and schema.contradicted_by(stored):
                    return True
        return False

    @property
    def rows(self) -> list[Row]:
        """The new rows, as they are to be written."""
        return list(self._new.rows.values())

    def _end(self, span: Span, at: datetime, successor: str, reason: str | None) -> None:
        row = span.row
        over = with_payload(row, ended(row, at, successor))
        self.ended.append((memory_from(row.id, row.payload), successor, reason))
        later = span.end is not None and span.end < at
        if row.id in self._new.rows:
            self._new.put(over)
        elif row.id in self.changed:
            over = self.changed[row.id] = Row(row.id, over.payload, self.changed[row.id].vector)
        else:
            (stored,) = self._parts.store.fetch([row.id], vectors=True)
            self.before.append(stored)
            over = self.changed[row.id] = Row(row.id, over.payload, stored.vector)
        span.become(over)
        if later:  # another program had it end before it began
            for line, _ in self._lines.values():
                if row.id in line:
                    line.raised(span)

    def _schema(self, draft: Draft) -> MemorySchema | None:
        return self._parts.schemas.read(draft.metadata, draft.schema)

    def _named(self, draft: Draft) -> list[Row]:
        """What a draft is to replace, or what stands in its place by now."""
        found = [self.current(key, draft.scope) for key in self._replacement.ids.get(draft.index, ())]
        return [row for row in found if row is not None]

    def _of_slot(self, draft: Draft) -> Line:
        """The rows of a draft's slot, whenever they held."""
        schema = self._schema(draft) if self._replacement.slots else None
        slot = None if schema is None or not schema.contradicts else schema.slot_filter()
        if slot is None:
            return Line()
        where = all_of(scope_filter(draft.scope), slot)
        slot_of = repr(where)  # 1 is no True there
        line, seen = self._lines.get(slot_of) or (self._stored(where, draft.scope), 0)
        for row in self._new.where(where, since=seen):
            line.add(self._span(row))
        self._lines[slot_of] = (line, len(self._new.rows))
        return line

    def _stored(self, where: Node, scope: Scope) -> Line:
        """The rows of the store for which a condition holds: nobody else writes meanwhile."""
        line = Line()
        for row in self._parts.store.iter_scan(where=where):
            self._parts.store.check_inside(row, scope)
            line.add(self._span(row))
        return line

    def _span(self, row: Row) -> Span:
        """When a row holds, as it is by now."""
        if row.id not in self._spans:
            self._spans[row.id] = Span(self.changed.get(row.id, row))
        return self._spans[row.id]

    def _earlier(self, spans: Iterable[Span], begin: datetime, scope: Scope) -> list[Span]:
        """The rows that some rows took the place of, as far back as these began after an instant."""
        found: dict[str, Span] = {}
        pending = [span.row.id for span in spans if span.begin > begin]
        while pending:
            where = _replaced_by(pending, scope)
            stored = [row_id for row_id in pending if row_id not in self._new.rows]
            told = self._parts.store.iter_scan(where=_replaced_by(stored, scope)) if stored else ()
            known = [row for row in told if row.id not in self.changed]
            known += [row for row in self.changed.values() if holds(where, row)]
            known += self._new.where(where)
            new = {row.id: self._span(row) for row in known if row.id not in found}
            for span in new.values():
                self._parts.store.check_inside(span.row, scope)
            found.update(new)
            pending = [span.row.id for span in new.values() if span.begin > begin]
        return list(found.values())

    def current(self, key: str, scope: Scope) -> Row | None:
        """The row in whose place nothing else of a scope stands yet, starting at one; None where it is gone.

        What stands in its place outside of the scope is as if it were not there.
        """
        row = self._find(key, scope)
        if row is not None and "superseded_by" in row.payload:  # most chains are of one slot: it is read at once
            self._of_slot(draft_of(memory_from(row.id, row.payload)))
        seen = {key}
        while row is not None:
            following = row.payload.get("superseded_by")
            successor = None if following is None or following in seen else self._find(following, scope)
            if successor is None:
                return row
            seen.add(successor.id)
            row = successor
        return None

    def _find(self, key: str, scope: Scope) -> Row | None:
        known = self._new.rows.get(key)
        if known is None and key in self._spans:
            known = self._spans[key].row
        if known is None and key not in self._fetched:
            self._fetched[key] = next(iter(self._parts.store.fetch([key])), None)
        row = self._fetched[key] if known is None else known
        return row if row is not None and scope.covers(payloads.scope_of(row.payload)) else None


def _replaced_by(ids: Sequence[str], scope: Scope) -> Node:
    """Holds for what memories with these ids took the place of, in a scope."""
    return all_of(scope_filter(scope), In("superseded_by", tuple(ids)))


def ended(row: Row, at: datetime, successor: str) -> dict[str, Any]:
    """The payload of a row that held until an instant, and was superseded."""
    return {**row.payload, "valid_to": iso(at), "superseded_by": successor}
