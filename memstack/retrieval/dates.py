"""Times that a query names: "7 May 2023", "2023-05", "last May", "yesterday".

What is read: ISO dates and months, years, ``2023年5月7日``, months by name with day and year in either order in seven
languages of Europe, and some words for days, weeks, months and years before now. It only ever prefers some memories,
and hides none. (A general parser such as `dateparser` takes longer for a query than
the whole search.)
"""

from __future__ import annotations

import re
from calendar import isleap, monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from memstack.instants import FIRST, LAST, to_micros
from memstack.words import fold

__all__ = ["Window", "windows"]

_MONTHS: Final = (
    "january jan januar janvier enero gennaio janeiro januari",
    "february feb februar fevrier febrero febbraio fevereiro februari",
    "march mar marz maerz mars marzo marco maart",
    "april apr avril abril aprile",
    "may mai mayo maggio maio mei",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug aout agosto augustus",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember decembre diciembre dicembre dezembro",
)
_NUMBERS: Final = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
# Names that are other words too: they are months only beside a day, a year, or one of these.
_AMBIGUOUS: Final = frozenset(["may", "mar", "mars", "march", "marco", "mai", "mei", "jan", "jun", "sep", "dec"])
_LEADS: Final = (
    "in|last|this|during|since|before|after|until|by|early|late|mid|of|im|letzten|seit|vor|nach|en|depuis|avant|apres|"
    "desde|de|del|nel|di|em|sinds|voor|na"
)
_YEARS_BACK: Final = 10  # a month without a year is each of these years'
_DAYS: Final = {
    "today": (0, 1), "heute": (0, 1), "aujourd'hui": (0, 1), "hoy": (0, 1), "oggi": (0, 1), "hoje": (0, 1),
    "yesterday": (1, 1), "gestern": (1, 1), "hier": (1, 1), "ayer": (1, 1), "ieri": (1, 1), "ontem": (1, 1),
    "gisteren": (1, 1), "昨日": (1, 1), "昨天": (1, 1),
    "last week": (7, 7), "letzte woche": (7, 7), "semaine derniere": (7, 7), "semana pasada": (7, 7),
    "settimana scorsa": (7, 7), "semana passada": (7, 7), "vorige week": (7, 7), "先週": (7, 7), "上周": (7, 7),
    "last month": (31, 31), "letzten monat": (31, 31), "mois dernier": (31, 31), "mes pasado": (31, 31),
    "mese scorso": (31, 31), "mes passado": (31, 31), "vorige maand": (31, 31), "先月": (31, 31), "上个月": (31, 31),
    "last year": (365, 365), "letztes jahr": (365, 365), "annee derniere": (365, 365), "ano pasado": (365, 365),
    "anno scorso": (365, 365), "ano passado": (365, 365), "vorig jaar": (365, 365), "去年": (365, 365),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Window:
    """A time, in microseconds since 1970 UTC, its end excluded."""

    start: int
    end: int


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], ...]:
    month = rf"(?P<month>{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
    day = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th|er|\.)?"
    year = r"(?P<year>(?:19|20)\d\d)"
    link = r"(?:\s*(?:of|de|di|del)?\s*)"
    return (
        re.compile(rf"\b{year}[-/.](?P<number>[01]?\d)(?:[-/.](?P<day>[0-3]?\d))?(?!\d)"),
        re.compile(rf"{year}年(?:(?P<number>[01]?\d)月(?:(?P<day>[0-3]?\d)日)?)?"),
        re.compile(rf"\b{day}{link}{month}\b\.?,?(?:{link},?\s*{year})?"),
        re.compile(rf"\b{month}\b\.?\s+{day}\b,?(?:\s*{year})?"),
        re.compile(rf"\b{month}\b\.?,?{link}{year}"),
        re.compile(rf"\b(?:(?P<lead>{_LEADS})\s+)?{month}\b"),
        re.compile(rf"\b{year}\b"),
    )


def windows(query: str, now: datetime) -> tuple[Window, ...]:
    """The times that a query names.

    Args:
        query: as it was asked.
        now: what "yesterday" and "last week" are told from.
    """
    text = " ".join(fold(query).split())  # of a long row of spaces, the patterns would try every part
    found: list[Window] = []
    for pattern in _patterns() if _may_hold_date(text) else ():
        rest = ""
        end = 0
        known: dict[tuple[str | None, ...], list[Window]] = {}
        for match in pattern.finditer(text):
            parts = match.groupdict()
            some = known.get(said := tuple(parts.values()))
            if some is None:
                some = known[said] = list(_read(parts, now))
                found += some
            if some:
                rest += text[end : match.start()] + " "
                end = match.end()
        text = rest + text[end:]
    for words, (back, length) in _DAYS.items():
        if words in text and (not words.isascii() or re.search(rf"\b{words}\b", text)):
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
            found.append(Window(to_micros(_after(midnight, -back)), to_micros(_after(midnight, length - back))))
    return tuple(dict.fromkeys(window for window in found if window.start < window.end))


def _may_hold_date(text: str) -> bool:
    """Whether a digit or the name of a month is there; most queries are not worth reading the patterns for."""
    return any(map(str.isdecimal, text)) or any(name in text for name in _NUMBERS)


def _read(parts: dict[str, str | None], now: datetime) -> Iterator[Window]:
    name, day = parts.get("month"), parts.get("day")
    digits = parts.get("number")
    number = int(digits) if digits else _NUMBERS[name] if name else None
    year = parts.get("year")
    if name in _AMBIGUOUS and year is None and day is None and not parts.get("lead"):
        return
    for each in [int(year)] if year else range(now.year - _YEARS_BACK, now.year + 1):
        try:
            start = datetime(each, number or 1, int(day or 1), tzinfo=timezone.utc)
        except ValueError:  # 31 June
            continue
        if day:
            end = _after(start, 1)
        elif number:
            end = _after(start, monthrange(each, number)[1])
        else:
            end = _after(start, 366 if isleap(each) else 365)
        yield Window(to_micros(start), to_micros(end))


def _after(instant: datetime, days: int) -> datetime:
    """So many days after an instant; the end of the years 1 to 9999 where that lies outside of them."""
    try:
        return instant + timedelta(days=days)
    except OverflowError:
        return FIRST if days < 0 else LAST
