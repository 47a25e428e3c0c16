"""Does a search find what matters?

On LoCoMo (Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM Agents", ACL 2024): long
conversations of two people in many sessions, with questions and the turns that answer them, the evidence. Get
``locomo10.json`` from https://github.com/snap-research/locomo (CC BY-NC 4.0) and pass its path. Each conversation is a
user, each session a run, each turn a message, as `memstack import` does it. No language model judges anything:

* dialog recall@k: the share of the evidence among the first k hits, averaged over the questions with evidence;
* recall_all@k: the share of the questions whose evidence is all among them;
* session recall@k: the share of the evidence's sessions among the first k, each ranked by its best hit.

Side by side: memstack on each engine; memstack with every part of its ranking but the vectors switched off, which is
the engine's own search; bare Mem0 with the same embedder; BM25 alone (k1 = 1.2, b = 0.75, lower-cased words); and, with
``--ablation``, memstack without each part.

    python -m benchmarks.quality locomo10.json --stores qdrant-embedded chroma-embedded pgvector --ablation
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.support import STORES, Report, arguments, bare_mem0, memstack_on, scratch
from memstack import MemoryGateway
from memstack.cli.locomo import turns

PARTS: Final = ("words", "related", "neighbours", "session", "speaker", "answers", "time")
CATEGORIES: Final = {1: "multi-hop", 2: "temporal", 3: "open", 4: "single-hop", 5: "adversarial"}
CUTS: Final = (5, 10, 20)
DEPTH: Final = 50  # hits that are asked for: sessions are ranked by the best of them
Search = Callable[[str, str], Sequence[str]]  # user and question to the turns' ids, best first


@dataclass(frozen=True)
class Question:
    """A question, and what answers it.

    Attributes:
        user: the conversation.
        text: the question.
        evidence: ids of turns.
        category: LoCoMo's number.
    """

    user: str
    text: str
    evidence: frozenset[str]
    category: int


def read(path: Path) -> tuple[list[dict[str, Any]], list[Question]]:
    """The turns as items for `MemoryGateway.add_many`, and the questions that have evidence among them."""
    document = json.loads(path.read_text(encoding="utf-8"))
    items = [dict(item) for _, item, _ in turns(document) if item is not None]
    there: dict[str, set[str]] = defaultdict(set)
    for item in items:
        there[item["user_id"]].add(item["metadata"]["dia_id"])
    questions = []
    for sample in document:
        user = sample["sample_id"]
        for asked in sample["qa"]:
            named = re.findall(r"D\d+:\d+", " ".join(asked["evidence"]))
            evidence = frozenset(named) & there[user]
            if evidence:
                questions.append(Question(user, asked["question"], evidence, asked["category"]))
    return items, questions


# -- subjects --------------------------------------------------------------------------------------------


def ask_memstack(memory: MemoryGateway) -> Search:
    """Search a memory."""

    def search(user: str, question: str) -> list[str]:
        return [str(hit.metadata["dia_id"]) for hit in memory.search(question, user_id=user, limit=DEPTH)]

    return search


def ask_mem0(memory: Any) -> Search:
    """Search bare Mem0."""

    def search(user: str, question: str) -> list[str]:
        found = memory.search(question, filters={"user_id": user}, top_k=DEPTH, threshold=0.0)
        return [hit["metadata"]["dia_id"] for hit in found["results"]]

    return search


def ask_bm25(items: Sequence[Mapping[str, Any]], k1: float = 1.2, b: float = 0.75) -> Search:
    """The textbook's BM25 over the turns of each user, the speaker's name and a picture's caption among the words."""
    said: dict[str, list[tuple[str, Counter[str]]]] = defaultdict(list)
    for item in items:
        text = " ".join(filter(None, (item["name"], item["content"], item["metadata"].get("caption"))))
        said[item["user_id"]].append((item["metadata"]["dia_id"], Counter(re.findall(r"\w+", text.lower()))))

    def search(user: str, question: str) -> list[str]:
        turns_ = said[user]
        average = statistics.mean(counts.total() for _, counts in turns_)
        scores = dict.fromkeys((dia_id for dia_id, _ in turns_), 0.0)
        for word in set(re.findall(r"\w+", question.lower())):
            having = sum(1 for _, counts in turns_ if word in counts)
            weight = math.log(1 + (len(turns_) - having + 0.5) / (having + 0.5))
            for dia_id, counts in turns_:
                often = counts[word]
                scores[dia_id] += weight * often * (k1 + 1) / (often + k1 * (1 - b + b * counts.total() / average))
        return sorted(scores, key=lambda dia_id: -scores[dia_id])[:DEPTH]

    return search


