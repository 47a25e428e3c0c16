"""Reading a YAML file: the safe loader, strict about duplicate keys, with errors that name file and line.

No error shows a piece of the file: what stands there may be a secret.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.parser import ParserError

from memstack.errors import ConfigError, describe

__all__ = ["read_yaml"]

_MOST_VALUES: Final = 10_000
# What YAML's parser says of tokens, which it calls by their kind: nothing of the file is in it.
_TOKENS: Final = re.compile(r"expected .+, but (?:got|found) '[^']+'")
_INIT_HINT: Final = "Write one with `memstack init`, or name another file."


class _Duplicate(Exception):
    """A key stands twice in a mapping."""

    def __init__(self, key: str, line: int, first: int) -> None:
        super().__init__(key)
        self.key, self.line, self.first = key, line, first


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses duplicate keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Look at the keys as they were written, before merge keys (``<<``) bring in others."""
        node = super().compose_mapping_node(anchor)
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in seen:
                    raise _Duplicate(key.value, line, seen[key.value])
                seen[key.value] = line
        return node


def read_yaml(path: Path, shown: str) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        path: the file.
        shown: what messages call it.

    Returns:
        Its top-level mapping.

    Raises:
        ConfigError: the file is missing, unreadable, empty, not YAML, not a mapping, or repeats a key.
    """
    data = _read(path, shown)
    if not data.strip():
        raise ConfigError(shown, "is empty", _INIT_HINT)
    found = _parse(data, shown)
    if found is None:
        raise ConfigError(shown, "holds nothing but comments", _INIT_HINT)
    if not isinstance(found, dict):
        raise ConfigError(shown, f"holds {describe(found)}, not a mapping", "Write options, as in `offline: true`.")
    _Check(shown).walk(found, ())
    return found


def _read(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(shown, "there is no such file", _INIT_HINT) from None
    except IsADirectoryError:
        raise ConfigError(
            shown, "is a folder, not a file", f"Name the file in it: {Path(shown) / 'memstack.yaml'}."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise ConfigError(shown, f"cannot be read ({reason})", "Check the path and its permissions.") from None


def _parse(data: bytes, shown: str) -> object:
    try:
        return yaml.load(data, Loader=_Loader)  # noqa: S506  # a subclass of the safe loader
    except _Duplicate as error:
        problem = f"line {error.line} repeats the key {error.key!r} of line {error.first}"
        raise ConfigError(shown, problem, "Keep one of them.") from None
    except yaml.MarkedYAMLError as error:
        raise _unparsable(error, data, shown) from None
    except yaml.reader.ReaderError as error:
        line = data[: error.position].count(b"\n") + 1
        raise ConfigError(
            shown, f"line {line} holds bytes or characters that YAML does not allow", "Save the file as UTF-8 text."
        ) from None
    except (LookupError, AttributeError):  # how YAML's loader fails on `!!bool maybe`, `!!int ''`, `!!timestamp now`
        raise ConfigError(
            shown,
            "is no valid YAML: it holds a value that is not of the kind that its tag (`!!`) tells",
            "Drop the tag.",
        ) from None
    except (ValueError, RecursionError) as error:
        problem = (
            "nests too deeply" if isinstance(error, RecursionError) else "holds a date or number that does not exist"
        )
        raise ConfigError(shown, f"is no valid YAML: it {problem}", "Put text in quotes.") from None


def _unparsable(error: yaml.MarkedYAMLError, data: bytes, shown: str) -> ConfigError:
    unfinished = "end of stream" in (error.problem or "") or "<stream end>" in (error.problem or "")
    mark = (error.context_mark if unfinished else None) or error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    text = data.decode("utf-8", errors="replace").splitlines()
    for number, content in enumerate(text[:line], start=1):
        if re.match(r" *\t", content):
            return ConfigError(shown, f"line {number} is indented with a tab, which YAML does not allow", "Use spaces.")
    if error.problem == "but found another document":
        return ConfigError(shown, f"holds a second document at line {line}", "Keep the first; `---` divides them.")
    place = error.problem_mark
    if place and line <= len(text) and text[line - 1][max(place.column - 1, 0) : place.column + 1] == "${":
        problem = f"line {line} holds a `${{` inside braces or brackets, where `{{` begins a mapping"
        return ConfigError(shown, problem, 'Quote it: `"${NAME}"`.')
    problem = error.problem or ""
    if not (isinstance(error, ParserError) and _TOKENS.fullmatch(problem)):
        # Words of YAML's own; what it quotes from the file, or names after "alias" and "tag", is cut off.
        problem = re.split(r"['\"!*&]|, ", problem)[0].strip()
    return ConfigError(
        shown,
        f"line {line} is no valid YAML{f' ({problem})' if problem else ''}",
        "Check its indentation, colons and brackets; put text with `: # * & ! % @ { [` in quotes.",
    )


class _Check:
    """Looks for keys that are not text, circles of aliases, and aliases that multiply without end."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._seen = 0
        self._inside: list[int] = []

    def walk(self, value: object, place: tuple[str, ...]) -> None:
        self._seen += 1
        if self._seen > _MOST_VALUES:
            raise ConfigError(self._shown, f"holds more than {_MOST_VALUES} values", "Remove aliases (`*`) of aliases.")
        if not isinstance(value, (dict, list)):
            return
        if id(value) in self._inside:
            raise ConfigError(
                self._shown, f"`{'.'.join(place)}` holds itself", "Remove the alias (`*`) that closes the circle."
            )
        self._inside.append(id(value))
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                where = f" in `{'.'.join(place)}`" if place else ""
                raise ConfigError(
                    self._shown, f"has a key{where} that is {describe(key)}, not text", "Put it in quotes."
                )
            self.walk(item, (*place, str(key)))
        self._inside.pop()
