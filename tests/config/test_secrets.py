"""No secret is shown: in no text form, no error, no traceback."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from memstack.config import Settings
from memstack.errors import ConfigError

Write = Callable[..., Path]
SECRET = "hunter2"
FULL: dict[str, Any] = {
    "vector_store": {"provider": "pgvector", "url": f"postgresql://u:{SECRET}@localhost/app"},
    "embedder": {"provider": "openai", "model": "m", "api_key": f"sk-{SECRET}", "headers": {"X-Key": SECRET}},
    "llm": {"provider": "openai", "model": "m", "api_key": SECRET, "base_url": f"http://u:{SECRET}@localhost/v1"},
}
OTHERS: list[dict[str, Any]] = [
    {"vector_store": {"provider": "pgvector", "host": "h", "password": SECRET}},
    {"vector_store": {"provider": "pgvector", "url": f"host=h password={SECRET}"}},
    {"vector_store": {"provider": "pgvector", "url": f"postgresql://h/d?sslpassword={SECRET}"}},
    {"vector_store": {"provider": "qdrant", "url": "http://h", "api_key": SECRET}},
    {"vector_store": {"provider": "qdrant", "url": f"http://u:{SECRET}@h"}},
    {"vector_store": {"provider": "qdrant", "url": f"u:{SECRET}@h"}},
    {"vector_store": {"provider": "chroma", "host": "h", "token": SECRET}},
    {"llm": {"provider": "ollama", "model": "m", "host": f"https://u:{SECRET}@h"}},
    {"llm": {"provider": "ollama", "model": "m", "host": f"https://{SECRET}@h"}},
    {"vector_store": {"provider": "qdrant", "url": f"https://h/v1?api_key={SECRET}"}},
]


@pytest.mark.parametrize("options", [FULL, *OTHERS])
def test_no_text_form_shows_a_secret(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Not repr, str, format, masked(), the JSON dump of models, nor a log record."""
    settings = Settings.load(options)
    logging.getLogger("x").warning("%s %r", settings, settings.vector_store)
    shown = [
        repr(settings),
        str(settings),
        f"{settings}",
        json.dumps(settings.masked()),
        caplog.text,
        repr(settings.origins),
    ]
    shown += [f"{section!r} {section}" for section in (settings.vector_store, settings.embedder, settings.llm)]
    assert SECRET not in "".join(shown)


def test_masked_shows_that_there_is_a_secret() -> None:
    """A secret is stars, none is None, and the rest of an address stays."""
    shown = Settings.load(FULL).masked()
    assert shown["vector_store"]["url"] == "postgresql://u:**********@localhost/app"
    assert shown["embedder"]["api_key"] == "**********"
    assert shown["embedder"]["headers"] == {"X-Key": "**********"}
    assert shown["llm"]["base_url"] == "http://u:**********@localhost/v1"
    assert shown["vector_store"]["password"] is None
    assert json.loads(json.dumps(shown)) == shown


def test_the_secret_itself_is_kept() -> None:
    """What is hidden can still be used."""
    store: Any = Settings.load(FULL).vector_store
    assert SECRET in store.url.get_secret_value()


def pickled(settings: Settings) -> Settings:
    again: Settings = pickle.loads(pickle.dumps(settings))  # noqa: S301  # our own
    return again


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_settings_can_be_copied(copied: Callable[[Settings], Settings]) -> None:
    """Copies are equal, and as discreet."""
    settings = Settings.load(FULL)
    again = copied(settings)
    assert again == settings
    assert again.origins == settings.origins
    assert SECRET not in repr(again)


