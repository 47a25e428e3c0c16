"""LoCoMo's format, in small conversations made up for these tests."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from memstack.cli.locomo import read_time, turns
from tests.cli.conftest import Runner


def _conversation(sample_id: Any, **sessions: Any) -> dict[str, Any]:
    return {"sample_id": sample_id, "conversation": {"speaker_a": "Ada", "speaker_b": "Bo", **sessions}, "qa": []}


def _turn(speaker: str, dia_id: str, text: str, **more: Any) -> dict[str, Any]:
    return {"speaker": speaker, "dia_id": dia_id, "text": text, **more}


def _write(document: Any) -> str:
    Path("locomo.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return "locomo.json"


def test_every_turn_is_stored(run: Runner, alex: str) -> None:
    """One user for each conversation, one run for each session; speakers, times, order and captions are kept."""
    other = f"not-{alex}"
    first = [_turn("Ada", "D1:1", "Good morning!"), _turn("Bo", "D1:2", "Hi!"), _turn("Ada", "D1:3", "Hi!")]
    second = [_turn("Bo", "D2:1", "Look.", blip_caption="a photo of a red boat", img_url=["https://example.com"])]
    document = [
        _conversation(
            alex,
            session_1=first,
            session_1_date_time="11:59 pm on 31 December, 2022",
            session_10=second,
            session_10_date_time="12:05 am on 3 March, 2023",
            session_11_date_time="1:00 pm on 4 March, 2023",
        ),
        _conversation(other, session_1=first, session_1_date_time="1:56 pm on 8 May, 2023"),
    ]
    done = run("--json", "import", _write(document))
    assert done.code == 0, done.err
    assert (done.data["format"], done.data["read"], done.data["stored"]) == ("locomo", 7, 7)
    assert (done.data["skipped"], done.data["failed"]) == ({}, 0)

    listed = run("--json", "list", "--user", alex, "--order", "occurred_at").data["memories"]
    assert [memory["metadata"]["dia_id"] for memory in listed] == ["D1:1", "D1:2", "D1:3", "D2:1"]
    assert [memory["run_id"] for memory in listed] == [f"{alex}/session_1"] * 3 + [f"{alex}/session_10"]
    assert [memory["source"][0]["name"] for memory in listed] == ["Ada", "Bo", "Ada", "Bo"]
    assert {memory["source"][0]["role"] for memory in listed} == {"user"}
    assert [memory["occurred_at"] for memory in listed] == [
        "2022-12-31T23:59:00+00:00",
        "2022-12-31T23:59:01+00:00",
        "2022-12-31T23:59:02+00:00",
        "2023-03-03T00:05:00+00:00",
    ]
    assert listed[3]["metadata"] == {"dia_id": "D2:1", "session": 10, "caption": "a photo of a red boat"}
    assert len(run("--json", "list", "--user", other).data["memories"]) == 3

    again = run("--json", "import", _write(document))
    assert (again.code, again.data["stored"], again.data["skipped"]) == (0, 0, {"duplicate": 7})


def test_every_turn_is_stored_whatever_is_configured(run: Runner, alex: str) -> None:
    """The roles of the configuration do not matter here: both speakers are people."""
    document = [
        _conversation(alex, session_1=[_turn("Ada", "D1:1", "Hi!")], session_1_date_time="1:56 pm on 8 May, 2023")
    ]
    done = run("--json", "--set", "remember_roles=assistant", "import", _write(document))
    assert done.data["stored"] == 1


def test_broken_parts_fail_alone(run: Runner, alex: str) -> None:
    """What cannot be read is reported with its place; the rest is stored."""
    when = "1:56 pm on 8 May, 2023"
    document = [
        _conversation(
            alex,
            session_1=[_turn("Ada", "D1:1", "Hi!"), "no turn", _turn("Ada", "D1:3", " "), {"speaker": "Ada"}],
            session_1_date_time=when,
            session_2=[_turn("Ada", "D2:1", "Hello!")],
            session_2_date_time="yesterday",
            session_3="no list",
            session_3_date_time=when,
        ),
        _conversation(7, session_1=[_turn("Ada", "D1:1", "Hi!")], session_1_date_time=when),
        {"sample_id": "x"},
    ]
    done = run("--json", "import", _write(document))
    assert (done.code, done.data["stored"], done.data["failed"]) == (3, 1, 7)
    assert [failure["place"] for failure in done.data["failures"]] == [
        f"{alex}/session_1[1]",
        f"{alex}/session_1[2]",
        f"{alex}/session_1[3]",
        f"{alex}/session_2[0]",
        f"{alex}/session_3",
        "conversation 2",
        "conversation 3",
    ]


@pytest.mark.parametrize("option", [["--user", "x"], ["--run", "x"], ["--role", "assistant"]])
def test_what_the_format_says_itself_cannot_be_given(run: Runner, option: list[str]) -> None:
    """Users, runs and roles come from the conversations."""
    document = [_conversation("x", session_1=[])]
    done = run("--json", "import", _write(document), *option)
    assert (done.code, done.error["type"]) == (2, "InvalidInput")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:56 pm on 8 May, 2023", (2023, 5, 8, 13, 56)),
        ("12:00 am on 1 January, 2024", (2024, 1, 1, 0, 0)),
        ("12:30 pm on 29 February, 2024", (2024, 2, 29, 12, 30)),
        (" 9:05 AM on 31 December 2022 ", (2022, 12, 31, 9, 5)),
        ("12:09 a.m. on 13 September, 2023", (2023, 9, 13, 0, 9)),
        ("1:56 pm on 31 June, 2023", None),
        ("13:56 pm on 8 May, 2023", None),
        ("0:56 am on 8 May, 2023", None),
        ("1:60 pm on 8 May, 2023", None),
        ("1:56 pm on 8 Mai, 2023", None),
        ("1:56 pm on 8 M, 2023", None),
        ("2023-05-08T13:56", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_times_are_read(text: object, expected: tuple[int, int, int, int, int] | None) -> None:
    """Times are read as LoCoMo writes them, in UTC; what is no time is None."""
    assert read_time(text) == (None if expected is None else datetime(*expected, tzinfo=timezone.utc))


def test_turns_after_the_last_second() -> None:
    """A second for every turn ends with the year 9999: what would be said later is told, and stops nothing."""
    said = [_turn("Ada", f"D1:{number}", "Hi!") for number in range(62)]
    document = [_conversation("a", session_1=said, session_1_date_time="11:59 pm on 31 December, 9999")]
    problems = [problem for _, _, problem in turns(document)]
    assert [bool(problem) for problem in problems] == [False] * 60 + [True] * 2
