"""Cells of the features of events: what the options mean, on images and on tables."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from scipy import stats

from classical_baselines.autoregressive import Autoregressive
from classical_baselines.rbm import BoltzmannMachine
from qgen import fit
from qgen.bits.cells import fit_cells
from qgen.data import CalorimeterDataset, Dataset, Discretiser, gaussian_events, load_calorimeter, muon_events
from qgen.data.binary import blob_events
from qgen.data.transforms import Transform
from qgen.training import MMD, Own


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images() -> CalorimeterDataset:
    return load_calorimeter(grid=(4, 6, 6), max_events=1500)


def cells(
    data: Dataset,
    bits: int = 2,
    edges: str = "quantile",
    code: str = "gray",
    frame: str = "marginals",
    **options: object,
) -> tuple[Discretiser, Transform]:
    return fit_cells(data, bits, edges, 0.0, code, "interleaved", frame, **options)  # type: ignore[arg-type]


def through(data: Dataset, found: tuple[Discretiser, Transform], events: Dataset) -> torch.Tensor:
    """The events to bits and back."""
    discretiser, transform = found
    bits = discretiser.encode(transform(events.samples, events.conditions))
    back = transform.inverse(discretiser.decode(bits, rng()), events.conditions)
    again = discretiser.encode(transform(back, events.conditions))
    assert torch.equal(again, bits)
    return back


@pytest.mark.parametrize("frame", ["features", "marginals"])
@pytest.mark.parametrize("edges", ["quantile", "linear", "learned"])
@pytest.mark.parametrize(("code", "bits", "n_cells"), [("binary", 2, 4), ("gray", 3, 8), ("unary", 3, 4)])
def test_events_keep_their_bits_and_empty_pixels_are_empty(
    images: CalorimeterDataset, frame: str, edges: str, code: str, bits: int, n_cells: int
) -> None:
    found = cells(images, bits, edges, code, frame)
    assert found[0].n_bits == bits * images.n_features
    assert set(found[0].cells) == {n_cells}
    before = images.train.samples
    back = through(images, found, images.train)
    often = (before == 0).double().mean(0) > 0.01
    assert (back[:, often][before[:, often] == 0] == 0).all()
    assert (back[:, often][before[:, often] > 0] > 0).all()
    assert (back >= 0).all()


@pytest.mark.parametrize("edges", ["quantile", "linear", "learned"])
def test_a_draw_follows_the_training_events_of_its_cell(images: CalorimeterDataset, edges: str) -> None:
    train, (discretiser, transform) = images.train, cells(images, 1, edges)
    values = transform(train.samples, train.conditions)
    back = transform.inverse(discretiser.roundtrip(values, rng()), train.conditions)
    fractions, after = train.samples / train.conditions, back / train.conditions
    busy = (train.samples > 0).sum(0) > 500
    p = [
        stats.ks_2samp(x[x > 0].numpy(), y[y > 0].numpy()).pvalue
        for x, y in zip(fractions[:, busy].T, after[:, busy].T, strict=True)
    ]
    assert min(p) > 1e-3 / len(p)
    uniform, plain = cells(images, 1, edges, frame="features")
    poor = plain.inverse(uniform.roundtrip(plain(train.samples, train.conditions), rng()), train.conditions)
    shift, poor_shift = (abs(float(x.sum() / train.samples.sum()) - 1) for x in (back, poor))
    assert shift < 0.03
    assert poor_shift > 0.1


def test_quantile_cells_are_equally_full_and_linear_ones_equally_wide(images: CalorimeterDataset) -> None:
    train = images.train
    pixel = int((train.samples > 0).sum(0).argmax())
    filled = (train.samples[:, pixel] > 0).nonzero().flatten()
    discretiser, transform = cells(images, 2)
    index = discretiser.indices(transform(train.samples, train.conditions))[filled, pixel]
    counts = index.bincount()
    assert counts[counts > 0].max() <= counts[counts > 0].min() + 2
    discretiser, transform = cells(images, 2, "linear")
    inner = discretiser.edges[pixel][None, 1:-1].T.expand(-1, images.n_features)
    widths = transform.inverse(inner, torch.ones(len(inner), 1)).diff(dim=0)[:, pixel]
    assert widths[1:].tolist() == pytest.approx([widths[1].item()] * (len(widths) - 1), rel=1e-6)


def test_learned_cells_lose_least(images: CalorimeterDataset) -> None:
    error = {}
    for edges in ("quantile", "linear", "learned"):
        for frame in ("marginals", "features"):
            found = cells(images, 2, edges, frame=frame)
            back = through(images, found, images.train)
            error[edges, frame] = float((back - images.train.samples).square().sum())
    assert error["learned", "marginals"] < 0.97 * min(error["quantile", "marginals"], error["linear", "marginals"])
    assert error["learned", "features"] < min(error["quantile", "features"], error["linear", "features"])


def test_one_bit_is_the_threshold(images: CalorimeterDataset) -> None:
    limit = 0.4
    train = images.train
    for frame in ("features", "marginals"):
        discretiser, transform = cells(images, 1, frame=frame, threshold=limit)
        bits = discretiser.encode(transform(train.samples, train.conditions))
        often = (train.samples < limit).double().mean(0) > 0.01
        assert torch.equal(bits[:, often] == 1, train.samples[:, often] >= limit)
        back = through(images, (discretiser, transform), train)
        assert ((back == 0) | (back >= limit)).all()
    own = load_calorimeter(grid=(4, 4), max_events=500, threshold=3.0)
    assert cells(own, 1, threshold="calorimeter")[1].spec() == cells(own, 1, threshold=3.0)[1].spec()


@pytest.mark.parametrize("frame", ["features", "marginals"])
def test_the_brightest_pixels_have_bits_and_the_others_are_empty(images: CalorimeterDataset, frame: str) -> None:
    discretiser, transform = found = cells(images, 2, frame=frame, voxels=20)
    bright = torch.tensor(discretiser.bits) > 0
    energy = images.train.samples.sum(0)
    assert bright.sum() == 20
    assert energy[bright].min() >= energy[~bright].max()
    back = through(images, found, images.test)
    assert (back[:, ~bright] == 0).all()
    assert (back[:, bright].sum(0) > 0).all()
    assert transform.log_abs_det(images.test.samples, images.test.conditions).isfinite().all()


def test_rarely_filled_pixels_have_no_bits(images: CalorimeterDataset) -> None:
    occupancy = (images.train.samples > 0).double().mean(0)
    discretiser, _ = cells(images, 1, occupancy=0.3)
    assert torch.equal(torch.tensor(discretiser.bits) > 0, occupancy >= 0.3)
    both, _ = cells(images, 1, occupancy=0.3, voxels=5, threshold=0.1)
    assert both.n_bits == 5


@pytest.mark.parametrize("frame", ["features", "marginals"])
@pytest.mark.parametrize("edges", ["quantile", "linear", "learned"])
def test_tables_and_bits_are_cut_as_images_are(frame: str, edges: str) -> None:
    for data, bits in ((muon_events(n=1000), 3), (gaussian_events(n=1000), 3)):
        discretiser, _ = found = cells(data, bits, edges, frame=frame)
        assert discretiser.n_bits == bits * data.n_features
        back = through(data, found, data.train)
        assert ((back - data.train.samples).abs().mean(0) < data.train.samples.std(0) / 2).all()
    strings = blob_events(n=500)
    assert torch.equal(through(strings, cells(strings, 1, edges, frame=frame), strings.test), strings.test.samples)


def test_a_thousand_pixels_are_quick() -> None:
    data = load_calorimeter(grid=(16, 8, 8), max_events=1000)
    start = time.process_time()
    discretiser, transform = cells(data, 2, "learned")
    values = transform(data.train.samples, data.train.conditions)
    bits = discretiser.encode(values)
    transform.inverse(discretiser.decode(bits, rng()), data.train.conditions)
    assert bits.shape == (len(data.train), discretiser.n_bits)
    assert time.process_time() - start < 15  # 2 s on a quiet core


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": "cubes"}, r"frame is 'cubes'; allowed are 'features', 'gaussian', 'marginals'"),
        ({"edges": "log"}, r"edges is 'log'; allowed are 'quantile', 'linear', 'learned'"),
        ({"edges": "learned", "frame": "gaussian"}, r"edges is 'learned', but frame 'gaussian' has cells of equal"),
        ({"voxels": 3, "frame": "gaussian"}, r"voxels is 3, but frame 'gaussian' cuts directions"),
        ({"voxels": 300}, r"voxels is 300; the images have 144"),
        ({"threshold": 1e9}, r"threshold is 1e\+09 MeV; all pixels of the training images are below it"),
        ({"threshold": "file"}, r"threshold is 'file'; allowed are an energy in MeV and 'calorimeter'"),
        ({"threshold": "calorimeter"}, r"threshold is 'calorimeter', but these images have none; give it in MeV"),
        ({"edges": "learned", "bits": 7}, r"edges is 'learned' with 128 cells .* at most 64"),
    ],
)
def test_impossible_options_are_one_clear_line(
    images: CalorimeterDataset, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        cells(images, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"threshold": 0.5}, {"voxels": 2}, {"occupancy": 0.1}, {"threshold": "calorimeter"}]
)
def test_tables_have_no_empty_pixels(options: dict[str, object]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}, but only the pixels of calorimeter images"):
        cells(muon_events(n=100), **options)  # type: ignore[arg-type]


def test_models_on_a_thermometer_have_no_density_and_no_table() -> None:
    data = load_calorimeter(grid=(3,), max_events=200)
    options: dict[str, Any] = {"bits": 2, "code": "unary", "frame": "marginals", "edges": "learned"}
    model = BoltzmannMachine.for_dataset(data, hidden=2, gibbs_steps=1, **options)
    assert not model.has_log_prob
    fit(model, data, Own(), steps=2, batch_size=20)
    drawn = model.sample(10, data.conditions[:10], generator=rng())
    assert drawn.shape == (10, 3)
    only = r"^code is 'unary', whose bit strings are not all cells; allowed here are binary, gray$"
    with pytest.raises(ValueError, match=only):
        fit(model, data, MMD(), steps=1, batch_size=20)
    with pytest.raises(ValueError, match=only):
        Autoregressive(model.discretiser)
