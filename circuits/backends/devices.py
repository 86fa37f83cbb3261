"""Qiskit devices by name, and what is installed here to simulate or reach them."""

from __future__ import annotations

import difflib
import importlib
import os
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

import torch

__all__ = ["DeviceReport", "device_names", "device_report", "find_device"]

_AER_METHODS = {
    "aer": "automatic",
    "aer_statevector": "statevector",
    "aer_density_matrix": "density_matrix",
    "aer_matrix_product_state": "matrix_product_state",
    "aer_stabilizer": "stabilizer",
    "aer_extended_stabilizer": "extended_stabilizer",
}
_AER = (*_AER_METHODS, "aer_gpu")
_REMOTE = "ibm_<name> and least_busy on IBM Quantum"


def find_device(name: str) -> Any:
    """The Qiskit backend (``BackendV2``) of this name.

    Args:
        name: ``aer`` (Aer chooses its method), ``aer_statevector``, ``aer_density_matrix``,
            ``aer_matrix_product_state``, ``aer_stabilizer``, ``aer_extended_stabilizer``, ``aer_gpu``; a snapshot of an
            IBM device that works offline, ``fake_manila`` or ``FakeManilaV2``; ``ibm_torino``, ``least_busy`` on IBM
            Quantum, with the account that Qiskit has saved.

    Returns:
        A new backend.

    Raises:
        ValueError: no device of this name, no saved account, or no GPU.
        ImportError: a package is missing; the line says which.

    >>> find_device("aer_density_matrix").name
    'aer_simulator_density_matrix'
    """
    if not isinstance(name, str):
        raise ValueError(f"device is {name!r}; a name such as 'aer' or 'fake_manila' is needed")
    if name in _AER:
        return _aer(name)
    if name == "least_busy" or name.startswith("ibm_"):
        return _ibm(name)
    if name.lower().startswith("fake"):
        snapshots = _snapshots()
        for device, cls in snapshots.items():
            if name in (device, cls.__name__) or name == cls.__name__.removesuffix("V2"):
                return cls()
        raise _unknown(name, [*_AER, *snapshots])
    raise _unknown(name, [*_AER, "least_busy"])


def device_names() -> tuple[str, ...]:
    """Names that :func:`find_device` knows without a network: Aer, and fake devices where they are installed.

    >>> "aer" in device_names()
    True
    """
    try:
        return (*_AER, *_snapshots())
    except ImportError:
        return _AER


def _unknown(name: str, known: list[str]) -> ValueError:
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ValueError(f"unknown device {name!r}; {hint}known are {', '.join(_AER)}, fake_<name>, {_REMOTE}")


def _aer(name: str) -> Any:
    simulator = _import("qiskit_aer").AerSimulator
    if name != "aer_gpu":
        return simulator(method=_AER_METHODS[name])
    if "GPU" not in simulator().available_devices():
        raise ValueError("device 'aer_gpu': this qiskit-aer has no GPU; install qiskit-aer-gpu on a machine with CUDA")
    return simulator(device="GPU")


def _snapshots() -> dict[str, Any]:
    """Classes of fake devices by the device's name, sorted."""
    provider = _import("qiskit_ibm_runtime.fake_provider")
    base = _import("qiskit_ibm_runtime.fake_provider.fake_backend").FakeBackendV2
    classes: list[Any] = [
        value for value in vars(provider).values() if isinstance(value, type) and issubclass(value, base)
    ]
    return {cls.backend_name: cls for cls in sorted(classes, key=lambda cls: cls.__name__) if cls is not base}


def _ibm(name: str) -> Any:
    runtime = _import("qiskit_ibm_runtime")
    from qiskit.exceptions import QiskitError

    account_error = _import("qiskit_ibm_runtime.accounts").AccountNotFoundError
    try:
        service = runtime.QiskitRuntimeService()
        return service.least_busy(operational=True, simulator=False) if name == "least_busy" else service.backend(name)
    except account_error as error:
        raise ValueError(
            f"device {name!r}: no IBM Quantum account is saved here; "
            "save it once with qiskit_ibm_runtime.QiskitRuntimeService.save_account(token=...)"
        ) from error
    except (QiskitError, OSError) as error:
        raise ValueError(f"device {name!r}: IBM Quantum does not give it: {_line(error)}") from error


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0].replace("_", "-")
        raise ImportError(
            f"the qiskit backend needs {package}; install it with: pip install 'qgen-hep[qiskit]'"
        ) from error


def _line(error: BaseException) -> str:
    """The error's message on one line."""
    message = getattr(error, "message", None) or str(error)
    return " ".join(str(message).split()).strip("'\"") or type(error).__name__


# what is here ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeviceReport:
    """One engine: whether it can be used here, and its limits.

    Args:
        engine: what it is, as a table's first column.
        kind: the ``kind`` of a backend in a configuration file.
        package: the package that brings it.
        version: the package's version; None when it is not installed.
        available: whether it works here.
        devices: names for the backend's ``device``.
        max_qubits: the largest circuit that fits in this machine's memory or on the largest device; None if unknown.
        note: what is missing and how to get it, or a limit in words.
    """

    engine: str
    kind: str
    package: str
    version: str | None
    available: bool
    devices: tuple[str, ...] = ()
    max_qubits: int | None = None
    note: str = ""


