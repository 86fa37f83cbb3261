"""Checks of what is asked of states, the same for Gaussian and truncated ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuits.gates import as_iterable, finite_number, integer

__all__ = ["check_axes", "check_outcomes", "measured_modes", "one_mode", "phases", "positive"]


def positive(value: object, what: str) -> float:
    """The value, if it is a finite number above 0.

    Raises:
        ValueError: it is not; the line names it.

    >>> positive(2, "hbar")
    2.0
    """
    number = finite_number(value, what)
    if number <= 0:
        raise ValueError(f"{what} is {value!r}; a positive number is needed")
    return number


def one_mode(mode: int, n_modes: int) -> int:
    """The mode, if the state has it.

    Raises:
        ValueError: it has not.
    """
    mode = integer(mode, "mode", 0)
    if mode >= n_modes:
        raise ValueError(f"mode is {mode}; the state has modes 0 to {n_modes - 1}")
    return mode


def measured_modes(modes: Sequence[int] | None, n_modes: int) -> list[int]:
    """The modes to measure, all by default.

    Raises:
        ValueError: none, one that the state has not, or one twice.

    >>> measured_modes(None, 2), measured_modes([1], 2)
    ([0, 1], [1])
    """
    found = [one_mode(mode, n_modes) for mode in (range(n_modes) if modes is None else as_iterable(modes, "modes"))]
    if not found or len(set(found)) != len(found):
        raise ValueError(f"modes are {found}; at least one is needed, none twice")
    return found


def phases(phi: Tensor | float, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Phases of ``n`` quadratures, ``(n,)`` radians, differentiable in ``phi``.

    Args:
        phi: one or ``(n,)``.
        n: how many.
        dtype: of the result.
        device: of the result.

    Raises:
        ValueError: another shape, or a phase that is no finite real number.
    """
    needed = f"one finite phase or one for each of {n} modes is needed"
    try:
        angle = phi if isinstance(phi, Tensor) else torch.as_tensor(phi, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"phi is {phi!r}; {needed}") from None
    if angle.is_complex() or angle.ndim > 1 or angle.numel() not in (1, n) or not bool(torch.isfinite(angle).all()):
        raise ValueError(f"phi is {angle.tolist()}; {needed}")
    return angle.to(device, dtype).expand(n)


def check_outcomes(outcomes: Tensor, n: int, batch: torch.Size) -> torch.Size:
    """The batch that outcomes ``(..., shots, n)`` and states of a batch have together.

    Args:
        outcomes: of a homodyne measurement.
        n: measured modes.
        batch: of the states.

    Raises:
        ValueError: another shape, leading dimensions that do not fit, or an outcome that is no finite real number.
    """
    if not isinstance(outcomes, Tensor) or outcomes.is_complex() or outcomes.ndim < 2 or outcomes.shape[-1] != n:
        found = f"have shape {tuple(outcomes.shape)}" if isinstance(outcomes, Tensor) else f"are {outcomes!r}"
        raise ValueError(f"outcomes {found}; a real tensor of shape (..., shots, {n}) is needed")
    bad = (~torch.isfinite(outcomes)).nonzero()
    if len(bad):
        place = bad[0].tolist()
        raise ValueError(f"outcomes at {place}: {outcomes[tuple(place)].item()} is not finite")
    try:
        return torch.broadcast_shapes(batch, outcomes.shape[:-2])
    except RuntimeError:
        shapes = f"{tuple(outcomes.shape[:-2])}, the states {tuple(batch)}"
        raise ValueError(f"outcomes have leading dimensions {shapes}") from None


def check_axes(x: Tensor, p: Tensor) -> None:
    """A ``ValueError`` unless both are one-dimensional, real and finite tensors."""
    for name, axis in (("x", x), ("p", p)):
        if not isinstance(axis, Tensor) or axis.is_complex() or axis.ndim != 1:
            found = f"has shape {tuple(axis.shape)}" if isinstance(axis, Tensor) else f"is {axis!r}"
            raise ValueError(f"{name} {found}; a real tensor of one dimension is needed")
        bad = (~torch.isfinite(axis)).nonzero()
        if len(bad):
            raise ValueError(f"{name} at {int(bad[0])}: {axis[int(bad[0])].item()} is not finite")
