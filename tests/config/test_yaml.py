"""Reading the YAML file."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstack.config import Settings
from memstack.errors import ConfigError
from tests.config.conftest import LLM

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("# nothing\n", "holds nothing but comments"),
        ("---\n", "holds nothing but comments"),
        ("- a\n- b\n", "holds a list of 2 items, not a mapping"),
        ("hunter2", "holds a string of 7 characters, not a mapping"),
        ("12", "holds an int, not a mapping"),
        ("offline: true\nvector_store:\n\tpath: hunter2\n", "line 3 is indented with a tab"),
        ("vector_store:\n  path: a\n \tcollection: hunter2\n", "line 3 is indented with a tab"),
        ("offline: true\noffline: false\n", "line 2 repeats the key 'offline' of line 1"),
        ("vector_store:\n  path: a\n\n  path: b\n", "line 4 repeats the key 'path' of line 2"),
        ("llm: {model: a, model: b}", "line 1 repeats the key 'model' of line 1"),
        ("offline: true\nllm: {provider: 'hunter2\n", "line 2 is no valid YAML"),
        ("offline: true\nllm: provider: hunter2\n", "line 2 is no valid YAML"),
        ("offline: true\nllm: {model: hunter2\nlimits: {max_text: 1}\n", "(expected ',' or '}', but got ':')"),
        ("llm: {a: 'b' hunter2}\n", "line 1 is no valid YAML (expected ',' or '}', but got '<scalar>')"),
        ("llm: *hunter2\n", "line 1 is no valid YAML (found undefined alias)"),
        ("llm: !hunter2 x\n", "line 1 is no valid YAML (could not determine a constructor for the tag)"),
        ("llm: @hunter2\n", "line 1 is no valid YAML"),
        ("llm: !!python/object/apply:os.system [hunter2]\n", "line 1 is no valid YAML"),
        ("offline: true\n---\nllm: hunter2\n", "holds a second document at line 2"),
        ("llm: 2025-13-45\n", "holds a date or number that does not exist"),
        ("offline: !!bool hunter2\n", "not of the kind that its tag"),
        ("offline: !!int ''\n", "not of the kind that its tag"),
        ("offline: !!timestamp hunter2\n", "not of the kind that its tag"),
        ("true: hunter2\n", "has a key that is a bool, not text"),
        ("llm:\n  1: hunter2\n", "has a key in `llm` that is an int, not text"),
        ("llm: &a\n  b: *a\n", "`llm.b` holds itself"),
        ("remember_roles: &a [*a]\n", "`remember_roles.0` holds itself"),
        ("? [a]\n: b\n", "line 1 is no valid YAML"),
        (b"offline: true\nllm: \xff\xfe\n", "line 2 holds bytes or characters that YAML does not allow"),
        (b"offline: true\nllm: a\x00b\n", "line 2 holds bytes or characters that YAML does not allow"),
        ("a: " * 20 + "{" * 3000, "is no valid YAML"),
        ("x: " + "[" * 3000 + "]" * 3000, "nests too deeply"),
    ],
)
def test_bad_files_are_refused_by_name_and_line(content: str | bytes, says: str, write: Write) -> None:
    """What is wrong is said with the file's name and the line, the way out, and nothing that stood in the file."""
    path = write(content)
    with pytest.raises(ConfigError) as caught:
        Settings.load(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.hint
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_tabs_are_answered_with_spaces(write: Write) -> None:
    """The way out of a tab is spaces."""
    with pytest.raises(ConfigError, match="Use spaces"):
        Settings.load(write("llm:\n\tprovider: none\n"))


@pytest.mark.parametrize(
    "line",
    [
        "llm: {provider: openai, model: m, api_key: ${KEY}}",
        "llm: {provider: openai, api_key: ${KEY:-x}, model: m}",
        "remember_roles: [user, ${KEY}]",
        "vector_store: {path: a/${KEY}/b}",
    ],
)
def test_a_reference_inside_braces_is_answered_with_quotes(
    line: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To YAML the brace of ``${KEY}`` begins a mapping there; the error says which line, and how it is written."""
    with pytest.raises(ConfigError, match=r'line 2 holds a `\$\{` inside braces or brackets.* `"\$\{NAME\}"`'):
        Settings.load(write(f"offline: false\n{line}\n"))
    quoted = re.sub(r"(?<=[ /])(a/)?\$\{.*?\}(/b)?", lambda found: f'"{found[0]}"', line)
    monkeypatch.setenv("KEY", "assistant")
    Settings.load(write(f"offline: false\n{quoted}\n", "quoted.yaml"))


def test_aliases_cannot_multiply_without_end(write: Write) -> None:
    """A small file of aliases of aliases does not fill the memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 10000 values"):
        Settings.load(write("\n".join(lines)))


def test_aliases_and_merge_keys_work(write: Write) -> None:
    """What YAML offers against repetition may be used; a key beside a merge key is no duplicate."""
    content = (
        "embedder: &openai\n  provider: openai\n  model: small\n  api_key: k\nllm:\n  <<: *openai\n  model: large\n"
    )
    settings = Settings.load(write(content))
    assert settings.masked()["llm"]["model"] == "large"
    assert settings.masked()["llm"]["api_key"] == "**********"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str, write: Write) -> None:
    """UTF-8 with or without its mark, and UTF-16, are read."""
    settings = Settings.load(write("custom_instructions: Olá, мир\r\n".encode(encoding)), **LLM)
    assert settings.custom_instructions == "Olá, мир"


def test_a_missing_file_is_an_error_that_tells_how_to_make_one() -> None:
    """A file that is named must be there."""
    with pytest.raises(ConfigError, match=r"nowhere/x\.yaml: there is no such file\. .*memstack init"):
        Settings.load("nowhere/x.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder is answered with the file that may be meant."""
    with pytest.raises(ConfigError, match=r"is a folder, not a file\. .*memstack\.yaml"):
        Settings.load(tmp_path)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_file_that_cannot_be_read_says_why(error: OSError, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is passed on."""
    path = write("offline: true")

    def refuse(self: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=str(error.strerror)):
        Settings.load(path)


@pytest.mark.parametrize("name", ["a\0b", "~nobody-of-this-name/x.yaml", "x" * 5000])
def test_what_is_no_path_is_an_error_of_ours(name: str) -> None:
    """A name that the system cannot take is told like a missing file."""
    with pytest.raises(ConfigError):
        Settings.load(name)


@pytest.mark.parametrize("config", ["", 12, b"memstack.yaml", [], object()])
def test_what_is_no_configuration_is_refused(config: Any) -> None:
    """A configuration is a path, a mapping or a Settings."""
    with pytest.raises(ConfigError, match="Pass the path of a YAML file, a mapping, or a Settings"):
        Settings.load(config)


@pytest.mark.parametrize("section", ["vector_store", "embedder", "llm", "history", "limits"])
def test_an_empty_section_is_left_out(section: str, write: Write) -> None:
    """A section whose options are all commented out means its defaults."""
    settings = Settings.load(write(f"offline: true\n{section}:\n  # nothing: here\n"))
    assert {option for option, origin in settings.origins.items() if origin != "default"} == {"offline"}


def test_an_empty_option_is_left_out(write: Write) -> None:
    """An option without value means its default."""
    settings = Settings.load(write("vector_store:\n  collection:\n  path: ~\n"))
    assert settings.vector_store.collection == "memories"
    assert settings.origins["vector_store.collection"] == "default"


def test_text_that_yaml_takes_for_something_else_is_answered_with_quotes(write: Write) -> None:
    """``model: 3.1`` is a number to YAML; the error says how to write the text."""
    with pytest.raises(ConfigError, match=r"llm\.model: .*quotes"):
        Settings.load(write("llm: {provider: ollama, model: 3.1}"))


@pytest.mark.parametrize("name", ["memstack.yaml", "settings/memstack.yaml", "a b/ü.yml"])
def test_relative_paths_hang_on_the_folder_of_the_file(name: str, write: Write, tmp_path: Path) -> None:
    """A file means the same wherever the process stands."""
    path = write("vector_store: {path: ./data}\nhistory: {path: ../log/h.db}\n", name)
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    settings = Settings.load(path)
    assert settings.vector_store.folder == path.parent / "data"
    assert settings.history_path == path.parent.parent / "log" / "h.db"
    assert Settings.load(os.path.relpath(path)).vector_store.folder == path.parent / "data"


def test_a_history_in_memory_is_no_path(write: Write) -> None:
    """``:memory:`` does not hang on the folder of the file."""
    assert Settings.load(write("history: {path: ':memory:'}")).history_path is None


def test_home_and_absolute_paths_stay(write: Write, tmp_path: Path) -> None:
    """``~`` and absolute paths do not hang on the file."""
    settings = Settings.load(write("vector_store: {path: ~/m}\nhistory: {path: /x/h.db}\n", "deep/er/memstack.yaml"))
    assert settings.vector_store.folder == tmp_path / "home" / "m"
    assert settings.history_path == Path("/x/h.db")


def test_paths_from_elsewhere_hang_on_the_working_directory(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapping, environment and overrides have no folder."""
    path = write("vector_store: {path: a}", "deep/memstack.yaml")
    assert Settings.load({"vector_store": {"path": "b"}}).vector_store.folder == tmp_path / "b"
    assert Settings.load(path, vector_store={"path": "c"}).vector_store.folder == tmp_path / "c"
    monkeypatch.setenv("MEMSTACK_VECTOR_STORE__PATH", "d")
    assert Settings.load(path).vector_store.folder == tmp_path / "d"
