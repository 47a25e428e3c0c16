"""``doctor``: every check tells what it found, and a failed one what to do."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from memstack.cli import checks
from memstack.cli.checks import Check
from memstack.config import Settings
from memstack.errors import ProviderError, StoreLocked
from memstack.providers.builtin import WordLlamaEmbedder
from tests.cli.conftest import Run, Runner


@pytest.fixture
def without_mem0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves Mem0 out: its import takes seconds, and shows in the rest of this process."""
    monkeypatch.setattr(checks, "_mem0", lambda _: Check("mem0", "ok", "left out"))


def _rows(done: Run) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in done.data["checks"]}


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_fresh_machine_is_fine_and_stays_as_it_is(spawn: Runner, tmp_path: Path, store: Path) -> None:
    """Where there is no store, nothing fails and nothing is made, Mem0 and all; its telemetry is off."""
    before = _files(tmp_path)
    done = spawn("--json", "doctor")
    rows = _rows(done)
    assert (done.code, done.data["ok"]) == (0, True), done
    assert set(rows) == {
        *("python", "configuration", "packages", "network", "folder", "disk", "embedder", "store", "round trip", "mem0")
    }
    assert [name for name, row in rows.items() if row["status"] == "warn"] == ["round trip"]
    assert "telemetry is off" in rows["mem0"]["found"]
    assert "256 dimensions" in rows["embedder"]["found"]
    assert "qdrant-edge-py" in rows["packages"]["found"]
    assert _files(tmp_path) == before
    assert not store.exists()


@pytest.mark.usefixtures("without_mem0")
def test_the_round_trip_leaves_nothing(run: Runner, store: Path) -> None:
    """With a store, or when asked for, a memory is written and deleted; neither store nor history keeps it."""
    done = run("--json", "doctor", "--round-trip")
    assert done.code == 0, done
    assert _rows(done)["round trip"]["status"] == "ok"
    assert store.exists()
    assert _rows(run("--json", "doctor"))["round trip"]["status"] == "ok"
    assert "round trip" not in _rows(run("--json", "doctor", "--no-round-trip"))
    found = run("--json", "stats").data
    assert (found["vector_store"]["rows"], found["history"]["changes"]) == (0, 0)


@pytest.mark.usefixtures("without_mem0")
def test_for_people_it_is_a_table(run: Runner, store: Path) -> None:
    """Each check is a row with its state; what to do stands under what was found."""
    store.write_text("no folder", encoding="utf-8")
    done = run("doctor")
    assert done.code == 1
    assert "python" in done.out
    assert "ok" in done.out
    assert "fail" in done.out
    assert "To do: Name another folder" in done.out


