"""``pytest --memstack-config my.yaml``: the contract of memstack on a store of your own.

pytest loads this module in every run of an environment that has memstack: it imports nothing before it is asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("memstack").addoption(
        "--memstack-config",
        metavar="FILE",
        help="run the contract of memstack on the store of this configuration: in folders and collections of its own",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the suites, where they are asked for."""
    config.addinivalue_line("markers", "exhaustive: a test of the memstack contract that looks at thousands of cases")
    if config.getoption("--memstack-config") is not None:
        import pytest  # noqa: PLC0415  # not before it is asked to

        from memstack.errors import MissingDependency  # noqa: PLC0415
        from memstack.testing import check_installed  # noqa: PLC0415

        try:
            check_installed("--memstack-config")
        except MissingDependency as error:
            raise pytest.UsageError(str(error)) from None
        config.pluginmanager.import_plugin("memstack.testing.plugin")
