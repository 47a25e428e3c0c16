"""What holds of a Chroma server's client alone."""

from __future__ import annotations

import gc
import http.server
import threading
import warnings
from pathlib import Path

import pytest

from memstack import open_memory
from memstack.errors import StoreError

pytest.importorskip("chromadb")


def test_closing_closes_its_connections(tmp_path: Path) -> None:
    """No connection outlives `close`, with several memories open at once."""
    from memstack.testing.servers import chroma_server

    with chroma_server(tmp_path) as server:
        config = {"vector_store": {"provider": "chroma", **server}, "history": {"path": ":memory:"}}
        memories = [open_memory(config) for _ in range(3)]
        for memory in memories:
            memory.add("I drink tea", user_id="alex")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            while memories:
                memories.pop().close()
            gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


class _Dumb(http.server.BaseHTTPRequestHandler):
    """Answers the first question of a client, and no other until the test is over."""

    over: threading.Event

    def do_GET(self) -> None:
        if not self.path.endswith("/auth/identity"):
            self.over.wait()
            return
        content = b'{"user_id": "", "tenant": "default_tenant", "databases": ["default_database"]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the library
        """Say nothing."""


@pytest.mark.timeout(60)
def test_a_server_that_falls_silent_while_it_is_opened() -> None:
    """None of the questions that the client begins with waits for longer than `timeout`."""
    over = threading.Event()
    handler = type("Dumb", (_Dumb,), {"over": over})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            section = {"provider": "chroma", "host": "127.0.0.1", "port": server.server_port, "timeout": 1}
            with pytest.raises(StoreError) as caught:
                open_memory({"vector_store": section, "history": {"path": ":memory:"}})
        finally:
            over.set()
            server.shutdown()
            thread.join()
    assert caught.value.retryable
    assert "vector_store.timeout" in str(caught.value)


def test_closing_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """What chromadb keeps of a client goes with it, when it is closed and when it was refused."""
    from chromadb.api.shared_system_client import SharedSystemClient

    from memstack.testing.servers import chroma_server

    kept = vars(SharedSystemClient)["_identifier_to_system"]
    before = set(kept)
    with chroma_server(tmp_path) as server:
        section = {"provider": "chroma", **server}
        open_memory({"vector_store": section, "history": {"path": ":memory:"}}).close()
        assert set(kept) == before
        with pytest.raises(StoreError, match="no such tenant"):
            open_memory({"vector_store": {**section, "tenant": "nobody"}, "history": {"path": ":memory:"}})
        assert set(kept) == before
