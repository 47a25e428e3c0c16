"""The whole contract of the gateway in one suite."""

from __future__ import annotations

from memstack.testing.contract.concurrency import ConcurrencyContract
from memstack.testing.contract.failures import FailureContract
from memstack.testing.contract.inputs import InputContract
from memstack.testing.contract.scores import ScoreContract
from memstack.testing.contract.verbs import VerbContract

__all__ = ["GatewayContract"]


class GatewayContract(VerbContract, ScoreContract, InputContract, FailureContract, ConcurrencyContract):
    """What the verbs promise on any backend: results, scores, bad input, failures, many at once."""
