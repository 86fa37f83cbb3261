"""What is installed, which backends answer, and how far they reach on this machine."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Answer", "Package", "answers", "diagnosis", "limits", "packages"]

EXTRAS = {
    "torch": "",
    "numba": "",
    "pennylane": "",
    "pennylane-lightning": "",
    "qiskit": "",
    "qiskit-aer": "",
    "qiskit-ibm-runtime": "qiskit",
    "mthree": "mitigation",
}
"""What backends are made of, each with the extra that brings it; empty for what comes with the lab."""

NOISE = {"depolarizing": {"one_qubit": 0.001, "two_qubit": 0.01}}

BACKENDS: dict[str, dict[str, Any]] = {
    "state vector": {"kind": "statevector"},
    "state vector, complex64": {"kind": "statevector", "dtype": "complex64"},
    "state vector on CUDA": {"kind": "statevector", "device": "cuda"},
    "state vector, 1000 shots": {"kind": "statevector", "shots": 1000},
    "density matrix with noise": {"kind": "density_matrix", "noise": NOISE},
    "trajectories with noise": {"kind": "trajectories", "noise": NOISE, "n_trajectories": 1000},
    "PennyLane default.qubit": {"kind": "pennylane", "device": "default.qubit"},
    "PennyLane lightning.qubit": {"kind": "pennylane", "device": "lightning.qubit"},
    "PennyLane lightning.kokkos": {"kind": "pennylane", "device": "lightning.kokkos"},
    "PennyLane lightning.gpu": {"kind": "pennylane", "device": "lightning.gpu"},
    "Qiskit Aer": {"kind": "qiskit", "device": "aer", "shots": 1000},
    "Qiskit Aer on GPU": {"kind": "qiskit", "device": "aer_gpu", "shots": 1000},
    "Qiskit fake_manila": {"kind": "qiskit", "device": "fake_manila", "shots": 1000},
    "readout mitigation": {"kind": "statevector", "shots": 1000, "mitigation": ["readout"]},
    "zero-noise extrapolation": {"kind": "density_matrix", "noise": NOISE, "mitigation": ["zne"]},
}
"""What is asked, each as it stands under ``backend:``."""

OWN = ("state vector", "state vector, complex64", "state vector, 1000 shots", "density matrix with noise")
"""Those that must answer everywhere."""

ON_NETWORK = {"IBM Quantum, least busy": {"kind": "qiskit", "device": "least_busy", "shots": 100}}

RIGHT = (0.5, 0.0, 0.0, 0.5, -0.5)
"""Probabilities of the Bell circuit, and the slope of the first."""

NEEDED_STATES, NEEDED_STATES_GRADIENT = 8, 14
"""State vectors that a large circuit takes, without and with gradients."""


@dataclass(frozen=True)
class Package:
    """A package.

    Args:
        name: on PyPI.
        version: None if it is not installed.
        install: the command that gets it.
    """

    name: str
    version: str | None
    install: str


@dataclass(frozen=True)
class Answer:
    """What a backend answered to a Bell circuit.

    Args:
        name: of the backend.
        backend: as it stands in a configuration.
        status: ``PASS``; ``FAIL`` for a wrong answer or none; ``absent`` if a package or machine is not here.
        seconds: that it took once everything was loaded; 0 without an answer.
        reason: why it did not pass, empty if it did.
    """

    name: str
    backend: dict[str, Any]
    status: Literal["PASS", "FAIL", "absent"]
    seconds: float
    reason: str = ""

    @property
    def serious(self) -> bool:
        """The lab itself is broken here."""
        return self.status == "FAIL" and self.name in OWN


def packages() -> list[Package]:
    """The packages behind the backends, with what installs those that are missing.

    >>> [package.name for package in packages()][:2]
    ['torch', 'numba']
    """
    found = []
    for name, extra in EXTRAS.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        found.append(Package(name, version, f"pip install 'qgen-hep[{extra}]'" if extra else f"pip install {name}"))
    return found


def answers(network: bool = False) -> Iterator[Answer]:
    """Ask every backend for a Bell circuit's probabilities and their slope, twice.

    Args:
        network: ask IBM Quantum too, for probabilities only and once: it queues one small job.

    >>> next(answers()).status
    'PASS'
    """
    for name, config in {**BACKENDS, **(ON_NETWORK if network else {})}.items():
        yield _ask(name, config)


def _ask(name: str, config: dict[str, Any]) -> Answer:
    import torch

    from circuits import Circuit, Gate
    from circuits.backends import make_backend

    bell = Circuit(2, [Gate("RY", 0, [0]), Gate("CNOT", [0, 1])])
    angles = torch.tensor([math.pi / 2], dtype=torch.float64, requires_grad=True)
    try:
        if config.get("device") == "cuda" and not torch.cuda.is_available():
            return Answer(name, config, "absent", 0.0, "no CUDA device is available here")
        backend = make_backend(**config, seed=1)
        remote = backend.capabilities.remote  # a job may queue and cost: one is enough
        for _ in range(1 if remote else 2):  # the first time, libraries are loaded
            started = time.perf_counter()
            probs = backend.probs(bell, angles.detach() if remote else angles)
            slope = [] if remote else torch.autograd.grad(probs[0], angles)
    except Exception as error:  # whatever an engine raises is what is to be told
        absent = isinstance(error, ImportError | ValueError) and any(
            word in str(error) for word in ("install", "account")
        )
        return Answer(name, config, "absent" if absent else "FAIL", 0.0, _line(error))
    seconds = time.perf_counter() - started
    found = torch.cat([probs.detach().cpu(), *(one.cpu() for one in slope)]).to(torch.float64)
    right = torch.tensor(RIGHT[: len(found)], dtype=torch.float64)
    wrong = (found - right).abs().max().item()
    tolerance = 1e-5 if backend.capabilities.exact and not backend.capabilities.noisy else 0.15
    if not wrong < tolerance:
        shown, expected = (", ".join(f"{value:.3g}" for value in one.tolist()) for one in (found, right))
        return Answer(name, config, "FAIL", seconds, f"gives {shown} where {expected} is right")
    return Answer(name, config, "PASS", seconds)


def limits() -> dict[str, str]:
    """How far this machine reaches: threads, memory, GPUs and the qubits that fit; devices known by name."""
    import torch

    from circuits.backends.devices import device_names
    from circuits.backends.memory import free_memory

    free = free_memory(torch.device("cpu"))
    found = {
        "threads": f"{torch.get_num_threads()} of torch, {os.cpu_count()} processors",
        "free memory": f"{free / 1e9:.3g} GB",
        **_reach("", free),
        "CUDA": "no device",
    }
    for number in range(torch.cuda.device_count()):
        free = torch.cuda.mem_get_info(number)[0]
        found["CUDA" if number == 0 else f"CUDA, device {number}"] = (
            f"{torch.cuda.get_device_name(number)}, {free / 1e9:.3g} GB free"
        )
        found |= _reach(f" on cuda:{number}", free)
    snapshots = [name for name in device_names() if name.startswith("fake_")]
    named = f"{len(snapshots)}, {snapshots[0]} to {snapshots[-1]}" if snapshots else "need qiskit-ibm-runtime"
    return found | {"snapshots of IBM devices": named}


def _reach(where: str, free: int) -> dict[str, str]:
    """Qubits for which the states that a circuit needs fit."""

    def qubits(states: int, single: bool) -> int:
        return int(math.log2(free / states / (8 if single else 16)))

    def both(states: int) -> str:
        return f"about {qubits(states, False)} qubits, {qubits(states, True)} in complex64"

    return {
        f"exact{where}": both(NEEDED_STATES),
        f"exact{where}, with gradients": both(NEEDED_STATES_GRADIENT),
        f"density matrix{where}": f"about {int(math.log2(free / 8 / 4) / 2)} qubits",
    }


def diagnosis(found: list[Answer]) -> RenderableType:
    """Tables of what is installed, what answered and how far it reaches.

    Args:
        found: what :func:`answers` gave.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    installed = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("package", "version"):
        installed.add_column(heading, overflow="fold")
    installed.add_row("python", platform.python_version())
    for package in packages():
        version = Text(package.version) if package.version else Text(f"not installed: {package.install}", "yellow")
        installed.add_row(package.name, version)
    answered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    answered.add_column("backend", no_wrap=True)
    answered.add_column("Bell circuit", no_wrap=True)
    answered.add_column("ms", justify="right")
    answered.add_column("", overflow="fold")
    styles = {"PASS": "green", "FAIL": "bold red", "absent": "dim"}
    for one in found:
        milliseconds = f"{1e3 * one.seconds:.1f}" if one.status == "PASS" else ""
        answered.add_row(one.name, Text(one.status, styles[one.status]), milliseconds, Text(one.reason))
    reach = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    reach.add_column("limit", no_wrap=True)
    reach.add_column("", overflow="fold")
    for name, text in limits().items():
        reach.add_row(name, Text(text))
    return Group(installed, answered, reach)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
