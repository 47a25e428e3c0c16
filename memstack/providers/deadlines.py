"""Deadlines of whole calls, kept by the connections themselves; and headers that stay with the server they are for.

The timeouts of HTTP clients are those of silence: a server that sends a byte now and then is waited for without end.
Here a call has a deadline, and whatever is left of it is the longest silence, and the end of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from memstack.providers.answers import CODING, bounded

__all__ = ["transport", "until"]

_deadline: Final[ContextVar[float | None]] = ContextVar("memstack_deadline", default=None)
_LEAST: Final = 0.05  # seconds


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Requests of this thread that are made while the block runs end at a deadline, by `time.monotonic`."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def transport(library: Any, address: str = "", private: Iterable[str] = (), **way: Any) -> Any:
    """A transport that keeps deadlines, and the lengths of answers.

    Args:
        library: ``httpx``, or what has the same classes.
        address: whom the client talks to.
        private: names of headers for that server alone. Where it redirects to another one they are left out, as the
            client itself leaves ``Authorization`` out; what is no other is the same host by HTTPS in place of HTTP.
        way: what the library's transport is told beside: see `network.way`.

    Raises (when it is used):
        ReadTimeout, DecodingError: of that library.
        AnswerTooLong: the answer goes on and on.
    """
    home, private = library.URL(address), tuple(private)
    places = {(home.scheme, home.host, home.port)} | ({("https", home.host, None)} if home.port is None else set())

    def at_home(url: Any) -> bool:
        return (url.scheme, url.host, url.port) in places

    class Transport(library.HTTPTransport):  # type: ignore[misc]
        """Connections whose requests end in time."""

        def handle_request(self, request: Any) -> Any:
            if not at_home(request.url):
                for name in private:
                    request.headers.pop(name, None)
            request.headers["Accept-Encoding"] = CODING
            deadline = _deadline.get()
            if deadline is not None:
                left = max(_LEAST, deadline - time.monotonic())
                given = request.extensions.get("timeout", {})
                limited = {kind: left if value is None else min(value, left) for kind, value in given.items()}
                request.extensions = {**request.extensions, "timeout": limited}
            response = super().handle_request(request)
            bounded(library, response, request, deadline)
            return response

    return Transport(**way)
