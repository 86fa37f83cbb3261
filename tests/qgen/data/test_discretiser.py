from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qgen.data import Discretiser


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(n: int, d: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=rng(seed))


@pytest.mark.parametrize("edges", ["linear", "quantile"])
def test_indices_agree_with_numpy(edges: str) -> None:
    values = normal(500, 2)
    cells = Discretiser.fit(values, bits=[3, 2], edges=edges)
    for i, edge in enumerate(cells.edges):
        expected = np.clip(np.digitize(values[:, i].numpy(), edge.numpy()) - 1, 0, len(edge) - 2)
        assert cells.indices(values)[:, i].tolist() == expected.tolist()


def test_linear_edges_are_equally_wide_and_quantiles_equally_full() -> None:
    values = normal(4000, 1)
    linear = Discretiser.fit(values, bits=3, edges="linear").edges[0]
    np.testing.assert_allclose(linear, np.linspace(values.min().item(), values.max().item(), 9), rtol=1e-12)
    quantile = Discretiser.fit(values, bits=3, edges="quantile")
    np.testing.assert_allclose(quantile.edges[0], np.quantile(values.numpy(), np.linspace(0, 1, 9)), rtol=1e-12)
    counts = torch.bincount(quantile.cell_index(values))
    assert counts.max() - counts.min() <= 1


def test_many_equal_values_take_one_cell() -> None:
    values = torch.cat([torch.zeros(900), torch.linspace(0.1, 1.0, 100)]).double().unsqueeze(1)
    cells = Discretiser.fit(values, bits=3)
    counts = torch.bincount(cells.cell_index(values), minlength=8)
    assert counts[0] >= 900
    assert (counts[1:] >= 12).all()


def test_cell_numbers_read_the_bits_from_the_first_feature_on() -> None:
    values = normal(300, 3)
    cells = Discretiser.fit(values, bits=[2, 1, 3])
    bits, numbers = cells.encode(values), cells.cell_index(values)
    assert bits.dtype == torch.uint8
    assert bits.shape == (300, 6)
    assert [int("".join(map(str, row)), 2) for row in bits.tolist()] == numbers.tolist()
    i = cells.indices(values)
    assert numbers.tolist() == np.ravel_multi_index(i.T.numpy(), (4, 2, 8)).tolist()
    assert torch.equal(cells.unflatten(numbers), i)
    assert torch.equal(cells.from_bits(bits), numbers)


@given(
    bits=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    edges=st.sampled_from(["linear", "quantile"]),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
)
@settings(max_examples=30, deadline=None)
def test_decoding_stays_in_the_cell(bits: list[int], edges: str, seed: int, scale: float) -> None:
    cells = Discretiser.fit(scale * (normal(200, len(bits), seed) + 3.0), bits=bits, edges=edges)
    numbers = torch.randint(cells.n_cells, (100,), generator=rng(seed))
    values = cells.decode(numbers, rng(seed))
    assert torch.equal(cells.cell_index(values), numbers)
    assert torch.equal(cells.decode(cells.to_bits(numbers), rng(seed)), values)
    assert not cells.outside(values).any()


def test_decoding_stays_in_cells_of_the_smallest_width() -> None:
    edges = [1.0]
    for _ in range(2):
        edges.append(math.nextafter(edges[-1], 2.0))
    cells = Discretiser([edges])
    numbers = torch.tensor([0, 1] * 50)
    assert torch.equal(cells.cell_index(cells.decode(numbers, rng())), numbers)


def test_decoded_values_are_uniform_in_the_cell() -> None:
    cells = Discretiser([[0.0, 1.0, 4.0]])
    values = cells.decode(torch.ones(2000, dtype=torch.long), rng(3))[:, 0]
    assert stats.kstest(values.numpy(), stats.uniform(1.0, 3.0).cdf).pvalue > 0.001


