"""Events with mean zero and unit covariance, by a linear map."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from qgen.data.transforms import Transform

__all__ = ["Whiten"]


class Whiten(Transform):
    r"""Features without their mean and covariance: :math:`y = L^{-1} (v - \mu)` with the covariance :math:`L L^T`.

    Column ``i`` of the result is what feature ``i`` adds to the features before it.

    Args:
        mean: of each feature.
        factor: ``L``, lower triangular with a positive diagonal, ``(n_features, n_features)``.

    Raises:
        ValueError: a number on the diagonal is not positive and finite.

    >>> rng = torch.Generator().manual_seed(0)
    >>> values = torch.randn(1000, 2, generator=rng, dtype=torch.float64).cumsum(1)
    >>> torch.allclose(Whiten.fit(values)(values).T.cov(), torch.eye(2, dtype=torch.float64))
    True
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: list[float], factor: list[list[float]]) -> None:
        super().__init__()
        for i, row in enumerate(factor):
            if not 0.0 < row[i] < float("inf"):
                raise ValueError(f"factor has {row[i]} on its diagonal at feature {i}; a positive number is needed")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float64).tril())

    @classmethod
    def fit(cls, values: Tensor) -> Self:
        """The map for training events ``(N, n_features)``.

        Raises:
            ValueError: fewer than two events, or features that are constant or linearly dependent.
        """
        if len(values) < 2:
            raise ValueError(f"{len(values)} events; at least 2 are needed for a covariance")
        n_features = values.shape[1]
        covariance = values.T.cov().reshape(n_features, n_features)
        variances = torch.linalg.eigvalsh(covariance)
        if not variances.min() > 1e-12 * variances.max():
            raise ValueError("features are constant or linearly dependent; leave one out")
        return cls(values.mean(0).tolist(), torch.linalg.cholesky(covariance).tolist())

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``y``."""
        away = (samples - self.mean.to(samples)).T
        return torch.linalg.solve_triangular(self.factor.to(samples), away, upper=False).T

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``v``."""
        return values @ self.factor.to(values).T + self.mean.to(values)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``-log |det L|``, the same for each sample, shape ``(N,)``."""
        return -self.factor.to(samples).diagonal().log().sum().expand(samples.shape[0])

    def arguments(self) -> dict[str, Any]:
        """Mean and factor as lists."""
        return {"mean": self.mean.tolist(), "factor": self.factor.tolist()}
