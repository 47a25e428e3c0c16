"""The gate: calls go through together, a rework alone."""

from __future__ import annotations

import threading
import time

from memstack.stores.gate import Gate


def test_a_rework_waits_and_makes_wait() -> None:
    """It begins when the last call is out; a call that comes meanwhile waits for its end."""
    gate, told, entered = Gate(), list[str](), threading.Event()

    def call() -> None:
        with gate.together():
            entered.set()
            time.sleep(0.05)
            told.append("call")

    def late() -> None:
        with gate.together():
            told.append("late")

    first = threading.Thread(target=call)
    first.start()
    entered.wait()
    with gate.alone():
        told.append("rework")
        second = threading.Thread(target=late)
        second.start()
        time.sleep(0.05)
        told.append("done")
    first.join()
    second.join()
    assert told == ["call", "rework", "done", "late"]


def test_one_thread_may_do_both() -> None:
    """A call inside a rework, a call inside a call, and a rework inside a call of the same thread do not block."""
    gate = Gate()
    with gate.together(), gate.together(), gate.alone(), gate.together():
        pass
