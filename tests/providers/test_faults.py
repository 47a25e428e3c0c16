"""Every fault of `tests.providers.faults`, on both providers: either all facts are stored, or the caller is told."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import ProviderError
from memstack.testing import OllamaServer
from tests.providers.conftest import KEY, PROVIDERS, Provider, running
from tests.providers.faults import PAGE, ROWS, Outcome, Row, Task, table

Served = tuple[Provider, MemoryGateway]
SAID = ["I drink tea in the morning.", "My train leaves at eight."]
PATHS = {("openai", "embed"): "/v1/embeddings", ("openai", "chat"): "/v1/chat/completions"} | {
    ("ollama", "embed"): "/api/embed",
    ("ollama", "chat"): "/api/chat",
}
CASES = [
    pytest.param(row, task, infer, id=f"{task}{'' if infer else ', verbatim'}: {row.what}")
    for row in ROWS
    for task in row.tasks
    if task != "pull"
    for infer in ((True, False) if task == "embed" else (True,))
]
RETRIES = 2


@pytest.fixture(scope="module", params=PROVIDERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A provider's server, and a memory whose embedder and LLM it is; impatient, and with a breaker that stays shut."""
    impatient = {"read_timeout": 0.6, "timeout": 10, "max_retries": RETRIES, "breaker_failures": 10_000}
    place = {"vector_store": {"path": str(tmp_path_factory.mktemp("faults") / "memory")}}
    with running(request.param) as provider:
        sections = {"embedder": {**provider.embedder, **impatient}, "llm": {**provider.llm, **impatient}}
        with open_memory(place, **sections) as memory:
            memory.add(SAID, user_id="first")  # Mem0 is imported now, and the dimensions are known
            yield provider, memory


@pytest.mark.parametrize(("row", "task", "infer"), CASES)
def test_no_input_is_gone_without_a_word(served: Served, row: Row, task: Task, infer: bool) -> None:
    """Once and again and again: the declared outcome, nothing stored beside it, and the next call works."""
    provider, memory = served
    if provider.name not in row.providers:
        with pytest.raises(ValueError, match=row.fault.kind):
            provider.server.fail(row.fault)
        return
    cases: tuple[tuple[Outcome, int | None], ...] = ((row.once, 1), (row.always, None))
    for outcome, times in cases:
        alex = memory.for_user(str(uuid.uuid4()))
        provider.server.fail(row.fault, times=times, path=PATHS[provider.name, task])
        try:
            _expect(provider, alex, task, outcome, infer=infer)
        finally:
            provider.server.heal()
        if outcome != "stored":
            assert len(alex.get_all()) == 0
            assert [found.text for found in alex.add(SAID, infer=infer).stored] == SAID
        assert sorted(found.text for found in alex.get_all()) == SAID


@pytest.mark.parametrize("row", [row for row in ROWS if "pull" in row.tasks], ids=lambda row: row.what)
@pytest.mark.parametrize("task", ["embed", "chat"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "again and again"])
def test_a_download_that_fails(row: Row, task: Task, again: bool, tmp_path: Path) -> None:
    """Of an embedder (pulled when a memory is opened) or an LLM: the declared error, nothing stored; then it works."""
    models = {"embed": "nomic-embed-text", "chat": "llama3.2"}
    with OllamaServer(models=[model for kind, model in models.items() if kind != task]) as server:
        section = {"provider": "ollama", "host": server.host, "auto_pull": True, "read_timeout": 0.6}
        config = {
            "vector_store": {"path": str(tmp_path / "memory")},
            "embedder": {**section, "model": models["embed"]},
            "llm": {**section, "model": models["chat"]},
        }

        def add() -> list[str]:
            with open_memory(config) as memory:
                return [found.text for found in memory.add(SAID, user_id="alex").stored]

        server.fail(row.fault, times=None if again else 1, path="/api/pull")
        with pytest.raises(ProviderError) as caught:
            add()
        error = caught.value
        assert (error.provider, error.model, error.attempts) == ("ollama", models[task], 1)
        assert error.retryable is ((row.always if again else row.once) == "error")
        server.heal()
        assert add() == SAID


def _expect(provider: Provider, alex: MemoryGateway, task: Task, outcome: Outcome, *, infer: bool) -> None:
    section = provider.llm if task == "chat" else provider.embedder
    if outcome in ("stored", "failed"):
        result = alex.add(SAID, infer=infer)
        if outcome == "stored":
            assert ([found.text for found in result.stored], result.failed) == (SAID, ())
            return
        assert (result.stored, result.skipped) == ((), ())
        assert [(item.index, item.retryable) for item in result.failed] == [(0, True), (1, True)]
        for item in result.failed:
            assert f"{provider.name} ({section['model']})" in item.reason
            assert "after 2 attempts" in item.reason
            assert item.answer is not None
        return
    with pytest.raises(ProviderError) as caught:
        alex.add(SAID, infer=infer)
    error = caught.value
    retryable = outcome == "error"
    assert (error.provider, error.model, error.retryable) == (provider.name, section["model"], retryable)
    assert error.attempts == (1 + RETRIES if retryable else 1)
    told = str(error)
    assert ("Calling again may help" in told) is retryable
    assert (f"after {error.attempts} attempts" in told) is retryable
    assert KEY not in told
    assert not [text for text in SAID if text in told]


def test_the_page_is_the_declaration() -> None:
    """docs/faults.md is what the declaration says. Write it anew: ``python -m tests.providers.faults``."""
    assert PAGE.read_text(encoding="utf-8") == table()
