"""``${NAME}`` and ``${NAME:-default}`` in the strings of a YAML file; ``$${`` is a plain ``${``.

A variable that is not set, or empty, and has no default becomes `Unset`: an error that waits. It is raised only if the
option is used; a layer above may replace it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Final

from memstack.errors import ConfigError

__all__ = ["Unset", "interpolate"]

_REFERENCE: Final = re.compile(r"\$(?P<escape>\$)?\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\})?")


@dataclass(frozen=True)
class Unset:
    """Stands for a value that could not be read.

    Attributes:
        error: what to raise when it is needed.
    """

    error: ConfigError


def interpolate(value: Any, shown: str, place: str = "") -> Any:
    """Replace the references in all strings of a value.

    Args:
        value: a string, or mappings and lists of them; other values stay as they are.
        shown: what messages call the file.
        place: dotted path of the value.

    Returns:
        A copy. A string that becomes empty through its references is None: as if the option were left out.

    Raises:
        ConfigError: a reference is malformed.
    """
    if isinstance(value, dict):
        return {key: interpolate(item, shown, f"{place}.{key}" if place else key) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, shown, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        return _text(value, shown, place)
    return value


def _text(text: str, shown: str, place: str) -> str | Unset | None:
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["escape"]:
            return match[0][1:]
        if name is None:
            raise ConfigError(
                place,
                f"holds a `${{` in {shown} that is no reference",
                "Write `${NAME}` or `${NAME:-default}`, or `$${` for a plain `${`.",
            )
        found = os.environ.get(name) or default
        if found is None:
            missing.append(name)
        return found or ""

    result = _REFERENCE.sub(replace, text)
    if missing:
        return Unset(
            ConfigError(
                place,
                f"refers to the environment variable {missing[0]} in {shown}, which is not set",
                f"Set {missing[0]}, or give a default: `${{{missing[0]}:-…}}`.",
            )
        )
    return result or None
