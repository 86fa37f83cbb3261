"""Backends: what computes a circuit's probabilities, expectation values and samples."""

from circuits.backends.base import Backend, Capabilities, PauliString
from circuits.backends.density import DensityMatrix
from circuits.backends.distributed import Distributed
from circuits.backends.gradients import GradientEstimate, ParameterShift
from circuits.backends.layers import layers, reseed, row_size, shots_of
from circuits.backends.make import backend_beside, backend_config, backend_options, builds_alone, make_backend
from circuits.backends.pennylane import PennyLane
from circuits.backends.qiskit import Qiskit
from circuits.backends.sampled import Sampled, SamplingBackend
from circuits.backends.spsa import SPSA
from circuits.backends.statevector import Statevector
from circuits.backends.trajectories import Trajectories

__all__ = [
    "BACKENDS",
    "SPSA",
    "Backend",
    "Capabilities",
    "DensityMatrix",
    "Distributed",
    "GradientEstimate",
    "ParameterShift",
    "PauliString",
    "PennyLane",
    "Qiskit",
    "Sampled",
    "SamplingBackend",
    "Statevector",
    "Trajectories",
    "backend_beside",
    "backend_config",
    "backend_options",
    "builds_alone",
    "layers",
    "make_backend",
    "reseed",
    "row_size",
    "shots_of",
]

BACKENDS: dict[str, type[Backend]] = {
    "statevector": Statevector,
    "density_matrix": DensityMatrix,
    "trajectories": Trajectories,
    "pennylane": PennyLane,
    "qiskit": Qiskit,
}
"""The backends by name; each is made from options alone. Wrappers such as :class:`ParameterShift` take a backend."""
