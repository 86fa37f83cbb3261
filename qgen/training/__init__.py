"""Training: objectives and :func:`fit`."""

from qgen.training.adversarial import Adversarial
from qgen.training.checkpoint import DamagedCheckpointWarning
from qgen.training.correlation import Correlation
from qgen.training.discriminators import MLP, Discriminator, MinibatchMLP
from qgen.training.fit import FitResult, TrainingDivergedError, fit
from qgen.training.mixture import Mixture
from qgen.training.objectives import MMD, NLL, Objective
from qgen.training.own import Own
from qgen.training.parallel import Ranks, joined

__all__ = [
    "MLP",
    "MMD",
    "NLL",
    "OBJECTIVES",
    "Adversarial",
    "Correlation",
    "DamagedCheckpointWarning",
    "Discriminator",
    "FitResult",
    "MinibatchMLP",
    "Mixture",
    "Objective",
    "Own",
    "Ranks",
    "TrainingDivergedError",
    "fit",
    "joined",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "mmd": MMD,
    "nll": NLL,
    "adversarial": Adversarial,
    "correlation": Correlation,
    "mixture": Mixture,
    "own": Own,
}
