"""qgen: quantum and classical generators for high-energy physics, trained on the same events and judged alike."""

from qgen.generator import DiscreteGenerator, ExtrapolationWarning, Generator
from qgen.run import Run, load_run
from qgen.statefile import load_generator, save_generator
from qgen.training import FitResult, TrainingDivergedError, fit

__all__ = [
    "DiscreteGenerator",
    "ExtrapolationWarning",
    "FitResult",
    "Generator",
    "Run",
    "TrainingDivergedError",
    "fit",
    "load_generator",
    "load_run",
    "save_generator",
]
