"""What the failures of Ollama's client mean: whether another attempt helps, and what does."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import httpx
import ollama

from memstack.providers.calls import CallFailed, answer_too_long, retry_after, text_too_long, violation_in
from memstack.providers.network import refused_by_proxy, unreachable

__all__ = ["RAISE", "failure_of", "is_missing"]

RAISE: Final = "Raise `llm.num_ctx` (as far as the model goes), or add fewer messages at a time."


def is_missing(error: BaseException | None) -> bool:
    """Whether the server says that it does not have the model."""
    return (
        isinstance(error, ollama.ResponseError) and error.status_code == HTTPStatus.NOT_FOUND and "model" in error.error
    )


def failure_of(error: Exception, section: str, model: str) -> CallFailed:
    """The client's exceptions; the server's own words are left out: they can quote the text."""
    if (violation := violation_in(error)) is not None:
        raise violation
    if (endless := answer_too_long(error)) is not None:
        return endless
    if isinstance(error, httpx.HTTPStatusError):  # of a request that the client has no method for
        error = ollama.ResponseError(error.response.text, error.response.status_code)
    if isinstance(error, ollama.ResponseError):
        return _refused(error, section, model)
    if isinstance(error, httpx.TimeoutException):
        return CallFailed("the server did not answer in time", retryable=True, hint=f"See `{section}.read_timeout`.")
    if isinstance(error, (httpx.HTTPError, ConnectionError)):
        return unreachable(error, section, f"Is Ollama running? See `{section}.host`.")
    problem = f"the answer cannot be read ({type(error).__name__})"
    return CallFailed(problem, retryable=True, hint=f"See `{section}.host`: is that an Ollama server?")


def _refused(error: ollama.ResponseError, section: str, model: str) -> CallFailed:
    """What the status of an answer means."""
    status = error.status_code
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return refused_by_proxy(section)
    if is_missing(error):
        return CallFailed("the server does not have this model", retryable=False, hint=_how_to_pull(model))
    if status == HTTPStatus.BAD_REQUEST and "context" in error.error:
        if section == "embedder":
            return text_too_long()
        return CallFailed("the prompt is longer than the context", retryable=False, hint=RAISE)
    hints: dict[int, str] = {
        HTTPStatus.NOT_FOUND: f"Check `{section}.host`: is it an Ollama server?",
        HTTPStatus.BAD_REQUEST: f"Check `{section}.model`: does it do this?",
        HTTPStatus.UNAUTHORIZED: f"Check the user and password in `{section}.host`.",
    }
    passing = status in (408, 429) or status >= 500  # noqa: PLR2004
    wait = None
    if isinstance(error.__context__, httpx.HTTPStatusError):
        wait = retry_after(error.__context__.response.headers.get("retry-after"))
    return CallFailed(f"HTTP {status}", retryable=passing, retry_after=wait, hint=hints.get(status, ""))


def _how_to_pull(model: str) -> str:
    return f"Run: ollama pull {model} (or, unless `offline` is true, memstack doctor --pull)"
