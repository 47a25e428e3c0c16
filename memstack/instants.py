"""Instants: reading and writing points in time, all of them UTC.

A date is its midnight, and a time without a zone is UTC: one rule for filters, records and stores. The reading is
ours because ``datetime.fromisoformat`` accepts different spellings on each Python version.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache

__all__ = ["EPOCH", "FIRST", "LAST", "as_instant", "from_micros", "iso", "parse_iso", "to_micros", "utcnow"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIRST = datetime.min.replace(tzinfo=timezone.utc)
LAST = datetime.max.replace(tzinfo=timezone.utc)
_OURS = 32
_LENGTHS = range(10, 37)  # characters: from a date to all that `_ISO` takes
_MICROSECOND = timedelta(microseconds=1)
_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s?(?:([Zz])|([+-])(\d{2}):?(\d{2}))?)?",
    re.ASCII,
)


def utcnow() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(timezone.utc)


def parse_iso(text: str) -> datetime | None:
    """Read an ISO 8601 date or datetime.

    Args:
        text: ``2026-01-31``, ``2026-01-31T08:30``, with optional seconds, fraction (cut to microseconds) and zone.

    Returns:
        The instant in UTC, or None where the text is not one (also where it lies outside the years 1 to 9999).
    """
    if len(text) not in _LENGTHS or text[4] != "-" or not "0" <= text[0] <= "9":
        return None  # as most texts are
    return _read(text)


@lru_cache(maxsize=4096)  # a row names its instants several times, and is read again and again
def _read(text: str) -> datetime | None:
    """What `parse_iso` makes of a text that may be one."""
    if len(text) == _OURS and text.isascii() and text[10] == "T" and text[26:] == "+00:00" and text[7] == "-":
        try:
            return datetime.fromisoformat(text)  # what `iso` wrote, read faster
        except ValueError:
            pass  # something else of this length
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, zone_hours, zone_minutes = match.groups()
    zone = timezone.utc
    try:
        if sign is not None:
            offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
            zone = timezone(-offset if sign == "-" else offset)
        micros = int((fraction or "").ljust(6, "0")[:6])
        local = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros, zone
        )
        return local.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def as_instant(value: object) -> datetime | None:
    """The instant that a date, a datetime or an ISO string stands for, in UTC; None for everything else."""
    if isinstance(value, str):
        return parse_iso(value)
    if isinstance(value, datetime):
        try:
            return (value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value).astimezone(timezone.utc)
        except OverflowError:
            return None
    if isinstance(value, date):
        return datetime.combine(value, time(), timezone.utc)
    return None


def to_micros(instant: datetime) -> int:
    """Whole microseconds since 1970-01-01T00:00Z; exact, also before it."""
    return (instant - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The inverse of `to_micros`."""
    return EPOCH + timedelta(microseconds=micros)


def iso(instant: datetime) -> str:
    """An instant as ISO text in UTC with microseconds: sorts as it reads."""
    return instant.astimezone(timezone.utc).isoformat(timespec="microseconds")
