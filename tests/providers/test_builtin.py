"""The built-in embedder: its vectors are WordLlama's, and a text has one vector, in whatever company it is embedded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import wordllama
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
    """WordLlama's own vector, brought to length 1."""
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
@example("a" * 5_000)
def test_the_vectors_are_wordllamas(text: str) -> None:
    """Looking words up one by one gives what WordLlama makes of the whole text."""
    (vector,) = WordLlamaEmbedder().vectors([text])
    assert np.allclose(vector, _expected(text), atol=1e-6)


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
    WordLlamaEmbedder().vectors([f"{text} {i}" for i in range(100)])
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
