"""Schemas: what the metadata of a category holds, as classes that type checkers know.

A schema is stored as plain metadata with its ``category`` beside it, so that plain filters find it, Mem0 sees it, and
what others wrote can be read by it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from functools import lru_cache
from operator import getitem
from typing import Annotated, Any, ClassVar, Final, Literal, NoReturn, Union, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import Self, TypeAliasType, TypeVar

from memstack.errors import FilterError, InvalidInput, SchemaError, SchemaMismatch, amount, describe, named, nearest
from memstack.filters.ast import Eq, Node, all_of
from memstack.filters.build import Field as FilterField
from memstack.instants import as_instant
from memstack.metadata import RESERVED
from memstack.records import Memory

__all__ = [
    "CATEGORY",
    "VERSION",
    "Interaction",
    "MemorySchema",
    "Preference",
    "Project",
    "SchemaFields",
    "Schemas",
    "TaskPattern",
    "Upgrade",
    "fit",
]

CATEGORY: Final = "category"  # the field that tells which schema metadata follows
VERSION: Final = "schema_version"  # stored from version 2 on: metadata without it is of version 1
# Fields of a schema that the memory itself has: they are kept there, and nowhere else.
_LIFTED: Final = frozenset({"occurred_at", "expires_at", "valid_from"})

# What a subclass sets without a type; with one, it would be a field.
_SETTINGS: Final = frozenset({"category", "version", "upgrades", "stored_as", "slot", "states", "contradicts"})

Upgrade = Callable[[dict[str, Any]], Mapping[str, Any]]
S = TypeVar("S", bound="MemorySchema")


class MemorySchema(BaseModel):
    """The metadata of one category. Subclass it, name the `category`, and declare fields.

    Values are what metadata can hold: str, int, float, bool, date, datetime, enums of these, lists and mappings. A
    field called ``occurred_at``, ``expires_at`` or ``valid_from`` is the memory's own.

    Attributes:
        category: what the ``category`` field of the metadata holds.
        version: of the fields; raise it when they change, and declare the step in `upgrades`.
        upgrades: for every version but the newest, what turns its metadata into that of the next one.
        stored_as: names of fields in the metadata, where they are others (``role`` is the message's).
        slot: the fields that say what a memory is about. Two memories with an equal slot and other `states` contradict
            each other. Without a slot, contradictions are looked for by meaning.
        states: the fields that say what holds; None is all that are not in the slot.
        contradicts: False where memories of this kind never contradict each other (events).
        f: the fields for filters: ``Preference.f.strength >= 0.5``.

    Raises:
        SchemaError: when a class is defined that cannot work.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        defer_build=True,
        populate_by_name=True,  # what is stored has the names of the fields, whatever their aliases are
    )

    category: ClassVar[str] = ""
    version: ClassVar[int] = 1
    upgrades: ClassVar[Mapping[int, Upgrade]] = {}
    stored_as: ClassVar[Mapping[str, str]] = {}
    slot: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...] | None] = None
    contradicts: ClassVar[bool] = True
    f: ClassVar[_Fields]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        _check_class(cls)

    # -- to and from metadata --------------------------------------------------------------------

    def to_metadata(self, *, keep_none: bool = False) -> dict[str, Any]:
        """The metadata that is stored: the fields that are set, and the category.

        Args:
            keep_none: keep fields that are None, as `MemoryGateway.update` wants them to remove what was there.

        Raises:
            SchemaError: the class is a base of others, and names no category.
        """
        if not type(self).category:
            _wrong(
                type(self), "it names no category, so nothing would find it", 'Set one in the class: `category = "…"`.'
            )
        out: dict[str, Any] = {CATEGORY: type(self).category}
        for name, value in self:
            if name not in _LIFTED and (keep_none or value is not None):
                out[self.stored_as.get(name, name)] = _plain(value)
        if self.version > 1:
            out[VERSION] = self.version
        return out

    @property
    def lifted(self) -> dict[str, Any]:
        """What is set of the fields that the memory itself has."""
        return {name: value for name, value in self if name in _LIFTED and value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], **lifted: Any) -> Self:
        """Read metadata of this category, of this version or an older one.

        Args:
            metadata: as it is stored.
            lifted: the memory's ``occurred_at``, ``expires_at`` and ``valid_from``.

        Raises:
            SchemaMismatch: it does not fit.
        """
        fields = dict(metadata)
        category = fields.pop(CATEGORY, None)
        if category != cls.category:
            raise SchemaMismatch(cls.__name__, f"the category is {named(category)}, not {cls.category!r}")
        fields = _upgraded(cls, fields)
        for name, stored in cls.stored_as.items():
            if stored in fields:
                fields[name] = fields.pop(stored)
        if lifted:
            fields.update({name: value for name, value in lifted.items() if name in cls.model_fields})
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise SchemaMismatch(cls.__name__, _reason(error)) from None
        except Exception as error:  # a validator of the class that did not expect what others write
            raise SchemaMismatch(cls.__name__, f"a validator failed ({type(error).__name__})") from error

    @classmethod
    def of(cls, memory: Memory[Any]) -> Self:
        """The metadata of a memory as this schema.

        Raises:
            SchemaMismatch: it does not fit.
        """
        if isinstance(memory.metadata, cls):
            return memory.metadata
        return cls.from_metadata(
            memory.metadata,
            occurred_at=memory.occurred_at,
            expires_at=memory.expires_at,
            valid_from=memory.valid_from,
        )

    # -- contradictions --------------------------------------------------------------------------

    def slot_filter(self) -> Node | None:
        """Finds the memories that are about the same; None where the schema declares no slot."""
        if not self.slot:
            return None
        same: list[Node] = []
        for name, value in self._slot():
            field = FilterField(self.stored_as.get(name, name))
            missing = ~field.exists()
            is_default = value == type(self).model_fields[name].default  # what a mapping may leave out
            equal = None if value is None else field == value
            same.append(missing if equal is None else missing | equal if is_default else equal)
        return all_of(type(self).where(), *same)

    def contradicted_by(self, other: MemorySchema) -> tuple[str, ...]:
        """The fields of the same slot in which another one differs; empty where there is no contradiction."""
        if not self.slot or not self.contradicts or type(other).category != type(self).category:
            return ()
        if [getattr(other, name, None) for name in self.slot] != [value for _, value in self._slot()]:
            return ()
        states = self.states
        if states is None:
            states = tuple(name for name in type(self).model_fields if name not in self.slot and name not in _LIFTED)
        return tuple(name for name in states if getattr(self, name) != getattr(other, name, None))

    @classmethod
    def where(cls) -> Node:
        """The filter for this category."""
        return Eq(CATEGORY, cls.category)

    def _slot(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.slot]


