"""What a model costs: time, parameters, and for a quantum model its circuits, executions and shots."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from circuits.cv import Program
from circuits.metering import Tally
from qgen.models.on_backend import OnBackend

__all__ = ["COLUMNS", "circuit_cost", "mean_cost", "model_cost", "short_cost", "short_count"]

COLUMNS = {"wires": "qubits", "gates": "gates (two)", "depth": "depth", "train_executions": "circuits run"}
"""What a table shows of a quantum model's price: the key of :func:`short_cost` and its heading."""


def circuit_cost(generator: Any) -> dict[str, int]:
    """Size of the public circuits, or programs of modes, of a model; empty for a classical one.

    Of several circuits, which run one after the other for an event, gates and depths are added and the widest counts.
    A gate is what the circuit is written in, before any compilation for a device.

    Returns:
        ``qubits``, ``gates``, ``two_qubit_gates``, ``depth``; of programs ``modes`` and ``two_mode_gates`` instead.
    """
    if isinstance(generator, OnBackend) and (circuits := list(generator.circuits.values())):
        return {
            "qubits": max(circuit.n_wires for circuit in circuits),
            "gates": sum(len(circuit) for circuit in circuits),
            "two_qubit_gates": sum(circuit.n_two_qubit_gates for circuit in circuits),
            "depth": sum(circuit.depth for circuit in circuits),
        }
    own = {name: value for name, value in vars(generator).items() if not name.startswith("_")}.values()
    if programs := [value for value in own if isinstance(value, Program)]:
        return {
            "modes": max(program.n_modes for program in programs),
            "gates": sum(len(program) for program in programs),
            "two_mode_gates": sum(len(gate.modes) == 2 for program in programs for gate in program.gates),
            "depth": sum(_depth([gate.modes for gate in program.gates]) for program in programs),
        }
    return {}


def _depth(gates: Sequence[Sequence[int]]) -> int:
    """Time steps of gates on these modes, when those on different modes act at once.

    >>> _depth([(0,), (1,), (0, 1), (2,)])
    2
    """
    level: Counter[int] = Counter()
    for modes in gates:
        level.update(dict.fromkeys(modes, 0))
        after = 1 + max(level[mode] for mode in modes)
        for mode in modes:
            level[mode] = after
    return max(level.values(), default=0)


def model_cost(
    generator: Any, training: Mapping[str, Any], n_samples: int, sample_seconds: float, drawing: Tally
) -> dict[str, Any]:
    """The cost of one training of a model, JSON values.

    Args:
        generator: the trained model.
        training: what its folder says of the training.
        n_samples: events drawn from it.
        sample_seconds: wall time of drawing them.
        drawing: what was run for them.

    Returns:
        ``n_parameters``, ``train_seconds`` (wall time), ``train_cpu_seconds`` (processor time, where it was measured),
        ``samples_per_second``; for models that run circuits what :func:`circuit_cost` says, ``train_executions`` and
        ``train_shots``, ``sample_executions`` and ``sample_shots``. An exact simulator has no shots but those drawn.
        Circuits of a discriminator count where they run, in training; its gates do not.
    """
    cost: dict[str, Any] = {
        "n_parameters": generator.n_parameters,
        "train_seconds": training["seconds"],
        "samples_per_second": n_samples / sample_seconds if sample_seconds > 0 else None,
    }
    if "cpu_seconds" in training:
        cost["train_cpu_seconds"] = training["cpu_seconds"]
    if circuits := circuit_cost(generator):
        cost |= circuits
        for key in ("executions", "shots"):
            cost[f"train_{key}"] = training.get(key)
        cost |= {"sample_executions": drawing.executions, "sample_shots": drawing.shots}
    return cost


def mean_cost(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each number over the trainings that have it; a number that all share stays as it is.

    >>> mean_cost([{"qubits": 3, "train_seconds": 1.0}, {"qubits": 3, "train_seconds": 2.0}])
    {'qubits': 3, 'train_seconds': 1.5}
    """
    means = {}
    for key in dict.fromkeys(key for one in each for key in one):
        values = [one[key] for one in each if one.get(key) is not None]
        means[key] = None if not values else values[0] if len(set(values)) == 1 else statistics.fmean(values)
    return means


def short_cost(cost: Mapping[str, Any]) -> dict[str, str]:
    """The columns of :data:`COLUMNS` as short text, empty for a classical model.

    >>> short_cost({"qubits": 8, "gates": 120, "two_qubit_gates": 56, "depth": 30, "train_executions": 1_234_567})
    {'wires': '8', 'gates': '120 (56)', 'depth': '30', 'train_executions': '1.2M'}
    >>> short_cost({"modes": 4, "gates": 40, "two_mode_gates": 12, "depth": 9})["wires"]
    '4 modes'
    """
    found = {}
    if "qubits" in cost or "modes" in cost:
        found["wires"] = short_count(cost["qubits"]) if "qubits" in cost else f"{short_count(cost['modes'])} modes"
        two = cost["two_qubit_gates"] if "qubits" in cost else cost["two_mode_gates"]
        found["gates"] = f"{short_count(cost['gates'])} ({short_count(two)})"
    for key in COLUMNS:
        if key not in found and cost.get(key) is not None:
            found[key] = short_count(cost[key])
    return found


def short_count(count: float) -> str:
    """A count in at most four or five characters.

    >>> [short_count(n) for n in (0, 999, 1234, 45_678, 1_500_000, 2.5e9)]
    ['0', '999', '1.2k', '46k', '1.5M', '2.5G']
    """
    units = ["", "k", "M", "G", "T"]
    while round(count) >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.1f}{units[0]}" if units[0] and round(count, 1) < 10 else f"{count:.0f}{units[0]}"
