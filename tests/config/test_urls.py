"""Where addresses point, and how they are shown."""

from __future__ import annotations

import pytest

from memstack.config.urls import (
    host_of,
    is_loopback,
    mask,
    postgres_hosts,
    postgres_place,
    postgres_problem,
    without_credentials,
)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:1",
        "LOCALHOST",
        "localhost.",
        "https://127.0.0.1/x",
        "127.9.9.9",
        "127.0.0.1:80",
        "::1",
        "[::1]",
        "http://[::1]:80",
        "http://user:pw@localhost/",
        "::ffff:127.0.0.1",
    ],
)
def test_this_machine(address: str) -> None:
    """All spellings of this machine are loopback."""
    assert is_loopback(host_of(address))


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com",
        "http://localhost@example.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://example.com#@localhost",
        "http://example.com?@localhost",
        "http://example.com/@localhost",
        "10.0.0.1",
        "0.0.0.0",  # noqa: S104  # called, not bound
        "::",
        "169.254.169.254",
        "http://2130706433/",
        "http://0x7f000001/",
        "127.1",
        "http://",
        "",
        "http://[::1",
        "ｌocalhost",
        "sub.localhost",
    ],
)
def test_elsewhere(address: str) -> None:
    """Anything else is not: names are not resolved, and old spellings of numbers not read."""
    assert not is_loopback(host_of(address))


@pytest.mark.parametrize(
    ("conninfo", "hosts"),
    [
        ("postgresql://u:p@h/d", ["h"]),
        ("postgresql://u:p@h1:1,h2:2/d", ["h1", "h2"]),
        ("postgresql://[::1]:5432/d", ["::1"]),
        ("postgresql://%2Fvar%2Frun/d", ["/var/run"]),
        ("postgresql:///d?host=evil", ["evil"]),
        ("postgresql://localhost/d?hostaddr=1.2.3.4", ["localhost", "1.2.3.4"]),
        ("postgresql://localhost/d?service=prod", ["localhost", "service:prod"]),
        ("postgresql://localhost?x@evil", ["evil"]),
        ("host=a,b dbname=d", ["a", "b"]),
        ("host = 'a' hostaddr=1.2.3.4", ["a", "1.2.3.4"]),
        ("dbname=d service=prod", ["service:prod"]),
        ("dbname='host=x' host=y", ["y"]),
        ("dbname=d", []),
        ("postgresql:///d", []),
    ],
)
def test_every_host_of_a_connection_string_is_found(conninfo: str, hosts: list[str]) -> None:
    """A connection string may name several hosts, in several places; all are found as libpq reads them."""
    assert postgres_hosts(conninfo) == hosts


@pytest.mark.parametrize(
    ("variable", "found"), [("PGHOST", "evil"), ("PGHOSTADDR", "evil"), ("PGSERVICE", "service:evil")]
)
def test_libpq_takes_hosts_from_the_environment(variable: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the string names no host, libpq's variables do."""
    monkeypatch.setenv(variable, "evil")
    assert postgres_hosts("postgresql:///d") == [found]
    assert postgres_hosts("postgresql://localhost/d") == ["localhost"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://localhost:6333", "http://localhost:6333"),
        ("postgresql://u:hunter2@h/d", "postgresql://u:**********@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("https://hunter2@h/d", "https://**********@h/d"),
        ("u:hunter2@h:1", "u:**********@h:1"),
        (
            "postgresql://h/d?sslmode=require&sslpassword=hunter2",
            "postgresql://h/d?sslmode=require&sslpassword=**********",
        ),
        ("https://h/v1?api_key=hunter2&x=1", "https://h/v1?api_key=**********&x=1"),
        ("host", "host"),
        ("", ""),
    ],
)
def test_mask(address: str, shown: str) -> None:
    """Addresses are shown without what is secret in them."""
    assert mask(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:hun@ter2@h/d",
        "postgresql://u:hun/ter2@h/d",
        "postgresql://u:hun?ter2@h/d",
        "postgresql://u:hun#ter2@h/d",
        "postgresql://u:hun://ter2@h/d",
        "u:hun://ter2@h",
        "https://hun:ter2@h",
    ],
)
def test_mask_hides_passwords_that_should_have_been_escaped(address: str) -> None:
    """However a password is written into an address, nothing behind the user is shown."""
    assert "ter2" not in mask(address)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("postgresql://h/app", ("5432", "app")),
        ("postgresql://me:p%2F@h:7/a%20b?sslmode=require", ("7", "a b")),
        ("postgresql://h?dbname=app&port=8", ("8", "app")),
        ("postgresql://h:1,[::1]:2/app", ("1,2", "app")),
        ("postgresql://me@h", ("5432", "me")),
        ("postgresql://", ("5432", "")),
        ("host=h port=9 dbname='a b'", ("9", "a b")),
        ("host=a,b port=8,9 dbname=d", ("8,9", "d")),
        ("host=h user=me", ("5432", "me")),
    ],
)
def test_the_database_that_postgres_means(
    address: str, meant: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Port and database are read as libpq does: without a database, it has the name of the user."""
    for name in ("PGPORT", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name, raising=False)
    assert postgres_place(address) == meant
    assert postgres_problem(address) is None


def test_the_environment_names_postgres_s_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an address leaves out comes from the variables of libpq."""
    monkeypatch.setenv("PGPORT", "7")
    monkeypatch.setenv("PGDATABASE", "app")
    assert postgres_place("host=h user=me") == ("7", "app")


@pytest.mark.parametrize(
    ("url", "bare", "credentials"),
    [
        ("http://h:1/v1", "http://h:1/v1", None),
        ("http://u:p%40w@h:1/v1", "http://h:1/v1", ("u", "p@w")),
        ("https://token@[::1]/v1?x=1", "https://[::1]/v1?x=1", ("token", "")),
        ("http://u:p@w@h", "http://h", ("u", "p@w")),
        ("http://h/v1/@me", "http://h/v1/@me", None),
    ],
)
def test_credentials_are_taken_out_of_a_url(url: str, bare: str, credentials: tuple[str, str] | None) -> None:
    """What is left names the same place, and the user and the password are told decoded."""
    assert without_credentials(url) == (bare, credentials)
