from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, Sampled, Statevector
from circuits.mitigation import PauliTwirling, ZeroNoiseExtrapolation, fold
from circuits.mitigation.fits import exponential_at_zero, polynomial_at_zero
from noisy_backends import Fading

SOME = settings(max_examples=40, deadline=None)
CIRCUIT = ansatz.hardware_efficient(3, 2)
ANGLES = torch.rand((2, CIRCUIT.n_angles), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
OBSERVABLES = ["ZII", "XIY", "III"]
KEEP = 0.985


# folding


@SOME
@given(data=st.data(), scale=st.floats(1, 6), folding=st.sampled_from(["global", "gates"]))
def test_a_folded_circuit_does_the_same(circuits, data, scale, folding):
    circuit = data.draw(circuits(max_wires=3, max_gates=8))
    folded = fold(circuit, scale, folding)
    assert abs(len(folded) - scale * len(circuit)) <= 1 + 1e-9
    angles = torch.tensor([0.4, -1.3, 2.2, 0.9], dtype=torch.float64)
    one, other = (Statevector().state(c, angles) for c in (circuit, folded))
    torch.testing.assert_close((one.conj() * other).sum().abs(), torch.ones((), dtype=torch.float64))


def test_folding_is_spread_over_the_circuit():
    circuit = Circuit(1, [Gate("RX", 0, [float(k)]) for k in range(1, 5)])
    values = [gate.angles[0].offset for gate in fold(circuit, 2, "gates").gates]
    assert values == [1, 2, -2, 2, 3, 4, -4, 4]
    values = [gate.angles[0].offset for gate in fold(circuit, 2, "global").gates]
    assert values == [1, 2, 3, 4, -4, -3, 3, 4]
    assert fold(circuit, 1) == circuit
    assert fold(Circuit(2), 3) == Circuit(2)


# fits


def test_polynomials_are_recovered_and_their_covariance_is_the_textbooks():
    scales = torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    values = torch.stack([3 - 2 * scales + 0.5 * scales**2, scales], 1)
    value, deviation = polynomial_at_zero(scales, values, None, 2)
    torch.testing.assert_close(value, torch.tensor([3.0, 0.0], dtype=torch.float64))
    assert float(deviation.max()) < 1e-12
    # of a straight line: variance of the intercept, sigma^2 (1/m + mean^2 / sum of squares)
    sigma = 0.3
    _, deviation = polynomial_at_zero(scales, values, torch.full_like(values, sigma), 1)
    mean = scales.mean()
    expected = sigma * (1 / 4 + mean**2 / (scales - mean).square().sum()).sqrt()
    torch.testing.assert_close(deviation, expected.expand(2))
    # and from the scatter: s^2 with two degrees of freedom left
    _, deviation = polynomial_at_zero(scales, values, None, 1)
    slope = ((scales - mean) * (values[:, 0] - values[:, 0].mean())).sum() / (scales - mean).square().sum()
    residuals = values[:, 0] - values[:, 0].mean() - slope * (scales - mean)
    torch.testing.assert_close(deviation[0], expected / sigma * (residuals.square().sum() / 2).sqrt())
    assert bool(polynomial_at_zero(scales, values, None, 3).deviation.isnan().all())


@SOME
@given(
    at_zero=st.floats(-1, 1),
    rate=st.floats(0.01, 1.5),
    asymptote=st.sampled_from([0.0, 0.125]),
)
def test_exponentials_are_recovered(at_zero, rate, asymptote):
    scales = torch.tensor([1.0, 1.5, 3.0], dtype=torch.float64)
    limit = torch.full((1, 1), asymptote, dtype=torch.float64)
    values = limit + (at_zero - limit) * torch.exp(-rate * scales)[:, None, None]
    found = exponential_at_zero(scales, values, None, limit, -1, 1)
    torch.testing.assert_close(found.value, torch.full_like(limit, at_zero), rtol=0, atol=1e-6)
    assert float(found.deviation) < 1e-5


def test_an_exponential_keeps_to_its_bounds():
    scales = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64)
    values = torch.tensor([[0.9, 0.01, 0.2, 0.0], [0.3, -0.01, 0.3, 0.0], [0.1, 0.012, 0.4, 0.0]], dtype=torch.float64)
    values = values[:, :, None]
    limit = torch.zeros((4, 1), dtype=torch.float64)
    value, deviation = exponential_at_zero(scales, values, torch.full_like(values, 0.01), limit, -1, 1)
    assert value[0] == 1
    assert abs(float(value[1])) < 0.11
    # growth is not decay: the best that does not grow is the mean
    torch.testing.assert_close(value[2, 0], values[:, 2].mean())
    assert value[3] == 0
    assert bool(deviation.isfinite().all())


