"""``offline: true``: every host is this machine, or the configuration is refused."""

from __future__ import annotations

from typing import Any

import pytest

from memstack.config import Settings
from memstack.errors import ConfigError

OLLAMA = {"provider": "ollama", "model": "m"}
OPENAI = {"provider": "openai", "model": "m"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"vector_store": {"provider": "qdrant", "mode": "memory"}},
        {"vector_store": {"url": "http://localhost:6333"}},
        {"vector_store": {"url": "127.0.0.1:6333"}},
        {"vector_store": {"host": "::1"}},
        {"vector_store": {"provider": "chroma", "path": "a"}},
        {"vector_store": {"provider": "chroma", "mode": "server"}},
        {"vector_store": {"provider": "chroma", "host": "127.3.2.1"}},
        {"vector_store": {"provider": "pgvector", "path": "a"}},
        {"vector_store": {"provider": "pgvector", "url": "postgresql://u:p@localhost/d"}},
        {"vector_store": {"provider": "pgvector", "url": "postgresql:///d"}},
        {"vector_store": {"provider": "pgvector", "url": "postgresql://%2Frun/d"}},
        {"vector_store": {"provider": "pgvector", "url": "host=/run dbname=d"}},
        {"vector_store": {"provider": "pgvector", "url": "postgresql://localhost,127.0.0.1/d"}},
        {"vector_store": {"provider": "pgvector", "host": "/var/run/postgresql"}},
        {"embedder": OLLAMA, "llm": OLLAMA},
        {"llm": {**OLLAMA, "host": "0.0.0.0"}},  # noqa: S104  # called, not bound
        {"llm": {**OPENAI, "base_url": "http://[::1]:8080/v1"}},
    ],
)
def test_this_machine_is_allowed(options: dict[str, Any]) -> None:
    """Embedded engines, loopback addresses and Unix sockets pass."""
    assert Settings.load(options, offline=True).offline


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"vector_store": {"url": "http://qdrant.example"}}, "vector_store.url"),
        ({"vector_store": {"url": "http://localhost@qdrant.example"}}, "vector_store.url"),
        ({"vector_store": {"url": "qdrant:6333"}}, "vector_store.url"),
        ({"vector_store": {"host": "10.0.0.1"}}, "vector_store.host"),
        ({"vector_store": {"provider": "chroma", "host": "chroma"}}, "vector_store.host"),
        ({"vector_store": {"provider": "pgvector", "url": "postgresql://u:hunter2@db/d"}}, "vector_store.url"),
        ({"vector_store": {"provider": "pgvector", "url": "postgresql://localhost,db/d"}}, "vector_store.url"),
        (
            {"vector_store": {"provider": "pgvector", "url": "postgresql://localhost/d?hostaddr=1.2.3.4"}},
            "vector_store.url",
        ),
        ({"vector_store": {"provider": "pgvector", "url": "service=prod"}}, "vector_store.url"),
        ({"vector_store": {"provider": "pgvector", "host": "localhost,db"}}, "vector_store.host"),
        ({"embedder": OPENAI}, "embedder.base_url"),
        ({"llm": OPENAI}, "llm.base_url"),
        ({"llm": {**OPENAI, "base_url": "https://u:hunter2@proxy/v1"}}, "llm.base_url"),
        ({"embedder": {**OLLAMA, "host": "gpu"}}, "embedder.host"),
        ({"llm": {**OLLAMA, "host": "http://192.168.1.2:11434"}}, "llm.host"),
        ({"llm": {**OLLAMA, "proxy": "http://u:hunter2@proxy:3128"}}, "llm.proxy"),
        ({"embedder": {**OPENAI, "base_url": "http://localhost/v1", "proxy": "http://proxy:3128"}}, "embedder.proxy"),
    ],
)
def test_another_machine_is_refused_by_option(options: dict[str, Any], where: str) -> None:
    """Every option that points elsewhere, defaults too, is named; its value is not shown."""
    with pytest.raises(ConfigError, match="points to another machine") as caught:
        Settings.load(options, offline=True)
    assert caught.value.where == where
    assert "hunter2" not in str(caught.value)
    Settings.load(options)


@pytest.mark.parametrize(
    ("variable", "value", "options", "where"),
    [
        ("OLLAMA_HOST", "gpu", {"llm": OLLAMA}, "llm.host"),
        ("OPENAI_BASE_URL", "http://gpu/v1", {"llm": OPENAI}, "llm.base_url"),
        ("QDRANT_URL", "http://qdrant", {"vector_store": {"provider": "qdrant"}}, "vector_store.url"),
        ("DATABASE_URL", "postgres://db/d", {"vector_store": {"provider": "pgvector"}}, "vector_store.url"),
        ("PGHOST", "db", {"vector_store": {"provider": "pgvector", "url": "postgresql:///d"}}, "vector_store.url"),
    ],
)
def test_variables_do_not_lead_out(
    variable: str, value: str, options: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host from the environment is looked at like one from the file, and the error says where it came from."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        Settings.load(options, offline=True)
    assert caught.value.where == where
    assert variable == "PGHOST" or f"it comes from environment {variable}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "where"),
    [({"telemetry": True}, "telemetry"), ({"llm": {**OLLAMA, "auto_pull": True}}, "llm.auto_pull")],
)
def test_what_contradicts_offline_is_refused(options: dict[str, Any], where: str) -> None:
    """Telemetry and downloads are not silently switched off."""
    with pytest.raises(ConfigError) as caught:
        Settings.load(options, offline=True)
    assert caught.value.where == where


def test_the_environment_can_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """MEMSTACK_OFFLINE refuses what the file names; an override of a Settings is examined too."""
    settings = Settings.load({"llm": OPENAI})
    with pytest.raises(ConfigError, match=r"llm\.base_url"):
        Settings.load(settings, offline=True)
    monkeypatch.setenv("MEMSTACK_OFFLINE", "true")
    with pytest.raises(ConfigError, match=r"llm\.base_url"):
        Settings.load({"llm": OPENAI})


def test_a_proxy_of_this_machine_is_refused_too() -> None:
    """Where it leads cannot be seen."""
    with pytest.raises(ConfigError, match="leads beyond this machine") as caught:
        Settings.load(llm={**OLLAMA, "proxy": "http://localhost:3128"}, offline=True)
    assert caught.value.where == "llm.proxy"
