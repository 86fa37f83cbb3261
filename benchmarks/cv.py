"""Continuous-variable neural networks: quadrature means of a batch, and the gradient by the weights.

::

    python -m benchmarks.cv                                        # all sizes and peers; the large ones take minutes
    python -m benchmarks.cv --sizes 2x7 3x7 --peers                # this package alone: mode and total basis
    python -m benchmarks.cv --sizes 2x7 --peers piquasso --limit 120
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import (
    OURS,
    SINGLE,
    TOLERANCE,
    Absent,
    Contender,
    Goal,
    Report,
    Timing,
    cell,
    chosen,
    compare,
    number,
    of_precision,
    one_core,
    parser,
    show,
    times,
)
from benchmarks.peers import SINGLE_TOLERANCE, need
from circuits.cv import CVGate, Fock, Program
from circuits.cv.basis import BasisKind, FockBasis
from circuits.cv.layers import CVNeuralNetworkLayers

SIZES = ((2, 7), (2, 10), (3, 7), (3, 10), (4, 7), (4, 10))
QUICK = ((2, 4),)
LAYERS, BATCH = 4, 32
LIMIT_S = 600.0
HBAR = 2.0
TOTAL = OURS + ", total basis"
SCAN = "piquasso, scan"


@dataclass(frozen=True)
class CVWork:
    """A network with shared weights, displacements of each event before it, and targets for the means.

    Angles are anywhere; displacements, squeezings and Kerr strengths are so small that no truncation matters.

    Args:
        n_modes: number of modes.
        cutoff: the first photon number that is left out.
        layers: number of layers.
        batch: number of events.
    """

    n_modes: int
    cutoff: int
    layers: int = LAYERS
    batch: int = BATCH

    @cached_property
    def layer(self) -> Program:
        """One layer."""
        return CVNeuralNetworkLayers(1, self.n_modes).program

    @cached_property
    def network(self) -> Program:
        """All layers, one after the other in the parameter vector."""
        return sum([self.layer] * self.layers, start=Program(self.n_modes))

    @cached_property
    def program(self) -> Program:
        """The displacements of an event, the last parameters, and the network."""
        first = [CVGate("Displacement", mode, (self.network.n_parameters + mode, 0.0)) for mode in range(self.n_modes)]
        return Program(self.n_modes, [*first, *self.network.gates])

    @cached_property
    def weights(self) -> Tensor:
        """``(n_weights,)`` float64."""
        network = CVNeuralNetworkLayers(self.layers, self.n_modes)
        parts = network.initial(self._rng(0), active=0.03, passive=2.0)
        return torch.cat([part.reshape(self.layers, -1) for part in parts], dim=1).reshape(-1)

    @cached_property
    def inputs(self) -> Tensor:
        """``(batch, n_modes)`` float64, displacements."""
        return 0.05 * torch.randn((self.batch, self.n_modes), generator=self._rng(1), dtype=torch.float64)

    @cached_property
    def targets(self) -> Tensor:
        """``(batch, n_modes)`` float64, wanted means."""
        return torch.randn((self.batch, self.n_modes), generator=self._rng(2), dtype=torch.float64)

    @staticmethod
    def _rng(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)


# contenders: the result is the means of all modes, (batch, n_modes), and the gradient of the mean squared error


def ours(work: CVWork, basis: BasisKind, single: bool = False) -> Contender:
    """``Fock``."""
    simulator = Fock(work.cutoff, basis=basis, dtype=torch.complex64 if single else torch.complex128, hbar=HBAR)

    def step() -> tuple[Tensor, Tensor | None]:
        leaf = work.weights.detach().requires_grad_()
        means = simulator.run(work.program, leaf, work.inputs).quadrature_means()
        torch.nn.functional.mse_loss(means.double(), work.targets).backward()
        return means.detach(), leaf.grad

    return Contender(step, relative=SINGLE_TOLERANCE if single else TOLERANCE)


def deepquantum(work: CVWork, single: bool = False) -> Contender:
    """Torch's autograd. The events enter as a batch of displaced states, which is faster than encoding them as data."""
    photonic = need("deepquantum.photonic")
    n_modes, real = work.n_modes, torch.float32 if single else torch.float64
    options = {"cutoff": work.cutoff, "backend": "fock", "basis": False}
    displaced = photonic.QumodeCircuit(n_modes, "vac", **options)
    for mode in range(n_modes):
        displaced.d(mode, encode=True)
    start = displaced.to(real)(
        data=torch.stack([work.inputs, 0 * work.inputs], dim=-1).reshape(work.batch, -1).to(real)
    )
    circuit = photonic.QumodeCircuit(n_modes, "vac", **options)
    methods = {"Beamsplitter": "bs", "Rotation": "r", "Squeezing": "s", "Displacement": "d", "Kerr": "k"}
    places: list[int] = []
    for gate in work.network.gates:
        getattr(circuit, methods[gate.name])(list(gate.modes))
        places += _indices(gate)
    circuit.to(real)
    weights = list(circuit.parameters())
    with torch.no_grad():
        for weight, place in zip(weights, places, strict=True):
            weight.copy_(work.weights[place])
    targets = work.targets.T.to(real)

    def step() -> tuple[Tensor, Tensor]:
        circuit.zero_grad()
        circuit(state=start)
        means = circuit.quadrature_mean()  # (n_modes, batch)
        torch.nn.functional.mse_loss(means, targets).backward()
        return means.detach().T, torch.stack([weight.grad for weight in weights])

    def read(result: tuple[Tensor, Tensor]) -> list[Tensor]:
        gradient = torch.zeros(len(places), dtype=real)
        gradient[places] = result[1]
        return [result[0], gradient]

    return Contender(step, read, SINGLE_TOLERANCE if single else TOLERANCE)


