"""Cursors: where a listing goes on. Opaque to callers, and tied to the listing that issued them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import datetime
from typing import Final

from memstack.errors import CursorError, InvalidInput, describe
from memstack.filters.ast import Node
from memstack.filters.visit import render
from memstack.ids import canonical_id
from memstack.instants import from_micros, to_micros
from memstack.scope import Scope

__all__ = ["FIRST_PAGE", "larger", "read_cursor", "write_cursor"]

FIRST_PAGE: Final = 500  # of all memories of a listing, one after the other
_LARGEST_PAGE: Final = 4000


def larger(size: int) -> int:
    """How many the next page has: some engines look at all that is left of a listing for each page of it."""
    return max(size, min(2 * size, _LARGEST_PAGE))


def write_cursor(scope: Scope, where: Node, order: str, last: tuple[datetime, str]) -> str:
    """The cursor after a row.

    Args:
        scope: the scope of the listing.
        where: its filter.
        order: its order.
        last: the sort key of the last row: (instant, id).
    """
    content = [to_micros(last[0]), last[1], _digest(scope, where, order)]
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")


def read_cursor(cursor: object, scope: Scope, where: Node, order: str) -> tuple[datetime, str]:
    """The sort key that a cursor stands for. The scope is not taken from it: it can only move inside the listing.

    Raises:
        CursorError: it is none of ours, or was issued for another scope, filter or order.
    """
    if not isinstance(cursor, str):
        raise CursorError(f"is {describe(cursor)}, not a string")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        micros, row_id, digest = json.loads(raw)
        key = (from_micros(micros), canonical_id(row_id))
    except (binascii.Error, ValueError, TypeError, OverflowError, InvalidInput, RecursionError):
        raise CursorError("is malformed") from None
    if digest != _digest(scope, where, order):
        raise CursorError("was issued for another listing")
    return key


def _digest(scope: Scope, where: Node, order: str) -> str:
    text = json.dumps([scope.user_id, scope.agent_id, scope.run_id, render(where), order])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
