"""Export and import: everything is kept, from an engine into itself and into the embedded default and back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import stat
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import AsyncMemoryGateway, MemoryGateway, Preference, Project, open_memory
from memstack.errors import InvalidInput, MemoryNotFound, PendingNotFound, ProviderError
from memstack.gateway.exported import vector_text
from memstack.testing.contract.strategies import examples

OpenHere = Callable[..., MemoryGateway]


def fill(memory: MemoryGateway) -> list[str]:
    """Memories of every kind; returns the ids, that of a deleted one among them."""
    alex = memory.for_user("alex")
    said = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    note = {"n": 2**60, "f": 0.1 + 0.2, "day": date(2026, 1, 2), "at": said, "deep": {"$x": [1, True, "é"]}, "e": []}
    first = alex.add(
        {"role": "user", "content": 'said "so" — ünïcode', "name": "Al", "occurred_at": said}, metadata=note
    )
    alex.update(first.stored[0].id, text="said otherwise", expires_at="2999-01-01")
    for value in ("morning", "evening"):
        preference = Preference(key="time", value=value)
        alex.add(f"I prefer the {value}", metadata=preference, on_conflict="supersede")
    alex.add("I lead Phoenix", metadata=Project(name="Phoenix", deadline=date(2026, 3, 1)), valid_from="2026-01-01")
    (gone,) = alex.add("no longer here").stored
    alex.delete(gone.id)
    memory.add("in a run", user_id="bo", run_id="r1", agent_id="bot")
    return [*(item.id for item in memory.iter_all(user_id="bo")), gone.id, *_ids(alex)]


def _ids(alex: MemoryGateway) -> list[str]:
    then = {item.id for item in alex.iter_all(as_of="2998-01-01")}
    return sorted({*then, *(change.memory_id for key in then for change in alex.history(key))})


def everything(memory: MemoryGateway, ids: list[str]) -> dict[str, Any]:
    """All that can be seen of some memories."""
    found: dict[str, Any] = {}
    for key in ids:
        changes = memory.history(key)
        found[key] = (changes, None if changes[-1].event == "DELETE" else memory.get(key))
    return found


def copy(source: MemoryGateway, target: MemoryGateway, **options: Any) -> Any:
    stream = io.StringIO()
    report = source.export(stream, **options)
    stream.seek(0)
    imported = target.import_(stream)
    assert imported.complete
    assert imported.checksum == report.checksum
    assert imported.failed == ()
    return imported


def test_from_one_engine_into_another_and_back(open_here: OpenHere, tmp_path: Path) -> None:
    """Ids, times, typed metadata, what superseded what and histories are equal in the default engine, and back here."""
    here = open_here(tmp_path / "here")
    ids = fill(here)
    before = everything(here, ids)
    with open_memory({"vector_store": {"path": str(tmp_path / "default")}}) as default:
        copy(here, default)
        assert everything(default, ids) == before
        back = open_here(tmp_path / "back")
        copy(default, back, vectors=True)
        assert everything(back, ids) == before
        query = "when do I like to work?"
        scores = [(hit.id, hit.score) for hit in here.search(query, user_id="alex")]
        again = [(hit.id, hit.score) for hit in back.search(query, user_id="alex")]
        assert [key for key, _ in scores] == [key for key, _ in again]
        assert [score for _, score in scores] == pytest.approx([score for _, score in again], abs=1e-3)


def test_vectors_spare_the_embedder(open_here: OpenHere, tmp_path: Path) -> None:
    """With vectors of the same embedder nothing is embedded; without, everything."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    fill(here)
    assert copy(here, there, vectors=True).embedded == 0
    other = open_here(tmp_path / "other")
    report = copy(here, other)
    assert report.embedded == report.memories == 5


