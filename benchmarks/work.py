"""The work: layers of RY and RZ on every qubit and a ring of CNOTs, and a squared MMD on exact probabilities.

The loss is ``(p - q) K (p - q)`` with ``K`` the Gaussian kernel of the Hamming distance, a product over the qubits. All
packages get it in the cheapest form: small matrices on groups of qubits, once forward, and the gradient ``2 K (p - q)``
from the same product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuits import Circuit, ansatz

LAYERS = 8
BANDWIDTH = 1.0
_GROUP = 6


@dataclass(frozen=True)
class Work:
    """A circuit, its angles and a target.

    Args:
        n_qubits: number of qubits.
        layers: number of layers.
        batch: number of angle vectors, each with its own loss; None is a single one.
        seed: of the angles and the target.
    """

    n_qubits: int
    layers: int = LAYERS
    batch: int | None = None
    seed: int = 0

    @cached_property
    def circuit(self) -> Circuit:
        """The circuit; angle ``i`` belongs to the i-th rotation."""
        return ansatz.hardware_efficient(self.n_qubits, self.layers, topology="ring")

    @cached_property
    def angles(self) -> Tensor:
        """``([batch,] n_angles)`` float64, between 0 and 2 pi."""
        shape = (self.circuit.n_angles,) if self.batch is None else (self.batch, self.circuit.n_angles)
        return torch.rand(shape, generator=self._rng(), dtype=torch.float64) * (2 * math.pi)

    @cached_property
    def target(self) -> Tensor:
        """``(2**n_qubits,)`` float64: independent biased bits, so that loss and gradient are of order one."""
        one = torch.rand(self.n_qubits, generator=self._rng(), dtype=torch.float64) * 0.2
        target = torch.ones(1, dtype=torch.float64)
        for p in one:
            target = torch.kron(target, torch.stack([1 - p, p]))
        return target

    def _rng(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    @property
    def bytes_per_state(self) -> int:
        """Of all state vectors of the batch in complex128."""
        return 16 * 2**self.n_qubits * (self.batch or 1)


def kernel_factors(n_qubits: int) -> list[np.ndarray]:
    """Symmetric matrices on neighbouring groups of qubits; their Kronecker product is the kernel."""
    n_groups = math.ceil(n_qubits / _GROUP)
    sizes = [n_qubits // n_groups + (group < n_qubits % n_groups) for group in range(n_groups)]
    near = math.exp(-0.5 / BANDWIDTH**2)
    factors = []
    for size in sizes:
        states = np.arange(2**size)
        factors.append(near ** np.bitwise_count(states[:, None] ^ states[None, :]).astype(float))
    return factors


class TorchLoss:
    """The sum over a batch of squared MMDs to the target, for torch."""

    def __init__(self, work: Work, dtype: torch.dtype = torch.float64, device: str = "cpu") -> None:
        self.target = work.target.to(device, dtype)
        self.factors = [torch.as_tensor(f).to(device, dtype) for f in kernel_factors(work.n_qubits)]

    def apply_kernel(self, values: Tensor) -> Tensor:
        """``K`` on ``(..., 2**n)``."""
        shape, right = values.shape, values.shape[-1]
        for factor in self.factors[:-1]:
            right //= len(factor)
            values = factor @ values.reshape(-1, len(factor), right)
        return (values.reshape(-1, right) @ self.factors[-1]).reshape(shape)

    def __call__(self, probabilities: Tensor) -> Tensor:
        """The loss, a scalar that can be differentiated once."""
        loss: Tensor = _SquaredMMD.apply(probabilities, self)
        return loss

    def value_and_pull(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient by the probabilities."""
        difference = probabilities - self.target
        pulled = self.apply_kernel(difference)
        return torch.dot(difference.reshape(-1), pulled.reshape(-1)), 2 * pulled


class _SquaredMMD(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, loss: TorchLoss) -> Tensor:
        value, pull = loss.value_and_pull(probabilities)
        ctx.save_for_backward(pull)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (pull,) = ctx.saved_tensors
        return pull * gradients[0], None


def torch_step(probabilities: Callable[[Tensor], Tensor], angles: Tensor, loss: TorchLoss) -> Callable[[], Any]:
    """Loss and gradient by automatic differentiation of the probabilities."""

    def step() -> tuple[Tensor, Tensor | None]:
        leaf = angles.detach().requires_grad_()
        value = loss(probabilities(leaf))
        value.backward()
        return value.detach(), leaf.grad

    return step


def to_numpy(result: Sequence[Tensor]) -> list[np.ndarray]:
    """Tensors as float64 arrays."""
    return [tensor.detach().to("cpu", torch.float64).numpy() for tensor in result]


def jax_loss(work: Work, dtype: Any) -> Callable[[Any], Any]:
    """As :class:`TorchLoss`, for JAX."""
    import jax
    import jax.numpy as jnp

    target = jnp.asarray(work.target.numpy(), dtype)
    factors = [jnp.asarray(factor, dtype) for factor in kernel_factors(work.n_qubits)]

    def value_and_pull(probabilities: Any) -> tuple[Any, Any]:
        difference = probabilities - target
        pulled, right = difference, difference.shape[-1]
        for factor in factors[:-1]:
            right //= len(factor)
            pulled = factor @ pulled.reshape(-1, len(factor), right)
        pulled = (pulled.reshape(-1, right) @ factors[-1]).reshape(difference.shape)
        return (difference * pulled).sum(), 2 * pulled

    @jax.custom_vjp
    def loss(probabilities: Any) -> Any:
        return value_and_pull(probabilities)[0]

    loss.defvjp(value_and_pull, lambda pull, gradient: (gradient * pull,))
    return loss
