"""The JSON Schema of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from memstack.config import Settings
from memstack.config.lookup import BUILTIN
from memstack.config.problems import option_names
from memstack.config.schema import config_schema

Write = Callable[..., Path]
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(config_schema())


def test_it_is_a_schema_of_its_draft() -> None:
    """It is valid, says which draft it is, and is plain JSON."""
    schema = config_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema


def test_every_option_is_described() -> None:
    """Each option of each section has a description on one line."""
    schema = config_schema()
    for part in (schema, *(part for part in schema["$defs"].values() if "properties" in part)):
        assert part["description"]
        assert part["additionalProperties"] is False
        for option in part["properties"].values():
            assert option["description"]
            assert "\n" not in option["description"]


def test_every_model_is_in_it() -> None:
    """All sections of ours stand in it, with all their options, and nothing that is not used."""
    definitions = config_schema()["$defs"]
    models = [model for section in BUILTIN.values() for model in section.values()]
    assert {model.__name__ for model in models} | {
        "HistoryConfig",
        "LimitsConfig",
        "Reference",
        "RetrievalConfig",
    } == set(definitions)
    for model in models:
        assert list(definitions[model.__name__]["properties"]) == option_names(model)


def test_it_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    """The same schema everywhere: no folder of the user is in it."""
    assert str(tmp_path) not in json.dumps(config_schema())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_files_in_configs_load_and_validate(
    path: Path, validator: Draft202012Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every example loads, every example validates, and each says in a comment what it is."""
    for name in ("OPENAI_API_KEY", "QDRANT_API_KEY", "CHROMA_TOKEN", "POSTGRES_PASSWORD"):
        monkeypatch.setenv(name, "x")
    text = path.read_text(encoding="utf-8")
    validator.validate(yaml.safe_load(text))
    settings = Settings.load(path)
    assert text.startswith("#")
    assert settings.origins["vector_store.provider"] == str(path)


def test_the_embedded_example_is_the_default_beside_the_file() -> None:
    """configs/embedded.yaml: the embedded default, with its data beside the file, and offline."""
    path = next(path for path in CONFIGS if path.stem == "embedded")
    settings = Settings.load(path)
    assert settings.vector_store.folder == path.parent / "memory"
    assert settings.history_path == path.parent / "memory" / "history.db"
    assert (settings.embedder, settings.llm) == (Settings.load({}).embedder, Settings.load({}).llm)
    assert settings.offline


VALID: list[dict[str, Any]] = [
    {},
    {"vector_store": None, "embedder": None, "llm": None, "history": None, "limits": None},
    {"vector_store": {}},
    {"vector_store": {"path": "a"}},
    {"vector_store": {"provider": "qdrant"}},
    {"vector_store": {"url": "http://a", "api_key": "k", "shard_number": 3}},
    {"vector_store": {"provider": "qdrant", "mode": "server", "host": "h", "port": 1}},
    {"vector_store": {"mode": "memory"}},
    {"vector_store": {"provider": "chroma", "path": "a"}},
    {"vector_store": {"provider": "chroma", "host": "h", "tenant": "t"}},
    {"vector_store": {"provider": "pgvector", "url": "postgresql://h/d", "schema": "x", "hnsw": True}},
    {"vector_store": {"provider": "pgvector", "path": "a"}},
    {"embedder": {"provider": "openai", "model": "m", "headers": {"X-A": "b"}}},
    {"embedder": {"provider": "ollama", "model": "m", "keep_alive": -1}},
    {"llm": {"provider": "ollama", "model": "m", "num_ctx": 16384, "keep_alive": "5m"}},
    {"llm": {}},
    {"history": {"path": ":memory:"}},
    {"history": {"provider": "sqlite", "path": "h.db"}},
    {"limits": {"max_text": 5}, "offline": True, "remember_roles": ["user", "assistant"]},
]


@pytest.mark.parametrize("config", VALID)
def test_what_loads_validates(config: dict[str, Any], validator: Draft202012Validator, write: Write) -> None:
    """Whatever the loader adds may be left out: `mode`, the default provider, empty sections."""
    validator.validate(config)
    Settings.load(write(json.dumps(config) if config else "offline: false"))


@pytest.mark.parametrize(
    "config",
    [
        {"vectorstore": {}},
        {"vector_store": {"colection": "abc"}},
        {"vector_store": {"provider": "qdrnt"}},
        {"vector_store": {"mode": "embedded", "url": "http://a"}},
        {"vector_store": {"collection": "a b"}},
        {"vector_store": {"tenant": "t"}},
        {"vector_store": {"url": "http://a", "port": 0}},
        {"embedder": {"provider": "openai"}},
        {"llm": {"model": "m"}},
        {"llm": {"provider": "ollama", "model": "m", "num_ctx": 1}},
        {"offline": "perhaps"},
        {"remember_roles": ["robot"]},
        {"limits": {"max_text": 0}},
    ],
)
def test_what_does_not_load_does_not_validate(
    config: dict[str, Any], validator: Draft202012Validator, write: Write
) -> None:
    """An editor underlines what the loader refuses."""
    assert not validator.is_valid(config)
    with pytest.raises(ValueError, match=r"."):
        Settings.load(write(json.dumps(config)))


def test_options_of_any_type_may_be_references(validator: Draft202012Validator) -> None:
    """`${PORT:-8000}` validates where a number, a switch, a pattern or a choice stands."""
    validator.validate(
        {
            "vector_store": {
                "provider": "pgvector",
                "host": "h",
                "port": "${PORT:-5432}",
                "hnsw": "${HNSW:-false}",
                "schema": "${SCHEMA}",
                "sslmode": "${SSLMODE:-prefer}",
                "collection": "${COLLECTION:-memories}",
            },
            "offline": "${OFFLINE:-true}",
            "remember_roles": "${ROLES:-user}",
        }
    )
