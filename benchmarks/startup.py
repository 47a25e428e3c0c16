"""What does ``import memstack`` cost, beside ``import pydantic_settings``?

Fresh processes, in turn; the medians of the time inside the process, and the median of the ratios pair by pair.

    python benchmarks/startup.py --runs 15
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

CODE = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
BASE = "import pydantic_settings"
STATEMENTS = (BASE, "import memstack", "from memstack import open_memory", "import mem0")


def seconds(statement: str) -> float:
    """How long the import takes in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CODE.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    for statement in STATEMENTS:
        seconds(statement)  # warm the disk
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(args.runs):
        for statement in STATEMENTS:
            times[statement].append(seconds(statement))
    base = times[BASE]
    print(f"| {args.runs} runs in turn | median ms | ratio (median of pairs) |")
    print("| --- | ---: | ---: |")
    figures = {}
    for statement in STATEMENTS:
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times[statement], base, strict=True))
        figures[statement] = {"median_ms": statistics.median(times[statement]) * 1000, "ratio": ratio}
        print(f"| `{statement}` | {figures[statement]['median_ms']:.0f} | {ratio:.2f} |")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
