r"""Conditional flow matching: noise is carried to events along a velocity field that is learned by regression.

A path joins a standard normal :math:`x_0` and an event :math:`x_1`; the network :math:`v_\theta` regresses its velocity
(2210.02747; stochastic interpolants, 2303.08797),

.. math:: L = E_{t, x_0, x_1} \bigl| v_\theta(x_t, t, c) - \dot x_t \bigr|^2,

and an event is what the solution of :math:`\dot x = v_\theta(x, t, c)` from :math:`x_0` has become at :math:`t = 1`.
Two paths are offered: ``linear``, :math:`x_t = (1 - t) x_0 + t x_1` (the conditional optimal-transport path of
2210.02747, rectified flow 2209.03003), and ``trigonometric``, :math:`x_t = \cos(\pi t / 2) x_0 + \sin(\pi t / 2) x_1`,
whose velocity field vanishes where the events are standard normal. CaloDREAM (2405.09629) generates calorimeter
showers by the linear one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import torch
from annotated_types import Ge
from torch import Tensor, nn

from classical_baselines.filled import continuous
from classical_baselines.networks import beside, perceptron
from classical_baselines.sizing import closest_size, closest_width, mlp_size
from qgen.data.dataset import Dataset
from qgen.data.gaussianise import Gaussianise
from qgen.data.transforms import Compose, Transform
from qgen.generator import Generator
from qgen.random import derive_seed, normal, seeded, uniform

__all__ = ["FlowMatching"]

SAMPLE_CHUNK = 2**14
"""Events that are integrated at a time."""

Path = Literal["linear", "trigonometric"]
Solver = Literal["euler", "midpoint", "rk4"]


class FlowMatching(Generator):
    """Velocity field of a multi-layer perceptron, integrated with a fixed step; trained by its own loss.

    Weights are float64 and follow ``.to``; SiLU between the layers.

    Args:
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        hidden: widths of the hidden layers; empty for a linear field.
        frequencies: the network sees ``cos`` and ``sin`` of ``pi k t`` for ``k`` from 1 to this, besides ``t``.
        path: between noise and event, ``linear`` or ``trigonometric``.
        solver: ``euler``, ``midpoint`` or ``rk4``: 1, 2 or 4 evaluations of the network in a step.
        steps: of the solver from noise to event. It can be set to another number after training.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: a size that is too small, or another path or solver.

    >>> import torch
    >>> model = FlowMatching(3, 1, hidden=(16,), steps=2)
    >>> model.sample(5, torch.tensor([50.0])).shape
    torch.Size([5, 3])
    """

    has_own_loss: ClassVar[bool] = True

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        hidden: Sequence[int] = (128, 128),
        frequencies: int = 3,
        path: Path = "trigonometric",
        solver: Solver = "midpoint",
        steps: int = 8,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        for name, value, allowed in (("path", path, get_args(Path)), ("solver", solver, get_args(Solver))):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
        if steps < 1 or frequencies < 0:
            raise ValueError(f"steps is {steps}, frequencies is {frequencies}; at least 1 and 0 are needed")
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden is {list(hidden)}; every width must be at least 1")
        self.hidden = tuple(hidden)
        self.frequencies = frequencies
        self.path = path
        self.solver = solver
        self.steps = steps
        n_inputs = n_features + n_conditions + 1 + 2 * frequencies
        with seeded(derive_seed(seed, "weights")):
            self.network = perceptron(n_inputs, self.hidden, n_features, nn.SiLU)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        frame: Literal["features", "gaussian"] = "features",
        hidden: Sequence[Annotated[int, Ge(1)]] = (128, 128),
        frequencies: Annotated[int, Ge(0)] = 3,
        path: Path = "trigonometric",
        solver: Solver = "midpoint",
        steps: Annotated[int, Ge(1)] = 8,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh model for these events.

        Args:
            dataset: gives the columns and the transforms.
            seed: fixes the initial weights.
            frame: ``features`` works on the dataset's transform, empty pixels filled
                (:class:`~classical_baselines.filled.Filled`); ``gaussian`` on the directions of
                :class:`~qgen.data.gaussianise.Gaussianise`, where normal numbers are a Gaussian copula and the network
                learns what that misses. Not for images with many empty pixels.
            hidden: widths of the hidden layers.
            frequencies: of the time that the network sees.
            path: between noise and event.
            solver: of the differential equation.
            steps: of the solver.
            n_parameters: wanted number of parameters, reached within 10 %: the width of the hidden layers is chosen;
                where it would be below 16, there is one hidden layer or none, and no frequencies.

        Raises:
            ValueError: no network has about ``n_parameters`` parameters, or an option is impossible for these events.
        """
        if frame not in ("features", "gaussian"):
            raise ValueError(f"frame is {frame!r}; allowed are 'features' and 'gaussian'")
        if frame == "features":
            transform = continuous(dataset)
        else:
            train = dataset.train
            values = dataset.transform(train.samples, train.conditions)
            transform = Compose([dataset.transform, Gaussianise.fit(values, train.conditions)])
        if n_parameters is not None:
            sizes = _architectures(dataset.n_features, dataset.n_conditions, len(hidden), frequencies, n_parameters)
            what = f"a FlowMatching with {dataset.n_features} features and {dataset.n_conditions} conditions"
            hidden, frequencies = closest_size(sizes, n_parameters, what)
        return cls(
            dataset.n_features,
            dataset.n_conditions,
            hidden=hidden,
            frequencies=frequencies,
            path=path,
            solver=solver,
            steps=steps,
            seed=seed,
            transform=transform,
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns, sizes of the network, path and solver."""
        return {
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "hidden": list(self.hidden),
            "frequencies": self.frequencies,
            "path": self.path,
            "solver": self.solver,
            "steps": self.steps,
        }

    def velocity(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """The field at points ``(n, n_features)``, times ``(n, 1)`` from 0 to 1 and conditions; shape of ``x``."""
        angle = math.pi * torch.arange(1, self.frequencies + 1, dtype=x.dtype, device=x.device) * t
        field: Tensor = self.network(beside(torch.cat([x, t, angle.cos(), angle.sin()], dim=1), condition))
        return field

    def _own_loss(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity, times spread evenly over the batch."""
        values = values.to(next(self.parameters()))
        n = len(values)
        like: dict[str, Any] = {"dtype": values.dtype, "device": values.device}
        t = (torch.arange(n, **like)[:, None] + uniform((n, 1), generator, **like)) / n
        noise = normal((n, self.n_features), generator, **like)
        if self.path == "linear":
            x, target = (1 - t) * noise + t * values, values - noise
        else:
            angle = 0.5 * math.pi * t
            x = angle.cos() * noise + angle.sin() * values
            target = 0.5 * math.pi * (angle.cos() * values - angle.sin() * noise)
        return (self.velocity(x, t, condition) - target).square().mean()

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        noise = normal((n, self.n_features), generator, dtype=next(self.parameters()).dtype, device=self.device)
        parts = [slice(start, start + SAMPLE_CHUNK) for start in range(0, n, SAMPLE_CHUNK)]
        return torch.cat(
            [self._integrate(noise[part], None if condition is None else condition[part]) for part in parts]
        )

    def _integrate(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """From noise to events."""
        h = 1 / self.steps

        def field(x: Tensor, t: float) -> Tensor:
            return self.velocity(x, x.new_full((len(x), 1), t), condition)

        for k in range(self.steps):
            t = k * h
            first = field(x, t)
            if self.solver == "euler":
                x = x + h * first
                continue
            second = field(x + h / 2 * first, t + h / 2)
            if self.solver == "midpoint":
                x = x + h * second
                continue
            third = field(x + h / 2 * second, t + h / 2)
            fourth = field(x + h * third, t + h)
            x = x + h / 6 * (first + 2 * second + 2 * third + fourth)
        return x


def _architectures(
    n_features: int, n_conditions: int, n_layers: int, frequencies: int, target: int
) -> Iterator[tuple[tuple[tuple[int, ...], int], int]]:
    """Hidden widths and frequencies with numbers of parameters, the preferred ones first: bottlenecks come last."""
    shapes = [(n_layers, 16, frequencies), (1, 16, frequencies), (1, n_features, 0)] if n_layers else []
    shapes += [(0, 0, 0), (1, 1, 0)]
    for layers, smallest, k in shapes:

        def size(width: int, layers: int = layers, k: int = k) -> int:
            return mlp_size(n_features + n_conditions + 1 + 2 * k, (width,) * layers, n_features)

        width = closest_width(size, target, smallest) if layers else 0
        yield ((width,) * layers, k), size(width)
