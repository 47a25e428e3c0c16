"""Which layer wins, how sections merge, and where each option came from."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstack.config import OllamaLLM, OpenAIEmbedder, OpenAILLM, QdrantEmbedded, QdrantServer, Settings
from memstack.errors import ConfigError, UnknownName
from tests.config.conftest import LLM

Write = Callable[..., Path]
LAYERS = ("override", "environment MEMSTACK_LLM__BASE_URL", "memstack.yaml", "environment OPENAI_BASE_URL", "default")


@pytest.mark.parametrize("present", [set(some) for n in range(5) for some in itertools.combinations(range(4), n)])
def test_the_highest_layer_wins(present: set[int], write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overrides, MEMSTACK_ variables, file, standard variables, defaults: in this order, in every combination."""
    content = "llm: {provider: openai, model: m"
    write(content + (", base_url: 'http://2'}" if 2 in present else "}"))
    overrides = {"llm": {"base_url": "http://0"}} if 0 in present else {}
    for layer, name in ((1, "MEMSTACK_LLM__BASE_URL"), (3, "OPENAI_BASE_URL")):
        if layer in present:
            monkeypatch.setenv(name, f"http://{layer}")
    settings = Settings.load(**overrides)
    highest = min(present, default=4)
    assert settings.masked()["llm"]["base_url"] == (f"http://{highest}" if present else "https://api.openai.com/v1")
    assert settings.origins["llm.base_url"] == LAYERS[highest]


