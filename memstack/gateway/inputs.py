"""Input of the verbs: checked whole before anything is stored, every error with its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from inspect import iscoroutinefunction
from typing import Any, Final, cast, get_args

from memstack.errors import InvalidInput, amount, describe, named, nearest
from memstack.instants import as_instant
from memstack.metadata import check_text
from memstack.records import ROLES, Message, Order, Role

__all__ = [
    "MAX_LIMIT",
    "MessageInput",
    "Messages",
    "check_flag",
    "check_instant",
    "check_instructions",
    "check_limit",
    "check_order",
    "check_progress",
    "check_query",
    "check_threshold",
    "read_message",
    "read_messages",
]

MessageInput = str | Message | Mapping[str, Any]
Messages = MessageInput | Sequence[MessageInput]

_FIELDS: Final = tuple(item.name for item in dataclasses.fields(Message))
_CALLS: Final = ("tool_calls", "tool_call_id", "function_call")  # what chat clients keep beside the words, ...
_KNOWN: Final = frozenset({*_FIELDS, *_CALLS, "annotations"})  # ... and we do not
_MAX_NAME: Final = 256
_MAX_FIELD: Final = 64  # characters of a field's name that may be a misspelt one
_GUESSES: Final = 8  # of so many is guessed what was meant
MAX_LIMIT: Final = 10_000  # results of one call


def read_messages(messages: object, max_text: int) -> list[Message]:
    """Bring what ``add`` takes into one form.

    Args:
        messages: a string (said by the user), a message, or a list of them. Calls of tools are passed over.
        max_text: characters that one text may have.

    Returns:
        At least one message; its `occurred_at` is in UTC where it was given. The content of one that calls a tool, or
        answers a call, and says nothing is empty; of no other.

    Raises:
        InvalidInput: naming the message and the field.
    """
    if isinstance(messages, (str, Message, dict, Mapping)):
        return [read_message(messages, "messages", max_text)]
    if not isinstance(messages, Sequence) or isinstance(messages, (bytes, bytearray)):
        raise InvalidInput(
            "messages", f"is {describe(messages)}", 'Pass a string, {"role": "user", "content": …}, or a list of them.'
        )
    if not messages:
        raise InvalidInput("messages", "is an empty list", "Pass at least one message.")
    return [read_message(message, f"messages[{i}]", max_text) for i, message in enumerate(messages)]


def read_message(message: object, where: str, max_text: int, *, beside: Sequence[str] = ()) -> Message:
    """One message, as `read_messages` reads it.

    Args:
        message: a string, a message, or its fields.
        where: its place.
        max_text: characters that its text may have.
        beside: names of fields that were taken out of it, and might have been meant.

    Raises:
        InvalidInput: naming the field.
    """
    if isinstance(message, str):
        return Message("user", _text(message, where, max_text))
    if isinstance(message, Message):
        given: Mapping[str, Any] = {name: getattr(message, name) for name in _FIELDS}
    elif isinstance(message, (dict, Mapping)):
        given = message
        unknown = [key for key, value in given.items() if key not in _KNOWN and not _says_nothing(value)]
        if unknown:
            names = ", ".join(sorted(map(named, unknown)))
            known = (*_FIELDS, *beside)
            hint = f"A message has {', '.join(known)}: leave the rest out."
            short = sorted(key for key in unknown if isinstance(key, str) and len(key) <= _MAX_FIELD)
            guess = next(filter(None, (nearest(key, known) for key in short[:_GUESSES])), None)
            raise InvalidInput(where, f"has {names}", f"Did you mean {guess!r}? {hint}" if guess else hint)
    else:
        raise InvalidInput(where, f"is {describe(message)}", 'A message is {"role": "user", "content": …}.')
    role = _role(given.get("role"), f"{where}.role")
    calls = any(map(given.get, _CALLS))
    words = given.get("content")
    content = "" if calls and _says_nothing(words) else _content(words, f"{where}.content")
    return Message(
        role=role,
        content="" if calls and not content.strip() else _text(content, f"{where}.content", max_text),
        name=_name(given.get("name"), f"{where}.name"),
        occurred_at=check_instant(given.get("occurred_at"), f"{where}.occurred_at"),
    )


def _says_nothing(value: object) -> bool:
    """Whether a field of a message that is not ours may be passed over: clients fill what they do not use."""
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def _role(role: object, where: str) -> Role:
    if not isinstance(role, str) or role not in ROLES:
        problem = f"is {describe(role)}" if not isinstance(role, str) else f"{named(role)} is unknown"
        raise InvalidInput(where, problem, f"Known: {', '.join(ROLES)}.")
    return role


def _content(content: object, where: str) -> str:
    """The text of a message's content: a string, or the text parts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise InvalidInput(where, f"is {describe(content)}", "Pass a string, or a list of text parts.")
    texts: list[str] = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "input_text", "output_text"):
            shape = f"of type {named(kind)}" if isinstance(kind, str) else describe(part)
            raise InvalidInput(f"{where}[{i}]", f"is a part {shape}", "Only text parts are remembered: leave it out.")
        text = part.get("text")
        if not isinstance(text, str):
            raise InvalidInput(
                f"{where}[{i}].text",
                f"is {describe(text)}, not a string",
                "Pass the words of the part, or leave it out.",
            )
        texts.append(text)
    return "\n".join(texts)


