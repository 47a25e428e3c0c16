"""The index: what an engine needs to answer filters exactly, whatever its own idea of types.

Each memory carries a set of *terms*, strings that say one fact of one field, type included: equality, membership and
existence become the question whether a term is there. Numbers and instants are kept beside them for ranges. So no
engine's comparison of a float with an int, of a string with a date, or of a list with a scalar can change a result,
and no field name or value ever becomes part of a path or a query text.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from memstack import payload as payloads
from memstack.clues import name_keys, place_in_run, place_of, word_keys, write_clue
from memstack.filters.ast import FINGERPRINT, INSTANT_FIELDS, NAME, PLACE, WORD, Scalar
from memstack.filters.evaluate import is_number, resolve
from memstack.instants import as_instant, parse_iso, to_micros
from memstack.memo import kept_for_short
from memstack.metadata import INT_MAX, INT_MIN
from memstack.scope import SCOPE_FIELDS

__all__ = [
    "EXACT",
    "Index",
    "eq_term",
    "exists_term",
    "index_of",
    "is_column",
    "member_term",
    "number_key",
    "own_values",
    "path_key",
]

EXACT: Final = 2**53  # integers up to here are exact as 64-bit floats
_LONG: Final = 200
# System fields that live in columns of their own on every engine, so that terms for them would be waste.
_COLUMNS: Final = frozenset({*SCOPE_FIELDS, *INSTANT_FIELDS, "id", "data"})
# How the terms of the library's own fields begin.
_MARKS: Final = {FINGERPRINT: "!", WORD: "~", NAME: "&", PLACE: "^"}


@dataclass(slots=True)
class Index:
    """What filters ask of one memory.

    Attributes:
        facts: terms as `eq_term`, `member_term` and `exists_term` write them, but for those of what follows.
        words: what the memory is found by, see `memstack.clues.word_keys`.
        numbers: the value of every field that is a number, by `path_key`.
        instants: likewise for dates, datetimes and ISO text, in microseconds since 1970 UTC.
        times: the system's instants (`INSTANT_FIELDS`) by name, in microseconds since 1970 UTC.
        clue: what ranking looks at, see `memstack.clues`.
        place: where it stands in its run, see `memstack.clues.place_of`; empty where it stands in none.
        fingerprint: what a duplicate has too.
    """

    facts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    numbers: dict[str, int | float] = field(default_factory=dict)
    instants: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    clue: str = ""
    place: str = ""
    fingerprint: str = ""

    @property
    def own(self) -> list[str]:
        """The terms that hardly another memory has: of the fingerprint and the place."""
        place = [eq_term(PLACE, self.place)] if self.place else []
        return [*place, eq_term(FINGERPRINT, self.fingerprint)]

    @property
    def shared(self) -> list[str]:
        """The terms that many memories may have: all but its `own`."""
        return [*self.facts, *(eq_term(WORD, word) for word in self.words)]

    @property
    def terms(self) -> list[str]:
        """All terms."""
        return [*self.shared, *self.own]


def index_of(payload: Mapping[str, Any], fingerprint: str | None = None) -> Index:
    """The index of a payload. `fingerprint`: what `payload.fingerprint_of` says of it, where that is known."""
    index = Index(fingerprint=fingerprint or payloads.fingerprint_of(payload))
    metadata = payloads.metadata_of(payload)
    nested = any(isinstance(value, dict) for value in metadata.values())
    for path in sorted(set(_paths(metadata))) if nested else sorted(metadata):
        _add(index, path, resolve(metadata, path) if nested else metadata[path])
    for name in ("hash", "actor_id", "role", "superseded_by"):
        _add(index, name, payload.get(name))
    index.words = word_keys(payload)
    index.times = {name: to_micros(instant) for name, instant in payloads.instants_of(payload).items()}
    index.clue = write_clue(payload, words=index.words, times=index.times)
    index.facts.extend(eq_term(NAME, word) for word in name_keys(payload))
    run, position = place_in_run(payload)
    index.place = place_of(run, position) if run else ""
    return index


def own_values(payload: Mapping[str, Any], field: str) -> list[str]:
    """What a memory has in one of the library's own fields (`memstack.filters.ast.OWN`)."""
    if field == FINGERPRINT:
        return [payloads.fingerprint_of(payload)]
    if field == WORD:
        return word_keys(payload)
    if field == NAME:
        return list(name_keys(payload))
    run, position = place_in_run(payload)
    return [place_of(run, position)] if run else []


