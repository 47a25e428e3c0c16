"""The sections of a configuration: one frozen model for each provider and mode.

The docstring under each field is its documentation: it becomes the description in the JSON Schema (see
`memstack.config.docs`). Nothing here imports an engine or a client library.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote, urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from memstack.config.urls import (
    MASK,
    PostgresPlace,
    has_sound_port,
    host_of,
    is_loopback,
    is_postgres,
    mask,
    postgres_hosts,
    postgres_place,
    postgres_problem,
)
from memstack.errors import ConfigError

__all__ = [
    "BuiltinEmbedder",
    "ChromaEmbedded",
    "ChromaServer",
    "FrozenOptions",
    "HistoryConfig",
    "LimitsConfig",
    "LocalPath",
    "NoLLM",
    "OllamaEmbedder",
    "OllamaLLM",
    "OpenAIEmbedder",
    "OpenAILLM",
    "PgvectorEmbedded",
    "PgvectorServer",
    "QdrantEmbedded",
    "QdrantInMemory",
    "QdrantServer",
    "RemoteConfig",
    "RetrievalConfig",
    "SectionConfig",
    "StoreConfig",
    "data_folder",
    "holds_variable",
    "not_blank",
]

IN_MEMORY: Final = ":memory:"
# Names of options that hold an address.
_ADDRESSES: Final = re.compile(r"(^|_)(url|host|hosts|endpoint|address|proxy)$")
_VARIABLE: Final = re.compile(r"\$(?:\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z_][A-Za-z0-9_]*)")
_CHROMA: Final = "chroma"  # folders of data; Qdrant's are named after the collections
_POSTGRES: Final = "postgres"
_OLLAMA_PORT: Final = 11434
_QDRANT_PORT: Final = 6333
_SHOWN_OF_PLACE: Final = 80  # characters, in the name of a file


def data_folder(option: str) -> Path:
    """The user's folder for memstack's data (Linux: ``~/.local/share/memstack``).

    Args:
        option: what names another place.

    Raises:
        ConfigError: this user has no home folder.
    """
    try:
        folder = platformdirs.user_data_path("memstack")
    except RuntimeError:  # newer releases say so; to older ones it lies in a folder named "~"
        folder = Path("~")
    if not folder.is_absolute():
        problem = "is left out, and this user has no home folder to keep data in"
        raise ConfigError(option, problem, "Name a path, or set HOME.")
    return folder


# -- kinds of values -------------------------------------------------------------------------


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("holds a NUL character")
    try:
        os.fsencode(path)
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  # Path.resolve() would follow links
    except UnicodeEncodeError as error:
        raise ValueError(f"holds a lone surrogate at position {error.start}, as no name of a file does") from None
    except RuntimeError:
        raise ValueError("names the home folder of a user that is not known here") from None


def not_blank(value: object) -> object:
    """Refuse a text that says nothing."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("is blank")
    return value


def holds_variable(path: str) -> str | None:
    """What of a path is written as shells write a variable of the environment."""
    found = _VARIABLE.search(path)
    return None if found is None else found[0]


def _no_variable(value: object) -> object:
    """No shell reads a configuration: a folder called ``$HOME`` is not what was meant. Absolute ones were made here."""
    if isinstance(value, str) or (isinstance(value, Path) and not value.is_absolute()):
        found = holds_variable(str(value))
        if found is not None:
            way_out = "write `~` for the home folder, or `${NAME}` in a YAML file"
            raise ValueError(f"holds `{found}`, which is no variable of the environment here: {way_out}")
    return value


def _no_memory(value: object) -> object:
    """Other libraries keep data in memory under this name: a folder of that name is not what was meant."""
    if isinstance(value, (str, Path)) and str(value).strip() == IN_MEMORY:
        problem = f"is {IN_MEMORY!r}, and a folder is wanted"
        way_out = "To keep memories in this process alone, use `provider: qdrant` and `mode: memory` without a path."
        raise ConfigError("vector_store.path", problem, way_out)
    return value


