r"""The total energy of a shower under its incident energy, for models that give normalised images.

.. math:: \ln E_\mathrm{tot} = m(c) + s_0(c) \left[ \tanh \delta(c) + 2^{\tanh \epsilon(c)} \, \xi \right],
          \qquad \xi \sim N(0, 1)

with :math:`m`, :math:`\ln s_0`, :math:`\delta` and :math:`\epsilon` polynomials of second degree in each column of the
condition :math:`c`. The first two are fixed at the maximum likelihood for the training events; :math:`\delta` and
:math:`\epsilon` start at 0 and are trained. However wrong the images are, the total then stays within one width of
where it belongs, and the width within a factor of two. The form is ours.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from qgen.random import normal

__all__ = ["EnergyScale"]

DEGREE = 2
NARROWEST = 1e-6
"""Smallest relative width that is fitted: totals that vary less are taken as a fixed function of the condition."""


class EnergyScale(nn.Module):
    """A log-normal total energy whose mean and width follow the condition.

    Args:
        n_conditions: columns of the condition, 0 for none.

    >>> rng = torch.Generator().manual_seed(0)
    >>> totals = torch.randn(1000, generator=rng, dtype=torch.float64).mul(0.1).add(3.0).exp()
    >>> scale = EnergyScale.fit(totals, None)
    >>> [round(x.item(), 2) for x in scale.moments(None)]
    [3.0, 0.1]
    """

    mean: Tensor
    log_width: Tensor

    def __init__(self, n_conditions: int = 0) -> None:
        super().__init__()
        self.n_conditions = n_conditions
        size = 1 + DEGREE * n_conditions
        zeros = torch.zeros(size, dtype=torch.float64)
        self.register_buffer("mean", zeros.clone())
        self.register_buffer("log_width", zeros.clone())
        self.shift = nn.Parameter(zeros.clone())
        self.stretch = nn.Parameter(zeros.clone())

    @classmethod
    def fit(cls, totals: Tensor, condition: Tensor | None) -> Self:
        """The scale of greatest likelihood for these events.

        Args:
            totals: total energies ``(N,)``, in the unit that is wanted back. Events without energy have no scale and
                are left out.
            condition: ``(N, n_conditions)``, numbers of order one, or None.

        Raises:
            ValueError: no event has energy.
        """
        made = cls(0 if condition is None else condition.shape[1])
        filled = totals > 0
        if not filled.any():
            raise ValueError("all events are empty: there is no total energy to learn")
        logs = totals[filled].to(torch.float64).log()
        powers = made._powers(None if condition is None else condition[filled])
        powers = powers.expand(len(logs), -1)
        slope = torch.linalg.lstsq(powers, logs[:, None], driver="gelsd").solution[:, 0]
        rest = (logs - powers @ slope).square().mean().sqrt()
        log_width = torch.zeros_like(slope)
        log_width[0] = rest.clamp_min(NARROWEST).log()
        if rest > NARROWEST:
            slope, log_width = _most_likely(powers, logs, slope, log_width)
        made.mean.copy_(slope)
        made.log_width.copy_(log_width)
        return made

    def _powers(self, condition: Tensor | None) -> Tensor:
        """``(n, 1 + 2 n_conditions)``; one row without a condition."""
        if condition is None:
            return self.mean.new_ones(1, 1)
        condition = condition.to(self.mean)
        return torch.cat([torch.ones_like(condition[:, :1]), *(condition**k for k in range(1, DEGREE + 1))], 1)

    def moments(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and width of the logarithm, ``(n,)`` each; one row without a condition."""
        powers = self._powers(condition)
        width = torch.exp(powers @ self.log_width)
        mean = powers @ self.mean + width * torch.tanh(powers @ self.shift)
        return mean, width * 2 ** torch.tanh(powers @ self.stretch)

    def forward(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """``n`` total energies, ``(n,)``, differentiable in the scale's parameters.

        Args:
            n: how many.
            condition: ``(n, n_conditions)`` or None.
            generator: source of randomness.
        """
        mean, width = self.moments(condition)
        noise = normal((n,), generator, dtype=mean.dtype, device=mean.device)
        return torch.exp(mean + width * noise)


def _most_likely(powers: Tensor, logs: Tensor, mean: Tensor, log_width: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of mean and log width of a normal distribution, from these on to the maximum likelihood."""
    found = [mean.clone().requires_grad_(), log_width.clone().requires_grad_()]
    optimiser = torch.optim.LBFGS(found, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        widths = powers @ found[1]
        loss = (widths + 0.5 * ((logs - powers @ found[0]) * torch.exp(-widths)).square()).mean()
        loss.backward()
        return loss.item()

    with torch.enable_grad():
        optimiser.step(closure)
    return found[0].detach(), found[1].detach()
