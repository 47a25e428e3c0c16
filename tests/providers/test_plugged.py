"""Embedders of third parties: held to their contract, whatever they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from memstack.errors import LLMNotConfigured, MemstackError, ProviderError
from memstack.providers.base import Embedder
from memstack.providers.plugged import PluggedEmbedder


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
        (_raises(RuntimeError("out of memory on: secret")), r"failed \(RuntimeError\)"),
        (lambda _: None, r"failed \(TypeError\)"),
        (lambda texts: [["one", "two"] for _ in texts], r"failed \(ValueError\)"),
        (lambda texts: [[1.0, 2.0] for _ in texts][1:], r"shape \(1, 2\) for 2 texts and 2 dimensions"),
        (lambda texts: [[1.0, 2.0] for _ in texts] * 2, r"shape \(4, 2\)"),
        (lambda texts: [[1.0, 2.0, 3.0] for _ in texts], r"shape \(2, 3\)"),
        (lambda texts: [1.0 for _ in texts], r"shape \(2,\)"),
        (lambda texts: [[1.0, float("nan")] for _ in texts], "not finite"),
        (lambda texts: [[1.0, float("inf")] for _ in texts], "not finite"),
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
