"""Metadata comes back equal and of the same types, or is refused with its place."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import MemoryGateway
from memstack.errors import InvalidInput, MetadataError
from memstack.metadata import RESERVED, check_metadata, decode, encode, merge
from memstack.testing.contract.state import is_persistent
from memstack.testing.contract.strategies import FLOATS, INSTANTS, INTS, STRINGS, examples, metadata, scalars

UTC = timezone.utc


def alike(one: Any, other: Any) -> bool:
    """Equal and of the same types, all the way down; -0.0 is not 0.0, and a zone is kept as its offset."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return bool(one.hex() == other.hex())
    if isinstance(one, datetime):
        clocks = one.replace(tzinfo=None) == other.replace(tzinfo=None)
        return bool(clocks and one == other and one.utcoffset() == other.utcoffset())
    return bool(one == other)


def without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    """None at the top is the same as absent."""
    return {key: item for key, item in value.items() if item is not None}


def _stored(content: Any) -> Any:
    return decode(encode(content))


# -- the round trip ------------------------------------------------------------------------------


@examples(400)
@given(metadata)
def test_round_trip(content: dict[str, Any]) -> None:
    """Everything that is accepted comes back equal and of the same types."""
    checked = check_metadata(content, max_values=10_000, max_depth=50)
    assert alike(checked, without_nulls(content))
    assert alike(_stored(checked), checked)


def test_depth_and_number() -> None:
    """So deep and so many are stored, and no more."""
    for deep in ({"a": {"b": {"c": 1}}}, {"a": [[1]]}, {"a": [{"c": 1}]}):
        assert check_metadata(deep, max_depth=3) == deep
        with pytest.raises(MetadataError, match="nested too deeply"):
            check_metadata(deep, max_depth=2)
        assert check_metadata(deep, max_values=3) == deep
        with pytest.raises(MetadataError, match="beyond the 2 values"):
            check_metadata(deep, max_values=2)


def test_names_that_are_members_of_an_enum() -> None:
    """A key that is a member of a ``str`` Enum is its value, and a plain string, on every level."""
    checked = check_metadata({_Name.KIND: _Name.KIND, "a": [{_Name.KIND: 1}]})
    assert alike(checked, {"kind": "kind", "a": [{"kind": 1}]})
    assert [type(key) for key in (*checked, *checked["a"][0])] == [str] * 3


def test_equal_metadata_has_equal_text() -> None:
    """The canonical text does not depend on the order of keys, on any level, whatever they begin with."""
    one = {"$date": 1, "b": {"$x": [{"d": 1, "$c": 2}], "a": date(2026, 1, 2)}}
    other = {"b": {"a": date(2026, 1, 2), "$x": [{"$c": 2, "d": 1}]}, "$date": 1}
    assert encode(one, canonical=True) == encode(other, canonical=True)
    assert _stored(one) == one


def test_a_time_that_comes_twice() -> None:
    """Of the hour that a clock shows twice, the one that was meant is stored, also of a class derived from datetime."""

    class Derived(datetime):
        pass

    for fold in (0, 1):
        when = Derived(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
        (stored,) = _stored(check_metadata({"a": when})).values()
        assert (type(stored), stored.utcoffset()) == (datetime, timedelta(hours=2 - fold))


@examples(300)
@given(scalars)
def test_round_trip_of_scalars(value: Any) -> None:
    """Every scalar, wherever it stands."""
    for content in ({"a": value}, {"a": [value, [value]]}, {"a": {"b": {"$date": value}}}):
        assert alike(_stored(check_metadata(content)), content)


@pytest.mark.parametrize(
    "value", [*STRINGS, *INTS, *FLOATS, True, False, *INSTANTS, [], {}, [None], {"a": None}], ids=repr
)
def test_round_trip_of_the_edges(value: Any) -> None:
    """The values at which some engine or encoding loses something."""
    assert alike(_stored(check_metadata({"a": value}))["a"], value)


@pytest.mark.parametrize(
    "content",
    [
        {"$date": "2026-01-01"},
        {"$datetime": "2026-01-01T00:00:00"},
        {"$pairs": [["a", 1]]},
        {"$pairs": 5},
        {"a": {"$date": "not a date"}},
        {"a": {"$datetime": None}},
        {"a": {"$pairs": {"$pairs": {"$date": date(2026, 1, 1)}}}},
        {"a": [{"$date": 1}, {"$date": date(2026, 1, 1)}]},
        {"$": 1, "$$": 2, "": 3} | {"x": 1},
        {"__proto__": 1, "constructor": 2, "toString": 3},
        {"a": '{"$date": "2026-01-01"}'},
    ],
    ids=repr,
)
def test_what_looks_like_the_encoding(content: dict[str, Any]) -> None:
    """Metadata that looks like the encoding's own tags is still just metadata."""
    content.pop("", None)
    assert alike(_stored(check_metadata(content)), content)


def test_types_are_kept_apart() -> None:
    """1, 1.0 and True are three values; so are 0.0 and -0.0, a date and its midnight, a number and its text."""
    different = [1, 1.0, True, "1", "True", date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)]  # noqa: DTZ001
    back = _stored({"a": different})["a"]
    assert [type(value) for value in back] == [type(value) for value in different]
    assert back[6].tzinfo is None
    assert back[7].utcoffset() == timedelta(0)
    assert math.copysign(1, _stored({"a": -0.0})["a"]) == -1


