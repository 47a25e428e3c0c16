"""What settings tell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from memstack import open_memory
from memstack.config import Settings
from memstack.config.layers import SECTIONS
from memstack.errors import ConfigError
from tests.config.conftest import LLM


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"vector_store": {"path": "a"}}, "a/history.db"),
        ({"vector_store": {"provider": "chroma", "path": "a"}}, "a/history.db"),
        ({"vector_store": {"provider": "pgvector", "path": "a"}}, "a/history.db"),
        ({}, "home/data/memstack/memory/history.db"),
        ({"vector_store": {"mode": "memory"}}, None),
        ({"vector_store": {"mode": "memory"}, "history": {"path": "h.db"}}, "h.db"),
        ({"vector_store": {"url": "http://h"}, "history": {"path": "x/h.db"}}, "x/h.db"),
        ({"vector_store": {"path": "a"}, "history": {"path": ":memory:"}}, None),
        ({"vector_store": {"path": "a"}, "history": {"provider": "sqlite"}}, "a/history.db"),
        ({"vector_store": {"path": "a"}, "history": {"provider": "sqlite", "path": "h.db"}}, "h.db"),
    ],
)
def test_the_history_lies_beside_the_store(options: dict[str, Any], expected: str | None, tmp_path: Path) -> None:
    """Beside an embedded store; in memory (None) with a store in memory; where it is said, where that is said."""
    assert Settings.load(options).history_path == (expected and tmp_path / expected)


def _nobodys_home(_: str) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("told", [_nobodys_home, lambda name: Path("~/.local/share", name)])
def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], Path], tmp_path: Path) -> None:
    """Whatever the release of platformdirs: a place that is left out is an error, not a folder named ``~``."""
    monkeypatch.setattr("platformdirs.user_data_path", told)
    with pytest.raises(ConfigError, match=r"^vector_store\.path: .*no home folder"):
        Settings.load({})
    server = Settings.load({"vector_store": {"url": "http://h"}})
    with pytest.raises(ConfigError, match=r"^history\.path: .*no home folder"):
        _ = server.history_path
    assert Settings.load({"vector_store": {"path": "a"}}).history_path == tmp_path / "a/history.db"
    with open_memory({"vector_store": {"mode": "memory"}}) as memory:
        assert memory.add("tea in the morning", user_id="alex").stored


SERVERS: list[dict[str, Any]] = [
    {"url": "http://h"},
    {"url": "http://h:1"},
    {"url": "http://h/behind/a/proxy"},
    {"url": "http://other.example"},
    {"provider": "chroma", "host": "h"},
    {"provider": "chroma", "host": "h", "port": 1},
    {"provider": "chroma", "host": "h", "tenant": "t"},
    {"provider": "chroma", "host": "h", "database": "d"},
    {"provider": "pgvector", "url": "postgresql://h/app"},
    {"provider": "pgvector", "url": "postgresql://h:1/app"},
    {"provider": "pgvector", "url": "postgresql://h/other"},
    {"provider": "pgvector", "url": "postgresql://h/app", "schema": "s"},
    {"provider": "pgvector", "url": "postgresql://h,g/app"},
    {"provider": "pgvector", "host": "/run/postgresql", "dbname": "app"},
    {"provider": "pgvector", "url": "postgresql:///app"},
]


def test_each_server_has_a_history_of_its_own() -> None:
    """Stores that differ in engine, host, port, proxy, tenant, database or schema share no default history."""
    paths = [Settings.load(vector_store=section).history_path for section in SERVERS]
    assert len(set(paths)) == len(SERVERS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"url": "http://h"}, {"host": "h"}),
        ({"url": "http://h", "api_key": "k"}, {"url": "https://H:6333/", "api_key": "l"}),
        ({"url": "localhost:6333"}, {"url": "http://127.0.0.1:6333"}),
        ({"url": "http://h"}, {"url": "http://h", "collection": "others"}),
        ({"provider": "chroma", "host": "h"}, {"provider": "chroma", "host": "h", "token": "t", "ssl": True}),
        (
            {"provider": "pgvector", "url": "postgresql://me:secret@h/app"},
            {"provider": "pgvector", "host": "h", "user": "you", "password": "hidden", "dbname": "app"},
        ),
        (
            {"provider": "pgvector", "url": "postgresql://h/app?sslmode=require"},
            {"provider": "pgvector", "url": "host=h port=5432 dbname='app' password=x"},
        ),
    ],
)
def test_a_server_has_one_history_however_it_is_named(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The default history of a server depends on what it is: not on who asks, on a secret, or on how it is written."""
    paths = [Settings.load(vector_store=section).history_path for section in (one, other)]
    assert paths[0] == paths[1]


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"url": "http://my.host:7"}, r"qdrant-my\.host-7"),
        ({"provider": "chroma", "host": "::1"}, "chroma-localhost-8000"),
        ({"provider": "pgvector", "url": "postgresql://me:hunter2@h/hunter2"}, "pgvector-h-5432"),
        ({"provider": "pgvector", "host": "/run/my sockets"}, "pgvector-run-my-sockets-5432"),
        ({"provider": "pgvector", "host": "h" * 300}, "pgvector-h{71}"),
        ({"provider": "pgvector", "url": "postgresql:///app"}, "pgvector-5432"),
    ],
)
def test_the_file_of_a_server_s_history_is_named_for_people(section: dict[str, Any], name: str, tmp_path: Path) -> None:
    """It lies in the user's data folder, and its name has the engine, the host and the port, and no secret."""
    path = Settings.load(vector_store=section).history_path
    assert path is not None
    assert path.parent == tmp_path / "home/data/memstack/history"
    assert re.fullmatch(rf"{name}-[0-9a-f]{{12}}\.db", path.name)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({}, "qdrant:embedded/memories"),
        ({"path": "a", "collection": "others"}, "qdrant:embedded/others"),
        ({"url": "http://h"}, "qdrant:server/memories"),
        ({"provider": "chroma", "path": "a"}, "chroma:embedded/memories"),
        ({"provider": "chroma", "host": "h", "tenant": "a/b"}, "chroma:server/a%2Fb/default_database/memories"),
        ({"provider": "pgvector", "path": "a", "schema": "s"}, "pgvector:embedded/s/memories"),
        ({"provider": "pgvector", "url": "postgresql://h/app"}, "pgvector:server/app/public/memories"),
        ({"provider": "pgvector", "url": "host=other dbname=app"}, "pgvector:server/app/public/memories"),
        ({"provider": "pgvector", "host": "h", "dbname": "app"}, "pgvector:server/app/public/memories"),
    ],
)
def test_a_history_belongs_to_an_engine_s_collection(section: dict[str, Any], key: str) -> None:
    """In a file that several share it has the engine's name and the collection's, and moves with them."""
    assert Settings.load(vector_store=section).vector_store.history_key == key


