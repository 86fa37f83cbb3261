r"""Conditional variational autoencoder.

An event is drawn in two steps, a latent vector and the event given it,

.. math:: p(x \mid c) = \int \mathcal N(z; 0, 1) \, \mathcal N(x; \mu_\theta(z, c), \sigma_\theta(z, c)^2) \, dz ,

each feature with a width of its own that depends on the latent vector as its mean does. A second network gives a normal
distribution :math:`q_\phi(z \mid x, c)`, and both are trained by the evidence bound (1312.6114, 1401.4082; conditional:
Sohn, Lee & Yan, NIPS 2015)

.. math:: -\log p(x \mid c) \le E_{q}[-\log p_\theta(x \mid z, c)] + \beta \, D_{KL}(q_\phi \,\|\, \mathcal N(0, 1)),

with :math:`\beta = 1` for the bound itself; another weight is that of the beta-VAE. Events that are drawn have the
noise of the second step: their means alone would be too smooth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from classical_baselines.filled import continuous
from classical_baselines.networks import beside, perceptron
from classical_baselines.sizing import closest_size, closest_width, mlp_size
from qgen.data.dataset import Dataset
from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.random import derive_seed, new_generator, normal, seeded

__all__ = ["ConditionalVAE"]

NARROWEST, WIDEST = -4.0, 0.5
"""Logarithms of the decoder's widths, in standard deviations of a feature: a constant one would have none, and where
features are logarithms of energies, rare large widths would be energies without bound."""


class ConditionalVAE(Generator):
    """Encoder and decoder of fully connected layers, trained by :class:`qgen.training.Own`.

    The density is an integral and not tractable (``has_log_prob`` is false); :meth:`log_prob_bound` is below it.
    Weights are float64 and follow ``.to``; SiLU between the layers. ``n_parameters`` counts both networks, drawing
    events needs the decoder only.

    Args:
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        latent_size: length of the latent vector.
        hidden: widths of the decoder's hidden layers, the encoder's in reverse order; empty for linear maps.
        beta: weight of the divergence in the loss.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: a size below 1, or a weight that is not positive and finite.

    >>> import torch
    >>> model = ConditionalVAE(3, 1, latent_size=2, hidden=(16,))
    >>> model.sample(5, torch.tensor([50.0])).shape, model.n_parameters
    (torch.Size([5, 3]), 314)
    """

    has_own_loss: ClassVar[bool] = True

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        latent_size: int = 8,
        hidden: Sequence[int] = (128, 128),
        beta: float = 1.0,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        if latent_size < 1 or any(width < 1 for width in hidden):
            raise ValueError(f"latent_size is {latent_size}, hidden is {list(hidden)}; all must be at least 1")
        if not 0 < beta < math.inf:
            raise ValueError(f"beta is {beta}; it must be positive and finite")
        self.latent_size = latent_size
        self.hidden = tuple(hidden)
        self.beta = beta
        with seeded(derive_seed(seed, "weights")):
            self.encoder = perceptron(n_features + n_conditions, self.hidden[::-1], 2 * latent_size, nn.SiLU)
            self.decoder = perceptron(latent_size + n_conditions, self.hidden, 2 * n_features, nn.SiLU)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        latent_size: Annotated[int, Ge(1)] | None = None,
        hidden: Sequence[Annotated[int, Ge(1)]] = (128, 128),
        beta: Annotated[float, Gt(0)] = 1.0,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh model for these events.

        Args:
            dataset: gives the columns and the transforms; empty pixels of images are filled with noise.
            seed: fixes the initial weights.
            latent_size: length of the latent vector; as many as features, at most 16, if not given.
            hidden: widths of the decoder's hidden layers, the encoder's in reverse order.
            beta: weight of the divergence in the loss.
            n_parameters: wanted number of parameters of both networks, reached within 10 %: the width of the hidden
                layers is chosen; where it would be below 16, there is one hidden layer or none and a shorter latent
                vector.

        Raises:
            ValueError: no model has about ``n_parameters`` parameters.
        """
        latent_size = min(dataset.n_features, 16) if latent_size is None else latent_size
        if n_parameters is not None:
            n_features, n_conditions = dataset.n_features, dataset.n_conditions
            candidates = _architectures(n_features, n_conditions, latent_size, len(hidden), n_parameters)
            what = f"a ConditionalVAE with {n_features} features and {n_conditions} conditions"
            latent_size, hidden = closest_size(candidates, n_parameters, what)
        return cls(
            dataset.n_features,
            dataset.n_conditions,
            latent_size=latent_size,
            hidden=hidden,
            beta=beta,
            seed=seed,
            transform=continuous(dataset),
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns, sizes and the weight of the divergence."""
        return {
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "latent_size": self.latent_size,
            "hidden": list(self.hidden),
            "beta": self.beta,
        }

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        latent = self._noise((n, self.latent_size), generator)
        mean, log_width = self._decode(latent, condition)
        return mean + log_width.exp() * self._noise((n, self.n_features), generator)

    def _own_loss(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        values = values.to(next(self.parameters()))
        mean, log_width = self._encode(values, condition)
        latent = mean + log_width.exp() * self._noise(tuple(mean.shape), generator)
        divergence = (0.5 * (mean.square() + torch.exp(2 * log_width) - 1) - log_width).sum(1)
        return (self.beta * divergence - _log_normal(values, *self._decode(latent, condition))).mean()

    @torch.no_grad()
    def log_prob_bound(
        self,
        samples: Tensor,
        condition: Tensor | None = None,
        draws: int = 64,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""A random number whose mean is at most the log density of each event, ``(N,)``.

        .. math:: \log \frac 1K \sum_k \frac{p(x, z_k \mid c)}{q(z_k \mid x, c)}, \qquad z_k \sim q,

        the importance-weighted bound of 1509.00519; it comes nearer with more draws :math:`K`.

        Args:
            samples: ``(N, n_features)`` in physical units.
            condition: as in :meth:`sample`.
            draws: latent vectors for each event.
            generator: source of randomness; without one, a new one seeded by the operating system.

        Raises:
            ValueError: no draw, samples of another shape, or a condition that is missing or superfluous.
        """
        if draws < 1:
            raise ValueError(f"draws is {draws}; at least 1 is needed")
        if samples.ndim != 2 or samples.shape[1] != self.n_features:
            raise ValueError(f"samples have shape {tuple(samples.shape)}; expected (N, {self.n_features})")
        samples = samples.to(self.device, torch.float64)
        given = self._check_condition(condition, len(samples))
        inner, rng = self._model_condition(given), generator or new_generator()
        values = self.transform(samples, given).to(next(self.parameters()))
        mean, log_width = self._encode(values, inner)
        ratios = []
        for _ in range(draws):
            noise = self._noise(tuple(mean.shape), rng)
            latent = mean + log_width.exp() * noise
            prior = _log_normal(latent, torch.zeros_like(latent), torch.zeros_like(latent))
            posterior = _log_normal(latent, mean, log_width)
            ratios.append(_log_normal(values, *self._decode(latent, inner)) + prior - posterior)
        bound = torch.stack(ratios).to(torch.float64).logsumexp(0) - math.log(draws)
        return bound + self.transform.log_abs_det(samples, given)

    def _encode(self, values: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the width of ``q``."""
        mean, log_width = self.encoder(beside(values, condition)).chunk(2, dim=1)
        return mean, log_width

    def _decode(self, latent: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the width of each feature."""
        mean, raw = self.decoder(beside(latent, condition)).chunk(2, dim=1)
        return mean, NARROWEST + (WIDEST - NARROWEST) * torch.sigmoid(raw + 2)  # starts at about one

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        weight = next(self.parameters())
        return normal(shape, generator, dtype=weight.dtype, device=weight.device)


def _log_normal(values: Tensor, mean: Tensor, log_width: Tensor) -> Tensor:
    """Log density of independent normal numbers, summed over the columns."""
    return -(0.5 * ((values - mean) * torch.exp(-log_width)).square() + log_width + 0.5 * math.log(2 * math.pi)).sum(1)


def _architectures(
    n_features: int, n_conditions: int, latent_size: int, n_layers: int, target: int
) -> Iterator[tuple[tuple[int, tuple[int, ...]], int]]:
    """Latent size and hidden widths with their numbers of parameters, the preferred ones first."""
    latents = sorted({max(1, latent_size >> k) for k in range(latent_size.bit_length())}, reverse=True)
    shapes = [(n_layers, latent_size, 16)] if n_layers > 1 else []
    shapes += [(1, latent, 6) for latent in latents] if n_layers else []
    shapes += [(0, latent, 0) for latent in range(latent_size, 0, -1)]
    shapes += [(1, 1, 1)] if n_layers else []
    for layers, latent, smallest in shapes:

        def size(width: int, layers: int = layers, latent: int = latent) -> int:
            hidden = (width,) * layers
            encoder = mlp_size(n_features + n_conditions, hidden, 2 * latent)
            return encoder + mlp_size(latent + n_conditions, hidden, 2 * n_features)

        width = closest_width(size, target, smallest) if layers else 0
        yield (latent, (width,) * layers), size(width)
