"""Where the numbers of a run come from: configuration, commit, versions, data, seeds and machine.

A run may be taken up several times, elsewhere and with other versions: each time is a session with facts of its own.
Times are for display alone. No name of a user or a host is noted.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from experiments.experiment import Experiment
from experiments.repository import commit_of, top_of
from qgen.data import Dataset
from qgen.run import ENVIRONMENT, read_json

__all__ = ["changes", "config_hash", "dotted", "ended", "environment", "provenance", "provenance_facts"]

PACKAGES = (
    "qgen-hep",
    "torch",
    "numba",
    "numpy",
    "scipy",
    "scikit-learn",
    "zuko",
    "pennylane",
    "qiskit",
    "qiskit-aer",
    "qiskit-ibm-runtime",
    "mthree",
    "h5py",
    "pyarrow",
    "pydantic",
    "safetensors",
    "optuna",
    "distributed",
    "dask-jobqueue",
    "geant4_pybind",
)

SHA256, SESSIONS, DATA = "config_sha256", "sessions", "data"


def config_hash(experiment: Experiment) -> str:
    """SHA-256 of the resolved configuration, as canonical JSON: of equal experiments it is the same.

    Args:
        experiment: with every default filled in.

    >>> from experiments.config import load_config
    >>> small = load_config("quickstart-muon")
    >>> config_hash(small) == config_hash(load_config("quickstart-muon")), len(config_hash(small))
    (True, 64)
    >>> config_hash(small) == config_hash(load_config("quickstart-muon", ["seeds=[1]"]))
    False
    """
    text = json.dumps(experiment.plain(), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def environment(device: torch.device, dataset: Dataset | None = None) -> dict[str, Any]:
    """Versions, commits, machine and data, JSON values.

    Args:
        device: where models train.
        dataset: the events.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
        **_commits(),
        DATA: None if dataset is None else {"events": len(dataset), "sha256": dataset.checksum, **dataset.provenance},
    }


def provenance(experiment: Experiment, device: torch.device, dataset: Dataset, folder: Path) -> dict[str, Any]:
    """What ``environment.json`` is to hold while a run works: the facts of now, and of every session before.

    Args:
        experiment: that is run.
        device: where models train.
        dataset: its events.
        folder: of the run; what stands there of earlier sessions is kept.

    Raises:
        ValueError: the events are not those that the run began with, or what stands there is damaged.
    """
    before = read_json(folder / ENVIRONMENT) if (folder / ENVIRONMENT).exists() else {}
    before = before if isinstance(before, dict) else {SESSIONS: None}
    earlier = {key: value for key, value in before.items() if key != DATA}  # of a version that knew no sessions
    sessions = before.get(SESSIONS, [{"started": None, "ended": None, **earlier}] if earlier else [])
    if not isinstance(sessions, list) or not all(isinstance(one, dict) for one in sessions):
        raise ValueError(f"{folder / ENVIRONMENT}: damaged (sessions are missing or of the wrong kind)")
    _check_data(before.get(DATA), dataset, folder)
    facts = environment(device, dataset)
    data = facts.pop(DATA)
    session = {"started": _now(), "ended": None, **facts}
    return {
        "name": experiment.name,
        "models": {name: model.generator.kind for name, model in experiment.models.items()},
        SHA256: config_hash(experiment),
        "seeds": experiment.seeds,
        **facts,
        DATA: data,
        SESSIONS: [*sessions, session],
    }


def ended(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the end of its last session."""
    *before, last = record[SESSIONS]
    return {**record, SESSIONS: [*before, {**last, "ended": _now()}]}


def changes(record: Mapping[str, Any]) -> list[str]:
    """What of software and machine is another than in the session before, a plain line each.

    >>> changes({"sessions": [{"packages": {"torch": "2.13"}}, {"packages": {"torch": "2.14"}}]})
    ['torch 2.14, before 2.13']
    """
    sessions = record.get(SESSIONS) or []
    if len(sessions) < 2:
        return []
    before, now = (_compared(one) for one in sessions[-2:])
    return [
        f"{name} {now.get(name) or 'none'}, before {before.get(name) or 'none'}"
        for name in now | before
        if now.get(name) != before.get(name)
    ]


def provenance_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record for a reader: its events left out, a line for each session.

    >>> record = {"python": "3.11", "sessions": [{"started": "2026-01-01T08:00:00+00:00", "ended": None}]}
    >>> provenance_facts(record)
    {'python': '3.11', 'session 1': '2026-01-01T08:00:00+00:00 to – (not ended)'}
    """
    facts = {key: value for key, value in record.items() if key not in (DATA, SESSIONS)}
    found = record.get(SESSIONS)
    sessions = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    for k, session in enumerate(sessions):
        line = f"{session.get('started')} to {session.get('ended') or '– (not ended)'}"
        facts[f"session {k + 1}"] = "; ".join([line, *changes({SESSIONS: sessions[: k + 1]})])
    return facts


def dotted(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested keys and values with a path for each value; lists and empty mappings are values.

    >>> dotted({"models": {"flow": {"layers": 2}}, "seeds": [0, 1]})
    {'models.flow.layers': 2, 'seeds': [0, 1]}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def _compared(session: Mapping[str, Any]) -> dict[str, Any]:
    """What of a session may change numbers."""
    commit, packages = session.get("lab_git"), session.get("packages")
    return {
        "lab's commit": commit.get("commit") if isinstance(commit, dict) else None,
        **{name: session.get(name) for name in ("python", "cpu", "device")},
        **(packages if isinstance(packages, dict) else {}),
    }


def _check_data(noted: Any, dataset: Dataset, folder: Path) -> None:
    before = noted.get("sha256") if isinstance(noted, dict) else None
    if before is not None and before != dataset.checksum:
        raise ValueError(
            f"{folder}: the dataset of the configuration gives other events now (SHA-256 {dataset.checksum[:12]}) than "
            f"when the run began ({str(before)[:12]}); bring them back, or begin a new run with --out"
        )


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


@cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    """The processor as it calls itself; its architecture where it does not."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    except OSError:
        return platform.machine()
    return platform.machine()


def _commits() -> dict[str, Any]:
    """The commit of the working directory, and that of the lab where it is run from its source."""
    here, root = Path.cwd(), Path(__file__).resolve().parents[1]
    git = commit_of(here)
    if top_of(here) == root:
        return {"git": git, "lab_git": git}
    return {"git": git, "lab_git": commit_of(root) if (root / ".git").exists() else None}
