"""Mem0's configuration, unchanged in meaning."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from memstack.config import Settings
from memstack.config.mem0_mapping import from_mem0, is_mem0
from memstack.errors import ConfigError, UnknownName

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (
            {
                "vector_store": {
                    "provider": "qdrant",
                    "config": {"collection_name": "abc", "path": "a", "on_disk": True},
                }
            },
            {"vector_store": {"provider": "qdrant", "collection": "abc", "path": "a"}},
        ),
        (
            {"vector_store": {"provider": "qdrant", "config": {"collection_name": "m", "host": "h", "on_disk": True}}},
            {"vector_store": {"provider": "qdrant", "collection": "m", "host": "h", "on_disk": True}},
        ),
        (
            {"vector_store": {"provider": "qdrant", "config": {"collection_name": "m", "url": "h", "on_disk": False}}},
            {"vector_store": {"provider": "qdrant", "collection": "m", "url": "h"}},
        ),
        (
            {
                "vector_store": {
                    "provider": "qdrant",
                    "config": {"host": "h", "port": 6333, "embedding_model_dims": 768},
                }
            },
            {
                "vector_store": {
                    "provider": "qdrant",
                    "collection": "mem0",
                    "host": "h",
                    "port": 6333,
                    "embedding_dims": 768,
                }
            },
        ),
        (
            {"vector_store": {"provider": "qdrant", "config": {"url": "http://h", "api_key": "k", "https": None}}},
            {"vector_store": {"provider": "qdrant", "collection": "mem0", "url": "http://h", "api_key": "k"}},
        ),
        (
            {"vector_store": {"provider": "qdrant", "config": None}},
            {"vector_store": {"provider": "qdrant", "collection": "mem0"}},
        ),
        (
            {"vector_store": {"provider": "chroma", "config": {"collection_name": "abc", "path": "db"}}},
            {"vector_store": {"provider": "chroma", "collection": "abc", "path": "db"}},
        ),
        (
            {"vector_store": {"provider": "chroma", "config": {"host": "localhost", "port": 8000}}},
            {"vector_store": {"provider": "chroma", "collection": "mem0", "host": "localhost", "port": 8000}},
        ),
        (
            {
                "vector_store": {
                    "provider": "pgvector",
                    "config": {
                        "user": "u",
                        "password": "p",
                        "host": "h",
                        "port": 5432,
                        "minconn": 2,
                        "maxconn": 4,
                        "hnsw": True,
                        "diskann": False,
                    },
                }
            },
            {
                "vector_store": {
                    "provider": "pgvector",
                    "mode": "server",
                    "collection": "mem0",
                    "user": "u",
                    "password": "p",
                    "host": "h",
                    "port": 5432,
                    "pool_min": 2,
                    "pool_max": 4,
                    "hnsw": True,
                }
            },
        ),
        (
            {
                "vector_store": {
                    "provider": "pgvector",
                    "config": {"connection_string": "postgresql://h/d", "sslmode": "require"},
                }
            },
            {
                "vector_store": {
                    "provider": "pgvector",
                    "mode": "server",
                    "collection": "mem0",
                    "url": "postgresql://h/d",
                    "sslmode": "require",
                }
            },
        ),
        (
            {
                "embedder": {
                    "provider": "openai",
                    "config": {"api_key": "k", "openai_base_url": "http://h", "embedding_dims": 8},
                }
            },
            {
                "embedder": {
                    "provider": "openai",
                    "model": "text-embedding-3-small",
                    "api_key": "k",
                    "base_url": "http://h",
                    "dimensions": 8,
                }
            },
        ),
        (
            {"embedder": {"provider": "ollama", "config": {"ollama_base_url": "http://h:1"}}},
            {"embedder": {"provider": "ollama", "model": "nomic-embed-text", "host": "http://h:1"}},
        ),
        (
            {
                "llm": {
                    "provider": "openai",
                    "config": {
                        "model": "gpt-4o-mini",
                        "temperature": 0.2,
                        "max_tokens": 1500,
                        "top_p": 0.5,
                        "top_k": 1,
                        "enable_vision": False,
                        "vision_details": "auto",
                        "reasoning_effort": "low",
                        "store": False,
                    },
                }
            },
            {
                "llm": {
                    "provider": "openai",
                    "model": "gpt-4o-mini",
                    "temperature": 0.2,
                    "max_tokens": 1500,
                    "top_p": 0.5,
                    "reasoning_effort": "low",
                }
            },
        ),
        (
            {
                "llm": {
                    "provider": "ollama",
                    "config": {"model": "llama3", "ollama_base_url": "http://h", "max_tokens": 9},
                }
            },
            {"llm": {"provider": "ollama", "model": "llama3", "host": "http://h", "max_tokens": 9}},
        ),
        (
            {"llm": {"provider": "ollama", "config": {"model": "m", "http_client_proxies": "http://u:p@proxy:3128"}}},
            {"llm": {"provider": "ollama", "model": "m", "proxy": "http://u:p@proxy:3128"}},
        ),
        (
            {
                "embedder": {
                    "provider": "openai",
                    "config": {"http_client_proxies": {"http://": "http://proxy:1", "https://": "http://proxy:1"}},
                }
            },
            {"embedder": {"provider": "openai", "model": "text-embedding-3-small", "proxy": "http://proxy:1"}},
        ),
        ({"version": "v1.1", "llm": {"provider": "openai"}}, {"llm": {"provider": "openai", "model": "gpt-5-mini"}}),
        ({"history_db_path": "h.db"}, {"history": {"path": "h.db"}}),
        ({"version": "v1.1", "custom_instructions": "x"}, {"custom_instructions": "x"}),
        ({"custom_fact_extraction_prompt": "x"}, {"custom_instructions": "x"}),
        ({"custom_fact_extraction_prompt": "x", "custom_instructions": "x"}, {"custom_instructions": "x"}),
        ({"version": "v1.1", "reranker": None, "graph_store": None, "history_db_path": None}, {}),
        (
            {"version": "v1.1", "embedder": {"provider": "builtin"}, "offline": True},
            {"embedder": {"provider": "builtin"}, "offline": True},
        ),
        ({"llm": {"provider": "acme", "config": {"a": 1}}}, {"llm": {"provider": "acme", "a": 1}}),
    ],
)
def test_a_mapping_means_the_same_here(mapping: dict[str, Any], expected: dict[str, Any]) -> None:
    """Options take our names; Mem0's defaults that are not ours are written out; what does nothing is left out."""
    assert is_mem0(mapping)
    assert from_mem0(mapping) == expected


