"""Training: objectives and :func:`fit`."""

from qgen.training.adversarial import Adversarial
from qgen.training.fit import FitResult, TrainingDivergedError, fit
from qgen.training.objectives import MMD, NLL, Objective

__all__ = ["MMD", "NLL", "OBJECTIVES", "Adversarial", "FitResult", "Objective", "TrainingDivergedError", "fit"]

OBJECTIVES: dict[str, type[Objective]] = {"mmd": MMD, "nll": NLL, "adversarial": Adversarial}
