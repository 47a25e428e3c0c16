"""How much memory does a process hold that has a store open, of any size, and after a thousand searches?

A fresh process for each size, with the embedded default. What is mapped are files, which the system takes back when it
needs the room; the rest is the process's own. Read from ``/proc/self/status``, so this runs on Linux.

    python -m benchmarks.footprint --sizes 1000 100000
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.startup import filled
from benchmarks.support import Report, arguments, memstack_on, scratch

SEARCHES: Final = 1000
FIELDS: Final = ("VmRSS", "RssAnon", "RssFile")


def held() -> list[int]:
    """What this process holds in all, of its own, and mapped; in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(lines[name].split()[0]) // 1024 for name in FIELDS]


def measure(folder: Path, size: int) -> list[list[int]]:
    """What is held after one search, and after many."""
    with memstack_on("qdrant-embedded", folder) as memory:
        memory.search("plans for the summer", user_id="user-0")
        first = held()
        for number in range(SEARCHES):
            memory.search("plans for the summer", user_id=f"user-{number % max(1, size // 100)}")
        return [first, held()]


def main() -> None:
    """Measure each size in a process of its own; write the table."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 100_000])
    parser.add_argument("--data", type=Path, help="folder for the stores, which are kept and used again")
    parser.add_argument("--measure", nargs=2, help="a folder and a size: what each process is told")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(Path(args.measure[0]), int(args.measure[1]))))
        return
    report = Report("footprint", ["memories", "searches", "held, MB", "of its own, MB", "mapped files, MB"])
    with scratch() as folder:
        for size in args.sizes:
            place = filled((args.data or folder) / f"qdrant-embedded-{size}", size)
            command = [sys.executable, "-m", "benchmarks.footprint", "--measure", str(place), str(size)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for searches, figures in zip((1, SEARCHES), json.loads(told.splitlines()[-1]), strict=True):
                report.row(size, searches, *figures)
    report.write(args.out)


if __name__ == "__main__":
    main()
