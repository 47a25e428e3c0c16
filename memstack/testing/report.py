"""The report of the contract at the end of a run: the verbs, and what became of their tests on each backend."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from types import CodeType
from typing import Any, Final

import pytest

from memstack.gateway import MemoryGateway
from memstack.testing.contract import Contract

__all__ = ["LABEL", "Tally", "verbs_of"]

LABEL: Final = pytest.StashKey[str]()
"""What the store under test is called where a test does not name it itself."""

_KEY: Final = "memstack-contract"
_NO_VERB: Final = "(no verb)"
VERBS: Final = tuple(
    name for name in vars(MemoryGateway) if not name.startswith("_") and name not in ("of", "closed", "for_user")
)


class Tally:
    """What became of the tests.

    Attributes:
        cells: outcomes by verb and backend.
        backends: outcomes by backend, each test counted once.
        waived: what is waived, with its reason.
        deselected: how many tests of the contract were not selected.
    """

    def __init__(self) -> None:
        self.cells: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.backends: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.waived: set[str] = set()
        self.deselected = 0

    def lines(self) -> Iterator[str]:
        """The report."""
        names = sorted(self.backends)
        rows = [["", *names]]
        seen = [verb for verb in (*VERBS, _NO_VERB) if verb in self.cells]
        rows.extend([verb, *(_cell(self.cells[verb][name]) for name in names)] for verb in seen)
        rows.append(["all tests", *(_cell(self.backends[name]) for name in names)])
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield from sorted(self.waived)
        if self.deselected:
            yield f"{self.deselected} tests of the contract were not selected"


_TALLY: Final = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.stash[_TALLY] = Tally()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what is left out."""
    for item in items:
        if _is_contract(item):
            item.config.stash[_TALLY].deselected += 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what a test is about, so that its report tells it wherever it is counted."""
    report = yield
    if _is_contract(item):
        report.user_properties.append((_KEY, [_backend_of(item), *verbs_of(item)]))
    return report


class _Counting:
    """Counts reports, with what they tell of their tests."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: by its call, or by what kept it from being called."""
        about: Any = dict(report.user_properties).get(_KEY)
        if about is None or (report.when != "call" and report.passed):
            return
        backend, *verbs = about
        waived = report.skipped and "waived: " in str(report.longrepr)
        outcome = "waived" if waived else report.outcome
        self._tally.backends[backend][outcome] += 1
        for verb in verbs or [_NO_VERB]:
            self._tally.cells[verb][backend][outcome] += 1
        if waived and isinstance(report.longrepr, tuple):
            self._tally.waived.add(f"{report.nodeid.rpartition('::')[2]}: {report.longrepr[2]}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Count from here on."""
    session.config.pluginmanager.register(_Counting(session.config.stash[_TALLY]))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the table."""
    tally = config.stash[_TALLY]
    if tally.backends:
        terminalreporter.section("memstack contract")
        for line in tally.lines():
            terminalreporter.write_line(line)


def verbs_of(item: pytest.Item) -> list[str]:
    """The verbs that a test names: in its code, or in that of its parameters."""
    names = set(_names(getattr(getattr(item, "function", None), "__code__", None)))
    for value in getattr(getattr(item, "callspec", None), "params", {}).values():
        held = [getattr(value, field.name) for field in dataclasses.fields(value)] if _is_record(value) else [value]
        for one in held:
            names |= set(_names(getattr(one, "__code__", None)))
        if isinstance(value, str):
            names.add(value.split(",")[0].split(":")[0])
    return [verb for verb in VERBS if verb in names]


def _names(code: CodeType | None) -> Iterator[str]:
    if code is not None:
        yield from code.co_names
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from _names(constant)


def _is_record(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_contract(item: pytest.Item) -> bool:
    return issubclass(getattr(item, "cls", None) or object, Contract)


def _backend_of(item: pytest.Item) -> str:
    named = getattr(getattr(item, "callspec", None), "params", {}).get("store_name")
    return str(named) if named is not None else item.config.stash.get(LABEL, "the store")


def _cell(outcomes: Counter[str]) -> str:
    return ", ".join(f"{outcomes[name]} {name}" for name in sorted(outcomes)) or "-"
