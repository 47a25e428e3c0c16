"""What the application is told by its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]

_LEAST: Final = 32  # bytes of a key for HS256: RFC 7518, section 3.2


class Settings(BaseSettings):
    """Read from ``TASK_API_SECRET``, ``TASK_API_DATABASE`` and ``TASK_API_MEMORY``.

    Attributes:
        secret: what signs the tokens, 32 characters at least. There is no default: a known secret is none.
        database: the file of the tasks.
        memory: the YAML file of the memory. Default: what memstack finds by itself (``$MEMSTACK_CONFIG``, then
            ``./memstack.yaml``, then Qdrant embedded in the user's data folder).
    """

    model_config = SettingsConfigDict(env_prefix="TASK_API_", frozen=True, hide_input_in_errors=True)

    secret: SecretStr = Field(min_length=_LEAST)
    database: Path = Path("tasks.db")
    memory: Path | None = None

    @classmethod
    def read(cls) -> Settings:
        """What the environment says.

        Raises:
            ValidationError: naming the variable that is missing or cannot be used.
        """
        return cls()  # pyright: ignore[reportCallIssue]  # the environment has what is required
