"""The embedder of a third party, held to its contract: what it fails in, or gives that is no vector, has its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memstack.errors import MemstackError, ProviderError
from memstack.providers.base import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PluggedEmbedder"]


class PluggedEmbedder(Embedder):
    """An embedder whose vectors are looked at before anybody uses them.

    Args:
        inner: the third party's.
    """

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.provider = inner.provider
        self.model = inner.model
        self.quick = inner.quick
        self.knows_words = inner.knows_words

    @property
    def dimensions(self) -> int:  # type: ignore[override]  # it may have to ask its server
        """Length of the vectors."""
        return self._inner.dimensions

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of some texts, in their order.

        Raises:
            ProviderError: it failed, or what it gave is not one vector of finite numbers for each text.
        """
        import numpy as np  # noqa: PLC0415  # where an embedder of a third party is used

        if not texts:
            return []
        try:
            found = np.asarray(list(self._inner.vectors(texts)), dtype=np.float64)
        except MemstackError:
            raise
        except Exception as error:
            raise ProviderError(self.provider, self.model, f"failed ({type(error).__name__})") from error
        wanted = (len(texts), self.dimensions)
        if found.shape != wanted:
            problem = f"gave an array of the shape {found.shape} for {wanted[0]} texts and {wanted[1]} dimensions"
            raise ProviderError(self.provider, self.model, problem)
        if not np.isfinite(found).all():
            raise ProviderError(self.provider, self.model, "gave a vector with numbers that are not finite")
        vectors: list[list[float]] = found.tolist()
        return vectors

    def likeness(self, texts: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
        """How near the texts come to each of the words in meaning."""
        return self._inner.likeness(texts, words)

    def close(self) -> None:
        """Release what it holds."""
        self._inner.close()

    def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        return self._inner.stats()
