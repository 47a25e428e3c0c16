"""What a model server is like, for ``memstack doctor``: reachable, authorised, the model there, its context long.

Nothing is embedded and nothing is said: these are the servers' own figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from memstack.config.urls import mask
from memstack.errors import ProviderError
from memstack.extraction import PROMPT_TOKENS
from memstack.providers.base import Finding

if TYPE_CHECKING:
    import ollama
    import openai

    from memstack.providers.calls import CallFailed

__all__ = ["ollama_findings", "openai_findings"]

_SHOWN: Final = 8


def openai_findings(client: openai.OpenAI, config: Any, section: str) -> Iterator[Finding]:
    """What a server that speaks OpenAI's API says of itself.

    Args:
        client: reaches it.
        config: the section.
        section: its name.
    """
    import openai  # noqa: PLC0415

    from memstack.providers.openai_failures import failure_of  # noqa: PLC0415

    server, model = f"{section} server", f"{section} model"
    address = mask(config.base_url)
    try:
        described = isinstance(getattr(client.models.retrieve(config.model), "id", None), str)
    except openai.NotFoundError:
        named, names = False, _names(client)
    except Exception as error:  # noqa: BLE001  # whatever the client raises is the finding
        yield _failed(server, address, failure_of(error, section))
        return
    else:
        named, names = described, None if described else _names(client)
        if not described and names is None:
            found = f"{address} answers, and not as OpenAI's API does"
            yield Finding(server, "fail", found, f"Check `{section}.base_url`.")
            return
    yield Finding(server, "ok", f"{address} answers and takes the key")
    yield Finding(model, "ok", f"{config.model} is there") if named else _listed(names, config, section, model)


def _names(client: openai.OpenAI) -> list[str] | None:
    """The names of the models that a server has; None where it does not tell."""
    try:
        return sorted(str(item.id) for item in client.models.list())
    except Exception:  # noqa: BLE001  # an error of the API, or what the client makes of a page
        return None


def _listed(names: list[str] | None, config: Any, section: str, row: str) -> Finding:
    if names is None:
        found = f"the server does not tell which models it has: whether {config.model} is there shows when it is used"
        return Finding(row, "warn", found, f"Check `{section}.base_url` and `{section}.model`.")
    if config.model in names:
        return Finding(row, "ok", f"{config.model} is there")
    some = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return Finding(row, "fail", f"{config.model} is not there; {some or 'no model'} is", f"Set `{section}.model`.")


def ollama_findings(client: ollama.Client, config: Any, section: str, *, pull: bool) -> Iterator[Finding]:
    """What an Ollama server says of itself.

    Args:
        client: reaches it.
        config: the section.
        section: its name.
        pull: whether a model that is missing is downloaded, with a progress bar.
    """
    from memstack.providers.ollama_failures import failure_of, is_missing  # noqa: PLC0415
    from memstack.providers.pulling import pull as download  # noqa: PLC0415

    server, model = f"{section} server", f"{section} model"
    address = mask(config.host)
    pulled = ""
    try:
        release = client._client.get("/api/version").raise_for_status().json().get("version", "?")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the client has no method for it
    except Exception as error:  # noqa: BLE001  # whatever the client raises is the finding
        yield _failed(server, address, failure_of(error, section, config.model))
        return
    yield Finding(server, "ok", f"Ollama {release} at {address}")
    try:
        try:
            shown = client.show(config.model)
        except Exception as error:
            if not (pull and is_missing(error)):
                raise
            download(client, config.model)
            shown, pulled = client.show(config.model), ", pulled just now"
    except ProviderError as error:
        yield Finding(model, "fail", f"{config.model} {error.problem}", error.hint)
        return
    except Exception as error:  # noqa: BLE001
        yield _failed(model, config.model, failure_of(error, section, config.model))
        return
    wanted = "completion" if section == "llm" else "embedding"
    can = list(shown.capabilities or ())
    if can and wanted not in can:
        found = f"{config.model} is there, and is no model for {wanted} (it is for {', '.join(can)})"
        yield Finding(model, "fail", found, f"Set `{section}.model` to one that is.")
    else:
        yield Finding(model, "ok", f"{config.model} is there{pulled}")
    if section == "llm":
        yield _context(config, dict(shown.modelinfo or {}))


def _context(config: Any, told: dict[str, Any]) -> Finding:
    """Whether the extraction prompt and an answer fit into the context, and the context into the model."""
    name = "llm context"
    most = next((int(value) for key, value in told.items() if key.endswith(".context_length")), None)
    needed = PROMPT_TOKENS + config.max_tokens
    asked = f"`llm.num_ctx` is {config.num_ctx:,} tokens"
    if most is not None and config.num_ctx > most:
        todo = "Lower it." if most > needed else "Use a model with a longer context."
        return Finding(name, "fail", f"{asked}, and {config.model} has at most {most:,}", todo)
    if config.num_ctx <= PROMPT_TOKENS:
        found = f"{asked}, and the extraction prompt alone takes about {PROMPT_TOKENS:,}"
        return Finding(name, "fail", found, f"Raise it to {needed:,} or more.")
    if config.num_ctx < needed:
        found = f"{asked}; the extraction prompt takes about {PROMPT_TOKENS:,}, an answer up to {config.max_tokens:,}"
        return Finding(name, "warn", found, f"Raise it to {needed:,} or more, or lower `llm.max_tokens`.")
    return Finding(name, "ok", f"{asked}, of {most:,}" if most is not None else asked)


def _failed(row: str, where: str, failure: CallFailed) -> Finding:
    return Finding(row, "fail", f"{where}: {failure.problem}", failure.hint)
