"""Which language a text is in, told by its function words: enough to choose a stemmer, and to leave out "the".

A wrong guess costs little: words are compared as they are written too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Final

__all__ = ["guess", "is_function_word"]

_ENOUGH: Final = 100  # words; fewer than 256, see `_by_word`
_DEFAULT: Final = "english"  # where no function word tells, and the script is Latin

# `function_words.txt` holds the lists of the package stop-words 2025.11.4 (its licence lies beside it), so that every
# Python that memstack runs on splits a text alike; the package needs Python 3.11. Its list for English holds words such
# as "home", "work" and "interesting". These are the closed classes: articles, pronouns, prepositions, conjunctions,
# auxiliaries, question words, and what contractions leave.
_ENGLISH: Final = frozenset(
    """
    a about above after again against all also am among an and any are as at be because been before being below
    between both but by can could d did do does doing don down during each else ever few for from further had has
    have having he her here hers herself him himself his how however i if in into is it its itself just ll m may me
    might more most must my myself no nor not now o of off on once only or other ought our ours ourselves out over
    own per re s same shall she should so some such t than that the their theirs them themselves then there these
    they this those through to too toward towards under until up upon us ve very was we were what whatever when
    where whether which while who whoever whom whose why will with within without would yet you your yours yourself
    yourselves
    """.split()  # noqa: SIM905  # read as prose
)


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    """Function words by language, the shortest list first: of two that fit, the stricter one is right."""
    text = files("memstack.words").joinpath("function_words.txt").read_text(encoding="utf-8")
    lines = (line.partition(":") for line in text.splitlines())
    lists = {name: frozenset(words.split()) for name, _, words in lines}
    lists[_DEFAULT] = _ENGLISH
    return dict(sorted(lists.items(), key=lambda item: (len(item[1]), item[0])))


@lru_cache(maxsize=1)
def _by_word() -> dict[str, int]:
    """The votes of a word: a number with a byte for each language, 1 where it is a function word of it.

    Adding such numbers up counts the votes of a text for all languages at once, in half the time of a loop.
    """
    found: dict[str, int] = {}
    for place, words in enumerate(_lists().values()):
        for word in words:
            found[word] = found.get(word, 0) + (1 << 8 * place)
    return found


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    return tuple(_lists())


def guess(words: Sequence[str]) -> str | None:
    """The language that most words of a text are function words of; None where nothing tells.

    Args:
        words: as they are written.
    """
    by_word = _by_word()
    said = {word.lower() for word in words[:_ENOUGH]}
    votes = sum([by_word[word] for word in said if word in by_word])
    if votes:
        names = _names()
        counts = votes.to_bytes(len(names), "little")
        return names[counts.index(max(counts))]
    return _DEFAULT if any(word.isascii() and word.isalpha() for word in words) else None


def is_function_word(word: str, language: str | None) -> bool:
    """Whether a word says little of what a text is about."""
    return language is not None and word.lower() in _lists().get(language, ())
