"""Metrics of showers: by hand on small images, on Geant4 showers each fault is seen by the metric made for it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from qgen.data import Binning, CalorimeterDataset, Feature, load_calorimeter
from qgen.data.binning import BinnedLayer
from qgen.data.geometry import Geometry
from qgen.metrics import (
    METRICS,
    energy_resolution,
    energy_response,
    evaluate,
    lateral_profile,
    lateral_shape,
    layer_correlation,
    longitudinal_profile,
    shower_depth,
    sparsity,
    voxel_spectrum,
)
from qgen.metrics.columns import Columns

SHOWERS = (
    "energy_resolution",
    "energy_response",
    "lateral_profile",
    "lateral_shape",
    "layer_correlation",
    "longitudinal_profile",
    "shower_depth",
    "sparsity",
    "voxel_spectrum",
)


def images(values: np.ndarray | torch.Tensor, energy: float | torch.Tensor = 100.0, **options) -> CalorimeterDataset:
    """Images of a grid of layers, x and y."""
    values = torch.as_tensor(values, dtype=torch.float64)
    geometry = options.pop("geometry", None) or Geometry.cells(
        **dict(zip(("layer", "x", "y"), values.shape[1:], strict=True))
    )
    n = len(values)
    conditions = torch.full((n, 1), energy).double() if isinstance(energy, float) else energy.double()[:, None]
    return CalorimeterDataset(
        samples=values.flatten(1),
        features=tuple(Feature(f"voxel_{i}", "MeV") for i in range(geometry.n_pixels)),
        conditions=conditions,
        condition_features=(Feature("incident_energy", "MeV"),),
        geometry=geometry,
        **options,
    )


def random_images(seed: int, n: int = 200, shape: tuple[int, ...] = (3, 4, 5)) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return rng.exponential(1.0, (n, *shape)) * (rng.uniform(size=(n, *shape)) < 0.6)


def values(metric, truth, generated, **options) -> dict[str, float] | float:
    built = metric.build(truth, generated, 0, **options)
    weights = [torch.ones(len(x), dtype=torch.float64) for x in (truth, generated)]
    if not hasattr(built, "names"):
        return built(*weights).item()
    return dict(zip(built.names, built.estimator(*weights).flatten().tolist(), strict=True))


def test_response_and_resolution_are_those_of_numpy() -> None:
    energy = torch.from_numpy(np.random.RandomState(5).uniform(10, 100, 200))
    a, b = images(random_images(0), energy), images(1.2 * random_images(1), energy.flip(0))
    edges = np.quantile(energy.numpy(), [0, 0.25, 0.5, 0.75, 1])
    found = values(energy_response, a, b, bins=4), values(energy_resolution, a, b, bins=4)
    for i, (low, high) in enumerate(pairwise(edges)):
        mean, resolution = [], []
        for x in (a, b):
            e = x.incident_energy.numpy()
            response = (x.samples.sum(1).numpy() / e)[(e >= low) & ((e < high) | ((i == 3) & (e <= high)))]
            mean.append(response.mean())
            resolution.append(response.std() / response.mean())
        assert list(found[0].values())[i] == pytest.approx(abs(mean[1] / mean[0] - 1))
        assert list(found[1].values())[i] == pytest.approx(abs(resolution[1] / resolution[0] - 1))


def test_few_incident_energies_have_a_bin_each() -> None:
    energy = torch.tensor([256.0, 512.0]).repeat(100)
    data = images(random_images(0), energy)
    assert list(values(energy_response, data, data)) == ["incident_energy 256 MeV", "incident_energy 512 MeV"]


def test_depth_is_counted_in_layers() -> None:
    profile = np.zeros((20, 4, 1, 1))
    profile[:, 1], profile[:, 2], profile[:, 3] = 1.0, 97.0, 2.0
    deeper = np.roll(profile, 1, axis=1)  # 2, 0, 1, 97
    assert values(shower_depth, images(profile), images(deeper), start_share=0.015) == pytest.approx(
        {"start": 2.0, "maximum": 1.0, "centre": 0.92, "width": 0.4302 - 0.1729}, abs=2e-3
    )
    assert values(shower_depth, images(profile), images(0 * profile))["maximum"] == pytest.approx(
        1.5
    )  # from 2.5 to the back
    geometry = Geometry(("layer",), ((0.0, 5.0, 10.0, 20.0, 30.0),), ("layers",))
    thick = [images(x[..., 0, 0], geometry=geometry) for x in (profile, deeper)]
    assert values(shower_depth, *thick)["maximum"] == pytest.approx(10.0)


def test_a_binnings_layers_are_its_depth() -> None:
    binning = Binning(tuple(BinnedLayer(number, (0.0, 1.0, 2.0), 2) for number in (0, 3, 12)), "pion")
    a = torch.zeros(20, 12).double()
    b = a.clone()
    a[:, 1], b[:, 10] = 5.0, 5.0  # x = 0, y = -1.5 in layer 0, and y = 0.5 in layer 12
    pair = [images(x, geometry=Geometry.of_binning(binning)) for x in (a, b)]
    assert values(shower_depth, *pair)["maximum"] == pytest.approx(2.0)
    assert list(values(longitudinal_profile, *pair)) == ["layer_0", "layer_3", "layer_12"]
    assert values(lateral_profile, *pair) == pytest.approx({"x": 0.0, "y": 1.0, "r": 1.0})


def test_depth_and_sparsity_are_scipys_distances() -> None:
    a, b = random_images(0), random_images(1)[:150] * np.linspace(1, 3, 3)[:, None, None]
    layers = [x.sum((2, 3)) for x in (a, b)]
    most = [x.argmax(1) + 0.5 for x in layers]
    assert values(shower_depth, images(a), images(b))["maximum"] == pytest.approx(stats.wasserstein_distance(*most))
    empty = [(x[:, 1] == 0).mean((1, 2)) for x in (a, b)]
    expected = stats.wasserstein_distance(*empty)
    assert values(sparsity, images(a), images(b))["layer_1"] == pytest.approx(expected)


def test_threshold_of_truth_says_what_is_empty() -> None:
    a, b = random_images(0), random_images(1)
    expected = stats.wasserstein_distance(*[(x[:, 0] < 0.5).mean((1, 2)) for x in (a, b)])
    assert values(sparsity, images(a, threshold=0.5), images(b))["layer_0"] == pytest.approx(expected)


def test_voxel_spectrum_is_that_of_numpys_histogram() -> None:
    a, b = random_images(0), 1.3 * random_images(1)
    low, high = a[a > 0].min(), a.max()
    low = max(low, 1e-6 * high)
    edges = np.concatenate([[-1, 0.5e-9], np.geomspace(low, high, 51), [1e9]])
    edges[-2] = np.nextafter(high, 2 * high)
    p, q = (np.histogram(x, edges)[0] / x.size for x in (a, b))
    expected = 0.5 * np.sum((p - q) ** 2 / np.where(p + q > 0, p + q, 1))
    assert values(voxel_spectrum, images(a), images(b)) == pytest.approx(expected, rel=1e-9)
    assert values(voxel_spectrum, images(a), images(0 * b)) > 0.4


def test_profiles_by_hand() -> None:
    a, b = random_images(0), random_images(1) * np.linspace(1, 2, 4)[None, None, :, None]
    shares = [x / x.sum((1, 2, 3), keepdims=True) for x in (a, b)]
    layers = [x.sum((2, 3)) for x in shares]
    expected = np.abs(layers[1].mean(0) - layers[0].mean(0)) / layers[0].std(0)
    found = values(longitudinal_profile, images(a), images(b))
    assert list(found.values()) == pytest.approx(expected.tolist())
    along_x = [x.sum((1, 3)).mean(0) for x in shares]
    assert values(lateral_profile, images(a), images(b))["x"] == pytest.approx(
        np.abs(along_x[0] - along_x[1]).sum() / 2
    )


def test_positions_beyond_25_are_groups_of_about_equal_energy() -> None:
    a, b = random_images(0, shape=(1, 40, 30)), random_images(1, shape=(1, 40, 30))
    b[:, :, 20:] *= 3
    found = values(lateral_profile, images(a), images(b))
    fine = [(x / x.sum((1, 2, 3), keepdims=True)).sum((1, 3)).mean(0) for x in (a, b)]
    assert found["x"] == pytest.approx(np.abs(fine[0] - fine[1]).sum() / 2, abs=0.02)
    assert found["x"] == pytest.approx(0.25, abs=0.02)
    assert found["y"] < 0.02


def test_correlation_is_numpys() -> None:
    a, b = random_images(0), random_images(1)
    b[:, 1] += 2 * b[:, 0]
    energy = torch.from_numpy(np.random.RandomState(2).uniform(50, 100, 200))
    matrices = [np.corrcoef((x.sum((2, 3)) / energy.numpy()[:, None]).T) for x in (a, b)]
    expected = np.abs(matrices[0] - matrices[1]).sum(1) / 2
    found = values(layer_correlation, images(a, energy), images(b, energy))
    assert list(found.values()) == pytest.approx(expected.tolist())


def test_centres_and_widths_are_weighted_moments() -> None:
    a, b = random_images(0), random_images(1) * np.linspace(1, 3, 4)[None, None, :, None]
    x = np.arange(4) + 0.5
    moments = []
    for showers in (a, b):
        profile = showers.sum((1, 3)) / showers.sum((1, 2, 3))[:, None]
        centre = profile @ x
        moments.append((centre, np.sqrt(profile @ x**2 - centre**2)))
    found = values(lateral_shape, images(a), images(b))
    for i, name in enumerate(("centre_x", "width_x")):
        one, other = (m[i] for m in moments)
        assert found[name] == pytest.approx(stats.wasserstein_distance(one, other) / one.std(), rel=1e-6)
        assert found[f"mean of {name}"] == pytest.approx(abs(one.mean() - other.mean()) / one.std(), rel=1e-6)


@pytest.mark.parametrize("name", SHOWERS)
def test_equal_samples_score_zero_and_whole_weights_are_repeated_events(name: str) -> None:
    metric = METRICS[name]
    truth, generated = images(random_images(0, 60)), images(random_images(1, 60))
    same = values(metric, truth, truth)
    assert max(same.values() if isinstance(same, dict) else [same]) == pytest.approx(0, abs=1e-12)
    weights = torch.arange(60) % 3
    repeated = generated.take(torch.arange(60).repeat_interleave(weights))
    ones = torch.ones(60, dtype=torch.float64)
    built = [metric.build(truth, x, 0) for x in (generated, repeated)]
    one, other = (getattr(x, "estimator", x) for x in built)
    torch.testing.assert_close(one(ones, weights.double()), other(ones, torch.ones(len(repeated)).double()))


@pytest.mark.parametrize("name", SHOWERS)
def test_collapsed_empty_and_constant_showers_have_finite_scores(name: str) -> None:
    good = images(random_images(0, 60))
    collapsed = good.with_samples(good.samples[:1].expand(60, -1))
    empty = good.with_samples(0 * good.samples)
    one_empty = good.with_samples(good.samples * (torch.arange(60) > 0)[:, None])
    for truth, generated in ((good, collapsed), (good, empty), (collapsed, good), (empty, good), (empty, empty)):
        for found in (
            METRICS[name]
            .results(Columns(truth, "events"), Columns(generated, "events"), n_bootstrap=3, seed=0)
            .values()
        ):
            assert math.isfinite(found.value)
            assert found.value >= 0
    assert METRICS[name](good, one_empty).value < METRICS[name](good, empty).value


@pytest.fixture(scope="module")
def geant4() -> tuple[CalorimeterDataset, CalorimeterDataset, CalorimeterDataset]:
    data = load_calorimeter(grid=(5, 5, 5))
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return tuple(data.take(rows) for rows in order[:5400].reshape(3, -1))


def layers_from_other_events(x: CalorimeterDataset) -> torch.Tensor:
    """Each layer's share of the incident energy from an event of about the same energy."""
    order = x.incident_energy.argsort()
    shares = x.images / x.incident_energy[:, None, None, None]
    mixed = torch.empty_like(shares)
    for layer in range(5):
        mixed[order, layer] = shares[order.roll(7 * layer), layer]
    return mixed * x.incident_energy[:, None, None, None]


