"""The capabilities of stores as a table for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from memstack.stores.base import Capabilities

__all__ = ["capabilities_table"]

_LEAVES: Final = {
    "Eq": "eq, ne",
    "In": "in, nin",
    "Compare": "gt, gte, lt, lte",
    "Exists": "exists",
    "Contains": "contains",
    "IContains": "icontains",
}


def capabilities_table(stores: Mapping[str, Capabilities]) -> str:
    """A Markdown table with a column for each store, and the notes of each below it.

    Args:
        stores: capabilities by the name that configurations use.
    """
    rows = [["", *(f"`{name}`" for name in stores)], ["---", *(["---"] * len(stores))]]
    for node, operators in _LEAVES.items():
        cells = ["engine" if node in found.pushdown else "memstack" for found in stores.values()]
        rows.append([operators, *cells])
    rows.append(["several processes", *("yes" if found.shared_by_processes else "no" for found in stores.values())])
    rows.append(
        ["writers with other histories wait", *("yes" if found.one_writer else "no" for found in stores.values())]
    )
    rows.append(["outlives its process", *("yes" if found.persistent else "no" for found in stores.values())])
    exact = ["always" if found.exact_up_to is None else f"{found.exact_up_to:,}" for found in stores.values()]
    rows.append(["searches are exact up to", *exact])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    notes = [f"- `{name}`: {note}" for name, found in stores.items() for note in found.notes]
    return "\n".join([*lines, "", *notes]) + "\n"