def _add(index: Index, path: str, value: Any) -> None:
    if value is None:
        return
    index.facts.append(exists_term(path))
    if isinstance(value, str):  # as most are
        index.facts.append(_term("=", path, f"s{value}"))
        if (instant := parse_iso(value)) is not None:
            index.instants[path_key(path)] = to_micros(instant)
        return
    if isinstance(value, list):
        index.facts.extend({member_term(path, item) for item in value if _is_scalar(item)})
        return
    if not _is_scalar(value):
        return
    index.facts.append(eq_term(path, value))
    if is_number(value):
        index.numbers[path_key(path)] = value
    elif (instant := as_instant(value)) is not None:
        index.instants[path_key(path)] = to_micros(instant)


def _paths(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in mapping.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, date))


def _token(value: Scalar) -> str:
    """A value as text, equal for just those values that `filters.evaluate.equal` calls equal."""
    if isinstance(value, bool):
        return f"b{int(value)}"
    if isinstance(value, str):
        return f"s{value}"
    if isinstance(value, date):
        instant = as_instant(value)
        return f"t{to_micros(instant)}" if instant is not None else f"s{value}"
    if isinstance(value, float) and not (value.is_integer() and INT_MIN <= value <= INT_MAX):
        return f"n{value!r}"
    return f"n{int(value)}"


def _term(kind: str, path: str, token: str) -> str:
    if len(path) + len(token) > _LONG:
        token = "#" + hashlib.blake2b(token.encode(), digest_size=16).hexdigest()
    # The length in front keeps name and value apart whatever they hold; a hashed name has a mark in place of it.
    if len(path) > _LONG:
        return f"{kind}#{hashlib.blake2b(path.encode(), digest_size=16).hexdigest()}:{token}"
    return f"{kind}{len(path)}:{path}:{token}"


def eq_term(path: str, value: Scalar) -> str:
    """The field has this value."""
    if (mark := _MARKS.get(path)) is not None:
        return f"{mark}{value}"
    return _term("=", path, _token(value))


def member_term(path: str, value: Scalar) -> str:
    """The field is a list with this member."""
    return _term("@", path, _token(value))


def exists_term(path: str) -> str:
    """The field is present and not null."""
    return _term("?", path, "")


def number_key(value: float) -> dict[str, int]:
    """A number as small integers that sort as the number does.

    Engines that keep floats as text read some of them back one unit in the last place off (Qdrant: a fifth of random
    doubles), compare integers as floats (Qdrant), or keep the two apart (Chroma). So a number is the two halves of its
    order-preserving IEEE 754 pattern, ``h`` and ``l``, and, where integers are denser than floats, the rest ``r``:
    each of them exact everywhere, compared one after the other.
    """
    nearest = float(value) + 0.0  # -0.0 becomes 0.0
    (bits,) = struct.unpack(">Q", struct.pack(">d", nearest))
    ordered = bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 0x8000_0000_0000_0000)
    key = {"h": ordered >> 32, "l": ordered & 0xFFFF_FFFF}
    if abs(nearest) >= EXACT:
        key["r"] = int(value) - int(nearest)
    return key


@kept_for_short(_LONG, entries=1024)  # many memories have the same fields
def path_key(path: str) -> str:
    """A field name as a key that is a plain word in every engine's path syntax."""
    return "k" + hashlib.blake2b(path.encode(), digest_size=10).hexdigest()


def is_column(name: str) -> bool:
    """Whether a field is kept in a column of its own instead of terms."""
    return name in _COLUMNS
