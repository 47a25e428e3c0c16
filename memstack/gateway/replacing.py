"""Replacing: how a new memory takes the place of others on the line of time.

What is replaced is kept: it held until the new one began, and names it. A memory that began before others of its slot
(what was learnt late) takes its place among them, and held until the next one began.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from memstack import payload as payloads
from memstack.filters.ast import And, Eq, In, Node, all_of
from memstack.filters.evaluate import comparable, resolve
from memstack.filters.scoping import scope_filter
from memstack.gateway.drafts import Draft
from memstack.gateway.parts import Parts, tick, visible
from memstack.instants import EPOCH, as_instant, iso
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
    """Rows that are not written yet. What a condition says is equal is looked up, and only the rest evaluated.

    Attributes:
        rows: by id.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._having: dict[str, dict[Hashable, dict[str, None]]] = {}  # ids, by field and value

    def put(self, row: Row) -> None:
        """Add a row, or have it in the place of the one with its id."""
        self.rows[row.id] = row
        if self._having:
            fields = payloads.fields(row.id, row.payload)
            for name, by_value in self._having.items():
                _note(by_value, resolve(fields, name), row)

    def where(self, condition: Node) -> list[Row]:
        """The rows for which a condition holds, as they came."""
        among: Collection[str] = self.rows
        for part in condition.children if isinstance(condition, And) else (condition,):
            if isinstance(part, Eq):
                having = self._by_value(part.field).get(comparable(part.value), {})
                among = min(among, having, key=len)
        return [row for row_id in among if holds(condition, row := self.rows[row_id])]

    def _by_value(self, name: str) -> dict[Hashable, dict[str, None]]:
        if name not in self._having:
            by_value: dict[Hashable, dict[str, None]] = {}
            for row in self.rows.values():
                _note(by_value, resolve(payloads.fields(row.id, row.payload), name), row)
            self._having[name] = by_value
        return self._having[name]


def _note(by_value: dict[Hashable, dict[str, None]], value: object, row: Row) -> None:
    by_value.setdefault(comparable(value), {})[row.id] = None


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
        self._stored: dict[str, dict[str, Row]] = {}  # the rows of a slot, by its condition. Nobody else writes
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
        begin = _begin(row)
        given = draft.valid_from is not None or draft.message.occurred_at is not None
        named = {found.id: found for found in self._named(draft)}
        if equal is not None and (same := self.current(equal, draft.scope)) is not None:
            named[same.id] = same
        of_slot = self._of_slot(draft)
        # What begins later stays, where that was said; not what is to be replaced, nor what held before that.
        bound = max([begin, *(_begin(other) for other in named.values())])
        later = [
            other
            for other in of_slot
            if other.id not in named and _begin(other) > bound and (given or "valid_from" in other.payload)
        ]
        past = {other.id for other in later}
        reason = self._replacement.reasons.get(draft.index)
        earlier = self._earlier(named.values(), begin, draft.scope)
        for other in {found.id: found for found in (*of_slot, *named.values(), *earlier)}.values():
            end = as_instant(other.payload.get("valid_to"))
            if other.id not in past and (end is None or end > begin):
                # What had not begun by then never held. One whose message alone is of later ends at once all the same.
                self._end(other, max(begin, as_instant(other.payload.get("valid_from")) or begin), row.id, reason)
            elif other.id in named and end is not None:  # what took its place is gone
                self._end(other, end, row.id, reason)
        if later:
            following = min(later, key=lambda other: (_begin(other), other.id))
            row = with_payload(row, ended(row, _begin(following), following.id))
            self.ended.append((memory_from(row.id, row.payload), following.id, reason))
        self._new.put(row)

    def contradicted(self, draft: Draft, equal: str) -> bool:
        """Whether something else holds that a draft would take the place of, beside a row that says the same."""
        now = visible(draft.seen_at(tick()))
        schema = self._schema(draft)
        for row in self._named(draft):
            if row.id != equal and holds(now, row):
                return True
        for row in self._of_slot(draft):
            if row.id != equal and schema is not None and holds(now, row):
                stored = self._parts.schemas.read(payloads.metadata_of(row.payload), type(schema))
                if stored is not None and schema.contradicted_by(stored):
                    return True
        return False

    @property
    def rows(self) -> list[Row]:
        """The new rows, as they are to be written."""
        return list(self._new.rows.values())

    def _end(self, row: Row, at: datetime, successor: str, reason: str | None) -> None:
        over = with_payload(row, ended(row, at, successor))
        self.ended.append((memory_from(row.id, row.payload), successor, reason))
        if row.id in self._new.rows:
            self._new.put(over)
            return
        if row.id not in self.changed:
            (stored,) = self._parts.store.fetch([row.id], vectors=True)
            self.before.append(stored)
        vector = next(kept.vector for kept in self.before if kept.id == row.id)
        self.changed[row.id] = Row(row.id, over.payload, vector)

    def _schema(self, draft: Draft) -> MemorySchema | None:
        return self._parts.schemas.read(draft.metadata, draft.schema)

    def _named(self, draft: Draft) -> list[Row]:
        """What a draft is to replace, or what stands in its place by now."""
        found = [self.current(key, draft.scope) for key in self._replacement.ids.get(draft.index, ())]
        return [row for row in found if row is not None]

    def _of_slot(self, draft: Draft) -> list[Row]:
        """The rows of a draft's slot, whenever they held."""
        schema = self._schema(draft) if self._replacement.slots else None
        slot = None if schema is None or not schema.contradicts else schema.slot_filter()
        if slot is None:
            return []
        where = all_of(scope_filter(draft.scope), slot)
        slot_of = repr(where)  # 1 is no True there
        if slot_of not in self._stored:
            self._stored[slot_of] = {row.id: row for row in self._parts.store.iter_scan(where=where)}
            for row in self._stored[slot_of].values():
                self._parts.store.check_inside(row, draft.scope)
        found = {key: self.changed.get(key, row) for key, row in self._stored[slot_of].items()}
        return [*found.values(), *self._new.where(where)]

    def _earlier(self, rows: Iterable[Row], begin: datetime, scope: Scope) -> list[Row]:
        """The rows that some rows took the place of, as far back as these began after an instant."""
        found: dict[str, Row] = {}
        pending = [row for row in rows if _begin(row) > begin]
        while pending:
            where = all_of(scope_filter(scope), In("superseded_by", tuple(row.id for row in pending)))
            known = [self.changed.get(row.id, row) for row in self._parts.store.iter_scan(where=where)]
            known += self._new.where(where)
            new = {row.id: row for row in known if row.id not in found}
            for row in new.values():
                self._parts.store.check_inside(row, scope)
            found.update(new)
            pending = [row for row in new.values() if _begin(row) > begin]
        return list(found.values())

    def current(self, key: str, scope: Scope) -> Row | None:
        """The row in whose place nothing else of a scope stands yet, starting at one; None where it is gone.

        What stands in its place outside of the scope is as if it were not there.
        """
        row = self._find(key, scope)
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
        known = self._new.rows.get(key) or self.changed.get(key)
        for row in self._parts.store.fetch([key]) if known is None else [known]:
            if scope.covers(payloads.scope_of(row.payload)):
                return row
        return None


def _begin(row: Row) -> datetime:
    return as_instant(row.payload.get("valid_from")) or payloads.instant_of(row.payload, "occurred_at") or EPOCH


def ended(row: Row, at: datetime, successor: str) -> dict[str, Any]:
    """The payload of a row that held until an instant, and was superseded."""
    return {**row.payload, "valid_to": iso(at), "superseded_by": successor}
