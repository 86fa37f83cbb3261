"""Circuits measured by Qiskit: Aer, snapshots of IBM devices, IBM Quantum, any ``SamplerV2``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from circuits.backends.base import Capabilities
from circuits.backends.devices import find_device
from circuits.backends.jobs import JobLog, JobRecord, Request
from circuits.backends.sampled import SamplingBackend
from circuits.circuit import Circuit

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["Qiskit"]

_REGISTER = "bits"
_MODES = ("job", "session", "batch")
_KEPT = 256
_MOST_EXECUTIONS = 10_000_000


@dataclass(frozen=True)
class _Prepared:
    """A circuit ready for the device.

    Args:
        circuit: with the device's gates, and measurements into one register.
        columns: for each of its parameters, the place in the angle vector.
        digest: hash of the circuit as it was given.
        bind: the sampler must get the circuit with its angles bound, one PUB for each row.
    """

    circuit: QuantumCircuit
    columns: list[int]
    digest: str
    bind: bool


@dataclass(frozen=True)
class _Piece:
    """Rows ``start`` to ``stop`` of a circuit's angles, in one job."""

    place: int
    start: int
    stop: int


class Qiskit(SamplingBackend):
    """Any device that Qiskit reaches, by its shots.

    A circuit is transpiled once; a batch of angles is one primitive unified bloc (PUB), or one for each row where Aer
    would not bind the angles of controlled gates; several circuits are one job.
    On simulators the shots are reproducible from a generator; hardware has randomness of its own.

    Jobs are recorded in :attr:`jobs`, and with ``jobs_folder`` on disk as soon as they are submitted, with their
    results when they are done: a process that died and repeats its calls in order gets back what was done, asks for
    what was submitted by its identifier, and submits the rest. A folder is one measurement campaign; take another one
    for new shots of the same circuits.

    The account for IBM Quantum is the one that Qiskit keeps in its own file, saved once with
    ``qiskit_ibm_runtime.QiskitRuntimeService.save_account``.

    Args:
        device: a name of :func:`~circuits.backends.devices.find_device` or a Qiskit ``BackendV2``; ``aer`` by default.
            Fake devices are simulated by Aer with the noise of their calibration.
        shots: measurements of each circuit for ``probs`` and ``expval``.
        sampler: None chooses what fits the device; ``"runtime"`` takes the sampler of qiskit-ibm-runtime for fake
            devices too (its local mode); or any ``SamplerV2`` object, which brings its own device and randomness.
        noise: for Aer, a :class:`~circuits.noise.NoiseModel`, what :meth:`~circuits.noise.NoiseModel.from_config`
            takes, or an Aer noise model.
        options: of Aer's simulator (``method``, ``max_bond_dimension``, ``blocking_qubits``, ...), or of the runtime
            sampler (``dynamical_decoupling``, ``twirling``, ...).
        optimization_level: of the transpiler, 0 to 3.
        seed: makes the shots of ``probs`` and ``expval`` repeatable, and the transpiler's choices (0 by default).
        mode: ``job``, ``session`` or ``batch``; how IBM Quantum runs several jobs. :meth:`close` ends the last two.
        max_circuits: circuits with bound angles in one job; by default no limit, and on IBM Quantum 10 million shots.
        jobs_folder: where jobs are recorded.
        retries: how often a job that failed, or a connection that broke, is tried again. Simulators are not.
        retry_wait: seconds before the first retry; doubled for each further one.
        service: what finds a job by its identifier, with a method ``job``; by default the device's.

    Raises:
        ValueError: unknown device, fewer than one shot, noise or an option that the device does not take.
        ImportError: a package is missing; the line says which.

    >>> from circuits import Gate
    >>> flip = Circuit(2, [Gate("X", [0])])
    >>> Qiskit("aer", shots=10, seed=0).probs(flip, torch.zeros(3, 0)).shape
    torch.Size([3, 4])
    >>> Qiskit("aer").sample(flip, torch.zeros(0), shots=2).tolist()
    [[1, 0], [1, 0]]
    """

    def __init__(
        self,
        device: str | Any = None,
        shots: int = 1024,
        *,
        sampler: Any = None,
        noise: Any = None,
        options: Mapping[str, Any] | None = None,
        optimization_level: int = 1,
        seed: int | None = None,
        mode: str = "job",
        max_circuits: int | None = None,
        jobs_folder: str | Path | None = None,
        retries: int = 3,
        retry_wait: float = 5.0,
        service: Any = None,
    ) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63):
            raise ValueError(f"seed is {seed!r}; an integer of at least 0 is needed")
        super().__init__(shots, None if seed is None else torch.Generator().manual_seed(seed))
        if optimization_level not in (0, 1, 2, 3):
            raise ValueError(f"optimization_level is {optimization_level!r}; 0, 1, 2 or 3 is needed")
        if mode not in _MODES:
            raise ValueError(f"mode is {mode!r}; known are {', '.join(_MODES)}")
        if max_circuits is not None and (not isinstance(max_circuits, int) or max_circuits < 1):
            raise ValueError(f"max_circuits is {max_circuits!r}; an integer of at least 1 is needed")
        self.optimization_level = optimization_level
        self.mode = mode
        self.max_circuits = max_circuits
        self._options = dict(options or {})
        self._seed_transpiler = 0 if seed is None else seed % 2**31
        self._session: Any = None
        self._prepared: dict[Circuit, _Prepared] = {}
        self._passes: Any = None
        self._choose(device, sampler, noise)
        self._noise_text = _noise_text(noise)
        if service is None:
            service = getattr(self._device, "service", None)
        self._log = JobLog(
            self._device_name,
            jobs_folder,
            retries,
            retry_wait,
            None if service is None else service.job,
        )
        if self._simulated:
            self._log.retries = 0

    def _choose(self, device: Any, sampler: Any, noise: Any) -> None:
        """Settles which device there is and which sampler runs on it."""
        own = sampler is not None and not isinstance(sampler, str)
        if isinstance(sampler, str) and sampler != "runtime":
            raise ValueError(f"sampler is {sampler!r}; 'runtime' or a SamplerV2 object is needed")
        if own and not callable(getattr(sampler, "run", None)):
            raise ValueError(f"sampler is {sampler!r}; an object with a method run, a SamplerV2, is needed")
        if own and self._options:
            raise ValueError("options are given with a sampler; give them to the sampler itself")
        if device is None and not own:
            device = "aer"
        self._device_name = device if isinstance(device, str) else ""
        if device is None:
            device = _device_of(sampler)
        elif isinstance(device, str):
            device = find_device(device)
        self._device = device
        self._device_name = self._device_name or str(type(sampler).__name__ if device is None else device.name)
        fake = _is_fake(device)
        self._remote = _is_ibm(device)
        aer = not own and sampler is None and (fake or _is_aer(device))
        if noise is not None and (not aer or fake):
            raise ValueError(f"noise is for Aer; {self._device_name} brings its own")
        self._noisy = noise is not None or _has_noise(device)
        self._simulated = not own and not self._remote
        self._aer = aer or (own and _is_aer(sampler))
        self._make: Callable[[int], Any]
        if own:
            self._make = lambda seed: sampler
        elif aer:
            self._device = _simulator(device, self._options | ({} if noise is None else {"noise_model": _aer(noise)}))
            self._make = self._aer_sampler
        elif sampler == "runtime" or self._remote:
            self._make = self._runtime_sampler
            _runtime_with(self._device, self._options)
        else:
            self._make = self._plain_sampler

    @property
    def name(self) -> str:  # type: ignore[override]
        """The device's name, marked, and the shots."""
        return f"qiskit {self._device_name}, {self.shots} shots"

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Shots only; noisy and remote as the device is."""
        return Capabilities(differentiable=False, exact=False, noisy=self._noisy, batched=True, remote=self._remote)

    @property
    def jobs(self) -> list[JobRecord]:
        """The jobs so far, by the time of their submission; those of the folder included."""
        return self._log.records

    def __repr__(self) -> str:
        return f"Qiskit({self._device_name!r}, shots={self.shots})"

    def close(self) -> None:
        """Ends the session or batch, if there is one; jobs that were submitted still run."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def transpiled(self, circuit: Circuit) -> QuantumCircuit:
        """The circuit as the device gets it, parameters free.

        Raises:
            ValueError: the device is too small, or cannot host the circuit.
        """
        return self._prepare(circuit).circuit

    def sample_circuits(
        self, circuits: Sequence[Circuit], angles: Tensor, shots: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Measured bits of several circuits at the same angles, one job for all if the device allows it.

        Raises:
            ValueError: angles that are not finite, or a circuit that does not fit the device.
            JobError: a job failed for good.
        """
        batch = angles.shape[:-1]
        values = angles.detach().to("cpu", torch.float64).reshape(batch.numel(), angles.shape[-1]).numpy()
        if not np.isfinite(values).all():
            raise ValueError("angles are not finite")
        prepared = [self._prepare(circuit) for circuit in circuits]
        jobs = list(_jobs(len(circuits), len(values), self._limit(shots)))
        requests = [self._request(pieces, prepared, values, shots, generator) for pieces in jobs]
        parts: list[list[np.ndarray]] = [[] for _ in circuits]
        for pieces, arrays in zip(jobs, self._log.run(requests), strict=True):
            for piece, array in zip(pieces, arrays, strict=True):
                parts[piece.place].append(array)
        return [
            _unpack(part, circuit.n_wires).reshape(*batch, shots, circuit.n_wires)
            if part
            else torch.empty((*batch, shots, circuit.n_wires), dtype=torch.uint8)
            for part, circuit in zip(parts, circuits, strict=True)
        ]

    def _limit(self, shots: int) -> int | None:
        """Circuits with bound angles that a job may have."""
        if not self._remote:
            return self.max_circuits
        if shots > _MOST_EXECUTIONS:
            raise ValueError(f"shots is {shots}; {self._device_name} takes at most {_MOST_EXECUTIONS} in a job")
        return min(self.max_circuits or _MOST_EXECUTIONS, _MOST_EXECUTIONS // shots)

    # circuits for the device

    def _prepare(self, circuit: Circuit) -> _Prepared:
        known = self._prepared.get(circuit)
        if known is not None:
            return known
        size = getattr(self._device, "num_qubits", None)
        if size is not None and circuit.n_wires > size:
            raise ValueError(f"circuit has {circuit.n_wires} wires; {self._device_name} has {size} qubits")
        measured = self._transpile(_measured(circuit))
        digest = hashlib.sha256(circuit.to_json().encode()).hexdigest()
        columns = [parameter.index for parameter in measured.parameters]
        result = _Prepared(measured, columns, digest, self._aer and _has_free_controlled_gates(measured))
        if len(self._prepared) >= _KEPT:
            del self._prepared[next(iter(self._prepared))]
        self._prepared[circuit] = result
        return result

    def _transpile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        if self._device is None:
            return circuit
        from qiskit.exceptions import QiskitError
        from qiskit.transpiler import generate_preset_pass_manager

        if self._passes is None:
            self._passes = generate_preset_pass_manager(
                self.optimization_level, backend=self._device, seed_transpiler=self._seed_transpiler
            )
        try:
            return self._passes.run(circuit)
        except QiskitError as error:
            reason = " ".join(str(error).split()).strip("'\"")
            raise ValueError(f"{self._device_name} cannot host the circuit: {reason}") from error

    # samplers

    def _aer_sampler(self, seed: int) -> Any:
        from qiskit_aer.primitives import SamplerV2

        return SamplerV2.from_backend(self._device, seed=seed)

    def _plain_sampler(self, seed: int) -> Any:
        from qiskit.primitives import BackendSamplerV2

        return BackendSamplerV2(backend=self._device, options={"seed_simulator": seed, **self._options})

    def _runtime_sampler(self, seed: int) -> Any:
        options = dict(self._options)
        if not self._remote:
            options["simulator"] = {"seed_simulator": seed, **options.get("simulator", {})}
        return _runtime_with(self._place(), options)

    def _place(self) -> Any:
        """Where the runtime runs: the device, or a session or batch on it, opened when it is first needed."""
        if self.mode == "job":
            return self._device
        if self._session is None:
            from qiskit_ibm_runtime import Batch, Session

            self._session = {"session": Session, "batch": Batch}[self.mode](backend=self._device)
        return self._session

    # jobs

    def _request(
        self,
        pieces: Sequence[_Piece],
        prepared: Sequence[_Prepared],
        values: np.ndarray,
        shots: int,
        generator: torch.Generator,
    ) -> Request:
        seed = 0
        content = hashlib.sha256()
        about = [self._device_name, shots, self.optimization_level, sorted(self._options.items()), self._noise_text]
        if self._simulated:
            seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
            about.append(seed)
        content.update(repr(about).encode())
        for piece in pieces:
            content.update(prepared[piece.place].digest.encode())
            content.update(values[piece.start : piece.stop].tobytes())
        return Request(
            content.hexdigest()[:32],
            shots,
            sum(piece.stop - piece.start for piece in pieces),
            partial(self._submit, pieces, prepared, values, shots, seed),
            partial(_decode, pieces, shots),
        )

    def _submit(
        self, pieces: Sequence[_Piece], prepared: Sequence[_Prepared], values: np.ndarray, shots: int, seed: int
    ) -> Any:
        pubs: list[Any] = []
        for piece in pieces:
            ready = prepared[piece.place]
            rows = values[piece.start : piece.stop, ready.columns]
            if not ready.columns:  # samplers do not agree on how a batch without parameters is written
                pubs += [(ready.circuit,)] * len(rows)
            elif ready.bind:
                pubs += [(ready.circuit.assign_parameters(row),) for row in rows]
            else:
                pubs.append((ready.circuit, rows))
        return self._make(seed).run(pubs, shots=shots)


def _measured(circuit: Circuit) -> QuantumCircuit:
    """The circuit with its measurements: wire 0 goes to the last, most significant, classical bit."""
    from qiskit import ClassicalRegister

    result = circuit.to_qiskit()
    result.add_register(ClassicalRegister(circuit.n_wires, _REGISTER))
    result.measure(range(circuit.n_wires), range(circuit.n_wires - 1, -1, -1))
    return result


def _has_free_controlled_gates(circuit: QuantumCircuit) -> bool:
    """Whether there are gates whose parameters Aer (0.18 at least) does not bind: it takes 0 for them, silently."""
    from qiskit.circuit import ControlledGate

    return any(
        isinstance(step.operation, ControlledGate) and any(getattr(p, "parameters", ()) for p in step.operation.params)
        for step in circuit.data
    )


def _jobs(n_circuits: int, n_rows: int, limit: int | None) -> Iterator[list[_Piece]]:
    """Jobs of at most ``limit`` circuits with bound angles, in order."""
    pieces: list[_Piece] = []
    left = limit or n_circuits * n_rows
    for place in range(n_circuits):
        start = 0
        while start < n_rows:
            stop = min(n_rows, start + left)
            pieces.append(_Piece(place, start, stop))
            left -= stop - start
            start = stop
            if left == 0:
                yield pieces
                pieces, left = [], limit or n_circuits * n_rows
    if pieces:
        yield pieces


def _decode(pieces: Sequence[_Piece], shots: int, result: Any) -> list[np.ndarray]:
    """Packed bits of each piece, ``(rows, shots, bytes)``; or a result for each row."""
    found = [np.asarray(pub.data[_REGISTER].array) for pub in result]
    arrays, place = [], 0
    for piece in pieces:
        rows = piece.stop - piece.start
        if found[place].ndim == 3:  # one PUB for all rows
            array, place = found[place], place + 1
        else:
            array, place = np.stack(found[place : place + rows]), place + rows
        if array.shape[1] < shots:
            raise ValueError(f"the sampler gives {array.shape[1]} shots instead of {shots}")
        arrays.append(np.ascontiguousarray(array[:, :shots]))
    return arrays


def _unpack(parts: Sequence[np.ndarray], n_wires: int) -> Tensor:
    """Bits of packed bits, most significant first."""
    bits = np.unpackbits(np.concatenate(parts), axis=-1)
    return torch.from_numpy(np.ascontiguousarray(bits[..., bits.shape[-1] - n_wires :]))


# devices --------------------------------------------------------------------------------------------------------------


def _module(value: Any) -> set[str]:
    """Packages that the object's classes come from."""
    return {cls.__module__ for cls in type(value).__mro__}


def _is_fake(device: Any) -> bool:
    return "qiskit_ibm_runtime.fake_provider.fake_backend" in _module(device)


def _is_ibm(device: Any) -> bool:
    return "qiskit_ibm_runtime.ibm_backend" in _module(device)


def _is_aer(device: Any) -> bool:
    return any(name.startswith("qiskit_aer.") for name in _module(device))


def _has_noise(device: Any) -> bool:
    """Whether the device says so: errors in its calibration, or a noise model of Aer."""
    if device is None:
        return False
    model = getattr(device.options, "noise_model", None)
    if model is not None:
        return not model.is_ideal()
    places = [
        properties for name in device.target.operation_names for properties in (device.target[name] or {}).values()
    ]
    return any(properties is not None and bool(properties.error) for properties in places)


def _device_of(sampler: Any) -> Any:
    """The device of a sampler object, None if it has none (it then takes any gate)."""
    for name in ("backend", "_backend"):
        device = getattr(sampler, name, None)
        if callable(device) and not hasattr(device, "target"):
            device = device()
        if hasattr(device, "target"):
            return device
    return None


def _simulator(device: Any, options: dict[str, Any]) -> Any:
    """Aer's simulator of the device, with options."""
    from qiskit_aer import AerError, AerSimulator

    try:
        if _is_fake(device):
            return AerSimulator.from_backend(device, **options)
        if options:
            device = AerSimulator(**{**device.options.__dict__, **options})
    except (AerError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"options of Aer are not accepted: {' '.join(str(error).split())}") from error
    return device


def _aer(noise: Any) -> Any:
    """An Aer noise model of what a user gives."""
    if isinstance(noise, str | Mapping):
        from circuits.noise import NoiseModel

        noise = NoiseModel.from_config(noise)
    if hasattr(noise, "to_aer"):
        return noise.to_aer()
    from qiskit_aer.noise import NoiseModel as AerNoiseModel

    if not isinstance(noise, AerNoiseModel):
        raise ValueError(f"noise is a {type(noise).__name__}; a NoiseModel, a mapping or a device's name is needed")
    return noise


def _noise_text(noise: Any) -> str:
    """What tells noises apart."""
    if hasattr(noise, "to_json"):
        return str(noise.to_json())
    return repr(noise.to_dict() if hasattr(noise, "to_dict") else noise)


def _runtime_with(mode: Any, options: dict[str, Any]) -> Any:
    """The sampler of qiskit-ibm-runtime; the one that works on the client's side where there is one."""
    try:
        from qiskit_ibm_runtime.executor_sampler import Sampler
    except ImportError:
        try:
            from qiskit_ibm_runtime import SamplerV2 as Sampler
        except ImportError as error:
            raise ImportError(
                "the qiskit backend needs qiskit-ibm-runtime; install it with: pip install 'qgen-hep[qiskit]'"
            ) from error
    try:
        return Sampler(mode=mode, options=options)
    except (ValueError, TypeError) as error:
        faults: list[Any] = error.errors() if hasattr(error, "errors") else [{"loc": (), "msg": str(error)}]
        reason = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults).lstrip(": ")
        raise ValueError(f"options of the runtime sampler are not accepted: {' '.join(reason.split())}") from error
