"""The call forms of Mem0 1.x and 2.x, on every backend: Mem0's shapes, and errors where Mem0 is silent or unsafe."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
import subprocess
import sys
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memstack import F, Settings, open_memory
from memstack.compat import AsyncMemory, Memory, NotFound
from memstack.errors import InvalidInput, LLMNotConfigured, MemstackError, NotSupported, ScopeError
from memstack.instants import utcnow
from memstack.testing.contract import Backend

ALEX: dict[str, Any] = {"user_id": "alex"}


def _texts(results: Any) -> set[str]:
    return {found["memory"] for found in results["results"]}


def _filled(m: Memory) -> list[str]:
    """Three memories of alex's, one of blake's; alex's ids."""
    texts = ["I drink tea in the morning", "The Phoenix project is due in March", "My bike is blue"]
    ids = [m.add(text, **ALEX, metadata={"place": i})["results"][0]["id"] for i, text in enumerate(texts)]
    m.add("I drink coffee in the morning", user_id="blake")
    return ids


# -- adding --------------------------------------------------------------------------------------


def test_every_role_but_the_systems_is_remembered(m: Memory) -> None:
    """Mem0's own rule; who spoke is in the answer, and in what is found."""
    answer = m.add(
        [
            {"role": "system", "content": "You are a helpful planner"},
            {"role": "user", "content": "I work from Lisbon", "name": "alex"},
            {"role": "assistant", "content": "Lisbon is noted"},
        ],
        **ALEX,
    )
    assert [(entry.get("role"), entry.get("actor_id")) for entry in answer["results"]] == [
        ("user", "alex"),
        ("assistant", None),
    ]
    assert _texts(m.get_all(**ALEX)) == {"I work from Lisbon", "Lisbon is noted"}
    found = m.get(answer["results"][0]["id"])
    assert found is not None
    assert (found.get("role"), found.get("actor_id")) == ("user", "alex")


def test_a_conversation_with_tools_is_taken(m: Memory) -> None:
    """Calls of tools beside the words, as chat clients keep them, are passed over; every word is remembered."""
    call: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    only_calls = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    answer = m.add(
        [
            {"role": "user", "content": "How is the weather in Lisbon?"},
            only_calls,
            {"role": "tool", "tool_call_id": "c1", "content": "Sunny in Lisbon"},
            {"role": "assistant", "content": "Let me look again", "tool_calls": [call]},
        ],
        **ALEX,
    )
    assert [entry["memory"] for entry in answer["results"]] == [
        "How is the weather in Lisbon?",
        "Sunny in Lisbon",
        "Let me look again",
    ]
    assert m.add(only_calls, **ALEX) == {"results": []}
    with pytest.raises(ScopeError):
        m.add(only_calls)
    with pytest.raises(InvalidInput, match="colour"):
        m.add({"role": "user", "content": "hi", "colour": "red"}, **ALEX)


def test_a_configured_rule_wins(backend: Backend, tmp_path: Path) -> None:
    """`remember_roles` in the configuration is heard."""
    with Memory({**backend.config(tmp_path), "remember_roles": ["assistant"]}) as m:
        m.add([{"role": "user", "content": "I said this"}, {"role": "assistant", "content": "I heard it"}], **ALEX)
        assert _texts(m.get_all(**ALEX)) == {"I heard it"}


def test_what_is_known_is_not_stored_again(m: Memory) -> None:
    """The second add of the same answers that nothing is new."""
    m.add("I drink tea", **ALEX)
    assert m.add("I drink tea", **ALEX) == {"results": []}


def test_infer_is_what_is_possible(m: Memory) -> None:
    """Left out, it depends on the LLM; asked for without one, it is an error and not silence."""
    assert m.add("I drink tea", **ALEX)["results"]
    with pytest.raises(LLMNotConfigured):
        m.add("I drink tea", **ALEX, infer=True)


def test_ids_are_read_as_mem0_reads_them(m: Memory) -> None:
    """Numbers become text, white space at the ends goes."""
    m.add("I drink tea", user_id=7)
    m.add("I ride a bike", user_id=" 7 ")
    assert len(m.search("", user_id="7")["results"]) == 2
    assert len(m.get_all(filters={"user_id": 7})["results"]) == 2
    assert len(m.get_all(filters={"AND": [{"user_id": 7}]})["results"]) == 2


