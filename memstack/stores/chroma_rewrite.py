"""Takes what was deleted out of the database of a Chroma server: ``python -m memstack.stores.chroma_rewrite FOLDER``.

Stop the server first, and start it again afterwards. Chroma's own ``chroma vacuum`` leaves the newest entries of its
queue, texts included, until its vector index has caught up with them. The file runs alone, on nothing but Python.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

__all__ = ["DATABASE", "main", "rewrite"]

DATABASE: Final = "chroma.sqlite3"
_BUSY_SECONDS: Final = 60
# Entries of the queue for rows that were deleted later on hold the texts, and replaying them changes nothing.
_FORGET: Final = (
    "UPDATE embeddings_queue SET metadata = NULL WHERE operation <> 3 AND EXISTS ("
    "SELECT 1 FROM embeddings_queue AS later WHERE later.operation = 3 AND later.topic = embeddings_queue.topic "
    "AND later.id = embeddings_queue.id AND later.seq_id > embeddings_queue.seq_id)"
)


def rewrite(folder: Path) -> None:
    """Rewrite the database of a folder without what was deleted.

    Raises:
        OSError: there is none.
        sqlite3.Error: somebody else writes to it, or it is no database of Chroma's.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise FileNotFoundError(f"there is no {DATABASE} in {folder}")
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
        database.execute("PRAGMA secure_delete = ON")
        database.execute(_FORGET)
        database.execute("VACUUM")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description="Take what was deleted out of a Chroma server's database.")
    parser.add_argument(
        "folder", type=Path, help="where the server keeps its data (`chroma run --path`); stop it first"
    )
    try:
        rewrite(parser.parse_args(arguments).folder)
    except (OSError, sqlite3.Error) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