def test_zones() -> None:
    """A zone comes back as its offset: the same instant and the same time on the clock."""
    for zone in (
        UTC,
        timezone(timedelta(hours=5, minutes=45)),
        timezone(-timedelta(hours=23, minutes=59, seconds=59, microseconds=999999)),
        ZoneInfo("America/New_York"),
        ZoneInfo("Asia/Kolkata"),
    ):
        for fold in (0, 1):
            at = datetime(2026, 11, 1, 1, 30, 0, 7, tzinfo=zone, fold=fold)
            back = _stored({"a": at})["a"]
            assert back.utcoffset() == at.utcoffset()
            assert back.replace(tzinfo=None) == at.replace(tzinfo=None, fold=0)
            assert back.astimezone(UTC) == at.astimezone(UTC)


class _Colour(Enum):
    RED = "red"


class _Name(str, Enum):
    """Shows itself as ``_Name.KIND``, and is the text "kind"."""

    KIND = "kind"


class _Level(IntEnum):
    HIGH = 3


class _Text(str):
    __slots__ = ()


class _Number(int):
    pass


class _Moment(datetime):
    """A datetime that writes itself otherwise, as the one of pandas does for nanoseconds."""

    def isoformat(self, *args: Any, **kwargs: Any) -> str:
        return f"on {super().isoformat(*args, **kwargs)}"


def test_what_stands_for_a_plain_value() -> None:
    """Enums become their value, tuples lists, other mappings dicts, and subclasses what they derive from."""
    given_ = {
        "enum": _Colour.RED,
        "level": _Level.HIGH,
        "note": _Text("x"),
        "number": _Number(5),
        "tuple": (1, (2, 3)),
        "mapping": MappingProxyType({"a": OrderedDict(b=1)}),
    }
    plain = {"enum": "red", "level": 3, "note": "x", "number": 5, "tuple": [1, [2, 3]], "mapping": {"a": {"b": 1}}}
    assert alike(check_metadata(given_), plain)
    assert alike(_stored(check_metadata(given_)), plain)


def test_a_datetime_of_another_class() -> None:
    """A subclass of datetime is stored as the datetime that it is, however it writes itself."""
    moment = _Moment(2026, 1, 1, 12, tzinfo=UTC)
    back = _stored(check_metadata({"a": moment}))["a"]
    assert type(back) is datetime
    assert back == datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_what_was_given_is_not_kept() -> None:
    """Changing the caller's mapping afterwards changes nothing that was checked, and checking changes nothing of it."""
    inner: dict[str, Any] = {"b": [1]}
    content = {"a": inner, "n": None}
    checked = check_metadata(content)
    inner["b"].append(2)
    assert checked == {"a": {"b": [1]}}
    assert content == {"a": {"b": [1, 2]}, "n": None}


@examples(60)
@given(metadata, metadata)
def test_merging(old: dict[str, Any], new: dict[str, Any]) -> None:
    """New fields over old ones, a field that is None removed, nothing else touched."""
    merged = merge(old, new)
    for key, value in merged.items():
        assert value is not None
        assert value is (new[key] if key in new else old[key])
    assert merged.keys() == {*without_nulls(old), *new} - {key for key, value in new.items() if value is None}


# -- refused -------------------------------------------------------------------------------------


