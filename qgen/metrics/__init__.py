"""Metrics: distances between true and generated events, each with its uncertainty and its floor.

:func:`evaluate` scores generated events by all of them; each can also be called on two samples.
"""

from qgen.metrics.base import GROUPS, METRICS, MINIMUM_EVENTS, Estimator, Metric, Named, find_metrics, metric
from qgen.metrics.cells import jensen_shannon, joint_cells, separation, total_variation
from qgen.metrics.classifier import classifier_auc
from qgen.metrics.distances import correlation, ks, wasserstein
from qgen.metrics.frechet import fpd, frechet_distance, kpd
from qgen.metrics.images import image_distribution_entropy, image_entropy, mean_image_entropy, relative_entropy
from qgen.metrics.kernels import energy_distance, mmd, mmd_blocks
from qgen.metrics.kullback_leibler import histogram_kl, kl, kl_published
from qgen.metrics.result import MetricResult
from qgen.metrics.suite import evaluate
from qgen.metrics.table import MetricRow, MetricTable

__all__ = [
    "GROUPS",
    "METRICS",
    "MINIMUM_EVENTS",
    "Estimator",
    "Metric",
    "MetricResult",
    "MetricRow",
    "MetricTable",
    "Named",
    "classifier_auc",
    "correlation",
    "energy_distance",
    "evaluate",
    "find_metrics",
    "fpd",
    "frechet_distance",
    "histogram_kl",
    "image_distribution_entropy",
    "image_entropy",
    "jensen_shannon",
    "joint_cells",
    "kl",
    "kl_published",
    "kpd",
    "ks",
    "mean_image_entropy",
    "metric",
    "mmd",
    "mmd_blocks",
    "relative_entropy",
    "separation",
    "total_variation",
    "wasserstein",
]