# -- figures ---------------------------------------------------------------------------------------------


def measure(name: str, search: Search, questions: Sequence[Question], report: Report) -> None:
    """Ask all questions, and add a row to the report."""
    recall: dict[int, list[float]] = {cut: [] for cut in CUTS}
    session: dict[int, list[float]] = {cut: [] for cut in CUTS}
    whole: list[float] = []
    by_category: dict[int, list[float]] = defaultdict(list)
    for question in questions:
        found = search(question.user, question.text)
        sessions = list(dict.fromkeys(dia_id.partition(":")[0] for dia_id in found))
        theirs = {dia_id.partition(":")[0] for dia_id in question.evidence}
        for cut in CUTS:
            recall[cut].append(len(question.evidence.intersection(found[:cut])) / len(question.evidence))
            session[cut].append(len(theirs.intersection(sessions[:cut])) / len(theirs))
        whole.append(float(recall[10][-1] == 1.0))
        by_category[question.category].append(recall[10][-1])
    means = [statistics.mean(by_category[kind]) if by_category[kind] else math.nan for kind in CATEGORIES]
    report.row(
        name,
        *(round(statistics.mean(recall[cut]), 4) for cut in CUTS),
        round(statistics.mean(whole), 4),
        *(round(statistics.mean(session[cut]), 4) for cut in CUTS),
        *(round(mean, 3) for mean in means),
    )


def main() -> None:
    """Run the comparison; write and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("locomo", type=Path, help="LoCoMo's JSON")
    parser.add_argument("--stores", nargs="+", default=["qdrant-embedded"], choices=list(STORES))
    parser.add_argument("--ablation", action="store_true", help="also memstack without each part, on the first store")
    parser.add_argument("--every", type=int, default=1, help="ask every n-th question only")
    parser.add_argument("--no-mem0", action="store_true", help="leave out bare Mem0, which takes its time to add")
    args = parser.parse_args()
    items, questions = read(args.locomo)
    questions = questions[:: args.every]
    columns = (
        "subject",
        *(f"dialog@{cut}" for cut in CUTS),
        "all@10",
        *(f"session@{cut}" for cut in CUTS),
        *CATEGORIES.values(),
    )
    report = Report("quality", columns)
    of = ", ".join(dict.fromkeys(item["user_id"] for item in items))
    report.notes.append(f"{len(questions)} questions about {len(items)} turns ({of}); by category: dialog recall@10.")
    for store in args.stores:
        with scratch() as folder, memstack_on(store, folder) as memory:
            failed = memory.add_many(items, batch_size=1000).failed
            if failed:
                raise SystemExit(f"{store}: {failed[0]}")
            measure(f"memstack on {store}", ask_memstack(memory), questions, report)
            if store == args.stores[0]:
                variants(store, folder, questions, report, ablation=args.ablation)
    measure("BM25 alone", ask_bm25(items), questions, report)
    if not args.no_mem0:
        with scratch() as folder, bare_mem0("qdrant-embedded", folder) as mem0:
            for item in items:
                names = {key: item[key] for key in ("user_id", "run_id")}
                mem0.add(item["content"], **names, metadata=item["metadata"], infer=False)
            measure("bare Mem0", ask_mem0(mem0), questions, report)

    def plot(axes: Any) -> None:
        names = [str(row[0]) for row in report.rows]
        axes.barh(names, [row[2] for row in report.rows], label="dialog recall@10")
        axes.plot([row[6] for row in report.rows], names, "k|", markersize=12, label="session recall@10")
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="recall")
        axes.legend(loc="lower right")

    report.write(args.out, plot=plot)


def variants(store: str, folder: Path, questions: Sequence[Question], report: Report, *, ablation: bool) -> None:
    """The same rows, ranked by the vectors alone, and without each part."""
    wanted: dict[str, tuple[str, ...]] = {"the vectors alone": PARTS, "words and vectors alone": PARTS[1:]}
    if ablation:
        wanted.update({f"without {part}": (part,) for part in PARTS})
    if store != "qdrant-embedded":  # which alone can be opened twice by one process
        return
    for name, off in wanted.items():
        with memstack_on(store, folder, retrieval=dict.fromkeys(off, False)) as other:
            measure(name, ask_memstack(other), questions, report)


if __name__ == "__main__":
    main()
