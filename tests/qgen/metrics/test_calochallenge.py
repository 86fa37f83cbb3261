"""The CaloChallenge's separation powers against its own code, and what they leave out.

``RECORDED`` was made with the challenge's HighLevelFeatures.py and the functions ``plot_...`` of its
evaluate_plotting_helper.py (github.com/CaloChallenge/homepage at 9b41df7), in mode "hist-chi", on the binnings and
showers of this file: true ones ``showers(1, response=0.97, slope=0.10)``, generated ones ``showers(2, response=1.02,
slope=0.12)``, voxels below the threshold (1 MeV for photons, 0.5e-3 / 0.033 MeV for electrons) set to 0 first as its
evaluate.py does.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from qgen.data import CalorimeterDataset, Feature, load_binning, load_calorimeter
from qgen.data.geometry import Geometry
from qgen.data.voxels import shower_features
from qgen.metrics import calochallenge_dropped, calochallenge_separation, evaluate
from qgen.metrics.columns import Columns

BINNINGS = {
    "photon": """<Bins><Bin name="photon">
        <Layer id="0" r_edges="0,5,10,30" n_bin_alpha="1"/>
        <Layer id="1" r_edges="0,20,50,90" n_bin_alpha="4"/>
        <Layer id="2" r_edges="0" n_bin_alpha="1"/>
        <Layer id="3" r_edges="0,100,400" n_bin_alpha="2"/>
    </Bin></Bins>""",
    "electron": """<Bins><Bin name="electron">
        <Layer id="0" r_edges="0,4.65,9.3,13.95" n_bin_alpha="8"/>
        <Layer id="1" r_edges="0,4.65,9.3,13.95" n_bin_alpha="8"/>
    </Bin></Bins>""",
}

RECORDED = {
    "photon": {
        "response": 0.06465271125,
        "energy_layer_0": 0.01137605614,
        "energy_layer_1": 0.01027860858,
        "energy_layer_3": 0.01056177254,
        "centre_x_layer_1": 0.009627008786,
        "centre_x_layer_3": 0,
        "centre_y_layer_1": 0.01338874117,
        "centre_y_layer_3": 0.0423237016,
        "width_x_layer_1": 0.009273579563,
        "width_x_layer_3": 0,
        "width_y_layer_1": 0.01201399452,
        "width_y_layer_3": 0.03898859162,
        "sparsity_layer_0": 0.0003977844215,
        "sparsity_layer_1": 0.003189211463,
        "sparsity_layer_3": 0.0001729527915,
        "centre_r_layer_0": 0.001666635044,
        "centre_r_layer_1": 0.002642388186,
        "centre_r_layer_3": 0.01176164434,
        "width_r_layer_0": 2.740964343e-07,
        "width_r_layer_1": 0.0008659690063,
        "width_r_layer_3": 0.00383112327,
        "response at 256 MeV": 0.1185710853,
        "response at 512 MeV": 0.1248939598,
        "response at 1024 MeV": 0.1029386792,
        "response at 2048 MeV": 0.1434237385,
        "response at 4096 MeV": 0.1131694795,
        "response at 8192 MeV": 0.09912340329,
        "response at 16384 MeV": 0.08849314446,
        "response at 32768 MeV": 0.09774611311,
        "response at 65536 MeV": 0.1380494844,
        "response at 131072 MeV": 0.07781328165,
        "response at 262144 MeV": 0.0712983547,
        "response at 524288 MeV": 0.1787073389,
        "response at 1.04858e+06 MeV": 0.08134004315,
        "response at 2.09715e+06 MeV": 0.1231837287,
        "response at 4.1943e+06 MeV": 0.07581029195,
        "voxel_energy": 0.001222480935,
    },
    "electron": {
        "response": 0.07456926853,
        "energy_layer_0": 0.006961543098,
        "energy_layer_1": 0.02768408854,
        "centre_x_layer_0": 0.007582056668,
        "centre_x_layer_1": 0.01411750187,
        "centre_y_layer_0": 0.01379829365,
        "centre_y_layer_1": 0.01166501299,
        "width_x_layer_0": 0.004958393735,
        "width_x_layer_1": 0.004886077118,
        "width_y_layer_0": 0.01707572238,
        "width_y_layer_1": 0.01224766371,
        "sparsity_layer_0": 0.003252051081,
        "sparsity_layer_1": 0.004638684722,
        "centre_r_layer_0": 0.009849905883,
        "centre_r_layer_1": 0.003664013539,
        "width_r_layer_0": 0.003546600196,
        "width_r_layer_1": 0.003224223228,
        "voxel_energy": 0.006240289465,
    },
}


def showers(particle: str, folder: Path, seed: int, response: float, slope: float, n: int = 2000) -> CalorimeterDataset:
    path = folder / f"{particle}.xml"
    path.write_text(BINNINGS[particle])
    geometry = Geometry.of_binning(load_binning(path))
    voxels = geometry.n_pixels
    rng = np.random.RandomState(seed)  # whose numbers are the same in every version of numpy
    energy = 2.0 ** rng.randint(8, 23, (n, 1)) if particle == "photon" else 10 ** rng.uniform(3, 6, (n, 1))
    shares = rng.exponential(1.0, (n, voxels)) * np.exp(-slope * np.arange(voxels))
    shares *= rng.uniform(size=(n, voxels)) < 0.6
    total = energy * response * (1 + 0.1 * rng.standard_normal((n, 1)))
    energies = np.abs(total) * shares / (shares.sum(1, keepdims=True) + 1e-300)
    return CalorimeterDataset(
        samples=torch.from_numpy(energies),
        features=tuple(Feature(f"voxel_{i}", "MeV") for i in range(voxels)),
        conditions=torch.from_numpy(energy),
        condition_features=(Feature("incident_energy", "MeV"),),
        geometry=geometry,
    )


def values(metric, truth: CalorimeterDataset, generated: CalorimeterDataset, **options) -> dict[str, float]:
    built = metric.build(truth, generated, 0, **options)
    ones = (torch.ones(len(x), dtype=torch.float64) for x in (truth, generated))
    return dict(zip(built.names, built.estimator(*ones).tolist(), strict=True))


@pytest.fixture(params=["photon", "electron"])
def pair(request, tmp_path: Path) -> tuple[str, CalorimeterDataset, CalorimeterDataset]:
    made = (showers(request.param, tmp_path, *of) for of in ((1, 0.97, 0.10), (2, 1.02, 0.12)))
    return request.param, *made


def test_separations_are_those_of_the_challenges_code(pair) -> None:
    particle, truth, generated = pair
    assert values(calochallenge_separation, truth, generated) == pytest.approx(RECORDED[particle], rel=1e-8, abs=1e-12)


def test_dropped_shares_are_those_outside_the_histograms(pair) -> None:
    particle, truth, generated = pair
    threshold = 1.0 if particle == "photon" else 0.5e-3 / 0.033
    found = values(calochallenge_dropped, truth, generated)
    cells = torch.where(generated.samples >= threshold, generated.samples, 0.0)
    response = cells.sum(1) / generated.incident_energy
    assert found["response"] == pytest.approx(((response < 0.5) | (response > 1.5)).double().mean().item())
    largest = truth.samples.max()
    assert found["voxel_energy"] == pytest.approx(((cells < threshold) | (cells > largest)).double().mean().item())
    assert found["sparsity_layer_0"] == 0
    if particle == "photon":
        high = generated.incident_energy == 2.0**22
        inside = (response[high] >= 0.9) & (response[high] <= 1.1)
        assert found["response at 4.1943e+06 MeV"] == pytest.approx(1 - inside.double().mean().item())


def test_the_table_shows_what_both_samples_drop(tmp_path: Path) -> None:
    truth, reference = (showers("electron", tmp_path, seed, 0.6, 0.1) for seed in (1, 3))
    shifted = showers("electron", tmp_path, 2, 0.5, 0.1)
    row = evaluate(truth, shifted, reference=reference, metrics=["calochallenge_dropped"])[
        "calochallenge_dropped/response"
    ]
    outside = [(x.samples.sum(1) / x.incident_energy < 0.5).double().mean().item() for x in (shifted, reference)]
    assert row.value.value == pytest.approx(outside[0], abs=2e-3)
    assert row.floor.value == pytest.approx(outside[1], abs=2e-3)


def test_out_of_range_mass_drops_out_and_the_rest_is_renormalised(tmp_path: Path) -> None:
    truth = showers("electron", tmp_path, 1, 1.0, 0.1)
    half = truth.samples.clone()
    half[::2] *= 100  # their response is beyond 1.5, the others are unchanged
    found = truth.with_samples(half)
    kept = truth.take(range(1, len(truth), 2))
    seen = values(calochallenge_separation, truth, found)["response"]
    assert seen == pytest.approx(values(calochallenge_separation, truth, kept)["response"])
    assert values(calochallenge_dropped, truth, found)["response"] == pytest.approx(0.5)


def test_regular_grids_follow_the_same_definitions() -> None:
    data = load_calorimeter(grid=(5, 5, 5), max_events=400)
    truth, generated = data.take(range(200)), data.take(range(200, 400))
    least, fraction = 0.5e-3, (truth.samples.sum(1) / truth.incident_energy).mean().item()
    found = values(calochallenge_separation, truth, generated)

    def separation(a: torch.Tensor, b: torch.Tensor, edges: np.ndarray) -> float:
        p, q = (np.histogram(x.numpy(), edges, density=True)[0] * np.diff(edges) for x in (a, b))
        return 0.5 * np.sum((p - q) ** 2 / (p + q + 1e-16))

    layers, responses, centres, widths = [], [], [], []
    for x in (truth, generated):
        image = torch.where(x.images >= least, x.images, 0.0) / fraction
        layers.append(image[:, 2].sum((1, 2)))
        responses.append(image.sum((1, 2, 3)) / x.incident_energy)
        profile, y = image[:, 2].sum(1), torch.from_numpy(x.geometry.centres("y"))
        mean = profile @ y / profile.sum(1)
        centres.append(mean)
        widths.append(((profile * (y - mean[:, None]) ** 2).sum(1) / profile.sum(1)).sqrt())
    top = layers[0].max().item()
    expected = {
        "response": separation(*responses, np.linspace(0.5, 1.5, 101)),
        "energy_layer_2": separation(*layers, np.logspace(np.log10(least / fraction), np.log10(top), 40)),
        "centre_y_layer_2": separation(*centres, np.linspace(-62.5, 62.5, 101)),
        "width_y_layer_2": separation(*widths, np.linspace(0, 62.5, 101)),
    }
    # by rounding, truth's largest layer may lie on either side of the last edge: 1/200 of the events
    assert found["energy_layer_2"] == pytest.approx(expected.pop("energy_layer_2"), abs=2e-3)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_features_exist_along_the_axes_that_there_are() -> None:
    def names(**options) -> set[str]:
        features, _ = shower_features(load_calorimeter(max_events=20, energy_window=(10e3, 12e3), **options))
        return {f.name for f in features}

    assert names(grid=(2,)) == {"response", *(f"{q}_layer_{i}" for q in ("energy", "sparsity") for i in (0, 1))}
    assert "centre_r_layer_0" in names(grid=(4, 4))
    assert "width_x_layer_1" in names(grid=(2, 5), axes=("layer", "x"))
    assert "centre_r_layer_1" not in names(grid=(2, 5), axes=("layer", "x"))


def test_layers_of_any_order_of_axes_agree() -> None:
    data = load_calorimeter(grid=(3, 4, 5), max_events=30)
    order = [1, 2, 0]  # x, y, layer
    turned = CalorimeterDataset(
        samples=data.images.permute(0, *(i + 1 for i in order)).flatten(1),
        features=data.features,
        conditions=data.conditions,
        condition_features=data.condition_features,
        geometry=Geometry(
            *(tuple(part[i] for i in order) for part in (data.geometry.axes, data.geometry.edges, data.geometry.units))
        ),
    )
    first, second = shower_features(data), shower_features(turned)
    assert first[0] == second[0]
    torch.testing.assert_close(first[1], second[1])


def test_empty_and_constant_showers_have_scores(tmp_path: Path) -> None:
    truth = showers("photon", tmp_path, 1, 1.0, 0.1, n=60)
    empty = truth.with_samples(torch.zeros_like(truth.samples))
    for a, b in ((truth, empty), (empty, truth), (empty, empty)):
        for metric in (calochallenge_separation, calochallenge_dropped):
            found = metric.results(Columns(a, "events"), Columns(b, "events"), n_bootstrap=4, seed=0)
            assert all(math.isfinite(r.value) and math.isfinite(r.uncertainty) for r in found.values())
    assert values(calochallenge_separation, truth, empty)["response"] == pytest.approx(1)
    assert values(calochallenge_separation, empty, empty)["energy_layer_1"] == 0


def test_whole_weights_are_repeated_events(tmp_path: Path) -> None:
    truth, generated = (showers("photon", tmp_path, seed, 1.0, 0.1, n=80) for seed in (1, 2))
    weights = torch.arange(80) % 3
    repeated = generated.take(torch.arange(80).repeat_interleave(weights))
    for metric in (calochallenge_separation, calochallenge_dropped):
        by_weight = metric.build(truth, generated, 0).estimator(torch.ones(80).double(), weights.double())
        by_event = metric.build(truth, repeated, 0).estimator(*(torch.ones(len(x)).double() for x in (truth, repeated)))
        torch.testing.assert_close(by_weight, by_event)


def test_wrong_response_and_width_are_seen_where_they_are(tmp_path: Path) -> None:
    data = load_calorimeter(grid=(5, 5, 5), max_events=3000)
    third = [data.take(range(i, 3000, 3)) for i in range(3)]
    shifted = third[2].with_samples(third[2].samples * 1.05)
    found = evaluate(
        third[0], {"good": third[2], "shifted": shifted}, reference=third[1], metrics=["calochallenge_separation"]
    )
    name = "calochallenge_separation/response"
    assert abs(found.of("good")[name].pull) < 3
    assert found.of("shifted")[name].pull > 5
    assert abs(found.of("shifted")["calochallenge_separation/width_x_layer_1"].pull) < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1.0}, r"threshold is -1.0; it must be finite and not negative"),
        ({"sampling_fraction": math.inf}, r"sampling_fraction is inf; it must be finite and not negative"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    truth = showers("photon", tmp_path, 1, 1.0, 0.1, n=30)
    with pytest.raises(ValueError, match=message):
        calochallenge_separation(truth, truth, **options)


def test_plain_tables_are_refused() -> None:
    table = torch.rand(30, 3)
    with pytest.raises(ValueError, match=r"calochallenge_separation needs calorimeter images"):
        calochallenge_separation(table, table)
