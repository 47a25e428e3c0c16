"""Lines of an export, read: whatever a file holds, each memory in it is whole, or refused with the reason.

An export is a file that others can write to. What is stored of it is read by every verb later, so that nothing gets
in that a verb could not have written.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from memstack import metadata as codec
from memstack.errors import InvalidInput, describe
from memstack.history.log import ENTRY
from memstack.ids import canonical_id
from memstack.instants import as_instant, from_micros
from memstack.metadata import check_metadata, check_text
from memstack.payload import Payload, metadata_of, scope_of, source_of
from memstack.records import Event, Source
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["End", "Record", "read_line", "vector_text"]

_MOST: Final = 10**9  # values and characters of metadata: limits are for what callers say, not for what was stored
_DEEPEST: Final = 200
_TIMES: Final = ("created_at", "updated_at", "occurred_at", "expires_at", "valid_from", "valid_to")
_TEXTS: Final = ("hash", "role", "actor_id", "attributed_to", "expiration_date")
_ENTRY_TEXTS: Final = ("old_text", "new_text", "actor", "role", "reason")
_AGAIN: Final = "Export it again."
_PLACES: Final = 3  # of a source: role, name, position


@dataclass(frozen=True, slots=True)
class Record:
    """A memory of an export.

    Attributes:
        id: the memory's.
        owner: whose it is.
        text: its payload as it was written, for the checksum; empty for one that is gone.
        payload: the same, read; None for one that is gone.
        vector: where it was written.
        history: the entries of its log, oldest first.
    """

    id: str
    owner: Scope
    text: str
    payload: Payload | None
    vector: list[float] | None
    history: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class End:
    """The last line: counts and a checksum."""

    summary: Mapping[str, Any]


def read_line(line: str, scope: Scope, dimensions: int | None) -> Record | End:
    """Read a line after the first.

    Args:
        line: one JSON object.
        scope: where the memory, and all of its history, must lie; anywhere, where it is empty.
        dimensions: of the vectors that are to be kept; None reads none.

    Raises:
        InvalidInput: it is not what an export has; the message quotes nothing of it.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInput("import", "a line is not JSON", _AGAIN) from None
    if not isinstance(record, dict):
        raise InvalidInput("import", f"a line is {describe(record)}", _AGAIN)
    if record.get("end"):
        return End(record)
    try:
        found = _read(record, dimensions)
        owners = [_owner(entry) for entry in found.history]
    except InvalidInput as error:
        raise InvalidInput("import", f"a memory cannot be read ({error.field})", _AGAIN) from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput("import", f"a memory cannot be read ({type(error).__name__})", _AGAIN) from None
    if not found.owner or not all(scope.covers(one) for one in (found.owner, *owners) if one):
        raise InvalidInput("import", "a memory is of another scope", "Import it without a scope, or with its own.")
    return found


def vector_text(vector: Sequence[float]) -> str:
    """A vector in the precision that engines keep."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _read(record: Mapping[str, Any], dimensions: int | None) -> Record:
    written = record.get("payload") or ""
    payload = _payload(written) if written else None
    vector = None if dimensions is None or record.get("vector") is None else _vector(record["vector"], dimensions)
    history = [_entry(entry) for entry in _list(record.get("history", []))]
    owner = scope_of(payload) if payload is not None else _owner(history[-1]) if history else Scope()
    return Record(canonical_id(record["id"]), owner, written, payload, vector, history)


def _payload(written: object) -> Payload:
    """A payload that a memory, its filters and its order can be made of."""
    payload = codec.decode(_text(written, "payload"))
    if not isinstance(payload, dict):
        raise TypeError
    _text(payload["data"], "data")
    for name in _TEXTS:
        if payload.get(name) is not None:
            _text(payload[name], name)
    for name in _TIMES:
        if payload.get(name) is not None and as_instant(_text(payload[name], name)) is None:
            raise InvalidInput(name, "is no instant", _AGAIN)
    for name in SCOPE_FIELDS:
        if payload.get(name) is None:
            payload.pop(name, None)
        elif not _text(payload[name], name):
            raise InvalidInput(name, "is empty", _AGAIN)
    if payload.get("superseded_by") is not None:
        canonical_id(payload["superseded_by"], "superseded_by")
    check_metadata(metadata_of(payload), max_values=_MOST, max_depth=_DEEPEST, max_text=_MOST)
    for source in source_of(payload):
        _source(source)
    codec.encode(payload).encode()  # whatever else is in it can be written
    return payload


def _source(source: Source) -> None:
    _text(source.role, "source")
    if source.name is not None:
        _text(source.name, "source")
    position = source.position
    if position is not None and (type(position) is not int or not 0 <= position < 2**62):
        raise ValueError


def _vector(text: object, dimensions: int) -> list[float]:
    content = base64.b64decode(_text(text, "vector"), validate=True)
    vector = list(struct.unpack(f"<{dimensions}f", content)) if len(content) == 4 * dimensions else []
    if not vector or not all(map(math.isfinite, vector)):
        raise InvalidInput("vector", "is none of this embedder", _AGAIN)
    return vector


def _entry(entry: object) -> dict[str, Any]:
    """An entry of the history that the log can be asked for."""
    if not isinstance(entry, dict):
        raise TypeError
    _text(entry["id"], "history")
    if entry["event"] not in get_args(Event) or type(entry["at"]) is not int:
        raise ValueError
    from_micros(entry["at"])
    for name in _ENTRY_TEXTS:
        if entry.get(name) is not None:
            _text(entry[name], "history")
    for name in ("old_metadata", "new_metadata"):
        if entry.get(name) is not None:
            content = codec.decode(_text(entry[name], "history"))
            check_metadata(content, max_values=_MOST, max_depth=_DEEPEST, max_text=_MOST)
    if entry.get("superseded_by") is not None:
        canonical_id(entry["superseded_by"], "history")
    return {name: entry[name] for name in ENTRY if name in entry}


def _owner(entry: Mapping[str, Any]) -> Scope:
    return Scope(**{name: entry.get(name) for name in SCOPE_FIELDS})


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(name, "is no text", _AGAIN)
    return check_text(name, value, InvalidInput)
