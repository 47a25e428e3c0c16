"""Metadata: what may be stored, and the text it is stored as.

Every engine stores the same text, so what is read back is equal to what was stored and of the same type, whatever
the engine makes of numbers, nulls, dates or nested mappings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from typing import Any, Final

from memstack.errors import InvalidInput, MetadataError, describe
from memstack.instants import as_instant

__all__ = [
    "INT_MAX",
    "INT_MIN",
    "RESERVED",
    "Scalar",
    "check_metadata",
    "check_text",
    "check_value",
    "decode",
    "encode",
    "merge",
    "plain_text",
    "sound_text",
]

Scalar = str | int | float | bool | date | datetime  # what filters compare with
_SINGLE: Final = (str, int, float, date)
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1

# Names that mean something else: Mem0's payload fields, the attributes of a memory, and what filters call them.
RESERVED: Final = frozenset(
    {
        "id", "text", "memory", "data", "hash", "text_lemmatized", "attributed_to",
        "user_id", "agent_id", "run_id", "actor_id", "role",
        "created_at", "updated_at", "occurred_at", "expires_at", "expiration_date",
        "valid_from", "valid_to", "superseded_by", "_memstack",
    }
)  # fmt: skip

# Tags of the stored text. A mapping that has a key with a leading "$" is stored as a list of pairs.
_DATETIME, _DATE, _PAIRS = "$datetime", "$date", "$pairs"


def check_text(field: str, text: object, error: type[InvalidInput] = MetadataError) -> str:
    """A string that every engine can hold: no NUL, no lone surrogate.

    Args:
        field: its name in the message.
        text: the string.
        error: which error to raise.

    Raises:
        MetadataError: (or `error`) it is not such a string.
    """
    if not isinstance(text, str):
        raise error(field, f"is {describe(text)}, not a string", "Pass a str.")
    if "\0" in text:
        raise error(field, f"holds a NUL character at position {text.index(chr(0))}", "Remove it.")
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise error(
            field, f"holds a lone surrogate at position {problem.start}", "Decode the bytes with errors='replace'."
        ) from None
    return plain_text(text)


def plain_text(text: str) -> str:
    """The same as a plain `str`: a member of a ``str`` Enum is its value, whatever it shows itself as."""
    return text if type(text) is str else str.__str__(text)


def sound_text(text: str) -> str:
    """The text of somebody who cannot be asked for another, so that it can be stored and sent: see `check_text`."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def check_metadata(
    metadata: object,
    *,
    field: str = "metadata",
    max_values: int = 1000,
    max_depth: int = 16,
    max_text: float = 1_000_000,
) -> dict[str, Any]:
    """Check the caller's metadata and bring it into the form that is stored.

    Values are str, int (64 bits), float (finite), bool, date, datetime, lists of values, and mappings with string
    keys. Enums become their value, tuples lists. A field that is None is left out, as one that is absent; within
    mappings and lists None stays.

    Args:
        metadata: a mapping, or None for none.
        field: its name in messages.
        max_values: how many values it may hold, all levels counted.
        max_depth: how deep it may be nested.
        max_text: how many characters its keys and texts may have, all levels counted.

    Raises:
        MetadataError: naming the place of what cannot be stored.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, (dict, Mapping)):
        raise MetadataError(
            field, f"is {describe(metadata)}, not a mapping", "Pass a dict, as in {'category': 'preferences'}."
        )
    for name in metadata:
        if name in RESERVED:
            raise MetadataError(
                f"{field}.{name}",
                "the name is reserved",
                "Choose another name: scope, times and text have arguments of their own.",
            )
    left = [max_values]
    checked = _check(metadata, field, max_depth, left, max_values)
    if (length := _characters(checked)) > max_text:
        raise MetadataError(
            field,
            f"has {length:,} characters, and that of one memory at most {max_text:,}",
            "Store it elsewhere, or raise `limits.max_metadata_text`.",
        )
    return {key: value for key, value in checked.items() if value is not None}


def _characters(value: Any) -> int:
    """How many characters there are in the keys and texts of a checked value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _characters(item) for key, item in value.items())
    return sum(map(_characters, value)) if isinstance(value, list) else 0


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Old metadata with the fields of the new put over them; a field that is None in the new one is removed."""
    return {key: value for key, value in {**old, **new}.items() if value is not None}


def _check(value: Any, where: str, depth: int, left: list[int], limit: int) -> Any:
    left[0] -= 1
    if left[0] < -1:
        raise MetadataError(
            where, f"is beyond the {limit} values that one memory may have", "Store less, or elsewhere."
        )
    # Single values are told first: to ask whether something is a Mapping takes longer than all the rest.
    if not isinstance(value, _SINGLE) and isinstance(value, (dict, list, tuple, Mapping)):
        if depth <= 0:
            raise MetadataError(where, "is nested too deeply, or refers to itself", "Flatten it.")
        if not isinstance(value, (list, tuple)):
            return _check_mapping(value, where, depth, left, limit)
        return [_check(item, f"{where}[{i}]", depth - 1, left, limit) for i, item in enumerate(value)]
    if value is None:
        return None
    return check_value(
        value, where, MetadataError, "Use str, int, float, bool, date, datetime, or lists and mappings of them."
    )


def check_value(value: object, where: str, error: type[InvalidInput], hint: str) -> Scalar:
    """A single value that metadata can hold and filters can compare with; an Enum stands for its value.

    Args:
        value: the value.
        where: its place, for the message.
        error: which error to raise.
        hint: the way out for a value of another type.

    Raises:
        InvalidInput: (as `error`) it is of another type, not finite, an integer beyond 64 bits, or a string or time
            that not every engine can hold.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return check_text(where, value, error)
    if isinstance(value, int):
        if not INT_MIN <= value <= INT_MAX:
            raise error(where, f"is an integer of {value.bit_length()} bits", "Integers have 64: use a str.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise error(where, "is a float that is not finite", "Leave the field out instead of NaN.")
        return float(value)
    if isinstance(value, (date, datetime)):
        if as_instant(value) is None:
            raise error(where, "is a time outside the years 1 to 9999 in UTC", "Use a time within them, or a str.")
        return _plain_date(value)
    raise error(where, f"is {describe(value)}, which has no place here", hint)


def _check_mapping(value: Mapping[Any, Any], where: str, depth: int, left: list[int], limit: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise MetadataError(where, f"has a key that is {describe(key)}", "Keys are strings.")
        if not key:
            raise MetadataError(where, "has an empty key", "Give the field a name.")
        key = check_text(f"{where}: a key", key)  # noqa: PLW2901
        out[key] = _check(item, f"{where}.{key}", depth - 1, left, limit)
    return out


def encode(value: Any, *, canonical: bool = False) -> str:
    """Checked metadata (or any value of it) as JSON text, from which `decode` restores values and types.

    Args:
        value: the metadata.
        canonical: sort the keys of every mapping, so that equal metadata has equal text.
    """
    encoder = _SORTING_ENCODER if canonical else _ENCODER
    text = encoder.encode(value)
    # Most metadata has no key that begins like a tag; what has one (or a text that looks so) takes the long way.
    return encoder.encode(_tag(value)) if '"$' in text else text


def decode(text: str) -> Any:
    """The inverse of `encode`."""
    content = json.loads(text)
    return _untag(content) if '"$' in text else content


def _plain_date(value: date) -> date:
    """The same as a plain `date` or `datetime`: classes derived from them write themselves as they like."""
    if type(value) in (date, datetime):
        return value
    if not isinstance(value, datetime):
        return date(value.year, value.month, value.day)
    clock = (value.hour, value.minute, value.second, value.microsecond, value.tzinfo)
    return datetime(value.year, value.month, value.day, *clock, fold=value.fold)  # noqa: DTZ001  # among them


def _mark(value: object) -> dict[str, str]:
    """Stands for a date in the first try, so that the second one is made."""
    if isinstance(value, date):
        return {"$": ""}
    raise TypeError(f"{type(value).__name__} was not checked")


def _encoder(*, sort_keys: bool) -> json.JSONEncoder:
    return json.JSONEncoder(
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
        check_circular=False,
        default=_mark,
        sort_keys=sort_keys,
    )


_ENCODER: Final = _encoder(sort_keys=False)
_SORTING_ENCODER: Final = _encoder(sort_keys=True)


def _tag(value: Any) -> Any:
    if isinstance(value, datetime):
        return {_DATETIME: value.isoformat()}
    if isinstance(value, date):
        return {_DATE: value.isoformat()}
    if isinstance(value, Mapping):
        if any(key.startswith("$") for key in value):
            return {_PAIRS: [[key, _tag(item)] for key, item in sorted(value.items())]}
        return {key: _tag(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tag(item) for item in value]
    return value


def _untag(value: Any) -> Any:
    if isinstance(value, list):
        return [_untag(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, item),) = value.items()
            if key == _DATETIME:
                return datetime.fromisoformat(item)
            if key == _DATE:
                return date.fromisoformat(item)
            if key == _PAIRS:
                return {name: _untag(inner) for name, inner in item}
        return {key: _untag(item) for key, item in value.items()}
    return value
