"""``import`` of lines of JSON."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.cli import sources
from memstack.cli.sources import open_source
from memstack.errors import ProviderError
from memstack.providers.builtin import WordLlamaEmbedder
from tests.cli.conftest import Runner

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines: text as it is, bytes likewise, everything else as JSON."""

    def written(*lines: Any, end: bytes = b"\n", name: str = "lines.jsonl") -> str:
        content = [
            line if isinstance(line, bytes) else line.encode() if isinstance(line, str) else json.dumps(line).encode()
            for line in lines
        ]
        (tmp_path / name).write_bytes(end.join([*content, b""]))
        return name

    return written


def _texts(run: Runner, user: str) -> list[str]:
    return [memory["text"] for memory in run("--json", "list", "--all", "--user", user).data["memories"]]


def test_every_field_arrives(run: Runner, write: Write, alex: str) -> None:
    """Each field of a line is stored; what a line leaves out has its default."""
    full = {
        "user_id": alex,
        "agent_id": "bot",
        "run_id": "r1",
        "role": "user",
        "content": "I drink tea",
        "name": "Alexandra",
        "occurred_at": "2026-01-31T08:00:00Z",
        "metadata": {"cups": 2},
        "expires_at": "2999-01-01",
        "valid_from": "2026-01-01",
    }
    done = run(
        "--json", "import", write(full, {"user_id": alex, "content": "I drink milk", "name": None, "metadata": None})
    )
    assert done.code == 0, done.err
    assert (done.data["format"], done.data["read"], done.data["stored"]) == ("jsonl", 2, 2)
    milk, tea = run("--json", "list", "--user", alex).data["memories"]
    assert (tea["agent_id"], tea["run_id"], tea["metadata"]) == ("bot", "r1", {"cups": 2})
    assert (tea["source"][0]["name"], tea["occurred_at"]) == ("Alexandra", "2026-01-31T08:00:00+00:00")
    assert (tea["expires_at"][:4], tea["valid_from"][:10]) == ("2999", "2026-01-01")
    assert milk["source"][0] == {"role": "user", "position": 0}


def test_malformed_lines_fail_alone(run: Runner, write: Write, alex: str, tmp_path: Path) -> None:
    """Each line that cannot be stored is reported with its number and reason; all others are stored."""
    good = {"user_id": alex, "content": "good"}
    bad: list[Any] = [
        "{",
        "[1, 2]",
        "null",
        b"\xff\xfe",
        {"user_id": alex},
        {"content": "whose?"},
        {"user_id": " ", "content": "x"},
        {"user_id": 7, "content": "x"},
        {"user_id": alex, "content": " "},
        {"user_id": alex, "content": 7},
        {"user_id": alex, "content": "x", "role": "king"},
        {"user_id": alex, "content": "x", "occurred_at": "yesterday"},
        {"user_id": alex, "content": "x", "expires_at": "tomorrow"},
        {"user_id": alex, "content": "x", "metadata": [1]},
        {"user_id": alex, "content": "x", "metadata": {"user_id": "sam"}},
        {"user_id": alex, "content": "x", "contnt": "y"},
        '{"user_id": "x", "content": "x", "metadata": {"n": NaN}}',
        '{"user_id": "x", "content": "x", "metadata": {"n": ' + "9" * 5000 + "}}",
        '{"user_id": "x", "content": "' + "\\ud800" + '"}',
        '{"user_id": "x", "content": "a' + "\\u0000" + '"}',
        "[" * 100_000,
        {"user_id": alex, "content": "x" * 100_001},
    ]
    path = write(good, *bad, {"user_id": alex, "content": "good too"})
    done = run("--json", "import", path, "--failures", "failures.jsonl", "--batch-size", "4")
    assert done.code == 3
    assert (done.data["read"], done.data["stored"], done.data["failed"]) == (len(bad) + 2, 2, len(bad))
    assert [failure["line"] for failure in done.data["failures"]] == list(range(2, 22))
    written = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [failure["line"] for failure in written] == list(range(2, len(bad) + 2))
    assert all(failure["reason"] for failure in written)
    assert "Did you mean 'content'?" in written[15]["reason"]
    assert sorted(_texts(run, alex)) == ["good", "good too"]

    shown = run("import", path)
    assert shown.code == 3
    assert "line 2: is not JSON" in shown.out
    assert "and 2 more: all of them with --failures FILE" in shown.out


