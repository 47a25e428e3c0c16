"""``init`` and ``config``."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from memstack import Settings
from memstack.cli.template import TEMPLATE
from memstack.testing.servers import free_port
from tests.cli.conftest import Runner

SECTIONS = ("vector_store", "embedder", "llm", "history", "remember_roles", "offline")
ALTERNATIVES = re.findall(rf"^# ((?:{'|'.join(SECTIONS)}): .*)$", TEMPLATE, re.MULTILINE)


def test_init_writes_the_embedded_default(run: Runner, tmp_path: Path) -> None:
    """The written file loads, and is the embedded default in a folder beside it."""
    place = tmp_path / "sub" / "memory.yaml"
    place.parent.mkdir()
    assert run("--json", "init", str(place)).data == {"path": str(place)}
    settings = Settings.load(place)
    assert (settings.vector_store.key, settings.embedder.key, settings.llm.key) == (
        "qdrant:embedded",
        "builtin",
        "none",
    )
    assert settings.vector_store.folder == place.parent / "memory"


@pytest.mark.parametrize("line", ALTERNATIVES)
def test_every_alternative_in_the_file_loads(tmp_path: Path, line: str) -> None:
    """Every line that a comment offers can take the place of the section that it names."""
    option = line.partition(":")[0]
    kept = re.sub(rf"^{option}:\n(  .*\n)+", "", TEMPLATE, flags=re.MULTILINE)
    place = tmp_path / "alternative.yaml"
    place.write_text(f"{kept}\n{line}\n", encoding="utf-8")
    assert option in Settings.load(place).model_fields_set


def test_the_file_offers_every_provider() -> None:
    """The comments name an alternative for each store, embedder and model of memstack."""
    from memstack.config.lookup import BUILTIN

    offered = {
        section.key
        for line in ALTERNATIVES
        for section in (Settings.load({}, **_read(line)).vector_store,)
        if line.startswith("vector_store")
    }
    assert offered == {*BUILTIN["vector_store"]} - {"qdrant:embedded"}
    for name in ("embedder", "llm"):
        assert {line.split("provider: ")[1].split(",")[0] for line in ALTERNATIVES if line.startswith(name)} == {
            "openai",
            "ollama",
        }


def _read(line: str) -> dict[str, object]:
    import yaml

    found: dict[str, object] = yaml.safe_load(line)
    return found


def test_init_does_not_overwrite(run: Runner, tmp_path: Path) -> None:
    """A file that is there stays, unless --force is given; a place that cannot be written is told."""
    place = tmp_path / "memstack.yaml"
    before = place.read_text(encoding="utf-8")
    assert run("init").code == 2
    assert place.read_text(encoding="utf-8") == before
    assert run("init", "--force").code == 0
    assert place.read_text(encoding="utf-8") == TEMPLATE
    assert run("init", "missing/memstack.yaml").code == 2
    assert run("init", ".", "--force").code == 2


def test_show_tells_where_options_came_from(run: Runner, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """Each option is shown with its value and its origin: default, file, environment, --set."""
    monkeypatch.setenv("MEMSTACK_LIMITS__MAX_TEXT", "500")
    options = run("--set", "offline=true", "config", "show", "--json").data["options"]
    assert options["vector_store.path"] == {"value": str(store), "from": "memstack.yaml"}
    assert options["limits.max_text"] == {"value": 500, "from": "environment MEMSTACK_LIMITS__MAX_TEXT"}
    assert options["offline"] == {"value": True, "from": "--set"}
    assert options["llm.provider"] == {"value": "none", "from": "default"}
    table = run("config", "show").out
    assert "vector_store.path" in table
    assert "memstack.yaml" in table


def test_show_masks_secrets(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, password or header is shown, wherever it came from."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hush-environment")
    arguments = [
        *("--set", "embedder.provider=openai", "--set", "embedder.model=m"),
        *("--set", 'embedder.headers={"X-Team": "hush-header"}'),
        *("--set", "vector_store.provider=pgvector", "--set", "vector_store.url=postgresql://user:hush@localhost/app"),
    ]
    for extra in ([], ["--json"]):
        done = run(*arguments, *extra, "config", "show")
        assert done.code == 0, done.err
        assert "hush" not in done.out
        assert "**" in done.out


def test_check(run: Runner, tmp_path: Path, store: Path) -> None:
    """A configuration that loads is OK; one that does not ends in exit code 2, and the store is not touched."""
    assert run("config", "check").out.startswith("OK: vector store qdrant:embedded")
    assert run("config", "check", "--json").data["ok"] is True
    assert run("config", "check", "--set", "vector_store.pat=x").code == 2
    (tmp_path / "memstack.yaml").write_text("vector_store:\n\tpath: x\n", encoding="utf-8")
    assert run("config", "check").code == 2
    assert not store.exists()


REFUSED: dict[str, list[str]] = {
    "retrieval.reranker": ["retrieval.reranker=nope.nope"],
    "schemas[0]": ['schemas=["my_app.memories.Habit"]'],
    "llm.api_key": ["llm.provider=openai", "llm.model=gpt-4.1-mini"],
    "embedder.api_key": ["embedder.provider=openai", "embedder.model=text-embedding-3-small"],
    "vector_store.embedding_dims": ["vector_store.embedding_dims=7"],
    "llm.ca_file": ["llm.provider=openai", "llm.model=m", "llm.api_key=k", "llm.ca_file=missing.pem"],
    "vector_store.provider": ["vector_store.provider=chroma"],
}


@pytest.mark.parametrize("where", REFUSED)
def test_check_finds_what_opening_finds(run: Runner, store: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What opening refuses before it opens a store, the check refuses in the same words, and opens none."""
    if where == "vector_store.provider":
        find = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "chromadb" else find(name))
    given = [word for assignment in REFUSED[where] for word in ("--set", assignment)]
    checked = run("--json", *given, "config", "check")
    assert checked.code == 2
    assert checked.error["message"].startswith(f"{where}: ")
    assert checked.error == run("--json", *given, "list", "-u", "alex").error
    assert not store.exists()


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_check_asks_nobody(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """Servers that are not there, and a reranker whose class would load a model, are OK to the check."""
    (tmp_path / "loading.py").write_text("class Model:\n    def __init__(self):\n        raise SystemExit(9)\n")
    (tmp_path / "memstack.yaml").write_text("retrieval: {reranker: loading.Model}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    nobody = f"127.0.0.1:{free_port()}"
    place = f"base_url=http://{nobody}/v1" if provider == "openai" else f"host=http://{nobody}"
    model = (f"provider={provider}", "model=m", place)
    options = [f"{name}.{option}" for name in ("embedder", "llm") for option in model]
    options += ["vector_store.provider=qdrant", "vector_store.mode=server", f"vector_store.url=http://{nobody}"]
    done = run(*(word for option in options for word in ("--set", option)), "config", "check")
    assert (done.code, done.err) == (0, "")


def test_schema(run: Runner) -> None:
    """The JSON Schema is JSON in both forms, and describes every top-level option."""
    import json

    for done in (run("config", "schema"), run("--json", "config", "schema")):
        assert set(json.loads(done.out)["properties"]) == set(Settings.model_fields)


@pytest.mark.parametrize("place", ["before", "after", "both"])
def test_global_options_stand_anywhere(run: Runner, tmp_path: Path, place: str) -> None:
    """--config, --set and --json mean the same before and after the command; the nearer --set wins."""
    (tmp_path / "other.yaml").write_text("limits: {max_text: 7}\n", encoding="utf-8")
    given = ["--config", "other.yaml", "--set", "limits.max_metadata_depth=3", "--json"]
    before, after = {"before": (given, []), "after": ([], given), "both": (given, given)}[place]
    options = run(*before, "config", "show", *after).data["options"]
    assert options["limits.max_text"]["value"] == 7
    assert options["limits.max_metadata_depth"]["value"] == 3
    done = run("--set", "limits.max_text=1", "config", "show", "--set", "limits.max_text=2", "--json")
    assert done.data["options"]["limits.max_text"]["value"] == 2
