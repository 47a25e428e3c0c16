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


def test_a_rework_gets_its_turn() -> None:
    """Under calls that never pause it begins all the same, and so does one that waits behind it."""
    gate, over, told = Gate(), threading.Event(), list[str]()

    def calls() -> None:
        while not over.is_set():
            with gate.together():
                time.sleep(0.001)

    def rework() -> None:
        with gate.alone():
            time.sleep(0.02)  # long enough for the other one to wait
            with gate.together(), gate.alone():
                told.append("rework")

    busy = [threading.Thread(target=calls, daemon=True) for _ in range(8)]
    reworks = [threading.Thread(target=rework, daemon=True) for _ in range(2)]
    for thread in (*busy, *reworks):
        thread.start()
    for thread in reworks:
        thread.join(timeout=20)
    over.set()
    for thread in busy:
        thread.join(timeout=20)
    assert told == ["rework", "rework"]
