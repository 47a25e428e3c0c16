"""The application: `uvicorn task_api.main:app`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from memstack import AddResult, AsyncMemoryGateway, F, Project, open_async_memory
from memstack.errors import InvalidInput, MemoryNotFound, MemstackError, PendingNotFound

from . import remembering
from .models import (
    ChangeOut,
    Completed,
    CompletedOut,
    ErasedOut,
    Health,
    Instant,
    MemoryOut,
    PendingOut,
    PreferenceIn,
    Problem,
    ProjectIn,
    Remembered,
    TaskIn,
    TaskOut,
    Text,
)
from .settings import Settings
from .tasks import Task, Tasks
from .tokens import User
from .understanding import understand

_STATIC: Final = Path(__file__).parent / "static"
_log: Final = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what requests share, and close it when the server stops."""
    settings = app.state.settings = Settings.read()
    tasks = app.state.tasks = Tasks(settings.database)
    try:
        async with open_async_memory(settings.memory) as memory:
            app.state.memory = memory
            yield
    finally:
        tasks.close()


app = FastAPI(
    title="Task API",
    summary="Tasks for a person whom it knows.",
    lifespan=lifespan,
    responses={
        400: {"model": Problem, "description": "The body cannot be read"},
        401: {"model": Problem, "description": "No valid token"},
        503: {"model": Problem, "description": "Try again"},
    },
)
app.mount("/static", StaticFiles(directory=_STATIC))


async def _memory(request: Request, user: User) -> AsyncMemoryGateway:
    memory: AsyncMemoryGateway = request.app.state.memory
    return memory.for_user(user)


async def _tasks(request: Request) -> Tasks:
    tasks: Tasks = request.app.state.tasks
    return tasks


Mine = Annotated[AsyncMemoryGateway, Depends(_memory)]
AllTasks = Annotated[Tasks, Depends(_tasks)]
Confirm = Annotated[str | None, Query(description="The token of a pending change, which is to be made.")]
_NOT_FOUND: Final[dict[int | str, Any]] = {404: {"model": Problem, "description": "There is none, or it is not yours"}}
_CONTRADICTS: Final[dict[int | str, Any]] = {409: {"model": PendingOut, "description": "It contradicts what is known"}}


# -- what a person says ----------------------------------------------------------------------------


@app.post("/preferences", status_code=201, responses=_CONTRADICTS, response_model=Remembered)
async def state_preference(said: PreferenceIn, memory: Mine, confirm: Confirm = None) -> Remembered | JSONResponse:
    """Keep a preference. Where it contradicts an earlier one, nothing changes before it is confirmed."""
    preference = understand(said.text)
    metadata = preference or {"category": "notes"}
    result = await remembering.remember(memory, said.text, metadata, since=said.since, confirm=confirm)
    return await _answer(memory, result, understood=preference is not None)


@app.post("/projects", status_code=201, responses=_CONTRADICTS, response_model=Remembered)
async def state_project(said: ProjectIn, memory: Mine, confirm: Confirm = None) -> Remembered | JSONResponse:
    """Keep what a person works on."""
    project = Project(name=said.name, status=said.status, deadline=said.deadline)
    result = await remembering.remember(memory, said.text, project, confirm=confirm)
    return await _answer(memory, result, understood=True)


async def _answer(memory: AsyncMemoryGateway, result: AddResult, *, understood: bool) -> Remembered | JSONResponse:
    if result.pending:
        return JSONResponse(PendingOut.of(result.pending[0]).model_dump(mode="json"), status.HTTP_409_CONFLICT)
    if result.stored:
        kept = result.stored[0]
    else:  # it was known already
        kept = await memory.get(str(result.skipped[0].memory_id))
    return Remembered(memory=MemoryOut.of(kept), understood=understood)


# -- tasks -------------------------------------------------------------------------------------------


@app.post("/tasks", status_code=201)
async def create_task(new: TaskIn, user: User, memory: Mine, tasks: AllTasks) -> TaskOut:
    """Make a task: scheduled by preference, with its project as context, and an estimate from tasks like it."""
    preference = await remembering.preferred_time(memory)
    project = await remembering.project_for(memory, new.title)
    pattern = await remembering.duration(memory, new.task_type) if new.task_type else None
    task = await tasks.add(
        user,
        **new.model_dump(),
        scheduled_for=preference.metadata.value if preference else "unscheduled",
        preference_id=preference.id if preference else None,
        project_id=project.id if project else None,
        estimate_minutes=pattern.metadata.estimate_minutes if pattern else None,
    )
    await remembering.note(memory, "created", task.id, task.title)
    return await _shown(memory, task)


@app.get("/tasks/{task_id}", responses=_NOT_FOUND)
async def get_task(task_id: UUID, user: User, memory: Mine, tasks: AllTasks) -> TaskOut:
    """A task, with the memories that are nearest to it."""
    task = await _find(tasks, user, task_id)
    related = await memory.search(task.title, limit=3)
    return (await _shown(memory, task)).model_copy(update={"related_memories": [hit.text for hit in related]})


