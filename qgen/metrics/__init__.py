"""Metrics: distances between true and generated events, each with its uncertainty and its floor.

:func:`evaluate` scores generated events by all of them; each can also be called on two samples.
"""

from qgen.metrics.base import (
    GROUPS,
    METRICS,
    MINIMUM_EVENTS,
    Estimator,
    Metric,
    Named,
    WithPValue,
    find_metrics,
    metric,
)
from qgen.metrics.birthday import support, support_size, support_ssim
from qgen.metrics.calochallenge import calochallenge_dropped, calochallenge_separation
from qgen.metrics.cells import jensen_shannon, joint_cells, separation, total_variation
from qgen.metrics.challenge_classifier import (
    ClassifierScore,
    high_level_auc,
    low_level_auc,
    network_score,
)
from qgen.metrics.classifier import classifier_auc
from qgen.metrics.copies import memorisation
from qgen.metrics.distances import correlation, ks, kuiper, wasserstein
from qgen.metrics.frechet import fpd, frechet_distance, kpd
from qgen.metrics.ganplification import Amplification, QuantileCells, Worth, amplification
from qgen.metrics.image_similarity import ssim_distance, ssim_mean, ssim_spread
from qgen.metrics.images import image_distribution_entropy, image_entropy, mean_image_entropy, relative_entropy
from qgen.metrics.kernels import energy_distance, mmd, mmd_blocks
from qgen.metrics.kullback_leibler import histogram_kl, js, kl, kl_published, kl_reverse
from qgen.metrics.likelihood_ratio import likelihood_ratio
from qgen.metrics.modes import dropped_modes, mode_dropping
from qgen.metrics.muons import conditional_quantiles, invariant_masses, momentum_balance, muon_kinematics
from qgen.metrics.neighbours import coverage, density, precision, recall
from qgen.metrics.permutation import kernel_test, sliced_ks
from qgen.metrics.precision_recall import PRDCurve, prd_auc, prd_curve, prd_f8, prd_f_eighth
from qgen.metrics.profiles import lateral_profile, lateral_shape, layer_correlation, longitudinal_profile
from qgen.metrics.ranges import outside, outside_limits
from qgen.metrics.result import MetricResult
from qgen.metrics.reweighting import ClassifierWeights, Region, classifier_weights, where_it_fails
from qgen.metrics.showers import energy_resolution, energy_response, shower_depth, sparsity, voxel_spectrum
from qgen.metrics.suite import evaluate
from qgen.metrics.table import MetricRow, MetricTable
from qgen.metrics.tails import rare_events, tail_counts
from qgen.metrics.transport import sinkhorn, sliced_wasserstein
from qgen.metrics.uncertainties import Calibration, SeedSpread, calibration, combine_seeds

__all__ = [
    "GROUPS",
    "METRICS",
    "MINIMUM_EVENTS",
    "Amplification",
    "Calibration",
    "ClassifierScore",
    "ClassifierWeights",
    "Estimator",
    "Metric",
    "MetricResult",
    "MetricRow",
    "MetricTable",
    "Named",
    "PRDCurve",
    "QuantileCells",
    "Region",
    "SeedSpread",
    "WithPValue",
    "Worth",
    "amplification",
    "calibration",
    "calochallenge_dropped",
    "calochallenge_separation",
    "classifier_auc",
    "classifier_weights",
    "combine_seeds",
    "conditional_quantiles",
    "correlation",
    "coverage",
    "density",
    "dropped_modes",
    "energy_distance",
    "energy_resolution",
    "energy_response",
    "evaluate",
    "find_metrics",
    "fpd",
    "frechet_distance",
    "high_level_auc",
    "histogram_kl",
    "image_distribution_entropy",
    "image_entropy",
    "invariant_masses",
    "jensen_shannon",
    "joint_cells",
    "js",
    "kernel_test",
    "kl",
    "kl_published",
    "kl_reverse",
    "kpd",
    "ks",
    "kuiper",
    "lateral_profile",
    "lateral_shape",
    "layer_correlation",
    "likelihood_ratio",
    "longitudinal_profile",
    "low_level_auc",
    "mean_image_entropy",
    "memorisation",
    "metric",
    "mmd",
    "mmd_blocks",
    "mode_dropping",
    "momentum_balance",
    "muon_kinematics",
    "network_score",
    "outside",
    "outside_limits",
    "prd_auc",
    "prd_curve",
    "prd_f8",
    "prd_f_eighth",
    "precision",
    "rare_events",
    "recall",
    "relative_entropy",
    "separation",
    "shower_depth",
    "sinkhorn",
    "sliced_ks",
    "sliced_wasserstein",
    "sparsity",
    "ssim_distance",
    "ssim_mean",
    "ssim_spread",
    "support",
    "support_size",
    "support_ssim",
    "tail_counts",
    "total_variation",
    "voxel_spectrum",
    "wasserstein",
    "where_it_fails",
]
