"""The state of a training in one file, from which it goes on bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qgen.generator import Generator
from qgen.statefile import load_state, save_state
from qgen.training.objectives import Objective

__all__ = ["TrainingState"]


@dataclass
class TrainingState:
    """Everything that the next training step depends on.

    Args:
        generator: the model that trains.
        objective: with what it learned (a discriminator).
        optimisers: one for each player.
        rng: the source of all randomness of the training steps.
        step: steps done.
        history: records so far.
        cpu_seconds: processor time used up to the last checkpoint.
        best: the lowest validation loss so far with its step and the generator's weights then, or None.
    """

    generator: Generator
    objective: Objective
    optimisers: dict[str, torch.optim.Optimizer]
    rng: torch.Generator
    step: int
    history: list[dict[str, float]]
    cpu_seconds: float = 0.0
    best: dict[str, Any] | None = None

    def snapshot(self) -> dict[str, Any]:
        """A copy of the state: nested dicts of tensors and JSON values."""
        return {
            "generator": _copied(self.generator.state_dict()),
            "objective": _copied(self.objective.state_dict()),
            "optimisers": {name: _copied(optimiser.state_dict()) for name, optimiser in self.optimisers.items()},
            "rng": self.rng.get_state(),
            "step": self.step,
            "history": list(self.history),
            "cpu_seconds": self.cpu_seconds,
            "best": self.best,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back (or on) to a snapshot.

        Raises:
            ValueError: it is of another model, objective or optimiser.
        """
        try:
            self.generator.load_state_dict(snapshot["generator"])
            self.objective.load_state_dict(snapshot["objective"])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(snapshot["optimisers"][name])
            self.rng.set_state(snapshot["rng"])
            self.step = snapshot["step"]
            self.history[:] = snapshot["history"]
            self.cpu_seconds = snapshot["cpu_seconds"]
            self.best = snapshot["best"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint is of another model, objective or optimiser ({reason})") from error

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write the state to a file, atomically, with the settings it was trained under."""
        save_state(path, {"settings": settings, "state": self.snapshot()})

    def load(self, path: Path, settings: dict[str, Any]) -> None:
        """Go on from a file.

        Raises:
            ValueError: the file is damaged, or was made under other settings (the first that differs is named).
        """
        saved = load_state(path)
        if not isinstance(saved, dict) or {"settings", "state"} - set(saved):
            raise ValueError(f"{path}: no checkpoint of a training")
        for name, value in settings.items():
            if saved["settings"].get(name) != value:
                raise ValueError(
                    f"{path}: was trained with {name} {saved['settings'].get(name)!r}, now it is {value!r}; "
                    "resume with the settings of the start, or train afresh"
                )
        try:
            self.restore(saved["state"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner) for inner in value]
    return value