@pytest.mark.parametrize("present", [set(some) for n in range(4) for some in itertools.combinations(range(3), n)])
def test_plain_options_follow_the_same_order(present: set[int], write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands outside of sections is no exception."""
    if 2 in present:
        write("custom_instructions: '2'")
    if 1 in present:
        monkeypatch.setenv("MEMSTACK_CUSTOM_INSTRUCTIONS", "1")
    settings = Settings.load(**LLM, **({"custom_instructions": "0"} if 0 in present else {}))
    assert settings.custom_instructions == (str(min(present)) if present else None)


def test_sections_merge_key_by_key(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A layer changes the options that it names, and leaves the others."""
    write("vector_store: {provider: chroma, path: a, collection: from-file}\nlimits: {max_text: 5}\n")
    monkeypatch.setenv("MEMSTACK_LIMITS__MAX_METADATA_DEPTH", "3")
    settings = Settings.load(vector_store={"path": "b"})
    assert settings.vector_store.key == "chroma:embedded"
    assert settings.vector_store.folder == tmp_path / "b"
    assert settings.vector_store.collection == "from-file"
    assert (settings.limits.max_text, settings.limits.max_metadata_depth) == (5, 3)


def test_nested_mappings_merge_too() -> None:
    """Headers of two layers are sent together; one that is None is left out there, and stays as it is below."""
    settings = Settings.load(
        {"llm": {"provider": "openai", "model": "m", "headers": {"X-A": "1", "X-B": "1"}}},
        llm={"headers": {"X-A": None, "X-B": "2", "X-C": "2"}},
    )
    assert isinstance(settings.llm, OpenAILLM)
    headers = {name: value.get_secret_value() for name, value in settings.llm.headers.items()}
    assert headers == {"X-A": "1", "X-B": "2", "X-C": "2"}


@pytest.mark.parametrize(
    ("lower", "higher", "expected"),
    [
        # another provider: the lower section goes, its collection stays
        (
            {"provider": "qdrant", "url": "http://a", "api_key": "k"},
            {"provider": "chroma"},
            ("chroma:embedded", "mine"),
        ),
        (
            {"provider": "chroma", "host": "a", "tenant": "t"},
            {"provider": "qdrant", "mode": "memory"},
            ("qdrant:memory", "mine"),
        ),
        (
            {"provider": "qdrant", "path": "a"},
            {"provider": "pgvector", "url": "postgresql://h/d"},
            ("pgvector:server", "mine"),
        ),
        ({"provider": "nonsense", "x": 1}, {"provider": "chroma"}, ("chroma:embedded", "mine")),
        # another mode: provider and collection stay
        ({"provider": "chroma", "path": "a"}, {"mode": "server"}, ("chroma:server", "mine")),
        ({"provider": "chroma", "path": "a"}, {"host": "h"}, ("chroma:server", "mine")),
        ({"provider": "qdrant", "url": "http://a", "api_key": "k"}, {"path": "b"}, ("qdrant:embedded", "mine")),
        ({"provider": "qdrant", "url": "http://a", "api_key": "k"}, {"mode": "memory"}, ("qdrant:memory", "mine")),
        ({"provider": "qdrant", "mode": "memory"}, {"path": "b"}, ("qdrant:embedded", "mine")),
        ({"path": "a"}, {"url": "http://a"}, ("qdrant:server", "mine")),
        ({"mode": "embedded", "path": "a"}, {"provider": "qdrant", "url": "http://a"}, ("qdrant:server", "mine")),
        # the same: they merge
        ({"provider": "qdrant", "url": "http://a"}, {"api_key": "k"}, ("qdrant:server", "mine")),
        (
            {"provider": "qdrant", "url": "http://a"},
            {"provider": "qdrant", "mode": "server"},
            ("qdrant:server", "mine"),
        ),
        ({"provider": "qdrant", "path": "a"}, {"mode": "embedded"}, ("qdrant:embedded", "mine")),
        ({"path": "a"}, {"provider": "chroma"}, ("chroma:embedded", "mine")),
        # the higher collection wins
        (
            {"provider": "qdrant", "path": "a"},
            {"provider": "chroma", "collection": "other"},
            ("chroma:embedded", "other"),
        ),
    ],
)
@pytest.mark.parametrize("by", ["override", "environment", "settings"])
def test_a_switch_drops_what_the_other_engine_knew(
    lower: dict[str, Any],
    higher: dict[str, Any],
    expected: tuple[str, str],
    by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A higher layer that names another provider or mode never fails over the lower one's options."""
    config: Any = {"vector_store": {"collection": "mine", **lower}}
    if by == "environment":
        for option, value in higher.items():
            monkeypatch.setenv(f"MEMSTACK_VECTOR_STORE__{option.upper()}", value)
        settings = Settings.load(config)
    elif by == "settings" and lower.get("provider") != "nonsense":
        settings = Settings.load(Settings.load(config), vector_store=higher)
    else:
        settings = Settings.load(config, vector_store=higher)
    assert (settings.vector_store.key, settings.vector_store.collection) == expected


@pytest.mark.parametrize(("higher", "kept"), [({"mode": "memory"}, 8), ({"provider": "chroma"}, None)])
def test_the_embedders_dimensions_outlive_a_switch_of_mode(higher: dict[str, Any], kept: int | None) -> None:
    """The same engine in another mode still wants the same embedder; another engine is asked anew."""
    config = {"vector_store": {"provider": "qdrant", "path": "a", "embedding_dims": 8}}
    assert Settings.load(config, vector_store=higher).vector_store.embedding_dims == kept


@pytest.mark.parametrize(("section", "other"), [("embedder", "builtin"), ("llm", "none")])
def test_a_switch_of_model_provider_drops_the_options(section: str, other: str) -> None:
    """Key and address of one provider are not given to another."""
    config = {section: {"provider": "openai", "model": "m", "api_key": "k", "base_url": "http://a"}}
    assert Settings.load(config, **{section: {"provider": other}}).masked()[section] == {"provider": other}
    switched = Settings.load(config, **{section: {"provider": "ollama", "model": "n"}})
    assert switched.masked()[section]["host"] == "http://127.0.0.1:11434"
    with pytest.raises(ConfigError, match=rf"{section}\.model: is missing.*MEMSTACK_{section.upper()}__MODEL"):
        Settings.load(config, **{section: {"provider": "ollama"}})


@pytest.mark.parametrize(
    "options", [{"path": "a", "url": "http://a"}, {"path": "a", "host": "h"}, {"path": "a", "port": 1}]
)
def test_two_modes_in_one_layer_are_refused(options: dict[str, Any]) -> None:
    """Nobody guesses which of two places was meant."""
    with pytest.raises(ConfigError, match=r"vector_store\.mode: is left out, and cannot be told"):
        Settings.load({"vector_store": options})


def test_an_option_of_another_mode_is_told_as_such() -> None:
    """An option that the other mode has is no unknown name."""
    with pytest.raises(ConfigError, match=r"vector_store\.url: is an option of the mode 'server'"):
        Settings.load({"vector_store": {"mode": "embedded", "url": "http://a"}})


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "qdrant:embedded"),
        ({"provider": "qdrant"}, "qdrant:embedded"),
        ({"path": "a"}, "qdrant:embedded"),
        ({"url": "http://a"}, "qdrant:server"),
        ({"host": "a"}, "qdrant:server"),
        ({"provider": "chroma"}, "chroma:embedded"),
        ({"provider": "chroma", "port": 8001}, "chroma:server"),
        ({"provider": "pgvector"}, "pgvector:embedded"),
        ({"provider": "pgvector", "url": "postgresql://h/d"}, "pgvector:server"),
        ({"provider": "pgvector", "host": "h"}, "pgvector:server"),
        ({"mode": "memory"}, "qdrant:memory"),
    ],
)
def test_the_mode_is_told_by_the_options(options: dict[str, Any], key: str) -> None:
    """A place decides the mode; no place is embedded."""
    settings = Settings.load({"vector_store": options})
    assert settings.vector_store.key == key
    told = "mapping" if "mode" in options else "inferred" if set(options) - {"provider"} else "default"
    assert settings.origins["vector_store.mode"] == told


