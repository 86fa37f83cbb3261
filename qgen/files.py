"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import tempfile
from pathlib import Path

__all__ = ["UnwritableError", "check_place", "part_of", "remove_stale_parts", "sync_folder", "write_atomically"]

_PART = re.compile(r"\..+\.[0-9]+\.part")


class UnwritableError(ValueError):
    """There is no place for a file where one is asked for."""


def check_place(path: Path | str) -> None:
    """Refuse a path at which no file can be written, before the work that it is to hold.

    Raises:
        UnwritableError: the folder does not exist, ``path`` is itself a folder, or its folder takes no files.
    """
    _check_folder(Path(path))
    parent = Path(path).parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UnwritableError(f"{path}: the folder {parent} takes no files ({error.strerror})") from None


def _check_folder(path: Path) -> None:
    if path.is_dir():
        raise UnwritableError(f"{path}: is a folder; the name of a file is needed")
    if not path.parent.is_dir():
        raise UnwritableError(f"{path}: the folder {path.parent} does not exist")


def part_of(path: Path) -> Path:
    """A name for what grows into a file, in the same folder: that of no other process, here or on another machine.

    >>> bool(_PART.fullmatch(part_of(Path("notes")).name)), part_of(Path("notes")) == part_of(Path("notes"))
    (True, False)
    """
    return path.with_name(f".{path.name}.{os.getpid()}{secrets.randbelow(10**12):012}.part")


def write_atomically(path: Path | str, content: bytes, *, previous: Path | str | None = None) -> None:
    """Put ``content`` at ``path`` in one step: after a crash or a full disk there is the old file or the new one.

    File and folder are flushed to the disk, so that this holds when the power fails, too.

    Args:
        path: of the file.
        content: of the file.
        previous: where the old file is kept, in the same folder. It goes there when the new one is complete, so that
            at every moment a complete file is at ``path`` or at ``previous``.

    Raises:
        UnwritableError: the folder does not exist, or ``path`` is itself a folder.
        OSError: the content could not be written; what stood at ``path`` is untouched, or the message says where it is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/notes", b"old")
    ...     write_atomically(f"{folder}/notes", b"new", previous=f"{folder}/before")
    ...     Path(folder, "notes").read_bytes(), Path(folder, "before").read_bytes()
    (b'new', b'old')
    """
    path = Path(path)
    _check_folder(path)
    temporary = part_of(path)
    stands = "what stood there is untouched"
    try:
        with temporary.open("wb") as file:
            with contextlib.suppress(OSError):  # where there are no locks, nothing is ever taken for stale
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if previous is not None:
                with contextlib.suppress(FileNotFoundError):  # there is none the first time
                    path.replace(previous)
                    stands = f"what stood there is now {Path(previous).name}"
            temporary.replace(path)
            stands = "the new file is there, but may be lost with the power"
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot be written ({reason}); {stands}", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush to the disk which files a folder has; nothing on a file system that cannot.

    Raises:
        OSError: the disk fails.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def remove_stale_parts(folder: Path | str) -> list[Path]:
    """Remove what processes that died left of :func:`write_atomically`, in a folder and those below it.

    A file that a living process writes, on this machine or on another one, is locked and stays.

    Returns:
        What was removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, ".notes.17.part").touch()
    ...     [path.name for path in remove_stale_parts(folder)]
    ['.notes.17.part']
    """
    removed = []
    for path in Path(folder).rglob(".*.part"):
        if not _PART.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError), path.open("r+b") as file:  # NFS locks what is open for writing
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed.append(path)
    return removed