@pytest.mark.parametrize("truth", [[0.8], [0.8, -0.3, 0.05]])
def test_the_deviation_of_an_exponential_is_its_spread(truth, rng):
    scales = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    n, sigma = 4000, 0.004
    truth = torch.tensor(truth, dtype=torch.float64)
    exact = (truth * torch.exp(-0.3 * scales)[:, None])[:, None]
    noise = sigma * torch.randn((3, n, len(truth)), generator=rng, dtype=torch.float64)
    known = torch.full_like(noise, sigma)
    value, deviation = exponential_at_zero(scales, exact + noise, known, torch.zeros(n, len(truth)), -1, 1)
    torch.testing.assert_close(deviation.mean(0), value.std(0), rtol=0.05, atol=0)
    torch.testing.assert_close(value.mean(0), truth, rtol=0, atol=0.002)
    # the same from the scatter, on the average of its square
    _, scattered = exponential_at_zero(scales, exact + noise, None, torch.zeros(n, len(truth)), -1, 1)
    torch.testing.assert_close(scattered.square().mean(0).sqrt(), value.std(0), rtol=0.1, atol=0)


# the backend


@pytest.mark.parametrize("folding", ["global", "gates"])
def test_exponential_noise_is_removed_exactly(folding):
    backend = ZeroNoiseExtrapolation(Fading(KEEP), scales=(1, 2, 3.5), fit="exponential", folding=folding)
    probs, expval = Statevector().probs(CIRCUIT, ANGLES), Statevector().expval(CIRCUIT, ANGLES, OBSERVABLES)
    torch.testing.assert_close(backend.probs(CIRCUIT, ANGLES), probs, rtol=0, atol=1e-6)
    torch.testing.assert_close(backend.expval(CIRCUIT, ANGLES, OBSERVABLES), expval, rtol=0, atol=1e-6)
    scales = backend.reached_scales(CIRCUIT)
    assert scales[0] == 1
    assert scales[1] == pytest.approx(2, abs=1 / len(CIRCUIT))


@pytest.mark.parametrize(("fit", "degree", "order"), [("linear", 2, 2), ("polynomial", 2, 3), ("polynomial", 3, 4)])
def test_polynomials_leave_an_error_of_higher_order(fit, degree, order):
    exact = Statevector().expval(CIRCUIT, ANGLES, ["ZII"])

    def error(loss):
        backend = ZeroNoiseExtrapolation(Fading(1 - loss), scales=(1, 2, 3, 4)[:order], fit=fit, degree=degree)
        return float((backend.expval(CIRCUIT, ANGLES, ["ZII"]) - exact).abs().max())

    assert error(0.00005) / error(0.0001) == pytest.approx(0.5**order, rel=0.02)
    raw = float((Fading(0.999).expval(CIRCUIT, ANGLES, ["ZII"]) - exact).abs().max())
    assert error(0.001) < 0.1 * raw


@pytest.mark.parametrize("fit", ["linear", "polynomial", "exponential"])
def test_deviations_are_the_spread(fit, rng):
    rows, shots = 300, 4000
    device = Sampled(Fading(KEEP), shots, rng)
    backend = ZeroNoiseExtrapolation(device, scales=(1, 2, 3), fit=fit)
    angles = ANGLES[:1].expand(rows, -1)
    for found in (
        backend.expval_with_error(CIRCUIT, angles, OBSERVABLES),
        backend.probs_with_error(CIRCUIT, angles),
    ):
        torch.testing.assert_close(found.deviation.mean(0), found.value.std(0), rtol=0.2, atol=2e-3)
    probs = backend.probs(CIRCUIT, angles)
    torch.testing.assert_close(probs.sum(-1), torch.ones(rows, dtype=torch.float64))
    assert float(probs.min()) >= 0
    expected = Statevector().probs(CIRCUIT, ANGLES[0])
    raw = (device.probs(CIRCUIT, angles).mean(0) - expected).abs().sum()
    assert float((backend.quasi_probs(CIRCUIT, angles).mean(0) - expected).abs().sum()) < 0.5 * float(raw)


def test_all_scales_are_one_job(rng):
    class Jobs(Sampled):
        jobs = ()

        def sample_circuits(self, circuits, angles, shots, generator):
            self.jobs += (len(circuits),)
            return super().sample_circuits(circuits, angles, shots, generator)

    device = Jobs(Statevector(), 10, rng)
    backend = ZeroNoiseExtrapolation(device)
    backend.probs(CIRCUIT, ANGLES)
    backend.expval(CIRCUIT, ANGLES, ["ZII", "XII", "YII", "ZZZ"])
    assert device.jobs == (3, 9)


