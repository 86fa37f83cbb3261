"""From quasi-probabilities, which mitigation gives, to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest_probabilities"]


def nearest_probabilities(quasi: Tensor) -> Tensor:
    """The probability distribution nearest to numbers that may be negative, in the Euclidean distance (1106.5458).

    Differentiable: the gradient flows through the entries that stay positive.

    Args:
        quasi: ``(..., n_outcomes)`` real.

    Returns:
        ``(..., n_outcomes)``, not negative, with sum one.

    >>> nearest_probabilities(torch.tensor([0.7, 0.4, -0.1]))
    tensor([0.6500, 0.3500, 0.0000])
    """
    ordered = quasi.sort(-1, descending=True).values
    count = torch.arange(1, quasi.shape[-1] + 1, device=quasi.device)
    excess = (ordered.cumsum(-1) - 1) / count
    support = (ordered > excess).sum(-1, keepdim=True)
    return (quasi - excess.gather(-1, support - 1)).clamp(min=0)
