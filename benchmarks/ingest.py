"""How long does it take to store memories, embedding included, and to delete them again?

Compared side by side on the same engine with the same embedder: memstack's `add_many` and `add`, bare Mem0's
`add(infer=False)`; then `delete_all` of one user's memories on both. The slower a subject, the
fewer items it is given; rates are per item.

    python -m benchmarks.ingest --stores qdrant-embedded chroma-embedded pgvector
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.support import STORES, Report, arguments, bare_mem0, facts, memstack_on, scratch
from memstack import MemoryGateway


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def add_one_by_one(memory: MemoryGateway, items: list[dict[str, Any]]) -> None:
    """Call `add` of memstack, a message at a time."""
    for item in items:
        memory.add(item["content"], user_id=item["user_id"], metadata=item["metadata"])


def mem0_add(memory: Any, items: list[dict[str, Any]]) -> None:
    """Bare Mem0's `add`, a message at a time: it has no other."""
    for item in items:
        memory.add(item["content"], user_id=item["user_id"], metadata=item["metadata"], infer=False)


def compare(store: str, report: Report, *, bulk: int, single: int, delete: int) -> None:
    """Add the rows of one store to the report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        ours = stack.enter_context(memstack_on(store, folder))
        theirs = stack.enter_context(bare_mem0(store, folder))
        ours.add("warm up", user_id="nobody")
        theirs.add("warm up", user_id="nobody", infer=False)
        theirs_name = f"bare Mem0 on {STORES[store]}"

        def tell(what: str, name: str, count: int, took: float, base: float) -> float:
            rate = count / took
            report.row(what, name, count, rate, rate / base if base else 1.0)
            return rate

        items = list(facts(single, users=10, seed=1))
        base = tell("add", theirs_name, single, seconds(lambda: mem0_add(theirs, items)), 0)
        tell("add", f"memstack on {store}", single, seconds(lambda: add_one_by_one(ours, items)), base)
        many = list(facts(bulk, users=100, seed=2))
        tell("add_many", f"memstack on {store}", bulk, seconds(lambda: ours.add_many(many)), base)

        doomed = [{**item, "user_id": "doomed"} for item in facts(delete, users=1, seed=3)]
        ours.add_many(doomed)
        mem0_add(theirs, doomed)
        base = tell("delete_all", theirs_name, delete, seconds(lambda: theirs.delete_all(user_id="doomed")), 0)
        took = seconds(lambda: ours.delete_all(user_id="doomed"))
        tell("delete_all", f"memstack on {store}", delete, took, base)


def main() -> None:
    """Run the comparison; write and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--stores", nargs="+", default=["qdrant-embedded"], choices=[s for s in STORES if STORES[s]])
    parser.add_argument("--bulk", type=int, default=10_000, help="items for add_many")
    parser.add_argument("--single", type=int, default=300, help="items for add")
    parser.add_argument("--delete", type=int, default=1_000, help="memories to delete")
    args = parser.parse_args()
    report = Report("ingest", ("verb", "subject", "memories", "per second", "times bare Mem0"))
    for store in args.stores:
        compare(store, report, bulk=args.bulk, single=args.single, delete=args.delete)

    def plot(axes: Any) -> None:
        names = [f"{row[0]}, {row[1]}" for row in report.rows]
        axes.barh(names, [row[3] for row in report.rows])
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="memories per second")

    report.write(args.out, plot=plot)


if __name__ == "__main__":
    main()
