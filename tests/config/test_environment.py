"""``MEMSTACK_…``, and the standard variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstack.config import Settings
from memstack.config.sources import environment_layer
from memstack.errors import ConfigError, UnknownName
from tests.config.conftest import LLM

Write = Callable[..., Path]


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variable", "value", "option", "meant"),
    [
        ("MEMSTACK_OFFLINE", "true", "offline", True),
        ("MEMSTACK_OFFLINE", "1", "offline", True),
        ("MEMSTACK_TELEMETRY", "no", "telemetry", False),
        ("MEMSTACK_CUSTOM_INSTRUCTIONS", "a,b", "custom_instructions", "a,b"),
        ("MEMSTACK_REMEMBER_ROLES", "user", "remember_roles", ["user"]),
        ("MEMSTACK_REMEMBER_ROLES", "user, assistant", "remember_roles", ["user", "assistant"]),
        ("MEMSTACK_REMEMBER_ROLES", '["user", "assistant"]', "remember_roles", ["user", "assistant"]),
        ("MEMSTACK_VECTOR_STORE__COLLECTION", "mine", "vector_store.collection", "mine"),
        ("MEMSTACK_VECTOR_STORE__EMBEDDING_DIMS", "256", "vector_store.embedding_dims", 256),
        ("MEMSTACK_LIMITS__MAX_TEXT", "7", "limits.max_text", 7),
        ("MEMSTACK_HISTORY__PATH", ":memory:", "history.path", ":memory:"),
        ("memstack_offline", "true", "offline", True),
        ("MEMSTACK_VECTOR_STORE", '{"provider": "qdrant", "mode": "memory"}', "vector_store.mode", "memory"),
        ("MEMSTACK_LIMITS", '{"max_text": 8}', "limits.max_text", 8),
    ],
)
def test_variables_set_options(
    variable: str, value: str, option: str, meant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two underscores lead into a section; text becomes what the option is; a section may be JSON."""
    monkeypatch.setenv(variable, value)
    settings = Settings.load(**LLM)
    shown: Any = settings.masked()
    for part in option.split("."):
        shown = shown[part]
    assert shown == meant
    assert settings.origins[option] == f"environment {variable}"


def test_a_list_that_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in JSON that cannot be read says how a list is given."""
    monkeypatch.setenv("MEMSTACK_REMEMBER_ROLES", "[user, assistant]")
    with pytest.raises(ConfigError, match="names divided by commas, or a list in JSON") as caught:
        Settings.load()
    assert caught.value.where == "remember_roles"


@pytest.mark.parametrize("whole", ["MEMSTACK_LLM", "memstack_llm"])  # the latter sorts last
def test_a_section_and_its_options_lie_on_one_another(whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single option is more exact than the JSON of its section, whichever is read first; headers may be JSON."""
    section = '{"provider": "openai", "model": "a", "timeout": 9}'
    set_all(monkeypatch, {whole: section, "MEMSTACK_LLM__MODEL": "b", "MEMSTACK_LLM__HEADERS": '{"X-A": "1"}'})
    settings = Settings.load()
    shown = settings.masked()["llm"]
    assert (shown["model"], shown["timeout"], shown["headers"]) == ("b", 9.0, {"X-A": "**********"})
    assert settings.origins["llm.timeout"].lower() == "environment memstack_llm"
    assert settings.origins["llm.model"] == "environment MEMSTACK_LLM__MODEL"


