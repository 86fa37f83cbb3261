"""Circuits run by any PennyLane device."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuits.backends.base import (
    Capabilities,
    PauliString,
    check_angles,
    check_shots,
    draw_bits,
    fresh_generator,
    parse_observables,
)
from circuits.backends.sampled import SamplingBackend
from circuits.circuit import Circuit, Gate
from circuits.gate_table import gate_definition
from circuits.metering import ran

__all__ = ["PennyLane"]

_PACKAGES = {
    "lightning": "pennylane-lightning",
    "lightning.gpu": "pennylane-lightning-gpu",
    "lightning.kokkos": "pennylane-lightning-kokkos",
    "lightning.tensor": "pennylane-lightning-tensor",
    "braket": "amazon-braket-pennylane-plugin",
    "cirq": "pennylane-cirq",
    "ionq": "pennylane-ionq",
    "qiskit": "pennylane-qiskit",
    "qrack": "pennylane-qrack",
    "qulacs": "pennylane-qulacs",
}
_BACKPROPAGATES = "default.qubit"  # and takes a batch at once


class PennyLane:
    """Any PennyLane device: simulators on CPU and GPU, and machines with a plugin.

    Without shots the device is asked for exact values. ``default.qubit`` then takes a batch at once and differentiates
    by backpropagation; the ``lightning`` devices differentiate by the adjoint method (2009.02823), probabilities as the
    expectation value of the diagonal observable that the loss asks for. Other devices, and all devices with shots, do
    not differentiate: :class:`~circuits.backends.gradients.ParameterShift` and ``SPSA`` do it for them. (Batches and
    backpropagation of ``default.mixed`` are not used: in PennyLane 0.45 they fail for single wires, and give NaN for
    diagonal gates.)
    Results are on the CPU.

    Args:
        device: a name that PennyLane knows: ``default.qubit``, ``default.mixed``, ``lightning.qubit``,
            ``lightning.kokkos``, ``lightning.gpu``, ...
        shots: None for exact values; otherwise measurements of each circuit for ``probs`` and ``expval``.
        options: passed on to ``pennylane.device`` (``c_dtype``, also by name, ``mpi``, ``batch_obs``, ...).
        seed: makes the shots of ``probs`` and ``expval`` repeatable on simulators.

    Raises:
        ValueError: an unknown device, an option it does not take, or fewer than one shot.
        ImportError: the device's plugin is missing; the line says which package brings it.

    >>> from circuits import Gate
    >>> bell = Circuit(2, [Gate("RY", [0], [0]), Gate("CNOT", [0, 1])])
    >>> PennyLane("lightning.qubit").probs(bell, torch.tensor([torch.pi / 2], dtype=torch.float64))
    tensor([0.5000, 0.0000, 0.0000, 0.5000], dtype=torch.float64)
    """

    def __init__(
        self,
        device: str = "default.qubit",
        shots: int | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        self.device = device
        self.shots = shots if shots is None else check_shots(shots)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63):
            raise ValueError(f"seed is {seed!r}; an integer of at least 0 is needed")
        self._options = dict(options or {})
        if self._options.get("c_dtype") in ("complex64", "complex128"):
            self._options["c_dtype"] = np.dtype(self._options["c_dtype"]).type
        for name in ("wires", "shots", "seed"):
            if name in self._options:
                raise ValueError(f"options of device {device!r} hold {name!r}; it is an argument of its own")
        self._devices: dict[int, Any] = {}
        self._seeded = "seed" in inspect.signature(type(self._device(1))).parameters
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._measured = None if shots is None else _Measured(self, shots, generator)

    @property
    def name(self) -> str:
        """The device's name, marked."""
        return f"pennylane {self.device}" + ("" if self.shots is None else f", {self.shots} shots")

    @property
    def capabilities(self) -> Capabilities:
        """What the device can do; a broadcast over a batch is one computation."""
        exact = self.shots is None
        return Capabilities(
            differentiable=exact and (self.device == _BACKPROPAGATES or self._adjoint),
            exact=exact,
            noisy=bool(self._options.get("readout_prob")),
            batched=self.device == _BACKPROPAGATES,
        )

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the shots of ``probs`` and ``expval``; None without shots."""
        return None if self._measured is None else self._measured.generator

    @generator.setter
    def generator(self, generator: torch.Generator) -> None:
        if self._measured is None:
            raise ValueError(f"{self.name} draws nothing; it has no generator")
        self._measured.generator = generator

    def __repr__(self) -> str:
        return f"PennyLane({self.device!r}, shots={self.shots})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_devices": {}}  # they cannot be copied, and are made again

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Probabilities of the basis states, ``(..., 2**n_wires)`` float64; wire 0 is the most significant bit.

        Raises:
            ValueError: angles of another shape, or a circuit that the device does not take.
        """
        if self._measured is not None:
            return self._measured.probs(circuit, angles)
        values = self._evaluate(circuit, angles, None)
        return values.reshape(*angles.shape[:-1], 2**circuit.n_wires)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Expectation values of Pauli strings, ``(..., n_observables)`` float64.

        Raises:
            ValueError: angles of another shape, an impossible observable, or a circuit that the device does not take.
        """
        if self._measured is not None:
            return self._measured.expval(circuit, angles, observables)
        strings = parse_observables(observables, circuit.n_wires)
        measured = [string for string in strings if string.factors]  # devices disagree on how to measure nothing
        if measured:
            columns = iter(self._evaluate(circuit, angles, measured).unbind(-1))
        one = torch.ones(check_angles(circuit, angles).shape[:-1].numel(), dtype=torch.float64)
        values = torch.stack([next(columns) if string.factors else one for string in strings], -1)
        return values.reshape(*angles.shape[:-1], len(strings))

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits, ``(..., shots, n_wires)`` uint8; wire 0 first.

        Without ``shots`` of its own the backend draws from the exact probabilities; with them, the device measures.

        Raises:
            ValueError: angles of another shape, or fewer than one shot.
        """
        check_shots(shots)
        if self._measured is not None:
            return self._measured.sample(circuit, angles, shots, generator)
        ran(0, shots * angles.shape[:-1].numel())
        with torch.no_grad():
            return draw_bits(self.probs(circuit, angles), shots, fresh_generator(generator))

    # the device

    @property
    def _adjoint(self) -> bool:
        return self.device.startswith("lightning.") and self.device != "lightning.tensor"

    def _device(self, n_wires: int) -> Any:
        """The device for this many wires, made once."""
        if n_wires not in self._devices:
            self._devices[n_wires] = _make(self.device, n_wires, self._options)
        return self._devices[n_wires]

    def _flat(self, circuit: Circuit, angles: Tensor) -> Tensor:
        check_angles(circuit, angles)
        return angles.to("cpu", torch.float64).reshape(angles.shape[:-1].numel(), circuit.n_angles)

    def _evaluate(self, circuit: Circuit, angles: Tensor, strings: Sequence[PauliString] | None) -> Tensor:
        """Probabilities, or expectation values of the strings; rows of angles to rows of values."""
        flat = self._flat(circuit, angles)
        ran(len(flat))
        if self._adjoint:
            return _Adjoint.apply(flat, self, circuit, strings)
        return self._values(circuit, flat, strings)

    def _values(self, circuit: Circuit, flat: Tensor, strings: Sequence[PauliString] | None) -> Tensor:
        import pennylane as qml

        rows = len(flat)
        if rows == 0:
            return flat.new_empty((0, 2**circuit.n_wires if strings is None else len(strings)))
        if strings is None:
            measurements = [qml.probs(wires=range(circuit.n_wires))]
        else:
            measurements = [qml.expval(_observable(string)) for string in strings]
        broadcast = self.device == _BACKPROPAGATES
        gradient = broadcast and flat.requires_grad and torch.is_grad_enabled()
        inputs = flat if gradient else flat.detach().numpy()
        tapes = [_tape(circuit, values, measurements) for values in ([inputs] if broadcast else inputs)]
        results = _execute(self._device(circuit.n_wires), tapes, "backprop" if gradient else None)
        if strings is None:
            values = [_double(result) for result in results]
        else:
            values = [torch.stack([_double(v) for v in (r if len(strings) > 1 else (r,))], -1) for r in results]
        if not broadcast:
            return torch.stack(values)
        return values[0].expand(rows, -1)  # without free angles there is one row


