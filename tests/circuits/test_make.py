from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate
from circuits.backends import BACKENDS, ParameterShift, Sampled, Statevector, backend_config, make_backend

BELL = Circuit(2, [Gate("RY", 0, [0]), Gate("CNOT", [0, 1])])
ANGLES = torch.tensor([0.7], dtype=torch.float64)
KEYS = ["kind", "shots", "mitigation", "gradient", "dtype", "device", "memory_limit", "noise", "seed", "x"]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(list(BACKENDS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), inner),
    max_leaves=6,
)


def test_an_exact_engine_is_made_from_its_options():
    backend = make_backend("statevector", dtype="complex64", memory_limit=10**9)
    assert isinstance(backend, Statevector)
    assert (backend.dtype, backend.memory_limit) == (torch.complex64, 10**9)


def test_shots_of_an_exact_engine_are_trained_by_the_shift_rule():
    backend = make_backend("statevector", shots=50)
    assert isinstance(backend, ParameterShift)
    assert isinstance(backend.backend, Sampled)
    assert backend.backend.shots == 50
    assert isinstance(backend.backend.backend, Statevector)
    assert backend.capabilities.differentiable
    assert not backend.capabilities.exact


def test_a_seed_fixes_every_draw():
    def drawn(seed):
        angles = ANGLES.clone().requires_grad_()
        probs = make_backend("statevector", shots=50, seed=seed).probs(BELL, angles)
        probs[0].backward()
        return torch.cat([probs.detach(), angles.grad])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(drawn(None), drawn(None))


def test_the_parameter_shift_rule_can_be_asked_for():
    exact = make_backend("statevector", gradient="parameter-shift")
    assert isinstance(exact, ParameterShift)
    assert exact.capabilities.exact


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_checked_configuration_is_a_fixed_point(kind):
    options = {"noise": {"readout": {"p01": 0.1, "p10": 0.1}}} if kind == "trajectories" else {}
    once = backend_config({"kind": kind, "gradient": "parameter-shift", **options})
    assert backend_config(once) == once
    assert None not in once.values()


def test_a_kind_alone_is_a_configuration():
    assert backend_config("statevector") == {"kind": "statevector", "dtype": "complex128"}
    assert "device" not in backend_config({"kind": "statevector"})
    assert backend_config({"kind": "statevector", "device": "cpu"})["device"] == "cpu"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (3, "backend: found 3; expected a kind, or keys and values with 'kind' among them"),
        ({}, "backend.kind: missing; one of statevector"),
        ({"kind": "statevectr"}, "backend.kind: unknown kind 'statevectr'; did you mean statevector"),
        ({"kind": ["statevector"]}, "backend.kind: unknown kind"),
        ({"kind": "statevector", "shotz": 3}, "backend.shotz: unknown key 'shotz'; did you mean shots"),
        ({"kind": "statevector", "seed": 3}, "backend.seed: unknown key 'seed'"),
        ({"kind": "statevector", "shots": 0}, "backend.shots is 0; an integer of at least 1"),
        ({"kind": "statevector", "shots": "many"}, "backend.shots is 'many'; an integer of at least 1"),
        ({"kind": "statevector", "dtype": "complex32"}, "backend.dtype: found 'complex32'; one of complex64"),
        ({"kind": "statevector", "dtype": ["complex64"]}, "backend.dtype: found"),
        ({"kind": "statevector", "memory_limit": "big"}, "backend.memory_limit: input should be a valid integer"),
        ({"kind": "statevector", "mitigation": "readout"}, "backend.mitigation: found 'readout'; expected a list"),
        ({"kind": "statevector", "mitigation": ["redout"]}, "unknown name 'redout'; did you mean readout"),
        ({"kind": "statevector", "mitigation": [{"readout": {}, "zne": {}}]}, "backend.mitigation: found"),
        ({"kind": "statevector", "mitigation": [{"zne": 3}]}, "backend.mitigation.zne: found 3; expected keys"),
        ({"kind": "statevector", "gradient": "spsaa"}, "backend.gradient: unknown name 'spsaa'; did you mean spsa"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(value, line):
    with pytest.raises(ValueError, match=line) as info:
        backend_config(value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dtype": "float64"}, "backend: dtype is torch.float64; torch.complex64 or torch.complex128 is needed"),
        ({"device": "gpu"}, "backend: device 'gpu' is unknown"),
        ({"shotz": 1}, "backend.shotz: unknown key 'shotz'; did you mean shots"),
    ],
)
def test_what_a_constructor_refuses_is_said_of_the_backend(options, line):
    with pytest.raises(ValueError, match=line):
        make_backend("statevector", **options)


def outcome(value):
    try:
        return type(backend_config(value))
    except ValueError as error:
        return "one line" if len(str(error).splitlines()) == 1 else str(error)


@settings(max_examples=200, deadline=None)
@given(PLAIN | st.dictionaries(st.sampled_from(KEYS), PLAIN))
def test_anything_is_a_configuration_or_refused_in_one_line(value):
    assert outcome(value) in (dict, "one line")