def test_roundtrip_loses_less_with_more_bits() -> None:
    values = normal(2000, 1)
    lost = []
    for bits in (1, 3, 5):
        back = Discretiser.fit(values, bits=bits).roundtrip(values, rng())
        lost.append(stats.wasserstein_distance(values[:, 0].numpy(), back[:, 0].numpy()))
    assert lost[0] > 2 * lost[1] > 4 * lost[2]


def test_volumes_are_those_of_the_cells() -> None:
    cells = Discretiser.fit(normal(200, 2), bits=[2, 3])
    volumes = cells.log_volume(torch.arange(cells.n_cells)).exp()
    expected = np.outer(*[np.diff(edges.numpy()) for edges in cells.edges]).reshape(-1)
    np.testing.assert_allclose(volumes, expected, rtol=1e-12)
    assert [len(r) for r in cells.representatives()] == [4, 8]
    assert torch.equal(cells.indices(torch.stack([r[:4] for r in cells.representatives()], 1))[:, 0], torch.arange(4))


def test_values_outside_go_to_the_outermost_cells_and_are_told() -> None:
    cells = Discretiser([[0.0, 1.0, 2.0]])
    values = torch.tensor([[-5.0], [0.5], [2.0], [9.0]])
    assert cells.cell_index(values).tolist() == [0, 0, 1, 1]
    assert cells.outside(values).squeeze(1).tolist() == [True, False, False, True]


def test_restored_from_its_spec() -> None:
    cells = Discretiser.fit(normal(100, 2), bits=[1, 4])
    restored = Discretiser.from_spec(json.loads(json.dumps(cells.spec())))
    assert restored.bits == (1, 4)
    assert all(torch.equal(a, b) for a, b in zip(cells.edges, restored.edges, strict=True))
    assert set(cells.state_dict()) == {"edges_0", "edges_1"}


