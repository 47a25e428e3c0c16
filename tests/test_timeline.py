"""How new memories take their places on the line of time: what is looked at is little, and the places are the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import Preference
from memstack.filters.ast import Node, all_of
from memstack.filters.scoping import scope_filter
from memstack.gateway.drafts import Draft, payload_of
from memstack.gateway.lines import Line, Span
from memstack.gateway.parts import Parts, tick
from memstack.gateway.replacing import Replacement, Timeline, ended
from memstack.gateway.shown import visible
from memstack.instants import EPOCH, LAST, as_instant, utcnow
from memstack.payload import Payload, instant_of, metadata_of
from memstack.records import Message
from memstack.schemas import Schemas
from memstack.scope import Scope
from memstack.stores.base import Row, holds
from memstack.testing.contract.strategies import examples

SCOPES = (Scope("alex"), Scope("alex", run_id="r1"), Scope("bo"))
DAYS = st.none() | st.integers(-4, 4)


class Shelf:
    """Rows as a store has them, newest first."""

    label = "a shelf"

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.fetches = 0

    def iter_scan(self, *, where: Node) -> Iterator[Row]:
        return iter([row for row in reversed(self.rows.values()) if holds(where, row)])

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Row]:
        self.fetches += 1
        return [self.rows[key] if vectors else Row(key, self.rows[key].payload) for key in ids if key in self.rows]

    def check_inside(self, row: Row, scope: Scope) -> None:
        assert scope.covers(scope_of(row.payload))


def scope_of(payload: Payload) -> Scope:
    return Scope(payload.get("user_id"), payload.get("agent_id"), payload.get("run_id"))


@dataclass
class Plain:
    """The same places, found by a look at every row for each new one: what `Timeline` has to come to.

    Attributes:
        rows: all by id, as they are by now: what is stored, newest first, then the new ones as they come.
        ended: what ended: its id, when it ended before, and what took its place.
    """

    replacement: Replacement
    rows: dict[str, Row]
    ended: list[tuple[str, datetime | None, str]] = field(default_factory=list)

    def place(self, draft: Draft, row: Row, equal: str | None) -> None:
        if self.replacement.nothing and equal is None:
            self.rows[row.id] = row
            return
        begin = begin_of(row)
        stated = draft.valid_from is not None or draft.message.occurred_at is not None
        named = self.named(draft)
        if equal is not None and (same := self.current(equal, draft.scope)) is not None:
            named[same.id] = same
        slot = self.of_slot(draft)
        bound = max([begin, *map(begin_of, named.values())])
        later = {
            other.id: other
            for other in slot.values()
            if other.id not in named and begin_of(other) > bound and (stated or "valid_from" in other.payload)
        }
        for other in {**slot, **named, **self.earlier(named, begin, draft.scope)}.values():
            end = as_instant(other.payload.get("valid_to"))
            if other.id not in later and (end is None or end > begin):
                self.end(other, max(begin, as_instant(other.payload.get("valid_from")) or begin), row.id)
            elif other.id in named and end is not None:
                self.end(other, end, row.id)
        self.rows[row.id] = row
        if later:
            following = min(later.values(), key=lambda other: (begin_of(other), other.id))
            self.end(row, begin_of(following), following.id)
            self.ended[-1] = (row.id, begin_of(following), following.id)  # it never was without this end

    def contradicted(self, draft: Draft, equal: str) -> bool:
        now = visible(draft.seen_at(tick()))
        if any(holds(now, row) for row in self.named(draft).values() if row.id != equal):
            return True
        mine = Preference.from_metadata(draft.metadata)
        others = [row for row in self.of_slot(draft).values() if row.id != equal and holds(now, row)]
        return any(mine.contradicted_by(Preference.from_metadata(metadata_of(row.payload))) for row in others)

    def end(self, row: Row, at: datetime, successor: str) -> None:
        self.ended.append((row.id, as_instant(row.payload.get("valid_to")), successor))
        self.rows[row.id] = Row(row.id, ended(row, at, successor), row.vector)

    def named(self, draft: Draft) -> dict[str, Row]:
        found = [self.current(key, draft.scope) for key in self.replacement.ids.get(draft.index, ())]
        return {row.id: row for row in found if row is not None}

    def of_slot(self, draft: Draft) -> dict[str, Row]:
        if not self.replacement.slots:
            return {}
        where = all_of(scope_filter(draft.scope), Preference.from_metadata(draft.metadata).slot_filter())
        return {row.id: row for row in self.rows.values() if holds(where, row)}

    def earlier(self, named: dict[str, Row], begin: datetime, scope: Scope) -> dict[str, Row]:
        found: dict[str, Row] = {}
        pending = [row.id for row in named.values() if begin_of(row) > begin]
        while pending:
            before = [row for row in self.rows.values() if row.payload.get("superseded_by") in pending]
            new = {row.id: row for row in before if scope.covers(scope_of(row.payload)) and row.id not in found}
            found.update(new)
            pending = [row.id for row in new.values() if begin_of(row) > begin]
        return found

    def current(self, key: str, scope: Scope) -> Row | None:
        row = self.rows.get(key)
        seen = {key}
        while row is not None and scope.covers(scope_of(row.payload)):
            successor = self.rows.get(row.payload.get("superseded_by", ""))
            if successor is None or successor.id in seen or not scope.covers(scope_of(successor.payload)):
                return row
            seen.add(successor.id)
            row = successor
        return None


def begin_of(row: Row) -> datetime:
    return as_instant(row.payload.get("valid_from")) or instant_of(row.payload, "occurred_at") or EPOCH


@dataclass(frozen=True)
class Step:
    """A new memory; what it names is given by its place among those before it, from the last."""

    scope: Scope
    key: str
    value: str
    since: int | None
    said: int | None
    until: int | None
    names: tuple[int, ...]
    equal: int | None


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(SCOPES),
        st.sampled_from(("k", "k", "l")),
        st.sampled_from("xyz"),
        DAYS,
        DAYS,
        DAYS,
        st.just(()) | st.tuples(st.integers(1, 9)) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
        st.none() | st.integers(1, 9),
    ),
    max_size=14,
)


def drafts_of(steps: Sequence[Step], first: int, now: datetime) -> Iterator[tuple[Draft, Row]]:
    for index, step in enumerate(steps, first):
        since, said, until = (
            None if days is None else now + timedelta(days=days) for days in (step.since, step.said, step.until)
        )
        message = Message("user", step.value, occurred_at=said)
        metadata = Preference(key=step.key, value=step.value).to_metadata()
        draft = Draft(index, message, step.scope, metadata, until, since)
        payload = payload_of(draft, now + timedelta(microseconds=index), {index: index})
        yield draft, Row(str(uuid.UUID(int=index)), payload, (float(index), 1.0))


def ids_of(steps: Sequence[Step], first: int) -> dict[int, tuple[str, ...]]:
    return {
        index: tuple(str(uuid.UUID(int=index - back)) for back in step.names)
        for index, step in enumerate(steps, first)
        if step.names
    }


@examples(400)
@given(st.lists(st.tuples(STEPS, st.booleans()), min_size=1, max_size=3))
def test_places_are_those_that_a_look_at_every_row_gives(calls: list[tuple[list[Step], bool]]) -> None:
    """Whatever is said late, at once, for the future, again or in place of what: all rows end as they would have."""
    shelf = Shelf()
    parts = cast("Parts", SimpleNamespace(store=shelf, schemas=Schemas()))
    now = utcnow()
    first = 20
    for steps, slots in calls:
        replacement = Replacement(ids_of(steps, first), slots)
        timeline = Timeline(parts, replacement)
        plain = Plain(replacement, dict(reversed(shelf.rows.items())))
        for step, (draft, row) in zip(steps, drafts_of(steps, first, now), strict=True):
            equal = None if step.equal is None else str(uuid.UUID(int=draft.index - step.equal))
            if equal is not None:
                assert timeline.contradicted(draft, equal) == plain.contradicted(draft, equal)
            timeline.place(draft, row, equal=equal)
            plain.place(draft, row, equal)
        told = [(memory.id, memory.valid_to, successor) for memory, successor, _ in timeline.ended]
        assert sorted(told, key=repr) == sorted(plain.ended, key=repr)
        changed = {key: row for key, row in plain.rows.items() if key in shelf.rows and row != shelf.rows[key]}
        assert timeline.changed == changed
        assert {row.id: row for row in timeline.before} == {key: shelf.rows[key] for key in changed}
        assert timeline.rows == [row for key, row in plain.rows.items() if key not in shelf.rows]
        shelf.rows.update(changed)
        shelf.rows.update((row.id, row) for row in timeline.rows)
        first += len(steps)


ENDS = st.none() | st.integers(0, 9) | st.just(-1)


@examples(300)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), ENDS) | st.tuples(st.integers(0, 9), st.integers(0, 9), ENDS, st.integers(0, 30)),
        max_size=40,
    )
)
def test_a_line_finds_what_holds(steps: list[tuple[Any, ...]]) -> None:
    """However rows came, and whatever their ends became since then: those that began by and end after are found."""
    line = Line()
    spans: list[Span] = []

    def at(number: int | None) -> datetime | None:
        return None if number is None else LAST if number < 0 else EPOCH + timedelta(days=number)

    def payload(begin: datetime | None, end: datetime | None) -> Payload:
        times = {"valid_from": begin, "valid_to": end}
        return {name: instant.isoformat() for name, instant in times.items() if instant is not None}

    for step in steps:
        if len(step) == 2:
            spans.append(Span(Row(str(uuid.uuid4()), payload(at(step[0]), at(step[1])))))
            line.add(spans[-1])
            continue
        begin, bound = (cast("datetime", at(number)) for number in step[:2])
        found = line.holding(begin, bound)
        assert {span.row.id for span in found} == {
            span.row.id for span in spans if span.begin <= bound and span.ends_after(begin)
        }
        assert [span.begin for span in line.after(bound)] == sorted(span.begin for span in spans if span.begin > bound)
        if spans:
            changed = spans[step[3] % len(spans)]
            changed.become(Row(changed.row.id, payload(changed.begin, at(step[2]))))
            line.raised(changed)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("timed", [True, False])
def test_many_of_a_slot_look_at_their_neighbours_only(monkeypatch: pytest.MonkeyPatch, order: int, timed: bool) -> None:
    """Four times as many values of one slot in one call, in either order, take about four times as many looks."""
    looks = 0

    def counted(where: Node, row: Row) -> bool:
        nonlocal looks
        looks += 1
        return holds(where, row)

    def ends_after(span: Span, instant: datetime) -> bool:
        nonlocal looks
        looks += 1
        return span.end is None or span.end > instant

    monkeypatch.setattr("memstack.gateway.replacing.holds", counted)
    monkeypatch.setattr(Span, "ends_after", ends_after)
    taken: list[int] = []
    now = utcnow()
    for count in (50, 200):
        looks = 0
        days = range(-count, 0)[::order]
        steps = [Step(SCOPES[0], "k", str(day), day if timed else None, None, None, (), None) for day in days]
        timeline = Timeline(cast("Parts", SimpleNamespace(store=Shelf(), schemas=Schemas())), Replacement())
        for draft, row in drafts_of(steps, 20, now):
            timeline.place(draft, row)
        assert len(timeline.ended) >= count - 1
        taken.append(looks)
    assert taken[1] < 6 * taken[0]


@pytest.mark.parametrize("slots", [True, False])
def test_the_end_of_a_chain_is_found_in_few_questions(slots: bool) -> None:
    """By the first of many in its slot, the last is found without a question for each; no row is asked for twice."""
    shelf = Shelf()
    parts = cast("Parts", SimpleNamespace(store=shelf, schemas=Schemas()))
    now = utcnow()
    timeline = Timeline(parts, Replacement())
    steps = [Step(SCOPES[0], "k", str(day), day, None, None, (), None) for day in range(-40, 0)]
    for draft, row in drafts_of(steps, 20, now):
        timeline.place(draft, row)
    shelf.rows.update((row.id, row) for row in timeline.rows)
    first, *_, last = shelf.rows
    again = Timeline(parts, Replacement({60: (first,)}, slots))
    found = again.current(first, SCOPES[0])
    assert found is not None
    assert found.id == last
    ((draft, row),) = drafts_of([Step(SCOPES[0], "k", "new", 0, None, None, (), None)], 60, now)
    again.place(draft, row)
    assert [(memory.id, successor) for memory, successor, _ in again.ended] == [(last, row.id)]
    assert shelf.fetches == (2 if slots else 41)