def _header_text(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if not text:
        raise ValueError("is blank")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("holds a line break or another character that cannot be sent in a header")
    return SecretStr(text)


def _plain_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds a NUL character or a lone surrogate")
    return secret


def _clean_address(value: str) -> str:
    value = value.strip()
    if not value or re.search(r"[\s\\\x00-\x1f\x7f]", value):
        raise ValueError("is not an address: it is blank, or holds a space, a backslash or a control character")
    return value


def _web_address(value: str) -> str:
    value = _clean_address(value)
    if not value.lower().startswith(("http://", "https://")) or not host_of(value) or not has_sound_port(value):
        raise ValueError("is not an address such as http://localhost:8000 or https://example.com/v1")
    return value


def _no_query(value: str) -> str:
    """Clients put the path of a call behind the address, and log both."""
    if "?" in value or "#" in value:
        raise ValueError("holds a ? or a #, and paths are put behind it: what a gateway asks for goes into `headers`")
    return value


def _qdrant_address(value: str) -> str:
    value = _clean_address(value)
    _web_address(value if "://" in value else f"http://{value}")
    return value  # without a scheme, Qdrant's client chooses it


def _ollama_address(value: str) -> str:
    """The whole URL, as Ollama's own clients read ``OLLAMA_HOST``; "all interfaces" is this machine to a client."""
    scheme, divider, place = _clean_address(value).rpartition("://")
    if re.fullmatch(r"[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", place):  # a bare IPv6 address
        place = f"[{place}]"
    elif place.startswith(":"):  # a port alone
        place = f"127.0.0.1{place}"
    place = re.sub(r"^(0\.0\.0\.0|\[::\])(?=[:/]|$)", "127.0.0.1", place)
    authority, slash, path = place.partition("/")
    if not divider and not re.search(r":\d+$", authority):
        authority += f":{_OLLAMA_PORT}"
    return _no_query(_web_address(f"{scheme or 'http'}://{authority}{slash}{path}".rstrip("/")))


def _postgres_address(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if (problem := postgres_problem(text)) is not None:
        raise ValueError(problem)
    if is_postgres(text):
        return SecretStr(f"postgresql://{text.partition('://')[2]}")
    if "://" not in text and "=" in text:
        return SecretStr(text)
    raise ValueError("is not a PostgreSQL address such as postgresql://user:password@localhost/app")


def _own_folder(collection: str) -> str:
    name = collection.lower()  # to some systems that is the same name
    if name in (_CHROMA, _POSTGRES) or name.startswith("history.db"):
        raise ValueError("is what something else in the folder is called: the other engines' data, or the history")
    return collection


def _no_bool(value: object) -> object:
    """Python counts true and false among the numbers; in a configuration they are a mistake."""
    if isinstance(value, bool):
        raise ValueError("is a bool, not a number")  # noqa: TRY004  # pydantic takes no TypeError
    return value


def _bare_host(value: str) -> str:
    """A host, or several with commas between them. Hosts are shown: what stands before an @ may be a password."""
    if any("@" in part.strip()[1:] for part in value.split(",")):
        raise ValueError("holds an @, and a host has no user and no password: they have options of their own")
    return value


def _number_or_words(value: object) -> object:
    """Ollama takes seconds as a number or a duration with its unit; text from YAML or environment may be either."""
    value = _no_bool(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value.strip()) else value


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('is not JSON, such as {"X-Team": "search"}') from None


def _header_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
        raise ValueError("holds a name that is not one of an HTTP header")
    return value


LocalPath = Annotated[Path, BeforeValidator(_no_variable), BeforeValidator(not_blank), AfterValidator(_absolute)]
"""A path on this machine: ``~`` is expanded, ``$NAME`` refused; what is relative hangs on the working directory."""

Folder = Annotated[LocalPath, BeforeValidator(_no_memory)]
"""The same, of an engine's data."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Host = Annotated[Name, AfterValidator(_bare_host)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_text)]
Headers = Annotated[dict[Annotated[str, AfterValidator(_header_name)], HeaderSecret], BeforeValidator(_from_json)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
NoBool: Final = BeforeValidator(_no_bool)
Port = Annotated[int, Field(ge=1, le=65535), NoBool]
Count = Annotated[int, Field(ge=1), NoBool]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), NoBool]
Dimensions = Annotated[int, Field(ge=1, le=65536), NoBool]
Collection = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{1,46}[A-Za-z0-9]$")]
# What an engine takes, less what is appended to it: "_entities" has 9 characters.
QdrantCollection = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,239}[A-Za-z0-9_-]$")]
ChromaCollection = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,501}[A-Za-z0-9]$")]
PgvectorCollection = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,47}[A-Za-z0-9_-]$")]
KeepAlive = Annotated[
    int | Annotated[str, StringConstraints(pattern=r"^-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+$")],
    Field(union_mode="left_to_right"),
    BeforeValidator(_number_or_words),
]


# -- what sections share ---------------------------------------------------------------------


class FrozenOptions(
    BaseModel,
    frozen=True,
    extra="forbid",
    hide_input_in_errors=True,
    defer_build=True,  # most are never used
    protected_namespaces=(),
):
    """A group of options. Frozen; unknown options are refused; no secret shows in its text form or in its errors."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The options as they may be shown: see `memstack.config.urls.mask`."""
        for name, value in super().__repr_args__():
            yield name, mask(value) if isinstance(value, str) and _holds_address(name or "", value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to change an option, without showing the value (pydantic's own error would)."""
        if not name.startswith("_"):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: a configuration is frozen")
        super().__setattr__(name, value)

    def masked(self) -> dict[str, Any]:
        """The options as plain values, secrets and passwords inside addresses shown as ``**********``."""
        return {
            field.alias or name: _shown(name, getattr(self, name)) for name, field in type(self).model_fields.items()
        }


class SectionConfig(FrozenOptions, frozen=True):
    """A section that names a provider. Base of all of them, third parties' too."""

    provider: str
    """Who provides it."""

    @property
    def key(self) -> str:
        """Its name in the registry."""
        return self.provider

    def addresses(self) -> Iterator[tuple[str, str | None]]:
        """Every option that points to a machine, with the host that it names: what ``offline: true`` examines.

        Yields:
            Pairs of option and host (None where no host can be read from it).
        """
        for name, value in self:
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if isinstance(text, str) and _ADDRESSES.search(name):
                yield name, host_of(text)

    @property
    def is_here(self) -> bool:
        """Whether whatever it points to is this machine."""
        return all(is_loopback(host) for _, host in self.addresses())


class StoreConfig(SectionConfig, frozen=True):
    """A ``vector_store`` section. Base of all of them, third parties' too."""

    mode: str | None = None
    """How the engine runs. Default: told by the other options."""
    collection: Collection = "memories"
    """Name of the collection: 3 to 48 letters, digits, `_` or `-`, a letter first, a letter or digit last; what every
    engine takes. Default: memories."""
    embedding_dims: Dimensions | None = None
    """Number of dimensions that the embedder must have; another number is an error when the memory is opened.
    Default: whatever the embedder has."""

    @property
    def key(self) -> str:
        """Its name in the registry: provider and mode."""
        return f"{self.provider}:{self.mode}" if self.mode else self.provider

    @property
    def folder(self) -> Path | None:
        """The folder of an embedded store; None for the others."""
        path = getattr(self, "path", None)
        return path if isinstance(path, Path) else None

    @property
    def data(self) -> Path | None:
        """What the engine makes in there: others may share the folder."""
        return None if self.folder is None else self.folder / self.collection

    @property
    def persistent(self) -> bool:
        """Whether what it holds outlives the process."""
        return True

    @property
    def place(self) -> tuple[str, ...]:
        """Where a server is: host, port, and what else tells it from another one. Never a secret, nor who asks."""
        hosts = [host or "" for _, host in self.addresses()]
        return (",".join(map(_one_name, hosts)), str(getattr(self, "port", None) or ""))

    @property
    def division(self) -> tuple[str, ...]:
        """What the collection lies in there, the outermost first: a tenant, a database, a schema."""
        return ()

    @property
    def history_key(self) -> str:
        """What its history is called in a file that several share: the engine and the collection, not the place.

        A server may move to another host, and a folder to another path; the history goes with them.
        """
        return "/".join([self.key, *(quote(part, safe="") for part in (*self.division, self.collection))])

    @property
    def history_file(self) -> str:
        """The name of the default file of its history, where that cannot lie beside it: one for each server."""
        shown = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join((self.provider, *self.place[:2])))[:_SHOWN_OF_PLACE]
        identity = json.dumps([self.provider, *self.place, *self.division])
        return f"{shown.strip('-.')}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.db"


def _one_name(host: str) -> str:
    """A host by one name: this machine has several."""
    if host.startswith(("/", "@")):  # a socket's
        return host
    return "localhost" if is_loopback(host) else host.lower()


def _default_path() -> Path:
    return data_folder("vector_store.path") / "memory"


# -- vector stores ---------------------------------------------------------------------------


class QdrantEmbedded(StoreConfig, frozen=True):
    """Qdrant Edge: the engine inside this process, its data in a folder. The default."""

    provider: Literal["qdrant"] = "qdrant"
    """The engine: Qdrant."""
    mode: Literal["embedded"] = "embedded"
    """In this process. Default where neither `url` nor `host` is given."""
    collection: Annotated[QdrantCollection, AfterValidator(_own_folder)] = "memories"
    """Name of the collection: 1 to 240 letters, digits, `_`, `-` or `.`, no `.` last. Default: memories."""
    path: Folder = Field(default_factory=_default_path)
    """Folder of the data. Relative to the folder of the YAML file. Default: `memory` in the user's data folder."""


class QdrantServer(StoreConfig, frozen=True):
    """A Qdrant server or cluster, at a `url` or at a `host` and `port`."""

    provider: Literal["qdrant"] = "qdrant"
    """The engine: Qdrant."""
    mode: Literal["server"] = "server"
    """A server. Default where `url` or `host` is given."""
    collection: QdrantCollection = "memories"
    """Name of the collection: 1 to 240 letters, digits, `_`, `-` or `.`, no `.` last. Default: memories."""
    url: Annotated[str, AfterValidator(_qdrant_address)] | None = None
    """Address of the server, as http://localhost:6333. Give this or `host`. Default: QDRANT_URL."""
    host: Host | None = None
    """Host of the server, in place of `url`. No default."""
    port: Port = 6333
    """REST port at `host`. Default: 6333."""
    grpc_port: Port = 6334
    """gRPC port, used with `prefer_grpc`. Default: 6334."""
    prefer_grpc: bool = False
    """Speak gRPC where that is possible. Default: false."""
    https: bool | None = None
    """Use TLS at `host`; a `url` says it by its scheme. Default: true where an `api_key` is given."""
    api_key: HeaderSecret | None = None
    """Key of the server. Default: QDRANT_API_KEY, else none."""
    timeout: Count = 30
    """Longest time that a request may take, in seconds. Default: 30."""
    on_disk: bool = False
    """Keep the vectors of a collection that is made on the server's disk, not in its memory. Default: false."""
    shard_number: Count | None = None
    """Number of shards of a collection that is made. Default: the server's."""
    replication_factor: Count | None = None
    """Number of copies of each shard of a collection that is made. Default: the server's."""
    write_consistency_factor: Count | None = None
    """Number of copies that must confirm a write, for a collection that is made. Default: the server's."""

    @model_validator(mode="after")
    def _one_place(self) -> QdrantServer:
        _check_place(self.url, self.host, "QDRANT_URL")
        return self

    @property
    def place(self) -> tuple[str, ...]:
        """Where the server is: host, port, and the path of a proxy before it."""
        if self.url is None:
            return (_one_name(host_of(self.host or "") or self.host or ""), str(self.port))
        parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
        prefix = parts.path.strip("/")
        return (_one_name(parts.hostname or ""), str(parts.port or _QDRANT_PORT), *([prefix] if prefix else []))


class QdrantInMemory(StoreConfig, frozen=True):
    """Qdrant's client without a server: nothing outlives the process. For tests."""

    provider: Literal["qdrant"] = "qdrant"
    """The engine: Qdrant."""
    mode: Literal["memory"] = "memory"
    """In the memory of this process."""
    collection: QdrantCollection = "memories"
    """Name of the collection: 1 to 240 letters, digits, `_`, `-` or `.`, no `.` last. Default: memories."""

    @property
    def persistent(self) -> bool:
        """Whether what it holds outlives the process: no."""
        return False


class ChromaEmbedded(StoreConfig, frozen=True):
    """Chroma inside this process, its data in a folder."""

    provider: Literal["chroma"] = "chroma"
    """The engine: Chroma."""
    mode: Literal["embedded"] = "embedded"
    """In this process. Default where no `host` is given."""
    collection: ChromaCollection = "memories"
    """Name of the collection: 3 to 503 letters, digits, `_`, `-` or `.`, a letter or digit first and last.
    Default: memories."""
    path: Folder = Field(default_factory=_default_path)
    """Folder of the data. Relative to the folder of the YAML file. Default: `memory` in the user's data folder."""

    @property
    def data(self) -> Path:
        """The folder of its database."""
        return self.path / _CHROMA


class ChromaServer(StoreConfig, frozen=True):
    """A Chroma server."""

    provider: Literal["chroma"] = "chroma"
    """The engine: Chroma."""
    mode: Literal["server"] = "server"
    """A server. Default where `host` is given."""
    collection: ChromaCollection = "memories"
    """Name of the collection: 3 to 503 letters, digits, `_`, `-` or `.`, a letter or digit first and last.
    Default: memories."""
    host: Host = "localhost"
    """Host of the server. Default: localhost."""
    port: Port = 8000
    """Port of the server. Default: 8000."""
    ssl: bool = False
    """Use TLS. Default: false."""
    token: HeaderSecret | None = None
    """Token that the server asks for. Default: none."""
    tenant: Name = "default_tenant"
    """Tenant of the server. Default: default_tenant."""
    database: Name = "default_database"
    """Database of the tenant. Default: default_database."""
    timeout: Count = 60
    """Longest time without a word from the server, in seconds. Default: 60."""

    @property
    def division(self) -> tuple[str, ...]:
        """Tenant and database."""
        return (self.tenant, self.database)


class _Pgvector(StoreConfig, frozen=True):
    """What both ways of running PostgreSQL share."""

    provider: Literal["pgvector"] = "pgvector"
    """The engine: PostgreSQL with the extension pgvector."""
    collection: PgvectorCollection = "memories"
    """Name of the collection: 1 to 48 letters, digits, `_`, `-` or `.`, no `.` last. Default: memories."""
    schema_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = Field(
        default="public", alias="schema"
    )
    """Schema of the tables: 1 to 63 letters, digits or `_`, no digit first. Default: public."""
    pool_min: Annotated[int, Field(ge=0), NoBool] = 1
    """Number of connections kept open. Default: 1."""
    pool_max: Count = 5
    """Largest number of connections. Default: 5."""
    statement_timeout: Seconds = 30.0
    """Longest time that a statement may take, in seconds. Default: 30."""
    hnsw: bool = False
    """Build an HNSW index: faster among very many memories, and no longer exact. Default: false."""

    @model_validator(mode="after")
    def _pool_sizes(self) -> _Pgvector:
        if self.pool_min > self.pool_max:
            raise ConfigError("pool_min", "is larger than `pool_max`", "Lower it, or raise `pool_max`.")
        return self

    @property
    def division(self) -> tuple[str, ...]:
        """The schema."""
        return (self.schema_name,)


class PgvectorServer(_Pgvector, frozen=True):
    """A PostgreSQL server with pgvector, at a `url` or at a `host`."""

    mode: Literal["server"] = "server"
    """A server. Default where `url` or `host` is given."""
    url: Annotated[SecretStr, AfterValidator(_postgres_address)] | None = None
    """Address, as postgresql://user:password@localhost/app. Give this or `host`. Default: DATABASE_URL."""
    host: Host | None = None
    """Host of the server, or the folder of its Unix socket, in place of `url`. No default."""
    port: Port = 5432
    """Port at `host`. Default: 5432."""
    user: Name | None = None
    """User at `host`. Default: the user of this process."""
    password: Annotated[SecretStr, AfterValidator(_plain_secret)] | None = None
    """Password of the user. Any characters; nothing is to be escaped. Default: none."""
    dbname: Name = "postgres"
    """Database at `host`. Default: postgres."""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """How far TLS is asked for, in the words of libpq. Default: what the `url` says, else prefer."""

    @model_validator(mode="after")
    def _one_place(self) -> PgvectorServer:
        _check_place(self.url, self.host, "DATABASE_URL")
        if self.url is not None:
            for name in ("port", "user", "password", "dbname"):
                if name in self.model_fields_set:
                    raise ConfigError(name, "stands beside `url`, which says it already", "Drop one of the two.")
        return self

    def addresses(self) -> Iterator[tuple[str, str | None]]:
        """Every host that libpq may dial: a connection string can name several, or leave it to ``PGHOST``."""
        if self.url is not None:
            yield from (("url", host) for host in postgres_hosts(self.url.get_secret_value()))
        if self.host is not None:
            yield from (("host", host_of(part) if part[:1] not in "/@" else part) for part in self.host.split(","))

    @property
    def place(self) -> tuple[str, ...]:
        """Where the server is: its hosts and their ports."""
        hosts = [host or "" for _, host in self.addresses()]
        return (",".join(map(_one_name, hosts)), self._named.port)

    @property
    def division(self) -> tuple[str, ...]:
        """Database and schema."""
        return (self._named.dbname, self.schema_name)

    @property
    def _named(self) -> PostgresPlace:
        """Port and database, by whichever way they are given."""
        if self.url is None:
            return PostgresPlace(str(self.port), self.dbname)
        return postgres_place(self.url.get_secret_value())


class PgvectorEmbedded(_Pgvector, frozen=True):
    """A PostgreSQL of our own, its data in a folder; several processes of this machine may share it."""

    mode: Literal["embedded"] = "embedded"
    """Run by memstack. Default where neither `url` nor `host` is given."""
    path: Folder = Field(default_factory=_default_path)
    """Folder of the data. Relative to the folder of the YAML file. Default: `memory` in the user's data folder."""

    @property
    def data(self) -> Path:
        """The folder of its server."""
        return self.path / _POSTGRES


# -- embedders and LLMs ----------------------------------------------------------------------


class RemoteConfig(SectionConfig, frozen=True):
    """What the clients of model servers share: deadlines, retries, and how hard a server may be pushed."""

    model: Name
    """Name of the model. No default: it is never guessed."""
    proxy: WebAddress | None = None
    """Address of an HTTP proxy on the way to the server, as http://user:password@proxy:3128; those that the environment
    names are not used. Default: none."""
    ca_file: LocalPath | None = None
    """File of certificates (PEM) that are trusted beside the public ones: a CA of your own. Relative to the folder of
    the YAML file. Default: none."""
    connect_timeout: Seconds = 5.0
    """Longest time to reach the server, in seconds. Default: 5."""
    read_timeout: Seconds = 120.0
    """Longest silence while an answer is awaited, in seconds. Default: 120."""
    timeout: Seconds = 300.0
    """Longest time for a whole call, its retries included, in seconds. Default: 300."""
    max_retries: Annotated[int, Field(ge=0, le=20), NoBool] = 3
    """How often a call that may succeed later is made again. Default: 3."""
    concurrency: Count = 4
    """Largest number of requests at the same time. Default: 4."""
    breaker_failures: Count = 5
    """Number of failed calls in a row after which calls are refused at once. Default: 5."""
    breaker_pause: Seconds = 30.0
    """How long they are refused, in seconds. Default: 30."""


class _OpenAI(RemoteConfig, frozen=True):
    """What OpenAI's embedders and LLMs share."""

    provider: Literal["openai"] = "openai"
    """OpenAI, or a server that speaks its API."""
    api_key: HeaderSecret | None = None
    """Key of the API. Default: OPENAI_API_KEY, else none."""
    base_url: Annotated[WebAddress, AfterValidator(_no_query)] = "https://api.openai.com/v1"
    """Address of the API. Default: OPENAI_BASE_URL, else https://api.openai.com/v1."""
    organization: Name | None = None
    """Organisation that is billed. Default: the key's."""
    headers: Headers = Field(default_factory=dict)
    """HTTP headers sent along, by name. Default: none."""


class _Ollama(RemoteConfig, frozen=True):
    """What Ollama's embedders and LLMs share."""

    provider: Literal["ollama"] = "ollama"
    """Ollama."""
    host: Annotated[str, AfterValidator(_ollama_address)] = f"http://127.0.0.1:{_OLLAMA_PORT}"
    """Address of the server. Default: OLLAMA_HOST, else http://127.0.0.1:11434."""
    keep_alive: KeepAlive = "5m"
    """How long the server keeps the model loaded after a call: seconds, or a duration such as 10m; -1 is for ever.
    Default: 5m."""
    auto_pull: bool = False
    """Download the model where it is missing; not to be had with `offline`. Default: false."""


class BuiltinEmbedder(SectionConfig, frozen=True):
    """The built-in embedder, WordLlama: 256 dimensions, no key, no download, no network. The default."""

    provider: Literal["builtin"] = "builtin"
    """The built-in embedder."""


class OpenAIEmbedder(_OpenAI, frozen=True):
    """Embeddings by OpenAI, or by a server that speaks its API."""

    dimensions: Dimensions | None = None
    """Number of dimensions asked for; models of fixed size refuse it. Default: the model's own."""
    batch_size: Annotated[int, Field(ge=1, le=2048), NoBool] = 256
    """Largest number of texts in a request. Default: 256."""


class OllamaEmbedder(_Ollama, frozen=True):
    """Embeddings by an Ollama server."""

    dimensions: Dimensions | None = None
    """Number of dimensions that the model must have; another number is an error. Default: whatever it has."""
    batch_size: Count = 64
    """Largest number of texts in a request. Default: 64."""


class NoLLM(SectionConfig, frozen=True):
    """No language model: what is said is stored as said. The default."""

    provider: Literal["none"] = "none"
    """No language model."""


class _Sampling(RemoteConfig, frozen=True):
    """How an LLM chooses its words."""

    temperature: Annotated[float, Field(ge=0, le=2), NoBool] = 0.1
    """Randomness, from 0 to 2; not sent to reasoning models, which take none. Default: 0.1."""
    top_p: Annotated[float, Field(gt=0, le=1), NoBool] | None = None
    """Share of the likeliest words to choose from. Default: the server's."""
    max_tokens: Count = 4000
    """Longest answer, in tokens; with a reasoning model, its thoughts included. Default: 4000."""


class OpenAILLM(_OpenAI, _Sampling, frozen=True):
    """A language model by OpenAI, or by a server that speaks its API."""

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """How long a reasoning model thinks. Default: the model's own."""


class OllamaLLM(_Ollama, _Sampling, frozen=True):
    """A language model by an Ollama server."""

    num_ctx: Annotated[int, Field(ge=256), NoBool] = 16384
    """Length of the context, in tokens; the extraction prompt alone takes about 8400. Default: 16384."""


# -- the rest --------------------------------------------------------------------------------


class HistoryConfig(FrozenOptions, frozen=True):
    """The log of changes."""

    provider: Literal["sqlite"] = "sqlite"
    """What keeps it: SQLite, in a file."""
    path: Annotated[Literal[":memory:"] | LocalPath, Field(union_mode="left_to_right")] | None = None
    """File of the log; `:memory:` keeps it in this process. Relative to the folder of the YAML file.
    Default: `history.db` beside an embedded store; of a server, a file of its own in `history` in the user's data
    folder."""


class LimitsConfig(FrozenOptions, frozen=True):
    """How much may be put into one memory."""

    max_text: Count = 100_000
    """Longest text, in characters. Default: 100000."""
    max_metadata_values: Count = 1000
    """Largest number of values in the metadata of a memory, nested ones included. Default: 1000."""
    max_metadata_depth: Count = 16
    """Deepest nesting of the metadata of a memory. Default: 16."""
    max_metadata_text: Count = 1_000_000
    """Most characters in the keys and texts of the metadata of a memory, nested ones included. Default: 1000000."""
    pending_minutes: Count = 1440
    """How long a change that contradicts something waits for an answer, in minutes. Default: 1440, a day."""


def _switch(value: object, info: ValidationInfo) -> object:
    """``true`` is the default, ``false`` is 0."""
    if isinstance(value, bool):
        name = info.field_name or ""
        return RetrievalConfig.model_fields[name].default if value else 0.0
    return value


Weight = Annotated[float, Field(ge=0, le=1), BeforeValidator(_switch)]


class RetrievalConfig(FrozenOptions, frozen=True):
    """How a search ranks. Each part takes a weight from 0 to 1, `false` for 0, or `true` for its default."""

    words: Weight = 0.5
    """Share of the words that query and memory have in common; the rest is the similarity of their vectors, which 0
    leaves alone. Default: 0.5."""
    related: Weight = 0.4
    """What a word that means about the same as one of the query's counts, at most. The built-in embedder tells what
    words mean; with the others only equal words count. Default: 0.4."""
    neighbours: Weight = 0.6
    """What a message lends to the one next to it in the same run; half of it to the one after that. Default: 0.6."""
    session: Weight = 0.3
    """Share of the best memory of the same run. Default: 0.3."""
    speaker: Weight = 0.13
    """Bonus where the query names who spoke. Default: 0.13."""
    answers: Weight = 0.07
    """Bonus for what follows a question in the same run, and malus for the question itself. Default: 0.07."""
    time: Weight = 0.35
    """Bonus for what was said when the query says, as in "last May". Default: 0.35."""
    candidates: Annotated[int, Field(ge=16, le=10_000), NoBool] = 512
    """How many memories are looked at for their vectors at least, twice as many for their words, and as many for the
    times and the speakers that a query names. Where no more than four times as many pass the filter, all are.
    Default: 512."""
    reranker: Annotated[str, Field(pattern=r"^\w+(\.\w+)+$")] | None = None
    """What orders the best anew: the dotted path of a callable, as `my_app.ranking.score`. Called with the query and a
    list of texts, it gives a score from 0 to 1 for each. Default: nothing."""
    rerank: Count = 50
    """How many of the best the reranker is given. Default: 50."""

    @model_validator(mode="after")
    def _reranked(self) -> RetrievalConfig:
        if self.reranker is None and "rerank" in self.model_fields_set:
            raise ConfigError("rerank", "is given, and no reranker is", "Name a `reranker`, or leave it out.")
        return self


# -- helpers ---------------------------------------------------------------------------------


def _check_place(url: object, host: object, variable: str) -> None:
    if url is None and host is None:
        raise ConfigError(
            "url", "is missing", f"A server needs a `url` or a `host`; the variable {variable} sets it too."
        )
    if url is not None and host is not None:
        raise ConfigError("host", "stands beside `url`, which says it already", "Drop one of the two.")


def _holds_address(name: str, value: str) -> bool:
    return "://" in value or _ADDRESSES.search(name) is not None


def _shown(name: str, value: object) -> Any:
    if isinstance(value, FrozenOptions):
        return value.masked()
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return mask(text) if _ADDRESSES.search(name) and "://" in text else MASK
    if isinstance(value, str):
        return mask(value) if _holds_address(name, value) else value
    if isinstance(value, dict):
        return {key: _shown(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(name, item) for item in value]
    return str(value) if isinstance(value, Path) else value
