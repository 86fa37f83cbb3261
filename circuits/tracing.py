"""Which angles of a quantum function depend on which entry of its argument, found by calling it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from circuits.gates import Angle

__all__ = ["TOLERANCE", "Found", "tidy", "traced"]

TOLERANCE = 1e-9

Found = tuple[str, tuple[int, ...], tuple[float, ...]]
"""A gate as it was applied: name, wires, values of its angles."""


def traced(
    record: Callable[[Tensor], Iterable[Found]], size: int, word: str = "angle"
) -> Iterator[tuple[str, tuple[int, ...], list[Angle]]]:
    """The gates of a function, each of their angles as ``scale * vector[index] + offset`` of its argument.

    The function is called with a few different vectors, and what reaches the gates is compared.

    Args:
        record: the gates that are applied for a vector ``(size,)``.
        size: length of the vector.
        word: what an entry is called in messages.

    Raises:
        ValueError: the gates are not always the same, or an angle is not affine in one entry.
    """
    rng = torch.Generator().manual_seed(271828)
    probes = [torch.zeros(size, dtype=torch.float64)]
    probes += [(torch.rand(size, generator=rng, dtype=torch.float64) - 0.5) * 4 for _ in range(3)]
    recordings = [list(record(probe)) for probe in probes]
    first = recordings[0]
    for recording in recordings[1:]:
        if [found[:2] for found in recording] != [found[:2] for found in first]:
            raise ValueError(f"the quantum function's gates change with the {word}s; they must always be the same")
    for steps in zip(*recordings, strict=True):
        name, wires, _ = steps[0]
        yield name, wires, [_affine(name, v, probes, word) for v in zip(*(step[2] for step in steps), strict=True)]


def _affine(name: str, values: Sequence[float], probes: Sequence[Tensor], word: str) -> Angle:
    """The angle that took these values at these vectors, the first of them zero."""
    offset = values[0]
    if all(value == offset for value in values):
        return Angle(None, offset=offset)
    moved = torch.tensor(values[1:], dtype=torch.float64) - offset
    entries = torch.stack(list(probes[1:]))
    scales = moved[0] / entries[0]
    misfit = (entries * scales - moved[:, None]).abs().amax(0)
    if len(misfit) == 0 or float(misfit.min()) > TOLERANCE * (1 + float(moved.abs().max())):
        article = "an" if word == "angle" else "a"
        raise ValueError(
            f"{article} {word} of {name} is not scale * {word}s[i] + offset for any one i; only that is allowed"
        )
    index = int(misfit.argmin())
    return Angle(index, tidy(float(scales[index])), offset)


def tidy(scale: float) -> float:
    """The scale without the rounding of its measurement, when it is a multiple of 1/1024."""
    near = round(scale * 1024) / 1024
    return near if near and abs(near - scale) < 1e-12 else scale
