r"""Images with empty pixels as continuous numbers, for models of densities.

A pixel below the detector's threshold is exactly 0, so that images have no density: a flow would put ever narrower
spikes there. With :math:`t` the smallest energy of all pixels in training that are not empty, and :math:`u_j`
a monotonic function of a pixel's energy (the logarithm of its fraction, say), an empty pixel becomes

.. math:: u_j = u_j(t) - w_j |\xi|, \qquad \xi \sim \mathcal N(0, 1)^3,

drawn anew each time a training sees it. In three dimensions the length is seldom near 0: a gap is left at the
threshold, and the smooth density of a model does not leak over it. On the way back all that lies below :math:`t` is
empty. So the probability that a pixel is empty is that of the continuous number lying below the threshold, and it
depends on the other pixels and the condition as that number does. (Noise on empty cells is usual for flows on showers,
2106.05285; its place, its width and the gap are ours.)

A pixel that is empty in all of training is dead: it is filled like the others, but whatever is drawn there is empty,
and an image with energy there has the density 0.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.transforms import Transform
from qgen.random import new_generator, normal

__all__ = ["ROUNDING", "Filled", "continuous"]

MEDIAN = 1.5381722544550522
"""Of the length of a standard normal vector in three dimensions."""
WIDTH = 1.0
"""Of the noise along each of them, in standard deviations of a pixel."""

ROUNDING = 1e-6
"""Relative difference by which an energy may fall below the threshold on its way through the transform and back."""


class Filled(Transform):
    """A transform of pixels and, for those that are empty, a place below the threshold; standardised.

    ``forward`` puts an empty pixel at the median of the noise, so that the map is a function; :meth:`noisy` draws it.

    Args:
        pixels: acts on each pixel for itself, increasing.
        threshold: of each pixel in its unit, an energy below it is none; 0 for a pixel that is never empty.
        dead: whether a pixel is always empty, whatever lies in its place.
        width: of the noise, after ``pixels``.
        mean: of the filled pixel, after ``pixels``.
        scale: its standard deviation; positive.

    >>> from qgen.data import load_calorimeter
    >>> data = load_calorimeter(grid=(8, 8), max_events=200)
    >>> filled = continuous(data)
    >>> torch.allclose(filled.inverse(filled(data.samples, data.conditions), data.conditions), data.samples)
    True
    """

    threshold: Tensor
    dead: Tensor
    width: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        pixels: Transform,
        threshold: list[float],
        dead: list[bool],
        width: list[float],
        mean: list[float],
        scale: list[float],
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.register_buffer("dead", torch.tensor(dead, dtype=torch.bool))
        for name, row in (("threshold", threshold), ("width", width), ("mean", mean), ("scale", scale)):
            self.register_buffer(name, torch.tensor(row, dtype=torch.float64))

    @classmethod
    def fit(cls, pixels: Transform, samples: Tensor, condition: Tensor, seed: int = 0) -> Self:
        """Thresholds and scales of training images ``(N, n_pixels)``, no energy negative; ``seed`` draws the noise."""
        empty = samples == 0
        smallest = torch.where(empty, torch.inf, samples).min()
        threshold = torch.where(empty.any(0) & smallest.isfinite(), smallest, 0.0)
        dead = empty.all(0)
        before = pixels(samples, condition)
        spread = (before - before.mean(0)).square().mean(0).sqrt()
        width = WIDTH * torch.where(spread > 0, spread, 1.0)
        plain = [torch.zeros_like(width).tolist(), torch.ones_like(width).tolist()]
        tables = threshold.tolist(), dead.tolist(), width.tolist()
        first = cls(pixels, *tables, *plain)
        values = first.noisy(first(samples, condition), condition, new_generator(seed))
        mean = values.mean(0)
        scale = (values - mean).square().mean(0).sqrt()
        scale = torch.where(scale > 1e-12 * (1 + mean.abs()), scale, 1.0)
        return cls(pixels, *tables, mean.tolist(), scale.tolist())

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images as numbers of order one, an empty pixel at the median of its noise."""
        threshold = self.threshold.to(samples)
        samples = samples.masked_fill(self.dead, 0.0)
        values = self.pixels(torch.maximum(samples, threshold), condition)
        values = torch.where(samples < threshold, values - MEDIAN * self.width.to(samples), values)
        return (values - self.mean.to(samples)) / self.scale.to(samples)

    def noisy(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """The same images, their empty pixels drawn anew.

        Args:
            values: ``(N, n_pixels)`` as :meth:`forward` gives them.
            condition: ``(N, n_conditions)`` in physical units, or None.
            generator: source of the noise.
        """
        threshold = self.threshold.to(values)
        edge = (self.pixels(threshold.expand_as(values), condition) - self.mean.to(values)) / self.scale.to(values)
        width = (self.width / self.scale).to(values)
        noise = torch.zeros_like(values)
        for _ in range(3):
            noise += normal(tuple(values.shape), generator, dtype=values.dtype, device=values.device).square()
        return torch.where((threshold > 0) & (values < edge - 1e-3 * width), edge - width * noise.sqrt(), values)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images, a pixel empty that is below its threshold or dead."""
        return self.cut(self.pixels.inverse(self.unscaled(values), condition))

    def unscaled(self, values: Tensor) -> Tensor:
        """Standardised numbers as ``pixels`` gave them."""
        return values * self.scale.to(values) + self.mean.to(values)

    def cut(self, samples: Tensor, part: slice | list[int] = slice(None)) -> Tensor:
        """Energies of these pixels, 0 for those that are dead or below the threshold."""
        return samples.masked_fill((samples < (1 - ROUNDING) * self.threshold[part].to(samples)) | self.dead[part], 0.0)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Of the map at the image, or at the threshold for an empty pixel, shape ``(N,)``.

        Minus infinity for an image with energy in a dead pixel, which is nowhere on the way back.
        """
        at = torch.maximum(samples, self.threshold.to(samples))
        inside = self.pixels.log_abs_det(at, condition) - self.scale.to(samples).log().sum()
        return inside.masked_fill((self.dead & (samples != 0)).any(1), -torch.inf)

    def arguments(self) -> dict[str, Any]:
        """The inner transform's spec and the tables as lists."""
        tables = {name: getattr(self, name).tolist() for name in ("threshold", "dead", "width", "mean", "scale")}
        return {"pixels": self.pixels.spec(), **tables}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """The transform of these tables."""
        return cls(**{**arguments, "pixels": Transform.from_spec(arguments["pixels"])})


def continuous(dataset: Dataset) -> Transform:
    """The dataset's transform, for images with empty pixels :class:`Filled`, so that events have a density."""
    if not isinstance(dataset, CalorimeterDataset):
        return dataset.transform
    train = dataset.train
    if not (train.samples == 0).any():
        return dataset.transform
    return Filled.fit(dataset.transform, train.samples, train.conditions, dataset.seed)
