"""``offline: true`` at run time: while such a memory is open, nothing reaches beyond this machine.

The configuration refuses every host but this machine when it is loaded. What is left are the libraries: a telemetry
client, a model that is downloaded, a redirect that a server answers with. They are told to stay offline by the
variables that they know, before they are imported; and Python's audit events (``socket.connect``, ``socket.sendto``,
``socket.getaddrinfo``, …; see https://docs.python.org/3/library/audit_events.html) show every attempt to leave, which
ends in `OfflineViolation`. Connections that an engine makes outside of Python raise no audit event: the configuration
is what stands before those.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from typing import Any, Final, Literal

from memstack.config.urls import is_loopback
from memstack.errors import OfflineViolation

__all__ = ["VARIABLES", "Guard", "GuardScope"]

GuardScope = Literal["process", "memory"]
VARIABLES: Final = {
    "MEM0_TELEMETRY": "False",
    "ANONYMIZED_TELEMETRY": "False",  # Chroma
    "HF_HUB_OFFLINE": "1",  # Hugging Face: qdrant-client's fastembed, tokenizers
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
"""What libraries are told, by the variables that they read."""

_MEMORY: Final = frozenset({"memstack", "mem0", "chromadb", "posthog", "qdrant_client", "qdrant_edge", "wordllama"})
_HERE: Final = frozenset({"", "localhost", "0.0.0.0", "::"})  # noqa: S104  # to dial these is to dial this machine
# The place of the address, or of the name that is looked up, among the arguments of an event.
_EVENTS: Final = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}
_PATHS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})  # a text is a Unix socket's path
_TEXTS: Final = (str, bytes, bytearray)  # what Python's sockets take for a host, or a path
_log: Final = logging.getLogger(__name__)
_lock: Final = threading.Lock()
_open: dict[int, GuardScope] = {}  # guards that are up
_before: dict[str, str | None] = {}  # the variables as they were
_hooked = False


class Guard:
    """Keeps this process, or what the memory does in it, on this machine, until `leave`.

    Args:
        scope: ``process``: whoever tries to leave. ``memory``: memstack, and the libraries that it uses.
    """

    def __init__(self, scope: GuardScope) -> None:
        global _hooked  # noqa: PLW0603  # an audit hook cannot be removed, so there is one
        with _lock:
            if not _open:
                _before.update({name: os.environ.get(name) for name in VARIABLES})
                os.environ.update(VARIABLES)
            _open[id(self)] = scope
            if not _hooked:
                sys.addaudithook(_audit)
                _hooked = True

    def leave(self) -> None:
        """Let the process go where it likes, unless another guard is up. A second call does nothing."""
        with _lock:
            if _open.pop(id(self), None) is None or _open:
                return
            for name, value in _before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            _before.clear()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _open or event not in _EVENTS:
        return
    place = arguments[_EVENTS[event]] if len(arguments) > _EVENTS[event] else None
    host = place[0] if isinstance(place, tuple) and place else place
    if not isinstance(host, _TEXTS) or (isinstance(place, _TEXTS) and event in _PATHS):
        return  # a connected socket, a Unix socket, another family of addresses
    name = host if isinstance(host, str) else host.decode("utf-8", "replace")
    if name in _HERE or is_loopback(name.partition("%")[0]):
        return
    if "process" not in _open.values() and not _by_memory():
        return
    _log.error("offline: refused %s to %s", event, name)
    raise OfflineViolation(event, name)


def _by_memory() -> bool:
    """Whether memstack, or a library of its, is what asks."""
    return any(
        str(frame.f_globals.get("__name__", "")).partition(".")[0] in _MEMORY and frame.f_code.co_filename != __file__
        for frame, _ in traceback.walk_stack(None)
    )
