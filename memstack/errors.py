"""Every error that memstack raises. One base; subclasses take data and word the message themselves.

Each message names the place (field, option, path), says what is wrong with it, and ends with the way out.
No message holds a secret or the text of a memory: values are described by their type and size. What callers name stands
in messages shortened, and escaped where it cannot be printed.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memstack.records import Conflict

__all__ = [
    "TELL",
    "ConfigError",
    "ConflictFound",
    "CursorError",
    "EmbedderMismatch",
    "FilterError",
    "GatewayClosed",
    "HistoryError",
    "IdempotencyMismatch",
    "InvalidInput",
    "LLMNotConfigured",
    "MemoryNotFound",
    "MemstackError",
    "MetadataError",
    "MissingDependency",
    "NotSupported",
    "OfflineViolation",
    "PendingNotFound",
    "ProviderError",
    "SchemaError",
    "SchemaMismatch",
    "ScopeError",
    "StoreCorrupted",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "TelemetryActive",
    "TextTooLong",
    "UnknownName",
    "UnknownOperator",
    "UnreadableAnswer",
    "amount",
    "describe",
    "named",
    "nearest",
]


class MemstackError(Exception):
    """Base of all errors of memstack.

    Attributes:
        retryable: whether the same call may succeed when it is made again unchanged.
    """

    retryable: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        """What `pickle` and `copy` make it anew of: the error of a worker process reaches the one that waits for it."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[MemstackError], args: tuple[object, ...]) -> MemstackError:
    """An error with its message. What it holds is set besides: only who raises it words it."""
    return kind.__new__(kind, *args)


TELL = "Tell its author: docs/plugins.md says what a plug-in has."
_LONGEST_NAME = 64
_LARGEST_SHOWN = 10**12
_LONGEST_PLACE = 300
_LONGEST_WORDS = 1000
# Characters that no output can write, or that could take over a terminal or show another text than there is.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# -- words shared by the messages ------------------------------------------------------------


