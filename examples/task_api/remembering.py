"""What the API remembers about a person, and what it concludes. Each rule is stated where it stands.

Every function takes a handle that is bound to one user (`memory.for_user(…)`), so none can reach anybody else's memory.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from memstack import (
    AddResult,
    AsyncMemoryGateway,
    Interaction,
    Memory,
    MemorySchema,
    Preference,
    Project,
    TaskPattern,
)
from memstack.errors import MemoryNotFound

from .understanding import DOMAIN, TIME_OF_DAY

__all__ = ["duration", "forget", "learn_duration", "note", "preferred_time", "project_for", "remember", "text_of"]

_RELATED: Final = 0.4  # the score from which on a project is taken to be what a task is about
_learning: Final = asyncio.Lock()  # a pattern is read, changed and written: one at a time


async def remember(
    memory: AsyncMemoryGateway,
    text: str,
    metadata: MemorySchema | dict[str, Any],
    *,
    since: datetime | None = None,
    confirm: str | None = None,
) -> AddResult:
    """Keep a statement. One that contradicts what is known waits, until it comes again with the token it was given.

    Only what was understood can contradict: a note that is like another one is no reason to ask.
    """
    understood = isinstance(metadata, MemorySchema)
    result = await memory.add(
        text, metadata=metadata, valid_from=since, infer=False, on_conflict="ask" if understood else "keep"
    )
    if confirm is not None and result.pending and result.pending[0].token == confirm:
        return await memory.confirm(confirm)
    return result


async def preferred_time(memory: AsyncMemoryGateway) -> Memory[Preference] | None:
    """The preference that decides when tasks are scheduled: the current one for the time of day."""
    same = (Preference.f.domain == DOMAIN) & (Preference.f.key == TIME_OF_DAY)
    page = await memory.get_all(schema=Preference, filters=same, limit=1)
    return next(iter(page), None)


async def project_for(memory: AsyncMemoryGateway, title: str) -> Memory[Project] | None:
    """The context of a task: the active project that is nearest to its title, if it is near enough."""
    active = Project.f.status == "active"
    hits = await memory.search(title, schema=Project, filters=active, limit=1, threshold=_RELATED)
    return next(iter(hits), None)


async def duration(memory: AsyncMemoryGateway, task_type: str) -> Memory[TaskPattern] | None:
    """What is known about how long tasks of a type take."""
    of_type = TaskPattern(task_type=task_type, kind="duration")
    same = (TaskPattern.f.task_type == of_type.task_type) & (TaskPattern.f.kind == of_type.kind)
    page = await memory.get_all(schema=TaskPattern, filters=same, limit=1)
    return next(iter(page), None)


async def learn_duration(memory: AsyncMemoryGateway, task_type: str, minutes: float) -> TaskPattern:
    """Add one observation to a pattern: the estimate is the mean, the confidence n / (n + 2)."""
    async with _learning:
        known = await duration(memory, task_type)
        pattern = (known.metadata if known else TaskPattern(task_type=task_type)).observed(minutes)
        text = f"Tasks of the type {task_type} take {pattern.estimate_minutes:.0f} minutes"
        if known:
            await memory.update(known.id, text=text, metadata=pattern)
        else:
            await memory.add(text, metadata=pattern)
        return pattern


async def note(memory: AsyncMemoryGateway, action: str, task_id: str, title: str) -> None:
    """Remember that something was done with a task."""
    await memory.add(f"{action.capitalize()} task: {title}", metadata=Interaction(action=action, task_id=task_id))


async def forget(memory: AsyncMemoryGateway, memory_id: str) -> None:
    """Forget a memory, and those in the place of which it stands: they must not come back when it is gone.

    Raises:
        MemoryNotFound: there is none.
    """
    await memory.get(memory_id)
    changes = await memory.history(memory_id)
    chain = [memory_id]
    for successor in chain:  # it grows
        before = [change.memory_id for change in changes if change.superseded_by == successor]
        chain += [earlier for earlier in before if earlier not in chain]
    for earlier in reversed(chain):  # last the one that was asked for: where this ends early, it can be asked for again
        with suppress(MemoryNotFound):  # forgotten meanwhile
            await memory.delete(earlier)


async def text_of(memory: AsyncMemoryGateway, memory_id: str | None) -> str | None:
    """The text of a memory; None where it was forgotten since."""
    if memory_id is None:
        return None
    try:
        return (await memory.get(memory_id)).text
    except MemoryNotFound:
        return None
