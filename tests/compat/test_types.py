"""What a type checker sees of the drop-in: checked by mypy and pyright, and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import assert_type

from memstack.compat import Added, AsyncMemory, Done, FoundItem, HistoryItem, Listing, Memory, MemoryItem, Results


def test_answers_are_typed(m: Memory) -> None:
    """Every answer has Mem0's shape as a type: a misspelt key is an error before it runs."""
    stored = assert_type(m.add("I drink tea", user_id="alex"), Added)
    key = assert_type(stored["results"][0]["id"], str)
    found = assert_type(m.search("tea", user_id="alex", limit=5), Results)
    assert_type(found["results"], list[FoundItem])
    assert_type(found["results"][0]["score"], float)
    assert_type(found["results"][0]["memory"], str)
    assert_type(found["results"][0]["metadata"], dict[str, Any] | None)
    assert_type(m.get_all(filters={"user_id": "alex"}, top_k=5), Listing)
    assert_type(m.get(key), MemoryItem | None)
    assert_type(m.update(memory_id=key, data="I drink coffee"), Done)
    assert_type(m.history(key), list[HistoryItem])
    assert_type(m.delete(key), Done)
    assert_type(m.delete_all(user_id="alex"), Done)


async def test_awaited_answers_are_typed(tmp_path: Path) -> None:
    """The awaited ones are the same."""
    async with AsyncMemory({"vector_store": {"path": str(tmp_path)}}) as memory:
        assert_type(await memory.add("I drink tea", user_id="alex"), Added)
        assert_type(await memory.search("tea", filters={"user_id": "alex"}), Results)
