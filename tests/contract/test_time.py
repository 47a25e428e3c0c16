"""Time: what held when, what has ended, what was learnt late, on every backend."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import F, MemoryGateway, Preference
from memstack.errors import CursorError, InvalidInput
from memstack.gateway import parts
from memstack.gateway.conflicts import OnConflict
from memstack.instants import EPOCH, utcnow
from memstack.testing.contract.strategies import examples

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def day(number: int) -> datetime:
    return NOW + timedelta(days=number)


def prefer(value: str) -> Preference:
    return Preference(key="time of day", value=value)


def at(memory: MemoryGateway, number: int) -> list[str]:
    """What held on a day, by search and by listing alike."""
    found = sorted(hit.text for hit in memory.search("when?", as_of=day(number)))
    assert found == sorted(hit.text for hit in memory.search("", as_of=day(number).isoformat()))
    assert found == sorted(item.text for item in memory.get_all(as_of=day(number)))
    assert found == sorted(item.text for item in memory.iter_all(as_of=day(number)))
    return found


def say(memory: MemoryGateway, value: str, when: int) -> None:
    message = {"role": "user", "content": value, "occurred_at": day(when)}
    memory.add(message, metadata=prefer(value), on_conflict="supersede")


def test_as_of_shows_what_held_then(memory: MemoryGateway) -> None:
    """Each statement holds from when it was said until the next one; before the first there was nothing."""
    alex = memory.for_user("alex")
    say(alex, "morning", -10)
    say(alex, "evening", -5)
    assert at(alex, -11) == []
    assert at(alex, -10) == ["morning"]
    assert at(alex, -6) == ["morning"]
    assert at(alex, -5) == ["evening"]
    assert [hit.text for hit in alex.search("")] == ["evening"]
    (hit,) = alex.search("", schema=Preference, as_of=day(-7))
    assert hit.metadata.value == "morning"


def test_what_is_learnt_late_takes_its_place(memory: MemoryGateway) -> None:
    """A statement about the past ends what held before it, and holds until what came after it."""
    alex = memory.for_user("alex")
    say(alex, "morning", -10)
    say(alex, "evening", -5)
    late = alex.add("noon", metadata=prefer("noon"), valid_from=day(-7), on_conflict="supersede").stored[0]
    assert [at(alex, number) for number in (-10, -8, -7, -6, -5)] == [
        ["morning"],
        ["morning"],
        ["noon"],
        ["noon"],
        ["evening"],
    ]
    assert [hit.text for hit in alex.search("")] == ["evening"]
    assert (late.valid_from, late.valid_to) == (day(-7), day(-5))
    history = alex.history(late.id)
    assert len({change.memory_id for change in history}) == 3
    ends = [change for change in history if change.event == "SUPERSEDE" and change.memory_id == late.id]
    assert [change.superseded_by for change in ends] == [late.superseded_by]


def test_a_first_statement_can_come_last(memory: MemoryGateway) -> None:
    """In whatever order statements are stored, what held when is the same."""
    alex = memory.for_user("alex")
    for when in (-2, -9, -5, -7, -1):
        say(alex, f"value {when}", when)
    for when in (-9, -7, -5, -2, -1):
        assert at(alex, when) == [f"value {when}"]
    assert [hit.text for hit in alex.search("")] == ["value -1"]


def test_what_ended_as_the_new_one_begins_keeps_its_successor(memory: MemoryGateway) -> None:
    """A new statement takes the place of what held when it began, not of what had ended by then."""
    alex = memory.for_user("alex")
    for value in ("morning", "noon", "evening"):
        say(alex, value, {"morning": -10}.get(value, -5))
    by_text = {item.text: item for item in (*alex.get_all(as_of=day(-6)), *alex.get_all())}
    noon = alex.get(str(by_text["morning"].superseded_by))
    assert (noon.text, noon.superseded_by) == ("noon", by_text["evening"].id)


def test_what_begins_in_the_future_is_hidden_until_then(memory: MemoryGateway) -> None:
    """With a `valid_from` to come, the old one holds until then."""
    alex = memory.for_user("alex")
    soon = utcnow() + timedelta(days=3)
    alex.add("Berlin", metadata=Preference(key="home", value="Berlin"))
    alex.add("Paris", metadata=Preference(key="home", value="Paris"), valid_from=soon, on_conflict="supersede")
    assert [hit.text for hit in alex.search("")] == ["Berlin"]
    assert [hit.text for hit in alex.search("", as_of=soon)] == ["Paris"]


@pytest.mark.parametrize("policy", ["keep", "supersede", "raise", "ask"])
def test_what_is_hidden_yet_is_stored_once(memory: MemoryGateway, policy: OnConflict) -> None:
    """What holds from a day to come, or has expired already, is there: said again, it is a duplicate."""
    alex = memory.for_user("alex")
    soon = utcnow() + timedelta(days=3)
    alex.add("Berlin", metadata=Preference(key="home", value="Berlin"), expires_at=soon)
    for begin in (soon, soon + timedelta(days=1), soon):
        alex.add("Paris", metadata=prefer("Paris"), valid_from=begin, on_conflict=policy)
    for _ in range(2):
        alex.add("a parcel waits", expires_at="2020-01-01", on_conflict=policy)
    kept = alex.get_all(as_of=soon + timedelta(days=2), show_expired=True)
    assert sorted(memory.text for memory in kept) == ["Berlin", "Paris", "a parcel waits"]


@pytest.mark.parametrize("in_one_call", [True, False])
def test_what_is_hidden_is_no_duplicate_of_what_holds_now(memory: MemoryGateway, in_one_call: bool) -> None:
    """What holds now is stored beside equal memories that have expired, or begin later, also of the same call."""
    alex = memory.for_user("alex")
    soon = utcnow() + timedelta(days=3)
    items: list[dict[str, Any]] = [
        {"content": "I live in Paris", "valid_from": soon},
        {"content": "I live in Paris", "expires_at": "2020-01-01"},
        {"content": "I live in Paris"},
        {"content": "I live in Paris", "valid_from": soon},
    ]
    results = [alex.add_many(items)] if in_one_call else [alex.add_many([item]) for item in items]
    assert sum(len(result.stored) for result in results) == 3
    assert [hit.text for hit in alex.search("")] == ["I live in Paris"]


def test_what_is_said_before_the_future_begins(memory: MemoryGateway) -> None:
    """What is said now ends what holds now, and holds until what was planned begins."""
    alex = memory.for_user("alex")
    soon = utcnow() + timedelta(days=3)
    say(alex, "Berlin", -10)
    alex.add("Paris", metadata=prefer("Paris"), valid_from=soon, on_conflict="supersede")
    alex.add("Rome", metadata=prefer("Rome"), on_conflict="supersede")
    assert [hit.text for hit in alex.search("")] == ["Rome"]
    assert [hit.text for hit in alex.search("", as_of=soon)] == ["Paris"]
    assert at(alex, -9) == ["Berlin"]


@pytest.mark.parametrize("how", ["confirm", "supersede"])
def test_what_is_named_is_replaced_since_whenever_the_new_one_holds(memory: MemoryGateway, how: str) -> None:
    """A memory that is to be replaced is, also by one that has held since before it began, and all in between."""
    alex = memory.for_user("alex")
    say(alex, "morning", -10)
    say(alex, "noon", -5)
    if how == "confirm":
        asked = alex.add("evening", metadata=prefer("evening"), valid_from=day(-20), on_conflict="ask")
        (new,) = alex.confirm(asked.pending[0].token).stored
    else:
        (old,) = alex.get_all()
        new = alex.supersede(old.id, "evening", metadata=prefer("evening"), valid_from=day(-20))
    assert [hit.id for hit in alex.search("")] == [new.id]
    assert (new.superseded_by, new.valid_to) == (None, None)
    assert [at(alex, number) for number in (-21, -20, -10, -5, 0)] == [[], *[["evening"]] * 4]


def test_what_began_before_a_whole_chain_replaces_all_of_it(memory: MemoryGateway) -> None:
    """However long the chain is that a memory stands at the end of: what began before all of it holds in its place."""
    alex = memory.for_user("alex")
    (last,) = alex.add({"role": "user", "content": "one", "occurred_at": day(-10)}).stored
    for text, number in (("two", -8), ("three", -6), ("four", -4)):
        last = alex.supersede(last.id, text, valid_from=day(number))
    assert [at(alex, number) for number in (-11, -10, -8, -6, -4)] == [[], ["one"], ["two"], ["three"], ["four"]]
    alex.supersede(last.id, "five", valid_from=day(-20))
    assert [at(alex, number) for number in (-21, -20, -10, -8, -6, -4)] == [[], *[["five"]] * 5]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "add", "ask", "supersede", "delete")),
        st.sampled_from(("morning", "noon", "evening")),
        st.none() | st.sampled_from((-30, -20, -10, 10, 20)),
    ),
    max_size=8,
)


@examples(40)
@given(STEPS)
def test_a_slot_has_one_value_at_a_time(shared_memory: MemoryGateway, steps: list[tuple[str, str, int | None]]) -> None:
    """Whatever is superseded, confirmed, planned, learnt late or deleted: at no instant do two values hold."""
    alex = shared_memory.for_user(f"u{uuid.uuid4()}")
    now = utcnow()
    for verb, value, offset in steps:
        since = None if offset is None else now + timedelta(days=offset)
        current = alex.get_all().memories
        if verb == "add":
            alex.add(value, metadata=prefer(value), valid_from=since, on_conflict="supersede")
        elif verb == "ask":
            for waiting in alex.add(value, metadata=prefer(value), valid_from=since, on_conflict="ask").pending:
                alex.confirm(waiting.token)
        elif current and verb == "supersede":
            alex.supersede(current[0].id, value, metadata=prefer(value), valid_from=since)
        elif current:
            alex.delete(current[0].id)
        assert len(alex.get_all()) <= 1
        for days in (-35, -25, -15, -5, 5, 15, 25):
            assert len(alex.get_all(as_of=now + timedelta(days=days))) <= 1


def test_what_expires_did_hold(memory: MemoryGateway) -> None:
    """`as_of` shows what has expired since, and not what had expired by then."""
    alex = memory.for_user("alex")
    message = {"role": "user", "content": "parked on level 3", "occurred_at": day(-3)}
    alex.add(message, expires_at=day(-1))
    assert alex.search("") == []
    assert at(alex, -2) == ["parked on level 3"]
    assert at(alex, -1) == []


def test_what_has_expired_can_be_shown(memory: MemoryGateway) -> None:
    """`show_expired` has expired memories beside the others, in every verb that lists; superseded ones stay hidden."""
    alex = memory.for_user("alex")
    alex.add_many([{"content": f"parked on level {n}", "expires_at": day(-1)} for n in range(3)])
    say(alex, "morning", -10)
    say(alex, "evening", -5)
    shown = {f"parked on level {n}" for n in range(3)} | {"evening"}
    assert {hit.text for hit in alex.search("", limit=50)} == {"evening"}
    assert {hit.text for hit in alex.search("", limit=50, show_expired=True)} == shown
    assert {hit.text for hit in alex.search("where did I park?", limit=50, show_expired=True)} == shown
    assert {item.text for item in alex.get_all(show_expired=True)} == shown
    assert {item.text for item in alex.iter_all(show_expired=True)} == shown
    assert {item.text for item in alex.iter_all(show_expired=True, as_of=day(-7))} == {"morning"}
    assert len(alex.search("", schema=Preference, show_expired=True)) == 1
    first = alex.get_all(show_expired=True, limit=2)
    rest = alex.get_all(show_expired=True, limit=50, cursor=first.next_cursor)
    assert {item.text for item in (*first, *rest)} == shown
    with pytest.raises(CursorError):
        alex.get_all(cursor=first.next_cursor)
    assert alex.purge_expired() == 3
    assert {item.text for item in alex.get_all(show_expired=True)} == {"evening"}
    verbs: list[Any] = [alex.get_all, alex.iter_all, partial(alex.search, "")]
    for verb in verbs:
        with pytest.raises(InvalidInput, match="show_expired"):
            verb(show_expired="yes")


def test_what_is_hidden_by_its_time_can_be_shown(memory: MemoryGateway) -> None:
    """`show_superseded` has what was superseded, and what holds only later, beside the rest, in every verb that lists.

    So a filter selects for a reading what it selects for `delete_all`, and nothing that is stored is out of sight.
    """
    alex = memory.for_user("alex")
    say(alex, "morning", -10)
    say(alex, "evening", -5)
    (current,) = alex.get_all()
    alex.supersede(current.id, "at night", metadata=prefer("night"), valid_from=utcnow() + timedelta(days=5))
    alex.add("parked on level 3", expires_at=day(-1))
    memory.for_user("bo").add("noon")
    remembered, lasting = {"evening"}, {"morning", "evening", "at night"}
    assert {item.text for item in alex.get_all()} == remembered
    for expired, shown in ((False, lasting), (True, lasting | {"parked on level 3"})):
        flags: dict[str, Any] = {"show_superseded": True, "show_expired": expired}
        assert {item.text for item in alex.get_all(**flags)} == shown
        assert {item.text for item in alex.iter_all(**flags)} == shown
        assert {hit.text for hit in alex.search("", limit=50, **flags)} == shown
        assert {hit.text for hit in alex.search("when do I work?", limit=50, **flags)} == shown
        first = alex.get_all(limit=2, **flags)
        rest = alex.get_all(limit=50, cursor=first.next_cursor, **flags)
        assert sorted(item.text for item in (*first, *rest)) == sorted(shown)
        with pytest.raises(CursorError):
            alex.get_all(cursor=first.next_cursor, show_expired=expired)
    replaced = F.superseded_by.exists()
    assert [item.text for item in alex.get_all(filters=replaced)] == ["evening"]
    listed = alex.get_all(filters=replaced, show_superseded=True)
    assert {item.text for item in listed} == {"morning", "evening"}
    assert alex.delete_all(filters=replaced) == len(listed)
    assert {item.text for item in alex.get_all(show_superseded=True, show_expired=True)} == {
        "at night",
        "parked on level 3",
    }
    verbs: list[Any] = [alex.get_all, alex.iter_all, partial(alex.search, "")]
    for verb in verbs:
        with pytest.raises(InvalidInput, match="show_superseded"):
            verb(show_superseded="yes")
        with pytest.raises(InvalidInput, match="beside as_of"):
            verb(show_superseded=True, as_of=day(-7))


def test_what_had_expired_by_then_can_be_shown(memory: MemoryGateway) -> None:
    """A search in the past hides what had expired by then, or shows it where that is asked for."""
    alex = memory.for_user("alex")
    said = {"role": "user", "content": "parked on level 3", "occurred_at": day(-10)}
    (stored,) = alex.add(said, expires_at=day(-8)).stored
    for query in ("", "where did I park?"):
        assert [hit.id for hit in alex.search(query, as_of=day(-9))] == [stored.id]
        assert alex.search(query, as_of=day(-7)) == []
        assert [hit.id for hit in alex.search(query, as_of=day(-7), show_expired=True)] == [stored.id]


def test_filters_and_cursors_go_with_as_of(memory: MemoryGateway) -> None:
    """Filters narrow what held then; a cursor belongs to its instant."""
    alex = memory.for_user("alex")
    for number in range(5):
        alex.add({"role": "user", "content": f"m{number}", "occurred_at": day(-5)}, metadata={"n": number})
    assert len(alex.search("", as_of=day(0), filters=F.n >= 3)) == 2
    page = alex.get_all(as_of=day(0), limit=2)
    rest = alex.get_all(as_of=day(0), limit=10, cursor=page.next_cursor)
    assert len(page) + len(rest) == 5
    with pytest.raises(CursorError):
        alex.get_all(as_of=day(-1), cursor=page.next_cursor)
    with pytest.raises(CursorError):
        alex.get_all(cursor=page.next_cursor)


@pytest.mark.parametrize("instant", ["yesterday", 5, object()])
def test_what_is_no_instant_is_refused(memory: MemoryGateway, instant: Any) -> None:
    """`as_of` and `valid_from` take instants."""
    alex = memory.for_user("alex")
    with pytest.raises(InvalidInput, match="as_of"):
        alex.search("", as_of=instant)
    with pytest.raises(InvalidInput, match="as_of"):
        alex.get_all(as_of=instant)
    with pytest.raises(InvalidInput, match="valid_from"):
        alex.add("x", valid_from=instant)


def test_deleting_all_takes_what_is_superseded(memory: MemoryGateway) -> None:
    """`delete_all` and `delete` reach superseded memories, too."""
    alex = memory.for_user("alex")
    say(alex, "morning", -10)
    say(alex, "evening", -5)
    assert alex.delete_all() == 2
    assert at(alex, -7) == []


def test_what_is_replaced_from_before_it_began_never_held(memory: MemoryGateway) -> None:
    """Replaced from an earlier time, a memory never holds, and what it replaced ends where the new one begins."""
    alex = memory.for_user("alex")
    (paris,) = alex.add("Paris", valid_from=day(-30)).stored
    rome = alex.supersede(paris.id, "Rome", valid_from=day(-10))
    bonn = alex.supersede(rome.id, "Bonn", valid_from=day(-20))
    assert [at(alex, number) for number in (-30, -21, -20, -15, -10, -5)] == [
        ["Paris"],
        ["Paris"],
        ["Bonn"],
        ["Bonn"],
        ["Bonn"],
        ["Bonn"],
    ]
    first, never = alex.get(paris.id), alex.get(rome.id)
    assert (first.valid_to, first.superseded_by) == (day(-20), bonn.id)
    assert (never.valid_from, never.valid_to, never.superseded_by) == (day(-10), day(-10), bonn.id)
    assert [change.event for change in alex.history(bonn.id)].count("SUPERSEDE") == 3


@pytest.mark.parametrize("how", ["id", "slot"])
def test_what_is_replaced_before_it_was_said_is_gone_at_once(memory: MemoryGateway, how: str) -> None:
    """A message that is dated in the future is hidden as soon as another takes its place."""
    alex = memory.for_user("alex")
    said = {"role": "user", "content": "Rome", "occurred_at": utcnow() + timedelta(days=900)}
    (later,) = alex.add(said, metadata=prefer("Rome")).stored
    if how == "id":
        new = alex.supersede(later.id, "Bonn", metadata=prefer("Bonn"))
    else:
        (new,) = alex.add("Bonn", metadata=prefer("Bonn"), on_conflict="supersede").stored
    assert [item.id for item in alex.get_all()] == [new.id]
    assert [item.id for item in alex.get_all(as_of=utcnow() + timedelta(days=1800))] == [new.id]


def test_the_last_day_of_all_is_one_that_ends(memory: MemoryGateway) -> None:
    """Mem0's last possible expiration date hides nothing, and breaks nothing."""
    memory.mem0.add("tea", user_id="alex", infer=False, expiration_date="9999-12-31")
    assert [hit.text for hit in memory.search("tea", user_id="alex")] == ["tea"]