def test_masked_is_plain_data() -> None:
    """What is shown can be written as JSON, and has every option."""
    settings = Settings.load({"embedder": {"provider": "ollama", "model": "m"}})
    shown = settings.masked()
    assert json.loads(json.dumps(shown)) == shown
    assert list(shown) == list(Settings.model_fields)
    assert shown["embedder"]["host"] == "http://127.0.0.1:11434"


def test_the_dump_has_the_options_of_each_provider() -> None:
    """A dump by pydantic has the provider's options, not only those that all providers have."""
    settings = Settings.load({"llm": {"provider": "ollama", "model": "m"}})
    assert settings.model_dump()["llm"]["num_ctx"] == 16384


def test_the_sections_are_those_of_the_model() -> None:
    """The list of sections and the fields of the settings agree."""
    values = {name: getattr(Settings.load(), name) for name in Settings.model_fields}
    assert {name for name, value in values.items() if isinstance(value, BaseModel)} == set(SECTIONS)


def test_settings_made_directly_are_loaded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is its own loader, as with every pydantic-settings class."""
    monkeypatch.setenv("MEMSTACK_OFFLINE", "true")
    settings = Settings(custom_instructions="x", **LLM)
    assert (settings.offline, settings.custom_instructions) == (True, "x")
    assert Settings({"offline": False}).offline


def test_a_caller_s_mapping_is_left_as_it_was() -> None:
    """Loading changes nothing of what it is given."""
    given = {
        "vector_store": {"provider": "qdrant", "config": {"path": "a"}},
        "llm": {"provider": "openai", "config": {}},
    }
    before = json.dumps(given)
    Settings.load(given, vector_store={"collection": "abc"})
    assert json.dumps(given) == before


def test_importing_config_is_cheap(tmp_path: Path) -> None:
    """No engine, no client library, not even the YAML reader is loaded by an import."""
    script = "import sys; import memstack.config; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = set(done.stdout.split())
    heavy = {"mem0", "qdrant_client", "qdrant_edge", "chromadb", "openai", "ollama", "psycopg", "wordllama", "yaml"}
    assert "pydantic_settings" in loaded
    assert not loaded & heavy


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"custom_instructions": "x"}, "custom_instructions"),
        ({"extraction_prompt": "x", "llm": {"provider": "none"}}, "extraction_prompt"),
        ({"offline_guard": "memory"}, "offline_guard"),
        ({"offline_guard": "process", "offline": False}, "offline_guard"),
    ],
)
def test_what_is_set_for_a_part_that_is_off_is_refused(options: dict[str, Any], where: str) -> None:
    """A setting that would be ignored is an error, which says what it is for; with that part on, it is none."""
    with pytest.raises(ConfigError, match=r"Set `offline: true`|Configure `llm`") as caught:
        Settings.load(options)
    assert caught.value.where == where
    assert "it comes from mapping" in caught.value.problem
    Settings.load({**options, **LLM, "offline": True})


@pytest.mark.parametrize("provider", ["qdrant", "chroma", "pgvector"])
def test_a_folder_is_not_named_as_others_name_the_memory(provider: str, tmp_path: Path) -> None:
    """`:memory:` makes no folder of that name: the error tells how to keep memories in this process alone."""
    section = {"provider": provider, "path": ":memory:"}
    mem0 = {"provider": "qdrant", "config": {"path": ":memory:"}}
    for given, written in ((section, "vector_store.path"), (mem0, "vector_store.config.path")):
        with pytest.raises(ConfigError, match="mode: memory") as caught:
            open_memory({"vector_store": given})
        assert caught.value.where == written
    assert not list(tmp_path.iterdir())
    assert not Settings.load({"vector_store": {"provider": "qdrant", "mode": "memory"}}).vector_store.persistent


@pytest.mark.parametrize("path", ["$HOME/memx", "/data/$USER/memx", "${HOME}/memx", "data-$USER", Path("$HOME/memx")])
@pytest.mark.parametrize("option", ["vector_store.path", "history.path"])
def test_a_path_that_a_shell_would_read_is_refused(path: str | Path, option: str, tmp_path: Path) -> None:
    """No shell replaces `$HOME` here, and no folder of that name is meant: the error tells how it is written."""
    section, _, name = option.partition(".")
    with pytest.raises(
        ConfigError, match=r"\$\S+`, which is no variable.* `~` .*`\$\{NAME\}` in a YAML file"
    ) as caught:
        Settings.load({section: {name: path}})
    assert caught.value.where == option
    file = tmp_path / "memstack.yaml"
    file.write_text(f"{section}: {{{name}: '{str(path).replace('${', '$${')}'}}\n")
    with pytest.raises(ConfigError, match="which is no variable"):
        Settings.load(file)


def test_a_folder_that_is_called_like_a_variable_can_be_worked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused is what is written: relative paths may hang on any folder, also when settings are read again."""
    folder = tmp_path / "$HOME"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("memstack.yaml").write_text("vector_store: {path: ./memory}\n")
    for given in (None, "memstack.yaml", {"vector_store": {"path": "memory"}}):
        settings = Settings.load(given)
        assert settings.vector_store.folder == folder / "memory"
        again = Settings.load(settings, vector_store={"collection": "other"})
        assert again.vector_store.folder == folder / "memory"
    assert Settings.load({"vector_store": {"path": "cash$"}}).vector_store.folder == folder / "cash$"
