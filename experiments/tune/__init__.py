"""Searches for models' settings: :func:`tune`, its trials, and where they are kept.

``search`` is the whole, ``trainer`` one trial in whatever process; ``trials`` are in a ``storage`` of optuna;
``layout`` knows the search's folder, ``judge`` the score and ``pruning`` when a trial ends early.
"""

from experiments.tune.judge import METRIC
from experiments.tune.layout import BEST
from experiments.tune.search import Tuned, tune
from experiments.tune.trials import TRIALS, Trial, best_of

__all__ = ["BEST", "METRIC", "TRIALS", "Trial", "Tuned", "best_of", "tune"]
