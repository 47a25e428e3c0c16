"""Where an address points, and how to show it without its secrets. Pure; nothing is resolved or dialled."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = [
    "MASK",
    "has_sound_port",
    "host_of",
    "is_loopback",
    "is_postgres",
    "mask",
    "postgres_hosts",
    "postgres_problem",
    "without_credentials",
]

MASK: Final = "**********"

_SCHEME: Final = re.compile(r"^\s*[A-Za-z][A-Za-z0-9+.-]*://")
_POSTGRES: Final = re.compile(r"postgres(ql)?(\+\w+)?://", re.IGNORECASE)
_CONNINFO: Final = re.compile(r"(\w+)\s*=\s*('(?:\\.|[^'\\])*'|(?:\\.|[^\s\\])*)\s*")
_BARE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_PORTS: Final = range(1, 65536)
_SECRET_PARAMETER: Final = re.compile(r"([?&][^=&#]*(?:pass|secret|token|key|auth|sig)[^=&#]*=)[^&#]*", re.IGNORECASE)


def host_of(address: str) -> str | None:
    """The host that a URL, ``host:port`` or bare host names.

    Args:
        address: with or without a scheme.

    Returns:
        The host in lower case, without brackets and port; None where there is none to be read.
    """
    address = address.strip()
    try:
        return str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        pass  # a name, or more than a host
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname
    except ValueError:  # brackets that do not hold an address
        return None


def has_sound_port(url: str) -> bool:
    """Whether the port of a URL is left out or a number that a port can have."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine: 127.0.0.0/8, ::1, ``localhost``, or the path of a Unix socket.

    Names other than ``localhost`` are not resolved, and count as elsewhere.
    """
    if not host:
        return False
    if host.startswith(("/", "@")):  # the folder of a Unix socket, or an abstract one
        return True
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_postgres(address: str) -> bool:
    """Whether an address is a PostgreSQL URL (SQLAlchemy's ``postgresql+driver://`` too)."""
    return _POSTGRES.match(address.strip()) is not None


def postgres_hosts(conninfo: str) -> list[str]:
    """Every host that libpq may dial for a connection string, a URL or ``key=value`` pairs.

    Where the string names none, libpq takes it from ``PGHOST``, ``PGHOSTADDR`` or ``PGSERVICE``.

    Args:
        conninfo: the connection string.

    Returns:
        Host names, addresses and socket folders; a service (a file names its host) as ``service:NAME``; empty for the
        default Unix socket.
    """
    conninfo = conninfo.strip()
    named = _url_hosts(conninfo) if is_postgres(conninfo) else _pairs(_CONNINFO.findall(conninfo))
    if not named:
        variables = (("host", "PGHOST"), ("hostaddr", "PGHOSTADDR"), ("service", "PGSERVICE"))
        named = _pairs([(key, os.environ.get(variable, "")) for key, variable in variables])
    return named


def postgres_problem(conninfo: str) -> str | None:
    """What is wrong with a connection string of PostgreSQL, told without quoting it.

    What libpq reads otherwise than it was meant would make a host of a part of the password, and hosts are shown.

    Args:
        conninfo: a URL or ``key=value`` pairs.

    Returns:
        The problem, in words that follow the name of the option; None where there is none.
    """
    conninfo = conninfo.strip()
    if is_postgres(conninfo):
        place, parameters = _behind_credentials(conninfo)
        pairs = parse_qsl(parameters)
        if "@" in place or _BARE_PERCENT.search(conninfo):
            return "cannot be read: in user, password and database, percent-encode @ as %40, / as %2F and % as %25"
        ports = [unquote(port) for _, port in _places(place)]
    else:
        pairs, ports = _CONNINFO.findall(conninfo), []
    if any("@" in host[1:] and not host.startswith("/") for host in _pairs(pairs)):
        return "names a host that holds an @: the user and the password have keys of their own"
    ports += [part.strip() for key, value in pairs if key == "port" for part in value.strip("'").split(",")]
    if not all(port == "" or (port.isdecimal() and port.isascii() and int(port[:6]) in _PORTS) for port in ports):
        return "names a port that is not a number from 1 to 65535"
    return None


def without_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without its user and password, and these two, or None where it has none: clients log the URLs they call."""
    parts = urlsplit(url)
    credentials, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = credentials.partition(":")
    return parts._replace(netloc=place).geturl(), (unquote(user), unquote(password))


def _behind_credentials(url: str) -> tuple[str, str]:
    """What follows user and password in a PostgreSQL URL, before the question mark and after it.

    As libpq reads it: user and password end before any "/".
    """
    rest = re.sub(r"^[^/@]*@", "", url.partition("://")[2])
    place, _, parameters = rest.partition("?")
    return place, parameters


def _places(place: str) -> list[tuple[str, str]]:
    """The hosts and ports of a PostgreSQL URL, still encoded."""
    found = []
    for part in place.partition("/")[0].split(","):
        host, _, rest = part[1:].partition("]") if part.startswith("[") else part.partition(":")
        found.append((host, rest.removeprefix(":")))
    return found


def _url_hosts(url: str) -> list[str]:
    place, parameters = _behind_credentials(url)
    hosts = [unquote(host) for host, _ in _places(place)]
    return [host for host in hosts if host] + _pairs(parse_qsl(parameters))


def _pairs(pairs: list[tuple[str, str]]) -> list[str]:
    found = []
    for key, value in pairs:
        text = value[1:-1] if value[:1] == "'" else value
        if key in {"host", "hostaddr"}:
            found += [host.strip() for host in text.split(",") if host.strip()]
        elif key == "service" and text:
            found.append(f"service:{text}")
    return found


def mask(address: str) -> str:
    """An address as it may be shown: passwords, and parameters that look like secrets, are ``**********``.

    Masks too much rather than too little: everything between the user and the last ``@`` counts as the password.
    """
    scheme = "".join(_SCHEME.findall(address))
    rest = address[len(scheme) :]
    credentials, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = credentials.partition(":")
        if colon:
            credentials = f"{user}:{MASK}"
        elif not is_postgres(address):  # a token may stand where the user does
            credentials = MASK
    return f"{scheme}{credentials}{at}" + _SECRET_PARAMETER.sub(rf"\1{MASK}", place)
