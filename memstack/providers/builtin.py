"""The built-in embedder: WordLlama, 256 dimensions. No key, no download, no network."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
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
_ONE_BY_ONE: Final = 512  # tokens: reading them takes 4 ms, and loading all 50
_LONGEST_WORD: Final = 32  # characters
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


class WordLlamaEmbedder(Embedder):
    """Static word vectors, averaged (WordLlama ``l2_supercat_256``, https://github.com/dleemiller/WordLlama).

    Vectors have length 1, but for text without any token, whose vector is zero and similar to nothing.
    """

    provider = "builtin"
    model = _MODEL
    dimensions = _DIMENSIONS
    quick = True

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        import numpy as np  # noqa: PLC0415

        found = np.empty((len(texts), self.dimensions), dtype=np.float32)
        try:
            with _loading:
                matrix = _model().embedding
            for place, text in enumerate(texts):
                # One text after the other: `add.reduceat` over all of them takes ten times as long as these sums.
                np.add.reduce(matrix.of(_tokens(text)), axis=0, out=found[place])
        except (OSError, ValueError, RuntimeError) as error:
            raise ProviderError(
                self.provider,
                self.model,
                f"cannot embed ({error})",
                hint="Reinstall wordllama: its wheel holds the model.",
            ) from error
        # The sum points where the average does.
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.divide(found, lengths, out=found, where=lengths > 0).tolist()  # type: ignore[no-any-return]


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
