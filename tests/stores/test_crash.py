"""``kill -9`` in the middle of writing: what was acknowledged is there, can be found, and has its history."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from memstack import MemoryGateway
from memstack.errors import MemoryNotFound
from memstack.testing.contract.state import assert_agreement
from tests.stores.test_edge_folder import Nursery, open_at

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")

# Each loop prints a line for what was acknowledged, after it was: JSON lists of [id, text].
_START: Final = """
import itertools
memory = open_at(sys.argv[1])
alex = memory.for_user("alex")
words = random.Random(sys.argv[2])
def text(i):
    letters = "".join(words.choice("bcdfghjklmnprstvz") + words.choice("aeiou") for _ in range(6))
    return f"{letters} is fact {i}"
"""
LOOPS: Final[dict[str, str]] = {
    "add": """
for i in itertools.count():
    (stored,) = alex.add(text(i), metadata={"n": i}).stored
    say([[stored.id, stored.text]])
""",
    "add_many": """
for i in itertools.count():
    result = alex.add_many([{"content": text(f"{i}-{k}"), "metadata": {"n": k}} for k in range(40)], batch_size=16)
    say([[stored.id, stored.text] for stored in result.stored])
""",
    "add_many and reorganise": """
for i in itertools.count():
    result = alex.add_many([text(f"{i}-{k}") for k in range(40)])
    say([[stored.id, stored.text] for stored in result.stored])
    memory._core.parts.store.tidy()
""",
    "update": """
stored = [alex.add(text(i)).stored[0] for i in range(20)]
for i in itertools.count():
    new = alex.update(stored[i % 20].id, text=text(i))
    say([[new.id, new.text]])
""",
    "delete": """
stored = alex.add_many([text(i) for i in range(600)]).stored
say([[memory.id, memory.text] for memory in stored])
for memory in stored:
    alex.delete(memory.id)
    say([[memory.id, memory.text]])
""",
}
# After how many lines the process is killed, at once or some milliseconds later.
MOMENTS: Final = (1, 6, 50)


Said = list[list[tuple[str, str]]]  # the ids and texts of each line


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Starts the processes that are killed."""
    with Nursery.opened() as opened:
        yield opened


def killed_at(nursery: Nursery, path: Path, loop: str, lines: int, seed: int) -> Said:
    """What a process acknowledged before it was killed in a loop."""
    process = nursery.start(_START + loop, path, seed)
    deadline = time.monotonic() + 60
    while nursery.lines() < lines and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(random.Random(seed).choice([0, 0.002, 0.005, 0.02]))
    os.kill(process, signal.SIGKILL)
    ended = nursery.wait()
    assert ended.status == -signal.SIGKILL, ended.errors
    assert len(ended.printed) >= lines, ended.errors
    return [[(key, text) for key, text in line] for line in ended.printed]


def all_killed(nursery: Nursery, folder: Path, loop: str) -> Iterator[tuple[Path, Said]]:
    """One killed process for every moment: the folder that it left, and what it acknowledged."""
    for lines in MOMENTS:
        path = folder / str(lines)
        yield path, killed_at(nursery, path, loop, lines, seed=lines)


def check_there(memory: MemoryGateway, acknowledged: dict[str, str], events: Callable[[list[str]], bool]) -> None:
    """These memories are there, by id and by a search for their own text, with their history."""
    for key, text in acknowledged.items():
        assert memory.get(key).text == text
        changes = memory.history(key, user_id="alex")
        assert events([change.event for change in changes])
        assert changes[-1].new_text == text
    for key in list(acknowledged)[-25:]:  # the last ones are those in danger
        assert key in {hit.id for hit in memory.search(acknowledged[key], user_id="alex", limit=3)}
    listed = {stored.id for stored in memory.iter_all(user_id="alex")}
    assert acknowledged.keys() <= listed
    assert len(listed) == memory.stats()["vector_store"]["rows"]


def check_batches(memory: MemoryGateway) -> None:
    """Of the bulk writes, the one under way too, each batch of 16 is there whole or not at all."""
    batches = [set(range(16)), set(range(16, 32)), set(range(32, 40))]
    calls: dict[str, set[int]] = {}
    for stored in memory.iter_all(user_id="alex"):
        call = stored.text.rpartition(" ")[2].partition("-")[0]
        calls.setdefault(call, set()).add(stored.metadata["n"])
    for found in calls.values():
        assert all(found >= batch or not found & batch for batch in batches)


@pytest.mark.parametrize("loop", ["add", "add_many", "add_many and reorganise"])
def test_what_was_added(nursery: Nursery, tmp_path: Path, loop: str) -> None:
    """Every memory whose `add` or `add_many` returned is there after the process was killed, and can be added to."""
    for path, said in all_killed(nursery, tmp_path, LOOPS[loop]):
        acknowledged = {key: text for line in said for key, text in line}
        with open_at(path) as memory:
            check_there(memory, acknowledged, lambda events: events == ["ADD"])
            if loop == "add_many":
                check_batches(memory)
            assert memory.add("life goes on", user_id="alex").stored


def test_what_was_updated(nursery: Nursery, tmp_path: Path) -> None:
    """After the process was killed each memory has the last text that was acknowledged, or the one under way."""
    for path, said in all_killed(nursery, tmp_path, LOOPS["update"]):
        acknowledged = {key: text for line in said for key, text in line}
        with open_at(path) as memory:
            under_way = [key for key, text in acknowledged.items() if memory.get(key).text != text]
            assert len(under_way) <= 1
            kept = {key: text for key, text in acknowledged.items() if key not in under_way}
            check_there(memory, kept, lambda events: events[0] == "ADD" and set(events[1:]) == {"UPDATE"})
            assert len(memory.get_all(user_id="alex")) == 20


