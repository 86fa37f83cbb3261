"""Where a computation may run, and how much memory it may take."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from circuits.gates import integer

__all__ = ["bytes_allowed", "check_memory", "free_memory", "torch_device"]


def torch_device(device: torch.device | str) -> torch.device:
    """The device, if there is one.

    Raises:
        ValueError: an unknown name, or CUDA where there is none.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown; cpu, cuda or cuda:N is needed") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(found)!r}: no CUDA device is available here")
    return found


def bytes_allowed(limit: int | None) -> int | None:
    """The limit, if it is one.

    Raises:
        ValueError: not an integer of at least 1.
    """
    return None if limit is None else integer(limit, "memory_limit", 1)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(needed: int, limit: int | None, device: torch.device, what: str) -> None:
    """Refuse before allocating what does not fit.

    Args:
        needed: bytes.
        limit: bytes allowed; None for what is free on the device.
        device: where they would be.
        what: the computation, for the message.

    Raises:
        ValueError: more is needed than there is.
    """
    free = limit if limit is not None else free_memory(device)
    if needed > free:
        raise ValueError(f"{what}: needs about {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free on {device}")
