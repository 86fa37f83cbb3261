"""Which cutoff the scale of the data needs: showers enter optical modes as displacements and a network follows.

A displacement by :math:`a` holds :math:`a^2` photons on average, so an event of ``n`` pixels brings
:math:`N = s^2 \\sum_i x_i^2` of them with strength :math:`s`, and the displaced vacuum loses the tail of a Poisson
distribution of mean :math:`N` beyond the cutoff of the ``total`` basis. What the network's squeezings and
displacements add comes on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from circuits.cv import CVNeuralNetworkLayers, Fock
from qgen.models.cv_generator import layered_program
from qgen.random import derive_seed, new_generator

__all__ = ["LOST", "cutoff_rows", "needed", "spread_of_means"]

LOST = 0.01
"""Share of the norm that a state may lose."""


def cutoff_rows(
    values: Tensor,
    strengths: Sequence[float],
    cutoffs: Sequence[int],
    *,
    reference: int,
    layers: int = 2,
    active: float = 0.1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What is lost and how wrong the mean positions are, for every strength and cutoff, in the ``total`` basis.

    Args:
        values: events ``(n, modes)``, of order one.
        strengths: displacement of a mode for a value of 1.
        cutoffs: on all photons together.
        reference: cutoff of the states that others are compared with.
        layers: of the network.
        active: standard deviation of its squeezings, displacements and Kerr gates; its angles' is 1 radian.
        seed: fixes its weights.

    Returns:
        For each strength and cutoff: ``photons`` and ``photons_most``, of the events before the network;
        ``lost``, ``lost_most``, mean and largest over the events; ``too_much``, the share of events that lose more
        than :data:`LOST`; ``error`` and ``error_most``, root of the mean square and largest of what the mean positions
        are off, in units of their spread over the events; ``reference_lost``, largest of the reference.
    """
    n_modes = values.shape[1]
    program = layered_program(n_modes, layers, n_modes)
    network = CVNeuralNetworkLayers(layers, n_modes)
    rng = new_generator(derive_seed(seed, "weights"))
    weights = network.flatten(*network.initial(rng, active=active, passive=1.0))
    rows = []
    for strength in strengths:
        inputs = strength * values
        photons = inputs.square().sum(1)
        with torch.no_grad():
            exact = Fock(reference, basis="total", warn_above=None).run(program, weights, inputs)
            truth = exact.quadratures()[0]
            scale = spread_of_means(truth)
            for cutoff in cutoffs:
                state = Fock(cutoff, basis="total", warn_above=None).run(program, weights, inputs)
                off = (state.quadratures()[0] - truth) / scale
                rows.append(
                    {
                        "strength": strength,
                        "cutoff": cutoff,
                        "photons": photons.mean().item(),
                        "photons_most": photons.max().item(),
                        "lost": state.norm_lost.mean().item(),
                        "lost_most": state.norm_lost.max().item(),
                        "too_much": (state.norm_lost > LOST).double().mean().item(),
                        "error": off.square().mean().sqrt().item(),
                        "error_most": off.abs().max().item(),
                        "reference_lost": exact.norm_lost.max().item(),
                    }
                )
    return rows


def spread_of_means(means: Tensor) -> Tensor:
    """Standard deviation over the events ``(n, modes)``, all modes together: the signal that errors compare with.

    >>> spread_of_means(torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64))
    tensor(0.7071, dtype=torch.float64)
    """
    return (means - means.mean(0)).square().mean().sqrt()


def needed(rows: Sequence[dict[str, Any]], strength: float, share: float) -> int | None:
    """The smallest cutoff of the rows at which at most this share of the events lose too much; None if none is.

    >>> rows = [{"strength": 1.0, "cutoff": c, "too_much": t} for c, t in ((4, 0.5), (6, 0.01), (8, 0.0))]
    >>> needed(rows, 1.0, 0.01), needed(rows, 1.0, 0.0)
    (6, 8)
    """
    fitting = [row["cutoff"] for row in rows if row["strength"] == strength and row["too_much"] <= share]
    return min(fitting) if fitting else None
