"""Third parties add stores and providers from outside, by entry points alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "plugin"
CONFIG = {"vector_store": {"provider": "shelf"}, "embedder": {"provider": "letters"}, "history": {"path": "h.db"}}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the plug-in's wheel, built from its source, was unpacked: what installing a wheel does."""
    folder = tmp_path_factory.mktemp("plugin")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, check=True, cwd=PLUGIN, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def _run(installed: Path, cwd: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def test_a_plugin_works_from_outside(installed: Path, tmp_path: Path) -> None:
    """A store and an embedder of a third party, named in the configuration, store and find."""
    done = _run(
        installed,
        tmp_path,
        f"""
import json, memstack
with memstack.open_memory({CONFIG!r}) as memory:
    alex = memory.for_user("alex")
    alex.add("aaa", metadata={{"n": 1}})
    alex.add(["aab", "zzz"], metadata={{"n": 2}})
    hits = alex.search("aaa", filters={{"OR": [{{"n": {{"gt": 1}}}}, {{"text": {{"contains": "nothing"}}}}]}})
    print(json.dumps([[hit.text, round(hit.score, 3)] for hit in hits]))
    assert alex.add("aaa", metadata={{"n": 1}}).skipped
    assert [item["memory"] for item in memory.mem0.get_all(filters={{"user_id": "alex"}})["results"]]
""",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["aab", 0.894], ["zzz", 0.0]]


def test_options_of_a_plugin_are_checked(installed: Path, tmp_path: Path) -> None:
    """An unknown option of a third party's section is refused with the nearest name, as our own are."""
    config = {**CONFIG, "embedder": {"provider": "letters", "wieght": 2}}
    done = _run(installed, tmp_path, f"import memstack; memstack.open_memory({config!r})")
    assert "weight" in done.stderr.splitlines()[-1]


def test_a_plugins_llm_infers(installed: Path, tmp_path: Path) -> None:
    """With a third party's LLM, add infers by default, and facts that are there already are skipped."""
    done = _run(
        installed,
        tmp_path,
        f"""
import json, memstack
with memstack.open_memory({CONFIG!r}, llm={{"provider": "letters"}}) as memory:
    alex = memory.for_user("alex")
    first = alex.add("I always have tea", metadata={{"category": "preferences"}})
    again = alex.add("Tea, as I said", metadata={{"category": "preferences"}})
    print(json.dumps([[m.text for m in first.stored], first.stored[0].metadata, [s.reason for s in again.skipped]]))
    print(json.dumps([change.event for change in alex.history(first.stored[0].id)]))
""",
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert json.loads(first) == [["Alex drinks tea"], {"category": "preferences"}, ["duplicate"]]
    assert json.loads(second) == ["ADD"]


UNREADABLE = ["I remember!", "", None, '{"memory": null}', '{"memory": [{}]}', "[1]"]


def test_an_answer_that_cannot_be_used_is_failed(installed: Path, tmp_path: Path) -> None:
    """An answer in which bare Mem0 would see nothing to remember is `failed`, and nothing is stored."""
    done = _run(
        installed,
        tmp_path,
        f"""
import logging, memstack
logging.disable()
from memstack_example_plugin.provider import ParrotLLM
with memstack.open_memory({CONFIG!r}, llm={{"provider": "letters"}}) as memory:
    for answer in {UNREADABLE!r}:
        ParrotLLM.answer = answer
        result = memory.add("I always have tea", user_id="alex")
        assert [(item.index, item.retryable, item.answer) for item in result.failed] == [(0, True, str(answer))], result
        assert "letters (parrot)" in result.failed[0].reason
        assert not result.stored and not result.skipped
    assert len(memory.get_all(user_id="alex")) == 0
    ParrotLLM.answer = '{{"memory": []}}'
    print([(item.index, item.reason) for item in memory.add(["hm", "so"], user_id="alex").skipped])
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[(0, 'nothing to remember'), (1, 'nothing to remember')]"


def test_a_plugin_that_fails_is_told_by_its_name(tmp_path: Path) -> None:
    """Whatever its module raises when it is imported, the error is one of the configuration, and names the plug-in."""
    (tmp_path / "failing.py").write_text("{}['nothing']", encoding="utf-8")
    about = tmp_path / "failing-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: failing\nVersion: 1\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[memstack.stores]\nfailing = failing:Store\n", encoding="utf-8")
    done = _run(tmp_path, tmp_path, "import memstack; memstack.open_memory({'vector_store': {'provider': 'failing'}})")
    assert "ConfigError: vector_store.provider: the plug-in 'failing:Store' cannot be loaded (KeyError)" in done.stderr
