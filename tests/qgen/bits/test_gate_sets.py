from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from qgen.bits import BitSets, bit_strings
from qgen.bits.adjacency import adjacent_features, neighbouring_bits
from qgen.bits.covariance_start import covariance_flips
from qgen.bits.gate_sets import (
    all_up_to,
    choose_gates,
    correlated,
    covariance_angles,
    merge,
    neighbours,
    ties,
    training_bits,
)
from qgen.data import CalorimeterDataset, load_calorimeter
from qgen.data.binning import BinnedLayer, Binning
from qgen.data.dataset import Dataset, Feature
from qgen.data.discretiser import Discretiser
from qgen.data.geometry import Geometry
from qgen.random import new_generator, uniform


def image(geometry: Geometry, n: int = 6) -> CalorimeterDataset:
    samples = uniform((n, geometry.n_pixels), new_generator(0), dtype=torch.float64)
    features = tuple(Feature(f"pixel_{i}", "MeV") for i in range(geometry.n_pixels))
    energy = torch.full((n, 1), 100.0)
    return CalorimeterDataset(samples, features, energy, (Feature("incident_energy", "MeV"),), geometry=geometry)


def table(n_features: int) -> Dataset:
    return Dataset(
        torch.rand(9, n_features, generator=new_generator(0)), tuple(Feature(f"x{i}") for i in range(n_features))
    )


def cells(bits: list[int], order: str = "by-feature") -> Discretiser:
    return Discretiser([torch.linspace(0, 1, 2**b + 1).tolist() for b in bits], order=order)  # type: ignore[arg-type]


def copies(n: int, n_bits: int, rng: torch.Generator, rate: float = 0.35, copied: float = 0.6) -> Tensor:
    bits = (uniform((n, n_bits), rng, dtype=torch.float64) < rate).to(torch.uint8)
    for i in range(1, n_bits):
        bits[:, i] = torch.where(uniform((n,), rng, dtype=torch.float64) < copied, bits[:, i - 1], bits[:, i])
    return bits


@pytest.mark.parametrize(("n_bits", "weight"), [(1, 1), (5, 2), (6, 6)])
def test_all_small_sets(n_bits: int, weight: int) -> None:
    known = [c for k in range(1, weight + 1) for c in itertools.combinations(range(n_bits), k)]
    sets = all_up_to(n_bits, weight)
    assert list(sets) == known
    sets.check_distinct()


def test_too_many_gates_are_refused_before_they_are_made() -> None:
    with pytest.raises(
        ValueError, match=r"^all gates up to weight 3 of 1000 bits are 166,667,500; at most 200,000 are"
    ):
        all_up_to(1000, 3)
    every = torch.combinations(torch.arange(400))
    with pytest.raises(
        ValueError, match=r"^neighbours up to weight 3 of 400 bits are 10,586,800 or more gates; at most"
    ):
        neighbours(400, every, 3)
    assert len(all_up_to(600, 2)) == 180_300
    for weight in (0, 5):
        with pytest.raises(ValueError, match=rf"^weight is {weight}; a gate on 4 bits has 1 to 4$"):
            all_up_to(4, weight)


@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.parametrize("bits", [1, 2])
def test_neighbours_in_layer_row_and_column(reach: int, bits: int) -> None:
    """By the distance of the pixels from side to side."""
    shape = (3, 2, 4)
    data = image(Geometry.cells(layer=3, x=2, y=4))
    binned = cells([bits] * 24, "interleaved")
    position = list(itertools.product(*map(range, shape)))
    known = set()
    for (a, (f, _)), (b, (g, _)) in itertools.combinations(enumerate(binned.wires), 2):
        steps = sum(abs(i - j) for i, j in zip(position[f], position[g], strict=True))
        if steps <= reach:
            known.add((a, b))
    found = neighbouring_bits(data, binned, reach)
    assert {tuple(pair) for pair in found.tolist()} == known
    assert len(found) == len(known)


