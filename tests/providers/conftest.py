"""Wire servers, and the sections that reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from memstack.testing import OllamaServer, OpenAIServer, WireServer

KEY: Final = "sk-test-not-to-be-shown"
QUICK: Final = {"read_timeout": 2, "timeout": 8, "max_retries": 2, "breaker_failures": 100}
PROVIDERS: Final = ("openai", "ollama")


class Provider:
    """A wire server, and the sections that reach it.

    Attributes:
        server: the server.
        embedder: an ``embedder`` section.
        llm: an ``llm`` section.
    """

    def __init__(self, server: WireServer, embedder: dict[str, Any], llm: dict[str, Any]) -> None:
        self.server = server
        self.embedder = {**embedder, **QUICK}
        self.llm = {**llm, **QUICK}

    @property
    def name(self) -> str:
        """What configurations call it."""
        return str(self.llm["provider"])


@contextmanager
def running(name: str, **options: Any) -> Iterator[Provider]:
    """A provider's wire server, running; `options` are the server's."""
    if name == "openai":
        with OpenAIServer(api_key=KEY, **options) as server:
            place = {"provider": "openai", "base_url": server.base_url, "api_key": KEY}
            yield Provider(server, {**place, "model": "text-embedding-3-small"}, {**place, "model": "gpt-4.1-nano"})
    else:
        with OllamaServer(**options) as ollama:
            place = {"provider": "ollama", "host": ollama.host}
            yield Provider(ollama, {**place, "model": "nomic-embed-text"}, {**place, "model": "llama3.2"})


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Each provider's wire server."""
    with running(request.param) as started:
        yield started
