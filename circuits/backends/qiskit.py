"""Circuits measured by Qiskit: Aer, snapshots of IBM devices, IBM Quantum, any ``SamplerV2``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from circuits.backends.base import Capabilities
from circuits.backends.devices import find_device
from circuits.backends.jobs import JobLog, JobRecord, Request
from circuits.backends.placement import REGISTER, Placement, Ready
from circuits.backends.sampled import SamplingBackend
from circuits.backends.samplers import (
    aer_noise,
    aer_sampler,
    aer_simulator,
    device_of,
    is_aer,
    is_fake,
    is_ibm,
    is_noisy,
    noise_text,
    plain_sampler,
    runtime_sampler,
)
from circuits.circuit import Circuit
from circuits.metering import ran

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["Qiskit"]

_MODES = ("job", "session", "batch")
_MOST_EXECUTIONS = 10_000_000


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
        options: of Aer's simulator (``method``, ``precision``, ``blocking_qubits``, ...), or of the runtime
            sampler (``dynamical_decoupling``, ``twirling``, ...).
        optimization_level: of the transpiler, 0 to 3; by default 1, and 0 with ``noise``, which acts on the gates as
            they are written. A gate that follows its own inverse is always kept: it was put there to be run (folded
            gates of zero-noise extrapolation).
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
        optimization_level: int | None = None,
        seed: int | None = None,
        mode: Literal["job", "session", "batch"] = "job",
        max_circuits: int | None = None,
        jobs_folder: str | Path | None = None,
        retries: int = 3,
        retry_wait: float = 5.0,
        service: Any = None,
    ) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63):
            raise ValueError(f"seed is {seed!r}; an integer of at least 0 is needed")
        super().__init__(shots, None if seed is None else torch.Generator().manual_seed(seed))
        if optimization_level is None:
            optimization_level = 1 if noise is None else 0
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
        self._session: Any = None
        self._object = None if isinstance(sampler, str) else sampler
        self._choose(device, sampler, noise)
        self._noise_text = noise_text(noise)
        if service is None:
            service = getattr(self._device, "service", None)
        self._log = JobLog(
            self._device_name, jobs_folder, retries, retry_wait, None if service is None else service.job
        )
        if self._simulated:
            self._log.retries = 0
        self._placement = Placement(
            self._device, self._device_name, optimization_level, 0 if seed is None else seed % 2**31
        )

    def _choose(self, device: Any, sampler: Any, noise: Any) -> None:
        """Settles which device there is and which kind of sampler runs on it."""
        own = self._object is not None
        if isinstance(sampler, str) and sampler != "runtime":
            raise ValueError(f"sampler is {sampler!r}; 'runtime' or a SamplerV2 object is needed")
        if own and not callable(getattr(sampler, "run", None)):
            raise ValueError(f"sampler is {sampler!r}; an object with a method run, a SamplerV2, is needed")
        if own and self._options:
            raise ValueError("options are given with a sampler; give them to the sampler itself")
        if device is None and not own:
            device = "aer"
        name = device if isinstance(device, str) else ""
        if device is None:
            device = device_of(sampler)
        elif isinstance(device, str):
            device = find_device(device)
        self._remote = is_ibm(device)
        if self._remote or not name:  # least_busy stands for another device every day
            name = str(type(sampler).__name__ if device is None else device.name)
        self._device_name = name
        self._simulated = not own and not self._remote
        if own:
            self._kind = "object"
        elif self._remote or sampler == "runtime":
            self._kind = "runtime"
            runtime_sampler(device, self._options)
        else:
            self._kind = "aer" if is_fake(device) or is_aer(device) else "plain"
        if noise is not None and (self._kind != "aer" or is_fake(device)):
            raise ValueError(f"noise is for Aer; {self._device_name} brings its own")
        self._noisy = noise is not None or is_noisy(device)
        self._binds_wrongly = self._kind == "aer" or is_aer(self._object)
        if self._kind == "aer":
            extra = {} if noise is None else {"noise_model": aer_noise(noise)}
            device = aer_simulator(device, self._options | extra)
        self._device = device

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

    # circuits on the device

    def transpiled(self, circuit: Circuit) -> QuantumCircuit:
        """The circuit as the device gets it, parameters free.

        Raises:
            ValueError: the device is too small, or cannot host the circuit.
        """
        return self._placement.ready(circuit).circuit

    def physical_wires(self, circuit: Circuit) -> tuple[int, ...]:
        """For each wire of the circuit, the device's qubit on which it is measured.

        Raises:
            ValueError: the device is too small, or cannot host the circuit.
        """
        return self._placement.ready(circuit).qubits

    def place(self, circuit: Circuit, qubits: Sequence[int]) -> None:
        """Put the circuit on these qubits of the device, one for each wire, from now on.

        Raises:
            ValueError: not one qubit of the device for each wire.
        """
        self._placement.place(circuit, qubits)

    # measurements

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
        prepared = [self._placement.ready(circuit) for circuit in circuits]
        ran(len(circuits) * len(values), shots * len(circuits) * len(values))
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

    # samplers

    def _sampler(self, seed: int) -> Any:
        if self._kind == "object":
            return self._object
        if self._kind == "aer":
            return aer_sampler(self._device, seed)
        if self._kind == "plain":
            return plain_sampler(self._device, seed, self._options)
        options = dict(self._options)
        if not self._remote:
            options["simulator"] = {"seed_simulator": seed, **options.get("simulator", {})}
        return runtime_sampler(self._mode(), options)

    def _mode(self) -> Any:
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
        prepared: Sequence[Ready],
        values: np.ndarray,
        shots: int,
        generator: torch.Generator,
    ) -> Request:
        seed = 0
        content = hashlib.sha256()
        about = [
            self._device_name,
            shots,
            self.optimization_level,
            sorted(self._options.items()),
            self._noise_text,
        ]
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
        self, pieces: Sequence[_Piece], prepared: Sequence[Ready], values: np.ndarray, shots: int, seed: int
    ) -> Any:
        pubs: list[Any] = []
        for piece in pieces:
            ready = prepared[piece.place]
            rows = values[piece.start : piece.stop, ready.columns]
            if not ready.columns:  # samplers do not agree on how a batch without parameters is written
                pubs += [(ready.circuit,)] * len(rows)
            elif ready.controlled and self._binds_wrongly:
                pubs += [(ready.circuit.assign_parameters(row),) for row in rows]
            else:
                pubs.append((ready.circuit, rows))
        return self._sampler(seed).run(pubs, shots=shots)


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
    found = [np.asarray(pub.data[REGISTER].array) for pub in result]
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