@pytest.mark.parametrize(
    ("field", "way_out"),
    [("colour", "Put it into `metadata`."), ("hash", "Leave it out."), ("id", "Leave it out.")],
)
def test_the_way_out_of_an_unknown_field_is_one(run: Runner, write: Write, alex: str, field: str, way_out: str) -> None:
    """What a line of JSON cannot have is sent into the metadata only where metadata can have it."""
    line = {"user_id": alex, "content": "tea", field: "x"}
    (failure,) = run("--json", "import", write(line)).data["failures"]
    assert way_out in failure["reason"]
    moved = {"user_id": alex, "content": "tea", "metadata": {field: "x"}}
    assert run("--json", "import", write(moved)).data["stored"] == (field == "colour")


def test_roles(run: Runner, write: Write, alex: str) -> None:
    """Roles that are not remembered are skipped and counted; --role names those that are stored."""
    lines = [{"user_id": alex, "role": role, "content": f"said by {role}"} for role in ("user", "assistant", "tool")]
    first = run("--json", "import", write(*lines))
    assert (first.code, first.data["stored"], first.data["skipped"]) == (0, 1, {"role": 2})
    assert "--role user --role assistant" in run("import", write(*lines)).out
    second = run("--json", "import", write(*lines), "--role", "user", "--role", "assistant")
    assert (second.data["stored"], second.data["skipped"]) == (1, {"role": 1, "duplicate": 1})


def test_a_second_import_stores_nothing(run: Runner, write: Write, alex: str) -> None:
    """What is there already is skipped, equal lines of one file too, and what has expired."""
    lines = [
        {"user_id": alex, "content": "tea"},
        {"user_id": alex, "content": "milk", "metadata": {"cups": 2}},
        {"user_id": alex, "content": "tea"},
        {"user_id": alex, "content": "beer", "expires_at": "2020-01-01"},
    ]
    first = run("--json", "import", write(*lines))
    assert (first.data["stored"], first.data["skipped"]) == (2, {"duplicate": 1, "expired": 1})
    second = run("--json", "import", write(*lines))
    assert (second.code, second.data["stored"], second.data["skipped"]) == (0, 0, {"duplicate": 3, "expired": 1})
    assert len(_texts(run, alex)) == 2


def test_lines_from_standard_input(run: Runner, alex: str) -> None:
    """``-`` reads standard input."""
    done = run("--json", "import", "-", stdin=json.dumps({"user_id": alex, "content": "Grüße"}) + "\n")
    assert (done.code, done.data["stored"]) == (0, 1)
    assert _texts(run, alex) == ["Grüße"]


def test_options_hold_for_lines_that_do_not_say(run: Runner, write: Write, alex: str) -> None:
    """--user, --agent and --run fill what a line leaves out; a line that names another owner fails."""
    path = write({"content": "tea"}, {"user_id": "sam", "content": "milk"}, {"run_id": "r2", "content": "beer"})
    done = run("--json", "import", path, "--user", alex)
    assert (done.data["stored"], done.data["failed"]) == (2, 1)
    assert done.data["failures"][0]["line"] == 2
    assert run("--json", "list", "--user", alex, "--run", "r2").data["memories"][0]["text"] == "beer"


def test_a_line_of_nobody_is_told_what_to_pass(run: Runner, write: Write) -> None:
    """The way out is a field of the line or an option, and no argument of Python's."""
    done = run("--json", "import", write({"content": "tea"}, {"content": "milk", "user_id": None}))
    assert done.data["failed"] == 2
    for failure in done.data["failures"]:
        assert failure["reason"].startswith("scope: nobody is named. ")
        assert "user_id, agent_id or run_id, or pass --user, --agent or --run." in failure["reason"]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"content": "a"}\n{"content": "b"}\n',
        b'{"content": "a"}\r\n\r\n{"content": "b"}',
        b'\n\n  \n{"content": "a"}\n\t\n{"content": "b"}\n\n',
    ],
    ids=["byte order mark", "carriage returns", "blank lines"],
)
def test_forms_of_lines(content: bytes) -> None:
    """A byte order mark, carriage returns, blank lines and a missing last line break change nothing."""
    source = open_source(io.BytesIO(content), "x")
    assert [entry.item for entry in source.entries()] == [{"content": "a"}, {"content": "b"}]
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbers = [number for number, line in enumerate(lines, 1) if b"content" in line]
    source = open_source(io.BytesIO(content), "x")
    assert [entry.line for entry in source.entries()] == numbers


def test_a_list_in_the_first_line_is_a_malformed_line() -> None:
    """Lines that begin with one that is a list are lines all the same."""
    source = open_source(io.BytesIO(b'[1]\n{"content": "a"}\n\n{"content": "b"}\n'), "x")
    entries = list(source.entries())
    assert [(entry.line, entry.item is None) for entry in entries] == [(1, True), (2, False), (4, False)]


