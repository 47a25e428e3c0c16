"""The built-in embedder: WordLlama, 256 dimensions. No key, no download, no network."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memstack.config import BuiltinEmbedder
from memstack.errors import ProviderError
from memstack.providers.base import Embedder, Provider

if TYPE_CHECKING:
    from wordllama import WordLlamaInference

__all__ = ["BuiltinProvider", "WordLlamaEmbedder"]

_MODEL: Final = "l2_supercat"
_DIMENSIONS: Final = 256
_BATCH: Final = 64
_BATCH_CHARACTERS: Final = 131_072  # a batch is padded to its longest text
_loading: Final = threading.Lock()


@lru_cache(maxsize=1)
def _model() -> WordLlamaInference:
    """The model, loaded once for the process, from the installed wheel alone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        import wordllama  # noqa: PLC0415  # it costs a second, and sets up the root logger on import
    finally:
        root.handlers[:], root.level = handlers, level
    return wordllama.WordLlama.load(
        _MODEL, dim=_DIMENSIONS, cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )


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

        if not texts:
            return []
        try:
            with _loading:
                model = _model()
            if len(texts) == 1:
                return [_alone(model, texts[0])]
            found = np.empty((len(texts), self.dimensions), dtype=np.float32)
            for batch in _batches(texts):
                found[batch] = model.embed([texts[i] for i in batch], norm=False, batch_size=len(batch))
        except (OSError, ValueError, RuntimeError) as error:
            raise ProviderError(
                self.provider,
                self.model,
                f"cannot embed ({error})",
                hint="Reinstall wordllama: its wheel holds the model.",
            ) from error
        return _normalised(found)


def _alone(model: WordLlamaInference, text: str) -> list[float]:
    """The vector of one text, the same to the bit: a batch is handed to other threads, which takes longer than it."""
    import numpy as np  # noqa: PLC0415

    ids = np.array(model.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)
    rows = model.embedding.take(ids, axis=0, mode="clip")
    mean = np.add.reduce(rows, axis=0, dtype=np.float32) / np.float32(max(len(ids), 1))
    length = np.sqrt(np.add.reduce(mean * mean))
    return (mean / length if length > 0 else mean).tolist()  # type: ignore[no-any-return]


def _normalised(found: Any) -> list[list[float]]:
    import numpy as np  # noqa: PLC0415

    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    normalised = np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)
    return normalised.tolist()  # type: ignore[no-any-return]


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """The places of the texts in batches of like length, so that one long text does not pad many short ones."""
    batch: list[int] = []
    for place in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if batch and (len(batch) >= _BATCH or (len(batch) + 1) * len(texts[place]) > _BATCH_CHARACTERS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


class BuiltinProvider(Provider):
    """``embedder: {provider: builtin}``."""

    name = "builtin"
    embedder_config = BuiltinEmbedder

    @classmethod
    def embedder(cls, config: Any) -> WordLlamaEmbedder:
        return WordLlamaEmbedder()
