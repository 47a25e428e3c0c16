"""`AsyncMemory`: the same class, awaited. The logic is `Memory`'s alone: each call runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from memstack.compat.calls import Entity, elsewhere
from memstack.compat.shapes import Added, Done, HistoryItem, Listing, MemoryItem, Results
from memstack.compat.sync import Memory
from memstack.factory import Config
from memstack.gateway import MemoryGateway
from memstack.gateway.inputs import Messages
from memstack.gateway.sync import Filters
from memstack.gateway.writing import UNSET, Unset

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncMemory"]


class AsyncMemory:
    """Drop-in for ``mem0.AsyncMemory``; arguments, results and errors are those of `Memory`.

    As in Mem0, it is made (and its store opened) without being awaited.
    """

    def __init__(self, config: Config | object = None) -> None:
        self._memory = Memory(config)

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> Self:
        """A memory from a mapping, in Mem0's form or in memstack's."""
        return cls(config_dict)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(elsewhere(self, name), name=name, obj=self)

    @property
    def gateway(self) -> MemoryGateway:
        """The typed memory below (its verbs block)."""
        return self._memory.gateway

    async def add(
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
    ) -> Added:
        """Remember what was said."""
        return await asyncio.to_thread(
            self._memory.add,
            messages,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            metadata=metadata,
            timestamp=timestamp,
            expiration_date=expiration_date,
            infer=infer,
            memory_type=memory_type,
            prompt=prompt,
        )

    async def search(
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
    ) -> Results:
        """Find the memories that fit a query best."""
        return await asyncio.to_thread(
            self._memory.search,
            query,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            limit=limit,
            top_k=top_k,
            filters=filters,
            threshold=threshold,
            rerank=rerank,
            explain=explain,
            show_expired=show_expired,
            reference_date=reference_date,
        )

    async def get_all(
        self,
        *,
        user_id: Entity = None,
        agent_id: Entity = None,
        run_id: Entity = None,
        filters: Filters = None,
        limit: int | None = None,
        top_k: int | None = None,
        show_expired: bool = False,
    ) -> Listing:
        """List memories, the newest first."""
        listed = partial(self._memory.get_all, user_id=user_id, agent_id=agent_id, run_id=run_id, filters=filters)
        return await asyncio.to_thread(listed, limit=limit, top_k=top_k, show_expired=show_expired)

    async def get(self, memory_id: str) -> MemoryItem | None:
        """A memory by its id; None where there is none."""
        return await asyncio.to_thread(self._memory.get, memory_id)

    async def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: date | str | Unset | None = UNSET,
        data: str | None = None,
    ) -> Done:
        """Change a memory."""
        return await asyncio.to_thread(self._memory.update, memory_id, text, metadata, expiration_date, data)

    async def delete(self, memory_id: str) -> Done:
        """Delete a memory; its history stays."""
        return await asyncio.to_thread(self._memory.delete, memory_id)

    async def delete_all(self, user_id: Entity = None, agent_id: Entity = None, run_id: Entity = None) -> Done:
        """Delete the memories of a scope; their history stays."""
        return await asyncio.to_thread(self._memory.delete_all, user_id, agent_id, run_id)

    async def history(self, memory_id: str) -> list[HistoryItem]:
        """The changes of a memory, oldest first."""
        return await asyncio.to_thread(self._memory.history, memory_id)

    async def reset(self) -> None:
        """Delete everything of the collection."""
        await asyncio.to_thread(self._memory.reset)

    def close(self) -> None:
        """Release locks, pools and clients; not awaited, as in Mem0."""
        self._memory.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._memory.close)