def noisy(x: CalorimeterDataset) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    lit = torch.rand(x.images.shape, generator=rng, dtype=torch.float64) < 0.05
    return torch.where((x.images == 0) & lit, 0.03, x.images)


FAULTS = {
    "energy scale +2 %": lambda x: 1.02 * x.images,
    "smeared response": lambda x: (
        x.images * (1 + 0.05 * torch.randn(len(x), 1, 1, 1, generator=torch.Generator().manual_seed(0)).double())
    ),
    "one layer too deep": lambda x: x.images.roll(1, 1),
    "shifted along x": lambda x: 0.97 * x.images + 0.03 * x.images.roll(1, 2),
    "wider": lambda x: 0.94 * x.images + 0.03 * (x.images.roll(1, 3) + x.images.roll(-1, 3)),
    "lost correlation": layers_from_other_events,
    "noise in empty voxels": noisy,
}
SEEN = {
    "energy scale +2 %": {"energy_response"},
    "smeared response": {"energy_resolution"},
    "one layer too deep": {"shower_depth", "longitudinal_profile"},
    "shifted along x": {"lateral_profile/x", "lateral_shape/centre_x"},
    "wider": {"lateral_profile/y", "lateral_shape/width_y"},
    "lost correlation": {"layer_correlation", "shower_depth/width"},
    "noise in empty voxels": {"sparsity", "voxel_spectrum"},
}
UNSEEN = {
    "energy scale +2 %": {"energy_resolution", "lateral_profile", "lateral_shape", "longitudinal_profile"},
    "smeared response": {"energy_response", "lateral_profile", "longitudinal_profile", "shower_depth"},
    "one layer too deep": {"energy_response", "energy_resolution", "lateral_profile", "lateral_shape"},
    "shifted along x": {"lateral_profile/y", "longitudinal_profile", "energy_response"},
    "wider": {"lateral_profile/x", "longitudinal_profile", "energy_response"},
    "lost correlation": {"longitudinal_profile", "lateral_profile", "energy_response"},
    "noise in empty voxels": {"longitudinal_profile", "energy_response"},
}


