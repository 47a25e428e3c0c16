"""The verbs on the command line."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Runner


def _add(run: Runner, *arguments: str) -> dict[str, Any]:
    done = run("--json", "add", *arguments)
    assert done.code == 0, done.err
    found: dict[str, Any] = done.data["stored"][0]
    return found


@pytest.mark.usefixtures("store")
def test_what_was_added_is_found_by_another_process(run: Runner, spawn: Runner, alex: str) -> None:
    """A memory is found by a process that was started later."""
    memory = _add(run, "I drink green tea", "--user", alex, "--category", "drinks")
    found = spawn("search", "tea", "--user", alex, "--json")
    assert [hit["id"] for hit in found.data["hits"]] == [memory["id"]]
    shown = run("search", "tea", "--user", alex)
    assert shown.code == 0
    assert "I drink green tea" in shown.out
    assert memory["id"] in shown.out


def test_every_option_of_add_arrives(run: Runner, alex: str) -> None:
    """Scope, metadata, name, times: what the options say is what is stored."""
    memory = _add(
        run,
        *("I drink tea", "--user", alex, "--agent", "bot", "--run", "r1", "--name", "Alexandra"),
        *("--category", "drinks", "--metadata", '{"cups": 2, "kinds": ["green"]}'),
        *("--occurred-at", "2026-01-31T08:00:00+01:00", "--expires-at", "2999-01-01"),
    )
    assert (memory["user_id"], memory["agent_id"], memory["run_id"]) == (alex, "bot", "r1")
    assert memory["metadata"] == {"cups": 2, "kinds": ["green"], "category": "drinks"}
    assert memory["source"] == [{"role": "user", "name": "Alexandra", "position": 0}]
    assert memory["occurred_at"] == "2026-01-31T07:00:00+00:00"
    assert memory["expires_at"] == "2999-01-01T00:00:00+00:00"


def test_each_text_is_a_memory_once(run: Runner, alex: str) -> None:
    """Several texts are several memories; an equal one is skipped and told, for people and for programs."""
    done = run("--json", "add", "tea", "milk", "tea", "--user", alex)
    assert len(done.data["stored"]) == 2
    assert [skipped["reason"] for skipped in done.data["skipped"]] == ["duplicate"]
    again = run("add", "tea", "--user", alex)
    assert again.code == 0
    assert "skipped an equal memory is there already" in again.out


def test_add_reads_standard_input(run: Runner, alex: str) -> None:
    """``-`` stands for what is piped in, whole and once; what is no text is refused, and nothing is stored."""
    piped = "I drink tea\nin the morning \N{HOT BEVERAGE}\n".encode()
    assert run("add", "first", "-", "--user", alex, stdin=piped).code == 0
    stored = run("list", "--user", alex, "--order", "created_at", "--json").data["memories"]
    assert [memory["text"] for memory in stored] == ["first", "I drink tea\nin the morning \N{HOT BEVERAGE}"]
    for arguments, stdin, told in (
        (["-"], b"caf\xe9", "not UTF-8 (byte 3)"),
        (["-"], b"", "is empty"),
        (["-", "-"], b"tea", "more than once"),
    ):
        refused = run("add", *arguments, "--user", alex, stdin=stdin)
        assert refused.code == 2
        assert told in refused.err
    assert len(run("list", "--user", alex, "--json").data["memories"]) == 2


def test_an_assistants_words_are_skipped(run: Runner, alex: str) -> None:
    """Messages of roles that are not remembered are skipped with the reason; --set remembers them."""
    arguments = ["add", "Noted!", "--role", "assistant", "--user", alex, "--json"]
    assert run(*arguments).data["skipped"][0]["reason"] == "role"
    assert len(run(*arguments, "--set", "remember_roles=user,assistant").data["stored"]) == 1


def test_search_filters(run: Runner, alex: str) -> None:
    """--filter and --category narrow a search, together too; a scope may stand in the filter."""
    _add(run, "I drink tea", "--user", alex, "--category", "drinks", "--metadata", '{"cups": 2}')
    _add(run, "I eat bread", "--user", alex, "--category", "food", "--metadata", '{"cups": 2}')
    _add(run, "I drink milk", "--user", alex, "--category", "drinks", "--metadata", '{"cups": 9}')

    def texts(*arguments: str) -> set[str]:
        return {hit["text"] for hit in run("--json", "search", "drink", *arguments).data["hits"]}

    assert texts("--user", alex, "--category", "drinks") == {"I drink tea", "I drink milk"}
    assert texts("--user", alex, "--filter", '{"cups": {"lt": 5}}') == {"I drink tea", "I eat bread"}
    assert texts("--user", alex, "--filter", '{"cups": {"lt": 5}}', "--category", "drinks") == {"I drink tea"}
    assert texts("--filter", json.dumps({"AND": [{"user_id": alex}, {"cups": 9}]})) == {"I drink milk"}
    assert texts("--user", "sam") == set()


def test_search_limits_and_explains(run: Runner, alex: str) -> None:
    """--limit, --threshold and --explain mean what they mean in the library."""
    for text in ("I drink tea", "The railway is late"):
        _add(run, text, "--user", alex)
    first = run("--json", "search", "tea", "--user", alex, "--limit", "1", "--explain").data["hits"]
    assert [hit["text"] for hit in first] == ["I drink tea"]
    assert "filter" in first[0]["explain"]
    high = run("--json", "search", "tea", "--user", alex, "--threshold", "0.4").data["hits"]
    assert all(hit["score"] >= 0.4 for hit in high)
    assert "similarity" in run("search", "tea", "--user", alex, "--explain").out
    assert run("search", "tea", "--user", "nobody").out == "Nothing found.\n"


def test_list_goes_page_by_page(run: Runner, alex: str) -> None:
    """Pages follow one another by their cursors, and together are what --all lists."""
    texts = [f"number {i}" for i in range(5)]
    assert run("add", *texts, "--user", alex).code == 0
    seen: list[str] = []
    cursor: list[str] = []
    while True:
        page = run("--json", "list", "--user", alex, "--limit", "2", "--order", "created_at", *cursor).data
        seen += [memory["text"] for memory in page["memories"]]
        if page["next_cursor"] is None:
            break
        cursor = ["--cursor", page["next_cursor"]]
    assert seen == texts
    everything = run("--json", "list", "--user", alex, "--all", "--order", "-created_at").data["memories"]
    assert [memory["text"] for memory in everything] == texts[::-1]
    shown = run("list", "--user", alex, "--limit", "2")
    assert "There are more: --cursor" in shown.err
    assert all(text in run("list", "--user", alex, "--all").out for text in texts)


@pytest.mark.parametrize("form", [[], ["--text"]], ids=["argument", "option"])
def test_update_takes_the_text_as_supersede_does(run: Runner, alex: str, form: list[str]) -> None:
    """``update ID TEXT`` is ``update ID --text TEXT``; both at once are refused."""
    memory = _add(run, "I drink tea", "--user", alex)
    assert run("--json", "update", memory["id"], *form, "I drink coffee").data["text"] == "I drink coffee"
    both = run("--json", "update", memory["id"], "milk", "--text", "water")
    assert (both.code, both.error["type"]) == (2, "InvalidInput")
    assert run("--json", "show", memory["id"]).data["text"] == "I drink coffee"


def test_show_tells_everything(run: Runner, alex: str) -> None:
    """``show`` has every field, for people and for programs."""
    memory = _add(run, "I drink tea", "--user", alex, "--metadata", '{"cups": 2}', "--name", "Alexandra")
    assert run("--json", "show", memory["id"]).data == memory
    shown = run("show", memory["id"]).out
    for part in ("I drink tea", alex, "metadata.cups", "Alexandra", memory["id"], memory["created_at"]):
        assert part in shown


def test_update_changes_and_history_tells(run: Runner, alex: str) -> None:
    """Text, metadata and expiry change as told, null removes a field, and the history has both sides."""
    memory = _add(run, "I drink tea", "--user", alex, "--metadata", '{"cups": 2, "hot": true}')
    changed = run(
        *("--json", "update", memory["id"], "--text", "I drink milk", "--metadata", '{"cups": 3, "hot": null}'),
        *("--expires-at", "2999-01-01"),
    ).data
    assert (changed["text"], changed["metadata"]) == ("I drink milk", {"cups": 3})
    assert changed["expires_at"].startswith("2999")
    assert "expires_at" not in run("--json", "update", memory["id"], "--expires-at", "never").data
    changes = run("--json", "history", memory["id"]).data["changes"]
    assert [change["event"] for change in changes] == ["ADD", "UPDATE", "UPDATE"]
    shown = run("history", memory["id"]).out
    assert "- I drink tea" in shown
    assert "+ I drink milk" in shown


def test_an_expired_memory_is_hidden(run: Runner, alex: str) -> None:
    """What has expired is not listed, and shown when asked for by its id."""
    past = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    memory = _add(run, "I drink tea", "--user", alex, "--expires-at", past)
    assert run("--json", "list", "--user", alex).data["memories"] == []
    assert run("show", memory["id"]).code == 0


@pytest.mark.parametrize("verb", ["show", "history", "delete"])
def test_a_scope_hides_the_memories_of_others(run: Runner, alex: str, verb: str) -> None:
    """With a scope given, another owner's memory is not found."""
    memory = _add(run, "I drink tea", "--user", alex)
    assert run(verb, memory["id"], "--user", "sam").code == 4
    assert run(verb, memory["id"], "--user", alex).code == 0