@app.post(
    "/tasks/{task_id}/complete",
    responses={**_NOT_FOUND, 409: {"model": Problem, "description": "It was completed before"}},
)
async def complete_task(task_id: UUID, done: Completed, user: User, memory: Mine, tasks: AllTasks) -> CompletedOut:
    """Complete a task, and learn from it how long tasks of its type take."""
    task = await _find(tasks, user, task_id)
    if not await tasks.complete(user, task.id, done.minutes):
        raise HTTPException(status.HTTP_409_CONFLICT, "This task was completed before.")
    await remembering.note(memory, "completed", task.id, task.title)
    if task.task_type is None:
        return CompletedOut(task_type=None)
    pattern = await remembering.learn_duration(memory, task.task_type, done.minutes)
    return CompletedOut.model_validate(pattern, from_attributes=True)


async def _find(tasks: Tasks, user: str, task_id: UUID) -> Task:
    task = await tasks.get(user, str(task_id))
    if task is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "There is no such task.")
    return task


async def _shown(memory: AsyncMemoryGateway, task: Task) -> TaskOut:
    """A task with the texts of its memories: they are looked up, so what was forgotten is shown nowhere."""
    return TaskOut(
        **task.model_dump(),
        scheduled_because=await remembering.text_of(memory, task.preference_id),
        context=await remembering.text_of(memory, task.project_id),
    )


# -- what is known of a person, and what they can do about it ------------------------------------------


@app.get("/memories")
async def list_memories(
    memory: Mine,
    q: Annotated[Text | None, Query(description="What to look for; left out: the newest first.")] = None,
    category: Annotated[Text | None, Query(description="Only of this category.")] = None,
    as_of: Annotated[Instant | None, Query(description="What held then; left out: now.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[MemoryOut]:
    """What is remembered of you."""
    filters = None if category is None else F.category == category
    if q is None:
        page = await memory.get_all(filters=filters, limit=limit, as_of=as_of)
        return [MemoryOut.of(found) for found in page]
    hits = await memory.search(q, filters=filters, limit=limit, as_of=as_of)
    return [MemoryOut.of(hit) for hit in hits]


@app.get("/memories/{memory_id}/history", responses=_NOT_FOUND)
async def memory_history(memory_id: UUID, memory: Mine) -> list[ChangeOut]:
    """How a memory came about, and what took the place of what."""
    await memory.get(str(memory_id))  # what was forgotten has no history to be shown
    return [ChangeOut.of(change) for change in await memory.history(str(memory_id))]


@app.delete("/memories/{memory_id}", status_code=204, responses=_NOT_FOUND)
async def forget(memory_id: UUID, memory: Mine) -> Response:
    """Forget one memory, and those in the place of which it stands."""
    await remembering.forget(memory, str(memory_id))
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@app.delete("/users/{user_id:path}", responses={403: {"model": Problem, "description": "It is not you"}})
async def erase(user_id: str, user: User, memory: Mine, tasks: AllTasks) -> ErasedOut:
    """Erase everything about you: tasks, memories, superseded ones, and their history."""
    if user_id != user:
        raise HTTPException(status.HTTP_403_FORBIDDEN, "You can erase yourself alone.")
    count = await tasks.erase(user)
    receipt = await memory.erase()
    if not receipt.complete:
        _log.warning("an erasure is not complete: %s", "; ".join((*receipt.to_do, *receipt.residue)))
    return ErasedOut(tasks=count, memories=receipt.memories, changes=receipt.changes, complete=receipt.complete)


# -- the rest --------------------------------------------------------------------------------------------


@app.get("/health")
async def health(request: Request) -> Health:
    """Whether the memory answers."""
    memory: AsyncMemoryGateway = request.app.state.memory
    await memory.stats()
    return Health()


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """A page on which a person sees what is remembered of them."""
    policy = "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
    return FileResponse(_STATIC / "index.html", headers=headers)


@app.exception_handler(RequestValidationError)
async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    """What is wrong, and where; without repeating what was sent."""
    detail = [{name: item[name] for name in ("loc", "msg", "type")} for item in error.errors()]
    return JSONResponse({"detail": detail}, status.HTTP_422_UNPROCESSABLE_CONTENT)


@app.exception_handler(MemstackError)
async def memory_failed(_: Request, error: MemstackError) -> JSONResponse:
    """The memory's errors in the words of HTTP."""
    if isinstance(error, InvalidInput):
        detail = [{"loc": ["body", error.field], "msg": str(error), "type": "value_error"}]
        return JSONResponse({"detail": detail}, status.HTTP_422_UNPROCESSABLE_CONTENT)
    if isinstance(error, (MemoryNotFound, PendingNotFound)):
        return JSONResponse({"detail": "There is no such memory."}, status.HTTP_404_NOT_FOUND)
    _log.error("the memory failed", exc_info=error)
    if error.retryable:
        return JSONResponse({"detail": "Try again."}, status.HTTP_503_SERVICE_UNAVAILABLE, {"Retry-After": "1"})
    return JSONResponse({"detail": "The memory failed."}, status.HTTP_500_INTERNAL_SERVER_ERROR)
