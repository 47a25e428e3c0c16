"""What does it cost to begin: `import memstack`, and `memstack search …` from a cold shell, on stores of any size?

Fresh processes, in turn; the medians of their whole time and of their CPU time. The measure of an import is `import
pydantic_settings`; that of a command is the import of the libraries that it works with, in a process that does nothing
else. All of them find their modules compiled, as `pip install` leaves them.

    python -m benchmarks.startup --runs 9 --sizes 1000 10000 100000
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.support import Report, arguments, facts, memstack_on, scratch

LIBRARIES: Final = "import typer, pydantic_settings, yaml, numpy, qdrant_edge, wordllama, Stemmer, regex"
SETTINGS: Final = "import pydantic_settings"


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of a process, and seconds of CPU."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[-1]!r} ended with {process.returncode}")
    return took, used.ru_utime + used.ru_stime


def compiled(folder: Path) -> dict[str, str]:
    """This environment, with a folder where Python keeps modules compiled, whoever may write beside them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder)}


def search(folder: Path) -> list[str]:
    """The command that searches the default store in a folder."""
    options = [f"vector_store.path={folder / 'qdrant'}", f"history.path={folder / 'qdrant-embedded-history.db'}"]
    told = [word for option in options for word in ("--set", option)]
    return [sys.executable, "-m", "memstack", "search", "plans for the summer", "--user", "user-3", *told]


def filled(folder: Path, size: int) -> Path:
    """A folder with so many memories, 100 of each user; used again where it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with memstack_on("qdrant-embedded", folder) as memory:
        if memory.stats()["vector_store"]["rows"] == 0:
            memory.add_many(facts(size, users=max(1, size // 100)), batch_size=1000)
    return folder


def main() -> None:
    """Run the comparison; write and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 10_000])
    parser.add_argument("--data", type=Path, help="folder for the stores, which are kept and used again")
    args = parser.parse_args()
    report = Report("startup", ("process", "median ms", "CPU ms", "compared with", "ratio", "ratio of CPU"))
    with ExitStack() as stack:
        data = args.data or stack.enter_context(scratch())
        commands = {
            statement: [sys.executable, "-c", statement]
            for statement in (SETTINGS, "import memstack", "from memstack import open_memory", "import mem0", LIBRARIES)
        }
        for size in args.sizes:
            commands[f"memstack search, {size:,} memories"] = search(filled(data / f"qdrant-embedded-{size}", size))
        environment = compiled(stack.enter_context(scratch()))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(args.runs + 1):
            for name, command in commands.items():
                measured = run(command, environment)
                if number:  # the first warms the disk, and compiles
                    times[name].append(measured)
    for name, mine in times.items():
        base = LIBRARIES if name == LIBRARIES or name.startswith("memstack search") else SETTINGS
        pairs = list(zip(mine, times[base], strict=True))
        wall, cpu = (statistics.median(found[place] for found in mine) for place in range(2))
        ratios = (statistics.median(m[place] / b[place] for m, b in pairs) for place in range(2))
        told = "the libraries alone" if base == LIBRARIES else SETTINGS
        report.row("the libraries alone" if name == LIBRARIES else name, wall * 1000, cpu * 1000, told, *ratios)
    report.notes.append(
        f"The libraries alone: `{LIBRARIES}`. (A search reads the files of wordllama without importing it, and has no "
        "YAML to read here.) Ratios are medians of pairs of processes."
    )

    def plot(axes: Any) -> None:
        axes.barh([str(row[0]) for row in report.rows], [row[1] for row in report.rows])
        axes.invert_yaxis()
        axes.set(xlabel="ms from start to end of the process")

    report.write(args.out, plot=plot)


if __name__ == "__main__":
    main()
