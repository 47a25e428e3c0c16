"""Erasing: nothing of a scope remains, in no store and no file; and a look whether that is so.

Deleting leaves texts behind: in the history by intent, and in the files of engines, which mark rows as deleted and keep
their bytes until they rewrite them. Erasing deletes both, lets every engine rewrite what it keeps, and searches the
files for what was erased.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Final

from memstack.filters.ast import Node
from memstack.filters.scoping import scope_filter
from memstack.gateway.parts import Parts, tick
from memstack.gateway.residue import needles, search
from memstack.gateway.together import together
from memstack.payload import text_of
from memstack.records import ErasureReceipt
from memstack.scope import Scope
from memstack.stores.base import ENTITIES, Row, Store

__all__ = ["erase"]

_BATCH: Final = 1000


def erase(parts: Parts, scope: Scope, *, compact: bool) -> ErasureReceipt:
    """Erase everything of a scope.

    Args:
        parts: where.
        scope: whose.
        compact: rewrite the files, too, so that no deleted byte is left in them.

    Returns:
        What was done, without content.

    Raises:
        StoreFull: there is no room to rewrite the files, and nothing was done.
        StoreError, HistoryError: it was interrupted. Erasing again goes on where this ended.
    """
    where = scope_filter(scope)
    with ExitStack() as opened:
        stores = [parts.store]
        if parts.store.has_sibling(ENTITIES):
            stores.append(opened.enter_context(closing(parts.store.sibling(ENTITIES))))
        if compact:  # what is deleted and not rewritten is in no search for what is left
            for store in stores:
                store.check_scrub()
        texts = parts.history.texts(scope)
        with together(parts) as write:  # nobody else writes meanwhile; there is no way back
            erased, *linked = [list(_removed(store, scope)) for store in stores]
            log = write.log.erase(scope, [row.id for row in erased])
        texts += [text_of(row.payload) for rows in (erased, *linked) for row in rows]
        todo: list[str] = []
        if compact:
            todo += [note for store in stores if (note := store.scrub())]
            todo += parts.history.compact()
        residue = _residue(parts, stores, where, texts) if compact else ()
    return ErasureReceipt(
        scope=scope,
        at=tick(),
        memories=len(erased),
        superseded=sum(1 for row in erased if row.payload.get("superseded_by") is not None),
        entities=sum(map(len, linked)),
        changes=log.changes,
        pending=log.pending,
        messages=log.messages,
        keys=log.keys,
        compacted=compact and not todo,
        to_do=tuple(dict.fromkeys(todo)) if compact else ("The files were not rewritten: call erase() once more.",),
        residue=tuple(residue),
    )


def _removed(store: Store, scope: Scope) -> Iterator[Row]:
    """The rows of a scope, removed batch by batch.

    Raises:
        StoreError: the engine told of somebody else's, before anything of that batch was removed.
    """
    for found in store.batches(where=scope_filter(scope), size=_BATCH):
        for row in found:
            store.check_inside(row, scope)
        store.remove([row.id for row in found])
        yield from found


def _residue(parts: Parts, stores: Sequence[Store], where: Node, texts: list[str]) -> list[str]:
    """Where something is left: rows, or bytes in files."""
    left = [store.label for store in stores if store.count(where)]
    files = sorted({*parts.history.files(), *(file for store in stores for file in store.files())})
    return [*left, *search(files, needles(texts), lambda sought: _elsewhere(parts, stores, sought))]


def _elsewhere(parts: Parts, stores: Sequence[Store], sought: set[str]) -> set[str]:
    """The words among these that somebody else's memory, or its history, has: all are looked for in one reading."""
    left = {part for part in sought if not parts.history.holds(part)}
    for store in stores:
        if not left:
            break
        for rows in store.batches(size=_BATCH):
            for text in (text_of(row.payload) for row in rows):
                left -= {part for part in left if part in text}
            if not left:
                break
    return sought - left
