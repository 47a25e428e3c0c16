"""Schemas through the verbs: what is stored by an instance comes back as one, on every backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import assert_type

from memstack import (
    F,
    Filters,
    Hit,
    Hits,
    Interaction,
    Memory,
    MemoryGateway,
    MemorySchema,
    OnConflict,
    Order,
    Page,
    Preference,
    Project,
    open_async_memory,
    open_memory,
)
from memstack.errors import ConfigError, InvalidInput

MORNING = Preference(key="time of day", value="morning", domain="task-management", strength=0.8)
PHOENIX = Project(name="Phoenix", role="lead", deadline=date(2026, 3, 1), tags=("work", "urgent"))


class Habit(MemorySchema):
    category = "habits"
    name: str


def test_search_by_schema_gives_instances(memory: MemoryGateway) -> None:
    """With ``schema=`` the metadata of every hit is an instance, for the type checker too."""
    alex = memory.for_user("alex")
    alex.add("I prefer tasks in the morning", metadata=MORNING)
    alex.add("I lead Phoenix", metadata=PHOENIX)
    hits = alex.search("when?", schema=Preference)
    assert_type(hits, Hits[Preference])
    assert_type(hits[0], Hit[Preference])
    assert_type(hits[0].metadata, Preference)
    assert [hit.metadata for hit in hits] == [MORNING]
    assert hits[0].to_dict()["metadata"]["key"] == "time of day"
    plain = alex.search("when?", filters={"category": "preferences", "key": "time of day"})
    assert_type(plain, list[Hit])
    assert_type(plain[0].metadata, Mapping[str, Any])
    assert plain[0].metadata["value"] == "morning"
    assert [hit.metadata for hit in alex.search("", schema=Project, filters=Project.f.role == "lead")] == [PHOENIX]
    assert alex.search("", schema=Preference, filters=Preference.f.strength >= 0.9) == []


def test_what_wraps_the_verbs_has_names_for_their_types(memory: MemoryGateway) -> None:
    """A function of somebody else can name what it passes on and gives back, and is checked."""

    def preferences(who: str, filters: Filters, order: Order, conflict: OnConflict) -> Hits[Preference]:
        alex = memory.for_user(who)
        alex.add("I prefer tasks in the morning", metadata=MORNING, on_conflict=conflict)
        assert_type(alex.get_all(filters=filters, order=order), Page)
        return alex.search("", schema=Preference, filters=filters)

    assert [hit.metadata for hit in preferences("alex", F.strength > 0.5, "-updated_at", "keep")] == [MORNING]
    assert preferences("alex", {"strength": {"gt": 0.9}}, "occurred_at", "supersede") == []


def test_listing_by_schema_gives_instances(memory: MemoryGateway) -> None:
    """``get_all`` and ``iter_all`` take a schema, too."""
    alex = memory.for_user("alex")
    alex.add("I prefer tasks in the morning", metadata=MORNING)
    page = alex.get_all(schema=Preference)
    assert_type(page, Page[Preference])
    assert_type(page.memories[0].metadata, Preference)
    assert_type(page[0], Memory[Preference])
    assert_type(page[:1], tuple[Memory[Preference], ...])
    assert (page[0], page[-1:]) == (page.memories[0], page.memories[-1:])
    assert [item.metadata for item in page] == [MORNING]
    listed = alex.iter_all(schema=Preference)
    assert_type(listed, Iterator[Memory[Preference] | Memory])
    assert [item.metadata for item in listed] == [MORNING]
    assert_type(alex.get_all(), Page)
    assert_type(alex.iter_all(), Iterator[Memory])


def test_misfits_are_returned_raw_with_the_reason(memory: MemoryGateway) -> None:
    """Metadata of the category that does not fit is kept apart from the typed hits, whole and with the reason."""
    alex = memory.for_user("alex")
    alex.add("I like mornings", metadata={"category": "preferences", "domain": "task-management"})
    alex.add("I prefer tasks in the morning", metadata=MORNING)
    hits = alex.search("", schema=Preference)
    assert [hit.metadata for hit in hits] == [MORNING]
    (misfit,) = alex.search("mornings", schema=Preference).misfits
    assert_type(misfit, Hit)
    assert misfit.metadata == {"category": "preferences", "domain": "task-management"}
    assert "key: Field required" in (misfit.schema_error or "")
    page = alex.get_all(schema=Preference)
    assert [item.schema_error for item in page] == [None]
    assert [item.text for item in page.misfits] == ["I like mornings"]
    errors = [item.schema_error is None for item in alex.iter_all(schema=Preference, order="created_at")]
    assert errors == [False, True]


def test_misfits_take_no_place_of_a_hit(memory: MemoryGateway) -> None:
    """``limit`` counts what fits: misfits before it push nothing out."""
    alex = memory.for_user("alex")
    alex.add("the one that fits", metadata=MORNING)
    alex.add_many([{"content": f"misfit {i}", "metadata": {"category": "preferences"}} for i in range(30)])
    found = alex.search("", schema=Preference, limit=1)
    assert [hit.text for hit in found] == ["the one that fits"]
    assert len(found.misfits) == 30


def test_what_is_of_another_category_is_no_misfit(memory: MemoryGateway) -> None:
    """It is not looked at: it is in no answer, and takes no place in a page."""
    alex = memory.for_user("alex")
    alex.add("I prefer tasks in the morning", metadata=MORNING)
    alex.add("I lead Phoenix", metadata=PHOENIX)
    page = alex.get_all(schema=Preference, limit=1)
    assert ([item.metadata for item in page], page.misfits, page.next_cursor) == ([MORNING], (), None)
    for query in ("", "who leads?"):
        hits = alex.search(query, schema=Preference, limit=1)
        assert ([hit.metadata for hit in hits], list(hits.misfits)) == ([MORNING], [])


def test_times_of_a_schema_become_the_memorys(memory: MemoryGateway) -> None:
    """An interaction's `occurred_at` is the memory's, can be filtered by, and comes back."""
    at = datetime(2026, 1, 2, 8, tzinfo=timezone.utc)
    done = Interaction(action="completed", task_id="t-1", occurred_at=at)
    alex = memory.for_user("alex")
    (stored,) = alex.add("completed the review", metadata=done).stored
    assert stored.occurred_at == at
    where = Interaction.f.occurred_at < "2026-01-03"
    assert [hit.metadata for hit in alex.search("", schema=Interaction, filters=where)] == [done]
    with pytest.raises(InvalidInput, match="another instant"):
        alex.add({"role": "user", "content": "x", "occurred_at": "2025-01-01"}, metadata=done)


def test_instances_in_bulk_and_updates(memory: MemoryGateway) -> None:
    """Items of ``add_many`` take instances; ``update`` with one sets its fields and removes what it leaves out."""
    alex = memory.for_user("alex")
    (stored,) = alex.add_many([{"content": "I lead Phoenix", "metadata": PHOENIX}]).stored
    alex.update(stored.id, metadata=Project(name="Phoenix", status="done"))
    (hit,) = alex.search("", schema=Project)
    assert hit.metadata == Project(name="Phoenix", status="done")


class Deadline(MemorySchema):
    category = "deadlines"
    version = 2
    upgrades = {1: lambda fields: {"name": fields["title"]}}  # noqa: RUF012
    name: str
    note: str | None = None
    occurred_at: datetime | None = None
    expires_at: datetime | None = None
    valid_from: datetime | None = None


LATER = datetime(2990, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "before",
    [
        {"category": "deadlines", "title": "tax"},
        {"category": "preferences", "key": "tea", "value": "green"},
        {"category": "deadlines", "name": "tax", "schema_version": 2, "colour": "red"},
        {"colour": "red"},
    ],
    ids=["an older version", "another schema", "one more field", "no schema"],
)
def test_an_update_with_an_instance_fits_its_schema(memory: MemoryGateway, before: dict[str, Any]) -> None:
    """Whatever a memory had, one that is updated with an instance is that instance."""
    alex = memory.for_user("alex")
    (stored,) = alex.add("the tax is due", metadata=before).stored
    updated = alex.update(stored.id, metadata=Deadline(name="rent"))
    assert dict(updated.metadata) == Deadline(name="rent").to_metadata()
    (hit,) = alex.search("", schema=Deadline)
    assert hit.metadata == Deadline(name="rent", occurred_at=stored.occurred_at, expires_at=None, valid_from=None)


def test_an_update_leaves_what_the_schema_allows(memory: MemoryGateway) -> None:
    """Fields beside those of a schema that takes any stay through an update with an instance."""

    class Loose(MemorySchema, extra="allow"):
        category = "loose"
        name: str

    alex = memory.for_user("alex")
    (stored,) = alex.add("x", metadata={"category": "loose", "name": "a", "colour": "red"}).stored
    assert alex.update(stored.id, metadata=Loose(name="b")).metadata["colour"] == "red"


def test_an_update_takes_the_expiry_of_an_instance(memory: MemoryGateway) -> None:
    """The `expires_at` that an instance has is the memory's, never too; one that does not say leaves it."""
    alex = memory.for_user("alex")
    (stored,) = alex.add("the tax is due", metadata=Deadline(name="tax")).stored
    assert alex.update(stored.id, metadata=Deadline(name="tax", expires_at=LATER)).expires_at == LATER
    assert alex.update(stored.id, metadata=Deadline(name="rent")).expires_at == LATER
    with pytest.raises(InvalidInput, match="expires_at: is another instant"):
        alex.update(stored.id, metadata=Deadline(name="rent", expires_at=LATER), expires_at="2980-01-01")
    assert alex.update(stored.id, metadata=Deadline(name="rent", expires_at=None)).expires_at is None


