"""Chroma on a server."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import httpx
from chromadb.api.client import Client as ChromaClient
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings as ChromaSettings

from memstack.config import ChromaServer
from memstack.stores.chroma import ChromaStore
from memstack.stores.chroma_failures import translated

__all__ = ["ChromaServerStore"]


class ChromaServerStore(ChromaStore):
    """A collection on a Chroma server."""

    config_model: ClassVar[type[ChromaServer]] = ChromaServer

    @classmethod
    def open(cls, config: ChromaServer, *, dimensions: int) -> ChromaServerStore:
        """Connect to the server that a config section names, and make the collection when it is missing.

        Raises:
            StoreError: the server cannot be reached or refuses the token, or it has a collection of this name that
                memstack did not make.
        """
        label = f"chroma (server) at {config.host}:{config.port}"
        token = config.token.get_secret_value() if config.token is not None else None
        settings = ChromaSettings(
            anonymized_telemetry=False,
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=config.host,
            chroma_server_http_port=config.port,
            chroma_server_ssl_enabled=config.ssl,
            chroma_server_headers={"Authorization": f"Bearer {token}", "X-Chroma-Token": token} if token else None,
        )
        with translated(label, "open"):
            client = _dialled(settings, config)
        try:
            return cls(client, label, config.collection, dimensions, partial(_hang_up, client))
        except BaseException:
            _hang_up(client)
            raise


class _Client(ChromaClient):
    """Chroma's own client of a server, which would wait for an answer for ever."""

    seconds: int
    direct: bool

    def get_user_identity(self) -> Any:
        """The first question of a client."""
        self._prepare(self._server)
        return super().get_user_identity()

    def _validate_tenant_database(self, tenant: str, database: str) -> None:
        """The first questions of another client inside of it, which has connections of its own."""
        inside: Any = self._admin_client
        self._prepare(inside._server)  # noqa: SLF001
        super()._validate_tenant_database(tenant, database)

    def _prepare(self, server: Any) -> None:
        """Tell connections how long to wait, and which way to go: there are no settings for that.

        What is said to this machine goes through no proxy, whatever the environment has for the rest of the world.
        """
        session: httpx.Client = server._session  # noqa: SLF001
        if self.direct:
            session.close()
            session = server._session = httpx.Client(  # noqa: SLF001
                headers=session.headers, limits=server.http_limits, trust_env=False
            )
        session.timeout = httpx.Timeout(self.seconds)


def _dialled(settings: ChromaSettings, config: ChromaServer) -> Any:
    """A client of a server. Where it is refused, no connection is left open, as `chromadb.HttpClient` does."""
    client: Any = _Client.__new__(_Client)
    client.seconds = config.timeout
    client.direct = config.is_here
    try:
        client.__init__(tenant=config.tenant, database=config.database, settings=settings)
    except BaseException:
        _hang_up(client)
        raise
    return client


def _hang_up(client: Any) -> None:
    """Close a client of a server, and its connections: of chromadb's own `close` they survive until collected.

    And Chroma puts what a client consists of under a second name, which nothing ever takes away: a megabyte.
    """
    servers = [getattr(part, "_server", None) for part in (client, getattr(client, "_admin_client", None))]
    client.close()
    named: dict[str, Any] = getattr(SharedSystemClient, "_identifier_to_system", {})
    systems = [getattr(server, "_system", None) for server in servers]
    for name, system in list(named.items()):
        if any(system is own for own in systems):
            named.pop(name, None)
    for server in servers:
        session = getattr(server, "_session", None)
        if session is not None:
            session.close()
