"""What all messages have in common."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack import errors, open_memory
from memstack.compat.sync import NotFound
from memstack.errors import ConfigError, InvalidInput, MemstackError, MetadataError, ScopeError, UnknownName
from memstack.metadata import check_metadata
from memstack.scope import Scope
from memstack.stores.base import Fingerprint
from memstack.testing.contract.strategies import examples

# Surrogates, control characters, and whatever else there is.
TEXTS = st.text(st.characters(codec=None) | st.sampled_from("\0\x1b\ud800\udfff\u202e\n\t"), max_size=2000)
MAKES: list[Callable[[str, str, str], Exception]] = [
    InvalidInput,
    ConfigError,
    lambda where, name, choice: UnknownName(where, "option", name, [choice]),
]


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


KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, MemstackError)]
GIVEN: dict[str, Any] = {
    "attempts": 2, "retryable": True, "forked": True, "choices": ["a", "b"], "conflicts": [],
    "free": 1, "needed": 2, "scope": str(Scope("alex")), "stored": Fingerprint("builtin", "m", 3),
    "configured": Fingerprint("builtin", "n", 3),
}  # fmt: skip


def _made(kind: type[MemstackError]) -> MemstackError:
    """An error of this kind, with all that it can hold."""
    if kind is MemstackError:
        return kind("words")
    return kind(**{name: GIVEN.get(name, name) for name in inspect.signature(kind).parameters})


@pytest.mark.parametrize("kind", [*KINDS, NotFound])
def test_an_error_can_be_sent_and_copied(kind: type[MemstackError]) -> None:
    """An error that went to another process, or was copied, is the same: its kind, message and what it holds."""
    error = _made(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(again) is kind
        assert str(again) == str(error) != ""
        assert vars(again) == vars(error)
        assert again.retryable == error.retryable


def _out_of_scope() -> None:
    with open_memory({"vector_store": {"provider": "qdrant", "mode": "memory"}}) as memory:
        memory.get_all()


def test_the_error_of_a_worker_process() -> None:
    """What a verb raises in a pool of processes is raised where its result is asked for, and the pool goes on."""
    pytest.importorskip("qdrant_client")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(ScopeError, match="user_id"):
            pool.submit(_out_of_scope).result(timeout=120)
        assert pool.submit(len, "tea").result(timeout=120) == 3
