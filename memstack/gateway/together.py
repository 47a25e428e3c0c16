"""Store and history together, or not at all; also where the process dies between the two.

The history's write transaction stands around the write to the store, and within it the store's own lock, where it has
one: others may write to it with another history. Before the store is written, the way back is
announced in the history's journal. Where the block or the commit fails, the store is brought back at once; where the
process dies, the next one that opens the memory or writes to it does so. Nobody was told that such a write was done.
Somebody with another history may have been told of a later one: what is no longer as this write left it stays.

To delete everything has no way back: what was announced is done to its end instead.
"""

from __future__ import annotations

import logging
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from memstack.errors import StoreCorrupted, StoreFull
from memstack.gateway.parts import Parts
from memstack.history import MEMORY, SqliteHistory, Transaction
from memstack.metadata import decode, encode
from memstack.payload import Payload
from memstack.stores.base import ENTITIES, Row, Store

__all__ = ["Write", "check_not_lost", "reset", "settle", "together"]

_log: Final = logging.getLogger(__name__)
_FLOAT: Final = struct.calcsize("f")
_CLEAR: Final = encode({"clear": True})


class Write:
    """A write to the store and its entries in the log.

    Attributes:
        log: the transaction of the history.
    """

    def __init__(self, store: Store, log: Transaction) -> None:
        self.log = log
        self._store = store

    def upsert(self, rows: Sequence[Row], before: Sequence[Row] = ()) -> None:
        """Write rows, new ones and changed ones; `before` are the changed ones as they were, with their vectors."""
        if rows:
            there = {row.id for row in before}
            added = [row for row in rows if row.id not in there]
            after = {row.id: _state(row.payload) for row in rows} if before else {}
            self._do(lambda: self._store.upsert(rows), _undo(added, before, after))

    def remove(self, rows: Sequence[Row]) -> None:
        """Delete rows, given with their vectors."""
        if rows:
            self._do(lambda: self._store.remove([row.id for row in rows]), _undo([], rows, {}))

    def clear(self, siblings: Sequence[Store]) -> None:
        """Delete all rows, those of siblings, and what the history has of them. To be alone in its block."""
        self._store.count()  # an engine that is not there, or a broken history, is found before anything is announced
        self.log.clear()
        self._do(self._store.clear, _CLEAR)
        for sibling in siblings:
            sibling.clear()

    def _do(self, call: Callable[[], None], undo: str) -> None:
        withdraw = self.log.announce(undo)
        try:
            call()
        except StoreFull:  # it was refused before anything was done, and there may be no room to undo it
            withdraw()
            raise


@contextmanager
def together(parts: Parts) -> Iterator[Write]:
    """A write to the store and the history: what the block does to both is there in the end, or none of it.

    Raises:
        StoreError, HistoryError: nothing was done.
    """
    with parts.history.transaction(lambda log: _take_back(parts.store, log)) as log:
        _bring_to_order(parts.store, log)
        with parts.store.exclusive():
            yield Write(parts.store, log)


def reset(parts: Parts) -> None:
    """Delete everything of the collection from the store, its siblings and the history.

    Others write before it or after it. Once it has begun it is done: where it fails, or the process dies, whoever opens
    the memory or writes to it next does the rest, before anything else.

    Raises:
        StoreError, HistoryError: the memory cannot be written, and nothing was done; or not all of it.
    """
    with _siblings(parts.store) as siblings, together(parts) as write:
        write.clear(siblings)


def settle(store: Store, history: SqliteHistory) -> None:
    """Take back what a process that died has left in the store; or end it, where it was to delete everything.

    Raises:
        StoreError, HistoryError: that failed; it is tried again when the memory is next opened.
    """
    if history.unfinished:
        with history.transaction() as log:
            _bring_to_order(store, log)