def fit(memory: Memory, schema: type[S]) -> Memory[S] | Memory:
    """A memory with its metadata as a schema; where it does not fit, as it was, with the reason in `schema_error`."""
    from dataclasses import replace  # noqa: PLC0415  # beside its only use

    given: Memory[Any] = memory
    try:
        return replace(given, metadata=schema.of(memory))
    except SchemaMismatch as mismatch:
        return replace(memory, schema_error=mismatch.reason)


# -- filters by schema ---------------------------------------------------------------------------


class SchemaFields:
    """The fields of a schema, for filters. Names and types that the schema does not have are a `FilterError`."""

    __slots__ = ("_schema",)

    def __init__(self, schema: type[MemorySchema]) -> None:
        self._schema = schema

    def __getattr__(self, name: str) -> FilterField:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> FilterField:
        fields = self._schema.model_fields
        if name == CATEGORY:
            return FilterField(CATEGORY)
        if name not in fields:
            guess = nearest(name, fields)
            hint = f"Did you mean {guess!r}? " if guess else ""
            raise FilterError(
                f"{self._schema.__name__}.f.{name}", "is no field of the schema", f"{hint}Known: {', '.join(fields)}."
            )
        return _SchemaField(self._schema, name)

    def __dir__(self) -> Iterable[str]:
        return [CATEGORY, *self._schema.model_fields]

    def __repr__(self) -> str:
        return f"{self._schema.__name__}.f"


