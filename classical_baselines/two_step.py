r"""Two-step flow: the energies of a shower, then its shape.

As in CaloFlow (2106.05285) and L2LFlows (2302.11594), one flow learns the energies of the layers under the incident
energy and a second one the normalised shower under those energies,

.. math:: p(x \mid c) = p_1(G \mid c) \; p_2(o \mid G, c) \; |\det \partial (G, o) / \partial x| .

Both are neural spline flows (:mod:`classical_baselines.flow`). Where those works normalise the drawn pixels afterwards,
the shares here come by stick breaking (:mod:`classical_baselines.shares`), so that energies add up by construction and
the density is that of the shower itself. An image without layers has one group, and :math:`G` is its total energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge
from torch import Tensor

from classical_baselines.flow import ConditionalFlow, architectures, chosen_sizes, degrees, flow_size
from classical_baselines.networks import beside
from classical_baselines.shares import EnergiesAndShares
from classical_baselines.sizing import closest_size
from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.random import derive_seed

__all__ = ["TwoStepFlow"]


class TwoStepFlow(Generator):
    """A flow of energies and a flow of shares given the energies; trained by :class:`qgen.training.NLL`.

    Args:
        n_features: pixels of a shower.
        n_conditions: columns of a condition, 0 for an unconditional model.
        n_groups: groups of pixels whose energies come first.
        transforms: autoregressive transforms of each flow.
        hidden: widths of the hidden layers of each masked network.
        bins: bins of each spline.
        passes: steps in which a transform generates its features.
        seed: fixes the initial weights.
        transform: pixels to energies and shares, :class:`~classical_baselines.shares.EnergiesAndShares`.
        condition_transform: physical units to order one.

    Raises:
        ValueError: a size that is too small, or more groups than pixels.

    >>> model = TwoStepFlow(4, 1, n_groups=1, transforms=1, hidden=(8,), bins=4)
    >>> model.sample(5, torch.tensor([50.0])).shape
    torch.Size([5, 4])
    """

    has_log_prob = True

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        n_groups: int = 1,
        transforms: int = 2,
        hidden: Sequence[int] = (64,),
        bins: int = 8,
        passes: int = 8,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        if not 1 <= n_groups <= n_features:
            raise ValueError(f"n_groups is {n_groups}; from 1 to the number of pixels, {n_features}, is needed")
        self.n_groups = n_groups
        sizes: dict[str, Any] = {"transforms": transforms, "hidden": hidden, "bins": bins, "passes": passes}
        self.energies = ConditionalFlow(n_groups, n_conditions, **sizes, seed=derive_seed(seed, "energies"))
        self.shares: ConditionalFlow | None = None
        if n_features > n_groups:
            columns = n_features - n_groups, n_groups + n_conditions
            self.shares = ConditionalFlow(*columns, **sizes, seed=derive_seed(seed, "shares"))
        self.sizes = {**sizes, "hidden": list(hidden)}

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
        """A fresh model for these events.

        Args:
            dataset: images, whose groups are the layers if they have layers of several pixels, else the whole; or a
                table of energies, one group.
            seed: fixes the initial weights, and the noise in empty pixels by which scales are fixed.
            transforms: autoregressive transforms of each flow; 2, or 1 for more than 1000 pixels.
            hidden: widths of the hidden layers of each masked network; one of 64, or of 16 for more than 1000 pixels.
            bins: bins of each spline; 8, or 4 for more than 1000 pixels.
            passes: steps in which a transform generates its features, at most one for each.
            n_parameters: wanted number of parameters, reached within 10 %: the width of the hidden layers is chosen,
                for small sizes fewer layers, transforms and bins.

        Raises:
            ValueError: a feature has negative values and is no energy, or no model has about ``n_parameters``
                parameters.
        """
        groups = _groups(dataset)
        n_groups, n_conditions = max(groups) + 1, dataset.n_conditions
        transforms, hidden, bins = chosen_sizes(dataset.n_features, transforms, hidden, bins)
        if n_parameters is not None:
            n_others = dataset.n_features - n_groups

            def size(transforms: int, hidden: Sequence[int], bins: int) -> int:
                first = flow_size(n_groups, n_conditions, transforms, hidden, bins, passes)
                if not n_others:
                    return first
                return first + flow_size(n_others, n_groups + n_conditions, transforms, hidden, bins, passes)

            smallest = max(degrees(n_groups, n_conditions, passes), degrees(n_others, n_groups + n_conditions, passes))
            candidates = architectures(size, smallest, transforms, len(hidden), bins, n_parameters)
            what = f"a TwoStepFlow with {dataset.n_features} features and {n_conditions} conditions"
            transforms, hidden, bins = closest_size(candidates, n_parameters, what)
        incident = isinstance(dataset, CalorimeterDataset)
        train = dataset.train
        return cls(
            dataset.n_features,
            n_conditions,
            n_groups=n_groups,
            transforms=transforms,
            hidden=hidden,
            bins=bins,
            passes=passes,
            seed=seed,
            transform=EnergiesAndShares.fit(train.samples, train.conditions, groups, incident=incident, seed=seed),
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns, groups and the sizes of the networks."""
        columns = {"n_features": self.n_features, "n_conditions": self.n_conditions, "n_groups": self.n_groups}
        return {**columns, **self.sizes}

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters of both flows; weights that the masks hold at zero are not counted."""
        return self.energies.n_parameters + (0 if self.shares is None else self.shares.n_parameters)

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        energies = self.energies._sample(n, condition, generator)
        if self.shares is None:
            return energies
        return torch.cat([energies, self.shares._sample(n, beside(energies, condition), generator)], dim=1)

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        energies = values[:, : self.n_groups]
        log_prob = self.energies._log_prob(energies, condition)
        if self.shares is None:
            return log_prob
        return log_prob + self.shares._log_prob(values[:, self.n_groups :], beside(energies, condition))


def _groups(dataset: Dataset) -> list[int]:
    """The layer of each pixel, or 0 for all."""
    negative = (dataset.samples < 0).nonzero()
    if len(negative):
        row, column = negative[0].tolist()
        raise ValueError(
            f"samples row {row}: {dataset.features[column].name!r} is {dataset.samples[row, column]:g}; "
            "a two-step flow needs energies, none negative"
        )
    if isinstance(dataset, CalorimeterDataset):
        axes, shape = dataset.geometry.axes, dataset.geometry.shape
        if "layer" in axes and len(axes) > 1:
            at = axes.index("layer")
            layers = torch.arange(shape[at]).reshape([-1 if i == at else 1 for i in range(len(shape))])
            return list(layers.expand(shape).flatten().tolist())
    return [0] * dataset.n_features
