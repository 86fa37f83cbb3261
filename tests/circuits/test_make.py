from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate
from circuits.backends import (
    BACKENDS,
    Backend,
    ParameterShift,
    Sampled,
    Statevector,
    backend_config,
    layers,
    make_backend,
    reseed,
    shots_of,
)
from circuits.noise import NoiseModel

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
        probs = make_backend("statevector", shots=10**9, seed=seed).probs(BELL, angles)
        probs[0].backward()
        return torch.cat([probs.detach(), angles.grad])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not torch.equal(drawn(None), drawn(None))


def test_the_parameter_shift_rule_can_be_asked_for():
    exact = make_backend("statevector", gradient="parameter-shift")
    assert isinstance(exact, ParameterShift)
    assert exact.capabilities.exact


def test_wrappers_stand_in_their_order_whatever_the_order_in_the_configuration():
    backend = make_backend(
        "density_matrix",
        noise={"depolarizing": {"two_qubit": 0.02}, "readout": {"p01": 0.02, "p10": 0.05}},
        shots=200,
        mitigation=[{"zne": {"scales": [1, 3], "fit": "linear"}}, "readout", {"twirling": {"twirls": 2}}],
        gradient={"spsa": {"repeats": 3}},
        seed=0,
    )
    found = [type(layer).__name__ for layer in layers(backend)]
    mitigated = ["ZeroNoiseExtrapolation", "ReadoutMitigation", "PauliTwirling"]
    assert found == ["SPSA", *mitigated, "Sampled", "DensityMatrix"]
    spsa, extrapolated, _, twirled, sampled, engine = layers(backend)
    assert (spsa.repeats, extrapolated.scales, twirled.twirls, sampled.shots) == (3, (1.0, 3.0), 2, 200)
    assert engine.noise == NoiseModel.from_config(
        {"depolarizing": {"two_qubit": 0.02}, "readout": {"p01": 0.02, "p10": 0.05}}
    )
    assert shots_of(backend) == 200


def test_every_layer_that_draws_is_seeded_apart_from_the_others():
    backend = make_backend("statevector", shots=9, mitigation=["twirling", "readout"], gradient="spsa", seed=4)
    seeds = [layer.generator.initial_seed() for layer in layers(backend) if hasattr(layer, "generator")]
    assert len(set(seeds)) == len(seeds) == 4
    reseed(backend, torch.Generator().manual_seed(1))
    later = [layer.generator.initial_seed() for layer in layers(backend) if hasattr(layer, "generator")]
    assert len(set(later) | set(seeds)) == 8


def test_shots_of_a_calibration_are_not_those_of_the_probabilities():
    assert shots_of(make_backend("density_matrix", mitigation=["readout"])) is None
    assert shots_of(make_backend("statevector", shots=30, mitigation=["readout"])) == 30


