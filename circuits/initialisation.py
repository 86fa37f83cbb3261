"""Where training starts: initial angles of a circuit.

Uniformly random angles in a deep circuit give gradients that vanish exponentially with the number of qubits
(1803.11173). Angles near zero (2203.09376) or a circuit that starts as the identity (1903.05076) avoid that at the
start. All angles are radians, and every draw comes from an explicit generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.gates import Gate

__all__ = ["INITIALISATIONS", "identity", "initial_angles", "small_angle", "uniform", "zeros"]


def zeros(circuit: Circuit) -> Tensor:
    """All angles zero, ``(n_angles,)``."""
    return torch.zeros(circuit.n_angles, dtype=torch.float64)


def uniform(circuit: Circuit, bound: float = math.pi, *, generator: torch.Generator) -> Tensor:
    """Angles uniform in ``[-bound, bound]``, ``(n_angles,)``.

    Args:
        circuit: the circuit.
        bound: in radians; by default whole turns.
        generator: source of randomness.

    Raises:
        ValueError: a bound that is not positive and finite.
    """
    bound = _size("bound", bound)
    draws = torch.rand(circuit.n_angles, generator=generator, dtype=torch.float64, device=generator.device)
    return bound * (2 * draws.cpu() - 1)


def small_angle(circuit: Circuit, scale: float = 0.1, *, generator: torch.Generator) -> Tensor:
    """Normal angles around zero, ``(n_angles,)`` (2203.09376).

    Args:
        circuit: the circuit.
        scale: standard deviation in radians.
        generator: source of randomness.

    Raises:
        ValueError: a scale that is not positive and finite.
    """
    scale = _size("scale", scale)
    draws = torch.randn(circuit.n_angles, generator=generator, dtype=torch.float64, device=generator.device)
    return scale * draws.cpu()


def identity(circuit: Circuit, bound: float = math.pi, *, generator: torch.Generator) -> Tensor:
    """Random angles with which a circuit of mirrored parts is the identity, ``(n_angles,)`` (1903.05076).

    A part and its mirror image get the same angles, which are uniform in ``[-bound, bound]``. Gates without free
    angles may stand before, between or after them, and are all that is left.

    Args:
        circuit: parts followed by their mirror images, as of :func:`circuits.ansatz_identity.identity_blocks`.
        bound: in radians.
        generator: source of randomness.

    Raises:
        ValueError: a circuit that is not made of parts and their mirror images.

    >>> from circuits.ansatz_identity import identity_blocks
    >>> from circuits.backends import Statevector
    >>> circuit = identity_blocks(3, 2)
    >>> angles = identity(circuit, generator=torch.Generator().manual_seed(0))
    >>> round(Statevector().probs(circuit, angles)[0].item(), 12)
    1.0
    """
    angles = uniform(circuit, bound, generator=generator)
    label = torch.arange(circuit.n_angles)
    for first, mirror in _mirror_pairs(circuit):
        label[label == label[mirror]] = label[first].clone()
    return angles[label]


INITIALISATIONS: dict[str, Callable[..., Tensor]] = {
    "uniform": uniform,
    "small-angle": small_angle,
    "identity": identity,
    "zeros": lambda circuit, *, generator: zeros(circuit),
}
"""The schemes by name."""


def initial_angles(name: str, circuit: Circuit, generator: torch.Generator, size: float | None = None) -> Tensor:
    """Initial angles ``(n_angles,)`` float64 in radians by the name of the scheme.

    Args:
        name: ``uniform``, ``small-angle``, ``identity`` or ``zeros``.
        circuit: the circuit.
        generator: source of randomness.
        size: the bound of ``uniform`` and ``identity``, the standard deviation of ``small-angle``, in radians; the
            scheme's own default if not given.

    Raises:
        ValueError: an unknown name, an impossible size, a size for ``zeros``, or ``identity`` for a circuit that
            cannot be it.

    >>> initial_angles("zeros", Circuit(1, [Gate("RX", [0], [0])]), torch.Generator())
    tensor([0.], dtype=torch.float64)
    """
    if name not in INITIALISATIONS:
        raise ValueError(f"initialisation is {name!r}; allowed are {', '.join(INITIALISATIONS)}")
    if size is None:
        return INITIALISATIONS[name](circuit, generator=generator)
    if name == "zeros":
        raise ValueError(f"initialisation zeros has no size; {size} was given")
    return INITIALISATIONS[name](circuit, size, generator=generator)


def _size(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; a positive, finite angle in radians is needed")
    return value


def _mirror_pairs(circuit: Circuit) -> list[tuple[int, int]]:
    """The indices of angles that must be equal for every gate to meet its mirror image, nested like brackets."""
    pairs: list[tuple[int, int]] = []
    open_gates: list[Gate] = []
    for gate in circuit.gates:
        found = _undone(open_gates[-1], gate) if open_gates else None
        if found is None:
            open_gates.append(gate)
        else:
            open_gates.pop()
            pairs += found
    for gate in open_gates:
        if any(angle.index is not None for angle in gate.angles):
            raise ValueError(
                "initialisation identity needs a circuit of parts and their mirror images (ansatz identity_blocks); "
                f"{gate} is not undone in this one"
            )
    return pairs


def _undone(gate: Gate, other: Gate) -> list[tuple[int, int]] | None:
    """The indices of angles, of both gates, that must be equal for the other to undo the gate; None if it cannot."""
    inverse = gate.inverse()
    if (inverse.name, inverse.wires) != (other.name, other.wires):
        return None
    pairs = []
    for wanted, angle in zip(inverse.angles, other.angles, strict=True):
        if wanted.index is not None and angle.index is not None:
            pairs.append((wanted.index, angle.index))
            wanted = replace(wanted, index=angle.index)
        if wanted != angle:
            return None
    return pairs
