"""Items of a bulk write: messages with metadata and a scope of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from memstack.errors import InvalidInput, describe
from memstack.gateway.drafts import Draft
from memstack.gateway.inputs import MessageInput, read_message
from memstack.gateway.parts import Options
from memstack.gateway.typed import read_metadata, read_times, schema_of
from memstack.records import Message
from memstack.scope import SCOPE_FIELDS, Scope

__all__ = ["Item", "read_item"]

Item = MessageInput
_OWN: Final = ("metadata", "expires_at", "valid_from", *SCOPE_FIELDS)


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
    own: dict[str, Any] = {}
    if isinstance(item, (dict, Mapping)):
        fields = {"role": "user", **item}
        own = {name: fields.pop(name) for name in _OWN if name in fields}
        said = read_message(fields, "item", options.max_text, beside=_OWN)
    elif isinstance(item, (str, Message)):
        said = read_message(item, "item", options.max_text)
    else:
        raise InvalidInput(
            "item", f"is {describe(item)}", 'Each item is one message: a string, or {"role": "user", "content": …}.'
        )
    scope = outer.narrow(Scope(*map(own.get, SCOPE_FIELDS))).require()
    given = own.get("metadata")
    metadata = read_metadata(given, options)
    said, expires_at, valid_from = read_times(given, said, own.get("expires_at"), own.get("valid_from"))
    return Draft(index, said, scope, metadata, expires_at, valid_from, schema=schema_of(given))
