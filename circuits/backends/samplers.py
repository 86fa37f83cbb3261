"""Qiskit's devices and the samplers that run on them: what they are, and how they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "aer_noise",
    "aer_sampler",
    "aer_simulator",
    "device_of",
    "is_aer",
    "is_fake",
    "is_ibm",
    "is_noisy",
    "noise_text",
    "plain_sampler",
    "runtime_sampler",
]


def _modules(value: Any) -> set[str]:
    return {cls.__module__ for cls in type(value).__mro__}


def is_fake(device: Any) -> bool:
    """Whether the device is a snapshot of an IBM device."""
    return "qiskit_ibm_runtime.fake_provider.fake_backend" in _modules(device)


def is_ibm(device: Any) -> bool:
    """Whether the device is a machine at IBM Quantum."""
    return "qiskit_ibm_runtime.ibm_backend" in _modules(device)


def is_aer(thing: Any) -> bool:
    """Whether the device or sampler is Aer's."""
    return any(name.startswith("qiskit_aer.") for name in _modules(thing))


def is_noisy(device: Any) -> bool:
    """Whether the device says so: errors in its calibration, or a noise model of Aer."""
    if device is None:
        return False
    model = getattr(device.options, "noise_model", None)
    if model is not None:
        return not model.is_ideal()
    target = device.target
    places = [properties for name in target.operation_names for properties in (target[name] or {}).values()]
    return any(properties is not None and bool(properties.error) for properties in places)


def device_of(sampler: Any) -> Any:
    """The device of a sampler object, None if it has none (it then takes any gate)."""
    for name in ("backend", "_backend"):
        device = getattr(sampler, name, None)
        if callable(device) and not hasattr(device, "target"):
            device = device()
        if hasattr(device, "target"):
            return device
    return None


def aer_simulator(device: Any, options: dict[str, Any]) -> Any:
    """Aer's simulator of a device with these options; for a fake device with the noise of its calibration.

    Raises:
        ValueError: an option that Aer does not know.
    """
    from qiskit_aer import AerError, AerSimulator

    try:
        if is_fake(device):
            return AerSimulator.from_backend(device, **options)
        return AerSimulator(**{**vars(device.options), **options}) if options else device
    except (AerError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"options of Aer are not accepted: {' '.join(str(error).split())}") from error


def aer_noise(noise: Any) -> Any:
    """An Aer noise model of what a user gives.

    Raises:
        ValueError: it is no noise model, and none can be made of it.
    """
    if isinstance(noise, str | Mapping):
        from circuits.noise import NoiseModel

        noise = NoiseModel.from_config(noise)
    if hasattr(noise, "to_aer"):
        device = getattr(noise, "device", None)
        if device is not None:
            raise ValueError(
                f"noise is that of {device.name}, for its gates and qubits; give device {device.name!r} instead"
            )
        return noise.to_aer()
    from qiskit_aer.noise import NoiseModel as AerNoiseModel

    if not isinstance(noise, AerNoiseModel):
        raise ValueError(f"noise is a {type(noise).__name__}; a NoiseModel, a mapping or a device's name is needed")
    return noise


def noise_text(noise: Any) -> str:
    """What tells noises apart."""
    if hasattr(noise, "to_json"):
        return str(noise.to_json())
    return repr(noise.to_dict() if hasattr(noise, "to_dict") else noise)


def aer_sampler(simulator: Any, seed: int) -> Any:
    """Aer's sampler, seeded."""
    from qiskit_aer.primitives import SamplerV2

    return SamplerV2.from_backend(simulator, seed=seed)


def plain_sampler(device: Any, seed: int, options: Mapping[str, Any]) -> Any:
    """Qiskit's sampler on any ``BackendV2``, seeded where the device is a simulator."""
    from qiskit.primitives import BackendSamplerV2

    try:
        return BackendSamplerV2(backend=device, options={"seed_simulator": seed, **options})
    except TypeError as error:
        raise ValueError(f"options of the sampler are not accepted: {' '.join(str(error).split())}") from error


def runtime_sampler(mode: Any, options: Mapping[str, Any]) -> Any:
    """The sampler of qiskit-ibm-runtime; the one that works on the client's side where there is one.

    Args:
        mode: a device, session or batch.
        options: of the sampler.

    Raises:
        ImportError: qiskit-ibm-runtime is missing.
        ValueError: an option that it does not know.
    """
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
        return Sampler(mode=mode, options=dict(options))
    except (ValueError, TypeError) as error:
        faults: list[Any] = error.errors() if hasattr(error, "errors") else [{"loc": (), "msg": str(error)}]
        reason = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults).lstrip(": ")
        raise ValueError(f"options of the runtime sampler are not accepted: {' '.join(reason.split())}") from error
