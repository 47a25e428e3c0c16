"""The composed ``mem0.Memory``: Mem0's own verbs on memstack's parts, and the two seeing the same data."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import InvalidInput, LLMNotConfigured, MemstackError, MetadataError, StoreError
from memstack.filters.visit import Plan
from memstack.ids import new_id
from memstack.providers.base import LLM, Embedder
from memstack.stores.base import Store


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[MemoryGateway]:
    with open_memory({"vector_store": {"provider": "qdrant", "path": str(tmp_path / "memory")}}) as memory:
        yield memory


def _attributes(function: Callable[..., Any]) -> set[str]:
    """The names that a constructor sets on self, outside of ``if MEM0_TELEMETRY``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))

    class Finder(ast.NodeVisitor):
        found: set[str] = set()  # noqa: RUF012  # one use

        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "MEM0_TELEMETRY"):
                self.generic_visit(node)

        def visit_Attribute(self, node: ast.Attribute) -> None:
            if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self":
                self.found.add(node.attr)

    finder = Finder()
    finder.found = set()
    finder.visit(tree)
    return finder.found


def test_constructor_sets_what_mem0_sets(gateway: MemoryGateway) -> None:
    """Every attribute that this release of Mem0 sets in its constructor is set on the composed one."""
    composed = gateway.mem0
    theirs = _attributes(vars(type(composed).__mro__[1])["__init__"])
    assert {"vector_store", "embedding_model", "llm", "db"} <= theirs, "the finder looks in the wrong place"
    assert theirs <= set(vars(composed))


