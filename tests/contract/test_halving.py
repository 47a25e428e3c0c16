"""A batch with a text that is too long: what is asked to find it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from memstack.errors import ProviderError, TextTooLong
from memstack.gateway.halving import refused


@pytest.mark.parametrize("long", [0, 100, 255])
def test_one_long_text_costs_few_calls(long: int) -> None:
    """All others are stored, each once and in their order, after two calls for every time that the batch is halved."""
    stored: list[int] = []
    calls = 0

    def store(some: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        if long in some:
            raise TextTooLong("embed", "model", "is too long")
        stored.extend(some)

    found = list(refused(range(256), store))
    assert [(list(some), type(error)) for some, error in found] == [([long], TextTooLong)]
    assert stored == [n for n in range(256) if n != long]
    assert calls == 1 + 2 * 8


def test_another_failure_is_of_the_whole_batch() -> None:
    """What a smaller batch does not help is not tried again; nothing is done where there is nothing to store."""
    tried: list[int] = []

    def store(some: Sequence[int]) -> None:
        tried.append(len(some))
        raise ProviderError("embed", "model", "is away")

    assert [len(some) for some, _ in refused(range(8), store)] == [8]
    assert tried == [8]
    assert list(refused((), store)) == []