WRONG: list[dict[str, Any]] = [
    {"llm": {"provider": "openai", "model": "m", "api_key": [SECRET]}},
    {"llm": {"provider": "openai", "model": "m", "api_key": f"{SECRET}\nx"}},
    {"llm": {"provider": "openai", "model": "m", "apikey": SECRET}},
    {"llm": {"provider": "openai", "model": "m", "temperature": SECRET}},
    {"llm": {"provider": "openai", "model": "m", "headers": SECRET}},
    {"llm": {"provider": "openai", "model": "m", "headers": {SECRET: [1]}}},
    {"llm": {"provider": "openai", "model": "m", "reasoning_effort": SECRET}},
    {"llm": {"provider": "openai", "model": "m", "base_url": SECRET}},
    {"llm": {"provider": "openai", "api_key": SECRET}},
    {"llm": {"provider": "none", "api_key": SECRET}},
    {"llm": {"provider": [SECRET]}},
    {"llm": SECRET},
    {"vector_store": {"provider": "pgvector", "url": f"mysql://u:{SECRET}@h/d"}},
    {"vector_store": {"provider": "pgvector", "url": f"postgresql://u:{SECRET}@h/d", "password": SECRET}},
    {"vector_store": {"provider": "pgvector", "host": "h", "password": SECRET, "pool_min": 9, "pool_max": 1}},
    {"vector_store": {"provider": "qdrant", "path": "a", "api_key": SECRET}},
    {"vector_store": {"provider": "qdrant", "path": SECRET, "url": SECRET}},
    {"vector_store": {"provider": "qdrant", "collection": f"{SECRET} "}},
    {"vector_store": {"provider": "qdrant", "config": {"api_key": SECRET, "path": "a"}}},
    {"vector_store": {"provider": "qdrant", "config": {"url": "http://h", "apikey": SECRET}}},
    {"vector_store": {"provider": "qdrant", "config": SECRET}},
    {"limits": {"max_text": SECRET}},
    {"history": {"path": [SECRET]}},
    {"history": {"path": f"~{SECRET}/x"}},
    {"offline": SECRET},
    {"remember_roles": [SECRET]},
    {"custom_instructions": [SECRET]},
    {"offline": True, "llm": {"provider": "openai", "model": "m", "base_url": f"http://u:{SECRET}@h/"}},
]


def refused(load: Callable[[], Settings]) -> tuple[ConfigError, str]:
    """The error of a load that fails, logged, and its traceback as a program would print it."""
    try:
        load()
    except ConfigError as error:
        logging.getLogger("x").exception("refused")
        return error, traceback.format_exc()
    pytest.fail("nothing was refused")


@pytest.mark.parametrize("options", WRONG)
def test_no_error_shows_a_value(options: dict[str, Any], write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """An error tells the place and the kind of the problem: from a mapping, a file, or overrides."""
    path = write(json.dumps(options))
    loads: list[Callable[[], Settings]] = [lambda: Settings.load(options), lambda: Settings.load(path)]
    if "config" not in options.get("vector_store", {}):
        loads.append(lambda: Settings.load({}, **options))
    for load in loads:
        error, shown = refused(load)
        assert SECRET not in shown
        assert SECRET not in f"{error!r} {error} {vars(error)}"
    assert SECRET not in caplog.text


def test_no_error_of_a_section_shows_a_value() -> None:
    """A section made in Python is as discreet, though it raises pydantic's error."""
    from memstack.config import OpenAILLM

    make: Any = OpenAILLM
    with pytest.raises(ValidationError) as caught:
        make(model="m", api_key=[SECRET], timeout=SECRET, other=SECRET)
    assert SECRET not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    """Settings are frozen; the refusal does not show the value."""
    settings: Any = Settings.load()
    for name in ("custom_instructions", "offline", "unknown"):
        with pytest.raises(AttributeError, match="frozen") as caught:
            setattr(settings, name, SECRET)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"llm": {"provider": "openai", "model": "m", "base_url": f"https://h/v1?api_key={SECRET}"}},
        {"llm": {"provider": "openai", "model": "m", "base_url": f"https://h/v1#{SECRET}"}},
        {"llm": {"provider": "ollama", "model": "m", "host": f"https://h:1/?api_key={SECRET}"}},
    ],
)
def test_an_address_of_a_model_server_has_no_query(options: dict[str, Any]) -> None:
    """A path is put behind it, so that no call arrives, and HTTP clients log all of it: refused, not quoted."""
    with pytest.raises(ConfigError, match=r"holds a \? or a #.*`headers`") as caught:
        Settings.load(options)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_a_password_that_postgresql_cannot_be_sent(odd: str) -> None:
    """Half a character broke the connection string, with all of it in the error; a NUL ended the password."""
    with pytest.raises(ConfigError, match=r"vector_store\.password: holds a NUL character or a lone") as caught:
        Settings.load({"vector_store": {"provider": "pgvector", "host": "h", "password": SECRET + odd}})
    assert SECRET not in "".join(traceback.format_exception(caught.value))
