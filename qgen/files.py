"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

__all__ = ["check_place", "write_atomically"]


def check_place(path: Path | str) -> None:
    """Refuse a path at which no file can be written, before the work that it is to hold.

    Raises:
        ValueError: the folder does not exist, ``path`` is itself a folder, or its folder takes no files.
    """
    _check_folder(Path(path))
    parent = Path(path).parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise ValueError(f"{path}: the folder {parent} takes no files ({error.strerror})") from None


def _check_folder(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; the name of a file is needed")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")


def write_atomically(path: Path | str, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step: after a crash or a full disk there is the old file or the new one.

    Raises:
        ValueError: the folder does not exist, or ``path`` is itself a folder.
        OSError: the content could not be written; what stood at ``path`` is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/notes", b"new")
    ...     Path(folder, "notes").read_bytes()
    b'new'
    """
    path = Path(path)
    _check_folder(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot be written ({reason}); what stood there is untouched", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
