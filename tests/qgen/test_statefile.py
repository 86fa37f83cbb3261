from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen import load_generator, load_run, save_generator
from qgen.registry import generator_class
from qgen.statefile import load_state, save_state, state_bytes
from qgen_toys import Affine

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEWER = settings(SETTINGS, max_examples=40)


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


def check_opened_or_refused(opening: Callable[[Path], object], path: Path) -> None:
    """What is refused is refused in one line that names it; anything else that is raised is a mistake."""
    line = f"{path}: opened"
    try:
        opening(path)
    except (ValueError, OSError) as error:
        line = str(error)
    assert str(path) in line
    assert "\n" not in line


@pytest.fixture(scope="module")
def style() -> Any:
    return generator_class("style")(2, 1, layers=1, latent_size=2)


@FEWER
@given(place=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(style: Any, place: float, bit: int, tmp_path: Path) -> None:
    content = bytearray(state_bytes({"weights": style.state_dict(), "zeros": "0" * 64, "quoted": '"sha256":"'}))
    content[int(place * len(content))] ^= 1 << bit
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="state: ") as caught:
        load_state(tmp_path / "state")
    assert "\n" not in str(caught.value)


PIECE = st.text('0123456789{}[],:"-eNaI', max_size=5).map(str.encode) | st.binary(max_size=3)


@FEWER
@given(cuts=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 9), PIECE), min_size=1, max_size=3))
def test_no_bytes_of_a_stranger_do_more_than_be_refused(style: Any, cuts: Any, tmp_path: Path) -> None:
    """A header of any content, its length right and without a checksum that would find it out."""
    path = tmp_path / "model"
    save_generator(path, style)
    content = path.read_bytes().replace(b"qgen state 2", b"qgen state 1")
    length = 8 + int.from_bytes(content[:8], "little")
    header, data = content[8:length], content[length:]
    for where, gone, piece in cuts:
        start = int(where * len(header))
        header = header[:start] + piece + header[start + gone :]
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    check_opened_or_refused(load_generator, path)


JUNK = st.sampled_from([None, -1, 0, 17, 2000, 10**5, 10**9, 2**63, 10**30, float("nan"), float("inf"), "", "../x", []])
JUNK |= st.sampled_from([{}, [[]], {"a": 1}, True, [0.5], [10**9] * 3])


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above] * bool(above) + [place for name, part in inner for place in places(part, (*above, name))]


@FEWER
@given(data=st.data())
def test_no_description_of_a_model_does_more_than_be_refused(style: Any, data: st.DataObject, tmp_path: Path) -> None:
    save_generator(tmp_path / "model", style)
    state = copy.deepcopy(load_state(tmp_path / "model"))
    *above, last = data.draw(st.sampled_from(places(state["spec"])))
    part = state["spec"]
    for name in above:
        part = part[name]
    part[last] = data.draw(JUNK)
    save_state(tmp_path / "model", state)
    check_opened_or_refused(load_generator, tmp_path / "model")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("gan", {"n_features": 2, "hidden": [90_000, 90_000]}),
        ("flow", {"n_features": 50_000}),
        ("flow", {"n_features": 2, "transforms": 10**9}),
        ("vae", {"n_features": 2, "latent_size": 2**62}),
        ("style", {"n_features": 2, "layers": 10**12}),
        ("gan", {"n_features": 2, "hidden": [10**30]}),
    ],
)
def test_a_model_larger_than_its_file_is_refused_before_it_is_built(
    kind: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    identity = {"kind": "Identity", "arguments": {}}
    spec = {"kind": kind, "arguments": arguments, "transform": identity, "condition_transform": identity}
    save_state(tmp_path / "model", {"spec": spec, "weights": {"a": torch.zeros(5)}})
    with pytest.raises(ValueError, match=r"model: .*the weights in the file are 5") as caught:
        load_generator(tmp_path / "model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("style", {"n_features": 100_000, "layers": 100_000}),
        ("style", {"n_features": 2000, "layers": 2000}),
        ("angle", {"low": [0.0] * 50, "high": [1.0] * 50, "layers": 100_000, "latent_size": 3}),
        ("fully_quantum", {"low": [0.0] * 4, "high": [1.0] * 4, "layers": 10_000, "latent_size": 10_000}),
        ("cv_generator", {"n_features": 150, "layers": 10_000}),
        ("cv_born_machine", {"n_features": 150, "layers": 10_000}),
    ],
)
def test_lists_of_gates_that_two_numbers_make_long_are_refused(
    kind: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    identity = {"kind": "Identity", "arguments": {}}
    spec = {"kind": kind, "arguments": arguments, "transform": identity, "condition_transform": identity}
    save_state(tmp_path / "model", {"spec": spec, "weights": {"a": torch.zeros(5)}})
    with pytest.raises(
        ValueError, match=r"model: arguments\.layers is \d+ and .*; the weights in the file are 5"
    ) as caught:
        load_generator(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_deep_nesting_and_keys_given_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    content = state_bytes({"a": 1}).replace(b"qgen state 2", b"qgen state 1")
    length = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:length])
    for structure in ("[" * 10**5 + "]" * 10**5, '{"dict": [["a", 1], ["a", 2]]}', '{"dict": [[{"dict": []}, 1]]}'):
        header["__metadata__"]["structure"] = structure
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        with pytest.raises(ValueError, match="state: damaged structure") as caught:
            load_state(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [[2**40], [2**62, 2**62], [-1], [0, 2**63]])
def test_a_tensor_larger_than_the_file_is_refused(shape: list[int], tmp_path: Path) -> None:
    header = {"0": {"dtype": "F64", "shape": shape, "data_offsets": [0, 8]}, "__metadata__": {"format": "qgen state 1"}}
    text = json.dumps(header).encode()
    (tmp_path / "state").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match="state: damaged or not a state file") as caught:
        load_state(tmp_path / "state")
    assert "\n" not in str(caught.value)


def test_files_from_before_checksums_are_read(tmp_path: Path) -> None:
    content = state_bytes({"a": torch.ones(2)}).replace(b"qgen state 2", b"qgen state 1")
    (tmp_path / "state").write_bytes(content)
    assert torch.equal(load_state(tmp_path / "state")["a"], torch.ones(2))


YAML = "dataset: {kind: ring}\nmodels: {a: {kind: gan}}\nseeds: [0, 1]\n"


@FEWER
@given(
    where=st.integers(0, len(YAML)), piece=st.text(max_size=4) | st.sampled_from(["[" * 1500, "&a [*a]", "!!python/x "])
)
def test_a_runs_configuration_is_opened_or_refused_in_one_line(where: int, piece: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((YAML[:where] + piece + YAML[where:]).encode("utf-8", "surrogatepass"))
    check_opened_or_refused(load_run, tmp_path)
