"""Every verb returns what it promises, called or awaited: one scenario, step by step."""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from memstack.filters import F
from memstack.gateway import AsyncMemoryGateway, MemoryGateway
from memstack.records import (
    AddResult,
    Change,
    Conflict,
    ErasureReceipt,
    ExportReport,
    Hit,
    ImportReport,
    Memory,
    Page,
)
from memstack.testing.contract.base import Backend, Contract, opening

__all__ = ["STEPS", "VerbContract"]

Seen = dict[str, Any]
TALK: Final = ["tea in the morning", "a walk at noon"]


def _first(seen: Seen, place: int = 0) -> str:
    return str(seen["add"].stored[place].id)


def _prefers(value: str) -> dict[str, Any]:
    preference = {"category": "preferences", "domain": "tasks", "key": "time of day", "value": value}
    return {"user_id": "cleo", "metadata": preference}


# What is done, on a memory of either kind and with what earlier steps returned; and what must come of it.
STEPS: Final[dict[str, tuple[Callable[[Any, Seen], Any], Any]]] = {
    "add": (
        lambda m, _: m.add(TALK, user_id="alex", metadata={"kind": "habit"}, idempotency_key="k"),
        (TALK, [], []),
    ),
    "add, the key repeated": (
        lambda m, _: m.for_user("alex").add(TALK, metadata={"kind": "habit"}, idempotency_key="k"),
        ([], ["duplicate", "duplicate"], []),
    ),
    "add, the text repeated": (
        lambda m, _: m.for_user("alex").add(TALK[0], metadata={"kind": "habit"}),
        ([], ["duplicate"], []),
    ),
    "add_many": (
        lambda m, _: m.add_many([{"user_id": "bo", "content": "bo's cake"}, {"content": "nobody's"}], batch_size=1),
        (["bo's cake"], [], [1]),
    ),
    "get": (lambda m, seen: m.get(_first(seen, 1), user_id="alex"), TALK[1]),
    "update": (lambda m, seen: m.update(_first(seen), text="tea at night", expires_at="2999-01-01"), "tea at night"),
    "search": (lambda m, _: m.search("tea", user_id="alex", limit=1, explain=True), ["tea at night"]),
    "search, without words": (
        lambda m, _: m.for_user("alex").search("", filters=F.kind == "habit"),
        ["a walk at noon", "tea at night"],
    ),
    "get_all": (
        lambda m, _: m.get_all(user_id="alex", limit=1, order="created_at"),
        (["tea at night"], "there is more"),
    ),
    "get_all, the next page": (
        lambda m, seen: m.get_all(user_id="alex", limit=1, order="created_at", cursor=seen["get_all"].next_cursor),
        (["a walk at noon"], "the end"),
    ),
    "iter_all": (
        lambda m, _: m.for_user("alex").iter_all(filters={"kind": "habit"}, order="created_at"),
        ["tea at night", "a walk at noon"],
    ),
    "scoped": (
        lambda m, _: m.scoped(user_id="alex", run_id="r").add("in a run"),
        (["in a run"], [], []),
    ),
    "for_user": (lambda m, _: m.for_user("alex").search("", limit=1), ["in a run"]),
    "delete": (lambda m, seen: m.delete(_first(seen, 1), user_id="alex"), None),
    "history": (lambda m, seen: m.history(_first(seen, 1)), ["ADD", "DELETE"]),
    "add, a preference": (lambda m, _: m.add("I like mornings", **_prefers("morning")), (["I like mornings"], [], [])),
    "conflicts": (lambda m, _: m.conflicts("I like evenings", **_prefers("evening")), ["I like mornings"]),
    "add, asked": (
        lambda m, _: m.add("I like evenings", on_conflict="ask", **_prefers("evening")),
        ([], [], []),
    ),
    "dismiss": (lambda m, seen: m.dismiss(seen["add, asked"].pending[0].token), None),
    "add, asked again": (
        lambda m, _: m.add("I like evenings", on_conflict="ask", **_prefers("evening")),
        ([], [], []),
    ),
    "confirm": (
        lambda m, seen: m.confirm(seen["add, asked again"].pending[0].token, user_id="cleo"),
        (["I like evenings"], [], []),
    ),
    "supersede": (
        lambda m, seen: m.supersede(seen["confirm"].stored[0].id, "I like nights", **_prefers("night")),
        "I like nights",
    ),
    "search, what is superseded": (lambda m, _: m.search("", user_id="cleo"), ["I like nights"]),
    "export": (lambda m, seen: m.export(seen.setdefault("file", io.StringIO()), user_id="cleo"), 3),
    "erase": (lambda m, _: m.erase(user_id="cleo"), 3),
    "import_": (lambda m, seen: m.import_(io.StringIO(seen["file"].getvalue())), 3),
    "search, what was imported": (lambda m, _: m.search("", user_id="cleo"), ["I like nights"]),
    "erase, what was imported": (lambda m, _: m.erase(user_id="cleo"), 3),
    "purge_expired": (lambda m, _: m.purge_expired(), 0),
    "delete_all": (lambda m, _: m.delete_all(user_id="alex", filters={"kind": "habit"}), 1),
    "stats": (lambda m, _: m.stats(), 2),
    "mem0": (lambda m, _: m.mem0, "Memory"),
    "reset": (lambda m, _: m.reset(), None),
    "reset, and then": (lambda m, _: m.iter_all(user_id="bo"), []),
    "forked": (lambda m, _: m.forked, False),
    "close": (lambda m, _: m.close(), None),
    "closed": (lambda m, _: m.closed, True),
}


