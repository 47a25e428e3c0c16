"""The built-in embedder: WordLlama, 256 dimensions. No key, no download, no network."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memstack.config import BuiltinEmbedder
from memstack.errors import ProviderError
from memstack.memo import kept_for_short
from memstack.providers.base import Embedder, Provider

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

__all__ = ["BuiltinProvider", "WordLlamaEmbedder"]

_MODEL: Final = "l2_supercat"
_DIMENSIONS: Final = 256
_TOKENIZER: Final = f"tokenizers/{_MODEL}_tokenizer_config.json"  # in the package wordllama
_WEIGHTS: Final = f"weights/{_MODEL}_{_DIMENSIONS}.safetensors"
_TENSOR: Final = "embedding.weight"
_ONE_BY_ONE: Final = 2048  # tokens: reading them takes 16 ms, and loading all 50
_LONGEST_WORD: Final = 32  # characters
_FIRST: Final = 64  # dimensions that words are compared in: the model is trained to be cut off there
_MOST_WORDS: Final = 32_768  # different ones are kept, and those of one search: 8 MB
_MOST_BYTES: Final = 2**23  # for the words of texts; about 100 000 texts
_NUMBER: Final = 8  # bytes
_loading: Final = threading.Lock()


class _Matrix:
    """The vector of each token. For a text or two they are read one by one; all are loaded once more are asked for."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open  # noqa: PLC0415

        self._file: Any = safe_open(path, framework="np")
        self._rows: Any = self._file.get_slice(_TENSOR)  # type: ignore[no-untyped-call]
        self._all: NDArray[np.float32] | None = None
        self._told = 0

    def of(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The vectors of some tokens, one below the other."""
        import numpy as np  # noqa: PLC0415

        matrix = self._all
        if matrix is None:
            self._told += len(tokens)
            if self._told <= _ONE_BY_ONE:
                found = np.empty((len(tokens), _DIMENSIONS), dtype=np.float32)
                for place, token in enumerate(tokens):
                    found[place] = self._rows[token : token + 1]
                return found
            matrix = self._all = self._file.get_tensor(_TENSOR).astype(np.float32)
        return matrix.take(np.array(tokens, dtype=np.intp), axis=0, mode="clip")


class _Model(NamedTuple):
    """What makes vectors.

    Attributes:
        tokenizer: tells the tokens of a text, by their numbers.
        embedding: the vector of each token.
    """

    tokenizer: Tokenizer
    embedding: _Matrix


@lru_cache(maxsize=1)
def _model() -> _Model:
    """The model, loaded once for the process, from the installed wheel alone.

    Importing WordLlama imports a client for HTTP, to download other models with, and sets up the root logger: its files
    are read here as it reads them.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415

    package = find_spec("wordllama")
    if package is None or package.origin is None:
        raise FileNotFoundError("wordllama is not installed")
    folder = Path(package.origin).parent
    tokenizer = Tokenizer.from_buffer((folder / _TOKENIZER).read_bytes())
    tokenizer.no_truncation()
    return _Model(tokenizer, _Matrix(folder / _WEIGHTS))


class _Known(NamedTuple):
    """What came up before. Rows are written before anything tells of them, and never again: readers need no lock.

    Attributes:
        places: the row of each word.
        texts: the rows of the words of each text, eight bytes for each; the first row for a text without any.
        rows: the directions of words, the first one zero; there is room for more.
    """

    places: dict[str, int]
    texts: dict[str, bytes]
    rows: NDArray[np.float32]


class _Directions:
    """The directions of words, for comparing texts with a query word by word.

    A search asks for all of its candidates, most of which came up before. Once there is too much, all is forgotten.
    """

    def __init__(self) -> None:
        self._learning = threading.Lock()
        self._known: _Known | None = None
        self._bytes = 0  # of the texts' rows

    def nearest(self, texts: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
        """The cosine of the word of each text that is nearest to each of the words; 0 where there is none."""
        import numpy as np  # noqa: PLC0415

        asked = [*texts, *words]
        known = self._known
        places = [] if known is None else [known.texts.get(text, b"") for text in asked]
        if known is None or b"" in places:
            with self._learning:
                known = self._learned(asked)
                places = [known.texts[text] for text in asked]
        counts = np.array([len(some) for some in places], dtype=np.intp) // _NUMBER
        begins = np.cumsum(counts) - counts
        told = np.frombuffer(b"".join(places), dtype=np.int64)
        first = begins[len(texts)]  # of the words
        # A word is compared once, in however many texts it is.
        there = np.zeros(len(known.rows), dtype=np.bool_)
        there[told[:first]] = True
        rows = np.flatnonzero(there)
        cosines = known.rows[told[first:]] @ known.rows[rows].T
        number = np.empty(len(known.rows), dtype=np.intp)
        number[rows] = np.arange(len(rows))
        best: NDArray[np.float32] = np.maximum.reduceat(cosines[:, number[told[:first]]], begins[: len(texts)], axis=1)
        return best.T

    def _learned(self, texts: Sequence[str]) -> _Known:
        """Know these texts."""
        import numpy as np  # noqa: PLC0415

        known = self._known or _Known({}, {}, np.zeros((1, _FIRST), dtype=np.float32))
        if len(known.places) > _MOST_WORDS or self._bytes > _MOST_BYTES:
            known, self._bytes = _Known({}, {}, np.zeros_like(known.rows[:1])), 0
        unread = list(dict.fromkeys(text for text in texts if text not in known.texts))
        split = [_words(text) for text in unread]
        new = [word for word in dict.fromkeys(chain.from_iterable(split)) if word not in known.places]
        begin = 1 + len(known.places)
        end = begin + len(new)
        if end > len(known.rows):
            rows = np.zeros((max(2 * len(known.rows), end), _FIRST), dtype=np.float32)
            rows[:begin] = known.rows[:begin]
            known = _Known(known.places.copy(), known.texts.copy(), rows)
        known.rows[begin:end] = _at_length_one(_sums(new)[:, :_FIRST])
        known.places.update(zip(new, range(begin, end), strict=True))
        for text, parts in zip(unread, split, strict=True):
            places = array("q", [known.places[part] for part in parts] or [0]).tobytes()
            known.texts[text] = places
            self._bytes += len(places)
        self._known = known
        return known


def _words(text: str) -> list[str]:
    """The words of a text that have a direction: 1984 is not about the same as 1985."""
    return [word for word in text.split() if word.isalpha()]


def _sums(texts: Sequence[str]) -> NDArray[np.float32]:
    """The sum of the vectors of the tokens of each text."""
    import numpy as np  # noqa: PLC0415

    found = np.empty((len(texts), _DIMENSIONS), dtype=np.float32)
    with _loading:
        matrix = _model().embedding
    for place, text in enumerate(texts):
        # One text after the other: `add.reduceat` over all of them takes ten times as long as these sums.
        np.add.reduce(matrix.of(_tokens(text)), axis=0, out=found[place])
    return found


def _at_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same vectors, brought to length 1; zero stays zero."""
    import numpy as np  # noqa: PLC0415

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    return vectors


class WordLlamaEmbedder(Embedder):
    """Static word vectors, averaged (WordLlama ``l2_supercat_256``, https://github.com/dleemiller/WordLlama).

    Vectors have length 1, but for text without any token, whose vector is zero and similar to nothing. The model knows
    few words in capitals: several of them and nothing else are read in lower case, and one alone, which may be an
    abbreviation, as it is.
    """

    provider = "builtin"
    model = _MODEL
    dimensions = _DIMENSIONS
    quick = True
    knows_words = True

    def __init__(self) -> None:
        self._directions = _Directions()

    def likeness(self, texts: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
        with _reported():
            return self._directions.nearest(texts, words)

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        with _reported():
            # The sum points where the average does.
            return _at_length_one(_sums([_without_caps_lock(text) for text in texts])).tolist()  # type: ignore[no-any-return]


@contextmanager
def _reported() -> Iterator[None]:
    """What fails where the model is read, as our error."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise ProviderError(
            WordLlamaEmbedder.provider,
            WordLlamaEmbedder.model,
            f"cannot embed ({error})",
            hint="Reinstall wordllama: its wheel holds the model.",
        ) from error


def _without_caps_lock(text: str) -> str:
    return text.lower() if text.isupper() and " " in text.strip() else text


def _tokens(text: str) -> list[int]:
    """The tokens of a text, word by word.

    The vocabulary has no token that goes on behind a space, so a word has the tokens that it has within the text. Most
    words came up before, and looking them up takes a fifth of the time. Where the tokenizer looks at a space from both
    sides, it reads the whole text: several of them are one token (as is U+2581, which stands for a space), and ``<s>``
    and the like are cut out together with none of those around.
    """
    words = text.split(" ")
    if "" in words or "<" in text or "\u2581" in text:
        return _read(text)
    return [token for word in words for token in _of_word(word)]


def _read(text: str) -> list[int]:
    ids: list[int] = _model().tokenizer.encode(text, add_special_tokens=False).ids
    return ids


@kept_for_short(_LONGEST_WORD, entries=16_384)  # about 5 MB
def _of_word(word: str) -> tuple[int, ...]:
    return tuple(_read(word))


class BuiltinProvider(Provider):
    """``embedder: {provider: builtin}``."""

    name = "builtin"
    embedder_config = BuiltinEmbedder

    @classmethod
    def embedder(cls, config: Any) -> WordLlamaEmbedder:
        return WordLlamaEmbedder()
