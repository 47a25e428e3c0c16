"""How much do many callers get done: searches from 1 to 64 at a time, through the async gateway and over HTTP?

The callers share one gateway, or one server of the example application (`examples/task_api`, under uvicorn, with the
embedded default). Each search is another user's, and every number of callers runs several times, in turn. An error
ends the run.

    python -m benchmarks.concurrency --stores qdrant-embedded --memories 10000
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.support import STORES, Report, arguments, facts, memstack_on, scratch
from memstack import AsyncMemoryGateway, open_memory
from memstack.testing.servers import free_port

CALLERS: Final = (1, 2, 4, 8, 16, 32, 64)
QUERIES: Final = ("the report", "plans for the summer", "which drinks", "music lessons", "who moved the meeting")


Search = Callable[[int, str, str], Awaitable[object]]  # which caller, a query, a user
SECRET: Final = secrets.token_urlsafe(32)
PATIENCE: Final = 120.0  # seconds, for the server to begin


async def per_second(search: Search, callers: int, searches: int, users: int) -> float:
    """Searches per second, when this many callers share `searches` among them."""

    async def caller(number: int) -> None:
        rng = random.Random(number)
        for _ in range(searches // callers):
            await search(number, rng.choice(QUERIES), f"user-{rng.randrange(users)}")

    begun = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return searches / (time.perf_counter() - begun)


async def measure(search: Search, *, runs: int, searches: int, users: int) -> dict[int, float]:
    """The median of the runs, for each number of callers."""
    await per_second(search, 4, 64, users)
    rates: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    for _ in range(runs):
        for callers in CALLERS:
            rates[callers].append(await per_second(search, callers, searches, users))
    return {callers: statistics.median(found) for callers, found in rates.items()}


def in_process(store: str, folder: Path, *, memories: int, runs: int, searches: int) -> dict[int, float]:
    """Through the async gateway."""
    users = max(1, memories // 100)
    with memstack_on(store, folder) as memory:
        memory.add_many(facts(memories, users=users), batch_size=1000)
        gateway = AsyncMemoryGateway(memory)

        async def search(_: int, query: str, user: str) -> object:
            return await gateway.search(query, user_id=user, filters={"category": "projects"})

        return asyncio.run(measure(search, runs=runs, searches=searches, users=users))


def over_http(folder: Path, *, memories: int, runs: int, searches: int) -> dict[int, float]:
    """Through the example application, in a process of its own."""
    from pydantic import SecretStr

    from examples.task_api.tokens import make_token

    users = max(1, memories // 100)
    section = {"provider": "qdrant", "path": str(folder / "qdrant")}
    config = {"vector_store": section, "history": {"path": str(folder / "history.db")}}
    with open_memory(config) as memory:
        memory.add_many(facts(memories, users=users), batch_size=1000)
    headers = [
        {"Authorization": f"Bearer {make_token(f'user-{number}', SecretStr(SECRET), valid_for=timedelta(hours=12))}"}
        for number in range(users)
    ]

    async def run(url: str) -> dict[int, float]:
        async with AsyncExitStack() as stack:
            # Each caller has a client of its own: many in one pool cost httpx more than they cost the server.
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60, verify=False))  # noqa: S501
                for _ in range(max(CALLERS))
            ]

            async def search(caller: int, query: str, user: str) -> object:
                asked: dict[str, str | int] = {"q": query, "category": "projects", "limit": 10}
                header = headers[int(user.split("-")[1])]
                answer = await clients[caller].get("/memories", params=asked, headers=header)
                return answer.raise_for_status()

            return await measure(search, runs=runs, searches=searches, users=users)

    with served(folder, config) as url:
        return asyncio.run(run(url))


@contextmanager
def served(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    """The example application on a free port, until the block ends."""
    file = folder / "memory.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    variables = {"SECRET": SECRET, "DATABASE": str(folder / "tasks.db"), "MEMORY": str(file)}
    environment = {**os.environ, **{f"TASK_API_{name}": value for name, value in variables.items()}}
    port = free_port()
    where = ["--app-dir", str(Path(__file__).parents[1] / "examples"), "--port", str(port), "--log-level", "warning"]
    where += ["--timeout-keep-alive", "600"]  # a connection that is closed while a request is under way is an error
    command = [sys.executable, "-m", "uvicorn", "task_api.main:app", *where]
    server = subprocess.Popen(command, cwd=folder, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                httpx.get(f"{url}/health", timeout=5).raise_for_status()
                break
            except httpx.TransportError:
                if server.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def tell(report: Report, subject: str, rates: dict[int, float]) -> None:
    """Add the rows of one subject to the report."""
    best = max(rates.values())
    for callers, rate in rates.items():
        report.row(subject, callers, rate, rate / best)


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
            rates = in_process(store, folder, memories=args.memories, runs=args.runs, searches=args.searches)
        tell(report, f"memstack on {store}", rates)
    with scratch() as folder:
        rates = over_http(folder, memories=args.memories, runs=args.runs, searches=args.searches)
    tell(report, "the task API over HTTP", rates)

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
