"""Qiskit devices by name."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

__all__ = ["device_names", "find_device"]

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
