"""Layers of options, and how a higher one lies on a lower one.

pydantic-settings merges its sources key by key. That is wrong where a higher layer names another provider or mode: the
options of the lower one mean nothing to it. Here:

* Options lie on options, key by key, nested mappings too; None means "left out", in every layer.
* Where a higher layer names another `provider` than the lower one does, the lower section is dropped whole, but for
  `collection`, which means the same everywhere.
* Where it names another `mode` of the same provider (by `mode`, or by `url`, `host`, `port` or `path`), the lower
  section is dropped, but for `provider`, `collection` and `embedding_dims`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from memstack.config.interpolate import Unset
from memstack.config.lookup import PROVIDED, belongs, mode_of
from memstack.errors import ConfigError, describe

__all__ = ["SECTIONS", "Layer", "Merged", "env_name", "merge", "plain"]

SECTIONS: Final = (*PROVIDED, "history", "limits", "retrieval")
_KEPT_BY_PROVIDER: Final = ("collection",)
_KEPT_BY_MODE: Final = ("provider", "collection", "embedding_dims")


def env_name(option: str) -> str:
    """The environment variable that sets an option: ``vector_store.path`` → ``MEMSTACK_VECTOR_STORE__PATH``."""
    return "MEMSTACK_" + option.replace(".", "__").upper()


@dataclass(frozen=True)
class Layer:
    """Options from one place.

    Attributes:
        options: sections and plain options.
        origin: what to call the place of an option, by its dotted name.
        base: the folder that relative paths hang on; None for the working directory.
        written: what options are called there, by their dotted name, where that is another name.
    """

    options: Mapping[str, Any]
    origin: Callable[[str], str]
    base: Path | None = None
    written: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Merged:
    """What the layers come to.

    Attributes:
        options: sections and plain options.
        layers: the layer of each option, by its dotted name.
    """

    options: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)

    def put(self, section: str, option: str, value: Any, layer: Layer) -> None:
        """Set an option of a section."""
        self.options.setdefault(section, {})[option] = value
        self.layers[f"{section}.{option}"] = layer

    def section(self, name: str) -> dict[str, Any]:
        """The options of a section; empty where it is left out, or is no mapping."""
        found = self.options.get(name)
        return found if isinstance(found, dict) else {}

    def origins(self) -> dict[str, str]:
        """Where each option came from."""
        return {option: layer.origin(option) for option, layer in self.layers.items()}

    def written(self) -> dict[str, str]:
        """What the options are called that have another name where they came from."""
        return {option: layer.written[option] for option, layer in self.layers.items() if option in layer.written}


def plain(value: Any, where: str = "") -> Any:
    """Mappings as dicts, and models as the options that were set in them.

    Args:
        value: options, or the value of one.
        where: dotted name of the option; empty for the whole.

    Raises:
        ConfigError: a mapping has a key that is not text; or a model is that of another section.
    """
    if isinstance(value, BaseModel):
        if where in PROVIDED and not belongs(where, value):
            raise ConfigError(where, f"is {describe(value)}, a model of another section", "Pass one of this section.")
        options = value.model_dump(exclude_unset=True, by_alias=True)
        named = {name: getattr(value, name, None) for name in ("provider", "mode")}  # defaults, most often
        return {**{name: word for name, word in named.items() if word is not None}, **options}
    if not isinstance(value, Mapping):
        return value
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(where or "config", f"has a key that is {describe(key)}, not text", "Name options.")
    return {key: plain(item, f"{where}.{key}" if where else key) for key, item in value.items()}


def merge(layers: Sequence[Layer]) -> Merged:
    """Lay layers on one another.

    Args:
        layers: the highest first.

    Returns:
        The options that are left, each with its layer.

    Raises:
        ConfigError: a ``vector_store`` section of one layer tells two modes at once.
    """
    merged = Merged()
    for layer in reversed(layers):
        for name, value in layer.options.items():
            if value is None:
                continue
            if name not in SECTIONS or not isinstance(value, dict):
                merged.options[name] = value
                merged.layers[name] = layer
                continue
            if not isinstance(merged.options.get(name), dict):
                merged.options[name] = {}
            _clear(merged, name, value)
            for option, item in value.items():
                if item is not None:
                    merged.put(name, option, _overlaid(merged.section(name).get(option), item), layer)
    return merged


def _clear(merged: Merged, name: str, higher: Mapping[str, Any]) -> None:
    lower = merged.section(name)
    if name not in PROVIDED:
        return
    if _differ(_known(lower.get("provider")), _known(higher.get("provider"))):
        kept: tuple[str, ...] = _KEPT_BY_PROVIDER
    elif name == "vector_store" and _differ(_mode(lower), _mode(higher)):
        kept = _KEPT_BY_MODE
    else:
        return
    for option in [option for option in lower if option not in kept]:
        del lower[option]
        merged.layers.pop(f"{name}.{option}", None)


def _differ(lower: object, higher: object) -> bool:
    return lower is not None and higher is not None and lower != higher


def _known(value: object) -> object:
    return None if isinstance(value, Unset) else value


def _mode(section: Mapping[str, Any]) -> str | None:
    return mode_of({option: _known(value) if option == "mode" else value for option, value in section.items()})


def _overlaid(lower: object, higher: object) -> object:
    if isinstance(lower, dict) and isinstance(higher, dict):
        return {**lower, **{key: _overlaid(lower.get(key), item) for key, item in higher.items() if item is not None}}
    return higher
