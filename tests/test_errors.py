"""What all messages have in common."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import errors
from memstack.compat import NotFound
from memstack.errors import ConfigError, InvalidInput, MetadataError, UnknownName
from memstack.metadata import check_metadata
from memstack.testing.contract.strategies import examples

# Surrogates, control characters, and whatever else there is.
TEXTS = st.text(st.characters(codec=None) | st.sampled_from("\0\x1b\ud800\udfff\u202e\n\t"), max_size=2000)
MAKES: list[Callable[[str, str, str], Exception]] = [
    InvalidInput,
    ConfigError,
    lambda where, name, choice: UnknownName(where, "option", name, [choice]),
]


# One of every class.
SAMPLES: list[errors.MemstackError] = [
    errors.MemstackError("broken"),
    errors.ConfigError("llm.model", "is missing", "Give it."),
    errors.UnknownName("llm.provider", "provider", "opnai", ["openai", "ollama"]),
    errors.MissingDependency("llm.provider", "openai", "openai"),
    errors.LLMNotConfigured(),
    errors.TelemetryActive(),
    errors.InvalidInput("limit", "is 0", "Pass more."),
    errors.MetadataError("metadata.a", "is NaN", "Leave it out."),
    errors.SchemaError("Habit", "is broken", "Mend it."),
    errors.SchemaMismatch("Habit", "name: Field required"),
    errors.FilterError("filters.a", "is null", "Use exists."),
    errors.ScopeError("user_id", "is blank", "Pass it."),
    errors.CursorError("is malformed"),
    errors.IdempotencyMismatch(),
    errors.MemoryNotFound("17", "user_id='alex'"),
    NotFound("17"),
    errors.ConflictFound([]),
    errors.PendingNotFound(),
    errors.NotSupported("the store", "flying"),
    errors.GatewayClosed(forked=True),
    errors.OfflineViolation("socket.connect", "db.example"),
    errors.StoreError("qdrant", "is away", retryable=True),
    errors.StoreLocked("qdrant", "/data"),
    errors.StoreFull("qdrant", "/data", 1, 2),
    errors.StoreCorrupted("qdrant", "/data", "no rows"),
    errors.EmbedderMismatch("qdrant", "a", "b"),
    errors.HistoryError("/data/history.db", "is away", retryable=True),
    errors.ProviderError("openai", "gpt", "is away", attempts=3, retryable=True),
    errors.UnreadableAnswer("openai", "gpt", "is no JSON", "Sure!", attempts=2),
]


def _family(kind: type[errors.MemstackError]) -> set[type[errors.MemstackError]]:
    return {kind}.union(*(_family(child) for child in kind.__subclasses__() if child.__module__ in HOMES))


HOMES = (errors.MemstackError.__module__, NotFound.__module__)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_errors_travel_between_processes(error: errors.MemstackError) -> None:
    """An error that is pickled or copied is the same: one that cannot be read takes down a pool of processes."""
    travelled = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    for there in (travelled, copy.copy(error), copy.deepcopy(error)):
        assert type(there) is type(error)
        assert (str(there), there.args, vars(there)) == (str(error), error.args, vars(error))
        assert there.retryable == error.retryable


def test_every_error_is_among_those_that_travel() -> None:
    """No class is forgotten above."""
    assert {type(error) for error in SAMPLES} == _family(errors.MemstackError)


@examples(200)
@given(st.sampled_from(MAKES), TEXTS, TEXTS, TEXTS)
def test_every_message_can_be_written(make: Callable[[str, str, str], Exception], a: str, b: str, c: str) -> None:
    """Whatever a caller named: the message has a bounded length, and can be encoded and printed."""
    message = str(make(a, b, c))
    message.encode()
    assert not {"\0", "\x1b", "\u202e"} & set(message)
    assert len(message) < 10_000
    assert "\n" not in message.partition(": ")[0]


@pytest.mark.parametrize("metadata", [{"x" * 10**6: b""}, {"x" * 10**6: {"y" * 10**6: [float("nan")]}}])
def test_long_names_are_shortened(metadata: Any) -> None:
    """Of a name that is too long the message has the beginning and the end."""
    with pytest.raises(MetadataError) as caught:
        check_metadata(metadata)
    assert caught.value.field.startswith("metadata.xxx")
    assert len(str(caught.value)) < 1000
