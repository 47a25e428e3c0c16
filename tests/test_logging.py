"""What is logged: at INFO no text of a memory and no secret, and nobody's logging is set up by an import."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from memstack import MemoryGateway
from memstack.errors import MemstackError
from memstack.testing import OllamaServer

OpenHere = Callable[..., MemoryGateway]

# Words that stand in every text, query, piece of metadata and secret below, and nowhere else.
TEXT: Final = "xyzzy"
SECRET: Final = "hunter2"


class Everything(logging.Handler):
    """Keeps every record that reaches it, as it would be written, with its arguments and its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.written: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(f"{self.format(record)} {record.args!r}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Everything]:
    """Everything that is logged at INFO or above, by loggers that hand records on and by those that do not."""
    handler = Everything()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    silent = [logger for logger in _loggers() if not logger.propagate]
    for logger in (root, *silent):
        logger.addHandler(handler)
    yield handler
    root.setLevel(level)
    for logger in (root, *silent):
        logger.removeHandler(handler)


def _loggers() -> list[logging.Logger]:
    known = logging.getLogger().manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger)]


def assert_discreet(log: Everything, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the log nor what was printed holds a text or a secret."""
    out, errors = capfd.readouterr()
    for written in (*log.written, out, errors):
        assert TEXT not in written.lower()
        assert SECRET not in written.lower()


def use(memory: MemoryGateway) -> None:
    """Every verb of the gateway, with what is good and what is bad."""
    alex = memory.for_user(f"{TEXT}-user")
    message = {"role": "user", "content": f"{TEXT} likes tea", "name": f"{TEXT}-name"}
    (stored,) = alex.add([message], metadata={"note": TEXT}, idempotency_key=TEXT).stored
    alex.add_many([f"{TEXT} {i}" for i in range(20)] + [f"{TEXT}\0"], batch_size=5)
    alex.update(stored.id, text=f"{TEXT} likes coffee", metadata={"note": f"{TEXT}!"})
    assert alex.search(f"{TEXT} tea", filters={"note": {"contains": TEXT}}, explain=True)
    assert alex.search("", limit=3)
    assert alex.get_all(filters={"note": f"{TEXT}!"})
    assert alex.history(stored.id)
    for bad in (
        lambda: alex.add(f"{TEXT}\0"),
        lambda: alex.add(TEXT, metadata={"n": TEXT.encode()}),
        lambda: alex.search(f"{TEXT}\ud800"),
        lambda: alex.get_all(filters={"n": {"gt": TEXT}}),
        lambda: alex.get_all(cursor=TEXT),
        lambda: alex.add(TEXT, infer=True),
        lambda: alex.get(TEXT),
    ):
        with pytest.raises(MemstackError):
            bad()
    alex.delete(stored.id)
    alex.delete_all()
    memory.purge_expired()
    memory.stats()


def test_the_gateway_is_discreet(
    open_here: OpenHere,
    tmp_path: Path,
    log: Everything,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every verb, in success and failure, logs and prints no text, no metadata, no query and no secret at INFO."""
    for name in ("OPENAI_API_KEY", "QDRANT_API_KEY"):
        monkeypatch.setenv(name, f"sk-{SECRET}")
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{SECRET}@localhost/app")
    with open_here(tmp_path) as memory:
        use(memory)
        assert SECRET not in repr(memory)
    assert_discreet(log, capfd)


def test_mem0_is_discreet(
    open_here: OpenHere, tmp_path: Path, log: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    """Mem0's own methods log no text at INFO either, though some of its messages would hold it."""
    mem0: Any = open_here(tmp_path).mem0
    user = {"user_id": "alex"}
    added = mem0.add(f"{TEXT} likes tea", **user, metadata={"note": TEXT}, infer=False)["results"][0]
    mem0.add([{"role": "user", "content": f"{TEXT} walks"}, {"role": "user"}, {"content": TEXT}], **user, infer=False)
    mem0.update(added["id"], text=f"{TEXT} likes coffee")
    assert mem0.search(f"{TEXT} tea", filters=user)["results"]
    assert mem0.get_all(filters=user)["results"]
    assert mem0.history(added["id"])
    mem0.delete(added["id"])
    mem0.delete_all(**user)
    assert_discreet(log, capfd)


def test_mem0_can_be_made_to_tell(open_here: OpenHere, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG Mem0's messages with texts are there, for those who ask: they are lowered, not lost."""
    mem0: Any = open_here(tmp_path).mem0
    added = mem0.add(f"{TEXT} likes tea", user_id="alex", infer=False)["results"][0]
    with caplog.at_level(logging.DEBUG, "mem0.memory.main"):
        mem0.update(added["id"], text=f"{TEXT} likes coffee")
    texts = [record for record in caplog.records if TEXT in record.getMessage()]
    assert texts
    assert {record.levelno for record in texts} == {logging.DEBUG}


_SETUP: Final = """
import json, logging, sys
root = logging.getLogger()
mine = logging.NullHandler()
root.addHandler(mine)
root.setLevel(logging.WARNING)

def state():
    return [[type(handler).__name__ for handler in root.handlers], root.level, root.handlers[0] is mine]

before = state()
import memstack
steps = {"import": state()}
from memstack.providers.builtin import WordLlamaEmbedder
assert len(WordLlamaEmbedder().vectors(["tea"])[0]) == 256
steps["embedder"] = state()
with memstack.open_memory({"vector_store": {"provider": "qdrant", "path": sys.argv[1]}}) as memory:
    memory.add("tea", user_id="alex")
    steps["gateway"] = state()
    memory.mem0.add("coffee", user_id="alex", infer=False)
    steps["mem0"] = state()
assert {"tokenizers", "mem0"} <= set(sys.modules)
print(json.dumps({name: found for name, found in steps.items() if found != before}))
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run some code in a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=env, check=False, timeout=100
    )


def test_the_root_logger_is_left_alone(tmp_path: Path) -> None:
    """Importing memstack, its embedder and Mem0 changes neither the root logger's handlers nor its level."""
    done = run_python(_SETUP, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
    assert done.stderr == ""


_FAILING: Final = """
import logging, sys
from memstack import open_memory
from memstack.errors import ProviderError
llm = {"provider": "ollama", "model": "not-pulled", "host": sys.argv[2]}
with open_memory({"vector_store": {"provider": "qdrant", "path": sys.argv[1]}, "llm": llm}) as memory:
    for configured in (False, True):
        if configured:
            logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(levelname)s")
        try:
            memory.add("xyzzy", user_id="alex")
        except ProviderError:
            continue
        raise SystemExit("the model is not there")
"""


def test_nothing_is_printed_where_no_logging_is_set_up(tmp_path: Path) -> None:
    """What Mem0 logs of an error that is raised anyway goes to the handlers that there are, and nowhere without."""
    with OllamaServer() as server:
        done = run_python(_FAILING, str(tmp_path), server.host)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "mem0.memory.main ERROR" in done.stdout