def test_a_clock_that_is_set_back(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is changed by a clock that is behind the one that stored it was not changed before it was stored."""
    (stored,) = memory.add("tea", user_id="alex").stored
    monkeypatch.setattr(parts, "_last", EPOCH)
    monkeypatch.setattr(parts, "utcnow", lambda: stored.created_at - timedelta(days=1))
    changed = memory.update(stored.id, text="green tea")
    assert changed.updated_at >= changed.created_at == stored.created_at
    assert [change.event for change in memory.history(stored.id)] == ["ADD", "UPDATE"]
    assert [found.text for found in memory.get_all(user_id="alex")] == ["green tea"]


def test_a_history_is_in_order_whatever_the_clock_says(memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that was set back, nothing was superseded or deleted before it was stored."""
    (stored,) = memory.add("tea", user_id="alex").stored
    monkeypatch.setattr(parts, "_last", EPOCH)
    monkeypatch.setattr(parts, "utcnow", lambda: stored.created_at - timedelta(days=1))
    memory.supersede(stored.id, text="coffee")
    memory.delete(stored.id)
    told = [change for change in memory.history(stored.id) if change.memory_id == stored.id]
    assert [change.event for change in told] == ["ADD", "SUPERSEDE", "DELETE"]
    assert [change.at for change in told] == sorted(change.at for change in told)
