"""The contract, as every store of ours passes it."""

from __future__ import annotations

from memstack.testing.contract import (
    ConcurrencyContract,
    FailureContract,
    FilterContract,
    InputContract,
    ScopeContract,
    ScoreContract,
)


class TestFilters(FilterContract): ...


class TestScopes(ScopeContract): ...


class TestScores(ScoreContract): ...


class TestInputs(InputContract): ...


class TestFailures(FailureContract): ...


class TestConcurrency(ConcurrencyContract): ...
