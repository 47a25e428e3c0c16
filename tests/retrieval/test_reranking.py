"""Rerankers: any callable that a configuration names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from memstack import MemoryGateway, Settings
from memstack.errors import ConfigError, ProviderError, SchemaError
from memstack.factory import load_reranker

Open = Callable[..., MemoryGateway]
TEXTS = ("green tea", "tea", "a cup of green tea in the morning", "tea with sugar")


def by_length(query: str, texts: Sequence[str]) -> list[float]:
    """The longest text first."""
    assert query == "tea"
    return [1 - 1 / (1 + len(text)) for text in texts]


def all_or_nothing(_query: str, texts: Sequence[str]) -> list[float]:
    """1 for the longest text, 0 for the others."""
    return [float(len(text) == max(map(len, texts))) for text in texts]


def generous(_query: str, texts: Sequence[str]) -> list[float]:
    """All of them are what was looked for."""
    return [1.0 for _ in texts]


def failing(query: str, texts: Sequence[str]) -> list[float]:
    """It cannot."""
    raise RuntimeError(query)


def too_few(_query: str, texts: Sequence[str]) -> list[float]:
    """One score is missing."""
    return [0.5 for _ in texts][1:]


def too_many(_query: str, texts: Sequence[str]) -> list[float]:
    """One score is of no text."""
    return [0.5 for _ in [*texts, ""]]


def too_high(_query: str, texts: Sequence[str]) -> list[float]:
    """As some models answer, unless they are told to keep to 1."""
    return [1.5 for _ in texts]


def too_low(_query: str, texts: Sequence[str]) -> list[float]:
    """So they do at the other end."""
    return [-0.5 for _ in texts]


def no_numbers(_query: str, texts: Sequence[str]) -> list[float]:
    """Nothing that can be sorted."""
    return [math.nan for _ in texts]


def named(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """The section that names a function of this module."""
    return {"reranker": f"{__name__}.{function.__name__}", **options}


def test_a_reranker_orders_the_best(open_here: Open, tmp_path: Path) -> None:
    """The best hits come in the reranker's order with its scores, the others after them, never scoring more.

    Where hits tell how they were found, they tell their own score, too.
    """
    plain = _opened(open_here, tmp_path / "plain").search("tea")
    before, own = [hit.text for hit in plain], {hit.text: hit.score for hit in plain}
    every = _opened(open_here, tmp_path / "every", retrieval=named(by_length)).search("tea", explain=True)
    assert [hit.text for hit in every] == sorted(TEXTS, key=len, reverse=True)
    assert {hit.text: hit.explain["before"] for hit in every if hit.explain is not None} == pytest.approx(own)
    two = _opened(open_here, tmp_path / "two", retrieval=named(by_length, rerank=2)).search("tea")
    assert [hit.text for hit in two] == sorted(before[:2], key=len, reverse=True) + before[2:]
    assert [hit.score for hit in two[2:]] == [min(own[text], two[1].score) for text in before[2:]]
    kind = _opened(open_here, tmp_path / "kind", retrieval=named(generous, rerank=2)).search("tea")
    assert [hit.score for hit in kind] == pytest.approx([1.0, 1.0, *(own[text] for text in before[2:])])
    assert [hit.explain for hit in two] == [None] * len(TEXTS)


def test_a_reranker_is_given_more_than_is_asked_for(open_here: Open, tmp_path: Path) -> None:
    """What is best for the reranker is the first hit, also where one hit is asked for, and nearer ones are there."""
    memory = _opened(open_here, tmp_path / "memory", retrieval=named(by_length))
    assert [hit.text for hit in memory.search("tea", limit=1)] == [max(TEXTS, key=len)]


def test_a_reranker_that_tells_little(open_here: Open, tmp_path: Path) -> None:
    """0 and 1 are scores, too, what ties stays in its order, and where nothing is found nobody is asked."""
    before = [hit.text for hit in _opened(open_here, tmp_path / "plain").search("tea")]
    hits = _opened(open_here, tmp_path / "memory", retrieval=named(all_or_nothing)).search("tea")
    first, *others = sorted(before, key=len, reverse=True)
    assert [(hit.text, hit.score) for hit in hits] == [
        (first, 1.0),
        *((text, 0.0) for text in before if text in others),
    ]
    assert open_here(tmp_path / "empty", retrieval=named(failing)).search("tea", user_id="alex") == []


def _opened(open_here: Open, folder: Path, **overrides: Any) -> MemoryGateway:
    folder.mkdir()
    handle = open_here(folder, **overrides).for_user("alex")
    handle.add_many(TEXTS)
    return handle


@pytest.mark.parametrize("function", [failing, too_few, too_many, too_high, too_low, no_numbers])
def test_a_reranker_that_fails(open_here: Open, tmp_path: Path, function: Callable[..., Any]) -> None:
    """A reranker that fails, or gives no usable scores, is an error that names it; there is no silent fallback."""
    memory = open_here(tmp_path, retrieval=named(function)).for_user("alex")
    memory.add("tea")
    with pytest.raises(ProviderError, match=function.__name__):
        memory.search("tea")


@pytest.mark.parametrize("path", ["no.such.module", "memstack.nothing", "memstack.__version__", "justaname", ""])
def test_a_path_to_nothing(open_here: Open, tmp_path: Path, path: str) -> None:
    """A path that leads to nothing that can be called is refused when the memory is opened."""
    with pytest.raises(ConfigError, match="reranker"):
        open_here(tmp_path, retrieval={"reranker": path})


@pytest.mark.parametrize(
    ("source", "error", "told"),
    [
        ("import no_such_package_of_anyone", ConfigError, "there is no module 'no_such_package_of_anyone'"),
        ("def score(:", ConfigError, r"cannot be imported \(SyntaxError\)"),
        ("import os; os.environ['NOT_SET_BY_ANYONE']", ConfigError, r"cannot be imported \(KeyError\)"),
        ("x = 1", ConfigError, r"cannot be imported \(AttributeError\)"),
        (
            "from memstack import MemorySchema\nclass Broken(MemorySchema):\n    category, version = 'broken', 2",
            SchemaError,
            "Broken: version 2 has no upgrade",
        ),
    ],
)
def test_a_module_of_the_users_that_fails_is_told_as_theirs(
    source: str, error: type[Exception], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a module raises when it is imported is an error of the configuration, with what is missing."""
    name = f"ranking_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=told):
        load_reranker(Settings.load({"retrieval": {"reranker": f"{name}.score"}}))
