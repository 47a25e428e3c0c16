"""From configuration to a memory: the whole story."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import os
from abc import ABCMeta
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from memstack.config import Settings
from memstack.config.sections import data_folder
from memstack.engine import check_silent
from memstack.errors import TELL, ConfigError, MemstackError, StoreError, describe
from memstack.gateway import AsyncMemoryGateway, MemoryGateway
from memstack.gateway.parts import Options, Parts
from memstack.gateway.together import check_not_lost, settle
from memstack.history import MEMORY, SqliteHistory
from memstack.offline import Guard
from memstack.payload import scope_of
from memstack.providers.base import LLM, Embedder, Finding, Provider
from memstack.registry import PROVIDERS, STORES
from memstack.retrieval.reranking import Reranker
from memstack.retrieval.weights import Weights
from memstack.schemas import MemorySchema, Schemas
from memstack.scope import Scope
from memstack.stores.base import Fingerprint, Store
from memstack.stores.translated import is_awaited

__all__ = [
    "Config",
    "OpeningMemory",
    "check_openable",
    "examine_models",
    "load_reranker",
    "load_schemas",
    "make_embedder",
    "make_llm",
    "open_async_memory",
    "open_memory",
]

_STORE: Final = "vector_store.provider"
Config = str | os.PathLike[str] | Mapping[str, Any] | Settings | None


def open_memory(config: Config = None, /, **overrides: Any) -> MemoryGateway:
    """Open a memory.

    Args:
        config: a YAML file, a mapping, a `Settings`, or None: then ``$MEMSTACK_CONFIG``, then ``./memstack.yaml``,
            then the embedded default (Qdrant Edge in the user's data folder, built-in embedder, no LLM).
        **overrides: sections or options that win over it, as in ``vector_store={"path": "./memory"}``.

    Returns:
        The gateway; a context manager. `MemoryGateway.close` releases what it holds.

    Raises:
        ConfigError: the configuration cannot be used, or an optional dependency is missing.
        TelemetryActive: there is an LLM, and Mem0, which it needs, was imported before, with its telemetry on.
        StoreError: the store cannot be opened: locked by another process, corrupted, or filled by another embedder.
        HistoryError: the history cannot be opened.
    """
    settings = Settings.load(config, **overrides)
    schemas = load_schemas(settings.schemas)
    reranker = load_reranker(settings)
    with ExitStack() as opened:  # what is closed again where a later part cannot be opened
        guard = Guard(settings.offline_guard) if settings.offline else None
        if guard is not None:
            opened.callback(guard.leave)
        embedder = make_embedder(settings)
        opened.callback(embedder.close)
        llm = make_llm(settings)
        if llm is not None:
            opened.callback(llm.close)
            check_silent(telemetry=settings.telemetry)
        store = _open_store(settings, embedder)
        opened.callback(store.close)
        history_path = settings.history_path
        key = settings.vector_store.history_key
        history = SqliteHistory(history_path or MEMORY, key, lambda memory_id: _scope_in(store, memory_id))
        opened.callback(history.close)
        folder: Path | None = getattr(settings.vector_store, "path", None)
        check_not_lost(store, history, folder)
        store.bind(Fingerprint(embedder.provider, embedder.model, embedder.dimensions))
        settle(store, history)
        opened.pop_all()
    options = Options(
        remember_roles=settings.remember_roles,
        max_text=settings.limits.max_text,
        max_metadata_values=settings.limits.max_metadata_values,
        max_metadata_depth=settings.limits.max_metadata_depth,
        max_metadata_text=settings.limits.max_metadata_text,
        pending_minutes=settings.limits.pending_minutes,
        telemetry=settings.telemetry,
        custom_instructions=settings.custom_instructions,
        extraction_prompt=settings.extraction_prompt,
        data_folder=partial(_data_folder, settings),
        weights=Weights(**settings.retrieval.model_dump(exclude={"reranker", "rerank"})),
        reranker=reranker,
    )
    return MemoryGateway.of(Parts(store, embedder, llm, history, options, schemas, guard))


def check_openable(settings: Settings) -> None:
    """Find what `open_memory` would refuse before it opens a store. No store is opened, no server is asked.

    What the configuration names is imported. A reranker that is a class is not made, nor are a plug-in's models: they
    may load or ask for whatever they like.

    Raises:
        ConfigError: the configuration cannot be used, or an optional dependency is missing.
    """
    load_schemas(settings.schemas)
    load_reranker(settings, make=False)
    with ExitStack() as made:
        for section, make in (("embedder", make_embedder), ("llm", make_llm)):
            key: str = getattr(settings, section).key
            if not PROVIDERS.is_ours(key):
                _provider(key, f"{section}.provider")
                continue
            model = make(settings)
            if model is not None:
                made.callback(model.close)
            if isinstance(model, Embedder) and (known := model.stats()["dimensions"]) is not None:
                _check_dimensions(settings, model.model, known)  # of others the server knows
    _store_class(settings)
    _ = settings.history_path  # this user may have no folder for it


def _data_folder(settings: Settings) -> Path:
    """Where Mem0 may keep its own files: beside the history, where that is in a place of the user's choice."""
    path = settings.history_path
    chosen = settings.history.path is not None or settings.vector_store.folder is not None
    return path.parent if path is not None and chosen else data_folder("history.path")


def _open_store(settings: Settings, embedder: Embedder) -> Store:
    section: Any = settings.vector_store
    _check_dimensions(settings, embedder.model, embedder.dimensions)
    store_class, name = _store_class(settings)
    if STORES.is_ours(name):
        return store_class.open(section, dimensions=embedder.dimensions)
    return _plugged_store(store_class, name, section, embedder.dimensions)


def _check_dimensions(settings: Settings, model: str, dimensions: int) -> None:
    wanted = settings.vector_store.embedding_dims
    if wanted not in (None, dimensions):
        raise ConfigError(
            "vector_store.embedding_dims",
            f"is {wanted}, and the embedder {model!r} makes {dimensions} dimensions",
            "Leave it out, or configure the embedder that it is meant for.",
        )


def _store_class(settings: Settings) -> tuple[type[Store], str]:
    """The class of the configured store, and its name in the registry.

    Raises:
        ConfigError: there is none of that name, it is no store, or its optional dependency is missing.
    """
    section = settings.vector_store
    if STORES.is_ours(section.key):
        return STORES.load(section.key, _STORE), section.key
    # A third party with one mode has one name, whatever its options call that mode.
    name = section.key if section.key in STORES.names() else section.provider
    found = STORES.load(name, _STORE)
    _check_class(found, Store, STORES.told(name), _STORE)
    return found, name


def _plugged_store(store_class: type[Store], name: str, section: Any, dimensions: int) -> Store:
    """The store that a third party opens.

    Raises:
        ConfigError: it is no store, or lacks what a store has.
        StoreError: it cannot be opened.
    """
    told, where = STORES.told(name), _STORE
    try:
        store: object = store_class.open(section, dimensions=dimensions)
    except MemstackError:
        raise
    except Exception as error:  # its engine's
        raise StoreError(name, f"could not be opened ({type(error).__name__})") from error
    if not isinstance(store, Store):
        raise ConfigError(where, f"`open` of {told} gave {describe(store)}, no store", TELL)
    missing = [said for said in ("capabilities", "label", "collection", "dimensions") if not hasattr(store, said)]
    if missing:
        store.close()
        raise ConfigError(where, f"what {told} opens lacks {', '.join(missing)}", TELL)
    return store


def _check_class(found: object, base: ABCMeta, told: str, where: str) -> None:
    """See that what an entry point names is a class of the kind that it has to be, with all of its methods.

    Raises:
        ConfigError: it is not.
    """
    wanted = f"{base.__module__}.{base.__name__}"
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(where, f"{told} is no subclass of {wanted}", TELL)
    awaited = [name for name in dir(base) if not name.startswith("_") and is_awaited(getattr(found, name, None))]
    if awaited:
        raise ConfigError(where, f"{told} has coroutine functions: {', '.join(awaited)}", TELL)
    if inspect.isabstract(found):
        raise ConfigError(where, f"{told} lacks {', '.join(sorted(found.__abstractmethods__))} of {wanted}", TELL)


def load_schemas(paths: Sequence[str]) -> Schemas:
    """The known schemas, and those that the configuration names.

    Raises:
        ConfigError: a path leads to no schema, or two to schemas of one category.
    """
    own: dict[str, type[MemorySchema]] = {}
    for i, path in enumerate(paths):
        where = f"schemas[{i}]"
        found = _imported(path, where, "Name a class by its module and name, as in my_app.memories.Habit.")
        if not isinstance(found, type) or not issubclass(found, MemorySchema) or not found.category:
            raise ConfigError(where, f"{path!r} is no schema with a category", "Name a subclass of MemorySchema.")
        if own.setdefault(found.category, found) is not found:
            raise ConfigError(where, f"is the second schema of the category {found.category!r}", "Name one of them.")
    return Schemas(own.values())


def load_reranker(settings: Settings, *, make: bool = True) -> Reranker | None:
    """The configured reranker; None where there is none. A class is made, once, without arguments.

    Args:
        settings: the configuration.
        make: False: a class is only imported, and there is no reranker then.

    Raises:
        ConfigError: its path leads to nothing that can be called.
    """
    path = settings.retrieval.reranker
    if path is None:
        return None
    where = "retrieval.reranker"
    hint = "Name a function by its module and name, as in my_app.ranking.score."
    found = _imported(path, where, hint)
    takes = "Name a function that takes a query and a list of texts."
    if isinstance(found, type) and not make:
        return None
    if isinstance(found, type):  # its instances are what is called: it may load a model when it is made
        try:
            found = found()
        except MemstackError:
            raise
        except Exception as error:  # the class is the user's, and may raise anything
            problem = f"the class {path!r} cannot be made without arguments ({type(error).__name__})"
            raise ConfigError(where, problem, takes) from error
    if not callable(found):
        raise ConfigError(where, f"{path!r} cannot be called", takes)
    if any(map(inspect.iscoroutinefunction, (found, getattr(found, "__call__", None)))):  # noqa: B004  # its method
        raise ConfigError(where, f"{path!r} is a coroutine function", f"{takes} It is called in a thread.")
    scores = cast("Callable[[str, Sequence[str]], Sequence[float]]", found)
    return Reranker(scores, settings.retrieval.rerank, path)


def make_embedder(settings: Settings) -> Embedder:
    """The configured embedder."""
    section = settings.embedder
    provider = _provider(section.key, "embedder.provider")
    if PROVIDERS.is_ours(section.key):
        return provider.embedder(section)
    from memstack.providers.plugged import plugged_embedder  # noqa: PLC0415  # beside its only use

    return plugged_embedder(section.key, PROVIDERS.told(section.key), lambda: provider.embedder(section))


def make_llm(settings: Settings) -> LLM | None:
    """The configured LLM; None where there is none."""
    section = settings.llm
    provider = _provider(section.key, "llm.provider")
    if PROVIDERS.is_ours(section.key):
        return provider.llm(section)
    from memstack.providers.plugged import plugged_llm  # noqa: PLC0415  # beside its only use

    return plugged_llm(section.key, PROVIDERS.told(section.key), lambda: provider.llm(section))


def _provider(key: str, where: str) -> type[Provider]:
    found = PROVIDERS.load(key, where)
    if not PROVIDERS.is_ours(key):
        _check_class(found, Provider, PROVIDERS.told(key), where)
    return found


def examine_models(settings: Settings, section: Literal["embedder", "llm"], *, pull: bool = False) -> list[Finding]:
    """What can be found out about the server of a section's models without using it.

    Args:
        settings: the configuration.
        section: which one.
        pull: whether a model that is missing there may be downloaded.

    Raises:
        ConfigError: the section cannot be used.
    """
    config: Any = getattr(settings, section)
    provider = _provider(config.key, f"{section}.provider")
    return list(provider.examine(config, section, pull=pull and not settings.offline))


def _imported(path: str, where: str, hint: str) -> object:
    """What stands at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        inside = importlib.import_module(module)
    except ModuleNotFoundError as error:
        problem = f"{path!r} cannot be imported: there is no module {error.name!r}"
        raise ConfigError(where, problem, f"{hint} A module that is not installed is found by PYTHONPATH.") from error
    except MemstackError:  # a schema that cannot work says why
        raise
    except Exception as error:  # the module is the user's, and may raise anything
        raise ConfigError(where, f"{path!r} cannot be imported ({type(error).__name__})", hint) from error
    try:
        return getattr(inside, name)
    except AttributeError as error:
        raise ConfigError(where, f"there is no {name!r} in the module {module!r}", hint) from error


def _scope_in(store: Store, memory_id: str) -> Scope | None:
    rows = store.fetch([memory_id])
    return scope_of(rows[0].payload) if rows else None


def _close_again(opening: Future[MemoryGateway]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class OpeningMemory:
    """An `AsyncMemoryGateway` on its way: ``await`` it, or use it with ``async with``."""

    def __init__(self, config: Config, overrides: Mapping[str, Any]) -> None:
        self._config = config
        self._overrides = overrides
        self._gateway: AsyncMemoryGateway | None = None

    async def _open(self) -> AsyncMemoryGateway:
        pool = ThreadPoolExecutor(1, "memstack-open")
        open_it = partial(open_memory, self._config, **self._overrides)
        opening = pool.submit(contextvars.copy_context().run, open_it)
        pool.shutdown(wait=False)
        try:
            return AsyncMemoryGateway(await asyncio.wrap_future(opening))
        except asyncio.CancelledError:  # it is opened all the same, and nobody else would ever close it
            opening.add_done_callback(_close_again)
            raise

    def __await__(self) -> Generator[Any, None, AsyncMemoryGateway]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncMemoryGateway:
        self._gateway = await self._open()
        return self._gateway

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._gateway is not None:
            await self._gateway.close()

    if not TYPE_CHECKING:  # a type checker finds it by itself

        def __getattr__(self, name: str) -> Any:
            if hasattr(AsyncMemoryGateway, name):
                raise AttributeError(
                    f"{name}: this memory is not open yet. Write `memory = await open_async_memory(…)`, or "
                    "`async with open_async_memory(…) as memory:`."
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def open_async_memory(config: Config = None, /, **overrides: Any) -> OpeningMemory:
    """Open a memory for asyncio: await the result, or use it with ``async with``. Arguments as for `open_memory`."""
    return OpeningMemory(config, overrides)
