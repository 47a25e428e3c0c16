"""What goes over the wire."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from memstack import Change, Memory, PendingChange

from .tasks import Task

__all__ = [
    "ChangeOut",
    "Completed",
    "CompletedOut",
    "ErasedOut",
    "Health",
    "Instant",
    "MemoryOut",
    "PendingOut",
    "PreferenceIn",
    "Problem",
    "ProjectIn",
    "Remembered",
    "TaskIn",
    "TaskOut",
    "Text",
]

# Something to read: a character that is seen, and no NUL.
Text = Annotated[
    str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*[^\s\x00-\x20\x7f-\xa0][^\x00]*$", examples=["Phoenix"])
]


def _text(value: object) -> object:
    """Instants are ISO text: pydantic would read a number as seconds, which the description does not promise."""
    if not isinstance(value, (str, datetime)) or (isinstance(value, str) and "T" not in value.upper()):
        raise ValueError("is no instant such as 2026-01-31T08:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_text)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a misspelt field is an error, not silence


class PreferenceIn(_In):
    """What somebody says that they like."""

    text: Text = Field(examples=["I prefer tasks in the morning"])
    since: Instant | None = Field(default=None, description="Since when it holds. Default: now.")


class ProjectIn(_In):
    """What somebody works on."""

    text: Text = Field(examples=["I'm working on the Phoenix project"])
    name: Text
    status: Literal["planned", "active", "paused", "done", "cancelled"] = "active"
    deadline: date | None = None


class TaskIn(_In):
    """A task to be."""

    title: Text = Field(examples=["Phoenix project standup"])
    description: Text | None = None
    priority: Literal["low", "normal", "high"] = "normal"
    task_type: Text | None = Field(default=None, description="What it is compared with for an estimate.")


class Completed(_In):
    """What came of a task."""

    minutes: float = Field(gt=0, le=100_000, description="How long it took.")


class MemoryOut(BaseModel):
    """A memory, as its owner sees it."""

    id: str
    text: str
    category: str | None
    metadata: dict[str, Any]
    since: datetime
    until: datetime | None
    superseded_by: str | None

    @classmethod
    def of(cls, memory: Memory[Any]) -> MemoryOut:
        """Show a memory."""
        shown = memory.to_dict()
        return cls(
            id=memory.id,
            text=memory.text,
            category=shown["metadata"].get("category"),
            metadata=shown["metadata"],
            since=memory.valid_from or memory.occurred_at,
            until=memory.valid_to,
            superseded_by=memory.superseded_by,
        )


class ChangeOut(BaseModel):
    """An entry of the history."""

    memory_id: str
    event: str
    at: datetime
    old_text: str | None = None
    new_text: str | None = None
    reason: str | None = None
    superseded_by: str | None = Field(default=None, description="The memory that took its place.")

    @classmethod
    def of(cls, change: Change) -> ChangeOut:
        """Show an entry."""
        return cls.model_validate(change, from_attributes=True)


class Remembered(BaseModel):
    """What was kept."""

    memory: MemoryOut
    understood: bool = Field(description="Whether it is a rule for scheduling, or kept as a note.")


class PendingOut(BaseModel):
    """A statement that contradicts others. Send it again with ``?confirm=`` and the token, and it takes their place."""

    detail: str
    confirm: str = Field(description="The token.")
    until: datetime = Field(description="How long it can be confirmed.")
    contradicts: list[MemoryOut]

    @classmethod
    def of(cls, pending: PendingChange) -> PendingOut:
        """Show a pending change."""
        return cls(
            detail="This contradicts what you said before.",
            confirm=pending.token,
            until=pending.expires_at,
            contradicts=[MemoryOut.of(conflict.memory) for conflict in pending.conflicts],
        )


class TaskOut(Task):
    """A task with what memory has to say about it now."""

    scheduled_because: str | None = None
    context: str | None = None
    related_memories: list[str] = Field(default_factory=list)


class CompletedOut(BaseModel):
    """What was learnt from a task."""

    task_type: str | None
    estimate_minutes: float | None = None
    sample_count: int = 0
    confidence: float = 0.0


class ErasedOut(BaseModel):
    """A receipt: what was erased. It holds none of it."""

    tasks: int
    memories: int = Field(description="Superseded ones among them.")
    changes: int = Field(description="Entries of their history.")
    complete: bool = Field(description="Whether nothing was found afterwards, and nothing is left to be done.")


class Health(BaseModel):
    """Whether the API works."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """Why not."""

    detail: str
