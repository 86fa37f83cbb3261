r"""Born machines of optical modes: events are homodyne outcomes of a trained state.

Measuring the quadratures :math:`x_1, \dots, x_M` of a state :math:`|\psi_\theta(c)\rangle` of :math:`M` modes gives
real numbers with the density

.. math:: p_\theta(x \mid c) = |\langle x | \psi_\theta(c) \rangle|^2 ,

by Born's rule: a continuous Born machine, without cells. A mode stands for each feature, in units of the vacuum's
width. The vacuum is :math:`M` independent standard normal features; the state is made from it by layers of squeezings,
an interferometer, displacements and Kerr (or cubic phase) gates (1806.06871), an interferometer following each:

.. math:: |\psi_\theta(c)\rangle = U_L \Phi_L D_L V_L S_L \cdots U_1 \Phi_1 D_1 V_1 S_1 |0\rangle .

Without the Kerr gates it is a multivariate normal distribution. Modes that are not read make the state of the others
mixed. With displacements :math:`D_l(c)`, or all parameters, affine in the condition, the machine is conditional.

Outcomes are drawn mode by mode from exact densities and are differentiable (implicit reparametrisation, 1805.08498),
and their likelihood is known, so that any objective trains the machine.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, get_args

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from circuits.cv import CVGate, CVNeuralNetworkLayers, Program
from circuits.cv.basis import BasisKind, basis_size
from circuits.cv.meshes import Mesh
from circuits.gates import integer
from qgen.data.dataset import Dataset
from qgen.data.gaussianise import Gaussianise
from qgen.data.transforms import Compose, Transform
from qgen.data.whiten import Whiten
from qgen.generator import Generator
from qgen.models.on_modes import GeneratorOnModes
from qgen.random import derive_seed, new_generator, symmetric

__all__ = ["CVBornMachine", "Encoding", "Nonlinearity", "homodyne_program"]

Nonlinearity = Literal["kerr", "cubic", "none"]
Encoding = Literal["displacements", "weights"]

GATES: dict[Nonlinearity, str | None] = {"kerr": "Kerr", "cubic": "CubicPhase", "none": None}

LARGEST_CUTOFF = 12
MOST_STATES = 1000
"""Photon-number states up to which the default cutoff grows; of density matrices the tenth part."""


def homodyne_program(
    n_modes: int,
    layers: int,
    *,
    nonlinearity: Nonlinearity = "kerr",
    mesh: Mesh = "rectangular",
    loss: float = 0.0,
    displaced: bool = False,
) -> Program:
    """Layers of a CV neural network on the vacuum, the first interferometer moved to the end.

    The first interferometer would leave the vacuum as it is; at the end it chooses the quadratures that are measured.
    The parameter vector is that of :class:`~circuits.cv.CVNeuralNetworkLayers`, without the strengths of the Kerr gates
    where there are none, then inputs: for each layer displacements of all modes along x and of all along p.

    Args:
        n_modes: number of modes.
        layers: number of layers.
        nonlinearity: ``kerr``, ``cubic`` for cubic phase gates in their place, or ``none``.
        mesh: of the interferometers.
        loss: share of the photons that each mode loses after every layer, in [0, 1).
        displaced: whether there are inputs.

    Raises:
        ValueError: a size or a share out of range, or another name.

    >>> homodyne_program(2, 1).counts
    {'Squeezing': 2, 'Beamsplitter': 2, 'Rotation': 4, 'Displacement': 2, 'Kerr': 2}
    """
    if not 0 <= loss < 1:
        raise ValueError(f"loss is {loss}; a share of the photons from 0 to below 1 is needed")
    if nonlinearity not in GATES:
        raise ValueError(f"nonlinearity is {nonlinearity!r}; allowed are {', '.join(GATES)}")
    network = CVNeuralNetworkLayers(layers, n_modes, mesh).program
    name = GATES[nonlinearity]
    size = network.n_parameters - (layers * n_modes if name is None else 0)
    each = len(network) // layers
    passive = n_modes * (n_modes - 1) // 2 + n_modes
    gates: list[CVGate] = []
    for layer in range(layers):
        whole = network.gates[layer * each : (layer + 1) * each]
        gates += whole[passive if layer == 0 else 0 : -n_modes]
        if displaced:
            first = size + 2 * n_modes * layer
            gates += [CVGate("Displacement", m, (first + m, 0.0)) for m in range(n_modes)]
            gates += [CVGate("Displacement", m, (first + n_modes + m, math.pi / 2)) for m in range(n_modes)]
        if name is not None:
            gates += [CVGate(name, gate.modes, gate.parameters) for gate in whole[-n_modes:]]
        gates += [CVGate("Loss", mode, (1.0 - loss,)) for mode in range(n_modes) if loss]
    gates += network.gates[:passive]
    return Program(n_modes, gates, size + (2 * n_modes * layers if displaced else 0))


class CVBornMachine(GeneratorOnModes, Generator):
    """Homodyne outcomes of the state of optical modes.

    Args:
        n_features: columns of a sample, at the same time the number of modes that are read.
        n_conditions: columns of a condition.
        layers: of the CV neural network.
        ancillas: modes that are not read.
        cutoff: photon number from which states are cut off. Without one, the largest, up to 12, at which a state has at
            most 1000 amplitudes (of a density matrix 100 rows): 12 for up to 3 modes, 10 for 4, 5 for 8.
        basis: ``total``, the cutoff is that of all photons together, or ``mode``, that of each mode.
        nonlinearity: ``kerr`` gates, ``cubic`` phase gates in their place, or ``none`` for a normal distribution, which
            is simulated exactly.
        encoding: how the condition enters. ``displacements``: in every layer, all modes are displaced along x and p by
            linear functions of it. ``weights``: every parameter of a gate is an affine function of it.
        conditional: whether the condition enters at all; if not, it still does through the transform.
        mesh: of the interferometers, ``rectangular`` or ``triangular``.
        loss: share of the photons that each mode loses after every layer; with loss, states are density matrices.
        norm_penalty: weight, in training, of the mean share of their norm that states lose beyond the cutoff.
        seed: fixes the initial weights: angles uniform in the circle, all else within ``initial_range`` of zero.
        initial_range: of squeezings, displacements, Kerr or cubic gates; the effect of the condition is a tenth of it.
        transform: physical units to about independent standard normal numbers.
        condition_transform: physical units to order one.

    Raises:
        ValueError: an argument out of range.

    >>> machine = CVBornMachine(2, layers=1, cutoff=8)
    >>> machine.n_parameters, machine.sample(4, generator=torch.Generator().manual_seed(0)).shape
    (18, torch.Size([4, 2]))
    """

    has_log_prob = True

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        layers: int = 2,
        ancillas: int = 0,
        cutoff: int | None = None,
        basis: BasisKind = "total",
        nonlinearity: Nonlinearity = "kerr",
        encoding: Encoding = "displacements",
        conditional: bool = True,
        mesh: Mesh = "rectangular",
        loss: float = 0.0,
        norm_penalty: float = 10.0,
        seed: int = 0,
        initial_range: float = 0.1,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        integer(ancillas, "ancillas", 0)
        if encoding not in get_args(Encoding):
            raise ValueError(f"encoding is {encoding!r}; allowed are {', '.join(get_args(Encoding))}")
        if not 0 < initial_range < math.inf:
            raise ValueError(f"initial_range is {initial_range}; a positive, finite number is needed")
        self._checked_sizes(2 if cutoff is None else cutoff, basis, norm_penalty)
        n_modes = n_features + ancillas
        self.layers, self.ancillas, self.mesh, self.loss = layers, ancillas, mesh, loss
        self.nonlinearity, self.encoding, self.norm_penalty = nonlinearity, encoding, norm_penalty
        self.conditional = conditional and n_conditions > 0
        displaced = self.conditional and encoding == "displacements"
        self.program = homodyne_program(
            n_modes, layers, nonlinearity=nonlinearity, mesh=mesh, loss=loss, displaced=displaced
        )
        self.basis = basis
        self.cutoff = _affordable_cutoff(n_modes, basis, loss > 0) if cutoff is None else cutoff
        rng = new_generator(derive_seed(seed, "weights"))
        self.weights = nn.Parameter(_initial(layers, n_modes, nonlinearity, initial_range, rng))
        """Parameters of the gates, ``(n_weights,)``, in the order of the program."""
        if self.conditional:
            n_moved = self.program.n_parameters - (len(self.weights) if displaced else 0)
            self.slopes = nn.Parameter(symmetric((n_moved, n_conditions), 0.1 * initial_range, rng))
            """What the condition adds to the displacements or to the weights, for each of its columns."""

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        frame: Literal["gaussian", "whitened"] = "gaussian",
        layers: Annotated[int, Ge(1), Le(1000)] = 2,
        ancillas: Annotated[int, Ge(0)] = 0,
        cutoff: Annotated[int, Ge(2)] | None = None,
        basis: BasisKind = "total",
        nonlinearity: Nonlinearity = "kerr",
        encoding: Encoding = "displacements",
        conditional: bool = True,
        mesh: Mesh = "rectangular",
        loss: Annotated[float, Ge(0), Lt(1)] = 0.0,
        norm_penalty: Annotated[float, Ge(0)] = 10.0,
        initial_range: Annotated[float, Gt(0), Le(10)] = 0.1,
    ) -> Self:
        """A machine with a mode for each feature of these events.

        Args:
            dataset: its training events fix the frame.
            seed: fixes the initial weights.
            frame: in which the vacuum is a first guess. ``gaussian``: :class:`~qgen.data.Gaussianise` straightens the
                marginals, given the condition, and takes out correlations; the vacuum is a Gaussian copula.
                ``whitened``: the dataset's own transform, then the linear :class:`~qgen.data.whiten.Whiten`; the vacuum
                is the normal distribution with the covariance of the training events.
            layers: of the CV neural network.
            ancillas: modes that are not read.
            cutoff: as in the class.
            basis: as in the class.
            nonlinearity: as in the class.
            encoding: as in the class.
            conditional: as in the class.
            mesh: of the interferometers.
            loss: as in the class.
            norm_penalty: as in the class.
            initial_range: as in the class.

        Raises:
            ValueError: an option is impossible for these events.
        """
        if frame not in ("gaussian", "whitened"):
            raise ValueError(f"frame is {frame!r}; allowed are gaussian, whitened")
        train = dataset.train
        values = dataset.transform(train.samples, train.conditions)
        last = Gaussianise.fit(values, train.conditions) if frame == "gaussian" else Whiten.fit(values)
        return cls(
            dataset.n_features,
            dataset.n_conditions,
            layers=layers,
            ancillas=ancillas,
            cutoff=cutoff,
            basis=basis,
            nonlinearity=nonlinearity,
            encoding=encoding,
            conditional=conditional,
            mesh=mesh,
            loss=loss,
            norm_penalty=norm_penalty,
            seed=seed,
            initial_range=initial_range,
            transform=Compose([dataset.transform, last]),
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns, sizes and how states are simulated; what fixed the initial weights is no part of a trained model."""
        names = ("layers", "ancillas", "cutoff", "basis", "nonlinearity", "encoding", "conditional", "mesh", "loss")
        columns = {"n_features": self.n_features, "n_conditions": self.n_conditions}
        return columns | {name: getattr(self, name) for name in (*names, "norm_penalty")}

    @property
    def _unit(self) -> float:
        """Width of the vacuum in units of the simulator's hbar."""
        return math.sqrt(self.simulator.hbar / 2)

    def _prepared(self, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Parameters and inputs of the program under these conditions ``(m, n_conditions)``."""
        if condition is None or not self.conditional:
            return self.weights, None
        moved = condition.to(self.slopes) @ self.slopes.T
        return (self.weights, moved) if self.encoding == "displacements" else (self.weights + moved, None)

    def _grouped(self, condition: Tensor | None, n: int) -> tuple[Tensor | None, Tensor, int]:
        """Conditions to prepare states for, the place of each event among all outcomes of them, and those of each.

        Events under the same condition share a state. Where that leaves most outcomes without an event, since one
        condition is much more frequent than others, each event has a state of its own.
        """
        if condition is None or not self.conditional:
            return None, torch.arange(n, device=self.device), n
        distinct, row = torch.unique(condition, dim=0, return_inverse=True)
        count = torch.bincount(row)
        shots = int(count.max())
        if len(distinct) * shots > 4 * n:
            return condition, torch.arange(n, device=self.device), 1
        order = torch.argsort(row, stable=True)
        rank = torch.empty_like(row)
        rank[order] = torch.arange(n, device=row.device) - (count.cumsum(0) - count)[row[order]]
        return distinct, row * shots + rank, shots

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        distinct, place, shots = self._grouped(condition, n)
        found = [
            state.sample_homodyne(shots, generator=generator, modes=range(self.n_features))
            for state in self._states(*self._prepared(distinct))
        ]
        outcomes = torch.cat([some.reshape(-1, self.n_features) for some in found])[place]
        return outcomes.to(self.weights) / self._unit

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        distinct, place, shots = self._grouped(condition, len(values))
        rows = 1 if distinct is None else len(distinct)
        asked = values.new_zeros(rows * shots, self.n_features).index_copy(0, place, values * self._unit)
        asked = asked.reshape(rows, shots, -1)
        found, done = [], 0
        for state in self._states(*self._prepared(distinct)):
            batch = state.norm_lost.shape
            some = asked[done : done + batch.numel()].reshape(*batch, shots, -1)
            found.append(state.homodyne_log_prob(some, modes=range(self.n_features)).flatten())
            done += batch.numel()
        return torch.cat(found)[place] + self.n_features * math.log(self._unit)


def _affordable_cutoff(n_modes: int, basis: BasisKind, mixed: bool) -> int:
    most = MOST_STATES // 10 if mixed else MOST_STATES
    fitting = [c for c in range(2, LARGEST_CUTOFF + 1) if basis_size(n_modes, c, basis) <= most]
    return max(fitting, default=2)


def _initial(
    layers: int, n_modes: int, nonlinearity: Nonlinearity, initial_range: float, rng: torch.Generator
) -> Tensor:
    network = CVNeuralNetworkLayers(layers, n_modes)
    angles = symmetric((network.program.n_parameters,), math.pi, rng)
    weights = list(network.split(angles))
    for active in (3, 8, 10):  # squeezing, displacement, Kerr
        weights[active] = weights[active] * (initial_range / math.pi)
    flat = network.flatten(*weights)
    return flat if GATES[nonlinearity] is not None else flat[: -layers * n_modes]
