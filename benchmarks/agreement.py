"""How often is an engine's answer to a filter the right one?

A seeded corpus and seeded random filters, to depth 4, over the types that bare Mem0 accepts on every engine: strings,
integers, floats, bools, ISO dates; fields are often missing. The right answer is memstack's reference evaluator's. Each
filter is put to memstack through `search` and through `get_all`, and to bare Mem0 (the same rows, the same embedder)
through its `search`.

    python -m benchmarks.agreement --filters 5000
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, Final

from benchmarks.support import STORES, Report, arguments, bare_mem0, memstack_on, scratch
from memstack import MemoryGateway
from memstack.filters import evaluate, parse

USER: Final = "alex"
CATEGORIES: Final = ["preferences", "projects", "new york", "new york city", "it's", 'a "b"', "50 %", "tea", "42"]
DAYS: Final = ["2025-01-01", "2025-06-15", "2026-01-01T08:00:00+00:00", "2026-12-31"]

Filter = dict[str, Any]


def corpus(rng: random.Random, size: int) -> list[dict[str, Any]]:
    """The metadata of `size` memories."""

    def one(number: int) -> dict[str, Any]:
        full = {
            "category": rng.choice(CATEGORIES),
            "n": rng.randint(0, 9),
            "x": rng.choice([0.0, 0.1, 1.0, 2.5, 7.0]),
            "done": rng.random() < 0.5,
            "due": rng.choice(DAYS),
            "place": rng.choice(CATEGORIES).upper(),
        }
        kept = {key: value for key, value in full.items() if rng.random() < 0.7}
        return {**kept, "number": number}

    return [one(number) for number in range(size)]


def leaf(rng: random.Random) -> Filter:
    """A filter on one field."""
    field = rng.choice(["category", "n", "x", "done", "due", "place", "missing"])
    values: dict[str, Callable[[], Any]] = {
        "n": lambda: rng.randint(0, 9),
        "x": lambda: rng.choice([0.0, 0.1, 1.0, 2.5, 7.0]),
        "done": lambda: rng.random() < 0.5,
        "due": lambda: rng.choice(DAYS),
    }
    value = values.get(field, lambda: rng.choice(CATEGORIES))
    operators = ["plain", "eq", "ne", "in", "nin", "exists"]
    if field in ("n", "x", "due"):
        operators += ["gt", "gte", "lt", "lte", "between"]
    if field in ("category", "place"):
        operators += ["contains", "icontains"]
    match rng.choice(operators):
        case "plain":
            return {field: value()}
        case "exists":
            return {field: "*"}
        case "in" | "nin" as operator:
            return {field: {operator: [value() for _ in range(rng.randint(1, 3))]}}
        case "between":
            return {field: {"gte": value(), "lt": value()}}
        case "contains" | "icontains" as operator:
            return {field: {operator: value()[:3]}}
        case operator:
            return {field: {operator: value()}}


def random_filter(rng: random.Random, depth: int = 4) -> Filter:
    """A filter of at most this depth."""
    if depth <= 1 or rng.random() < 0.35:
        return leaf(rng)
    operator = rng.choice(["AND", "OR", "NOT", "fields"])
    if operator == "fields":
        return {**leaf(rng), **leaf(rng)}
    return {operator: [random_filter(rng, depth - 1) for _ in range(rng.randint(1, 3))]}


# -- who is asked --------------------------------------------------------------------------------------


def ask_memstack(memory: MemoryGateway, rows: list[dict[str, Any]], filters: list[Filter]) -> Iterator[set[int] | str]:
    """The rows for each filter, or why there are none."""
    alex = memory.for_user(USER)
    alex.add_many([{"content": f"fact {row['number']}", "metadata": row} for row in rows])
    memory.for_user("bob").add_many([{"content": f"fact {row['number']}", "metadata": row} for row in rows])
    for given in filters:
        try:
            searched = {hit.metadata["number"] for hit in alex.search("fact", filters=given, limit=len(rows))}
            listed = {found.metadata["number"] for found in alex.iter_all(filters=given)}
        except Exception as error:  # noqa: BLE001  # what is counted
            yield type(error).__name__
            continue
        yield searched if searched == listed else {-1}  # two answers: one of them is wrong


def ask_mem0(memory: Any, rows: list[dict[str, Any]], filters: list[Filter]) -> Iterator[set[int] | str]:
    """The rows for each filter, or why there are none."""
    for row in rows:
        memory.add(f"fact {row['number']}", user_id=USER, metadata=row, infer=False)
        memory.add(f"fact {row['number']}", user_id="bob", metadata=row, infer=False)
    for given in filters:
        try:
            found = memory.search("fact", filters={"user_id": USER, **given}, top_k=len(rows) * 2, threshold=0.0)
            owners = {item["user_id"] for item in found["results"]}
            numbers = {item["metadata"]["number"] for item in found["results"]}
            yield numbers if owners <= {USER} else "rows of another user"
        except Exception as error:  # noqa: BLE001  # what is counted
            yield type(error).__name__


# -- the comparison --------------------------------------------------------------------------------------


def compare(answers: Iterator[set[int] | str], expected: list[set[int]]) -> Counter[str]:
    """Counts of right, silently wrong, and raised."""
    counts: Counter[str] = Counter()
    for answer, truth in zip(answers, expected, strict=True):
        if isinstance(answer, str):
            counts["raised"] += 1
        else:
            counts["right" if answer == truth else "silently wrong"] += 1
    return counts


def main() -> None:
    """Run the comparison and write the table."""
    parser = arguments(__doc__)
    parser.add_argument("--stores", nargs="+", default=list(STORES), choices=list(STORES))
    parser.add_argument("--filters", type=int, default=500)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-mem0", action="store_true", help="memstack alone")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    rows = corpus(rng, args.rows)
    filters = [random_filter(rng) for _ in range(args.filters)]
    expected = [{row["number"] for row in rows if evaluate(parse(given), row)} for given in filters]
    report = Report("agreement", [f"{args.filters:,} random filters", "right", "silently wrong", "raised"])
    report.notes.append(
        f"{args.rows} memories each of two users, seed {args.seed}. Bare Mem0 is {version('mem0ai')}, with the same "
        "rows and the same embedder."
    )

    def tell(name: str, counts: Counter[str]) -> None:
        report.row(name, *(f"{counts[kind] / len(filters):.1%}" for kind in ("right", "silently wrong", "raised")))

    with scratch() as folder:
        for store in args.stores:
            begun = time.perf_counter()
            with memstack_on(store, folder) as memory:
                tell(f"memstack on {store}", compare(ask_memstack(memory, rows, filters), expected))
            report.progress(f"  {time.perf_counter() - begun:.0f} s")
            if STORES[store] is not None and not args.no_mem0:
                with bare_mem0(store, folder) as bare:
                    tell(f"bare Mem0 on {STORES[store]}", compare(ask_mem0(bare, rows, filters), expected))
    report.write(args.out)


if __name__ == "__main__":
    main()
