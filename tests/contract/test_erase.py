"""Erasing: of a scope nothing remains, in no verb, no table and no byte; everybody else's memory is as it was."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memstack import ErasureReceipt, MemoryGateway, Preference
from memstack.errors import MemoryNotFound, PendingNotFound, ScopeError
from memstack.gateway import residue
from memstack.gateway.residue import needles, search
from memstack.history import SqliteHistory
from memstack.stores.base import ENTITIES, Row

OpenHere = Callable[..., MemoryGateway]

_TEXTS = (
    "The quokka of Zanzibar sleeps until noon",
    "Wombats in Ouagadougou prefer mornings",
    "Wombats in Ouagadougou prefer evenings",
    "Pangolins of Tegucigalpa are waiting",
    "An okapi from Antananarivo was deleted",
    "A tapir from Reykjavik was said in a run",
    "Numbats of Paramaribo in a message of Mem0",
)


class Words:
    """What is erased: words that no test before this one stored on the same server."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:8]
        self.said = [f"{text} {tag}" for text in _TEXTS]
        self.hidden = f"metadata-axolotl-of-Bishkek-{tag}"
        self.all = [*self.said, self.hidden]


@pytest.fixture
def words() -> Words:
    return Words()


def prefer(value: str) -> Preference:
    return Preference(key="time of day", value=value)


def fill(memory: MemoryGateway, words: Words) -> dict[str, Any]:
    """Something of everything that is kept of a user, and another user's."""
    alex = memory.for_user("alex")
    (first,) = alex.add(words.said[0], metadata={"note": words.hidden}, idempotency_key="key-of-alex").stored
    alex.add(words.said[1], metadata=prefer("morning"))
    alex.add(words.said[2], metadata=prefer("evening"), on_conflict="supersede")
    (waiting,) = alex.add(words.said[3], metadata=prefer("noon"), on_conflict="ask").pending
    (gone,) = alex.add(words.said[4]).stored
    alex.delete(gone.id)
    memory.add(words.said[5], user_id="alex", run_id="r=1&2", agent_id="bot")
    alex.update(first.id, metadata={"more": 1})
    history: Any = memory._core.parts.history
    history.save_messages([{"role": "user", "content": words.said[6]}], "agent_id=bot&run_id=r%3D1%262&user_id=alex")
    history.save_messages([{"role": "user", "content": "Bo's own words"}], "user_id=bo")
    memory.add("Bo drinks tea in the garden", user_id="bo", metadata={"n": 1})
    memory.add("Bo likes the colour of rain", user_id="bo", idempotency_key="key-of-bo")
    return {"first": first.id, "gone": gone.id, "token": waiting.token}


def files_of(memory: MemoryGateway, folder: Path) -> list[Path]:
    parts = memory._core.parts
    return [path for path in {*folder.rglob("*"), *parts.store.files(), *parts.history.files()} if path.is_file()]


