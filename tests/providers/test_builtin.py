"""The built-in embedder: its vectors are WordLlama's, and a text has one vector, in whatever company it is embedded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import wordllama
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memstack.providers import builtin
from memstack.providers.builtin import WordLlamaEmbedder, _model

# What the tokenizer treats in a way of its own: spaces, the sign that it writes for one, and its special tokens.
_PIECES = st.sampled_from(
    [" ", "  ", "   ", "\u2581", "\n", "\t", "\xa0", "<s>", "</s>", "<unk>", "<0x0A>", "<", "s>", "a", "The", "I'm"]
)
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.one_of(_PIECES, st.text(max_size=8)), max_size=30).map("".join),
    st.lists(st.text("abcdefghijklmnop\u00e9\u6771\U0001f600", min_size=1, max_size=80), max_size=20).map(" ".join),
)


@lru_cache(maxsize=1)
def _wordllama() -> wordllama.WordLlamaInference:
    wheel = Path(wordllama.__file__).parent
    return wordllama.WordLlama.load("l2_supercat", dim=256, cache_dir=wheel, disable_download=True)


def _expected(text: str) -> np.ndarray:
    """WordLlama's own vector, brought to length 1; of words in capitals that of them in lower case."""
    if text.isupper() and " " in text.strip():
        text = text.lower()
    vector = np.asarray(_wordllama().embed([text], norm=False)[0])
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
@example("")
@example(" ")
@example("a ")
@example(" a")
@example("a <s> b")
@example("word " * 20_000)
@example("GREEN TEA, PLEASE")
@example("a" * 5_000)
def test_the_vectors_are_wordllamas(text: str) -> None:
    """Looking words up one by one gives what WordLlama makes of the whole text."""
    (vector,) = WordLlamaEmbedder().vectors([text])
    assert np.allclose(vector, _expected(text), atol=1e-6)


def test_words_in_capitals() -> None:
    """Words that are all in capitals have the vector of the same words in lower case; an abbreviation has its own."""
    upper, lower, nasa, small = WordLlamaEmbedder().vectors(
        ["SHOPPING LIST TOOL", "shopping list tool", "NASA", "nasa"]
    )
    assert upper == lower
    assert nasa != small


@settings(max_examples=50, deadline=None)
@given(st.lists(_TEXTS, max_size=12))
def test_alone_or_with_others(texts: list[str]) -> None:
    """A text alone has the very vector that it has among others, of whatever length they are."""
    embedder = WordLlamaEmbedder()
    assert embedder.vectors(texts) == [embedder.vectors([text])[0] for text in texts]


def test_no_token_goes_on_behind_a_space() -> None:
    """What makes it right to look words up one by one: within a token, a space stands at its beginning alone."""
    vocabulary = _model().tokenizer.get_vocab()
    assert len(vocabulary) > 1000
    assert not [token for token in vocabulary if "\u2581" in token.lstrip("\u2581")]


def test_the_model_is_wordllamas() -> None:
    """What is read from the files of the wheel is what WordLlama reads from them."""
    everything = list(range(len(_wordllama().embedding)))
    assert np.array_equal(_model().embedding.of(everything), _wordllama().embedding)
    assert _model().tokenizer.get_vocab() == _wordllama().tokenizer.get_vocab()


def test_the_first_texts_are_embedded_as_all_others() -> None:
    """Vectors that were read one by one are, to the bit, what they are when all are loaded."""
    text = "plans for the summer, and a word that nobody knows: zxqvbn"
    _model.cache_clear()
    first = WordLlamaEmbedder().vectors([text, ""])
    assert _model().embedding._all is None
    WordLlamaEmbedder().vectors([f"{text} {i}" for i in range(400)])
    assert _model().embedding._all is not None
    assert WordLlamaEmbedder().vectors([text, ""]) == first


def test_no_text() -> None:
    """A text without any token is similar to nothing, and no text has no vector."""
    assert WordLlamaEmbedder().vectors([""]) == [[0.0] * 256]
    assert WordLlamaEmbedder().vectors([]) == []


@pytest.mark.parametrize("long", ["word " * 50_000, "x" * 50_000])
def test_a_long_text_among_short_ones(long: str) -> None:
    """One long text changes nothing for the others."""
    embedder = WordLlamaEmbedder()
    first, _, last = embedder.vectors(["one", long, "two"])
    assert [first, last] == embedder.vectors(["one", "two"])


_WORDS = st.one_of(
    st.sampled_from(["tea", "teapot", "coffee", "1984", "a1", "\u6771\u4eac"]), st.text(min_size=1, max_size=8)
)
_KEYS = st.lists(_WORDS, max_size=6).map(lambda words: f" {' '.join(words)} ")


def _nearest(text: str, word: str) -> float:
    """What `likeness` promises, by WordLlama's own vectors of single words."""
    cosines = [
        float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other) or 1.0))
        for mine in text.split()
        if mine.isalpha() and word.isalpha()
        for one, other in [[_expected(mine)[:64], _expected(word)[:64]]]
    ]
    return max(cosines, default=0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(_KEYS, min_size=1, max_size=5), st.lists(_WORDS.map(str.strip).filter(bool), min_size=1, max_size=3))
def test_words_of_about_the_same_meaning(texts: list[str], words: list[str]) -> None:
    """A text is as near to a word as the nearest of its words, whatever was asked before; numbers are near nothing."""
    words = [word for word in words if len(word.split()) == 1] or ["tea"]
    expected = [[_nearest(text, word) for word in words] for text in texts]
    embedder = WordLlamaEmbedder()
    assert np.allclose(embedder.likeness(texts, words), expected, atol=1e-5)
    for text, row in zip(texts, expected, strict=True):
        for word, cosine in zip(words, row, strict=True):
            assert embedder.likeness([text], [word])[0, 0] == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("limit", ["_MOST_WORDS", "_MOST_BYTES"])
def test_what_is_kept_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Where too many words came up all are forgotten, and the answers stay the same; also for callers at once."""
    monkeypatch.setattr(builtin, limit, 20)
    embedder = WordLlamaEmbedder()
    texts = [f" {'ab' * (number % 7 + 1)} tea cup{'x' * number} " for number in range(40)]
    expected = [[_nearest(text, "teapot")] for text in texts]

    def ask(begin: int) -> bool:
        places = [*range(begin, 40), *range(begin)]
        found = [embedder.likeness([texts[place]], ["teapot"])[0] for place in places]
        return np.allclose(found, [expected[place] for place in places], atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))
    known = embedder._directions._known
    assert known is not None
    assert len(known.texts) < 30