def test_a_whole_configuration_loads(tmp_path: Path) -> None:
    """A configuration as Mem0's documentation shows it."""
    settings = Settings.load(
        {
            "vector_store": {
                "provider": "qdrant",
                "config": {"collection_name": "test", "path": "db", "embedding_model_dims": 768, "on_disk": True},
            },
            "llm": {"provider": "ollama", "config": {"model": "llama3.1:latest", "temperature": 0, "max_tokens": 2000}},
            "embedder": {"provider": "ollama", "config": {"model": "nomic-embed-text:latest", "embedding_dims": 768}},
            "history_db_path": ":memory:",
            "version": "v1.1",
        }
    )
    assert settings.vector_store.key == "qdrant:embedded"
    assert settings.vector_store.collection == "test"
    assert settings.vector_store.embedding_dims == 768
    assert settings.vector_store.folder == tmp_path / "db"
    assert settings.history_path is None
    assert settings.masked()["llm"]["temperature"] == 0
    assert settings.origins["llm.model"] == "mem0 mapping"
    assert settings.origins["vector_store.path"] == "mem0 mapping"
    assert settings.origins["limits.max_text"] == "default"


def test_a_file_may_be_in_mem0s_form(write: Write) -> None:
    """A YAML file too, with its references, and paths that hang on its folder."""
    path = write(
        "vector_store:\n  provider: qdrant\n  config: {path: db, collection_name: '${NAME:-abc}'}\n"
        "history_db_path: h.db\n",
        "deep/mem0.yaml",
    )
    settings = Settings.load(path)
    assert settings.vector_store.folder == path.parent / "db"
    assert settings.vector_store.collection == "abc"
    assert settings.history_path == path.parent / "h.db"


def test_sections_that_are_missing_are_memstacks_defaults() -> None:
    """What a mapping does not name is not sent to OpenAI."""
    settings = Settings.load({"vector_store": {"provider": "qdrant", "config": {"path": "a"}}}, offline=True)
    assert (settings.embedder.key, settings.llm.key) == ("builtin", "none")


def test_overrides_and_environment_lie_upon_a_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """They speak memstack's language, whatever the mapping's."""
    monkeypatch.setenv("MEMSTACK_VECTOR_STORE__COLLECTION", "mine")
    mapping = {
        "llm": {"provider": "openai", "config": {"model": "a"}},
        "vector_store": {"provider": "qdrant", "config": {}},
    }
    settings = Settings.load(mapping, llm={"model": "b"})
    assert settings.masked()["llm"]["model"] == "b"
    assert settings.vector_store.collection == "mine"


