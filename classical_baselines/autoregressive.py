r"""Autoregressive model of the bits of an event: the classical opponent of a Born machine on the same cells.

A probability of bit strings is a product of probabilities of single bits,

.. math:: p(b \mid c) = \prod_i p(b_i \mid b_1 \dots b_{i-1}, c), \quad
          p(b_i = 1 \mid \dots) = \sigma\bigl(\beta_i + \sum_{j<i} D_{ij} s_j + u_i \cdot c
          + \sum_k V_{ik} \, \phi(a_k)\bigr),

with :math:`s = 2b - 1`. The direct connections :math:`D` alone are the fully visible sigmoid belief network (logistic
regressions of each bit on those before); beyond 4096 bits, as those of a full grid, they are left out. The hidden units
:math:`\phi(a_k)` are shared by all bits as in the masked autoencoder MADE (1502.03509): a unit of degree :math:`d` sees
the first :math:`d` bits and the condition, and acts on the bits after them. The density is exact, and so is sampling,
bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, silu

from classical_baselines.sizing import closest_size, closest_width
from qgen.bits.cells import Edges, Frame, Occupancy, Threshold, Voxels, fit_cells
from qgen.bits.generator import BitGenerator
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Transform
from qgen.random import derive_seed, new_generator, symmetric, uniform

__all__ = ["Autoregressive"]

AT_ONCE = 2**23
"""Bits and hidden units of all events that are in memory together."""

DIRECT_UP_TO = 4096
"""Bits up to which there are direct connections, whose number grows with the square of theirs."""


class Autoregressive(BitGenerator):
    """Bit after bit, each given those before: exact density and exact draws at any number of bits.

    Trained by :class:`qgen.training.NLL`. Weights are float64 and follow ``.to``.

    Args:
        discretiser: bits to cells, in the transform's space; its order of bits is the order of the factors.
        n_conditions: columns of a condition, 0 for an unconditional model.
        conditional: whether the condition acts on the bits.
        hidden: number of hidden units, 0 for logistic regressions alone.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: a negative number of hidden units, or a code with bit strings that are no cells.

    >>> events = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> model = Autoregressive(Discretiser.fit(events, bits=2), hidden=4)
    >>> model.probabilities(None, torch.Generator()).sum().item()
    1.0
    """

    before: Tensor
    after: Tensor

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        *,
        conditional: bool = True,
        hidden: int = 64,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(
            discretiser,
            n_conditions,
            conditional=conditional,
            transform=transform,
            condition_transform=condition_transform,
        )
        if hidden < 0:
            raise ValueError(f"hidden is {hidden}; at least 0 is needed")
        discretiser.check_one_to_one()
        n, inputs = discretiser.n_bits, self.n_inputs
        self.hidden = hidden
        rng = new_generator(derive_seed(seed, "weights"))

        def weight(rows: int, columns: int, seen: int) -> nn.Parameter:
            return nn.Parameter(symmetric((rows, columns), max(seen, 1) ** -0.5, rng))

        self.bias = nn.Parameter(symmetric((n,), 0.01, rng))
        if _has_direct(n):
            self.direct = nn.Parameter(symmetric((n, n), 0.1 * n**-0.5, rng))
        if inputs:
            self.by_condition = weight(n, inputs, 100 * inputs)
        if hidden:
            self.into = weight(hidden, n + inputs, n + inputs)
            self.hidden_bias = nn.Parameter(symmetric((hidden,), 0.5, rng))
            self.out = weight(n, hidden, hidden)
            before, after = _masks(n, inputs, hidden)
            self.register_buffer("before", before, persistent=False)
            self.register_buffer("after", after, persistent=False)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        bits: Annotated[int, Ge(1)] | Sequence[Annotated[int, Ge(1)]] | None = None,
        edges: Edges = "linear",
        tails: Annotated[float, Ge(0), Lt(0.5)] = 0.005,
        code: Literal["binary", "gray"] = "binary",
        order: Literal["by-feature", "interleaved", "snake"] = "interleaved",
        frame: Frame = "features",
        threshold: Threshold = None,
        voxels: Voxels = None,
        occupancy: Occupancy = 0.0,
        conditional: bool = True,
        hidden: Annotated[int, Ge(0)] = 64,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh model for these events.

        Args:
            dataset: its training events fix the cells.
            seed: fixes the initial weights.
            bits: of every feature, or of each; if not given, 5 of every feature up to 8 features, then 2.
            edges: of the cells, see :func:`~qgen.bits.cells.fit_cells`, also for ``frame`` and the three after it.
            tails: share of the training values beyond the outer edges on either side.
            code: how a feature's cells are written in bits.
            order: the order in which the bits are drawn, see :class:`~qgen.data.Discretiser`: with ``interleaved``
                the coarse bits of all features come before the fine ones.
            frame: ``features``, ``marginals`` or ``gaussian``.
            threshold: energy (MeV) below which a pixel counts as empty.
            voxels: how many pixels have bits.
            occupancy: share of the images in which a pixel with bits is not empty, at least.
            conditional: whether the dataset's conditions act on the bits. If not, they still enter through the
                transform (energies as fractions of the incident one, say).
            hidden: number of hidden units.
            n_parameters: wanted number of parameters, reached within 10 %: ``hidden`` is chosen.

        Raises:
            ValueError: an option is impossible for these events, or no model has about ``n_parameters`` parameters.
        """
        if bits is None:
            bits = 5 if dataset.n_features <= 8 else 2
        discretiser, transform = fit_cells(
            dataset, bits, edges, tails, code, order, frame, threshold=threshold, voxels=voxels, occupancy=occupancy
        )
        if n_parameters is not None:
            n, inputs = discretiser.n_bits, dataset.n_conditions if conditional else 0
            what = f"an Autoregressive on {n} bits"
            hidden = closest_size(_sizes(n, inputs, n_parameters), n_parameters, what)
        return cls(
            discretiser,
            dataset.n_conditions,
            conditional=conditional,
            hidden=hidden,
            seed=seed,
            transform=transform,
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Discretiser, columns and number of hidden units."""
        return {**super().arguments(), "hidden": self.hidden}

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters; weights that the masks hold at zero are not counted."""
        return _size(self.discretiser.n_bits, self.n_inputs, self.hidden)

    def _log_prob_of_bits(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        logits = self._logits(bits, self._inputs(condition, len(bits)))
        return logsigmoid(torch.where(bits.bool(), logits, -logits)).sum(1)

    def _logits(self, bits: Tensor, inputs: Tensor) -> Tensor:
        signs = 2 * bits.to(inputs) - 1
        logits = self.bias.expand(len(bits), -1)
        if _has_direct(bits.shape[1]):
            logits = logits + signs @ self.direct.tril(-1).T
        if inputs.shape[1]:
            logits = logits + inputs @ self.by_condition.T
        if self.hidden:
            units = silu(linear(torch.cat([signs, inputs], 1), self.into * self.before, self.hidden_bias))
            logits = logits + units @ (self.out * self.after).T
        return logits

    def _draw_bits(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        inputs = self._inputs(condition, n)
        level = uniform((n, self.discretiser.n_bits), generator, dtype=inputs.dtype, device=inputs.device)
        at_once = max(1, AT_ONCE // (self.hidden + self.discretiser.n_bits))
        parts = zip(inputs.split(at_once), level.split(at_once), strict=True)
        return torch.cat([self._bit_by_bit(some, levels) for some, levels in parts])

    def _bit_by_bit(self, inputs: Tensor, level: Tensor) -> Tensor:
        """Bits for uniform numbers ``(m, n_bits)``; what each bit adds is added once it is known."""
        bits = torch.zeros_like(level, dtype=torch.uint8)
        logits = self.bias.repeat(len(level), 1)
        if inputs.shape[1]:
            logits = logits + inputs @ self.by_condition.T
        direct = self.direct.tril(-1) if _has_direct(level.shape[1]) else None
        if self.hidden:
            into, out = self.into * self.before, self.out * self.after
            activation = self.hidden_bias + inputs @ into[:, level.shape[1] :].T
        for i in range(level.shape[1]):
            logit = logits[:, i]
            if self.hidden:
                logit = logit + silu(activation) @ out[i]
            bits[:, i] = level[:, i] < logit.sigmoid()
            sign = 2 * bits[:, i, None].to(level) - 1
            if direct is not None:
                logits = logits + sign * direct[:, i]
            if self.hidden:
                activation = activation + sign * into[:, i]
        return bits


def _has_direct(n_bits: int) -> bool:
    return 1 < n_bits <= DIRECT_UP_TO


def _degrees(n_bits: int, inputs: int, hidden: int) -> Tensor:
    """How many bits each hidden unit sees: the degrees at which it sees and acts on something, taken in turn."""
    lowest = 0 if inputs or n_bits == 1 else 1
    return lowest + torch.arange(hidden) * (n_bits - lowest) // max(hidden, 1)


def _masks(n_bits: int, inputs: int, hidden: int) -> tuple[Tensor, Tensor]:
    """Which bits and inputs each unit sees ``(hidden, n_bits + inputs)``, on which it acts ``(n_bits, hidden)``."""
    degrees = _degrees(n_bits, inputs, hidden)
    places = torch.arange(n_bits)
    seen = torch.cat([places < degrees[:, None], torch.ones(hidden, inputs, dtype=torch.bool)], 1)
    return seen, degrees <= places[:, None]


def _size(n_bits: int, inputs: int, hidden: int) -> int:
    """Parameters: every hidden unit sees its degree's bits, the inputs and a bias, and acts on the other bits."""
    direct = n_bits * (n_bits - 1) // 2 if _has_direct(n_bits) else 0
    return direct + n_bits * (1 + inputs) + hidden * (n_bits + inputs + 1)


def _sizes(n_bits: int, inputs: int, target: int) -> Iterator[tuple[int, int]]:
    width = closest_width(lambda hidden: _size(n_bits, inputs, hidden), target)
    for hidden in (width, 0):
        yield hidden, _size(n_bits, inputs, hidden)