def shown(result: Any) -> Any:  # noqa: PLR0911  # a table
    """A result as the scenario states it: without ids and instants."""
    match result:
        case Memory():
            return result.text
        case Change():
            return result.event
        case Conflict():
            return result.memory.text
        case ErasureReceipt() | ExportReport():
            return result.memories
        case ImportReport():
            return result.stored
        case AddResult():
            skipped = [item.reason for item in result.skipped]
            return [memory.text for memory in result.stored], skipped, [item.index for item in result.failed]
        case Page():
            return [memory.text for memory in result], "the end" if result.next_cursor is None else "there is more"
        case list():
            return [shown(item) for item in result]
        case {"vector_store": {"rows": rows}}:
            return rows
        case None | bool() | int() | str():
            return result
        case _:
            return type(result).__mro__[1].__name__


def called(memory: MemoryGateway) -> Seen:
    """The results of all steps."""
    seen: Seen = {}
    for name, (step, _) in STEPS.items():
        result = step(memory, seen)
        seen[name] = list(result) if isinstance(result, Iterator) else result
    return seen


async def awaited(memory: AsyncMemoryGateway) -> Seen:
    """The results of all steps, awaited."""
    seen: Seen = {}
    for name, (step, _) in STEPS.items():
        result = step(memory, seen)
        if isinstance(result, AsyncIterator):
            result = [item async for item in result]
        seen[name] = await result if inspect.isawaitable(result) else result
    return seen


class VerbContract(Contract):
    """Every verb returns what it promises, called and awaited."""

    @pytest.fixture(scope="class")
    @classmethod
    def from_calling(cls, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Seen:
        """What the verbs returned."""
        with opening(backend) as open_here:
            return called(open_here(tmp_path_factory.mktemp("called")))

    @pytest.fixture(scope="class")
    @classmethod
    def from_awaiting(cls, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Seen:
        """What the same verbs returned when they were awaited."""
        with opening(backend) as open_here, ThreadPoolExecutor(4) as pool:
            memory = open_here(tmp_path_factory.mktemp("awaited"))
            return asyncio.run(awaited(AsyncMemoryGateway(memory, pool)))

    @pytest.mark.parametrize("step", STEPS)
    def test_called(self, from_calling: Seen, step: str) -> None:
        """A verb returns what it promises."""
        assert shown(from_calling[step]) == STEPS[step][1]

    @pytest.mark.parametrize("step", STEPS)
    def test_awaited(self, from_awaiting: Seen, step: str) -> None:
        """An awaited verb returns the same."""
        assert shown(from_awaiting[step]) == STEPS[step][1]

    def test_a_hit_explains_itself(self, from_calling: Seen, from_awaiting: Seen) -> None:
        """Called or awaited, a search gives the same score and explanation."""
        (one,), (other,) = from_calling["search"], from_awaiting["search"]
        assert isinstance(one, Hit)
        assert one.score == pytest.approx(other.score, abs=1e-6)
        assert (one.explain or {}).keys() == (other.explain or {}).keys()

    def test_every_verb_is_there(self) -> None:
        """The scenario has a step for every public verb."""
        public = {name for name in vars(MemoryGateway) if not name.startswith("_")} - {"of"}
        assert public <= {step.split(",")[0] for step in STEPS}
