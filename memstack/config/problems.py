"""pydantic's complaints in our words: which option, which variable sets it, the way out, and never the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from memstack.config.docs import descriptions
from memstack.config.layers import SECTIONS, env_name
from memstack.config.lookup import PROVIDED, model_of, siblings
from memstack.config.sources import standard_name
from memstack.errors import ConfigError, UnknownName

__all__ = ["config_error", "option_names"]


def option_names(model: type[BaseModel]) -> list[str]:
    """The options of a model, as configurations call them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def config_error(
    error: ValidationError,
    settings: type[BaseModel],
    options: Mapping[str, Any],
    origins: Mapping[str, str],
    written: Mapping[str, str],
) -> ConfigError:
    """What is wrong with a configuration.

    Args:
        error: pydantic's complaint. Unknown options come first: a misspelt one explains one that is missing.
        settings: the model of the whole configuration.
        options: what was validated.
        origins: where each option came from.
        written: what options are called there, where that is another name.

    Returns:
        The error to raise. It tells of the first problem, and names the other options that have one.
    """
    problems = sorted(error.errors(include_url=False), key=_rank)
    places = [_dotted(problem["loc"]) for problem in problems]
    first, where = problems[0], places[0]
    model = _model(settings, options, where)
    raised = first.get("ctx", {}).get("error")
    if first["type"] == "extra_forbidden" and len(first["loc"]) == where.count(".") + 1:
        return _unknown(where, model, options, origins, written)
    if isinstance(raised, UnknownName) or (isinstance(raised, ImportError) and isinstance(raised, ConfigError)):
        return raised
    if isinstance(raised, ConfigError):
        option = _joined(where, raised.where)
        return ConfigError(written.get(option, option), raised.problem, _hint(option, raised, origins))
    others = sorted({written.get(place, place) for place in places if place != where})
    also = f" Also wrong: {', '.join(others)}." if others else ""
    if first["type"] == "missing":
        return ConfigError(where, "is missing", f"Give it, or set {_variables(where, options)}.{also}")
    came = _came(where, origins)
    if where not in written and env_name(where) not in came:
        also = f" {env_name(where)} sets it too.{also}"
    quotes = " Put it in quotes." if first["type"] == "string_type" and _is_scalar(first["input"]) else ""
    return ConfigError(written.get(where, where), _problem(first, model, where), f"{came}{quotes}{also}".strip())


def _rank(problem: ErrorDetails) -> int:
    """Unknown options first; last the complaint of a union's literal, beside which stands what was meant."""
    in_union = isinstance(problem["loc"][-1], str) and str(problem["loc"][-1]).startswith("literal[")
    return 0 if problem["type"] == "extra_forbidden" else 2 if in_union else 1


def _dotted(loc: tuple[int | str, ...]) -> str:
    """The option that a place lies in; what pydantic adds for unions and items is cut off."""
    depth = 2 if loc and loc[0] in SECTIONS else 1
    return ".".join(str(part) for part in loc[:depth])


def _joined(where: str, inner: str) -> str:
    """The dotted name of an option that a section's own check names, seen from outside."""
    return inner if inner.partition(".")[0] == where.partition(".")[0] else f"{where}.{inner}"


def _hint(option: str, raised: ConfigError, origins: Mapping[str, str]) -> str:
    return f"{_came(option, origins)} {raised.hint}".strip()


def _came(option: str, origins: Mapping[str, str]) -> str:
    return f"It comes from {origins[option]}." if option in origins else ""


def _model(settings: type[BaseModel], options: Mapping[str, Any], where: str) -> type[BaseModel]:
    section = where.partition(".")[0]
    for name in PROVIDED:
        if name == section and isinstance(options.get(name), Mapping):
            return model_of(name, options[name])[1]
    if "." in where and section in settings.model_fields:
        annotation = settings.model_fields[section].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return settings


def _unknown(
    where: str,
    model: type[BaseModel],
    options: Mapping[str, Any],
    origins: Mapping[str, str],
    written: Mapping[str, str],
) -> ConfigError:
    section, _, option = where.rpartition(".")
    origin = origins.get(where, "")
    shown = f"{where} ({origin})" if origin.startswith("environment") else written.get(where, where)
    for name in PROVIDED:
        if name != section:
            continue
        key = model_of(name, options[name])[0]
        for mode, other in siblings(name, key).items():
            if option in option_names(other):
                problem = f"is an option of the mode {mode!r}, and the mode is {key.partition(':')[2]!r}"
                return ConfigError(shown, problem, f"Drop it, or set `{name}.mode: {mode}`.")
        if option == "config":
            return ConfigError(
                shown,
                "is Mem0's place for options",
                "Put them beside `provider`, or pass the whole of Mem0's configuration as the first argument or file.",
            )
    return UnknownName(shown, "option", option, option_names(model))


def _variables(where: str, options: Mapping[str, Any]) -> str:
    section, _, option = where.partition(".")
    given = options.get(section)
    standard = standard_name(section, given.get("provider", ""), option) if isinstance(given, Mapping) else None
    return f"{env_name(where)}{f' or {standard}' if standard else ''}"


def _problem(problem: Any, model: type[BaseModel], where: str) -> str:
    """What is wrong, in words that follow the name of the option."""
    raised = problem.get("ctx", {}).get("error")
    if raised is not None:  # a ValueError of a validator of ours
        return str(raised)
    if problem["type"] == "string_pattern_mismatch":
        described = descriptions(model).get(where.rpartition(".")[2], "")
        return f"does not have the right form: {described}".rstrip(": .")
    if problem["type"] == "path_type":
        return "is not a path"
    message = str(problem["msg"])
    subject, should, rest = message.partition(" should ")
    return f"should {rest}" if should and " " not in subject.strip() else message[:1].lower() + message[1:]


def _is_scalar(value: object) -> bool:
    return isinstance(value, (int, float)) or type(value).__module__ == "datetime"
