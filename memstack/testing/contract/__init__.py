"""The contract of memstack as tests: what every store, ours or a third party's, has to pass.

Needs ``pip install "memstack[testing]"``. Two ways to run it, on a store of your own:

    pytest --memstack-config my.yaml

or, in a test module, by a fixture and a line for each suite::

    @pytest.fixture(scope="session")
    def backend() -> Backend:
        return Backend(lambda folder: {"vector_store": {"provider": "shelf", "path": str(folder)}})

    class TestStore(StoreContract): ...
    class TestFilters(FilterContract): ...
    class TestScopes(ScopeContract): ...
    class TestGateway(GatewayContract): ...

What is expected of a store follows from its `Capabilities`: one that several processes cannot share is tested to refuse
the second, one that does not push a kind of filter down is tested to evaluate it. No test asks for the name of a store.
"""

import pytest

_SUITES = ("concurrency", "failures", "filters", "inputs", "scopes", "scores", "state", "stores", "verbs")
# The tests are in modules that pytest would not rewrite by itself.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _SUITES))

from memstack.testing.contract.base import Backend, Contract, opening  # noqa: E402
from memstack.testing.contract.filters import FilterContract  # noqa: E402
from memstack.testing.contract.gateway import GatewayContract  # noqa: E402
from memstack.testing.contract.scopes import ScopeContract  # noqa: E402
from memstack.testing.contract.stores import StoreContract  # noqa: E402

__all__ = ["Backend", "Contract", "FilterContract", "GatewayContract", "ScopeContract", "StoreContract", "opening"]