@pytest.mark.parametrize(
    "variable",
    [
        "MEMSTACK_OFFLINE",
        "MEMSTACK_VECTOR_STORE",
        "MEMSTACK_VECTOR_STORE__PROVIDER",
        "MEMSTACK_LLM__NONSENSE",
        "MEMSTACK_X",
    ],
)
def test_an_empty_variable_is_not_set(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty is how shells and containers unset."""
    monkeypatch.setenv(variable, "")
    assert set(Settings.load().origins.values()) == {"default"}


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("MEMSTACK_OFLINE", "Did you mean 'offline'"),
        ("MEMSTACK_VECTORSTORE__PROVIDER", "Did you mean 'vector_store'"),
        ("MEMSTACK_VECTOR_STORE_PROVIDER", "MEMSTACK_VECTOR_STORE__PROVIDER"),
        ("MEMSTACK_VECTOR_STORE__COLECTION", "Did you mean 'collection'"),
        ("MEMSTACK_LLM__API_KEY", "llm.api_key (environment MEMSTACK_LLM__API_KEY): unknown option"),
        ("MEMSTACK_LIMITS__MAX_TXT", "Did you mean 'max_text'"),
        ("MEMSTACK_VECTOR_STORE__", "unknown option"),
        ("MEMSTACK_SOMETHING", "Known: "),
    ],
)
def test_a_variable_that_sets_nothing_is_an_error(variable: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is named, with what was meant, and without its value."""
    monkeypatch.setenv(variable, "hunter2")
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert variable in str(caught.value)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("variable", ["MEMSTACK_TEST_QDRANT_URL", "MEMSTACK_TEST_STORE", "MEMSTACKS", "MY_MEMSTACK_X"])
def test_other_variables_are_left_alone(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the tests, and those of others, are no options."""
    monkeypatch.setenv(variable, "x")
    assert set(Settings.load().origins.values()) == {"default"}


@pytest.mark.parametrize("value", ["qdrant", "[1]", "{", "hunter2: 1"])
def test_a_section_that_is_no_json_object_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable, and the way to set single options."""
    monkeypatch.setenv("MEMSTACK_VECTOR_STORE", value)
    with pytest.raises(ConfigError, match=r"MEMSTACK_VECTOR_STORE: .*MEMSTACK_VECTOR_STORE__PROVIDER") as caught:
        Settings.load()
    assert "hunter2" not in str(caught.value)


def test_a_variable_inside_of_an_option_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option is set whole or by its parts, not both."""
    set_all(monkeypatch, {"MEMSTACK_OFFLINE": "true", "MEMSTACK_OFFLINE__X": "1"})
    with pytest.raises(ConfigError, match="MEMSTACK_OFFLINE__X"):
        Settings.load()


def test_every_option_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option of each section can be set by the variable that errors name."""
    from memstack.config.layers import env_name

    for option in Settings.load(llm={"provider": "ollama", "model": "m"}).origins:
        monkeypatch.setenv(env_name(option), "1")
    found = environment_layer(Settings.model_fields).options
    assert found["llm"]["num_ctx"] == found["limits"]["max_text"] == found["offline"] == "1"


# -- the standard variables ------------------------------------------------------------------

STANDARD = {
    "OPENAI_API_KEY": "sk-1",
    "OPENAI_BASE_URL": "http://openai.test/v1",
    "OLLAMA_HOST": "gpu.test",
    "QDRANT_URL": "http://qdrant.test",
    "QDRANT_API_KEY": "qk",
    "DATABASE_URL": "postgres://u:pw@pg.test/app",
}


def filled(settings: Settings) -> dict[str, str]:
    """The options that standard variables filled, with the variable."""
    names = {f"environment {name}": name for name in STANDARD}
    return {option: names[origin] for option, origin in settings.origins.items() if origin in names}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"vector_store": {"collection": "abc"}}, {}),
        ({"vector_store": {"provider": "qdrant", "mode": "embedded"}}, {}),
        ({"vector_store": {"provider": "qdrant", "path": "a"}}, {}),
        ({"vector_store": {"provider": "qdrant", "mode": "memory"}}, {}),
        ({"vector_store": {"path": "a"}}, {}),
        ({"vector_store": {"provider": "chroma"}}, {}),
        ({"vector_store": {"provider": "chroma", "mode": "server"}}, {}),
        (
            {"vector_store": {"provider": "qdrant"}},
            {"vector_store.url": "QDRANT_URL", "vector_store.api_key": "QDRANT_API_KEY"},
        ),
        (
            {"vector_store": {"mode": "server"}},
            {"vector_store.url": "QDRANT_URL", "vector_store.api_key": "QDRANT_API_KEY"},
        ),
        ({"vector_store": {"provider": "qdrant", "url": "http://x"}}, {"vector_store.api_key": "QDRANT_API_KEY"}),
        ({"vector_store": {"host": "x"}}, {"vector_store.api_key": "QDRANT_API_KEY"}),
        ({"vector_store": {"url": "http://x", "api_key": "mine"}}, {}),
        ({"vector_store": {"provider": "pgvector"}}, {"vector_store.url": "DATABASE_URL"}),
        ({"vector_store": {"provider": "pgvector", "mode": "server"}}, {"vector_store.url": "DATABASE_URL"}),
        ({"vector_store": {"provider": "pgvector", "mode": "embedded"}}, {}),
        ({"vector_store": {"provider": "pgvector", "path": "a"}}, {}),
        ({"vector_store": {"provider": "pgvector", "host": "h"}}, {}),
        ({"vector_store": {"provider": "pgvector", "url": "postgresql://h/d"}}, {}),
        (
            {"embedder": {"provider": "openai", "model": "m"}},
            {"embedder.api_key": "OPENAI_API_KEY", "embedder.base_url": "OPENAI_BASE_URL"},
        ),
        ({"llm": {"provider": "openai", "model": "m", "api_key": "k", "base_url": "http://x"}}, {}),
        ({"llm": {"provider": "ollama", "model": "m"}}, {"llm.host": "OLLAMA_HOST"}),
        ({"llm": {"provider": "ollama", "model": "m", "host": "x"}}, {}),
        (
            {"embedder": {"provider": "ollama", "model": "m"}, "llm": {"provider": "openai", "model": "m"}},
            {"embedder.host": "OLLAMA_HOST", "llm.api_key": "OPENAI_API_KEY", "llm.base_url": "OPENAI_BASE_URL"},
        ),
    ],
)
def test_standard_variables_fill_what_is_left_where_they_fit(
    options: dict[str, Any], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fill sections that name their provider, never choose one, and never override a path or a mode."""
    set_all(monkeypatch, STANDARD)
    assert filled(Settings.load(options)) == expected


def test_a_key_alone_makes_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """QDRANT_API_KEY without an address leaves the engine of this process as it is."""
    monkeypatch.setenv("QDRANT_API_KEY", "qk")
    settings = Settings.load({"vector_store": {"provider": "qdrant"}})
    assert settings.vector_store.key == "qdrant:embedded"
    assert filled(settings) == {}


@pytest.mark.parametrize("url", ["mysql://u:pw@h/d", "sqlite:///x.db", "redis://h"])
def test_another_databases_url_is_not_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL may belong to something else."""
    monkeypatch.setenv("DATABASE_URL", url)
    assert Settings.load({"vector_store": {"provider": "pgvector"}}).vector_store.key == "pgvector:embedded"
    with pytest.raises(ConfigError, match=r"vector_store\.url: is missing"):
        Settings.load({"vector_store": {"provider": "pgvector", "mode": "server"}})


@pytest.mark.parametrize("variable", ["OPENROUTER_API_KEY", "OPENAI_API_BASE", "OPENAI_ORG_ID", "ANTHROPIC_API_KEY"])
def test_no_other_variable_is_read(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENROUTER_API_KEY and its like change nothing."""
    options = {"llm": {"provider": "openai", "model": "m"}}
    before = Settings.load(options)
    monkeypatch.setenv(variable, "hunter2")
    assert Settings.load(options).llm == before.llm


@pytest.mark.parametrize("name", STANDARD)
def test_an_empty_standard_variable_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty is how shells and containers unset."""
    options = {
        "vector_store": {"provider": "qdrant"},
        "embedder": {"provider": "ollama", "model": "m"},
        "llm": {"provider": "openai", "model": "m"},
    }
    monkeypatch.setenv(name, "")
    assert filled(Settings.load(options)) == {}


def test_a_wrong_standard_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error tells that the value came from the variable, not from the file."""
    monkeypatch.setenv("OPENAI_BASE_URL", "hunter2")
    with pytest.raises(ConfigError, match=r"llm\.base_url: .*It comes from environment OPENAI_BASE_URL") as caught:
        Settings.load({"llm": {"provider": "openai", "model": "m"}})
    assert "hunter2" not in str(caught.value)


def test_unknown_variables_come_before_the_rest(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """A misspelt option of the environment is an UnknownName like one of the file."""
    write("offline: true")
    monkeypatch.setenv("MEMSTACK_OFLINE", "false")
    with pytest.raises(UnknownName) as caught:
        Settings.load()
    assert caught.value.name == "ofline"
