"""Where an address points, and how to show it without its secrets. Pure; nothing is resolved or dialled."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = [
    "MASK",
    "PostgresPlace",
    "has_sound_port",
    "host_of",
    "is_loopback",
    "is_postgres",
    "mask",
    "postgres_hosts",
    "postgres_place",
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
    named = _hosts(_parameters(conninfo))
    if not named:
        variables = (("host", "PGHOST"), ("hostaddr", "PGHOSTADDR"), ("service", "PGSERVICE"))
        named = _hosts([(key, os.environ.get(variable, "")) for key, variable in variables])
    return named


class PostgresPlace(NamedTuple):
    """Which server and database of a host a connection string means.

    Attributes:
        port: one, or one for each host, divided by commas.
        dbname: the database; empty where only a service's file tells it, or the name of this process's user.
    """

    port: str
    dbname: str


def postgres_place(conninfo: str) -> PostgresPlace:
    """The port and the database that libpq takes from a connection string, and from the environment beside it."""
    given: dict[str, str] = {}
    for key, value in _parameters(conninfo):
        given[key] = ",".join(part for part in (given.get(key), value) if part) if key == "port" else value
    port = given.get("port") or os.environ.get("PGPORT") or "5432"
    user = given.get("user") or os.environ.get("PGUSER", "")
    return PostgresPlace(port, given.get("dbname") or os.environ.get("PGDATABASE") or user)


def _parameters(conninfo: str) -> list[tuple[str, str]]:
    """The parameters of a connection string, a URL or ``key=value`` pairs, by the names that libpq has for them."""
    conninfo = conninfo.strip()
    if not is_postgres(conninfo):
        pairs = _CONNINFO.findall(conninfo)
        return [(key, value[1:-1] if value[:1] == "'" else value) for key, value in pairs]
    user = "".join(re.findall(r"^([^/@:]*)[^/@]*@", conninfo.partition("://")[2]))
    place, parameters = _behind_credentials(conninfo)
    places, _, dbname = place.partition("/")
    found = [("user", unquote(user)), ("dbname", unquote(dbname))]
    for part in places.split(","):
        host, _, port = part[1:].partition("]") if part.startswith("[") else part.partition(":")
        found += [("host", unquote(host)), ("port", unquote(port.removeprefix(":")))]
    return [(key, value) for key, value in found if value] + parse_qsl(parameters)


def postgres_problem(conninfo: str) -> str | None:
    """What is wrong with a connection string of PostgreSQL, told without quoting it.

    What libpq reads otherwise than it was meant would make a host of a part of the password, and hosts are shown.

    Args:
        conninfo: a URL or ``key=value`` pairs.

    Returns:
        The problem, in words that follow the name of the option; None where there is none.
    """
    conninfo = conninfo.strip()
    if is_postgres(conninfo) and ("@" in _behind_credentials(conninfo)[0] or _BARE_PERCENT.search(conninfo)):
        return "cannot be read: in user, password and database, percent-encode @ as %40, / as %2F and % as %25"
    parameters = _parameters(conninfo)
    if any("@" in host[1:] and not host.startswith("/") for host in _hosts(parameters)):
        return "names a host that holds an @: the user and the password have keys of their own"
    ports = [part.strip() for key, value in parameters if key == "port" for part in value.split(",")]
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


def _hosts(parameters: list[tuple[str, str]]) -> list[str]:
    found = []
    for key, value in parameters:
        if key in {"host", "hostaddr"}:
            found += [host.strip() for host in value.split(",") if host.strip()]
        elif key == "service" and value:
            found.append(f"service:{value}")
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