def piquasso(work: CVWork, single: bool = False, scan: bool = False) -> Contender:
    """Jitted JAX, ``vmap`` over the events, in the total basis; with ``scan`` only one layer is compiled.

    The means are read off the amplitudes, with less work than its reduced density matrices.
    """
    pq, jax = need("piquasso"), need("jax")
    import jax.numpy as jnp

    config = pq.Config(cutoff=work.cutoff, dtype=np.float32 if single else np.float64, validate=False, hbar=HBAR)
    simulator = pq.PureFockSimulator(d=work.n_modes, config=config, connector=pq.JaxConnector())
    names = {"Rotation": "Phaseshifter"}
    ladders = _ladders(work.n_modes, work.cutoff)

    def vacuum() -> Any:
        return simulator.execute_instructions([pq.Vacuum()]).state

    def run(state: Any, instructions: list[Any]) -> Any:
        return simulator.execute_instructions(instructions, initial_state=state).state.state_vector

    def start(inputs: Any) -> Any:
        return run(vacuum(), [pq.Displacement(inputs[mode]).on_modes(mode) for mode in range(work.n_modes)])

    def layer(amplitudes: Any, weights: Any) -> Any:
        state = vacuum()
        state.state_vector = amplitudes
        gates = [(getattr(pq, names.get(gate.name, gate.name)), gate) for gate in work.layer.gates]
        return run(state, [kind(*(weights[i] for i in _indices(gate))).on_modes(*gate.modes) for kind, gate in gates])

    def final(inputs: Any, weights: Any) -> Any:
        amplitudes = start(inputs)
        if scan:
            return jax.lax.scan(lambda state, row: (layer(state, row), None), amplitudes, weights)[0]
        for row in weights:
            amplitudes = layer(amplitudes, row)
        return amplitudes

    def loss(weights: Any, inputs: Any, targets: Any) -> Any:
        amplitudes = jax.vmap(final, in_axes=(0, None))(inputs, weights)
        once = [(amplitudes[:, low].conj() * amplitudes[:, high]).real @ root for low, high, root in ladders]
        means = math.sqrt(2 * HBAR) * jnp.stack(once, axis=-1)
        return ((means - targets) ** 2).mean(), means

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    real = np.float32 if single else np.float64
    shaped = work.weights.reshape(work.layers, -1)
    arrays = [jnp.asarray(tensor.numpy().astype(real)) for tensor in (shaped, work.inputs, work.targets)]

    def called() -> tuple[Any, Any]:
        (_, means), gradient = jax.block_until_ready(step(*arrays))
        return means, gradient

    return Contender(called, lambda r: [r[0], r[1].reshape(-1)], SINGLE_TOLERANCE if single else TOLERANCE)


