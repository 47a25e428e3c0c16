"""Contradictions: what is found, what becomes of it, and that one value holds at a time, on every backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any
from unittest.mock import Mock

import pytest

from memstack import AddResult, Interaction, MemoryGateway, MemorySchema, Preference, Project
from memstack.errors import ConflictFound, IdempotencyMismatch, InvalidInput, MemoryNotFound, PendingNotFound
from memstack.gateway.conflicts import OnConflict
from memstack.gateway.judging import judge
from memstack.instants import utcnow
from memstack.providers.base import LLM
from memstack.scope import Scope
from memstack.stores.base import holds

OpenHere = Callable[..., MemoryGateway]


def time_of_day(value: str, **fields: Any) -> Preference:
    return Preference(key="time of day", value=value, domain="task-management", **fields)


def chain(memory: MemoryGateway, id_: str) -> list[tuple[str, str | None]]:
    return [(change.event, change.new_text) for change in memory.history(id_)]


@pytest.fixture
def alex(memory: MemoryGateway) -> MemoryGateway:
    handle = memory.for_user("alex")
    handle.add("I prefer mornings", metadata=time_of_day("morning"))
    return handle


# -- finding -------------------------------------------------------------------------------------


def test_the_same_slot_with_another_value_is_certain(alex: MemoryGateway) -> None:
    """A schema's slot tells contradictions for certain; another slot, value or owner makes none."""
    (conflict,) = alex.conflicts("evenings are better", metadata=time_of_day("evening"))
    assert (conflict.kind, conflict.memory.text) == ("slot", "I prefer mornings")
    assert "value" in conflict.reason
    mapping = {"category": "preferences", "key": "time of day", "value": "evening", "domain": "task-management"}
    assert [found.memory.id for found in alex.conflicts("evenings", metadata=mapping)] == [conflict.memory.id]
    assert alex.conflicts("mornings!", metadata=time_of_day("morning", strength=0.1)) == []
    assert alex.conflicts("evenings", metadata=Preference(key="time of day", value="evening", domain="sport")) == []
    assert alex.conflicts("mornings", metadata=Interaction(action="asked")) == []
    with_owner = MemoryGateway(alex._core)
    assert with_owner.conflicts("evenings", metadata=time_of_day("evening"), user_id="bo") == []


def test_without_a_slot_similar_memories_possibly_contradict(memory: MemoryGateway) -> None:
    """By meaning: in the same category, similar enough, and not the same words; nobody's verdict is claimed."""
    alex = memory.for_user("alex")
    alex.add("My favourite colour is blue", metadata={"category": "taste"})
    alex.add("My favourite colour is blue too", metadata={"category": "other"})
    (conflict,) = alex.conflicts("My favourite colour is green", metadata={"category": "taste"})
    assert conflict.kind == "meaning"
    assert conflict.score is not None
    assert 0.5 <= conflict.score <= 1
    assert "not judged" in conflict.reason
    assert alex.conflicts("My favourite colour  is blue", metadata={"category": "taste"}) == []
    assert alex.conflicts("The train leaves at nine", metadata={"category": "taste"}) == []
    assert len(alex.conflicts("My favourite colour is green")) == 2
    assert alex.conflicts("My favourite colour is green", threshold=0.999) == []


def test_events_contradict_nothing(memory: MemoryGateway) -> None:
    """An event contradicts nothing of its category, also what does not fit its schema, and nothing contradicts it."""
    alex = memory.for_user("alex")
    alex.add("I closed the review", metadata=Interaction(action="closed"))
    alex.add("I closed the review now", metadata={"category": "interactions"})  # no action: it fits no schema
    assert alex.conflicts("I closed the review again", metadata=Interaction(action="closed")) == []
    assert [found.memory.text for found in alex.conflicts("I closed the review again")] == ["I closed the review now"]


class Judge(LLM):
    """Says of memories with a word in them that they are contradicted."""

    provider, model = "test", "judge"

    def __init__(self, word: str, *, readable: bool = True, reason: str = "she moved") -> None:
        self.word, self.readable, self.reason = word, readable, reason

    def generate_response(self, messages: Any, tools: Any = None, tool_choice: str = "auto", **kwargs: Any) -> Any:
        question = json.loads(messages[-1]["content"])
        verdicts = [
            {"memory": item["memory"], "contradicts": self.word in item["text"], "reason": self.reason}
            for item in question["memories"]
        ]
        return f"Sure: {json.dumps({'verdicts': verdicts})}" if self.readable else "I think so."


def with_llm(memory: MemoryGateway, llm: LLM) -> MemoryGateway:
    import dataclasses

    return MemoryGateway.of(dataclasses.replace(memory._core.parts, llm=llm)).for_user("alex")