def test_delete_one(run: Runner, alex: str) -> None:
    """A deleted memory is gone, and its history stays."""
    memory = _add(run, "I drink tea", "--user", alex)
    assert run("--json", "delete", memory["id"]).data == {"deleted": 1}
    assert run("show", memory["id"]).code == 4
    assert [c["event"] for c in run("--json", "history", memory["id"]).data["changes"]] == ["ADD", "DELETE"]


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [("y\n", 0, 0), ("n\n", 1, 2), ("\n", 1, 2), ("", 2, 2)],
    ids=["yes", "no", "enter", "none"],
)
def test_delete_all_asks(run: Runner, alex: str, answer: str, code: int, left: int) -> None:
    """Deleting a whole scope needs a yes; without one nothing is deleted."""
    assert run("add", "tea", "milk", "--user", alex).code == 0
    assert run("add", "bread", "--user", f"not-{alex}").code == 0
    assert run("delete", "--all", "--user", alex, stdin=answer).code == code
    for user, expected in ((alex, left), (f"not-{alex}", 1)):
        assert len(run("--json", "list", "--user", user).data["memories"]) == expected


def test_delete_all_with_a_filter(run: Runner, alex: str) -> None:
    """--yes does not ask, and a filter keeps what it does not hold for."""
    _add(run, "tea", "--user", alex, "--category", "drinks")
    _add(run, "bread", "--user", alex, "--category", "food")
    done = run("--json", "delete", "--all", "--user", alex, "--category", "food", "--yes")
    assert done.data == {"deleted": 1}
    assert [m["text"] for m in run("--json", "list", "--user", alex).data["memories"]] == ["tea"]


def test_stats(run: Runner, alex: str, store: Path) -> None:
    """The figures name the engine, the embedder and the history, in both forms."""
    _add(run, "tea", "--user", alex)
    found = run("--json", "stats").data
    assert found["vector_store"]["rows"] == found["history"]["changes"] == 1
    assert "embedder.provider" in run("stats").out


def test_options_after_two_dashes_are_text(run: Runner, alex: str) -> None:
    """What follows ``--`` is what was said, whatever it looks like."""
    done = run("add", "--user", alex, "--json", "--", "--json", "--user")
    assert [memory["text"] for memory in done.data["stored"]] == ["--json", "--user"]