def test_an_update_does_not_drop_a_time(memory: MemoryGateway) -> None:
    """A time of an instance that an update cannot set is refused; what was read can be written again."""
    alex = memory.for_user("alex")
    since = datetime(2020, 1, 1, tzinfo=timezone.utc)
    (stored,) = alex.add("the tax is due", metadata=Deadline(name="tax", valid_from=since)).stored
    for name in ("occurred_at", "valid_from"):
        moved = Deadline.model_validate({"name": "rent", name: LATER})
        with pytest.raises(InvalidInput, match=rf"metadata\.{name}: is another instant"):
            alex.update(stored.id, metadata=moved)
    assert alex.get(stored.id) == stored
    (hit,) = alex.search("", schema=Deadline)
    again = alex.update(stored.id, metadata=hit.metadata.model_copy(update={"note": "soon"}))
    assert (again.metadata["note"], again.occurred_at, again.valid_from) == ("soon", stored.occurred_at, since)


def test_what_supersedes_has_the_times_of_its_instance(memory: MemoryGateway) -> None:
    """``supersede`` with an instance keeps each of the times that the instance has."""
    alex = memory.for_user("alex")
    old, new = datetime(2025, 1, 1, tzinfo=timezone.utc), datetime(2025, 1, 2, tzinfo=timezone.utc)
    (stored,) = alex.add("the tax is due", metadata=Deadline(name="tax", occurred_at=old)).stored
    moved = alex.supersede(stored.id, "moved", metadata=Deadline(name="tax", occurred_at=new, expires_at=LATER))
    assert (moved.occurred_at, moved.expires_at, moved.valid_from) == (new, LATER, None)
    assert alex.get(stored.id).valid_to == new


