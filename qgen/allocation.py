"""Bounds on what a description from elsewhere may make this process compute and hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["bounded", "check_sizes"]

NUMBERS_BESIDE = 2**22
"""Numbers that building a model of any size may take beside its weights."""

TIMES = 64
"""Times its weights that building a model may take: what initialises them is computed and let go."""

LARGEST_COUNT = 10**5
"""Largest integer in the description of a model with fewer weights."""


LARGEST_PRODUCT = 10**6
"""Largest number of layers times features (or other sizes) in the description of a model with fewer weights."""


def check_sizes(arguments: Any, numbers: int) -> None:
    """Refuse a description of sizes that no weights of so many numbers can have.

    Sizes are integers, one by one; and layers times another one, or times the length of a list of numbers: a circuit
    is a list of gates, which is made before any weight.

    Args:
        arguments: of a model, plain data.
        numbers: in its weights.

    Raises:
        ValueError: a size, or two, are too large; their places are named.

    >>> check_sizes({"hidden": [8, 10**9]}, 500)
    Traceback (most recent call last):
    ValueError: arguments.hidden.1 is 1000000000; the weights in the file are 500 numbers
    >>> check_sizes({"low": [0.0] * 50, "layers": 10**5}, 500)
    Traceback (most recent call last):
    ValueError: arguments.layers is 100000 and low is 50; the weights in the file are 500 numbers
    """
    for place, value in _integers(arguments, "arguments"):
        if abs(value) > max(numbers, LARGEST_COUNT):
            raise ValueError(f"{place} is {value}; the weights in the file are {numbers} numbers")
    sizes = _sizes(arguments)
    layers = sizes.pop("layers", 0)
    name = max(sizes, key=lambda name: sizes[name], default=None)
    if name is not None and layers * sizes[name] > max(TIMES * numbers, LARGEST_PRODUCT):
        found = f"arguments.layers is {layers} and {name} is {sizes[name]}"
        raise ValueError(f"{found}; the weights in the file are {numbers} numbers")


def _integers(value: Any, place: str) -> Iterator[tuple[str, int]]:
    """Every integer of a description and its place."""
    if isinstance(value, Mapping | list):
        for name, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _integers(inner, f"{place}.{name}")
    elif isinstance(value, int):
        yield place, value


def _sizes(arguments: Any) -> dict[str, int]:
    """Arguments that are integers, and the lengths of those that are lists of numbers."""
    sizes = {}
    for name, value in arguments.items() if isinstance(arguments, Mapping) else ():
        if isinstance(value, int):
            sizes[name] = value
        elif isinstance(value, list) and all(isinstance(one, float) for one in value):
            sizes[name] = len(value)
    return sizes


@contextmanager
def bounded(numbers: int) -> Iterator[None]:
    """Refuse to make tensors that are much larger than ``numbers``, one by one or together, before they are made.

    Raises:
        ValueError: there would be too many numbers.

    >>> with bounded(100):
    ...     torch.zeros(10**6, 10**6)
    Traceback (most recent call last):
    ValueError: the description is of more than 4200704 numbers; the weights in the file are 100
    """
    with _Bounded(numbers):
        yield


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
