"""What it costs to tell the history of a memory that was superseded often."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from memstack.history.sqlite import SqliteHistory
from memstack.ids import new_id
from memstack.records import Change
from memstack.scope import Scope

_NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
_STEP = 100  # instructions of SQLite


def _chain(length: int) -> Iterator[Change]:
    """Memories, each superseded by the next one."""
    ids = [new_id() for _ in range(length)]
    for memory_id, successor in zip(ids, [*ids[1:], None], strict=True):
        yield Change(memory_id=memory_id, event="ADD", at=_NOON, scope=Scope("alex"))
        if successor is not None:
            yield Change(memory_id=memory_id, event="SUPERSEDE", at=_NOON, scope=Scope("alex"), superseded_by=successor)


def _steps(history: SqliteHistory, memory_id: str, expected: int) -> int:
    """How much SQLite does for the history of a memory, in steps."""
    assert history._connection is not None
    done = 0

    def count() -> None:
        nonlocal done
        done += 1

    history._connection.set_progress_handler(count, _STEP)
    assert len(history.chain(memory_id)) == expected
    history._connection.set_progress_handler(None, 0)
    return done


def test_a_chain_costs_its_length() -> None:
    """Ten times as long a chain takes ten times as much, and what else was superseded does not count."""
    history = SqliteHistory(":memory:", "memories")
    short, long = list(_chain(40)), list(_chain(400))
    with history.transaction() as log:
        log.append(short)
    alone = _steps(history, short[0].memory_id, 79)
    with history.transaction() as log:
        log.append(long)
    assert _steps(history, short[0].memory_id, 79) < 2 * alone
    assert _steps(history, long[-1].memory_id, 799) < 20 * alone
    history.close()
