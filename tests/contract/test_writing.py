"""What a write leaves as it is, and what it tells, on every backend."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from memstack import MemoryGateway, Preference
from memstack.errors import InvalidInput
from memstack.stores.base import Row


def test_the_oldest_of_equal_memories_is_told(memory: MemoryGateway) -> None:
    """Where several memories are equal to what is added, the one that was stored first is told."""
    alex = memory.for_user("alex")
    first, second = alex.add_many(["I drink tea", "I drink coffee"]).stored
    alex.update(second.id, text="I drink tea")
    (skipped,) = alex.add("I drink tea").skipped
    assert skipped.memory_id == first.id
    alex.delete(first.id)
    (skipped,) = alex.add("I drink tea").skipped
    assert skipped.memory_id == second.id


def test_who_said_it_tells_memories_apart(memory: MemoryGateway) -> None:
    """What somebody says again is there already; what another one says in the same words is another memory."""
    alex = memory.for_user("alex")
    said = [{"role": "user", "content": "I drink tea", "name": name} for name in ("Al", "Bo", "Al")]
    first = alex.add(said[0])
    result = alex.add([*said, "I drink tea"])
    assert [item.memory_id for item in result.skipped] == [first.stored[0].id] * 2
    assert [item.source[0].name for item in result.stored] == ["Bo", None]


def test_an_update_leaves_what_others_keep(memory: MemoryGateway) -> None:
    """Fields of a row that are neither ours nor the caller's stay through an update; what the update removes goes."""
    alex = memory.for_user("alex")
    (old,) = alex.add("I drink tea", metadata={"sure": True, "since": 2020}, expires_at="2999-01-01").stored
    store = memory._core.parts.store
    (row,) = store.fetch([old.id], vectors=True)
    store.upsert([Row(row.id, {**row.payload, "attributed_to": "user", "text_lemmatized": "drink tea"}, row.vector)])
    alex.update(old.id, metadata={"sure": None}, expires_at=None)
    (row,) = store.fetch([old.id])
    assert (row.payload["attributed_to"], row.payload["text_lemmatized"]) == ("user", "drink tea")
    assert row.payload.keys().isdisjoint({"sure", "expires_at", "expiration_date"})
    assert row.payload["since"] == 2020


def test_positions_go_on_whatever_the_policy(memory: MemoryGateway) -> None:
    """Each stored message has the next place in its run, however it came there."""
    run = memory.scoped(user_id="alex", run_id="r1")

    def prefer(value: str) -> Preference:
        return Preference(key="time of day", value=value)

    stored = [*run.add_many(["hello", "again"]).stored]
    stored += run.add("morning", metadata=prefer("morning"), on_conflict="supersede").stored
    stored += run.add("noon", metadata=prefer("noon"), on_conflict="supersede").stored
    (waiting,) = run.add("evening", metadata=prefer("evening"), on_conflict="ask").pending
    stored += run.confirm(waiting.token).stored
    stored.append(run.supersede(stored[0].id, "good bye"))
    assert [memory.source[0].position for memory in stored] == list(range(6))


def test_who_spoke_is_logged(memory: MemoryGateway) -> None:
    """The log tells who spoke: the name, or the role where there is none; Mem0's log has the role beside it."""
    alex = memory.for_user("alex")
    named, unnamed = alex.add_many([{"content": "tea", "name": "Ann"}, "coffee"]).stored
    newer = alex.supersede(unnamed.id, "cocoa")
    alex.update(named.id, text="green tea")
    alex.delete(named.id)
    assert [change.actor for change in alex.history(named.id)] == ["Ann"] * 3
    assert [change.actor for change in alex.history(newer.id)] == ["user"] * 3
    told = memory._core.parts.history.get_history(named.id)
    assert [(entry["actor_id"], entry["role"]) for entry in told] == [("Ann", "user")] * 3


