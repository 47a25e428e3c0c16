"""Models of third parties, held to their contract: what they fail in, or give that is of no use, has their name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from memstack.errors import TELL, ConfigError, MemstackError, ProviderError, describe
from memstack.providers.base import LLM, Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PluggedEmbedder", "PluggedLLM", "plugged_embedder", "plugged_llm"]

M = TypeVar("M", bound=Embedder | LLM)
_ABSTRACT: Final = "Can't instantiate abstract class"  # Python's words: the rest names the class and what it lacks


def plugged_embedder(name: str, told: str, make: Callable[[], object]) -> Embedder:
    """The embedder that a third party makes.

    Args:
        name: what configurations call the plug-in.
        told: how messages call it.
        make: makes it.

    Raises:
        ConfigError: it is no embedder, or does not say what it is.
        ProviderError: it cannot be made, or cannot tell how long its vectors are.
    """
    where = "embedder.provider"
    found = _made(name, told, where, make)
    if not isinstance(found, Embedder):
        raise ConfigError(where, f"{told} made {describe(found)}, no memstack.providers.base.Embedder", TELL)
    _check(found, ("vectors", "likeness", "close", "stats"), told, where)
    if inspect.getattr_static(found, "dimensions", None) is None:
        raise ConfigError(where, f"what {told} made has no `dimensions`, the length of its vectors", TELL)
    embedder = PluggedEmbedder(found)
    length: object = embedder.dimensions
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        said = str(length) if type(length) is int else describe(length)
        raise ConfigError(where, f"what {told} made has {said} as its `dimensions`, no length of a vector", TELL)
    return embedder


def plugged_llm(name: str, told: str, make: Callable[[], object]) -> LLM | None:
    """The LLM that a third party makes; None where it makes none.

    Raises:
        ConfigError: it is no LLM, or does not say what it is.
        ProviderError: it cannot be made.
    """
    where = "llm.provider"
    found = _made(name, told, where, make)
    if found is None:
        return None
    if not isinstance(found, LLM):
        raise ConfigError(where, f"{told} made {describe(found)}, no memstack.providers.base.LLM", TELL)
    _check(found, ("generate_response", "close", "stats"), told, where)
    return PluggedLLM(found)


def _made(name: str, told: str, where: str, make: Callable[[], object]) -> object:
    try:
        return make()
    except MemstackError:
        raise
    except Exception as error:  # a third party's
        if isinstance(error, TypeError) and str(error).startswith(_ABSTRACT):
            raise ConfigError(where, f"{told} is not finished: {error}", TELL) from error
        raise ProviderError(name, where.partition(".")[0], f"cannot be made ({type(error).__name__})") from error


def _check(model: Embedder | LLM, methods: Sequence[str], told: str, where: str) -> None:
    for attribute in ("provider", "model"):
        value = getattr(model, attribute, None)
        if not isinstance(value, str) or not value:
            problem = f"what {told} made has no `{attribute}`, a name by which errors and stores know it"
            raise ConfigError(where, problem, TELL)
    for method in methods:
        if inspect.iscoroutinefunction(getattr(model, method)):
            raise ConfigError(where, f"`{method}` of what {told} made is a coroutine function", TELL)


@contextmanager
def _failing(model: Embedder | LLM, what: str) -> Iterator[None]:
    """What a third party raises in a block is a `ProviderError`; the cause has what it said."""
    try:
        yield
    except MemstackError:
        raise
    except Exception as error:
        raise ProviderError(model.provider, model.model, f"`{what}` failed ({type(error).__name__})") from error


class _Plugged(Generic[M]):
    """What both kinds have: who they are, and their end."""

    def __init__(self, inner: M) -> None:
        self._inner = inner
        self.provider = inner.provider
        self.model = inner.model

    def close(self) -> None:
        """Release what it holds."""
        with _failing(self._inner, "close"):
            self._inner.close()

    def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        with _failing(self._inner, "stats"):
            return self._inner.stats()


class PluggedEmbedder(_Plugged[Embedder], Embedder):
    """An embedder whose vectors are looked at before anybody uses them.

    Args:
        inner: the third party's.
    """

    def __init__(self, inner: Embedder) -> None:
        super().__init__(inner)
        self.quick = inner.quick
        self.knows_words = inner.knows_words

    @property
    def dimensions(self) -> int:  # type: ignore[override]  # it may have to ask its server
        """Length of the vectors.

        Raises:
            ProviderError: it cannot tell.
        """
        with _failing(self, "dimensions"):
            return self._inner.dimensions

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of some texts, in their order.

        Raises:
            ProviderError: it failed, or what it gave is not one vector of finite numbers for each text.
        """
        import numpy as np  # noqa: PLC0415  # where an embedder of a third party is used

        if not texts:
            return []
        with _failing(self, "vectors"):
            found = np.asarray(list(self._inner.vectors(texts)), dtype=np.float64)
        wanted = (len(texts), self.dimensions)
        if found.shape != wanted:
            problem = f"gave an array of the shape {found.shape} for {wanted[0]} texts and {wanted[1]} dimensions"
            raise ProviderError(self.provider, self.model, problem)
        with np.errstate(over="ignore"):  # stores keep numbers of 32 bits
            kept = found.astype(np.float32)
        if not np.isfinite(kept).all():
            raise ProviderError(self.provider, self.model, "gave a vector with numbers that are not finite in 32 bits")
        vectors: list[list[float]] = found.tolist()
        return vectors

    def likeness(self, texts: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
        """How near the texts come to each of the words in meaning.

        Raises:
            ProviderError: it failed, or what it gave is not one finite number for each text and word.
        """
        import numpy as np  # noqa: PLC0415  # where an embedder of a third party is used

        with _failing(self, "likeness"):
            found = np.asarray(self._inner.likeness(texts, words), dtype=np.float32)
        wanted = (len(texts), len(words))
        if found.shape != wanted or not np.isfinite(found).all():
            problem = f"`likeness` gave no {wanted[0]} rows of {wanted[1]} finite numbers"
            raise ProviderError(self.provider, self.model, problem)
        return found


class PluggedLLM(_Plugged[LLM], LLM):
    """An LLM whose failures have its name.

    Args:
        inner: the third party's.
    """

    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        """The model's answer.

        Raises:
            ProviderError: it failed.
        """
        with _failing(self, "generate_response"):
            return self._inner.generate_response(messages, tools=tools, tool_choice=tool_choice, **kwargs)
