"""Schemas: from a class to metadata and back, in filters, and over versions."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from datetime import date, datetime, timezone
from enum import Enum
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic import Field as PydanticField
from pydantic.alias_generators import to_camel
from typing_extensions import assert_type

from memstack import F, Interaction, MemorySchema, Preference, Project, TaskPattern
from memstack.errors import FilterError, InvalidInput, SchemaError, SchemaMismatch
from memstack.filters.build import Field
from memstack.filters.evaluate import evaluate
from memstack.metadata import check_metadata, decode, encode
from memstack.schemas import Schemas


class Mood(Enum):
    CALM = "calm"
    BUSY = "busy"


class Habit(MemorySchema):
    """A schema of a user's own, in its third version."""

    category = "habits"
    version = 3
    upgrades: ClassVar[Mapping[int, Any]] = {
        1: lambda fields: {"name": fields["title"], "days": fields.get("days", [])},
        2: lambda fields: {**fields, "mood": "calm"},
    }
    slot = ("name",)

    name: str
    days: list[str] = PydanticField(default_factory=list)
    mood: Mood = Mood.CALM
    since: date | None = None


times = st.datetimes(timezones=st.just(timezone.utc))
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda text: text.strip())
instances = st.one_of(
    st.builds(Preference, key=words, value=words, domain=words, strength=st.floats(0, 1)),
    st.builds(Project, name=words, role=st.none() | words, deadline=st.none() | st.dates(), tags=st.tuples(words)),
    st.builds(TaskPattern, task_type=words, kind=words, estimate_minutes=st.none() | st.floats(0, 1e6)),
    st.builds(Interaction, action=words, task_id=st.none() | words, occurred_at=st.none() | times),
    st.builds(Habit, name=words, days=st.lists(words), mood=st.sampled_from(Mood), since=st.none() | st.dates()),
)


@given(instances)
def test_what_is_stored_reads_back_equal(made: MemorySchema) -> None:
    """An instance, stored as metadata and read again, is equal."""
    stored = decode(encode(check_metadata(made.to_metadata())))
    assert type(made).from_metadata(stored, **made.lifted) == made


def test_the_category_is_plain_metadata() -> None:
    """What is stored has the category and the fields under their names, and no others."""
    assert Preference(key="Time of  day", value="morning").to_metadata() == {
        "category": "preferences",
        "key": "time of day",
        "value": "morning",
        "domain": "general",
        "strength": 1.0,
        "source": "stated",
    }
    assert "project_role" in Project(name="Phoenix", role="lead").to_metadata()


def test_older_versions_are_upgraded_step_by_step() -> None:
    """Metadata of each version reads as the newest; that of a version to come does not fit."""
    assert Habit.from_metadata({"category": "habits", "title": "walk"}) == Habit(name="walk")
    second = {"category": "habits", "schema_version": 2, "name": "walk", "days": ["mon"]}
    assert Habit.from_metadata(second) == Habit(name="walk", days=["mon"])
    assert Habit(name="walk").to_metadata()["schema_version"] == 3
    with pytest.raises(SchemaMismatch, match="version 4"):
        Habit.from_metadata({**second, "schema_version": 4})


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"category": "preferences", "domain": "task-management"}, "key: Field required"),
        ({"category": "preferences", "key": "k", "value": "v", "strength": 2}, "strength"),
        ({"category": "preferences", "key": "k", "value": "v", "colour": "crimson"}, "colour"),
        ({"category": "projects"}, "category"),
        ({}, "category"),
    ],
)
def test_a_misfit_has_a_reason_without_values(metadata: dict[str, Any], reason: str) -> None:
    """What does not fit names the field, and never the value."""
    with pytest.raises(SchemaMismatch) as caught:
        Preference.from_metadata(metadata)
    assert reason in caught.value.reason
    assert "crimson" not in str(caught.value)
    assert "task-management" not in str(caught.value)


def test_an_upgrade_that_fails_is_a_misfit() -> None:
    """Old metadata that lacks what the step needs does not fit; the step's error names no value."""
    with pytest.raises(SchemaMismatch, match="step from version 1"):
        Habit.from_metadata({"category": "habits"})


