"""The quantum generators."""

from qgen.models.angle import AngleGenerator
from qgen.models.born_machine import BornMachine
from qgen.models.cv_born_machine import CVBornMachine
from qgen.models.cv_classifier import CVClassifier
from qgen.models.cv_discriminator import CVDiscriminator
from qgen.models.cv_generator import CVGenerator
from qgen.models.dual_pqc import DualPQC
from qgen.models.fully_quantum import FullyQuantumGenerator
from qgen.models.iqp import IQPBornMachine
from qgen.models.quantum_discriminator import QuantumDiscriminator
from qgen.models.style import StyleGenerator

__all__ = [
    "AngleGenerator",
    "BornMachine",
    "CVBornMachine",
    "CVClassifier",
    "CVDiscriminator",
    "CVGenerator",
    "DualPQC",
    "FullyQuantumGenerator",
    "IQPBornMachine",
    "QuantumDiscriminator",
    "StyleGenerator",
]
