"""Models of third parties: held to their contract, whatever they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from memstack.errors import ConfigError, LLMNotConfigured, MemstackError, ProviderError
from memstack.providers.base import LLM, Embedder
from memstack.providers.plugged import PluggedEmbedder, plugged_embedder, plugged_llm


class Given(Embedder):
    """Gives what it is told to."""

    provider = "acme"
    model = "given"
    dimensions = 2

    def __init__(self, make: Callable[[Sequence[str]], Any]) -> None:
        self._make = make
        self.closed = False

    def vectors(self, texts: Sequence[str]) -> Any:
        return self._make(texts)

    def close(self) -> None:
        self.closed = True


def _raises(error: Exception) -> Callable[[Sequence[str]], Any]:
    def make(_: Sequence[str]) -> Any:
        raise error

    return make


@pytest.mark.parametrize(
    "make",
    [
        lambda texts: [[1, 2] for _ in texts],
        lambda texts: np.array([[1, 2] for _ in texts], dtype=np.float32),
        lambda texts: [np.array([1.0, 2.0]) for _ in texts],
        lambda texts: ([1.0, 2.0] for _ in texts),
    ],
)
def test_vectors_come_in_one_form(make: Callable[[Sequence[str]], Any]) -> None:
    """Lists, arrays and generators of whatever numbers become lists of floats."""
    embedder = PluggedEmbedder(Given(make))
    assert embedder.vectors(["secret", "text"]) == [[1.0, 2.0], [1.0, 2.0]]
    assert embedder.embed("secret") == [1.0, 2.0]
    assert embedder.vectors([]) == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_raises(RuntimeError("out of memory on: secret")), r"`vectors` failed \(RuntimeError\)"),
        (lambda _: None, r"failed \(TypeError\)"),
        (lambda texts: [["one", "two"] for _ in texts], r"failed \(ValueError\)"),
        (lambda texts: [[1.0, 2.0] for _ in texts][1:], r"shape \(1, 2\) for 2 texts and 2 dimensions"),
        (lambda texts: [[1.0, 2.0] for _ in texts] * 2, r"shape \(4, 2\)"),
        (lambda texts: [[1.0, 2.0, 3.0] for _ in texts], r"shape \(2, 3\)"),
        (lambda texts: [1.0 for _ in texts], r"shape \(2,\)"),
        (lambda texts: [[1.0, float("nan")] for _ in texts], "not finite"),
        (lambda texts: [[1.0, float("inf")] for _ in texts], "not finite"),
        (lambda texts: [[1.0, 1e39] for _ in texts], "not finite in 32 bits"),
    ],
)
def test_what_is_no_vector_for_each_text_is_an_error(make: Callable[[Sequence[str]], Any], told: str) -> None:
    """Whatever it raises, and whatever it gives that no store can keep, is a `ProviderError` that names it."""
    with pytest.raises(ProviderError, match=told) as caught:
        PluggedEmbedder(Given(make)).vectors(["secret", "text"])
    assert (caught.value.provider, caught.value.model) == ("acme", "given")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("error", [ProviderError("acme", "given", "is away", retryable=True), LLMNotConfigured()])
def test_errors_of_ours_come_through(error: MemstackError) -> None:
    """An embedder that says itself what is wrong, and whether calling again may help, is not talked over."""
    with pytest.raises(MemstackError) as caught:
        PluggedEmbedder(Given(_raises(error))).vectors(["text"])
    assert caught.value is error


def test_what_it_says_of_itself_is_kept() -> None:
    """Its names, dimensions and figures are those of the embedder itself, and it is closed with it."""
    inner = Given(lambda texts: [[1.0, 2.0] for _ in texts])
    embedder = PluggedEmbedder(inner)
    assert (embedder.provider, embedder.model, embedder.dimensions) == ("acme", "given", 2)
    assert (embedder.quick, embedder.knows_words, embedder.stats()) == (False, False, inner.stats())
    embedder.close()
    assert inner.closed


def _embedder(**said: Any) -> Embedder:
    """One that says of itself what it is told to; None is nothing."""
    embedder = Given(lambda texts: [[1.0, 2.0] for _ in texts])
    for name, value in said.items():
        setattr(embedder, name, value)
    return embedder


def _cannot() -> Any:
    raise FileNotFoundError("/home/alex/secret.bin")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: None, r"the plug-in 'acme' made nothing \(None\), no memstack.providers.base.Embedder"),
        (lambda: _embedder(model=None), "has no `model`"),
        (lambda: _embedder(provider=""), "has no `provider`"),
        (lambda: _embedder(dimensions=0), "has 0 as its `dimensions`"),
        (lambda: _embedder(dimensions="2"), "has a string of 1 character as its `dimensions`"),
        (_cannot, r"acme \(embedder\): cannot be made \(FileNotFoundError\)"),
    ],
)
def test_what_is_no_embedder_is_told_when_it_is_made(make: Callable[[], object], told: str) -> None:
    """A plug-in that makes no embedder, or one that does not say what it is, is an error before anything is opened."""
    with pytest.raises((ConfigError, ProviderError), match=told) as caught:
        plugged_embedder("acme", "the plug-in 'acme'", make)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_raises(KeyError("secret")), r"`likeness` failed \(KeyError\)"),
        (lambda _: np.zeros((1, 2)), "`likeness` gave no 2 rows of 1 finite numbers"),
        (lambda _: [[float("nan")], [0.0]], "`likeness` gave no 2 rows of 1 finite numbers"),
        (lambda _: None, "`likeness`"),
    ],
)
def test_likeness_that_is_of_no_use_is_an_error(make: Callable[[Sequence[str]], Any], told: str) -> None:
    """What an embedder says of words is looked at, too, before a search reckons with it."""
    embedder = PluggedEmbedder(_embedder(likeness=lambda texts, _: make(texts)))
    with pytest.raises(ProviderError, match=told) as caught:
        embedder.likeness(["a", "b"], ["c"])
    assert "secret" not in str(caught.value)


def test_what_is_to_be_awaited_is_refused() -> None:
    """Nobody awaits a model: a coroutine function is refused before it is called."""

    class Awaited(Given):
        async def vectors(self, texts: Sequence[str]) -> Any:  # type: ignore[override]
            return []

    class ClosedLater(Given):
        async def close(self) -> None:  # type: ignore[override]
            pass

    class LLMClosedLater(Saying):
        async def close(self) -> None:  # type: ignore[override]
            pass

    class AwaitedLLM(Saying):
        async def generate_response(self, *_: Any, **__: Any) -> Any:
            return ""

    with pytest.raises(ConfigError, match=r"`vectors` of what the plug-in 'acme' made is a coroutine function"):
        plugged_embedder("acme", "the plug-in 'acme'", lambda: Awaited(list))
    with pytest.raises(ConfigError, match=r"`close` of what .* is a coroutine function"):
        plugged_embedder("acme", "the plug-in 'acme'", lambda: ClosedLater(list))
    with pytest.raises(ConfigError, match=r"`close` of what .* is a coroutine function"):
        plugged_llm("acme", "the plug-in 'acme'", lambda: LLMClosedLater(_cannot))
    with pytest.raises(ConfigError, match=r"`generate_response` of what .* is a coroutine function"):
        plugged_llm("acme", "the plug-in 'acme'", lambda: AwaitedLLM(_cannot))


def test_dimensions_that_are_not_told() -> None:
    """An embedder that does not say how long its vectors are is refused; one that cannot tell has failed."""

    class Silent(Embedder):
        provider, model = "acme", "silent"

        def vectors(self, texts: Sequence[str]) -> list[list[float]]:
            return []

    class Unable(Silent):
        @property
        def dimensions(self) -> int:  # type: ignore[override]
            raise ConnectionError("secret.example")

    with pytest.raises(ConfigError, match="has no `dimensions`, the length of its vectors"):
        plugged_embedder("acme", "the plug-in 'acme'", Silent)
    with pytest.raises(ProviderError, match=r"`dimensions` failed \(ConnectionError\)") as caught:
        plugged_embedder("acme", "the plug-in 'acme'", Unable)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert "secret" not in str(caught.value)


def test_what_only_reports_or_ends_fails_by_its_name() -> None:
    """Also figures and closing that fail are errors of the provider, and an interruption stays one."""
    broken = _embedder(stats=_cannot, close=_cannot, vectors=_interrupted)
    embedder = plugged_embedder("acme", "the plug-in 'acme'", lambda: broken)
    with pytest.raises(ProviderError, match=r"`stats` failed \(FileNotFoundError\)"):
        embedder.stats()
    with pytest.raises(ProviderError, match=r"`close` failed \(FileNotFoundError\)"):
        embedder.close()
    with pytest.raises(KeyboardInterrupt):
        embedder.vectors(["a"])


def _interrupted(_: Sequence[str]) -> list[list[float]]:
    raise KeyboardInterrupt


class Saying(LLM):
    """Answers by a function."""

    provider = "acme"
    model = "saying"

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def generate_response(self, *messages: Any, **kwargs: Any) -> Any:
        return self._answer(*messages, **kwargs)


def test_an_llm_that_fails_is_told_by_its_name() -> None:
    """Whatever an LLM raises is a `ProviderError` with its name and the kind of the error; ours come through."""
    broken = plugged_llm("acme", "the plug-in 'acme'", lambda: Saying(_raises_any(RuntimeError("secret"))))
    assert broken is not None
    with pytest.raises(ProviderError, match=r"acme \(saying\): `generate_response` failed \(RuntimeError\)") as caught:
        broken.generate_response([{"role": "user", "content": "secret"}], response_format={"type": "json_object"})
    assert "secret" not in str(caught.value)
    busy = ProviderError("acme", "saying", "is busy", retryable=True)
    told = plugged_llm("acme", "the plug-in 'acme'", lambda: Saying(_raises_any(busy)))
    assert told is not None
    with pytest.raises(ProviderError) as caught:
        told.generate_response([])
    assert caught.value is busy
    assert told.stats() == {"provider": "acme", "model": "saying"}


def test_what_is_no_llm_is_told_when_it_is_made() -> None:
    """A plug-in may make no LLM; what it makes else is one, and says what it is."""
    assert plugged_llm("acme", "the plug-in 'acme'", lambda: None) is None
    with pytest.raises(ConfigError, match=r"made a string of 3 characters, no memstack\.providers\.base\.LLM"):
        plugged_llm("acme", "the plug-in 'acme'", lambda: "gpt")
    with pytest.raises(ProviderError, match=r"acme \(llm\): cannot be made \(FileNotFoundError\)"):
        plugged_llm("acme", "the plug-in 'acme'", _cannot)


def _raises_any(error: Exception) -> Callable[..., Any]:
    def answer(*_: Any, **__: Any) -> Any:
        raise error

    return answer
