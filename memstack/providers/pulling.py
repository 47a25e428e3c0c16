"""Downloads of models by an Ollama server, where they were asked for, with a progress bar."""

from __future__ import annotations

from typing import Any, Final

import httpx
import ollama
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from memstack.errors import ProviderError
from memstack.providers.answers import AnswerTooLong

__all__ = ["pull"]

_DONE: Final = "success"
_FAILURES: Final = (
    *(ollama.ResponseError, httpx.HTTPError, ConnectionError, AnswerTooLong),
    *(ValueError, AttributeError, TypeError),  # a line that is no JSON, or no object; the client takes it for one
)


def pull(client: ollama.Client, model: str, console: Console | None = None) -> None:
    """Let the server download a model.

    Args:
        client: reaches the server.
        model: the model.
        console: where the progress is shown. Default: standard error; nothing but a terminal shows the bar moving.

    Raises:
        ProviderError: the server cannot be reached, has no such model in its library, or did not come to an end.
    """
    shown = console or Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    last = ""
    try:
        with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
            layers: dict[str, Any] = {}
            for step in client.pull(model, stream=True):
                last = step.status or ""
                if step.digest and step.total:
                    if step.digest not in layers:
                        layers[step.digest] = progress.add_task(_shown(f"{model}: {last}"), total=step.total)
                    progress.update(layers[step.digest], completed=step.completed or 0)
    except _FAILURES as error:
        missing = isinstance(error, ollama.ResponseError) and "does not exist" in error.error
        problem = "its library has no such model" if missing else f"cannot be pulled ({type(error).__name__})"
        raise ProviderError(
            "ollama",
            model,
            problem,
            retryable=not missing and not _is_lasting(error),
            hint="Check the name at https://ollama.com/library." if missing else f"Run: ollama pull {model}",
        ) from error
    if last != _DONE:
        raise ProviderError(
            "ollama", model, "the download did not come to its end", retryable=True, hint=f"Run: ollama pull {model}"
        )


def _shown(said: str) -> str:
    """What a server says, without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in said)


def _is_lasting(error: Exception) -> bool:
    """Whether the server refused the request; an error in the stream, of the download itself, has no status."""
    status = error.status_code if isinstance(error, ollama.ResponseError) else 0
    return 400 <= status < 500 and status not in (408, 429)  # noqa: PLR2004