def test_a_conversation_with_tools_is_taken(memory: MemoryGateway) -> None:
    """Calls of tools beside the words, as chat clients keep them, are passed over; each message has its outcome."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "How is the weather in Lisbon?"},
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": ""},
        {"role": "user", "content": "Look again", "tool_calls": []},
        {"role": "user", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "user", "content": "\n\n", "tool_calls": [call]},
        {"role": "user", "content": [{"type": "text", "text": ""}], "tool_calls": [call]},
    ]
    silent = "nothing to remember"
    outcomes = [(1, "role"), (2, "role"), (4, silent), (5, silent), (6, silent)]
    for result in (memory.add(said, user_id="alex", infer=False), memory.add_many(said, user_id="bo")):
        assert [stored.text for stored in result.stored] == ["How is the weather in Lisbon?", "Look again"]
        assert [(skipped.index, skipped.reason) for skipped in result.skipped] == outcomes
    for broken, place in ({"content": ""}, "content"), ({"content": None}, "content"), ({"tools": [call]}, "tools"):
        with pytest.raises(InvalidInput, match=place):
            memory.add({"role": "user", "content": "hi", **broken}, user_id="alex")


def test_the_order_of_fields_is_no_other_content(memory: MemoryGateway) -> None:
    """A call that is repeated with its metadata in another order is the same call to an idempotency key."""
    alex = memory.for_user("alex")
    first = alex.add("I drink tea", metadata={"a": 1, "b": {"c": 1, "d": 2}}, idempotency_key="k")
    again = alex.add("I drink tea", metadata={"b": {"d": 2, "c": 1}, "a": 1}, idempotency_key="k")
    assert [item.memory_id for item in again.skipped] == [first.stored[0].id]


@pytest.mark.parametrize("item", [5, None, b"tea", ["tea"], ("user", "tea"), object()])
def test_what_is_no_item_is_told_as_that(memory: MemoryGateway, item: Any) -> None:
    """What is no message fails as an item, which is one message and no list of them."""
    (failed,) = memory.for_user("alex").add_many([item]).failed
    assert failed.reason.startswith("item: is ")
    assert "Each item is one message" in failed.reason
    assert "list of them" not in failed.reason


@pytest.mark.parametrize(
    ("field", "meant"),
    [("metdata", "metadata"), ("expire_at", "expires_at"), ("userid", "user_id"), ("contents", "content")],
)
def test_a_misspelt_field_of_an_item_is_told(memory: MemoryGateway, field: str, meant: str) -> None:
    """A field that no item has is told with the one that it is nearest to; one that resembles none, with all."""
    alex = memory.for_user("alex")
    for given in (field, field.upper()):
        (failed,) = alex.add_many([{"content": "tea", given: "x"}]).failed
        assert f"item: has {given!r}. Did you mean {meant!r}? A message has role, content, " in failed.reason
    (failed,) = alex.add_many([{"content": "tea", "zzz": "x", "q" * 10_000: "x"}]).failed
    assert "Did you mean" not in failed.reason
    assert failed.reason.endswith("metadata, expires_at, valid_from, user_id, agent_id, run_id: leave the rest out.")
    with pytest.raises(InvalidInput, match=r"messages: has 'contet'\. Did you mean 'content'"):
        alex.add({"role": "user", "contet": "tea"})
    assert not alex.get_all()


@pytest.mark.parametrize("days", [0, -1])
def test_what_expires_before_it_holds_is_refused(memory: MemoryGateway, days: int) -> None:
    """A memory that expires by the time from which it holds would never hold; what expired long ago did once."""
    alex = memory.for_user("alex")
    since = datetime(2030, 1, 2, tzinfo=timezone.utc)
    times: dict[str, Any] = {"valid_from": since, "expires_at": since + timedelta(days=days)}
    with pytest.raises(InvalidInput, match="expires_at: is not after `valid_from`"):
        alex.add("tea", **times)
    (failed,) = alex.add_many([{"content": "tea", **times}]).failed
    assert failed.reason.startswith("expires_at: is not after `valid_from`")
    assert not alex.get_all(show_expired=True, as_of=since)
    assert alex.add("tea", valid_from=since, expires_at=since + timedelta(microseconds=1)).stored
    assert alex.add("coffee", expires_at="2020-01-01").stored


def test_an_update_that_changes_nothing_is_none(memory: MemoryGateway) -> None:
    """What a memory has already is no change to it, in whatever order its engine keeps the fields; another type is."""
    alex = memory.for_user("alex")
    (old,) = alex.add("I drink tea", metadata={"a": 1, "b": {"c": 1, "d": 2}}).stored
    store = memory._core.parts.store
    (row,) = store.fetch([old.id], vectors=True)
    store.upsert([Row(row.id, dict(reversed(row.payload.items())), row.vector)])
    again = alex.update(old.id, text="I drink tea", metadata={"b": {"d": 2, "c": 1}}, expires_at=None)
    assert again == old
    assert [change.event for change in alex.history(old.id)] == ["ADD"]
    assert alex.update(old.id, metadata={"a": True}).updated_at > old.updated_at
