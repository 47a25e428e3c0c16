"""What is otherwise on macOS and Windows, as far as it can be acted here."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import typer.core

from memstack import open_memory
from memstack.cli import app
from memstack.errors import ConfigError, StoreCorrupted, StoreError
from memstack.gateway import files
from memstack.gateway.residue import search
from memstack.stores.edge_folder import translated

SAID: Final = "The quokka of Zanzibar sleeps until noon"


class Acted:
    """A module, some of whose names mean something else."""

    def __init__(self, module: Any, **names: object) -> None:
        self._module = module
        self._names = names

    def __getattr__(self, name: str) -> Any:
        return self._names[name] if name in self._names else getattr(self._module, name)


def test_a_name_that_is_another_collections_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where "Notes" and "notes" are one folder, the second of two collections is refused, and the first one named."""

    def listed(folder: Any = ".") -> list[str]:
        return ["notes" if name == "Notes" else name for name in there(folder)]

    there = os.listdir
    section = {"path": str(tmp_path), "collection": "Notes"}
    with open_memory({"vector_store": section}) as memory:
        memory.add(SAID, user_id="alex")
    monkeypatch.setattr("memstack.stores.foreign.os", Acted(os, listdir=listed))
    with pytest.raises(ConfigError, match="same name as notes") as caught:
        open_memory({"vector_store": section})
    assert caught.value.where == "vector_store.collection"
    monkeypatch.undo()
    with open_memory({"vector_store": section}) as memory:
        assert [found.text for found in memory.get_all(user_id="alex")] == [SAID]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_what_a_system_takes_for_a_hole_is_searched(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for what was erased reads all of a file where the system is wrong about holes, or does not tell."""

    def no_data(descriptor: int, offset: int, how: int) -> int:
        if how == os.SEEK_SET:
            return seek(descriptor, offset, how)
        raise OSError(errno.ENXIO, "nothing but a hole")

    seek = os.lseek
    (tmp_path / "pages").write_bytes(bytes(5000) + SAID.encode() + bytes(5000))
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os, "lseek", no_data)
    found = search([tmp_path / "pages"], [SAID], lambda _: set())
    monkeypatch.undo()
    assert found == [str(tmp_path / "pages")]


def test_the_lines_of_an_export_end_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export has the same bytes on a system whose text files end their lines in two characters."""
    monkeypatch.setattr(os, "linesep", "\r\n")
    asking: Any = importlib.import_module("_pyio")  # asks how lines end; the built-in one knows
    monkeypatch.setattr(files, "open", asking.open, raising=False)
    with files.writing(tmp_path / "export.jsonl") as write:
        write('{"text": "tea\\r\\n"}\n')
    assert (tmp_path / "export.jsonl").read_bytes() == b'{"text": "tea\\r\\n"}\n'


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_arguments_are_taken_as_they_are(
    form: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text with the name of a variable, a wildcard or a ~ is stored as it was typed, on Windows too."""
    said = ["I pay in $CURRENCY", "*.yaml", "~"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURRENCY", "euros")
    monkeypatch.setenv("MEMSTACK_VECTOR_STORE__PATH", str(tmp_path / "memory"))
    (tmp_path / "a.yaml").touch()
    monkeypatch.setattr(typer.core, "os", Acted(os, name="nt"))
    for text in said:
        monkeypatch.setattr(sys, "argv", ["memstack", *form, "add", text, "--user", "alex"])
        with pytest.raises(SystemExit) as caught:
            app(prog_name="memstack")
        assert caught.value.code in (None, 0), capsys.readouterr()
    with open_memory() as memory:
        assert sorted(found.text for found in memory.get_all(user_id="alex")) == sorted(said)


@pytest.mark.parametrize(
    "reason",
    [
        'WAL: Error { kind: OpenFile, source: Os { code: 24, kind: Uncategorized, message: "Zu viele Dateien" } }',
        "IO Error: Keine Berechtigung (os error 13)",
        'Os { code: 28, kind: StorageFull, message: "Auf dem Gerät ist kein Speicherplatz mehr verfügbar" }',
        'Os { code: 30, kind: ReadOnlyFilesystem, message: "Das Dateisystem ist nur lesbar" }',
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other numbers")
def test_a_system_that_refuses_in_another_language(reason: str, tmp_path: Path) -> None:
    """What the system refuses to the engine is told as no damage, whatever language the system speaks."""
    with pytest.raises(StoreError, match="cannot open") as caught, translated("qdrant", tmp_path, "open"):
        raise RuntimeError(reason)
    assert not isinstance(caught.value, StoreCorrupted)
