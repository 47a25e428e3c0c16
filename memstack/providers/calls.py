"""Calls to model servers: deadlines, retries, a circuit breaker, a limit on concurrency, and a count of tokens."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from memstack.errors import ProviderError

__all__ = ["CallFailed", "Caller", "Limits"]

T = TypeVar("T")
_FIRST_PAUSE: Final = 0.25  # seconds; doubled each time
_LONGEST_PAUSE: Final = 30.0


class CallFailed(Exception):  # an outcome of one attempt, not an error of the library
    """One attempt failed.

    Args:
        problem: what happened, without secrets and without the text that was sent.
        retryable: whether another attempt may succeed.
        retry_after: how many seconds the server asks to wait.
        hint: the way out.
    """

    def __init__(self, problem: str, *, retryable: bool, retry_after: float | None = None, hint: str = "") -> None:
        self.problem = problem
        self.retryable = retryable
        self.retry_after = retry_after
        self.hint = hint
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Limits:
    """How a server is called; times in seconds.

    Attributes:
        timeout: longest time for a whole call, its retries included.
        max_retries: how often a call that may succeed later is made again.
        concurrency: largest number of requests at the same time.
        breaker_failures: number of failed calls in a row after which calls are refused at once.
        breaker_pause: how long they are refused.
    """

    timeout: float
    max_retries: int
    concurrency: int
    breaker_failures: int
    breaker_pause: float

    @classmethod
    def of(cls, config: Any) -> Limits:
        """Those of a config section."""
        return cls(
            timeout=config.timeout,
            max_retries=config.max_retries,
            concurrency=config.concurrency,
            breaker_failures=config.breaker_failures,
            breaker_pause=config.breaker_pause,
        )


@dataclass(slots=True)
class _Counts:
    calls: int = 0
    attempts: int = 0
    failures: int = 0
    tokens: dict[str, int] = field(default_factory=dict)


class Caller:
    """Makes the calls of one embedder or LLM. Safe to be used from several threads.

    A call is tried again while its failure may pass, after a pause that doubles (full jitter, see
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) or that the server asks for, until
    `Limits.timeout`. After `Limits.breaker_failures` calls in a row that failed for a passing reason, calls are refused
    at once for `Limits.breaker_pause`; then one is let through.
    """

    def __init__(self, provider: str, model: str, limits: Limits) -> None:
        self.provider = provider
        self.model = model
        self.limits = limits
        self._slots = threading.BoundedSemaphore(limits.concurrency)
        self._lock = threading.Lock()
        self._counts = _Counts()
        self._failed_in_row = 0
        self._refused_until = 0.0

    def run(self, attempt: Callable[[float], T]) -> T:
        """Make a call.

        Args:
            attempt: makes one attempt, given the seconds that are left; raises `CallFailed`.

        Raises:
            ProviderError: naming provider, model, the number of attempts, and whether calling again may help.
        """
        deadline = time.monotonic() + self.limits.timeout
        self._pass_breaker()
        attempts = 0
        while True:
            attempts += 1
            try:
                with self._slots:
                    result = attempt(max(0.05, deadline - time.monotonic()))
            except CallFailed as failure:
                pause = self._pause(failure, attempts)
                late = time.monotonic() + pause > deadline
                if not failure.retryable or attempts > self.limits.max_retries or late:
                    self._note(attempts, failed=True, passing=failure.retryable)
                    raise ProviderError(
                        self.provider,
                        self.model,
                        failure.problem,
                        attempts=attempts,
                        retryable=failure.retryable,
                        hint=failure.hint,
                    ) from failure.__cause__
                time.sleep(pause)
            else:
                self._note(attempts, failed=False)
                return result

    def count_tokens(self, **tokens: int | None) -> None:
        """Add to the counts of tokens, by kind."""
        with self._lock:
            for kind, count in tokens.items():
                if count:
                    self._counts.tokens[kind] = self._counts.tokens.get(kind, 0) + count

    def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        with self._lock:
            return {
                "calls": self._counts.calls,
                "attempts": self._counts.attempts,
                "failures": self._counts.failures,
                "tokens": dict(self._counts.tokens),
                "refusing": self._refused_until > time.monotonic(),
            }

    def _pass_breaker(self) -> None:
        with self._lock:
            left = self._refused_until - time.monotonic()
            if left > 0:
                raise ProviderError(
                    self.provider,
                    self.model,
                    f"{self._failed_in_row} calls in a row failed, so that none is made for another {left:.1f} seconds",
                    attempts=0,
                    retryable=True,
                )

    def _note(self, attempts: int, *, failed: bool, passing: bool = False) -> None:
        with self._lock:
            self._counts.calls += 1
            self._counts.attempts += attempts
            self._counts.failures += failed
            self._failed_in_row = self._failed_in_row + 1 if failed and passing else 0
            if self._failed_in_row >= self.limits.breaker_failures:
                self._refused_until = time.monotonic() + self.limits.breaker_pause

    @staticmethod
    def _pause(failure: CallFailed, attempts: int) -> float:
        if failure.retry_after is not None:
            return failure.retry_after
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempts - 1))
        return random.uniform(longest / 4, longest)  # noqa: S311  # jitter