def fitted(values: object, **options: object) -> Discretiser:
    return Discretiser.fit(torch.tensor(values, dtype=torch.float64), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fitted([[1.0, 2.0], [1.0, 3.0]]), r"feature 0 is constant \(1\)"),
        (lambda: fitted([[1.0], [math.nan]]), r"row 1, feature 0: nan is not finite"),
        (lambda: fitted([[1.0], [2.0]], bits=[1, 1]), r"bits has 2 entries for 1 features"),
        (lambda: fitted([[1.0], [2.0]], bits=0), r"bits of feature 0 is 0; allowed are 1 to 20"),
        (lambda: fitted([[1.0] * 4, [2.0] * 4], bits=20), r"80 bits in all; at most 62"),
        (lambda: fitted([[1.0], [2.0]], edges="log"), r"edges is 'log'; allowed are 'linear' and 'quantile'"),
        (lambda: fitted([[1.0], [math.nextafter(1.0, 2.0)]]), r"too few distinct values \(2\) for 2 bits"),
        (lambda: fitted([1.0, 2.0]), r"values have shape \(2,\)"),
        (lambda: Discretiser([]), r"edges are empty"),
        (lambda: Discretiser([[0.0]]), r"feature 0 has 0 cells; a power of 2"),
        (lambda: Discretiser([[0.0, 1.0, 2.0, 3.0]]), r"feature 0 has 3 cells"),
        (lambda: Discretiser([[0.0, 2.0, 1.0]]), r"edges of feature 0 must be finite and strictly increasing"),
        (lambda: Discretiser([[0.0, 1.0, 2.0]]).indices(torch.ones(3, 2)), r"expected \(N, 1\)"),
        (lambda: Discretiser([[0.0, 1.0, 2.0]]).encode(torch.tensor([[math.inf]])), r"row 0, feature 0: inf"),
        (lambda: Discretiser([[0.0, 1.0, 2.0]]).decode(torch.tensor([2]), rng()), r"2 to 2; 2 cells exist"),
        (lambda: Discretiser([[0.0, 1.0, 2.0]]).decode(torch.tensor([[2]]), rng()), r"bits must be 0 or 1"),
        (lambda: Discretiser([[0.0, 1.0, 2.0]]).decode(torch.tensor([0.5]), rng()), r"expected \(N,\) integers"),
        (lambda: Discretiser.from_spec({"kind": "Other"}), r"kind is 'Other'"),
    ],
)
def test_misuse_is_one_clear_line(make, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("edges", ["linear", "quantile"])
def test_tails_lie_beyond_the_outer_edges(edges: str) -> None:
    values = torch.randn(10_000, 1, dtype=torch.float64, generator=rng())
    cells = Discretiser.fit(values, bits=3, edges=edges, tails=0.01)
    assert int(cells.outside(values).sum()) == 200
    inner = values[~cells.outside(values)[:, 0]]
    assert cells.edges[0][0] == inner.min()
    assert cells.edges[0][-1] == inner.max()


def test_tails_of_a_mostly_empty_pixel_leave_its_cells() -> None:
    values = torch.cat([torch.zeros(990), torch.linspace(1, 2, 10)])[:, None].double()
    assert Discretiser.fit(values, bits=2, edges="linear", tails=0.2).edges[0][-1] > 1.5


@pytest.mark.parametrize("tails", [-0.1, 0.5, float("nan")])
def test_impossible_tails_are_refused(tails: float) -> None:
    with pytest.raises(ValueError, match=r"tails is .*below 0\.5"):
        Discretiser.fit(normal(10, 1), tails=tails)


CODES = st.sampled_from(["binary", "gray"])
ORDERS = st.sampled_from(["by-feature", "interleaved", "snake"])


@given(bits=st.lists(st.integers(1, 4), min_size=1, max_size=3), code=CODES, order=ORDERS)
@settings(max_examples=40, deadline=None)
def test_every_code_and_order_is_a_bijection_of_cells_and_bits(bits: list[int], code: str, order: str) -> None:
    cells = Discretiser([list(range(2**b + 1)) for b in bits], code=code, order=order)
    numbers = torch.arange(cells.n_cells)
    strings = cells.to_bits(numbers)
    assert len({tuple(row) for row in strings.tolist()}) == cells.n_cells
    assert torch.equal(cells.from_bits(strings), numbers)
    assert sorted(cells.wires) == [(feature, place) for feature, b in enumerate(bits) for place in range(b)]
    p = torch.rand(2, cells.n_cells, dtype=torch.float64, generator=rng())
    states = torch.tensor([int("".join(map(str, row)), 2) for row in strings.tolist()])
    assert torch.equal(cells.by_cell(p), p[:, states])
    assert torch.equal(cells.by_state(cells.by_cell(p)), p)
    assert torch.equal(cells.from_states(states), torch.arange(len(states)))
    rebuilt = Discretiser.from_spec(json.loads(json.dumps(cells.spec())))
    assert torch.equal(rebuilt.to_bits(numbers), strings)


@pytest.mark.parametrize("order", ["by-feature", "interleaved", "snake"])
def test_neighbours_differ_in_one_bit_of_a_gray_code(order: str) -> None:
    cells = Discretiser([list(range(9)), list(range(5))], code="gray", order=order)
    grid = cells.to_bits(torch.arange(32)).reshape(8, 4, 5).int()
    assert ((grid[1:] - grid[:-1]).abs().sum(-1) == 1).all()
    assert ((grid[:, 1:] - grid[:, :-1]).abs().sum(-1) == 1).all()


def test_wires_of_each_order() -> None:
    edges = [list(range(9)), list(range(3)), list(range(9))]
    assert Discretiser(edges).wires == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2)]
    assert Discretiser(edges, order="interleaved").wires == [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (2, 2)]
    assert Discretiser(edges, order="snake").wires == [(0, 0), (1, 0), (2, 0), (2, 1), (0, 1), (0, 2), (2, 2)]


def test_unknown_code_and_order_are_named() -> None:
    with pytest.raises(ValueError, match=r"^code is 'grey'; allowed are binary, gray, unary$"):
        Discretiser([[0.0, 1.0, 2.0]], code="grey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^order is 'z'; allowed are by-feature, interleaved, snake$"):
        Discretiser([[0.0, 1.0, 2.0]], order="z")  # type: ignore[arg-type]


