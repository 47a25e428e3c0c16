"""What filters mean, said a second time: written from the table of the blueprint, and from nothing else.

Nothing of ``memstack.filters`` is imported here. A filter is a *spec*: a tuple of the operator's name and its operands,
as in ``("and", [("eq", "category", "work"), ("not", [("exists", "due")])])``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

from memstack.records import Memory

Spec = tuple[Any, ...]

DECLARED = ("created_at", "updated_at", "occurred_at", "expires_at", "valid_from", "valid_to")
"""The fields of a memory that are instants by declaration."""

_UTC = timezone.utc
_DAY = re.compile(r"(\d\d\d\d)-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(r"[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)


def fields_of(memory: Memory) -> dict[str, Any]:
    """What a filter can ask of a memory, read off its public attributes. The text has three names."""
    source = memory.source[0] if memory.source else None
    return {
        **memory.metadata,
        "id": memory.id,
        "text": memory.text,
        "memory": memory.text,
        "data": memory.text,
        "created_at": memory.created_at,
        "updated_at": memory.updated_at,
        "occurred_at": memory.occurred_at,
        "expires_at": memory.expires_at,
        "valid_from": memory.valid_from,
        "valid_to": memory.valid_to,
        "superseded_by": memory.superseded_by,
        "role": source.role if source else None,
        "actor_id": source.name if source else None,
    }


def holds(spec: Spec, fields: Mapping[str, Any]) -> bool:  # noqa: C901, PLR0911  # a table, line by line
    """Whether a filter holds."""
    op = spec[0]
    if op == "and":
        return all(holds(child, fields) for child in spec[1])
    if op == "or":
        return any(holds(child, fields) for child in spec[1])
    if op == "not":  # neither holds
        return not any(holds(child, fields) for child in spec[1])

    value = look_up(spec[1], fields)
    if op == "exists":
        return (value is not None) is (spec[2] if len(spec) > 2 else True)
    operand = spec[2]
    if op == "eq":
        return _same(value, _as_declared(spec[1], operand))
    if op == "ne":
        return not _same(value, _as_declared(spec[1], operand))
    if op == "in":
        return any(_same(value, _as_declared(spec[1], one)) for one in operand)
    if op == "nin":
        return not any(_same(value, _as_declared(spec[1], one)) for one in operand)
    if op in ("gt", "gte", "lt", "lte"):
        return _ordered(op, value, operand)
    if op == "contains":
        if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        return isinstance(value, list) and any(_same(member, operand) for member in value)
    if op == "icontains":
        return isinstance(value, str) and operand.casefold() in value.casefold()
    raise AssertionError(op)


def look_up(path: str, fields: Mapping[str, Any]) -> Any:
    """The first value that is not null among the readings of a dotted path."""
    return next((value for value in _readings(path.split("."), fields) if value is not None), None)


def _readings(parts: list[str], fields: object) -> Iterator[Any]:
    """The name as it stands, then every way to cut it: the shortest first part first."""
    if not isinstance(fields, Mapping):
        return
    yield fields.get(".".join(parts))
    for cut in range(1, len(parts)):
        yield from _readings(parts[cut:], fields.get(".".join(parts[:cut])))


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, date):
        return "instant"
    return "other"


def _same(value: Any, operand: Any) -> bool:
    kind = _kind(value)
    if kind == "other" or kind != _kind(operand):
        return False
    if kind == "instant":
        return instant_of(value) == instant_of(operand)
    return bool(value == operand)


def _as_declared(field: str, operand: Any) -> Any:
    """ISO text stands for an instant where the field is declared to be one."""
    return instant_of(operand) if field in DECLARED else operand


def _ordered(op: str, value: Any, bound: Any) -> bool:
    if _kind(value) == "number" and _kind(bound) == "number":
        left, right = value, bound
    else:
        left, right = instant_of(value), instant_of(bound)
        if left is None or right is None:
            return False
    return bool({"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[op])


def instant_of(value: object) -> datetime | None:
    """The instant that a value stands for: a date is its midnight, no zone is UTC."""
    if isinstance(value, str):
        value = _read(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=_UTC)
        return aware.astimezone(_UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=_UTC)
    return None


def _read(text: str) -> datetime | None:
    day = _DAY.match(text)
    if day is None:
        return None
    rest = text[day.end() :]
    try:
        midnight = datetime(int(day[1]), int(day[2]), int(day[3]), tzinfo=_UTC)
        if not rest:
            return midnight
        time = _TIME.fullmatch(rest)
        if time is None:
            return None
        hour, minute, second, fraction, zone = time.groups()
        local = midnight.replace(
            hour=int(hour), minute=int(minute), second=int(second or 0), microsecond=int((fraction or "").ljust(6, "0"))
        )
        if zone in (None, "Z"):
            return local
        if int(zone[4:]) > 59 or int(zone[1:3]) > 23:
            return None
        ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:]))
        return local - (ahead if zone[0] == "+" else -ahead)
    except (ValueError, OverflowError):
        return None
