r"""Showers as energies of groups of pixels and the shares of the pixels in them.

The pixels of a group (a layer, or the whole image) are put in a fixed order :math:`x_1 \dots x_m, x_r`, the brightest
on average last. With the energy :math:`G = \sum x` of the group, and :math:`R_i` the energy of the pixels after the
:math:`i`-th, the shower is

.. math:: \bigl(G, \; o_1 \dots o_m\bigr), \qquad o_i = x_i / R_i,
          \qquad \Bigl|\det \frac{\partial (G, o)}{\partial x}\Bigr| = \prod_i \frac{1 + o_i}{R_i} .

Any energies and any odds :math:`o \ge 0` are a shower, whose energies add up: this is stick breaking, a bijection
between positive showers and positive numbers. Both are then standardised as logarithms, and what is empty is filled
with noise (:mod:`classical_baselines.filled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from classical_baselines.filled import ROUNDING, Filled
from qgen.data.transforms import Compose, EnergyFraction, Log, Transform

__all__ = ["EnergiesAndShares", "Odds"]


class Odds(Transform):
    """Energies over those of the condition, feature by feature: ``x / R``.

    >>> Odds()(torch.tensor([[2.0, 3.0]]), torch.tensor([[4.0, 1.0]])).tolist()
    [[0.5, 3.0]]
    """

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``samples / condition``."""
        return samples / _needed(condition)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``values * condition``."""
        return values * _needed(condition)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``-sum log condition``, shape ``(N,)``."""
        return -_needed(condition).log().sum(1)

    def arguments(self) -> dict[str, Any]:
        """No arguments."""
        return {}


