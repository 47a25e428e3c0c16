"""Many messages, stored batch by batch: one that cannot be stored stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from memstack.errors import InvalidInput
from memstack.gateway import conflicts
from memstack.gateway.conflicts import OnConflict
from memstack.gateway.drafts import Draft
from memstack.gateway.halving import refused
from memstack.gateway.items import Item, read_item
from memstack.gateway.parts import Parts
from memstack.records import AddResult, Failed
from memstack.scope import Scope

__all__ = ["add_many"]


def add_many(
    parts: Parts,
    items: Iterable[Item],
    outer: Scope,
    *,
    size: int,
    policy: OnConflict,
    progress: Callable[[int], object] | None,
) -> AddResult:
    """Store items verbatim.

    Args:
        parts: where.
        items: the messages.
        outer: the scope of the call.
        size: how many are embedded and written at a time.
        policy: what becomes of what they contradict.
        progress: told how many are done, after each batch.
    """
    results: list[AddResult] = []
    failed: list[Failed] = []
    batch: list[Draft] = []
    rivals = conflicts.Rivals(parts)
    done = 0

    def flush() -> None:
        for some, error in refused(batch, lambda some: results.append(conflicts.add(parts, some, policy))):
            failed.extend(Failed(draft.index, str(error), error.retryable) for draft in some)
        batch.clear()
        rivals.clear()
        if progress is not None:
            progress(done)

    for index, item in enumerate(items):
        try:
            draft = read_item(item, index, outer, parts.options)
        except InvalidInput as error:
            failed.append(Failed(index, str(error)))
        else:
            if policy in ("raise", "ask"):
                if rivals.have(draft):
                    flush()  # what it contradicts has to be there
                rivals.add(draft)
            batch.append(draft)
        done = index + 1
        if len(batch) >= size:
            flush()
    flush()
    failed.sort(key=lambda outcome: outcome.index)
    return AddResult(
        tuple(memory for result in results for memory in result.stored),
        tuple(item for result in results for item in result.skipped),
        tuple(failed),
        tuple(conflict for result in results for conflict in result.conflicts),
        tuple(change for result in results for change in result.pending),
    )