def test_a_model_judges_and_its_reason_is_kept(memory: MemoryGateway) -> None:
    """With a model, its verdict decides, whatever the similarity, and its reason is in the history."""
    alex = with_llm(memory, Judge("Berlin"))
    alex.add("I live in Berlin", infer=False)
    alex.add("I like Paris in spring", infer=False)
    (conflict,) = alex.conflicts("I moved to Paris last week")
    assert (conflict.kind, conflict.reason, conflict.memory.text) == ("judged", "she moved", "I live in Berlin")
    result = alex.add("I moved to Paris last week", on_conflict="supersede")
    assert {hit.text for hit in alex.search("")} == {"I like Paris in spring", "I moved to Paris last week"}
    assert [change.reason for change in alex.history(result.stored[0].id) if change.event == "SUPERSEDE"] == [
        "she moved"
    ]


def test_a_verdict_that_cannot_be_read_is_none(memory: MemoryGateway) -> None:
    """An answer without verdicts leaves similar memories as possible conflicts, and supersedes nothing."""
    alex = with_llm(memory, Judge("blue", readable=False))
    alex.add("My favourite colour is blue", infer=False)
    result = alex.add("My favourite colour is green", on_conflict="supersede")
    assert [conflict.kind for conflict in result.conflicts] == ["meaning"]
    assert len(alex.search("")) == 2


@pytest.mark.parametrize(("reason", "kept"), [("moved \ud83d away", "moved ? away"), ("moved\0away", "moved away")])
def test_a_reason_that_no_file_can_hold_is_mended(memory: MemoryGateway, reason: str, kept: str) -> None:
    """Half a character, or a NUL, in a model's reason keeps nothing from being superseded, or waited for."""
    alex = with_llm(memory, Judge("blue", reason=reason))
    first = alex.add("My favourite colour is blue", infer=False).stored[0]
    (waiting,) = alex.add("My favourite colour is green", infer=False, on_conflict="ask").pending
    assert waiting.conflicts[0].reason == kept
    alex.add("My favourite colour is green", infer=False, on_conflict="supersede")
    assert kept in [change.reason for change in alex.history(first.id)]


@pytest.mark.parametrize(
    "answer", ["", "{", "[]", '{"verdicts": 3}', '{"verdicts": [1, {"memory": 7, "contradicts": true}]}', {"a": 1}]
)
def test_answers_out_of_shape_are_no_verdicts(answer: Any) -> None:
    """Whatever a model answers, what is no verdict on a memory counts as none."""

    class Odd(Judge):
        def generate_response(self, messages: Any, tools: Any = None, tool_choice: str = "auto", **kwargs: Any) -> Any:
            return answer

    assert judge(Odd(""), "x", ["a", "b"]) == [None, None]


class Habit(MemorySchema):
    """A schema of an application's own, which no configuration names."""

    category = "habits"
    slot = ("name",)
    name: str
    times_a_week: int = 1


def test_the_slot_of_an_instance_needs_no_configuration(memory: MemoryGateway) -> None:
    """What an instance of one's own schema contradicts is certain, whichever verb it is given to."""
    alex = memory.for_user("alex")
    (first,) = alex.add("I walk", metadata=Habit(name="walk")).stored
    assert [found.kind for found in alex.conflicts("often", metadata=Habit(name="walk", times_a_week=2))] == ["slot"]
    (told,) = alex.add("I swim a lot", metadata=Habit(name="walk", times_a_week=9)).conflicts
    alex.delete_all(filters={"times_a_week": 9})
    assert told.kind == "slot"
    with pytest.raises(ConflictFound):
        alex.add("I walk often", metadata=Habit(name="walk", times_a_week=2), on_conflict="raise")
    (waiting,) = alex.add("I walk often", metadata=Habit(name="walk", times_a_week=2), on_conflict="ask").pending
    alex.confirm(waiting.token)
    items = [{"content": f"{n} times", "metadata": Habit(name="walk", times_a_week=n)} for n in (3, 4)]
    alex.add_many(items, on_conflict="supersede")
    (hit,) = alex.search("", schema=Habit)
    assert hit.metadata.times_a_week == 4
    last = alex.supersede(first.id, "5 times", metadata=Habit(name="walk", times_a_week=5))
    assert [hit.id for hit in alex.search("", schema=Habit)] == [last.id]
    assert len({change.memory_id for change in alex.history(first.id)}) == 5


# -- policies ------------------------------------------------------------------------------------


