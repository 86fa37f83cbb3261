"""Continuous variables: programs of optical modes as data, their exact and truncated simulation, and measurements."""

from circuits.cv.fock import Fock, TruncationWarning, needed_cutoff
from circuits.cv.fock_state import FockState
from circuits.cv.gates import CV_GATES, CVGate, Parameter
from circuits.cv.gaussian import Gaussian
from circuits.cv.gaussian_state import GaussianState
from circuits.cv.layers import CVNeuralNetworkLayers
from circuits.cv.mixed_state import MixedFockState
from circuits.cv.program import Program
from circuits.cv.simulators import Simulator, simulator_for
from circuits.cv.state import State
from circuits.cv.wigner import plot_wigner

__all__ = [
    "CV_GATES",
    "CVGate",
    "CVNeuralNetworkLayers",
    "Fock",
    "FockState",
    "Gaussian",
    "GaussianState",
    "MixedFockState",
    "Parameter",
    "Program",
    "Simulator",
    "State",
    "TruncationWarning",
    "needed_cutoff",
    "plot_wigner",
    "simulator_for",
]
