"""Classical opponents of the quantum generators: flow, GAN, and the trivial models that every claim must beat."""

from __future__ import annotations

from classical_baselines.autoregressive import Autoregressive
from classical_baselines.bitflip import BitFlip
from classical_baselines.flow import ConditionalFlow
from classical_baselines.flow_matching import FlowMatching
from classical_baselines.gan import ConditionalGAN
from classical_baselines.rbm import BoltzmannMachine
from classical_baselines.trivial import GaussianCopula, IndependentMarginals, ResampledHistogram
from classical_baselines.two_step import TwoStepFlow
from classical_baselines.vae import ConditionalVAE

__all__ = [
    "Autoregressive",
    "BitFlip",
    "BoltzmannMachine",
    "ConditionalFlow",
    "ConditionalGAN",
    "ConditionalVAE",
    "FlowMatching",
    "GaussianCopula",
    "IndependentMarginals",
    "ResampledHistogram",
    "TwoStepFlow",
]