def test_keep_stores_both_and_reports(alex: MemoryGateway) -> None:
    """By default both are kept, and what is certain is told."""
    result = alex.add("evenings are better", metadata=time_of_day("evening"))
    assert [conflict.memory.text for conflict in result.conflicts] == ["I prefer mornings"]
    assert len(alex.search("")) == 2
    assert result.to_dict()["conflicts"][0]["kind"] == "slot"


def test_supersede_keeps_the_old_one_with_its_end(alex: MemoryGateway) -> None:
    """What is superseded is hidden, kept with the end of its time and its successor, and in the history of both."""
    (old,) = alex.get_all()
    (new,) = alex.add("evenings are better", metadata=time_of_day("evening"), on_conflict="supersede").stored
    assert [hit.id for hit in alex.search("")] == [new.id]
    assert [hit.id for hit in alex.search("mornings")] == [new.id]
    assert [item.id for item in alex.get_all()] == [new.id]
    kept = alex.get(old.id)
    assert (kept.superseded_by, kept.valid_to) == (new.id, new.occurred_at)
    assert (kept.text, kept.metadata) == (old.text, old.metadata)
    assert new.superseded_by is None
    expected = ["ADD", "ADD", "SUPERSEDE"]
    assert [change.event for change in alex.history(old.id)] == expected
    assert alex.history(old.id) == alex.history(new.id)
    assert alex.history(old.id)[-1].superseded_by == new.id


def test_what_was_superseded_can_be_said_again(alex: MemoryGateway) -> None:
    """Changing one's mind back is no duplicate of what was said first."""
    for value in ("evening", "morning"):
        text = "I prefer mornings" if value == "morning" else "evenings"
        assert alex.add(text, metadata=time_of_day(value), on_conflict="supersede").stored
    (hit,) = alex.search("", schema=Preference)
    assert hit.metadata.value == "morning"
    assert len(alex.history(hit.id)) == 5


def test_raise_stores_nothing(alex: MemoryGateway) -> None:
    """With ``raise`` a contradiction is an error that names the memories and quotes none."""
    with pytest.raises(ConflictFound) as caught:
        alex.add(["a walk at noon", "evenings"], metadata=time_of_day("evening"), on_conflict="raise")
    assert [conflict.memory.text for conflict in caught.value.conflicts][:1] == ["I prefer mornings"]
    assert "mornings" not in str(caught.value)
    assert len(alex.search("")) == 1


def test_ask_waits_for_an_answer(alex: MemoryGateway) -> None:
    """With ``ask`` the message waits; ``confirm`` puts it in the place of what it contradicts, once."""
    result = alex.add("evenings are better", metadata=time_of_day("evening"), on_conflict="ask")
    assert not result.stored
    (waiting,) = result.pending
    assert [conflict.memory.text for conflict in waiting.conflicts] == ["I prefer mornings"]
    assert [hit.text for hit in alex.search("")] == ["I prefer mornings"]
    again = alex.add("evenings are better", metadata=time_of_day("evening"), on_conflict="ask")
    assert [change.token for change in again.pending] == [waiting.token]
    (stored,) = alex.confirm(waiting.token).stored
    assert [hit.id for hit in alex.search("")] == [stored.id]
    with pytest.raises(PendingNotFound):
        alex.confirm(waiting.token)


def test_what_came_into_the_slot_meanwhile_is_replaced_too(alex: MemoryGateway) -> None:
    """A confirmed change takes the place of all that its slot has by then, not just of what it was asked about."""
    (waiting,) = alex.add("evenings", metadata=time_of_day("evening"), on_conflict="ask").pending
    alex.add("at noon", metadata=time_of_day("noon"), on_conflict="keep")
    alex.confirm(waiting.token)
    assert [hit.text for hit in alex.search("")] == ["evenings"]


def test_what_waits_is_stored_as_it_was_said(alex: MemoryGateway) -> None:
    """A confirmed change has the name and the times that it was given, and the history the reason that was told."""
    now = utcnow()
    said = {"role": "user", "content": "evenings", "name": "Alex", "occurred_at": now - timedelta(days=1)}
    times: dict[str, Any] = {"valid_from": now, "expires_at": now + timedelta(days=1)}
    (waiting,) = alex.add(said, metadata=time_of_day("evening"), on_conflict="ask", **times).pending
    (stored,) = alex.confirm(waiting.token).stored
    assert (stored.occurred_at, stored.source[0].name) == (said["occurred_at"], "Alex")
    assert (stored.valid_from, stored.expires_at) == (times["valid_from"], times["expires_at"])
    (conflict,) = waiting.conflicts
    assert [change.reason for change in alex.history(conflict.memory.id) if change.event == "SUPERSEDE"] == [
        conflict.reason
    ]


