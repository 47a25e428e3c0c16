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


def _plugin(folder: Path, name: str, code: str, *, store: str = "", provider: str = "") -> None:
    """A package of one module, installed in a folder, whose entry points of the same name name a class in it."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    about = folder / f"{name}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", encoding="utf-8")
    points = [
        f"[memstack.{kind}]\nodd = {found}\n" for kind, found in (("stores", store), ("providers", provider)) if found
    ]
    (about / "entry_points.txt").write_text("".join(points), encoding="utf-8")


def _opened(site: Path, folder: Path, **sections: str) -> str:
    """What opening a memory with such plug-ins says last of all."""
    config = {"vector_store": {"provider": "shelf"}, **{key: {"provider": name} for key, name in sections.items()}}
    code = f"import memstack; memstack.open_memory({config!r}, history={{'path': 'h.db'}}).close(); print('opened')"
    done = _run(Path(os.pathsep.join([str(folder), str(site)])), folder, code)
    return (done.stdout or done.stderr).splitlines()[-1]


def test_a_plugin_that_fails_is_told_by_its_name(installed: Path, tmp_path: Path) -> None:
    """Whatever its module raises when it is imported, the error is one of the configuration, and names the plug-in."""
    _plugin(tmp_path, "failing", "{}['nothing']", store="failing:Store")
    assert _opened(installed, tmp_path, vector_store="odd") == (
        "memstack.errors.ConfigError: vector_store.provider: the plug-in 'odd' (memstack.stores: failing:Store) "
        "cannot be loaded (KeyError)."
    )


def test_two_plugins_of_one_name_are_refused(installed: Path, tmp_path: Path) -> None:
    """Which of two packages is meant is nobody's to guess: the name is refused, and both are named."""
    _plugin(tmp_path, "one", "from memstack_example_plugin.store import ShelfStore", store="one:ShelfStore")
    _plugin(tmp_path, "two", "from memstack_example_plugin.store import ShelfStore", store="two:ShelfStore")
    told = _opened(installed, tmp_path, vector_store="odd")
    assert "several packages bring the plug-in 'odd' (memstack.stores: one:ShelfStore or two:ShelfStore)" in told


ODD_STORES = """
from memstack_example_plugin.store import ShelfConfig, ShelfStore
from typing import Literal
from memstack.stores.base import Store
class OddConfig(ShelfConfig, frozen=True):
    provider: Literal["odd"] = "odd"
class NoStore:
    config_model = OddConfig
class OddStore(ShelfStore):
    config_model = OddConfig
class NoConfig(OddStore):
    config_model = None
class Unfinished(Store):
    config_model = OddConfig
    upsert = fetch = remove = native_nearest = native_scan = ShelfStore.upsert
    compiler = native_count = read_fingerprint = write_fingerprint = sibling = close = ShelfStore.close
class NeverOpened(Unfinished):
    clear = ShelfStore.clear
class Awaited(OddStore):
    async def upsert(self, rows): pass
    async def tidy(self): pass
    async def native_pages(self, condition, field, **asked): yield []
class Failing(OddStore):
    @classmethod
    def open(cls, config, *, dimensions):
        raise OSError("/home/alex/secret")
class Nothing(OddStore):
    @classmethod
    def open(cls, config, *, dimensions):
        return None
class Bare(OddStore):
    def __init__(self, collection, dimensions):
        super().__init__(collection, dimensions)
        del self.label
class ModedConfig(OddConfig, frozen=True):
    mode: str = "fast"
class Moded(OddStore):
    config_model = ModedConfig
"""
ODD = "the plug-in 'odd' (memstack.stores: stores:"


def test_one_plugin_that_is_found_twice(installed: Path, tmp_path: Path) -> None:
    """Two packages, or two installations of one, that name the same class leave nothing to guess."""
    _plugin(tmp_path, "stores", ODD_STORES, store="stores:Moded")
    _plugin(tmp_path, "again", "", store="stores:Moded")
    assert _opened(installed, tmp_path, vector_store="odd") == "opened"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NoStore", f"{ODD}NoStore) is no subclass of memstack.stores.base.Store. Tell its author: docs/plugins.md"),
        ("NoConfig", f"{ODD}NoConfig) has no `config_model` that is a subclass of memstack.config.StoreConfig"),
        ("Unfinished", f"{ODD}Unfinished) lacks clear of memstack.stores.base.Store"),
        ("NeverOpened", "the store NeverOpened does not support being opened. Its class method `open`"),
        ("Awaited", f"{ODD}Awaited) has coroutine functions: native_pages, tidy, upsert"),
        ("Failing", "StoreError: odd: could not be opened (OSError)."),
        ("Nothing", f"`open` of {ODD}Nothing) gave nothing (None), no store"),
        ("Bare", f"what {ODD}Bare) opens lacks label"),
        ("Moded", "opened"),
    ],
)
def test_a_store_that_is_none_is_told_by_its_name(installed: Path, tmp_path: Path, name: str, told: str) -> None:
    """What a plug-in lacks, or raises when it is opened, is told by its name; a mode of its own is no other name."""
    _plugin(tmp_path, "stores", ODD_STORES, store=f"stores:{name}")
    said = _opened(installed, tmp_path, vector_store="odd")
    assert told in said
    assert "secret" not in said


ODD_PROVIDERS = """
from memstack_example_plugin.provider import LettersConfig
from typing import Literal
from memstack.providers.base import LLM, Embedder, Provider
class OddConfig(LettersConfig, frozen=True):
    provider: Literal["odd"] = "odd"
class OddProvider(Provider):
    name = "odd"
    embedder_config = llm_config = OddConfig
class NoProvider:
    embedder_config = OddConfig
class WithoutVectors(OddProvider):
    @classmethod
    def embedder(cls, config):
        return Mute()
class Mute(Embedder):
    provider, model, dimensions = "odd", "mute", 1
class WithoutAnswers(OddProvider):
    @classmethod
    def llm(cls, config):
        return Silent()
class Silent(LLM):
    provider, model = "odd", "silent"
class Wrong(OddProvider):
    @classmethod
    def embedder(cls, config):
        return print
    llm = embedder
"""
PROVIDER = "the plug-in 'odd' (memstack.providers: providers:"


@pytest.mark.parametrize(
    ("section", "name", "told"),
    [
        ("embedder", "NoProvider", f"{PROVIDER}NoProvider) is no subclass of memstack.providers.base.Provider"),
        ("embedder", "WithoutVectors", f"{PROVIDER}WithoutVectors) is not finished: Can't instantiate abstract class"),
        ("llm", "WithoutAnswers", f"{PROVIDER}WithoutAnswers) is not finished: Can't instantiate abstract class"),
        ("embedder", "Wrong", f"{PROVIDER}Wrong) made a builtin_function_or_method, no memstack.providers.base.Embed"),
        ("llm", "Wrong", f"{PROVIDER}Wrong) made a builtin_function_or_method, no memstack.providers.base.LLM"),
    ],
)
def test_a_provider_that_is_none_is_told_by_its_name(
    installed: Path, tmp_path: Path, section: str, name: str, told: str
) -> None:
    """What makes no embedder or LLM, or one that lacks a method, is refused by its name before anything is opened."""
    _plugin(tmp_path, "providers", ODD_PROVIDERS, provider=f"providers:{name}")
    assert f"ConfigError: {section}.provider: {told}" in _opened(installed, tmp_path, **{section: "odd"})