class EnergiesAndShares(Transform):
    """From pixels to ``n_groups`` numbers for the energies, then one for the share of every pixel but the last of each.

    Args:
        groups: group of each pixel, numbers from 0 without gaps.
        last: pixel that stands last in its group, for each group.
        energies: acts on the energies of the groups, given the condition of the shower.
        shares: acts on the energies of the other pixels, group after group in their order, given those of the pixels
            after them; None where there are no others.
        least: energy (the pixels' unit) of the last pixel of each group below which it is empty.
        smallest: stands for the energy after a pixel where there is none.

    >>> x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    >>> transform = EnergiesAndShares.fit(x, torch.empty(50, 0), groups=[0, 0, 1, 1], incident=False)
    >>> torch.allclose(transform.inverse(transform(x)), x)
    True
    """

    least: Tensor

    def __init__(
        self,
        groups: Sequence[int],
        last: Sequence[int],
        energies: Filled,
        shares: Filled | None,
        least: Sequence[float],
        smallest: float,
    ) -> None:
        super().__init__()
        self.register_buffer("least", torch.tensor(least, dtype=torch.float64))
        self.groups = list(groups)
        self.last = list(last)
        self.energies = energies
        self.shares = shares
        self.smallest = smallest
        pixels = [[i for i, own in enumerate(self.groups) if own == g] for g in range(len(self.last))]
        self.members = [[i for i in own if i != at] + [at] for own, at in zip(pixels, self.last, strict=True)]
        self.others = [i for own in self.members for i in own[:-1]]
        at = {pixel: column for column, pixel in enumerate(self.others)}
        self.places = []  # the first pixels of all groups, the second ones, ...: groups, columns of shares, pixels
        for place in range(max(map(len, self.members)) - 1):
            inside = [g for g, own in enumerate(self.members) if len(own) > place + 1]
            first = [self.members[g][place] for g in inside]
            self.places.append((inside, [at[i] for i in first], first))

    @classmethod
    def fit(
        cls, samples: Tensor, condition: Tensor, groups: Sequence[int], *, incident: bool = True, seed: int = 0
    ) -> Self:
        """Scales of training showers.

        Args:
            samples: ``(N, n_pixels)``, no energy negative.
            condition: ``(N, n_conditions)`` in physical units.
            groups: group of each pixel.
            incident: whether the first condition is an energy, by which those of the groups are divided.
            seed: fixes the noise in empty pixels.

        Raises:
            ValueError: no shower has energy.
        """
        if not (samples > 0).any():
            raise ValueError("all showers are empty: there is no energy to share")
        brightness = samples.mean(0)
        members = [[i for i, own in enumerate(groups) if own == g] for g in range(max(groups) + 1)]
        last = [max(own, key=lambda i: brightness[i].item()) for own in members]
        smallest = samples[samples > 0].min().item()
        least = torch.where((samples[:, last] == 0).any(0), smallest, 0.0).tolist()
        first = cls(groups, last, Filled(Log([1.0]), [0.0], [False], [1.0], [0.0], [1.0]), None, least, smallest)
        energies, others, after = first._split(samples)
        scaled = EnergyFraction()(energies, condition) if incident else energies
        log = Log(_means(scaled))
        of_groups = Filled.fit(Compose([EnergyFraction(), log]) if incident else log, energies, condition, seed)
        of_pixels = None
        if first.others:
            odds = Compose([Odds(), Log(_means(others / after))])
            of_pixels = Filled.fit(odds, others, after, seed)
        return cls(groups, last, of_groups, of_pixels, least, smallest)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.last)

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Energies of the groups, then shares, all of order one."""
        energies, others, after = self._split(samples)
        first: Tensor = self.energies(energies, condition)
        return first if self.shares is None else torch.cat([first, self.shares(others, after)], dim=1)

    def noisy(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """The same showers, what is empty in them drawn anew."""
        first = self.energies.noisy(values[:, : self.n_groups], condition, generator)
        if self.shares is None:
            return first
        after = self._split(self.inverse(values, condition))[2]
        return torch.cat([first, self.shares.noisy(values[:, self.n_groups :], after, generator)], dim=1)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """Showers; a pixel below its threshold is empty.

        Its energy stays for those after it; only what the last pixel of a group would have below its own is lost.
        """
        energies = self.energies.inverse(values[:, : self.n_groups], condition)
        samples = values.new_zeros(len(values), len(self.groups))
        if self.shares is None:
            samples[:, self.last] = energies
            return samples
        shares = self.shares.unscaled(values[:, self.n_groups :])
        odds = self.shares.pixels.inverse(shares, torch.ones_like(shares))
        fractions, left = odds / (1 + odds), energies.clone()
        for groups, columns, pixels in self.places:
            found = self.shares.cut(left[:, groups] * fractions[:, columns], columns)
            samples[:, pixels] = found
            left[:, groups] -= found
        samples[:, self.last] = torch.where(left < (1 - ROUNDING) * self.least.to(left), 0.0, left)
        return samples

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Of the energies, and of the odds with ``sum log(1 + odds)``, shape ``(N,)``."""
        energies, others, after = self._split(samples)
        first = self.energies.log_abs_det(energies, condition)
        if self.shares is None:
            return first
        return first + self.shares.log_abs_det(others, after) + torch.log1p(others / after).sum(1)

    def arguments(self) -> dict[str, Any]:
        """Groups, the last pixels, and the parts' specs."""
        return {
            "groups": self.groups,
            "last": self.last,
            "energies": self.energies.spec(),
            "shares": None if self.shares is None else self.shares.spec(),
            "least": self.least.tolist(),
            "smallest": self.smallest,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """The transform of these parts."""
        energies, shares = (
            None if arguments[name] is None else Filled.from_arguments(arguments[name]["arguments"])
            for name in ("energies", "shares")
        )
        return cls(**{**arguments, "energies": energies, "shares": shares})

    def _split(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energies of the groups, of all pixels but the last, and of those after each of these."""
        tails = [samples[:, own].flip(1).cumsum(1).flip(1) for own in self.members]
        energies = torch.cat([tail[:, :1] for tail in tails], dim=1)
        after = torch.cat([tail[:, 1:] for tail in tails], dim=1)
        return energies, samples[:, self.others], torch.where(after > 0, after, self.smallest)


def _means(values: Tensor) -> list[float]:
    mean = values.mean(0)
    overall = mean[mean > 0].mean()
    means: list[float] = torch.where(mean > 0, mean, overall).tolist()
    return means


def _needed(condition: Tensor | None) -> Tensor:
    if condition is None:
        raise ValueError("odds need the energies that they are taken of, found none")
    return condition
