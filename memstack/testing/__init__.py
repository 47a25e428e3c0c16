"""Servers for tests, over real HTTP on 127.0.0.1: of memstack, of applications on it, of plug-ins for it.

>>> from memstack.testing import Fault, OllamaServer, OpenAIServer
>>> with OpenAIServer() as server:
...     server.fail(Fault.status(429, retry_after=1), times=2)
...     ...  # OpenAI(base_url=server.base_url, api_key=server.api_key)
>>> with OllamaServer() as server:
...     ...  # ollama.Client(host=server.host)

They need the standard library, and the built-in embedder once something is embedded; importing them loads neither
that nor the client of any provider.
"""

from memstack.testing.ollama_server import OllamaModel, OllamaServer
from memstack.testing.openai_server import OpenAIModel, OpenAIServer
from memstack.testing.stand_in import Turn
from memstack.testing.wire import Fault, WireRequest, WireServer

__all__ = [
    "Fault",
    "OllamaModel",
    "OllamaServer",
    "OpenAIModel",
    "OpenAIServer",
    "Turn",
    "WireRequest",
    "WireServer",
]
