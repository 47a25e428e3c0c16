"""`proxy` and `ca_file`: what stands between this machine and a model server, and only where it is configured."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from memstack import MemoryGateway, Settings, open_memory
from memstack.errors import ConfigError, ProviderError
from tests.providers.conftest import Provider
from tests.providers.relays import CA, TLS, Proxy

SECRET = "p@ss:w/ö"
QUOTED = "p%40ss%3Aw%2F%C3%B6"


def _open(path: Path, provider: Provider, **options: Any) -> MemoryGateway:
    return open_memory(
        {"vector_store": {"path": str(path / "memory")}},
        embedder={**provider.embedder, **options},
        llm={**provider.llm, **options},
    )


def _address(provider: Provider) -> str:
    return "base_url" if provider.name == "openai" else "host"


def _by_tls(provider: Provider, front: TLS) -> dict[str, str]:
    option = _address(provider)
    path = urlsplit(str(provider.embedder[option])).path
    return {option: f"{front.url}{path}"}


def _remembers(memory: MemoryGateway) -> None:
    with memory:
        assert memory.add("I drink tea in the morning", user_id="alex").stored
        assert memory.search("tea", user_id="alex")


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_everything_goes_by_way_of_the_proxy(provider: Provider, tmp_path: Path, tls: bool) -> None:
    """Requests of embedder and LLM, with the user and the password that it asks for, whatever their letters."""
    with Proxy(f"me:{SECRET}", tls=tls) as proxy:
        address = proxy.url.replace("://", f"://me:{QUOTED}@")
        _remembers(_open(tmp_path, provider, proxy=address, **({"ca_file": CA} if tls else {})))
        assert len(proxy.asked) == len(provider.server.requests) > 1
        assert all(line.startswith("POST http://127.0.0.1:") for line in proxy.asked)
    assert not [request for request in provider.server.requests if "proxy-authorization" in request.headers]


def test_a_server_by_tls_is_tunnelled_to(provider: Provider, tmp_path: Path) -> None:
    """What is said to a server by HTTPS is not seen by the proxy: it is asked to connect."""
    with TLS(urlsplit(provider.server.url).port or 0) as front, Proxy("me:secret") as proxy:
        address = proxy.url.replace("://", "://me:secret@")
        _remembers(_open(tmp_path, provider, proxy=address, ca_file=CA, **_by_tls(provider, front)))
        assert set(proxy.asked) == {f"CONNECT 127.0.0.1:{front.port} HTTP/1.1"}


def test_a_ca_of_ones_own(provider: Provider, tmp_path: Path) -> None:
    """Its certificates are taken where it is named; where it is not, the error names the option, and is at once."""
    with TLS(urlsplit(provider.server.url).port or 0) as front:
        place = _by_tls(provider, front)
        with pytest.raises(
            ProviderError, match=r"certificate is not trusted .*Name its certificate as `embedder.ca_file`"
        ) as caught:
            _remembers(_open(tmp_path, provider, **place))
        assert (caught.value.attempts, caught.value.retryable) == (1, False)
        (tmp_path / "company.pem").write_bytes(CA.read_bytes())
        _remembers(_open(tmp_path, provider, ca_file=tmp_path / "company.pem", **place))


def test_a_file_without_certificates_is_an_error(provider: Provider, tmp_path: Path) -> None:
    """It is named when the memory is opened."""
    (tmp_path / "empty.pem").touch()
    for name, told in [("missing.pem", "cannot be read"), ("empty.pem", "holds no certificate"), (".", "ca_file")]:
        with pytest.raises(ConfigError, match=told) as caught:
            _open(tmp_path, provider, ca_file=tmp_path / name)
        assert caught.value.where == "embedder.ca_file"


@pytest.mark.parametrize("tls", [False, True], ids=["forwarded", "tunnelled"])
@pytest.mark.parametrize(
    ("status", "user", "told", "retryable"),
    [
        (None, "me:wrong", "Check the user and the password in `(embedder|llm)\\.proxy`", False),
        (403, "me:right", "HTTP 403", False),
        (503, "me:right", "HTTP 503", True),
    ],
)
def test_a_proxy_that_refuses(  # noqa: PLR0917  # as pytest gives them
    provider: Provider, tmp_path: Path, tls: bool, status: int | None, user: str, told: str, retryable: bool
) -> None:
    """It is told what it said, whether calling again helps, and which option is to be looked at; never the password."""
    with TLS(urlsplit(provider.server.url).port or 0) as front, Proxy("me:right") as proxy:
        proxy.status = status
        options: dict[str, Any] = {"proxy": proxy.url.replace("://", f"://{user}@"), "ca_file": CA, "max_retries": 0}
        with pytest.raises(ProviderError) as caught:
            _remembers(_open(tmp_path, provider, **options, **(_by_tls(provider, front) if tls else {})))
        assert re.search(told, str(caught.value))
        assert caught.value.retryable is retryable
        assert user not in str(caught.value)
    assert not provider.server.requests


def test_a_proxy_that_is_not_there(provider: Provider, tmp_path: Path) -> None:
    """The error names the option, and the server is not asked past it."""
    with Proxy() as gone:
        pass
    with pytest.raises(ProviderError, match=r"cannot be reached.*`(embedder|llm)\.proxy`"):
        _remembers(_open(tmp_path, provider, proxy=gone.url, max_retries=0))
    assert not provider.server.requests


def test_a_proxy_of_the_environment_is_not_used(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even beside one that is configured; and a file can name the variable."""
    with Proxy() as ambient, Proxy() as ours:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, ambient.url)
        _remembers(_open(tmp_path, provider, proxy=ours.url))
        assert ours.asked
        assert not ambient.asked
        file = tmp_path / "memstack.yaml"
        file.write_text("llm: {provider: ollama, model: m, proxy: '${HTTPS_PROXY}'}\n", encoding="utf-8")
        assert Settings.load(file).masked()["llm"]["proxy"] == ambient.url


