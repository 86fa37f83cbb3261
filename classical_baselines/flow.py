r"""Conditional normalizing flow: an autoregressive neural spline flow.

An invertible map :math:`f_c` takes events to normal numbers, so the density of an event given its condition is

.. math:: p(x \mid c) = \mathcal N(f_c(x); 0, 1) \, |\det \partial f_c / \partial x| .

:math:`f_c` is a chain of transforms, each applying to every feature a monotonic rational-quadratic spline whose knots
are given by a masked network of the preceding features and the condition (neural spline flows, arXiv:1906.04032;
masked autoregressive flows, arXiv:1705.07057). The splines act on [-5, 5] in the transform's space; outside it a
feature is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge
from torch import Tensor, nn

from classical_baselines.filled import continuous
from classical_baselines.sizing import closest_size, closest_width, mlp_size
from qgen.data.dataset import Dataset
from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.random import derive_seed, normal, seeded

__all__ = ["ConditionalFlow", "architectures", "chosen_sizes", "degrees", "flow_size"]

KNOTS_AT_ONCE = 2**23
"""Numbers that fix splines, of all events that are inverted together."""
MANY_FEATURES = 1000
"""Features from which on a flow is small by default."""


class ConditionalFlow(Generator):
    """Neural spline flow of zuko, conditional, with exact density; trained by :class:`qgen.training.NLL`.

    Weights are float64 and follow ``.to``: at these sizes float32 is only a quarter faster, and it inverts to 1e-6 in
    place of 1e-14. Sampling costs ``passes * transforms`` evaluations, the density ``transforms``.

    Args:
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        transforms: number of autoregressive transforms, the order of the features reversed in every second one.
        hidden: widths of the hidden layers of each masked network; empty for a linear dependence of the knots.
        bins: bins of each spline.
        passes: steps in which a transform generates the features, at most one for each. With fewer, the features
            come in groups that depend on the groups before; inside a group they are related by the other transforms
            only.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: a size that is too small.

    >>> import torch
    >>> model = ConditionalFlow(2, 1, transforms=1, hidden=(8,), bins=4)
    >>> energy = torch.tensor([50.0])
    >>> events = model.sample(5, energy)
    >>> events.shape, model.log_prob(events, energy).shape
    (torch.Size([5, 2]), torch.Size([5]))
    """

    has_log_prob = True

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        transforms: int = 2,
        hidden: Sequence[int] = (64,),
        bins: int = 8,
        passes: int = 8,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        for name, value, least in (("transforms", transforms, 1), ("bins", bins, 2), ("passes", passes, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; at least {least} is needed")
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden is {list(hidden)}; every width must be at least 1")
        passes = min(passes, n_features)
        self.transforms = transforms
        self.hidden = tuple(hidden)
        self.bins = bins
        self.passes = passes
        with seeded(derive_seed(seed, "weights")):
            self.flow = _spline_flow(n_features, n_conditions, transforms, self.hidden, bins, passes)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        transforms: Annotated[int, Ge(1)] | None = None,
        hidden: Sequence[Annotated[int, Ge(1)]] | None = None,
        bins: Annotated[int, Ge(2)] | None = None,
        passes: Annotated[int, Ge(1)] = 8,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh flow for these events.

        Args:
            dataset: gives the columns and the transforms; empty pixels of images are filled with noise.
            seed: fixes the initial weights.
            transforms: number of autoregressive transforms; 2, or 1 for more than 1000 features.
            hidden: widths of the hidden layers of each masked network; one of 64, or of 16 for more than 1000 features.
            bins: bins of each spline; 8, or 4 for more than 1000 features.
            passes: steps in which a transform generates the features, at most one for each.
            n_parameters: wanted number of parameters, reached within 10 %: the width of the hidden layers is chosen;
                where it would be below 16, there is one hidden layer at most, and fewer transforms and bins.

        Raises:
            ValueError: no flow has about ``n_parameters`` parameters.
        """
        transforms, hidden, bins = chosen_sizes(dataset.n_features, transforms, hidden, bins)
        if n_parameters is not None:
            columns = dataset.n_features, dataset.n_conditions

            def size(transforms: int, hidden: Sequence[int], bins: int) -> int:
                return flow_size(*columns, transforms, hidden, bins, passes)

            smallest = degrees(*columns, passes)
            candidates = architectures(size, smallest, transforms, len(hidden), bins, n_parameters)
            what = f"a ConditionalFlow with {dataset.n_features} features and {dataset.n_conditions} conditions"
            transforms, hidden, bins = closest_size(candidates, n_parameters, what)
        return cls(
            dataset.n_features,
            dataset.n_conditions,
            transforms=transforms,
            hidden=hidden,
            bins=bins,
            passes=passes,
            seed=seed,
            transform=continuous(dataset),
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns and the sizes of the network."""
        return {
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "transforms": self.transforms,
            "hidden": list(self.hidden),
            "bins": self.bins,
            "passes": self.passes,
        }

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters; weights that the masks hold at zero are not counted."""
        masked = sum(int((~mask).sum()) for name, mask in self.flow.named_buffers() if name.endswith(".mask"))
        return sum(p.numel() for p in self.flow.parameters() if p.requires_grad) - masked

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        weight = next(self.parameters())
        latent = normal((n, self.n_features), generator, dtype=weight.dtype, device=weight.device)
        chunk = max(1, KNOTS_AT_ONCE // (3 * self.bins * self.n_features))
        parts = [slice(start, start + chunk) for start in range(0, n, chunk)]
        return torch.cat([self._distribution(condition, part).transform.inv(latent[part]) for part in parts])

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        log_prob: Tensor = self._distribution(condition).log_prob(values.to(next(self.parameters())))
        return log_prob

    def _distribution(self, condition: Tensor | None, rows: slice = slice(None)) -> Any:
        """zuko's distribution given these rows' conditions; its ``transform`` takes events to normal numbers."""
        return self.flow(None if condition is None else condition[rows].to(next(self.parameters())))


def _spline_flow(
    n_features: int, n_conditions: int, transforms: int, hidden: tuple[int, ...], bins: int, passes: int
) -> nn.Module:
    from zuko.flows import NSF

    flow = NSF(
        n_features,
        n_conditions,
        bins=bins,
        transforms=transforms,
        passes=passes,
        hidden_features=hidden,
        activation=nn.SiLU,
    )
    return flow.to(torch.float64)


def chosen_sizes(
    n_features: int, transforms: int | None, hidden: Sequence[int] | None, bins: int | None
) -> tuple[int, tuple[int, ...], int]:
    """Transforms, hidden widths and bins, those that are not given by the number of features.

    A full grid has so many knots that a flow of the usual size would not fit into memory.

    >>> chosen_sizes(8, None, None, None), chosen_sizes(15_625, None, (32,), None)
    ((2, (64,), 8), (1, (32,), 4))
    """
    large = n_features > MANY_FEATURES
    hidden = ((16,) if large else (64,)) if hidden is None else tuple(hidden)
    return transforms or (1 if large else 2), hidden, bins or (4 if large else 8)


def degrees(n_features: int, n_conditions: int, passes: int) -> int:
    """Different numbers of inputs, none excepted, that features of a transform depend on."""
    return len({d for d in _degrees(n_features, passes) if d + n_conditions})


def flow_size(
    n_features: int, n_conditions: int, transforms: int, hidden: Sequence[int], bins: int, passes: int
) -> int:
    """Parameters of the flow, masked weights not counted.

    A hidden unit of degree ``d`` sees the first ``d`` features, the conditions and the units of at most its degree;
    the knots of a feature see the units up to its degree. Units take the degrees in turn, except that of units which
    would see nothing.
    """
    knots = 3 * bins - 1
    if n_features == 1:
        return transforms * (mlp_size(n_conditions, hidden, knots) if n_conditions else knots)
    every = _degrees(n_features, passes)
    of_units = sorted({d for d in every if d + n_conditions})
    seen = {d: d + n_conditions for d in every}
    size = 0
    for width in hidden:
        rounds, rest = divmod(width, len(of_units))
        units = {d: rounds + (place < rest) for place, d in enumerate(of_units)}
        size += sum(n * (seen[d] + 1) for d, n in units.items())
        seen = {d: sum(n for e, n in units.items() if e <= d) for d in every}
    return transforms * (size + knots * sum(seen[d] + 1 for d in every))


def architectures(
    size_of: Callable[[int, tuple[int, ...], int], int],
    smallest_layer: int,
    transforms: int,
    n_layers: int,
    bins: int,
    target: int,
) -> Iterator[tuple[tuple[int, tuple[int, ...], int], int]]:
    """``(transforms, hidden, bins)`` with numbers of parameters, the preferred ones first.

    What was asked for if its layers are not narrow; else one hidden layer and fewer transforms and bins, which learns
    more at the same size; last, no hidden layer.

    Args:
        size_of: number of parameters, growing with the width of the hidden layers.
        smallest_layer: units of a hidden layer, one of each degree, without which dependences between features would
            be lost; 0 where nothing depends on anything.
        transforms: largest number of transforms.
        n_layers: largest number of hidden layers.
        bins: largest number of bins.
        target: wanted number of parameters.
    """
    shapes = []
    if n_layers and smallest_layer:
        shapes += [(n_layers, transforms, bins, max(smallest_layer, 16))]
        shapes += [(1, t, b, max(smallest_layer, 6)) for t in range(transforms, 0, -1) for b in range(bins, 3, -1)]
        shapes += [(1, 1, b, smallest_layer) for b in range(min(bins, 3), 1, -1)]
    shapes += [(0, t, b, 0) for t in range(transforms, 0, -1) for b in range(bins, 1, -1)]
    for layers, t, b, smallest in shapes:

        def size(width: int, layers: int = layers, t: int = t, b: int = b) -> int:
            return size_of(t, (width,) * layers, b)

        width = closest_width(size, target, smallest) if layers else 0
        yield (t, (width,) * layers, b), size(width)


def _degrees(n_features: int, passes: int) -> list[int]:
    """How many features each feature depends on: those of the groups before its own."""
    if n_features < 1:
        return []
    group = math.ceil(n_features / min(passes, n_features))
    return [feature // group * group for feature in range(n_features)]