@pytest.mark.parametrize("policy", ["keep", "supersede", "raise", "ask"])
def test_what_is_not_remembered_contradicts_nothing(alex: MemoryGateway, policy: Any) -> None:
    """A message of a role that is skipped is skipped, whatever its metadata say."""
    said = {"role": "assistant", "content": "You prefer evenings"}
    result = alex.add(said, metadata=time_of_day("evening"), infer=False, on_conflict=policy)
    assert [item.reason for item in result.skipped] == ["role"]
    assert (result.stored, result.pending, result.conflicts) == ((), (), ())
    assert [hit.text for hit in alex.search("")] == ["I prefer mornings"]


def test_dismiss_forgets_what_waits(alex: MemoryGateway) -> None:
    """``dismiss`` leaves everything as it was."""
    (waiting,) = alex.add("evenings", metadata=time_of_day("evening"), on_conflict="ask").pending
    alex.dismiss(waiting.token)
    for verb in (alex.confirm, alex.dismiss):
        with pytest.raises(PendingNotFound):
            verb(waiting.token)
    assert [hit.text for hit in alex.search("")] == ["I prefer mornings"]


def test_a_token_is_of_its_scope(alex: MemoryGateway) -> None:
    """Nobody else can answer, and a text that is no token finds nothing."""
    (waiting,) = alex.add("evenings", metadata=time_of_day("evening"), on_conflict="ask").pending
    everybody = MemoryGateway(alex._core)
    for token in (waiting.token, "no such token", ""):
        with pytest.raises(PendingNotFound):
            everybody.for_user("bo").confirm(token)
    assert everybody.confirm(waiting.token).stored


