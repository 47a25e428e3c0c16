"""The same verbs, awaited. The logic is `MemoryGateway`'s alone: each verb runs in a thread of this gateway's pool.

Servers, model clients and Chroma leave the interpreter lock to others while they work, so threads are enough. On the
embedded default a search hardly ever leaves it: there, searches take turns in a thread of their own, but for those
that read row after row.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from memstack.errors import GatewayClosed
from memstack.filters.ast import all_of
from memstack.filters.parse import parse
from memstack.gateway.conflicts import SIMILAR, OnConflict
from memstack.gateway.cursors import FIRST_PAGE, larger
from memstack.gateway.files import Target
from memstack.gateway.inputs import Messages
from memstack.gateway.items import Item
from memstack.gateway.sync import Filters, MemoryGateway
from memstack.gateway.typed import Metadata, check_schema
from memstack.gateway.writing import UNSET, Unset
from memstack.records import (
    AddResult,
    Change,
    Conflict,
    ErasureReceipt,
    ExportReport,
    Hit,
    Hits,
    ImportReport,
    Memory,
    Order,
    Page,
)
from memstack.schemas import MemorySchema, fit

if TYPE_CHECKING:
    from mem0 import Memory as Mem0Memory
    from typing_extensions import Self

__all__ = ["AsyncMemoryGateway"]

T = TypeVar("T")
S = TypeVar("S", bound=MemorySchema)


class AsyncMemoryGateway:
    """A memory with awaited verbs. Each does just what the one of `MemoryGateway` does; see there.

    Made by `memstack.open_async_memory`. A verb whose task is cancelled goes on in its thread: what it writes is
    written whole.
    """

    def __init__(
        self,
        gateway: MemoryGateway,
        pool: ThreadPoolExecutor | None = None,
        searching: ThreadPoolExecutor | None = None,
    ) -> None:
        self._gateway = gateway
        self._pool = pool or ThreadPoolExecutor(thread_name_prefix="memstack")
        alone = gateway._core.one_search_at_a_time  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # one class, in two
        self._searching = searching or (ThreadPoolExecutor(1, "memstack-search") if alone else self._pool)

    def __repr__(self) -> str:
        return repr(self._gateway).replace("MemoryGateway", "AsyncMemoryGateway", 1)

    async def _run(self, verb: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self._run_in(self._pool, verb, *args, **kwargs)

    async def _run_in(self, pool: ThreadPoolExecutor, verb: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self._gateway.closed or self._gateway.forked:
            raise GatewayClosed(forked=self._gateway.forked)
        context = contextvars.copy_context()
        call: Callable[[], T] = partial(context.run, partial(verb, *args, **kwargs))
        try:
            running = pool.submit(call)
        except RuntimeError as error:  # the pool is shut down first when the gateway is closed
            raise GatewayClosed from error
        return await asyncio.wrap_future(running)

    def for_user(self, user_id: str) -> AsyncMemoryGateway:
        """A handle on one user's memory."""
        return AsyncMemoryGateway(self._gateway.for_user(user_id), self._pool, self._searching)

    def scoped(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> AsyncMemoryGateway:
        """A handle whose verbs all work inside this scope."""
        handle = self._gateway.scoped(user_id=user_id, agent_id=agent_id, run_id=run_id)
        return AsyncMemoryGateway(handle, self._pool, self._searching)

    async def add(
        self,
        messages: Messages,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Metadata | None = None,
        infer: bool | None = None,
        instructions: str | None = None,
        expires_at: datetime | date | str | None = None,
        valid_from: datetime | date | str | None = None,
        idempotency_key: str | None = None,
        on_conflict: OnConflict = "keep",
    ) -> AddResult:
        """Remember what was said."""
        return await self._run(
            self._gateway.add,
            messages,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            metadata=metadata,
            infer=infer,
            instructions=instructions,
            expires_at=expires_at,
            valid_from=valid_from,
            idempotency_key=idempotency_key,
            on_conflict=on_conflict,
        )

    async def add_many(
        self,
        items: Iterable[Item],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        batch_size: int = 256,
        on_conflict: OnConflict = "keep",
        progress: Callable[[int], object] | None = None,
    ) -> AddResult:
        """Store many messages verbatim, in batches; `items` is consumed and `progress` called in a thread."""
        return await self._run(
            self._gateway.add_many,
            items,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            batch_size=batch_size,
            on_conflict=on_conflict,
            progress=progress,
        )

    async def conflicts(
        self,
        text: str,
        *,
        metadata: Metadata | None = None,
        threshold: float = SIMILAR,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> list[Conflict]:
        """What a new statement would contradict."""
        return await self._run(
            self._gateway.conflicts,
            text,
            metadata=metadata,
            threshold=threshold,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
        )

    async def supersede(
        self,
        id: str,  # noqa: A002
        text: str,
        *,
        metadata: Metadata | None = None,
        reason: str | None = None,
        valid_from: datetime | date | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> Memory:
        """Put a new memory in the place of one that no longer holds."""
        return await self._run(
            self._gateway.supersede,
            id,
            text,
            metadata=metadata,
            reason=reason,
            valid_from=valid_from,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
        )

    async def confirm(
        self,
        token: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> AddResult:
        """Store a change that waited, in the place of what it contradicts."""
        return await self._run(self._gateway.confirm, token, user_id=user_id, agent_id=agent_id, run_id=run_id)

    async def dismiss(
        self,
        token: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Forget a change that waited."""
        await self._run(self._gateway.dismiss, token, user_id=user_id, agent_id=agent_id, run_id=run_id)

    async def update(
        self,
        id: str,  # noqa: A002
        *,
        text: str | None = None,
        metadata: Metadata | None = None,
        expires_at: datetime | date | str | Unset | None = UNSET,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> Memory:
        """Change a memory."""
        return await self._run(
            self._gateway.update,
            id,
            text=text,
            metadata=metadata,
            expires_at=expires_at,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
        )

    async def delete(
        self,
        id: str,  # noqa: A002
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Delete a memory; its history stays."""
        await self._run(self._gateway.delete, id, user_id=user_id, agent_id=agent_id, run_id=run_id)

    async def delete_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
    ) -> int:
        """Delete the memories of a scope; their history stays."""
        return await self._run(
            self._gateway.delete_all, user_id=user_id, agent_id=agent_id, run_id=run_id, filters=filters
        )

    async def erase(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        compact: bool = True,
    ) -> ErasureReceipt:
        """Erase everything of a scope, and look whether anything is left."""
        return await self._run(self._gateway.erase, user_id=user_id, agent_id=agent_id, run_id=run_id, compact=compact)

    async def export(
        self,
        target: Target,
        *,
        vectors: bool = False,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> ExportReport:
        """Write memories with their history to a file."""
        return await self._run(
            self._gateway.export, target, vectors=vectors, user_id=user_id, agent_id=agent_id, run_id=run_id
        )

    async def import_(
        self,
        source: Target,
        *,
        dry_run: bool = False,
        progress: Callable[[int], object] | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> ImportReport:
        """Restore what `export` wrote; `progress` is called in a thread."""
        return await self._run(
            self._gateway.import_,
            source,
            dry_run=dry_run,
            progress=progress,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
        )

    async def purge_expired(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> int:
        """Delete the memories that have expired."""
        return await self._run(self._gateway.purge_expired, user_id=user_id, agent_id=agent_id, run_id=run_id)

    @overload
    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: None = None,
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        limit: int = 10,
        threshold: float | None = None,
        explain: bool = False,
    ) -> list[Hit]: ...

    @overload
    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: type[S],
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        limit: int = 10,
        threshold: float | None = None,
        explain: bool = False,
    ) -> Hits[S]: ...

    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: type[S] | None = None,
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        limit: int = 10,
        threshold: float | None = None,
        explain: bool = False,
    ) -> list[Hit] | Hits[S]:
        """Find the memories that fit a query best."""
        verb: Callable[..., Any] = self._gateway.search
        pool = self._searching
        reads_rows = self._gateway._reads_rows  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # one class, in two
        if filters is not None and pool is not self._pool and await self._run_in(pool, reads_rows, filters):
            pool = self._pool  # it may take seconds, and the others would wait behind it
        return await self._run_in(
            pool,
            verb,
            query,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            filters=filters,
            schema=schema,
            as_of=as_of,
            show_expired=show_expired,
            show_superseded=show_superseded,
            limit=limit,
            threshold=threshold,
            explain=explain,
        )

    @overload
    async def get_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: None = None,
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        order: Order = "-created_at",
    ) -> Page: ...

    @overload
    async def get_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: type[S],
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        order: Order = "-created_at",
    ) -> Page[S]: ...

    async def get_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: type[S] | None = None,
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        order: Order = "-created_at",
    ) -> Page | Page[S]:
        """List memories, page by page, in a stable order."""
        verb: Callable[..., Any] = self._gateway.get_all
        return await self._run(
            verb,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            filters=filters,
            schema=schema,
            as_of=as_of,
            show_expired=show_expired,
            show_superseded=show_superseded,
            limit=limit,
            cursor=cursor,
            order=order,
        )

    @overload
    def iter_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: None = None,
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        order: Order = "-created_at",
    ) -> AsyncIterator[Memory]: ...

    @overload
    def iter_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: type[S],
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        order: Order = "-created_at",
    ) -> AsyncIterator[Memory[S] | Memory]: ...

    async def iter_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
        schema: type[S] | None = None,
        as_of: datetime | date | str | None = None,
        show_expired: bool = False,
        show_superseded: bool = False,
        order: Order = "-created_at",
    ) -> AsyncIterator[Memory[S] | Memory]:
        """All memories of a listing, one after the other; fetched in pages."""
        cursor: str | None = None
        size = FIRST_PAGE
        where = filters if schema is None else all_of(check_schema(schema).where(), parse(filters))
        while True:
            page = await self.get_all(
                user_id=user_id,
                agent_id=agent_id,
                run_id=run_id,
                filters=where,
                as_of=as_of,
                show_expired=show_expired,
                show_superseded=show_superseded,
                limit=size,
                cursor=cursor,
                order=order,
            )
            for memory in page:
                yield memory if schema is None else fit(memory, schema)
            cursor = page.next_cursor
            if cursor is None:
                return
            size = larger(size)

    async def get(
        self,
        id: str,  # noqa: A002
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> Memory:
        """A memory by its id."""
        return await self._run(self._gateway.get, id, user_id=user_id, agent_id=agent_id, run_id=run_id)

    async def history(
        self,
        id: str,  # noqa: A002
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> list[Change]:
        """The changes of a memory, oldest first."""
        return await self._run(self._gateway.history, id, user_id=user_id, agent_id=agent_id, run_id=run_id)

    async def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        return await self._run(self._gateway.stats)

    async def reset(self) -> None:
        """Delete everything of the collection."""
        await self._run(self._gateway.reset)

    @property
    def mem0(self) -> Mem0Memory:
        """The composed ``mem0.Memory`` (its methods block)."""
        return self._gateway.mem0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._gateway.closed

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened the memory: no verb works in it."""
        return self._gateway.forked

    async def close(self) -> None:
        """Release locks, pools and clients, once the verbs under way are done; for all handles.

        A task that is cancelled does not wait for that, and it is done all the same.
        """
        closing = asyncio.get_running_loop().run_in_executor(None, self._close)
        await asyncio.shield(closing)

    def _close(self) -> None:
        try:
            if not self._gateway.forked:  # else the threads are the parent's
                for pool in (self._searching, self._pool):
                    pool.shutdown()
        finally:
            self._gateway.close()

    async def __aenter__(self) -> Self:
        if self._gateway.closed:
            raise GatewayClosed
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
