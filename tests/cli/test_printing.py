"""What is printed: users' text as it is, on every kind of terminal and on none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Runner

TEXTS = (
    "[red]markup[/red] and [/] and [link=https://example.com]x",
    ":smile: *stars* `ticks` <tag>",
    "\x1b[31mred\x1b[0m bell\a",
    "right \u202eto left",
    "Grüße, 世界 🎉",
    "two\nlines",
)


@pytest.fixture
def stored(run: Runner, alex: str) -> list[str]:
    """The ids of the texts, which are alex's."""
    done = run("--json", "add", *TEXTS, "--user", alex, "--metadata", '{"note": "[bold]x[/bold]"}')
    assert done.code == 0
    return [memory["id"] for memory in done.data["stored"]]


def test_texts_are_printed_literally(run: Runner, alex: str, stored: list[str]) -> None:
    """Markup is not markup, emoji names stay names, and control characters are shown instead of obeyed."""
    for done in (run("list", "--user", alex), run("search", "markup", "--user", alex), run("show", stored[0])):
        assert done.code == 0
        assert "[red]markup[/red] and [/]" in done.out
        assert "note=[bold]x[/bold]" in done.out or "[bold]x[/bold]" in done.out
    listed = run("list", "--user", alex).out
    assert ":smile: *stars* `ticks` <tag>" in listed
    assert "\\x1b[31mred\\x1b[0m bell\\x07" in listed
    assert "right \\u202eto left" in listed
    assert "Grüße, 世界 🎉" in listed


def test_json_holds_texts_unchanged(run: Runner, alex: str, stored: list[str]) -> None:
    """What programs read is what was stored, to the letter."""
    found = run("--json", "list", "--user", alex).data["memories"]
    assert {memory["text"] for memory in found} == set(TEXTS)
    assert {memory["id"] for memory in found} == set(stored)


def test_nothing_takes_over_a_terminal(run: Runner, alex: str) -> None:
    """Neither names nor values, nor JSON, hold a character that a terminal obeys; a program reads them unchanged."""
    metadata = {"ke\x1b[31m\x9by\u202e": "\x9b31m\x7f\u2066", "inner": {"\x1b]0;x\x07": ["\x85"]}}
    text = "tea \x9b31m\x1b[2J\x7f \u202e"
    done = run("--json", "add", text, "--user", alex, "--metadata", json.dumps(metadata))
    memory = done.data["stored"][0]
    assert (memory["text"], memory["metadata"]) == (text, metadata)
    whose = ("--user", alex)
    for arguments in (("show", memory["id"]), ("list", *whose), ("search", "tea", *whose), ("history", memory["id"])):
        for form in ((), ("--json",)):
            shown = run(*form, *arguments)
            assert shown.code == 0
            assert not set(shown.out) & set("\x1b\x07\x9b\x7f\x85\u202e\u2066"), (form, arguments)


def test_no_colours_without_a_terminal(run: Runner, alex: str, stored: list[str]) -> None:
    """Where standard output is no terminal, there are no escape sequences."""
    for arguments in (["list", "--user", alex], ["history", stored[0]], ["config", "show"], ["stats"], ["--help"]):
        assert "\x1b" not in run(*arguments).out


@pytest.mark.parametrize("columns", [1, 10, 40, 500])
def test_a_narrow_terminal_loses_nothing(
    run: Runner, alex: str, stored: list[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """However narrow the terminal, everything is there when the lines are put together again."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments in (["search", "", "--user", alex], ["list", "--user", alex], ["show", stored[1]]):
        printed = "".join(run(*arguments).out.split())
        assert stored[1] in printed
        assert ":smile:*stars*`ticks`<tag>" in printed
    assert run("config", "show").code == run("history", stored[0]).code == 0


def test_lines_are_whole_without_a_terminal(run: Runner, alex: str, store: Path) -> None:
    """What other programs read is not folded to a width that nobody has, nor filled up with blanks."""
    text = " ".join(["I prefer tasks in the morning"] * 10)
    assert text in run("add", text, "--user", alex).out
    for verb in (["search", "tasks", "--user", alex], ["list", "--user", alex], ["stats"]):
        lines = run(*verb).out.splitlines()
        assert not [line for line in lines if line != line.rstrip()]
        assert verb == ["stats"] or any(line.endswith(text) for line in lines)
    deep = store.joinpath(*["deep"] * 20)
    told = run("--set", f"vector_store.path={deep}", "config", "show").out
    assert str(deep) in told
    assert "vector_store.embedding_dims" in told


@pytest.mark.parametrize("everything", [[], ["--all"]], ids=["page", "all"])
def test_a_listing_tells_where_a_memory_begins(run: Runner, alex: str, everything: list[str]) -> None:
    """A dash at the left begins each memory, and whatever lines a text has, nothing else stands there."""
    texts = ["one\ntwo\n\nthree", "- four\n- five", "\n\n- six\n", "seven"]
    assert run("add", "--user", alex, "--metadata", '{"note": "- eight\\n- nine"}', "--", *texts).code == 0
    lines = run("list", "--user", alex, *everything).out.splitlines()
    assert lines[0].startswith("- ")
    assert [line[:2].strip() for line in lines].count("-") == len(texts)
    assert {line[:2] for line in lines if line} <= {"- ", "-", "  "}


@pytest.mark.usefixtures("store")
def test_a_poor_encoding_loses_nothing(spawn: Runner, request: pytest.FixtureRequest) -> None:
    """Where the terminal's encoding lacks a character, JSON stays JSON, and text shows its number."""
    stored: list[str] = request.getfixturevalue("stored")  # only now, in the store of this test
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    found = spawn("--json", "show", stored[4], env=ascii_only)
    assert json.loads(found.out)["text"] == TEXTS[4]
    assert "\\u4e16" in spawn("show", stored[4], env=ascii_only).out
