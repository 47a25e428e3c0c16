"""The history by itself: its journal, Mem0's messages, positions, what waits, and files of other releases."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from memstack.errors import HistoryError
from memstack.history import MEMORY, SqliteHistory, Transaction
from memstack.history.journal import Journal
from memstack.history.waiting import Waiting
from memstack.instants import utcnow
from memstack.records import Change
from memstack.scope import Scope

ALEX = Scope("alex")


@pytest.fixture(params=[MEMORY, "history.db"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteHistory]:
    """A history in this process, and one in a file."""
    path = MEMORY if request.param == MEMORY else tmp_path / request.param
    opened = SqliteHistory(path, "memories")
    yield opened
    opened.close()


def entry(memory_id: str, event: Any = "ADD", scope: Scope = ALEX) -> Change:
    return Change(memory_id=memory_id, event=event, at=utcnow(), scope=scope, new_text=memory_id)


# -- the journal -----------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_the_journal_has_what_was_noted_and_not_cut(kept: str, tmp_path: Path) -> None:
    """Notes are read oldest first; to cut where one begins forgets it and what follows, and leaves room."""
    journal = Journal(tmp_path / "undo" if kept == "file" else None)
    assert journal.empty
    assert journal.read() == []
    for _ in range(2):  # new, and after all was forgotten
        first = journal.append(7, "one")
        second = journal.append(8, "two \u00e9\ud800 2")  # rows of others may have text that is none
        assert journal.read() == [(7, "one"), (8, "two \u00e9\ud800 2")]
        assert journal.numbers() == [7, 8]
        journal.cut(second)
        assert journal.read() == [(7, "one")]
        journal.append(9, "three")
        assert journal.read() == [(7, "one"), (9, "three")]
        assert not journal.empty
        journal.cut(first)
        assert journal.empty
        assert journal.read() == []
        journal.append(10, "four")
        journal.cut()
        assert journal.empty


def test_a_note_that_was_cut_short_is_none(tmp_path: Path) -> None:
    """Of a note whose writer died the beginning may be there: it is left out, and those before it are not."""
    file = tmp_path / "undo"
    journal = Journal(file)
    journal.append(1, "whole")
    with file.open("ab") as stream:
        stream.write(b"2 ha")
    assert journal.read() == [(1, "whole")]
    journal.cut()
    journal.append(3, "next")
    assert journal.read() == [(3, "next")]


def test_what_was_announced_is_taken_back_newest_first(history: SqliteHistory) -> None:
    """A write that fails hands out what it announced, the last step first; one that is committed leaves nothing."""
    seen: list[list[str]] = []

    def fail() -> None:
        with history.transaction(lambda log: seen.append(log.unfinished())) as log:
            log.announce("one")
            log.announce("two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert seen == [["two", "one"]]
    assert history.unfinished
    with history.transaction() as log:
        assert log.unfinished() == ["two", "one"]
        log.forget()
        log.announce("three")
    assert not history.unfinished
    with history.transaction() as log:
        assert log.unfinished() == []


def test_what_is_committed_is_not_taken_back(history: SqliteHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process that died between its commit and the journal, the write is done: the note of it is left out."""
    monkeypatch.setattr(SqliteHistory, "_forget", lambda *_: None)
    with history.transaction() as log:
        log.announce("done")
    assert history.unfinished
    with history.transaction() as log:
        assert log.unfinished() == []
        log.announce("next")
        assert log.unfinished() == ["next"]


def test_what_another_has_announced_since_stays(history: SqliteHistory) -> None:
    """Who has committed forgets what it announced itself, and not what somebody else notes by then."""
    with history.transaction() as log:
        log.announce("ours")
        history._journal.append(2, "theirs")
    with history.transaction() as log:
        assert log.unfinished() == ["theirs"]


