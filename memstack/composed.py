"""The composed Mem0: a ``mem0.Memory`` whose parts are ours. The only module that imports mem0's classes.

Mem0 takes a configuration and makes its parts itself; there is no way to hand it finished ones. So the constructor is
replaced, and a test fails when a new release of Mem0 sets an attribute there that ours does not.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from mem0 import Memory
from mem0.configs.base import MemoryConfig
from mem0.embeddings.base import EmbeddingBase
from mem0.llms.base import LLMBase
from mem0.utils import spacy_models
from mem0.vector_stores.base import VectorStoreBase

from memstack.errors import LLMNotConfigured, MemstackError, ProviderError, UnreadableAnswer
from memstack.extraction import RESPONSE_FORMAT, Extraction, Reading, Unreadable, numbered, read, repair_request
from memstack.filters.ast import all_of
from memstack.filters.scoping import scope_filter
from memstack.instants import utcnow
from memstack.metadata import sound_text
from memstack.providers.base import LLM, Embedder
from memstack.providers.none import NoModel
from memstack.scope import Scope
from memstack.stores.base import ENTITIES, Store
from memstack.stores.mem0 import OutputData

if TYPE_CHECKING:
    from memstack.filters.ast import Node
    from memstack.gateway.parts import Options, Parts

__all__ = ["ComposedMemory", "Keep"]

VectorStoreBase.register(Store)
EmbeddingBase.register(Embedder)
LLMBase.register(LLM)

Keep = Callable[[Extraction, Sequence[str], Sequence[str], Sequence[Sequence[float]]], None]
"""Stores facts: an extraction, and of each fact the id, the text and the vector."""

_log: Final = logging.getLogger(__name__)
_models: Any = spacy_models
if find_spec("spacy") is None or find_spec("en_core_web_sm") is None:
    # Mem0 downloads a model where spaCy is there without it. It is told that it tried.
    _models._load_failed_full = _models._load_failed_lemma = True  # noqa: SLF001
_SHORT: Final = 1200  # bytes that every embedder takes


class ComposedMemory(Memory):  # type: ignore[misc]  # mem0 has no types
    """A ``mem0.Memory`` over memstack's store, embedder, LLM and history."""

    def __init__(self, parts: Parts, reset: Callable[[], None]) -> None:
        self._parts = parts
        self._reset = reset
        self.config = MemoryConfig(custom_instructions=parts.options.custom_instructions)
        self.config.history_db_path = parts.history.path
        self.embedding_model = parts.embedder
        self.vector_store = parts.store
        self.llm = NoModel() if parts.llm is None else _ExtractingLLM(parts.llm, parts.options)
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
            self._entity_store = store = self._parts.store.sibling(ENTITIES)
        return store

    def extract(
        self,
        messages: Sequence[Mapping[str, Any]],
        scope: Scope,
        *,
        known: Node,
        keep: Keep,
        instructions: str | None = None,
    ) -> Extraction:
        """Run Mem0's extraction, with the writing left to `keep`: what it raises is raised here.

        Args:
            messages: what was said, with roles that Mem0 reads: ``user``, ``assistant``, ``system``.
            scope: who it belongs to.
            known: which memories of that scope the model may be shown as known already.
            keep: called at most once, with all facts.
            instructions: what the model is told beside the prompt. Default: `custom_instructions`.

        Raises:
            ProviderError: the LLM or the embedder failed. `UnreadableAnswer` where the LLM's answer cannot be used.
        """
        parts = self._parts
        if parts.llm is None:
            raise LLMNotConfigured
        run = Extraction([(str(message["role"]), str(message["content"])) for message in messages])
        strict = _StrictParts(parts, run, scope, known, keep)
        memory = _Extracting(self, strict, _ExtractingLLM(parts.llm, parts.options, run))
        try:  # Mem0's public add refuses ids that hold a space
            said = [dict(message) for message in messages]
            memory._add_to_vector_store(said, {}, scope.as_dict(), infer=True, prompt=instructions)  # noqa: SLF001
        except Exception as error:
            # Mem0 wraps what the model raised, and replaces what storing raised.
            for found in (strict.failure, error, error.__cause__):
                if isinstance(found, MemstackError):
                    raise found from found.__cause__
            problem = f"extraction failed ({type(error).__name__})"
            raise ProviderError(parts.llm.provider, parts.llm.model, problem) from error
        if strict.failure is not None:
            raise strict.failure
        return run

    def _process_metadata_filters(self, metadata_filters: Mapping[str, Any]) -> dict[str, Any]:
        """Filters reach the store as they were written: its parser is the one that knows their meaning."""
        return dict(metadata_filters)

    def _search_vector_store(self, query: str, filters: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """What was superseded is not found."""
        return super()._search_vector_store(query, _current(filters), *args, **options)

    def _get_all_from_vector_store(self, filters: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """What was superseded is not listed."""
        return super()._get_all_from_vector_store(_current(filters), *args, **options)

    def reset(self) -> None:
        """Delete everything of the collection, in one step: see the gateway's."""
        self._reset()

    def close(self) -> None:
        """Release the entity store. The other parts are the gateway's."""
        if self._entity_store is not None:
            self._entity_store.close()
            self._entity_store = None


def _current(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Mem0's filters, for what is neither superseded nor of the future; it looks itself for what is expired."""
    now = utcnow()
    hidden = {"NOT": [{"valid_to": {"lte": now}}, {"valid_from": {"gt": now}}]}
    own = [{"AND": filters["AND"]}] if "AND" in filters else []
    return {**filters, "AND": [*own, hidden]}


# -- extraction ------------------------------------------------------------------------------


class _Extracting(ComposedMemory):
    """A composed Mem0 for one extraction."""

    def __init__(self, whole: ComposedMemory, strict: _StrictParts, llm: _ExtractingLLM) -> None:
        for name, value in vars(whole).items():
            setattr(self, name, value)
        self._whole = whole
        parts: Any = strict
        self.embedding_model = self.vector_store = self.db = parts
        self.llm = llm

    @property
    def entity_store(self) -> Store:
        """That of the whole."""
        return self._whole.entity_store


class _StrictParts:
    """What stands where Mem0 expects embedder, store and history during an extraction.

    Mem0 embeds facts one by one when embedding all of them failed, stores rows one by one when storing all of them
    failed, and goes on without those that fail again. Here the first failure is the failure of all.

    Attributes:
        failure: the first failure that loses a fact.
    """

    def __init__(self, parts: Parts, run: Extraction, scope: Scope, known: Node, keep: Keep) -> None:
        self.failure: MemstackError | None = None
        self._parts = parts
        self._run = run
        self._scope = scope
        self._known = all_of(scope_filter(scope), known)
        self._keep = keep
        self._kept = False

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    # -- the embedder ----------------------------------------------------------------------------

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """The vector of a text; of its beginning, where all messages together are more than the model takes."""
        self._check()
        embedder = self._parts.embedder
        try:
            return embedder.embed(text, memory_action)
        except ProviderError as error:
            short = text.encode()[:_SHORT].decode(errors="ignore")
            if memory_action != "search" or error.retryable or short == text:
                raise
            return embedder.embed(short, memory_action)

    def embed_batch(self, texts: list[str], memory_action: str = "add") -> list[list[float]]:
        """The vectors of the facts; once these are kept, those of Mem0's entities, which may fail."""
        try:
            return self._parts.embedder.embed_batch(texts, memory_action)
        except MemstackError as error:
            if not self._kept:
                self.failure = error
            raise

    # -- the store -------------------------------------------------------------------------------

    def search(self, query: str, vectors: Sequence[float], top_k: int, filters: object) -> list[OutputData]:  # noqa: ARG002
        """What is known already. Without its hashes: what is a duplicate is decided where it is written."""
        hits = self._parts.store.nearest(vectors, where=self._known, limit=top_k)
        for hit in hits:
            self._parts.store.check_inside(hit.row, self._scope)
        return [OutputData(hit.row.id, hit.score, {"data": hit.row.payload.get("data", "")}) for hit in hits]

    def insert(
        self, vectors: Sequence[Sequence[float]], ids: Sequence[str], payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep the facts."""
        self._check()
        try:
            self._keep(self._run, ids, [str(payload["data"]) for payload in payloads], vectors)
        except MemstackError as error:
            self.failure = error
            raise
        self._kept = True

    # -- the history -----------------------------------------------------------------------------

    def get_last_messages(self, session_scope: str, limit: int = 10) -> list[dict[str, Any]]:
        """The last messages of a scope."""
        return self._parts.history.get_last_messages(session_scope, limit)

    def save_messages(self, messages: Sequence[Mapping[str, Any]], session_scope: str) -> None:
        """Keep the last messages; not those that have failed."""
        if self.failure is None:
            self._parts.history.save_messages(messages, session_scope)

    def batch_add_history(self, records: object) -> None:
        """Nothing: the log was written together with the rows."""


class _ExtractingLLM(LLM):
    """Asks for facts by a schema, reads the answer tolerantly, and asks once more where that cannot be used.

    Mem0 is handed the facts in the one form that it reads; what it cannot read it takes for "nothing to remember".
    """

    def __init__(self, inner: LLM, options: Options, run: Extraction | None = None) -> None:
        self._inner = inner
        self._prompt = options.extraction_prompt
        self._longest = options.max_text
        self._run = run
        self.provider = inner.provider
        self.model = inner.model

    def generate_response(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: str = "auto",
        **kwargs: Any,
    ) -> Any:
        if kwargs.get("response_format") != {"type": "json_object"}:  # the extraction alone asks for JSON
            return self._inner.generate_response(messages, tools=tools, tool_choice=tool_choice, **kwargs)
        run = self._run or Extraction()
        run.reading = self._reading(self._prompted(messages, run), run)
        if self._run is None and run.reading.broken:  # Mem0 has no place to tell it in
            problem = run.reading.problem
            if not run.reading.facts:
                raise UnreadableAnswer(self.provider, self.model, problem, run.answer, attempts=run.attempts)
            _log.warning("%s (%s): a part of its answer cannot be used: %s", self.provider, self.model, problem)
        facts = [
            {"id": str(place), "text": fact.text, "attributed_to": fact.attributed_to}
            for place, fact in enumerate(run.reading.facts)
        ]
        # Mem0 takes <think>…</think> out of an answer, and "<" stands in strings alone.
        return json.dumps({"memory": facts}).replace("<", "\\u003c")

    def _prompted(self, messages: Sequence[dict[str, Any]], run: Extraction) -> list[dict[str, Any]]:
        own = [dict(message) for message in messages]
        if self._prompt is not None and own[0].get("role") == "system":
            own[0]["content"] = self._prompt
        if len(run.messages) > 1:
            own[-1]["content"] = numbered(str(own[-1].get("content", "")), run.messages)
        return own

    def _reading(self, messages: Sequence[dict[str, Any]], run: Extraction) -> Reading:
        run.answer = self._inner.generate_response(messages, response_format=dict(RESPONSE_FORMAT))
        first, problem = self._read(run)
        if first is not None and not problem:
            return first
        answer = run.answer
        said = sound_text(run.answer) if isinstance(run.answer, str) and run.answer else "(nothing)"
        repair = [{"role": "assistant", "content": said}, {"role": "user", "content": repair_request(problem)}]
        try:
            run.answer = self._inner.generate_response([*messages, *repair], response_format=dict(RESPONSE_FORMAT))
        except ProviderError as error:
            run.attempts += error.attempts
            second, problem = None, f"{problem}, and asked again the server failed ({error.problem})"
        else:
            run.attempts += 1
            second, problem = self._read(run)
        if first is not None and _says_less(second, first):
            run.answer = answer
            return first
        if second is None:
            raise UnreadableAnswer(self.provider, self.model, problem, run.answer, attempts=run.attempts)
        return second

    def _read(self, run: Extraction) -> tuple[Reading | None, str]:
        """What the answer says, where it can be read, and what is wrong with it."""
        reading: Reading | None = None
        try:
            reading = read(run.answer, len(run.messages), self._longest)
            problem = reading.problem
        except Unreadable as error:
            problem = str(error)
        if problem:
            _log.debug("an answer cannot be used (%s): %s", problem, run.answer)
        return reading, problem


def _says_less(second: Reading | None, first: Reading) -> bool:
    """Whether a repaired answer cannot be used, or has lost facts in place of what was wrong with it."""
    if second is None:
        return True
    return len(second.facts) < len(first.facts) and bool(second.broken or not second.facts)