def test_none_means_left_out_in_every_layer(write: Write) -> None:
    """A wrapper may pass on what it was not given."""
    write("custom_instructions: from file\nvector_store: {path: a}\nllm: {provider: ollama, model: m}\n")
    settings = Settings.load(custom_instructions=None, vector_store={"path": None, "provider": None}, llm=None)
    assert settings.custom_instructions == "from file"
    assert settings.origins["vector_store.path"] == "memstack.yaml"


def test_sections_may_be_given_as_models(tmp_path: Path) -> None:
    """A section is a mapping or its model, as override and in a mapping; both merge."""
    settings = Settings.load(
        {"vector_store": QdrantServer(host="a"), "embedder": OpenAIEmbedder(model="m", dimensions=8)},
        vector_store=QdrantEmbedded(path=Path("b")),
        embedder={"dimensions": 16},
        llm=OllamaLLM(model="n"),
    )
    assert settings.vector_store.folder == tmp_path / "b"
    assert settings.embedder == OpenAIEmbedder(model="m", dimensions=16)
    assert settings.llm == OllamaLLM(model="n")


@pytest.mark.parametrize(
    "overrides",
    [
        {"embedder": OllamaLLM(model="m")},
        {"llm": OpenAIEmbedder(model="m")},
        {"llm": QdrantEmbedded()},
        {"vector_store": OllamaLLM(model="m")},
    ],
)
def test_a_model_of_another_section_is_refused(overrides: dict[str, Any]) -> None:
    """An LLM is no embedder, whatever its provider."""
    with pytest.raises(ConfigError):
        Settings.load(**overrides)


# -- which file ------------------------------------------------------------------------------


