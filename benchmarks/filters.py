"""What does each operator of the filter language cost, and who answers it: the engine, or memstack on candidates?

One user with many memories; every operator once in a search, side by side with the search without a filter.

    python -m benchmarks.filters --stores qdrant-embedded chroma-embedded pgvector
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

from benchmarks.support import STORES, Report, arguments, facts, in_turn, memstack_on, ratio, scratch
from memstack import MemoryGateway

QUERY: Final = "plans for the summer"
NONE: Final = "no filter"
FILTERS: Final[dict[str, dict[str, Any] | None]] = {
    NONE: None,
    "eq": {"category": "projects"},
    "ne": {"category": {"ne": "projects"}},
    "in": {"category": ["projects", "preferences"]},
    "nin": {"category": {"nin": ["projects", "preferences"]}},
    "exists": {"category": "*"},
    "range of numbers": {"number": {"gte": 100, "lt": 900}},
    "range of instants": {"created_at": {"gte": datetime(2025, 1, 1, tzinfo=timezone.utc)}},
    "contains": {"category": {"contains": "ject"}},
    "icontains": {"category": {"icontains": "JECT"}},
    "AND": {"AND": [{"category": "projects"}, {"number": {"gte": 100}}]},
    "OR": {"OR": [{"category": "projects"}, {"number": {"lt": 100}}]},
    "NOT": {"NOT": [{"category": "projects"}, {"number": {"lt": 100}}]},
}


def asker(memory: MemoryGateway, where: dict[str, Any] | None) -> Callable[[int], object]:
    """A search with this filter."""
    return lambda _: memory.search(QUERY, user_id="user-0", filters=where)


def who_answers(memory: MemoryGateway, where: dict[str, Any] | None) -> str:
    """What `explain` says."""
    (hit,) = memory.search(QUERY, user_id="user-0", filters=where, limit=1, explain=True)
    plan = (hit.explain or {})["filter"]
    return "memstack, on candidates" if plan.get("residual") else "the engine"


def main() -> None:
    """Run the comparison; write and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--stores", nargs="+", default=["qdrant-embedded"], choices=list(STORES))
    parser.add_argument("--memories", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    report = Report("filters", ("store", "filter", "answered by", "p50 ms", "times no filter"))
    for store in args.stores:
        with scratch() as folder, memstack_on(store, folder) as memory:
            memory.add_many(facts(args.memories, users=1), batch_size=1000)
            series = in_turn({name: asker(memory, where) for name, where in FILTERS.items()}, args.rounds)
            for name, times in series.items():
                answered = who_answers(memory, FILTERS[name])
                report.row(store, name, answered, times.summary()["p50_ms"], ratio(times, series[NONE]))

    def plot(axes: Any) -> None:
        for store in args.stores:
            mine = [row for row in report.rows if row[0] == store]
            axes.plot([row[1] for row in mine], [row[3] for row in mine], marker="o", linestyle="", label=store)
        axes.set(yscale="log", ylabel="median of a search, ms")
        axes.tick_params(axis="x", rotation=60)
        axes.legend()

    report.write(args.out, plot=plot)


if __name__ == "__main__":
    main()
