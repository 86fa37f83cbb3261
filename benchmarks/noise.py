"""Noise: 8 qubits with depolarizing noise after every gate, probabilities and gradient step."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import (
    OURS,
    RATIO_HEADER,
    Builder,
    Contender,
    Goal,
    Report,
    chosen,
    parser,
    race,
    ratio_rows,
    show,
)
from benchmarks.peers import deepquantum_circuit, layer_gates, need, need_memory, scan_layers
from benchmarks.work import TorchLoss, Work, jax_loss, to_numpy, torch_step
from circuits.backends import DensityMatrix
from circuits.channels import Depolarizing
from circuits.noise import NoiseModel

FULL, QUICK = Work(8), Work(3, layers=2)
P = 0.01
"""Probability that a qubit is replaced by a fully mixed one, after every gate on it."""
NOT_IDENTITY = 3 * P / 4
"""Probability of X, Y or Z in the same channel."""

EACH = NoiseModel(one_qubit=((Depolarizing(P), None),), two_qubit=((Depolarizing(P), 0), (Depolarizing(P), 1)))
"""On each wire of a gate by itself, which every package has."""
JOINT = NoiseModel(one_qubit=((Depolarizing(P), None),), two_qubit=((Depolarizing(P), None),))
"""On both wires of a CNOT together, as in device calibrations."""


def forward_builders(work: Work, noise: NoiseModel = EACH) -> dict[str, Builder]:
    """Contenders for the probabilities."""
    builders: dict[str, Builder] = {OURS: lambda: _forward(work, _ours(work, noise)), "Aer": lambda: _aer(work, noise)}
    if noise == EACH:
        builders |= {
            "default.mixed": lambda: _forward(work, _default_mixed(work)),
            "deepquantum": lambda: _forward(work, _deepquantum(work)),
            "qujax": lambda: _qujax(work, gradient=False),
        }
    return builders


def gradient_builders(work: Work) -> dict[str, Builder]:
    """Contenders for the loss and its gradient."""
    return {
        OURS: lambda: _gradient(work, _ours(work, EACH)),
        "default.mixed": lambda: _gradient(work, _default_mixed(work)),
        "deepquantum": lambda: _gradient(work, _deepquantum(work)),
        "qujax": lambda: _qujax(work, gradient=True),
    }


def measure(options: argparse.Namespace) -> Report:
    """Forward with both kinds of noise on CNOTs, gradient with the one that all packages have."""
    work = QUICK if options.quick else FULL
    seconds = options.seconds or (0.05 if options.quick else 6.0)
    report = Report(
        "Noise",
        f"Density matrices of {work.n_qubits} qubits and {work.layers} layers, depolarizing noise ({P}) after every "
        "gate on each of its wires; in the second table on both wires of a CNOT together. The gradient step is that of "
        "the squared MMD. qujax is jitted, as a loop over the layers.",
    )
    ratios = []
    for what, builders in (
        ("probabilities", forward_builders(work)),
        ("probabilities, joint noise", forward_builders(work, JOINT)),
        ("gradient step", gradient_builders(work)),
    ):
        rows, found = ratio_rows(race(chosen(builders, options.peers), seconds))
        report.tables.append(([what, *RATIO_HEADER[1:]], rows))
        ratios.append(found[False])
    report.goals = [
        Goal("noisy probabilities", 4.0, ratios[0]),
        Goal("noisy probabilities, joint noise", 4.0, ratios[1]),
        Goal("noisy gradient", 25.0, ratios[2]),
    ]
    return report


def _forward(work: Work, probabilities: Callable[[Tensor], Tensor]) -> Contender:
    def run() -> Any:
        with torch.no_grad():
            return probabilities(work.angles)

    return Contender(run, lambda found: to_numpy([found]))


def _gradient(work: Work, probabilities: Callable[[Tensor], Tensor]) -> Contender:
    return Contender(torch_step(probabilities, work.angles, TorchLoss(work)), to_numpy)


def _ours(work: Work, noise: NoiseModel) -> Callable[[Tensor], Tensor]:
    backend, circuit = DensityMatrix(noise), work.circuit
    return lambda angles: backend.probs(circuit, angles)


def _density_bytes(work: Work) -> float:
    return 16.0 * 4**work.n_qubits


def _aer(work: Work, noise: NoiseModel) -> Contender:
    aer = need("qiskit_aer")
    simulator = aer.AerSimulator(method="density_matrix", noise_model=noise.to_aer(), max_parallel_threads=1)
    circuit = work.circuit.to_qiskit().assign_parameters(work.angles.tolist())
    circuit.save_probabilities()

    def run() -> Any:
        return simulator.run(circuit, shots=1).result().data(0)["probabilities"]

    def read(found: Any) -> list[np.ndarray]:
        return [np.asarray(found).reshape([2] * work.n_qubits).transpose()]  # qubit 0 is Qiskit's least significant bit

    return Contender(run, read)


def _default_mixed(work: Work) -> Callable[[Tensor], Tensor]:
    import pennylane as qml

    need_memory(12 * len(work.circuit) * _density_bytes(work))
    kinds = {"RY": qml.RY, "RZ": qml.RZ}

    @qml.qnode(qml.device("default.mixed", wires=work.n_qubits), interface="torch", diff_method="backprop")
    def node(angles: Tensor) -> Any:
        columns = angles.unbind(-1)
        for gate in work.circuit.gates:
            if gate.name == "CNOT":
                qml.CNOT(gate.wires)
            else:
                kinds[gate.name](columns[gate.angles[0].index or 0], gate.wires)
            for wire in gate.wires:
                qml.DepolarizingChannel(NOT_IDENTITY, wire)
        return qml.probs(wires=range(work.n_qubits))

    probabilities: Callable[[Tensor], Tensor] = node
    return probabilities


def _deepquantum(work: Work) -> Callable[[Tensor], Tensor]:
    circuit = deepquantum_circuit(work, noise=NOT_IDENTITY)
    need_memory(12 * len(work.circuit) * _density_bytes(work))
    return lambda angles: circuit(data=angles).diagonal(dim1=-2, dim2=-1).real.reshape(-1)


def _qujax(work: Work, gradient: bool) -> Contender:
    package = need("qujax")
    import jax
    import jax.numpy as jnp

    paulis = [np.eye(2), [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]]
    weights = [1 - NOT_IDENTITY] + 3 * [NOT_IDENTITY / 3]
    channel = [np.sqrt(w) * np.asarray(matrix, np.complex128) for w, matrix in zip(weights, paulis, strict=True)]
    operations: list[Any] = []
    wires: list[list[int]] = []
    numbers: list[Any] = []
    for name, on, angle in zip(*layer_gates(work), strict=True):
        operations += [name, *[channel] * len(on)]
        wires += [on, *([wire] for wire in on)]
        numbers += [angle, *[[[]] * len(channel)] * len(on)]
    with jax.enable_x64(True):
        layer = package.get_params_to_densitytensor_func(operations, wires, numbers, work.n_qubits)
        final = scan_layers(work, layer, package.all_zeros_densitytensor(work.n_qubits))
        loss = jax_loss(work, jnp.float64)

        def probabilities(angles: Any) -> Any:
            return jnp.diagonal(final(angles).reshape(2**work.n_qubits, -1)).real

        step = jax.jit(jax.value_and_grad(lambda a: loss(probabilities(a))) if gradient else probabilities)
        angles = jnp.asarray(work.angles.numpy())

    def run() -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(step(angles))

    return Contender(run, lambda found: [np.asarray(x) for x in found] if gradient else [np.asarray(found)])


if __name__ == "__main__":
    show(measure, parser(__doc__).parse_args())