# -- searching and listing ------------------------------------------------------------------------


def test_both_forms_of_a_search(m: Memory) -> None:
    """The owner as an argument with `limit`, or in the filter with `top_k`: the same memories, and nobody else's."""
    _filled(m)
    first = m.search("what do I drink in the morning?", user_id="alex", limit=1)
    second = m.search("what do I drink in the morning?", filters={"user_id": "alex"}, top_k=1)
    assert _texts(first) == _texts(second) == {"I drink tea in the morning"}
    assert _texts(m.search("", filters={"AND": [ALEX, {"place": {"gte": 1}}]})) == {
        "The Phoenix project is due in March",
        "My bike is blue",
    }
    assert len(m.search("", user_id="alex", filters=F.place <= 1)["results"]) == 2


def test_what_is_left_open_is_what_that_release_had(m: Memory) -> None:
    """1.x: 100 results of any score. 2.x: 20, of a score of 0.1 at least."""
    m.gateway.add_many([f"number {i}" for i in range(105)], user_id="many")
    assert len(m.search("", user_id="many")["results"]) == 100
    assert len(m.get_all(user_id="many")["results"]) == 100
    assert len(m.search("", filters={"user_id": "many"})["results"]) == 20
    assert len(m.get_all(filters={"user_id": "many"})["results"]) == 20
    _filled(m)
    low = m.search("quantum chromodynamics", **ALEX)["results"]
    high = m.search("quantum chromodynamics", filters=ALEX)["results"]
    assert len(low) == 3
    assert [found["id"] for found in high] == [found["id"] for found in low if found["score"] >= 0.1]
    assert len(m.search("quantum chromodynamics", filters=ALEX, threshold=0)["results"]) == 3


def test_an_owner_inside_an_and_alone_leaves_nothing_out_for_its_score(m: Memory) -> None:
    """Neither release takes it there, and code that has it counts on what is found; its ids are read like others."""
    _filled(m)
    for owner in ({"user_id": "alex"}, {"AND": [{"user_id": " alex "}]}):
        filters = {"AND": [owner, {"NOT": [{"place": "nowhere"}]}]}
        assert len(m.search("quantum chromodynamics", filters=filters)["results"]) == 3
        assert len(m.search("quantum chromodynamics", filters={**filters, **ALEX})["results"]) < 3


def test_the_shapes(m: Memory) -> None:
    """The keys of Mem0's dicts: all of them, and none of ours."""
    core = {"id", "memory", "hash", "metadata", "created_at", "updated_at"}
    answer = m.add("I drink tea", **ALEX, run_id="r1", metadata={"category": "food"}, expiration_date="2999-12-31")
    assert answer["results"] == [
        {"id": answer["results"][0]["id"], "memory": "I drink tea", "event": "ADD", "actor_id": None, "role": "user"}
    ]
    more = {"user_id", "run_id", "role", "expiration_date"}
    (listed,) = m.get_all(**ALEX)["results"]
    assert listed.keys() == core | more
    (found,) = m.search("tea", **ALEX)["results"]
    assert found.keys() == core | more | {"score"}
    assert found["metadata"] == {"category": "food"}
    assert found.get("expiration_date") == "2999-12-31"
    assert found["hash"] == hashlib.md5(b"I drink tea", usedforsecurity=False).hexdigest()
    assert m.search("tea", **ALEX, explain=True)["results"][0].get("score_details")
    single = m.get(found["id"])
    assert single is not None
    assert single.keys() == core | more | {"score"}
    assert single.get("score", "absent") is None
    m.add("no metadata", user_id="bare")
    assert m.get_all(user_id="bare")["results"][0]["metadata"] is None


def test_an_expiration_date_is_a_last_day(m: Memory) -> None:
    """A memory is found up to the end of the day, and not after."""
    today = utcnow().date()
    m.add("until today", **ALEX, expiration_date=today)
    kept = m.add("until yesterday", **ALEX, expiration_date=(today - timedelta(days=1)).isoformat())["results"][0]["id"]
    assert _texts(m.search("until", **ALEX)) == {"until today"}
    everything = {"until today", "until yesterday"}
    assert _texts(m.search("until", **ALEX, show_expired=True)) == everything
    assert _texts(m.search("until", filters=ALEX, top_k=5, show_expired=True)) == everything
    assert _texts(m.get_all(filters=ALEX, show_expired=True)) == everything
    assert _texts(m.get_all(**ALEX)) == _texts(m.get_all(filters=ALEX, show_expired=False)) == {"until today"}
    m.update(kept, expiration_date=None)
    assert len(m.get_all(**ALEX)["results"]) == 2