class _Measured(SamplingBackend):
    """A PennyLane device by its shots."""

    def __init__(self, owner: PennyLane, shots: int, generator: torch.Generator | None) -> None:
        super().__init__(shots, generator)
        self.owner = owner

    def sample_circuits(
        self, circuits: Sequence[Circuit], angles: Tensor, shots: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Measured bits of several circuits at the same angles; one execution of the device."""
        import pennylane as qml

        n_wires = circuits[0].n_wires
        options = dict(self.owner._options)
        if self.owner._seeded:
            options["seed"] = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
            device = _make(self.owner.device, n_wires, options)
        else:
            device = self.owner._device(n_wires)
        flat = self.owner._flat(circuits[0], angles.detach())
        measurement = [qml.sample(wires=range(n_wires))]
        tapes = [_tape(circuit, row, measurement, shots) for circuit in circuits for row in flat.numpy()]
        ran(len(tapes), shots * len(tapes))
        if not tapes:
            return [torch.empty((*angles.shape[:-1], shots, n_wires), dtype=torch.uint8) for _ in circuits]
        results = _execute(device, tapes)
        bits = torch.stack([torch.as_tensor(result).to(torch.uint8).reshape(shots, n_wires) for result in results])
        return list(bits.reshape(len(circuits), *angles.shape[:-1], shots, n_wires))


class _Adjoint(torch.autograd.Function):
    """Values of a lightning device; their gradient is that of one observable, by the adjoint method.

    Given the gradient ``g`` of the loss, the observable is ``sum_k g_k P_k`` for Pauli strings ``P_k``, and the
    diagonal of ``g`` for probabilities. PennyLane's own torch functions would round to single precision on the way.
    """

    @staticmethod
    def forward(
        ctx: Any, flat: Tensor, backend: PennyLane, circuit: Circuit, strings: Sequence[PauliString] | None
    ) -> Tensor:
        ctx.save_for_backward(flat)
        ctx.backend, ctx.circuit, ctx.strings = backend, circuit, strings
        return backend._values(circuit, flat.detach(), strings)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        import pennylane as qml

        (flat,) = ctx.saved_tensors
        result = torch.zeros_like(flat)
        free = [a for gate in _single_angles(ctx.circuit).gates for a in gate.angles]
        slots = [slot for slot, angle in enumerate(free) if not angle.is_fixed]
        if not slots or not len(flat):
            return result, None, None, None
        tapes = []
        for row, g in zip(flat.numpy(), gradients[0].to(torch.float64).numpy(), strict=True):
            tape = _tape(_single_angles(ctx.circuit), row, [qml.expval(_weighted(g, ctx.circuit.n_wires, ctx.strings))])
            tape.trainable_params = slots
            tapes.append(tape)
        device = ctx.backend._device(ctx.circuit.n_wires)
        config = qml.devices.ExecutionConfig(gradient_method="adjoint", use_device_gradient=True)
        jacobians = device.compute_derivatives(tapes, config)
        by_slot = torch.from_numpy(np.asarray(jacobians, dtype=np.float64).reshape(len(flat), len(slots)))
        angles = [free[slot] for slot in slots]
        scales = torch.tensor([angle.scale for angle in angles], dtype=torch.float64)
        result.index_add_(1, torch.tensor([angle.index for angle in angles]), by_slot * scales)
        return result, None, None, None


@lru_cache(maxsize=64)
def _single_angles(circuit: Circuit) -> Circuit:
    """The circuit with gates of one angle at most, up to a global phase; lightning differentiates all of them."""
    gates: list[Gate] = []
    for gate in circuit.gates:
        sequence = gate_definition(gate.name).sequence
        gates += [Gate(name, gate.wires, [gate.angles[slot]]) for name, slot in sequence] if sequence else [gate]
    return Circuit(circuit.n_wires, gates, circuit.n_angles)


def _weighted(weights: Any, n_wires: int, strings: Sequence[PauliString] | None) -> Any:
    """The observable whose expectation value is the weighted sum of the probabilities or of the strings' values."""
    import pennylane as qml
    from scipy.sparse import csr_matrix

    if strings is not None:
        return qml.Hamiltonian(weights, [_observable(string) for string in strings])
    places = range(2**n_wires)
    return qml.SparseHamiltonian(csr_matrix((weights, (places, places))), wires=range(n_wires))


def _tape(circuit: Circuit, angles: Any, measurements: Sequence[Any], shots: int | None = None) -> Any:
    import pennylane as qml

    operations = qml.tape.make_qscript(circuit.to_pennylane())(angles).operations
    return qml.tape.QuantumScript(operations, measurements, shots=shots)


def _execute(device: Any, tapes: Sequence[Any], method: str | None = None) -> Sequence[Any]:
    import pennylane as qml

    try:
        return qml.execute(tapes, device, diff_method=method, interface="torch" if method else None)
    except (qml.exceptions.DeviceError, qml.exceptions.WireError, qml.exceptions.QuantumFunctionError) as error:
        raise ValueError(f"device {device.name!r} does not run the circuit: {_line(error)}") from error


def _observable(string: PauliString) -> Any:
    import pennylane as qml

    factors = [{"X": qml.X, "Y": qml.Y, "Z": qml.Z}[letter](wire) for wire, letter in string.factors]
    return qml.prod(*factors) if len(factors) > 1 else factors[0]


def _double(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _make(name: str, n_wires: int, options: Mapping[str, Any]) -> Any:
    """The device, or one line that says why there is none."""
    try:
        import pennylane as qml
    except ImportError as error:
        raise ImportError("the pennylane backend needs pennylane; install it with: pip install pennylane") from error
    installed = sorted({entry.name for entry in entry_points(group="pennylane.plugins")})
    if not isinstance(name, str) or name not in installed:
        package = _PACKAGES.get(str(name)) or _PACKAGES.get(str(name).split(".")[0])
        if package is None:
            raise ValueError(f"unknown PennyLane device {name!r}; installed are {', '.join(installed)}")
        raise ImportError(f"the PennyLane device {name!r} needs {package}; install it with: pip install {package}")
    try:
        return qml.device(name, wires=n_wires, **options)
    except (TypeError, ValueError, ImportError, RuntimeError, qml.exceptions.DeviceError) as error:
        raise ValueError(f"PennyLane device {name!r} cannot be made: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
