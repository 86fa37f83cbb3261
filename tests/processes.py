"""Processes that work together, forked from the test so that nothing is imported again."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable

SECONDS = 150
"""After which processes that still run are taken to hang."""


def together(work: Callable[[], object], size: int = 2) -> list[tuple[int, str]]:
    """Run ``work`` in processes that see what ``torchrun`` tells them.

    Returns:
        Of each its exit status, that of a signal negative, and the error that was let through, empty if none was.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [os.pipe() for _ in range(size)]
    children = []
    for rank in range(size):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os._exit(_done(work, pipes[rank][1]))
        children.append(child)
    deadline, left = time.monotonic() + SECONDS, dict(enumerate(children))
    status = {}
    while left:
        for rank, child in list(left.items()):
            found, code = os.waitpid(child, os.WNOHANG)
            if found:
                status[rank] = os.waitstatus_to_exitcode(code)
                del left[rank]
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    errors = []
    for read, write in pipes:
        os.close(write)
        with os.fdopen(read) as pipe:
            errors.append(pipe.read())
    return [(status[rank], errors[rank]) for rank in range(size)]


def _done(work: Callable[[], object], pipe: int) -> int:
    try:
        work()
    except SystemExit as error:
        return int(error.code or 0)
    except BaseException as error:
        traceback.print_exc()
        os.write(pipe, f"{type(error).__name__}: {error}".encode()[:4000])
        return 1
    return 0