def test_mem0s_form_in_an_override_is_answered() -> None:
    """An option `config` beside others is told as what it is."""
    with pytest.raises(ConfigError, match=r"vector_store\.config: is Mem0's place for options"):
        Settings.load(vector_store={"provider": "qdrant", "config": {"path": "a"}})


@pytest.mark.parametrize(
    ("mapping", "where"),
    [
        ({"reranker": {"provider": "cohere"}}, "reranker"),
        ({"graph_store": {"provider": "neo4j"}}, "graph_store"),
        ({"custom_update_memory_prompt": "x"}, "custom_update_memory_prompt"),
        ({"version": "v1.0"}, "version"),
        ({"version": ["v1.1"]}, "version"),
        ({"history_db_path": "a", "history": {"path": "b"}}, "history_db_path"),
        ({"custom_fact_extraction_prompt": "a", "custom_instructions": "b"}, "custom_fact_extraction_prompt"),
        ({"vector_store": {"provider": "qdrant", "config": {"client": object()}}}, "vector_store.config.client"),
        (
            {"vector_store": {"provider": "qdrant", "config": {"host": "h", "on_disk": "yes"}}},
            "vector_store.config.on_disk",
        ),
        (
            {"vector_store": {"provider": "qdrant", "config": {"path": "a", "url": "http://h"}}},
            "vector_store.config.path",
        ),
        ({"vector_store": {"provider": "qdrant", "config": {"path": "a", "api_key": "k"}}}, "vector_store.config.path"),
        (
            {"vector_store": {"provider": "qdrant", "config": {"host": "a", "url": "http://h"}}},
            "vector_store.config.host",
        ),
        ({"vector_store": {"provider": "qdrant", "path": "a", "config": {}}}, "vector_store.path"),
        ({"vector_store": {"provider": "qdrant", "config": ["a"]}}, "vector_store.config"),
        (
            {"vector_store": {"provider": "chroma", "config": {"api_key": "k", "tenant": "t"}}},
            "vector_store.config.api_key",
        ),
        ({"vector_store": {"provider": "pgvector", "config": {"diskann": True}}}, "vector_store.config.diskann"),
        (
            {
                "vector_store": {
                    "provider": "pgvector",
                    "config": {"connection_string": "postgresql://h/d", "user": "u"},
                }
            },
            "vector_store.config.user",
        ),
        ({"llm": {"provider": "openai", "config": {"enable_vision": True}}}, "llm.config.enable_vision"),
        ({"llm": {"provider": "openai", "config": {"top_k": 5}}}, "llm.config.top_k"),
        ({"llm": {"provider": "openai", "config": {"enable_vision": 0}}}, "llm.config.enable_vision"),
        ({"llm": {"provider": "openai", "config": {"response_callback": print}}}, "llm.config.response_callback"),
        ({"llm": {"provider": "openai", "config": {"openrouter_base_url": "u"}}}, "llm.config.openrouter_base_url"),
        ({"embedder": {"provider": "ollama", "config": {"api_key": "k"}}}, "embedder.config.api_key"),
        (
            {"llm": {"provider": "openai", "config": {"http_client_proxies": {"http://": "http://a", "all://": None}}}},
            "llm.config.http_client_proxies",
        ),
    ],
)
def test_what_has_no_counterpart_is_an_error_that_names_it(mapping: dict[str, Any], where: str) -> None:
    """Nothing that Mem0 would do is silently left undone."""
    with pytest.raises(ConfigError) as caught:
        Settings.load(mapping)
    assert caught.value.where == where
    assert caught.value.hint


def test_a_reranker_of_mem0s_is_told_where_ours_goes() -> None:
    """There are rerankers here, too: what is refused is not told to be unknown."""
    with pytest.raises(ConfigError, match=r"Name a callable as `retrieval\.reranker`"):
        Settings.load({"reranker": {"provider": "cohere", "config": {}}})


@pytest.mark.parametrize(
    ("mapping", "where", "nearest"),
    [
        (
            {"vector_store": {"provider": "qdrant", "config": {"colection_name": "abc"}}},
            "vector_store.config.colection_name",
            "collection_name",
        ),
        ({"llm": {"provider": "openai", "config": {"modle": "m"}}}, "llm.config.modle", "model"),
        ({"version": "v1.1", "vectorstore": {}}, "vectorstore", "vector_store"),
        ({"llm": {"provider": "anthropic", "config": {"model": "m"}}}, "llm.provider", None),
        ({"vector_store": {"provider": "milvus", "config": {}}}, "vector_store.provider", None),
    ],
)
def test_unknown_names_are_answered_with_mem0s(mapping: dict[str, Any], where: str, nearest: str | None) -> None:
    """A misspelt option of Mem0's gets Mem0's name as guess; a provider that is not here gets ours."""
    with pytest.raises(UnknownName) as caught:
        Settings.load(mapping)
    assert caught.value.where == where
    assert nearest is None or f"Did you mean {nearest!r}" in str(caught.value)