def test_mem0_downloads_no_model(gateway: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where spaCy is there and its model is not, Mem0 takes the model for one that it could not load."""
    asked: list[str] = []
    spacy: Any = ModuleType("spacy")
    spacy.util = SimpleNamespace(is_package=asked.append)
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    models: Any = importlib.import_module("mem0.utils.spacy_models") if gateway.mem0 else None
    if importlib.util.find_spec("en_core_web_sm") is None:
        assert (models.get_nlp_full(), models.get_nlp_lemma(), asked) == (None, None, [])


@pytest.mark.parametrize(
    ("ours", "module", "name"),
    [
        (Store, "mem0.vector_stores.base", "VectorStoreBase"),
        (Embedder, "mem0.embeddings.base", "EmbeddingBase"),
        (LLM, "mem0.llms.base", "LLMBase"),
    ],
)
def test_parts_fulfil_mem0s_interfaces(gateway: MemoryGateway, ours: type, module: str, name: str) -> None:
    """A part is a virtual subclass of Mem0's base, and takes every public method with the same arguments."""
    _ = gateway.mem0
    theirs = getattr(__import__(module, fromlist=[name]), name)
    assert issubclass(ours, theirs)
    for method, definition in inspect.getmembers(theirs, inspect.isfunction):
        if method.startswith("_"):
            continue
        wanted = list(inspect.signature(definition).parameters)
        given = list(inspect.signature(getattr(ours, method)).parameters)
        assert given == wanted, method


def test_both_sides_see_the_same_rows(gateway: MemoryGateway) -> None:
    """What Mem0 adds the gateway finds, and the other way round, with text, metadata and owner."""
    theirs = gateway.mem0.add(
        "I drink tea", user_id="alex", metadata={"cups": 3, "since": date(2020, 1, 1)}, infer=False
    )
    (found,) = gateway.search("tea", user_id="alex", filters={"cups": {"gte": 3}})
    assert found.id == theirs["results"][0]["id"]
    assert (found.text, found.metadata) == ("I drink tea", {"cups": 3, "since": date(2020, 1, 1)})

    (ours,) = gateway.add("I ride a bicycle", user_id="alex", metadata={"cups": 0}).stored
    hits = gateway.mem0.search("bicycle", filters={"user_id": "alex", "cups": 0})["results"]
    assert [(hit["id"], hit["memory"], hit["user_id"]) for hit in hits] == [(ours.id, "I ride a bicycle", "alex")]
    listed = gateway.mem0.get_all(filters={"user_id": "alex"})["results"]
    assert {item["id"] for item in listed} == {ours.id, found.id}
    assert (gateway.mem0.get(ours.id) or {})["memory"] == "I ride a bicycle"


def test_scores_are_the_same_on_both_sides(gateway: MemoryGateway) -> None:
    """Mem0's score for a row is the similarity of which the gateway makes its own."""
    gateway.add(["I drink tea", "I ride a bicycle", "the train was late"], user_id="alex")
    hits = gateway.search("hot drinks", user_id="alex", explain=True)
    ours = {hit.id: max(0.0, (hit.explain or {})["similarity"]) for hit in hits}
    theirs = gateway.mem0.search("hot drinks", filters={"user_id": "alex"}, threshold=0.0)["results"]
    assert {hit["id"]: pytest.approx(hit["score"], abs=1e-6) for hit in theirs} == ours


def test_mem0s_update_delete_and_history(gateway: MemoryGateway) -> None:
    """Mem0's update, delete and history work, and the gateway's history tells the same story."""
    memory_id = gateway.mem0.add("I drink tea", user_id="alex", infer=False)["results"][0]["id"]
    gateway.mem0.update(memory_id, text="I drink coffee", metadata={"cups": 1})
    changed = gateway.get(memory_id, user_id="alex")
    assert (changed.text, changed.metadata) == ("I drink coffee", {"cups": 1})
    gateway.mem0.delete(memory_id)
    assert [entry["event"] for entry in gateway.mem0.history(memory_id)] == ["ADD", "UPDATE", "DELETE"]
    story = [(change.event, change.old_text, change.new_text) for change in gateway.history(memory_id, user_id="alex")]
    assert story == [
        ("ADD", None, "I drink tea"),
        ("UPDATE", "I drink tea", "I drink coffee"),
        ("DELETE", "I drink coffee", None),
    ]


def test_what_the_gateway_stores_beside_the_text_survives_mem0s_update(gateway: MemoryGateway) -> None:
    """An update by Mem0 keeps when a thing was said, who said it, its place in the run, and when it expires."""
    said = {"role": "user", "content": "tea", "name": "Alex", "occurred_at": "2024-05-01T10:00:00Z"}
    (before,) = gateway.add([said], user_id="alex", run_id="r1", expires_at="2990-01-01").stored
    gateway.mem0.update(before.id, text="coffee")
    after = gateway.get(before.id)
    assert (after.occurred_at, after.source, after.expires_at, after.scope) == (
        before.occurred_at,
        before.source,
        before.expires_at,
        before.scope,
    )


class Asked(LLM):
    """Notes what it is asked."""

    provider, model = "test", "asked"

    def __init__(self) -> None:
        self.prompts = list[str]()

    def generate_response(self, messages: Any, tools: Any = None, tool_choice: str = "auto", **kwargs: Any) -> Any:
        self.prompts.append(str(messages))
        return '{"memory": []}'


def test_a_model_is_shown_nobody_elses(gateway: MemoryGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the engine returns another owner's row for an extraction, the model is not asked."""
    asked = Asked()
    memory = MemoryGateway.of(dataclasses.replace(gateway._core.parts, llm=asked))
    memory.add("a secret of bob", user_id="bob", infer=False)
    memory.add("hello", user_id="alex", infer=True)
    everything: Plan[Any] = Plan(None, None)
    monkeypatch.setattr(gateway._core.parts.store, "plan", lambda _: everything)
    with pytest.raises(StoreError, match="outside of the scope"):
        memory.add("a secret", user_id="alex", infer=True)
    assert len(asked.prompts) == 1
    assert "secret" not in asked.prompts[0]


@pytest.mark.parametrize("beside", [{}, {"AND": [{"topic": "work"}]}, {"NOT": [{"topic": "home"}]}])
def test_mem0_shows_nothing_superseded(gateway: MemoryGateway, beside: dict[str, Any]) -> None:
    """What was superseded is hidden from Mem0's search and listing, beside any filter; its delete_all deletes it."""
    alex = gateway.for_user("alex")
    (old,) = alex.add("I work at the mill", metadata={"topic": "work"}).stored
    new = alex.supersede(old.id, "I work at the harbour")
    alex.add("I work in the garden", metadata={"topic": "home"}, valid_from="2990-01-01")
    filters = {"user_id": "alex", **beside}
    found = gateway.mem0.search("work", filters=filters, threshold=0.0)["results"]
    listed = gateway.mem0.get_all(filters=filters)["results"]
    assert [[item["id"] for item in items] for items in (found, listed)] == [[new.id], [new.id]]
    gateway.mem0.delete_all(user_id="alex")
    assert gateway.stats()["vector_store"]["rows"] == 0


def test_mem0s_delete_all_deletes_one_owner(gateway: MemoryGateway) -> None:
    """Mem0's delete_all deletes every memory of a user, beyond its batch size, and nobody else's."""
    gateway.add_many([f"fact {i}" for i in range(1100)], user_id="alex")
    gateway.add("mine", user_id="bob")
    gateway.mem0.delete_all(user_id="alex")
    assert len(gateway.get_all(user_id="alex")) == 0
    assert len(gateway.get_all(user_id="bob")) == 1


def test_mem0s_reset_empties_both(gateway: MemoryGateway) -> None:
    """Mem0's reset deletes rows and history, and the gateway goes on working."""
    (memory,) = gateway.add("tea", user_id="alex").stored
    gateway.mem0.reset()
    assert len(gateway.get_all(user_id="alex")) == 0
    with pytest.raises(MemstackError):
        gateway.history(memory.id)
    assert gateway.add("tea", user_id="alex").stored


@pytest.mark.parametrize(
    "filters",
    [
        {"user_id": "alice", "AND": [{"user_id": "bob"}]},
        {"user_id": "alice", "OR": [{"user_id": "bob"}, {"x": 1}]},
        {"user_id": "alice", "NOT": [{"user_id": "alice"}]},
        {"user_id": "*"},
        {"user_id": "alice", "agent_id": {"ne": "x"}},
    ],
)
def test_mem0s_filters_cannot_leave_their_scope(gateway: MemoryGateway, filters: dict[str, Any]) -> None:
    """The filters with which bare Mem0 hands out another owner's rows are refused, in search and in get_all."""
    gateway.add("alice's secret", user_id="alice")
    gateway.add("bob's secret", user_id="bob")
    verbs: list[Callable[[], Any]] = [
        lambda: gateway.mem0.search("secret", filters=filters),
        lambda: gateway.mem0.get_all(filters=filters),
    ]
    for verb in verbs:
        try:
            found = verb()["results"]
        except ValueError:  # ScopeError and FilterError are, and what Mem0 raises itself is too
            continue
        assert found == [], "a user whose id is a star has nothing"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"AND": [{"n": {"gt": 1}}, {"n": {"lt": 4}}]}, {2, 3}),
        ({"AND": [{"OR": [{"n": 1}, {"n": 4}]}, {"even": True}]}, {4}),
        ({"NOT": [{"n": 1}, {"n": 2}]}, {3, 4}),
        ({"n": {"ne": 1}}, {2, 3, 4}),
        ({"due": {"gte": "2026-01-03"}}, {3, 4}),
    ],
)
def test_mem0s_filters_mean_what_the_gateways_do(
    gateway: MemoryGateway, filters: dict[str, Any], expected: set[int]
) -> None:
    """Filters that bare Mem0 answers wrongly have their meaning in Mem0's search and get_all too."""
    for n in range(1, 5):
        gateway.add(f"fact {n}", user_id="alex", metadata={"n": n, "even": n % 2 == 0, "due": date(2026, 1, n)})
    scoped = {"user_id": "alex", **filters}
    searched = gateway.mem0.search("fact", filters=scoped, threshold=0.0)["results"]
    listed = gateway.mem0.get_all(filters=scoped)["results"]
    assert {item["metadata"]["n"] for item in searched} == expected
    assert {item["metadata"]["n"] for item in listed} == expected


