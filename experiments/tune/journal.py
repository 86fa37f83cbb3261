"""A journal of optuna's that survives the death of a process that writes to it.

This module imports optuna, which takes a second: import it inside functions.
"""

from __future__ import annotations

import fcntl
import io
import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

__all__ = ["open_journal"]


class _Flock(JournalFileOpenLock):
    """The journal's own file, locked: a dead process holds nothing, and an incomplete last line is of a dead one."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._file: io.BufferedRandom | None = None

    def acquire(self) -> bool:
        """Wait for the lock; then cut off what a process that died left behind the last whole line."""
        file = self._path.open("rb+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def release(self) -> None:
        """Drop the lock."""
        if self._file is not None:
            self._file.close()


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file, of JSON lines, which is made if it is not there.

    Raises:
        ValueError: a line of it is damaged.
        OSError: it cannot be read or written.
    """
    backend = JournalFileBackend(str(path), lock_obj=_Flock(path))
    try:
        return JournalStorage(backend)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path}: damaged ({found[:200]}); put a copy of it back, or search anew in another folder (--out)"
        ) from error
