"""A trained circuit of a run as a program for a device, with the facts that lead back from its bits to events."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from circuits import Circuit
from circuits.interop import from_qiskit, to_qiskit
from experiments.evaluation import check_files
from experiments.provenance import environment
from qgen.data import Dataset
from qgen.deployment import Deployment, columns_of, events_from_bits, read_counts
from qgen.files import check_place, write_atomically
from qgen.generator import Generator
from qgen.models.deployed import Deployed, MeasuredOnce
from qgen.random import derive_seed, new_generator
from qgen.registry import generator_class, generators, kind_of
from qgen.run import Run
from qgen.text import unknown

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["FORMATS", "Exported", "deployable_kinds", "export", "measured_events"]

FORMATS = {"qasm3": ".qasm", "qasm2": ".qasm", "qpy": ".qpy", "json": ".json"}
"""How a program can be written, and the ending of its file's name."""

LEVEL = 3
"""Of Qiskit's transpiler."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        program: file of the circuit.
        facts: file of what leads from its bits to events.
        model: the model's name.
        lines: sizes of the circuit, a plain sentence each.
    """

    program: Path
    facts: Path
    model: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Program:
    """A circuit to be written, as it is or on a device.

    Args:
        deployed: the circuit.
        on_device: the same on a device's qubits, measurements included; None without a device.
        device: the device's name.
        qubits: for each bit of an event the device's qubit.
    """

    deployed: Deployed
    on_device: QuantumCircuit | None = None
    device: str = ""
    qubits: tuple[int, ...] = field(default=())

    @property
    def n_bits(self) -> int:
        return len(self.deployed.data_wires)

    def sizes(self) -> dict[str, int]:
        """Qubits, depth and gates on two qubits, as the device has them or as the circuit is written in OpenQASM."""
        if self.on_device is None:
            circuit = self.deployed.circuit
            many = sum(2 * (len(gate.wires) - 1) for gate in circuit.gates if gate.name == "MultiRZ")
            pairs = sum(len(gate.wires) == 2 for gate in circuit.gates if gate.name != "MultiRZ")
            return {"qubits": circuit.n_wires, "depth": circuit.depth, "two_qubit_gates": pairs + many}
        used = {q for instruction in self.on_device.data for q in instruction.qubits}
        two = sum(len(i.qubits) == 2 for i in self.on_device.data if i.operation.name != "barrier")
        return {"qubits": len(used), "depth": self.on_device.depth(), "two_qubit_gates": two}


def deployable_kinds() -> list[str]:
    """The kinds of generators whose circuits can be exported.

    >>> "born_machine" in deployable_kinds()
    True
    """
    return [kind for kind in generators() if issubclass(generator_class(kind), MeasuredOnce)]


