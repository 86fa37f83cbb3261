"""Files of nested state: tensors and JSON values in one safetensors file, replaced as a whole or not at all.

A file carries the SHA-256 of its own content, so that one with a damaged byte is found out even where it still parses.
Reading runs no code of the file and takes memory in proportion to its size, whoever made it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qgen.allocation import bounded, check_sizes
from qgen.device import find_device
from qgen.files import write_atomically
from qgen.generator import Generator
from qgen.registry import from_spec, to_spec

__all__ = [
    "load_generator",
    "load_state",
    "packed",
    "save_generator",
    "save_state",
    "state_bytes",
    "unpacked",
    "write_atomically",
]

FORMAT = "qgen state 2"
EARLIER = "qgen state 1"
"""The format before files had a checksum."""

NO_DIGEST = "0" * 64
"""Stands for the checksum while it is computed."""


def save_state(path: Path | str, state: Any, *, previous: Path | str | None = None) -> None:
    """Write nested dicts and lists of tensors and JSON values, atomically.

    Args:
        path: of the file.
        state: what it holds.
        previous: where the file that stands at ``path`` is kept, see :func:`qgen.files.write_atomically`.

    Raises:
        TypeError: a value is neither a tensor nor a JSON value.
        OSError: the file cannot be written; a previous one stays.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> save_state(path, {"step": 3, "weights": [torch.ones(2)]})
    >>> load_state(path)
    {'step': 3, 'weights': [tensor([1., 1.])]}
    """
    write_atomically(path, state_bytes(state), previous=previous)


def state_bytes(state: Any) -> bytes:
    """The file that :func:`save_state` writes.

    Raises:
        TypeError: a value is neither a tensor nor a JSON value.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    structure = json.dumps(packed(state, tensors))
    content = save(tensors, metadata={"format": FORMAT, "sha256": NO_DIGEST, "structure": structure})
    digest = hashlib.sha256(content).hexdigest()
    # quotes inside the structure stand behind backslashes: this is the key itself
    return content.replace(_entry(NO_DIGEST), _entry(digest), 1)


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
    except (SafetensorError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged or not a state file ({_line(error)})") from error
    if metadata.get("format") not in (FORMAT, EARLIER):
        raise ValueError(f"{path}: format is {metadata.get('format')!r}; expected {FORMAT!r}")
    if metadata["format"] == FORMAT and _digest(path, metadata.get("sha256", "")) != metadata.get("sha256"):
        raise ValueError(f"{path}: damaged (its content is not that of its checksum)")
    try:
        return unpacked(json.loads(metadata["structure"]), tensors)
    except (LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged structure ({type(error).__name__}: {_line(error)})") from error


def _entry(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()


def _digest(path: Path, written: str) -> str:
    """The checksum of a file, with the one that is ``written`` in it left out."""
    with path.open("rb") as file:
        start = file.read(8)
        start += file.read(int.from_bytes(start, "little"))
        found = hashlib.sha256(start.replace(_entry(written), _entry(NO_DIGEST), 1))
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON values, its tensors in ``tensors`` under the names that stand in their places."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, packed(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return [packed(inner, tensors) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a state holds tensors and JSON values, found {type(value).__name__}")


def unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What :func:`packed` took apart.

    Raises:
        LookupError, TypeError, ValueError: it is not of that form.
    """
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        found = {key: unpacked(inner, tensors) for key, inner in value["dict"]}
        if len(found) < len(value["dict"]):
            raise ValueError("a key is given twice")
        return found
    if isinstance(value, list):
        return [unpacked(inner, tensors) for inner in value]
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

    It is built with no more memory than weights such as those in the file need.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or of a generator that is not installed here; or there is no
            such device.
    """
    device = find_device(device)
    state = load_state(path)
    if not isinstance(state, dict) or not all(isinstance(state.get(part), dict) for part in ("spec", "weights")):
        raise ValueError(f"{path}: no saved generator")
    weights = state["weights"]
    numbers = sum(tensor.numel() for tensor in weights.values() if isinstance(tensor, Tensor))
    try:
        check_sizes(state["spec"].get("arguments"), numbers)
        with bounded(numbers):
            generator = from_spec(state["spec"])
    except ValueError as error:
        raise ValueError(f"{path}: {_line(error)}") from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path}: the saved model is not described as its class expects ({error!r:.300})") from error
    try:
        generator.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path}: weights do not fit the model they are of ({_line(error)})") from error
    return generator.to(device)
