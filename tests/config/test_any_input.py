"""Whatever comes in: settings, or an error of ours that shows nothing of it."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memstack.config import Settings
from memstack.config.lookup import BUILTIN
from memstack.config.problems import option_names
from memstack.errors import ConfigError

SECRET = "hunter2"
SECTIONS = ("vector_store", "embedder", "llm", "history", "limits")
OPTIONS = sorted(
    {option for section in BUILTIN.values() for model in section.values() for option in option_names(model)}
)
MEM0 = ("config", "collection_name", "embedding_model_dims", "on_disk", "openai_base_url", "connection_string", "top_k")
WORDS = sorted({part for section in BUILTIN.values() for key in section for part in key.split(":")})
VALUES = st.one_of(
    st.sampled_from(
        [*WORDS, SECRET, f"http://u:{SECRET}@h:1", f"postgresql://u:{SECRET}@h/d", "a/b", "${X}", "${X:-1}", ""]
    ),
    st.none(),
    st.booleans(),
    st.integers(-1, 70000),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.sampled_from([SECRET, "user", 1]), max_size=2),
    st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.sampled_from([SECRET, 1, None]), max_size=2),
)
SECTION = st.one_of(
    VALUES,
    st.dictionaries(
        st.sampled_from(["provider", "mode", "config", "path", "url", "host", "model"]), VALUES, max_size=4
    ),
    st.dictionaries(
        st.sampled_from([*OPTIONS, *MEM0]),
        st.one_of(VALUES, st.dictionaries(st.sampled_from([*OPTIONS, *MEM0]), VALUES, max_size=3)),
        max_size=6,
    ),
)
TOP = (
    "offline",
    "telemetry",
    "remember_roles",
    "custom_instructions",
    "version",
    "history_db_path",
    "reranker",
    "ofline",
)
CONFIG = st.one_of(
    st.dictionaries(st.sampled_from(SECTIONS), SECTION, max_size=4),
    st.dictionaries(st.sampled_from([*SECTIONS, *TOP]), SECTION, max_size=5),
)
# Each example changes the environment for itself, and puts it back.
ANY = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def attempt(load: Callable[[], Settings]) -> Settings | None:
    """What a load comes to, once it is seen that it shows nothing."""
    try:
        found = load()
    except ConfigError as error:
        check_error(error)
        return None
    assert f":{SECRET}@" not in repr(found)
    assert set(found.origins) >= {"vector_store.provider", "offline"}
    assert Settings.load(found) is found
    return found


def check_error(error: ConfigError) -> None:
    """An error names a place, and shows no value; a provider or mode is named as it was written."""
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert error.where
    assert SECRET not in shown.replace(f"'{SECRET}'", "")


@ANY
@given(config=CONFIG, overrides=st.dictionaries(st.sampled_from([*SECTIONS, *TOP[:4]]), SECTION, max_size=3))
def test_any_mapping(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """A mapping and overrides end in settings or in a ConfigError; settings given again are equal."""
    found = attempt(lambda: Settings.load(config, **overrides))
    if found is not None:
        again = Settings.load(found, offline=found.offline)
        assert again.vector_store == found.vector_store
        assert (again.embedder, again.llm, again.history) == (found.embedder, found.llm, found.history)


@ANY
@given(config=CONFIG)
def test_any_file(config: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file that YAML can write ends in settings or in a ConfigError."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    attempt(lambda: Settings.load(path))


@ANY
@given(
    content=st.one_of(st.binary(max_size=40), st.text("ab:-[]{}#&*!|>'\"%@`\n\t $?,.0", max_size=30).map(str.encode))
)
def test_any_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes end in settings or in a ConfigError."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    attempt(lambda: Settings.load(path))


@ANY
@given(
    variables=st.dictionaries(
        st.lists(st.sampled_from([*SECTIONS, *OPTIONS, "x", ""]), min_size=1, max_size=3).map(
            lambda parts: f"MEMSTACK_{'__'.join(parts)}".upper()
        ),
        st.one_of(
            st.sampled_from([*WORDS, SECRET, "1", "true", "{}", '{"provider": "chroma"}']),
            SECTION.map(lambda value: json.dumps(value).replace("\0", "")),
        ),
        max_size=4,
    )
)
def test_any_environment(variables: dict[str, str]) -> None:
    """Variables end in settings or in a ConfigError."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        attempt(Settings.load)
    assert not [name for name in os.environ if name.startswith("MEMSTACK_")]