def test_neighbours_of_voxels_in_radius_angle_and_depth() -> None:
    binning = Binning(
        (BinnedLayer(0, (0.0, 1.0, 2.0), 4), BinnedLayer(1, (0.0, 3.0), 1), BinnedLayer(2, (0.0, 1.0), 2))
    )
    data = image(Geometry.of_binning(binning))
    found = {tuple(pair) for pair in adjacent_features(data).tolist()}
    in_first = {(2 * a, 2 * a + 1) for a in range(4)}  # the radius is fastest
    in_first |= {tuple(sorted((2 * a + r, 2 * ((a + 1) % 4) + r))) for a in range(4) for r in range(2)}
    assert {pair for pair in found if pair[1] < 8} == in_first
    assert {pair for pair in found if pair[1] == 8} == {(i, 8) for i in range(8)}  # one voxel in the next layer
    assert {pair for pair in found if pair[1] > 8} == {(8, 9), (8, 10), (9, 10)}


def test_neighbours_where_features_have_no_place() -> None:
    assert adjacent_features(table(3)).tolist() == [[0, 1], [1, 2]]
    assert adjacent_features(image(Geometry.cells(voxel=3))).tolist() == [[0, 1], [1, 2]]
    assert adjacent_features(image(Geometry.cells(x=2, y=2)), "gaussian").tolist() == [[0, 1], [1, 2], [2, 3]]
    assert adjacent_features(table(1)).shape == (0, 2)
    assert neighbouring_bits(table(1), cells([1])).shape == (0, 2)
    assert list(neighbours(1, torch.empty(0, 2).long(), 1)) == [(0,)]
    with pytest.raises(ValueError, match=r"^reach is -1; it is a number of steps, 0 or more$"):
        neighbouring_bits(table(2), cells([1, 1]), -1)


def test_features_without_bits_are_stepped_over() -> None:
    """A pixel that never changes has no bit; those on its two sides are two steps apart."""
    data, binned = table(3), cells([1, 0, 2])
    assert neighbouring_bits(data, binned, 1).tolist() == [[1, 2]]
    assert neighbouring_bits(data, binned, 2).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_larger_sets_have_one_bit_beside_all_others() -> None:
    pairs = neighbouring_bits(image(Geometry.cells(x=3, y=3)), cells([1] * 9))
    beside = torch.zeros(9, 9, dtype=torch.bool)
    beside[pairs[:, 0], pairs[:, 1]] = beside[pairs[:, 1], pairs[:, 0]] = True
    known = [
        c
        for k in range(1, 5)
        for c in itertools.combinations(range(9), k)
        if k == 1 or any(all(beside[i, j] for j in c if j != i) for i in c)
    ]
    assert list(neighbours(9, pairs, 4)) == known


def test_correlated_pairs_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = copies(400, 12, new_generator(0))
    bits[:, 3] = 1  # never changes
    with np.errstate(invalid="ignore"):
        known = np.abs(np.nan_to_num(np.corrcoef(bits.numpy().T)))
    order = sorted(itertools.combinations(range(12), 2), key=lambda pair: -known[pair])
    assert list(correlated(bits, 10)) == order[:10]
    monkeypatch.setattr("qgen.bits.gate_sets.PAIRS_AT_ONCE", 30)  # a few rows at a time
    assert list(correlated(bits, 10)) == order[:10]
    beyond = BitSets.of(12, [(0,), order[0], order[4], (0, 1, 2)])
    assert list(correlated(bits, 8, beyond)) == [pair for pair in order if pair not in set(beyond)][:8]
    assert len(correlated(bits, 64, beyond)) == 64
    with pytest.raises(
        ValueError, match=r"^65 pairs by correlation are asked for; 64 pairs of the 12 bits are not yet"
    ):
        correlated(bits, 65, beyond)