@pytest.mark.parametrize("schema", [dict, "preferences", MemorySchema, object()])
def test_what_is_no_schema_is_refused(memory: MemoryGateway, schema: Any) -> None:
    """``schema=`` takes a class with a category."""
    alex = memory.for_user("alex")
    for verb in (alex.get_all, alex.iter_all):
        with pytest.raises(InvalidInput, match="schema"):
            verb(schema=schema)
    with pytest.raises(InvalidInput, match="schema"):
        alex.search("", schema=schema)


async def test_async_search_by_schema(tmp_path: Path) -> None:
    """The awaited verbs give instances, too."""
    async with open_async_memory({"vector_store": {"path": str(tmp_path)}}) as memory:
        alex = memory.for_user("alex")
        await alex.add("I prefer tasks in the morning", metadata=MORNING)
        hits = await alex.search("when?", schema=Preference)
        assert_type(hits, Hits[Preference])
        assert [hit.metadata for hit in hits] == [MORNING]
        page = await alex.get_all(schema=Preference)
        assert_type(page, Page[Preference])
        assert page.memories[0].metadata == MORNING
        async for item in alex.iter_all(schema=Preference):
            assert_type(item, Memory[Preference] | Memory)
            assert item.metadata == MORNING
        assert [item.text async for item in alex.iter_all(filters=F.value == "evening")] == []


def test_schemas_are_named_in_the_configuration(tmp_path: Path) -> None:
    """A schema of one's own is known by its dotted path."""
    config = {"vector_store": {"path": str(tmp_path)}, "schemas": [f"{__name__}.Habit"]}
    with open_memory(config) as memory:
        memory.add("a walk", user_id="alex", metadata=Habit(name="walk"))
        assert [hit.metadata for hit in memory.search("", user_id="alex", schema=Habit)] == [Habit(name="walk")]


@pytest.mark.parametrize("path", ["nowhere.Habit", "pathlib.Path", "memstack.schemas.MemorySchema", "Habit", ""])
def test_paths_that_lead_to_no_schema_are_refused(path: str, tmp_path: Path) -> None:
    """A path that cannot be imported, or leads to something else, is an error of the configuration."""
    with pytest.raises(ConfigError, match=r"schemas\[0\]"):
        open_memory({"vector_store": {"path": str(tmp_path / "store")}, "schemas": [path]})
