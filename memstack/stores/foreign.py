"""What others made in the place where a collection of ours would be: refused, and left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from memstack.errors import StoreError

__all__ = ["check_nobody_elses", "not_ours"]

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
