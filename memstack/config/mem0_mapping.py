"""Mem0's configuration in our words, unchanged in meaning.

Mem0 nests a provider's options: ``{"provider": "qdrant", "config": {"collection_name": …}}``. What such a mapping says
is kept; an option that has no counterpart here is an error that names it; one that has its default in Mem0, and does
nothing there, is left out. What the mapping does not say is memstack's default: a section that is missing is not
Mem0's OpenAI, but the built-in embedder, and no LLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from memstack.config.lookup import DEFAULT_PROVIDER, PROVIDED
from memstack.errors import ConfigError, UnknownName, describe

__all__ = ["from_mem0", "is_mem0", "names_in_mem0"]

_TOP_LEVEL: Final = (
    "custom_fact_extraction_prompt",
    "custom_update_memory_prompt",
    "graph_store",
    "history_db_path",
    "reranker",
    "version",
)


@dataclass(frozen=True)
class _Options:
    """What becomes of the options of one provider of Mem0's.

    Attributes:
        renamed: theirs → ours.
        defaults: theirs → value, where Mem0's default is not ours.
        idle: theirs → the values with which the option does nothing.
        refused: theirs, without counterpart → the way out.
    """

    renamed: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    idle: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


_OWN_CLIENT: Final = "memstack makes its own client: give the address instead."
_NOT_HERE: Final = "Remove it; memstack has nothing like it."
_COLLECTION: Final = {"collection_name": "collection"}
_LLM_IDLE: Final[Mapping[str, tuple[Any, ...]]] = {
    "top_k": (1,),
    "enable_vision": (False,),
    "vision_details": ("auto",),
    "is_reasoning_model": (),
}
_OPENAI_LLM_IDLE: Final[Mapping[str, tuple[Any, ...]]] = {
    **_LLM_IDLE,
    "route": ("fallback",),
    "models": ([],),
    "openrouter_base_url": (),
    "site_url": (),
    "app_name": (),
    "store": (False,),
    "response_callback": (),
}
_EMBEDDER_IDLE: Final[Mapping[str, tuple[Any, ...]]] = {
    "model_kwargs": ({},),
    "memory_add_embedding_type": (),
    "memory_update_embedding_type": (),
    "memory_search_embedding_type": (),
}
_PROXY: Final = {"http_client_proxies": "proxy"}
_SAMPLING: Final = {name: name for name in ("model", "temperature", "max_tokens", "top_p")}

_KNOWN: Final[Mapping[tuple[str, str], _Options]] = {
    ("vector_store", "qdrant"): _Options(
        renamed={
            **_COLLECTION,
            **{name: name for name in ("host", "port", "path", "url", "api_key", "https")},
            "embedding_model_dims": "embedding_dims",
        },
        defaults={"collection_name": "mem0"},
        idle={"on_disk": (False, True)},  # an embedded store is on disk anyway; a server is told in _section
        refused={"client": _OWN_CLIENT},
    ),
    ("vector_store", "chroma"): _Options(
        renamed={
            **_COLLECTION,
            **{name: name for name in ("host", "port", "path")},
            "embedding_model_dims": "embedding_dims",
        },
        defaults={"collection_name": "mem0"},
        refused={
            "client": _OWN_CLIENT,
            "api_key": "Chroma Cloud is none of memstack's modes: use a path, or a server's host and port.",
            "tenant": "Chroma Cloud is none of memstack's modes: use a path, or a server's host and port.",
        },
    ),
    ("vector_store", "pgvector"): _Options(
        renamed={
            **_COLLECTION,
            **{name: name for name in ("host", "port", "user", "password", "dbname", "sslmode", "hnsw")},
            "connection_string": "url",
            "minconn": "pool_min",
            "maxconn": "pool_max",
            "embedding_model_dims": "embedding_dims",
        },
        defaults={"collection_name": "mem0"},
        idle={"diskann": (False,)},
        refused={"connection_pool": _OWN_CLIENT},
    ),
    ("embedder", "openai"): _Options(
        renamed={
            "model": "model",
            "api_key": "api_key",
            "openai_base_url": "base_url",
            "embedding_dims": "dimensions",
            **_PROXY,
        },
        defaults={"model": "text-embedding-3-small"},
        idle=_EMBEDDER_IDLE,
    ),
    ("embedder", "ollama"): _Options(
        renamed={"model": "model", "ollama_base_url": "host", "embedding_dims": "dimensions", **_PROXY},
        defaults={"model": "nomic-embed-text"},
        idle={**_EMBEDDER_IDLE, "api_key": ()},
    ),
    ("llm", "openai"): _Options(
        renamed={
            **_SAMPLING,
            "api_key": "api_key",
            "openai_base_url": "base_url",
            "reasoning_effort": "reasoning_effort",
            **_PROXY,
        },
        defaults={"model": "gpt-5-mini"},
        idle=_OPENAI_LLM_IDLE,
    ),
    ("llm", "ollama"): _Options(
        renamed={**_SAMPLING, "ollama_base_url": "host", **_PROXY},
        defaults={"model": "llama3.1:70b"},
        idle={**_LLM_IDLE, "api_key": (), "reasoning_effort": ()},
    ),
}


def is_mem0(options: Mapping[str, Any]) -> bool:
    """Whether a mapping is in Mem0's form: a section with its options under ``config``, or one of Mem0's own keys."""
    sections = (options.get(name) for name in PROVIDED)
    nested = any(isinstance(section, Mapping) and "config" in section for section in sections)
    return nested or any(name in options for name in _TOP_LEVEL)


def from_mem0(options: Mapping[str, Any]) -> dict[str, Any]:
    """Mem0's configuration in our words.

    Args:
        options: a mapping in Mem0's form; sections in ours may stand beside, and stay as they are.

    Returns:
        The same in our form. Paths are as they were given.

    Raises:
        ConfigError: an option has no counterpart; or a section mixes both forms.
        UnknownName: an option that Mem0 does not know either.
    """
    rest = {name: value for name, value in options.items() if name not in _TOP_LEVEL}
    for name in PROVIDED:
        section = rest.get(name)
        if isinstance(section, Mapping) and ("config" in section or list(section) == ["provider"]):
            rest[name] = _section(name, section)
    rest.update(_history(options))
    rest.update(_instructions(options))
    _refuse_top_level(options)
    return rest


def names_in_mem0(options: Mapping[str, Any]) -> dict[str, str]:
    """How a mapping in Mem0's form calls options: our dotted name → what was written."""
    found: dict[str, str] = {}
    for name in PROVIDED:
        section = options.get(name)
        config = section.get("config") if isinstance(section, Mapping) else None
        if not isinstance(section, Mapping) or not isinstance(config, Mapping):
            continue
        provider = section.get("provider") or DEFAULT_PROVIDER[name]
        known = _KNOWN.get((name, provider)) if isinstance(provider, str) else None
        renamed = known.renamed if known else {}
        found.update({f"{name}.{renamed.get(option, option)}": f"{name}.config.{option}" for option in config})
    ours = {"history_db_path": "history.path", "custom_fact_extraction_prompt": "custom_instructions"}
    found.update({name: theirs for theirs, name in ours.items() if options.get(theirs) is not None})
    if options.get("custom_instructions") is not None:  # both are written
        found.pop("custom_instructions", None)
    return found