def holding(files: Iterable[Path], texts: Iterable[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for path in files:
        content = _bytes(path)
        found.update((str(path), text) for text in texts if text.encode() in content)
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_nothing_of_a_scope_remains(memory: MemoryGateway, words: Words) -> None:
    """After ``erase`` no verb finds anything of the user, and the receipt counts what there was."""
    ids = fill(memory, words)
    receipt = memory.for_user("alex").erase()
    assert isinstance(receipt, ErasureReceipt)
    assert (receipt.memories, receipt.superseded, receipt.pending, receipt.messages) == (4, 1, 1, 1)
    assert receipt.changes >= 8
    assert receipt.keys == 1
    assert receipt.residue == ()
    alex = memory.for_user("alex")
    assert alex.search("") == []
    assert alex.get_all(as_of="2999-01-01").memories == ()
    for name in ("first", "gone"):
        with pytest.raises(MemoryNotFound):
            alex.history(ids[name])
    with pytest.raises(PendingNotFound):
        alex.confirm(ids["token"])
    again = alex.add(words.said[0], idempotency_key="key-of-alex")
    assert again.stored[0].source[0].position == 0


def test_everybody_else_is_as_before(memory: MemoryGateway, words: Words) -> None:
    """Erasing one user leaves another's memories, history, keys and messages."""
    fill(memory, words)
    bo = memory.for_user("bo")
    before = [(item, bo.history(item.id)) for item in bo.iter_all()]
    memory.erase(user_id="alex")
    assert [(item, bo.history(item.id)) for item in bo.iter_all()] == before
    assert not bo.add("Bo likes the colour of rain", idempotency_key="key-of-bo").stored
    history: Any = memory._core.parts.history
    assert [item["content"] for item in history.get_last_messages("user_id=bo")] == ["Bo's own words"]
    assert [hit.text for hit in bo.search("tea in the garden", limit=1)] == ["Bo drinks tea in the garden"]


def test_a_narrower_scope_erases_only_itself(memory: MemoryGateway, words: Words) -> None:
    """Erasing a run leaves the user's other memories."""
    fill(memory, words)
    receipt = memory.erase(user_id="alex", run_id="r=1&2")
    assert (receipt.memories, receipt.messages) == (1, 1)
    texts = {item.text for item in memory.iter_all(user_id="alex")}
    assert texts == {words.said[0], words.said[2]}


def test_no_byte_remains(open_here: OpenHere, tmp_path: Path, words: Words) -> None:
    """What a byte search finds before in the files of store and history, it finds nowhere after."""
    memory = open_here(tmp_path)
    fill(memory, words)
    before = holding(files_of(memory, tmp_path), words.all)
    assert {text for _, text in before} >= set(words.all), "the search finds what is there"
    receipt = memory.erase(user_id="alex")
    assert holding(files_of(memory, tmp_path), words.all) == set()
    assert receipt.residue == ()
    assert {item.text for item in memory.iter_all(user_id="bo")} == {
        "Bo drinks tea in the garden",
        "Bo likes the colour of rain",
    }
    memory.close()
    again = open_here(tmp_path)
    assert holding(files_of(again, tmp_path), words.all) == set()


def test_what_mem0_knows_of_names_is_erased_too(
    open_here: OpenHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the entities those of the user go, and every byte of them, or it is told where one is left; others stay."""
    memory = open_here(tmp_path / "memory")
    store = memory._core.parts.store
    named = {user: f"Entity of {user} {uuid.uuid4().hex}" for user in ("alex", "bo")}
    for user in named:
        memory.add("tea in the garden", user_id=user)
    with closing(store.sibling(ENTITIES)) as entities:
        entities.upsert(
            [
                Row(row.id, {**row.payload, "data": named[row.payload["user_id"]]}, row.vector)
                for rows in store.batches(size=10, vectors=True)
                for row in rows
            ]
        )
    left: list[str] = []
    with monkeypatch.context() as patched:
        for keeper in (store, memory._core.parts.history):
            path = tmp_path / type(keeper).__name__
            path.write_text(named["alex"], encoding="utf-8")
            left.append(str(path))
            patched.setattr(keeper, "files", partial(lambda files, path: [*files(), path], keeper.files, path))
        receipt = memory.erase(user_id="alex")
    assert (receipt.memories, receipt.entities, receipt.residue) == (1, 1, tuple(sorted(left)))
    with closing(store.sibling(ENTITIES)) as entities:
        assert [row.payload["data"] for row in entities.scan()] == [named["bo"]]
    assert holding(files_of(memory, tmp_path / "memory"), [named["alex"]]) == set()


def test_what_somebody_elses_history_has_is_no_residue(open_here: OpenHere, tmp_path: Path, words: Words) -> None:
    """Words that another one said, too, and deleted or changed since then, may stay: they are in that one's history."""
    memory = open_here(tmp_path)
    memory.add_many(words.said[:2], user_id="alex")
    deleted, changed = memory.add_many(words.said[:2], user_id="bo").stored
    memory.delete(deleted.id, user_id="bo")
    memory.update(changed.id, text="something else", user_id="bo")
    receipt = memory.erase(user_id="alex")
    assert (receipt.memories, receipt.residue) == (2, ())
    assert [change.old_text for change in memory.history(changed.id)] == [None, words.said[1]]


def test_a_soft_deletion_first_is_no_way_around(open_here: OpenHere, tmp_path: Path, words: Words) -> None:
    """What was deleted before is erased, too: from the history, and from the files."""
    memory = open_here(tmp_path)
    fill(memory, words)
    memory.delete_all(user_id="alex")
    assert holding(files_of(memory, tmp_path), words.said)
    memory.erase(user_id="alex")
    assert holding(files_of(memory, tmp_path), words.all) == set()


def test_a_history_of_any_name_is_searched(tmp_path: Path) -> None:
    """What is a pattern to others is a name: the files of `history[1].db` are found, and nobody else's."""
    path = tmp_path / "history[1].db"
    history = SqliteHistory(path, "memories")
    with history.transaction() as transaction:
        transaction.announce("{}")
    (tmp_path / "history1.db").touch()
    found = {file.name for file in history.files()}
    history.close()
    assert {path.name, f"{path.name}-wal"} < found
    assert all(name.startswith(path.name) for name in found)


def test_without_compacting_the_receipt_says_so(memory: MemoryGateway, words: Words) -> None:
    """``compact=False`` deletes, and leaves the files to another call, which the receipt tells."""
    fill(memory, words)
    first = memory.erase(user_id="alex", compact=False)
    assert not first.compacted
    assert not first.complete
    assert first.to_do
    assert memory.search("", user_id="alex") == []


def test_the_receipt_has_no_content(memory: MemoryGateway, words: Words) -> None:
    """Figures and places alone, also as JSON."""
    fill(memory, words)
    text = json.dumps(memory.erase(user_id="alex").to_dict())
    assert not [secret for secret in words.all if secret in text]
    assert '"user_id": "alex"' in text


def test_erasing_nothing(memory: MemoryGateway, words: Words) -> None:
    """Nobody's memory can be erased twice, and everybody's not by accident."""
    assert memory.erase(user_id="nobody").memories == 0
    with pytest.raises(ScopeError):
        memory.erase()
    with pytest.raises(ScopeError):
        memory.for_user("bo").erase(user_id="alex")


def test_reading_and_writing_go_on_meanwhile(memory: MemoryGateway, words: Words) -> None:
    """Other users read and write while one is erased, and lose nothing."""
    fill(memory, words)
    bo = memory.for_user("bo")

    def work(number: int) -> int:
        bo.add(f"while it goes on {number}")
        return len(bo.search("tea"))

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, number) for number in range(20)]
        receipt = memory.erase(user_id="alex")
        assert all(job.result() >= 2 for job in working)
    assert receipt.memories == 4
    assert len(bo.search("", limit=100)) == 22


def test_residue_is_found_and_innocent_bytes_are_not(tmp_path: Path) -> None:
    """The search finds a part of a text in a file, whatever JSON makes of its quotes, unless somebody else has it."""
    (part,) = needles(['she said "the quokka sleeps until noon"\n', "short"])
    assert part == "the quokka sleeps until noon"
    (tmp_path / "a").write_bytes(b"\0\1" + part.encode() + b"\2")
    (tmp_path / "b").write_bytes(b"nothing")
    (tmp_path / "c").touch()
    files = [*sorted(tmp_path.iterdir()), tmp_path / "gone"]
    assert search(files, [part], lambda _: set()) == [str(tmp_path / "a")]
    assert search(files, [part], set[str].copy) == []


def test_what_is_looked_for_is_not_found_by_chance() -> None:
    """Parts of eight characters or more, white space around them aside; of many the hundred longest."""
    assert needles(["quokkas!", "quokka!", ' quokka! "wombat"']) == ["quokkas!"]
    texts = ["quokka" * n for n in range(2, 152)]
    assert needles(texts) == texts[:-101:-1]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what is in a file of somebody else: it is residue, until somebody has looked."""

    def refuse(*_: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    file = tmp_path / "theirs"
    assert search([file], ["the quokka sleeps until noon"], set[str].copy) == [f"{file} (cannot be read)"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    parts=st.lists(st.text("ab\u00e9", min_size=8, max_size=20), min_size=1, max_size=6, unique=True),
    around=st.lists(st.binary(max_size=12), min_size=1, max_size=20),
    order=st.randoms(use_true_random=False),
)
def test_residue_is_told_as_one_search_after_another_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[str], around: list[bytes], order: Random
) -> None:
    """What is found of many parts is what each of them is found by: wherever it begins, also across two pieces."""
    monkeypatch.setattr(residue, "_PIECE", order.randint(1, 40))
    file = tmp_path / "file"
    file.write_bytes(b"".join(piece + order.choice([b"", order.choice(parts).encode()]) for piece in around))
    told: list[str] = []

    def elsewhere(found: set[str]) -> set[str]:
        told.extend(found)
        return found

    search([file], parts, elsewhere)
    assert set(told) == {part for part in parts if part.encode() in file.read_bytes()}
