"""One spelling of a text that Unicode lets be written in several ways.

Python sorts the marks that stand upon one character by comparing each with all before it, and keeps every other thread
waiting: 100,000 of them, which one message can hold, take a minute. So long runs are cut as Unicode's Stream-Safe Text
Format does (https://www.unicode.org/reports/tr15/#Stream_Safe_Text_Format): no language puts 30 marks on a letter.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

__all__ = ["normal"]

_MARKS: Final = 30  # upon one character
_SHORT: Final = 1000  # characters: in so few, no run is long enough to take time
_RUN: Final = re.compile(rb"\x01{%d}" % _MARKS)
_JOINER: Final = "\u034f"  # sorts with nothing; folded away, as accents are


def normal(form: Literal["NFC", "NFKC", "NFKD"], text: str) -> str:
    """A text in a normal form, in a time that grows with its length and not with the square of it.

    Args:
        form: Unicode's name of it.
        text: of more than 1,000 characters, those with more than 30 marks in a row get a joiner after each 30.
    """
    if len(text) > _SHORT and not text.isascii():
        # Some characters are several marks, but never many.
        flags = bytes(map(bool, map(unicodedata.combining, text)))
        cuts = [found.end() for found in _RUN.finditer(flags)]
        if cuts:
            pieces = (text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True))
            text = _JOINER.join(pieces)
    return unicodedata.normalize(form, text)