def test_what_waits_expires(open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a change cannot be confirmed."""
    alex = open_here(tmp_path, limits={"pending_minutes": 5}).for_user("alex")
    alex.add("I prefer mornings", metadata=time_of_day("morning"))
    (waiting,) = alex.add("evenings", metadata=time_of_day("evening"), on_conflict="ask").pending
    assert timedelta(minutes=4) < waiting.expires_at - utcnow() <= timedelta(minutes=5)
    monkeypatch.setattr("memstack.gateway.pending.utcnow", lambda: waiting.expires_at)
    with pytest.raises(PendingNotFound):
        alex.confirm(waiting.token)
    with pytest.raises(PendingNotFound):
        alex.dismiss(waiting.token)
    history = alex._core.parts.history
    assert history.waiting(waiting.token) is not None
    alex.add("at noon", metadata=time_of_day("noon"), on_conflict="ask")
    assert history.waiting(waiting.token) is None, "what has expired is deleted when the next one begins to wait"


def test_what_is_dismissed_while_it_is_confirmed(alex: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is answered once: what somebody dismisses before the confirmation is written is not stored."""
    (waiting,) = alex.add("evenings", metadata=time_of_day("evening"), on_conflict="ask").pending
    embedder = alex._core.parts.embedder
    vectors = embedder.vectors

    def after_the_answer(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        alex.dismiss(waiting.token)
        return vectors(texts)

    monkeypatch.setattr(embedder, "vectors", after_the_answer)
    with pytest.raises(PendingNotFound):
        alex.confirm(waiting.token)
    assert [stored.text for stored in alex.get_all()] == ["I prefer mornings"]


def test_what_waits_survives_a_restart(open_here: OpenHere, tmp_path: Path) -> None:
    """A change that waits is in the history's file."""
    memory = open_here(tmp_path)
    memory.add("I prefer mornings", user_id="alex", metadata=time_of_day("morning"))
    added = memory.add("evenings", user_id="alex", metadata=time_of_day("evening"), on_conflict="ask")
    memory.close()
    again = open_here(tmp_path)
    assert [item.text for item in again.confirm(added.pending[0].token).stored] == ["evenings"]


def test_what_waits_is_of_a_role_that_is_no_longer_remembered(open_here: OpenHere, tmp_path: Path) -> None:
    """A change that cannot be stored is skipped, and waits on: who remembers its role again can confirm it."""
    roles = {"remember_roles": ["user", "assistant"]}
    said = {"role": "assistant", "content": "evenings"}
    with open_here(tmp_path, **roles) as memory:
        memory.add("I prefer mornings", user_id="alex", metadata=time_of_day("morning"))
        (waiting,) = memory.add(said, user_id="alex", metadata=time_of_day("evening"), on_conflict="ask").pending
    with open_here(tmp_path) as memory:
        result = memory.confirm(waiting.token)
        assert ([item.reason for item in result.skipped], result.stored) == (["role"], ())
    with open_here(tmp_path, **roles) as memory:
        assert [item.text for item in memory.confirm(waiting.token).stored] == ["evenings"]


def test_in_bulk_a_progress_counts_what_is_done(memory: MemoryGateway) -> None:
    """What ends a batch early, since it contradicts something in it, is not done with it."""
    items = [{"content": f"at {hour}", "metadata": time_of_day(hour)} for hour in ("8", "9")]
    told: list[int] = []
    memory.for_user("alex").add_many(items, on_conflict="ask", progress=told.append)
    assert told == [1, 2]
    other = {"content": "tea"}
    told.clear()
    memory.for_user("bo").add_many([items[0], other, items[1]], on_conflict="ask", batch_size=2, progress=told.append)
    assert told == [2, 3]  # the first batch is stored, and nothing of it is in the second


def test_in_bulk_the_last_of_a_slot_is_current(memory: MemoryGateway) -> None:
    """``add_many`` with ``supersede``: within a batch and across batches, one value is left, and a chain of all."""
    alex = memory.for_user("alex")
    items = [{"content": f"at {hour}", "metadata": time_of_day(str(hour))} for hour in range(7)]
    result: AddResult = alex.add_many(items, on_conflict="supersede", batch_size=3)
    assert len(result.stored) == 7
    (hit,) = alex.search("", schema=Preference)
    assert hit.metadata.value == "6"
    assert len([change for change in alex.history(result.stored[0].id) if change.event == "SUPERSEDE"]) == 6


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_in_bulk_items_contradict_each_other(memory: MemoryGateway, batch_size: int) -> None:
    """With ``ask`` and ``raise`` it makes no difference whether two items of one slot are in the same batch."""
    items = [{"content": f"at {hour}", "metadata": time_of_day(hour)} for hour in ("8", "8", "9", "8")]
    items.append({"content": "tea"})
    asked = memory.for_user("alex").add_many(items, on_conflict="ask", batch_size=batch_size)
    assert [item.text for item in asked.stored] == ["at 8", "tea"]
    assert [change.index for change in asked.pending] == [2]
    refused = memory.for_user("bo").add_many(items, on_conflict="raise", batch_size=batch_size)
    assert refused.stored[0].text == "at 8"
    assert 2 in [item.index for item in refused.failed]
    assert len(memory.get_all(user_id="bo", filters={"category": "preferences"})) == 1


@pytest.mark.parametrize("batch_size", [1, 256])
def test_in_bulk_a_wider_scope_contradicts_a_narrower_one(memory: MemoryGateway, batch_size: int) -> None:
    """What is said of an agent reaches what it knows of one user; what is said of one user does not reach another."""
    items = [
        {"content": "at 8", "agent_id": "planner", "user_id": "alex", "metadata": time_of_day("8")},
        {"content": "at 9", "agent_id": "planner", "user_id": "bo", "metadata": time_of_day("9")},
        {"content": "at 7", "agent_id": "planner", "metadata": time_of_day("7")},
    ]
    asked = memory.add_many(items, on_conflict="ask", batch_size=batch_size)
    assert [item.text for item in asked.stored] == ["at 8", "at 9"]
    assert [change.index for change in asked.pending] == [2]


@pytest.mark.parametrize("batch_size", [1, 256])
def test_in_bulk_what_began_a_batch_is_contradicted_too(memory: MemoryGateway, batch_size: int) -> None:
    """What is put off to a new batch is looked at by all that come after it, as what was there before."""
    items = [
        {"content": "at 8", "agent_id": "planner", "metadata": time_of_day("8")},
        {"content": "at 9", "agent_id": "planner", "user_id": "alex", "metadata": time_of_day("9")},
        {"content": "at 7", "agent_id": "planner", "user_id": "alex", "metadata": time_of_day("7")},
    ]
    asked = memory.add_many(items, on_conflict="ask", batch_size=batch_size)
    assert [item.text for item in asked.stored] == ["at 8", "at 9"]
    assert [change.index for change in asked.pending] == [2]


@pytest.mark.parametrize("policy", ["", "replace", None, 1])
def test_unknown_policies_are_refused(alex: MemoryGateway, policy: Any) -> None:
    """``on_conflict`` is one of four words."""
    with pytest.raises(InvalidInput, match="on_conflict"):
        alex.add("x", on_conflict=policy)
    with pytest.raises(InvalidInput, match="on_conflict"):
        alex.add_many(["x"], on_conflict=policy)


@pytest.mark.parametrize("quick", [True, False])
def test_a_value_said_again_ends_the_others(
    memory: MemoryGateway, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known is no duplicate while something else holds as well: it is said anew, and ends both."""
    monkeypatch.setattr(type(memory._core.parts.embedder), "quick", quick)
    alex = memory.for_user("alex")
    for value in ("evening", "morning"):
        alex.add(f"{value}s", metadata=time_of_day(value))
    (again,) = alex.add("evenings", metadata=time_of_day("evening"), on_conflict="supersede").stored
    assert [hit.id for hit in alex.search("")] == [again.id]
    assert alex.add("evenings", metadata=time_of_day("evening"), on_conflict="supersede").skipped
    said = [{"content": f"{value}s", "metadata": time_of_day(value)} for value in ("evening", "noon", "evening")]
    assert [item.text for item in alex.add_many(said, on_conflict="supersede").stored] == ["noons", "evenings"]
    assert [hit.text for hit in alex.search("")] == ["evenings"]
    assert [hit.text for hit in alex.search("evenings", threshold=0.9)] == ["evenings"]


def test_a_confirmed_value_that_was_stored_meanwhile(alex: MemoryGateway) -> None:
    """Confirming what somebody has stored beside the old value since then still puts it in the old one's place."""
    (waiting,) = alex.add("evenings", metadata=time_of_day("evening"), on_conflict="ask").pending
    alex.add("evenings", metadata=time_of_day("evening"))
    (stored,) = alex.confirm(waiting.token).stored
    assert [hit.id for hit in alex.search("")] == [stored.id]


# -- superseding by hand -------------------------------------------------------------------------


def test_a_confirmed_change_that_was_made_meanwhile(memory: MemoryGateway) -> None:
    """Where the memory that is to be replaced was changed to say the same, there is nothing to replace."""
    alex = memory.for_user("alex")
    (old,) = alex.add("My favourite colour is blue").stored
    (waiting,) = alex.add("My favourite colour is green", on_conflict="ask").pending
    alex.update(old.id, text="My favourite colour is green")
    (skipped,) = alex.confirm(waiting.token).skipped
    assert (skipped.reason, skipped.memory_id) == ("duplicate", old.id)
    assert [item.id for item in alex.get_all()] == [old.id]


def test_supersede_by_id(memory: MemoryGateway) -> None:
    """``supersede`` keeps the metadata that is not changed, records the reason, and follows what came after."""
    alex = memory.for_user("alex")
    (old,) = alex.add("Prefers mornings", metadata={"category": "preferences", "domain": "tasks"}).stored
    new = alex.supersede(old.id, "Prefers evenings", reason="said so in March")
    assert new.metadata == old.metadata
    third = alex.supersede(old.id, "Prefers noon", metadata={"domain": None, "sure": True})
    assert third.metadata == {"category": "preferences", "sure": True}
    assert alex.get(new.id).superseded_by == third.id
    assert [hit.id for hit in alex.search("")] == [third.id]
    assert [change.reason for change in alex.history(third.id) if change.event == "SUPERSEDE"] == [
        "said so in March",
        None,
    ]
    assert alex.supersede(third.id, "Prefers noon").id == third.id


def test_supersede_by_id_needs_the_fields_that_say_what_held(alex: MemoryGateway) -> None:
    """A typed memory is not superseded by a text whose metadata says what held before."""
    (old,) = alex.get_all()
    with pytest.raises(InvalidInput, match="metadata"):
        alex.supersede(old.id, "evenings")
    new = alex.supersede(old.id, "evenings", metadata={"value": "evening"})
    assert Preference.of(new) == time_of_day("evening")


def test_supersede_stays_in_its_scope(alex: MemoryGateway) -> None:
    """Another owner's memory is not found, and nothing is changed."""
    (old,) = alex.get_all()
    with pytest.raises(MemoryNotFound):
        MemoryGateway(alex._core, Scope("bo")).supersede(old.id, "evenings", metadata={"value": "evening"})
    assert [item.id for item in alex.get_all()] == [old.id]


def test_a_chain_goes_on_over_a_deleted_link(memory: MemoryGateway) -> None:
    """Where the memory that took a place was deleted, the next one stands in the place of the one before it."""
    alex = memory.for_user("alex")
    (first,) = alex.add("Berlin").stored
    second = alex.supersede(first.id, "Paris")
    alex.delete(alex.supersede(first.id, "Rome").id)
    last = alex.supersede(first.id, "Oslo")
    assert alex.get(second.id).superseded_by == last.id
    assert {change.new_text for change in alex.history(last.id)} == {"Berlin", "Paris", "Rome", "Oslo", None}
    assert [hit.text for hit in alex.search("")] == ["Oslo"]


def test_slots_reach_as_far_as_the_scope(memory: MemoryGateway) -> None:
    """What a user says supersedes what they said in a run; what is said in a run touches no other run."""
    memory.add("mornings", user_id="alex", run_id="r1", metadata=time_of_day("morning"))
    memory.add("noon", user_id="alex", run_id="r2", metadata=time_of_day("noon"), on_conflict="supersede")
    assert len(memory.search("", user_id="alex")) == 2
    memory.add("evenings", user_id="alex", metadata=time_of_day("evening"), on_conflict="supersede")
    assert [hit.text for hit in memory.search("", user_id="alex")] == ["evenings"]


# -- together ------------------------------------------------------------------------------------


def current_and_chain(memory: MemoryGateway, count: int) -> Iterator[str]:
    (hit,) = memory.search("", schema=Preference)
    changes = memory.history(hit.id)
    assert len({change.memory_id for change in changes}) == count
    successor = {change.memory_id: change.superseded_by for change in changes if change.event == "SUPERSEDE"}
    assert len(successor) == count - 1
    assert len(set(successor.values())) == count - 1, "a chain: nobody has two predecessors"
    at: str | None = next(iter(successor.keys() - set(successor.values())))
    while at is not None:
        yield at
        at = successor.get(at)


@pytest.mark.parametrize("how", ["add", "supersede"])
def test_many_at_once_leave_one_current_value(memory: MemoryGateway, how: str) -> None:
    """50 concurrent supersedes of one slot: one current value, and a chain of 50."""
    alex = memory.for_user("alex")
    (first,) = alex.add("at 0", metadata=time_of_day("0")).stored

    def change(hour: int) -> None:
        if how == "add":
            alex.add(f"at {hour}", metadata=time_of_day(str(hour)), on_conflict="supersede")
        else:
            alex.supersede(first.id, f"at {hour}", metadata=time_of_day(str(hour)))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(change, range(1, 50)))
    ids = list(current_and_chain(alex, 50))
    assert ids[0] == first.id
    assert len(ids) == 50
    rows = [alex.get(id_) for id_ in ids]
    assert [row.superseded_by for row in rows] == [*ids[1:], None]
    assert [row.valid_to is None for row in rows] == [False] * 49 + [True]


@pytest.mark.parametrize("policy", ["raise", "ask"])
def test_one_of_many_at_once_takes_a_free_slot(
    memory: MemoryGateway, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten that find a slot free at once, and say something else of it, one is stored; the others are told of it."""
    alex = memory.for_user("alex")
    embedder = alex._core.parts.embedder
    vectors = embedder.vectors
    looked = Barrier(10, timeout=60)
    first = iter(range(10))

    def after_all_looked(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if next(first, None) is not None:
            looked.wait()
        return vectors(texts)

    def say(hour: int) -> str:
        try:
            result = alex.add(f"at {hour}", metadata=time_of_day(str(hour)), on_conflict=policy)
        except ConflictFound:
            return "told"
        return "told" if result.pending else "stored"

    monkeypatch.setattr(embedder, "vectors", after_all_looked)
    with ThreadPoolExecutor(10) as pool:
        outcomes = sorted(pool.map(say, range(10)))
    assert outcomes == ["stored", *["told"] * 9]
    assert [current.superseded_by for current in alex.get_all()] == [None]


def test_a_failed_supersede_changes_nothing(alex: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store refuses the write, the old memory is current as before, and the history silent."""
    store = alex._core.parts.store
    (old,) = alex.get_all()
    real = store.upsert
    calls: list[int] = []

    def refuse(rows: Any) -> None:
        calls.append(len(rows))
        if len(calls) == 1:
            real(rows)
            raise OSError("the disk is gone")
        real(rows)

    monkeypatch.setattr(store, "upsert", refuse)
    with pytest.raises(OSError, match="disk"):
        alex.add("evenings", metadata=time_of_day("evening"), on_conflict="supersede")
    assert alex.get_all().memories == (old,)
    assert alex.get(old.id).valid_to is None
    assert [change.event for change in alex.history(old.id)] == ["ADD"]


def test_projects_have_one_state(memory: MemoryGateway) -> None:
    """A project that is done is no longer active; other projects stay."""
    alex = memory.for_user("alex")
    alex.add("I lead Phoenix", metadata=Project(name="Phoenix", role="lead"))
    alex.add("I am on Apollo", metadata=Project(name="Apollo"))
    done = alex.add("Phoenix is done", metadata=Project(name="Phoenix", status="done"), on_conflict="supersede")
    assert {hit.metadata.name: hit.metadata.status for hit in alex.search("", schema=Project)} == {
        "Phoenix": "done",
        "Apollo": "active",
    }
    assert "status and role" in done.conflicts[0].reason


def test_what_follows_a_deleted_memory(memory: MemoryGateway) -> None:
    """A memory whose successor was deleted is followed by the one that is put in its place, and ended when it did."""
    alex = memory.for_user("alex")
    (first,) = alex.add("tea").stored
    alex.delete(alex.supersede(first.id, "coffee").id)
    ended = alex.get(first.id).valid_to
    last = alex.supersede(first.id, "milk")
    assert (alex.get(first.id).valid_to, alex.get(first.id).superseded_by) == (ended, last.id)
    assert [found.text for found in alex.get_all()] == ["milk"]


def test_a_call_that_is_repeated_tells_what_waits(memory: MemoryGateway) -> None:
    """With an idempotency key, a second call tells each message's own fate: the same token, or the memory it became."""
    alex = memory.for_user("alex")
    alex.add("My favourite colour is blue", infer=False)
    said = ["My favourite colour is red", "The train to Lisbon leaves at nine", "Tea is nice"]

    def ask() -> AddResult:
        return alex.add(said, infer=False, on_conflict="ask", idempotency_key="k")

    first, again = ask(), ask()
    (waiting,) = first.pending
    assert [(change.token, change.index, change.text) for change in again.pending] == [(waiting.token, 0, said[0])]
    assert [conflict.memory.id for conflict in again.conflicts] == [waiting.conflicts[0].memory.id]
    assert again.stored == ()
    assert [(item.index, item.memory_id) for item in again.skipped] == [
        (1, first.stored[0].id),
        (2, first.stored[1].id),
    ]
    (red,) = alex.confirm(waiting.token).stored
    assert [item.memory_id for item in ask().skipped] == [red.id, *(memory.id for memory in first.stored)]


@pytest.mark.parametrize("policy", ["supersede", "raise"])
def test_many_at_once_take_no_look_at_each_other(
    memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch, policy: OnConflict
) -> None:
    """What a batch of many slots is compared with grows with the batch, and not with its square."""
    compared = Mock(side_effect=holds)
    monkeypatch.setattr("memstack.gateway.replacing.holds", compared)
    read = Mock(side_effect=memory._core.parts.schemas.read)
    monkeypatch.setattr(memory._core.parts.schemas, "read", read)
    items = [
        {"content": f"I like {number}", "metadata": Preference(key=f"key {number % 90}", value=f"value {number % 90}")}
        for number in range(100)
    ]
    result = memory.for_user("alex").add_many(items, on_conflict=policy)
    assert len(result.stored) == 100
    assert compared.call_count < 500
    assert read.call_count < 1500


def test_a_key_is_used_where_all_of_it_waits(alex: MemoryGateway) -> None:
    """A call of which everything waits has used its key: the same token again, and no other content."""
    evening: dict[str, Any] = {"messages": "I prefer evenings", "metadata": time_of_day("evening")}
    asked = alex.add(**evening, on_conflict="ask", idempotency_key="k")
    again = alex.add(**evening, on_conflict="ask", idempotency_key="k")
    assert [change.token for change in again.pending] == [change.token for change in asked.pending]
    with pytest.raises(IdempotencyMismatch):
        alex.add("I drink tea", on_conflict="ask", idempotency_key="k")
    alex.dismiss(asked.pending[0].token)
    late = alex.add(**evening, on_conflict="ask", idempotency_key="k")
    assert (late.stored, late.pending, [item.reason for item in late.skipped]) == ((), (), ["duplicate"])


@pytest.mark.parametrize("known", [True, False])
def test_a_duplicate_names_what_holds(memory: MemoryGateway, known: bool) -> None:
    """Where a call says a value, another one and the first again, the same once more is a duplicate of the last."""
    handle = memory.for_user("sam")
    items = [
        {"content": value, "metadata": time_of_day(value)} for value in ("morning", "evening", "morning", "morning")
    ]
    if known:
        handle.add_many(items[:1])
    result = handle.add_many(items, on_conflict="supersede")
    (hit,) = handle.search("")
    assert (hit.text, result.skipped[-1].memory_id) == ("morning", hit.id)


@pytest.mark.parametrize("batch_size", [1, 256])
@pytest.mark.parametrize("stored", [True, False])
def test_what_was_replaced_in_the_same_batch_is_no_duplicate(
    alex: MemoryGateway, batch_size: int, stored: bool
) -> None:
    """What is said again once something took its place is what holds, whether both are in one batch or not."""
    texts = ["evenings", "late", "evenings"][stored:]
    if stored:
        alex.add("evenings", metadata=time_of_day("evening"))
    items = [{"content": text, "metadata": time_of_day("evening")} for text in texts]
    result = alex.add_many(items, on_conflict="supersede", batch_size=batch_size)
    assert [memory.text for memory in result.stored] == texts
    assert result.skipped == ()
    assert [memory.text for memory in alex.get_all()] == ["evenings"]