@pytest.mark.parametrize(
    ("config", "noisy"),
    [
        ({"kind": "statevector"}, False),
        ({"kind": "density_matrix", "noise": {"depolarizing": {"one_qubit": 0.01, "two_qubit": 0.03}}}, True),
        ({"kind": "density_matrix", "noise": "fake_manila"}, True),
        ({"kind": "pennylane", "device": "lightning.qubit"}, False),
        ({"kind": "qiskit", "device": "fake_manila", "shots": 4096, "mitigation": ["readout"]}, True),
    ],
    ids=str,
)
def test_every_kind_of_line_gives_a_backend_that_trains(config, noisy):
    assert backend_config(backend_config(config)) == backend_config(config)
    backend = make_backend(**config, seed=5)
    assert isinstance(backend, Backend)
    assert backend.capabilities.noisy is noisy
    angles = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    probs = backend.probs(BELL, angles)
    (slope,) = torch.autograd.grad(probs[3], angles)
    tolerance = 1e-9 if backend.capabilities.exact and not noisy else 0.12
    expected = torch.tensor([math.cos(0.35) ** 2, 0, 0, math.sin(0.35) ** 2], dtype=torch.float64)
    torch.testing.assert_close(probs.detach(), expected, atol=tolerance, rtol=0)
    assert slope.item() == pytest.approx(math.sin(0.7) / 2, abs=tolerance)
    assert backend.sample(BELL, angles.detach(), 3).shape == (3, 2)


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_checked_configuration_is_a_fixed_point(kind):
    once = backend_config({"kind": kind, "gradient": "parameter-shift"})
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
        ({"kind": "statevector", "dtype": "complex32"}, "backend.dtype: found 'complex32'; complex64 or complex128"),
        ({"kind": "statevector", "dtype": ["complex64"]}, "backend.dtype: found"),
        ({"kind": "statevector", "memory_limit": "big"}, "backend.memory_limit: input should be a valid integer"),
        ({"kind": "statevector", "mitigation": "readout"}, "backend.mitigation: found 'readout'; expected a list"),
        ({"kind": "statevector", "mitigation": ["redout"]}, "unknown name 'redout'; did you mean readout"),
        ({"kind": "statevector", "mitigation": [{"readout": {}, "zne": {}}]}, "backend.mitigation: found"),
        ({"kind": "statevector", "mitigation": [{"zne": 3}]}, "backend.mitigation.zne: found 3; expected keys"),
        ({"kind": "statevector", "mitigation": ["readout", "readout"]}, "backend.mitigation: 'readout' is given twice"),
        ({"kind": "statevector", "mitigation": [{"zne": {"scale": 3}}]}, "zne.scale: unknown key .* mean scales"),
        (
            {"kind": "statevector", "mitigation": [{"zne": {"fit": "cubic"}}]},
            "zne.fit: input should be 'linear', .*cubic",
        ),
        ({"kind": "statevector", "gradient": {"spsa": {"repeat": 3}}}, "gradient.spsa.repeat: .* did you mean repeats"),
        (
            {"kind": "density_matrix", "noise": {"depolarizing": {"two_qubit": 1.2}}},
            "^backend.noise.depolarizing.two_qub",
        ),
        ({"kind": "density_matrix", "noise": {"depolarising": 0.1}}, "^backend.noise.depolarising: .*depolarizing"),
        ({"kind": "density_matrix", "noise": 3}, "backend.noise: found 3; expected keys and values, or the name of a"),
        ({"kind": "qiskit", "device": 3}, "backend.device: found 3; a name is needed"),
        ({"kind": "qiskit", "sampler": ["runtime"]}, "backend.sampler: found .* a name is needed"),
        ({"kind": "pennylane", "options": 3}, "backend.options: input should be a valid dictionary .found 3."),
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
        ({"dtype": "float64"}, "backend.dtype: found 'float64'; complex64 or complex128 is needed"),
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


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"kind": "qiskit", "device": "fake_manilla"},
            "^backend: unknown device 'fake_manilla'; did you mean fake_manila",
        ),
        ({"kind": "density_matrix", "noise": "fake_manilla"}, "^backend.noise: unknown device 'fake_manilla'; did you"),
        ({"kind": "pennylane", "device": "defualt.qubit"}, "^backend: unknown PennyLane device 'defualt.qubit'"),
        ({"kind": "statevector", "mitigation": [{"zne": {"scales": [0.5]}}]}, "^backend.mitigation.zne: .*0.5"),
        ({"kind": "statevector", "gradient": {"spsa": {"repeats": 0}}}, "^backend.gradient.spsa: repeats is 0"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(config, line):
    with pytest.raises(ValueError, match=line) as info:
        make_backend(**config)
    assert "\n" not in str(info.value)


@settings(max_examples=200, deadline=None)
@given(PLAIN | st.dictionaries(st.sampled_from(KEYS), PLAIN))
def test_anything_is_a_configuration_or_refused_in_one_line(value):
    assert outcome(value) in (dict, "one line")
