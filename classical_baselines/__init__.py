"""Classical opponents of the quantum generators: flow, GAN, and the trivial models that every claim must beat."""

from __future__ import annotations

from classical_baselines.flow import ConditionalFlow
from classical_baselines.gan import ConditionalGAN
from classical_baselines.trivial import GaussianCopula, IndependentMarginals, ResampledHistogram
from classical_baselines.vae import ConditionalVAE

__all__ = [
    "ConditionalFlow",
    "ConditionalGAN",
    "ConditionalVAE",
    "GaussianCopula",
    "IndependentMarginals",
    "ResampledHistogram",
]
