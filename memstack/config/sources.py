"""Where options come from: a file or mapping, the environment, and the standard variables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memstack.config.interpolate import interpolate
from memstack.config.layers import SECTIONS, Layer, Merged, env_name, plain
from memstack.config.lookup import mode_of
from memstack.config.mem0_mapping import from_mem0, is_mem0, names_in_mem0
from memstack.config.urls import is_postgres
from memstack.errors import ConfigError, UnknownName, describe

__all__ = ["CONFIG_VARIABLE", "DEFAULT_FILE", "config_layer", "environment_layer", "fill_standard", "override_layer"]

CONFIG_VARIABLE: Final = "MEMSTACK_CONFIG"
DEFAULT_FILE: Final = "memstack.yaml"
_PREFIX: Final = "MEMSTACK_"
_TESTS_PREFIX: Final = "MEMSTACK_TEST_"


# -- file, mapping, overrides ----------------------------------------------------------------


def override_layer(overrides: Mapping[str, Any]) -> Layer:
    """The keyword arguments of a call."""
    return Layer(plain(overrides), lambda _: "override")


def config_layer(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> Layer | None:
    """The configuration that the caller names, or that lies about.

    Args:
        config: a YAML file; a mapping in our form or Mem0's; None for ``$MEMSTACK_CONFIG``, else ``./memstack.yaml``.

    Returns:
        Its layer; None where there is neither.

    Raises:
        ConfigError: the file cannot be read; the mapping has no counterpart here; or it is neither.
    """
    if isinstance(config, Mapping):
        options = plain(config)
        if is_mem0(options):
            return Layer(from_mem0(options), lambda _: "mem0 mapping", written=names_in_mem0(options))
        return Layer(options, lambda _: "mapping")
    if config is None:
        named = os.environ.get(CONFIG_VARIABLE)
        if named:
            return _file_layer(named, f"{named} (from {CONFIG_VARIABLE})")
        return _file_layer(DEFAULT_FILE, DEFAULT_FILE) if Path(DEFAULT_FILE).exists() else None
    if isinstance(config, (str, os.PathLike)) and isinstance(os.fspath(config), str) and os.fspath(config):
        return _file_layer(os.fspath(config), os.fspath(config))
    raise ConfigError("config", f"is {describe(config)}", "Pass the path of a YAML file, a mapping, or a Settings.")


def _file_layer(name: str, shown: str) -> Layer:
    from memstack.config.yaml_file import read_yaml  # noqa: PLC0415  # YAML is loaded when a file is read

    try:
        path = Path(name).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(shown, "names the home folder of a user that is not known here", "Check the path.") from None
    options = interpolate(read_yaml(path, shown), shown)
    if is_mem0(options):
        return Layer(from_mem0(options), lambda _: name, path.parent, names_in_mem0(options))
    return Layer(options, lambda _: name, path.parent)


# -- the environment -------------------------------------------------------------------------


def environment_layer(known: Iterable[str]) -> Layer:
    """The variables ``MEMSTACK_…``: ``MEMSTACK_OFFLINE``, ``MEMSTACK_VECTOR_STORE__PATH``.

    Empty ones count as not set. ``MEMSTACK_VECTOR_STORE`` may hold the whole section as JSON. ``MEMSTACK_CONFIG`` and
    ``MEMSTACK_TEST_…`` are no options; any other name that is none is an error, since a misspelt ``MEMSTACK_OFFLINE``
    must not pass.

    Args:
        known: names of the top-level options.

    Raises:
        UnknownName: a variable names no option.
        ConfigError: a variable for a section holds no JSON object.
    """
    names = list(known)
    options: dict[str, Any] = {}
    variables: dict[str, str] = {}
    for variable in sorted(name for name in os.environ if name.upper().startswith(_PREFIX)):
        value = os.environ[variable]
        if not value or variable.upper() == CONFIG_VARIABLE or variable.upper().startswith(_TESTS_PREFIX):
            continue
        name, *nested = variable[len(_PREFIX) :].lower().split("__")
        if name not in names:
            raise _unknown_variable(variable, names)
        variables[".".join([name, *nested])] = variable
        whole = name in SECTIONS and not nested
        _set(options, [name, *nested], _section(variable, value) if whole else value, variable)
    return Layer(options, lambda option: f"environment {_nearest_variable(option, variables)}")


def _set(options: dict[str, Any], path: list[str], value: Any, variable: str) -> None:
    *groups, last = path
    place = options
    for group in groups:
        place = place.setdefault(group, {})
        if not isinstance(place, dict):
            raise ConfigError(variable, f"goes into `{group}`, which another variable sets whole", "Unset one of them.")
    if isinstance(value, dict):  # nested variables, which sort after it, lie upon it
        place[last] = {**value, **place.get(last, {})}
    else:
        place[last] = value


def _section(variable: str, value: str) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            variable,
            "is no JSON object with the options of the section",
            f"Set single options instead, as in {variable}__PROVIDER.",
        )
    return found


def _nearest_variable(option: str, variables: Mapping[str, str]) -> str:
    """The variable that set an option: its own, one inside it, or that of the section around it."""
    inside = next((name for name in variables if name.startswith(f"{option}.")), None)
    return variables.get(option) or variables.get(inside or option.partition(".")[0]) or env_name(option)


def _unknown_variable(variable: str, names: list[str]) -> ConfigError:
    stem = variable.upper()
    for section in SECTIONS:
        outer = env_name(section)
        if stem.startswith(f"{outer}_"):
            option = stem[len(outer) :].strip("_")
            return ConfigError(variable, "is no option", f"Two underscores lead into a section: {outer}__{option}.")
    return UnknownName(variable, "option", stem[len(_PREFIX) :].lower(), names)


# -- the standard variables ------------------------------------------------------------------


@dataclass(frozen=True)
class _Standard:
    """A variable that other programs use too.

    Attributes:
        name: of the variable.
        sections: those that it may fill.
        provider: theirs.
        option: the option that it fills.
        unless: options of the section that make it superfluous.
    """

    name: str
    sections: tuple[str, ...]
    provider: str
    option: str
    unless: tuple[str, ...] = ()


_MODELS: Final = ("embedder", "llm")
_STORE: Final = ("vector_store",)
_STANDARD: Final = (
    _Standard("OPENAI_API_KEY", _MODELS, "openai", "api_key"),
    _Standard("OPENAI_BASE_URL", _MODELS, "openai", "base_url"),
    _Standard("OLLAMA_HOST", _MODELS, "ollama", "host"),
    _Standard("QDRANT_URL", _STORE, "qdrant", "url", ("host", "port", "path")),
    _Standard("QDRANT_API_KEY", _STORE, "qdrant", "api_key"),
    _Standard("DATABASE_URL", _STORE, "pgvector", "url", ("host", "port", "user", "password", "dbname", "path")),
)


def standard_name(section: str, provider: str, option: str) -> str | None:
    """The standard variable that fills an option, if there is one."""
    for standard in _STANDARD:
        if section in standard.sections and (provider, option) == (standard.provider, standard.option):
            return standard.name
    return None


def fill_standard(merged: Merged, sections: Iterable[str]) -> None:
    """Fill what is left from the standard variables. They never choose: they fill sections whose provider they fit.

    A section fits where it *names* the provider. A store's address also decides the mode where nothing else does:
    ``{provider: qdrant}`` with ``QDRANT_URL`` is a server, ``{provider: qdrant, mode: embedded}`` is not, and nor is
    the default, which names nothing.

    Args:
        merged: the options; filled in place.
        sections: the sections to fill.
    """
    for standard in _STANDARD:
        value = os.environ.get(standard.name)
        if not value:
            continue
        layer = Layer({}, lambda _, name=standard.name: f"environment {name}")  # type: ignore[misc]
        for name in standard.sections:
            if name in sections and _fits(standard, merged.section(name), value):
                merged.put(name, standard.option, value, layer)


def _fits(standard: _Standard, section: Mapping[str, Any], value: str) -> bool:
    if any(section.get(option) is not None for option in (standard.option, *standard.unless)):
        return False
    if "vector_store" not in standard.sections:
        return bool(section.get("provider") == standard.provider)
    mode = mode_of(section)
    provider = section.get("provider") or ("qdrant" if mode == "server" else None)
    if provider != standard.provider or (standard.name == "DATABASE_URL" and not is_postgres(value)):
        return False
    return mode == "server" or (mode is None and standard.option == "url")
