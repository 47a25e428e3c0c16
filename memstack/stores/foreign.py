"""What others made, or hold, in the place where a collection of ours would be, or is: refused, and left as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from memstack import metadata as codec
from memstack.errors import ConfigError, InvalidInput, StoreError
from memstack.payload import Payload, scope_of, source_of

__all__ = [
    "check_no_file",
    "check_no_other_case",
    "check_nobody_elses",
    "not_ours",
    "odd_row",
    "payload_of_row",
    "writing_to",
]

_WAY_OVER: Final = "Memories that Mem0 wrote there come over by a file: see docs/migrating-from-mem0.md."


def not_ours(label: str, what: str, option: str = "vector_store.collection") -> StoreError:
    """The error for what lies in our place.

    Args:
        label: the store.
        what: what it is, as the subject of a sentence.
        option: the option that names another place.
    """
    return StoreError(
        label,
        f"{what} is there, and memstack did not make it",
        f"It was left as it is. Choose another with `{option}`. {_WAY_OVER}",
    )


def odd_row(label: str, row_id: object) -> StoreError:
    """The error for a row that memstack cannot have written."""
    return StoreError(
        label,
        f"the row {row_id} is not as memstack writes them",
        "Others write there, too: delete it with a client of the engine, or restore it from a backup.",
    )


def payload_of_row(label: str, row_id: object, body: Any, text: Any = None) -> Payload:
    """The payload of a row, of which a memory can be made.

    Args:
        label: the store.
        row_id: the row's id.
        body: what is stored of it: the payload as `memstack.metadata.encode` writes it.
        text: the memory's text, where it is kept beside that.

    Raises:
        StoreError: others wrote it, or changed it. The error quotes nothing of it, nor does one in its chain.
    """
    payload: Any = None
    try:
        payload = codec.decode(body)
        if text is not None:
            payload["data"] = text
        scope_of(payload)
        source_of(payload)
    except (AttributeError, InvalidInput, KeyError, RecursionError, TypeError, ValueError):
        payload = None
    if not isinstance(payload, dict):
        raise odd_row(label, row_id)
    return payload


def check_nobody_elses(label: str, path: Path, pattern: str, ours: Path) -> None:
    """Refuse a folder that bare Mem0, or another user of the engine, keeps its data in.

    Ours would lie beside it, and be empty: whoever configures the path of their memories expects them to be found.

    Args:
        label: the store.
        path: the folder that is configured.
        pattern: the file that the engine's own client keeps in it, as `Path.glob` takes it.
        ours: where our data lies. Where this is there already, nobody expects anything else.

    Raises:
        StoreError: it is somebody else's.
    """
    if not ours.exists() and (found := next(path.glob(pattern), None)) is not None:
        raise not_ours(label, f"another program's database {found}", "vector_store.path")


def check_no_file(*places: Path) -> None:
    """Refuse a file where a folder of ours would be.

    Raises:
        ConfigError: there is one.
        OSError: that cannot be found out.
    """
    for place in places:
        if place.exists() and not place.is_dir():
            raise ConfigError("vector_store.path", f"{place} is a file, and a store is a folder", "Name another path.")


def check_no_other_case(folder: Path) -> None:
    """Refuse the folder of another collection: to some systems "Notes" and "notes" are one name.

    Raises:
        ConfigError: it is another's.
        OSError: that cannot be found out.
    """
    if not folder.exists():
        return
    with suppress(PermissionError):  # names can be used there, and not be listed
        names = os.listdir(folder.parent)  # noqa: PTH208  # names alone
        same = [name for name in names if name.lower() == folder.name.lower()]
        if same and folder.name not in same:
            raise ConfigError(
                "vector_store.collection",
                f"is {folder.name}, and to this system that is the same name as {same[0]}, which is in {folder.parent}",
                f"Write {same[0]} if you mean that collection, or name another one.",
            )


@contextmanager
def writing_to(label: str) -> Iterator[None]:
    """What the system refuses while a folder is made, or looked at.

    Args:
        label: the store.

    Raises:
        StoreError: it cannot be made, or written.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            label,
            f"the folder cannot be written ({error.strerror or type(error).__name__})",
            "Give it to this user, or name another path.",
        ) from error
