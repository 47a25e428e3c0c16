"""Words: the same text gives the same keys, whatever the script, and queries keep what tells."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.words import fold, keys_of, query_words, split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I like green tea.", ["I", "like", "green", "tea"]),
        ("getUserName()", ["getUserName", "get", "User", "Name"]),
        ("HTTPServer2", ["HTTPServer2", "HTTP", "Server", "2"]),
        ("snake_case_name", ["snake_case_name", "snake", "case", "name"]),
        ("__init__", ["init"]),
        ("東京都に", ["東京", "京都", "都に"]),
        ("猫", ["猫"]),
        ("서울에 간다", ["서울", "울에", "간다"]),
        ("iPhoneを買った", ["iPhone", "i", "Phone", "を買", "買っ", "った"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Ｆｕｌｌ", ["Full"]),
        ("🙂 ?! ", []),
    ],
)
def test_splitting(text: str, words: list[str]) -> None:
    """Words end where their script says; identifiers give their parts too."""
    assert list(split(text)) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("running", "runs"), ("CAFÉ", "cafe"), ("Straße", "STRASSE"), ("We bought houses", "the house"),
        ("die Häuser und die Gärten", "das Haus und der Garten"), ("les élèves sont là", "un élève est là"),
    ],
)  # fmt: skip
def test_one_word(one: str, other: str) -> None:
    """Inflections, case and accents are no difference."""
    assert set(keys_of(one)) & {key for keys in query_words(other) for key in keys}


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("What did the cat do?", ["cat"]),
        ("Was hat die Katze gemacht?", ["katze"]),
        ("Où est le chat ?", ["chat"]),
        ("who is who", ["who", "is"]),  # nothing else is left
        ("", []),
        ("?!", []),
    ],
)
def test_what_a_query_looks_for(query: str, kept: list[str]) -> None:
    """Function words of the query's language are left out, unless there are no others."""
    assert [keys[0] for keys in query_words(query)][: len(kept)] == kept


@given(st.text())
def test_any_text(text: str) -> None:
    """Any text has keys without white space, each once, and the same ones however its accents are composed."""
    keys = keys_of(text)
    assert len(keys) == len(set(keys))
    assert all(key and not any(mark.isspace() for mark in key) for key in keys)
    assert set(keys_of(unicodedata.normalize("NFC", text))) == set(keys_of(unicodedata.normalize("NFD", text)))
    for key in keys:
        assert fold(key) == key
