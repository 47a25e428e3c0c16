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
_LONGEST_WORD: Final = 32  # characters
_loading: Final = threading.Lock()


class _Model(NamedTuple):
    """What makes vectors.

    Attributes:
        tokenizer: tells the tokens of a text, by their numbers.
        embedding: the vector of each token.
    """

    tokenizer: Tokenizer
    embedding: NDArray[np.float32]


@lru_cache(maxsize=1)
def _model() -> _Model:
    """The model, loaded once for the process, from the installed wheel alone.

    Importing WordLlama imports a client for HTTP, to download other models with, and sets up the root logger: its files
    are read here as it reads them.
    """
    import numpy as np  # noqa: PLC0415  # the three take a fifth of a second
    from safetensors.numpy import load_file  # noqa: PLC0415
    from tokenizers import Tokenizer  # noqa: PLC0415

    package = find_spec("wordllama")
    if package is None or package.origin is None:
        raise FileNotFoundError("wordllama is not installed")
    folder = Path(package.origin).parent
    tokenizer = Tokenizer.from_buffer((folder / _TOKENIZER).read_bytes())
    tokenizer.no_truncation()
    return _Model(tokenizer, load_file(folder / _WEIGHTS)[_TENSOR].astype(np.float32))


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
                tokens = np.array(_tokens(text), dtype=np.intp)
                np.add.reduce(matrix.take(tokens, axis=0, mode="clip"), axis=0, out=found[place])
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
