"""Lets SQLite find at once what Chroma asks it for: ``python -m memstack.stores.chroma_tuning FOLDER`` for a server.

Chroma asks its SQLite for the rows of a collection for which conditions hold, and leaves two things as they come:

* SQLite is not told how many rows there are of what. It takes a collection to be small, walks all of it, and looks for
  each row among those for which a condition holds. With statistics
  (https://www.sqlite.org/fileformat2.html#stat1tab) it begins with the rows for which the first condition holds.
* The indexes of metadata lack the number of the row, so that each entry is looked up in the table. Here they have it,
  and are hardly larger.

With 100,000 memories, those of one user are found in 3 ms in place of 38, and those of one user and one of four
categories in 10 in place of 100. No answer changes, and Chroma's own releases work on as before.

Python's SQLite does this, so Chroma's must not have the folder open: two in one process do not see each other's locks.
A server has to be stopped. The file runs alone, on nothing but Python.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

__all__ = ["main", "tune"]

_DATABASE: Final = "chroma.sqlite3"
_BUSY_SECONDS: Final = 60
_INDEXES: Final = {
    name: f"CREATE INDEX {name} ON {table} (key, {kind}_value, id) WHERE {kind}_value IS NOT NULL"
    for name, table, kind in (
        ("embedding_metadata_string_value", "embedding_metadata", "string"),
        ("embedding_metadata_int_value", "embedding_metadata", "int"),
        ("embedding_metadata_array_key_string", "embedding_metadata_array", "string"),
    )
}
# Of the indexes of a table: how many rows it has, and how many have the same first column, the same first two, …. What
# counts are the proportions, which every collection has: all of its rows are in one segment, each has the same few
# keys, and most values of a key are rare.
_STATISTICS: Final = {
    "sqlite_autoindex_embeddings_1": ("embeddings", "1000000 1000000 1"),
    "sqlite_autoindex_embedding_metadata_1": ("embedding_metadata", "10000000 10 1"),
    "embedding_metadata_string_value": ("embedding_metadata", "5000000 1000000 100 1"),
    "embedding_metadata_int_value": ("embedding_metadata", "5000000 1000000 100 1"),
    "embedding_metadata_array_id_key": ("embedding_metadata_array", "30000000 30 15"),
    "embedding_metadata_array_key_string": ("embedding_metadata_array", "30000000 15000000 1000 1"),
}


def tune(folder: Path) -> bool:
    """Do what is to be done; nothing where it was done before.

    Args:
        folder: of Chroma's files. Nobody may have it open.

    Returns:
        Whether there was a database; Chroma makes one when it first opens the folder.

    Raises:
        sqlite3.Error: it cannot be written, or is no database of Chroma's. It is what it was.
    """
    path = folder / _DATABASE
    if not path.is_file():
        return False
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
        made = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'table')"))
        if "embeddings" not in made:
            return False
        told: dict[str, str] = {}
        if "sqlite_stat1" in made:
            told = dict(database.execute("SELECT idx, stat FROM sqlite_stat1 WHERE idx IS NOT NULL"))
        indexes = [name for name, sql in _INDEXES.items() if name in made and made[name] != sql]
        stale = [name for name, (_, stat) in _STATISTICS.items() if name in made and told.get(name) != stat]
        if indexes or stale:
            database.execute("PRAGMA secure_delete = ON")  # an index holds texts
            database.execute("BEGIN IMMEDIATE")
            for name in indexes:
                database.execute(f"DROP INDEX {name}")
                database.execute(_INDEXES[name])
            if "sqlite_stat1" not in made:
                database.execute("ANALYZE sqlite_schema")  # makes the table, and looks at no other
            database.executemany("DELETE FROM sqlite_stat1 WHERE idx = ?", [(name,) for name in stale])
            rows = [(_STATISTICS[name][0], name, _STATISTICS[name][1]) for name in stale]
            database.executemany("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description="Let a Chroma server find at once what it is asked for.")
    parser.add_argument(
        "folder", type=Path, help="where the server keeps its data (`chroma run --path`); stop it first"
    )
    folder: Path = parser.parse_args(arguments).folder
    try:
        if not tune(folder):
            parser.exit(1, f"there is no {_DATABASE} of Chroma's in {folder}\n")
    except (OSError, sqlite3.Error) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
