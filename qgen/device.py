"""Where models run."""

from __future__ import annotations

import torch

__all__ = ["find_device"]


def find_device(name: torch.device | str) -> torch.device:
    """The device of a name.

    Raises:
        ValueError: the name is unknown, or there is no such device here.

    >>> find_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {str(name)!r} is not supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(name)!r}: no CUDA device is available here; use cpu")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device {str(name)!r} is not here; the last one is cuda:{count - 1}")
    return device
