r"""Generator network of a conditional GAN.

A fully connected network :math:`G` maps a latent vector and the condition to an event,

.. math:: x = G(z, c), \quad z \sim \mathcal N(0, 1)^{L},

and is trained against a discriminator, which belongs to the objective (:class:`qgen.training.Adversarial`, with the
non-saturating loss of arXiv:1406.2661 or the Wasserstein loss with gradient penalty of arXiv:1704.00028). The
conditional form is that of arXiv:1411.1784.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge
from torch import Tensor

from classical_baselines.filled import continuous
from classical_baselines.networks import beside, perceptron
from classical_baselines.sizing import closest_size, closest_width, mlp_size
from qgen.data.dataset import Dataset
from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.random import derive_seed, normal, seeded

__all__ = ["ConditionalGAN"]

LARGEST_LATENT = 64
"""Length of the latent vector by default, where there are as many features or more."""


class ConditionalGAN(Generator):
    """Multi-layer perceptron from a normal latent vector and the condition to an event.

    The output is linear in the transform's space. Weights are float64 and follow ``.to``; LeakyReLU(0.2) between
    the layers.

    Args:
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        latent_size: length of the latent vector.
        hidden: widths of the hidden layers; empty for a linear map.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: a size below 1.

    >>> import torch
    >>> model = ConditionalGAN(3, 1, latent_size=4, hidden=(16,))
    >>> model.sample(5, torch.tensor([50.0])).shape, model.n_parameters
    (torch.Size([5, 3]), 147)
    """

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        latent_size: int = 8,
        hidden: Sequence[int] = (128,),
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        if latent_size < 1 or any(width < 1 for width in hidden):
            raise ValueError(f"latent_size is {latent_size}, hidden is {list(hidden)}; all must be at least 1")
        self.latent_size = latent_size
        self.hidden = tuple(hidden)
        with seeded(derive_seed(seed, "weights")):
            self.network = perceptron(latent_size + n_conditions, self.hidden, n_features)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        latent_size: Annotated[int, Ge(1)] | None = None,
        hidden: Sequence[Annotated[int, Ge(1)]] = (128,),
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh network for these events.

        Args:
            dataset: gives the columns and the transforms.
            seed: fixes the initial weights.
            latent_size: length of the latent vector; as many as features, at most 64, if not given.
            hidden: widths of the hidden layers.
            n_parameters: wanted number of parameters, reached within 10 %: the width of the hidden layers is chosen;
                where it would be below 32, there is one hidden layer or none.

        Raises:
            ValueError: no network has about ``n_parameters`` parameters.
        """
        latent_size = min(dataset.n_features, LARGEST_LATENT) if latent_size is None else latent_size
        if n_parameters is not None:
            n_inputs = latent_size + dataset.n_conditions
            candidates = _architectures(n_inputs, len(hidden), dataset.n_features, n_parameters)
            what = f"a ConditionalGAN with {dataset.n_features} features and latent_size {latent_size}"
            hidden = closest_size(candidates, n_parameters, what)
        return cls(
            dataset.n_features,
            dataset.n_conditions,
            latent_size=latent_size,
            hidden=hidden,
            seed=seed,
            transform=continuous(dataset),
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns, latent size and widths of the hidden layers."""
        return {
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "latent_size": self.latent_size,
            "hidden": list(self.hidden),
        }

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        weight = next(self.parameters())
        latent = normal((n, self.latent_size), generator, dtype=weight.dtype, device=weight.device)
        events: Tensor = self.network(beside(latent, condition))
        return events


def _architectures(n_inputs: int, n_layers: int, n_outputs: int, target: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Hidden widths with their numbers of parameters, the preferred ones first: bottlenecks come last."""
    shapes = [(n_layers, max(n_outputs, 32))] if n_layers > 1 else []
    shapes += [(1, n_outputs), (0, 0), (1, 1)] if n_layers else [(0, 0)]
    for layers, smallest in shapes:

        def size(width: int, layers: int = layers) -> int:
            return mlp_size(n_inputs, (width,) * layers, n_outputs)

        width = closest_width(size, target, smallest) if layers else 0
        yield (width,) * layers, size(width)
