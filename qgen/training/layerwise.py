"""Layerwise growth: a circuit is trained layer after layer (2006.14904)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qgen.generator import Generator

__all__ = ["Growth"]


class Growth:
    """The growth of a generator in a training: which layers train at which step.

    The training starts with the weights of the first layer alone; those of the later layers are zero until their
    layer joins, one every ``steps_per_layer`` steps. Layers that have joined go on training with the newer ones (in
    2006.14904 the oldest are held). When a layer joins, the optimiser starts afresh, so that old and new weights move
    alike.

    A generator takes part if it has a method ``weight_layers()``: for each of its parameters by name, the layer of
    every entry, an integer tensor of the parameter's shape. A parameter that is not named trains from the start.

    Args:
        generator: the model.
        steps_per_layer: steps between two layers.
        steps: steps of the whole training.

    Raises:
        ValueError: the generator does not say of which layers its weights are, or there are too few steps for the last
            layer to join.
    """

    def __init__(self, generator: Generator, steps_per_layer: int, steps: int) -> None:
        if steps_per_layer < 1:
            raise ValueError(f"layerwise is {steps_per_layer}; at least 1 step for each layer is needed")
        layers = getattr(generator, "weight_layers", None)
        if layers is None:
            raise ValueError(
                f"layerwise is {steps_per_layer}, but {type(generator).__name__} does not say of which layers its "
                "weights are; leave layerwise out"
            )
        self.steps_per_layer = steps_per_layer
        self._layers = _by_parameter(generator, layers())
        n_layers = 1 + max(int(layer.max()) for layer in self._layers.values())
        if (n_layers - 1) * steps_per_layer >= steps:
            raise ValueError(
                f"layerwise is {steps_per_layer}: the last of {n_layers} layers would join after "
                f"{(n_layers - 1) * steps_per_layer} steps, there are {steps}"
            )
        self.n_layers = n_layers
        self._reached = 0

    @torch.no_grad()
    def start(self, optimiser: torch.optim.Optimizer) -> None:
        """Set the weights of all layers but the first to zero; from now on the optimiser moves only what has joined.

        Args:
            optimiser: the generator's, made for this training.
        """
        for parameter, layer in self._layers.items():
            parameter.masked_fill_(layer > 0, 0.0)
        optimiser.register_step_pre_hook(self._hold)
        self._optimiser = optimiser

    def reach(self, step: int) -> None:
        """Go to a step, counted from 0: the layers up to ``step // steps_per_layer`` train there."""
        self._reached, since = divmod(step, self.steps_per_layer)
        if since == 0 and 0 < self._reached < self.n_layers:
            self._optimiser.state.clear()

    def _hold(self, optimiser: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
        for parameter, layer in self._layers.items():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.masked_fill(layer > self._reached, 0.0)


def _by_parameter(generator: Generator, layers: Mapping[str, Tensor]) -> dict[torch.nn.Parameter, Tensor]:
    parameters = dict(generator.named_parameters())
    found = {}
    for name, layer in layers.items():
        if name not in parameters or layer.shape != parameters[name].shape:
            there = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            raise ValueError(
                f"weight_layers of {type(generator).__name__}: {name!r} has shape {tuple(layer.shape)}, "
                f"the parameter: {there}"
            )
        found[parameters[name]] = layer.to(parameters[name].device)
    return found