# -- changing --------------------------------------------------------------------------------------


def test_update_delete_and_history(m: Memory) -> None:
    """Both names of the text, merged metadata, Mem0's answers, and a history that outlives the memory."""
    key, *others = _filled(m)
    assert m.update(memory_id=key, data="I drink coffee") == {"message": "Memory updated successfully!"}
    assert m.update(key, "I drink water", metadata={"sure": True}) == {"message": "Memory updated successfully!"}
    found = m.get(key)
    assert found is not None
    assert (found["memory"], found["metadata"]) == ("I drink water", {"place": 0, "sure": True})
    assert m.delete(key) == {"message": "Memory deleted successfully!"}
    assert m.get(key) is None
    entries = m.history(key)
    assert [(e["event"], e["old_memory"], e["new_memory"], e["is_deleted"]) for e in entries] == [
        ("ADD", None, "I drink tea in the morning", False),
        ("UPDATE", "I drink tea in the morning", "I drink coffee", False),
        ("UPDATE", "I drink coffee", "I drink water", False),
        ("DELETE", "I drink water", None, True),
    ]
    assert len({entry["id"] for entry in entries}) == 4
    assert {entry["role"] for entry in entries} == {"user"}
    assert entries == m.history(key)
    assert m.delete_all(**ALEX) == {"message": "Memories deleted successfully!"}
    assert m.get_all(**ALEX) == {"results": []}
    assert len(m.get_all(user_id="blake")["results"]) == 1
    assert m.get(others[0]) is None
    m.reset()
    assert m.get_all(user_id="blake") == {"results": []}


def test_an_id_that_is_nowhere(m: Memory) -> None:
    """What Mem0 answers with None, nothing or a ValueError, so does this."""
    nowhere = "00000000-0000-4000-8000-000000000000"
    assert m.get(nowhere) is None
    assert m.history(nowhere) == []
    for call in (partial(m.update, nowhere, "new"), partial(m.delete, nowhere)):
        with pytest.raises(ValueError, match="no memory has the id") as caught:
            call()
        assert isinstance(caught.value, NotFound)
        assert isinstance(caught.value, MemstackError)


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.add("I drink tea"),
        lambda m: m.search("tea"),
        lambda m: m.search("tea", filters={"category": "food"}),
        lambda m: m.search("tea", filters={"user_id": "*"}),
        lambda m: m.search("tea", filters={"OR": [{"user_id": "alex"}, {"user_id": "blake"}]}),
        lambda m: m.search("tea", user_id="alex", filters={"AND": [{"user_id": "blake"}]}),
        lambda m: m.search("tea", user_id=""),
        lambda m: m.get_all(),
        lambda m: m.delete_all(),
    ],
)
def test_nothing_leaves_a_scope(m: Memory, call: Any) -> None:
    """A call that names nobody, or reaches for somebody else, is an error; nobody's memories are touched."""
    _filled(m)
    with pytest.raises(ScopeError):
        call(m)
    assert len(m.get_all(**ALEX)["results"]) == 3


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda m: m.search("tea", **ALEX, limit=3, top_k=3), InvalidInput, "top_k"),
        (lambda m: m.search("tea", **ALEX, limit=0), InvalidInput, r"^limit: is 0\. Pass an int from 1 to 10,000\.$"),
        (lambda m: m.get_all(**ALEX, top_k=0), InvalidInput, r"^top_k: is 0\. Pass an int from 1 to 10,000\.$"),
        (lambda m: m.update("00000000-0000-4000-8000-000000000000", "a", data="b"), InvalidInput, "data"),
        (
            lambda m: m.update("00000000-0000-4000-8000-000000000000"),
            InvalidInput,
            "nothing to change .*expiration_date=",
        ),
        (lambda m: m.add("tea", **ALEX, timestamp=1), InvalidInput, "timestamp"),
        (lambda m: m.add("tea", **ALEX, expiration_date="soon"), InvalidInput, "expiration_date"),
        (lambda m: m.add("tea", **ALEX, expiration_date=date.max), InvalidInput, "expiration_date: is the last day"),
        (lambda m: m.add("tea", **ALEX, expiration_date=5), InvalidInput, "expiration_date"),
        (lambda m: m.add("tea", **ALEX, memory_type="procedural_memory"), NotSupported, "memory_type"),
        (lambda m: m.add("tea", **ALEX, prompt="Extract"), InvalidInput, "prompt: is for an LLM"),
        (lambda m: m.search("tea", **ALEX, rerank=True), NotSupported, "rerank"),
        (lambda m: m.search("tea", **ALEX, rerank="no"), InvalidInput, "rerank"),
        (lambda m: m.search("tea", **ALEX, explain="no"), InvalidInput, "explain"),
        (lambda m: m.add("tea", **ALEX, infer="no"), InvalidInput, "infer"),
        (lambda m: m.search("tea", **ALEX, reference_date="2026-01-01"), InvalidInput, "reference_date"),
        (lambda m: m.get_all(**ALEX, show_expired="yes"), InvalidInput, "show_expired"),
        (lambda m: m.get("mem_a1b2c3d4"), InvalidInput, "id"),
        (lambda m: m.add("tea", **ALEX, metadata={"user_id": "blake"}), InvalidInput, "user_id"),
        (lambda m: m.search("tea", **ALEX, filters={"due": {"$gte": 1}}), InvalidInput, "due"),
        (lambda m: m.search("tea", **ALEX, limits=5), TypeError, "limits"),
        (lambda m: m.add("tea", users="alex"), TypeError, "users"),
        (lambda m: m.get_all(userid="alex"), TypeError, "userid"),
    ],
)
def test_what_would_be_ignored_is_an_error(m: Memory, call: Any, error: type[Exception], names: str) -> None:
    """An argument that has no meaning here is named, never swallowed; nothing is stored."""
    with pytest.raises(error, match=names):
        call(m)
    assert m.get_all(**ALEX) == {"results": []}


