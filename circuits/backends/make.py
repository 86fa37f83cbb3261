"""Backends from plain data: what ``backend:`` means in a configuration.

A kind and its constructor's options give the engine, ``shots`` what is seen of it, ``mitigation`` and ``gradient`` what
stands around it::

    backend: {kind: statevector}
    backend: {kind: statevector, shots: 1000}
    backend: {kind: density_matrix, noise: {depolarizing: {one_qubit: 0.001, two_qubit: 0.01}}}
    backend: {kind: qiskit, device: fake_manila, shots: 4096, mitigation: [readout, {zne: {scales: [1, 3, 5]}}]}
    backend: {kind: pennylane, device: lightning.qubit, gradient: {spsa: {repeats: 4}}}
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, get_type_hints

import torch

from circuits.backends.base import Backend, check_shots
from circuits.backends.sampled import Sampled

__all__ = [
    "GRADIENTS",
    "MITIGATIONS",
    "backend_beside",
    "backend_config",
    "backend_options",
    "builds_alone",
    "catalogue",
    "make_backend",
]

MITIGATIONS = {
    "twirling": "circuits.mitigation:PauliTwirling",
    "readout": "circuits.mitigation:ReadoutMitigation",
    "zne": "circuits.mitigation:ZeroNoiseExtrapolation",
}
"""Mitigations by name, from the innermost to the outermost."""

GRADIENTS = {
    "parameter-shift": "circuits.backends.gradients:ParameterShift",
    "spsa": "circuits.backends.spsa:SPSA",
}
"""Ways to make a backend differentiable, by name."""

DTYPES = {name: getattr(torch, name) for name in ("complex64", "complex128", "float32", "float64")}

ABOUT = {
    "statevector": "Exact, differentiable; sampled with shots.",
    "density_matrix": "Exact, differentiable, noisy; sampled with shots.",
    "trajectories": "Noisy, a mean over trajectories.",
    "pennylane": "Exact or sampled, differentiable and noisy as the device is. Plugins bring further devices.",
    "qiskit": "Sampled, noisy and remote as the device is. Fake and IBM devices need pip install 'qgen-hep[qiskit]'.",
    "readout": "Needs pip install 'qgen-hep[mitigation]'.",
}
"""What kinds and mitigations can do, and what they need beyond the lab itself."""

NOT_PLAIN = frozenset({"self", "backend", "service", "generator", "seed"})


def make_backend(
    kind: str,
    *,
    shots: int | None = None,
    mitigation: Sequence[str | Mapping[str, Any]] = (),
    gradient: str | Mapping[str, Any] | None = None,
    seed: int | None = None,
    **options: Any,
) -> Backend:
    """The backend that a configuration describes.

    Args:
        kind: of :data:`circuits.backends.BACKENDS`.
        shots: measurements of each circuit; without, an exact engine is exact and a device takes its own default.
        mitigation: any of ``twirling``, ``readout`` and ``zne``, each a name or ``{name: options}``; they are put
            around the engine in this order, whatever the order here.
        gradient: ``parameter-shift`` or ``spsa``, a name or ``{name: options}``. Without, a backend that is not
            differentiable gets the parameter-shift rule.
        seed: fixes every random draw of every part; without, seeds come from the operating system.
        options: the other arguments of the kind's constructor, as plain data: a dtype by its name, ``noise`` as
            :meth:`circuits.noise.NoiseModel.from_config` takes it.

    Raises:
        ValueError: an unknown kind or key, or an impossible value; the key is named.
        ImportError: a package is missing; the message says how to install it.

    >>> make_backend("statevector", dtype="complex64").capabilities.exact
    True
    >>> make_backend("statevector", shots=100, seed=1).name
    'statevector, 100 shots'
    """
    plain = backend_config({"kind": kind, "shots": shots, "mitigation": mitigation, "gradient": gradient, **options})
    kind, shots = plain.pop("kind"), plain.pop("shots", None)
    mitigation, gradient = plain.pop("mitigation", ()), plain.pop("gradient", None)
    cls = _class_of(kind)
    if "dtype" in plain:
        plain["dtype"] = DTYPES[plain["dtype"]]
    if "noise" in plain:
        where = "backend." if isinstance(plain["noise"], Mapping) else "backend.noise: "
        plain["noise"] = _in_field(where, lambda: _noise(plain["noise"]))
    if shots is not None and "shots" in _parameters(cls):
        plain["shots"], shots = shots, None
    made: Backend = _built("backend", cls, plain, seed)
    if shots is not None:
        made = _built("backend", Sampled, {"backend": made, "shots": shots}, seed)
    for entry in mitigation:
        name, settings = _named(entry)
        wrapper = _load(MITIGATIONS[name])
        made = _built(f"backend.mitigation.{name}", wrapper, {"backend": made, **settings}, seed)
    if gradient is None and not made.capabilities.differentiable:
        gradient = "parameter-shift"
    if gradient is not None:
        name, settings = _named(gradient)
        wrapper = _load(GRADIENTS[name])
        made = _built(f"backend.gradient.{name}", wrapper, {"backend": made, **settings}, seed)
    return made


def backend_beside(
    config: Mapping[str, Any], device: torch.device | str, seed: int | None = None, jobs_folder: str | None = None
) -> Backend:
    """The backend of a checked configuration for a model that is on a device.

    Args:
        config: what :func:`backend_config` gave.
        device: a torch engine that names no device of its own runs here.
        seed: as in :func:`make_backend`.
        jobs_folder: where a machine elsewhere records its jobs, unless the configuration says.

    Raises:
        ValueError: an impossible value; the key is named.
        ImportError: a package is missing; the message says how to install it.

    >>> backend_beside(backend_config("statevector"), "cpu").device
    device(type='cpu')
    """
    options = backend_options(config["kind"])
    plain: dict[str, Any] = {**config, "seed": seed}
    if "device" in options and options["device"][1] == "cpu":
        plain = {"device": str(device), **plain}
    backend = make_backend(**plain)
    if backend.capabilities.remote and jobs_folder is not None and "jobs_folder" in options:
        backend = make_backend(**{"jobs_folder": jobs_folder, **plain})
    return backend


def backend_config(value: Any) -> dict[str, Any]:
    """What stands under ``backend:``, checked and with defaults filled in.

    The device of a torch engine is left out where it is not given: the engine then runs where the model is. Nothing is
    built, no optional package is needed and no device is asked.

    Args:
        value: a kind, or a mapping with ``kind`` and the arguments of :func:`make_backend`.

    Returns:
        Plain data; ``backend_config(backend_config(value)) == backend_config(value)``.

    Raises:
        ValueError: the key is named, with what was found and what is allowed.

    >>> backend_config({"kind": "statevector", "shots": 100})
    {'kind': 'statevector', 'shots': 100, 'dtype': 'complex128'}
    """
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"backend: found {value!r}; expected a kind, or keys and values with 'kind' among them")
    rest = dict(value)
    kind, shots = rest.pop("kind", None), rest.pop("shots", None)
    mitigation, gradient = rest.pop("mitigation", None), rest.pop("gradient", None)
    options = backend_options(kind)
    plain: dict[str, Any] = {"kind": kind}
    if shots is None and "shots" in options:
        shots = options["shots"][1]
    if shots is not None:
        plain["shots"] = _in_field("backend.", lambda: check_shots(shots))
    if mitigation is not None and (entries := _checked_mitigation(mitigation)):
        plain["mitigation"] = entries
    if gradient is not None:
        plain["gradient"] = _checked_entry("backend.gradient", gradient, GRADIENTS)
    allowed = ("kind", "shots", "mitigation", "gradient")
    return plain | _checked("backend", {name: options[name] for name in options if name != "shots"}, rest, allowed)


def catalogue() -> dict[str, tuple[str, Callable[..., Any]]]:
    """What may stand under ``backend:``, by its place there: what it can do and needs, and the class behind it.

    >>> [place for place in catalogue() if place.startswith("mitigation")]
    ['mitigation: twirling', 'mitigation: readout', 'mitigation: zne']
    """
    from circuits.backends import BACKENDS

    return {
        **{kind: (ABOUT.get(kind, ""), cls) for kind, cls in BACKENDS.items()},
        **{f"mitigation: {name}": (ABOUT.get(name, ""), _load(path)) for name, path in MITIGATIONS.items()},
        **{f"gradient: {name}": ("", _load(path)) for name, path in GRADIENTS.items()},
    }


def builds_alone(plain: Mapping[str, Any]) -> bool:
    """Whether a checked configuration is built at once: no other package's engine and no device's calibration.

    >>> builds_alone({"kind": "statevector"}), builds_alone({"kind": "qiskit", "device": "aer"})
    (True, False)
    """
    return plain["kind"] in ("statevector", "density_matrix", "trajectories") and not isinstance(
        plain.get("noise"), str
    )


def allowed_dtypes(default: torch.dtype) -> list[str]:
    """Names of the precisions that an engine of this default takes.

    >>> allowed_dtypes(torch.complex128)
    ['complex64', 'complex128']
    """
    return [name for name, dtype in DTYPES.items() if dtype.is_complex == default.is_complex]


def backend_options(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Type and default (``inspect.Parameter.empty`` if there is none) of the options of a kind, by name.

    Raises:
        ValueError: no such kind.

    >>> sorted(backend_options("statevector"))
    ['device', 'dtype', 'memory_limit']
    """
    return _parameters(_class_of(kind))