@pytest.mark.parametrize("content", ["[\n{}", '[{"content": "a"},\n{"content": "b"}]', "[1,\n2]"])
def test_other_documents_are_refused(run: Runner, write: Write, content: str) -> None:
    """A JSON list that is not LoCoMo's, whole or broken, is refused with the way out."""
    done = run("--json", "import", write(content))
    assert (done.code, done.error["type"]) == (2, "InvalidInput")
    assert "jq -c" in done.error["message"]


@pytest.mark.parametrize("content", ["", "\n \n", "[]"])
def test_nothing_to_import(run: Runner, write: Write, content: str) -> None:
    """An empty file is no error."""
    done = run("--json", "import", write(content))
    assert (done.code, done.data["read"]) == (0, 0)


class _Counting(io.BytesIO):
    """A stream that tells how much of it was read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.taken = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(-1 if size is None else size)
        self.taken += len(line)
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("lines are not read whole")


def test_lines_are_streamed() -> None:
    """No more of a file is read than was asked for: its size does not matter."""
    line = json.dumps({"content": "x" * 100}).encode() + b"\n"
    stream = _Counting(line * 10_000)
    entries = open_source(stream, "x").entries()
    for count in range(1, 100):
        assert next(entries).line == count
        assert stream.taken <= len(line) * (count + 1)


def test_a_line_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit fails without being held in memory; the next one is read."""
    monkeypatch.setattr(sources, "_LONGEST_LINE", 1000)
    content = b'{"content": "' + b"x" * 1_000_000 + b'"}\n{"content": "a"}\n' + b"y" * 5000
    entries = list(open_source(io.BytesIO(content), "x").entries())
    assert [(entry.line, entry.item) for entry in entries] == [(1, None), (2, {"content": "a"}), (3, None)]
    assert entries[-1].done == len(content)


@given(st.lists(st.binary(max_size=60) | st.text(max_size=30).map(str.encode), max_size=8))
def test_no_content_ends_the_reading(lines: list[bytes]) -> None:
    """Whatever bytes stand in a file of lines, each line is an item or a problem."""
    content = b'{"content": "first"}\n' + b"\n".join(lines)
    entries = list(open_source(io.BytesIO(content), "x").entries())
    assert len(entries) == 1 + sum(bool(line.strip()) for line in b"\n".join(lines).split(b"\n"))
    assert all((entry.item is None) == bool(entry.problem) for entry in entries)


def test_a_dead_engine_stops_the_import(run: Runner, write: Write, alex: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that fail whole are reported line by line; after five for the same reason the import gives up.

    Run again when the engine is back, it goes on.
    """
    alive = WordLlamaEmbedder.vectors
    calls = 0

    def dying(self: WordLlamaEmbedder, texts: list[str]) -> list[list[float]]:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise ProviderError("builtin", "model", "is dead", retryable=True)
        return alive(self, texts)

    path = write(*({"user_id": alex, "content": f"number {i}"} for i in range(100)))
    with monkeypatch.context() as patch:
        patch.setattr(WordLlamaEmbedder, "vectors", dying)
        done = run("--json", "import", path, "--batch-size", "5")
    assert done.code == 3
    assert (done.data["read"], done.data["stored"], done.data["failed"]) == (35, 10, 25)
    assert "is dead" in done.data["stopped"]
    assert [failure["line"] for failure in done.data["failures"]] == list(range(11, 31))
    assert done.data["failures"][0]["retryable"] is True
    again = run("--json", "import", path)
    assert (again.code, again.data["stored"], again.data["skipped"]) == (0, 90, {"duplicate": 10})


def test_the_failures_file_is_not_the_source(run: Runner, write: Write) -> None:
    """--failures cannot name the file that is imported, nor a place that cannot be written."""
    path = write({"user_id": "alex", "content": "tea"})
    before = Path(path).read_bytes()
    assert run("import", path, "--failures", f"./{path}").code == 2
    assert Path(path).read_bytes() == before
    assert run("import", path, "--failures", "missing/failures.jsonl").code == 2


def test_places_are_unique(run: Runner, write: Write) -> None:
    """Many lines of many users in small and large batches end in as many memories."""
    users = [f"user-{uuid.uuid4()}" for _ in range(3)]
    lines = [{"user_id": user, "content": f"number {i}"} for i in range(20) for user in users]
    done = run("--json", "import", write(*lines), "--batch-size", "7")
    assert done.data["stored"] == 60
    for user in users:
        assert sorted(_texts(run, user)) == sorted(f"number {i}" for i in range(20))
