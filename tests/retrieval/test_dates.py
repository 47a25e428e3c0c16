"""Times that a query names."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.instants import from_micros
from memstack.retrieval.dates import (
    _COUNTS,
    _MARKS,
    _NUMBERS,
    _UNITS,
    _WEEKDAY,
    _may_hold_date,
    _patterns,
    _patterns_of_now,
    windows,
)

UTC = timezone.utc
NOW = datetime(2024, 3, 15, 12, 30, tzinfo=UTC)


def spans(query: str) -> list[tuple[datetime, datetime]]:
    """The times that a query names, as instants."""
    return [(from_micros(window.start), from_micros(window.end)) for window in windows(query, NOW)]


@pytest.mark.parametrize(
    ("query", "start", "days"),
    [
        ("what happened on 7 May 2023?", (2023, 5, 7), 1),
        ("what happened on May 7th, 2023?", (2023, 5, 7), 1),
        ("on the 7th of May, 2023", (2023, 5, 7), 1),
        ("on 2023-05-07 at noon", (2023, 5, 7), 1),
        ("am 7. Mai 2023", (2023, 5, 7), 1),
        ("le 7 mai 2023", (2023, 5, 7), 1),
        ("el 7 de mayo de 2023", (2023, 5, 7), 1),
        ("2023年5月7日", (2023, 5, 7), 1),
        ("2023년 5월 7일", (2023, 5, 7), 1),
        ("7 мая 2023", (2023, 5, 7), 1),
        ("7 Mayıs 2023", (2023, 5, 7), 1),
        ("am 7.5.2023", (2023, 5, 7), 1),
        ("on 27/05/2023", (2023, 5, 27), 1),
        ("on 05/27/2023", (2023, 5, 27), 1),
        ("in May 2023", (2023, 5, 1), 31),
        ("in 2023-02", (2023, 2, 1), 28),
        ("how was 2022?", (2022, 1, 1), 365),
        ("yesterday", (2024, 3, 14), 1),
        ("was war gestern?", (2024, 3, 14), 1),
        ("last week", (2024, 3, 8), 7),
        ("last Tuesday", (2024, 3, 12), 1),  # it is a Friday
        ("last Friday", (2024, 3, 8), 1),
        ("am letzten Samstag", (2024, 3, 9), 1),
        ("mardi dernier", (2024, 3, 12), 1),
        ("3 days ago", (2024, 3, 12), 1),
        ("a week ago", (2024, 3, 5), 7),
        ("two weeks ago", (2024, 2, 27), 7),
        ("hace 3 días", (2024, 3, 12), 1),
        ("last month", (2024, 2, 13), 31),
        ("last year", (2023, 3, 16), 365),
        ("how was 2020?", (2020, 1, 1), 366),
        ("on 7 May 2023, that is 2023-05-07", (2023, 5, 7), 1),
    ],
)
def test_named_times(query: str, start: tuple[int, int, int], days: int) -> None:
    """A day, a month or a year by its name is that day, month or year, and nothing else."""
    first = datetime(*start, tzinfo=UTC)
    assert spans(query) == [(first, first + timedelta(days=days))]


def test_a_day_and_a_month_in_digits() -> None:
    """Where either can be the month, both days are meant."""
    assert {start for start, _ in spans("on 5/7/2023")} == {
        datetime(2023, 5, 7, tzinfo=UTC),
        datetime(2023, 7, 5, tzinfo=UTC),
    }


def test_a_day_without_a_year() -> None:
    """A day without a year is that of each of the last years."""
    assert {(start.month, start.day) for start, _ in spans("5月7日に何をしたか")} == {(5, 7)}


def test_a_month_without_a_year() -> None:
    """A month without a year is that of every year of the last ten."""
    found = spans("what did we do last May?")
    assert {start.month for start, _ in found} == {5}
    assert {start.year for start, _ in found} == set(range(2014, 2025))


@pytest.mark.parametrize(
    "query",
    [
        *("may I have tea?", "mars bars", "room 1234", "31 June 2023 was", "", "12345-05", "hierarchy", "todays"),
        *("on Tuesdays", "how long ago"),
    ],
)
def test_no_times(query: str) -> None:
    """Words and numbers that only look like times name none, and days that do not exist are months."""
    assert all((end - start).days > 27 for start, end in spans(query)), query


@pytest.mark.parametrize("now", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
@pytest.mark.parametrize("query", ["today", "yesterday", "last week", "last year", "in December", "on 31 December"])
def test_at_the_ends_of_time(query: str, now: datetime) -> None:
    """Times are told from any `as_of`; what of them lies outside the years 1 to 9999 is left out."""
    for window in windows(query, now):
        assert from_micros(window.start) < from_micros(window.end)


@given(st.text())
def test_any_query(query: str) -> None:
    """Any text can be read, and every time begins before it ends."""
    for window in windows(query, NOW):
        assert window.start < window.end


@given(
    st.lists(st.sampled_from([*_WEEKDAY, *_UNITS, *_COUNTS, *_MARKS, "3", "letzten", "vor", "scorsa", "-feira"])).map(
        " ".join
    )
)
def test_no_query_that_tells_from_now_is_passed_over(text: str) -> None:
    """Wherever these patterns find something, one of the marks is there."""
    assert any(mark in text for mark in _MARKS) or not any(pattern.search(text) for pattern in _patterns_of_now())


@given(st.lists(st.sampled_from([*_NUMBERS, "7", "2023", "年", "月", "of ", " ", "-", "a", "m", "٣"])).map("".join))
def test_no_query_that_names_a_time_is_passed_over(text: str) -> None:
    """Wherever a pattern finds something, the look at the text beforehand says so."""
    assert _may_hold_date(text) or not any(pattern.search(text) for pattern in _patterns())


@pytest.mark.parametrize(
    "part", ["may" + " " * 1000, "1 of" + " " * 1000, "in" + " " * 1000, "may of ", "1 ", "5\u2028"]
)
def test_a_long_query_takes_no_long_time(part: str) -> None:
    """What fills the limit of a query with spaces or months is read in a time that grows with its length."""
    query = (part * 50_000)[:50_000] + " may" + " " * 50_000
    begun = time.perf_counter()
    windows(f"{query}x", NOW)
    assert time.perf_counter() - begun < 2
