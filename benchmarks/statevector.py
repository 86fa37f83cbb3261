"""Time of one gradient step: this package against PennyLane, on one thread.

The circuit is 8 layers of RY and RZ on every qubit and a ring of CNOTs; the loss is ``(p - q) K (p - q)`` on the exact
probabilities ``p``, with a target ``q`` and the Gaussian kernel ``K`` of the Hamming distance (a squared MMD), which is
a product over the qubits and applied as such.
All do the same work in one process; losses and gradients are compared to 1e-5 before anything is timed.

    python benchmarks/statevector.py [--qubits 4 6 8 10 12 14] [--repeats 7]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import functools
import math
import statistics
import time
from collections.abc import Callable

import pennylane as qml
import torch
from torch import Tensor

from circuits import Circuit, ansatz
from circuits.backends import Statevector

LAYERS = 8
Probabilities = Callable[[Tensor], Tensor]


def pennylane_probabilities(circuit: Circuit, device: str, diff_method: str) -> Probabilities:
    wires = range(circuit.n_wires)
    function = circuit.to_pennylane()

    @qml.qnode(qml.device(device, wires=circuit.n_wires), interface="torch", diff_method=diff_method)
    def node(angles: Tensor) -> Tensor:
        function(angles)
        return qml.probs(wires=wires)

    return node


def lightning_step(circuit: Circuit, target: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """One forward run for the loss, one adjoint sweep for its gradient.

    The gradient of the loss is that of the expectation value of the diagonal ``2 K (p - q)``, so one sweep suffices;
    differentiating all probabilities would cost one sweep each.
    """
    device = qml.device("lightning.qubit", wires=circuit.n_wires)
    wires = range(circuit.n_wires)
    function = circuit.to_pennylane()

    @qml.qnode(device, diff_method=None)
    def probabilities(angles: Tensor) -> Tensor:
        function(angles)
        return qml.probs(wires=wires)

    @qml.qnode(device, interface="torch", diff_method="adjoint")
    def weighted(angles: Tensor, diagonal: Tensor) -> Tensor:
        function(angles)
        matrix = qml.SparseHamiltonian(_sparse_diagonal(diagonal), wires=wires)
        return qml.expval(matrix)

    def step(angles: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            difference = torch.as_tensor(probabilities(angles.detach()), dtype=torch.float64) - target
            pull = hamming_kernel(difference)
        leaf = angles.detach().requires_grad_()
        weighted(leaf, 2 * pull).backward()
        return difference @ pull, leaf.grad

    return step


def _sparse_diagonal(diagonal: Tensor):
    import scipy.sparse

    return scipy.sparse.diags(diagonal.numpy(), format="csr").astype(complex)


def torch_step(probabilities: Probabilities, target: Tensor):
    def step(angles: Tensor) -> tuple[Tensor, Tensor]:
        leaf = angles.detach().requires_grad_()
        difference = probabilities(leaf) - target
        loss = difference @ hamming_kernel(difference)
        loss.backward()
        return loss.detach(), leaf.grad

    return step


def median_ms(step: Callable[[Tensor], object], angles: Tensor, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step(angles)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def hamming_kernel(values: Tensor) -> Tensor:
    """The kernel times a vector ``(2**n,)``, by a small matrix on each half of the qubits."""
    size = 2 ** ((len(values).bit_length() - 1) // 2)
    halves = values.reshape(size, -1)
    return (kernel_matrix(size) @ halves @ kernel_matrix(halves.shape[1])).reshape(-1)


@functools.lru_cache
def kernel_matrix(size: int) -> Tensor:
    near = math.exp(-0.5)
    matrix = torch.ones((1, 1), dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.kron(matrix, torch.tensor([[1.0, near], [near, 1.0]], dtype=torch.float64))
    return matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qubits", type=int, nargs="+", default=[4, 6, 8, 10, 12, 14])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"milliseconds per gradient step, median of {options.repeats}; {LAYERS} layers, one thread")
    print(f"{'qubits':>6} {'statevector':>12} {'first call':>11} {'default.qubit':>14} {'lightning':>10} {'ratio':>6}")
    for n_qubits in options.qubits:
        circuit = ansatz.hardware_efficient(n_qubits, LAYERS, topology="ring")
        rng = torch.Generator().manual_seed(n_qubits)
        angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64) * 6
        target = torch.rand(2**n_qubits, generator=rng, dtype=torch.float64)
        target /= target.sum()
        ours = torch_step(lambda a, c=circuit: Statevector().probs(c, a), target)
        start = time.perf_counter()
        loss, gradient = ours(angles)
        first = 1e3 * (time.perf_counter() - start)
        row = [median_ms(ours, angles, options.repeats)]
        peers = (
            torch_step(pennylane_probabilities(circuit, "default.qubit", "backprop"), target),
            lightning_step(circuit, target),
        )
        for peer in peers:
            other_loss, other_gradient = peer(angles)
            torch.testing.assert_close(other_loss, loss, rtol=0, atol=1e-5)
            torch.testing.assert_close(other_gradient, gradient, rtol=0, atol=1e-5)
            row.append(median_ms(peer, angles, options.repeats))
        ratio = min(row[1:]) / row[0]
        print(f"{n_qubits:>6} {row[0]:>12.2f} {first:>11.1f} {row[1]:>14.1f} {row[2]:>10.1f} {ratio:>6.1f}", flush=True)


if __name__ == "__main__":
    main()
