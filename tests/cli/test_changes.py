"""`conflicts`, `supersede`, `erase`, `export`, `import` of an export, and `migrate`."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from memstack import open_memory
from memstack.cli import moving
from memstack.testing import OllamaServer

from .conftest import COMMAND, Runner

MORNING = '{"category": "preferences", "key": "time of day", "value": "morning"}'
EVENING = '{"category": "preferences", "key": "time of day", "value": "evening"}'


def test_from_contradiction_to_history(run: Runner, alex: str) -> None:
    """What contradicts is shown, superseded by hand, and told by the history."""
    run("add", "I prefer mornings", "--user", alex, "--metadata", MORNING)
    found = run("conflicts", "evenings now", "--user", alex, "--metadata", EVENING, "--json").data["conflicts"]
    assert [(item["kind"], item["memory"]["text"]) for item in found] == [("slot", "I prefer mornings")]
    shown = run("conflicts", "evenings now", "--user", alex, "--metadata", EVENING)
    assert "certain" in shown.out
    assert "contradicts nothing" in run("conflicts", "tea", "--user", alex, "--metadata", MORNING).out
    old = found[0]["memory"]["id"]
    arguments = ("supersede", old, "evenings now", "--user", alex, "--metadata", '{"value": "evening"}')
    new = run(*arguments, "--reason", "changed my mind", "--json").data
    assert new["metadata"]["value"] == "evening"
    told = run("history", old, "--user", alex)
    assert f"SUPERSEDE by {new['id']}: changed my mind" in " ".join(told.out.split())


def test_a_contradiction_is_asked_about(run: Runner, alex: str) -> None:
    """``--on-conflict ask`` tells a token; ``confirm`` stores what waited, ``dismiss`` forgets it, each once."""
    run("add", "I prefer mornings", "--user", alex, "--metadata", MORNING)
    ask = ("add", "evenings now", "--user", alex, "--metadata", EVENING, "--on-conflict", "ask")
    (waiting,) = run(*ask, "--json").data["pending"]
    assert f"memstack confirm {waiting['token']}" in " ".join(run(*ask).out.split())
    assert [item["text"] for item in run("list", "--user", alex, "--json").data["memories"]] == ["I prefer mornings"]
    assert run("dismiss", waiting["token"], "--user", "somebody-else").code == 4
    assert run("dismiss", waiting["token"], "--user", alex, "--json").data == {"dismissed": 1}
    gone = run("confirm", waiting["token"], "--json")
    assert (gone.code, gone.error["type"]) == (4, "PendingNotFound")
    (again,) = run(*ask, "--json").data["pending"]
    stored = run("confirm", again["token"], "--user", alex, "--json").data["stored"]
    assert [item["text"] for item in stored] == ["evenings now"]
    assert [item["text"] for item in run("list", "--user", alex, "--json").data["memories"]] == ["evenings now"]


def test_every_token_is_an_argument(run: Runner, alex: str) -> None:
    """A token is letters and digits: no command line takes one for an option, and a double click marks all of it."""
    run("add", "I prefer mornings", "--user", alex, "--metadata", MORNING)
    texts = [f"evenings, for the {number}th time" for number in range(12)]
    ask = ("add", *texts, "--user", alex, "--metadata", EVENING, "--on-conflict", "ask", "--json")
    tokens = [waiting["token"] for waiting in run(*ask).data["pending"]]
    assert len(set(tokens)) == len(texts)
    assert all(token.isalnum() for token in tokens)


def test_policies_for_a_contradiction(run: Runner, alex: str) -> None:
    """``raise`` stores nothing and fails, ``supersede`` replaces, ``keep`` stores both and tells."""
    run("add", "I prefer mornings", "--user", alex, "--metadata", MORNING)
    add = ("add", "evenings now", "--user", alex, "--metadata", EVENING)
    refused = run(*add, "--on-conflict", "raise", "--json")
    assert (refused.code, refused.error["type"]) == (1, "ConflictFound")
    assert run(*add, "--on-conflict", "perhaps").code == 2
    assert len(run("list", "--user", alex, "--json").data["memories"]) == 1
    assert run(*add, "--on-conflict", "supersede").code == 0
    assert len(run("list", "--user", alex, "--json").data["memories"]) == 1
    kept = run("add", "mornings again", "--user", alex, "--metadata", MORNING)
    assert "conflict" in kept.out
    assert len(run("list", "--user", alex, "--json").data["memories"]) == 2


def test_what_held_then(run: Runner, alex: str) -> None:
    """``--as-of`` shows in `search` and `list` what held at an instant, also page by page and for all."""
    run("add", "I prefer mornings", "--user", alex, "--metadata", MORNING, "--occurred-at", "2026-01-01")
    evening = ("add", "evenings now", "--user", alex, "--metadata", EVENING, "--occurred-at", "2026-03-01")
    run(*evening, "--on-conflict", "supersede")
    for words in (("search", ""), ("search", "when do I like to work?"), ("list",), ("list", "--all")):
        for instant, texts in (
            ("2026-02-01", ["I prefer mornings"]),
            ("2026-04-01", ["evenings now"]),
            ("2025-01-01", []),
        ):
            found = run(*words, "--user", alex, "--as-of", instant, "--json").data
            assert [item["text"] for item in found["hits" if "hits" in found else "memories"]] == texts
        assert "I prefer mornings" in run(*words, "--user", alex, "--as-of", "2026-02-01").out
        assert run(*words, "--user", alex, "--as-of", "yesterday").code == 2


def test_what_has_expired(run: Runner, alex: str) -> None:
    """``--show-expired`` shows it in `search` and `list`, page by page and for all."""
    run("add", "parked on level 3", "--user", alex, "--expires-at", "2020-01-01")
    for words in (("search", ""), ("search", "where is my car?"), ("list",), ("list", "--all")):
        assert "level 3" not in run(*words, "--user", alex).out
        assert "level 3" in run(*words, "--user", alex, "--show-expired").out
    assert "level 3" in run("list", "--all", "--user", alex, "--show-expired", "--json").out


def test_what_was_superseded(run: Runner, alex: str) -> None:
    """``--show-superseded`` shows it in `search` and `list`, page by page and for all; not beside ``--as-of``."""
    old = run("add", "parked on level 3", "--user", alex, "--json").data["stored"][0]["id"]
    run("supersede", old, "parked on level 5", "--user", alex)
    for words in (("search", ""), ("search", "where is my car?"), ("list",), ("list", "--all")):
        assert "level 3" not in run(*words, "--user", alex).out
        assert "level 3" in run(*words, "--user", alex, "--show-superseded").out
        assert run(*words, "--user", alex, "--show-superseded", "--as-of", "2026-01-01").code == 2


def test_erase_asks_first(run: Runner, store: Path) -> None:
    """Without a yes nothing is erased; with it, the receipt tells what was."""
    run("add", "a secret of the quokka", "--user", "al")
    refused = run("erase", "--user", "al", stdin="n\n")
    assert (refused.code, "Nothing was erased" in refused.err) == (1, True)
    assert run("erase", "--user", "al", "--json").code == 2
    assert run("erase", "--yes").code != 0
    receipt = run("erase", "--user", "al", "--yes", "--json")
    assert (receipt.code, receipt.data["memories"], receipt.data["complete"]) == (0, 1, True)
    assert "quokka" not in receipt.out
    assert run("list", "--user", "al", "--json").data["memories"] == []


def test_export_and_import(run: Runner, store: Path, tmp_path: Path) -> None:
    """What is exported is imported as it was, ids included; a second time it is all there."""
    run("add", "tea", "walks", "--user", "al")
    before = run("list", "--user", "al", "--json").data
    assert run("export", "all.jsonl", "--json").data["memories"] == 2
    run("erase", "--user", "al", "--yes")
    restored = run("import", "all.jsonl", "--json")
    assert (restored.code, restored.data["stored"], restored.data["complete"]) == (0, 2, True)
    assert run("list", "--user", "al", "--json").data == before
    assert run("import", "all.jsonl", "--json").data["present"] == 2
    lines = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "cut.jsonl").write_text("\n".join(lines[:-1]), encoding="utf-8")
    assert run("import", "cut.jsonl").code == 3
    spoilt = (tmp_path / "all.jsonl").read_bytes().replace(b"walks", b"wa\xffks")
    (tmp_path / "spoilt.jsonl").write_bytes(spoilt)
    spoilt_too = run("import", "spoilt.jsonl", "--json")
    assert (spoilt_too.code, spoilt_too.data["present"], len(spoilt_too.data["failed"])) == (3, 1, 1)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs standard output by name")
def test_an_export_to_standard_output(run: Runner, store: Path, tmp_path: Path) -> None:
    """What stands before it in the file that standard output goes to, and what follows, stays."""
    run("add", "tea", "--user", "al")
    with (tmp_path / "out").open("w") as out:
        out.write("before\n")
        out.flush()
        subprocess.run([*COMMAND, "export", "/dev/stdout"], check=True, stdout=out)
        out.write("after\n")
    first, *lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert (first, lines[-1]) == ("before", "after")
    assert json.loads(lines[2])["end"]
    assert len(lines) == 4


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_export_to_a_pipe_is_all_that_is_there(
    run: Runner, spawn: Runner, store: Path, options: tuple[str, ...]
) -> None:
    """``-`` is standard output, as it is standard input for an import: no file of that name, and no figures between."""
    run("add", "tea \N{HOT BEVERAGE}", "--user", "al")
    done = run("export", "-", *options)
    assert (done.code, Path("-").exists()) == (0, False)
    assert ["1 memories" in done.err, json.loads(done.out.splitlines()[-1])["memories"]] == [not options, 1]
    run("erase", "--user", "al", "--yes")
    restored = spawn("import", "-", "--json", stdin=done.out)
    assert (restored.data["stored"], restored.data["complete"]) == (1, True)


def test_a_reader_of_an_export_may_go(store: Path) -> None:
    """``memstack export - | head -1`` ends quietly."""
    with open_memory({"vector_store": {"path": str(store)}}) as memory:
        memory.add_many([{"content": f"{i} {'x' * 1000}", "user_id": "al"} for i in range(200)])
    with subprocess.Popen([*COMMAND, "export", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_standard_output_stays_open_when_its_reader_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an export is written in closes no standard output, which is flushed at the end, when it is thrown away."""
    reading, writing = os.pipe()
    output = os.fdopen(writing, "w", encoding="latin-1")
    monkeypatch.setattr("sys.stdout", output)
    with moving._standard_output() as stream:
        stream.write("\u4eac")
    assert os.read(reading, 10) == "\u4eac".encode()
    os.close(reading)
    with pytest.raises(BrokenPipeError), moving._standard_output() as stream:
        stream.write("the last line\n")
    del stream
    gc.collect()
    assert not output.closed
    with suppress(BrokenPipeError):  # what is left
        output.close()


