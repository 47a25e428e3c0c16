"""No LLM. Everything but inference works; asking for inference says what to configure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memstack.config import NoLLM
from memstack.errors import LLMNotConfigured
from memstack.providers.base import LLM, Provider

__all__ = ["NoModel", "NoProvider"]


class NoModel(LLM):
    """Stands where Mem0 expects an LLM."""

    provider = "none"
    model = "none"

    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        raise LLMNotConfigured


class NoProvider(Provider):
    """``llm: {provider: none}``."""

    name = "none"
    llm_config = NoLLM

    @classmethod
    def llm(cls, config: Any) -> None:
        return None
