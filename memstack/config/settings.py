"""`Settings`: the whole configuration, frozen and validated, and where each option came from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PrivateAttr, SerializeAsAny, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from memstack.config.interpolate import Unset
from memstack.config.layers import SECTIONS, Layer, Merged, merge, plain
from memstack.config.lookup import PROVIDED, mode_of, model_of, parse_section
from memstack.config.problems import config_error, option_names
from memstack.config.sections import (
    IN_MEMORY,
    BuiltinEmbedder,
    FrozenOptions,
    HistoryConfig,
    LimitsConfig,
    NoLLM,
    QdrantEmbedded,
    RetrievalConfig,
    SectionConfig,
    StoreConfig,
    data_folder,
    holds_variable,
    not_blank,
)
from memstack.config.sources import config_layer, environment_layer, fill_standard, override_layer
from memstack.config.urls import is_loopback
from memstack.errors import ConfigError, UnknownName
from memstack.records import Role

__all__ = ["ConfigLike", "Settings"]


def _listed(value: object) -> object:
    """One name, several divided by commas, or a list in JSON, as a variable of the environment gives them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("should be names divided by commas, or a list in JSON") from None
    return [part.strip() for part in value.split(",")]


class Settings(FrozenOptions, BaseSettings, frozen=True):  # pyright: ignore[reportGeneralTypeIssues]  # by its model_config
    """The whole configuration of a memory.

    Options are taken from, the highest first: the keyword arguments; the environment (``MEMSTACK_OFFLINE``,
    ``MEMSTACK_VECTOR_STORE__PATH``); the file or mapping; the standard variables (``OPENAI_API_KEY``,
    ``OPENAI_BASE_URL``, ``OLLAMA_HOST``, ``QDRANT_URL``, ``QDRANT_API_KEY``, ``DATABASE_URL``); the defaults. How one
    layer lies on another is told in `memstack.config.layers`.

    Args:
        config: see `load`.
        overrides: options; sections as mappings, which lie on the other layers key by key.

    Raises:
        ConfigError: the configuration cannot be used; the message names the option and the way out.
    """

    vector_store: Annotated[SerializeAsAny[StoreConfig], BeforeValidator(partial(parse_section, "vector_store"))] = (
        Field(default_factory=QdrantEmbedded)
    )
    """Where memories are kept. Default: Qdrant inside this process, in the user's data folder."""
    embedder: Annotated[SerializeAsAny[SectionConfig], BeforeValidator(partial(parse_section, "embedder"))] = Field(
        default_factory=BuiltinEmbedder
    )
    """What turns text into vectors. Default: the built-in one."""
    llm: Annotated[SerializeAsAny[SectionConfig], BeforeValidator(partial(parse_section, "llm"))] = Field(
        default_factory=NoLLM
    )
    """The language model that draws memories out of what is said. Default: none; what is said is stored as said."""
    history: HistoryConfig = Field(default_factory=HistoryConfig)
    """The log of changes."""
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    """How much may be put into one memory."""
    retrieval: RetrievalConfig = Field(default_factory=RetrievalConfig)
    """How a search ranks. Default: by words, vectors, neighbours, run, speaker and time."""
    offline: bool = False
    """Refuse every host but this machine: when the configuration is loaded, and, while the memory is open, at every
    connection. Default: false."""
    offline_guard: Literal["process", "memory"] = "process"
    """Whose connections `offline` refuses while the memory is open: those of the whole process, or only those of
    memstack and the libraries that it uses. Only with `offline`. Default: process."""
    telemetry: bool = False
    """Let Mem0 send its usage figures home. Default: false."""
    remember_roles: Annotated[tuple[Role, ...], Field(min_length=1), BeforeValidator(_listed)] = ("user",)
    """Whose messages are stored as said, where no LLM draws memories out of them: user, assistant, system, tool or
    developer. Default: user."""
    schemas: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Schemas of your own for the metadata of a category, by dotted path: my_app.memories.Habit. Default: none beside
    those of memstack."""
    custom_instructions: str | None = None
    """What the LLM is told beside the prompt when it draws memories out of messages. Only with an LLM. Default:
    nothing."""
    extraction_prompt: Annotated[str, BeforeValidator(not_blank)] | None = None
    """What the LLM is told in place of Mem0's prompt when it draws memories out of messages; the answer it asks for is
    JSON of Mem0's form, {"memory": [{"text": "…"}]}. Default: Mem0's prompt."""

    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _written: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, config: ConfigLike = None, /, **overrides: Any) -> None:
        merged = _resolve(type(self), config, overrides)
        try:
            super().__init__(**merged.options)
        except ValidationError as error:
            raise config_error(error, type(self), merged.options, merged.origins(), merged.written()) from None
        self._origins = self._all_origins(merged.origins())  # pyright: ignore[reportAttributeAccessIssue]  # private
        self._written = merged.written()  # pyright: ignore[reportAttributeAccessIssue]  # likewise
        self._check_offline()
        self._check_idle()

    @classmethod
    def load(cls, config: ConfigLike = None, /, **overrides: Any) -> Settings:
        """Read a configuration.

        Args:
            config: the path of a YAML file; a mapping, in our form or Mem0's; a `Settings`, which is taken as it stands
                (the environment is not read again, but for the standard variables in sections that are overridden);
                None for ``$MEMSTACK_CONFIG``, else ``./memstack.yaml``, else the embedded default.
            overrides: options that lie upon it; sections as mappings.

        Returns:
            The settings; `config` itself where it is a `Settings` and nothing is overridden.

        Raises:
            ConfigError: the configuration cannot be used. `UnknownName` for names that do not exist.
        """
        if isinstance(config, Settings) and not overrides:
            return config
        return cls(config, **overrides)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """One source: the layers, merged already. pydantic-settings would merge options of different providers."""
        return (init_settings,)

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each option came from, by its dotted name.

        One of ``"default"``, ``"override"``, ``"memstack.yaml"`` (the file), ``"mapping"``, ``"mem0 mapping"``,
        ``"environment OPENAI_API_KEY"``, or ``"inferred"`` (a mode that other options tell).
        """
        return MappingProxyType(dict(self._origins))

    @property
    def history_path(self) -> Path | None:
        """The file of the log of changes; None where it is kept in memory, as that of a store in memory is."""
        if self.history.path == IN_MEMORY:
            return None
        if isinstance(self.history.path, Path):
            return self.history.path
        if not self.vector_store.persistent:
            return None
        if self.vector_store.folder is None:
            return data_folder("history.path") / "history" / self.vector_store.history_file
        return self.vector_store.folder / "history.db"

    def _all_origins(self, given: Mapping[str, str]) -> dict[str, str]:
        """The origins of all options, in their order."""
        found: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            options = [f"{name}.{option}" for option in option_names(type(value))] if name in SECTIONS else [name]
            found.update({option: given.get(option) or given.get(name) or "default" for option in options})
        return found

    def _name(self, option: str) -> str:
        """What an option is called where it came from."""
        return self._written.get(option, option)

    def _check_offline(self) -> None:
        if not self.offline:
            return
        if self.telemetry:
            raise ConfigError("telemetry", "is true, and so is `offline`", "Drop one of the two.")
        for name in PROVIDED:
            section: SectionConfig = getattr(self, name)
            for option, host in section.addresses():
                if not is_loopback(host):
                    where = f"{name}.{option}"
                    raise ConfigError(
                        self._name(where),
                        f"points to another machine (it comes from {self._origins.get(where, 'default')}), "
                        "and `offline` is true",
                        "Point it to localhost, choose another provider, or set `offline: false`.",
                    )
            if getattr(section, "proxy", None) is not None:  # one of this machine, too: it leads on
                raise ConfigError(
                    self._name(f"{name}.proxy"),
                    "leads beyond this machine, and `offline` is true",
                    "Drop one of the two.",
                )
            if getattr(section, "auto_pull", False):
                raise ConfigError(
                    f"{name}.auto_pull", "would download a model, and `offline` is true", "Drop one of the two."
                )

    def _check_idle(self) -> None:
        """Refuse what was set for a part that is off."""
        if "offline_guard" in self.model_fields_set and not self.offline:
            raise ConfigError(
                "offline_guard",
                f"says whom `offline` guards (it comes from {self._origins['offline_guard']}), and `offline` is false",
                "Set `offline: true`, or leave it out.",
            )
        for name in ("custom_instructions", "extraction_prompt"):
            if getattr(self, name) and isinstance(self.llm, NoLLM):
                raise ConfigError(
                    self._name(name),
                    f"is for a language model (it comes from {self._origins[name]}), and `llm.provider` is 'none'",
                    "Configure `llm`, or leave it out.",
                )


