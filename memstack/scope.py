"""Scope: who a memory belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memstack.errors import ScopeError, describe

__all__ = ["SCOPE_FIELDS", "Scope"]

SCOPE_FIELDS: Final = ("user_id", "agent_id", "run_id")
_MAX_LENGTH: Final = 512


@dataclass(frozen=True, slots=True)
class Scope:
    """Who a memory belongs to: a user, an agent, a run, or several of them together.

    A memory lies inside a scope when it carries every id that the scope names; ids that the scope leaves open may be
    anything. Ids are compared exactly.

    Attributes:
        user_id: the person.
        agent_id: the agent.
        run_id: the session or conversation.

    Raises:
        ScopeError: an id is not a string, is blank, has white space at its ends, is longer than 512 characters, or
            holds a NUL or a lone surrogate.
    """

    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None

    def __post_init__(self) -> None:
        for name in SCOPE_FIELDS:
            value = getattr(self, name)
            if value is not None:
                _check_id(name, value)

    def __bool__(self) -> bool:
        return self.user_id is not None or self.agent_id is not None or self.run_id is not None

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())

    def as_dict(self) -> dict[str, str]:
        """The ids that are set, by field name."""
        return {name: value for name in SCOPE_FIELDS if (value := getattr(self, name)) is not None}

    def narrow(self, other: Scope) -> Scope:
        """This scope with the ids of another one added.

        Raises:
            ScopeError: the two name different ids for the same field.
        """
        if not self:
            return other
        if not other:
            return self
        for name, value in other.as_dict().items():
            mine = getattr(self, name)
            if mine is not None and mine != value:
                raise ScopeError(
                    name,
                    "names another owner than the scope that is already set",
                    "Drop it, or use a handle of the other owner.",
                )
        return Scope(**{**self.as_dict(), **other.as_dict()})

    def covers(self, other: Scope) -> bool:
        """Whether a memory of scope `other` lies inside this one."""
        return (
            self.user_id in (None, other.user_id)
            and self.agent_id in (None, other.agent_id)
            and self.run_id in (None, other.run_id)
        )

    def require(self) -> Scope:
        """This scope, when it names somebody.

        Raises:
            ScopeError: it is empty.
        """
        if not self:
            raise ScopeError(
                "scope",
                "nobody is named",
                "Pass at least one of user_id=, agent_id=, run_id=, or use memory.for_user(…).",
            )
        return self


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ScopeError(name, f"is {describe(value)}", "Ids are strings: pass str(…) yourself if that is meant.")
    if not value.strip():
        raise ScopeError(name, "is blank", "Pass the id, or leave the argument out.")
    if value != value.strip():
        raise ScopeError(name, "has white space at its ends", "Strip it: ids are compared exactly.")
    if len(value) > _MAX_LENGTH:
        raise ScopeError(
            name,
            f"is {describe(value)}, and ids have at most {_MAX_LENGTH}",
            "Use a shorter one, such as a hash of it.",
        )
    if "\0" in value:
        raise ScopeError(name, "holds a NUL character", "Remove it.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ScopeError(
            name, f"holds a lone surrogate at position {error.start}", "Decode the bytes with errors='replace'."
        ) from None
