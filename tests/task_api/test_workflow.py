"""The task API against a live uvicorn: what a person says decides, and can be changed, looked back at, and erased."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from memstack import Settings
from memstack.testing.contract import Backend
from tests.task_api.conftest import Server, serving

MORNING = "I prefer tasks in the morning"
EVENING = "Actually, evenings work better for me now"


def _ago(**delta: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(**delta)).isoformat()


def test_memory_workflow(server: Server) -> None:
    """Morning, with a project as context; then evening: asked, confirmed, from the next task on; yesterday stays."""
    with server.client("alex") as client:
        said = client.post("/preferences", json={"text": MORNING, "since": _ago(days=2)})
        assert said.status_code == 201
        assert said.json()["understood"]
        morning = said.json()["memory"]["id"]

        review = client.post("/tasks", json={"title": "Review PR #123", "priority": "high"}).json()
        assert (review["scheduled_for"], review["scheduled_because"]) == ("morning", MORNING)
        assert review["context"] is None

        project = {"text": "I'm working on the Phoenix project", "name": "Phoenix"}
        assert client.post("/projects", json=project).status_code == 201
        standup = client.post("/tasks", json={"title": "Phoenix project standup", "task_type": "meeting"}).json()
        assert standup["context"] == project["text"]
        found = client.get(f"/tasks/{standup['id']}").json()
        assert project["text"] in found["related_memories"]

        asked = client.post("/preferences", json={"text": EVENING})
        assert asked.status_code == 409
        assert [memory["id"] for memory in asked.json()["contradicts"]] == [morning]
        assert client.post("/tasks", json={"title": "Call Ada"}).json()["scheduled_for"] == "morning"

        wrong = client.post("/preferences", params={"confirm": "of something else"}, json={"text": EVENING})
        assert wrong.status_code == 409
        done = client.post("/preferences", params={"confirm": asked.json()["confirm"]}, json={"text": EVENING})
        assert done.status_code == 201
        evening = done.json()["memory"]["id"]
        task = client.post("/tasks", json={"title": "Write the minutes"}).json()
        assert (task["scheduled_for"], task["scheduled_because"]) == ("evening", EVENING)

        history = client.get(f"/memories/{evening}/history").json()
        texts = {text for change in history for text in (change["old_text"], change["new_text"])}
        assert {MORNING, EVENING} <= texts

        preferences = {"category": "preferences"}
        (now,) = client.get("/memories", params=preferences).json()
        (then,) = client.get("/memories", params={**preferences, "as_of": _ago(days=1)}).json()
        assert (now["id"], now["text"]) == (evening, EVENING)
        assert (then["id"], then["text"], then["superseded_by"]) == (morning, MORNING, evening)
        assert client.get("/memories", params={**preferences, "as_of": _ago(days=3)}).json() == []


def test_a_statement_is_kept_once_and_a_strange_one_as_a_note(server: Server) -> None:
    """Said twice, it is one memory; what the rules do not understand is kept, and schedules nothing."""
    with server.client("twice") as client:
        first, second = (client.post("/preferences", json={"text": MORNING}).json() for _ in range(2))
        assert first["memory"]["id"] == second["memory"]["id"]
        note = client.post("/preferences", json={"text": "I like mornings, and evenings even more"}).json()
        assert not note["understood"]
        assert note["memory"]["category"] == "notes"
        assert client.post("/tasks", json={"title": "Buy milk"}).json()["scheduled_for"] == "morning"
    with server.client("nobody told me") as client:
        assert client.post("/tasks", json={"title": "Buy milk"}).json()["scheduled_for"] == "unscheduled"


def test_a_project_changes_its_state(server: Server) -> None:
    """What a project was is contradicted by what it is: asked, confirmed; a finished one is no context any more."""
    with server.client("manager") as client:
        project = {"text": "I work on the Apollo project", "name": "Apollo"}
        client.post("/projects", json=project)
        over = {"text": "The Apollo project is done", "name": "Apollo", "status": "done"}
        asked = client.post("/projects", json=over)
        assert asked.status_code == 409
        client.post("/projects", params={"confirm": asked.json()["confirm"]}, json=over).raise_for_status()
        assert client.post("/tasks", json={"title": "Apollo project party"}).json()["context"] is None


def test_estimates_are_learnt(server: Server) -> None:
    """The estimate is the mean of what tasks of the type took, with its count and confidence; at once, too."""
    minutes = [10.0, 20.0, 60.0, 30.0, 15.0]
    with server.client("learner") as client:
        tasks = [client.post("/tasks", json={"title": f"Review {n}", "task_type": "Review"}).json() for n in minutes]
        assert {task["estimate_minutes"] for task in tasks} == {None}

        def complete(place: int) -> int:
            path = f"/tasks/{tasks[place]['id']}/complete"
            return client.post(path, json={"minutes": minutes[place]}).status_code

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(complete, range(len(minutes)))) == {200}
        assert complete(0) == 409

        (pattern,) = client.get("/memories", params={"category": "task_patterns"}).json()
        learnt = pattern["metadata"]
        assert learnt["estimate_minutes"] == pytest.approx(statistics.fmean(minutes))
        assert (learnt["sample_count"], learnt["confidence"]) == (5, pytest.approx(5 / 7))
        task = client.post("/tasks", json={"title": "One more", "task_type": "review"}).json()
        assert task["estimate_minutes"] == pytest.approx(27)
        assert len(client.get(f"/memories/{pattern['id']}/history").json()) == len(minutes)


def test_what_is_forgotten_is_shown_nowhere(server: Server) -> None:
    """A memory that its owner forgets is gone from the list, from searches, and from the tasks that it shaped."""
    with server.client("shy") as client:
        secret = client.post("/projects", json={"text": "I'm working on the Secret project", "name": "Secret"}).json()
        task = client.post("/tasks", json={"title": "Secret project kickoff"}).json()
        assert task["context"]
        assert client.delete(f"/memories/{secret['memory']['id']}").status_code == 204
        task = client.get(f"/tasks/{task['id']}").json()
        assert task["context"] is None
        assert "I'm working on the Secret project" not in task["related_memories"]
        assert client.delete(f"/memories/{secret['memory']['id']}").status_code == 404
        assert client.get(f"/memories/{secret['memory']['id']}/history").status_code == 404


def test_what_a_forgotten_memory_replaced_is_forgotten_too(server: Server) -> None:
    """With a memory go those in the place of which it stands: they do not come back, and decide nothing."""
    with server.client("fickle") as client:
        latest = client.post("/preferences", json={"text": MORNING}).json()["memory"]["id"]
        for text in (EVENING, "Afternoons, please"):
            asked = client.post("/preferences", json={"text": text}).json()["confirm"]
            done = client.post("/preferences", params={"confirm": asked}, json={"text": text})
            latest = done.json()["memory"]["id"]
        changes = client.get(f"/memories/{latest}/history").json()
        assert [change["event"] for change in changes if change["superseded_by"]] == ["SUPERSEDE"] * 2
        assert client.delete(f"/memories/{latest}").status_code == 204
        for then in (_ago(days=-1), _ago(seconds=0)):
            assert client.get("/memories", params={"as_of": then}).json() == []
        for change in changes:
            assert client.get(f"/memories/{change['memory_id']}/history").status_code == 404
        assert client.post("/tasks", json={"title": "Buy milk"}).json()["scheduled_for"] == "unscheduled"


def test_nobody_sees_anothers(server: Server) -> None:
    """Another's task, memory or history is not there; another's data cannot be erased."""
    with server.client("owner") as owner, server.client("thief") as thief:
        memory = owner.post("/preferences", json={"text": MORNING}).json()["memory"]["id"]
        task = owner.post("/tasks", json={"title": "Buy a ring"}).json()["id"]
        assert thief.get(f"/tasks/{task}").status_code == 404
        assert thief.post(f"/tasks/{task}/complete", json={"minutes": 1}).status_code == 404
        assert thief.get(f"/memories/{memory}/history").status_code == 404
        assert thief.delete(f"/memories/{memory}").status_code == 404
        assert thief.get("/memories", params={"q": "ring"}).json() == []
        assert thief.delete("/users/owner").status_code == 403
        assert len(owner.get("/memories").json()) == 2


def test_erasure(server: Server) -> None:
    """Erasing oneself leaves no task, memory or history, and nobody else worse off; the receipt holds no content."""
    with server.client("leaver/of 2") as client, server.client("stayer") as other:
        for one in (client, other):
            one.post("/preferences", json={"text": MORNING})
        asked = client.post("/preferences", json={"text": EVENING}).json()
        client.post("/preferences", params={"confirm": asked["confirm"]}, json={"text": EVENING})
        task = client.post("/tasks", json={"title": "Zanzibar itinerary"}).json()["id"]
        answer = client.delete("/users/leaver%2Fof%202")
        assert answer.status_code == 200
        receipt = answer.json()
        assert (receipt["tasks"], receipt["memories"]) == (1, 3)  # one of the preferences was superseded
        assert receipt["changes"] >= 3
        assert "Zanzibar" not in answer.text
        assert client.get("/memories").json() == []
        assert client.get("/memories", params={"as_of": _ago(days=-1)}).json() == []
        assert client.get(f"/tasks/{task}").status_code == 404
        assert len(other.get("/memories").json()) == 1
    kept = [*server.folder.glob("tasks.db*"), *server.folder.glob("history.db*")]
    assert [file.name for file in kept if b"Zanzibar" in file.read_bytes()] == []


def test_it_is_there_after_a_restart(backend: Backend, tmp_path: Path) -> None:
    """Tasks and memories outlive the server."""
    config = backend.config(tmp_path)
    if not Settings.load(config).vector_store.persistent:
        pytest.skip("this backend keeps nothing")
    with serving(tmp_path, config) as first, first.client("alex") as client:
        client.post("/preferences", json={"text": MORNING})
        task = client.post("/tasks", json={"title": "Review PR #123"}).json()["id"]
    with serving(tmp_path, config) as second, second.client("alex") as client:
        assert client.get(f"/tasks/{task}").json()["scheduled_because"] == MORNING
        assert client.post("/tasks", json={"title": "Another"}).json()["scheduled_for"] == "morning"