@pytest.fixture(scope="module")
def table(geant4):
    truth, reference, generated = geant4
    faulty = {name: generated.with_samples(fault(generated).flatten(1)) for name, fault in FAULTS.items()}
    return evaluate(truth, {"good": generated, **faulty}, reference=reference, metrics=SHOWERS)


def test_a_perfect_generator_is_at_the_floor(table) -> None:
    assert {row.name: row.pull for row in table.of("good").summary() if abs(row.pull) > 3} == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen_by_what_is_made_for_them(table, fault: str) -> None:
    rows = table.of(fault)
    assert {name: rows[name].pull for name in SEEN[fault] if rows[name].pull < 3} == {}
    assert {name: rows[name].pull for name in UNSEEN[fault] if abs(rows[name].pull) > 3} == {}


@pytest.mark.parametrize("fault", ["energy scale +2 %", "wider", "noise in empty voxels"])
def test_growing_faults_grow(geant4, fault: str) -> None:
    truth, _, generated = geant4
    bad = FAULTS[fault](generated).flatten(1)
    metric, *feature = min(SEEN[fault]).split("/")
    scores = []
    for share in (0.0, 0.5, 1.0, 2.0):
        mixed = generated.with_samples((1 - share) * generated.samples + share * bad)
        found = values(METRICS[metric], truth, mixed)
        scores.append(found[feature[0]] if feature else np.mean(list(found.values())))
    if fault != "noise in empty voxels":  # which are empty or not, whatever is in them
        assert scores == sorted(scores)
    assert scores[-1] > 2 * scores[0]


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("energy_response", {"bins": 0}, r"bins of 'incident_energy': 0; at least 1 is needed"),
        ("shower_depth", {"start_share": 1.0}, r"start_share is 1.0; it must lie between 0 and 1"),
    ],
)
def test_impossible_options_are_refused(metric: str, options: dict, message: str) -> None:
    data = images(random_images(0, 40))
    with pytest.raises(ValueError, match=message):
        METRICS[metric](data, data, **options)


