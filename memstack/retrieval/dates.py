"""Times that a query names: "7 May 2023", "2023-05", "7.5.2023", "last May", "last Tuesday", "3 days ago", "yesterday".

What is read: ISO dates and months, dates with the year at their end (``5/7/2023`` is both 5 July and 7 May), years,
``2023年5月7日`` and ``2023년 5월 7일`` with and without the year, months by name with day and year in either order in
nine languages of Europe, and some words for days, weeks, months and years before now. It only ever prefers some
memories, and hides none. (A general parser such as `dateparser` takes longer for a query than
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
    "january jan januar janvier enero gennaio janeiro januari января ocak",
    "february feb februar fevrier febrero febbraio fevereiro februari февраля subat",
    "march mar marz maerz mars marzo marco maart марта mart",
    "april apr avril abril aprile апреля nisan",
    "may mai mayo maggio maio mei мая mayis",
    "june jun juni juin junio giugno junho июня haziran",
    "july jul juli juillet julio luglio julho июля temmuz",
    "august aug aout agosto augustus августа agustos",
    "september sep sept septembre septiembre settembre setembro сентября eylul",
    "october oct oktober octobre octubre ottobre outubro октября ekim",
    "november nov novembre noviembre novembro ноября kasim",
    "december dec dezember decembre diciembre dicembre dezembro декабря aralik",
)
_NUMBERS: Final = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
# Names that are other words too: they are months only beside a day, a year, or one of these.
_AMBIGUOUS: Final = frozenset(
    ["may", "mar", "mars", "march", "marco", "mai", "mei", "jan", "jun", "sep", "dec", "mart"]
)
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

_WEEKDAYS: Final = (
    "monday montag lundi lunes lunedi segunda maandag",
    "tuesday dienstag mardi martes martedi terca dinsdag",
    "wednesday mittwoch mercredi miercoles mercoledi quarta woensdag",
    "thursday donnerstag jeudi jueves giovedi quinta donderdag",
    "friday freitag vendredi viernes venerdi sexta vrijdag",
    "saturday samstag samedi sabado sabato zaterdag",
    "sunday sonntag dimanche domingo domenica zondag",
)
_WEEKDAY: Final = {name: number for number, names in enumerate(_WEEKDAYS) for name in names.split()}
_UNITS: Final = {
    "day": 1, "days": 1, "tag": 1, "tagen": 1, "jour": 1, "jours": 1, "dia": 1, "dias": 1,
    "week": 7, "weeks": 7, "woche": 7, "wochen": 7, "semaine": 7, "semaines": 7, "semana": 7, "semanas": 7,
    "month": 31, "months": 31, "monat": 31, "monaten": 31, "mois": 31, "mes": 31, "meses": 31,
    "year": 365, "years": 365, "jahr": 365, "jahren": 365, "an": 365, "ans": 365, "ano": 365, "anos": 365,
}  # fmt: skip
_COUNTS: Final = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}

_MARKS: Final = (  # one of them is in whatever `_patterns_of_now` find
    "ago", "last", "past", "letzt", "vorige", "afgelopen", "vor ", "il y a", "hace", "dernier", "pasad", "scors",
    "passad",
)  # fmt: skip


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
        re.compile(rf"\b(?P<day>[0-3]?\d)(?P<mark>[-/.])(?P<number>[0-3]?\d)(?P=mark){year}(?!\d)"),
        re.compile(rf"\b{year}[-/.](?P<number>[01]?\d)(?:[-/.](?P<day>[0-3]?\d))?(?!\d)"),
        re.compile(rf"{year}[年년](?:\s*(?P<number>[01]?\d)[月월](?:\s*(?P<day>[0-3]?\d)[日号일])?)?"),
        re.compile(r"(?<!\d)(?P<number>[01]?\d)[月월]\s*(?P<day>[0-3]?\d)[日号일]"),
        re.compile(rf"\b{day}{link}{month}\b\.?,?(?:{link},?\s*{year})?"),
        re.compile(rf"\b{month}\b\.?\s+{day}\b,?(?:\s*{year})?"),
        re.compile(rf"\b{month}\b\.?,?{link}{year}"),
        re.compile(rf"\b(?:(?P<lead>{_LEADS})\s+)?{month}\b"),
        re.compile(rf"\b{year}\b"),
    )


@lru_cache(maxsize=1)
def _patterns_of_now() -> tuple[re.Pattern[str], re.Pattern[str]]:
    day = "|".join(_WEEKDAY)
    unit = "|".join(_UNITS)
    return (
        re.compile(
            rf"\b(?:last|past|letzte[nr]?|vorige[nr]?|afgelopen) (?P<before>{day})\b"
            rf"|\b(?P<after>{day})(?:-feira)? (?:dernier|pasado|scors[oa]|passad[oa])\b"
        ),
        re.compile(
            rf"\b(?P<ago>[0-9]{{1,4}}|{'|'.join(_COUNTS)}) (?P<unit>{unit}) ago\b"
            rf"|\b(?:vor|il y a|hace) (?P<since>[0-9]{{1,4}}) (?P<of>{unit})\b"
        ),
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
            found.append(_before(now, back, length))
    if any(mark in text for mark in _MARKS):
        found += _told_from(text, now)
    return tuple(dict.fromkeys(window for window in found if window.start < window.end))


def _told_from(text: str, now: datetime) -> Iterator[Window]:
    """The last of a day of the week, and so long ago."""
    weekdays, ago = _patterns_of_now()
    for match in weekdays.finditer(text):
        day = _WEEKDAY[match["before"] or match["after"]]
        yield _before(now, (now.weekday() - day - 1) % 7 + 1, 1)
    for match in ago.finditer(text):
        count = match["ago"] or match["since"]
        unit = _UNITS[match["unit"] or match["of"]]
        yield _before(now, (_COUNTS.get(count) or int(count)) * unit + unit // 2, unit)


def _before(now: datetime, back: int, length: int) -> Window:
    """So many days, from so many days before today on."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(to_micros(_after(midnight, -back)), to_micros(_after(midnight, length - back)))


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
    if parts.get("mark") in ("/", "-"):  # with dots the day is first, everywhere
        yield from _read({"year": year, "number": day, "day": digits}, now)
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
