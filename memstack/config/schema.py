"""The JSON Schema of a configuration file, for editors: completion, descriptions, and typos underlined."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from memstack.config.docs import descriptions
from memstack.config.lookup import BUILTIN, DEFAULT_PROVIDER, PROVIDED, SectionName, plugin_model, plugin_names
from memstack.config.sections import HistoryConfig, LimitsConfig, RetrievalConfig, SectionConfig
from memstack.config.settings import Settings
from memstack.errors import ConfigError

__all__ = ["config_schema"]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {
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
    sections: dict[str, list[type[BaseModel]]] = {name: list(_models(name).values()) for name in PROVIDED}
    sections.update(history=[HistoryConfig], limits=[LimitsConfig], retrieval=[RetrievalConfig])
    models: list[type[BaseModel]] = [Settings, *(model for section in sections.values() for model in section)]
    mapping, document = models_json_schema([(model, "validation") for model in models], by_alias=True)
    references = {model: mapping[model, "validation"]["$ref"] for model in models}
    definitions: dict[str, Any] = document["$defs"]
    for model, reference in references.items():
        _finish(definitions[_name(reference)], model)
    definitions["Reference"] = dict(_REFERENCE)
    root = definitions[_name(references[Settings])]
    for name, section in sections.items():
        alternatives: list[dict[str, Any]] = [{"$ref": references[model]} for model in section]
        described = root["properties"][name]["description"]
        root["properties"][name] = {"description": described, "anyOf": [*alternatives, {"type": "null"}]}
    for name, provider in DEFAULT_PROVIDER.items():
        for model in sections[name]:
            _ask_for_provider(definitions[_name(references[model])], provider)
    used = _reachable(root, definitions)
    return {"$schema": _DRAFT, "title": "memstack", **root, "$defs": {name: definitions[name] for name in sorted(used)}}


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _models(name: SectionName) -> dict[str, type[SectionConfig]]:
    """The models of a section, ours and those of the third parties that can be loaded."""
    found = dict(BUILTIN[name])
    for key in plugin_names(name):
        try:
            found[key] = plugin_model(name, key)
        except ConfigError:  # it needs a package that is missing, or has nothing for this section
            continue
    return found


def _ask_for_provider(definition: dict[str, Any], default: str) -> None:
    """Ask for `provider` where it is not the default, so that a section without one means the default's."""
    if definition["properties"]["provider"].get("const") != default:
        definition["required"] = sorted({*definition.get("required", []), "provider"})


def _finish(definition: dict[str, Any], model: type[BaseModel]) -> None:
    """Describe the options; let those that are no plain text be references too; drop titles derived from names."""
    definition.pop("title", None)
    definition["description"] = (model.__doc__ or "").partition("\n\n")[0].replace("\n", " ").strip()
    described = descriptions(model)
    for name, option in definition["properties"].items():
        option.pop("title", None)
        kept = {"description": described.get(name, option.pop("description", ""))}
        default = option.pop("default", None)
        if default is not None:
            kept["default"] = default
        alternatives = option.pop("anyOf", None) or [dict(option)]
        option.clear()
        if name not in {"provider", "mode"} and not any(map(_is_plain_text, alternatives)):
            alternatives.append({"$ref": "#/$defs/Reference"})
        option.update({**kept, **(alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives})})


def _is_plain_text(part: dict[str, Any]) -> bool:
    return part.get("type") == "string" and not {"pattern", "enum", "const"} & set(part)


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set[str]()
        return own.union(*(_references(item) for item in value.values()))
    return set[str]().union(*(_references(item) for item in value)) if isinstance(value, list) else set()


def _reachable(root: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [_name(reference) for reference in _references(root)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [_name(reference) for reference in _references(definitions[name])]
    return found
