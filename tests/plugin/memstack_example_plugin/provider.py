"""An embedder that counts letters, and an LLM that finds one fact in whatever it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from memstack.config import SectionConfig
from memstack.providers.base import LLM, Embedder, Provider


class LettersConfig(SectionConfig, frozen=True):
    """``embedder: {provider: letters, weight: 2}``."""

    provider: Literal["letters"] = "letters"
    weight: float = 1.0


class LettersEmbedder(Embedder):
    """One dimension for each letter from a to z."""

    provider = "letters"
    model = "alphabet"
    dimensions = 26

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        return [[self._weight * text.lower().count(chr(97 + i)) for i in range(26)] for text in texts]


class ParrotLLM(LLM):
    """Answers with what it was set to answer; by default with one fact."""

    provider = "letters"
    model = "parrot"
    answer: Any = json.dumps({"memory": [{"text": "Alex drinks tea"}]})

    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        return type(self).answer


class LettersProvider(Provider):
    """What the entry point names."""

    name = "letters"
    embedder_config = LettersConfig
    llm_config = LettersConfig

    @classmethod
    def embedder(cls, config: LettersConfig) -> LettersEmbedder:
        return LettersEmbedder(config.weight)

    @classmethod
    def llm(cls, config: LettersConfig) -> ParrotLLM:
        return ParrotLLM()
