"""What every contract suite stands on: the memory under test, and the rule that no test gets lost without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from memstack.config import Settings
from memstack.factory import open_memory
from memstack.gateway import MemoryGateway
from memstack.testing.contract.state import wipe

__all__ = ["Backend", "Contract", "OpenHere", "opening"]

OpenHere = Callable[..., MemoryGateway]


@dataclass(frozen=True)
class Backend:
    """What a contract runs on.

    Attributes:
        config: the configuration of the memory of a folder, as `open_memory` takes it. The same folder is the same
            memory, two folders are two: a path inside of the folder, or a collection named after it.
    """

    config: Callable[[Path], Mapping[str, Any]]

    @property
    def persistent(self) -> bool:
        """Whether what is stored outlives the gateway, as the options of the store say."""
        return Settings.load(self.config(Path())).vector_store.persistent


@contextmanager
def opening(backend: Backend) -> Iterator[OpenHere]:
    """``open_here(path, **overrides)``, which opens the memory of a folder; all are closed at the end."""
    with ExitStack() as closing:

        def open_here(path: Path, /, **overrides: Any) -> MemoryGateway:
            memory = open_memory(backend.config(path), **overrides)
            closing.callback(memory.close)
            return memory

        yield open_here


class Contract:
    """A suite of tests that hold on every backend.

    What it runs on is told by a fixture, `backend`, of the module or its conftest. Every test is inherited. One that
    cannot hold is named in `waived` with the reason; it is shown as skipped, with the reason. A test that is overridden
    or hidden in any other way is an error when the class is made.

    Attributes:
        waived: names of tests, and why each does not hold here.
    """

    waived: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        tests: dict[str, type] = {}
        for base in reversed(cls.__mro__[1:]):
            for name in _tests_of(base):
                if name in tests and not issubclass(base, tests[name]):
                    raise TypeError(f"{cls.__name__}: {name} stands in {tests[name].__name__} and in {base.__name__}")
                tests[name] = base
        waived: Mapping[str, str] = vars(cls).get("waived", {})
        for name, reason in waived.items():
            if name not in tests:
                raise TypeError(f"{cls.__name__}.waived: the contract has no test {name}")
            if not isinstance(reason, str) or not reason.strip():
                raise TypeError(f"{cls.__name__}.waived: {name} has no reason")
        changed = sorted(name for name in vars(cls).keys() & tests.keys() if name not in waived)
        if changed:
            raise TypeError(
                f"{cls.__name__} overrides {', '.join(changed)} of its contract. Name the reason in `waived`."
            )
        for name, reason in waived.items():  # in their order: pytest-xdist wants the same one in every process
            if name not in vars(cls):
                setattr(cls, name, _waived(getattr(cls, name), reason))

    # -- the memory under test -------------------------------------------------------------------

    @pytest.fixture
    def open_here(self, backend: Backend) -> Iterator[OpenHere]:
        """``open_here(path, **overrides)`` opens the memory of a folder; the test's end closes it."""
        with opening(backend) as open_here:
            yield open_here

    @pytest.fixture
    def memory(self, open_here: OpenHere, tmp_path: Path) -> MemoryGateway:
        """An empty memory."""
        return open_here(tmp_path)

    @pytest.fixture(scope="class")
    @classmethod
    def shared_memory(cls, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryGateway]:
        """A memory that the tests of a class share: each keeps to scopes of its own, or leaves it `empty`."""
        with opening(backend) as open_here:
            yield open_here(tmp_path_factory.mktemp("shared"))

    @pytest.fixture(scope="class")
    @classmethod
    def corpus_memory(cls, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryGateway]:
        """Another one, for what is stored once and read by many tests."""
        with opening(backend) as open_here:
            yield open_here(tmp_path_factory.mktemp("corpus"))

    @pytest.fixture
    def empty(self, shared_memory: MemoryGateway) -> Iterator[MemoryGateway]:
        """The memory that the tests of a class share, empty before and after."""
        wipe(shared_memory)
        yield shared_memory
        wipe(shared_memory)


def _tests_of(kind: type) -> Iterator[str]:
    return (name for name in vars(kind) if name.startswith("test"))


def _waived(test: Callable[..., object], reason: str) -> Callable[..., None]:
    """Stands for a test that does not hold, and shows why."""

    @pytest.mark.skip(reason=f"waived: {reason}")
    def stand_in(self: object) -> None:
        """Not run."""

    stand_in.__name__ = test.__name__
    stand_in.__doc__ = test.__doc__
    return stand_in