def export(
    run: Run,
    model: str | None = None,
    *,
    model_seed: int | None = None,
    condition: Sequence[float] = (),
    format: str = "qasm3",
    device: str | None = None,
    out: Path | None = None,
    force: bool = False,
) -> Exported:
    """Write the circuit of a trained model, measurements included, and beside it ``FILE.json``.

    Args:
        run: where the model was trained.
        model: its name; the only one of the run that can be exported if not given.
        model_seed: which of the run's trainings; the first if not given.
        condition: in physical units, for a run whose events have conditions.
        format: ``qasm3``, ``qasm2``, ``qpy`` (Qiskit's own) or ``json`` (:meth:`circuits.Circuit.from_json`).
        device: a name that :func:`circuits.backends.devices.find_device` knows, onto whose gates and qubits the circuit
            is brought; without one it stays as it is.
        out: file of the circuit; ``circuit.qasm``, ``.qpy`` or ``.json`` beside the trained model if not given.
        force: replace what is there.

    Raises:
        FileNotFoundError: the model is not trained yet.
        ValueError: an unknown model, seed, format or device, a model whose events are not measured bits, a condition
            that is missing, superfluous or impossible, a device that is too small, or a file that is there already.
        ImportError: the devices' package is missing.
    """
    if format not in FORMATS:
        raise ValueError(unknown("format", format, FORMATS))
    name = _only_model(run) if model is None else model
    place = out if out is not None else run.place(name, model_seed) / f"circuit{FORMATS[format]}"
    facts = place.with_name(place.name + ".json")
    check_place(place)
    for path in (place, facts):
        if path.exists() and not force:
            raise ValueError(f"{path}: is there already; give another --out, or replace it (--force)")
    generator = _deployable(name, run.generator(name, model_seed))
    deployed = generator.deployed(_condition(run, condition))
    program = _Program(deployed) if device is None else _transpiled(deployed, device)
    sizes = program.sizes()
    here = environment(torch.device("cpu"))
    deployment = Deployment(
        generator.discretiser,
        generator.transform,
        torch.tensor(list(condition), dtype=torch.float64),
        columns_of(run.dataset),
        {
            "program": place.name,
            "language": format,
            "run": str(run.config.get("name", run.folder.name)),
            "model": name,
            "kind": kind_of(generator),
            "seed": run.seeds[0] if model_seed is None else model_seed,
            "bits": "bit i is classical bit c[i], measured on wires[i]; Qiskit writes c[0] rightmost",
            "wires": list(deployed.data_wires),
            "device": None if device is None else {"name": program.device, "qubits": list(program.qubits)},
            **sizes,
            "versions": {"python": here["python"], **here["packages"]},
        },
    )
    write_atomically(place, _written(program, format, _remarks(deployment, facts.name)))
    write_atomically(facts, deployment.to_json().encode())
    where = f"on {program.device}" if device is not None else "as it is, on no device"
    line = (
        f"{name} {where}: {program.n_bits} bits of an event, {sizes['qubits']} qubits, depth {sizes['depth']}, "
        f"{sizes['two_qubit_gates']} two-qubit gates"
    )
    lines = (line, *([f"bits are on the device's qubits {_short(program.qubits)}"] if program.qubits else []))
    return Exported(place, facts, name, lines)


def measured_events(pairs: Sequence[tuple[Path, Path]], seed: int = 0) -> Dataset:
    """Events from what circuits gave elsewhere, in random order.

    Args:
        pairs: for each circuit the file of facts that :func:`export` wrote, and the JSON file of its counts.
        seed: of places in cells and of the order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file holds something else, or two circuits are of different kinds of events.
    """
    found = [
        events_from_bits(facts, read_counts(counts), derive_seed(seed, k)) for k, (facts, counts) in enumerate(pairs)
    ]
    for (facts, _), events in zip(pairs, found, strict=True):
        check_files(pairs[0][0], found[0], facts, events)
    samples, conditions = (torch.cat([getattr(one, part) for one in found]) for part in ("samples", "conditions"))
    order = torch.randperm(len(samples), generator=new_generator(derive_seed(seed, "order")))
    return replace(found[0], samples=samples[order], conditions=conditions[order])


def _only_model(run: Run) -> str:
    kinds = deployable_kinds()
    found = [name for name, config in run.config["models"].items() if config.get("kind") in kinds]
    if len(found) != 1:
        there = f"several models can be exported ({', '.join(found)})" if found else "no model can be exported"
        hint = "; name one with --model" if found else f"; the kinds that can are {', '.join(kinds)}"
        raise ValueError(f"{run.folder}: {there}{hint}")
    return found[0]


def _deployable(name: str, generator: Generator) -> MeasuredOnce:
    if isinstance(generator, MeasuredOnce):
        return generator
    runs = generator.runs_circuits
    what = "an event is not one measurement of one circuit" if runs else "it has no circuit of qubits"
    raise ValueError(
        f"model {name!r} is a {kind_of(generator)}: {what}; kinds that can be exported are "
        f"{', '.join(deployable_kinds())}"
    )


def _condition(run: Run, condition: Sequence[float]) -> Tensor | None:
    """The condition, if it has a value for each column; None for events without conditions."""
    features = run.dataset.condition_features
    if len(condition) != len(features):
        names = ", ".join(f"{feature.name} in {feature.unit}".removesuffix(" in ") for feature in features)
        expected = f"expected {len(features)} ({names})" if features else "the events of this run have none"
        raise ValueError(f"condition has {len(condition)} values; {expected}")
    return torch.tensor(list(condition), dtype=torch.float64) if features else None