@pytest.mark.parametrize("given", [{"payloads": [{}]}, {"ids": [new_id()]}, {"payloads": [{}] * 3}])
def test_as_many_vectors_as_payloads(gateway: MemoryGateway, given: dict[str, Any]) -> None:
    """Vectors without a payload or an id of their own are refused, and none is stored."""
    store = gateway.mem0.vector_store
    with pytest.raises(InvalidInput, match="2 vectors"):
        store.insert([[1.0] * gateway._core.parts.embedder.dimensions] * 2, **given)
    assert gateway._core.parts.store.count() == 0


def test_mem0_cannot_store_what_an_engine_cannot_hold(gateway: MemoryGateway) -> None:
    """Metadata that would not come back equal is refused on Mem0's side too, and nothing is stored."""
    with pytest.raises(MetadataError, match="float that is not finite"):
        gateway.mem0.add("tea", user_id="alex", metadata={"cups": float("nan")}, infer=False)
    assert len(gateway.get_all(user_id="alex")) == 0


def test_inference_without_a_model_says_what_to_configure(gateway: MemoryGateway) -> None:
    """Mem0's default, infer=True, without an LLM is an error that names the option."""
    with pytest.raises(Exception, match="llm") as caught:
        gateway.mem0.add("I drink tea", user_id="alex")
    assert isinstance(caught.value.__cause__ or caught.value, LLMNotConfigured)


def test_expiry_is_one_on_both_sides(gateway: MemoryGateway) -> None:
    """A memory that Mem0 lets expire is hidden by the gateway, and the other way round."""
    gateway.mem0.add("old", user_id="alex", expiration_date="2020-01-01", infer=False)
    gateway.add("older", user_id="alex", expires_at="2019-01-01")
    assert len(gateway.get_all(user_id="alex")) == 0
    assert gateway.mem0.get_all(filters={"user_id": "alex"})["results"] == []
    assert gateway.purge_expired(user_id="alex") == 2


def test_closing_mem0_leaves_the_gateway_open(gateway: MemoryGateway) -> None:
    """The parts are the gateway's: Mem0's close does not close them."""
    gateway.mem0.close()
    assert gateway.add("tea", user_id="alex").stored
