"""What fails in Chroma, as our errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
from chromadb.errors import ChromaError, NotFoundError

from memstack.errors import MemstackError, StoreCorrupted, StoreError
from memstack.stores.room import FULL, MAKE_ROOM
from memstack.stores.rows import DAMAGED

__all__ = ["is_damage", "reason_of", "translated"]

_UNAUTHORISED: Final = (401, 403)
_BUSY: Final = (408, 429)
_PANIC: Final = "PanicException"  # PyO3's, which can be imported from nowhere
_OF_SQLITE: Final = re.compile(r"\(code: \d+\) ([a-zA-Z/ ]+)")  # in Chroma's messages, what SQLite says


@contextmanager
def translated(label: str, what: str, folder: Path | None = None) -> Iterator[None]:
    """Chroma's exceptions as ours; `folder` is where an embedded one keeps its files, and None a server."""
    try:
        yield
    except MemstackError:
        raise
    except httpx.TimeoutException as error:
        raise _late(label, what) from error
    except (httpx.HTTPError, ConnectionError) as error:
        raise _unreachable(label, what) from error
    except BaseException as error:  # the embedded engine panics
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise  # somebody wants the call to end
        if folder is not None:
            if is_damage(error):
                raise StoreCorrupted(label, str(folder), " ".join(str(error).split())) from error
            told = _OF_SQLITE.search(str(error))
            reason = reason_of(error) if told is None else told[1]
            full = reason == FULL
            raise StoreError(label, f"cannot {what}: {reason}", MAKE_ROOM if full else "", retryable=full) from error
        status = _status_of(error)
        if status in _UNAUTHORISED:
            raise StoreError(
                label, f"cannot {what}: the server refuses the token (HTTP {status})", "Set `vector_store.token`."
            ) from error
        if what == "open" and isinstance(error, NotFoundError):
            raise StoreError(
                label,
                "cannot open: the server has no such tenant or database",
                "Make it there, or name another with `vector_store.tenant` and `vector_store.database`.",
            ) from error
        if _timed_out(error):
            raise _late(label, what) from error
        if status is None and "Could not connect" in str(error):
            raise _unreachable(label, what) from error
        again = status is not None and (status in _BUSY or status >= 500)  # noqa: PLR2004
        named = f"HTTP {status}" if type(error) in (Exception, ValueError) and status else type(error).__name__
        raise StoreError(label, f"cannot {what}: {named}", retryable=again) from error


def reason_of(error: BaseException) -> str:
    """What the system says; of other errors, their kind."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def is_damage(error: BaseException) -> bool:
    """Whether SQLite, Python's or Chroma's own, says that the file is not what it wrote."""
    return any(words in str(error) for words in DAMAGED)


def _status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer: Chroma's exceptions have it, and what it makes of others' follows from one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ChromaError):
            return int(seen.code())
        if isinstance(seen, httpx.HTTPStatusError):
            return seen.response.status_code
        seen = seen.__cause__ or seen.__context__
    return None


def _timed_out(error: BaseException) -> bool:
    return isinstance(error.__context__, httpx.TimeoutException)


def _late(label: str, what: str) -> StoreError:
    way = "Is the server overloaded? See `vector_store.timeout`."
    return StoreError(label, f"cannot {what}: the server did not answer in time", way, retryable=True)


def _unreachable(label: str, what: str) -> StoreError:
    return StoreError(
        label,
        f"cannot {what}: the server cannot be reached",
        "Is it running there? See `vector_store.host` and `vector_store.port`.",
        retryable=True,
    )
