"""The way to a model server: a proxy, a certificate authority of one's own, and what it means that nothing arrives."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from memstack.config.urls import without_credentials
from memstack.errors import ConfigError
from memstack.providers.calls import CallFailed

if TYPE_CHECKING:
    from memstack.config.sections import RemoteConfig

__all__ = ["refused_by_proxy", "unreachable", "way"]

_UNKNOWN_CA: Final = frozenset({18, 19, 20, 21})  # OpenSSL's X509_V_ERR_…: self-signed, or an issuer that is not there


def way(library: Any, config: RemoteConfig, section: str) -> dict[str, Any]:
    """What a transport is told of the way to the server: `verify` and `proxy`.

    Args:
        library: ``httpx``, or what has the same classes.
        config: the section.
        section: its name.

    Raises:
        ConfigError: `ca_file` holds no certificates that can be read.
    """
    trusted = library.create_ssl_context()
    if config.ca_file is not None:
        try:
            trusted.load_verify_locations(cafile=str(config.ca_file))
        except OSError as error:  # ssl.SSLError is one
            told = "holds no certificate" if isinstance(error, ssl.SSLError) else "cannot be read"
            reason = "" if error.errno is None or isinstance(error, ssl.SSLError) else f" ({os.strerror(error.errno)})"
            raise ConfigError(
                f"{section}.ca_file", f"{told}{reason}: {config.ca_file}", "Name a file of certificates in PEM."
            ) from error
    if config.proxy is None:
        return {"verify": trusted}
    address, credentials = without_credentials(config.proxy)
    own = {"ssl_context": trusted} if address.lower().startswith("https:") else {}
    return {"verify": trusted, "proxy": library.Proxy(address, auth=credentials, **own)}


def unreachable(error: BaseException, section: str, place: str) -> CallFailed:
    """What it means that a server was not reached.

    Args:
        error: the client's.
        section: the name of the section.
        place: where to look for what is wrong, in words.
    """
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            ours = cause.verify_code in _UNKNOWN_CA
            hint = f"Is it of a CA of your own? Name its certificate as `{section}.ca_file`." if ours else place
            return CallFailed(
                f"the server's certificate is not trusted ({cause.verify_message})", retryable=False, hint=hint
            )
        if type(cause).__name__ == "ProxyError":  # of whichever library the client has
            status = next((int(word) for word in str(cause).split()[:1] if word.isdecimal()), None)
            if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                return refused_by_proxy(section)
            told = "" if status is None else f" (HTTP {status})"
            passing = (
                status is None or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            )
            hint = f"{place} Does the proxy let this server through?"
            return CallFailed(f"the proxy does not lead to the server{told}", retryable=passing, hint=hint)
    hint = f"{place} A proxy is between only where `{section}.proxy` names one."
    return CallFailed("the server cannot be reached", retryable=True, hint=hint)


def refused_by_proxy(section: str) -> CallFailed:
    """The proxy wants a user and a password, or others."""
    hint = f"Check the user and the password in `{section}.proxy`."
    return CallFailed("the proxy does not take who asks (HTTP 407)", retryable=False, hint=hint)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
