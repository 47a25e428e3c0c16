"""A tutorial written for Mem0, block by block and in its order, with only its import line changed.

Each block runs on every backend, with the built-in embedder (what is said is stored as said) and with OpenAI's models
over the wire (facts are drawn out of it).
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from memstack import Settings
from memstack.compat import Memory
from tests.compat.lesson_app import make_app


def test_basic_operations(configured: dict[str, Any]) -> None:
    """Add, search, metadata, filters, the complex filter, update, delete, delete all: its calls, as written."""
    m = Memory()

    messages = [
        {"role": "user", "content": "Hi, I'm Alex. I love basketball and gaming."},
        {"role": "assistant", "content": "Hey Alex! Great to meet you. I'll remember your interests."},
    ]
    result = m.add(messages, user_id="alex")
    assert all(entry["event"] == "ADD" for entry in result["results"])
    assert any("basketball" in entry["memory"] for entry in result["results"])

    results = m.search("What do you know about me?", user_id="alex")
    assert {"id", "memory", "user_id", "score", "created_at"} <= results["results"][0].keys()
    assert any("basketball" in found["memory"] for found in results["results"])
    assert {found.get("user_id") for found in results["results"]} == {"alex"}

    first = m.add(
        [
            {"role": "user", "content": "I prefer tasks scheduled in the morning."},
            {"role": "assistant", "content": "Noted! I'll prioritize morning for your tasks."},
        ],
        user_id="alex",
        metadata={"category": "preferences", "domain": "task-management"},
    )
    m.add(
        [
            {"role": "user", "content": "I'm working on the Phoenix project."},
            {"role": "assistant", "content": "Got it—Phoenix project is your current focus."},
        ],
        user_id="alex",
        metadata={"category": "projects", "domain": "task-management"},
    )

    preferences = m.search("task preferences", user_id="alex", filters={"category": "preferences"})
    assert preferences["results"]
    assert all("morning" in found["memory"] for found in preferences["results"])
    projects = m.search("current work", user_id="alex", filters={"category": "projects"})
    assert projects["results"]
    assert all("Phoenix" in found["memory"] for found in projects["results"])

    results = m.search(
        "work patterns",
        filters={"AND": [{"user_id": "alex"}, {"category": "preferences"}, {"created_at": {"gte": "2025-01-01"}}]},
    )
    assert sorted(found["id"] for found in results["results"]) == sorted(f["id"] for f in preferences["results"])

    changed = first["results"][0]["id"]
    m.update(memory_id=changed, data="Prefers tasks scheduled in afternoon (updated from morning).")
    found = m.get(changed)
    assert found is not None
    assert found["memory"].startswith("Prefers tasks scheduled in afternoon")

    m.delete(memory_id=result["results"][0]["id"])
    all_memories = m.search("", user_id="alex", limit=1000)
    assert len(all_memories["results"]) >= 2
    for mem in all_memories["results"]:
        m.delete(mem["id"])
    assert m.search("", user_id="alex", limit=1000) == {"results": []}
    m.close()


async def test_the_task_api(configured: dict[str, Any]) -> None:
    """Its FastAPI application: the preference schedules the task, the project becomes its context."""
    with Memory() as memory:
        memory.add("I'm working on the Phoenix project.", user_id="alex", metadata={"category": "projects"})
        transport = httpx.ASGITransport(app=make_app(memory))
        async with httpx.AsyncClient(transport=transport, base_url="http://lesson") as client:
            user = {"user_id": "alex"}
            said = "I prefer tasks in the morning"
            response = await client.post("/preferences", params={**user, "preference": said})
            assert response.json() == {"status": "stored", "preference": said}

            response = await client.post("/tasks", params=user, json={"title": "Review PR #123", "priority": "high"})
            assert (response.json()["title"], response.json()["priority"]) == ("Review PR #123", "high")
            assert response.json()["scheduled_time"] == "morning"

            response = await client.post(
                "/tasks", params=user, json={"title": "Phoenix project standup", "category": "meetings"}
            )
            assert "Phoenix project" in response.json()["context"]

            response = await client.get("/tasks/task_2", params=user)
            assert any("Phoenix" in text for text in response.json()["related_memories"])
            assert (await client.get("/tasks/task_9", params=user)).json() == {"error": "Task not found"}


@pytest.mark.parametrize("closed", [False, True], ids=["still open", "closed"])
def test_across_sessions(configured: dict[str, Any], closed: bool) -> None:
    """What was remembered is there in a fresh instance, whether or not the one before was closed."""
    if not Settings.load().vector_store.persistent:
        pytest.skip("this backend keeps nothing")
    m = Memory()
    m.add([{"role": "user", "content": "My name is Alex and I'm a senior engineer."}], user_id="alex")
    if closed:
        m.close()
    m2 = Memory()
    results = m2.search("Who is Alex?", user_id="alex")
    assert "senior engineer" in results["results"][0]["memory"]
    m.close()
    m2.close()
