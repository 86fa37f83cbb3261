"""Invertible maps between physical units and the order-one numbers that a model learns.

A :class:`Transform` is an ``nn.Module`` without trainable parameters: it moves with ``.to(device)`` and is saved
with the model, so that a trained generator answers in physical units wherever it is loaded.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

__all__ = ["Identity", "Standardise", "Transform"]


class Transform(nn.Module):
    """An invertible map of samples ``(N, n_features)``, possibly given their conditions ``(N, n_conditions)``.

    A subclass implements ``forward``, ``inverse``, ``log_abs_det`` and ``arguments``; it is then restored from
    :meth:`spec` by :meth:`from_spec`.
    """

    kinds: ClassVar[dict[str, type[Transform]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Transform.kinds[cls.__name__] = cls

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """From physical units to the model's, shape kept."""
        raise NotImplementedError

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """From the model's units back to physical ones, shape kept."""
        raise NotImplementedError

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``log |d forward / d samples|`` of each sample, shape ``(N,)``."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values (a nested transform as its :meth:`spec`)."""
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """``{"kind": class name, "arguments": {...}}``, JSON values only."""
        return {"kind": type(self).__name__, "arguments": self.arguments()}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """The transform whose :meth:`arguments` these are."""
        return cls(**arguments)

    @staticmethod
    def from_spec(spec: dict[str, Any]) -> Transform:
        """The transform that :meth:`spec` describes.

        Raises:
            ValueError: the kind is unknown.

        >>> t = Standardise.fit(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
        >>> Transform.from_spec(t.spec()).inverse(torch.zeros(1, 1, dtype=torch.float64))
        tensor([[2.]], dtype=torch.float64)
        """
        kind = spec.get("kind")
        if kind not in Transform.kinds:
            raise ValueError(f"transform kind {kind!r} is unknown; known: {', '.join(sorted(Transform.kinds))}")
        return Transform.kinds[kind].from_arguments(spec["arguments"])


class Identity(Transform):
    """Leaves samples as they are."""

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """The samples."""
        return samples

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """The values."""
        return values

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Zeros, shape ``(N,)``."""
        return samples.new_zeros(samples.shape[0])

    def arguments(self) -> dict[str, Any]:
        """No arguments."""
        return {}


class Standardise(Transform):
    """Each feature to mean 0 and standard deviation 1.

    Args:
        mean: of each feature, in its unit.
        scale: standard deviation of each feature, in its unit; positive.

    Raises:
        ValueError: a scale is not positive and finite.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: list[float], scale: list[float]) -> None:
        super().__init__()
        for i, value in enumerate(scale):
            if not 0.0 < value < float("inf"):
                raise ValueError(f"scale of feature {i} is {value}; it must be positive and finite")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    @classmethod
    def fit(cls, samples: Tensor, condition: Tensor | None = None) -> Self:
        """Mean and standard deviation of ``samples`` ``(N, n_features)``; a constant feature keeps scale 1."""
        scale = samples.std(0, correction=0)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        return cls(samples.mean(0).tolist(), scale.tolist())

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``(samples - mean) / scale``."""
        return (samples - self.mean.to(samples)) / self.scale.to(samples)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``values * scale + mean``."""
        return values * self.scale.to(values) + self.mean.to(values)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``-sum log scale``, the same for each sample, shape ``(N,)``."""
        return -self.scale.to(samples).log().sum().expand(samples.shape[0])

    def arguments(self) -> dict[str, Any]:
        """Mean and scale as lists."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}
