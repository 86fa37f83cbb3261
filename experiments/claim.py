"""Who works where: files that one process at a time holds, here or on any machine that shares the folder."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK", "claimed", "held", "in_work"]

LOCK = ".lock"

GLANCES = 10
"""How often a lock is tried for: one that is only looked at is free again at once."""

GLANCE_SECONDS = 0.01


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a file for this process; the hold ends with the block, or with the process, however that ends.

    Args:
        path: of the file, which is made if it is not there and stays.
        wait: until another process lets go of it.

    Yields:
        Whether it is held by this process; False if another one has it.

    Raises:
        ValueError: a link, or what is no file, is in its place.
        OSError: the file cannot be made, or the file system has no locks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, ".claim")
    ...     with held(path) as mine, held(path) as again:
    ...         print(mine, again)
    True False
    """
    lock = _opened(path)
    try:
        if wait:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield wait or _taken(lock)
    finally:
        os.close(lock)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process; the hold ends with the process, however that ends.

    Raises:
        ValueError: there is a file instead, or the lock is no file.
        BlockingIOError: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder}: a file is in the way; the name of a folder is needed") from error
    with os.fdopen(_opened(folder / LOCK), "r+") as lock:
        if not _taken(lock.fileno()):
            raise BlockingIOError(f"{folder}: in use by process {lock.read().strip()[:20] or '(unknown)'}")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def in_work(folder: Path, name: str = LOCK) -> bool:
    """Whether a process holds the folder, or another lock in it; looking takes nothing from anyone.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with claimed(Path(place)):
    ...         held = in_work(Path(place))
    ...     held, in_work(Path(place))
    (True, False)
    """
    try:
        lock = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no lock, or none that says anything
        return False
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            return False
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _opened(path: Path) -> int:
    """The file of a lock, made if it is not there; what a link leads to is never touched."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path}: is no file of the lab; remove it")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _taken(lock: int) -> bool:
    for left in range(GLANCES, 0, -1):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left > 1:
                time.sleep(GLANCE_SECONDS)
        else:
            return True
    return False
