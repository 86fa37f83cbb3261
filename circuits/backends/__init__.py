"""Backends: what computes a circuit's probabilities, expectation values and samples."""

from circuits.backends.base import Backend, Capabilities, PauliString
from circuits.backends.statevector import Statevector

__all__ = ["BACKENDS", "Backend", "Capabilities", "PauliString", "Statevector"]

BACKENDS: dict[str, type[Backend]] = {"statevector": Statevector}
"""The backends by name."""
