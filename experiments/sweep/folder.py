"""The folder of a sweep: ``sweep.yaml`` says what it is, ``jobs/ID`` are ordinary run folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.claim import held
from experiments.config import read_config, shipped_names
from experiments.farm import Farm, farm_from
from experiments.provenance import config_hash
from experiments.sweep.grid import MOST_POINTS, Grid, count, joined, read_grids
from experiments.sweep.points import Base
from qgen.files import write_atomically
from qgen.plain import read_yaml_file
from qgen.text import unknown

__all__ = ["JOBS", "LOCK", "SWEEP", "Setup", "is_sweep", "keep", "merged", "read_setup"]

SWEEP, JOBS, LOCK = "sweep.yaml", "jobs", ".sweep.lock"
KEYS = ("config", "grid", "set", "farm")


@dataclass(frozen=True)
class Setup:
    """What a sweep is.

    Args:
        base: the configuration that all jobs share, as it is written, overrides in it.
        grids: what is varied.
        farm: where the jobs run; None if nothing was said of it.
    """

    base: Base
    grids: list[Grid]
    farm: Farm | None = None

    def to_yaml(self) -> str:
        """The file that :func:`read_setup` reads."""
        values: dict[str, Any] = {
            "config": self.base.raw,
            "grid": self.grids[0] if len(self.grids) == 1 else self.grids,
        }
        if self.farm is not None:
            values["farm"] = self.farm.plain()
        return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    @property
    def paths(self) -> list[str]:
        """Everything that is varied, in the order of the grids."""
        return list(dict.fromkeys(path for grid in self.grids for path in grid))


class _Dumper(yaml.SafeDumper):
    """YAML without aliases: what stands at two places is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / SWEEP).is_file()


def read_setup(
    source: str | Path | Mapping[str, Any],
    grid: Any = None,
    overrides: Sequence[str] = (),
    farm: str | Mapping[str, Any] | None = None,
) -> Setup:
    """What a sweep is to be.

    Args:
        source: as :func:`experiments.config.load_config` takes it, or a configuration as keys and values; or a file
            of a sweep, with the keys ``config``, ``grid``, ``set`` and ``farm``, or the folder of a sweep.
        grid: as :func:`~experiments.sweep.grid.read_grids` takes it; over what a file says.
        overrides: ``a.b=value`` each, over those of a file.
        farm: over what a file says; None if neither says anything.

    Returns:
        What is asked for; without grids if nothing says what is varied.

    Raises:
        FileNotFoundError: neither a known name nor a file.
        ValueError: the field is named, with what was found and what is allowed.
    """
    written, where = _written(source), "grid"
    if written is None:
        raw = read_config(source)
        written = {}
    else:
        where = "grid" if isinstance(source, Mapping) else f"{source}: grid"
        raw = _config(written, source)
    overrides = [*_overrides(written.get("set"), source), *overrides]
    grids: list[Grid] = []
    if grid is not None:
        grids = read_grids(grid)
    elif "grid" in written:
        grids = read_grids(written["grid"], where)
    chosen = farm if farm is not None else written.get("farm")
    return Setup(Base(_anywhere(read_config(raw, overrides))), grids, None if chosen is None else farm_from(chosen))


def keep(folder: Path, setup: Setup, resume: bool) -> Setup:
    """Lay down what a sweep is, or add to what is there.

    Args:
        folder: of the sweep.
        setup: what it is to be.
        resume: go on with the sweep that is there.

    Returns:
        What it is now: the grids of both, and the farm that was given, else the one that is there.

    Raises:
        FileExistsError: the folder holds something, and ``resume`` is false.
        ValueError: the folder holds a sweep of another configuration, or a file is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder}: a file is in the way; the name of a folder is needed") from error
    with held(folder / LOCK, wait=True):
        both = merged(folder, setup, resume)
        written = both.to_yaml()
        path = folder / SWEEP
        if not path.exists() or path.read_text(encoding="utf-8") != written:
            write_atomically(path, written.encode())
    return both


def merged(folder: Path, setup: Setup, resume: bool) -> Setup:
    """What :func:`keep` would lay down; nothing is written."""
    path = folder / SWEEP
    if not path.exists():
        others = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
        if others:
            raise FileExistsError(f"{folder}: holds {others[0]!r} but no {SWEEP}; choose another folder with --out")
        if not setup.grids:
            raise ValueError("grid: nothing is varied; give paths and their values, --grid model.layers=2,4,8")
        return setup
    if not resume:
        raise FileExistsError(f"{folder}: holds a sweep; go on with it by --resume, or choose another with --out")
    before = read_setup(folder)
    if config_hash(before.base.experiment) != config_hash(setup.base.experiment):
        raise ValueError(f"{path}: is of another configuration; choose another folder with --out")
    grids = joined(before.grids, setup.grids)
    if (number := count(grids)) > MOST_POINTS:
        raise ValueError(f"{path}: {number} points with those of before; at most {MOST_POINTS} are taken")
    return Setup(before.base, grids, setup.farm or before.farm)


def _written(source: str | Path | Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file of a sweep says; None if it is none."""
    if isinstance(source, Mapping):
        values: Any = source
    elif str(source) in shipped_names():
        return None
    else:
        path = Path(source) / SWEEP if is_sweep(Path(source)) else Path(source)
        values = read_yaml_file(path) if path.is_file() else None
    if not isinstance(values, Mapping) or "models" in values or not {"grid", "config"} & set(values):
        return None
    name = "the sweep" if isinstance(source, Mapping) else source
    for key in values:
        if key not in KEYS:
            raise ValueError(f"{name}: {unknown('key', key, KEYS)}")
    return dict(values)


def _config(written: Mapping[str, Any], source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a file of a sweep holds or names, a file beside it."""
    config = written.get("config")
    if isinstance(config, Mapping):
        return read_config(config)
    if not isinstance(config, str):
        name = "config" if isinstance(source, Mapping) else f"{source}: config"
        raise ValueError(f"{name}: found {config!r}; expected a name, a file, or a configuration")
    if isinstance(source, Mapping) or config in shipped_names():
        return read_config(config)
    return read_config(Path(source).parent / config)


def _overrides(value: Any, source: object) -> list[str]:
    """The overrides of a file of a sweep: a list of texts, or a value for each path."""
    if isinstance(value, Mapping):
        return [f"{path}={json.dumps(one)}" for path, one in value.items()]
    if value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return value or []
    raise ValueError(f"{source}: set: found {value!r}; expected a value for each path")


def _anywhere(raw: dict[str, Any]) -> dict[str, Any]:
    """The configuration with absolute paths: a sweep goes on from anywhere."""
    changed: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, dict):
            inner = _anywhere(value)
            if key == "dataset" and isinstance(inner.get("path"), str):
                inner["path"] = str(Path(inner["path"]).absolute())
            changed[key] = inner
        elif key == "jobs_folder" and isinstance(value, str):
            changed[key] = str(Path(value).absolute())
        else:
            changed[key] = value
    return changed
