"""Scores are one formula, in [0, 1], and rank the same way everywhere."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.errors import InvalidInput
from memstack.filters.ast import Node
from memstack.gateway import MemoryGateway
from memstack.instants import utcnow
from memstack.providers.base import Embedder
from memstack.records import Hit, Memory
from memstack.retrieval.dates import windows
from memstack.stores.base import Row
from memstack.testing.contract.base import Contract, OpenHere
from memstack.testing.contract.state import parts_of
from memstack.testing.contract.strategies import PHRASES, examples, texts
from memstack.words import keys_of, query_words

UTC = timezone.utc
SAME = 1e-3
TIE = 2e-6
RELATED = 0.4
QUERIES = (
    *PHRASES, "when should we schedule tasks?", "Phoenix", "Lisbon", "sugar", "zebra quantum flux", "the", "?",
    "\u200b\u200b", "🙂", "x" * 3000,
)  # fmt: skip


def cosine(embedder: Embedder, query: str, texts_: list[str]) -> list[float]:
    """The similarity of a query and some texts, computed here; text without a direction is similar to nothing."""
    vectors = np.asarray(embedder.vectors([query, *texts_]), dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    lengths[lengths == 0] = 1.0
    unit = vectors / lengths[:, None]
    return [float(value) for value in unit[1:] @ unit[0]]


def expected_scores(embedder: Embedder, query: str, said: list[str], share: float = 0.5) -> list[float]:
    """The scores of memories outside of runs, computed here: the words they cover and the cosine, `share` to each.

    A word counts by how rare it is, and a related one 0.4 of that at most, where the embedder knows words; a query of
    which no memory has a word is judged by the cosine alone.
    """
    near = [min(1.0, max(0.0, value)) for value in cosine(embedder, query, said)]
    keys = [keys_of(text) for text in said]
    asked = query_words(query)
    has = np.array([[not set(word).isdisjoint(some) for word in asked] for some in keys], dtype=float)
    having = has.sum(axis=0)
    if not having.any():
        return near
    absent = 0.0
    if embedder.knows_words:
        absent = RELATED
        cosines = embedder.likeness([f" {' '.join(some)} " for some in keys], [word[0] for word in asked])
        has = np.maximum(has, RELATED * np.minimum((cosines - 0.4) / 0.6, 1.0))
    weights = np.log(1 + (len(said) - having + 0.5) / (having + 0.5)) * np.where(having > 0, 1.0, absent)
    covered = has @ weights / weights.sum()
    return [share * words + (1 - share) * cosine_ for words, cosine_ in zip(covered, near, strict=True)]


@dataclass(frozen=True)
class Corpus:
    """Memories, and a handle on them."""

    handle: MemoryGateway
    memories: tuple[Memory, ...]


def _in_order(hits: list[Hit]) -> None:
    for one, other in pairwise(hits):
        assert one.score > other.score - TIE
    for _, group in groupby(hits, key=lambda hit: hit.text):
        tied = list(group)
        assert [hit.created_at for hit in tied] == sorted(hit.created_at for hit in tied)


def _drawing(memory: MemoryGateway, **weights: Any) -> MemoryGateway:
    """The same memory with other weights: with few `candidates`, they are drawn from what passes the filter."""
    parts = parts_of(memory)
    options = dataclasses.replace(parts.options, weights=dataclasses.replace(parts.options.weights, **weights))
    return MemoryGateway.of(dataclasses.replace(parts, options=options))


class ScoreContract(Contract):
    """Scores are one formula, and rank the same way everywhere."""

    @pytest.fixture(scope="class")
    @classmethod
    def embedder(cls, corpus_memory: MemoryGateway) -> Embedder:
        """The embedder of the memories under test."""
        return parts_of(corpus_memory).embedder

    @pytest.fixture(scope="class")
    @classmethod
    def corpus(cls, corpus_memory: MemoryGateway) -> Corpus:
        """Every phrase five times with different metadata, stored in several batches, among other texts."""
        handle = corpus_memory.for_user("scored")
        memories: list[Memory] = []
        for copy in range(5):
            items = [{"content": phrase, "metadata": {"copy": copy}} for phrase in PHRASES]
            items += [
                {"content": f"note {copy} on topic {i} " + "etc. " * (i % 9), "metadata": {"copy": copy}}
                for i in range(20)
            ]
            memories += handle.add_many(items, batch_size=7 + 11 * copy).stored
        for copy in range(5, 9):  # and one by one
            memories += handle.add(PHRASES[copy], metadata={"copy": copy}).stored
        corpus_memory.add_many([{"content": phrase} for phrase in PHRASES], user_id="somebody else")
        return Corpus(handle, tuple(memories))

    def test_scores_are_words_and_cosine(self, corpus: Corpus, embedder: Embedder) -> None:
        """Every memory of the scope is found; its score is the share of the words it covers, and the cosine."""
        said = [memory.text for memory in corpus.memories]
        for query in QUERIES:
            hits = {hit.id: hit.score for hit in corpus.handle.search(query, limit=1000)}
            assert hits.keys() == {memory.id for memory in corpus.memories}
            for memory, expected in zip(corpus.memories, expected_scores(embedder, query, said), strict=True):
                score = hits[memory.id]
                assert 0.0 <= score <= 1.0
                assert abs(score - expected) < SAME, (query, memory.text)

    def test_similarity_alone(self, open_here: OpenHere, tmp_path: Path, embedder: Embedder) -> None:
        """With every other part switched off the score is the cosine, with opposite directions counted as 0."""
        parts = ("words", "related", "neighbours", "session", "speaker", "answers", "time")
        handle = open_here(tmp_path, retrieval=dict.fromkeys(parts, False)).for_user("alone")
        stored = handle.add_many([*PHRASES, *PHRASES], run_id="a run").stored
        for query in QUERIES[::5]:
            hits = {hit.id: hit.score for hit in handle.search(query, limit=1000)}
            assert hits.keys() == {memory.id for memory in stored}
            near = cosine(embedder, query, [memory.text for memory in stored])
            for memory, expected in zip(stored, near, strict=True):
                assert abs(hits[memory.id] - min(1.0, max(0.0, expected))) < SAME, (query, memory.text)

    def test_what_only_the_words_find(self, memory: MemoryGateway) -> None:
        """A rare word finds its memory among hundreds that are nearer, in any script; a part of an identifier too."""
        handle = _drawing(memory, candidates=16).for_user("words")
        said = ["error E4711 again", "call getUserName() first", "ein Straßenfest in Köln", "彼は東京都に住んでいる"]
        handle.add_many([*said, *(f"which one is number {i}, and where is it?" for i in range(400))])
        for query, text in zip(
            ("which one is E4711, and where is it?", "where is the user?", "where is KOLN?", "東京"), said, strict=True
        ):
            assert handle.search(query, limit=1)[0].text == text, query

    def test_what_only_the_context_finds(self, memory: MemoryGateway) -> None:
        """Among hundreds that are nearer: what was said when the query says, by whom it names, and beside its best."""
        near = [f"which one is number {i}, and where is it?" for i in range(400)]
        talk: list[Any] = [{"content": text, "run_id": "talk"} for text in ("Which cello is it, Ben?", "Rusty", "Old")]
        dated = {"content": "Gasket", "occurred_at": "2023-05-07T10:00:00Z"}
        memory.for_user("context").add_many([*near, *talk, dated, {"content": "Paint", "name": "Zoe"}])
        for query, text, part in (
            ("which one is it, and where is it, on 7 May 2023?", "Gasket", "time"),
            ("which one is it, and where is it, Zoe?", "Paint", "speaker"),
            ("which cello is it, and where is it?", "Rusty", "neighbours"),
            ("which cello is it, and where is it?", "Old", "neighbours"),
        ):
            handle = _drawing(memory, candidates=16, **{part: 1.0}).for_user("context")
            hits = {hit.text: hit for hit in handle.search(query, limit=3, explain=True)}
            assert text in hits, query
            assert (hits[text].explain or {})["parts"][part] > 0

    def test_what_is_drawn_passes_the_filter(self, memory: MemoryGateway) -> None:
        """What is drawn for its words, time, speaker or place passes scope and filter, and is counted in them alone."""
        near = [f"which one is number {i}, and where is it?" for i in range(90)]
        talk: list[dict[str, Any]] = [
            {"content": text, "name": "Zoe", "run_id": "talk", "occurred_at": "2023-05-07T10:00:00Z"}
            for text in ("Which cello is it, Zoe?", "Rusty", "Old")
        ]
        others = [{**said, "content": f"{i} rusty", "name": "Rusty"} for said in talk for i in range(9)]
        ann = memory.for_user("ann")
        ann.add_many([{"content": text, "metadata": {"kept": True}} for text in near])
        ann.add_many([{**said, "metadata": {"kept": True}} for said in talk])

        def found() -> list[tuple[str, float]]:
            query = "which rusty cello is it, and where is it, Zoe, on 7 May 2023?"
            handle = _drawing(memory, candidates=16).for_user("ann")
            return [(hit.id, hit.score) for hit in handle.search(query, filters={"kept": True}, limit=20)]

        alone = found()
        ann.add_many(others)
        memory.for_user("ben").add_many([*talk, *({**said, "metadata": {"kept": True}} for said in others)])
        assert found() == alone

    def test_a_pasted_document(self, memory: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many words a query has, the engine is asked about the first of them."""
        memory.for_user("pasted").add_many([f"which one is number {i}, and where is it?" for i in range(80)])
        drawing = _drawing(memory, candidates=16)
        store = parts_of(drawing).store
        asked: list[Sequence[str]] = []
        counts = store.counts

        def counted(where: Node, field: str, groups: Sequence[Sequence[str]]) -> list[int]:
            asked.extend(groups)
            return counts(where, field, groups)

        monkeypatch.setattr(store, "counts", counted)
        drawing.for_user("pasted").search(" ".join(f"word{i}" for i in range(300)), limit=3)
        assert len(asked) == 32

    def test_stems_and_accents(self, memory: MemoryGateway) -> None:
        """Words are found whatever their ending, case and accents."""
        handle = memory.for_user("stems")
        handle.add_many(
            [
                "She was running in the mornings", "Les élèves mangent dans la cour", "Wir kaufen neue Häuser",
                "Ёлку купили в декабре", "السيارة عند الميكانيكي", "Arabayı garajda saklıyorum", "我喜欢喝绿茶",
            ]
        )  # fmt: skip
        for query, first in (
            ("who runs each morning?", "She"),
            ("un ELEVE dans les cours", "Les"),
            ("das Haus", "Wir"),
            ("елка", "Ёлку"),
            ("سيارة", "السيارة"),
            ("araba nerede", "Arabayı"),
            ("茶", "我"),
        ):
            assert handle.search(query, limit=1)[0].text.startswith(first), query

    def test_neighbours_speakers_and_times(self, memory: MemoryGateway) -> None:
        """An answer is found by its question, in its own run only; speakers and times that a query names count."""
        handle = memory.for_user("context")
        talk = [
            ("Ann", "Which instrument do you play?", 1),
            ("Ben", "The cello, badly.", 1),
            ("Ann", "Nice weather today.", 9),
        ]
        said = [
            {"content": text, "name": name, "run_id": "one", "occurred_at": datetime(2023, day, day, tzinfo=UTC)}
            for name, text, day in talk
        ]
        apart = {"content": "The cello, badly!", "name": "Ben", "run_id": "two"}
        stored = handle.add_many([*said, apart]).stored
        hits = {hit.id: hit for hit in handle.search("which instrument does Ben play?", explain=True)}
        parts = {key: hit.explain["parts"] for key, hit in hits.items() if hit.explain is not None}
        assert hits[stored[1].id].score > hits[stored[3].id].score
        assert parts[stored[1].id]["speaker"] > 0 == parts[stored[0].id]["speaker"]
        assert parts[stored[1].id]["answers"] > 0 > parts[stored[0].id]["answers"]
        assert parts[stored[1].id]["neighbours"] > 0 == parts[stored[3].id]["neighbours"]
        for key, shares in parts.items():
            assert sum(shares.values()) == pytest.approx(hits[key].score, abs=1e-5)
        for query in ("the weather on 9 September 2023", "weather, 2023-09-09", "weather im September 2023"):
            best = handle.search(query, explain=True)[0]
            assert best.explain is not None
            assert (best.id, best.explain["parts"]["time"] > 0) == (stored[2].id, True), query

    def test_the_same_many_or_few(self, memory: MemoryGateway) -> None:
        """A memory scores the same whether its scope is looked at whole or candidates are drawn from it."""
        handle = memory.for_user("large")
        talk = [
            {"content": f"{PHRASES[i % len(PHRASES)]} {i % 7}", "run_id": f"run {i // 30}", "name": f"Ann{i % 3}"}
            for i in range(600)
        ]
        apart = {"content": "Replaced the carburetor gasket", "name": "Zoe", "occurred_at": "2023-05-07T10:00:00Z"}
        handle.add_many([*talk, apart], batch_size=1000)
        drawing = _drawing(memory, candidates=128).for_user("large")
        for query in (
            "when should we schedule tasks?",
            "what did Ann1 prefer in the morning?",
            "Lisbon 5",
            "what happened on 7 May 2023",
            "which tea does Zoe like?",
        ):
            few = drawing.search(query, limit=10)
            every = handle.search(query, limit=1000)
            assert len(every) == len({hit.id for hit in every}) == 601
            assert [(hit.id, round(hit.score, 6)) for hit in few] == [(h.id, round(h.score, 6)) for h in every[:10]]

    def test_the_same_words_score_one(self, corpus: Corpus) -> None:
        """A memory's own words find it first, with a score of 1."""
        for phrase in PHRASES:
            if phrase.strip() and not phrase.startswith("2024"):
                best = corpus.handle.search(phrase, limit=5)[0]
                assert best.score > 1 - SAME

    def test_the_same_words_in_a_run(self, memory: MemoryGateway) -> None:
        """In a run too they find it first, with a score of 1, whatever stands beside it or is nearly the same."""
        handle = memory.for_user("said again")
        beside = ["Hello again", "The weather ruined our picnic", "Thanks, that was all"]
        said = ["My order 4711 has not arrived yet", "How do I return the desk lamp from order 4711?"]
        nearly = ["My order 4711 has not arrived", "I return the desk lamp from order 4711, the desk lamp"]
        for run, (text, other) in enumerate(zip(said, nearly, strict=True)):
            lines = [*beside[:2], text, beside[2], "The cat sleeps"]
            handle.add_many([{"content": line, "run_id": f"run {run}"} for line in lines])
            handle.add_many([{"content": other, "run_id": f"other {run}"} for _ in range(2)])
            handle.add(f"{other}.")
        for text in said:
            best = handle.search(text, limit=1)[0]
            assert best.text == text
            assert best.score > 1 - SAME

    def test_best_first_and_ties_by_age(self, corpus: Corpus) -> None:
        """Hits come best first; copies of one text score the same to the bit and come oldest first."""
        for query in QUERIES:
            hits = corpus.handle.search(query, limit=1000)
            _in_order(hits)
            by_text: dict[str, list[Hit]] = {}
            for hit in hits:
                by_text.setdefault(hit.text, []).append(hit)
            for text, copies in by_text.items():
                assert max(hit.score for hit in copies) - min(hit.score for hit in copies) < 1e-6, text
                created = [hit.created_at for hit in copies]
                assert created == sorted(created), (query, text)

    def test_scores_that_are_equal_tie(self, corpus: Corpus) -> None:
        """Hits of equal score come by `created_at`: also those that score 0 because they point away from the query."""
        for query in QUERIES:
            hits = corpus.handle.search(query, limit=1000)
            for _, group in groupby(hits, key=lambda hit: hit.score):
                tied = [(hit.created_at, hit.id) for hit in group]
                assert tied == sorted(tied), query

    def test_ties_of_one_instant(self, memory: MemoryGateway) -> None:
        """What scores the same and was stored at the same instant is told by id, whatever the engine's order is."""
        handle = memory.for_user("tied")
        (first,) = handle.add("green tea").stored
        store = parts_of(memory).store
        (row,) = store.fetch([first.id], vectors=True)
        ids = [str(uuid.UUID(int=number)) for number in (7, 3, 9, 1, 5)]
        store.upsert([Row(key, row.payload, row.vector) for key in ids])
        for query in ("green tea", "coffee"):
            assert [hit.id for hit in handle.search(query)] == sorted([*ids, first.id])
            assert [hit.id for hit in handle.search(query, limit=3)] == sorted([*ids, first.id])[:3]

    def test_limits_cut_the_ranking(self, corpus: Corpus) -> None:
        """The first n are the first n of all, also where the cut goes through copies that tie."""
        for query in QUERIES[::3]:
            everything = [hit.id for hit in corpus.handle.search(query, limit=10_000)]
            for limit in (*range(1, 24), 63, 64, 65, len(everything) - 1, len(everything), len(everything) + 1):
                assert [hit.id for hit in corpus.handle.search(query, limit=limit)] == everything[:limit], (
                    query,
                    limit,
                )
            some = {"copy": {"in": [1, 3]}, "text": {"icontains": "O"}}
            filtered = [hit.id for hit in corpus.handle.search(query, filters=some, limit=10_000)]
            passing = [
                one.id for one in corpus.memories if one.metadata["copy"] in (1, 3) and "o" in one.text.casefold()
            ]
            assert sorted(filtered) == sorted(passing)
            for limit in (1, 3, 10, 30):
                assert [hit.id for hit in corpus.handle.search(query, filters=some, limit=limit)] == filtered[:limit]

    def test_searching_twice_is_the_same(self, corpus: Corpus) -> None:
        """The same search gives the same hits in the same order with the same scores."""
        for query in QUERIES[::4]:
            assert corpus.handle.search(query, limit=50) == corpus.handle.search(query, limit=50)
            assert corpus.handle.search(f"  {query}\n", limit=50) == corpus.handle.search(query, limit=50)

    def test_the_default_limit_is_ten(self, corpus: Corpus) -> None:
        """Without a limit there are ten hits."""
        assert len(corpus.handle.search("tea")) == 10
        assert len(corpus.handle.search("")) == 10

    @pytest.mark.parametrize("limit", [0, -1, 10_001, 2**70, True, False, 2.0, "5", None, [5]])
    def test_limits_that_are_none(self, corpus: Corpus, limit: Any) -> None:
        """A limit is an int from 1 to 10 000, for every query."""
        for query in ("tea", ""):
            with pytest.raises(InvalidInput) as caught:
                corpus.handle.search(query, limit=limit)
            assert caught.value.field == "limit"

    def test_thresholds(self, corpus: Corpus) -> None:
        """A threshold keeps the hits that score at least that much, and all of them for 0."""
        for query in QUERIES[::3]:
            hits = corpus.handle.search(query, limit=1000)
            for threshold in (0, 0.0, 0.05, 0.1, 0.3, 0.5, 0.9, 1, hits[3].score, hits[len(hits) // 2].score):
                kept = corpus.handle.search(query, limit=1000, threshold=threshold)
                assert [hit.id for hit in kept] == [hit.id for hit in hits if hit.score >= threshold]
                assert corpus.handle.search(query, limit=4, threshold=threshold) == kept[:4]

    @pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf"), True, "0.5", [0.5]])
    def test_thresholds_that_are_none(self, corpus: Corpus, threshold: Any) -> None:
        """A threshold is a number from 0 to 1."""
        with pytest.raises(InvalidInput) as caught:
            corpus.handle.search("tea", threshold=threshold)
        assert caught.value.field == "threshold"

    @pytest.mark.parametrize("query", [None, 5, b"tea", ["tea"], "a\0b", "\ud800", "x" * 2_000_000])
    def test_queries_that_are_none(self, corpus: Corpus, query: Any) -> None:
        """A query is a string that can be searched for."""
        with pytest.raises(InvalidInput) as caught:
            corpus.handle.search(query)
        assert caught.value.field == "query"

    def test_an_empty_query_is_the_newest(self, corpus: Corpus) -> None:
        """Without words the newest come first, each with a score of 1, whatever the threshold."""
        newest = [memory.id for memory in sorted(corpus.memories, key=lambda memory: memory.created_at, reverse=True)]
        for query in ("", " ", "\n\t "):
            hits = corpus.handle.search(query, limit=1000)
            assert [hit.id for hit in hits] == newest
            assert {hit.score for hit in hits} == {1.0}
            assert [hit.id for hit in corpus.handle.search(query, limit=7, threshold=1)] == newest[:7]

    def test_explaining(self, corpus: Corpus) -> None:
        """`explain` tells the parts: the similarity behind the score, and what of the filter the engine answered."""
        filters = {"copy": {"gte": 1}, "text": {"icontains": "o"}, "OR": [{"copy": 2}, {"text": {"contains": "S"}}]}
        plain = corpus.handle.search("tea", filters=filters, limit=5)
        assert all(hit.explain is None for hit in plain)
        hits = corpus.handle.search("tea", filters=filters, limit=5, explain=True)
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in plain]
        for hit in hits:
            assert hit.explain is not None
            assert -1 <= hit.explain["similarity"] <= 1
            assert hit.score == pytest.approx(sum(hit.explain["parts"].values()), abs=1e-5)
            told = hit.explain["filter"]
            words = " ".join([*told["pushed_down"], told["residual"] or ""])
            for field in ("user_id", "copy", "data"):
                assert field in words
        for hit in corpus.handle.search("", limit=3, explain=True):
            assert hit.explain is not None
            assert hit.explain["similarity"] is None

    def test_a_hit_is_the_memory(self, corpus: Corpus) -> None:
        """A hit has everything that `get` gives, and a score."""
        for hit in corpus.handle.search("tea", limit=20):
            memory = corpus.handle.get(hit.id)
            found = hit.to_dict()
            assert (found.pop("score"), found.pop("explain", None)) == (hit.score, None)
            assert found == memory.to_dict()
            assert (hit.metadata, hit.scope, hit.source) == (memory.metadata, memory.scope, memory.source)

    def test_the_expired_are_hidden(self, shared_memory: MemoryGateway) -> None:
        """From its expiry on a memory is neither searched nor listed, but `get` shows it; taken back, it is found."""
        handle = shared_memory.for_user("expiring")
        now = datetime.now(UTC)
        past, future = now - timedelta(seconds=1), now + timedelta(hours=1)
        (gone,) = handle.add("we met in Lisbon", expires_at=past).stored
        (there,) = handle.add("we met in Porto", expires_at=future).stored
        (always,) = handle.add("we met in Faro").stored
        visible = {there.id, always.id}
        for found in (handle.search("Lisbon"), handle.search(""), handle.get_all(), handle.iter_all()):
            assert {memory.id for memory in found} == visible
        for filters in (
            {"expires_at": "*"},
            {"expires_at": {"lt": future + timedelta(1)}},
            {"id": [gone.id, there.id]},
        ):
            assert [hit.id for hit in handle.search("Lisbon", filters=filters)] == [there.id]
        assert handle.search("Lisbon", filters={"expires_at": {"lte": now}}) == []
        assert handle.get(gone.id).expires_at == past
        handle.update(gone.id, expires_at=None)
        handle.update(there.id, expires_at=past.isoformat())
        assert {hit.id for hit in handle.search("Lisbon")} == {gone.id, always.id}
        (again,) = handle.add("we met in Porto").stored
        assert again.id != there.id
        assert handle.purge_expired() == 1

    def test_an_update_moves_a_memory(self, shared_memory: MemoryGateway, embedder: Embedder) -> None:
        """A new text is what is searched from then on; new metadata leaves the score as it was."""
        handle = shared_memory.for_user("moving")
        (stored,) = handle.add("green tea in the morning", metadata={"a": 1}).stored
        handle.add("the Phoenix project is late")
        (before,) = handle.search("tea", limit=1)
        handle.update(stored.id, metadata={"a": 2})
        (after,) = handle.search("tea", limit=1)
        assert after.id == before.id
        assert abs(after.score - before.score) < 1e-6
        handle.update(stored.id, text="a train to Lisbon")
        hits = {hit.id: hit.score for hit in handle.search("train", limit=2)}
        said = ["a train to Lisbon", "the Phoenix project is late"]
        assert abs(hits[stored.id] - expected_scores(embedder, "train", said)[0]) < SAME

    def test_any_words(self, shared_memory: MemoryGateway, embedder: Embedder) -> None:
        """For any texts and any query: a score in [0, 1] by the formula, best first."""
        number = iter(range(10**6))

        @examples(60)
        @given(st.lists(texts, min_size=1, max_size=5, unique_by=lambda text: " ".join(text.split())), texts)
        def run(said: list[str], query: str) -> None:
            handle = shared_memory.for_user(f"any-{next(number)}")
            stored = handle.add_many(said).stored
            hits = {hit.id: hit for hit in handle.search(query, limit=10)}
            assert hits.keys() == {memory.id for memory in stored}
            if not query.strip() or windows(query, utcnow()):  # a query that names a time asks for more than words
                return
            scores = expected_scores(embedder, query.strip(), [memory.text for memory in stored])
            for memory, expected in zip(stored, scores, strict=True):
                assert abs(hits[memory.id].score - expected) < SAME
            _in_order(list(hits.values()))

        run()
