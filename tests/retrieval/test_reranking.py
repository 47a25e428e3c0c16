"""Rerankers: any callable that a configuration names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstack import MemoryGateway, Settings
from memstack.errors import ConfigError, OfflineViolation, ProviderError, SchemaError
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


def too_large(_query: str, texts: Sequence[str]) -> Any:
    """No float is as large."""
    return [10**400 for _ in texts]


class Tensor:
    """As PyTorch's of several numbers."""

    def __float__(self) -> float:
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


def tensors(_query: str, texts: Sequence[str]) -> Any:
    """Two logits for each text."""
    return [Tensor() for _ in texts]


def words(_query: str, texts: Sequence[str]) -> Any:
    """Scores as a model writes them."""
    return ["0.5" for _ in texts]


def one_word(_query: str, texts: Sequence[str]) -> Any:
    """Digits, which come one by one where nobody looks."""
    return "1" * len(texts)


def later(query: str, texts: Sequence[str]) -> Any:
    """Something to be awaited."""
    return awaited(query, texts)


def nothing(_query: str, texts: Sequence[str]) -> Any:
    """A function that forgot to return."""


def lists(_query: str, texts: Sequence[str]) -> Any:
    """As some models give them, a list for each text."""
    return [[0.5] for _ in texts]


def offline(_query: str, texts: Sequence[str]) -> list[float]:
    """It was kept from its model."""
    raise OfflineViolation("socket.connect", "models.example")


def numpys(_query: str, texts: Sequence[str]) -> Any:
    """An array of numpy's own numbers, as models give them."""
    return np.asarray([len(text) / 100 for text in texts], dtype=np.float32)


def no_numbers(_query: str, texts: Sequence[str]) -> list[float]:
    """Nothing that can be sorted."""
    return [math.nan for _ in texts]


class Longest:
    """A reranker that is made once, as one that loads a model would be."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def __call__(self, query: str, texts: Sequence[str]) -> list[float]:
        return by_length(query, texts)


class Demanding(Longest):
    """One that cannot be made without being told what of."""

    def __init__(self, model: str) -> None:
        super().__init__()


async def awaited(_query: str, texts: Sequence[str]) -> list[float]:
    """Nobody awaits it."""
    return [0.5 for _ in texts]


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


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (failing, r"failed \(RuntimeError\)"),
        (too_few, "gave 0 scores for 1 texts"),
        (too_many, "gave 2 scores for 1 texts"),
        (too_high, r"gave 1\.5 as score 1 of 1: one is a number from 0 to 1"),
        (too_low, r"gave -0\.5 as score 1 of 1"),
        (too_large, r"gave .* as score 1 of 1: one is a number from 0 to 1"),
        (tensors, "gave a Tensor as score 1 of 1"),
        (no_numbers, "gave NaN as score 1 of 1"),
        (words, "gave a string of 3 characters as score 1 of 1"),
        (lists, "gave a list of 1 item as score 1 of 1"),
        (one_word, "gave a string of 1 character, and not a score for each text"),
        (later, "gave a coroutine, and not a score for each text"),
        (nothing, r"failed \(TypeError\)"),
    ],
)
def test_a_reranker_that_fails(open_here: Open, tmp_path: Path, function: Callable[..., Any], told: str) -> None:
    """A reranker that fails, or gives no usable scores, is an error that names it; there is no silent fallback."""
    memory = open_here(tmp_path, retrieval=named(function)).for_user("alex")
    memory.add("tea")
    with pytest.raises(ProviderError, match=rf"{function.__name__}\): {told}"):
        memory.search("tea")


def test_what_a_reranker_says_in_our_words_stays(open_here: Open, tmp_path: Path) -> None:
    """An error of memstack's that comes through a reranker keeps its kind and its way out."""
    memory = open_here(tmp_path, retrieval=named(offline)).for_user("alex")
    memory.add("tea")
    with pytest.raises(OfflineViolation):
        memory.search("tea")


def test_scores_of_whichever_library(open_here: Open, tmp_path: Path) -> None:
    """Numbers are numbers, whoever made them."""
    memory = _opened(open_here, tmp_path / "memory", retrieval=named(numpys))
    assert [hit.text for hit in memory.search("tea")] == sorted(TEXTS, key=len, reverse=True)


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
        ("x = 1", ConfigError, "there is no 'score' in the module"),
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


def test_a_class_is_made_once(open_here: Open, tmp_path: Path) -> None:
    """A class that is named is made when the memory is opened, and its instance orders the hits of every search."""
    Longest.made = 0
    memory = _opened(open_here, tmp_path / "memory", retrieval=named(Longest))
    for _ in range(2):
        assert [hit.text for hit in memory.search("tea")] == sorted(TEXTS, key=len, reverse=True)
    assert Longest.made == 1


@pytest.mark.parametrize(
    ("function", "told"),
    [(Demanding, "cannot be made without arguments"), (awaited, "is a coroutine function"), (math.nan, "no 'nan_'")],
)
def test_what_cannot_be_a_reranker(open_here: Open, tmp_path: Path, function: Any, told: str) -> None:
    """A class that wants arguments, a coroutine function, a name that is not there: told when the memory is opened."""
    section = named(function) if callable(function) else {"reranker": f"{__name__}.nan_"}
    with pytest.raises(ConfigError, match=told):
        open_here(tmp_path, retrieval=section)