def check_not_lost(store: Store, history: SqliteHistory, path: Path | None) -> None:
    """Refuse a store whose folder is gone; tell of a history that is.

    Call it before the store is bound to an embedder: that is what tells a new collection from one that is there.

    Args:
        store: just opened.
        history: its history.
        path: the folder of the store's data; None where it lies on a server or nowhere.

    Raises:
        StoreCorrupted: the history knows of memories, and the store was made just now.
    """
    if path is not None and store.read_fingerprint() is None:
        living = history.living()
        if living and store.read_fingerprint() is None:  # nobody else has opened and filled it in between
            raise StoreCorrupted(
                store.label,
                str(path),
                f"the collection is not there, and the history at {history.path} has {living} memories of it",
            )
    # What a write that is under way, or was interrupted, has put there is not lost: it is taken back, or told of soon.
    if not history.known() and history.path != MEMORY and not history.unfinished and store.count():
        _log.warning(
            "%s: the history at %s knows nothing of the memories that are there: what became of them before is in "
            "another file, or lost",
            store.label,
            history.path,
        )


def _take_back(store: Store, log: Transaction) -> bool:
    """Undo in the store what was announced and not committed, newest first.

    Returns:
        Whether something was to delete everything. That is done again, and stays announced until a commit ends it.
    """
    unfinished = log.unfinished()
    for undo in unfinished:
        if undo == _CLEAR:
            with _siblings(store) as siblings:
                for found in (store, *siblings):
                    found.clear()
            continue
        with store.exclusive():
            _undone(store, decode(undo))
    if _CLEAR in unfinished:
        return True
    log.forget()
    return False


def _undone(store: Store, step: Mapping[str, Any]) -> None:
    """Undo one write of rows, as far as they are as it left them or found them."""
    added: dict[str, str] = step["remove"]
    changed = [(Row(key, payload, _floats(vector)), after) for key, payload, vector, after in step["restore"]]
    if store.capabilities.shared_by_processes:
        now = {row.id: _state(row.payload) for row in store.fetch([*added, *(row.id for row, _ in changed)])}
        wanted = len(added) + len(changed)
        added = {key: after for key, after in added.items() if now.get(key, after) == after}
        changed = [(row, after) for row, after in changed if _ours(now.get(row.id), row, after)]
        if len(added) + len(changed) < wanted:
            _log.warning(
                "%s: a write was interrupted; what others have changed since then stays as they left it", store.label
            )
    if added:
        store.remove(list(added))
    if changed:
        store.upsert([row for row, _ in changed])


def _bring_to_order(store: Store, log: Transaction) -> None:
    """End what others began and did not commit; the history's part is committed with this transaction."""
    if _take_back(store, log):
        log.clear()
        log.resume()


@contextmanager
def _siblings(store: Store) -> Iterator[list[Store]]:
    """What lies beside the memories. Opened before the store's lock is taken: to open them may need one of its own."""
    with ExitStack() as opened:
        siblings = [store.sibling(ENTITIES)] if store.has_sibling(ENTITIES) else []
        for sibling in siblings:
            opened.callback(sibling.close)
        yield siblings


def _undo(added: Sequence[Row], before: Sequence[Row], after: Mapping[str, str]) -> str:
    """The way back, in one line.

    Args:
        added: what is new.
        before: what is changed or deleted, as it was.
        after: the states that it is left in; what is deleted has none.
    """
    restore = [[row.id, row.payload, _text(row.vector or ()), after.get(row.id)] for row in before]
    return encode({"remove": {row.id: _state(row.payload) for row in added}, "restore": restore})


def _ours(now: str | None, before: Row, after: str | None) -> bool:
    """Whether a row is as a write found it, or as it left it; a state of None is that it is not there."""
    return now == after or (now is not None and now == _state(before.payload))


def _state(payload: Payload) -> str:
    """What every write of a row changes."""
    return f"{payload.get('updated_at')} {payload.get('valid_to')} {payload.get('superseded_by')}"


def _text(vector: Sequence[float]) -> str:
    """A vector in the precision that engines keep."""
    return b64encode(struct.pack(f"{len(vector)}f", *vector)).decode("ascii")  # a third of the time of an array


def _floats(text: str) -> list[float]:
    content = b64decode(text)
    return list(struct.unpack(f"{len(content) // _FLOAT}f", content))
