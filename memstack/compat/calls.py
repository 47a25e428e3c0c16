"""The call forms of Mem0 1.x and 2.x, read into one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final, TypedDict

from pydantic import BaseModel

from memstack.config import Settings
from memstack.errors import InvalidInput, NotSupported, describe
from memstack.factory import Config
from memstack.gateway.inputs import check_limit
from memstack.gateway.sync import Filters
from memstack.records import ROLES
from memstack.scope import SCOPE_FIELDS

__all__ = ["Entity", "Owners", "Reading", "elsewhere", "expiry", "owners", "read", "refuse", "settings_of"]

Entity = str | int | uuid.UUID | None
"""An id as Mem0 takes it: what is no string becomes one."""

_LIMIT_1X: Final = 100
_LIMIT_2X: Final = 20
_THRESHOLD_2X: Final = 0.1
_DAY: Final = timedelta(days=1)
_DEPTH: Final = 64  # deeper, a filter is refused


class Owners(TypedDict):
    """The scope of a call, as the gateway takes it."""

    user_id: str | None
    agent_id: str | None
    run_id: str | None


_SERVER: Final = ("host", "url", "api_key")


@dataclass(frozen=True)
class Reading:
    """A ``search`` or ``get_all``, whichever way it was called."""

    scope: Owners
    filters: Filters
    limit: int
    threshold: float | None


def settings_of(config: Config | object) -> Settings:
    """The settings for a configuration of ours, or of Mem0 as a mapping or as its ``MemoryConfig``.

    Where nothing says whose messages are remembered, it is Mem0's rule: everybody's but the system's.

    Raises:
        ConfigError: it cannot be used.
    """
    if isinstance(config, BaseModel) and not isinstance(config, Settings):
        config = _as_written(config)
    settings = Settings.load(config)  # type: ignore[arg-type]  # it checks what it is given
    if settings.origins["remember_roles"] == "default":
        settings = Settings.load(settings, remember_roles=[role for role in ROLES if role != "system"])
    return settings


def _as_written(config: BaseModel) -> dict[str, Any]:
    """Mem0's ``MemoryConfig`` as a mapping in its form, without the path that Mem0 adds beside a server's address."""
    found = config.model_dump(exclude_unset=True, warnings=False)  # it holds classes where it declares mappings
    store = found.get("vector_store") or {}
    options = store.get("config") or {}
    if options.get("path") == f"/tmp/{store.get('provider')}" and any(map(options.get, _SERVER)):  # noqa: S108  # its words
        del options["path"]
    return {"version": "v1.1", **found}


def owners(user_id: Entity, agent_id: Entity, run_id: Entity) -> Owners:
    """The scope of a call, as Mem0 reads ids: numbers become text, white space around them goes."""
    return {"user_id": _id(user_id), "agent_id": _id(agent_id), "run_id": _id(run_id)}


def _id(value: Entity) -> Any:
    if isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else value


def read(
    scope: Owners,
    filters: Filters,
    limit: int | None,
    top_k: int | None,
    threshold: float | None = None,
) -> Reading:
    """Read a ``search`` or ``get_all``; what it leaves open is the default of the release whose form it has.

    An owner as a plain key of `filters` is the form of 2.x (20 results, of a score of 0.1 at least); any other is that
    of 1.x (100 results, of any score). So is an owner inside an ``AND`` alone, which neither release takes: code that
    has it was written where nothing is left out for its score.

    Raises:
        InvalidInput: both `limit` and `top_k` are given, or the one that is cannot be used.
    """
    if limit is not None and top_k is not None:
        raise InvalidInput("top_k", "is given, and so is its older name `limit`", "Pass one of the two.")
    second = isinstance(filters, Mapping) and not any(scope.values()) and any(name in filters for name in SCOPE_FIELDS)
    filters = _with_ids(filters, _DEPTH)
    wanted = top_k if limit is None else limit
    if wanted is None:
        wanted = _LIMIT_2X if second else _LIMIT_1X
    check_limit(wanted, "top_k" if limit is None else "limit")
    if threshold is None and second:
        threshold = _THRESHOLD_2X
    return Reading(scope, filters, wanted, threshold)


def _with_ids(filters: Any, depth: int) -> Any:
    """A filter with its ids as Mem0 reads them, at the top and inside ANDs there."""
    if not isinstance(filters, Mapping) or depth <= 0:
        return filters
    read_as: dict[Any, Any] = {}
    for key, value in filters.items():
        if key in SCOPE_FIELDS:
            read_as[key] = _id(value)
        elif key == "AND" and isinstance(value, (list, tuple)):
            read_as[key] = [_with_ids(part, depth - 1) for part in value]
        else:
            read_as[key] = value
    return read_as


def expiry(day: date | str | None) -> datetime | None:
    """From when on a memory is hidden that Mem0 shows up to and including a day (UTC).

    Raises:
        InvalidInput: it is no day.
    """
    if day is None:
        return None
    try:
        last = date.fromisoformat(day) if isinstance(day, str) else day
        return datetime(last.year, last.month, last.day, tzinfo=timezone.utc) + _DAY
    except OverflowError:
        raise InvalidInput(
            "expiration_date", "is the last day there is, and no time follows it", "Leave it out: nothing ends then."
        ) from None
    except (AttributeError, ValueError):
        raise InvalidInput(
            "expiration_date", f"is {describe(day)}, not a day", "Pass a date, or text such as 2026-01-31."
        ) from None


def elsewhere(memory: object, name: str) -> str:
    """What is said of an attribute that there is not: code for Mem0 reaches for its parts (`llm`, `vector_store`)."""
    return f"{type(memory).__name__!r} object has no attribute {name!r}. Mem0's own parts are those of `gateway.mem0`."


def refuse(given: Mapping[str, object]) -> None:
    """Refuse parameters of Mem0 that would do nothing here.

    Args:
        given: parameters with what was passed; one that has its default is none.

    Raises:
        InvalidInput: it is one that Mem0 itself has on its hosted platform only.
        NotSupported: it is one that memstack does not have.
    """
    for name, value in given.items():
        if value is None or value is False:
            continue
        if name in _PLATFORM:
            raise InvalidInput(name, "is a parameter of Mem0's platform alone", _PLATFORM[name])
        raise NotSupported("memstack.compat", f"`{name}`", _WAYS_OUT[name])


_PLATFORM: Final = {
    "timestamp": "Put `occurred_at` into the message instead.",
    "reference_date": "Filter by a date instead: filters={'occurred_at': {'lte': …}}.",
}
_WAYS_OUT: Final = {
    "memory_type": "Leave it out, or use `memory.gateway.mem0`, which is Mem0's own class on the same data.",
    "rerank": "Name a reranker in the configuration (`retrieval.reranker`), or leave it out.",
}
