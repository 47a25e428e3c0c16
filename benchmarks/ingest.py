"""How long does it take to store memories, embedding included, and to delete or erase them again?

Compared on the same engine with the same embedder: memstack's `add_many` and `add`, and bare Mem0's `add(infer=False)`;
then `delete_all` of one user's memories on both, and `erase` of memstack, which rewrites the files too. Both begin with
the same memories of others, `--filled` of them. The subjects take turns, round by round; told are medians of the
rounds, for one memory. What bare Mem0 begins with, and what it is to delete, is put into its store directly, in
batches, since its `add` would take longer than the rest.

    python -m benchmarks.ingest --stores qdrant-embedded chroma-embedded pgvector
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

from benchmarks.support import (
    STORES,
    Report,
    Series,
    arguments,
    bare_mem0,
    facts,
    memstack_on,
    put_into_mem0,
    ratio,
    scratch,
)
from memstack import MemoryGateway
from memstack.batching import batched
from memstack.providers.builtin import WordLlamaEmbedder

BATCH: Final = 1000
Items = Sequence[dict[str, Any]]


def add_one_by_one(memory: MemoryGateway, items: Items) -> None:
    """Call `add` of memstack, a message at a time."""
    for item in items:
        memory.add(item["content"], user_id=item["user_id"], metadata=item["metadata"])


def mem0_add(memory: Any, items: Items) -> None:
    """Bare Mem0's `add`, a message at a time: it has no other."""
    for item in items:
        memory.add(item["content"], user_id=item["user_id"], metadata=item["metadata"], infer=False)


def mem0_fill(memory: Any, items: Items) -> None:
    """Put items into bare Mem0's store directly."""
    for some in batched(items, BATCH):
        put_into_mem0(memory, some, WordLlamaEmbedder().vectors([item["content"] for item in some]))


class Race:
    """Times for one memory, by what is done and by whom."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = {}

    def run(self, verb: str, subject: str, count: int, call: Callable[[], object]) -> None:
        """Time a call that handles so many memories."""
        begun = time.perf_counter()
        call()
        took = time.perf_counter() - begun
        self.series.setdefault((verb, subject), Series()).times.append(took / count)


def compare(store: str, report: Report, *, rounds: int, filled: int, bulk: int, single: int, delete: int) -> None:
    """Add the rows of one store to the report."""
    race = Race()
    ours_name, theirs_name = f"memstack on {store}", f"bare Mem0 on {STORES[store]}"
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        ours = stack.enter_context(memstack_on(store, folder))
        theirs = stack.enter_context(bare_mem0(store, folder))
        others = [{**item, "user_id": f"other {item['user_id']}"} for item in facts(filled, users=100, seed=99)]
        ours.add_many(others)
        mem0_fill(theirs, others)
        ours.add("warm up", user_id="nobody")
        theirs.add("warm up", user_id="nobody", infer=False)
        for number in range(rounds):
            items = list(facts(single, users=10, seed=100 + number))
            many = list(facts(bulk, users=100, seed=200 + number))
            race.run("add", theirs_name, single, lambda items=items: mem0_add(theirs, items))  # type: ignore[misc]
            race.run("add", ours_name, single, lambda items=items: add_one_by_one(ours, items))  # type: ignore[misc]
            race.run("add_many", ours_name, bulk, lambda many=many: ours.add_many(many))  # type: ignore[misc]
        for number in range(max(1, rounds // 3)):
            doomed = list(facts(delete, users=1, seed=300 + number))
            mem0_fill(theirs, doomed)
            ours.add_many(doomed)
            ours.add_many([{**item, "user_id": "erased"} for item in doomed])
            race.run("delete_all", theirs_name, delete, lambda: theirs.delete_all(user_id="user-0"))
            race.run("delete_all", ours_name, delete, lambda: ours.delete_all(user_id="user-0"))
            race.run("erase", ours_name, delete, lambda: ours.erase(user_id="erased"))
    bases = {"add_many": "add", "erase": "delete_all"}
    for (verb, name), series in race.series.items():
        base = race.series[bases.get(verb, verb), theirs_name]
        count = {"add": single, "add_many": bulk}.get(verb, delete)
        report.row(verb, name, count, 1 / series.percentile(0.5), ratio(base, series))


def main() -> None:
    """Run the comparison; write and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--stores", nargs="+", default=["qdrant-embedded"], choices=[s for s in STORES if STORES[s]])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--filled", type=int, default=10_000, help="memories of others that both begin with")
    parser.add_argument("--bulk", type=int, default=2_000, help="items for add_many, in each round")
    parser.add_argument("--single", type=int, default=20, help="items for add, in each round")
    parser.add_argument("--delete", type=int, default=1_000, help="memories to delete, in every third round")
    args = parser.parse_args()
    report = Report("ingest", ("verb", "subject", "memories a round", "per second", "times bare Mem0"))
    report.notes.append("`add_many` is compared with bare Mem0's `add`, and `erase` with its `delete_all`.")
    for store in args.stores:
        compare(
            store,
            report,
            rounds=args.rounds,
            filled=args.filled,
            bulk=args.bulk,
            single=args.single,
            delete=args.delete,
        )

    def plot(axes: Any) -> None:
        names = [f"{row[0]}, {row[1]}" for row in report.rows]
        axes.barh(names, [row[3] for row in report.rows])
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="memories per second")

    report.write(args.out, plot=plot)


if __name__ == "__main__":
    main()
