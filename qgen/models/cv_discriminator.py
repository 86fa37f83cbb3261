r"""A circuit of optical modes that tells real events from generated ones: the opponent in the CV qGAN (2101.11132).

Feature :math:`x_j` and the condition :math:`c` displace the vacuum of mode :math:`j`, or of mode :math:`j - M` along
:math:`p` where there are more features than the :math:`M` modes, by a bounded amplitude,

.. math:: d_j = \tanh\Bigl(s_j x_j + \sum_k u_{jk} c_k\Bigr) ,

layers of a CV neural network (:class:`~circuits.cv.CVNeuralNetworkLayers`) gather the modes, and the score is a
quadrature mean of the first one, scaled to a logit,

.. math:: s(x, c) = A \, \langle \tfrac12 (a_0 + a_0^\dagger) \rangle + B .

Without the bound an outlying event would carry so many photons that the truncated state is anything; with it an event
beyond the bulk only looks the more like one at its edge. Gates that the first mode does not see are left out. What is
published: a CV quantum discriminator on calorimeter pixels. What is ours: all of the above but the layers (1806.06871).
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from circuits.cv import Program
from circuits.cv.basis import BasisKind
from circuits.cv.meshes import Mesh
from circuits.gates import integer
from qgen.models.cv_generator import layered_program
from qgen.models.on_modes import LOST_ABOVE, OnModes
from qgen.random import derive_seed, new_generator, symmetric
from qgen.training.discriminators import Discriminator

__all__ = ["CVDiscriminator"]

START_SLOPE = 0.3
"""Displacement by a feature of 1 before training, as an amplitude."""

START_SCALE = 4.0
INITIAL_RANGE = 0.1


class CVDiscriminator(OnModes, Discriminator):
    """A quadrature mean of optical modes as the score of an event.

    Args:
        n_features: columns of an event.
        n_conditions: columns of a condition, 0 for none.
        modes: one for each feature if not given; half as many suffice, and more take part without being displaced.
        layers: of the CV neural network.
        cutoff: photon number from which states are cut off.
        basis: ``total``, the cutoff is that of all photons together, or ``mode``, that of each mode.
        mesh: of the interferometers, ``rectangular`` or ``triangular``.
        norm_penalty: weight, in training, of the mean share of their norm that states lose beyond the cutoff.
        seed: fixes the initial weights.

    Raises:
        ValueError: fewer modes than half the features, or a size out of range.

    >>> judge = CVDiscriminator(3, layers=1, cutoff=5)
    >>> judge(torch.zeros(5, 3), None).shape, sum(p.numel() for p in judge.parameters())
    (torch.Size([5]), 30)
    """

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        modes: int | None = None,
        layers: int = 2,
        cutoff: int = 6,
        basis: BasisKind = "total",
        mesh: Mesh = "rectangular",
        norm_penalty: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        modes = n_features if modes is None else modes
        integer(n_features, "n_features", 1)
        integer(modes, "modes", 1)
        self._checked_sizes(cutoff, basis, norm_penalty)
        if 2 * modes < n_features:
            raise ValueError(
                f"a CV discriminator of {modes} modes cannot take {n_features} features; a mode takes two at most"
            )
        self.cutoff, self.basis, self.norm_penalty = cutoff, basis, norm_penalty
        self.program = _seen_by_first(layered_program(modes, layers, n_features, mesh=mesh), n_features)
        rng = new_generator(derive_seed(seed, "weights"))
        n_weights = self.program.n_parameters - n_features
        self.weights = nn.Parameter(symmetric((n_weights,), INITIAL_RANGE, rng))
        self.slopes = nn.Parameter(START_SLOPE + symmetric((n_features,), INITIAL_RANGE, rng))
        if n_conditions:
            self.condition_slopes = nn.Parameter(symmetric((n_features, n_conditions), INITIAL_RANGE, rng))
        self.scale = nn.Parameter(torch.tensor(START_SCALE, dtype=torch.float64))
        self.offset = nn.Parameter(torch.zeros((), dtype=torch.float64))

    @classmethod
    def for_events(
        cls,
        n_features: int,
        n_conditions: int,
        *,
        seed: int = 0,
        modes: Annotated[int, Ge(1)] | None = None,
        layers: Annotated[int, Ge(1), Le(1000)] = 2,
        cutoff: Annotated[int, Ge(2)] = 6,
        basis: BasisKind = "total",
        mesh: Mesh = "rectangular",
        norm_penalty: Annotated[float, Ge(0)] = 10.0,
    ) -> Self:
        """A fresh circuit.

        Args:
            n_features: columns of an event.
            n_conditions: columns of a condition.
            seed: fixes the initial weights.
            modes: as in the class.
            layers: of the CV neural network.
            cutoff: photon number from which states are cut off.
            basis: as in the class.
            mesh: of the interferometers.
            norm_penalty: as in the class.

        Raises:
            ValueError: fewer modes than half the features, or an impossible option.
        """
        return cls(
            n_features,
            n_conditions,
            modes=modes,
            layers=layers,
            cutoff=cutoff,
            basis=basis,
            mesh=mesh,
            norm_penalty=norm_penalty,
            seed=seed,
        )

    def displacements(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """Amplitudes by which the vacuum is displaced, ``(N, n_features)``, all within (-1, 1).

        Raises:
            ValueError: events of another number of columns.
        """
        if values.ndim != 2 or values.shape[1] != len(self.slopes):
            raise ValueError(f"events have shape {tuple(values.shape)}; (N, {len(self.slopes)}) is needed")
        inputs = values.to(self.slopes) * self.slopes
        if condition is not None:
            inputs = inputs + condition.to(self.slopes) @ self.condition_slopes.T
        return inputs.tanh()

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        """The score of each event, ``(N, n_features) -> (N,)``."""
        found = [
            state.quadratures()[0][:, 0] / math.sqrt(2 * state.hbar)
            for state in self._states(self.weights, self.displacements(values, condition))
        ]
        return self.scale * torch.cat(found).to(self.scale) + self.offset

    def penalty(self) -> Tensor | None:
        """The norm lost by the scores since this was last asked, weighted."""
        return self._penalty_since()

    def remarks(self) -> tuple[str, ...]:
        """One sentence if truncation mattered."""
        return (f"discriminator {self.truncation_remark(self._lost)}",) if self._lost > LOST_ABOVE else ()


def _seen_by_first(program: Program, n_inputs: int) -> Program:
    """The gates that the first mode sees at the end, their weights counted anew, all inputs kept."""
    seen, cone = [], {0}
    for gate in reversed(program.gates):
        if cone & set(gate.modes):
            cone |= set(gate.modes)
            seen.append(gate)
    n_weights = program.n_parameters - n_inputs
    used = {slot.index for gate in seen for slot in gate.parameters if slot.index is not None}
    kept = [index for index in range(n_weights) if index in used]
    place = {index: number for number, index in enumerate([*kept, *range(n_weights, program.n_parameters)])}
    pruned = Program(program.n_modes, reversed(seen), program.n_parameters)
    return pruned.remap(
        parameters=[place.get(index, 0) for index in range(program.n_parameters)],
        n_modes=program.n_modes,
        n_parameters=len(place),
    )
