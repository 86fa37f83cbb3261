"""What is lost on the way to bits: closed cases."""

from __future__ import annotations

import math

import pytest
import torch

from qgen.bits.cells import fit_cells
from qgen.bits.information import information_lost
from qgen.data import CalorimeterDataset, Dataset, Discretiser, Feature, load_calorimeter, muon_events
from qgen.data.geometry import Geometry
from qgen.data.transforms import Identity


def table(values: torch.Tensor) -> Dataset:
    return Dataset(values, tuple(Feature(f"f{i}") for i in range(values.shape[1])))


def layers(samples: torch.Tensor) -> CalorimeterDataset:
    """Images of two layers of two pixels."""
    return CalorimeterDataset(
        samples=samples,
        features=tuple(Feature(f"pixel_{i}", "MeV") for i in range(4)),
        conditions=torch.full((len(samples), 1), 100.0),
        condition_features=(Feature("incident_energy", "MeV"),),
        geometry=Geometry.cells(layer=2, x=2),
    )


@pytest.mark.parametrize("n_cells", [2, 4])
def test_a_uniform_value_misses_by_a_third_of_its_cell(n_cells: int) -> None:
    values = ((torch.arange(40_000) + 0.5) / 40_000).double()[:, None]
    cells = Discretiser([[i / n_cells for i in range(n_cells + 1)]])
    lost = information_lost(table(values), cells, Identity())
    bits = math.log2(n_cells)
    assert (lost.n_bits, lost.with_bits, lost.constant_bits, lost.energy) == (bits, 1, 0, None)
    assert lost.bit_entropy == pytest.approx(bits)
    assert lost.cell_entropy == pytest.approx(bits)
    assert lost.errors[0] == pytest.approx(1 / (3 * n_cells), rel=0.02)
    assert lost.error == pytest.approx(math.sqrt(12) / (3 * n_cells), rel=0.02)


def test_entropies_of_cells_that_are_not_equally_full() -> None:
    values = torch.tensor([0.5] * 4 + [1.5] * 2 + [2.5] + [3.5]).double()[:, None]
    edges = [[0.0, 1.0, 2.0, 3.0, 4.0]]

    def entropy(*p: float) -> float:
        return -sum(x * math.log2(x) for x in p)

    for code, ones in (("binary", (1 / 4, 3 / 8)), ("gray", (1 / 4, 3 / 8)), ("unary", (1 / 2, 1 / 4, 1 / 8))):
        lost = information_lost(table(values), Discretiser(edges, code=code), Identity())  # type: ignore[arg-type]
        assert lost.cell_entropy == pytest.approx(1.75)
        assert lost.bit_entropy == pytest.approx(sum(entropy(p, 1 - p) for p in ones)), code
        assert lost.bit_entropy >= lost.cell_entropy


def test_bits_that_never_change_say_nothing() -> None:
    values = torch.tensor([[0.2, 5.0], [0.7, 5.0]]).double()
    lost = information_lost(table(values), Discretiser([[0.0, 0.5, 1.0, 1.5, 2.0], [4.0, 6.0]]), Identity())
    assert (lost.n_bits, lost.with_bits, lost.constant_bits) == (2, 1, 1)
    assert lost.bit_entropy == pytest.approx(1.0)


def test_energy_without_bits_is_lost_layer_by_layer() -> None:
    samples = torch.tensor([[6.0, 1.0, 2.0, 1.0], [6.0, 1.0, 0.0, 3.0]]).double()
    narrow = [[6.0 - 1e-9, 6.0 + 1e-9], [-1.0, 0.0], [-1.0, 1e-9, 2.0 - 1e-9, 2.0 + 1e-9, 5.0], [-1.0, 0.0]]
    cells = Discretiser(narrow)

    class Clamped(Identity):
        def inverse(self, values: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
            return values.clamp_min(0.0)

    lost = information_lost(layers(samples), cells, Clamped()).energy
    assert lost is not None
    assert lost.without_bits == pytest.approx((12 + 1 + 1 + 1 + 3) / 20)  # a single cell is no bit, empty or not
    assert lost.pixels == pytest.approx(6 / 20, abs=1e-6)
    assert lost.total == pytest.approx(6 / 20, abs=1e-6)
    assert lost.shift == pytest.approx(-6 / 20, abs=1e-6)
    assert lost.layers == pytest.approx((1.0, 2.0), abs=1e-6)
    assert lost.filled == pytest.approx(4 / 8)


def test_more_bits_lose_less_and_fewer_pixels_more() -> None:
    data = load_calorimeter(grid=(4, 4, 4), max_events=1500)
    found = {
        (bits, voxels): information_lost(
            data.test, *fit_cells(data, bits, "learned", 0.0, "gray", "by-feature", "marginals", voxels=voxels)
        )
        for bits in (1, 2, 4)
        for voxels in (16, 64)
    }
    energies = {key: lost.energy for key, lost in found.items() if lost.energy is not None}
    assert [len(energy.layers) for energy in energies.values()] == [4] * 6
    assert energies[1, 64].pixels > 1.4 * energies[2, 64].pixels > 2 * energies[4, 64].pixels
    share = float(data.test.samples.sum(0)[torch.tensor(found[1, 16].errors) > 0].sum())
    assert share == pytest.approx(float(data.test.samples.sum()))
    assert energies[1, 16].without_bits > 0.01 > energies[1, 64].without_bits == 0
    for lost in found.values():
        assert lost.cell_entropy <= lost.bit_entropy <= lost.n_bits


def test_tables_lose_no_energy_and_empty_images_are_refused() -> None:
    data = muon_events(n=300)
    lost = information_lost(data.test, *fit_cells(data, 4, "quantile", 0.0, "gray", "by-feature", "marginals"))
    assert lost.energy is None
    assert 0 < lost.error < 0.1
    empty = layers(torch.zeros(3, 4).double())
    with pytest.raises(ValueError, match=r"the images have no energy"):
        information_lost(empty, Discretiser([[-1.0, 0.5]] * 4), Identity())
