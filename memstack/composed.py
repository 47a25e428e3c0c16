"""The composed Mem0: a ``mem0.Memory`` whose parts are ours. The only module that imports mem0's classes.

Mem0 takes a configuration and makes its parts itself; there is no way to hand it finished ones. So the constructor is
replaced, and a test fails when a new release of Mem0 sets an attribute there that ours does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from mem0 import Memory
from mem0.configs.base import MemoryConfig
from mem0.embeddings.base import EmbeddingBase
from mem0.llms.base import LLMBase
from mem0.vector_stores.base import VectorStoreBase

from memstack.errors import ProviderError
from memstack.providers.base import LLM, Embedder
from memstack.providers.none import NoModel
from memstack.stores.base import Store

if TYPE_CHECKING:
    from memstack.gateway.parts import Parts

__all__ = ["ComposedMemory", "extracted_facts"]

VectorStoreBase.register(Store)
EmbeddingBase.register(Embedder)
LLMBase.register(LLM)

_facts: Final[ContextVar[list[str] | None]] = ContextVar("memstack_facts", default=None)


class ComposedMemory(Memory):  # type: ignore[misc]  # mem0 has no types
    """A ``mem0.Memory`` over memstack's store, embedder, LLM and history."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.config = MemoryConfig(custom_instructions=parts.options.custom_instructions)
        self.config.history_db_path = parts.history.path
        self.embedding_model = parts.embedder
        self.vector_store = parts.store
        self.llm = NoModel() if parts.llm is None else _CheckedLLM(parts.llm)
        self.db = parts.history
        self.collection_name = parts.store.collection
        self.api_version = self.config.version
        self.custom_instructions = self.config.custom_instructions
        self.reranker = None
        self._entity_store: Store | None = None

    @property
    def entity_store(self) -> Store:
        """Mem0's entities, in a collection beside the memories."""
        store = self._entity_store
        if store is None:
            self._entity_store = store = self._parts.store.sibling("entities")
        return store

    def _process_metadata_filters(self, metadata_filters: Mapping[str, Any]) -> dict[str, Any]:
        """Filters reach the store as they were written: its parser is the one that knows their meaning."""
        return dict(metadata_filters)

    def reset(self) -> None:
        """Delete everything of the collection."""
        self.vector_store.clear()
        self.entity_store.clear()
        self.db.clear()

    def close(self) -> None:
        """Release the entity store. The other parts are the gateway's."""
        if self._entity_store is not None:
            self._entity_store.close()
            self._entity_store = None


class _CheckedLLM(LLM):
    """Refuses an extraction that Mem0 would read as "nothing found", and notes the facts of one that it can read."""

    def __init__(self, inner: LLM) -> None:
        self._inner = inner
        self.provider = inner.provider
        self.model = inner.model

    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        answer = self._inner.generate_response(messages, tools=tools, tool_choice=tool_choice, **kwargs)
        noted = _facts.get()
        if noted is not None and kwargs.get("response_format") == {"type": "json_object"}:
            noted.extend(self._read(answer))
        return answer

    def _read(self, answer: object) -> list[str]:
        try:
            content = json.loads(answer) if isinstance(answer, str) else None
        except ValueError:
            content = None
        facts = content.get("memory") if isinstance(content, dict) else None
        if not isinstance(facts, list):
            raise self._refused("the answer is not a JSON object with a list `memory`")
        texts = [fact.get("text") if isinstance(fact, dict) else None for fact in facts]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise self._refused("a fact in the answer has no `text`")
        return [str(text) for text in texts]

    def _refused(self, problem: str) -> ProviderError:
        return ProviderError(self.provider, self.model, problem, retryable=True)


@contextmanager
def extracted_facts() -> Iterator[list[str]]:
    """Collects the facts that the LLM names while the block runs, so that none of them can vanish."""
    facts: list[str] = []
    token = _facts.set(facts)
    try:
        yield facts
    finally:
        _facts.reset(token)
