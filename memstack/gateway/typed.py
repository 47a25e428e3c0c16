"""Metadata as schemas: what callers pass, and what they get back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from memstack.errors import InvalidInput
from memstack.gateway.inputs import MAX_LIMIT, check_instant
from memstack.gateway.parts import Options
from memstack.gateway.writing import UNSET, Unset
from memstack.metadata import check_metadata
from memstack.records import Hit, Hits, Memory, Message
from memstack.schemas import MemorySchema, fit

__all__ = [
    "Metadata",
    "check_schema",
    "fit_all",
    "read_expiry",
    "read_kept",
    "read_metadata",
    "read_times",
    "schema_of",
    "search_fitting",
    "stands_alone",
]

Metadata = Mapping[str, Any] | MemorySchema
S = TypeVar("S", bound=MemorySchema)
_GROWTH = 8


def read_metadata(metadata: Metadata | None, options: Options, *, keep_none: bool = False) -> dict[str, Any]:
    """Metadata as it is stored.

    Args:
        metadata: a mapping, an instance of a schema, or None for none.
        options: the limits.
        keep_none: keep the fields that are None, which remove what was there.

    Raises:
        MetadataError: something in it cannot be stored.
    """
    given = metadata.to_metadata(keep_none=keep_none) if isinstance(metadata, MemorySchema) else metadata
    checked = check_metadata(
        given,
        max_values=options.max_metadata_values,
        max_depth=options.max_metadata_depth,
        max_text=options.max_metadata_text,
    )
    if keep_none and given is not None:
        checked.update({key: None for key, value in given.items() if value is None})
    return checked


def schema_of(metadata: object) -> type[MemorySchema] | None:
    """The class of metadata that is an instance of a schema."""
    return type(metadata) if isinstance(metadata, MemorySchema) else None


def stands_alone(metadata: object) -> bool:
    """Whether metadata is an instance of a schema that allows no other fields beside its own."""
    return isinstance(metadata, MemorySchema) and type(metadata).model_config.get("extra") == "forbid"


def read_expiry(metadata: object, expires_at: object) -> datetime | Unset | None:
    """From when on a memory that is changed is hidden: given as an argument, or by an instance of a schema.

    Raises:
        InvalidInput: a value is no instant, or the two differ.
    """
    name = "expires_at"
    if isinstance(metadata, MemorySchema) and name in metadata.model_fields_set & type(metadata).model_fields.keys():
        if isinstance(expires_at, Unset):
            return check_instant(getattr(metadata, name), f"metadata.{name}")
        return _one(name, expires_at, metadata.lifted)
    return UNSET if isinstance(expires_at, Unset) else check_instant(expires_at, name)


def read_kept(metadata: object) -> dict[str, datetime]:
    """The times that an instance of a schema has, and that no change of a memory changes."""
    lifted = metadata.lifted if isinstance(metadata, MemorySchema) else {}
    return {
        name: instant
        for name in ("occurred_at", "valid_from")
        if (instant := check_instant(lifted.get(name), f"metadata.{name}")) is not None
    }


def read_times(
    metadata: object, message: Message, expires_at: object, valid_from: object
) -> tuple[Message, datetime | None, datetime | None]:
    """The times of a memory to be: given as arguments, or by an instance of a schema.

    Returns:
        The message, with the time at which it was said where only the schema tells; `expires_at`; `valid_from`.

    Raises:
        InvalidInput: a value is no instant, or the two differ; or it would expire before it holds.
    """
    lifted = metadata.lifted if isinstance(metadata, MemorySchema) else {}
    said = _one("occurred_at", message.occurred_at, lifted)
    expiry, since = _one("expires_at", expires_at, lifted), _one("valid_from", valid_from, lifted)
    if expiry is not None and since is not None and expiry <= since:
        raise InvalidInput(
            "expires_at",
            "is not after `valid_from`: it would never hold",
            "Pass a later one, or leave one out.",
        )
    return message if said is message.occurred_at else dataclasses.replace(message, occurred_at=said), expiry, since


def _one(name: str, given: object, lifted: Mapping[str, Any]) -> datetime | None:
    argument, field = check_instant(given, name), check_instant(lifted.get(name), f"metadata.{name}")
    if argument is not None and field is not None and argument != field:
        raise InvalidInput(name, "is another instant than the one in the metadata", "Pass one of the two.")
    return field if argument is None else argument


def check_schema(schema: type[S]) -> type[S]:
    """A schema that memories can be read by.

    Raises:
        InvalidInput: it is none.
    """
    given: object = schema
    if not isinstance(given, type) or not issubclass(given, MemorySchema) or not given.category:
        raise InvalidInput("schema", "is no schema with a category", "Pass a class, as in schema=Preference.")
    return schema


def search_fitting(find: Callable[[int], Sequence[Hit]], schema: type[S], limit: int) -> Hits[S]:
    """The best hits whose metadata fits a schema, and the misfits before the last of them.

    Args:
        find: searches for so many hits of the schema's category.
        schema: the schema.
        limit: how many fitting hits at most. Misfits take no place of theirs.
    """
    size = limit
    while True:
        found = find(size)
        fitting: list[Hit[S]] = []
        misfits: list[Hit] = []
        for hit in found:
            read = fit(hit, schema)
            if read.schema_error is None:
                fitting.append(cast("Hit[S]", read))
            else:
                misfits.append(cast("Hit", read))
            if len(fitting) == limit:
                break
        if len(fitting) == limit or len(found) < size or size == MAX_LIMIT:
            return Hits(fitting, misfits)
        size = min(size * _GROWTH, MAX_LIMIT)


def fit_all(memories: Sequence[Memory], schema: type[S]) -> tuple[tuple[Memory[S], ...], tuple[Memory, ...]]:
    """The memories that fit a schema, and those that do not."""
    read = [fit(memory, schema) for memory in memories]
    return (
        tuple(cast("Memory[S]", memory) for memory in read if memory.schema_error is None),
        tuple(cast("Memory", memory) for memory in read if memory.schema_error is not None),
    )
