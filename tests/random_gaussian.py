"""Random Gaussian programs of optical modes."""

from __future__ import annotations

import torch
from torch import Tensor

from circuits.cv import CVGate, Program
from circuits.cv.gates import CV_GATES

__all__ = ["random_gaussian"]


def random_gaussian(seed: int, n_modes: int, n_gates: int, loss: bool = False) -> tuple[Program, Tensor]:
    """A program of gates in any order, and values of its parameters: weak enough that photon numbers stay small."""
    generator = torch.Generator().manual_seed(seed)
    names = [
        name for name, gate in CV_GATES.items() if gate.gaussian and gate.n_modes <= n_modes and (loss or gate.unitary)
    ]
    gates: list[CVGate] = []
    values: list[float] = []
    for _ in range(n_gates):
        name = names[int(torch.randint(len(names), (), generator=generator))]
        modes = torch.randperm(n_modes, generator=generator)[: CV_GATES[name].n_modes].tolist()
        slots = range(len(values), len(values) + len(CV_GATES[name].parameters))
        gates.append(CVGate(name, modes, slots))
        for parameter in CV_GATES[name].parameters:
            draw = torch.rand((), generator=generator).item()
            if parameter == "transmissivity":
                values.append(0.2 + 0.8 * draw)
            elif parameter in ("r", "s"):
                values.append(0.6 * draw - 0.3)
            else:
                values.append(2 * draw - 1)
    return Program(n_modes, gates, len(values)), torch.tensor(values, dtype=torch.float64)
