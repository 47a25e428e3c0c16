"""Where words begin and end, for every script.

Runs of scripts that are written without spaces become pairs of characters, as in Lucene's ``CJKAnalyzer``: 東京都 is
東京 and 京都. Identifiers give their parts beside the whole: ``getUserName`` is found by "user" too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from memstack.memo import kept_for_short
from memstack.spelling import normal

__all__ = ["fold", "ideographs", "split"]

_UNSPACED: Final = (
    r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\u30fc\u3005\p{Script=Hangul}"
    r"\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}"
)
_ASCII: Final = re.compile(r"[A-Za-z0-9_]+")
_ACCENTS: Final = range(0x300, 0x370)
# Letters that are no letter with an accent, and are written as these where they are not at hand.
_LIKE: Final = str.maketrans(
    {"\u0131": "i", "ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\u0640": ""}
)
_LONGEST: Final = 64


@lru_cache(maxsize=1)
def _patterns() -> tuple[Any, Any]:
    """Runs of one kind, and the parts of an identifier. Made when first used: importing `regex` takes a while."""
    import regex  # noqa: PLC0415

    runs = regex.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<word>(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}_])+)")
    parts = regex.compile(r"\p{Lu}+(?!\p{Ll})|\p{Lu}?[\p{Ll}\p{M}]+|\p{N}+|[\p{L}\p{M}]+")
    return runs, parts


def split(text: str) -> list[str]:
    """The words of a text as they are written, repetitions included."""
    if text.isascii():
        return [part for found in _ASCII.findall(text) for part in _parts(found)]
    runs, _ = _patterns()
    words: list[str] = []
    for run in runs.finditer(normal("NFKC", text)):
        found = run.group()
        if run.lastgroup == "word":
            words += _parts(found)
        elif len(found) == 1:
            words.append(found)
        else:
            words += (found[place : place + 2] for place in range(len(found) - 1))
    return words


@kept_for_short(_LONGEST, entries=32_768)
def _parts(found: str) -> tuple[str, ...]:
    """A word, and its parts where it is an identifier."""
    if found.isalpha() and (found.islower() or found[1:].islower() or found.isupper()):
        return (found[:_LONGEST],)
    found = found.strip("_")
    _, parts = _patterns()
    pieces = parts.findall(found)
    return tuple(piece[:_LONGEST] for piece in ([found, *pieces] if len(pieces) > 1 else pieces))


def ideographs(words: Iterable[str]) -> Iterator[str]:
    """The Chinese characters of words, each of which can be a word by itself."""
    return (mark for word in words for mark in word if "\u4e00" <= mark <= "\u9fff")


def fold(word: str) -> str:
    """A word without case and accents: what is compared."""
    if word.isascii():
        return word.lower()
    plain = normal("NFKD", word.casefold())
    bare = "".join(mark for mark in plain if ord(mark) not in _ACCENTS)
    return normal("NFC", bare.translate(_LIKE))
