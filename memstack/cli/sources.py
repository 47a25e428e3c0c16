"""What ``import`` reads: lines of JSON, one by one, or LoCoMo's JSON, told apart by their content."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol

from memstack.cli import locomo
from memstack.errors import InvalidInput, describe, nearest
from memstack.metadata import RESERVED

__all__ = ["FIELDS", "Entry", "Source", "open_source"]

FIELDS: Final = (
    "user_id", "agent_id", "run_id", "role", "content", "name", "occurred_at", "metadata", "expires_at",
    "valid_from",
)  # fmt: skip
_LONGEST_LINE: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to import.

    Attributes:
        place: where it stands, for people.
        item: what `MemoryGateway.add_many` takes; None where it cannot be read.
        problem: why it cannot be read.
        line: its line, where it has one.
        done: how far the source is read with it, in the unit of `Source.total`.
    """

    place: str
    item: Mapping[str, Any] | None
    problem: str = ""
    line: int | None = None
    done: int = 0


class Source(Protocol):
    """Something to import.

    Attributes:
        form: ``jsonl`` or ``locomo``.
        total: how much there is to read: bytes, or turns; None where that is not known.
    """

    form: str
    total: int | None

    def entries(self) -> Iterator[Entry]:
        """What is in it, in order. Can be gone through once."""
        ...


def open_source(stream: BinaryIO, name: str) -> Source:
    """Find out what a stream holds, reading no more than that takes.

    Args:
        stream: the bytes.
        name: what messages call it.

    Raises:
        InvalidInput: it is a JSON document, and not LoCoMo's.
    """
    lines = _Lines(stream)
    first = next(lines, None)
    while first is not None and not first.strip():
        first = next(lines, None)
    if first is None or not first.lstrip().startswith(b"["):
        return _JsonLines(lines, first, _size(stream))
    rest = stream.read()
    try:
        document = json.loads(first + rest)
    except (ValueError, RecursionError) as error:
        if _is_json(first):  # a line of its own; others follow
            lines.go_on_with(io.BytesIO(rest))
            return _JsonLines(lines, first, _size(stream))
        raise InvalidInput("FILE", f"{name} begins like a JSON list and is none ({error})", _WAY_OUT) from None
    if not document or locomo.is_conversation(document[0]):
        return _Conversations(document)
    raise InvalidInput("FILE", f"{name} is a JSON list, and not of LoCoMo's conversations", _WAY_OUT)


_WAY_OUT: Final = "Write one JSON object a line: jq -c '.[]' list.json > lines.jsonl."


# -- lines of JSON -------------------------------------------------------------------------------


class _Lines:
    """The lines of a stream, counted; of a line that is too long only the beginning."""

    def __init__(self, stream: BinaryIO) -> None:
        self.number = 0
        self.read = 0
        self._stream = stream

    def go_on_with(self, stream: BinaryIO) -> None:
        """Take what follows from another stream."""
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self._stream.readline(_LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.read += len(line)
        piece = line
        while len(piece) > _LONGEST_LINE and not piece.endswith(b"\n"):
            piece = self._stream.readline(_LONGEST_LINE + 1)
            self.read += len(piece)
        return line.removeprefix(b"\xef\xbb\xbf") if self.number == 1 else line


class _JsonLines:
    """Lines of JSON, read as they are asked for."""

    form = "jsonl"

    def __init__(self, lines: _Lines, first: bytes | None, total: int | None) -> None:
        self.total = total
        self._lines = lines
        self._first = first

    def entries(self) -> Iterator[Entry]:
        if self._first is not None:
            yield self._entry(self._first)
        for line in self._lines:
            if line.strip():
                yield self._entry(line)

    def _entry(self, line: bytes) -> Entry:
        number, done = self._lines.number, self._lines.read
        item, problem = _read_line(line)
        return Entry(f"line {number}", item, problem, number, done)


def _read_line(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """The item of a line, or what is wrong with it."""
    if len(line) > _LONGEST_LINE:
        return None, f"is longer than {_LONGEST_LINE // 2**20} MiB"
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return None, f"is not UTF-8 (byte {error.start})"
    except json.JSONDecodeError as error:
        return None, f"is not JSON ({error.msg}, column {error.colno})"
    except (ValueError, RecursionError):
        return None, "is JSON that cannot be read: a number too long, or nested too deeply"
    if not isinstance(found, dict):
        return None, f"is {describe(found)}, not a JSON object"
    unknown = sorted(name for name in found if name not in FIELDS)
    if unknown:
        guess = nearest(unknown[0], FIELDS)
        other = "Leave it out" if unknown[0] in RESERVED else "Put it into `metadata`"
        hint = f"Did you mean {guess!r}? " if guess else f"{other}. "
        return None, f"has an unknown field {unknown[0][:80]!r}. {hint}Known: {', '.join(FIELDS)}"
    return found, ""


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _size(stream: BinaryIO) -> int | None:
    """How many bytes there are, where the stream is a file."""
    try:
        return os.fstat(stream.fileno()).st_size or None
    except (OSError, AttributeError):
        return None


# -- LoCoMo --------------------------------------------------------------------------------------


class _Conversations:
    """LoCoMo's conversations."""

    form = "locomo"

    def __init__(self, document: list[Any]) -> None:
        self._turns = list(locomo.turns(document))
        self.total: int | None = len(self._turns)

    def entries(self) -> Iterator[Entry]:
        for done, (place, item, problem) in enumerate(self._turns, 1):
            yield Entry(place, item, problem, done=done)
