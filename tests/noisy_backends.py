"""Small noisy backends with closed formulas, for the tests of mitigation."""

from __future__ import annotations

from functools import reduce

import torch

from circuits import Circuit, Gate
from circuits.backends import Capabilities, Statevector
from circuits.backends.base import draw_bits, measurement_groups, parse_observables


class _Noisy(Statevector):
    """Everything from ``probs``."""

    capabilities = Capabilities(differentiable=True, exact=True, noisy=True, batched=True)

    def expval(self, circuit, angles, observables):
        strings = parse_observables(observables, circuit.n_wires)
        columns = {}
        for group, places in measurement_groups(circuit, strings):
            probabilities = self.probs(group, angles)
            states = torch.arange(2**circuit.n_wires)
            for place in places:
                bits = [(states >> (circuit.n_wires - 1 - wire)) & 1 for wire, _ in strings[place].factors]
                columns[place] = (probabilities * (-1.0) ** sum(bits, torch.zeros_like(states))).sum(-1)
        return torch.stack([columns[place] for place in range(len(strings))], -1)

    def sample(self, circuit, angles, shots, generator=None):
        return draw_bits(self.probs(circuit, angles), shots, generator)


class Misread(_Noisy):
    """Exact but for the readout: ``confusion`` is ``(n_wires, 2, 2)``, read by prepared."""

    name = "misread"

    def __init__(self, confusion):
        super().__init__()
        self.matrices = torch.as_tensor(confusion, dtype=torch.float64)

    def probs(self, circuit, angles):
        whole = reduce(torch.kron, self.matrices[: circuit.n_wires])
        return super().probs(circuit, angles) @ whole.T


class Fading(_Noisy):
    """Every gate leaves a fraction ``keep`` of the state, the rest is uniform: decay is exponential in the gates."""

    name = "fading"

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def probs(self, circuit, angles):
        kept = self.keep ** len(circuit)
        return kept * super().probs(circuit, angles) + (1 - kept) / 2**circuit.n_wires

    def expval(self, circuit, angles, observables):
        kept = torch.tensor(
            [self.keep ** len(circuit) if set(o) - {"I"} else 1.0 for o in observables], dtype=torch.float64
        )
        return kept * Statevector.expval(self, circuit, angles, observables)


class OverRotated(Statevector):
    """Every CNOT and CZ is followed by RXX of ``angle``: a coherent error."""

    name = "over-rotated"
    capabilities = Capabilities(differentiable=True, exact=True, noisy=True, batched=True)

    def __init__(self, angle):
        super().__init__()
        self.angle = angle

    def _wrong(self, circuit):
        gates = []
        for gate in circuit.gates:
            gates.append(gate)
            if gate.name in ("CNOT", "CZ"):
                gates.append(Gate("RXX", gate.wires, [float(self.angle)]))
        return Circuit(circuit.n_wires, gates, circuit.n_angles)

    def probs(self, circuit, angles):
        return super().probs(self._wrong(circuit), angles)

    def expval(self, circuit, angles, observables):
        return super().expval(self._wrong(circuit), angles, observables)

    def sample(self, circuit, angles, shots, generator=None):
        return draw_bits(self.probs(circuit, angles), shots, generator)
