"""What a worker does before its first job: it takes no more threads than it was given, and one GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from typing import Any

__all__ = ["THREAD_VARIABLES", "limit_threads", "prepare"]

THREAD_VARIABLES = {
    "torch": ("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    "numpy": ("OPENBLAS_NUM_THREADS",),
    "numba": ("NUMBA_NUM_THREADS",),
}
"""By package, the environment variables that it or its libraries read when they are loaded."""


def prepare(threads: int, gpu: str | None) -> None:
    """Make this process a worker of the process that started it.

    It leaves Ctrl-C, which a terminal sends to all processes, to the one that started it, and ends when that one ends,
    so that nobody works on in a folder that is resumed by others.

    Args:
        threads: most that torch, numba and the linear algebra libraries use.
        gpu: the one that this process sees, as in ``CUDA_VISIBLE_DEVICES``; None for no change.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    limit_threads(threads)


def limit_threads(threads: int) -> None:
    """Cap the threads of numerical libraries, by environment variables for those that are not loaded yet."""
    for package, names in THREAD_VARIABLES.items():
        if package not in sys.modules:
            os.environ.update(dict.fromkeys(names, str(threads)))
    loaded: dict[str, Any] = {name: sys.modules[name] for name in THREAD_VARIABLES if name in sys.modules}
    if "numba" in loaded:  # first: it sets the threads of OpenMP anew
        loaded["numba"].set_num_threads(min(threads, loaded["numba"].config.NUMBA_NUM_THREADS))
    if loaded:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        threadpool_limits(threads)
    if "torch" in loaded:
        loaded["torch"].set_num_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
