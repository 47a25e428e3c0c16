"""What can go wrong with a model server, and what the caller sees then.

Declared once: run by ``test_faults``, and written to ``docs/faults.md`` by ``python -m tests.providers.faults``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from memstack.testing import Fault

Task = Literal["embed", "chat", "pull"]
Outcome = Literal["stored", "failed", "error", "lasting error"]
PAGE: Final = Path(__file__).parents[2] / "docs" / "faults.md"


@dataclass(frozen=True)
class Row:
    """A fault, and its outcomes.

    Attributes:
        what: the fault in words.
        fault: as a wire server makes it.
        once: what the caller sees where it happens once.
        always: what the caller sees where it keeps happening.
        tasks: to which requests it can happen.
        providers: to whose servers it can happen.
    """

    what: str
    fault: Fault
    once: Outcome
    always: Outcome
    tasks: tuple[Task, ...] = ("embed", "chat")
    providers: tuple[str, ...] = ("openai", "ollama")


_EMBED: Final[tuple[Task, ...]] = ("embed",)
_CHAT: Final[tuple[Task, ...]] = ("chat",)
_PULL: Final[tuple[Task, ...]] = ("pull",)
_MISSING: Final = "pull model manifest: file does not exist"
SLOW: Final = 1.5  # seconds; longer than the tests' `read_timeout`

ROWS: Final = (
    Row("429, too many requests", Fault.status(429, retry_after=0), "stored", "error"),
    Row("500, an error of the server", Fault.status(500), "stored", "error"),
    Row("502, with a page of HTML from a proxy", Fault.status(502), "stored", "error"),
    Row("503, overloaded", Fault.status(503), "stored", "error"),
    Row("no answer in time", Fault.slow(SLOW), "stored", "error"),
    Row("the connection is cut before the answer", Fault.cut(), "stored", "error"),
    Row("the connection is cut in the answer", Fault.cut_midway(), "stored", "error"),
    Row("half an answer that looks whole", Fault.cut_midway(clean=True), "stored", "error"),
    Row("malformed JSON in the response", Fault.malformed_json(), "stored", "error"),
    Row("401, the key is wrong", Fault.status(401), "lasting error", "lasting error"),
    Row("403, the key may not", Fault.status(403), "lasting error", "lasting error"),
    Row("404, no such model", Fault.status(404), "lasting error", "lasting error"),
    Row("400, the request is refused", Fault.status(400), "lasting error", "lasting error"),
    Row("fewer vectors than texts", Fault.fewer_vectors(), "stored", "error", _EMBED),
    Row("vectors of other dimensions", Fault.wrong_dimensions(), "lasting error", "lasting error", _EMBED),
    Row("the model says malformed JSON", Fault.malformed_json("answer"), "stored", "failed", _CHAT),
    Row("the model says nothing", Fault.answer(""), "stored", "failed", _CHAT),
    Row("the model talks instead of answering", Fault.prose("instead"), "stored", "failed", _CHAT),
    Row("the model answers with another object", Fault.answer('{"result": "ok"}'), "stored", "failed", _CHAT),
    Row("the model leaves the text of facts out", Fault.answer('{"memory": [{"id": "0"}]}'), "stored", "failed", _CHAT),
    Row("the model talks around its answer", Fault.prose("around"), "stored", "stored", _CHAT),
    Row("the model fences its answer", Fault.prose("fenced"), "stored", "stored", _CHAT),
    Row(
        'the model answers {"facts": […]}, as older prompts had it', Fault.old_shape("facts"), "stored", "stored", _CHAT
    ),
    Row("the model answers with bare strings", Fault.old_shape("strings"), "stored", "stored", _CHAT),
    Row("the answer is cut off at the limit of tokens", Fault.length(), "lasting error", "lasting error", _CHAT),
    Row("the model refuses to answer", Fault.refusal(), "lasting error", "lasting error", _CHAT, ("openai",)),
    Row(
        "a filter takes the answer away",
        Fault.refusal("content_filter"),
        "lasting error",
        "lasting error",
        _CHAT,
        ("openai",),
    ),
    Row("the download is cut", Fault.cut_midway(), "error", "error", _PULL, ("ollama",)),
    Row("half a download that looks whole", Fault.cut_midway(clean=True), "error", "error", _PULL, ("ollama",)),
    Row("the download stalls", Fault.slow(SLOW), "error", "error", _PULL, ("ollama",)),
    Row("500, in place of a download", Fault.status(500), "error", "error", _PULL, ("ollama",)),
    Row(
        "an error in the download",
        Fault.stream_error("max retries exceeded: EOF"),
        "error",
        "error",
        _PULL,
        ("ollama",),
    ),
    Row("404, there are no downloads", Fault.status(404), "lasting error", "lasting error", _PULL, ("ollama",)),
    Row("no library has the model", Fault.stream_error(_MISSING), "lasting error", "lasting error", _PULL, ("ollama",)),
)

_WORDS: Final[dict[Outcome, str]] = {
    "stored": "every fact is stored",
    "failed": "every message is `failed`, with the model's answer; adding it again may help",
    "error": "`ProviderError`: calling again may help",
    "lasting error": "`ProviderError`: calling again does not help",
}
_WHERE: Final[dict[Task, str]] = {"embed": "embeddings", "chat": "extraction", "pull": "download by `auto_pull`"}
_NAMES: Final = {"openai": "OpenAI", "ollama": "Ollama"}


def table() -> str:
    """The page."""
    lines = [
        "# When a model server fails",
        "",
        "Every row is run against servers that speak the protocols of OpenAI and of Ollama (`memstack.testing`), with",
        "the same outcome on both, but for those that only one of them can have. In each case nothing else is stored,",
        "the error or the outcome names provider, model and the number of attempts, and the next call works. `add`",
        "raises `ProviderError`; `add_many` puts the items of the batch into `failed`, with the same words; where a",
        "text is longer than the embedder takes, that text alone. A download is tried once a call: it can take hours,",
        "and Ollama goes on where it ended.",
        "",
        "| what goes wrong | where | once | again and again |",
        "| --- | --- | --- | --- |",
    ]
    for row in ROWS:
        where = ", ".join(_WHERE[task] for task in row.tasks)
        if len(row.providers) < len(_NAMES):
            where += f" ({', '.join(_NAMES[name] for name in row.providers)})"
        lines.append(f"| {row.what} | {where} | {_WORDS[row.once]} | {_WORDS[row.always]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
