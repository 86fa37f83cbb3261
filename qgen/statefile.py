"""Files of nested state: tensors and JSON values in one safetensors file, replaced as a whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qgen.device import find_device
from qgen.files import write_atomically
from qgen.generator import Generator
from qgen.registry import from_spec, to_spec

__all__ = ["load_generator", "load_state", "save_generator", "save_state", "write_atomically"]

FORMAT = "qgen state 1"


def save_state(path: Path | str, state: Any) -> None:
    """Write nested dicts and lists of tensors and JSON values, atomically.

    Raises:
        TypeError: a value is neither a tensor nor a JSON value.
        OSError: the file cannot be written; a previous one stays.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> save_state(path, {"step": 3, "weights": [torch.ones(2)]})
    >>> load_state(path)
    {'step': 3, 'weights': [tensor([1., 1.])]}
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    structure = _pack(state, tensors)
    write_atomically(Path(path), save(tensors, metadata={"format": FORMAT, "structure": json.dumps(structure)}))


def load_state(path: Path | str) -> Any:
    """Read what :func:`save_state` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or not a state file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: format is {metadata.get('format')!r}; expected {FORMAT!r}")
    try:
        return _unpack(json.loads(metadata["structure"]), tensors)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged structure ({error!r})") from error


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(inner, tensors) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a state holds tensors and JSON values, found {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _unpack(inner, tensors) for key, inner in value["dict"]}
    if isinstance(value, list):
        return [_unpack(inner, tensors) for inner in value]
    return value


def save_generator(path: Path | str, generator: Generator) -> None:
    """Write a generator, its transforms and its weights to one file.

    Raises:
        ValueError: the generator's class is not registered.
        OSError: the file cannot be written.
    """
    save_state(path, {"spec": to_spec(generator), "weights": generator.state_dict()})


def load_generator(path: Path | str, device: torch.device | str = "cpu") -> Generator:
    """Read a generator that :func:`save_generator` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or of a generator that is not installed here; or there is no
            such device.
    """
    device = find_device(device)
    state = load_state(path)
    if not isinstance(state, dict) or {"spec", "weights"} - set(state):
        raise ValueError(f"{path}: no saved generator")
    try:
        generator = from_spec(state["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: the saved model is not described as its class expects ({error!r})") from error
    try:
        generator.load_state_dict(state["weights"])
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: weights do not fit the model they are of ({reason})") from error
    return generator.to(device)