class Ticket(MemorySchema):
    """A schema whose step and validator expect what they have written themselves."""

    category = "tickets"
    version = 2
    upgrades: ClassVar[Mapping[int, Any]] = {1: lambda fields: {"name": fields["title"].split(": ")[1]}}
    name: str

    @field_validator("name", mode="before")
    @classmethod
    def _fold(cls, name: Any) -> Any:
        return name.casefold()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"title": "no colon"}, r"the step from version 1 failed \(IndexError\)"),
        ({"title": 5}, r"the step from version 1 failed \(AttributeError\)"),
        ({"schema_version": 2, "name": 5}, r"a validator failed \(AttributeError\)"),
    ],
)
def test_whatever_a_class_raises_is_a_misfit(fields: dict[str, Any], reason: str) -> None:
    """Steps and validators are the user's, metadata may be anybody's: no error of theirs ends a search."""
    with pytest.raises(SchemaMismatch, match=reason):
        Ticket.from_metadata({"category": "tickets", **fields})
    assert Ticket.from_metadata({"category": "tickets", "title": "Bug: Crash"}) == Ticket(name="crash")


def test_an_alias_is_for_the_caller() -> None:
    """A field with an alias is made by it, stored under its own name, and read back."""

    class Aliased(MemorySchema):
        category = "aliased"
        name: str = PydanticField(alias="theName")

    made = Aliased.model_validate({"theName": "x"})
    assert made.to_metadata() == {"category": "aliased", "name": "x"}
    assert Aliased.from_metadata(made.to_metadata()) == made


class Door(BaseModel):
    """A model inside of a schema, whose fields the caller gives by alias."""

    model_config = ConfigDict(alias_generator=to_camel)

    street_name: str
    open_since: date | None = None


def test_models_inside_of_a_schema_are_stored_wherever_they_stand() -> None:
    """A model that is a field, or in a list, a tuple or a mapping of one, is stored as a mapping, and read back."""

    class House(MemorySchema):
        category = "houses"
        front: Door
        doors: list[Door]
        pair: tuple[Door, int]
        named: dict[str, Door]

    door = Door.model_validate({"streetName": "Via Appia", "openSince": "2026-01-02"})
    made = House(front=door, doors=[door, door], pair=(door, 1), named={"back": door})
    stored = decode(encode(check_metadata(made.to_metadata())))
    assert House.from_metadata(stored) == made


def test_a_base_of_schemas_is_not_stored() -> None:
    """An instance of a class without a category, which no schema would find again, is refused."""

    class Common(MemorySchema):
        owner: str = "me"

    with pytest.raises(SchemaError, match="Common: it names no category"):
        Common().to_metadata()


def test_bad_values_do_not_show_in_errors() -> None:
    """Pydantic's error for a wrong value does not print the value."""
    with pytest.raises(ValidationError) as caught:
        Preference(key="k", value="v", strength=71.25)
    assert "71.25" not in str(caught.value)


def test_fields_in_filters_are_typed() -> None:
    """``Schema.f`` makes the same filters as ``F``, under the stored names."""
    assert_type(Preference.f.strength, Field)
    assert (Preference.f.strength >= 0.5) == (F.strength >= 0.5)
    assert (Project.f.role == "lead") == (F.project_role == "lead")
    assert Project.f.deadline.exists() == F.deadline.exists()
    assert (Project.f.deadline < "2026-01-01") == (F.deadline < "2026-01-01")
    assert Project.f.tags.contains("urgent") == F.tags.contains("urgent")
    assert Habit.f.mood.in_([Mood.CALM]) == F.mood.in_(["calm"])
    assert dir(Preference.f) == sorted(["category", *Preference.model_fields])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Preference.f.strenght > 1,
        lambda: Preference.f["no such"] == 1,
        lambda: Preference.f.strength >= "0.5",
        lambda: Preference.f.strength == True,  # noqa: E712
        lambda: Preference.f.source == "guessed",
        lambda: Preference.f.source.in_(["stated", "guessed"]),
        lambda: Preference.f.value == 3,
        lambda: Project.f.deadline < 5,
        lambda: Habit.f.mood == "angry",
        lambda: Project.f.tags == "urgent",
        lambda: Project.f.tags.nin(["urgent"]),
    ],
)
def test_filters_that_a_schema_rules_out_are_refused(make: Any) -> None:
    """A misspelt field, a value that a field cannot have and a word that is not among its choices are errors."""
    with pytest.raises(FilterError, match=r"Known|It is|contains\("):
        make()


