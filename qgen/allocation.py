"""Bounds on what a description from elsewhere may make this process compute and hold."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["bounded", "check_sizes"]

NUMBERS_BESIDE = 2**22
"""Numbers, and objects of Python, that building a model of any size may take beside its weights."""

TIMES = 64
"""Times its weights that building a model may take: what initialises them is computed and let go."""

GLANCE_SECONDS = 0.01
"""Between two looks at the number of objects."""

AGAIN_SECONDS = 0.2
"""Until a block that has not ended is told again."""

LARGEST_COUNT = 10**5
"""Largest integer in the description of a model with fewer weights."""


def check_sizes(arguments: Any, numbers: int, place: str = "arguments") -> None:
    """Refuse a description whose integers are beyond any size that weights of so many numbers can have.

    Args:
        arguments: of a model, plain data.
        numbers: in its weights.
        place: of the arguments, for the message.

    Raises:
        ValueError: an integer is too large; its place is named.

    >>> check_sizes({"hidden": [8, 10**9]}, 500)
    Traceback (most recent call last):
    ValueError: arguments.hidden.1 is 1000000000; the weights in the file are 500 numbers
    """
    if isinstance(arguments, Mapping | list):
        inner = arguments.items() if isinstance(arguments, Mapping) else enumerate(arguments)
        for name, value in inner:
            check_sizes(value, numbers, f"{place}.{name}")
    elif isinstance(arguments, int) and abs(arguments) > max(numbers, LARGEST_COUNT):
        raise ValueError(f"{place} is {arguments}; the weights in the file are {numbers} numbers")


@contextmanager
def bounded(numbers: int) -> Iterator[None]:
    """Refuse to make much more than ``numbers``: tensors before they are made, lists of gates while they grow.

    Raises:
        ValueError: there would be too many numbers, or there are too many objects.

    >>> with bounded(100):
    ...     torch.zeros(10**6, 10**6)
    Traceback (most recent call last):
    ValueError: the description is of more than 4200704 numbers; the weights in the file are 100
    """
    with _few_objects(numbers), _Bounded(numbers):
        yield


class _TooMany(BaseException):
    """There are too many objects; nothing but :func:`_few_objects` catches it."""


@contextmanager
def _few_objects(numbers: int) -> Iterator[None]:
    """End the block where it has many more objects of Python made than ``numbers``, whatever they are.

    A thread looks at their number. What it finds ends the block as Ctrl-C does, which would be lost in a callback: no
    garbage is looked for meanwhile, and the block is told again if it goes on.
    """
    allowed, before, thread = NUMBERS_BESIDE + TIMES * numbers, sys.getallocatedblocks(), threading.get_ident()
    done, end = threading.Event(), ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        seconds = GLANCE_SECONDS
        while not done.wait(seconds):
            if sys.getallocatedblocks() - before > allowed:
                end(ctypes.c_ulong(thread), ctypes.py_object(_TooMany))
                seconds = AGAIN_SECONDS

    watcher = threading.Thread(target=watch, name="objects", daemon=True)

    def leave() -> None:
        done.set()
        watcher.join()
        end(ctypes.c_ulong(thread), None)  # what it found too late
        if collected:
            gc.enable()

    collected = gc.isenabled()
    gc.disable()
    watcher.start()
    try:
        try:
            yield
        finally:
            leave()
    except _TooMany:
        leave()  # the first may have been ended itself
        raise ValueError(
            f"the description is of more than {allowed} objects; the weights in the file are {numbers} numbers"
        ) from None


class _Bounded(TorchDispatchMode):
    """Asks of every operation how large its result will be, on torch's device ``meta``, which holds no numbers."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.left = self.allowed = NUMBERS_BESIDE + TIMES * numbers
        self._known: dict[Any, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        asked = (func, _without_numbers(args), _without_numbers(kwargs))
        if asked not in self._known:
            self._known[asked] = self._planned(func, args, kwargs)
        self.left -= self._known[asked]
        if self.left < 0:
            raise ValueError(
                f"the description is of more than {self.allowed} numbers; the weights in the file are {self.numbers}"
            )
        return func(*args, **kwargs)

    def _planned(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """How many numbers the result has; 0 where that depends on the numbers that are given."""
        try:
            given = tree_map(_on_meta, (args, kwargs))
            if "device" in given[1]:
                given[1]["device"] = torch.device("meta")
            result = func(*given[0], **given[1])
        except (NotImplementedError, RuntimeError):
            return 0
        return sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    return None if isinstance(value, torch.Generator) else value


def _without_numbers(value: Any) -> Any:
    """What the size of a result depends on: of a tensor its kind and form; something that can be a key."""
    if isinstance(value, Tensor):
        return value.dtype, value.device, tuple(value.shape), value.stride()
    if isinstance(value, list | tuple):
        return tuple(map(_without_numbers, value))
    if isinstance(value, dict):
        return tuple((key, _without_numbers(inner)) for key, inner in value.items())
    return None if isinstance(value, torch.Generator) else value
