"""What a gateway and all its handles share, from the first call to the close."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from memstack.errors import GatewayClosed
from memstack.gateway.together import reset

if TYPE_CHECKING:
    from typing_extensions import Never

    from memstack.composed import ComposedMemory
    from memstack.gateway.parts import Parts

__all__ = ["Core"]


class Core:
    """The parts, and whether they can still be used.

    Attributes:
        parts: what the factory put together.
        closed: whether `close` was called.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.closed = False
        self._mem0: ComposedMemory | None = None

    def __reduce__(self) -> Never:
        """What `pickle` and `copy.deepcopy` ask for."""
        raise TypeError(
            "an open memory holds locks, files and connections: it cannot be pickled, nor copied whole. Open it where "
            "it is used, with open_memory(), and send there what it is configured by."
        )

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened the memory."""
        return self.parts.history.forked

    @property
    def one_search_at_a_time(self) -> bool:
        """Whether more get less done: nothing of a search waits for another process."""
        return self.parts.embedder.quick and self.parts.store.one_search_at_a_time

    def usable(self) -> Parts:
        """The parts, for a verb.

        Raises:
            GatewayClosed: they are closed, or another process's.
        """
        if self.closed:
            raise GatewayClosed
        if self.forked:
            raise GatewayClosed(forked=True)
        return self.parts

    def composed(self) -> ComposedMemory:
        """The composed ``mem0.Memory``, made at its first use."""
        parts = self.usable()
        if self._mem0 is None:
            from memstack.engine import compose  # noqa: PLC0415  # the only way to Mem0, and a slow one

            self._mem0 = compose(parts, partial(reset, parts))
        return self._mem0

    def close(self) -> None:
        """Release locks, pools and clients. A second call does nothing, nor does one in a forked process."""
        if self.closed:
            return
        self.closed = True
        if self.forked:
            return  # they are the parent's
        parts, composed, self._mem0 = self.parts, self._mem0, None
        with ExitStack() as closing:  # what was pushed last is closed first, and all are, whatever one of them raises
            if parts.guard is not None:
                closing.callback(parts.guard.leave)
            if parts.llm is not None:
                closing.callback(parts.llm.close)
            closing.callback(parts.embedder.close)
            closing.callback(parts.history.close)
            closing.callback(parts.store.close)
            if composed is not None:
                closing.callback(composed.close)
