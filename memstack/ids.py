"""Ids of memories: UUIDs, in their canonical spelling."""

from __future__ import annotations

import uuid

from memstack.errors import InvalidInput, describe

__all__ = ["canonical_id", "new_id"]


def new_id() -> str:
    """A new random id."""
    return str(uuid.uuid4())


def canonical_id(value: object, field: str = "id") -> str:
    """The canonical spelling of an id.

    Raises:
        InvalidInput: it is not a UUID.
    """
    if isinstance(value, uuid.UUID):
        return str(value)
    if not isinstance(value, str):
        raise InvalidInput(field, f"is {describe(value)}, not a string", "Pass the `id` of a memory.")
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise InvalidInput(field, f"is {describe(value)}, and ids are UUIDs", "Pass the `id` of a memory.") from None
