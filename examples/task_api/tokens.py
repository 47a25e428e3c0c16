"""Who is asking: signed tokens (JWT), checked on every request. Run it to make one for development.

TASK_API_SECRET=… python -m task_api.tokens alex
"""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta, timezone
from typing import Annotated, Final

import jwt
from fastapi import Depends, HTTPException, Request, status
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from .settings import Settings

__all__ = ["User", "make_token", "user_of"]

_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "task-api"
_bearer: Final = HTTPBearer(auto_error=False, description="A token of `python -m task_api.tokens`.")


def make_token(user_id: str, secret: SecretStr, *, valid_for: timedelta = timedelta(hours=12)) -> str:
    """A token for development. In production an identity provider makes them; this API only checks."""
    now = datetime.now(timezone.utc)
    claims = {"sub": user_id, "aud": _AUDIENCE, "iat": now, "exp": now + valid_for}
    return jwt.encode(claims, secret.get_secret_value(), algorithm=_ALGORITHM)


async def user_of(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The user that the token names; whatever else the request says is not asked."""
    settings: Settings = request.app.state.settings
    try:
        claims = jwt.decode(
            credentials.credentials if credentials else "",
            settings.secret.get_secret_value(),
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            options={"require": ["sub", "aud", "exp"]},
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(
            status.HTTP_401_UNAUTHORIZED,
            "A valid token is needed: Authorization: Bearer …",
            headers={"WWW-Authenticate": "Bearer"},
        ) from error
    return str(claims["sub"])


User = Annotated[str, Depends(user_of)]


def main() -> None:
    """Print a token, and the address of the page that it opens."""
    parser = argparse.ArgumentParser(description="Make a token for development.")
    parser.add_argument("user", help="the id of the user")
    parser.add_argument("--hours", type=float, default=12, help="how long it is valid (default: 12)")
    arguments = parser.parse_args()
    token = make_token(arguments.user, Settings.read().secret, valid_for=timedelta(hours=arguments.hours))
    print(f"{token}\n\nhttp://127.0.0.1:8000/#token={token}")


if __name__ == "__main__":
    main()