def test_the_password_is_not_shown(provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is in no text form of the settings and in no log, also where everything is logged."""
    caplog.set_level(logging.DEBUG)
    with Proxy("me:hunter2") as proxy:
        address = proxy.url.replace("://", "://me:hunter2@")
        _remembers(_open(tmp_path, provider, proxy=address))
    settings = Settings.load(embedder={**provider.embedder, "proxy": address})
    assert "me:**********@" in str(settings.masked())
    for shown in (str(settings), repr(settings), str(settings.masked()), caplog.text):
        assert "hunter2" not in shown


@pytest.mark.parametrize("proxy", ["proxy:3128", "socks5://proxy:1080", "http://", "http://proxy:0", " "])
def test_what_is_no_proxy(provider: Provider, proxy: str) -> None:
    """An address without its scheme, and a kind of proxy that is none of HTTP's, are refused by name."""
    with pytest.raises(ConfigError, match="is not an address") as caught:
        Settings.load(llm={**provider.llm, "proxy": proxy})
    assert caught.value.where == "llm.proxy"


def test_doctor_goes_the_same_way(provider: Provider) -> None:
    """It asks by way of the proxy, and by the CA."""
    from memstack.config import OllamaLLM, OpenAILLM
    from memstack.providers.ollama import OllamaProvider
    from memstack.providers.openai import OpenAIProvider

    with TLS(urlsplit(provider.server.url).port or 0) as front, Proxy() as proxy:
        options = {**provider.llm, "proxy": proxy.url, "ca_file": CA, **_by_tls(provider, front)}
        if provider.name == "openai":
            found = list(OpenAIProvider.examine(OpenAILLM.model_validate(options), "llm"))
        else:
            found = list(OllamaProvider.examine(OllamaLLM.model_validate(options), "llm"))
        assert {finding.status for finding in found} == {"ok"}
        assert proxy.asked
