"""The command ``memstack``, and ``python -m memstack``: the command line, in a process of its own."""

import gc
import os
from typing import Final

__all__ = ["main"]

_COLLECT_AFTER: Final = 50_000  # objects more: Python's 700 has it looking through what was imported time and again


def main() -> None:
    """Run the command line, and leave with its exit code.

    When Python ends, it looks for garbage among all that was imported, which takes a tenth of a second and more; the
    process gives its memory back anyway. What has to be closed was closed by whoever opened it.
    """
    gc.set_threshold(_COLLECT_AFTER)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads of NumPy for products of matrices
    from memstack.cli import main as run  # noqa: PLC0415  # the imports are what takes time

    try:
        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