# -- Mem0's own list of options ----------------------------------------------------------------

SOURCES = {
    ("vector_store", "qdrant"): ["vector_stores/qdrant.py"],
    ("vector_store", "chroma"): ["vector_stores/chroma.py"],
    ("vector_store", "pgvector"): ["vector_stores/pgvector.py"],
    ("embedder", "openai"): ["embeddings/base.py"],
    ("embedder", "ollama"): ["embeddings/base.py"],
    ("llm", "openai"): ["llms/openai.py"],
    ("llm", "ollama"): ["llms/ollama.py"],
}


def mem0_options(path: str) -> Iterator[str]:
    """The options in a file of Mem0's configuration, read without importing Mem0: fields, or arguments."""
    spec = importlib.util.find_spec("mem0")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / "configs" / path).read_text(encoding="utf-8"))
    for statement in (part for node in tree.body if isinstance(node, ast.ClassDef) for part in node.body):
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            yield from (argument.arg for argument in statement.args.args[1:])
        elif isinstance(statement, ast.AnnAssign) and "ClassVar" not in ast.unparse(statement.annotation):
            yield ast.unparse(statement.target)


@pytest.mark.parametrize(
    ("section", "provider", "option"),
    [(*key, option) for key, paths in SOURCES.items() for path in paths for option in mem0_options(path)],
)
def test_no_option_of_mem0_is_silently_dropped(section: str, provider: str, option: str) -> None:
    """Every option that the installed Mem0 takes is either carried over or refused by its name."""
    value = SecretStr("something")
    named = ""
    found: dict[str, Any] = {section: {}}
    try:
        found = from_mem0({section: {"provider": provider, "config": {option: value}}})
    except ConfigError as error:
        named = error.where
    assert named == f"{section}.config.{option}" or value in found[section].values()


_OFFLINE = {"offline": True, "embedder": {"provider": "openai", "config": {"openai_base_url": "http://far.example/v1"}}}


@pytest.mark.parametrize(
    ("mapping", "written"),
    [
        ({"custom_fact_extraction_prompt": "x"}, "custom_fact_extraction_prompt"),
        (
            {"vector_store": {"provider": "chroma", "config": {"path": "p", "collection_name": "t"}}},
            "vector_store.config.collection_name",
        ),
        (
            {"vector_store": {"provider": "qdrant", "config": {"path": "p", "embedding_model_dims": "many"}}},
            "vector_store.config.embedding_model_dims",
        ),
        ({"llm": {"provider": "ollama", "config": {"temperature": "hot"}}}, "llm.config.temperature"),
        ({"history_db_path": 5}, "history_db_path"),
        (_OFFLINE, "embedder.config.openai_base_url"),
    ],
    ids=str,
)
def test_an_error_names_what_was_written(mapping: dict[str, Any], written: str, write: Write) -> None:
    """In a mapping and in a file, an option that cannot be used is called as Mem0's form calls it."""
    for config in (mapping, write(json.dumps(mapping))):
        with pytest.raises(ConfigError) as caught:
            Settings.load(config)
        assert caught.value.where == written
        assert "MEMSTACK_" not in str(caught.value)


def test_an_error_in_what_lies_upon_mem0s_form_has_our_name() -> None:
    """What an argument sets was written in our words; what settings bring along keeps the name that it had."""
    mapping = {"vector_store": {"provider": "chroma", "config": {"path": "p", "collection_name": "good"}}}
    with pytest.raises(ConfigError, match=r"^vector_store\.collection: "):
        Settings.load(mapping, vector_store={"collection": "t"})
    both = {"custom_fact_extraction_prompt": "x", "llm": {"provider": "ollama", "config": {}}}
    with pytest.raises(ConfigError, match=r"^custom_fact_extraction_prompt: "):
        Settings.load(Settings.load(both), llm={"provider": "none"})
    with pytest.raises(ConfigError, match=r"^custom_instructions: "):
        Settings.load({"custom_fact_extraction_prompt": "x", "custom_instructions": "x"})
