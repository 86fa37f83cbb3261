"""Invertible maps between physical units and the order-one numbers that a model learns.

A :class:`Transform` is an ``nn.Module`` without trainable parameters: it moves with ``.to(device)`` and is saved
with the model, so that a trained generator answers in physical units wherever it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

__all__ = ["Columns", "Compose", "EnergyFraction", "Identity", "Log", "Logit", "MinMax", "Standardise", "Transform"]


class Transform(nn.Module):
    """An invertible map of samples ``(N, n_features)``, possibly given their conditions ``(N, n_conditions)``.

    A subclass implements ``forward``, ``inverse``, ``log_abs_det`` and ``arguments``; it is then restored from
    :meth:`spec` by :meth:`from_spec`.
    """

    kinds: ClassVar[dict[str, type[Transform]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
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

    def noisy(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """True values as a training step sees them: as they are, unless the transform fills in something random."""
        return values

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
        mean = samples.mean(0)
        scale = (samples - mean).square().mean(0).sqrt()
        varies = (samples.amax(0) > samples.amin(0)) & (scale > 0)
        return cls(mean.tolist(), torch.where(varies, scale, torch.ones_like(scale)).tolist())

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


class _Bounded(Transform):
    """What transforms with a lower and an upper bound of each feature share."""

    low: Tensor
    high: Tensor

    def __init__(self, low: list[float], high: list[float]) -> None:
        super().__init__()
        if len(low) != len(high):
            raise ValueError(f"low has {len(low)} values, high has {len(high)}; one of each is needed for a feature")
        for i, (a, b) in enumerate(zip(low, high, strict=True)):
            if not -float("inf") < a < b < float("inf"):
                raise ValueError(f"bounds of feature {i} are {a} and {b}; they must be finite and increasing")
        self.register_buffer("low", torch.tensor(low, dtype=torch.float64))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float64))

    def arguments(self) -> dict[str, Any]:
        """The bounds as lists."""
        return {"low": self.low.tolist(), "high": self.high.tolist()}


class MinMax(_Bounded):
    """Each feature linearly from ``[low, high]`` to ``[-1, 1]``, the range of a generator that ends in tanh.

    Values beyond the bounds map beyond ``[-1, 1]``: nothing is clipped.

    Args:
        low: of each feature, in its unit.
        high: of each feature, above ``low``.

    Raises:
        ValueError: bounds that are not finite and increasing.

    >>> MinMax([0.0], [10.0])(torch.tensor([[0.0], [5.0], [10.0]])).flatten().tolist()
    [-1.0, 0.0, 1.0]
    """

    @classmethod
    def fit(cls, samples: Tensor) -> Self:
        """The smallest and largest value of each feature; a constant feature ``c`` gets ``[c - 1, c + 1]``."""
        low, high = samples.amin(0), samples.amax(0)
        constant = (high <= low).to(samples)
        return cls((low - constant).tolist(), (high + constant).tolist())

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``2 (samples - low) / (high - low) - 1``."""
        low, high = self.low.to(samples), self.high.to(samples)
        return 2.0 * (samples - low) / (high - low) - 1.0

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``low + (values + 1) (high - low) / 2``."""
        low, high = self.low.to(values), self.high.to(values)
        return low + 0.5 * (values + 1.0) * (high - low)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``sum log(2 / (high - low))``, the same for each sample, shape ``(N,)``."""
        return (2.0 / (self.high - self.low)).to(samples).log().sum().expand(samples.shape[0])


class Log(Transform):
    """``log(1 + value / offset)`` or, with offset 0, ``log(value)`` of each feature, natural logarithm.

    An offset of the size of the typical value keeps empty pixels at 0, is linear for small values and tames the
    tail of large ones. The inverse never falls below 0: with an offset, anything below 0 is the value 0.

    Args:
        offset: of each feature, in its unit; not negative. Values must be at least 0, and above 0 where it is 0.

    Raises:
        ValueError: an offset is negative or not finite.

    >>> transform = Log([1.0])
    >>> transform.inverse(torch.tensor([[-0.3], [0.0], [2.0]]).double()).flatten().tolist()
    [0.0, 0.0, 6.38905609893065]
    """

    offset: Tensor

    def __init__(self, offset: list[float]) -> None:
        super().__init__()
        for i, value in enumerate(offset):
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"offset of feature {i} is {value}; it must be finite and not negative")
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float64))

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``log(1 + samples / offset)``, ``log(samples)`` where the offset is 0."""
        offset = self.offset.to(samples)
        shifted = offset > 0
        safe = torch.where(shifted, offset, torch.ones_like(offset))
        return torch.where(shifted, torch.log1p(samples / safe), torch.log(torch.where(shifted, 1.0, samples)))

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``offset (exp(values) - 1)`` and at least 0, ``exp(values)`` where the offset is 0."""
        offset = self.offset.to(values)
        return torch.where(offset > 0, (offset * torch.expm1(values)).clamp_min(0.0), torch.exp(values))

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``-sum log(samples + offset)``, shape ``(N,)``."""
        return -torch.log(samples + self.offset.to(samples)).sum(1)

    def arguments(self) -> dict[str, Any]:
        """The offsets as a list."""
        return {"offset": self.offset.tolist()}


class Logit(_Bounded):
    """``log(p / (1 - p))`` with ``p = (value - low) / (high - low)``: features bounded on both sides.

    Values on or beyond a bound have no finite image; the inverse always lies within the bounds.

    Args:
        low: of each feature, in its unit.
        high: of each feature, above ``low``.

    Raises:
        ValueError: bounds that are not finite and increasing.

    >>> Logit([0.0], [1.0]).inverse(torch.tensor([[0.0]])).item()
    0.5
    """

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``log(samples - low) - log(high - samples)``."""
        return torch.log(samples - self.low.to(samples)) - torch.log(self.high.to(samples) - samples)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``low + (high - low) sigmoid(values)``."""
        low, high = self.low.to(values), self.high.to(values)
        return low + (high - low) * torch.sigmoid(values)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``sum log((high - low) / ((samples - low) (high - samples)))``, shape ``(N,)``."""
        low, high = self.low.to(samples), self.high.to(samples)
        return (torch.log(high - low) - torch.log(samples - low) - torch.log(high - samples)).sum(1)


