"""Calls to model servers: deadlines, retries, a circuit breaker, a limit on concurrency, and a count of tokens."""

from __future__ import annotations

import math
import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn, TypeVar

from memstack.errors import GatewayClosed, OfflineViolation, ProviderError, TextTooLong
from memstack.providers.answers import LONGEST, AnswerTooLong
from memstack.providers.base import Embedder
from memstack.providers.deadlines import until

__all__ = [
    "CallFailed",
    "Caller",
    "Limits",
    "RemoteEmbedder",
    "answer_too_long",
    "refuse",
    "retry_after",
    "text_too_long",
    "violation_in",
]

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
        too_long: whether a text that was to be embedded is longer than the model takes.
    """

    def __init__(
        self,
        problem: str,
        *,
        retryable: bool,
        retry_after: float | None = None,
        hint: str = "",
        too_long: bool = False,
    ) -> None:
        self.problem = problem
        self.too_long = too_long
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
    at once for `Limits.breaker_pause`; then one is let through, and the others once that one has succeeded.
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
        self._trying = False
        self._over = threading.Event()

    def close(self) -> None:
        """Make no more calls. One that is under way ends when its connection does, or its pause, and not later."""
        self._over.set()

    def run(self, attempt: Callable[[], T]) -> T:
        """Make a call.

        Args:
            attempt: makes one attempt; raises `CallFailed`. Connections made by `deadlines.transport` end in time.

        Raises:
            ProviderError: naming provider, model, the number of attempts, and whether calling again may help.
            TextTooLong: likewise, where that is why.
            GatewayClosed: `close` was called.
        """
        deadline = time.monotonic() + self.limits.timeout
        self._pass_breaker()
        attempts = 0
        ended = False
        try:
            while True:
                if self._over.is_set():
                    raise GatewayClosed
                attempts += 1
                try:
                    result = self._attempt(attempt, deadline)
                except CallFailed as failure:
                    if self._over.is_set():  # it failed for that
                        raise GatewayClosed from failure
                    pause = self._pause(failure, attempts)
                    late = time.monotonic() + pause > deadline
                    if failure.retryable and attempts <= self.limits.max_retries and not late:
                        self._over.wait(pause)
                        continue
                    ended = True
                    self._note(attempts, failed=True, passing=failure.retryable)
                    error = TextTooLong if failure.too_long else ProviderError
                    raise error(
                        self.provider,
                        self.model,
                        failure.problem,
                        attempts=attempts,
                        retryable=failure.retryable,
                        hint=failure.hint,
                    ) from failure.__cause__
                ended = True
                self._note(attempts, failed=False)
                return result
        finally:
            if not ended:  # interrupted: nothing was learnt about the server
                with self._lock:
                    self._trying = False

    def _attempt(self, attempt: Callable[[], T], deadline: float) -> T:
        if not self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
            refuse(
                "all its places for requests stayed taken",
                retryable=True,
                hint="Raise `concurrency`, or the `timeout` of a call.",
            )
        try:
            with until(deadline):
                return attempt()
        finally:
            self._slots.release()

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
            if self._failed_in_row < self.limits.breaker_failures:
                return
            left = self._refused_until - time.monotonic()
            if left <= 0 and not self._trying:
                self._trying = True
                return
            for_how_long = f"another {left:.1f} seconds" if left > 0 else "as long as the next one is under way"
            raise ProviderError(
                self.provider,
                self.model,
                f"{self._failed_in_row} calls in a row failed, so that none is made for {for_how_long}",
                attempts=0,
                retryable=True,
            )

    def _note(self, attempts: int, *, failed: bool, passing: bool = False) -> None:
        with self._lock:
            self._counts.calls += 1
            self._counts.attempts += attempts
            self._counts.failures += failed
            self._failed_in_row = self._failed_in_row + 1 if failed and passing else 0
            self._trying = False
            if self._failed_in_row >= self.limits.breaker_failures:
                self._refused_until = time.monotonic() + self.limits.breaker_pause

    @staticmethod
    def _pause(failure: CallFailed, attempts: int) -> float:
        if failure.retry_after is not None:
            return failure.retry_after
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempts - 1))
        return random.uniform(longest / 4, longest)  # noqa: S311  # jitter


def violation_in(error: BaseException | None) -> OfflineViolation | None:
    """The refusal of `offline: true` that a client's exception wraps, if it does."""
    while error is not None and not isinstance(error, OfflineViolation):
        error = error.__cause__ or error.__context__
    return error