def test_what_was_deleted(nursery: Nursery, tmp_path: Path) -> None:
    """Every memory whose `delete` returned is gone after the process was killed, its history is not; others stay."""
    for path, (first, *gone) in all_killed(nursery, tmp_path, LOOPS["delete"]):
        deleted = {key: text for line in gone for key, text in line}
        with open_at(path) as memory:
            for key, text in deleted.items():
                with pytest.raises(MemoryNotFound):
                    memory.get(key)
                assert [change.event for change in memory.history(key)] == ["ADD", "DELETE"]
                assert key not in {hit.id for hit in memory.search(text, user_id="alex", limit=3)}
            left = {stored.id for stored in memory.iter_all(user_id="alex")}
            assert not left & deleted.keys()
            assert len(left) >= len(first) - len(deleted) - 1


def test_again_and_again(nursery: Nursery, tmp_path: Path) -> None:
    """A store whose process is killed, reopened and killed again keeps everything that any of them acknowledged."""
    acknowledged: dict[str, str] = {}
    for turn in range(3):
        for line in killed_at(nursery, tmp_path, LOOPS["add"], 10, seed=100 + turn):
            acknowledged.update(line)
    with open_at(tmp_path) as memory:
        check_there(memory, acknowledged, lambda events: events == ["ADD"])


# -- between the two writes ------------------------------------------------------------------

_BETWEEN: Final = """
first, second = (alex.add(text(i)).stored[0] for i in range(2))
store = memory._core.parts.store
real = getattr(store, sys.argv[3])
def dying(*items):
    real(*items)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(store, sys.argv[3], dying)
"""
_RESET: Final = """
from memstack.history.transaction import Transaction
from memstack.stores.base import ENTITIES
alex.add("a fact", idempotency_key="k")
alex.add_many([text(i) for i in range(20)])
parts = memory._core.parts
entities = parts.store.sibling(ENTITIES)
entities.upsert(parts.store.fetch([row.id for row in parts.store.scan(limit=3)], vectors=True))
entities.close()
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
def then_die(place, name, but=None):
    real = getattr(place, name)
    def dying(*arguments):
        real(*arguments)
        if but is None or arguments[0] is not but:
            die()
    setattr(place, name, dying)
moment = sys.argv[3]
if moment == "COMMIT":
    parts.history._connection.set_trace_callback(lambda statement: statement == "COMMIT" and die())
elif moment == "siblings":
    then_die(type(parts.store), "clear", but=parts.store)
else:
    then_die(Transaction if moment == "announce" else parts.store, moment)
memory.reset()
"""
BETWEEN: Final[dict[str, tuple[str, str]]] = {
    "add": ("upsert", 'alex.add("a new fact")'),
    "add with a key": ("upsert", 'alex.add("a new fact", idempotency_key="k")'),
    "add_many": ("upsert", 'alex.add_many(["a new fact", "another"])'),
    "update": ("upsert", 'alex.update(first.id, text="a changed fact")'),
    "update of metadata": ("upsert", 'alex.update(first.id, metadata={"n": 1})'),
    "delete": ("remove", "alex.delete(first.id)"),
    "delete_all": ("remove", "alex.delete_all()"),
}


@pytest.mark.parametrize("verb", BETWEEN)
def test_killed_between_store_and_history(nursery: Nursery, tmp_path: Path, verb: str) -> None:
    """A process that dies when the engine has written and the history has not leaves the two in agreement.

    What was under way may be there or not; but then in both, as after every other failure.
    """
    method, call = BETWEEN[verb]
    ended = nursery.run(_START + _BETWEEN + call, tmp_path, 1, method)
    assert ended.status == -signal.SIGKILL, ended.errors
    with open_at(tmp_path) as memory:
        assert_agreement(memory)
        result = memory.add("a new fact", user_id="alex", idempotency_key="k")
        assert len(result.stored) + len(result.skipped) == 1
        assert_agreement(memory)


@pytest.mark.parametrize("moment", ["clear", "announce", "siblings", "COMMIT"])
def test_killed_in_a_reset(nursery: Nursery, tmp_path: Path, moment: str) -> None:
    """A process that dies in a reset leaves all of it or nothing: no key or entry of a memory that is gone."""
    ended = nursery.run(_START + _RESET, tmp_path, 1, moment)
    assert ended.status == -signal.SIGKILL, ended.errors
    with open_at(tmp_path) as memory:
        assert_agreement(memory)
        assert memory.stats()["vector_store"]["rows"] == 0
        assert memory.stats()["history"]["changes"] == 0
        assert memory._core.parts.store.sibling("entities").count() == 0
        (stored,) = memory.add("a new fact", user_id="alex", idempotency_key="k").stored
    with open_at(tmp_path) as memory:  # it is done once
        assert [found.id for found in memory.get_all(user_id="alex")] == [stored.id]
        assert_agreement(memory)


_DYING: Final = """
memory = open_at(sys.argv[1])
store = memory._core.parts.store
real = store.upsert
def dying(rows):
    real(rows)
    os.kill(os.getpid(), signal.SIGKILL)
store.upsert = dying
memory.add("I drink tea", user_id="alex")
"""


def test_the_first_write_of_all(nursery: Nursery, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who opens a memory whose first write was interrupted is told of no lost history: the write is taken back."""
    nursery.start("import signal\n" + _DYING, tmp_path)
    assert nursery.wait().status == -signal.SIGKILL
    with open_at(tmp_path) as memory:
        assert "knows nothing" not in caplog.text
        assert len(memory.get_all(user_id="alex")) == 0
        assert_agreement(memory)