class _Fields:
    """``Schema.f``."""

    def __get__(self, instance: object, owner: type[MemorySchema]) -> SchemaFields:
        return SchemaFields(owner)


MemorySchema.f = _Fields()
_OWN_NAMES: Final = frozenset(name for name in vars(MemorySchema) if not name.startswith(("_", "model_")))


class _SchemaField(FilterField):
    """A field in a filter that knows which values it can have."""

    __slots__ = ("_choices", "_kinds", "_listed", "_read", "_where")
    __hash__ = None

    def __init__(self, schema: type[MemorySchema], name: str) -> None:
        super().__init__(schema.stored_as.get(name, name))
        self._where = f"{schema.__name__}.f.{name}"
        self._kinds, self._choices = _kinds(schema.model_fields[name].annotation)
        self._listed = _is_list(schema.model_fields[name].annotation)
        self._read = _reader(schema, name)

    def __eq__(self, value: object) -> Node:  # type: ignore[override]
        return super().__eq__(self._checked(value))

    def __ne__(self, value: object) -> Node:  # type: ignore[override]
        return super().__ne__(self._checked(value))

    def __gt__(self, bound: Any) -> Node:
        return super().__gt__(self._bound(bound))

    def __ge__(self, bound: Any) -> Node:
        return super().__ge__(self._bound(bound))

    def __lt__(self, bound: Any) -> Node:
        return super().__lt__(self._bound(bound))

    def __le__(self, bound: Any) -> Node:
        return super().__le__(self._bound(bound))

    def in_(self, values: Iterable[Any]) -> Node:
        return super().in_(self._each(values))

    def nin(self, values: Iterable[Any]) -> Node:
        return super().nin(self._each(values))

    def contains(self, value: Any) -> Node:
        return super().contains(self._bound(value))

    def _each(self, values: Iterable[Any]) -> Iterable[Any]:
        if isinstance(values, str) or not isinstance(values, Iterable):
            return values
        return [self._checked(value) for value in values]

    def _checked(self, value: object) -> Any:
        if self._listed:
            problem = "is a list, and no single value is equal to one"
            raise FilterError(self._where, problem, f"Ask for a member: {self._where}.contains(…).")
        plain = value.value if isinstance(value, Enum) else value
        if self._choices and plain not in self._choices:
            known = ", ".join(sorted(repr(choice) for choice in self._choices))
            raise FilterError(self._where, f"is compared with {describe(plain)} that it never is", f"Known: {known}.")
        return self._read(self._bound(value))

    def _bound(self, value: object) -> Any:
        plain = value.value if isinstance(value, Enum) else value
        if self._kinds and not _kind_of(plain) & self._kinds:
            raise FilterError(
                self._where, f"is compared with {describe(plain)}", f"It is {' or '.join(sorted(self._kinds))}."
            )
        return value


@lru_cache(maxsize=1024)
def _reader(schema: type[MemorySchema], name: str) -> Callable[[Any], Any]:
    """What brings a value into the form in which an instance has it, where that is a single one: names are folded."""
    info = schema.model_fields[name]
    if _takes(info.annotation, list, tuple, set, frozenset, dict, Mapping, Sequence, BaseModel):
        return _unread
    try:
        kind: Any = info.annotation
        if info.metadata:
            kind = getitem(cast("Any", Annotated), (kind, *info.metadata))  # a * between brackets needs 3.11
        validate = TypeAdapter[Any](kind, config=schema.model_config).validate_python
    except Exception:  # noqa: BLE001  # what pydantic makes no adapter of
        return _unread

    def read(value: Any) -> Any:
        try:
            found = validate(value)
        except Exception:  # noqa: BLE001  # a value that the field never has: nothing is equal to it
            return value
        return found if type(found) in _KINDS else value

    return read


