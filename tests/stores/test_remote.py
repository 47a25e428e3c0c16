"""Trying again: where that may help, and not for ever."""

from __future__ import annotations

import pytest

from memstack.errors import StoreError
from memstack.stores.remote import retrying


class _Call:
    """Fails so many times, each after so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failures: int, seconds: float, retryable: bool) -> None:
        self.tries, self.now, self.slept = 0, 0.0, 0.0
        self.failures, self.seconds, self.retryable = failures, seconds, retryable
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def __call__(self) -> str:
        self.tries += 1
        self.now += self.seconds
        if self.tries <= self.failures:
            raise StoreError("here", "failed", retryable=self.retryable)
        return "done"


@pytest.mark.parametrize(("failures", "tries"), [(0, 1), (1, 2), (3, 4)])
def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch, failures: int, tries: int) -> None:
    """Up to three failures are made good, with pauses of at most two and a half seconds in all."""
    call = _Call(monkeypatch, failures=failures, seconds=0.1, retryable=True)
    assert retrying(call) == "done"
    assert (call.tries, call.slept > 0) == (tries, failures > 0)
    assert call.slept < 2.5


@pytest.mark.parametrize(
    ("seconds", "retryable", "tries"),
    [(0.1, True, 4), (0.1, False, 1), (6.0, True, 1), (3.0, True, 2)],
    ids=["passing", "lasting", "slow", "slower together"],
)
def test_it_is_given_up(monkeypatch: pytest.MonkeyPatch, seconds: float, retryable: bool, tries: int) -> None:
    """After four tries, at once where nothing passes, and where the tries took five seconds: the error is the last."""
    call = _Call(monkeypatch, failures=9, seconds=seconds, retryable=retryable)
    with pytest.raises(StoreError, match="failed"):
        retrying(call)
    assert call.tries == tries