@pytest.mark.parametrize("name", ["llm", "vector_store", "chat"])
def test_what_is_elsewhere_is_told(m: Memory, name: str) -> None:
    """Mem0's own parts are named where they are looked for; what asks whether they are there is answered."""
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'.*`gateway\.mem0`"):
        getattr(m, name)
    assert not hasattr(m, name)


# -- making one ----------------------------------------------------------------------------------------


def test_every_configuration_is_taken(backend: Backend, tmp_path: Path) -> None:
    """Ours as a mapping, a `Settings`, or `from_config`; all see the same data."""
    config = backend.config(tmp_path)
    kept = Settings.load(config).vector_store.persistent
    with Memory(config) as first:
        first.add("I drink tea", **ALEX)
        for second in (Memory(Settings.load(config)), Memory.from_config(config)):
            with second:
                assert isinstance(second, Memory)
                assert second.add("I drink tea", **ALEX) == {"results": []} or not kept


def test_a_reranker_that_is_there_can_be_asked_for(backend: Backend, tmp_path: Path) -> None:
    """`rerank=True` is what is done anyway where the configuration names a reranker."""
    config = {**backend.config(tmp_path), "retrieval": {"reranker": f"{__name__}.shortest_first"}}
    with Memory(config) as m:
        for text in ("I drink tea in the morning", "I drink tea"):
            m.add(text, **ALEX)
        found = m.search("what do I drink in the morning?", **ALEX, rerank=True)
        assert [item["memory"] for item in found["results"]] == ["I drink tea", "I drink tea in the morning"]
        assert found == m.search("what do I drink in the morning?", **ALEX)


def shortest_first(query: str, texts: list[str]) -> list[float]:
    """A reranker."""
    return [1 / len(text) for text in texts]


