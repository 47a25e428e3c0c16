"""Answers of model servers, read up to a length and a deadline.

HTTP clients read an answer for as long as it goes on, and unpack what is packed whole: a server could fill the memory
with either, with the packed one by a few kilobytes.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["CODING", "LONGEST", "AnswerTooLong", "bounded"]

CODING: Final = "gzip"  # the one that is unpacked here, piece by piece
LONGEST: Final = 256 * 2**20  # bytes of an answer: twice what 2,048 vectors of 3,072 dimensions take
_PIECE: Final = 2**20  # bytes unpacked at a time


class AnswerTooLong(Exception):  # for whoever words the failure of the call
    """An answer has more bytes than `LONGEST`, unpacked."""


def bounded(library: Any, response: Any, request: Any, deadline: float | None) -> None:
    """Let the body of a response be read unpacked, and end.

    Args:
        library: ``httpx``, or what has the same classes.
        response: its body was not read yet.
        request: what it answers.
        deadline: by `time.monotonic`; None is none.

    Raises (some of it when the body is read):
        ReadTimeout, DecodingError: of that library.
        AnswerTooLong: it goes on and on.
    """
    coding = response.headers.pop("Content-Encoding", "").strip().lower()
    if coding not in (CODING, "identity", ""):
        response.close()
        raise library.DecodingError("the answer is packed as nobody asked for", request=request)
    inner = response.stream

    class Body(library.SyncByteStream):  # type: ignore[misc]  # the library is a parameter
        def __iter__(self) -> Iterator[bytes]:
            length = 0
            for part in _unpacked(library, inner, request) if coding == CODING else inner:
                if deadline is not None and time.monotonic() > deadline:
                    raise library.ReadTimeout("the answer took longer than the whole call may", request=request)
                length += len(part)
                if length > LONGEST:
                    raise AnswerTooLong
                yield part

        def close(self) -> None:
            inner.close()

    response.stream = Body()


def _unpacked(library: Any, parts: Iterable[bytes], request: Any) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    empty = True
    try:
        for part in parts:
            left, empty = part, empty and not part
            while left:
                yield unpacker.decompress(left, _PIECE)
                left = unpacker.unconsumed_tail
            if unpacker.eof:
                return  # zlib would keep all that comes behind
        yield unpacker.flush()
    except zlib.error as error:
        raise library.DecodingError(str(error), request=request) from error
    if not (unpacker.eof or empty):
        raise library.DecodingError("the packed answer ends too early", request=request)
