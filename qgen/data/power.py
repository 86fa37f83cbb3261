r"""The power transform of Yeo and Johnson, which makes skewed features more like a normal distribution.

Biometrika 87 (2000) 954: with a power :math:`\lambda` for each feature,

.. math:: y = \begin{cases} ((1 + x)^\lambda - 1) / \lambda & x \ge 0 \\
              -((1 - x)^{2 - \lambda} - 1) / (2 - \lambda) & x < 0 \end{cases}

with logarithms where the divisor is 0. It is the identity for :math:`\lambda = 1`.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from qgen.data.transforms import Transform

__all__ = ["YeoJohnson"]


class YeoJohnson(Transform):
    """The power transform of each feature.

    For a power below 0 or above 2 the transformed values are bounded on one side. The inverse gives nan beyond: no
    value has such an image.

    Args:
        power: of each feature.

    Raises:
        ValueError: a power is not finite.

    >>> YeoJohnson([0.0, 1.0])(torch.tensor([[1.0, -3.0]])).tolist()
    [[0.6931471824645996, -3.0]]
    """

    power: Tensor

    def __init__(self, power: list[float]) -> None:
        super().__init__()
        for i, value in enumerate(power):
            if not abs(value) < float("inf"):
                raise ValueError(f"power of feature {i} is {value}; it must be finite")
        self.register_buffer("power", torch.tensor(power, dtype=torch.float64))

    @classmethod
    def fit(cls, samples: Tensor) -> Self:
        """The powers under which ``samples`` ``(N, n_features)`` are most likely normal; 1 for a constant feature.

        >>> skewed = torch.linspace(-2, 2, 101, dtype=torch.float64)[:, None].exp()
        >>> YeoJohnson.fit(skewed).power.item() < 0
        True
        """
        from scipy.stats import yeojohnson_normmax

        columns = samples.detach().cpu().numpy().T
        return cls([1.0 if column.min() == column.max() else float(yeojohnson_normmax(column)) for column in columns])

    def _power(self, values: Tensor) -> Tensor:
        """The power of the branch that a value lies on."""
        power = self.power.to(values)
        return torch.where(values >= 0, power, 2 - power)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """The transformed samples."""
        power, log = self._power(samples), torch.log1p(_size(samples))
        safe = torch.where(power == 0, torch.ones_like(power), power)
        size = torch.where(power == 0, log, torch.expm1(power * log) / safe)
        return torch.where(samples >= 0, size, -size)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """The samples of these transformed values; nan where there is none."""
        power, size = self._power(values), _size(values)
        safe = torch.where(power == 0, torch.ones_like(power), power)
        log = torch.where(power == 0, size, torch.log1p(power * size) / safe)
        return torch.where(values >= 0, torch.expm1(log), -torch.expm1(log))

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``sum (power - 1) sign(samples) log(1 + |samples|)``, shape ``(N,)``."""
        return ((self.power.to(samples) - 1) * samples.sign() * torch.log1p(samples.abs())).sum(1)

    def arguments(self) -> dict[str, Any]:
        """The powers as a list."""
        return {"power": self.power.tolist()}


def _size(values: Tensor) -> Tensor:
    """The magnitude, with slope 1 at 0."""
    return torch.where(values >= 0, values, -values)
