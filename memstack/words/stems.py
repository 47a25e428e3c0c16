"""Stems: "running", "runs" and "run" are one word. Snowball's algorithms (https://snowballstem.org)."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any, Final

__all__ = ["has_stems", "stem"]

_local: Final = threading.local()  # a stemmer keeps a cache of its own, and is not safe under threads


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    import Stemmer  # noqa: PLC0415

    return frozenset(Stemmer.algorithms())


def has_stems(language: str) -> bool:
    """Whether there is a stemmer for a language."""
    return language in _known()


def stem(word: str, language: str | None) -> str:
    """The stem of a word, in lower case; the word itself where there is no stemmer for its language."""
    word = word.lower()
    if language is None or language not in _known():
        return word
    stemmers: dict[str, Any] | None = getattr(_local, "stemmers", None)
    if stemmers is None:
        stemmers = _local.stemmers = {}
    stemmer = stemmers.get(language)
    if stemmer is None:
        import Stemmer  # noqa: PLC0415

        stemmer = stemmers[language] = Stemmer.Stemmer(language)
    return str(stemmer.stemWord(word))
