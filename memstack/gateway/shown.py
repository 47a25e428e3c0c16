"""Which memories are shown, by their times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from memstack.errors import InvalidInput
from memstack.filters.ast import Compare, Exists, Node, Not, Or, all_of
from memstack.gateway.inputs import check_flag, check_instant

__all__ = ["Shown", "check_shown", "visible"]


def visible(at: datetime) -> Node:
    """Holds for what is remembered at an instant: not superseded, not of the future, and not expired."""
    return Shown().where(at)


@dataclass(frozen=True, slots=True)
class Shown:
    """Which memories are shown, by their times.

    Attributes:
        then: those that were so at this instant; None is those that are remembered now.
        expired: those that have expired, too.
        superseded: those that were superseded and those of the future, too; only where `then` is None.
    """

    then: datetime | None = None
    expired: bool = False
    superseded: bool = False

    def where(self, at: datetime) -> Node:
        """Holds for them at an instant, which is `then`, or now."""
        hidden: list[Node] = []
        if not self.expired:
            hidden.append(Compare("expires_at", "lte", at))
        if not self.superseded:
            hidden += [Compare("valid_to", "lte", at), Compare("valid_from", "gt", at)]
        seen = all_of(*map(Not, hidden))
        if self.then is None:
            return seen
        begun = Or((Compare("valid_from", "lte", at), Not(Exists("valid_from")) & Compare("occurred_at", "lte", at)))
        return all_of(seen, begun)

    @property
    def words(self) -> str:
        """What tells one listing from another, besides the instant."""
        return f"{', expired ones too' * self.expired}{', superseded ones too' * self.superseded}"


def check_shown(as_of: object, *, expired: object, superseded: object) -> Shown:
    """What the arguments of a search or a listing say.

    Raises:
        InvalidInput: one has no meaning, or two have none beside each other.
    """
    then = check_instant(as_of, "as_of")
    shown = Shown(then, check_flag(expired, "show_expired"), check_flag(superseded, "show_superseded"))
    if shown.superseded and then is not None:
        raise InvalidInput(
            "show_superseded", "stands beside as_of, which shows what held at one instant", "Leave one of them out."
        )
    return shown