ConfigLike = str | os.PathLike[str] | Mapping[str, Any] | Settings | None


def _resolve(cls: type[Settings], config: ConfigLike, overrides: Mapping[str, Any]) -> Merged:
    """Merge all layers, and make relative paths absolute."""
    names = list(cls.model_fields)
    above = override_layer(overrides)
    if isinstance(config, Settings):
        layers = [above, _layer_of(config)]
        touched = [name for name in PROVIDED if name in above.options]
    else:
        below = config_layer(config)
        layers = [above, environment_layer(names), *([below] if below else [])]
        touched = list(PROVIDED)
    for layer in layers:
        for name in layer.options:
            if name not in names:
                raise UnknownName(name, "option", name, names)
    merged = merge(layers)
    _raise_unset(merged.options)
    fill_standard(merged, touched)
    _hang_paths(merged)
    if "vector_store.mode" not in merged.layers and mode_of(merged.section("vector_store")) is not None:
        merged.layers["vector_store.mode"] = Layer({}, lambda _: "inferred")
    return merged


def _layer_of(settings: Settings) -> Layer:
    """What was set in some settings."""
    options = {name: plain(getattr(settings, name)) for name in settings.model_fields_set}
    written = settings._written  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of the class above
    return Layer(options, lambda option: settings.origins.get(option, "default"), written=written)


def _raise_unset(value: object) -> None:
    if isinstance(value, Unset):
        raise value.error
    if isinstance(value, dict):
        for item in value.values():
            _raise_unset(item)
    elif isinstance(value, list):
        for item in value:
            _raise_unset(item)


def _hang_paths(merged: Merged) -> None:
    """Hang relative paths on the folder of the file that they stand in; not what will be refused as it stands."""
    for name in SECTIONS:
        section = merged.section(name)
        model = next((model_of(known, section)[1] for known in PROVIDED if known == name), HistoryConfig)
        for field_name, field in model.model_fields.items():
            option = field.alias or field_name
            value = section.get(option)
            layer = merged.layers.get(f"{name}.{option}")
            if layer is None or layer.base is None or not isinstance(value, str) or not value.strip():
                continue
            if not _takes_path(field.annotation) or value == IN_MEMORY or value.startswith("~"):
                continue
            if not holds_variable(value):
                path = layer.base / value
                section[option] = path if holds_variable(str(path)) else str(path)


def _takes_path(annotation: object) -> bool:
    return annotation is Path or any(_takes_path(part) for part in get_args(annotation))
