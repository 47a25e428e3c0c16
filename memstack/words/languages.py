"""Which language a text is in, told by its function words: enough to choose a stemmer, and to leave out "the".

Short facts often have no function word, or one that several languages share: then letters tell ("ß", "ы"), and the
script. A wrong guess costs little: words are compared as they are written too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Final

from memstack.words.stems import has_stems

__all__ = ["guess", "is_function_word"]

_ENOUGH: Final = 100  # words; with the letters fewer than 256, see `_by_word`
_DEFAULT: Final = "english"  # where nothing tells, and the script is Latin

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

# Letters that one of these languages alone writes. Each counts as a function word does.
_LETTERS: Final = {
    "czech": "řěů", "french": "œ", "german": "ß", "hungarian": "őű", "persian": "پچژگ", "polish": "łąęśźż",
    "romanian": "șț", "russian": "ыэё", "spanish": "ñ", "turkish": "ığ", "ukrainian": "іїєґ",
}  # fmt: skip
# Where nothing else tells, by the script of the first word that is in one of these: what most people write in it.
_SCRIPTS: Final = (
    ("A", "\u024f", _DEFAULT), ("\u0370", "\u03ff", "greek"), ("\u0400", "\u052f", "russian"),
    ("\u0600", "\u06ff", "arabic"), ("\u0900", "\u097f", "hindi"),
)  # fmt: skip


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    """Function words by language: of two that fit, the first is taken.

    English leads, since it is what a text without function words is taken for; then those that there is a stemmer for;
    and the shortest list first, since the stricter one is more likely right.
    """
    text = files("memstack.words").joinpath("function_words.txt").read_text(encoding="utf-8")
    lines = (line.partition(":") for line in text.splitlines())
    lists = {name: frozenset(words.split()) for name, _, words in lines}
    lists[_DEFAULT] = _ENGLISH
    order = sorted(lists, key=lambda name: (name != _DEFAULT, not has_stems(name), len(lists[name]), name))
    return {name: lists[name] for name in order}


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
def _by_letter() -> dict[str, int]:
    """The votes of a letter, likewise."""
    places = {name: place for place, name in enumerate(_lists())}
    return {letter: 1 << 8 * places[name] for name, letters in _LETTERS.items() for letter in letters}


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    return tuple(_lists())


def guess(words: Sequence[str]) -> str | None:
    """The language that most words of a text are function words of, and most letters tell; None where nothing tells.

    Args:
        words: as they are written.
    """
    by_word = _by_word()
    said = {word.lower() for word in words[:_ENOUGH]}
    votes = sum([by_word[word] for word in said if word in by_word])
    letters = "".join(said)
    if not letters.isascii():
        by_letter = _by_letter()
        votes += sum([by_letter[letter] for letter in by_letter.keys() & set(letters)])
    if votes:
        names = _names()
        counts = votes.to_bytes(len(names), "little")
        return names[counts.index(max(counts))]
    return _by_script(words)


def _by_script(words: Sequence[str]) -> str | None:
    for word in words:
        for first, last, name in _SCRIPTS:
            if first <= word[0] <= last:
                return name
    return None


def is_function_word(word: str, language: str | None) -> bool:
    """Whether a word says little of what a text is about."""
    return language is not None and word.lower() in _lists().get(language, ())
