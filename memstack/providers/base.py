"""The contracts of embedders, LLMs, and the providers that make them.

Both also speak Mem0's side (``embed``, ``embed_batch``, ``generate_response``, ``config``); the engine module registers
them as virtual subclasses of Mem0's base classes, so that nothing here imports Mem0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from memstack.errors import NotSupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LLM", "Embedder", "Finding", "Mem0Config", "Provider"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that ``memstack doctor`` found out about a provider.

    Attributes:
        name: what was examined.
        status: ``ok``, ``warn`` or ``fail``.
        found: how it is, without secrets.
        todo: the way out.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Mem0Config:
    """The part of Mem0's provider configuration that Mem0 reads from a finished embedder or LLM."""

    model: str
    embedding_dims: int | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """A field by its name."""
        return getattr(self, name, default)


class Embedder(ABC):
    """Turns text into vectors. Safe to be called from several threads.

    Attributes:
        provider: name of the provider.
        model: name of the model.
        dimensions: length of its vectors.
        quick: whether a vector costs less than asking a store for one row: then every text is embedded, and not only
            the ones that are not there yet.
        knows_words: whether `likeness` tells what single words mean, without a call: otherwise only equal words count.
    """

    provider: str
    model: str
    dimensions: int
    quick: bool = False
    knows_words: bool = False

    @abstractmethod
    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of some texts, in their order.

        Raises:
            ProviderError: it failed; no text is left out silently.
        """

    def likeness(self, texts: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
        """How near the texts come to each of the words in meaning. Every search asks, for all of its candidates.

        Args:
            texts: words, with spaces between them; one or more texts.
            words: the query's, one or more.

        Returns:
            A row for each text and a column for each word: the cosine of that word and the one of the text that is
            nearest to it; 0 where there is none.

        Raises:
            NotSupported: it does not know words.
        """
        raise NotSupported(f"the embedder {self.model!r}", "comparing words")

    def close(self) -> None:  # noqa: B027  # optional
        """Release what it holds."""

    def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        return {"provider": self.provider, "model": self.model, "dimensions": self.dimensions}

    # -- Mem0's side -----------------------------------------------------------------------------

    @property
    def config(self) -> Mem0Config:
        """What Mem0 reads of an embedder's configuration."""
        return Mem0Config(self.model, self.dimensions)

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """The vector of one text. The action (``add``, ``search``, ``update``) makes no difference."""
        return self.vectors([text])[0]

    def embed_batch(self, texts: Sequence[str], memory_action: str = "add") -> list[list[float]]:
        """The vectors of some texts, in their order."""
        return self.vectors(list(texts))


class LLM(ABC):
    """A chat model. Safe to be called from several threads.

    Attributes:
        provider: name of the provider.
        model: name of the model.
    """

    provider: str
    model: str

    @abstractmethod
    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        """The model's answer, in Mem0's form: text, or a dict where tools are given.

        Raises:
            ProviderError: it failed.
            LLMNotConfigured: there is no model.
        """

    def close(self) -> None:  # noqa: B027  # optional
        """Release what it holds."""

    def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        return {"provider": self.provider, "model": self.model}

    @property
    def config(self) -> Mem0Config:
        """What Mem0 reads of an LLM's configuration."""
        return Mem0Config(self.model)


class Provider(ABC):
    """Makes an embedder, an LLM, or both.

    Attributes:
        name: what configurations call it.
        embedder_config: the config section of its embedder; None where it makes none.
        llm_config: likewise for its LLM.
    """

    name: ClassVar[str]
    embedder_config: ClassVar[type[BaseModel] | None] = None
    llm_config: ClassVar[type[BaseModel] | None] = None

    @classmethod
    def embedder(cls, config: Any) -> Embedder:
        """The embedder that a section describes.

        Raises:
            NotSupported: this provider makes none.
        """
        raise NotSupported(f"provider {cls.name!r}", "embedders")

    @classmethod
    def llm(cls, config: Any) -> LLM | None:
        """The LLM that a section describes; None where that says there is none.

        Raises:
            NotSupported: this provider makes none.
        """
        raise NotSupported(f"provider {cls.name!r}", "LLMs")

    @classmethod
    def examine(cls, config: Any, section: str, *, pull: bool = False) -> Iterable[Finding]:
        """What can be found out about its server without using it; nothing, where there is none.

        Args:
            config: the section.
            section: its name, ``embedder`` or ``llm``.
            pull: whether what is missing there may be downloaded.
        """
        return ()
