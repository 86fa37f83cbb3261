"""What a Gaussian simulation does, step by step: a program sorted once into layers of symplectic matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from circuits.cv.gates import CV_GATES, CVGate
from circuits.cv.program import Program

__all__ = ["GaussianPlan", "Stack", "gaussian_plan"]


# gates: entries of the matrices on (x, p) of one mode or on (x_a, x_b, p_a, p_b)


def _rotation(phi: Tensor) -> list[Tensor]:
    c, s = phi.cos(), phi.sin()
    return [c, -s, s, c]


def _squeezing(r: Tensor, phi: Tensor) -> list[Tensor]:
    ch, sh = r.cosh(), r.sinh()
    c, s = sh * phi.cos(), -sh * phi.sin()
    return [ch - c, s, s, ch + c]


def _quadratic_phase(s: Tensor) -> list[Tensor]:
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    return [one, zero, s, one]


def _beamsplitter(theta: Tensor, phi: Tensor) -> list[Tensor]:
    t, s = theta.cos(), theta.sin()
    c, s = s * phi.cos(), s * phi.sin()
    zero = torch.zeros_like(t)
    return [t, -c, zero, -s, c, t, -s, zero, zero, s, t, -c, s, zero, c, t]


def _two_mode_squeezing(r: Tensor, phi: Tensor) -> list[Tensor]:
    ch, sh = r.cosh(), r.sinh()
    c, s = sh * phi.cos(), sh * phi.sin()
    zero = torch.zeros_like(ch)
    return [ch, c, zero, s, c, ch, s, zero, zero, s, ch, -c, s, zero, -c, ch]


def _displacement(a: Tensor, phi: Tensor) -> list[Tensor]:
    return [a * phi.cos(), a * phi.sin()]


def _loss(transmissivity: Tensor) -> list[Tensor]:
    bad = ((transmissivity < 0) | (transmissivity > 1)).nonzero()
    if len(bad):
        found = transmissivity[tuple(bad[0])].item()
        raise ValueError(f"transmissivity of Loss is {found:.6g}; a number from 0 to 1 is needed")
    return [transmissivity, transmissivity]


_ENTRIES: dict[str, Callable[..., list[Tensor]]] = {
    "Rotation": _rotation,
    "Squeezing": _squeezing,
    "QuadraticPhase": _quadratic_phase,
    "Beamsplitter": _beamsplitter,
    "TwoModeSqueezing": _two_mode_squeezing,
    "Displacement": _displacement,
    "Loss": _loss,
}


# what is done in which order


@dataclass(frozen=True)
class Stack:
    """Layers of one kind: what their gates fill in, made for all of them at once.

    Args:
        kind: ``mix``, matrices on ``(x, p, 1)``; ``shift``, displacements alone; ``loss``, transmissivities.
        per_sample: they differ within a batch.
        index, scale, offset: of each parameter of the gates, ``(n,)``, sorted by the gates' names.
        names: gates, and how many there are of each.
        layers: how many.
        base: what stands in a layer where no gate writes: the unit matrix ``(2M + 1, 2M + 1)``, or ``(2M,)``.
        places: where in the flattened layers each entry of the gates goes.
    """

    kind: str
    per_sample: bool
    index: Tensor
    scale: Tensor
    offset: Tensor
    names: tuple[tuple[str, int], ...]
    layers: int
    base: Tensor
    places: Tensor

    def to(self, dtype: torch.dtype, device: str) -> Stack:
        """The same in another dtype and on another device."""
        values = {name: getattr(self, name).to(device, dtype) for name in ("scale", "offset", "base")}
        return replace(self, **values, index=self.index.to(device), places=self.places.to(device))

    def fill(self, vector: Tensor, hbar: float) -> Tensor:
        """The layers, ``(layers, ...)`` or ``(rows, layers, ...)``, for parameters ``(n,)`` or ``(rows, n)``."""
        values = self.offset if vector.shape[-1] == 0 else vector[..., self.index] * self.scale + self.offset
        entries, start = [], 0
        for name, count in self.names:
            n = len(CV_GATES[name].parameters)
            columns = values[..., start : start + count * n].unflatten(-1, (count, n)).unbind(-1)
            start += count * n
            found = torch.stack(_ENTRIES[name](*columns), -1).flatten(-2)
            entries.append(found * math.sqrt(2 * hbar) if name == "Displacement" else found)
        flat = self.base.flatten().repeat(*values.shape[:-1], self.layers)
        return flat.index_copy(-1, self.places, torch.cat(entries, -1)).unflatten(-1, (self.layers, *self.base.shape))


@dataclass(frozen=True)
class GaussianPlan:
    """Layers by kind, and the order in which they are applied: ``(stack, layers)``, the next ones of that stack."""

    n_modes: int
    stacks: tuple[Stack, ...]
    runs: tuple[tuple[int, int], ...]

    def numbers(self, rows: int) -> int:
        """How many numbers the layers and states of a batch take."""
        made = sum(stack.layers * stack.base.numel() * (rows if stack.per_sample else 1) for stack in self.stacks)
        return made + rows * (2 * self.n_modes) ** 2


@lru_cache(maxsize=64)
def gaussian_plan(program: Program, n_shared: int, dtype: torch.dtype, device: str) -> GaussianPlan:
    """Sort a program; a gate goes into the first layer of its kind after those of its modes' earlier gates.

    Args:
        program: a Gaussian one.
        n_shared: how many of its parameters, the first ones, are the same in a whole batch.
        dtype: of the matrices.
        device: where they are.
    """
    layers: list[tuple[tuple[str, bool], list[CVGate]]] = []
    free = [0] * program.n_modes
    for gate in program.gates:
        per_sample = any(slot.index is not None and slot.index >= n_shared for slot in gate.parameters)
        shifts = gate.name == "Displacement" and per_sample
        kind = ("loss" if gate.name == "Loss" else "shift" if shifts else "mix", per_sample)
        place = max(free[mode] for mode in gate.modes)
        while place < len(layers) and layers[place][0] != kind:
            place += 1
        if place == len(layers):
            layers.append((kind, []))
        layers[place][1].append(gate)
        for mode in gate.modes:
            free[mode] = place + 1
    kinds = list(dict.fromkeys(kind for kind, _ in layers))
    sorted_layers: dict[tuple[str, bool], list[list[CVGate]]] = {kind: [] for kind in kinds}
    runs: list[tuple[int, int]] = []
    for kind, gates in layers:
        number = kinds.index(kind)
        if runs and runs[-1][0] == number:
            runs[-1] = (number, runs[-1][1] + 1)
        else:
            runs.append((number, 1))
        sorted_layers[kind].append(gates)
    stacks = (_stack(kind, each, found, program.n_modes) for (kind, each), found in sorted_layers.items())
    return GaussianPlan(program.n_modes, tuple(stack.to(dtype, device) for stack in stacks), tuple(runs))


def _stack(kind: str, per_sample: bool, layers: list[list[CVGate]], n_modes: int) -> Stack:
    size = 2 * n_modes
    base = torch.eye(size + 1) if kind == "mix" else torch.full((size,), 1.0 if kind == "loss" else 0.0)
    by_name: dict[str, list[tuple[int, CVGate]]] = {}
    for number, gates in enumerate(layers):
        for gate in gates:
            by_name.setdefault(gate.name, []).append((number, gate))
    places = []
    for number, gate in (pair for pairs in by_name.values() for pair in pairs):
        rows = torch.tensor([*gate.modes, *(n_modes + mode for mode in gate.modes)])
        if kind != "mix":
            found = rows
        elif gate.name == "Displacement":
            found = rows * (size + 1) + size
        else:
            found = (rows[:, None] * (size + 1) + rows).flatten()
        places.append(number * base.numel() + found)
    slots = [slot for pairs in by_name.values() for _, gate in pairs for slot in gate.parameters]
    return Stack(
        kind,
        per_sample,
        torch.tensor([slot.index or 0 for slot in slots]),
        torch.tensor([slot.scale for slot in slots], dtype=torch.float64),
        torch.tensor([slot.offset for slot in slots], dtype=torch.float64),
        tuple((name, len(pairs)) for name, pairs in by_name.items()),
        len(layers),
        base,
        torch.cat(places),
    )
