"""Index tables of a basis that measurements need, as tensors made once for each device."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from circuits.cv.basis import FockBasis

__all__ = ["lowering", "occupations", "split", "without_a_mode"]


def without_a_mode(basis: FockBasis) -> FockBasis:
    """The basis of the other modes.

    >>> without_a_mode(FockBasis(3, 4)).n_modes
    2
    """
    return FockBasis(basis.n_modes - 1, basis.cutoff, basis.kind)


@lru_cache(maxsize=64)
def occupations(basis: FockBasis, device: torch.device) -> Tensor:
    """Photon numbers of every state, ``(size, n_modes)`` int64."""
    return torch.from_numpy(basis.occupations).to(device)


@lru_cache(maxsize=64)
def split(basis: FockBasis, mode: int, device: torch.device) -> Tensor:
    """The states by those of the other modes and the photon number of a mode, ``(others, cutoff)`` int64.

    ``basis.size`` stands where there is no such state.

    >>> split(FockBasis(2, 3, "total"), 0, torch.device("cpu")).tolist()
    [[0, 3, 5], [1, 4, 6], [2, 6, 6]]
    """
    others = without_a_mode(basis).occupations if basis.n_modes > 1 else np.zeros((1, 0), dtype=np.int64)
    wanted = np.repeat(others[:, None], basis.cutoff, axis=1)
    numbers = np.broadcast_to(np.arange(basis.cutoff), wanted.shape[:2])[..., None]
    found = basis.find(np.concatenate([wanted[..., :mode], numbers, wanted[..., mode:]], axis=-1))
    return torch.from_numpy(np.where(found < 0, basis.size, found)).to(device)


@lru_cache(maxsize=64)
def lowering(basis: FockBasis, steps: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Powers of the modes' lowering operators: from which states, to which, and with which factor.

    Returns:
        ``(n_modes * k,)`` int64 twice and ``(n_modes, k)`` float64; every mode lowers the same number ``k`` of states.
    """
    upper, lower, factor = [], [], []
    for mode in range(basis.n_modes):
        numbers = basis.occupations[:, mode]
        above = np.flatnonzero(numbers >= steps)
        target = basis.occupations[above].copy()
        target[:, mode] -= steps
        upper.append(above)
        lower.append(basis.find(target))
        factor.append(np.sqrt(np.prod([numbers[above] - step for step in range(steps)], axis=0, dtype=np.float64)))
    tables = (np.concatenate(upper), np.concatenate(lower), np.stack(factor))
    first, second, third = (torch.from_numpy(table).to(device) for table in tables)
    return first, second, third
