"""The small task API of a Mem0 tutorial, with its calls as they were written; only the import of `Memory` differs."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

from memstack.compat import Added, FoundItem, Memory, Results


class TaskCreate(BaseModel):
    title: str
    description: str | None = None
    priority: str | None = "normal"
    category: str | None = None


def make_app(memory: Memory) -> FastAPI:
    app = FastAPI()
    tasks: dict[str, dict[str, str | None]] = {}

    async def get_user_preferences(user_id: str) -> dict[str, str]:
        results = memory.search(
            "task preferences and working style", user_id=user_id, filters={"category": "preferences"}, limit=5
        )
        preferences: dict[str, str] = {}
        for mem in results.get("results", []):
            text = mem["memory"].lower()
            if "morning" in text:
                preferences["preferred_time"] = "morning"
            elif "afternoon" in text:
                preferences["preferred_time"] = "afternoon"
            elif "evening" in text:
                preferences["preferred_time"] = "evening"
        return preferences

    async def get_project_context(user_id: str, task_title: str) -> list[FoundItem]:
        results: Results = memory.search(
            f"projects related to {task_title}", user_id=user_id, filters={"category": "projects"}, limit=3
        )
        return results.get("results", [])

    async def store_interaction(user_id: str, messages: list[dict[str, str]], category: str = "interactions") -> Added:
        return memory.add(messages, user_id=user_id, metadata={"category": category})

    @app.post("/tasks")
    async def create_task(task: TaskCreate, user_id: str) -> dict[str, str | None]:
        preferences = await get_user_preferences(user_id)
        context_memories = await get_project_context(user_id, task.title)
        scheduled_time = preferences.get("preferred_time", "unscheduled")
        task_id = f"task_{len(tasks) + 1}"
        tasks[task_id] = {
            "id": task_id,
            "title": task.title,
            "description": task.description,
            "priority": task.priority,
            "user_id": user_id,
            "scheduled_time": scheduled_time,
            "context": context_memories[0]["memory"] if context_memories else None,
        }
        await store_interaction(
            user_id=user_id,
            messages=[
                {"role": "user", "content": f"Created task: {task.title}"},
                {"role": "assistant", "content": f"Task created and scheduled for {scheduled_time}"},
            ],
            category="task_creation",
        )
        return tasks[task_id]

    @app.get("/tasks/{task_id}")
    async def get_task(task_id: str, user_id: str) -> dict[str, object]:
        if task_id not in tasks:
            return {"error": "Task not found"}
        memories = memory.search(str(tasks[task_id]["title"]), user_id=user_id, limit=3)
        return {**tasks[task_id], "related_memories": [m["memory"] for m in memories.get("results", [])]}

    @app.post("/preferences")
    async def set_preference(user_id: str, preference: str) -> dict[str, str]:
        await store_interaction(
            user_id=user_id,
            messages=[
                {"role": "user", "content": preference},
                {"role": "assistant", "content": "I'll remember that preference."},
            ],
            category="preferences",
        )
        return {"status": "stored", "preference": preference}

    assert all((create_task, get_task, set_preference))  # reached by their routes
    return app
