"""Sampling: one million shots of a circuit of 16 qubits."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.common import (
    OURS,
    RATIO_HEADER,
    SINGLE,
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
from benchmarks.peers import (
    deepquantum_circuit,
    layer_gates,
    need,
    operations,
    scan_layers,
    torchquantum_states,
)
from benchmarks.work import Work
from circuits.backends import Statevector

FULL, FULL_SHOTS = Work(16), 1_000_000
QUICK, QUICK_SHOTS = Work(5), 2_000
DEVIATIONS = 8.0
"""Standard deviations that a frequency may differ from its probability."""


def builders(work: Work, shots: int) -> dict[str, Builder]:
    """All contenders, each with the form of shots that is cheapest for it."""
    return {
        OURS: lambda: _ours(work, shots),
        "default.qubit": lambda: _pennylane(work, shots, "default.qubit"),
        "lightning.qubit": lambda: _pennylane(work, shots, "lightning.qubit"),
        "Aer counts": lambda: _aer(work, shots, "double"),
        "qujax numbers": lambda: _qujax(work, shots),
        "deepquantum counts": lambda: _deepquantum(work, shots),
        OURS + SINGLE: lambda: _ours(work, shots, single=True),
        "Aer counts" + SINGLE: lambda: _aer(work, shots, "single"),
        "torchquantum counts" + SINGLE: lambda: _torchquantum(work, shots),
    }


def measure(options: argparse.Namespace) -> Report:
    """All packages in both precisions; frequencies are held against the exact probabilities."""
    work, shots = (QUICK, QUICK_SHOTS) if options.quick else (FULL, FULL_SHOTS)
    seconds = options.seconds or (0.05 if options.quick else 6.0)
    results = race(chosen(builders(work, shots), options.peers), seconds)
    rows, ratios = ratio_rows(results)
    return Report(
        "Sampling",
        f"{shots} shots of {work.n_qubits} qubits after {work.layers} layers, simulation of the state included. This "
        "package and the devices of PennyLane give the bits of every shot in the order drawn, qujax their numbers; "
        "`counts` are the cheaper tables of how often each bit string came. Frequencies of the first and the last half "
        f"of the wires are within {DEVIATIONS:.0f} standard deviations of exact probabilities.",
        [(RATIO_HEADER, rows)],
        [Goal("sampling", 6.0, ratios.get(False)), Goal("sampling, complex64", 1.0, ratios.get(True))],
    )


def _contender(work: Work, shots: int, run: Callable[[], Any], counts: Callable[[Any], np.ndarray]) -> Contender:
    """A contender whose counts ``(2**n,)`` are held against the exact probabilities."""

    def read(result: Any) -> list[np.ndarray]:
        found = np.asarray(counts(result), np.float64)
        half = 2 ** (work.n_qubits // 2)
        exact = Statevector().probs(work.circuit, work.angles).numpy()
        for axis in (0, 1):
            p = exact.reshape(half, -1).sum(axis)
            f = found.reshape(half, -1).sum(axis) / shots
            away = np.abs(f - p) / np.sqrt(p * (1 - p) / shots + 1 / shots**2)
            if away.max() > DEVIATIONS:
                raise ArithmeticError(f"a frequency is {away.max():.1f} standard deviations from its probability")
        return [np.array([found.sum()])]

    return Contender(run, read)


def _bits_to_counts(bits: Any) -> np.ndarray:
    array = np.asarray(bits).astype(np.int64)
    return np.bincount(array @ (1 << np.arange(array.shape[1])[::-1]), minlength=2 ** array.shape[1])


def _strings_to_counts(counts: Mapping[str, int], n_qubits: int) -> np.ndarray:
    found = np.zeros(2**n_qubits)
    for bits, count in counts.items():
        found[int(bits, 2)] = count
    return found


def _ours(work: Work, shots: int, single: bool = False) -> Contender:
    backend = Statevector(torch.complex64 if single else torch.complex128)
    rng = torch.Generator().manual_seed(work.seed)
    circuit, angles = work.circuit, work.angles
    return _contender(work, shots, lambda: backend.sample(circuit, angles, shots, rng), _bits_to_counts)


def _pennylane(work: Work, shots: int, device: str) -> Contender:
    import pennylane as qml

    @qml.set_shots(shots)
    @qml.qnode(qml.device(device, wires=work.n_qubits, seed=work.seed), diff_method=None)
    def node(angles: Any) -> Any:
        operations(work, angles)
        return qml.sample(wires=range(work.n_qubits))

    angles = work.angles.tolist()
    return _contender(work, shots, lambda: node(angles), _bits_to_counts)


def _aer(work: Work, shots: int, precision: str) -> Contender:
    """Counts as Aer keeps them, by numbers in hexadecimal; making strings of bits of them takes longer."""
    aer = need("qiskit_aer")
    simulator = aer.AerSimulator(
        method="statevector", precision=precision, max_parallel_threads=1, seed_simulator=work.seed
    )
    circuit = work.circuit.to_qiskit().assign_parameters(work.angles.tolist())
    circuit.measure_all()

    def read(counts: Mapping[str, int]) -> np.ndarray:
        found = np.zeros(2**work.n_qubits)
        for place, count in counts.items():
            found[int(place, 16)] = count
        n = work.n_qubits
        return found.reshape([2] * n).transpose().reshape(-1)  # qubit 0 is Qiskit's least significant bit

    return _contender(work, shots, lambda: simulator.run(circuit, shots=shots).result().data(0)["counts"], read)


def _qujax(work: Work, shots: int) -> Contender:
    package = need("qujax")
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        layer = package.get_params_to_statetensor_func(*layer_gates(work), work.n_qubits)
        final = scan_layers(work, layer, package.all_zeros_statetensor(work.n_qubits))
        draw = jax.jit(lambda key, angles: package.sample_integers(key, final(angles), shots))
        angles, keys = jnp.asarray(work.angles.numpy()), [jax.random.PRNGKey(work.seed)]

    def run() -> Any:
        with jax.enable_x64(True):
            keys[0], key = jax.random.split(keys[0])
            return jax.block_until_ready(draw(key, angles))

    return _contender(work, shots, run, lambda found: np.bincount(np.asarray(found), minlength=2**work.n_qubits))


def _deepquantum(work: Work, shots: int) -> Contender:
    circuit = deepquantum_circuit(work)

    def run() -> Mapping[str, int]:
        with torch.no_grad():
            circuit(data=work.angles)
            counts: Mapping[str, int] = circuit.measure(shots=shots)
            return counts

    return _contender(work, shots, run, lambda found: _strings_to_counts(found, work.n_qubits))


def _torchquantum(work: Work, shots: int) -> Contender:
    package = need("torchquantum")
    states = torchquantum_states(work)

    def run() -> Mapping[str, int]:
        with torch.no_grad():
            device = states(work.angles.to(torch.float32))
            counts: Mapping[str, int] = package.measure(device, n_shots=shots)[0]
            return counts

    return _contender(work, shots, run, lambda found: _strings_to_counts(found, work.n_qubits))


if __name__ == "__main__":
    show(measure, parser(__doc__).parse_args())