def _with_measurements(deployed: Deployed) -> QuantumCircuit:
    from qiskit import ClassicalRegister

    circuit = to_qiskit(deployed.circuit)
    bits = ClassicalRegister(len(deployed.data_wires), "c")
    circuit.add_register(bits)
    circuit.measure(list(deployed.data_wires), list(bits))
    return circuit


def _transpiled(deployed: Deployed, name: str) -> _Program:
    from qiskit.transpiler import generate_preset_pass_manager
    from qiskit.transpiler.exceptions import TranspilerError

    from circuits.backends.devices import find_device

    backend = find_device(name)
    n = deployed.circuit.n_wires
    if backend.num_qubits is not None and backend.num_qubits < n:
        raise ValueError(f"device {name!r} has {backend.num_qubits} qubits; the circuit has {n}")
    manager = generate_preset_pass_manager(optimization_level=LEVEL, backend=backend, seed_transpiler=0)
    try:
        circuit = manager.run(_with_measurements(deployed))
    except TranspilerError as error:
        reason = str(error).strip("\"' ").splitlines()[0]
        raise ValueError(f"device {name!r} cannot host the circuit of {n} qubits: {reason}") from error
    place = {
        circuit.find_bit(instruction.clbits[0]).index: circuit.find_bit(instruction.qubits[0]).index
        for instruction in circuit.data
        if instruction.operation.name == "measure"
    }
    return _Program(deployed, circuit, backend.name, tuple(place[bit] for bit in range(len(deployed.data_wires))))


def _remarks(deployment: Deployment, facts: str) -> list[str]:
    about = deployment.facts
    columns = [c["name"] for c in deployment.columns["features"]]
    wires = deployment.discretiser.wires
    first = ", ".join(f"c[{i}] of {columns[feature]}" for i, (feature, _) in enumerate(wires[:3]))
    conditions = zip(deployment.columns["conditions"], deployment.condition.tolist(), strict=True)
    given = ", ".join(f"{c['name']} = {value:g} {c['unit']}".rstrip() for c, value in conditions)
    return [
        f"{about['model']} ({about['kind']}) of {about['run']}, seed {about['seed']}" + (f"; {given}" if given else ""),
        f"c[i] is bit i of an event, the first wires: {first}{', ...' if len(wires) > 3 else ''}",
        f"{facts} says how bits become events",
    ]


def _written(program: _Program, format: str, remarks: list[str]) -> bytes:
    wires = program.deployed.data_wires
    if format == "json":
        circuit = program.deployed.circuit if program.on_device is None else from_qiskit(program.on_device)
        return (circuit.to_json() + "\n").encode()
    if format == "qpy":
        from qiskit import qpy

        buffer = io.BytesIO()
        qpy.dump(_with_measurements(program.deployed) if program.on_device is None else program.on_device, buffer)
        return buffer.getvalue()
    if program.on_device is not None:
        from qiskit import qasm2, qasm3

        text = (qasm3 if format == "qasm3" else qasm2).dumps(program.on_device)
    else:
        text = _measured_text(program.deployed.circuit, wires, 3 if format == "qasm3" else 2)
    first, rest = text.split("\n", 1)
    return "\n".join([first, *(f"// {' '.join(line.split())}" for line in remarks), rest.rstrip(), ""]).encode()


def _measured_text(circuit: Circuit, wires: Sequence[int], version: int) -> str:
    if version == 3:
        lines = [f"bit[{len(wires)}] c;", *(f"c[{i}] = measure q[{wire}];" for i, wire in enumerate(wires))]
    else:
        lines = [f"creg c[{len(wires)}];", *(f"measure q[{wire}] -> c[{i}];" for i, wire in enumerate(wires))]
    return "\n".join([circuit.to_qasm(version), *lines])


def _short(qubits: Sequence[int]) -> str:
    return ", ".join(map(str, qubits[:8])) + (", ..." if len(qubits) > 8 else "")
