"""Removing runs, or their checkpoints: never one in work, never what is not a run's, never beyond a link."""

from __future__ import annotations

import fnmatch
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from experiments.claim import LOCK, claimed, held
from experiments.runs import SWEEP, Entry, Status, entry_of
from qgen.run import CONFIG, RESULTS

__all__ = ["Removal", "planned", "remove"]

JOB_LOCK = ".job.lock"
CHECKPOINTS = "checkpoint*.safetensors"

SEED = "seed-*"
OF_A_RUN = (CONFIG, RESULTS, LOCK, "environment.json", "tracking.json", "report.html", ".*.part")
OF_A_JOB = ("failed.json", "job.json", "starts.jsonl", JOB_LOCK)
OF_A_TRAINING = (CHECKPOINTS, "generator.safetensors", "training.json", "metrics.jsonl", "circuit.*")
DRAWN = ("samples.h5", ".*.part", "jobs*/*.json", "jobs*/*.npz", "jobs*/.*.part")
OF_A_BACKEND = (RESULTS, LOCK, ".*.part", *(f"{SEED}/*/{name}" for name in DRAWN))
FILES = [
    tuple(path.split("/"))
    for path in (
        *OF_A_RUN,
        *OF_A_JOB,
        f"{SEED}/strings.json",
        f"{SEED}/.*.part",
        *(f"{SEED}/*/{name}" for name in (*OF_A_TRAINING, *DRAWN)),
        *(f"backends/*/{name}" for name in OF_A_BACKEND),
        "tensorboard/*/events.out.tfevents.*",
        "tensorboard/*/*/events.out.tfevents.*",
    )
]
"""What a run's folder may hold; a folder that holds anything else is not removed."""


@dataclass(frozen=True)
class Removal:
    """What is to go of a run.

    Args:
        folder: of the run.
        status: that it had when it was chosen; if it has another by then, it stays.
        files: the checkpoints; None for the whole folder.
        size: bytes that become free.
        kept: why it stays after all; empty if it goes.
    """

    folder: Path
    status: Status
    files: tuple[Path, ...] | None
    size: int
    kept: str = ""


def planned(
    entries: Sequence[Entry], statuses: Sequence[Status], *, checkpoints: bool = False, older_than: float = 0.0
) -> list[Removal]:
    """What would go, and what stays though it was asked for, with the reason; nothing is removed.

    Args:
        entries: the runs; sweeps and searches are left alone.
        statuses: of runs that are to go: ``unfinished``, ``failed`` or ``finished``.
        checkpoints: those of finished runs, which are not needed any more.
        older_than: seconds since the last change.
    """
    found = []
    in_work: dict[Path, bool] = {}
    for entry in entries:
        if entry.what != "run" or time.time() - entry.when < older_than:
            continue
        above = entry.folder.parent.parent  # of a job, its sweep: what nobody works on now is worked on next
        if above not in in_work:
            sweep = entry_of(above) if (above / SWEEP).is_file() else None
            in_work[above] = sweep is not None and sweep.status == "in work"
        if in_work[above]:
            continue
        if entry.status in statuses and entry.status not in ("in work", "damaged"):
            foreign = next(_foreign(entry.folder), None)
            why = "" if foreign is None else f"holds {foreign}, which is none of a run's files"
            found.append(Removal(entry.folder, entry.status, None, entry.size, why))
        elif checkpoints and entry.status == "finished":
            files = tuple(sorted(path for path in entry.folder.glob(f"seed-*/*/{CHECKPOINTS}") if _own(path, entry)))
            if files:
                found.append(Removal(entry.folder, "finished", files, sum(path.lstat().st_size for path in files)))
    return found


def remove(removal: Removal) -> str:
    """Remove what was chosen, unless a process works there now or it is not what it was.

    Returns:
        Why it was left, empty if it is gone.

    Raises:
        OSError: a file cannot be removed.
    """
    if removal.kept:
        return removal.kept
    folder = removal.folder
    now = entry_of(folder)
    if now is None or now.status != removal.status:
        return f"is {'gone' if now is None else now.status} now"
    with ExitStack() as stack:
        locks = [*folder.glob(JOB_LOCK), *folder.glob(f"backends/*/{LOCK}")]
        try:
            mine = all(stack.enter_context(held(lock)) for lock in locks)
            stack.enter_context(claimed(folder))
        except BlockingIOError:
            mine = False
        except ValueError as error:
            return f"cannot be held ({error})"
        if not mine:
            return "is in work now"
        if (folder / RESULTS).exists() != (removal.status == "finished"):
            return "has changed since"
        if removal.files is not None:
            for path in removal.files:
                path.unlink(missing_ok=True)
            return ""
        if (foreign := next(_foreign(folder), None)) is not None:
            return f"holds {foreign}, which is none of a run's files"
        _remove_folder(folder)
    return ""


def _remove_folder(folder: Path) -> None:
    """Remove a run; what makes it one goes last, so that a removal that breaks off can be repeated."""
    last = (LOCK, JOB_LOCK, CONFIG, "environment.json")
    for path in sorted(folder.iterdir(), key=lambda path: path.name in last):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # of a link it removes the link
        elif path.name != LOCK:
            path.unlink()
    (folder / LOCK).unlink()
    folder.rmdir()


def _own(path: Path, entry: Entry) -> bool:
    """Whether a file is one, in folders of the run's own."""
    return path.is_file() and not any(one.is_symlink() for one in (path, path.parent, path.parent.parent))


def _foreign(folder: Path, above: tuple[str, ...] = ()) -> Iterator[str]:
    """What in a run's folder is none of its files; of a folder of others its name, a link is as a file."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda one: one.name)
    for one in entries:
        path = (*above, one.name)
        inner = one.is_dir(follow_symlinks=False)
        fitting = (names for names in FILES if (len(names) > len(path) if inner else len(names) == len(path)))
        if not any(all(map(fnmatch.fnmatchcase, path, names)) for names in fitting):
            yield "/".join(path)
        elif inner:
            yield from _foreign(Path(one.path), path)
