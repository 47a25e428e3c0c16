"""Servers for tests, over real HTTP on 127.0.0.1: of memstack, of applications on it, of plug-ins for it.

>>> from memstack.testing import Fault, OllamaServer, OpenAIServer
>>> with OpenAIServer() as server:
...     server.fail(Fault.status(429, retry_after=1), times=2)
...     ...  # OpenAI(base_url=server.base_url, api_key=server.api_key)
>>> with OllamaServer() as server:
...     ...  # ollama.Client(host=server.host)

They need the standard library, and the built-in embedder once something is embedded; importing them loads neither
that nor the client of any provider.

And the contract that every store passes, as suites to inherit: see `memstack.testing.contract`, which needs pytest and
hypothesis (``pip install "memstack[testing]"``) and is imported when one of its names is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from memstack import registry
from memstack.testing.ollama_server import OllamaModel, OllamaServer
from memstack.testing.openai_server import OpenAIModel, OpenAIServer
from memstack.testing.stand_in import Turn
from memstack.testing.wire import Fault, WireRequest, WireServer

if TYPE_CHECKING:
    from memstack.testing.contract import Backend, FilterContract, GatewayContract, ScopeContract, StoreContract

__all__ = [
    "Backend",
    "Fault",
    "FilterContract",
    "GatewayContract",
    "OllamaModel",
    "OllamaServer",
    "OpenAIModel",
    "OpenAIServer",
    "ScopeContract",
    "StoreContract",
    "Turn",
    "WireRequest",
    "WireServer",
]

_CONTRACT: Final = ("Backend", "FilterContract", "GatewayContract", "ScopeContract", "StoreContract")


_NEEDED: Final = ("hypothesis", "pytest", "pytest_asyncio", "pytest_timeout")


def check_installed(where: str) -> None:
    """Whether what the suites are made of is installed; it is not imported.

    Raises:
        MissingDependency: it is not; the message is the pip command.
    """
    registry.check_installed(where, _NEEDED, "testing")


def __getattr__(name: str) -> Any:
    """The suites, imported when they are asked for."""
    if name in _CONTRACT:
        check_installed(f"memstack.testing.{name}")
        return getattr(importlib.import_module("memstack.testing.contract"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