def test_what_a_dataset_lacks_is_said() -> None:
    profile = images(random_images(0, 30).sum((2, 3)), geometry=Geometry.cells(layer=3))
    lateral = images(random_images(0, 30)[:, 0], geometry=Geometry.cells(x=4, y=5))
    for metric, data, lacks in (
        (lateral_profile, profile, "images with an axis x or y"),
        (shower_depth, lateral, "images with at least two layers"),
        (sparsity, torch.rand(30, 3), "calorimeter images"),
    ):
        with pytest.raises(ValueError, match=f"{metric.name} needs {lacks}"):
            metric(data, data)


def test_other_incident_energies_are_refused() -> None:
    truth = images(random_images(0, 40), torch.linspace(10, 100, 40))
    with pytest.raises(
        ValueError, match=r"generated has no event with incident_energy 10 to 55 MeV; conditions must be"
    ):
        energy_response(truth, images(random_images(1, 40), 90.0))


def test_a_generator_of_empty_showers_has_no_resolution() -> None:
    truth = load_calorimeter(grid=(8,), max_events=1000)
    empty = truth.train.with_samples(torch.zeros_like(truth.train.samples))
    assert energy_resolution(truth.test, empty).value == pytest.approx(1)
    assert energy_resolution(empty, empty).value == 0