def test_a_broken_configuration_fails(run: Runner) -> None:
    """A configuration that does not load is the finding, with the way out; the exit code is 1."""
    done = run("--json", "--set", "embedder.provider=bultin", "doctor")
    row = _rows(done)["configuration"]
    assert (done.code, done.data["ok"], row["status"]) == (1, False, "fail")
    assert "Did you mean 'builtin'?" in row["todo"]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("option", "place"),
    [("schemas=nowhere.Habit", "schemas[0]: "), ("retrieval.reranker=nowhere.score", "retrieval.reranker: ")],
)
def test_code_that_cannot_be_loaded_is_the_configurations_failure(spawn: Runner, option: str, place: str) -> None:
    """What a configuration names and cannot be imported fails in its row, and in no other; the rest is examined."""
    done = spawn("--json", "--set", option, "doctor", "--round-trip")
    rows = _rows(done)
    assert done.code == 1
    assert [name for name, row in rows.items() if row["status"] == "fail"] == ["configuration"]
    assert rows["configuration"]["found"].startswith(place)
    assert "PYTHONPATH" in rows["configuration"]["todo"]
    assert (rows["round trip"]["status"], rows["mem0"]["status"]) == ("ok", "ok")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that the configuration needs and that is missing fails, with the pip command."""

    def without_client(name: str) -> str:
        if name == "qdrant-client":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("memstack.cli.checks.version", without_client)
    row = checks._packages(Settings.load({"vector_store": {"url": "http://localhost:6333"}}))
    assert (row.status, row.todo) == ("fail", 'Run: pip install "memstack[qdrant]"')
    assert checks._packages(Settings.load({})).status == "ok"


@pytest.mark.usefixtures("without_mem0")
def test_a_locked_store_is_named(run: Runner, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """A store that another process holds fails, with the ways out."""
    (store / "memories").mkdir(parents=True)

    def locked(*_: object, **__: object) -> None:
        raise StoreLocked("qdrant", str(store))

    monkeypatch.setattr("memstack.factory.open_memory", locked)
    row = _rows(run("--json", "doctor"))["store"]
    assert row["status"] == "fail"
    assert str(store) in row["found"]
    assert "Close it there" in row["todo"]


@pytest.mark.usefixtures("without_mem0")
def test_another_engine_in_the_folder_is_not_this_one(run: Runner, store: Path) -> None:
    """Beside the memories of another engine there is no store yet, and none is made; one whose data is lost fails."""
    pytest.importorskip("chromadb")
    assert run("add", "tea", "--user", "alex").code == 0
    other = ("--set", "vector_store.provider=chroma", "--set", f"vector_store.path={store}")
    before = set(store.iterdir())
    assert "no store yet" in _rows(run(*other, "--json", "doctor"))["store"]["found"]
    assert set(store.iterdir()) == before
    assert run(*other, "add", "tea", "--user", "alex").code == 0
    shutil.rmtree(store / "chroma")
    assert _rows(run(*other, "--json", "doctor"))["store"]["status"] == "fail"


@pytest.mark.usefixtures("without_mem0")
def test_another_embedder_is_named(run: Runner, store: Path) -> None:
    """A store that another embedder filled fails in the row of the fingerprint."""
    assert run("add", "tea", "--user", "alex").code == 0
    manifest = store / "memories" / "memstack.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["embedder"]["model"] = "another"
    manifest.write_text(json.dumps(content), encoding="utf-8")
    rows = _rows(run("--json", "doctor"))
    assert rows["fingerprint"]["status"] == "fail"
    assert "another" in rows["fingerprint"]["found"]
    assert rows["fingerprint"]["todo"]


@pytest.mark.usefixtures("without_mem0")
def test_a_broken_history_is_named(run: Runner, store: Path) -> None:
    """A history that cannot be opened fails in its own row."""
    assert run("add", "tea", "--user", "alex").code == 0
    (store / "history.db").write_bytes(b"no database" * 1000)
    (store / "history.db-wal").unlink(missing_ok=True)
    rows = _rows(run("--json", "doctor"))
    assert rows["history"]["status"] == "fail"
    assert "history.path" in rows["history"]["todo"]
    assert "history.path" not in rows["history"]["found"], "the way out is told once"


@pytest.mark.usefixtures("without_mem0", "store")
@pytest.mark.parametrize(
    ("vectors", "words"),
    [([[0.0] * 255] * 2, "255"), ([[0.0] * 256], "another number"), ([[float("nan")] * 256] * 2, "no numbers")],
    ids=["length", "count", "nan"],
)
def test_wrong_vectors_are_named(
    run: Runner, monkeypatch: pytest.MonkeyPatch, vectors: list[list[float]], words: str
) -> None:
    """An embedder whose vectors are of the wrong length or number, or hold NaN, fails."""
    monkeypatch.setattr(WordLlamaEmbedder, "vectors", lambda *_: vectors)
    row = _rows(run("--json", "doctor"))["embedder"]
    assert row["status"] == "fail"
    assert words in row["found"]


@pytest.mark.usefixtures("without_mem0", "store")
@pytest.mark.parametrize(
    "error",
    [ProviderError("builtin", "model", "died", hint="Feed it."), RuntimeError("never thought of")],
    ids=["ours", "other"],
)
def test_whatever_a_check_raises_is_its_finding(run: Runner, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """No error, of ours or of others, ends the examination."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(WordLlamaEmbedder, "vectors", fail)
    rows = _rows(run("--json", "doctor"))
    assert rows["embedder"]["status"] == "fail"
    assert rows["mem0"]["status"] == "ok"


@pytest.mark.usefixtures("without_mem0")
@pytest.mark.parametrize(("free", "status"), [(2**40, "ok"), (2**28, "warn"), (2**20, "fail")])
def test_the_disk_is_looked_at(monkeypatch: pytest.MonkeyPatch, store: Path, free: int, status: str) -> None:
    """Less than 1 GiB free is a warning; less than a write needs is a failure."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    found = {check.name: check for check in checks._place(Settings.load("memstack.yaml"))}
    assert found["disk"].status == status
    assert bool(found["disk"].todo) == (status != "ok")
    assert str(store) in found["folder"].found


def test_the_network_is_told(run: Runner) -> None:
    """The row of the network names the hosts that are configured, and whether others are refused."""
    del run
    offline = checks._network(Settings.load({"offline": True}))
    assert "offline is true" in offline.found
    remote = checks._network(Settings.load({"vector_store": {"url": "http://user:hush@db.example.com:6333"}}))
    assert "db.example.com" in remote.found
    assert "hush" not in remote.found
