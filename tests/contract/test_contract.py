"""The contract, as every store of ours passes it."""

from __future__ import annotations

from memstack.testing.contract import FilterContract, GatewayContract, ScopeContract, StoreContract


class TestStore(StoreContract): ...


class TestFilters(FilterContract): ...


class TestScopes(ScopeContract): ...


class TestGateway(GatewayContract): ...
