"""The core of the contract with every other embedder, on every store."""

from __future__ import annotations

from typing import ClassVar

from memstack.testing.contract.scores import ScoreContract
from memstack.testing.contract.verbs import VerbContract


class TestVerbs(VerbContract):
    embedders: ClassVar[tuple[str, ...]] = ("openai", "ollama")


class TestScores(ScoreContract):
    embedders: ClassVar[tuple[str, ...]] = ("openai", "ollama")
