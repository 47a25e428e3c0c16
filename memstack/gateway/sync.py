"""The verbs. `AsyncMemoryGateway` runs the same ones in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from memstack.errors import InvalidInput, LLMNotConfigured, MemoryNotFound, ScopeError, describe
from memstack.filters.ast import Compare, Node, all_of
from memstack.filters.parse import parse
from memstack.filters.scoping import split_scope
from memstack.gateway import batches, conflicts, erasing, inference, pending, portability, queries, writing
from memstack.gateway.conflicts import SIMILAR, OnConflict, check_policy
from memstack.gateway.core import Core
from memstack.gateway.cursors import FIRST_PAGE, larger
from memstack.gateway.drafts import Draft, digest_of
from memstack.gateway.files import Target, reading
from memstack.gateway.inputs import (
    Messages,
    check_flag,
    check_instructions,
    check_limit,
    check_memory_text,
    check_order,
    check_progress,
    check_query,
    check_threshold,
    read_messages,
)
from memstack.gateway.items import Item
from memstack.gateway.parts import Parts
from memstack.gateway.shown import check_shown
from memstack.gateway.together import reset
from memstack.gateway.typed import (
    Metadata,
    check_schema,
    read_expiry,
    read_kept,
    read_metadata,
    read_times,
    schema_of,
    stands_alone,
)
from memstack.gateway.writing import UNSET, Unset
from memstack.ids import canonical_id
from memstack.instants import utcnow
from memstack.metadata import check_text, merge
from memstack.payload import memory_from
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
    Message,
    Order,
    Page,
)
from memstack.schemas import MemorySchema, fit
from memstack.scope import Scope

if TYPE_CHECKING:
    from mem0 import Memory as Mem0Memory
    from typing_extensions import Self


__all__ = ["Filters", "MemoryGateway"]

S = TypeVar("S", bound=MemorySchema)
Filters = Node | Mapping[str, Any] | None
_MAX_KEY: Final = 256
_MORE: Final = "iter_all() has no limit"


class MemoryGateway:
    """A memory: typed verbs, each inside a scope, the same on every engine.

    Made by `memstack.open_memory`. Every verb takes the scope as ``user_id=``, ``agent_id=``, ``run_id=``; a handle
    made by `for_user` or `scoped` has it fixed, and can only be narrowed further. Safe to be called from several
    threads. Every verb raises `GatewayClosed` after `close`, and `StoreError`, `HistoryError` or `ProviderError` where
    the engine, the history or a model fails; then nothing of the call was stored.
    """

    def __init__(self, core: Core, bound: Scope | None = None) -> None:
        self._core = core
        self._bound = bound or Scope()

    @classmethod
    def of(cls, parts: Parts) -> MemoryGateway:
        """A gateway over finished parts (what `open_memory` calls last)."""
        return cls(Core(parts))

    def __repr__(self) -> str:
        parts = self._core.parts
        state = "closed " if self._core.closed else ""
        bound = f" for {self._bound}" if self._bound else ""
        return f"<{state}MemoryGateway {parts.store.label}, {parts.embedder.provider}/{parts.embedder.model}{bound}>"

    # -- handles ---------------------------------------------------------------------------------

    def for_user(self, user_id: str) -> MemoryGateway:
        """A handle on one user's memory.

        Raises:
            ScopeError: the id is blank or no string, or this handle is another user's.
        """
        return self.scoped(user_id=user_id)

    def scoped(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> MemoryGateway:
        """A handle whose verbs all work inside this scope; arguments and filters can narrow it, never leave it.

        Raises:
            ScopeError: nobody is named, or this handle is somebody else's.
        """
        return MemoryGateway(self._core, self._bound.narrow(Scope(user_id, agent_id, run_id)).require())

    # -- writing ---------------------------------------------------------------------------------

    def add(
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
        """Remember what was said.

        Args:
            messages: a string (said by the user), a message, or a list of them, as chat clients keep them; see
                `Message`. Calls of tools are passed over, and a message without words beside them is skipped.
            user_id, agent_id, run_id: who it belongs to; at least one.
            metadata: fields to filter by, stored with every memory; see `memstack.metadata.check_metadata`. Or an
                instance of a schema, such as `Preference`.
            infer: True lets the LLM extract facts, False stores the messages of `remember_roles` as they were said,
                one memory each. Default: whether an LLM is configured, for ``on_conflict="keep"`` and metadata
                that is no schema's.
            instructions: what the LLM is told beside the prompt, in place of the `custom_instructions` of the
                configuration.
            expires_at: from when on the memories are hidden.
            valid_from: since when they hold, for what was learnt late; None is since it was said.
            idempotency_key: a repeated call with the same key and content stores nothing new.
            on_conflict: what becomes of stored memories that a new one contradicts (see `conflicts`). ``keep`` leaves
                them, and reports those that are certain. ``supersede`` puts the new one in their place, where that is
                certain or the LLM says so; possible ones are reported. ``raise`` and ``ask`` take the possible ones
                seriously, too: ``raise`` stores nothing, ``ask`` lets the message wait for `confirm` or `dismiss`.
                These two need ``infer=False``, and all but ``keep`` have it by default.

        Returns:
            What became of every message.

        Raises:
            InvalidInput: something cannot be stored; nothing was.
            ScopeError: nobody is named.
            LLMNotConfigured: ``infer=True`` without an LLM.
            IdempotencyMismatch: the key was used for other content.
            ConflictFound: with ``on_conflict="raise"``.
        """
        parts = self._parts()
        scope = self._scope(user_id, agent_id, run_id).require()
        policy = check_policy(on_conflict)
        wanted = None if infer is None else check_flag(infer, "infer")
        told = check_instructions(instructions, parts.options.max_text)
        said = read_messages(messages, parts.options.max_text)
        checked = read_metadata(metadata, parts.options)
        drafts: list[Draft] = []
        for i, one in enumerate(said):
            message, expiry, since = read_times(metadata, one, expires_at, valid_from)
            drafts.append(Draft(i, message, scope, checked, expiry, since, schema=schema_of(metadata)))
        key = self._key(scope, idempotency_key, drafts)
        if wanted is None:
            wanted = parts.llm is not None and policy == "keep" and not isinstance(metadata, MemorySchema)
        if wanted:
            if parts.llm is None:
                raise LLMNotConfigured
            if policy in ("raise", "ask"):
                raise InvalidInput(
                    "on_conflict", f"is {policy!r}, and facts are known only once they are stored", "Pass infer=False."
                )
            result = inference.add(parts, self._core.composed, drafts, key=key, instructions=told)
            return conflicts.after_inference(parts, result, policy)
        if told is not None:
            raise InvalidInput(
                "instructions", "is for an LLM, and here none is asked", "Leave it out, or pass infer=True."
            )
        return conflicts.add(parts, drafts, policy, key=key)

    def add_many(
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
        """Store many messages verbatim, in batches.

        Args:
            items: messages as for `add`; a mapping may also have ``metadata``, ``expires_at``, ``valid_from``, and
                ``user_id``, ``agent_id``, ``run_id`` of its own, which narrow the scope of the call.
            user_id, agent_id, run_id: the scope of the call; may be left to the items.
            batch_size: how many are embedded and written at a time, 1 to 10 000. Each batch is stored whole or not
                at all; one with a text that is too long for the embedder is halved, until that text stands alone.
            on_conflict: as in `add`. With ``raise``, a batch in which something is contradicted is in `failed`.
            progress: called after each batch with the number of items done so far.

        Returns:
            What became of every item, by its place. An item that cannot be stored is in `failed` and stops no other;
            so are the items of a batch that the embedder or the engine refused.

        Raises:
            InvalidInput: `batch_size` is no such number, `items` is not iterable, or `progress` is no plain function.
        """
        parts = self._parts()
        outer = self._scope(user_id, agent_id, run_id)
        size = check_limit(batch_size, "batch_size")
        policy = check_policy(on_conflict)
        progress = check_progress(progress)
        if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
            problem = f"is {describe(items)}, not a list of messages"
            raise InvalidInput("items", problem, "Pass a list, or use add() for one.")
        return batches.add_many(parts, items, outer, size=size, policy=policy, progress=progress)

    def conflicts(
        self,
        text: str,
        *,
        metadata: Metadata | None = None,
        threshold: float = SIMILAR,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> list[Conflict]:
        """What a new statement would contradict. Nothing is stored.

        Args:
            text: the statement.
            metadata: its metadata. Where its schema declares a slot, memories of the same slot with another value
                contradict it for certain. Otherwise those of the same category (of any, where it has none) that are
                similar enough possibly do; where an LLM is configured, it judges the most similar ones.
            threshold: least score of a possible contradiction that nobody judged, 0 to 1.
            user_id, agent_id, run_id: whose memories; at least one.

        Returns:
            The visible memories that are contradicted, with the reason; most similar first.

        Raises:
            InvalidInput: an argument has no meaning.
            ScopeError: nobody is named.
        """
        parts = self._parts()
        scope = self._scope(user_id, agent_id, run_id).require()
        check_memory_text(text, parts.options.max_text)
        message, expiry, since = read_times(metadata, Message("user", text), None, None)
        checked = read_metadata(metadata, parts.options)
        draft = Draft(0, message, scope, checked, expiry, since, schema=schema_of(metadata))
        return conflicts.find(parts, draft, threshold=check_threshold(threshold) or 0.0)

    def supersede(
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
        """Put a new memory in the place of one that no longer holds. The old one is kept, with the end of its time.

        Args:
            id: the old memory's. Where another has taken its place since, that one is superseded.
            text: what holds now.
            metadata: fields that change; the others are the old memory's. Or an instance of a schema, which stands
                alone, and has times of its own. None keeps them all, unless the schema's say what held.
            reason: why, for the history.
            valid_from: since when the new one holds; None is now, or the ``occurred_at`` of the metadata.
            user_id, agent_id, run_id: where given, only a memory of this scope.

        Returns:
            The new memory; the one that holds already, where that is equal.

        Raises:
            MemoryNotFound: there is none with this id in the scope.
            InvalidInput: something cannot be stored, or the metadata would still say what held before.
        """
        parts = self._parts()
        scope = self._scope(user_id, agent_id, run_id)
        check_memory_text(text, parts.options.max_text)
        if reason is not None:
            check_memory_text(reason, parts.options.max_text, "reason")
        new = None if metadata is None else read_metadata(metadata, parts.options, keep_none=True)
        instance = isinstance(metadata, MemorySchema)
        message, expiry, since = read_times(metadata, Message("user", text), None, valid_from)

        def merged(old: Memory) -> Mapping[str, Any]:
            if new is None:
                return conflicts.unchanged(parts, old)
            return read_metadata(merge({} if instance else old.metadata, new), parts.options)

        return writing.supersede(
            parts,
            canonical_id(id),
            scope,
            message=message,
            metadata=merged,
            schema=schema_of(metadata),
            reason=reason,
            expires_at=expiry,
            valid_from=since,
        )

    def confirm(
        self,
        token: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> AddResult:
        """Store a change that waited, in the place of what it contradicts.

        Args:
            token: of the `PendingChange` that ``add(…, on_conflict="ask")`` returned.
            user_id, agent_id, run_id: where given, only a change of this scope.

        Returns:
            The new memory, in `stored`. What is of a role that is no longer remembered is in `skipped`, and waits on.

        Raises:
            PendingNotFound: nothing waits under this token in the scope: it was answered, or has expired.
            InvalidInput: the token is no text.
        """
        return pending.confirm(self._parts(), token, self._scope(user_id, agent_id, run_id))

    def dismiss(
        self,
        token: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Forget a change that waited; nothing is stored.

        Args:
            token: as for `confirm`.
            user_id, agent_id, run_id: where given, only a change of this scope.

        Raises:
            PendingNotFound, InvalidInput: as for `confirm`.
        """
        pending.dismiss(self._parts(), token, self._scope(user_id, agent_id, run_id))

    def update(
        self,
        id: str,  # noqa: A002  # the field's name
        *,
        text: str | None = None,
        metadata: Metadata | None = None,
        expires_at: datetime | date | str | Unset | None = UNSET,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> Memory:
        """Change a memory.

        Args:
            id: the memory's.
            text: the new text; it is embedded anew.
            metadata: fields to set; a field that is None is removed, the others stay. Or an instance of a schema: what
                its class does not allow beside its fields does not stay. Its ``expires_at`` is the memory's, where it
                is set; its ``occurred_at`` and ``valid_from`` can only be those that the memory has.
            expires_at: from when on it is hidden; None is never.
            user_id, agent_id, run_id: where given, only a memory of this scope.

        Returns:
            The memory as it is now.

        Raises:
            MemoryNotFound: there is none with this id in the scope.
            InvalidInput: nothing to change is given, or something cannot be stored.
        """
        parts = self._parts()
        scope = self._scope(user_id, agent_id, run_id)
        key = canonical_id(id)
        if text is None and metadata is None and isinstance(expires_at, Unset):
            raise InvalidInput("update", "nothing to change is given", "Pass text=, metadata= or expires_at=.")
        if text is not None:
            check_memory_text(text, parts.options.max_text)
        return writing.update(
            parts,
            key,
            scope,
            text=text,
            metadata=None if metadata is None else read_metadata(metadata, parts.options, keep_none=True),
            alone=stands_alone(metadata),
            expires_at=read_expiry(metadata, expires_at),
            kept=read_kept(metadata),
        )

    def delete(
        self,
        id: str,  # noqa: A002
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Delete a memory; its history stays.

        Args:
            id: the memory's.
            user_id, agent_id, run_id: where given, only a memory of this scope.

        Raises:
            MemoryNotFound: there is none with this id in the scope.
        """
        scope = self._scope(user_id, agent_id, run_id)
        writing.delete(self._parts(), canonical_id(id), scope)

    def delete_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Filters = None,
    ) -> int:
        """Delete the memories of a scope, expired ones too; their history stays.

        Args:
            user_id, agent_id, run_id: whose; at least one.
            filters: only those for which it holds.

        Returns:
            How many there were.

        Raises:
            ScopeError: nobody is named.
            FilterError: the filter has no meaning.
        """
        parts = self._parts()
        scope, rest = self._split(user_id, agent_id, run_id, filters)
        return writing.delete_rows(parts, scope.require(), rest)

    def erase(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        compact: bool = True,
    ) -> ErasureReceipt:
        """Erase everything of a scope, and look whether anything is left.

        Memories, superseded and expired ones too, what waits, history, idempotency keys, Mem0's messages and entities
        are deleted. Then the files that keep deleted bytes are rewritten, and searched for what was erased.

        This cannot be undone, and no history tells of it. `delete_all` is the soft one.

        Args:
            user_id, agent_id, run_id: whose; at least one.
            compact: rewrite the files. It takes as long as copying all that is stored, of everybody. Meanwhile calls
                wait on the embedded engines, and for a table of PostgreSQL. False leaves that to another call of
                `erase`: after erasing several scopes, say, or at night.

        Returns:
            A receipt without content. `ErasureReceipt.complete` tells whether nothing is left and nothing is to do.

        Raises:
            ScopeError: nobody is named.
        """
        scope = self._scope(user_id, agent_id, run_id).require()
        return erasing.erase(self._parts(), scope, compact=check_flag(compact, "compact"))

    def export(
        self,
        target: Target,
        *,
        vectors: bool = False,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> ExportReport:
        """Write memories with their history to a file, as lines of JSON, from which `import_` restores them.

        Everything is kept: ids, times, metadata and its types, what superseded what, and the history of what was
        deleted. What waits for an answer and idempotency keys are not part of it.

        Args:
            target: a path (written whole or not at all), or a text stream.
            vectors: write the vectors, too: an import into the same embedder then embeds nothing.
            user_id, agent_id, run_id: whose; everybody's, where none is given and this is no handle.

        Raises:
            InvalidInput: the target cannot be written to.
        """
        parts = self._parts()
        scope = self._scope(user_id, agent_id, run_id)
        return portability.export(parts, scope, target, vectors=check_flag(vectors, "vectors"))

    def import_(
        self,
        source: Target,
        *,
        dry_run: bool = False,
        progress: Callable[[int], object] | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> ImportReport:
        """Restore what `export` wrote, here or from another engine.

        Memories that are here already are left alone, so an import that was interrupted goes on when it is called
        again. Memories whose vectors are of another embedder, or were not written, are embedded.
        The history comes with them; of one that had been deleted here it says that it is there again.

        A memory that was damaged, or has an id that is here with other content, is in `failed`, and stops no other. The
        checksum stands at the end of the file: to know that all of it is as it was written before any of it is
        stored, call it with `dry_run` first.

        Args:
            source: a path, or a text stream.
            dry_run: read and check all of it, store nothing.
            progress: called after every batch with the number of memories done so far.
            user_id, agent_id, run_id: refuse memories of another scope.

        Returns:
            What was done; `ImportReport.complete` tells whether the file was whole.

        Raises:
            InvalidInput: the source cannot be read, or is no export.
        """
        parts = self._parts()
        scope = self._scope(user_id, agent_id, run_id)
        dry_run, progress = check_flag(dry_run, "dry_run"), check_progress(progress)
        with reading(source) as lines:
            return portability.import_lines(parts, lines, scope, progress=progress, dry_run=dry_run)

    def purge_expired(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> int:
        """Delete the memories that have expired; of everybody, where no scope is given.

        Returns:
            How many there were.
        """
        scope = self._scope(user_id, agent_id, run_id)
        return writing.delete_rows(self._parts(), scope, Compare("expires_at", "lte", utcnow()))

    # -- reading ---------------------------------------------------------------------------------

    @overload
    def search(
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
    def search(
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

    def search(
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
        """Find the memories that fit a query best.

        Args:
            query: what to look for; empty for the newest memories.
            user_id, agent_id, run_id: whose memories; at least one (or named in the filter).
            filters: only memories for which it holds, as a mapping in Mem0's syntax or made with `F`.
            schema: only memories of its category, their metadata as instances of it: ``schema=Preference`` gives
                ``Hits[Preference]``. What does not fit takes no place among the hits: it is in ``.misfits``, raw.
            as_of: what held at this instant, superseded memories among them. A memory holds from `valid_from` (else
                `occurred_at`) until `valid_to`. None is what is remembered now: that, and what has no `valid_from`
                and is said to occur later.
            show_expired: memories that have expired, too.
            show_superseded: memories that were superseded, and those that hold only later, too; not beside `as_of`.
            limit: how many at most, 1 to 10 000.
            threshold: least score, 0 to 1.
            explain: whether hits tell how they were found.

        Returns:
            Hits, best first; ties by ``created_at``, then id.

        Raises:
            InvalidInput: an argument has no meaning.
            ScopeError: nobody is named, or the filter tries to leave the scope.
            FilterError: the filter has no meaning.
        """
        parts = self._parts()
        scope, rest = self._split(user_id, agent_id, run_id, filters)
        scope.require()
        words = check_query(query, parts.options.max_text)
        limit = check_limit(limit, more=_MORE)
        least = check_threshold(threshold)
        return queries.search(
            parts,
            words,
            scope,
            rest,
            schema=None if schema is None else check_schema(schema),
            shown=check_shown(as_of, expired=show_expired, superseded=show_superseded),
            limit=limit,
            threshold=least,
            explain=check_flag(explain, "explain"),
        )

    @overload
    def get_all(
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
    def get_all(
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

    def get_all(
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
        """List memories, page by page, in a stable order.

        Args:
            user_id, agent_id, run_id: whose memories; at least one (or named in the filter).
            filters: only memories for which it holds.
            schema: only memories of its category, their metadata as instances of it; those that do not fit are in
                the page's `misfits`, raw.
            as_of, show_expired, show_superseded: as in `search`.
            limit: how many a page, 1 to 10 000.
            cursor: `next_cursor` of the page before.
            order: ``created_at``, ``updated_at`` or ``occurred_at``, with a leading ``-`` for the newest first; ties
                by id, ascending in both directions.

        Returns:
            A page.

        Raises:
            CursorError: the cursor is not of this listing.
            InvalidInput, ScopeError, FilterError: as in `search`.
        """
        parts = self._parts()
        scope, rest = self._split(user_id, agent_id, run_id, filters)
        return queries.page(
            parts,
            scope.require(),
            rest,
            schema=None if schema is None else check_schema(schema),
            shown=check_shown(as_of, expired=show_expired, superseded=show_superseded),
            order=check_order(order),
            limit=check_limit(limit, more=_MORE),
            cursor=cursor,
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
    ) -> Iterator[Memory]: ...

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
    ) -> Iterator[Memory[S] | Memory]: ...

    def iter_all(
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
    ) -> Iterator[Memory[S] | Memory]:
        """All memories of a listing, one after the other; fetched in pages. Arguments as for `get_all`.

        With a schema, those that do not fit it are among them, in their place: raw, with the reason in `schema_error`.
        """
        scope, rest = self._split(user_id, agent_id, run_id, filters)
        handle = MemoryGateway(self._core, scope.require())
        where = rest if schema is None else all_of(check_schema(schema).where(), rest)
        listed = partial(
            handle.get_all,
            filters=where,
            as_of=as_of,
            show_expired=show_expired,
            show_superseded=show_superseded,
            limit=FIRST_PAGE,
            order=order,
        )
        page = listed()

        def pages() -> Iterator[Memory[S] | Memory]:
            current, size = page, FIRST_PAGE
            while True:
                yield from current if schema is None else (fit(memory, schema) for memory in current)
                if current.next_cursor is None:
                    return
                size = larger(size)
                current = listed(cursor=current.next_cursor, limit=size)

        return pages()

    def get(
        self,
        id: str,  # noqa: A002
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> Memory:
        """A memory by its id, expired or not.

        Args:
            id: the memory's.
            user_id, agent_id, run_id: where given, only a memory of this scope.

        Raises:
            MemoryNotFound: there is none with this id in the scope.
        """
        parts = self._parts()
        scope = self._scope(user_id, agent_id, run_id)
        key = canonical_id(id)
        for row in parts.store.fetch([key]):
            memory = memory_from(row.id, row.payload)
            if scope.covers(memory.scope):
                return memory
        raise MemoryNotFound(key, str(scope))

    def history(
        self,
        id: str,  # noqa: A002
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> list[Change]:
        """The changes of a memory, oldest first; also of one that was deleted.

        Where it was superseded, or superseded another, the changes of all memories of that chain are among them.

        Args:
            id: the memory's.
            user_id, agent_id, run_id: where given, only a memory of this scope.

        Returns:
            The entries of the log; none for a memory that is there while its log is lost, or is kept nowhere.

        Raises:
            MemoryNotFound: no memory of this scope ever had this id.
        """
        scope = self._scope(user_id, agent_id, run_id)
        key = canonical_id(id)
        changes = self._parts().history.chain(key)
        if not changes:
            self.get(key, user_id=user_id, agent_id=agent_id, run_id=run_id)  # a memory of which nothing is logged
        elif not any(change.memory_id == key and scope.covers(change.scope) for change in changes):
            raise MemoryNotFound(key, str(scope))
        return [change for change in changes if scope.covers(change.scope)]

    # -- the whole -------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Figures for a person: engine, rows, embedder, model, history."""
        parts = self._unbound("stats")
        return {
            "vector_store": parts.store.stats(),
            "embedder": parts.embedder.stats(),
            "llm": {"provider": "none"} if parts.llm is None else parts.llm.stats(),
            "history": parts.history.stats(),
        }

    def reset(self) -> None:
        """Delete everything of the collection: every scope's memories, Mem0's entities, and the history.

        It is one step: what others write meanwhile is there whole or gone whole, from the store and from the history.
        Once begun it is done: where it fails half-way, or the process dies, whoever opens the memory or writes to it
        next does the rest, before anything else.

        Raises:
            StoreError, HistoryError: the memory cannot be written, and nothing was done; or not all of it.
            ScopeError: this is a handle: a reset reaches beyond its scope.
        """
        reset(self._unbound("reset"))

    @property
    def mem0(self) -> Mem0Memory:
        """The composed ``mem0.Memory``: code written for Mem0 2.x works on it and sees the same data.

        Importing Mem0 takes seconds; it happens here, at the first use.

        Raises:
            TelemetryActive: Mem0 was imported before, with its telemetry on.
            ScopeError: this is a handle: Mem0's own methods are not bound to its scope.
        """
        self._unbound("mem0")
        return self._core.composed()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened the memory: no verb works in it."""
        return self._core.forked

    def close(self) -> None:
        """Release locks, pools and clients; for all handles. A second call does nothing."""
        self._core.close()

    def __enter__(self) -> Self:
        self._parts()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- inside ----------------------------------------------------------------------------------

    def _parts(self) -> Parts:
        return self._core.usable()

    def _unbound(self, what: str) -> Parts:
        if self._bound:
            raise ScopeError("scope", f"{what} reaches beyond this handle's scope", "Call it on the gateway itself.")
        return self._parts()

    def _scope(self, user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope:
        return self._bound.narrow(Scope(user_id, agent_id, run_id))

    def _split(
        self, user_id: str | None, agent_id: str | None, run_id: str | None, filters: Filters
    ) -> tuple[Scope, Node]:
        named, rest = split_scope(parse(filters))
        return self._scope(user_id, agent_id, run_id).narrow(named), rest

    def _reads_rows(self, filters: Filters) -> bool:
        """Whether a part of a filter is evaluated here, row by row.

        Raises:
            FilterError: it has no meaning.
        """
        return self._parts().store.plan(parse(filters)).residual is not None

    def _key(self, scope: Scope, key: object, drafts: list[Draft]) -> tuple[Scope, str, str] | None:
        if key is None:
            return None
        if not isinstance(key, str) or not key.strip() or len(key) > _MAX_KEY:
            problem = "is blank" if isinstance(key, str) and key.isspace() else f"is {describe(key)}"
            raise InvalidInput("idempotency_key", problem, f"Pass a string of 1 to {_MAX_KEY} characters.")
        return scope, check_text("idempotency_key", key, InvalidInput), digest_of(drafts)