@given(st.sampled_from([(Preference, "key"), (Preference, "domain"), (TaskPattern, "kind"), (Interaction, "action")]))
def test_a_name_is_asked_for_as_it_is_kept(field: tuple[type[MemorySchema], str]) -> None:
    """Case and runs of white space of a name matter in a filter by schema as little as in an instance."""
    schema, name = field
    assert (schema.f[name] == " Time  of Day") == (F[name] == "time of day")
    assert (schema.f[name] != "TIME of day") == (F[name] != "time of day")
    assert schema.f[name].in_(["Time of day", "B"]) == F[name].in_(["time of day", "b"])


def test_a_day_is_asked_for_as_text_too() -> None:
    """What a field keeps as a date is equal to the ISO text of it; where a text cannot be one, nothing is equal."""
    assert (Project.f.deadline == "2026-03-01") == (F.deadline == date(2026, 3, 1))
    assert (Project.f.deadline == "2026-03-01T05:00") == (F.deadline == "2026-03-01T05:00")
    assert (Interaction.f.occurred_at == "2026-03-01") == (F.occurred_at == datetime(2026, 3, 1, tzinfo=timezone.utc))


@given(instances, instances)
def test_the_slot_filter_finds_what_is_about_the_same(one: MemorySchema, other: MemorySchema) -> None:
    """The slot's filter holds for memories of an equal slot, and for no others."""
    where = one.slot_filter()
    if where is None:
        assert not one.slot
        return
    same = type(one) is type(other) and all(getattr(one, name) == getattr(other, name, None) for name in one.slot)
    assert evaluate(where, check_metadata(other.to_metadata())) == same


def test_what_a_mapping_leaves_out_is_the_default() -> None:
    """A mapping without the field that has a default is of the slot with the default."""
    where = Preference(key="time", value="evening").slot_filter()
    assert where is not None
    assert evaluate(where, {"category": "preferences", "key": "time", "value": "morning"})
    assert not evaluate(where, {"category": "preferences", "key": "time", "value": "morning", "domain": "sport"})


def test_contradictions_name_the_fields() -> None:
    """Same slot, another state: a contradiction. Another slot, an equal state, an event: none."""
    morning = Preference(key="time", value="morning")
    assert morning.contradicted_by(Preference(key="Time", value="evening")) == ("value",)
    assert morning.contradicted_by(Preference(key="time", value="morning", strength=0.2)) == ()
    assert morning.contradicted_by(Preference(key="time", value="evening", domain="sport")) == ()
    assert Project(name="P").contradicted_by(Project(name="P", status="done", role="lead")) == ("status", "role")
    assert Habit(name="walk").contradicted_by(Habit(name="walk", days=["mon"])) == ("days",)
    assert Interaction(action="asked").contradicted_by(Interaction(action="asked", outcome="no")) == ()


def test_a_pattern_learns_a_running_mean() -> None:
    """Each task that is observed moves the estimate to the mean of all, and makes it surer."""
    pattern = TaskPattern(task_type="review")
    for count, minutes in enumerate((30, 50, 40), 1):
        pattern = pattern.observed(minutes)
        assert pattern.sample_count == count
    assert pattern.estimate_minutes == pytest.approx(40)
    assert pattern.actual_minutes == 40
    assert pattern.confidence == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("minutes", "told"),
    [(-1, "is -1"), (math.nan, "is NaN"), (math.inf, "is inf"), ("5", "a string"), (True, "a bool"), (10**400, "bits")],
)
def test_a_pattern_learns_from_durations_alone(minutes: Any, told: str) -> None:
    """What is no duration is refused, and told for what it is."""
    with pytest.raises(InvalidInput, match=told) as caught:
        TaskPattern(task_type="review").observed(minutes)
    assert caught.value.field == "minutes"