def _section(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    beside = [option for option in section if option not in {"provider", "config"}]
    if beside:
        raise ConfigError(
            f"{name}.{beside[0]}",
            "stands beside `config`, which is Mem0's place for options",
            "Put all options beside `provider`, and drop `config`.",
        )
    provider = section.get("provider") or DEFAULT_PROVIDER[name]
    config = section.get("config") or {}
    if not isinstance(config, Mapping):
        raise ConfigError(f"{name}.config", f"is {describe(config)}, not a mapping", "Give a mapping of options.")
    known = _KNOWN.get((name, provider)) if isinstance(provider, str) else None
    if known is None:  # a third party's, or none at all: its model will tell
        return {"provider": provider, **config}
    translated = {"provider": provider, **_translated(f"{name}.config", config, known)}
    if "proxy" in translated:
        translated["proxy"] = _proxy(f"{name}.config.http_client_proxies", translated["proxy"])
    if name == "vector_store":
        _check_place(config)
        if provider == "qdrant":
            if _check_qdrant(config) and config.get("on_disk"):
                translated["on_disk"] = True
        elif provider == "pgvector":
            _check_pgvector(config)
            translated["mode"] = "server"  # Mem0 knows no other
    return translated


def _translated(where: str, config: Mapping[str, Any], known: _Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, value in {**known.defaults, **{key: item for key, item in config.items() if item is not None}}.items():
        if option in known.renamed:
            found[known.renamed[option]] = value
        elif option in known.idle:
            if not any(value is idle or (value == idle and type(value) is type(idle)) for idle in known.idle[option]):
                raise ConfigError(f"{where}.{option}", "is an option of Mem0 without counterpart", _NOT_HERE)
        elif option in known.refused:
            raise ConfigError(f"{where}.{option}", "is an option of Mem0 without counterpart", known.refused[option])
        else:
            raise UnknownName(f"{where}.{option}", "option", option, [*known.renamed, *known.idle, *known.refused])
    return found


def _proxy(where: str, value: object) -> object:
    """The one proxy that `http_client_proxies` names: Mem0 takes an address, or one for each scheme."""
    if not isinstance(value, Mapping):
        return value or None
    named = set(map(str, value.values()))
    if len(named) > 1:
        raise ConfigError(where, "names several proxies", "Name the one that leads to the server, as a text.")
    return next(iter(value.values()), None)


def _check_place(config: Mapping[str, Any]) -> None:
    """Mem0 silently prefers one of two places; here that is an error."""
    given = [option for option in ("connection_string", "url", "host", "path") if config.get(option) is not None]
    if len(given) > 1:
        raise ConfigError(
            f"vector_store.config.{given[1]}",
            f"stands beside `{given[0]}`, and Mem0 would ignore one of the two",
            "Keep the one that you mean.",
        )


def _check_qdrant(config: Mapping[str, Any]) -> bool:
    """Refuse what is of two places; returns whether it is of a server."""
    server = next((name for name in ("url", "host", "api_key", "https") if config.get(name) is not None), None)
    if server and config.get("path") is not None:
        raise ConfigError(
            "vector_store.config.path",
            f"stands beside `{server}`, which is of a server, and Mem0 would ignore the path",
            "Keep what you mean.",
        )
    return server is not None


def _check_pgvector(config: Mapping[str, Any]) -> None:
    parts = [name for name in ("user", "password", "port", "dbname") if config.get(name) is not None]
    if config.get("connection_string") is not None and parts:
        raise ConfigError(
            f"vector_store.config.{parts[0]}",
            "stands beside `connection_string`, and Mem0 would ignore it",
            "Drop it, or write it into the connection string.",
        )


def _history(options: Mapping[str, Any]) -> dict[str, Any]:
    path = options.get("history_db_path")
    if path is None:
        return {}
    if options.get("history") is not None:
        raise ConfigError("history_db_path", "stands beside `history`, which says it already", "Drop one of the two.")
    return {"history": {"path": path}}


def _instructions(options: Mapping[str, Any]) -> dict[str, Any]:
    prompt = options.get("custom_fact_extraction_prompt")
    if prompt is None:
        return {}
    newer = options.get("custom_instructions")
    if newer is not None and newer != prompt:
        raise ConfigError(
            "custom_fact_extraction_prompt",
            "stands beside `custom_instructions`, its newer name, and says something else",
            "Keep `custom_instructions`.",
        )
    return {"custom_instructions": prompt}


def _refuse_top_level(options: Mapping[str, Any]) -> None:
    if options.get("version") is not None and options["version"] != "v1.1":
        raise ConfigError("version", "is not v1.1, the only one that Mem0 2 still has", "Remove it.")
    for name in ("custom_update_memory_prompt", "graph_store", "reranker"):
        if options.get(name) is not None:
            hint = "Name a callable as `retrieval.reranker` instead." if name == "reranker" else _NOT_HERE
            raise ConfigError(name, "is an option of Mem0 without counterpart", hint)