def test_mem0s_own_configuration_is_taken(tmp_path: Path) -> None:
    """A mapping in Mem0's form, and its `MemoryConfig`, mean the same memory."""
    mapping = {
        "vector_store": {"provider": "qdrant", "config": {"path": str(tmp_path / "q"), "collection_name": "lesson"}}
    }
    code = (
        "import os; os.environ['MEM0_TELEMETRY'] = 'False'\n"
        "from mem0.configs.base import MemoryConfig\n"
        "from memstack.compat import Memory\n"
        f"mapping = {mapping!r}\n"
        "with Memory.from_config(mapping) as m: m.add('I drink tea', user_id='alex')\n"
        "with Memory(MemoryConfig(**mapping)) as m: print(m.get_all(user_id='alex')['results'][0]['memory'])\n"
        "with Memory(config=MemoryConfig(**mapping)) as m: print(m.gateway)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("I drink tea\n<MemoryGateway qdrant")


def test_what_mem0_itself_puts_into_its_configuration_is_none_of_the_users() -> None:
    """Its classes add a path beside a server's address; and a section may name its provider alone."""
    code = (
        "import os; os.environ['MEM0_TELEMETRY'] = 'False'\n"
        "from mem0.configs.base import MemoryConfig\n"
        "from memstack.compat.calls import settings_of\n"
        "place = {'host': 'localhost', 'port': 6333}\n"
        "store = settings_of(MemoryConfig(vector_store={'provider': 'qdrant', 'config': place})).vector_store\n"
        "print(store.mode, store.host, store.port)\n"
        "store = settings_of(MemoryConfig(vector_store={'provider': 'chroma', 'config': {**place}})).vector_store\n"
        "print(store.mode, store.host)\n"
        "print(settings_of(MemoryConfig(embedder={'provider': 'openai'})).embedder.model)\n"
        "print(settings_of(MemoryConfig()).embedder.provider)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:4] == [
        "server localhost 6333",
        "server localhost",
        "text-embedding-3-small",
        "builtin",
    ]


def test_importing_it_imports_no_engine(tmp_path: Path) -> None:
    """The import costs what `import memstack` costs; storing and searching need no Mem0."""
    code = (
        "import sys\nfrom memstack.compat import Memory\n"
        "assert not {'mem0', 'qdrant_edge', 'numpy', 'openai'} & set(sys.modules)\n"
        "with Memory({'vector_store': {'path': 'memory'}}) as m:\n"
        "    m.add('I drink tea', user_id='alex')\n    assert m.search('tea', user_id='alex')['results']\n"
        "assert 'mem0' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_one_that_is_left_behind_lets_go(tmp_path: Path) -> None:
    """A memory that nobody closed is closed when nobody holds it: another process can open its folder."""
    folder = {"vector_store": {"path": str(tmp_path / "memory")}}
    m = Memory(folder)
    m.add("I drink tea", **ALEX)
    gateway = m.gateway
    del m
    gc.collect()
    assert gateway.closed
    code = f"from memstack.compat import Memory\nm = Memory({folder!r})\nprint(len(m.search('tea', user_id='alex')))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with open_memory(folder) as again:
        assert len(again.get_all(**ALEX)) == 1


# -- async ---------------------------------------------------------------------------------------------


async def test_the_same_awaited(backend: Backend, tmp_path: Path) -> None:
    """`AsyncMemory` has the calls of `Memory`, under the same names, with the same answers."""
    async with AsyncMemory.from_config(backend.config(tmp_path)) as m:
        texts = ["I drink tea", "I ride a bike", "I live in Lisbon"]
        answers = await asyncio.gather(*(m.add(text, **ALEX) for text in texts))
        assert _texts(await m.search("tea", **ALEX, limit=1)) == {"I drink tea"}
        assert _texts(await m.get_all(filters=ALEX, top_k=5)) == set(texts)
        key = answers[0]["results"][0]["id"]
        assert await m.get_all(filters=ALEX, show_expired=True) == await m.get_all(filters=ALEX)
        await m.update(key, data="I drink water", expiration_date="2020-01-01")
        assert await m.get_all(filters={"AND": [ALEX, {"data": "I drink water"}]}) == {"results": []}
        assert _texts(await m.search("water", **ALEX, limit=1, show_expired=True)) == {"I drink water"}
        found = await m.get(key)
        assert found is not None
        assert found["memory"] == "I drink water"
        await m.delete(key)
        assert [entry["event"] for entry in await m.history(key)] == ["ADD", "UPDATE", "DELETE"]
        await m.delete_all(user_id="alex")
        await m.reset()
        assert m.gateway.get_all(user_id="alex").memories == ()
    assert m.gateway.closed


@pytest.mark.parametrize("name", [name for name in vars(Memory) if not name.startswith("_")])
def test_async_takes_the_same_arguments(name: str) -> None:
    """No call of one class differs in its parameters from that of the other."""
    here, there = getattr(Memory, name), getattr(AsyncMemory, name)
    if callable(here):
        assert inspect.signature(here).parameters == inspect.signature(there).parameters
