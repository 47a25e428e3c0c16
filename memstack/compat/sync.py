"""`Memory`: Mem0's class, call by call, on the gateway."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Any

from memstack.compat import shapes
from memstack.compat.calls import Entity, elsewhere, expiry, owners, read, refuse, settings_of
from memstack.errors import InvalidInput, MemoryNotFound
from memstack.factory import Config, open_memory
from memstack.gateway import MemoryGateway
from memstack.gateway.inputs import Messages, check_flag
from memstack.gateway.sync import Filters
from memstack.gateway.writing import UNSET, Unset
from memstack.ids import canonical_id

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Memory", "NotFound"]


class NotFound(MemoryNotFound, ValueError):
    """No memory has this id, as a `ValueError` too: that is what Mem0 raises."""


@contextmanager
def _as_mem0() -> Iterator[None]:
    try:
        yield
    except MemoryNotFound as error:
        raise NotFound(error.memory_id, error.scope) from None


class Memory:
    """Drop-in for ``mem0.Memory``: the call forms of 1.x and 2.x, and Mem0's dicts as results.

    Where a call leaves the number of results and the least score open, it gets the defaults of the release whose form
    it has: 20 and 0.1 where the owner is a key of `filters` (2.x), else 100 and none (1.x). As in Mem0, messages of
    every role but ``system`` are remembered when nothing is inferred. What Mem0 ignores, drops or lets pass unscoped is
    an error of `memstack.errors` here; each of those that Mem0 raises as a ``ValueError`` is one.

    Args:
        config: whatever `memstack.open_memory` takes: a path, a mapping (in Mem0's form too), a `Settings`, None for
            the embedded default; or a ``mem0.configs.base.MemoryConfig``.

    Raises:
        ConfigError, StoreError, HistoryError: as `memstack.open_memory`. Its `TelemetryActive` is met where mem0 is
            imported for a ``MemoryConfig``: set ``MEM0_TELEMETRY=False`` before.
    """

    def __init__(self, config: Config | object = None) -> None:
        settings = settings_of(config)
        self._infers = settings.llm.provider != "none"
        self._reranks = settings.retrieval.reranker is not None
        self._gateway = open_memory(settings)
        # Mem0's users do not close: what is left behind releases its locks, at the latest when the process ends.
        self._release = weakref.finalize(self, self._gateway.close)

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> Self:
        """A memory from a mapping, in Mem0's form or in memstack's.

        Raises:
            ConfigError, StoreError, HistoryError: as `memstack.open_memory`.
        """
        return cls(config_dict)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(elsewhere(self, name), name=name, obj=self)

    @property
    def gateway(self) -> MemoryGateway:
        """The typed memory below: the same data, with more verbs."""
        return self._gateway

    def add(
        self,
        messages: Messages,
        *,
        user_id: Entity = None,
        agent_id: Entity = None,
        run_id: Entity = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: None = None,
        expiration_date: date | str | None = None,
        infer: bool | None = None,
        memory_type: None = None,
        prompt: str | None = None,
    ) -> shapes.Added:
        """Remember what was said.

        Args:
            messages: a string (said by the user), a message, or a list of them. Calls of tools (`tool_calls`,
                `tool_call_id`) are passed over, and so is a message that makes them and says nothing.
            user_id, agent_id, run_id: who it belongs to; at least one.
            metadata: fields to filter by.
            timestamp: none: of Mem0's platform alone.
            expiration_date: the last day (UTC) on which it is found.
            infer: whether an LLM draws facts out of it. Default: whether one is configured; Mem0's is True.
            memory_type: none: not supported.
            prompt: what the LLM is told beside its prompt, in place of the configuration's `custom_instructions`.

        Returns:
            ``{"results": [{"id": …, "memory": …, "event": "ADD"}]}``.

        Raises:
            ScopeError: nobody is named.
            InvalidInput, NotSupported: something cannot be stored, or an argument has no meaning here.
            LLMNotConfigured: ``infer=True`` without an LLM.
        """
        refuse({"timestamp": timestamp, "memory_type": memory_type})
        owner = owners(user_id, agent_id, run_id)
        inferred = self._infers if infer is None else infer
        if prompt and not inferred:
            raise InvalidInput("prompt", "is for an LLM, and here none is asked", "Leave it out, or pass infer=True.")
        result = self._gateway.add(
            messages,
            **owner,
            metadata=metadata,
            infer=infer,
            instructions=prompt or None,
            expires_at=expiry(expiration_date),
        )
        return shapes.added(result, inferred=inferred)

    def search(
        self,
        query: str,
        *,
        user_id: Entity = None,
        agent_id: Entity = None,
        run_id: Entity = None,
        limit: int | None = None,
        top_k: int | None = None,
        filters: Filters = None,
        threshold: float | None = None,
        rerank: bool = False,
        explain: bool = False,
        show_expired: bool = False,
        reference_date: None = None,
    ) -> shapes.Results:
        """Find the memories that fit a query best.

        Args:
            query: what to look for; empty for the newest memories.
            user_id, agent_id, run_id: whose memories; or named in `filters`. At least one.
            limit, top_k: how many at most; two names of one thing.
            filters: only memories for which it holds, in Mem0's syntax; one meaning on every engine.
            threshold: least score, 0 to 1.
            explain: whether ``score_details`` tell how a memory was found.
            rerank: orders them with the reranker of the configuration, which does so whenever there is one.
            show_expired: whether memories are among them whose last day is over.
            reference_date: none: of Mem0's platform alone.

        Returns:
            ``{"results": [{"id": …, "memory": …, "score": …, …}]}``, best first.

        Raises:
            ScopeError: nobody is named, or the filter tries to leave the scope.
            InvalidInput, NotSupported: an argument has no meaning here.
        """
        refuse({"rerank": check_flag(rerank, "rerank") and not self._reranks, "reference_date": reference_date})
        call = read(owners(user_id, agent_id, run_id), filters, limit, top_k, threshold)
        hits = self._gateway.search(
            query,
            **call.scope,
            filters=call.filters,
            limit=call.limit,
            threshold=call.threshold,
            explain=explain,
            show_expired=show_expired,
        )
        return {"results": [shapes.found(hit) for hit in hits]}

    def get_all(
        self,
        *,
        user_id: Entity = None,
        agent_id: Entity = None,
        run_id: Entity = None,
        filters: Filters = None,
        limit: int | None = None,
        top_k: int | None = None,
        show_expired: bool = False,
    ) -> shapes.Listing:
        """List memories, the newest first.

        Args:
            user_id, agent_id, run_id: whose memories; or named in `filters`. At least one.
            filters: only memories for which it holds.
            limit, top_k: how many at most; two names of one thing.
            show_expired: whether memories are among them whose last day is over.

        Returns:
            ``{"results": [{"id": …, "memory": …, …}]}``.

        Raises:
            ScopeError, InvalidInput, NotSupported: as `search`.
        """
        call = read(owners(user_id, agent_id, run_id), filters, limit, top_k)
        page = self._gateway.get_all(**call.scope, filters=call.filters, limit=call.limit, show_expired=show_expired)
        return {"results": [shapes.listed(memory) for memory in page]}

    def get(self, memory_id: str) -> shapes.MemoryItem | None:
        """A memory by its id; None where there is none.

        Raises:
            InvalidInput: it is no UUID.
        """
        try:
            return shapes.single(self._gateway.get(memory_id))
        except MemoryNotFound:
            return None

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: date | str | Unset | None = UNSET,
        data: str | None = None,
    ) -> shapes.Done:
        """Change a memory.

        Args:
            memory_id: the memory's.
            text: the new text.
            metadata: fields to set; the others stay.
            expiration_date: the last day (UTC) on which it is found; None for no end.
            data: the name of `text` in 1.x.

        Returns:
            ``{"message": "Memory updated successfully!"}``.

        Raises:
            NotFound: no memory has this id; a ``ValueError`` too.
            InvalidInput: nothing to change is given, or something cannot be stored.
        """
        if text is not None and data is not None:
            raise InvalidInput("data", "is given, and so is its newer name `text`", "Pass one of the two.")
        if text is None and data is None and metadata is None and isinstance(expiration_date, Unset):
            raise InvalidInput("update", "nothing to change is given", "Pass text=, metadata= or expiration_date=.")
        with _as_mem0():
            self._gateway.update(
                memory_id,
                text=data if text is None else text,
                metadata=metadata,
                expires_at=expiration_date if isinstance(expiration_date, Unset) else expiry(expiration_date),
            )
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> shapes.Done:
        """Delete a memory; its history stays.

        Returns:
            ``{"message": "Memory deleted successfully!"}``.

        Raises:
            NotFound: no memory has this id; a ``ValueError`` too.
            InvalidInput: it is no UUID.
        """
        with _as_mem0():
            self._gateway.delete(memory_id)
        return {"message": "Memory deleted successfully!"}

    def delete_all(self, user_id: Entity = None, agent_id: Entity = None, run_id: Entity = None) -> shapes.Done:
        """Delete the memories of a scope; their history stays.

        Returns:
            ``{"message": "Memories deleted successfully!"}``.

        Raises:
            ScopeError: nobody is named; `reset` deletes everybody's.
        """
        self._gateway.delete_all(**owners(user_id, agent_id, run_id))
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[shapes.HistoryItem]:
        """The changes of a memory, oldest first, also of one that was deleted; none where there was no such memory.

        Raises:
            InvalidInput: it is no UUID.
        """
        key = canonical_id(memory_id, "memory_id")
        try:
            return shapes.history(key, self._gateway.history(key))
        except MemoryNotFound:
            return []

    def reset(self) -> None:
        """Delete everything of the collection: everybody's memories, and the history."""
        self._gateway.reset()

    def close(self) -> None:
        """Release locks, pools and clients. A second call does nothing."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