def _text(text: str, where: str, max_text: int) -> str:
    check_text(where, text, InvalidInput)
    if not text.strip():
        raise InvalidInput(where, "is blank" if text else "is empty", "Pass the words to remember.")
    if len(text) > max_text:
        raise InvalidInput(
            where,
            f"has {len(text):,} characters, and a memory has at most {max_text:,}",
            "Split it, or raise `limits.max_text`.",
        )
    return text


def check_memory_text(text: object, max_text: int, where: str = "text") -> str:
    """A text that can be a memory.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(text, str):
        raise InvalidInput(where, f"is {describe(text)}, not a string", "Pass the words to remember.")
    return _text(text, where, max_text)


def _name(name: object, where: str) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME:
        raise InvalidInput(where, f"is {describe(name)}", f"Names have 1 to {_MAX_NAME} characters.")
    return check_text(where, name, InvalidInput)


def check_instant(value: object, where: str) -> datetime | None:
    """An instant in UTC from a datetime, a date or ISO text; None stays None.

    Raises:
        InvalidInput: it is none of these.
    """
    if value is None:
        return None
    instant = as_instant(value) if isinstance(value, (str, date)) else None
    if instant is None and isinstance(value, date):
        raise InvalidInput(where, "is a time outside the years 1 to 9999 in UTC", "Use a time within them.")
    if instant is None:
        raise InvalidInput(
            where, f"is {describe(value)}, not an instant", "Pass a datetime, or ISO text such as 2026-01-31T08:00:00Z."
        )
    return instant


def check_flag(value: object, where: str) -> bool:
    """True or False, and nothing that passes for one of them.

    Raises:
        InvalidInput: it is something else.
    """
    if not isinstance(value, bool):
        raise InvalidInput(where, f"is {describe(value)}, not a bool", "Pass True or False.")
    return value


def check_progress(progress: object) -> Callable[[int], object] | None:
    """What is told how far a call is, or None.

    Raises:
        InvalidInput: it cannot be called, or only makes a coroutine, for which nobody would wait.
    """
    if progress is None:
        return None
    if not callable(progress):
        raise InvalidInput("progress", f"is {describe(progress)}, not a function", "Pass a function of one number.")
    if iscoroutinefunction(progress) or iscoroutinefunction(getattr(progress, "__call__", None)):  # noqa: B004
        raise InvalidInput(
            "progress",
            "is a coroutine function, and nothing waits for what it returns",
            "Pass a plain function; `loop.call_soon_threadsafe` takes what it hears to an event loop.",
        )
    return progress


def check_limit(limit: object, where: str = "limit", more: str = "") -> int:
    """How many results at most: 1 to 10 000.

    Args:
        limit: the number.
        where: its name in the message.
        more: how to get more of them.

    Raises:
        InvalidInput: it is not such a number.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
        hint = f"Pass an int from 1 to {MAX_LIMIT:,}{f'; {more}' if more else ''}."
        raise InvalidInput(where, f"is {amount(limit)}", hint)
    return limit


def check_threshold(threshold: object) -> float | None:
    """The least score: a number from 0 to 1, or None for all.

    Raises:
        InvalidInput: it is not.
    """
    if threshold is None:
        return None
    if not isinstance(threshold, (int, float)) or isinstance(threshold, bool) or not 0 <= threshold <= 1:
        raise InvalidInput("threshold", f"is {amount(threshold)}", "Pass a number from 0 to 1: scores lie there.")
    return float(threshold)


def check_instructions(instructions: object, max_text: int) -> str | None:
    """What the LLM is told beside its prompt, or None.

    Raises:
        InvalidInput: it is no string, or one that says nothing.
    """
    if instructions is None:
        return None
    if not isinstance(instructions, str):
        raise InvalidInput("instructions", f"is {describe(instructions)}, not a string", "Pass words, or leave it out.")
    return _text(instructions, "instructions", max_text)


def check_query(query: object, max_text: int) -> str:
    """The query, stripped; it may be empty.

    Raises:
        InvalidInput: it is no string, or none that can be searched for.
    """
    if not isinstance(query, str):
        raise InvalidInput("query", f"is {describe(query)}, not a string", "Pass an empty string for the newest first.")
    check_text("query", query, InvalidInput)
    if len(query) > max_text:
        raise InvalidInput(
            "query",
            f"has {len(query):,} characters, and a query has at most {max_text:,}",
            "Ask for less, or raise `limits.max_text`.",
        )
    return query.strip()


def check_order(order: object) -> Order:
    """The order of a listing.

    Raises:
        InvalidInput: it is unknown.
    """
    if not isinstance(order, str) or order not in get_args(Order):
        raise InvalidInput("order", f"{named(order)} is unknown", f"Known: {', '.join(get_args(Order))}.")
    return cast("Order", order)
