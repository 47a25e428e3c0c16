"""Items of a bulk write: messages with metadata and a scope of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from memstack.errors import InvalidInput
from memstack.gateway.drafts import Draft
from memstack.gateway.inputs import MessageInput, read_messages
from memstack.gateway.parts import Options
from memstack.gateway.typed import read_metadata, read_times, schema_of
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["Item", "read_item"]

Item = MessageInput
_OWN: Final = frozenset({"metadata", "expires_at", "valid_from", *SCOPE_FIELDS})


def read_item(item: object, index: int, outer: Scope, options: Options) -> Draft:
    """The draft for an item.

    Args:
        item: a string, a `Message`, or a mapping: a message's fields (``role`` is ``user`` where it is left out) with
            ``metadata``, ``expires_at``, ``valid_from``, ``user_id``, ``agent_id``, ``run_id``.
        index: its place.
        outer: the scope of the call.
        options: the limits.

    Raises:
        InvalidInput: naming the field.
    """
    own: Mapping[str, Any] = {}
    message: object = item
    if isinstance(item, Mapping):
        own = {key: value for key, value in item.items() if key in _OWN}
        message = {"role": "user", **{key: value for key, value in item.items() if key not in _OWN}}
    elif isinstance(item, (list, tuple)):
        raise InvalidInput("item", "is a list", "Each item is one message.")
    (said,) = read_messages(message, options.max_text)
    scope = outer.narrow(Scope(**{name: own.get(name) for name in SCOPE_FIELDS})).require()
    metadata = read_metadata(own.get("metadata"), options)
    said, expires_at, valid_from = read_times(own.get("metadata"), said, own.get("expires_at"), own.get("valid_from"))
    return Draft(index, said, scope, metadata, expires_at, valid_from, schema=schema_of(own.get("metadata")))
