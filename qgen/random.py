"""Random numbers: always from an explicit ``torch.Generator``, never from the global one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["derive_seed", "new_generator", "normal", "seeded", "symmetric", "uniform"]


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in ``[0, 2**63)`` that is a fixed function of ``seed`` and of the names of its use.

    >>> derive_seed(0, "split") == derive_seed(0, "split")
    True
    >>> derive_seed(0, "split") == derive_seed(0, "training")
    False
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def new_generator(seed: int | None = None) -> torch.Generator:
    """A CPU ``torch.Generator``, seeded with ``seed`` or, without one, from the operating system."""
    rng = torch.Generator()
    if seed is None:
        rng.seed()
    else:
        rng.manual_seed(seed)
    return rng


def normal(
    shape: tuple[int, ...],
    generator: torch.Generator,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal numbers, drawn on the generator's device and moved: the same on CPU and GPU."""
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device).to(device)


def uniform(
    shape: tuple[int, ...],
    generator: torch.Generator,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Uniform numbers in ``[0, 1)``, drawn on the generator's device and moved: the same on CPU and GPU."""
    return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device).to(device)


def symmetric(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    """Uniform float64 numbers in ``[-bound, bound)``, as initial angles are.

    >>> bool(symmetric((100,), 0.1, new_generator(0)).abs().max() <= 0.1)
    True
    """
    return bound * (2 * uniform(shape, generator, dtype=torch.float64) - 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Build third-party modules, which initialise from the global generator, reproducibly.

    The global generator is put back as it was on leaving.

    >>> with seeded(1):
    ...     a = torch.nn.Linear(2, 2).weight
    >>> with seeded(1):
    ...     b = torch.nn.Linear(2, 2).weight
    >>> torch.equal(a, b)
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs' generators too
        yield