def test_an_export_is_known_however_it_is_spelled(run: Runner, store: Path, tmp_path: Path) -> None:
    """Written anew by another program, with spaces, other orders of names, or a byte order mark, it is restored."""
    run("add", "tea", "walks", "--user", "al")
    run("export", "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    spelled = "\n".join(json.dumps(json.loads(line), sort_keys=True) for line in lines)
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "spelled.jsonl").write_text(spelled, encoding=encoding)
        found = run("import", "spelled.jsonl", "--json").data
        assert (found["format"], found["present"], found["complete"]) == ("export", 2, True)


def test_options_of_an_import_that_is_an_export(run: Runner, store: Path, tmp_path: Path) -> None:
    """--failures has what failed, by line; options that say nothing of an export are refused by name."""
    run("add", "tea", "walks", "--user", "al")
    run("export", "all.jsonl")
    head, _, *rest = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "broken.jsonl").write_text("\n".join([head, "{", *rest]), encoding="utf-8")
    assert run("import", "broken.jsonl", "--failures", "failures.jsonl").code == 3
    (failure,) = (tmp_path / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(failure)["line"] == 2
    assert run("import", "all.jsonl", "--failures", "all.jsonl").code == 2
    for option, value in (("--role", "user"), ("--batch-size", "256")):
        refused = run("import", "all.jsonl", option, value, "--json")
        assert (refused.code, refused.error["message"].partition(":")[0]) == (2, option)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """The configurations of two memories, the first of which is filled."""
    paths = []
    for name in ("old", "new"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"vector_store: {{path: {json.dumps(str(tmp_path / name))}}}\n", encoding="utf-8")
        paths.append(path)
    with open_memory(paths[0]) as memory:
        items = [{"user_id": f"u{i % 3}", "content": f"memory number {i}", "metadata": {"n": i}} for i in range(900)]
        memory.add_many(items)
    return paths[0], paths[1]


def everything(path: Path) -> str:
    with open_memory(path) as memory:
        return str(memory.export(path.with_suffix(".jsonl")).checksum)


def test_migrate(run: Runner, two: tuple[Path, Path]) -> None:
    """A dry run stores nothing; the migration ends equal, counts and checksums compared; again it changes nothing."""
    old, new = map(str, two)
    dry = run("migrate", "--from", old, "--to", new, "--dry-run", "--json").data
    assert (dry["memories"], dry["stored"], dry["complete"]) == (900, 0, True)
    done = run("migrate", "--from", old, "--to", new, "--json")
    assert (done.code, done.data["stored"], done.data["verified"], done.data["embedded"]) == (0, 900, True, 0)
    assert run("migrate", "--from", old, "--to", new, "--json").data["present"] == 900
    assert everything(two[0]) == everything(two[1])


def test_migrate_to_another_embedder(run: Runner, two: tuple[Path, Path]) -> None:
    """Every memory is embedded anew, and everything else is equal; what is found is found by the new embedder."""
    old, new = two
    with OllamaServer() as server:
        embedder = {"provider": "ollama", "model": "nomic-embed-text", "host": server.host}
        new.write_text(new.read_text(encoding="utf-8") + f"embedder: {json.dumps(embedder)}\n", encoding="utf-8")
        done = run("migrate", "--from", str(old), "--to", str(new), "--json").data
        assert (done["stored"], done["embedded"], done["verified"]) == (900, 900, True)
        assert everything(old) == everything(new)
        server.forget()
        found = run("--config", str(new), "search", "memory number 7", "--user", "u1", "--json").data["hits"]
        assert found[0]["text"] == "memory number 7"
        assert [request.path for request in server.requests].count("/api/embed") >= 1


def test_a_migration_that_is_killed_goes_on(run: Runner, two: tuple[Path, Path], tmp_path: Path) -> None:
    """Killed half-way, and run again, it ends equal."""
    old, new = map(str, two)
    script = (
        "import os, signal, sys\n"
        "from memstack.gateway import portability\n"
        "real = portability._store\n"
        "calls = []\n"
        "def store(*args, **kwargs):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*args, **kwargs)\n"
        "portability._store = store\n"
        "from memstack.cli import main\n"
        "main()\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, "migrate", "--from", old, "--to", new], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    time.sleep(0.1)
    done = run("migrate", "--from", old, "--to", new, "--json").data
    assert (done["stored"], done["present"], done["verified"]) == (388, 512, True)
    assert everything(two[0]) == everything(two[1])
