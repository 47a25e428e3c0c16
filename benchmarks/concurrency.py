"""How much do many callers get done: searches through the async gateway, from 1 to 64 at a time?

The callers share one gateway, each asks for another user, and every number of callers runs several times, in turn.

    python -m benchmarks.concurrency --stores qdrant-embedded --memories 10000
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.support import STORES, Report, arguments, facts, memstack_on, scratch
from memstack import AsyncMemoryGateway

CALLERS: Final = (1, 2, 4, 8, 16, 32, 64)
QUERIES: Final = ("the report", "plans for the summer", "which drinks", "music lessons", "who moved the meeting")


async def per_second(memory: AsyncMemoryGateway, callers: int, searches: int, users: int) -> float:
    """Searches per second, when this many callers share `searches` among them."""

    async def caller(number: int) -> None:
        rng = random.Random(number)
        for _ in range(searches // callers):
            user = f"user-{rng.randrange(users)}"
            await memory.search(rng.choice(QUERIES), user_id=user, filters={"category": "projects"})

    begun = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return searches / (time.perf_counter() - begun)


async def measure(memory: AsyncMemoryGateway, *, runs: int, searches: int, users: int) -> dict[int, float]:
    """The median of the runs, for each number of callers."""
    await per_second(memory, 4, 64, users)
    rates: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    for _ in range(runs):
        for callers in CALLERS:
            rates[callers].append(await per_second(memory, callers, searches, users))
    return {callers: statistics.median(found) for callers, found in rates.items()}


def compare(store: str, folder: Path, report: Report, *, memories: int, runs: int, searches: int) -> None:
    """Add the rows of one store to the report."""
    users = max(1, memories // 100)
    with memstack_on(store, folder) as memory:
        memory.add_many(facts(memories, users=users), batch_size=1000)
        rates = asyncio.run(measure(AsyncMemoryGateway(memory), runs=runs, searches=searches, users=users))
    best = max(rates.values())
    for callers, rate in rates.items():
        report.row(f"memstack on {store}", callers, rate, rate / best)


def main() -> None:
    """Run the comparison; write and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--stores", nargs="+", default=["qdrant-embedded"], choices=list(STORES))
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--searches", type=int, default=256, help="in each run, shared among the callers")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    report = Report("concurrency", ("subject", "callers", "searches per second", "of the best"))
    for store in args.stores:
        with scratch() as folder:
            compare(store, folder, report, memories=args.memories, runs=args.runs, searches=args.searches)

    def plot(axes: Any) -> None:
        for name in dict.fromkeys(str(row[0]) for row in report.rows):
            mine = [row for row in report.rows if row[0] == name]
            axes.plot([row[1] for row in mine], [row[2] for row in mine], marker="o", label=name)
        axes.set(xscale="log", xlabel="callers at a time", ylabel="searches per second", ylim=(0, None))
        axes.set_xticks(CALLERS, [str(callers) for callers in CALLERS])
        axes.legend()

    report.write(args.out, plot=plot)


if __name__ == "__main__":
    main()
