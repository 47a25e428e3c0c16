"""Takes what was deleted out of the files of a Chroma server: ``python -m memstack.stores.chroma_rewrite FOLDER``.

Stop the server first, and start it again afterwards. Chroma's own ``chroma vacuum`` leaves the newest entries of its
queue, texts included, until its vector index has caught up with them. And the files of that index begin as memory that
was never set, pieces of texts included. The file runs alone, on nothing but Python.
"""

from __future__ import annotations

import argparse
import sqlite3
import struct
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
# What a vector index's header begins with: its version, an offset, how many elements there is room for, and are there,
# and the bytes of each (`persistHeader` in Chroma's hnswlib).
_HEADER: Final = struct.Struct("<iQQQQ")
_VERSION: Final = 1
_LENGTH: Final = 4  # bytes of a vector's length, in a file of its own


def rewrite(folder: Path) -> None:
    """Rewrite the files of a folder without what was deleted.

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
    for header in folder.glob("*/header.bin"):
        _clear_unset(header)


def _clear_unset(header: Path) -> None:
    """Write zeros where an index has room for elements, and none yet; it writes there before it reads."""
    start = header.read_bytes()[: _HEADER.size]
    if len(start) < _HEADER.size:
        return
    version, _, _, elements, size = _HEADER.unpack(start)
    if version != _VERSION:
        return  # of a release that this one does not know
    for name, each in (("length.bin", _LENGTH), ("data_level0.bin", size)):
        path = header.with_name(name)
        used = elements * each
        unset = path.stat().st_size - used if path.is_file() else 0
        if unset > 0:
            with path.open("r+b") as file:
                file.seek(used)
                file.write(bytes(unset))


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