def _unread(value: Any) -> Any:
    return value


_KINDS: Final[Mapping[type, str]] = {
    bool: "a bool",
    int: "a number",
    float: "a number",
    str: "text",
    datetime: "an instant",
    date: "an instant",
}


def _kind_of(value: object) -> set[str]:
    found = {kind for known, kind in _KINDS.items() if type(value) is known or isinstance(value, known)}
    if isinstance(value, bool):
        return {"a bool"}
    if isinstance(value, str) and as_instant(value) is not None:
        found.add("an instant")  # ISO text stands for one in filters
    return found


def _kinds(annotation: Any) -> tuple[set[str], set[Any]]:
    """What the values (or members) of a field can be, and which, where they are listed; empty is anything."""
    if isinstance(annotation, TypeAliasType):
        return _kinds(annotation.__value__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin is Literal:
        return {kind for value in arguments for kind in _kind_of(value)}, set(arguments)
    if origin in (Union, types.UnionType, list, tuple, set, frozenset):
        parts = [_kinds(part) for part in arguments if part not in (type(None), Ellipsis)]
        if any(not kinds for kinds, _ in parts):
            return set(), set()
        choices = set().union(*(found for _, found in parts)) if all(found for _, found in parts) else set()
        return set().union(*(kinds for kinds, _ in parts)), choices
    if isinstance(annotation, type):
        if issubclass(annotation, Enum):
            values = {member.value for member in annotation}
            return {kind for value in values for kind in _kind_of(value)}, values
        return {kind for known, kind in _KINDS.items() if annotation is known}, set()
    return set(), set()


# -- the inside ------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """A value of a field with the models in it as mappings, under the names by which they are read back."""
    if isinstance(value, BaseModel):
        read_by_name = value.model_config.get("populate_by_name") or value.model_config.get("validate_by_name")
        aliased = any(info.validation_alias is not None for info in type(value).model_fields.values())
        return value.model_dump(by_alias=aliased and not read_by_name)
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    return value


def _upgraded(cls: type[MemorySchema], fields: dict[str, Any]) -> dict[str, Any]:
    version = fields.pop(VERSION, 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SchemaMismatch(cls.__name__, f"{VERSION} is {describe(version)}, not a number from 1 on")
    if version > cls.version:
        raise SchemaMismatch(cls.__name__, f"it is of version {version}, and this class reads up to {cls.version}")
    for step in range(version, cls.version):
        try:
            fields = dict(cls.upgrades[step](fields))
        except Exception as error:  # the step is the user's, and the metadata may be anybody's
            raise SchemaMismatch(
                cls.__name__, f"the step from version {step} failed ({type(error).__name__})"
            ) from error
    return fields


def _reason(error: ValidationError) -> str:
    """What does not fit, by field, without the values."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in item["loc"]) or "metadata"
        found.append(f"{place}: {item['msg'] if item['type'] != 'value_error' else 'is not valid'}")
    return "; ".join(found)


def _wrong(cls: type[MemorySchema], problem: str, hint: str) -> NoReturn:
    raise SchemaError(cls.__name__, problem, hint)


def _check_class(cls: type[MemorySchema]) -> None:
    for field in cls.model_fields:
        if field in _OWN_NAMES:
            setting = f"Write `{field} = …`, without a type, to set it for the class. " if field in _SETTINGS else ""
            _wrong(
                cls,
                f"{field!r} is declared as a field, and is a name that every schema has",
                f"{setting}A field needs another name" + ("." if field == CATEGORY else "; see `stored_as`."),
            )
    if not cls.category:
        return  # a base of others
    if not isinstance(cls.category, str):
        _wrong(cls, f"its category is {describe(cls.category)}", "Name it with a string.")
    if not isinstance(cls.version, int) or cls.version < 1:
        _wrong(cls, "its version is no number from 1 on", "Count versions from 1.")
    missing = [str(step) for step in range(1, cls.version) if step not in cls.upgrades]
    if missing:
        _wrong(
            cls, f"version {cls.version} has no upgrade from {', '.join(missing)}", "Declare each step in `upgrades`."
        )
    for field in cls.model_fields:
        stored = cls.stored_as.get(field, field)
        if (stored in RESERVED and field not in _LIFTED) or stored in (CATEGORY, VERSION):
            _wrong(cls, f"the field name {stored!r} is reserved", f"Rename it, or add {stored!r} to `stored_as`.")
    for field in (*cls.slot, *(cls.states or ()), *cls.stored_as):
        if field not in cls.model_fields:
            _wrong(cls, f"{field!r} is no field", f"Known: {', '.join(cls.model_fields)}.")
    _check_values(cls)


def _check_values(cls: type[MemorySchema]) -> None:
    """Whether what is stored of an instance says what the instance said."""
    names = [cls.stored_as.get(field, field) for field in cls.model_fields]
    if twice := sorted({stored for stored in names if names.count(stored) > 1}):
        _wrong(cls, f"two fields are stored as {twice[0]!r}", "Give each a name of its own in `stored_as`.")
    for field, info in cls.model_fields.items():
        if _takes(info.annotation, type(None)) and info.default is not None:
            _wrong(
                cls, f"{field!r} may be None, and its default is another", "Use None: in metadata, None is no field."
            )
    for field in cls.slot:
        if _takes(cls.model_fields[field].annotation, list, tuple, set, frozenset, dict, Mapping, Sequence, BaseModel):
            _wrong(cls, f"the field {field!r} of the slot has several values", "A slot is made of single values.")


def _takes(annotation: Any, *kinds: type) -> bool:
    """Whether a value of one of these kinds is among what an annotation allows, itself or in a union."""
    if isinstance(annotation, TypeAliasType):
        return _takes(annotation.__value__, *kinds)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(arguments[0], *kinds)
    if origin in (Union, types.UnionType):
        return any(_takes(part, *kinds) for part in arguments)
    found = origin or annotation
    return isinstance(found, type) and found is not str and issubclass(found, kinds)


def _is_list(annotation: Any) -> bool:
    """Whether the values that an annotation allows are lists, or None, and nothing else."""
    if isinstance(annotation, TypeAliasType):
        return _is_list(annotation.__value__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_list(arguments[0])
    if origin in (Union, types.UnionType):
        return all(_is_list(part) for part in arguments if part is not type(None))
    return (origin or annotation) in (list, tuple, set, frozenset)


# -- the four of every application ---------------------------------------------------------------


def _name(text: str) -> str:
    """A name by which memories are told apart: its case and white space do not matter."""
    folded = " ".join(text.split()).casefold()
    if not folded:
        raise ValueError("is blank")
    return folded


Name = Annotated[str, AfterValidator(_name)]
Share = Annotated[float, Field(ge=0, le=1)]


class Preference(MemorySchema):
    """What somebody likes: *I prefer tasks scheduled in the morning*.

    Found by ``{"category": "preferences", "key": "time of day"}``. One value holds for a key of a domain.

    Attributes:
        key: what it is about; case and runs of white space do not matter: ``time of day``.
        value: what is preferred: ``morning``.
        domain: which part of life it is for: ``task-management``.
        strength: how much it matters, 0 to 1.
        source: whether it was ``stated``, or ``inferred`` from what was done.
    """

    category = "preferences"
    slot = ("domain", "key")
    states = ("value",)

    key: Name
    value: str
    domain: Name = "general"
    strength: Share = 1.0
    source: Literal["stated", "inferred"] = "stated"


class Project(MemorySchema):
    """What somebody works on: *I'm the lead of Phoenix, due in March*.

    Found by ``{"category": "projects", "status": "active"}``. A project has one state at a time.

    Attributes:
        name: of the project.
        status: ``planned``, ``active``, ``paused``, ``done`` or ``cancelled``.
        role: what the person does in it; stored as ``project_role``, for ``role`` is who spoke.
        deadline: the day.
        tags: words to find it by.
    """

    category = "projects"
    stored_as: ClassVar[Mapping[str, str]] = {"role": "project_role"}
    slot = ("name",)
    states = ("status", "role", "deadline")

    name: str = Field(min_length=1)
    status: Literal["planned", "active", "paused", "done", "cancelled"] = "active"
    role: str | None = None
    deadline: date | None = None
    tags: tuple[str, ...] = ()


class TaskPattern(MemorySchema):
    """What tasks of a type are like: *code reviews take 40 minutes*.

    Found by ``{"category": "task_patterns", "task_type": "code review"}``. One estimate holds for a kind of a type.

    Attributes:
        task_type: which tasks; case and runs of white space do not matter.
        kind: what is learnt about them: ``duration``, ``time_of_day``, or any other word.
        estimate_minutes: how long the next one is expected to take, for ``duration``.
        actual_minutes: how long the last one took.
        value: what was learnt where that is no duration: ``morning``.
        sample_count: how many tasks it was learnt from.
        confidence: how sure it is, 0 to 1.
    """

    category = "task_patterns"
    slot = ("task_type", "kind")
    states = ("estimate_minutes", "value")

    task_type: Name
    kind: Name = "duration"
    estimate_minutes: float | None = Field(default=None, ge=0)
    actual_minutes: float | None = Field(default=None, ge=0)
    value: str | None = None
    sample_count: int = Field(default=0, ge=0)
    confidence: Share = 0.0

    def observed(self, minutes: float) -> TaskPattern:
        """The pattern after one more task: the mean of all durations, and a confidence of n / (n + 2).

        Args:
            minutes: how long it took.

        Raises:
            InvalidInput: it is negative, or no number that is finite.
        """
        if not isinstance(minutes, (int, float)) or isinstance(minutes, bool) or not 0 <= minutes <= sys.float_info.max:
            raise InvalidInput("minutes", f"is {amount(minutes)}", "Pass how long the task took.")
        count = self.sample_count + 1
        before = self.estimate_minutes if self.sample_count and self.estimate_minutes is not None else minutes
        return self.model_copy(
            update={
                "estimate_minutes": before + (minutes - before) / count,
                "actual_minutes": float(minutes),
                "sample_count": count,
                "confidence": count / (count + 2),
            }
        )


class Interaction(MemorySchema):
    """What was done: *completed the review of #123*.

    Found by ``{"category": "interactions", "task_id": "task-17"}``. Events do not contradict each other.

    Attributes:
        action: what was done: ``created``, ``completed``, ``asked``.
        task_id: the task that it was about.
        outcome: what came of it.
        channel: where: ``api``, ``chat``, ``mail``.
        occurred_at: when; it is the memory's own `occurred_at`.
    """

    category = "interactions"
    contradicts = False

    action: Name
    task_id: str | None = None
    outcome: str | None = None
    channel: str | None = None
    occurred_at: datetime | None = None


# -- which schemas are known ---------------------------------------------------------------------


class Schemas:
    """The schemas of a memory, by category: the four above, and the user's own.

    Args:
        own: the user's; one of a category that is known takes its place.
    """

    def __init__(self, own: Iterable[type[MemorySchema]] = ()) -> None:
        known: tuple[type[MemorySchema], ...] = (Preference, Project, TaskPattern, Interaction)
        self._by_category = {schema.category: schema for schema in (*known, *own)}

    def __iter__(self) -> Any:
        return iter(self._by_category.values())

    def get(self, category: object) -> type[MemorySchema] | None:
        """The schema of a category; None where it has none."""
        return self._by_category.get(category) if isinstance(category, str) else None

    def read(self, metadata: Mapping[str, Any], schema: type[MemorySchema] | None = None) -> MemorySchema | None:
        """Metadata as an instance of a schema; None where it does not fit.

        Args:
            metadata: as it is stored.
            schema: None is the one that is known for its category, if any.
        """
        found = schema or self.get(metadata.get(CATEGORY))
        if found is None:
            return None
        try:
            return found.from_metadata(metadata)
        except SchemaMismatch:
            return None