class EnergyFraction(Transform):
    """Energies as fractions of the event's own energy scale, which is one of its conditions.

    Args:
        column: which condition is the scale (the incident energy, the beam energy), in the unit of the samples.

    Raises:
        ValueError: a negative column.

    >>> energies, incident = torch.tensor([[20.0, 5.0]]), torch.tensor([[100.0]])
    >>> EnergyFraction()(energies, incident)
    tensor([[0.2000, 0.0500]])
    """

    def __init__(self, column: int = 0) -> None:
        super().__init__()
        if column < 0:
            raise ValueError(f"column is {column}; it must not be negative")
        self.column = column

    def _scale(self, condition: Tensor | None, like: Tensor) -> Tensor:
        if condition is None or condition.ndim != 2 or condition.shape[1] <= self.column:
            found = "none" if condition is None else f"shape {tuple(condition.shape)}"
            raise ValueError(f"EnergyFraction needs a condition with a column {self.column}, found {found}")
        return condition[:, self.column : self.column + 1].to(like)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``samples / scale``."""
        return samples / self._scale(condition, samples)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``values * scale``, at least 0: an energy is never negative."""
        return (values * self._scale(condition, values)).clamp_min(0.0)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``-n_features log scale``, shape ``(N,)``."""
        return -samples.shape[1] * self._scale(condition, samples).log().squeeze(1)

    def arguments(self) -> dict[str, Any]:
        """The column of the scale."""
        return {"column": self.column}


class Columns(Transform):
    """A transform of its own for each feature.

    Args:
        parts: one transform for each feature; it sees that column, shape ``(N, 1)``, and all conditions.

    >>> transform = Columns([Log([0.0]), Identity()])
    >>> transform(torch.tensor([[1.0, 7.0]])).tolist()
    [[0.0, 7.0]]
    """

    def __init__(self, parts: Sequence[Transform]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def _pairs(self, values: Tensor) -> Iterator[tuple[Transform, Tensor]]:
        if values.shape[1] != len(self.parts):
            raise ValueError(f"values have {values.shape[1]} columns, the transform has {len(self.parts)}")
        yield from zip(_transforms(self.parts), values.split(1, dim=1), strict=True)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Each column through its transform."""
        return torch.cat([part(column, condition) for part, column in self._pairs(samples)], dim=1)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """Each column back through its transform."""
        return torch.cat([part.inverse(column, condition) for part, column in self._pairs(values)], dim=1)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Sum over the columns, shape ``(N,)``."""
        return torch.stack([part.log_abs_det(column, condition) for part, column in self._pairs(samples)]).sum(0)

    def arguments(self) -> dict[str, Any]:
        """The parts' specs."""
        return {"parts": [part.spec() for part in _transforms(self.parts)]}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """The transform of these parts."""
        return cls([Transform.from_spec(spec) for spec in arguments["parts"]])


class Compose(Transform):
    """Transforms one after the other.

    Args:
        steps: applied in this order; all see the same conditions.

    >>> transform = Compose([Log([0.0]), MinMax([0.0], [2.0])])
    >>> transform(torch.tensor([[1.0]])).item()
    -1.0
    """

    def __init__(self, steps: Sequence[Transform]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """All steps, first to last."""
        for step in _transforms(self.steps):
            samples = step(samples, condition)
        return samples

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """All inverses, last to first."""
        for step in reversed(_transforms(self.steps)):
            values = step.inverse(values, condition)
        return values

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Sum over the steps, each at its own input, shape ``(N,)``."""
        total = samples.new_zeros(samples.shape[0])
        for step in _transforms(self.steps):
            total = total + step.log_abs_det(samples, condition)
            samples = step(samples, condition)
        return total

    def arguments(self) -> dict[str, Any]:
        """The steps' specs."""
        return {"steps": [step.spec() for step in _transforms(self.steps)]}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """The transform of these steps."""
        return cls([Transform.from_spec(spec) for spec in arguments["steps"]])


def _transforms(modules: nn.ModuleList) -> list[Transform]:
    return [module for module in modules if isinstance(module, Transform)]