def _class_of(kind: Any) -> Callable[..., Any]:
    from circuits.backends import BACKENDS

    if kind is None:
        raise ValueError(f"backend.kind: missing; one of {', '.join(BACKENDS)}")
    if not isinstance(kind, str) or kind not in BACKENDS:
        raise ValueError(f"backend.kind: unknown kind {kind!r}{_hint(kind, BACKENDS)}")
    return BACKENDS[kind]


def _parameters(cls: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    hints = get_type_hints(cls.__init__, include_extras=True)
    return {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in NOT_PLAIN and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    cls: Callable[..., Any] = getattr(import_module(module), name)
    return cls


def _built(field: str, cls: Callable[..., Any], arguments: dict[str, Any], seed: int | None) -> Any:
    """The object, its random draws seeded for its place."""
    if seed is not None:
        names = inspect.signature(cls).parameters
        own = int.from_bytes(hashlib.sha256(f"{seed}/{cls.__name__}".encode()).digest()[:8], "little") >> 1
        if "generator" in names:
            arguments = {**arguments, "generator": torch.Generator().manual_seed(own)}
        elif "seed" in names:
            arguments = {**arguments, "seed": own % 2**31}
    return _in_field(f"{field}: ", lambda: cls(**arguments))


def _in_field(field: str, call: Callable[[], Any]) -> Any:
    """The value, or the mistake with the field it was made in."""
    try:
        return call()
    except ValueError as error:
        raise ValueError(f"{field}{error}") from error


def _noise(value: Any) -> Any:
    from circuits.noise import NoiseModel

    return NoiseModel.from_config(value)


def _named(entry: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    ((name, options),) = entry.items()
    return name, dict(options)


def _checked_mitigation(value: Any) -> list[str | dict[str, Any]]:
    """Entries in the order in which they stand around an engine."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"backend.mitigation: found {value!r}; expected a list of {', '.join(MITIGATIONS)}")
    found: dict[str, str | dict[str, Any]] = {}
    for entry in value:
        checked = _checked_entry("backend.mitigation", entry, MITIGATIONS)
        name, _ = _named(checked)
        if name in found:
            raise ValueError(f"backend.mitigation: {name!r} is given twice")
        found[name] = checked
    return [found[name] for name in MITIGATIONS if name in found]


def _checked_entry(field: str, entry: Any, known: Mapping[str, str]) -> str | dict[str, Any]:
    """A name, or a name with options, of the known ones."""
    named = {entry: {}} if isinstance(entry, str) else entry
    if not isinstance(named, Mapping) or len(named) != 1:
        raise ValueError(f"{field}: found {entry!r}; expected {' or '.join(known)}, or one of them with options")
    ((name, options),) = named.items()
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{field}: unknown name {name!r}{_hint(name, known)}")
    if options is None:
        options = {}
    if not isinstance(options, Mapping):
        raise ValueError(f"{field}.{name}: found {options!r}; expected keys and values")
    checked = _checked(f"{field}.{name}", _parameters(_load(known[name])), options)
    return {name: checked} if checked else name


def _checked(
    field: str, options: Mapping[str, tuple[Any, Any]], values: Mapping[str, Any], also: Sequence[str] = ()
) -> dict[str, Any]:
    """Plain values of a constructor's arguments, defaults filled in where there is something to fill in."""
    for key in values:
        if key not in options:
            shown = key if isinstance(key, str) and key.isprintable() else repr(key)
            raise ValueError(f"{field}.{shown}: unknown key {key!r}{_hint(key, [*also, *options])}")
    plain = {}
    for name, (hint, default) in options.items():
        place = f"{field}.{name}"
        if values.get(name) is not None:
            plain[name] = _checked_value(place, name, hint, values[name], default)
        elif default is inspect.Parameter.empty:
            raise ValueError(f"{place}: missing; {field} needs it")
        elif default is not None and not (name == "device" and default == "cpu"):
            plain[name] = _plain(default)
    return plain


def _checked_value(place: str, name: str, hint: Any, value: Any, default: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    if name == "dtype":
        if value not in (names := allowed_dtypes(default)):
            raise ValueError(f"{place}: found {value!r}; {' or '.join(names)} is needed")
        return value
    if name in ("device", "sampler") and not isinstance(value, str):
        raise ValueError(f"{place}: found {value!r}; a name is needed")
    if name == "noise":
        if isinstance(value, Mapping):
            _in_field(place.removesuffix("noise"), lambda: _noise(value))
        elif not isinstance(value, str):
            raise ValueError(f"{place}: found {value!r}; expected keys and values, or the name of a device")
        return _plain(value)
    adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        return _plain(adapter.validate_python(value))
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ValueError(f"{place}: {message[:1].lower()}{message[1:]} (found {value!r})") from None


def _plain(value: Any) -> Any:
    """As it stands in YAML."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _hint(name: Any, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"{f'; did you mean {near[0]}' if near else ''}; allowed are {', '.join(names)}"