@pytest.mark.filterwarnings("ignore:Field name .* shadows an attribute:UserWarning")
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"__annotations__": {"text": str}}, "'text' is reserved"),
        ({"__annotations__": {"role": str}}, "'role' is reserved"),
        ({"__annotations__": {"schema_version": int}}, "'schema_version' is reserved"),
        ({"slot": ("nothing",), "__annotations__": {"name": str}}, "'nothing' is no field"),
        ({"version": 2}, "no upgrade from 1"),
        ({"version": 0}, "version"),
        ({"category": 3}, "category"),
        ({"stored_as": {"one": "two"}, "__annotations__": {"one": int, "two": int}}, "two fields are stored as 'two'"),
        ({"__annotations__": {"name": str | None}}, "'name' may be None"),
        ({"__annotations__": {"name": str | None}, "name": "nobody"}, "'name' may be None"),
        ({"__annotations__": {"days": list[str]}, "slot": ("days",)}, "'days' of the slot has several values"),
        ({"__annotations__": {"at": dict[str, int] | None}, "at": None, "slot": ("at",)}, "several values"),
        ({"__annotations__": {"category": str}, "category": "habits"}, "'category' is declared as a field"),
        ({"__annotations__": {"slot": tuple[str, ...]}, "slot": ("name",)}, "'slot' is declared as a field"),
        ({"__annotations__": {"version": str}}, "'version' is declared as a field"),
        ({"__annotations__": {"where": str}}, "'where' is declared as a field"),
    ],
)
def test_a_schema_that_cannot_work_is_refused_when_defined(body: dict[str, Any], problem: str) -> None:
    """What is wrong with a schema is said at the class statement."""
    with pytest.raises(SchemaError, match=problem):
        types.new_class(
            "Broken",
            (MemorySchema,),
            exec_body=lambda names: names.update({"__module__": __name__, "category": "broken", **body}),
        )


def test_a_schema_of_ones_own_takes_the_place_of_a_known_one() -> None:
    """Schemas are found by category; a user's own wins."""

    class Wish(Preference):
        urgency: int = 0

    schemas = Schemas([Wish, Habit])
    assert schemas.get("preferences") is Wish
    assert schemas.get("habits") is Habit
    assert schemas.get("projects") is Project
    assert schemas.get("nothing") is None
    assert schemas.get(3) is None
    assert schemas.read({"category": "projects", "name": "P"}) == Project(name="P")
    assert schemas.read({"category": "projects"}) is None


def test_times_of_a_schema_are_the_memorys_own() -> None:
    """``occurred_at`` is no metadata: it is handed over beside it."""
    at = datetime(2026, 1, 2, tzinfo=timezone.utc)
    made = Interaction(action="asked", occurred_at=at)
    assert "occurred_at" not in made.to_metadata()
    assert made.lifted == {"occurred_at": at}


def test_fields_of_several_kinds() -> None:
    """A field is compared with what any part of its union allows; where one of them is open, so is the field."""

    class Open(MemorySchema):
        category = "open"

        label: Mood | str
        amount: int | dict[str, int]
        level: Literal[3] | Mood

    assert (Open.f.label == "other") == (F.label == "other")
    assert (Open.f.amount == "many") == (F.amount == "many")
    assert (Open.f.level == 3) == (F.level == 3)
    with pytest.raises(FilterError, match="level"):
        _ = Open.f.level == 4
    with pytest.raises(FilterError, match="label"):
        _ = Open.f.label == 4


def test_what_is_not_set_is_not_in_the_metadata() -> None:
    """Fields that are None are left out, unless they are to remove what was there."""
    project = Project(name="Phoenix", tags=("urgent",))
    assert project.to_metadata().keys() == {"category", "name", "status", "tags"}
    assert project.to_metadata(keep_none=True).keys() == {*project.to_metadata(), "project_role", "deadline"}


@pytest.mark.parametrize("version", [True, 0, -1, "1", 1.0, None])
def test_versions_that_are_none(version: Any) -> None:
    """What is no number from 1 on is no version."""
    metadata = {**Preference(key="tea", value="green").to_metadata(), "schema_version": version}
    with pytest.raises(SchemaMismatch, match="schema_version"):
        Preference.from_metadata(metadata)
