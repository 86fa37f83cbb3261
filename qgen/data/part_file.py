"""``PartFile``: a file that grows beside its place and takes it when it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qgen.files import check_place, part_of, sync_folder

__all__ = ["PartFile", "part_file"]


class PartFile(io.RawIOBase):
    """A file to be written that keeps its first failure to itself, so that a library can still close it.

    HDF5 writes when it likes, also while it closes a file, where an exception has nowhere to go. After the failure all
    that is written is dropped; :meth:`check` and the end of :func:`part_file` tell.

    Args:
        path: of the file; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self.error: OSError | None = None
        """The first failure."""

    def fileno(self) -> int:
        """Of the open file."""
        return self._file.fileno()

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Bytes into a buffer."""
        return self._file.readinto(buffer) or 0

    def write(self, content: Any) -> int:
        """All of the bytes."""
        view = memoryview(content).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += self._file.write(view[done:])
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """A file of this size."""
        if self.error is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self.error = error
        return self.tell() if size is None else size

    def check(self) -> None:
        """Tell a failure.

        Raises:
            OSError: something could not be written.
        """
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Another place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()

    def close(self) -> None:
        """Of the file, nothing more is written."""
        self._file.close()
        super().close()


@contextmanager
def part_file(path: str | Path) -> Iterator[PartFile]:
    """A file that appears under its name, on the disk for good, when the block ends; if that fails nothing changes.

    It grows as ``.NAME.NUMBER.part`` in the same folder, locked; the number begins with that of the process. What a
    process that died left of an earlier attempt at this name is removed first.

    Raises:
        UnwritableError: the folder does not exist or takes no files, or ``path`` is a folder.
        OSError: the file cannot be written; what stood at ``path`` is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with part_file(f"{folder}/numbers") as file:
    ...         _ = file.write(b"123")
    ...         before = Path(folder, "numbers").exists()
    ...     before, Path(folder, "numbers").read_bytes()
    (False, b'123')
    """
    path = Path(path)
    check_place(path)
    _remove_what_the_dead_left(path)
    part = part_of(path)
    file = PartFile(part)
    try:
        with contextlib.suppress(OSError):  # where there are no locks, nothing is ever taken for dead
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield file
            file.check()
            os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        except BaseException as error:
            failed = file.error or (error if isinstance(error, OSError) and error.filename == str(part) else None)
            if failed is None:
                raise
            reason = f"cannot be written ({failed.strerror or failed}); what stood there is untouched"
            raise OSError(failed.errno, reason, str(path)) from error
    finally:
        file.close()
        part.unlink(missing_ok=True)


def _remove_what_the_dead_left(path: Path) -> None:
    left = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+\.part")
    for part in path.parent.iterdir():
        if left.fullmatch(part.name) and part.is_file():
            with contextlib.suppress(OSError), part.open("r+b") as file:  # NFS locks what is open for writing
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
