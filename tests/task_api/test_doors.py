"""The doors of the task API: tokens, bad requests, its OpenAPI description, and its page."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import jwt
import pytest

from tests.task_api.conftest import EXAMPLES, SECRET, Server, token_of

STATIC = EXAMPLES / "task_api" / "static"


def _claims(**changed: object) -> dict[str, object]:
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    claims = {"sub": "alex", "aud": "task-api", "exp": soon, **changed}
    return {name: value for name, value in claims.items() if value is not None}


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer nonsense",
        f"Basic {token_of('alex')}",
        f"Bearer {token_of('alex', secret='another secret, of 32 characters and more')}",
        f"Bearer {token_of('alex', valid_for=timedelta(seconds=-1))}",
        f"Bearer {jwt.encode(_claims(aud='another api'), SECRET, 'HS256')}",
        f"Bearer {jwt.encode(_claims(sub=None), SECRET, 'HS256')}",
        f"Bearer {jwt.encode(_claims(exp=None), SECRET, 'HS256')}",
        f"Bearer {jwt.encode(_claims(), None, 'none')}",
    ],
    ids=[
        "none",
        "empty",
        "nonsense",
        "basic",
        "other key",
        "expired",
        "other audience",
        "nobody",
        "endless",
        "unsigned",
    ],
)
@pytest.mark.parametrize("path", ["/memories", "/memories?user_id=alex"])
def test_without_a_valid_token_there_is_nothing(server: Server, header: str | None, path: str) -> None:
    """The user comes from a token that this API's secret signed, and from nowhere else."""
    with server.client() as client:
        answer = client.get(path, headers={} if header is None else {"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_token_maker(server: Server) -> None:
    """The command of the README prints a token that opens the door, and the address of the page."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "task_api.tokens", "maria"],
        capture_output=True,
        text=True,
        check=True,
        cwd=EXAMPLES,
        env={"TASK_API_SECRET": SECRET, "PYTHONPATH": ":".join(sys.path)},
    )
    token, _, address = done.stdout.split("\n")[:3]
    assert address.endswith(f"/#token={token}")
    assert httpx.get(f"{server.url}/memories", headers={"Authorization": f"Bearer {token}"}).json() == []


@pytest.mark.parametrize("secret", [None, "too short"])
def test_it_does_not_start_without_a_secret(secret: str | None, tmp_path: Path) -> None:
    """There is no default secret; the message names the variable, and does not show its value."""
    environment = {"PYTHONPATH": ":".join(sys.path), **({} if secret is None else {"TASK_API_SECRET": secret})}
    code = "from task_api.settings import Settings; Settings.read()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=EXAMPLES,
        env=environment,
    )
    assert done.returncode != 0
    assert "secret" in done.stderr
    assert "too short" not in done.stderr


# -- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/preferences", {"text": ""}),
        ("/preferences", {"text": " \t"}),
        ("/preferences", {"text": "a\0b"}),
        ("/preferences", {"text": "Zanzibar", "sinse": "2026-01-01"}),
        ("/preferences", {"text": "Zanzibar", "since": "yesterday"}),
        ("/tasks", {"title": "Zanzibar" * 100}),
        ("/tasks", {"title": "Zanzibar", "priority": "highest"}),
        ("/tasks", []),
    ],
)
def test_a_bad_request_is_told_where_and_stores_nothing(server: Server, path: str, body: object) -> None:
    """422 with the place; what was sent is not repeated."""
    with server.client("clumsy") as client:
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][0] == "body"
        assert "Zanzibar" not in answer.text
        assert client.get("/memories").json() == []


@pytest.mark.parametrize(
    ("body", "code"),
    [(rb'{"title": "\ud800Zanzibar"}', 422), (b'{"title": "Zanzibar', 422), (b"\x80Zanzibar", 400), (b"", 422)],
    ids=["half a character", "half a body", "no UTF-8", "empty"],
)
def test_bytes_that_are_no_request(server: Server, body: bytes, code: int) -> None:
    """What cannot be read is an answer, too, and no failure of the server."""
    with server.client("broken") as client:
        answer = client.post("/tasks", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == code
    assert "Zanzibar" not in answer.text


def test_openapi_says_what_is_so(server: Server) -> None:
    """Schemathesis, with all its checks, finds no answer that the API's own description does not allow."""
    found = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"),
            f"{server.url}/openapi.json",
            *("--header", f"Authorization: Bearer {token_of('schemathesis')}"),
            *("--max-examples", "15", "--seed", "1", "--no-color", "--request-timeout", "30"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=server.folder,
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]


# -- the page --------------------------------------------------------------------------------------


def test_the_page_needs_nobody_else(server: Server) -> None:
    """The page and all that it loads come from this server; nothing of it is HTML made of what people say."""
    with server.client() as client:
        page = client.get("/")
        assert page.headers["Content-Type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert set(loaded) == {"/static/page.css", "/static/page.js", "data:,"}
        for path in loaded[:1] + loaded[-1:]:
            assert client.get(path).status_code == 200
    script = (STATIC / "page.js").read_text(encoding="utf-8")
    assert "http" not in script
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    ids = set(re.findall(r'\bat\("(\w+)"\)', script))
    assert ids <= set(re.findall(r'id="(\w+)"', page.text))
