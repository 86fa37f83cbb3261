"""FPD and KPD against jetnet, golden values and closed forms.

Recorded values are those of ``jetnet/evaluation/gen_metrics.py`` at commit 6ca12b7e of github.com/jet-net/JetNet: its
functions ``fpd(a, b, min_samples=800, max_samples=2000)`` and ``kpd(a, b, batch_size=200)``, seed 42, on
``jets(1, 2000, 0.0)`` and ``jets(2, 2000, shift)`` below, with numpy 2 and scipy 1.17 (numba's decorators and
``sqrtm``'s argument ``disp`` taken away). ``MEANS`` is what its ``fpd`` hands to ``curve_fit``, ``BATCHES`` what its
``kpd`` takes the median of.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize
from sklearn.metrics.pairwise import polynomial_kernel

from qgen.data import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.metrics import evaluate, fpd, frechet_distance, kpd
from qgen.metrics.frechet import draw_sizes, extrapolate, frechet_draws, kernel_draws

MEANS = {
    0.0: [
        0.000726861055101, 0.000801025534508, 0.000709672152258, 0.000646143174803, 0.000564383351245,
        0.000586596996251, 0.00043350963645, 0.000296306505216, 0.000356136001438, 0.000269963995514,
    ],
    0.02: [
        0.000793501537237, 0.000896695938399, 0.000828959628196, 0.000773123784242, 0.000701606065253,
        0.000710901097931, 0.000671709098668, 0.000466363191134, 0.000538341110429, 0.000427870297028,
    ],
    0.2: [
        0.00942876224976, 0.00983387100131, 0.00997231613201, 0.0100032629941, 0.0100164411276,
        0.00987052097827, 0.0108982667587, 0.010069250639, 0.0102507848449, 0.00991121517685,
    ],
}  # fmt: skip
FPD = {
    0.0: (4.851244185033682e-06, 7.618442074613224e-05),
    0.02: (0.0002059953994073402, 7.6502623430309e-05),
    0.2: (0.010025412558015537, 0.0004734330168655124),
}
BATCHES = {
    0.02: [
        -0.002144844938, 0.001376658117, -0.0006638327503, -0.0004483238256, -0.001455756662,
        -0.0007981992625, -0.00126200363, -0.001644547102, 0.002498591692, -0.00205423776,
    ],
    0.2: [
        0.01311644073, 0.008542042419, 0.006810824574, 0.01904065009, 0.01577064222,
        0.009317223496, 0.01743382918, 0.008813742214, 0.02412965221, 0.009840900082,
    ],
}  # fmt: skip
KPD = {0.02: (-0.0010301014463107716, 0.0011961658929539834), 0.2: (0.011478670405853375, 0.0048127825885685965)}


def jets(seed: int, n: int, shift: float) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    x[:, 2] = 50 * np.exp(0.3 * x[:, 2])
    return torch.from_numpy(x * [1, 2, 1 + shift] + shift)


def normalised(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    truth, generated = jets(1, 2000, 0.0), jets(2, 2000, shift)
    return truth / truth.abs().amax(0), generated / truth.abs().amax(0)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shift", MEANS)
def test_the_same_draws_give_the_distances_and_the_line_of_jetnet(shift: float) -> None:
    sizes = draw_sizes(2000)
    means = frechet_draws(*normalised(shift), np.random.default_rng(42), sizes=sizes).mean(1).tolist()
    assert means == pytest.approx(MEANS[shift], rel=1e-6)
    value, error = extrapolate(sizes, means)
    # curve_fit stops short of the least squares, by 3e-5 even between samples that are all zeros
    assert value == pytest.approx(FPD[shift][0], abs=5e-5)
    assert error == pytest.approx(FPD[shift][1], rel=0.02)


@pytest.mark.parametrize("shift", BATCHES)
def test_the_same_draws_give_the_batches_of_jetnet(shift: float) -> None:
    rngs = [np.random.default_rng(42 + 1000 * i) for i in range(10)]
    draws = kernel_draws(*normalised(shift), rngs, size=200)
    assert draws.tolist() == pytest.approx(BATCHES[shift], rel=1e-7)
    assert float(np.median(draws)) == pytest.approx(KPD[shift][0], rel=1e-9)


@pytest.mark.parametrize("shift", [0.02, 0.2])
def test_own_draws_agree_with_jetnet_within_the_uncertainty(shift: float) -> None:
    truth, generated = jets(1, 2000, 0.0), jets(2, 2000, shift)
    assert fpd(truth, generated).value == pytest.approx(FPD[shift][0], abs=3 * FPD[shift][1])
    found = kpd(truth, generated)
    assert found.value == pytest.approx(KPD[shift][0], abs=2 * KPD[shift][1])
    assert KPD[shift][1] / 3 < found.uncertainty < 3 * KPD[shift][1]


def test_with_enough_events_sizes_are_the_published_ones() -> None:
    sizes = draw_sizes(50_000)
    np.testing.assert_array_equal(sizes, (1 / np.linspace(1 / 20_000, 1 / 50_000, 10)).astype("int32"))
    assert draw_sizes(1000)[0] == 400
    # jetnet's fpd of jets(1, 50_000, 0.0) and jets(2, 50_000, 0.2) with its defaults
    found = fpd(jets(1, 50_000, 0.0), jets(2, 50_000, 0.2))
    assert found.value == pytest.approx(0.006449343930831434, abs=4 * 7.507160136915552e-05)


def test_golden_values() -> None:
    zeros, twos = torch.zeros(2000, 2), torch.full((2000, 2), 2.0)
    few = {"largest": 2000, "n_bootstrap": 2}
    assert fpd(zeros, zeros, **few).value == pytest.approx(0, abs=1e-12)
    assert fpd(twos, zeros, **few).value == pytest.approx(2, rel=1e-9)
    assert fpd(zeros, zeros, normalise=False, **few).value == pytest.approx(0, abs=1e-12)
    assert fpd(twos, zeros, normalise=False, **few).value == pytest.approx(8, rel=1e-9)
    for batch in (50, 200):
        assert kpd(zeros, zeros, batch=batch).value == pytest.approx(0, abs=1e-9)
        assert kpd(twos, zeros, batch=batch).value == pytest.approx(15, rel=1e-9)
    assert kpd(twos, zeros, batch=50, normalise=False).value == pytest.approx(624, rel=1e-9)


@given(st.integers(0, 2**31), st.integers(1, 5), st.booleans())
@settings(max_examples=20, deadline=None)
def test_distance_is_that_with_scipys_root_also_of_singular_covariances(seed: int, d: int, singular: bool) -> None:
    a, b = normal(seed, 30, d), normal(seed + 1, 20, d) @ normal(seed + 2, d, d) + 0.3
    if singular:
        a = torch.cat([a, a.sum(1, keepdim=True), torch.ones(len(a), 1)], 1)
        b = torch.cat([b, b[:, :1], b[:, :1]], 1)
    first, second = ((x.mean(0), x.T.cov().reshape(x.shape[1], -1)) for x in (a, b))
    found = frechet_distance(*first, *second).item()
    # of a singular product, rounding of the eigenvalues comes in with its root
    values = linalg.eigvals((first[1] @ second[1]).numpy())
    expected = (first[0] - second[0]).square().sum() + first[1].trace() + second[1].trace()
    expected = float(expected) - 2 * np.sqrt(np.clip(values.real, 0, None)).sum()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-5)
    assert frechet_distance(*second, *first).item() == pytest.approx(found, rel=1e-6, abs=1e-5)
    assert abs(frechet_distance(*first, *first).item()) < 1e-6
    if not singular:
        root = linalg.sqrtm((first[1] @ second[1]).numpy())
        assert found == pytest.approx(expected, rel=1e-6)
        assert np.trace(root).real == pytest.approx(np.sqrt(np.clip(values.real, 0, None)).sum(), rel=1e-6)


def test_distance_of_gaussians_in_one_dimension_is_the_closed_form() -> None:
    truth, generated = normal(0, 20_000, 1), 0.4 + 1.5 * normal(1, 20_000, 1)
    result = fpd(truth, generated, normalise=False)
    assert result.value == pytest.approx(0.4**2 + 0.5**2, abs=4 * result.uncertainty)
    scale = float(truth.abs().max())
    assert fpd(truth, generated).value == pytest.approx(0.41 / scale**2, abs=4 * result.uncertainty / scale**2)


@given(st.lists(st.floats(-1, 1), min_size=10, max_size=10), st.integers(20, 50_000))
@settings(max_examples=50, deadline=None)
def test_the_line_is_scipys_bounded_least_squares(means: list[float], largest: int) -> None:
    x = 1 / np.array(draw_sizes(largest))
    value, _ = extrapolate(draw_sizes(largest), means)
    design = np.stack([np.ones(10), x / x[0]], 1)
    found = optimize.lsq_linear(design, means, bounds=(0, np.inf), method="bvls")
    assert value == pytest.approx(found.x[0], abs=1e-9)


def test_the_error_of_the_line_is_curve_fits() -> None:
    sizes = draw_sizes(1000)
    means = 0.3 + 40 / np.array(sizes) + 0.01 * normal(0, 10).numpy()
    value, error = extrapolate(sizes, means.tolist())
    found, covariance = optimize.curve_fit(lambda x, a, b: a + b * x, 1 / np.array(sizes), means)
    assert (value, error) == (pytest.approx(found[0], rel=1e-5), pytest.approx(covariance[0, 0] ** 0.5, rel=1e-5))


def test_kernel_is_scikit_learns() -> None:
    a, b = normal(0, 300, 4), normal(1, 200, 4) + 0.5
    rng = np.random.default_rng(7)
    i, j = rng.choice(300, 40), rng.choice(200, 40)
    x, y = a.numpy()[i], b.numpy()[j]
    xx, yy, xy = (polynomial_kernel(*pair, degree=4) for pair in ((x, x), (y, y), (x, y)))
    expected = sum((k.sum() - np.trace(k)) / (40 * 39) for k in (xx, yy)) - 2 * xy.mean()
    assert kernel_draws(a, b, [np.random.default_rng(7)], size=40).item() == pytest.approx(expected, rel=1e-10)


def between_truths(metric, n: int, repeats: int, **options: bool) -> np.ndarray:
    ones = torch.ones(n, dtype=torch.float64)
    pairs = ((normal(2 * s, n, 4), normal(2 * s + 1, n, 4)) for s in range(repeats))
    return np.array([metric.build(*pair, s, (ones, ones), **options).value for s, pair in enumerate(pairs)])


def test_bias_of_fpd_between_samples_of_truth_falls_as_one_over_n() -> None:
    """The draws with replacement leave the bias of the samples that they are drawn from."""
    assert fpd.bias == 1
    # the greatest magnitude grows with n as well, so without it
    small, large = (between_truths(fpd, n, 25, normalise=False).mean() for n in (200, 800))
    assert small / large == pytest.approx(4, rel=0.4)


def test_bias_of_kpd_is_small_beside_its_fluctuation() -> None:
    assert kpd.bias == 0
    for n in (200, 800):
        found = between_truths(kpd, n, 150)
        assert abs(found.mean()) < 0.3 * found.std()


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_uncertainty_covers_the_spread_between_samples(shift: float) -> None:
    """The error of the line alone is a third of it."""
    found = [fpd(normal(2 * s, 1000, 4), normal(2 * s + 1, 1000, 4) + shift, seed=s) for s in range(20)]
    spread = np.std([f.value for f in found])
    assert 0.7 < np.mean([f.uncertainty for f in found]) / spread < 2
    found = [kpd(normal(2 * s, 1000, 4), normal(2 * s + 1, 1000, 4) + shift, seed=s) for s in range(20)]
    assert np.mean([f.uncertainty for f in found]) > np.std([f.value for f in found])


@pytest.mark.parametrize("metric", [fpd, kpd])
def test_weights_count_events(metric) -> None:
    truth, generated = normal(0, 3000, 2), normal(1, 3000, 2)
    features = (Feature("a"), Feature("b"))
    right = generated[:, 0] > 0
    doubled = Dataset(generated, features, weights=1 + 2 * right.double())
    repeated = torch.cat([generated, generated[right], generated[right]])
    as_weights, as_events = (metric(Dataset(truth, features), x) for x in (doubled, Dataset(repeated, features)))
    assert as_weights.value == pytest.approx(as_events.value, abs=2 * as_weights.uncertainty)
    assert as_weights.value > metric(truth, generated).value + 2 * as_weights.uncertainty
    # events of weight +1 and -1 at the same place cancel
    wrong = generated[:500] + 3
    cancelled = Dataset(torch.cat([generated, wrong, wrong]), features, weights=torch.ones(4000).double())
    cancelled.weights[3500:] = -1
    rest = metric(Dataset(truth, features), cancelled)
    assert abs(rest.value) < 3 * rest.uncertainty


def test_showers_with_a_shifted_response_are_seen() -> None:
    data = load_calorimeter(grid=(4, 4))
    test, train = data.test, data.train
    table = evaluate(
        test,
        {"same": data.validation, "shifted": data.validation.with_samples(1.1 * data.validation.samples)},
        reference=train,
        metrics=["fpd", "kpd"],
    )
    for name in ("fpd", "kpd"):
        assert abs(table.of("same")[name].pull) < 3
    assert table.of("shifted")["fpd"].pull > 3
    values = [fpd(test, train.with_samples(f * train.samples)).value for f in (1.0, 1.05, 1.1, 1.2)]
    assert values == sorted(values)


def test_constant_columns_and_collapsed_generators_have_a_score() -> None:
    truth = torch.cat([normal(0, 100, 2), torch.zeros(100, 1)], 1)
    collapsed = torch.ones(100, 3, dtype=torch.float64)
    for metric in (fpd, kpd):
        assert metric(truth, collapsed).value > metric(truth, truth).value
        assert metric(collapsed, collapsed).value == pytest.approx(0, abs=1e-9)


def test_bad_options_and_bad_values() -> None:
    a, b = normal(0, 50, 2), normal(1, 50, 2)
    with pytest.raises(ValueError, match="largest is 3; a whole number of at least 20 events is needed"):
        fpd(a, b, largest=3)
    with pytest.raises(ValueError, match="batch is 1; a whole number of at least 2 events is needed"):
        kpd(a, b, batch=1)
    with pytest.raises(ValueError, match="generated values lie 1e.70 or more times truth's greatest magnitude"):
        fpd(1e-20 * a, 1e60 * b)
    with pytest.raises(ValueError, match="at most 100 columns"):
        fpd(normal(0, 50, 101), normal(1, 50, 101))