def test_the_named_file_comes_before_the_variable_and_that_before_the_folder(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argument, then MEMSTACK_CONFIG, then ./memstack.yaml, then the embedded default."""
    monkeypatch.setenv("MEMSTACK_LLM", '{"provider": "ollama", "model": "m"}')  # what they are for
    assert Settings.load().custom_instructions is None
    write("custom_instructions: folder")
    assert Settings.load().custom_instructions == "folder"
    variable = write("custom_instructions: variable", "v.yaml")
    monkeypatch.setenv("MEMSTACK_CONFIG", str(variable))
    assert Settings.load().custom_instructions == "variable"
    assert Settings.load().origins["custom_instructions"] == str(variable)
    assert Settings.load(write("custom_instructions: named", "n.yaml")).custom_instructions == "named"
    assert Settings.load({}).custom_instructions is None
    monkeypatch.setenv("MEMSTACK_CONFIG", "")
    assert Settings.load().custom_instructions == "folder"


def test_a_missing_file_in_the_variable_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """MEMSTACK_CONFIG is never ignored."""
    monkeypatch.setenv("MEMSTACK_CONFIG", "gone.yaml")
    with pytest.raises(ConfigError, match=r"gone\.yaml .from MEMSTACK_CONFIG.: there is no such file"):
        Settings.load()


def test_the_embedded_default(tmp_path: Path) -> None:
    """Without anything: Qdrant in this process in the user's data folder, the built-in embedder, no LLM."""
    settings = Settings.load()
    assert settings.vector_store == QdrantEmbedded(path=tmp_path / "home/data/memstack/memory")
    assert (settings.embedder.key, settings.llm.key) == ("builtin", "none")
    assert (settings.offline, settings.telemetry, settings.remember_roles) == (False, False, ("user",))
    assert settings.limits.model_dump() == {
        "max_text": 100_000,
        "max_metadata_values": 1000,
        "max_metadata_depth": 16,
        "max_metadata_text": 1_000_000,
        "pending_minutes": 1440,
    }
    assert set(settings.origins.values()) == {"default"}


# -- a Settings given again ------------------------------------------------------------------


def test_settings_are_taken_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Settings is final: the same object without overrides, and no environment over it."""
    settings = Settings.load(offline=True)
    assert Settings.load(settings) is settings
    monkeypatch.setenv("MEMSTACK_OFFLINE", "false")
    assert Settings.load(settings, telemetry=False).offline


def test_overrides_lie_upon_settings(write: Write, tmp_path: Path) -> None:
    """What is not overridden stays, with its origin; relative paths have been settled."""
    write("vector_store: {path: a, collection: abc}\nhistory: {path: h.db}", "deep/memstack.yaml")
    settings = Settings.load("deep/memstack.yaml")
    again = Settings.load(settings, vector_store={"collection": "other"})
    assert again.vector_store == QdrantEmbedded(path=tmp_path / "deep/a", collection="other")
    assert again.origins["vector_store.path"] == "deep/memstack.yaml"
    assert again.origins["vector_store.collection"] == "override"
    assert again.history_path == tmp_path / "deep/h.db"
    assert settings.vector_store.collection == "abc"


def test_secrets_survive_being_given_again() -> None:
    """A key is handed on, though it is never shown."""
    settings = Settings.load(
        llm={"provider": "openai", "model": "m", "api_key": "sk-1"},
        vector_store={"provider": "pgvector", "url": "postgresql://u:p@h/d", "schema": "mine"},
    )
    again = Settings.load(settings, offline=False)
    assert again.llm == settings.llm
    assert again.vector_store == settings.vector_store


def test_standard_variables_fill_what_an_override_of_settings_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch of provider finds the key where it always is; other sections stay untouched."""
    settings = Settings.load(embedder={"provider": "openai", "model": "m"})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    again = Settings.load(settings, llm={"provider": "openai", "model": "n"})
    assert again.masked()["llm"]["api_key"] == "**********"
    assert again.masked()["embedder"]["api_key"] is None


# -- origins ---------------------------------------------------------------------------------


def test_every_option_has_an_origin(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option of each section, defaults too, tells where it came from."""
    write("vector_store: {provider: qdrant, url: 'http://a', collection: abc}")
    monkeypatch.setenv("MEMSTACK_VECTOR_STORE__TIMEOUT", "3")
    monkeypatch.setenv("QDRANT_API_KEY", "k")
    settings = Settings.load(vector_store={"prefer_grpc": True}, offline=False)
    shown = settings.masked()
    flat = {
        f"{name}.{option}" for name, options in shown.items() if isinstance(options, dict) for option in options
    } | {name for name, options in shown.items() if not isinstance(options, dict)}
    assert set(settings.origins) == flat
    origins = {name: origin for name, origin in settings.origins.items() if origin != "default"}
    assert origins == {
        "vector_store.provider": "memstack.yaml",
        "vector_store.mode": "inferred",
        "vector_store.collection": "memstack.yaml",
        "vector_store.url": "memstack.yaml",
        "vector_store.timeout": "environment MEMSTACK_VECTOR_STORE__TIMEOUT",
        "vector_store.api_key": "environment QDRANT_API_KEY",
        "vector_store.prefer_grpc": "override",
        "offline": "override",
    }


def test_what_a_switch_drops_came_from_nowhere(tmp_path: Path) -> None:
    """An option that was dropped with its engine has its default, and the origin of one."""
    place = {"vector_store": {"provider": "qdrant", "path": str(tmp_path), "embedding_dims": 8}}
    settings = Settings.load(place, vector_store={"provider": "chroma"})
    assert settings.vector_store.folder != tmp_path
    assert settings.origins["vector_store.path"] == "default"
    assert settings.origins["vector_store.embedding_dims"] == "default"


def test_origins_cannot_be_changed() -> None:
    """What is told is not what is kept."""
    origins: Any = Settings.load().origins
    with pytest.raises(TypeError):
        origins["offline"] = "x"


# -- names that do not exist -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "where", "nearest"),
    [
        ({"vectorstore": {}}, "vectorstore", "vector_store"),
        ({"ofline": True}, "ofline", "offline"),
        ({"vector_store": {"colection": "abc"}}, "vector_store.colection", "collection"),
        ({"vector_store": {"provider": "qdrnt"}}, "vector_store.provider", "qdrant"),
        ({"vector_store": {"provider": "Qdrant"}}, "vector_store.provider", "qdrant"),
        ({"vector_store": {"mode": "embeded"}}, "vector_store.mode", "embedded"),
        (
            {"vector_store": {"provider": "pgvector", "host": "h", "schema_name": "x"}},
            "vector_store.schema_name",
            "schema",
        ),
        ({"embedder": {"provider": "openal"}}, "embedder.provider", "openai"),
        ({"embedder": {"provider": "none"}}, "embedder.provider", None),
        ({"llm": {"provider": "builtin"}}, "llm.provider", None),
        ({"llm": {"provider": "openai", "modle": "m"}}, "llm.modle", "model"),
        ({"limits": {"max_txt": 1}}, "limits.max_txt", "max_text"),
        ({"history": {"pth": "x"}}, "history.pth", "path"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(
    options: dict[str, Any], where: str, nearest: str | None, write: Write
) -> None:
    """An unknown option, provider or mode names its place, the nearest known name, and all choices."""
    for config in (options, write(json.dumps(options))):
        with pytest.raises(UnknownName) as caught:
            Settings.load(config)
        assert caught.value.where == where
        if nearest:
            assert f"Did you mean {nearest!r}" in str(caught.value)
            assert nearest in caught.value.choices


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        ({"vector_store": "chroma"}, "vector_store", "not a mapping"),
        ({"vector_store": []}, "vector_store", "not a mapping"),
        ({"history": "x"}, "history", ""),
        ({"limits": {"max_text": "many"}}, "limits.max_text", "valid integer"),
        ({"limits": {"max_text": 0}}, "limits.max_text", "greater than or equal to 1"),
        ({"offline": "perhaps"}, "offline", "valid boolean"),
        ({"remember_roles": ["user", "robot"]}, "remember_roles", "should be 'user'"),
        ({"remember_roles": []}, "remember_roles", "at least 1 item"),
        ({"vector_store": {"provider": ["qdrant"]}}, "vector_store.provider", "not a name"),
        ({"vector_store": {"mode": 1}}, "vector_store.mode", "not a name"),
        ({"vector_store": {"collection": "a b"}}, "vector_store.collection", "1 to 240 letters"),
        ({"vector_store": {"mode": "server"}}, "vector_store.url", "QDRANT_URL"),
        ({"vector_store": {"provider": "pgvector", "mode": "server"}}, "vector_store.url", "DATABASE_URL"),
        ({"llm": {"provider": "openai"}}, "llm.model", "is missing"),
        ({"history": {"path": 3}}, "history.path", "is not a path"),
        ({"history": {"provider": "mysql"}}, "history.provider", "should be 'sqlite'"),
        ({"vector_store": {1: 2}}, "vector_store", "a key that is an int"),
    ],
)
def test_wrong_values_are_named_by_option(options: dict[str, Any], where: str, says: str) -> None:
    """Every error of validation is a ConfigError with the dotted option and the way out."""
    with pytest.raises(ConfigError) as caught:
        Settings.load(options)
    assert caught.value.where == where
    assert says in str(caught.value)
    assert caught.value.hint
    assert caught.value.__cause__ is None


def test_an_error_names_the_variable_that_sets_the_option_and_the_layer_it_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads the error knows where the value stands, and what else sets it."""
    with pytest.raises(ConfigError, match=r"It comes from mapping\. MEMSTACK_LIMITS__MAX_TEXT sets it too"):
        Settings.load({"limits": {"max_text": "x"}})
    monkeypatch.setenv("MEMSTACK_LIMITS__MAX_TEXT", "x")
    with pytest.raises(ConfigError, match=r"It comes from environment MEMSTACK_LIMITS__MAX_TEXT\.$"):
        Settings.load()


def test_an_error_names_the_other_options_that_are_wrong() -> None:
    """Whoever mends the first problem knows of the others."""
    with pytest.raises(ConfigError, match=r"limits\.max_text.* Also wrong: .*offline"):
        Settings.load({"limits": {"max_text": "x"}, "offline": "x"})
