"""Words: the same text gives the same keys, whatever the script, and queries keep what tells."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.payload import normalised
from memstack.spelling import normal
from memstack.words import fold, keys_of, query_words, split
from memstack.words.languages import guess


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
        ("ILIK", "ılık"), ("İstanbul", "ISTANBUL"), ("Łódź", "Lodz"), ("Ørsted", "orsted"), ("œuvre", "OEUVRE"),
        ("кошки", "кошку"), ("Ёлку купили в декабре", "елка"), ("الكتب", "كتب"), ("أفضّل القطار", "افضل"),
        ("Arabayı garajda saklıyorum", "araba nerede"), ("γάτες", "γάτα"), ("On weekends I run", "running on Friday"),
        ("私の茶", "茶"), ("我喜欢喝绿茶", "茶"),
    ],
)  # fmt: skip
def test_one_word(one: str, other: str) -> None:
    """Inflections, case and accents are no difference, and one ideograph is a word; also where few words tell."""
    assert set(keys_of(one)) & {key for keys in query_words(other) for key in keys}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("likes jazz on weekends", "english"),  # "on" is a word of Turkish too
        ("has a meeting in Utrecht", "english"),
        ("Встреча с врачом в четверг", "russian"),  # both short words are Bulgarian too, without a stemmer
        ("Зелёный чай", "russian"), ("Червоний і синій", "ukrainian"),
        ("Градът е красив и няма да пътувам", "bulgarian"),
        ("القهوة", "arabic"), ("Größe", "german"), ("Kızım", "turkish"), ("mañana", "spanish"), ("Öl", "english"),
        ("東京", None), ("4711", None), ("", None),
    ],
)  # fmt: skip
def test_which_language(text: str, language: str | None) -> None:
    """Function words tell, and letters; of languages that fit alike English is taken, then one that has a stemmer."""
    assert guess(split(text)) == language


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


@pytest.mark.parametrize("marks", ["\u0301\u0323", "\u0315\u0300\u0327\u0338", "\u0344"])
def test_marks_by_the_thousand_cost_what_letters_do(marks: str) -> None:
    """A letter under 100,000 marks, which the limit of a text allows, takes no minute, and is found by its letter."""
    text = f"tea e{marks * (100_000 // len(marks))} tea"
    begun = time.perf_counter()
    assert keys_of(text)[:1] == ("tea",)
    assert query_words(text)
    assert normalised(text) == normalised(text)
    assert time.perf_counter() - begun < 10


@given(st.text(max_size=20))
def test_normal_forms_of_what_people_write(text: str) -> None:
    """Without a long run of marks a text has Unicode's normal form, however long it is."""
    long = f"{text}語" * 1000
    assert normal("NFC", long) == unicodedata.normalize("NFC", long)
