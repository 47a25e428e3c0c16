"""What the failures of OpenAI's client mean: whether another attempt helps, and what does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import openai

from memstack.providers.calls import CallFailed, answer_too_long, retry_after, text_too_long, violation_in
from memstack.providers.network import refused_by_proxy, unreachable

__all__ = ["failure_of"]

_CODE: Final = re.compile(r"[A-Za-z_]{1,64}")  # model_not_found, DeploymentNotFound: what quotes something is no code

_REFUSED: Final = (400, 413, 422)
# As OpenAI, vLLM, llama.cpp and Text Embeddings Inference say it.
_TOO_LONG: Final = re.compile(
    r"context.?length|maximum input length|exceed_context_size|tokens per request|must have less than \d+ tokens",
    re.IGNORECASE,
)


def failure_of(error: Exception, section: str) -> CallFailed:
    """The client's exceptions; the server's own words are left out: they can quote the key or the text."""
    if (violation := violation_in(error)) is not None:
        raise violation
    if (endless := answer_too_long(error)) is not None:
        return endless
    if isinstance(error, openai.APITimeoutError):
        return CallFailed("the server did not answer in time", retryable=True, hint=f"See `{section}.read_timeout`.")
    if isinstance(error, openai.APIConnectionError):
        return unreachable(error, section, f"See `{section}.base_url`.")
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if section == "embedder" and status in _REFUSED and _TOO_LONG.search(f"{error.code} {error.message}"):
            return text_too_long()
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return refused_by_proxy(section)
        hints = {
            400: f"Check `{section}.model`: does it do this, and is its context long enough?",
            401: f"Check OPENAI_API_KEY or `{section}.api_key`.",
            403: f"The key may not use this: check `{section}.api_key` and `{section}.model`.",
            404: f"Check `{section}.model` and `{section}.base_url`.",
        }
        code = error.code if isinstance(error.code, str) and _CODE.fullmatch(error.code) else None
        passing = status in (408, 409, 429) or status >= 500  # noqa: PLR2004
        if code == "insufficient_quota":
            passing, hints[429] = False, "The account has no credit left."
        return CallFailed(
            f"HTTP {status}{f' ({code})' if code else ''}",
            retryable=passing,
            retry_after=_wait(error.response.headers),
            hint=hints.get(status, ""),
        )
    problem = f"the answer cannot be read ({type(error).__name__})"
    return CallFailed(problem, retryable=True, hint=f"See `{section}.base_url`: does that server speak OpenAI's API?")


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait; OpenAI's own header has them exactly."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        return retry_after(headers.get("retry-after"))
