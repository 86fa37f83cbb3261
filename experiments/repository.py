"""The git commit of a folder, asked for so that the repository cannot do anything: it may be a stranger's.

Configuration, hooks, filters and monitors of a repository can name programs that git starts, so no git command is run
under them. The commit is read from the files of the repository; whether files differ from it is asked of git with a
configuration of our own, in which nothing is set.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TypedDict

__all__ = ["Commit", "commit_of", "top_of"]

SECONDS = 1.0
"""Longest that git is waited for; of larger repositories it stays unknown whether their files differ."""

MOST_BYTES = 16_000_000
"""Of a file of a repository that is read."""

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
REF = re.compile(r"refs(?:/(?!\.)[^/\s\x00-\x1f\\]+)+")


class Commit(TypedDict):
    """A commit, and whether tracked files differ from it; None if that could not be found out."""

    commit: str
    dirty: bool | None


def commit_of(folder: Path | str) -> Commit | None:
    """The commit that is checked out where a folder is; None without git's files. Never fails.

    Args:
        folder: any folder of a working tree.

    >>> commit_of("/") is None
    True
    """
    try:
        top = top_of(folder)
        if top is None or (own := _own_folder(top)) is None:
            return None
        shared = _shared_folder(own)
        commit = _checked_out(own, shared)
        return None if commit is None else {"commit": commit, "dirty": _dirty(top, own, shared, commit)}
    except (OSError, ValueError):
        return None


def top_of(folder: Path | str) -> Path | None:
    """The folder of the working tree in which a folder is, None if it is in none."""
    place = Path(folder).resolve()
    return next((one for one in (place, *place.parents) if (one / ".git").exists()), None)


def _text(path: Path) -> str:
    """A small file; nothing of what is no regular file, which may never end."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _own_folder(top: Path) -> Path | None:
    """The folder of git's files: ``.git``, or of a further working tree what a file of that name points to."""
    place = top / ".git"
    if place.is_dir():
        return place
    pointer = _text(place)
    return (top / pointer.removeprefix("gitdir:").strip()) if pointer.startswith("gitdir:") else None


def _shared_folder(own: Path) -> Path:
    """Where objects and branches are: elsewhere for a further working tree."""
    pointer = _text(own / "commondir")
    return own / pointer if pointer else own


def _checked_out(own: Path, shared: Path) -> str | None:
    """The commit that ``HEAD`` is, by way of the branch that it names; None before the first commit."""
    head = _text(own / "HEAD")
    if COMMIT.fullmatch(head):
        return head
    ref = head.removeprefix("ref:").strip()
    if not head.startswith("ref:") or not REF.fullmatch(ref):
        return None
    for folder in (own, shared):
        if COMMIT.fullmatch(found := _text(folder / ref)):
            return found
    for line in _text(shared / "packed-refs").splitlines():
        found, _, name = line.partition(" ")
        if name == ref and COMMIT.fullmatch(found):
            return found
    return None


def _dirty(top: Path, own: Path, shared: Path, commit: str) -> bool | None:
    """Whether tracked files differ from the commit, asked of git under a configuration of our own."""
    git = shutil.which("git")
    if git is None:
        return None
    with tempfile.TemporaryDirectory(prefix="qgen-git-") as made:
        ours = Path(made)
        (ours / "refs").mkdir()
        (ours / "objects").mkdir()
        (ours / "HEAD").write_text(commit + "\n")
        long = "\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n"
        (ours / "config").write_text("[core]\n" + (long if len(commit) > 40 else "\trepositoryformatversion = 0\n"))
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        variables |= {
            "GIT_DIR": made,
            "GIT_WORK_TREE": str(top),
            "GIT_INDEX_FILE": str(own / "index"),
            "GIT_OBJECT_DIRECTORY": str(shared / "objects"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }
        asked = [git, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--no-renames"]
        try:
            done = subprocess.run(
                asked,
                cwd=top,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
    return bool(done.stdout) if done.returncode == 0 else None