def _cycle() -> dict[str, Any]:
    knot: dict[str, Any] = {"a": 1}
    knot["self"] = [knot]
    return knot


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"a": b"bytes"}, "metadata.a"),
        ({"a": bytearray(b"x")}, "metadata.a"),
        ({"a": math.nan}, "metadata.a"),
        ({"a": [1, math.inf]}, "metadata.a[1]"),
        ({"a": {"b": [-math.inf]}}, "metadata.a.b[0]"),
        ({"a": 2**63}, "metadata.a"),
        ({"a": -(2**63) - 1}, "metadata.a"),
        ({"a": [10**400]}, "metadata.a[0]"),
        ({"a": {1, 2}}, "metadata.a"),
        ({"a": Decimal(1)}, "metadata.a"),
        ({"a": 1j}, "metadata.a"),
        ({"a": object()}, "metadata.a"),
        ({"a": timedelta(1)}, "metadata.a"),
        ({"a": datetime(2026, 1, 1).time()}, "metadata.a"),  # noqa: DTZ001
        ({"a": iter([1])}, "metadata.a"),
        ({"a": "x\0y"}, "metadata.a"),
        ({"a": ["\ud800"]}, "metadata.a[0]"),
        ({"a": {"b": "\udfff"}}, "metadata.a.b"),
        ({"a": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))}, "metadata.a"),
        ({"a": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))}, "metadata.a"),
        ({1: "a"}, "metadata"),
        ({None: "a"}, "metadata"),
        ({("a",): "a"}, "metadata"),
        ({"": 1}, "metadata"),
        ({"a": {"": 1}}, "metadata.a"),
        ({"a": {2: 1}}, "metadata.a"),
        ({"a\0": 1}, "metadata"),
        ({"\ud800": 1}, "metadata"),
        (_cycle(), "metadata.self"),
        ([("a", 1)], "metadata"),
        ("a=1", "metadata"),
        (5, "metadata"),
    ],
)
def test_refused_with_its_place(content: Any, place: str) -> None:
    """What cannot be stored on every engine is a `MetadataError` that names where it stands."""
    with pytest.raises(MetadataError) as caught:
        check_metadata(content)
    assert caught.value.field.startswith(place)
    assert isinstance(caught.value, InvalidInput)
    str(caught.value).encode()


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names(name: str) -> None:
    """A reserved name is refused, also with None, and is free below the top."""
    values: list[Any] = ["x", None, {}]
    for value in values:
        with pytest.raises(MetadataError, match="reserved") as caught:
            check_metadata({"fine": 1, name: value})
        assert caught.value.field == f"metadata.{name}"
    assert check_metadata({"x": {name: 1}}) == {"x": {name: 1}}


def test_every_field_of_mem0_is_reserved() -> None:
    """What Mem0 or a memory calls its own cannot be overwritten by metadata."""
    of_mem0 = "id data hash user_id agent_id run_id actor_id role created_at updated_at expiration_date"
    assert {*of_mem0.split(), "text", "memory", "expires_at", "occurred_at"} <= RESERVED


def test_ten_thousand_keys() -> None:
    """Too many values are refused, at any depth; as many as the limit are not."""
    check_metadata({f"k{i}": i for i in range(1000)})
    for content in (
        {f"k{i}": i for i in range(10_000)},
        {"a": list(range(10_000))},
        {"a": {"b": {f"k{i}": None for i in range(10_000)}}},
        {f"k{i}": [i] for i in range(501)},
    ):
        with pytest.raises(MetadataError, match="1000") as caught:
            check_metadata(content)
        assert caught.value.field.startswith("metadata.")


def test_deep_metadata() -> None:
    """Nesting has a limit that is told, not a RecursionError."""
    content: Any = 1
    for _ in range(15):
        content = {"a": content}
    check_metadata({"a": content})
    for _ in range(5000):
        content = [content]
    with pytest.raises(MetadataError, match="deep"):
        check_metadata({"a": content})


SECRET = "sesame-4711"


@pytest.mark.parametrize(
    "content", [{"a": f"{SECRET}\0"}, {"a": [f"\ud800{SECRET}"]}, {"a": SECRET.encode()}, SECRET, [SECRET]]
)
def test_messages_never_show_a_value(content: Any) -> None:
    """An error tells the shape of a value and not the value."""
    with pytest.raises(MetadataError) as caught:
        check_metadata(content)
    assert SECRET not in str(caught.value)


_junk_keys = st.one_of(st.text(max_size=3), st.integers(), st.sampled_from(("id", "data")))
_junk = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3), st.times()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.sets(st.integers(), max_size=2), st.dictionaries(_junk_keys, inner, max_size=3)
    ),
    max_leaves=10,
)


@examples(400)
@given(_junk)
def test_anything_is_metadata_or_an_error(junk: Any) -> None:
    """Whatever is passed for metadata: it round-trips, or is a `MetadataError`; never another exception."""
    try:
        checked = check_metadata(junk)
    except MetadataError:
        return
    assert alike(_stored(checked), checked)


# -- through a store -------------------------------------------------------------------------------


