"""The JSON Schema of a configuration file, for editors: completion, descriptions, and typos underlined."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from memstack.config.lookup import BUILTIN, DEFAULT_PROVIDER, PROVIDED, SectionName, plugin_model, plugin_names
from memstack.config.sections import SectionConfig
from memstack.config.settings import Settings
from memstack.errors import ConfigError

__all__ = ["config_schema"]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = "Reference"
_REFERENCE_SCHEMA: Final = {
    "type": "string",
    "pattern": r"\$\{.+\}",
    "description": "A variable of the environment: `${NAME}` or `${NAME:-default}`.",
}


def config_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration file in memstack's form.

    A section may be left empty, and may leave out what the loader adds: `mode`, and the provider that is the default.
    Options that are no text also take a reference such as ``${PORT:-6333}``. Installed third parties' sections are in
    it, those that can be loaded.

    Returns:
        The schema.
    """
    models = {name: _models(name) for name in PROVIDED}
    listed = [model for section in models.values() for model in section.values()]
    mapping, document = models_json_schema(
        [(model, "validation") for model in (Settings, *listed)], by_alias=True, ref_template="#/$defs/{model}"
    )
    definitions: dict[str, Any] = document["$defs"]
    for definition in definitions.values():
        _take_references(definition)
    definitions[_REFERENCE] = dict(_REFERENCE_SCHEMA)
    root = definitions.pop(mapping[Settings, "validation"]["$ref"].rpartition("/")[2])
    for name, section in models.items():
        for model in section.values():
            definition = definitions[mapping[model, "validation"]["$ref"].rpartition("/")[2]]
            _name_provider(definition, name)
        root["properties"][name] = {
            "description": Settings.model_fields[name].description,
            "anyOf": [*(dict(mapping[model, "validation"]) for model in section.values()), {"type": "null"}],
        }
    for name in ("history", "limits"):
        root["properties"][name] = {
            "description": Settings.model_fields[name].description,
            "anyOf": [{"$ref": reference} for reference in _references(root["properties"][name])] + [{"type": "null"}],
        }
    used = _reachable(root, definitions)
    return {"$schema": _DRAFT, **root, "$defs": {name: definitions[name] for name in sorted(used)}}


def _models(name: SectionName) -> dict[str, type[SectionConfig]]:
    """The models of a section, ours and those of the third parties that can be loaded."""
    found = dict(BUILTIN[name])
    for key in plugin_names(name):
        try:
            found[key] = plugin_model(name, key)
        except ConfigError:  # it needs a package that is missing, or has nothing for this section
            continue
    return found


def _name_provider(definition: dict[str, Any], name: SectionName) -> None:
    """Ask for `provider` where it is not the default, so that a section without one means the default's."""
    if definition["properties"]["provider"].get("const") != DEFAULT_PROVIDER[name]:
        definition["required"] = sorted({*definition.get("required", []), "provider"})


def _take_references(definition: dict[str, Any]) -> None:
    """Let options that are no plain text be references too; drop what pydantic derives from names."""
    definition.pop("title", None)
    definition["description"] = definition["description"].partition("\n\n")[0].replace("\n", " ")
    for name, option in definition.get("properties", {}).items():
        option.pop("title", None)
        if "description" in option:
            option["description"] = option["description"].replace("\n", " ")
        if name in {"provider", "mode"} or "$ref" in option or any(map(_is_plain_text, option.get("anyOf", [option]))):
            continue
        kept = {word: option.pop(word) for word in ("description", "default") if word in option}
        alternatives = option.pop("anyOf", None) or [dict(option)]
        option.clear()
        option.update({**kept, "anyOf": [*alternatives, {"$ref": f"#/$defs/{_REFERENCE}"}]})


def _is_plain_text(part: dict[str, Any]) -> bool:
    return part.get("type") == "string" and not {"pattern", "enum", "const"} & set(part)


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set[str]()
        return own.union(*(_references(item) for item in value.values()))
    return set[str]().union(*(_references(item) for item in value)) if isinstance(value, list) else set()


def _reachable(root: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [reference.rpartition("/")[2] for reference in _references(root)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [reference.rpartition("/")[2] for reference in _references(definitions[name])]
    return found
