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

CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    """How long the import takes in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CODE.format(module)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    modules = ["pydantic_settings", "memstack", "mem0"]
    for module in modules:
        seconds(module)  # warm the disk
    times: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(args.runs):
        for module in modules:
            times[module].append(seconds(module))
    base = times["pydantic_settings"]
    print(f"| import, {args.runs} runs in turn | median ms | ratio (median of pairs) |")
    print("| --- | ---: | ---: |")
    figures = {}
    for module in modules:
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times[module], base, strict=True))
        figures[module] = {"median_ms": statistics.median(times[module]) * 1000, "ratio": ratio}
        print(f"| {module} | {figures[module]['median_ms']:.0f} | {ratio:.2f} |")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