def _indices(gate: CVGate) -> list[int]:
    return [slot.index for slot in gate.parameters if slot.index is not None]


def _ladders(n_modes: int, cutoff: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each mode the states that ``a`` joins, below and above, and the roots it brings, in piquasso's order."""
    basis = FockBasis(n_modes, cutoff, "total").occupations
    states = sorted(map(tuple, basis.tolist()), key=lambda state: (sum(state), [-n for n in state]))
    number_of = {state: number for number, state in enumerate(states)}
    found = []
    for mode in range(n_modes):
        high = [state for state in states if state[mode]]
        low = [number_of[(*state[:mode], state[mode] - 1, *state[mode + 1 :])] for state in high]
        roots = np.sqrt([state[mode] for state in high])
        found.append((np.array(low), np.array([number_of[state] for state in high]), roots))
    return found


CONTENDERS: dict[str, Callable[[CVWork], Contender]] = {
    OURS: lambda work: ours(work, "mode"),
    TOTAL: lambda work: ours(work, "total"),
    "deepquantum": deepquantum,
    "piquasso": piquasso,
    SCAN: lambda work: piquasso(work, scan=True),
    OURS + SINGLE: lambda work: ours(work, "mode", single=True),
    TOTAL + SINGLE: lambda work: ours(work, "total", single=True),
    "deepquantum" + SINGLE: lambda work: deepquantum(work, single=True),
    "piquasso" + SINGLE: lambda work: piquasso(work, single=True),
}
"""The reference first; deepquantum's basis is the mode basis, piquasso's the total one."""


# one contender in a process of its own


def _one(name: str, work: CVWork, seconds: float) -> None:
    """Print, line by line, the results and the seconds of the first call, then the seconds of each further call."""
    one_core()
    try:
        contender = CONTENDERS[name](work)
    except Absent as reason:
        print(json.dumps({"absent": str(reason)}))
        return
    start = time.perf_counter()
    result = contender.run()
    first = time.perf_counter() - start
    arrays = [np.asarray(array, dtype=np.float64).tolist() for array in contender.read(result)]
    print(json.dumps({"first": first, "arrays": arrays, "relative": contender.relative}), flush=True)
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        contender.run()
        now = time.perf_counter()
        print(now - start, flush=True)
        if now >= end:
            return


@dataclass(frozen=True)
class Found:
    """What a contender gave: its results, none if there are none, and its timing or why there is none."""

    arrays: list[np.ndarray]
    relative: float
    timing: Timing | str


def run_elsewhere(name: str, work: CVWork, seconds: float, limit: float) -> Found:
    """One contender in a process of its own, which is stopped after ``limit`` seconds.

    Raises:
        RuntimeError: the process failed.
    """
    size = ["--sizes", f"{work.n_modes}x{work.cutoff}", "--layers", str(work.layers), "--batch", str(work.batch)]
    command = [sys.executable, "-m", "benchmarks.cv", "--one", name, *size, "--seconds", str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as stopped:
        output = (stopped.stdout or b"").decode()
        lines = output[: output.rfind("\n") + 1].splitlines()
    else:
        lines = done.stdout.splitlines()
        if done.returncode:
            raise RuntimeError(f"{name} in a process of its own: {done.stderr.strip().splitlines()[-1]}")
    if not lines:
        return Found([], TOLERANCE, f"more than {number(limit)} s")
    told = json.loads(lines[0])
    if "absent" in told:
        return Found([], TOLERANCE, told["absent"])
    arrays = [np.array(array) for array in told["arrays"]]
    taken = [1e3 * float(line) for line in lines[1:]]
    if not taken:
        return Found(arrays, told["relative"], f"first call {number(told['first'])} s, then stopped")
    return Found(
        arrays, told["relative"], Timing(statistics.median(taken), min(taken), 1e3 * told["first"], len(taken))
    )


# the report

Results = Mapping[str, Timing | str]


def measure(options: argparse.Namespace) -> Report:
    """All sizes, in double and in single precision."""
    sizes = getattr(options, "sizes", None) or (QUICK if options.quick else SIZES)
    limit = getattr(options, "limit", None) or LIMIT_S
    layers, batch = getattr(options, "layers", None) or LAYERS, getattr(options, "batch", None) or BATCH
    seconds = options.seconds or (0.05 if options.quick else 3.0)
    names = chosen(CONTENDERS, options.peers)
    found: dict[str, Results] = {}
    for n_modes, cutoff in sizes:
        work = CVWork(n_modes, cutoff, layers, batch)
        results = {name: run_elsewhere(name, work, seconds, limit) for name in names}
        for name, result in results.items():
            if result.arrays:
                compare(name, result.arrays, results[OURS].arrays, result.relative)
        size = f"{n_modes} modes, cutoff {cutoff}"
        found[size] = {name: result.timing for name, result in results.items()}
        print(f"{size}: " + ", ".join(f"{name} {cell(timing)}" for name, timing in found[size].items()), flush=True)
    report = Report(
        "Continuous-variable networks",
        f"Milliseconds, medians: displacements of {batch} events, {layers} layers of a neural network with weights "
        "that all events share, quadrature means of all modes, and the gradient of a squared error by the weights. "
        "Strengths are so small that truncation does not matter; all results agree to 1e-5, and to 1e-5 of the largest "
        "entry (1e-3 in complex64). deepquantum has the mode basis; its events enter as a batch of displaced states. "
        "piquasso has the total basis and is jitted with `vmap` over the events; `scan` compiles one layer only. Each "
        f"contender has a process of its own on one core, which is stopped after {number(limit)} s.",
    )
    report.tables = [_medians(found, single) for single in (False, True)] + [_first_calls(found)]
    for peer, own, wanted in (("deepquantum", OURS, 200.0), ("piquasso", TOTAL, 2.0)):
        ratios = [_ratio(results, peer, own, single) for results in found.values() for single in (False, True)]
        there = [ratio for ratio in ratios if ratio is not None]
        report.goals.append(Goal(f"CV networks, to {peer} in its basis, the worst", wanted, min(there, default=None)))
    return report


def _ratio(results: Results, peer: str, own: str, single: bool) -> float | None:
    """How many times longer the fastest form of a peer takes."""
    ending = SINGLE if single else ""
    mine = results.get(own + ending)
    there = [
        r.median for name, r in of_precision(results, single).items() if name.startswith(peer) and isinstance(r, Timing)
    ]
    return min(there) / mine.median if there and isinstance(mine, Timing) else None


def _medians(found: Mapping[str, Results], single: bool) -> tuple[list[str], list[list[str]]]:
    rows = []
    for size, results in found.items():
        ratios = [_ratio(results, "deepquantum", OURS, single), _ratio(results, "piquasso", TOTAL, single)]
        rows.append([size, *map(cell, of_precision(results, single).values()), *map(times, ratios)])
    names = [name.removesuffix(SINGLE) for name in of_precision(next(iter(found.values())), single)]
    return ["complex64" if single else "complex128", *names, "deepquantum, ratio", "piquasso, ratio"], rows


def _first_calls(found: Mapping[str, Results]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [size, *(number(r.first / 1e3) if isinstance(r, Timing) else r for r in of_precision(results, False).values())]
        for size, results in found.items()
    ]
    return ["first call in seconds", *of_precision(next(iter(found.values())), False)], rows


def _size(text: str) -> tuple[int, int]:
    n_modes, _, cutoff = text.partition("x")
    return int(n_modes), int(cutoff)


def add_options(options: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What this script alone has."""
    options.add_argument("--sizes", type=_size, nargs="+", metavar="MODESxCUTOFF", help="such as 2x7 3x10")
    options.add_argument("--layers", type=int, default=LAYERS, help="layers of the network")
    options.add_argument("--batch", type=int, default=BATCH, help="number of events")
    options.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that a contender may take at one size")
    options.add_argument("--one", metavar="NAME", help="only this contender, in this process")
    return options


if __name__ == "__main__":
    asked = add_options(parser(__doc__)).parse_args()
    if asked.one is None:
        show(measure, asked)
    else:
        modes, cutoff = asked.sizes[0]
        _one(asked.one, CVWork(modes, cutoff, asked.layers, asked.batch), asked.seconds)