def test_round_trip_through_a_store(open_here: Callable[..., MemoryGateway], tmp_path: Path) -> None:
    """What was added is what get, list, search and history give back, also after the memory was closed and reopened."""
    drawn: list[dict[str, Any]] = []

    @examples(250)
    @given(metadata)
    def draw(content: dict[str, Any]) -> None:
        drawn.append(content)

    draw()
    drawn += [{"a": value} for value in (*STRINGS, *INTS, *FLOATS, True, False, *INSTANTS)]
    drawn += [{"a": [value], "b": {"c": {"d.e": value}}} for value in (*INTS, *FLOATS, *INSTANTS)]

    memory = open_here(tmp_path)
    result = memory.add_many(
        [{"content": f"memory {i}", "metadata": content} for i, content in enumerate(drawn)], user_id="alex"
    )
    assert not result.failed
    assert not result.skipped
    expected = {stored.id: without_nulls(content) for stored, content in zip(result.stored, drawn, strict=True)}
    changed = memory.update(result.stored[0].id, metadata={"again": -0.0, "at": INSTANTS[8]}, user_id="alex")
    expected[changed.id] |= {"again": -0.0, "at": INSTANTS[8]}

    if is_persistent(memory):
        memory.close()
        memory = open_here(tmp_path)
    alex = memory.for_user("alex")
    for stored in result.stored[1:]:
        assert alike(dict(stored.metadata), expected[stored.id])
    listed = {found.id: dict(found.metadata) for found in alex.iter_all()}
    hits = {hit.id: dict(hit.metadata) for hit in alex.search("memory", limit=10_000)}
    assert listed.keys() == hits.keys() == expected.keys()
    for key, content in expected.items():
        assert alike(listed[key], content)
        assert alike(hits[key], content)
    for key in list(expected)[:: max(1, len(expected) // 60)]:
        assert alike(dict(alex.get(key).metadata), expected[key])
        last = alex.history(key)[-1].new_metadata
        assert last is not None
        assert alike(dict(last), expected[key])


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (True, 1), (1, 1.0), (1.0, 1), (0, False), (0.0, -0.0), ([1], [True])]
)
def test_an_update_that_changes_only_the_type(memory: MemoryGateway, old: Any, new: Any) -> None:
    """``True`` is not ``1``: an update from the one to the other is a change, and is stored."""
    (stored,) = memory.add("something", user_id="alex", metadata={"a": old}).stored
    updated = memory.update(stored.id, metadata={"a": new})
    assert alike(updated.metadata["a"], new)
    assert alike(memory.get(stored.id).metadata["a"], new)
    assert [change.event for change in memory.history(stored.id)] == ["ADD", "UPDATE"]


def test_refused_metadata_stores_nothing(memory: MemoryGateway) -> None:
    """Metadata that is refused leaves no memory, no history, and no change."""
    (stored,) = memory.add("kept", user_id="alex", metadata={"a": 1}).stored
    too_many = {f"k{i}": 1 for i in range(10_000)}
    refused: list[dict[str, Any]] = [{"a": math.nan}, {"user_id": "bob"}, {"data": "x"}, {"a": b""}, too_many, _cycle()]
    for content in refused:
        with pytest.raises(MetadataError):
            memory.add("new", user_id="alex", metadata=content)
        with pytest.raises(MetadataError):
            memory.update(stored.id, metadata=content)
        (failure,) = memory.add_many([{"content": "new", "metadata": content}], user_id="alex").failed
        assert "metadata" in failure.reason
        assert not failure.retryable
    assert [found.id for found in memory.get_all(user_id="alex")] == [stored.id]
    assert memory.get(stored.id).metadata == {"a": 1}
    assert len(memory.history(stored.id)) == 1


def test_updates_cannot_grow_past_the_limit(memory: MemoryGateway) -> None:
    """The limit is on what one memory has, however it came together."""
    (stored,) = memory.add("growing", user_id="alex", metadata={f"a{i}": i for i in range(900)}).stored
    with pytest.raises(MetadataError, match="1000"):
        memory.update(stored.id, metadata={f"b{i}": i for i in range(900)})
    assert len(memory.get(stored.id).metadata) == 900


def test_equal_metadata_is_a_duplicate_whatever_its_order(memory: MemoryGateway) -> None:
    """The same fields in another order, at any depth, are the same metadata."""
    one = {"a": 1, "b": {"x": 1, "y": [{"p": 1, "q": 2}]}}
    other = {"b": {"y": [{"q": 2, "p": 1}], "x": 1}, "a": 1}
    assert one == other
    (stored,) = memory.add("tea", user_id="alex", metadata=one).stored
    (skipped,) = memory.add("tea", user_id="alex", metadata=other).skipped
    assert (skipped.reason, skipped.memory_id) == ("duplicate", stored.id)
