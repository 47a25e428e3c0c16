"""``${NAME}`` in the YAML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memstack.config import OpenAILLM, Settings
from memstack.errors import ConfigError
from tests.config.conftest import LLM

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("${SET}", "value"),
        ("${SET:-other}", "value"),
        ("${UNSET:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("a ${SET} b ${UNSET:-c} d", "a value b c d"),
        ("${SET}${SET}", "valuevalue"),
        ("$${SET}", "${SET}"),
        ("$${SET} ${SET}", "${SET} value"),
        ("$$${SET}", "$${SET}"),
        ("$SET", "$SET"),
        ("$", "$"),
        ("$$", "$$"),
        ("{SET}", "{SET}"),
        ("${UNSET:-a b:-c}", "a b:-c"),
        ("${REFERENCE}", "${SET}"),
        ("${_X1}", "x"),
    ],
)
def test_references(text: str, meant: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference is replaced once, by the variable or its default; ``$${`` is a plain ``${``."""
    for name, value in {"SET": "value", "EMPTY": "", "REFERENCE": "${SET}", "_X1": "x"}.items():
        monkeypatch.setenv(name, value)
    assert Settings.load(write(f"custom_instructions: '{text}'"), **LLM).custom_instructions == meant


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named_with_its_place_and_the_way_out(
    value: str | None, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the option, the variable and the file, and shows how to give a default."""
    if value is not None:
        monkeypatch.setenv("WANTED", value)
    with pytest.raises(ConfigError) as caught:
        Settings.load(write("llm: {provider: openai, model: m, api_key: 'sk-hunter2-${WANTED}'}"))
    assert caught.value.where == "llm.api_key"
    assert "WANTED" in str(caught.value)
    assert "memstack.yaml" in str(caught.value)
    assert "${WANTED:-" in caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_a_variable_that_is_not_set_is_named_in_a_list_too(write: Write) -> None:
    """The place of an item is told as that of an option is."""
    with pytest.raises(ConfigError, match="WANTED") as caught:
        Settings.load(write("schemas: [my_app.Habit, 'my_app.${WANTED}']"))
    assert caught.value.where == "schemas[1]"


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A-b}", "${A:?b}", "${A:-${B}}", "${A B}", "x${-}"])
def test_malformed_references_are_refused(text: str, write: Write) -> None:
    """What looks like a reference and is none is an error that shows the forms, not the text."""
    with pytest.raises(ConfigError, match=r"custom_instructions: .*NAME:-default") as caught:
        Settings.load(write(f"custom_instructions: 'hunter2 {text}'"))
    assert "hunter2" not in str(caught.value)


def test_a_reference_that_comes_to_nothing_leaves_the_option_out(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """``${KEY:-}`` is an optional key: the standard variable or the default takes its place."""
    path = write("llm: {provider: openai, model: m, api_key: '${KEY:-}', base_url: '${URL:-}'}")
    llm = Settings.load(path).llm
    assert isinstance(llm, OpenAILLM)
    assert llm.api_key is None
    assert llm.base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert Settings.load(path).origins["llm.api_key"] == "environment OPENAI_API_KEY"


def test_references_become_numbers_and_switches(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options of any type may be references."""
    monkeypatch.setenv("PORT", "8123")
    path = write(
        "vector_store: {provider: chroma, host: localhost, port: '${PORT}', ssl: '${SSL:-true}'}\n"
        "offline: ${OFFLINE:-yes}\nremember_roles: ['${ROLE:-user}', assistant]\n"
    )
    shown = Settings.load(path).masked()
    assert (shown["vector_store"]["port"], shown["vector_store"]["ssl"], shown["offline"]) == (8123, True, True)
    assert shown["remember_roles"] == ["user", "assistant"]


def test_provider_and_mode_may_be_references(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice itself can come from the environment."""
    path = write("vector_store: {provider: '${ENGINE:-qdrant}', mode: '${MODE:-memory}'}")
    assert Settings.load(path).vector_store.key == "qdrant:memory"
    monkeypatch.setenv("ENGINE", "chroma")
    monkeypatch.setenv("MODE", "embedded")
    assert Settings.load(path).vector_store.key == "chroma:embedded"


@pytest.mark.parametrize(
    "overrides",
    [
        {"llm": {"api_key": "k"}},
        {"llm": {"provider": "none"}},
        {"llm": {"provider": "ollama", "model": "m"}},
    ],
)
def test_what_a_higher_layer_replaces_need_not_be_set(overrides: dict[str, dict[str, str]], write: Write) -> None:
    """A variable is missed only where its option is used."""
    path = write("llm: {provider: openai, model: m, api_key: '${WANTED}'}")
    with pytest.raises(ConfigError, match="WANTED"):
        Settings.load(path)
    Settings.load(path, **overrides)


def test_an_unset_provider_is_an_error_of_its_own(write: Write) -> None:
    """A provider that cannot be read is told as such, not as another provider."""
    with pytest.raises(ConfigError, match="WANTED"):
        Settings.load(write("llm: {provider: '${WANTED}'}"))
    with pytest.raises(ConfigError, match="WANTED"):
        Settings.load(write("vector_store: {mode: '${WANTED}'}"), vector_store={"path": "x"})


def test_mappings_are_taken_literally() -> None:
    """A mapping from Python holds what it holds: there Python reads the environment."""
    assert Settings.load({"custom_instructions": "${NAME}", **LLM}).custom_instructions == "${NAME}"