@given(bits=st.lists(st.integers(1, 5), min_size=1, max_size=3), order=ORDERS)
@settings(max_examples=30, deadline=None)
def test_a_unary_code_is_a_thermometer_and_any_string_counts_its_ones(bits: list[int], order: str) -> None:
    cells = Discretiser([list(range(b + 2)) for b in bits], code="unary", order=order)
    assert cells.bits == tuple(bits)
    assert cells.n_cells == math.prod(b + 1 for b in bits)
    numbers = torch.arange(cells.n_cells)
    strings = cells.to_bits(numbers)
    indices = np.stack(np.unravel_index(numbers.numpy(), [b + 1 for b in bits]), axis=1)
    assert cells.unflatten(numbers).tolist() == indices.tolist()
    for (feature, place), column in zip(cells.wires, strings.T, strict=True):
        assert column.tolist() == (indices[:, feature] > place).astype(int).tolist()
    assert torch.equal(cells.from_bits(strings), numbers)
    free = torch.randint(2, (50, cells.n_bits), generator=rng())
    feature = np.array([feature for feature, _ in cells.wires])
    ones = np.stack([free.numpy()[:, feature == i].sum(1) for i in range(len(bits))], axis=1)
    assert cells.bits_to_indices(free).tolist() == ones.tolist()
    values = cells.decode(free, rng())
    assert torch.equal(cells.indices(values), torch.from_numpy(ones))
    rebuilt = Discretiser.from_spec(json.loads(json.dumps(cells.spec())))
    assert torch.equal(rebuilt.to_bits(numbers), strings)


def test_a_unary_code_is_fitted_with_one_cell_more_than_bits() -> None:
    values = normal(3000, 2)
    cells = Discretiser.fit(values, bits=[2, 5], code="unary")
    assert cells.cells == (3, 6)
    assert (cells.n_bits, cells.n_cells) == (7, 18)
    counts = torch.bincount(cells.indices(values)[:, 0])
    assert counts.max() - counts.min() <= 1


def test_strings_beyond_the_cells_have_no_place_in_a_table() -> None:
    several, single = Discretiser([[0.0, 1.0, 2.0, 3.0]], code="unary"), Discretiser([[0.0, 1.0, 2.0]], code="unary")
    p = torch.tensor([0.25, 0.75])
    assert single.one_to_one
    assert torch.equal(single.by_cell(p), p)
    assert not several.one_to_one
    for call in (several.by_cell, several.by_state, several.from_states):
        with pytest.raises(ValueError, match=r"^code is 'unary', whose bit strings are not all cells; allowed here"):
            call(torch.arange(3))


def test_a_thousand_features_are_one_of_many() -> None:
    values = normal(50, 1000).clamp_min(0.0)
    for code, bits in (("binary", 2), ("gray", 3), ("unary", 3)):
        cells = Discretiser.fit(values, bits, code=code, order="interleaved", numbered=False)  # type: ignore[arg-type]
        for i in (0, 1, 499, 999):
            alone = Discretiser([cells.edges[i].tolist()], code=code)  # type: ignore[arg-type]
            assert torch.equal(cells.indices(values)[:, i], alone.indices(values[:, i : i + 1])[:, 0])
            own = [k for k, (feature, _) in enumerate(cells.wires) if feature == i]
            assert torch.equal(cells.encode(values)[:, own], alone.encode(values[:, i : i + 1]))
        assert torch.equal(cells.bits_to_indices(cells.encode(values)), cells.indices(values))


def test_cells_are_those_of_loaded_edges() -> None:
    cells, other = (
        Discretiser([[0.0, 1.0, 2.0], [0.0, 4.0]], "unary"),
        Discretiser([[0.0, 1.5, 2.0], [0.0, 5.0]], "unary"),
    )
    event = torch.tensor([[1.2, 3.0]])
    assert cells.indices(event).tolist() == [[1, 0]]
    assert sorted(cells.state_dict()) == ["edges_0", "edges_1"]
    cells.load_state_dict(other.state_dict())
    assert cells.indices(event).tolist() == [[0, 0]]