def test_nobody_writes_while_a_write_is_taken_back(history: SqliteHistory) -> None:
    """Some failures of SQLite's end the transaction: it is begun anew before anything is undone."""
    connection = history._connection
    assert connection is not None
    inside: list[bool] = []

    def fail() -> None:
        with history.transaction(lambda _: inside.append(connection.in_transaction)) as log:
            log.announce("step")
            connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(HistoryError, match="full") as caught:
        fail()
    assert caught.value.retryable
    assert inside == [True]
    assert not connection.in_transaction


def test_what_a_refused_step_announced_is_withdrawn(history: SqliteHistory) -> None:
    """A note that is taken back is no longer there for whoever undoes the steps before it."""
    with history.transaction() as log:
        log.announce("done")
        log.announce("refused")()
        assert log.unfinished() == ["done"]


@pytest.mark.parametrize(("number", "retryable"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_a_note_that_cannot_be_written(
    history: SqliteHistory, monkeypatch: pytest.MonkeyPatch, number: int, retryable: bool
) -> None:
    """Where there is no room for it, the write may be tried again, and the way out is told; nothing was done."""

    def refuse(*_: object) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr(Journal, "append", refuse)

    def write() -> None:
        with history.transaction() as log:
            log.append([entry("a")])
            log.announce("x")

    with pytest.raises(HistoryError, match="cannot note what is being done") as caught:
        write()
    assert caught.value.retryable is retryable
    assert ("Free some space" in str(caught.value)) is retryable
    assert not history.known()


# -- Mem0's messages -------------------------------------------------------------------------


def test_the_last_messages_of_a_session(history: SqliteHistory) -> None:
    """The last ten are kept, and told oldest first; a limit takes the newest; other sessions keep theirs."""
    history.save_messages([{"role": "user", "content": "of bo", "name": "Bo"}], "user_id=bo")
    for first in (0, 6):
        said = [{"role": "user", "content": str(number)} for number in range(first, first + 6)]
        history.save_messages(said, "user_id=alex")
    assert [found["content"] for found in history.get_last_messages("user_id=alex", 99)] == list(map(str, range(2, 12)))
    assert [found["content"] for found in history.get_last_messages("user_id=alex", 2)] == ["10", "11"]
    (other,) = history.get_last_messages("user_id=bo")
    assert (other["role"], other["content"], other["name"]) == ("user", "of bo", "Bo")


def test_an_entry_of_mem0s_has_the_scope_that_is_known() -> None:
    """What Mem0 writes without a scope is of the owner that the store knows, else of the one in the log."""
    stored = {"a": Scope("alex"), "b": Scope("bo")}
    history = SqliteHistory(MEMORY, "memories", stored.get)
    history.add_history("a", None, "tea", "ADD", created_at="2026-01-31T08:00:00+00:00", role="user")
    history.add_history("b", None, "rain", "ADD", actor_id="Bo", role="user")
    del stored["a"]
    history.add_history("a", "tea", None, "DELETE", is_deleted=1)
    history.add_history("c", None, "nobody's", "ADD")
    assert [change.scope for change in history.changes("a")] == [Scope("alex")] * 2
    assert history.changes("b")[0].scope == Scope("bo")
    assert history.changes("c")[0].scope == Scope()
    assert history.changes("a")[0].at == datetime(2026, 1, 31, 8, tzinfo=timezone.utc)
    shown = history.get_history("a")
    assert [found["is_deleted"] for found in shown] == [False, True]
    assert [found["created_at"] for found in shown] == [shown[0]["updated_at"]] * 2
    assert (shown[0]["actor_id"], shown[0]["role"]) == (None, "user")
    assert history.get_history("b")[0]["actor_id"] == "Bo"
    assert history.living() == 2
    history.close()


# -- what is told ----------------------------------------------------------------------------


def test_what_is_gone_is_told_in_the_order_that_it_came(history: SqliteHistory) -> None:
    """Memories that are not among the living are told oldest first, whatever became of them later."""
    with history.transaction() as log:
        log.append([entry("b"), entry("a"), entry("c"), entry("of bo", scope=Scope("bo")), entry("b", "DELETE")])
    assert history.departed(ALEX, {"c"}) == ["b", "a"]
    assert history.departed(Scope(), {"c"}) == ["b", "a", "of bo"]


def test_what_begins_comes_before_what_it_ends(history: SqliteHistory) -> None:
    """In a chain that was imported memory by memory, a memory is added before it supersedes another at that instant."""
    noon = utcnow()
    over = Change(memory_id="a", event="SUPERSEDE", at=noon, scope=ALEX, superseded_by="b")
    first, second = (Change(memory_id=name, event="ADD", at=noon, scope=ALEX) for name in "ab")
    with history.transaction() as log:
        log.append([first, over, second])
    told = [(change.memory_id, change.event) for change in history.chain("b")]
    assert told == [("a", "ADD"), ("b", "ADD"), ("a", "SUPERSEDE")]


# -- positions and what waits ----------------------------------------------------------------


def test_a_run_goes_on_behind_the_farthest_position(history: SqliteHistory) -> None:
    """Positions that an import noted, in whatever order, are not taken a second time."""
    with history.transaction() as log:
        assert log.advance(ALEX, 2) == 0
        log.reach(ALEX, 7)
        log.reach(ALEX, 3)
        assert log.advance(ALEX, 2) == 8
        assert log.advance(ALEX, 1) == 10
        log.reach(Scope("bo"), 0)
        assert log.advance(Scope("bo"), 1) == 1


def test_an_entry_is_restored_once(history: SqliteHistory) -> None:
    """What a history gave and is given again is there once; another entry of the same memory is added."""
    with history.transaction() as log:
        log.append([entry("a"), entry("a", "UPDATE"), entry("a", "UPDATE")])
    given = history.entries("a", ALEX)
    with history.transaction() as log:
        log.restore("a", given)
        log.restore("a", [{**given[1], "id": "another"}])
    ids = [found["id"] for found in given]
    assert [found["id"] for found in history.entries("a", ALEX)] == [*ids[:2], "another", ids[2]]  # as they happened


def test_what_waits_waits_once_and_until_its_end(history: SqliteHistory) -> None:
    """The same change has one token, with the content and the end that it was last given; what is over is forgotten."""
    now = utcnow()

    def waiting(token: str, content: str, minutes: int) -> Waiting:
        return Waiting(token, ALEX, "same", content, now, now + timedelta(minutes=minutes))

    def over(log: Transaction, minutes: int) -> bool:
        log.waiting.forget_expired(now + timedelta(minutes=minutes))
        return log.waiting.get("one") is None

    with history.transaction() as log:
        assert log.waiting.put(waiting("one", "old", 1)) == "one"
        assert log.waiting.put(waiting("two", "new", 5)) == "one"
        assert log.waiting.get("two") is None
        found = log.waiting.of("same")
        assert found is not None
        assert (found.token, found.content, found.expires_at) == ("one", "new", now + timedelta(minutes=5))
        assert not over(log, 4)
        assert over(log, 5)
        log.waiting.put(waiting("three", "newer", 1))
        assert log.waiting.take("three")
        assert not log.waiting.take("three")


# -- files -----------------------------------------------------------------------------------


def test_collections_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    """To clear one collection, or to let its changes expire, leaves the others as they are."""
    first, second = (SqliteHistory(tmp_path / "history.db", name) for name in ("first", "second"))
    now = utcnow()
    for history in (first, second):
        with history.transaction() as log:
            log.append([entry("a")])
            log.waiting.put(Waiting("t", ALEX, "f", "content", now, now))
    with first.transaction() as log:
        log.waiting.forget_expired(now)
    assert second.waiting("t") is not None
    first.clear()
    assert (first.known(), first.living()) == (False, 0)
    assert (second.known(), second.living()) == (True, 1)
    first.close()
    second.close()


@pytest.mark.parametrize("version", [-1, 3])
def test_a_version_that_this_release_does_not_read(tmp_path: Path, version: int) -> None:
    """A file of a later release is left as it is, with the way out."""
    path = tmp_path / "history.db"
    SqliteHistory(path, "memories").close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(HistoryError, match=r"has version -?\d, and this release reads up to 2.*Upgrade memstack"):
        SqliteHistory(path, "memories")
