from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen import load_generator, save_generator
from qgen.statefile import load_state, save_state
from qgen_toys import Affine

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(state=JSON)
def test_any_json_state_comes_back_equal(state: object, tmp_path: Path) -> None:
    save_state(tmp_path / "state", state)
    assert load_state(tmp_path / "state") == state


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.uint8, torch.bool])
def test_tensors_come_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).mul(9).to(dtype)
    save_state(tmp_path / "state", {"a": [values, values.T], "b": {0: values[:0]}})
    state = load_state(tmp_path / "state")
    assert torch.equal(state["a"][0], values)
    assert torch.equal(state["a"][1], values.T)
    assert state["b"][0].shape == (0, 4)
    assert state["a"][0].dtype == dtype


def test_what_is_no_state_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a state holds tensors and JSON values, found object"):
        save_state(tmp_path / "state", {"a": object()})
    assert list(tmp_path.iterdir()) == []


@SETTINGS
@given(cut=st.floats(0, 0.999))
def test_a_truncated_file_is_named(cut: float, tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, {"weights": torch.ones(50)})
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(ValueError, match="state: ") as info:
        load_state(path)
    assert "\n" not in str(info.value)


@SETTINGS
@given(content=st.binary(max_size=200))
def test_any_other_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="state: "):
        load_state(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "model")
    with pytest.raises(ValueError, match="format is None; expected 'qgen state 2'"):
        load_state(tmp_path / "model")


def test_a_generator_of_an_unknown_kind_or_other_weights_is_refused(affine: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(ValueError, match=r"Lonely is no registered kind of generator; call qgen.registry.register"):
        save_generator(path, Lonely(2))
    save_state(path, {"weights": {}})
    with pytest.raises(ValueError, match="no saved generator"):
        load_generator(path)
    identity = {"kind": "Identity", "arguments": {}}
    spec = {"kind": "flwo", "arguments": {}, "transform": identity, "condition_transform": identity}
    save_state(path, {"spec": spec, "weights": {}})
    with pytest.raises(ValueError, match="did you mean 'flow'"):
        load_generator(path)
    arguments = json.loads('{"n_features": 2, "n_conditions": 0}')
    save_state(path, {"spec": {**spec, "kind": affine, "arguments": arguments}, "weights": {"mean": torch.ones(3)}})
    with pytest.raises(ValueError, match="weights do not fit the model") as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)
    save_state(path, {"spec": {**spec, "kind": affine, "arguments": {"n_qubits": 2}}, "weights": {}})
    with pytest.raises(ValueError, match="not described as its class expects .*n_qubits"):
        load_generator(path)
    save_state(path, {"spec": {"kind": affine}, "weights": {}})
    with pytest.raises(ValueError, match="not described as its class expects .*arguments"):
        load_generator(path)
    with pytest.raises(ValueError, match="device 'gpu' is unknown"):
        load_generator(path, "gpu")


class Lonely(Affine):
    """Not registered."""
