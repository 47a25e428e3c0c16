"""Random corpora and filters: small pools, so that values collide and filters match.

Every generator is written once, against `Source`: hypothesis draws from it (and shrinks), and so does a seeded
`random.Random` where thousands are wanted. A filter is drawn as a spec (see `oracle`), which `as_dict` and `as_node`
spell in the two spellings of memstack.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import reduce
from typing import Any, Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from memstack.filters import And, F, Node, Or
from memstack.records import Memory
from memstack.testing.contract.oracle import DECLARED, Spec, fields_of, instant_of

T = TypeVar("T")
Scalar = Any
Metadata = dict[str, Any]

UTC: Final = timezone.utc
_SLOW: Final = (HealthCheck.too_slow, HealthCheck.data_too_large)  # an engine takes its time


def examples(count: int) -> settings:
    """This many examples in a profile of 100, hypothesis' default, and more or fewer in proportion in the others."""
    profile = settings().max_examples  # of the profile that is loaded now
    return settings(max_examples=max(1, count * profile // 100), deadline=None, suppress_health_check=_SLOW)


# -- where choices come from -----------------------------------------------------------------


class Source(Protocol):
    """Makes choices."""

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        ...

    def number(self, low: int, high: int) -> int:
        """An int, both ends included."""
        ...


class Seeded:
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self._random.randrange(len(options))]

    def number(self, low: int, high: int) -> int:
        """An int, both ends included."""
        return self._random.randint(low, high)


class Drawn:
    """Choices that hypothesis makes."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self._draw = draw

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return self._draw(st.sampled_from(options))  # type: ignore[no-any-return]  # one of them

    def number(self, low: int, high: int) -> int:
        """An int, both ends included."""
        return int(self._draw(st.integers(low, high)))


def _some(source: Source, low: int, high: int, make: Callable[[], T]) -> list[T]:
    return [make() for _ in range(source.number(low, high))]


# -- pools -----------------------------------------------------------------------------------

STRINGS: Final = (
    "", " ", "a", "A", "ab", "abc", "work", "Work", "work ", "re-work", "straße", "STRASSE", "İstanbul", "ﬁn",
    "é", "e\u0301", "ñandú", "日本", "日本語", "🙂", "👩‍👩‍👧", "مرحبا", "שלום", "\u202eabc", "z\u0323\u0307",
    "50%", "50", "%", "_", "a_c", "a%c", "\\", "a\\b", "C:\\temp\\", "'", "it's", '"', 'say "hi"', "`", "a\nb", "a\tb",
    "' OR '1'='1", "'; DROP TABLE memories; --", '{"a": 1}', "[1, 2]", "$gt", "*", "null", "None", "true", "True",
    "1", "1.0", "20", "1e3", "-0", "NaN", "0x10", "=1", "n1", "b1", "s", "sa", "#",
    "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-31",
    "2025-12-31T23:59:59.999999Z", "2026-02-30", "2026-1-1", "20260101", "2026", "9999-12-31T23:59:59-01:00",
    "0001-01-01", "1969-12-31T23:59:59.5Z",
)  # fmt: skip

INTS: Final = (
    0, 1, -1, 2, 3, 7, 20, 50, 100, 2026, 10**6, -(10**9),
    2**31, 2**32 + 1, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**53 + 3, -(2**53), -(2**53) - 1, 2**62 + 1,
    2**63 - 1, 2**63 - 2, 2**63 - 1024, -(2**63), -(2**63) + 1,
)  # fmt: skip

FLOATS: Final = (
    0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1.5, 2.5, 20.0, 0.1, 0.1 + 0.2, 0.3, 0.30000000000000016, 1 / 3, 1e-7, 1e16, 1e22,
    5e-324, -5e-324, 2.2250738585072014e-308, 1e300, 1.7976931348623157e308, -1.7976931348623157e308,
    float(2**53), float(2**53 + 2), -float(2**53), float(2**63), -float(2**63), 9007199254740991.0, 4503599627370497.5,
)  # fmt: skip

_ONE: Final = timezone(timedelta(hours=1))
_ODD: Final = timezone(timedelta(hours=-9, minutes=-30, seconds=-17))
_EDGE: Final = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=2**53)  # beyond it, floats lose microseconds
_LOW_EDGE: Final = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(microseconds=2**53)
_TICK: Final = timedelta(microseconds=1)

INSTANTS: Final[tuple[date, ...]] = (
    date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=_ONE),  # noqa: DTZ001
    datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, 59, 59, 999999), date(2025, 12, 31),  # noqa: DTZ001
    date(2026, 1, 31), datetime(2026, 1, 31, 8, 30, tzinfo=_ODD), date(2024, 2, 29),
    datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    date(1970, 1, 1), date(1969, 12, 31), datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    _EDGE, _EDGE + _TICK, _EDGE + 2 * _TICK, _EDGE - _TICK, _LOW_EDGE, _LOW_EDGE - _TICK, _LOW_EDGE + _TICK,
    date(1, 1, 1), datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC), date(9999, 12, 31),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999998, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999990, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
)  # fmt: skip

SCALARS: Final[tuple[Scalar, ...]] = (*STRINGS, *INTS, *FLOATS, True, False, *INSTANTS)

# Where memories lie in time: near enough to tie, and far enough to leave the floats.
OCCASIONS: Final[tuple[datetime, ...]] = tuple(
    at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC) for at in INSTANTS
)

PHRASES: Final = (
    "I prefer tasks scheduled in the morning", "I'm working on the Phoenix project", "my sister lives in Lisbon",
    "we moved the stand-up to 9:30", "coffee, no sugar", "Coffee, no sugar", "the deadline is 2026-01-31", "2026-01-01",
    "2024-05-01T08:00:00Z", "20", "1.5", "true", "*", "100% sure", "snake_case", "C:\\temp", 'she said "hi"',
    "it's fine", "' OR '1'='1", "مرحبا بالعالم", "שלום עולם", "日本語のメモ", "crème brûlée",
    "creme\u0301 bru\u0302le\u0301e", "🙂🙃", "straße", "STRASSE", "a\nb", "null", '{"user_id": "bob"}',
)  # fmt: skip

# Names with every character that some engine's path, query or template syntax knows.
_MESSY: Final = (
    "größe", 'a "name"', "it's", "100%", "under_score", "back\\slash", "🙂", "a b", "a[0]", "x,y", "$price", "semi;--",
)  # fmt: skip
_TAGS: Final[tuple[Scalar, ...]] = ("a", "A", "b", "work", 1, 1.0, True, "1", *INSTANTS[:4], None)


def _typed(source: Source, pool: Sequence[T], extra: Sequence[Scalar] = ()) -> Any:
    """Mostly of one type, now and then of any."""
    roll = source.number(0, 19)
    if roll == 0:
        return source.pick(SCALARS)
    if roll == 1 and extra:
        return source.pick(extra)
    return source.pick(pool)


def a_value(source: Source, name: str) -> Any:  # noqa: PLR0911  # a table
    """A value for a metadata field: most fields have a type that is theirs, so that values collide."""
    match name:
        case "category":
            return _typed(source, ("work", "Work", "home", "straße", "STRASSE", "é", "e\u0301", "50%", "a_c"), (None,))
        case "n":
            return _typed(source, (0, 1, 1.0, 2, 2.5, -1, 20, *INTS[-13:]), (True, "1", "20"))
        case "score":
            return _typed(source, FLOATS, (0, 1, 2**53, False))
        case "flag":
            return _typed(source, (True, False), (1, 0, 1.0, "true", None))
        case "due":
            return _typed(source, INSTANTS, ("2026-01-01", "2026-01-01T01:00:00+01:00", "soon", 20260101, None))
        case "note":
            return source.pick(STRINGS)
        case "tags":
            return _some(source, 0, 3, lambda: source.pick(_TAGS))
        case "x":
            return {key: a_value(source, "mixed" if key != "w" else "x.w") for key in _keys(source, ("y", "y.z", "w"))}
        case "x.w":
            return {key: source.pick(SCALARS) for key in _keys(source, ("z", "u.v", "größe"))}
        case "mixed":
            kind = source.number(0, 9)
            if kind == 0:
                return _some(source, 0, 3, lambda: source.pick(SCALARS))
            return None if kind == 1 else source.pick(SCALARS)
        case _:
            return source.pick((1, 2, "a", "b", True, date(2026, 1, 1)))


def _keys(source: Source, names: Sequence[str]) -> list[str]:
    return [name for name in names if source.number(0, 2)]


FIELDS: Final = ("category", "n", "score", "flag", "due", "note", "tags", "x", "x.y", "x.w.z", "mixed")


def a_metadata(source: Source) -> Metadata:
    """Metadata of a memory: some of the fields, and now and then one with a messy name."""
    names = [name for name in FIELDS if source.number(0, 9) < 5]
    if source.number(0, 3) == 0:
        names.append(source.pick(_MESSY))
    return {name: a_value(source, name) for name in names}


def an_item(source: Source, **more: Any) -> dict[str, Any]:
    """An item for `add_many`: text, metadata, and now and then a time, a speaker, an expiry."""
    item: dict[str, Any] = {"content": source.pick(PHRASES), "metadata": a_metadata(source), **more}
    roll = source.number(0, 9)
    if roll < 6:
        item["occurred_at"] = source.pick(OCCASIONS)
    if roll in (5, 6):
        item["name"] = source.pick(("Ann", "ann", "2026-01-01", "O'Neil"))
    if roll == 7:
        item["expires_at"] = source.pick((datetime(2100, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)))
    if roll == 8:
        item["expires_at"] = datetime(2020, 1, 1, tzinfo=UTC)
    return item


# -- filters ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """What filters are drawn from: the fields of a corpus, and the values that are found there."""

    fields: tuple[str, ...]
    values: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)


def vocabulary_of(corpus: Iterable[Mapping[str, Any]]) -> Vocabulary:
    """The fields and values of some memories; "$" cannot begin a field in a filter."""
    values: dict[str, list[Scalar]] = {}
    for fields in corpus:
        for path, value in _walk(fields):
            found = values.setdefault(path, [])
            found.extend(item for item in (value if isinstance(value, list) else [value]) if item is not None)
    names = tuple(name for name in values if not name.startswith("$"))
    return Vocabulary((*names, "missing", "x.nothing"), values)


def _walk(fields: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield f"{prefix}{key}", None
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_LEAVES: Final = (
    "eq", "eq", "eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "icontains", "exists",
)  # fmt: skip


def a_spec(source: Source, words: Vocabulary, depth: int = 4) -> Spec:
    """A filter, at most this deep."""
    roll = source.number(0, 9) if depth > 1 else 9
    if roll > 4:
        return _leaf(source, words)
    kind = ("and", "and", "or", "or", "not")[roll]
    low = 0 if source.number(0, 15) == 0 else 1
    return (kind, _some(source, low, 3, lambda: a_spec(source, words, depth - 1)))


def _leaf(source: Source, words: Vocabulary) -> Spec:
    name, op = source.pick(words.fields), source.pick(_LEAVES)
    if op == "exists":
        return (op, name, source.number(0, 2) > 0)
    if op in ("in", "nin"):
        return (op, name, _some(source, 0, 4, lambda: _operand(source, words, name)))
    if op in ("gt", "gte", "lt", "lte"):
        return (op, name, _bound(source, words, name))
    if op == "icontains":
        return (op, name, _cased(source, _part(source, words, name)))
    if op == "contains" and source.number(0, 1):
        return (op, name, _part(source, words, name))
    return (op, name, _operand(source, words, name, free=op == "contains"))


def _operand(source: Source, words: Vocabulary, name: str, *, free: bool = False) -> Scalar:
    known = words.values.get(name)
    value = source.pick(known) if known and source.number(0, 4) else source.pick(SCALARS)
    if name in DECLARED and not free:
        return _instant(source, value)
    return value


def _bound(source: Source, words: Vocabulary, name: str) -> Scalar:
    known = words.values.get(name)
    value = source.pick(known) if known and source.number(0, 2) else source.pick((*INTS, *FLOATS, *INSTANTS))
    if name in DECLARED:
        return _instant(source, value)
    if isinstance(value, bool) or (isinstance(value, str) and instant_of(value) is None):
        return source.pick((1, 2.5, "2026-01-01", date(2026, 1, 1)))
    return value


def _instant(source: Source, value: Scalar) -> Scalar:
    """On fields that are instants by declaration every operand is one, as an object or as ISO text."""
    at = instant_of(value)
    if at is None:
        return source.pick((*INSTANTS, "2026-01-01", "2020-01-01T00:00:00Z"))
    return at.isoformat() if at.year >= 1000 and source.number(0, 2) == 0 else value


def _part(source: Source, words: Vocabulary, name: str) -> str:
    known = [value for value in words.values.get(name, ()) if isinstance(value, str)]
    text = source.pick(known) if known and source.number(0, 4) else source.pick(STRINGS)
    start = source.number(0, len(text))
    return text[start : source.number(start, len(text))]


def _cased(source: Source, text: str) -> str:
    return source.pick((text, text.upper(), text.lower(), text.swapcase()))


# -- the two spellings -----------------------------------------------------------------------


def as_dict(source: Source, spec: Spec) -> dict[str, Any]:
    """A spec in Mem0's syntax, in one of the ways to write it."""
    op, rest = spec[0], spec[1:]
    if op in ("and", "or", "not"):
        children = [as_dict(source, child) for child in rest[0]]
        if op == "and" and source.number(0, 1) and (merged := _merged(children)) is not None:
            return merged
        return {op.upper(): children}
    name, operand = rest
    if source.number(0, 1):
        if op == "eq" and operand != "*":
            return {name: operand}
        if op == "in":
            return {name: list(operand)}
        if op == "exists" and operand:
            return {name: "*"}
    return {name: {op: operand}}


def _merged(children: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Several filters as one mapping: several fields, and several operators on a field; None where that fails."""
    merged: dict[str, Any] = {}
    for child in children:
        for key, value in child.items():
            known = merged.get(key)
            if key not in merged:
                merged[key] = dict(value) if isinstance(value, dict) else value
            elif isinstance(known, dict) and isinstance(value, dict) and not known.keys() & value.keys():
                known.update(value)
            else:
                return None
    return merged


_COMPARISONS: Final = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def as_node(spec: Spec) -> Node:  # noqa: PLR0911  # a table
    """A spec, made with the builder."""
    op, rest = spec[0], spec[1:]
    if op in ("and", "or", "not"):
        children = [as_node(child) for child in rest[0]]
        if op == "and":
            return reduce(operator.and_, children) if children else And(())
        if op == "or":
            return reduce(operator.or_, children) if children else Or(())
        return reduce(operator.and_, [~child for child in children]) if children else And(())
    named, operand = F[rest[0]], rest[1]
    match op:
        case "eq":
            return named == operand  # type: ignore[no-any-return]
        case "ne":
            return named != operand  # type: ignore[no-any-return]
        case "in":
            return named.in_(operand)
        case "nin":
            return named.nin(operand)
        case "contains":
            return named.contains(operand)
        case "icontains":
            return named.icontains(operand)
        case "exists":
            return named.exists() if operand else ~named.exists()
        case _:
            return _COMPARISONS[op](named, operand)  # type: ignore[no-any-return]


def a_filter(source: Source, spec: Spec) -> Any:
    """A spec in either spelling, or as a node inside a mapping."""
    roll = source.number(0, 5)
    if roll == 0:
        return as_node(spec)
    return {"AND": [as_node(spec)]} if roll == 1 else as_dict(source, spec)


# -- hypothesis ------------------------------------------------------------------------------

_CHARACTERS: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")

texts: Final = st.one_of(
    st.sampled_from(PHRASES), st.text(_CHARACTERS, min_size=1, max_size=60).filter(lambda text: bool(text.strip()))
)
"""Texts of memories: from the pool or any."""

# Whole seconds: Python's own fromisoformat (3.11 at least) takes an offset of less than one second for none.
_offsets = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))

# Zones move an instant by less than a day, so a day at either end of the calendar keeps it inside in UTC.
instants: Final[st.SearchStrategy[date]] = st.one_of(
    st.sampled_from(INSTANTS),
    st.dates(),
    st.datetimes(),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.one_of(st.just(UTC), _offsets)),  # noqa: DTZ001
)
"""Dates and datetimes, naive and with zones."""

scalars: Final[st.SearchStrategy[Scalar]] = st.one_of(
    st.sampled_from(SCALARS),
    st.text(_CHARACTERS, max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    instants,
)
"""Everything that metadata holds and filters compare."""

_names: Final = st.one_of(
    st.sampled_from((*FIELDS, *_MESSY, "$date", "$datetime", "$pairs", "a.b", ".", "..", "AND", "constructor")),
    st.text(_CHARACTERS, min_size=1, max_size=12).map(lambda name: f"m{name}"),
)
_trees: Final = st.recursive(
    st.one_of(scalars, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_names, inner, max_size=4)),
    max_leaves=12,
)

metadata: Final[st.SearchStrategy[Metadata]] = st.dictionaries(_names, _trees, max_size=6)
"""Metadata of every type, nested, with any names."""


@st.composite
def pooled_metadata(draw: st.DrawFn) -> Metadata:
    """Metadata out of the small pools, so that fields and values collide."""
    return a_metadata(Drawn(draw))


@st.composite
def specs(draw: st.DrawFn, words: Vocabulary, depth: int = 4) -> Spec:
    """Filters over a vocabulary."""
    return a_spec(Drawn(draw), words, depth)


@st.composite
def spelled(draw: st.DrawFn, spec: Spec) -> Any:
    """A spec in any of its spellings."""
    return a_filter(Drawn(draw), spec)


SCOPE_IDS: Final = (
    "alice", "bob", "Alice", "alic", "alice2", "alice bob", "é", "e\u0301", "*", "%", "_", "al%", "a_ice", "alice'--",
    'alice"', "alice\\", "' OR '1'='1", '{"$ne": ""}', "null", "None", "0", "true", "../bob", "alice/bob", "alice,bob",
    "u" * 511 + "a", "u" * 511 + "b", "اليس", "🙂", "a\nb",
)  # fmt: skip
"""Ids of owners that resemble one another, or mean something to some engine."""


@st.composite
def scopes(draw: st.DrawFn, ids: Sequence[str] = SCOPE_IDS) -> dict[str, str]:
    """Scopes as keyword arguments: at least one id."""
    chosen = draw(st.lists(st.sampled_from(("user_id", "agent_id", "run_id")), min_size=1, max_size=3, unique=True))
    return {name: draw(st.sampled_from(ids)) for name in chosen}


# -- corpora ---------------------------------------------------------------------------------


def a_corpus(source: Source, size: int, **scope: str) -> list[dict[str, Any]]:
    """Items for `add_many`."""
    return [an_item(source, **scope) for _ in range(size)]


def words_of(memories: Iterable[Memory]) -> Vocabulary:
    """The vocabulary of stored memories: their metadata and their own fields."""
    return vocabulary_of(fields_of(memory) for memory in memories)