def test_gradients_pass_through_linear_fits():
    leaf = ANGLES.clone().requires_grad_()
    found, expected = (
        torch.autograd.grad(backend.expval(CIRCUIT, leaf, ["ZII", "XIY"]).square().sum(), leaf)[0]
        for backend in (ZeroNoiseExtrapolation(Fading(1 - 1e-4), fit="polynomial"), Statevector())
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_uncertainty_of_exact_values_is_the_scatter():
    found = ZeroNoiseExtrapolation(Fading(KEEP)).expval_with_error(CIRCUIT, ANGLES, ["ZII"])
    assert float(found.deviation.min()) > 0
    found = ZeroNoiseExtrapolation(Fading(KEEP), fit="polynomial").expval_with_error(CIRCUIT, ANGLES, ["ZII"])
    assert bool(found.deviation.isnan().all())


def test_a_backend_that_cannot_tell_its_uncertainty_is_refused(rng):
    class Random(Statevector):
        capabilities = PauliTwirling(Statevector()).capabilities

    backend = ZeroNoiseExtrapolation(Random())
    with pytest.raises(ValueError, match="statevector: the uncertainty of its values is not known"):
        backend.probs_with_error(CIRCUIT, ANGLES)
    torch.testing.assert_close(backend.probs(CIRCUIT, ANGLES), Statevector().probs(CIRCUIT, ANGLES))


def test_samples_are_drawn_from_the_extrapolated_distribution():
    backend = ZeroNoiseExtrapolation(Fading(KEEP), scales=(1, 2, 3), fit="exponential")
    bits = backend.sample(CIRCUIT, ANGLES, 20_000, torch.Generator().manual_seed(0))
    assert bits.shape == (2, 20_000, 3)
    expected = Statevector().expval(CIRCUIT, ANGLES, ["ZII"])[:, 0]
    torch.testing.assert_close((1 - 2.0 * bits[..., 0]).mean(-1).double(), expected, rtol=0, atol=0.03)


def test_capabilities_tell_the_truth():
    assert ZeroNoiseExtrapolation(Fading(KEEP)).capabilities == Fading.capabilities
    assert not ZeroNoiseExtrapolation(Fading(KEEP), fit="exponential").capabilities.differentiable
    sampled = ZeroNoiseExtrapolation(Sampled(Fading(KEEP), 10))
    assert not sampled.capabilities.exact
    assert not sampled.capabilities.differentiable
    assert isinstance(sampled, Backend)
    assert sampled.name == "fading, 10 shots, zero-noise extrapolated"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "cubic"}, "fit is 'cubic'; 'linear', 'polynomial' or 'exponential' is needed"),
        ({"folding": "random"}, "folding is 'random'"),
        ({"degree": 0}, "degree is 0"),
        ({"scales": [0.5, 1, 2]}, "scales are .0.5, 1, 2.; numbers of at least 1 are needed"),
        ({"scales": [1, math.nan]}, "numbers of at least 1"),
        ({"scales": 3}, "scales are 3; a sequence is needed"),
        ({"scales": None}, "scales are None; a sequence is needed"),
        ({"scales": [1]}, "2 or more, all different, are needed"),
        ({"scales": [1, 1, 3]}, "all different"),
        ({"scales": [1, 3], "fit": "polynomial"}, "3 or more"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ZeroNoiseExtrapolation(Statevector(), **options)


@pytest.mark.parametrize("fit", ["linear", "polynomial", "exponential"])
def test_an_empty_batch_and_a_copy(fit):
    backend = ZeroNoiseExtrapolation(Fading(KEEP), fit=fit)
    expected = backend.probs(CIRCUIT, ANGLES)
    assert backend.probs(CIRCUIT, ANGLES[:0]).shape == (0, 8)
    found = backend.expval_with_error(CIRCUIT, ANGLES[:0], OBSERVABLES)
    assert found.value.shape == found.deviation.shape == (0, 3)
    assert torch.equal(pickle.loads(pickle.dumps(backend)).probs(CIRCUIT, ANGLES), expected)


def test_bad_input():
    backend = ZeroNoiseExtrapolation(Statevector(), scales=(1, 1.2, 1.4))
    with pytest.raises(ValueError, match=r"a circuit of 1 gates is folded to the scales \[1.0, 1.0, 1.0\]; 2 or more"):
        backend.probs(Circuit(1, [Gate("H", 0)]), torch.zeros(0))
    with pytest.raises(ValueError, match="angles have shape"):
        backend.probs(CIRCUIT, torch.zeros(2))
    with pytest.raises(ValueError, match="is out of range"):
        backend.expval(CIRCUIT, ANGLES, ["Z7"])
    with pytest.raises(ValueError, match="shots is 0"):
        backend.sample(CIRCUIT, ANGLES, 0)
    for scale in (0.5, math.nan):
        with pytest.raises(ValueError, match="a number of at least 1"):
            fold(CIRCUIT, scale)
    with pytest.raises(ValueError, match="'global' or 'gates' is needed"):
        fold(CIRCUIT, 3, "all")
