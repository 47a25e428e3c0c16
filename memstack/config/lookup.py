"""Which model describes a section: a discriminated union by provider and mode, open to third parties."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from memstack.config.sections import (
    BuiltinEmbedder,
    ChromaEmbedded,
    ChromaServer,
    NoLLM,
    OllamaEmbedder,
    OllamaLLM,
    OpenAIEmbedder,
    OpenAILLM,
    PgvectorEmbedded,
    PgvectorServer,
    QdrantEmbedded,
    QdrantInMemory,
    QdrantServer,
    SectionConfig,
    StoreConfig,
)
from memstack.errors import TELL, ConfigError, UnknownName, describe

if TYPE_CHECKING:
    from memstack.registry import Registry

__all__ = [
    "BUILTIN",
    "DEFAULT_PROVIDER",
    "PROVIDED",
    "SectionName",
    "belongs",
    "mode_of",
    "model_of",
    "parse_section",
    "plugin_model",
    "plugin_names",
    "siblings",
]

SectionName = Literal["vector_store", "embedder", "llm"]
PROVIDED: Final[tuple[SectionName, ...]] = ("vector_store", "embedder", "llm")
DEFAULT_PROVIDER: Final[Mapping[str, str]] = {"vector_store": "qdrant", "embedder": "builtin", "llm": "none"}

BUILTIN: Final[Mapping[str, Mapping[str, type[SectionConfig]]]] = {
    "vector_store": {
        "qdrant:embedded": QdrantEmbedded,
        "qdrant:server": QdrantServer,
        "qdrant:memory": QdrantInMemory,
        "chroma:embedded": ChromaEmbedded,
        "chroma:server": ChromaServer,
        "pgvector:server": PgvectorServer,
        "pgvector:embedded": PgvectorEmbedded,
    },
    "embedder": {"builtin": BuiltinEmbedder, "openai": OpenAIEmbedder, "ollama": OllamaEmbedder},
    "llm": {"none": NoLLM, "openai": OpenAILLM, "ollama": OllamaLLM},
}
_SERVER_OPTIONS: Final = ("url", "host", "port")


def mode_of(section: Mapping[str, Any]) -> str | None:
    """The mode that a ``vector_store`` section names, or that its other options tell.

    Args:
        section: options of the section, perhaps of one layer only.

    Returns:
        ``mode`` where it is given; ``"server"`` by `url`, `host` or `port`; ``"embedded"`` by `path`; else None.

    Raises:
        ConfigError: the options tell two modes at once.
    """
    if section.get("mode") is not None:
        return str(section["mode"])
    server = [name for name in _SERVER_OPTIONS if section.get(name) is not None]
    if server and section.get("path") is not None:
        raise ConfigError(
            "vector_store.mode",
            f"is left out, and cannot be told: `path` is of an embedded store, `{server[0]}` of a server",
            "Drop one of the two, or set `mode`.",
        )
    return "server" if server else "embedded" if section.get("path") is not None else None


def model_of(name: SectionName, section: Mapping[str, Any]) -> tuple[str, type[SectionConfig]]:
    """The model of a section.

    Args:
        name: which section.
        section: its options.

    Returns:
        The key in the registry, and the model.

    Raises:
        UnknownName: no such provider or mode.
        ConfigError: provider or mode are no names; or a plug-in offers nothing for this section.
        MissingDependency: a plug-in needs a package that is not installed.
    """
    provider = _word(f"{name}.provider", section.get("provider")) or DEFAULT_PROVIDER[name]
    builtin = BUILTIN[name]
    known = list(builtin)
    if not _is_ours(name, provider, section.get("mode")):
        known += plugin_names(name)
    providers = sorted({key.partition(":")[0] for key in known})
    if provider not in providers:
        raise UnknownName(f"{name}.provider", "provider", provider, providers)
    key = provider if name != "vector_store" else _store_key(provider, section, known)
    model = builtin.get(key) or plugin_model(name, key)
    if name == "vector_store" and section.get("mode") is not None and ":" not in key and not _has_modes(model):
        raise ConfigError("vector_store.mode", f"the store {key!r} has no modes", "Leave it out.")
    return key, model


def siblings(name: SectionName, key: str) -> dict[str, type[SectionConfig]]:
    """Our models of the other modes of the same provider, by mode."""
    provider = key.partition(":")[0]
    return {
        other.partition(":")[2]: model
        for other, model in BUILTIN[name].items()
        if other != key and other.partition(":")[0] == provider
    }


def belongs(name: str, section: BaseModel) -> bool:
    """Whether a model is one of this section: an `OllamaLLM` is no embedder."""
    if isinstance(section, StoreConfig) or name == "vector_store":
        return isinstance(section, StoreConfig) and name == "vector_store"
    others = [model for other in PROVIDED if other != name for model in BUILTIN[other].values()]
    return isinstance(section, SectionConfig) and type(section) not in others


def parse_section(name: SectionName, value: object) -> SectionConfig:
    """A section as a model; a model stays as it is.

    Raises:
        ConfigError: it is neither a mapping nor a model of this section.
        pydantic.ValidationError: an option is wrong.
    """
    if isinstance(value, SectionConfig) and belongs(name, value):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(
            name,
            f"is {describe(value)}, not a mapping of options",
            f"Write `{name}: {{provider: …}}` with its options.",
        )
    return model_of(name, value)[1].model_validate(dict(value))


def plugin_names(name: SectionName) -> list[str]:
    """The names that third parties add for a section (a provider may turn out to offer nothing for it)."""
    from memstack.registry import PROVIDERS, STORES  # noqa: PLC0415  # the registry's classes import this package

    if name == "vector_store":
        return [key for key in STORES.names() if key not in BUILTIN[name]]
    ours = {*BUILTIN["embedder"], *BUILTIN["llm"]}
    return [key for key in PROVIDERS.names() if key not in ours]


def plugin_model(name: SectionName, key: str) -> type[SectionConfig]:
    """The model of a third party's section.

    Raises:
        ConfigError: it offers nothing for this section, or no proper model.
        MissingDependency: it needs a package that is not installed.
    """
    from memstack.registry import PROVIDERS, STORES  # noqa: PLC0415

    where = f"{name}.provider"
    registry: Registry[Any]
    registry, attribute, base = (
        (STORES, "config_model", StoreConfig)
        if name == "vector_store"
        else (PROVIDERS, f"{name}_config", SectionConfig)
    )
    model = getattr(registry.load(key, where), attribute, None)
    if model is None and name != "vector_store":  # one that makes embedders need not make LLMs
        raise ConfigError(where, f"{registry.told(key)} has no `{attribute}`", "Choose another provider.")
    if not (isinstance(model, type) and issubclass(model, base)):
        raise ConfigError(
            where,
            f"{registry.told(key)} has no `{attribute}` that is a subclass of memstack.config.{base.__name__}",
            TELL,
        )
    provider = model.model_fields["provider"].annotation
    if get_origin(provider) is Literal and key.partition(":")[0] not in get_args(provider):
        raise ConfigError(where, f"{registry.told(key)} has a section for {get_args(provider)[0]!r}", TELL)
    return model


def _is_ours(name: SectionName, provider: str, mode: object) -> bool:
    """Whether we provide this. Third parties are looked up only where we do not: that reads every installed package."""
    if mode is not None and name == "vector_store":
        return f"{provider}:{mode}" in BUILTIN[name]
    return any(key.partition(":")[0] == provider for key in BUILTIN[name])


def _store_key(provider: str, section: Mapping[str, Any], known: list[str]) -> str:
    modes = [key.partition(":")[2] for key in known if key.partition(":")[0] == provider]
    _word("vector_store.mode", section.get("mode"))
    mode = mode_of(section)
    if "" in modes:  # a third party with one mode, which its options may call what they like
        return provider
    if mode is None:
        mode = "embedded" if "embedded" in modes else modes[0]
    if mode not in modes:
        raise UnknownName("vector_store.mode", f"mode of {provider}", mode, modes)
    return f"{provider}:{mode}"


def _has_modes(model: type[SectionConfig]) -> bool:
    """Whether a model says itself what its `mode` is, beside what every section of a store inherits."""
    own = (base for base in model.__mro__ if issubclass(base, StoreConfig) and base is not StoreConfig)
    return any("mode" in inspect.get_annotations(base) for base in own)


def _word(where: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ConfigError(where, f"is {describe(value)}, not a name", "Write it as text.")
