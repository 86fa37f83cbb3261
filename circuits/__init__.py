"""The quantum substrate: circuits as data, builders, exchange with other frameworks, and backends.

>>> from circuits import ansatz
>>> from circuits.backends import Statevector
>>> import torch
>>> circuit = ansatz.hardware_efficient(n_wires=3, n_layers=2)
>>> Statevector().probs(circuit, torch.zeros(5, circuit.n_angles, dtype=torch.float64)).shape
torch.Size([5, 8])
"""

from circuits import ansatz
from circuits.circuit import Angle, Circuit, Gate

__all__ = ["Angle", "Circuit", "Gate", "ansatz"]
