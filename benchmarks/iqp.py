"""A training step of an IQP circuit at 100 to 4000 qubits: loss on drawn Z strings, and its gradient.

iqpopt is not on PyPI; from a copy of its repository (commit bf20750 gave the figures of the results)::

    PYTHONPATH=iqpopt/src python -m benchmarks.iqp
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import (
    OURS,
    Absent,
    Builder,
    Contender,
    Goal,
    Report,
    Timing,
    cell,
    chosen,
    fastest,
    number,
    one_core,
    parser,
    race,
    show,
    times,
)
from benchmarks.memory import LIMIT_S, MEGABYTE, _peak
from benchmarks.peers import SINGLE_TOLERANCE, need, need_memory
from qgen.bits.kernels import default_scales, draw_strings
from qgen.bits.mmd import unbiased_terms
from qgen.bits.sets import BitSets
from qgen.models.iqp_expectations import iqp_cosines, uniform_bits

QUBITS, QUICK = (100, 400, 1000, 4000), (30, 60)
ALL_PAIRS_UP_TO = 100
GATES_PER_QUBIT = 10
STRINGS = DRAWS = EVENTS = 1000
IQPOPT, DOUBLE = "iqpopt", ", float64"
AIM_AT, AIM = 1000, 10.0


@dataclass(frozen=True)
class Work:
    """A circuit, Z strings and data that all share.

    Args:
        n_qubits: qubits; voxels of a grid of 10 rows and 10 columns in every layer.
        n_strings: strings of the loss.
        n_draws: bit strings that are drawn for its estimate.
    """

    n_qubits: int
    n_strings: int = STRINGS
    n_draws: int = DRAWS

    @cached_property
    def gates(self) -> BitSets:
        """All single bits; up to 100 all pairs, and beyond neighbours on the grid and random pairs."""
        n = self.n_qubits
        singles = [(bit,) for bit in range(n)]
        if n <= ALL_PAIRS_UP_TO:
            return BitSets.of(n, [*singles, *combinations(range(n), 2)])
        pairs = {
            (bit, bit + step)
            for bit in range(n)
            for step in (1, 10, 100)
            if bit + step < n and (bit % 10 < 9 or step > 1)
        }
        rng = np.random.default_rng(n)
        while len(pairs) < (GATES_PER_QUBIT - 1) * n:
            a, b = sorted(rng.choice(n, 2, replace=False).tolist())
            pairs.add((a, b))
        return BitSets.of(n, [*singles, *sorted(pairs)])

    @cached_property
    def strings(self) -> BitSets:
        """A quarter of them of each of the four default kernels."""
        rng = torch.Generator().manual_seed(1)
        return draw_strings(self.n_qubits, default_scales(self.n_qubits), self.n_strings, rng)[0]

    @cached_property
    def signs(self) -> Tensor:
        """Of the strings in the events, ``(n_strings, EVENTS)``."""
        events = torch.rand(EVENTS, self.n_qubits, generator=torch.Generator().manual_seed(2)) < 0.3
        return self.strings.signs(events.to(torch.uint8))

    @cached_property
    def angles(self) -> Tensor:
        rng = torch.Generator().manual_seed(3)
        return 0.3 * torch.randn(len(self.gates), dtype=torch.float64, generator=rng)


def builders(work: Work) -> dict[str, Builder]:
    """All contenders, ours first."""
    return {
        OURS: lambda: ours(work, torch.float32),
        OURS + DOUBLE: lambda: ours(work, torch.float64),
        IQPOPT: lambda: iqpopt(work, sparse=False),
        f"{IQPOPT}, sparse": lambda: iqpopt(work, sparse=True),
        "JAX, sparse": lambda: jax_sparse(work),
        "JAX, dense": lambda: jax_dense(work),
    }


# each contender: new draws at every call; what is compared is the step on the same draws for all


def ours(work: Work, dtype: torch.dtype) -> Contender:
    data, rng = work.signs.to(dtype), torch.Generator().manual_seed(0)

    def step(draws: Tensor) -> tuple[Tensor, Tensor]:
        angles = work.angles.clone().requires_grad_()
        loss = unbiased_terms(iqp_cosines(work.gates, angles, work.strings, draws, dtype=dtype), data).mean()
        return loss.detach(), torch.autograd.grad(loss, angles)[0]

    return Contender(
        lambda: step(uniform_bits(work.n_qubits, work.n_draws, rng)),
        lambda _: step(_shared_draws(work)),
        TOLERANCES[dtype],
    )


TOLERANCES = {torch.float32: SINGLE_TOLERANCE, torch.float64: 1e-5}


def _jax() -> Any:
    jax = need("jax")
    jax.config.update("jax_enable_x64", True)  # iqpopt sets it, too
    return jax


def _shared_draws(work: Work) -> Tensor:
    """Those that iqpopt has with key 0; other ones without JAX."""
    try:
        jax = _jax()
    except Absent:
        return uniform_bits(work.n_qubits, work.n_draws, torch.Generator().manual_seed(0))
    key = jax.random.split(jax.random.PRNGKey(0), 2)[1]
    return torch.tensor(np.asarray(jax.random.randint(key, (work.n_draws, work.n_qubits), 0, 2), np.uint8))


def _loss(values: Any, signs: Any, jnp: Any) -> Any:
    """The mean over strings of the unbiased terms, in JAX."""
    n, m = values.shape[1], signs.shape[1]
    mean, data = values.mean(1), signs.mean(1)
    square = (mean**2 - (values**2).mean(1) / n) * n / (n - 1)
    return jnp.mean(square - 2 * mean * data + (m * data**2 - 1) / (m - 1))


def iqpopt(work: Work, sparse: bool) -> Contender:
    """Its expectation values (dense ones jitted, with the loss), in float64 as it sets up."""
    simulator_of = _iqp_simulator()
    jax = _jax()
    gates, n_gates = [[list(gate)] for gate in work.gates], len(work.gates)
    # a square matrix of the gates; the gates themselves, twice for a moment; and what a step has for every gate
    need_memory(8 * n_gates * (n_gates + (not sparse) * 2 * work.n_qubits + 8 * work.n_strings))
    simulator = simulator_of(work.n_qubits, gates, sparse=sparse)
    strings = jax.numpy.asarray(work.strings.dense().numpy(), jax.numpy.float64)
    signs, angles = jax.numpy.asarray(work.signs.double().numpy()), jax.numpy.asarray(work.angles.numpy())

    def loss(angles: Any, strings: Any, key: Any) -> Any:
        values = simulator.op_expval(angles, strings, work.n_draws, key, return_samples=True)
        return _loss(values, signs, jax.numpy)

    gradient = jax.value_and_grad(loss)
    step = gradient if sparse else jax.jit(gradient)
    key = jax.random.PRNGKey(0)
    return Contender(lambda: jax.block_until_ready(step(angles, strings, key)))


def _iqp_simulator() -> Any:
    """``IqpSimulator`` without the rest of its package, which needs more than the simulator does."""
    need("jax")
    found = importlib.util.find_spec(IQPOPT)
    if found is None:
        raise Absent("not installed")
    package = importlib.util.module_from_spec(found)
    sys.modules.setdefault(IQPOPT, package)
    return importlib.import_module(f"{IQPOPT}.iqp_optimizer").IqpSimulator


def _jax_contender(work: Work, prepare: Callable[[], tuple[Any, ...]], values: Callable[..., Any]) -> Contender:
    """Of a jitted function from float32 angles, draws and what was prepared to the cosines."""
    jax = _jax()
    signs, angles = jax.numpy.asarray(work.signs.numpy()), jax.numpy.asarray(work.angles.float().numpy())
    shape = (work.n_draws, work.n_qubits)

    @jax.jit
    def step(draws: Any, *prepared: Any) -> Any:
        return jax.value_and_grad(lambda angles: _loss(values(angles, draws, *prepared), signs, jax.numpy))(angles)

    @jax.jit
    def draw(key: Any) -> Any:
        return jax.random.bits(key, shape, jax.numpy.uint8) & 1

    key = jax.random.PRNGKey(1)
    return Contender(
        lambda: jax.block_until_ready(step(draw(key), *prepare())),
        lambda _: step(jax.numpy.asarray(_shared_draws(work).numpy()), *prepare()),
        SINGLE_TOLERANCE,
    )


def jax_dense(work: Work) -> Contender:
    """Odd overlaps, signs and phases as products of dense float32 matrices."""
    jax = _jax()
    n_gates = len(work.gates)
    need_memory(4 * n_gates * (work.n_qubits + 4 * work.n_strings + 4 * work.n_draws))
    gates = jax.numpy.asarray(work.gates.dense().numpy(), jax.numpy.float32)
    strings = jax.numpy.asarray(work.strings.dense().numpy(), jax.numpy.float32)

    def values(angles: Any, draws: Any, gates: Any, strings: Any) -> Any:
        signs = 1 - 2 * ((gates @ draws.T.astype(jax.numpy.float32)) % 2)
        odd = (strings @ gates.T) % 2
        return jax.numpy.cos((2 * angles * odd) @ signs)

    return _jax_contender(work, lambda: (gates, strings), values)


def jax_sparse(work: Work) -> Contender:
    """Odd overlaps by scipy, signs by gathering, phases and their adjoint as sparse products, all float32."""
    jax = _jax()
    sparse, scipy = need("jax.experimental.sparse"), need("scipy.sparse")
    jnp = jax.numpy
    need_memory(16 * len(work.gates) * work.n_draws)
    largest = int(work.gates.sizes.max())
    # one more bit, always 0, fills up the smaller gates
    members = np.array([(*gate, *[work.n_qubits] * (largest - len(gate))) for gate in work.gates])
    gates, strings = (
        scipy.csr_matrix((np.ones(len(sets.members), np.float32), sets.members.numpy(), sets.pointers.numpy()), shape)
        for sets in (work.gates, work.strings)
        for shape in [(len(sets), sets.n_bits)]
    )
    gates_of_bits = gates.T.tocsr()

    def prepare() -> tuple[Any, ...]:
        odd = strings @ gates_of_bits
        odd.data %= 2
        odd.eliminate_zeros()
        turned = odd.T.tocsr()
        return odd.data, odd.indices, odd.indptr, turned.indices, turned.indptr

    def product(data: Any, indices: Any, pointers: Any, columns: Any, width: int) -> Any:
        return sparse.BCSR((data, indices, pointers), shape=(len(pointers) - 1, width)) @ columns

    @jax.custom_vjp
    def phases(columns: Any, *odd: Any) -> Any:
        return product(*odd[:3], columns, len(columns))

    def forward(columns: Any, *odd: Any) -> Any:
        return phases(columns, *odd), odd

    def backward(odd: Any, gradient: Any) -> Any:
        return product(odd[0], odd[3], odd[4], gradient, len(gradient)), *[None] * len(odd)

    phases.defvjp(forward, backward)

    def values(angles: Any, draws: Any, *odd: Any) -> Any:
        of_bits = jnp.pad(1 - 2 * draws.T.astype(jnp.float32), ((0, 1), (0, 0)), constant_values=1)
        signs = of_bits[members[:, 0]]
        for more in members.T[1:]:
            signs *= of_bits[more]
        return jnp.cos(phases(2 * angles[:, None] * signs, *odd))

    return _jax_contender(work, prepare, values)


# the report


def measure(options: argparse.Namespace) -> Report:
    """Times and peak memory at all sizes."""
    qubits = getattr(options, "qubits", None) or (QUICK if options.quick else QUBITS)
    seconds = options.seconds or (0.05 if options.quick else 5.0)
    busy = getattr(options, "processor_time", False)
    found: dict[int, dict[str, Timing | str]] = {}
    memory: dict[int, dict[str, str]] = {}
    for n in qubits:
        work = Work(n)
        names = chosen(builders(work), options.peers)
        found[n] = race(names, seconds, clock=time.process_time if busy else time.perf_counter)
        memory[n] = {name: _elsewhere(name, n, found[n][name]) for name in names if name == OURS or not options.quick}
        print(f"{n} qubits: " + ", ".join(f"{name} {cell(result)}" for name, result in found[n].items()), flush=True)
    names = list(next(iter(found.values())))
    rows = [
        [
            f"{n}",
            f"{len(Work(n).gates)}",
            *map(cell, results.values()),
            times(_to(results, IQPOPT)),
            times(_to(results)),
        ]
        for n, results in found.items()
    ]
    report = Report(
        "IQP circuits",
        f"Milliseconds{' of processor time' * busy}, medians: the unbiased squared MMD on {STRINGS} "
        f"Z strings, {STRINGS // 4} of each default "
        f"bandwidth (1, 2, 4 and 8 bits in the mean), estimated with {DRAWS} bit strings, and its gradient by all "
        "angles. Gates are all single qubits and, at 100 qubits, all pairs; beyond, pairs of neighbours on a grid of "
        f"10 rows and 10 columns in a layer and random pairs, {GATES_PER_QUBIT} gates a qubit in all. Every call draws "
        "its bit strings and finds the gates that share an odd number of bits with each string; the signs of the data "
        "are given. float32, but iqpopt is float64 as it always is, with all of the step jitted; its sparse form "
        "cannot be jitted. The JAX programs are the benchmark's own: dense matrix products; and sparse ones (`BCSR`, "
        "overlaps by scipy). The last two columns are ratios of the faster iqpopt, and of the fastest peer, to qgen. "
        "Below, the largest resident size in MB that a step adds to imports and preparation, in a process of its own. "
        f"Measured by itself: `PYTHONPATH=iqpopt/src python -m benchmarks.iqp{' --processor-time' * busy}`.",
    )
    report.tables = [
        (["qubits", "gates", *names, "iqpopt, ratio", "ratio"], rows),
        (["qubits, memory of a step", *memory[qubits[0]]], [[f"{n}", *cells.values()] for n, cells in memory.items()]),
    ]
    aimed = found.get(AIM_AT, {})
    report.goals.append(Goal(f"IQP training step at {AIM_AT} qubits, to iqpopt", AIM, _to(aimed, IQPOPT)))
    ratios = [r for results in found.values() if (r := _to(results)) is not None]
    report.goals.append(Goal("IQP training step, to the fastest peer, the worst", 1.0, min(ratios, default=None)))
    return report


def _to(results: dict[str, Timing | str], peers: str = "") -> float | None:
    """How many times longer the fastest peer takes whose name begins so."""
    peer = fastest({n: r for n, r in results.items() if n.startswith(peers)}, but=(OURS, OURS + DOUBLE))
    own = results.get(OURS)
    return peer[1].median / own.median if isinstance(own, Timing) and peer else None


def _elsewhere(name: str, n_qubits: int, timed: Timing | str) -> str:
    """Megabytes that a step takes, in a process of its own; or why there are none."""
    if isinstance(timed, str):
        return timed
    command = [sys.executable, "-m", "benchmarks.iqp", "--one", name, "--qubits", str(n_qubits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} in a process of its own: {done.stderr.strip().splitlines()[-1]}")
    before, peak = json.loads(done.stdout.splitlines()[-1])
    return number((peak - before) / MEGABYTE)


def _one(name: str, n_qubits: int) -> tuple[float, float]:
    """Bytes before the step and at its peak."""
    one_core()
    builders(Work(QUICK[0]))[name]().run()  # imports and compiled kernels are not the step's
    contender = builders(Work(n_qubits))[name]()
    before = _peak(reset=True)
    contender.run()
    return before, _peak()


def add_options(options: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What this script alone has."""
    options.add_argument("--qubits", type=int, nargs="+", help="numbers of qubits")
    options.add_argument(
        "--processor-time", action="store_true", help="for a machine where other processes are at work"
    )
    options.add_argument("--one", metavar="NAME", help="memory of this contender alone, in this process")
    return options


if __name__ == "__main__":
    asked = add_options(parser(__doc__)).parse_args()
    if asked.one is None:
        show(measure, asked)
    else:
        print(json.dumps(_one(asked.one, asked.qubits[0])))