@pytest.mark.parametrize("changed", ["provider", "model"])
def test_vectors_of_another_embedder_are_not_taken(open_here: OpenHere, tmp_path: Path, changed: str) -> None:
    """Vectors that another embedder made are made anew, though they have as many dimensions."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    fill(here)
    stream = io.StringIO()
    here.export(stream, vectors=True)
    first, *lines = stream.getvalue().splitlines()
    head = json.loads(first)
    head["embedder"][changed] = "another"
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if "vector" in row:
            row["vector"] = vector_text([1.0] * head["embedder"]["dimensions"])
    report = there.import_(io.StringIO("\n".join(json.dumps(line) for line in (head, *rows))))
    assert (report.stored, report.embedded) == (5, 5)
    query = "when do I like to work?"
    scores = {hit.id: hit.score for hit in here.search(query, user_id="alex")}
    assert {hit.id: hit.score for hit in there.search(query, user_id="alex")} == pytest.approx(scores, abs=1e-3)


def test_an_import_goes_on_where_it_ended(open_here: OpenHere, tmp_path: Path) -> None:
    """A file that was cut short is imported as far as it goes, and told to be so; the whole one adds the rest."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    ids = fill(here)
    path = tmp_path / "all.jsonl"
    here.export(path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    cut = there.import_(io.StringIO("".join(lines[:3])))
    assert (cut.stored, cut.complete) == (2, False)
    whole = there.import_(path)
    assert (whole.stored, whole.present, whole.complete) == (3, 2, True)
    assert everything(there, ids) == everything(here, ids)
    assert there.import_(path).present == 5


def test_what_was_deleted_comes_back(memory: MemoryGateway) -> None:
    """The history of a memory that was deleted, and is imported again, ends with its being there."""
    ids = fill(memory)
    stream = io.StringIO()
    memory.export(stream)
    living = memory._core.parts.history.living()
    for owner in ("alex", "bo"):
        memory.delete_all(user_id=owner)
    stream.seek(0)
    assert memory.import_(stream).stored == 5
    assert memory._core.parts.history.living() == living
    for key in ids:
        events = [change.event for change in memory.history(key) if change.memory_id == key]
        assert events[-2:] == ["ADD", "DELETE"] if events[-1] == "DELETE" else ["DELETE", "ADD"]


def test_a_deletion_that_is_imported_over_a_living_memory(open_here: OpenHere, tmp_path: Path) -> None:
    """What is here stays, and its history ends with its being there: once, however often the file is read."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    (stored,) = here.add("I drink tea", user_id="alex").stored
    copy(here, there)
    here.delete(stored.id)
    for _ in range(2):
        assert copy(here, there).memories == 0
        assert there.get(stored.id) == stored
        told = [(change.event, change.reason) for change in there.history(stored.id)]
        assert told == [("ADD", None), ("DELETE", None), ("ADD", "imported")]
        assert there._core.parts.history.living() == 1


@pytest.mark.parametrize("deleted", ["here", "there"])
def test_histories_that_went_apart(open_here: OpenHere, tmp_path: Path, deleted: str) -> None:
    """What happened to a memory in two places is told in the order of time, and last of all whether it is there."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    (stored,) = here.add("I drink tea", user_id="alex").stored
    copy(here, there)
    if deleted == "here":
        here.delete(stored.id)
        now = there.update(stored.id, text="I drink coffee")
    else:
        now = here.update(stored.id, text="I drink coffee")
        there.delete(stored.id)
    copy(here, there)
    assert there.get(stored.id) == now
    changes = there.history(stored.id)
    events = ["ADD", "DELETE", "UPDATE"] if deleted == "here" else ["ADD", "UPDATE", "DELETE", "ADD"]
    assert [change.event for change in changes] == events
    assert [change.at for change in changes] == sorted(change.at for change in changes)
    there.update(stored.id, text="I drink water")
    assert [change.event for change in there.history(stored.id)] == [*events, "UPDATE"]


def test_two_imports_at_once(open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another import stores while ours is under way is not written over: it is present, or taken."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    ids = fill(here)
    stream = io.StringIO()
    here.export(stream)
    (key,) = (item.id for item in here.iter_all(user_id="bo"))
    here.update(key, text="changed meanwhile")
    other = io.StringIO()
    here.for_user("bo").export(other)
    embedder = there._core.parts.embedder
    vectors = embedder.vectors

    def meanwhile(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        monkeypatch.setattr(embedder, "vectors", vectors)
        other.seek(0)
        assert there.import_(other).stored == 1
        return vectors(texts)

    monkeypatch.setattr(embedder, "vectors", meanwhile)
    stream.seek(0)
    report = there.import_(stream)
    assert (report.stored, report.present, len(report.failed)) == (4, 0, 1)
    assert "taken, with other content" in report.failed[0].reason
    assert there.get(key, user_id="bo").text == "changed meanwhile"
    assert everything(there, ids) == everything(here, ids)


def test_an_id_that_is_there_twice_in_a_file(open_here: OpenHere, tmp_path: Path) -> None:
    """The first memory of an id counts: an equal one is there then; of other content, or of others, it is taken."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    (tea,) = here.add("tea", user_id="alex").stored
    (gone,) = here.add("gone", user_id="alex").stored
    here.delete(gone.id)
    stream = io.StringIO()
    here.export(stream)
    head, first, departed, _ = stream.getvalue().splitlines(keepends=True)
    twice = [first, first.replace("tea", "coffee"), departed, departed.replace('"alex"', '"bo"')]
    report = there.import_(io.StringIO("".join([head, first, *twice])))
    assert (report.stored, report.present) == (1, 1)
    assert [item.index for item in report.failed] == [2, 4]
    assert all("is taken" in item.reason for item in report.failed)
    assert there.get(tea.id, user_id="alex").text == "tea"
    assert {change.scope.user_id for change in there.history(gone.id)} == {"alex"}
    record = json.loads(first)
    fields = json.loads(record["payload"])
    record["payload"] = json.dumps(dict(reversed(fields.items())))
    assert there.import_(io.StringIO(f"{head}{json.dumps(record)}")).present == 1, "the order of fields means nothing"


def test_an_import_that_fails_tells_whether_it_may_help_to_call_again(
    open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the embedder is away, each memory is in `failed`, by its place in the file; the next import stores it."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    fill(here)
    stream = io.StringIO()
    here.export(stream)
    lines = stream.getvalue().splitlines(keepends=True)
    lines.insert(3, "no JSON\n")

    def refuse(_: Sequence[str]) -> Any:
        raise ProviderError("embed", "model", "is away", retryable=True)

    with monkeypatch.context() as away:
        away.setattr(there._core.parts.embedder, "vectors", refuse)
        failed = there.import_(io.StringIO("".join(lines))).failed
    assert [(item.index, item.retryable) for item in failed] == [(n, n != 2) for n in range(7)]
    stream.seek(0)
    assert there.import_(stream).stored == 5


def test_positions_go_on(open_here: OpenHere, tmp_path: Path) -> None:
    """A message after an import has the next place of its run."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    here.add(["a", "b"], user_id="bo", run_id="r")
    copy(here, there)
    (stored,) = there.add("c", user_id="bo", run_id="r").stored
    assert stored.source[0].position == 2


def test_a_scope_is_exported_alone(memory: MemoryGateway, tmp_path: Path) -> None:
    """A handle exports its own, and imports nothing of others."""
    fill(memory)
    path = tmp_path / "bo.jsonl"
    assert memory.for_user("bo").export(path).memories == 1
    assert "alex" not in path.read_text(encoding="utf-8")
    refused = memory.for_user("alex").import_(path)
    assert (refused.stored, len(refused.failed)) == (0, 1)


def test_what_waits_and_keys_stay(open_here: OpenHere, tmp_path: Path) -> None:
    """Tokens, what waits under them, and idempotency keys are in no export; equal memories are known without a key."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    alex = here.for_user("alex")
    alex.add("I drink tea", idempotency_key="key-of-alex")
    alex.add("mornings", metadata=Preference(key="time", value="morning"))
    evening = Preference(key="time", value="evening")
    (waiting,) = alex.add("evenings perhaps", metadata=evening, on_conflict="ask").pending
    path = tmp_path / "all.jsonl"
    here.export(path)
    text = path.read_text(encoding="utf-8")
    assert [word for word in ("key-of-alex", waiting.token, "evenings perhaps") if word in text] == []
    there.import_(path)
    with pytest.raises(PendingNotFound):
        there.for_user("alex").confirm(waiting.token)
    again = there.for_user("alex").add("I drink tea", idempotency_key="key-of-alex")
    assert [item.reason for item in again.skipped] == ["duplicate"]


def test_a_dry_run_stores_nothing(open_here: OpenHere, tmp_path: Path) -> None:
    """It reads and checks everything."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    fill(here)
    here.export(tmp_path / "all.jsonl")
    report = there.import_(tmp_path / "all.jsonl", dry_run=True)
    assert (report.memories, report.stored, report.complete) == (5, 0, True)
    assert there.stats()["vector_store"]["rows"] == 0


@pytest.mark.parametrize(
    "content", ["", "{}\n", "[1]\n", "not json\n", '{"format": "memstack-export", "version": 9}\n']
)
def test_what_is_no_export_is_refused(memory: MemoryGateway, content: str) -> None:
    """Nothing is stored of a file of something else."""
    with pytest.raises(InvalidInput, match="import"):
        memory.import_(io.StringIO(content))


def test_broken_lines_are_told(memory: MemoryGateway, tmp_path: Path) -> None:
    """A line that cannot be read is in `failed`; the others are stored, and the file counts as incomplete."""
    fill(memory)
    path = tmp_path / "all.jsonl"
    memory.export(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    for broken in ("{", "3", '{"id": "x"}', json.dumps({**json.loads(lines[1]), "payload": "{"})):
        with open_memory({"vector_store": {"provider": "qdrant", "mode": "memory"}}) as there:
            report = there.import_(io.StringIO("\n".join([lines[0], broken, *lines[2:]])))
            assert len(report.failed) == 1
            assert not report.complete
            assert report.stored == 4


def test_what_is_there_with_other_content_stops_nothing_else(open_here: OpenHere, tmp_path: Path) -> None:
    """A memory that was changed here since then is left as it is, and told; the others of the file are stored."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    ids = [item.id for item in here.add(["tea", "walks", "rain"], user_id="alex").stored]
    here.export(tmp_path / "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    there.import_(io.StringIO("\n".join(lines[:2])))
    there.update(ids[0], text="coffee")
    report = there.import_(tmp_path / "all.jsonl")
    assert (report.stored, len(report.failed)) == (2, 1)
    assert ids[0] in report.failed[0].reason
    assert {item.text for item in there.get_all(user_id="alex")} == {"coffee", "walks", "rain"}
    twice = io.StringIO("\n".join([*lines[:2], lines[1], *lines[2:]]))
    assert there.import_(twice, user_id="alex").stored == 0


def test_history_of_somebody_else_is_refused(open_here: OpenHere, tmp_path: Path) -> None:
    """A handle takes no memory in whose history another's entries were put."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    (known,) = there.add("Bo drinks tea", user_id="bo").stored
    here.add("Alex drinks tea", user_id="alex")
    here.export(tmp_path / "all.jsonl")
    head, line, end = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    forged = {**record["history"][0], "id": "forged", "user_id": "bo", "new_text": "Bo drinks poison"}
    for bad in (
        {**record, "history": [forged, *record["history"]]},
        {"id": known.id, "history": [forged, *record["history"]]},
    ):
        report = there.for_user("alex").import_(io.StringIO("\n".join([head, json.dumps(bad), end])))
        assert (report.stored, len(report.failed), report.complete) == (0, 1, False)
    assert [change.new_text for change in there.history(known.id)] == ["Bo drinks tea"]


@pytest.mark.parametrize("scope", [{}, {"user_id": "alex"}], ids=["anybody's", "a scope"])
def test_what_is_nobodys_is_refused(memory: MemoryGateway, open_here: OpenHere, tmp_path: Path, scope: Any) -> None:
    """A memory, or a history alone, that names no owner is in `failed`: no verb could reach it."""
    memory.add("Alex drinks tea", user_id="alex")
    memory.export(tmp_path / "all.jsonl")
    head, line, _ = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    payload = {key: value for key, value in json.loads(record["payload"]).items() if key != "user_id"}
    nobodys = {**record["history"][0], "user_id": None}
    there = open_here(tmp_path / "there")
    for bad in (
        {**record, "payload": json.dumps(payload)},
        {**record, "payload": json.dumps(payload), "history": []},
        {"id": record["id"], "history": [nobodys]},
        {"id": record["id"], "history": []},
    ):
        report = there.import_(io.StringIO(f"{head}\n{json.dumps(bad)}\n"), **scope)
        assert (report.stored, report.changes, len(report.failed)) == (0, 0, 1)
    assert (there.stats()["vector_store"]["rows"], there.stats()["history"]["changes"]) == (0, 0)


@pytest.mark.parametrize(
    "change",
    [
        *({"_memstack": {"source": [["user", None, place]]}} for place in (-1, 2**62, 2**80, True, 1.5, "1")),
        *({"_memstack": {"source": [[role, None, 0]]}} for role in (5, "\0")),
        *({"agent_id": "bot", "user_id": owner} for owner in ("", 5, " alex")),
        {"superseded_by": "x"},
        {"deep": json.loads("[" * 300 + "]" * 300)},
    ],
    ids=str,
)
def test_what_no_verb_writes_is_refused(memory: MemoryGateway, tmp_path: Path, change: dict[str, Any]) -> None:
    """A memory with an id, a place in its run or a nesting that no verb could have written is in `failed`."""
    memory.add("Alex drinks tea", user_id="alex")
    memory.export(tmp_path / "all.jsonl")
    head, line, _ = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    record: dict[str, Any] = {**json.loads(line), "id": str(uuid.uuid4()), "history": []}
    intact = memory.import_(io.StringIO(f"{head}\n{json.dumps(record)}\n"), dry_run=True)
    assert (intact.memories, intact.failed) == (1, ())
    record["payload"] = json.dumps({**json.loads(record["payload"]), **change})
    report = memory.import_(io.StringIO(f"{head}\n{json.dumps(record)}\n"))
    assert (report.stored, len(report.failed)) == (0, 1)


ODD: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [None, 5, -1, 1e308, 2**80, True, "", "x", "\ud800", "a\0b", "2026-99-99", [], [{}], {}, {"$x": 1}, {"$pairs": 1}]
)


def damaged(choose: Callable[[st.SearchStrategy[Any]], Any], content: Any) -> Any:
    """Content with one place in it replaced, or left out."""
    if not isinstance(content, (dict, list)) or not content or choose(st.integers(0, 5)) == 0:
        return choose(ODD)
    changed: Any = content.copy()
    key = choose(st.sampled_from(list(content) if isinstance(content, dict) else range(len(content))))
    if isinstance(content, dict) and choose(st.integers(0, 5)) == 0:
        del changed[key]
    else:
        changed[key] = damaged(choose, content[key])
    return changed


def meaning(line: str) -> str:
    """A line but for its vector, which can be made anew, and for how its payload is spelled."""
    content = json.loads(line)
    if isinstance(content, dict):
        content.pop("vector", None)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            content["payload"] = json.loads(content["payload"])
    return json.dumps(content, sort_keys=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """The lines of an export with vectors, and the ids in it."""
    with open_memory({"vector_store": {"path": str(tmp_path_factory.mktemp("exported"))}}) as memory:
        ids = fill(memory)
        stream = io.StringIO()
        memory.export(stream, vectors=True)
    return stream.getvalue().splitlines(), ids


@examples(80)
@given(st.data())
def test_a_damaged_file_breaks_nothing(
    shared_memory: MemoryGateway, exported: tuple[list[str], list[str]], data: st.DataObject
) -> None:
    """Whatever stands in a line, it is told; what was stored of the file, every verb can read, export and erase."""
    lines, ids = list(exported[0]), exported[1]
    place = data.draw(st.integers(0, len(lines) - 1))
    record = json.loads(lines[place])
    if "payload" in record and data.draw(st.booleans()):
        record["payload"] = json.dumps(damaged(data.draw, json.loads(record["payload"])))
    else:
        record = damaged(data.draw, record)
    changed = json.dumps(record)
    same = meaning(changed) == meaning(lines[place])
    lines[place] = changed
    shared_memory.reset()
    try:
        report = shared_memory.import_(io.StringIO("\n".join(lines)))
    except InvalidInput:
        assert place == 0
        assert shared_memory.stats()["vector_store"]["rows"] == 0
        return
    assert same or place == 0 or not report.complete
    for user in ("alex", "bo"):
        shared_memory.search("when?", user_id=user)
        shared_memory.search("", user_id=user, schema=Preference)
        for item in shared_memory.iter_all(user_id=user, as_of="2998-01-01"):
            item.to_dict()
    for key in ids:
        with contextlib.suppress(MemoryNotFound):
            shared_memory.history(key)
    shared_memory.add("nights", user_id="alex", metadata=Preference(key="time", value="night"), on_conflict="supersede")
    shared_memory.export(io.StringIO(), vectors=True)
    assert shared_memory.erase(user_id="alex", compact=False).memories >= 1
    assert shared_memory.get_all(user_id="alex", as_of="2998-01-01").memories == ()


def test_a_failed_export_leaves_no_file(memory: MemoryGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written whole or not at all."""
    fill(memory)
    path = tmp_path / "all.jsonl"

    def fail(*_: Any) -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr(memory._core.parts.history, "departed", fail)
    with pytest.raises(OSError, match="disk"):
        memory.export(path)
    assert list(tmp_path.glob("*all*")) == []


def test_an_export_where_nothing_can_be_written(
    memory: MemoryGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only file system refuses to make a file, and to remove one that is not there: the first is told."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    memory.add("tea", user_id="alex")
    monkeypatch.setattr("memstack.gateway.files.open", refuse, raising=False)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InvalidInput, match="cannot be written"):
        memory.export(tmp_path / "all.jsonl")


def test_an_export_is_on_the_disk_before_it_takes_its_place(
    memory: MemoryGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine stops, the file is the old one or the whole new one: it is on the disk before that."""
    memory.add("tea", user_id="alex")
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    synced: list[tuple[bool, str]] = []
    fsync = os.fsync

    def told(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        fsync(handle)
        synced.append((is_folder, target.read_text().splitlines()[-1]))
        if not is_folder:
            assert os.fstat(handle).st_size > len("old")

    monkeypatch.setattr(os, "fsync", told)
    memory.export(target)
    (first, old), (last, whole) = synced
    assert (first, old, last) == (False, "old", True)
    assert json.loads(whole)["end"] is True


def test_an_export_touches_its_own_file_alone(memory: MemoryGateway, tmp_path: Path) -> None:
    """A file beside it keeps its content, a link its meaning, a file its permissions; a new one has the usual ones."""
    memory.add("tea", user_id="alex")
    folder, linked, beside = tmp_path / "folder", tmp_path / "linked.jsonl", tmp_path / "folder" / "all.jsonl.part"
    folder.mkdir()
    beside.write_text("mine", encoding="utf-8")
    linked.symlink_to(folder / "all.jsonl")
    memory.export(linked)
    assert linked.is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["all.jsonl", "all.jsonl.part"]
    assert beside.read_text(encoding="utf-8") == "mine"
    assert (folder / "all.jsonl").stat().st_mode == beside.stat().st_mode
    (folder / "all.jsonl").chmod(0o600)
    memory.export(linked)
    assert stat.S_IMODE((folder / "all.jsonl").stat().st_mode) == 0o600
    assert memory.import_(linked).present == 1


def test_an_export_into_a_file_of_the_longest_name(memory: MemoryGateway, tmp_path: Path) -> None:
    """A name may be as long as the system allows, also in letters of several bytes."""
    memory.add("tea", user_id="alex")
    for name in ("a" * 255, "é" * 127):
        memory.export(tmp_path / name)
        assert memory.import_(tmp_path / name).present == 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_an_export_into_an_open_file(memory: MemoryGateway, tmp_path: Path) -> None:
    """A file that is open and has no name any more is written to as it is, and no other beside it."""
    memory.add("tea", user_id="alex")
    path = tmp_path / "all.jsonl"
    with path.open("w+", encoding="utf-8") as stream:
        path.unlink()
        memory.export(f"/proc/self/fd/{stream.fileno()}")
        assert memory.import_(stream).present == 1
    assert not list(tmp_path.glob("*all*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_export_into_a_pipe(memory: MemoryGateway, tmp_path: Path) -> None:
    """What is no file stays what it is, and gets what a file would."""
    memory.add("tea", user_id="alex")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text, encoding="utf-8")
        memory.export(pipe)
        assert len(read.result(timeout=60).splitlines()) == 3
    assert pipe.is_fifo()


NO_FILES: Final[dict[str, Any]] = {
    "empty": "", "a folder": ".", "in no folder": "missing/all.jsonl", "NUL": "a\0b", "lone surrogate": "a\ud800b",
    "a stream of bytes": io.BytesIO(), "a stream's class": io.StringIO, "None": None, "a number": 5, "a list": [],
    "bytes": b"x",
}  # fmt: skip


@pytest.mark.parametrize("odd", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_refused(shared_memory: MemoryGateway, odd: Any) -> None:
    """The error names the argument and the way out, in threads too."""
    for call, field in ((shared_memory.export, "target"), (shared_memory.import_, "source")):
        with pytest.raises(InvalidInput, match="Pass the path of a file") as caught:
            call(odd)
        assert caught.value.field == field

    async def calls() -> None:
        memory = AsyncMemoryGateway(shared_memory)
        for call in (memory.export, memory.import_):
            with pytest.raises(InvalidInput):
                await call(odd)

    asyncio.run(calls())


def test_streams_that_fail_are_told(memory: MemoryGateway, tmp_path: Path) -> None:
    """A closed one, one of another encoding, one without room: the error tells which, and nothing of the text."""
    memory.add("tea — 茶", user_id="alex")
    path = tmp_path / "all.jsonl"
    memory.export(path)
    closed = io.StringIO()
    closed.close()
    for call in (memory.export, memory.import_):
        with pytest.raises(InvalidInput, match="closed"):
            call(closed)
    with pytest.raises(InvalidInput, match="no place in ascii") as caught:
        memory.export(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert "茶" not in str(caught.value)
    with path.open(encoding="ascii") as stream, pytest.raises(InvalidInput, match="not ascii"):
        memory.import_(stream)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device without room")
def test_no_room_for_an_export(memory: MemoryGateway) -> None:
    """It is told as an error of ours."""
    memory.add("tea", user_id="alex")
    with pytest.raises(InvalidInput, match="No space left"):
        memory.export("/dev/full")


def test_bytes_that_are_no_text_spoil_one_memory(open_here: OpenHere, tmp_path: Path) -> None:
    """A byte that is no UTF-8 is told for its line; the rest is stored. A byte order mark is passed over."""
    here, there = open_here(tmp_path / "here"), open_here(tmp_path / "there")
    here.add(["tea", "walks", "rain"], user_id="alex")
    path = tmp_path / "all.jsonl"
    here.export(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"walks", b"wa\xffks"))
    report = there.import_(path)
    assert (report.stored, len(report.failed), report.complete) == (2, 1, False)
    assert "UTF-8" in report.failed[0].reason
    assert {item.text for item in there.get_all(user_id="alex")} == {"tea", "rain"}
    with path.open(encoding="utf-8", errors="surrogateescape") as stream:
        assert there.import_(stream).present == 2


def _one_line(memory: MemoryGateway) -> tuple[str, dict[str, Any]]:
    """The head of an export of one memory of alex, and its line."""
    memory.add("tea at eight", user_id="alex")
    written = io.StringIO()
    memory.export(written, user_id="alex")
    head, line, _ = written.getvalue().splitlines()
    return head, json.loads(line)


@pytest.mark.parametrize("name", ["text_lemmatized", "_memstack", "id"])
def test_half_a_character_in_any_field_spoils_one_memory(open_here: OpenHere, tmp_path: Path, name: str) -> None:
    """A lone surrogate where nobody looks for a text is told of its line, and the others come in."""
    head, record = _one_line(open_here(tmp_path))
    spoilt = {**json.loads(record["payload"]), name: {"x": "\ud800"}}
    bad = {**record, "id": str(uuid.uuid4()), "payload": json.dumps(spoilt)}
    other = open_here(tmp_path / "other")
    report = other.for_user("alex").import_(io.StringIO("\n".join([head, json.dumps(bad), json.dumps(record)])))
    assert [item.index for item in report.failed] == [0]
    assert [item.text for item in other.get_all(user_id="alex")] == ["tea at eight"]


@pytest.mark.parametrize("lines", [1, 5_000])
def test_a_long_history_takes_no_longer_than_its_length(open_here: OpenHere, tmp_path: Path, lines: int) -> None:
    """Thousands of entries for one memory, in one line or in many, are read in seconds, each once, in their order."""
    head, record = _one_line(open_here(tmp_path))
    (entry,) = record["history"]
    entries = [{**entry, "id": str(number), "reason": str(number)} for number in range(10_000)]
    entries += entries[:100]
    size = len(entries) // lines
    parts = [{**record, "history": entries[start : start + size]} for start in range(0, len(entries), size)]
    other = open_here(tmp_path / "other")
    began = time.perf_counter()
    report = other.import_(io.StringIO("\n".join([head, *map(json.dumps, parts)])))
    assert time.perf_counter() - began < 10
    assert not report.failed
    assert [change.reason for change in other.history(record["id"])] == [str(number) for number in range(10_000)]
