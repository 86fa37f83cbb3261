"""A tiny sweep, and what tests compare of two."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.cli import main
from qgen.statefile import load_state

TINY: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"kind": "gaussian", "n": 200},
    "models": {
        "born": {
            "kind": "born_machine",
            "bits": 1,
            "layers": 1,
            "objective": {"kind": "mmd"},
            "training": {"steps": 8, "log_every": 1},
        },
    },
    "evaluation": {"bootstrap": 2, "metrics": ["correlation"]},
    "checkpoint_every": 2,
}
GRID = {"model.layers": [1, 2], "seed": [0, 1, 2, 3, 4, 5]}


def metrics(folder: Path) -> dict[str, Any]:
    """The scores of every finished job, by job, model and seed."""
    found = {}
    for path in sorted((folder / "jobs").glob("*/results.json")):
        models = json.loads(path.read_text())["models"]
        found[path.parent.name] = {
            (model, seed): one["metrics"] for model, scores in models.items() for seed, one in scores["seeds"].items()
        }
    return found


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of every trained model, by its place."""
    found = sorted(folder.glob("jobs/*/seed-*/*/generator.safetensors"))
    return {str(path.relative_to(folder)): load_state(path)["weights"] for path in found}


def same(a: Path, b: Path) -> bool:
    """Whether two sweeps have the same jobs, scores and weights, to the last bit."""
    left, right = weights(a), weights(b)
    return (
        metrics(a) == metrics(b)
        and left.keys() == right.keys() != set()
        and all(torch.equal(left[place][name], right[place][name]) for place in left for name in left[place])
    )


def starts(folder: Path) -> dict[str, int]:
    """How often each job was begun."""
    return {path.parent.name: len(path.read_text().splitlines()) for path in folder.glob("jobs/*/starts.jsonl")}


def call(arguments: list[str], status: int = 0) -> None:
    """The command ``qgen``, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["qgen", *arguments])
        with pytest.raises(SystemExit) as info:
            main()
    assert info.value.code == status
