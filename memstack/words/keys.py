"""From texts to what they are compared by."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import Final

from memstack.memo import kept_for_short
from memstack.words.languages import guess, is_function_word
from memstack.words.split import fold, ideographs, split
from memstack.words.stems import stem

__all__ = ["keys_of", "query_words"]

_SHORT: Final = 32  # characters: of categories, names and the like, which many memories have


@kept_for_short(_SHORT, entries=4096)
def keys_of(text: str) -> tuple[str, ...]:
    """The keys of a text: each word as it is written, and its stem, folded; in the order of their appearance.

    After them the ideographs of the text: 茶 alone is a word, which pairs of characters do not find in 喝茶.
    """
    words = split(text)
    language = guess(words)
    keys = dict.fromkeys(chain.from_iterable([_keys(word, language) for word in words]))
    if not text.isascii():
        keys.update(dict.fromkeys(ideographs(words)))
    return tuple(keys)


def query_words(text: str) -> list[tuple[str, ...]]:
    """The distinct words of a query that say what is looked for, in the order of their appearance.

    Function words such as "what" and "the" are left out, unless there are no others.

    Returns:
        For each word its keys: a memory that has one of them has the word.
    """
    words = split(text)
    language = guess(words)
    telling = [word for word in words if not is_function_word(word, language)]
    found = dict.fromkeys(_keys(word, language) for word in telling or words)
    found.pop((), None)
    return list(found)


@lru_cache(maxsize=32_768)
def _keys(word: str, language: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for key in (fold(word), fold(stem(word, language))) if key))
