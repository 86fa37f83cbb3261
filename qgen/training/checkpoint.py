"""The state of a training in files, from which it goes on bit for bit.

The last two checkpoints are kept, the newest at the path that was asked for and the one before beside it: where the
newest is damaged, the training goes on from the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qgen.generator import Generator
from qgen.statefile import load_state, packed, save_state
from qgen.training.objectives import Objective
from qgen.training.parallel import Ranks

__all__ = ["Checkpoints", "DamagedCheckpointWarning", "Saved", "TrainingState"]

LARGEST = 2**53
"""Of the steps and seconds of a training."""

MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.Adadelta: ("square_avg", "acc_delta"),
    torch.optim.RMSprop: ("square_avg",),
    torch.optim.SGD: (),
}
"""What an optimiser keeps of each parameter, in its form, beside the number of its steps."""

MOVED = ("params", "lr")
"""What :func:`~qgen.training.optimisers.make_optimiser` does not fix of a group of parameters."""


class DamagedCheckpointWarning(UserWarning):
    """A training goes on from the checkpoint before the newest one."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read.

    Args:
        path: its file.
        settings: what it was trained under.
        state: a snapshot of the training.
        problem: what is wrong with the newest checkpoint if this is the one before, else empty.
    """

    path: Path
    settings: dict[str, Any]
    state: dict[str, Any]
    problem: str = ""


class Checkpoints:
    """The last two checkpoints of a training.

    Args:
        path: of the newest one; the one before is beside it, ``NAME.previous.SUFFIX``.

    >>> Checkpoints("run/checkpoint.safetensors").previous.name
    'checkpoint.previous.safetensors'
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.previous = self.path.with_name(f"{self.path.stem}.previous{self.path.suffix}")
        self._good = False

    def load(self) -> Saved | None:
        """The newest checkpoint that is whole, None if there is none at all.

        Raises:
            ValueError: there are checkpoints, and none is whole, or what is there is no checkpoint.
        """
        problems = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                found = load_state(path)
            except (OSError, ValueError) as error:
                problems.append(str(error))
                continue
            if not isinstance(found, dict) or not all(isinstance(found.get(k), dict) for k in ("settings", "state")):
                raise ValueError(f"{path}: no checkpoint of a training")
            self._good = path == self.path
            problem = ""
            if problems:
                step = found["state"].get("step")
                problem = f"{problems[0]}; the training goes on from the checkpoint before, {path.name}, of step {step}"
            return Saved(path, found["settings"], found["state"], problem)
        if problems:
            raise ValueError(f"{'; '.join(problems)}; no checkpoint is whole: delete both to train afresh")
        return None

    def save(self, state: Any) -> None:
        """Make ``state`` the newest checkpoint and the newest the one before; a damaged one is not kept.

        At every moment a whole checkpoint is where :meth:`load` looks.

        Raises:
            OSError: it cannot be written; those that stood there stay.
        """
        save_state(self.path, state, previous=self.previous if self._good else None)
        self._good = True


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
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint is of another model, objective or optimiser ({reason})") from error

    def follow(self, ranks: Ranks) -> None:
        """Take over the state of the first of the processes that train together."""
        state = ranks.same(self.snapshot())
        if ranks.rank:
            self.restore(state)

    def save(self, checkpoints: Checkpoints, settings: dict[str, Any]) -> None:
        """Write the state, with the settings it was trained under, as the newest checkpoint."""
        checkpoints.save({"settings": settings, "state": self.snapshot()})

    def resume(self, saved: Saved, settings: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it was made under other settings (the first that differs is named), or is damaged.
        """
        tensors: dict[str, torch.Tensor] = {}
        packed(saved.settings, tensors)
        if tensors:
            raise ValueError(f"{saved.path}: damaged (settings hold numbers of a model)")
        for name, value in settings.items():
            if saved.settings.get(name) != value:
                raise ValueError(
                    f"{saved.path}: was trained with {name} {saved.settings.get(name)!r}, now it is {value!r}; "
                    "resume with the settings of the start, or train afresh"
                )
        before = {name: _fixed(optimiser) for name, optimiser in self.optimisers.items()}
        try:
            _check_progress(saved.state)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise _damaged(saved.path, error) from error
        try:
            self.restore(saved.state)
        except ValueError as error:
            raise ValueError(f"{saved.path}: {error}") from error
        try:
            for name, optimiser in self.optimisers.items():
                if _fixed(optimiser) != before[name]:
                    raise ValueError(f"optimisers.{name} has other settings")
                _check_moments(optimiser, f"optimisers.{name}")
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise _damaged(saved.path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:300]
    return ValueError(f"{path}: damaged ({'no ' * isinstance(error, KeyError)}{reason}); delete it")


def _check_progress(state: dict[str, Any]) -> None:
    """Refuse steps, records and best weights of a checkpoint that are of another form than a training writes."""
    _check_number(state["step"], "step", whole=True)
    _check_number(state["cpu_seconds"], "cpu_seconds")
    if not isinstance(state["history"], list):
        raise ValueError(f"history is {state['history']!r:.80}; a list of records was expected")
    for row, record in enumerate(state["history"]):
        _check_number(record["step"], f"history.{row}.step", whole=True)
        _check_number(record["seconds"], f"history.{row}.seconds")
        for name, value in record.items():
            if not isinstance(name, str) or not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"history.{row}.{name} is {value!r:.80}; a number was expected")
    if (best := state["best"]) is None:
        return
    if not isinstance(best, dict):
        raise ValueError(f"best is {best!r:.80}; a state was expected")
    _check_number(best["step"], "best.step", whole=True)
    if not isinstance(best["loss"], float):
        raise ValueError(f"best.loss is {best['loss']!r:.80}; a number was expected")
    if _shapes(best["weights"]) != _shapes(state["generator"]):
        raise ValueError("best.weights are not those of the model")


def _check_number(value: Any, place: str, whole: bool = False) -> None:
    right = type(value) is int or (not whole and type(value) is float)
    if not right or not 0 <= value < LARGEST:
        raise ValueError(f"{place} is {value!r:.80}; a {'whole ' * whole}number from 0 was expected")


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


def _fixed(optimiser: torch.optim.Optimizer) -> Any:
    """The settings of an optimiser that a training does not change; of one of someone else's, nothing is known."""
    if type(optimiser) not in MOMENTS:
        return None
    return packed([{name: x for name, x in g.items() if name not in MOVED} for g in optimiser.param_groups], {})


def _check_moments(optimiser: torch.optim.Optimizer, place: str) -> None:
    """Refuse what an optimiser is said to have kept of its parameters if it is of another form."""
    if (moments := MOMENTS.get(type(optimiser))) is None:  # of someone else's objective
        return
    parameters = {parameter for group in optimiser.param_groups for parameter in group["params"]}
    for parameter, kept in optimiser.state.items():
        kept = {name: value for name, value in kept.items() if value is not None}
        if not kept:
            continue
        if parameter not in parameters or kept.keys() != {*moments, *(["step"] if moments else [])}:
            raise ValueError(f"{place} has kept {', '.join(map(str, kept))[:80]}")
        for name in moments:
            if kept[name].shape != parameter.shape:
                raise ValueError(
                    f"{place} has kept {name} of shape {tuple(kept[name].shape)} for weights {tuple(parameter.shape)}"
                )
        if moments and (kept["step"].shape != () or not 0 <= float(kept["step"]) < LARGEST):
            raise ValueError(f"{place} has taken {kept['step']!r:.80} steps")


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner) for inner in value]
    return value