def device_report(network: bool = False) -> list[DeviceReport]:
    """What can run circuits here.

    Args:
        network: ask IBM Quantum which devices the saved account reaches; otherwise only look whether there is an
            account.

    >>> [report.engine for report in device_report()][:2]
    ['state vector', 'state vector on CUDA']
    """
    return [
        *_own(),
        *_pennylane(),
        *_aer_reports(),
        _fake_report(),
        _runtime_report(network),
        _package("mthree", "readout mitigation", "mthree", "mitigation"),
    ]


def _own() -> list[DeviceReport]:
    bits = _qubits_in(_memory(), 16, states=4)
    cuda = torch.cuda.is_available()
    found = tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())) if cuda else ()
    free = torch.cuda.mem_get_info()[0] if cuda else 0
    gpu = ", ".join(torch.cuda.get_device_name(i) for i in range(len(found))) if cuda else "no CUDA device"
    own = version("torch")
    return [
        DeviceReport("state vector", "statevector", "torch", own, True, ("cpu",), bits),
        DeviceReport(
            "state vector on CUDA",
            "statevector",
            "torch",
            own,
            cuda,
            found,
            _qubits_in(free, 16, states=4) if cuda else None,
            gpu,
        ),
        DeviceReport("density matrix", "density_matrix", "torch", own, True, ("cpu", *found), bits // 2),
    ]


def _pennylane() -> list[DeviceReport]:
    names = tuple(sorted({entry.name for entry in entry_points(group="pennylane.plugins")}))
    installed = _version("pennylane")
    reports = [
        DeviceReport(
            "PennyLane",
            "pennylane",
            "pennylane",
            installed,
            installed is not None,
            tuple(name for name in names if not name.startswith("lightning")),
            _qubits_in(_memory(), 16, states=4),
            "" if installed else "pip install pennylane",
        )
    ]
    for name in ("lightning.qubit", "lightning.kokkos", "lightning.gpu"):
        package = "pennylane-lightning" if name == "lightning.qubit" else "pennylane-" + name.replace(".", "-")
        here = name in names
        qubits = _qubits_in(_memory(), 16, states=4) if here and name != "lightning.gpu" else None
        note = "" if here else f"pip install {package}"
        reports.append(
            DeviceReport(name, "pennylane", package, _version(package), here, (name,) if here else (), qubits, note)
        )
    return reports


def _aer_reports() -> list[DeviceReport]:
    installed = _version("qiskit-aer")
    if installed is None:
        return [DeviceReport("Aer", "qiskit", "qiskit-aer", None, False, note="pip install 'qgen-hep[qiskit]'")]
    simulator = _import("qiskit_aer").AerSimulator
    gpu = "GPU" in simulator().available_devices()
    qubits = {name: simulator(method=method).num_qubits for name, method in _AER_METHODS.items()}
    limits = ", ".join(f"{name.removeprefix('aer_')} {n}" for name, n in qubits.items() if name != "aer")
    return [
        DeviceReport("Aer", "qiskit", "qiskit-aer", installed, True, tuple(qubits), qubits["aer"], f"qubits: {limits}"),
        DeviceReport(
            "Aer on GPU",
            "qiskit",
            "qiskit-aer-gpu",
            installed if gpu else None,
            gpu,
            ("aer_gpu",) if gpu else (),
            None,
            "" if gpu else "pip install qiskit-aer-gpu, with CUDA",
        ),
    ]


def _fake_report() -> DeviceReport:
    package, engine = "qiskit-ibm-runtime", "fake IBM devices"
    installed = _version(package)
    if installed is None:
        return DeviceReport(engine, "qiskit", package, None, False, note="pip install 'qgen-hep[qiskit]'")
    snapshots = _snapshots()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Properties of fake_")  # snapshots whose errors IBM made up say so
        qubits = {name: int(cls().configuration().n_qubits) for name, cls in snapshots.items()}
    largest = max(qubits, key=lambda name: qubits[name])
    note = f"the largest is {largest}; noisy simulation of more than about 25 qubits needs much memory"
    return DeviceReport(engine, "qiskit", package, installed, True, tuple(snapshots), qubits[largest], note)


def _runtime_report(network: bool) -> DeviceReport:
    package, engine = "qiskit-ibm-runtime", "IBM Quantum"
    installed = _version(package)
    if installed is None:
        return DeviceReport(engine, "qiskit", package, None, False, note="pip install 'qgen-hep[qiskit]'")
    service = _import(package.replace("-", "_")).QiskitRuntimeService
    if not service.saved_accounts():
        note = "no account is saved; QiskitRuntimeService.save_account(token=...) saves one"
        return DeviceReport(engine, "qiskit", package, installed, False, note=note)
    if not network:
        return DeviceReport(engine, "qiskit", package, installed, True, note="account found, network not asked")
    try:
        backends = service().backends()
    except Exception as error:  # any fault of account, network or service is what the report is for
        return DeviceReport(engine, "qiskit", package, installed, False, note=f"does not answer: {_line(error)}")
    qubits = max((int(backend.num_qubits) for backend in backends), default=None)
    return DeviceReport(
        engine, "qiskit", package, installed, bool(backends), tuple(backend.name for backend in backends), qubits
    )


def _package(package: str, engine: str, kind: str, extra: str) -> DeviceReport:
    installed = _version(package)
    note = "" if installed else f"pip install 'qgen-hep[{extra}]'"
    return DeviceReport(engine, kind, package, installed, installed is not None, note=note)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _qubits_in(memory: int, itemsize: int, states: int) -> int:
    """Qubits of which ``states`` state vectors fit."""
    return max((memory // (itemsize * states)).bit_length() - 1, 0)
