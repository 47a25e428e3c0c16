"""The contract on the store of a configuration: what ``pytest --memstack-config my.yaml`` loads.

Where no test files are named, the four suites run. Nothing that the configuration points at is touched: every test has
a folder of its own, and a collection named after it; on a server these collections stay, empty.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from memstack.config import Settings
from memstack.errors import MemstackError
from memstack.testing import report
from memstack.testing.contract import Backend, opening
from memstack.testing.report import LABEL

SUITES: Final = Path(__file__).with_name("contract") / "configured.py"
_SETTINGS: Final = pytest.StashKey[Settings]()


def pytest_configure(config: pytest.Config) -> None:
    """Read the configuration, and run the suites where nothing else is named.

    Raises:
        UsageError: the configuration cannot be used.
    """
    try:
        settings = Settings.load(config.getoption("--memstack-config"))
    except MemstackError as error:
        raise pytest.UsageError(f"--memstack-config: {error}") from error
    if not config.pluginmanager.has_plugin(report.__name__):  # imported above: pytest could not rewrite it any more
        config.pluginmanager.register(report, report.__name__)
    config.stash[_SETTINGS] = settings
    config.stash[LABEL] = settings.vector_store.key
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(SUITES)]


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> Iterator[Backend]:
    """The configured memory, another one for each folder."""
    settings = pytestconfig.stash[_SETTINGS]
    folders: set[Path] = set()

    def config(folder: Path) -> dict[str, Any]:
        folders.add(folder)
        section: dict[str, Any] = settings.vector_store.model_dump(exclude_unset=True)
        section |= {"provider": settings.vector_store.provider, "collection": _collection(folder)}
        if settings.vector_store.folder is not None:
            section["path"] = str(folder / "store")
        whole = settings.model_dump(exclude_unset=True)
        return {**whole, "vector_store": section, "history": {"path": str(folder / "history.db")}}

    tested = Backend(config)
    yield tested
    if settings.vector_store.folder is None and settings.vector_store.persistent:
        with opening(tested) as open_here:
            for folder in sorted(folders):
                open_here(folder).reset()
                shutil.rmtree(folder, ignore_errors=True)


def _collection(folder: Path) -> str:
    return f"contract_{hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()}"