def describe(value: object) -> str:
    """Describe the shape of a value without its content: ``"a string of 12 characters"``."""
    if value is None:
        return "nothing (None)"
    if isinstance(value, bool):
        return "a bool"
    if isinstance(value, str):
        if not value:
            return "an empty string"
        return f"a string of {len(value)} character{'s' if len(value) != 1 else ''}"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return f"a {type(value).__name__} of {len(value)} item{'s' if len(value) != 1 else ''}"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def amount(value: object) -> str:
    """A number as it is, as far as that tells something; what is none is described."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(float(value))
    if not isinstance(value, int) or isinstance(value, bool):
        return describe(value)
    return str(int(value)) if abs(value) < _LARGEST_SHOWN else f"an int of {value.bit_length()} bits"


def named(name: object) -> str:
    """A name in quotes, as far as a name goes: what is too long for one is described instead."""
    return repr(name) if isinstance(name, str) and len(name) <= _LONGEST_NAME else describe(name)


def _place(text: str) -> str:
    """A place that can be printed in one line: what a caller named may be of any length, of any characters."""
    return re.sub(r"[\t\n]", _escaped, _words(text, _LONGEST_PLACE))


def _words(text: str, longest: int = _LONGEST_WORDS) -> str:
    """A part of a message that can be printed; of one that is too long the beginning and the end."""
    short = text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 2) :]}"
    return _UNPRINTABLE.sub(_escaped, short)


def _escaped(match: re.Match[str]) -> str:
    return ascii(match.group())[1:-1]


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice closest to a misspelt name, or None when nothing is close."""
    found = difflib.get_close_matches(name.lower(), list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def _choose(name: str, choices: Sequence[str]) -> str:
    guess = nearest(name, choices)
    listed = ", ".join(sorted(choices)) or "none"
    return f"Did you mean {guess!r}? Known: {listed}." if guess else f"Known: {listed}."


# -- configuration ---------------------------------------------------------------------------


class ConfigError(MemstackError, ValueError):
    """The configuration cannot be used.

    Args:
        where: dotted path of the option, or the path of the file.
        problem: what is wrong, without the value itself (it may be a secret).
        hint: the way out.
    """

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        self.where = _place(where)
        self.problem = _words(problem)
        self.hint = _words(hint)
        super().__init__(f"{self.where}: {self.problem}.{' ' + self.hint if hint else ''}")


class UnknownName(ConfigError):
    """A name (option, provider, mode) that nothing answers to; the message lists the choices."""

    def __init__(self, where: str, kind: str, name: str, choices: Sequence[str]) -> None:
        self.kind = kind
        self.name = name
        self.choices = tuple(sorted(choices))
        super().__init__(where, f"unknown {kind} {name!r}", _choose(name, self.choices))


class MissingDependency(ConfigError, ImportError):
    """An optional dependency is not installed; the message is the command that installs it."""

    def __init__(self, where: str, module: str, extra: str) -> None:
        self.module = module
        self.extra = extra
        ConfigError.__init__(
            self,
            where,
            f"needs the package {module!r}, which is not installed",
            f'Run: pip install "memstack[{extra}]"',
        )


class LLMNotConfigured(ConfigError):
    """``infer=True`` was asked for and no LLM is configured."""

    def __init__(self) -> None:
        super().__init__(
            "infer",
            "True needs a language model, and `llm.provider` is 'none'",
            "Configure `llm: {provider: openai, model: …}` or `llm: {provider: ollama, model: …}` "
            "(or set MEMSTACK_LLM__PROVIDER and MEMSTACK_LLM__MODEL), or pass infer=False to store the text as said.",
        )


class TelemetryActive(ConfigError):
    """Mem0 was imported, with its telemetry on, before memstack could turn it off."""

    def __init__(self) -> None:
        super().__init__(
            "MEM0_TELEMETRY",
            "mem0 was imported first and its telemetry is on",
            "Set MEM0_TELEMETRY=False in the environment before anything imports mem0, "
            "or opt in with `telemetry: true`.",
        )


# -- input -----------------------------------------------------------------------------------


class InvalidInput(MemstackError, ValueError):
    """An argument cannot be used. Nothing was stored or changed.

    Args:
        field: the argument, with its position inside (``messages[2].content``).
        problem: what is wrong, with the shape of the value.
        hint: the way out.
    """

    def __init__(self, field: str, problem: str, hint: str) -> None:
        self.field = _place(field)
        self.problem = _words(problem)
        self.hint = _words(hint)
        super().__init__(f"{self.field}: {self.problem}. {self.hint}")


class MetadataError(InvalidInput):
    """Metadata that cannot be stored the same on every engine."""


class SchemaError(MemstackError, TypeError):
    """A schema that cannot work, told when its class is defined or used.

    Args:
        schema: name of the class.
        problem: what is wrong.
        hint: the way out.
    """

    def __init__(self, schema: str, problem: str, hint: str) -> None:
        self.schema = schema
        super().__init__(f"schema {schema}: {problem}. {hint}")


class SchemaMismatch(InvalidInput):
    """The metadata of a memory does not fit a schema; the message tells why, not what the values are."""

    def __init__(self, schema: str, reason: str) -> None:
        self.reason = reason
        super().__init__("metadata", f"does not fit {schema}: {reason}", "Read it as a mapping, or correct it.")


class FilterError(InvalidInput):
    """A filter that has no meaning; `field` is the place in the filter (``filters.AND[1].due.gte``)."""


class UnknownOperator(FilterError, AttributeError):
    """An operator that a field of a filter does not have: what was meant may be a nested field.

    It is an `AttributeError` too, so that `hasattr` answers.
    """

    def __init__(self, field: str, problem: str, hint: str) -> None:
        super().__init__(field, problem, hint)
        self.obj = None  # else Python guesses, and proposes a private name


class ScopeError(InvalidInput):
    """A scope is missing, malformed, or a caller tried to leave it."""


class CursorError(InvalidInput):
    """A cursor that was not issued for this listing."""

    def __init__(self, problem: str) -> None:
        super().__init__("cursor", problem, "Pass `next_cursor` of a page back with the same scope, filters and order.")


class IdempotencyMismatch(InvalidInput):
    """An idempotency key came back with other content."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key",
            "was used in this scope before, for other messages or metadata",
            "Use a new key for new content.",
        )


class MemoryNotFound(MemstackError, LookupError):
    """No memory has this id, or none in this scope (the two are not told apart)."""

    def __init__(self, memory_id: str, scope: str = "") -> None:
        self.memory_id = memory_id
        self.scope = scope
        super().__init__(f"no memory has the id {memory_id!r}{f' in scope {scope}' if scope else ''}")


class ConflictFound(MemstackError):
    """What was to be added contradicts stored memories, and ``on_conflict="raise"`` was asked for. Nothing was stored.

    Attributes:
        conflicts: what it contradicts.
    """

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        count = len(self.conflicts)
        ids = ", ".join(conflict.memory.id for conflict in self.conflicts[:3])
        super().__init__(
            f"contradicts {count} stored memor{'y' if count == 1 else 'ies'} ({ids}{', …' if count > 3 else ''}). "  # noqa: PLR2004
            'Pass on_conflict="supersede" to replace them, "ask" to let somebody decide, or "keep" to store both.'
        )


class PendingNotFound(MemstackError, LookupError):
    """No change waits under this token in this scope: it was answered, it has expired, or it never was."""

    def __init__(self) -> None:
        super().__init__(
            "no change waits under this token in this scope: it was answered, or has expired. Add it again to ask anew."
        )


class NotSupported(MemstackError):
    """Something declared as not supported was asked for."""

    def __init__(self, who: str, what: str, hint: str = "") -> None:
        self.who = who
        self.what = what
        super().__init__(f"{who} does not support {what}.{' ' + hint if hint else ''}")


class GatewayClosed(MemstackError):
    """A verb was called after ``close()``, or in a process that was forked after the memory was opened."""

    def __init__(self, what: str = "memory", *, forked: bool = False) -> None:
        state = "was opened before this process was forked, and is its parent's" if forked else "is closed"
        super().__init__(f"this {what} {state}. Open it {'here' if forked else 'again'} with open_memory().")


class OfflineViolation(MemstackError):
    """Something tried to reach another machine while a memory with ``offline: true`` was open. It was kept from it.

    Args:
        event: what it tried, as Python's audit events name it.
        host: whom it tried to reach.
    """

    def __init__(self, event: str, host: str) -> None:
        self.event = event
        self.host = host
        super().__init__(
            f"offline is true, and something tried to reach {host!r} ({event}). Find out who in the traceback; let "
            "the rest of the application go where it likes with `offline_guard: memory`, or set `offline: false`."
        )


# -- stores, history, providers ------------------------------------------------------------------


class StoreError(MemstackError):
    """An engine refused or failed.

    Args:
        store: which store, as in ``qdrant (embedded) at ./memory/memories``.
        problem: what happened.
        hint: the way out.
        retryable: whether calling again may help.
    """

    def __init__(self, store: str, problem: str, hint: str = "", *, retryable: bool = False) -> None:
        self.store = store
        self.problem = problem
        self.retryable = retryable
        super().__init__(f"{store}: {problem}.{' ' + hint if hint else ''}")


class StoreLocked(StoreError):
    """Another process holds the embedded store."""

    def __init__(self, store: str, path: str) -> None:
        self.path = path
        super().__init__(
            store,
            f"the folder {path} is open in another process, and an embedded store has one owner",
            "Close it there, give this process a path of its own, or share one memory: on this machine by "
            "`vector_store: {provider: pgvector, path: …}`, through a server by "
            "`vector_store: {provider: qdrant, mode: server, url: …}` or `vector_store: {provider: pgvector, url: …}`.",
            retryable=True,
        )


class StoreFull(StoreError):
    """The disk has no room for the write. Nothing of it was stored."""

    def __init__(self, store: str, path: str, free: int, needed: int) -> None:
        self.path = path
        super().__init__(
            store,
            f"{path} has {free // 2**20} MiB free and a write needs {-(-needed // 2**20)} MiB",
            "Free some space, or move the store to a larger disk.",
            retryable=True,
        )


class StoreCorrupted(StoreError):
    """The files of a store cannot be read, or not all that was stored is there. They were left as they are.

    Args:
        store: which store.
        path: where its files lie.
        problem: what is wrong.
        hint: a way out besides a backup and an empty store.
    """

    def __init__(self, store: str, path: str, problem: str, hint: str = "") -> None:
        self.path = path
        super().__init__(
            store,
            f"the files under {path} are damaged ({problem})",
            "Restore the folder and its history from a backup, or move both away to start with an empty store."
            f"{' ' + hint if hint else ''}",
        )


class EmbedderMismatch(StoreError):
    """A collection was filled by another embedder than the one that is configured."""

    def __init__(self, store: str, stored: str, configured: str) -> None:
        self.stored = stored
        self.configured = configured
        super().__init__(
            store,
            f"the collection was filled by {stored}, and the configured embedder is {configured}",
            "Configure the embedder that filled it, re-embed its memories into a new collection, "
            "or choose another one with `vector_store.collection`.",
        )


class HistoryError(MemstackError):
    """The history database failed."""

    def __init__(self, path: str, problem: str, hint: str = "", *, retryable: bool = False) -> None:
        self.path = path
        self.problem = problem
        self.hint = hint
        self.retryable = retryable
        super().__init__(f"history at {path}: {problem}.{' ' + hint if hint else ''}")


class ProviderError(MemstackError):
    """A model provider failed.

    Args:
        provider: name of the provider.
        model: name of the model.
        problem: what happened.
        attempts: how many times it was tried.
        retryable: whether calling again may help.
        hint: the way out.
    """

    def __init__(
        self, provider: str, model: str, problem: str, *, attempts: int = 1, retryable: bool = False, hint: str = ""
    ) -> None:
        self.provider = provider
        self.model = model
        self.problem = problem
        self.hint = hint
        self.attempts = attempts
        self.retryable = retryable
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        again = " Calling again may help." if retryable else ""
        super().__init__(f"{provider} ({model}): {problem}{tried}.{again}{' ' + hint if hint else ''}")


class TextTooLong(ProviderError):
    """An embedder refused texts, for one is longer than it takes. `add_many` and `import_` find out which."""


class UnreadableAnswer(ProviderError):
    """A language model's answer cannot be used, not even after it was asked for once more. Nothing of it was stored.

    Attributes:
        answer: the last answer as it came, for inspection. It may hold the text of memories, so no message quotes it.
    """

    def __init__(self, provider: str, model: str, problem: str, answer: object, *, attempts: int) -> None:
        self.answer = answer if isinstance(answer, str) else repr(answer)
        super().__init__(
            provider,
            model,
            f"its answer cannot be used: {problem}",
            attempts=attempts,
            retryable=True,
            hint="A model that follows instructions better may help more.",
        )