def test_thousands_of_bits() -> None:
    n = 4000
    bits = (uniform((200, n), new_generator(0), dtype=torch.float32) < 0.3).to(torch.uint8)
    bits[:, 3000] = bits[:, 17]
    near = neighbours(n, torch.stack([torch.arange(n - 1), torch.arange(1, n)], 1), 2)
    gates = merge(near, correlated(bits, 100, near))
    assert len(gates) == n + n - 1 + 100
    gates.check_distinct()
    assert list(gates)[len(near)] == (17, 3000)


def test_choosing_gates() -> None:
    data = load_calorimeter(grid=(3, 3), max_events=300)
    binned = Discretiser.fit(data.transform(data.train.samples, data.train.conditions), bits=1)
    bits = training_bits(data, binned, data.transform)
    assert list(choose_gates(data, binned)) == list(all_up_to(9, 2))
    near = choose_gates(data, binned, gates="neighbours")
    assert len(near) == 9 + 12
    more = choose_gates(data, binned, gates="neighbours", long_range=5, bits=bits)
    assert list(more)[: len(near)] == list(near)
    assert list(more)[len(near) :] == list(correlated(bits, 5, near))
    more.check_distinct("gate")
    assert len(choose_gates(data, binned, gates="neighbours", reach=2, weight=3)) > len(near)
    assert len(choose_gates(data, binned, weight=1, long_range=7, bits=bits)) == 16
    for options, message in (
        ({"gates": "some"}, r"^gates is 'some'; allowed are 'all' and 'neighbours'$"),
        ({"reach": 2}, r"^reach is 2, but gates is 'all'; it is for gates: neighbours$"),
        ({"long_range": -1}, r"^long_range is -1; it is a number of pairs, 0 or more$"),
        ({"long_range": 1}, r"^long_range is 1, but with gates: all of weight 2 every pair is a gate$"),
        ({"weight": 1, "long_range": 1}, r"^long_range is 1, which needs the bits of the training events$"),
        ({"weight": 1, "long_range": 37, "bits": bits}, r"^37 pairs by correlation are asked for; 36 pairs of the 9"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_gates(data, binned, **options)  # type: ignore[arg-type]


def test_gates_that_a_shift_brings_onto_each_other_are_tied() -> None:
    data, binned = image(Geometry.cells(x=3, y=4)), cells([2] * 12, "interleaved")
    gates = choose_gates(data, binned, gates="neighbours", reach=2, weight=3)
    shared = ties(data, binned, gates)
    assert shared.unique().tolist() == list(range(int(shared.max()) + 1))
    groups: dict[int, list[tuple[int, ...]]] = {}
    for number, gate in zip(shared.tolist(), gates, strict=True):
        groups.setdefault(number, []).append(gate)
    position = list(itertools.product(range(3), range(4)))
    shapes = []
    for members in groups.values():
        kinds = set()
        for gate in members:
            places = sorted((*position[binned.wires[bit][0]], binned.wires[bit][1]) for bit in gate)
            kinds.add(tuple((x - places[0][0], y - places[0][1], place) for x, y, place in places))
        assert len(kinds) == 1
        shapes.append(kinds.pop())
        assert len(members[0]) > 1 or len(members) == 1
    several = [shape for shape in shapes if len(shape) > 1]
    assert len(several) == len(set(several))
    assert len(groups) < len(gates) / 3
    with pytest.raises(
        ValueError, match=r"^weights are tied by shifts of the image; these events are no image on a reg"
    ):
        ties(table(3), cells([1] * 3), all_up_to(3, 2))


def simulated(gates: BitSets, angles: Tensor) -> Tensor:
    """Expectation value of every Z string of the circuit, by its state."""
    n = gates.n_bits
    strings = bit_strings(n)
    signs = 1 - 2 * (strings @ strings.T % 2)
    rows = gates.dense().double()
    phases = (angles[:, None] * (1 - 2 * (rows @ strings.T % 2))).sum(0)  # in the basis of X
    amplitudes = signs.to(torch.complex128) @ torch.exp(1j * phases) / 2**n
    return signs @ amplitudes.abs().square()


def second_moments(values: Tensor, n: int) -> Tensor:
    pairs = torch.combinations(torch.arange(n))
    return values[(1 << (n - 1 - pairs[:, 0])) + (1 << (n - 1 - pairs[:, 1]))]


@pytest.mark.parametrize("kind", ["all", "neighbours", "bits"])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_start_has_the_means_of_the_data_and_is_nearer_than_others(kind: str, rate: float) -> None:
    n, rng = 8, new_generator(1)
    bits = copies(2000, n, rng, rate)
    line = torch.stack([torch.arange(n - 1), torch.arange(1, n)], 1)
    gates = {"all": all_up_to(n, 3), "neighbours": neighbours(n, line, 2), "bits": all_up_to(n, 1)}[kind]
    start = covariance_angles(gates, bits)
    signs = 1 - 2 * bits.double()
    truth = second_moments(BitSets.from_dense(bit_strings(n)).signs(bits).double().mean(1), n)
    found = simulated(gates, start)
    torch.testing.assert_close(found[1 << torch.arange(n - 1, -1, -1)], signs.mean(0), atol=1e-10, rtol=0)
    assert not start[gates.sizes > 2].any()

    def error(angles: Tensor) -> float:
        return float((second_moments(simulated(gates, angles), n) - truth).square().mean().sqrt())

    independent = torch.where(gates.sizes == 1, covariance_angles(all_up_to(n, 1), bits).new_zeros(1), 0.0)
    independent[gates.sizes == 1] = covariance_angles(all_up_to(n, 1), bits)
    small = 0.05 * torch.randn(len(gates), generator=rng, dtype=torch.float64)
    assert error(start) < 0.5 * error(small)
    if kind == "bits":
        torch.testing.assert_close(start, independent)
    elif kind == "all":
        assert error(start) < 0.6 * error(independent)
    else:
        assert error(start) <= error(independent) + 1e-9


@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_flips_begin_with_means_and_with_covariances_that_can_be_had(rate: float) -> None:
    n = 6
    bits = copies(3000, n, new_generator(2), rate, 0.2)
    signs = 1 - 2 * bits.double()
    gates = all_up_to(n, 2)
    factor = 1 - 2 * covariance_flips(gates, bits)
    inside = gates.dense().bool()
    strings = bit_strings(n)
    odd = (strings @ gates.dense().double().T % 2).bool()
    values = torch.where(odd, factor, 1.0).prod(1)
    torch.testing.assert_close(values[1 << torch.arange(n - 1, -1, -1)], signs.mean(0), atol=1e-10, rtol=0)
    assert ((factor[inside.sum(1) == 2] >= 0) & (factor[inside.sum(1) == 2] <= 1)).all()
    pairs = torch.combinations(torch.arange(n))
    product = signs.mean(0)[pairs].prod(1)
    covariance = (signs[:, pairs[:, 0]] * signs[:, pairs[:, 1]]).mean(0) - product
    found = second_moments(values, n) - product
    possible = covariance * product > 0
    assert possible.any()
    share = found[possible] / covariance[possible]
    assert ((share > -1e-9) & (share < 1 + 1e-9)).all()
    assert share[covariance[possible].abs().argmax()] > 0.3
    torch.testing.assert_close(found[~possible], torch.zeros_like(found[~possible]), atol=1e-10, rtol=0)


def test_a_start_from_bits_that_never_change() -> None:
    bits = torch.tensor([[0, 1, 0], [0, 1, 1], [0, 1, 1], [0, 1, 0]])
    start = covariance_angles(all_up_to(3, 2), bits)
    assert start.tolist() == pytest.approx([0, math.pi / 2, math.pi / 4, 0, 0, 0])
    assert covariance_flips(all_up_to(3, 2), bits).tolist() == pytest.approx([0, 1, 0.5, 0, 0, 0])
