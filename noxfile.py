"""What CI runs, and you before it: `nox` for lint, types and tests; `nox -s wheel lowest` before a release."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

ROOT: Final = Path(__file__).parent
DIST: Final = ROOT / "dist"
PYPROJECT: Final = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS: Final = nox.project.python_versions(PYPROJECT)

# What is installed besides the package itself: nothing, or every extra.
INSTALLS: Final = {"base": "", "all": "[all]"}

LOCATION: Final = """
import pathlib, sysconfig, memstack
found, wanted = pathlib.Path(memstack.__file__).resolve(), pathlib.Path(sysconfig.get_path("purelib")).resolve()
assert found.is_relative_to(wanted), f"memstack was imported from {found}, not from {wanted}"
"""


def group(name: str) -> tuple[str, ...]:
    """The requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff's rules and ruff's format."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy and pyright, both strict, over the package, its tests and examples."""
    session.install("-e", ".[all]", *group("types"))
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Tests of the working tree with every extra, on each supported Python that is present."""
    session.install("-e", ".[all]", *group("test"))
    session.run("pytest", *session.posargs)


@nox.session
def contract(session: nox.Session) -> None:
    """All of the contract on every store and embedder, and on the store of the example plug-in."""
    session.install("-e", ".[all]", "-e", "tests/plugin", *group("test"))
    session.run("pytest", *(session.posargs or ["tests/contract"]), env={"MEMSTACK_TEST_STORE": "all"})
    session.run("pytest", "--memstack-config", "tests/plugin/shelf.yaml")


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution, and from it the wheel, into `dist`."""
    session.install("build")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(DIST), str(ROOT), silent=True)


@nox.session(requires=["build"], reuse_venv=False)
@nox.parametrize("install", list(INSTALLS))
def wheel(session: nox.Session, install: str) -> None:
    """Tests of the built wheel, with nothing but the wheel to import: the package is not in the tree they run in."""
    (built,) = DIST.glob("*.whl")
    session.install(f"memstack{INSTALLS[install]} @ {built.as_uri()}", *group("test"))
    session.chdir(unpacked_without_package(Path(session.create_tmp())))
    session.run("python", "-c", LOCATION)
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0], venv_backend="uv", reuse_venv=False)
@nox.parametrize("install", list(INSTALLS))
def lowest(session: nox.Session, install: str) -> None:
    """Tests on the oldest Python with the lowest direct dependencies that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-e", f".{INSTALLS[install]}", *group("test"))
    session.run("pytest", *session.posargs)


def unpacked_without_package(parent: Path) -> Path:
    """Unpack the source distribution below `parent` and remove the package from it."""
    (source,) = DIST.glob("*.tar.gz")
    tree = parent / source.name.removesuffix(".tar.gz")
    shutil.rmtree(tree, ignore_errors=True)
    with tarfile.open(source) as archive:
        archive.extractall(parent)  # noqa: S202 -- our own archive, built a moment ago
    shutil.rmtree(tree / "memstack")
    (tree / "pytest_memstack.py").unlink()
    return tree
