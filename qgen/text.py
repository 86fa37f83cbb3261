"""Names in the lines that tell a user of a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["is_folder_name", "listed", "unknown"]


def listed(names: Iterable[str], most: int = 16) -> str:
    """Names in a row; of more than ``most`` the first and the last, with their number.

    >>> listed(["a", "b"])
    'a, b'
    >>> listed(["gan", "gan, equal size"])
    "gan, 'gan, equal size'"
    >>> listed((f"voxel_{i}" for i in range(15625)), most=4)
    'voxel_0, voxel_1, voxel_2, ..., voxel_15624 (15625 in all)'
    """
    known = list(names)
    if len(known) > most:
        known = [*known[: most - 1], "...", f"{known[-1]} ({len(known)} in all)"]
        return ", ".join(known)
    return ", ".join(repr(name) if "," in name else name for name in known)


def is_folder_name(name: str) -> bool:
    """Whether a name can be that of a folder in a run's folder.

    >>> is_folder_name("born machine, 1 %"), is_folder_name("a/b"), is_folder_name(".hidden")
    (True, False, False)
    """
    return name.isprintable() and name[:1] not in ("", ".") and not any(c in name for c in "/\\")


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The line that tells of a name that does not exist, with the nearest one that does.

    >>> unknown("metric", "corelation", ["mmd", "correlation"])
    "metric 'corelation' is unknown; did you mean 'correlation'? Known: mmd, correlation"
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{what} {name!r} is unknown; {hint}Known: {listed(names)}"
