"""The quantum generators."""

from qgen.models.born_machine import BornMachine
from qgen.models.dual_pqc import DualPQC

__all__ = ["BornMachine", "DualPQC"]