def answer_too_long(error: BaseException | None) -> CallFailed | None:
    """The failure of an answer without end, where a client's exception wraps that."""
    while error is not None and not isinstance(error, AnswerTooLong):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    hint = "Lower `batch_size`, if that is what was asked for."
    return CallFailed(f"the answer is longer than {LONGEST // 2**20} MiB", retryable=False, hint=hint)


def refuse(problem: str, *, retryable: bool = False, hint: str = "") -> NoReturn:
    """End an attempt whose answer cannot be used.

    Raises:
        CallFailed: always.
    """
    raise CallFailed(problem, retryable=retryable, hint=hint)


def text_too_long() -> CallFailed:
    """What a server means that refuses a text to be embedded for its length."""
    return CallFailed(
        "a text is longer than the model takes",
        retryable=False,
        hint="Embed shorter texts, or choose an `embedder.model` with a longer context.",
        too_long=True,
    )


def retry_after(value: str | None) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait: it holds seconds, or an HTTP date."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (date - datetime.now(timezone.utc)).total_seconds() if date.tzinfo is not None else math.nan
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _is_finite(vector: Sequence[float]) -> bool:
    """Whether a vector is made of numbers, as far as JSON goes: no client looks at each of them."""
    try:
        return math.isfinite(sum(vector))
    except (TypeError, OverflowError):
        return False


class RemoteEmbedder(Embedder):
    """An embedder behind a server: batches, and vectors that are checked before anything is made of them.

    Args:
        caller: makes the calls.
        batch_size: largest number of texts in a request.
        dimensions: length of the vectors, where it is known before the server is asked.
        required: length that they must have; None is any.
        batch_bytes: largest length of the texts in a request, in UTF-8: no tokenizer makes more tokens of them. A text
            that is longer goes alone.
    """

    def __init__(
        self,
        caller: Caller,
        batch_size: int,
        dimensions: int | None = None,
        required: int | None = None,
        batch_bytes: float = math.inf,
    ) -> None:
        self.provider = caller.provider
        self.model = caller.model
        self._caller = caller
        self._batch_size = batch_size
        self._dimensions = dimensions
        self._required = required
        self._batch_bytes = batch_bytes
        self._probing = threading.Lock()

    @abstractmethod
    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of one batch, as many as there are texts."""

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        """Length of the vectors: as documented or configured, else asked for once.

        Raises:
            ProviderError: the server cannot be asked, or the model has another length than is configured.
        """
        with self._probing:
            if self._dimensions is None:
                found = len(self._embed(["memstack"])[0])
                if not found:
                    problem, hint = "its vectors have no dimensions", "Check `embedder.model`: is it one for embedding?"
                    raise ProviderError(self.provider, self.model, problem, hint=hint)
                if self._required not in (None, found):
                    problem = f"its vectors have {found} dimensions, and `embedder.dimensions` is {self._required}"
                    raise ProviderError(self.provider, self.model, problem)
                self._dimensions = found
            return self._dimensions

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of some texts, in their order.

        Raises:
            ProviderError: the server failed, or a vector has another length than the others before it.
        """
        wanted = self.dimensions
        found: list[list[float]] = []
        for batch in self._batches(texts):
            found.extend(self._embed(batch))
        if not all(map(_is_finite, found)):
            raise ProviderError(self.provider, self.model, "a vector holds a value that is no number", retryable=True)
        lengths = sorted({len(vector) for vector in found} - {wanted})
        if lengths:
            raise ProviderError(self.provider, self.model, f"vectors have {lengths} dimensions, not {wanted}")
        return found

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        for text in texts:
            length = len(text.encode("utf-8", "replace"))
            if batch and (len(batch) >= self._batch_size or size + length > self._batch_bytes):
                yield batch
                batch, size = [], 0
            batch.append(text)
            size += length
        if batch:
            yield batch

    def stats(self) -> dict[str, Any]:
        """Figures for a person."""
        return {"provider": self.provider, "model": self.model, "dimensions": self._dimensions, **self._caller.stats()}
