"""How often is an engine's answer to a filter the right one?

A seeded corpus and seeded random filters, to depth 4, over the types that bare Mem0 accepts on every engine: strings,
integers, floats, bools, ISO dates; fields are often missing. The right answer is memstack's reference evaluator's. Each
filter is put to memstack through `search` and through `get_all`, and to bare Mem0 (the same rows, the same embedder)
through its `search`.

    python -m benchmarks.agreement --filters 500 --stores qdrant-embedded chroma-embedded pgvector
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.support import STORES, bare_mem0, memstack_on, scratch
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
        yield searched if searched == listed else "search and get_all differ"


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


def compare(answers: Iterator[set[int] | str], expected: list[set[int]]) -> dict[str, Any]:
    """Counts of right, silently wrong, and raised."""
    right = wrong = raised = 0
    for answer, truth in zip(answers, expected, strict=True):
        if isinstance(answer, str):
            raised += 1
        elif answer == truth:
            right += 1
        else:
            wrong += 1
    total = max(1, right + wrong + raised)
    return {"right": right / total, "silently wrong": wrong / total, "raised": raised / total, "filters": total}


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stores", nargs="+", default=list(STORES), choices=list(STORES))
    parser.add_argument("--filters", type=int, default=500)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-mem0", action="store_true", help="memstack alone")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    rng = random.Random(args.seed)
    rows = corpus(rng, args.rows)
    filters = [random_filter(rng) for _ in range(args.filters)]
    expected = [{row["number"] for row in rows if evaluate(parse(given), row)} for given in filters]
    results: dict[str, dict[str, Any]] = {}
    with scratch() as folder:
        for store in args.stores:
            begun = time.perf_counter()
            with memstack_on(store, folder) as memory:
                results[f"memstack on {store}"] = compare(ask_memstack(memory, rows, filters), expected)
            print(f"memstack on {store}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            if STORES[store] is not None and not args.no_mem0:
                with bare_mem0(store, folder) as bare:
                    results[f"bare Mem0 on {STORES[store]}"] = compare(ask_mem0(bare, rows, filters), expected)
    print(f"| {args.filters} random filters | right | silently wrong | raised |")
    print("| --- | ---: | ---: | ---: |")
    for name, counts in results.items():
        print(f"| {name} | {counts['right']:.1%} | {counts['silently wrong']:.1%} | {counts['raised']:.1%} |")
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
