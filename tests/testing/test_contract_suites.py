"""A third party runs the contract on a store of its own, and loses no test of it without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

import memstack.testing
from memstack.errors import MissingDependency
from memstack.testing import StoreContract
from memstack.testing.contract import Contract, FilterContract, GatewayContract, ScopeContract
from memstack.testing.contract.strategies import examples

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"

ENTRY_POINTS = """[memstack.stores]
shelf = memstack_example_plugin.store:ShelfStore
[memstack.providers]
letters = memstack_example_plugin.provider:LettersProvider
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes the example plug-in importable and known by its entry points."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "memstack_example_plugin").symlink_to(PLUGIN / "memstack_example_plugin")
    info = folder / "memstack_example_plugin-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memstack-example-plugin\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


def _pytest(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", ""), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )


# The whole contract on this store is run by `nox -s contract`.
CORE = "TestStore or called or awaited or thresholds or page or lesson or owner"


def test_the_plugin_of_these_tests_passes(site: Path, tmp_path: Path) -> None:
    """``pytest --memstack-config`` runs the suites on a configured store, and shows what came of each verb."""
    (tmp_path / "my.yaml").write_text("vector_store: {provider: shelf}\n")
    strict = ("-W", "error::pytest.PytestAssertRewriteWarning")  # as those have it who make errors of warnings
    done = _pytest(site, tmp_path, *strict, "--memstack-config", "my.yaml", "-k", CORE)
    assert done.returncode == 0, done.stdout[-3000:]
    table = done.stdout[done.stdout.index("= memstack contract =") :]
    for verb in ("add", "search", "get_all", "delete", "(no verb)", "all tests"):
        assert f"\n{verb} " in table
    assert table.splitlines()[1].split() == ["shelf"]
    assert "skipped" not in table
    assert not (tmp_path / "memory").exists()


def test_a_subclass_in_a_few_lines(site: Path, tmp_path: Path) -> None:
    """A fixture and a class are enough; what is waived shows its reason."""
    (tmp_path / "test_mine.py").write_text(
        """
import pytest
from memstack.testing import Backend, StoreContract

@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(lambda folder: {"vector_store": {"provider": "shelf"}, "embedder": {"provider": "letters"}})

class TestShelf(StoreContract):
    waived = {"test_thousands_at_once": "a shelf holds five things"}

    def test_more(self, store):
        assert store.count() == 0
"""
    )
    done = _pytest(site, tmp_path, "-p", "memstack.testing.report", "test_mine.py")
    assert "test_thousands_at_once: Skipped: waived: a shelf holds five things" in done.stdout, done.stdout[-3000:]
    assert "1 waived" in done.stdout
    assert done.returncode == 0


def test_a_configuration_that_cannot_be_used_is_told(site: Path, tmp_path: Path) -> None:
    """A configuration with a mistake ends the run before it begins, in one line."""
    (tmp_path / "my.yaml").write_text("vector_store: {provider: shelve}\n")
    done = _pytest(site, tmp_path, "--memstack-config", "my.yaml")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "shelf" in done.stderr


def test_what_the_suites_need_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `testing`, the error is the pip command, in Python and of pytest."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(MissingDependency, match=r'pip install "memstack\[testing\]"'):
        _ = memstack.testing.StoreContract
    code = (
        "import sys, pytest; sys.modules['hypothesis'] = None;"
        "sys.exit(pytest.main(['-p', 'pytest_memstack', '--memstack-config', 'my.yaml']))"
    )
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: --memstack-config: needs the package 'hypothesis'")
    assert "Traceback" not in done.stderr


def test_others_do_not_pay(site: Path, tmp_path: Path) -> None:
    """A run of pytest that does not ask for the contract imports nothing of memstack."""
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_it():\n    assert not [name for name in sys.modules if name.startswith('memstack')]\n"
        "    assert 'pytest_memstack' in sys.modules\n"
    )
    done = _pytest(site, tmp_path, "test_other.py")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"test_clearing": lambda self: None}, "overrides test_clearing"),
        ({"test_clearing": None}, "overrides test_clearing"),
        ({"waived": {"test_clearing": " "}}, "no reason"),
        ({"waived": {"test_nothing": "why not"}}, "no test test_nothing"),
    ],
)
def test_no_test_gets_lost(body: dict[str, object], told: str) -> None:
    """Overriding a test, hiding it, waiving it without a reason, or waiving none: an error when the class is made."""
    with pytest.raises(TypeError, match=told):
        type("TestMine", (StoreContract,), body)


def test_what_is_waived_comes_in_its_order() -> None:
    """Tests are collected in one order by every process of pytest-xdist."""
    names = sorted(name for name in dir(StoreContract) if name.startswith("test_"))[::-1][:20]
    mine = type("TestMine", (StoreContract,), {"waived": dict.fromkeys(names, "too much")})
    assert [name for name in vars(mine) if name.startswith("test_")] == names


def test_a_stated_reason_is_enough() -> None:
    """With a reason a test may be replaced; a class below it inherits that, and may say nothing more."""
    mine = type("TestMine", (StoreContract,), {"waived": {"test_clearing": "no"}, "test_clearing": lambda self: None})
    assert issubclass(type("TestBelow", (mine,), {}), StoreContract)


def test_suites_that_hide_each_others_tests_are_refused() -> None:
    """Two suites with a test of one name cannot be mixed: one of the two would not run."""
    other = type("Other", (Contract,), {"test_clearing": lambda self: None})
    with pytest.raises(TypeError, match="test_clearing stands in"):
        type("TestBoth", (StoreContract, other), {})


def test_every_test_says_what_it_shows() -> None:
    """Each test of the contract has a docstring of one line."""
    for suite in (StoreContract, FilterContract, ScopeContract, GatewayContract):
        for name in dir(suite):
            if name.startswith("test"):
                assert getattr(suite, name).__doc__, name


def test_examples_follow_the_profile() -> None:
    """How many examples a property is tried on is told by the profile that is loaded when it is tried."""
    assert examples(40).max_examples == 40
    settings.load_profile("thorough")
    try:
        assert examples(40).max_examples == 800
    finally:
        settings.load_profile("ci")
