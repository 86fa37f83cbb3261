from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from qgen.bits.chosen import choose_pairs, choose_triples, strings_of_order
from qgen.bits.columns import BitValues, Blocks, n_blocks
from qgen.bits.gaps import signal, squared_gap
from qgen.bits.judging import StringJudge, string_scores
from qgen.bits.profile import Profile
from qgen.bits.sets import BitSets
from qgen.data import CalorimeterDataset, Discretiser, load_calorimeter
from qgen.random import new_generator

N = 12
"""Bits of the toys."""


def toy(n: int, seed: int) -> Tensor:
    """Six pairs of correlated bits of different occupancy; in each half, three of them are bound by their parity."""
    rng = new_generator(seed)
    bits = (torch.rand(n, N, generator=rng) < torch.linspace(0.15, 0.6, N)).long()
    same = torch.rand(n, N // 2, generator=rng) < 0.5
    bits[:, 1::2] = torch.where(same, bits[:, ::2], bits[:, 1::2])
    for first in (0, 6):
        bound = torch.rand(n, generator=rng) < 0.6
        parity = (bits[:, first] + bits[:, first + 2]) % 2
        bits[:, first + 4] = torch.where(bound, parity, bits[:, first + 4])
    return bits.to(torch.uint8)


def independent(bits: Tensor, seed: int = 0) -> Tensor:
    """Every bit from another event."""
    rng = new_generator(seed)
    return torch.stack([column[torch.randperm(len(bits), generator=rng)] for column in bits.T], 1)


@pytest.fixture(scope="module")
def judge() -> StringJudge:
    return StringJudge.of(toy(1500, 0), toy(3000, 1), strings=100)


def pulls(judge: StringJudge, model: Tensor, floor: Tensor) -> dict[str, float]:
    a, b = judge.judge(model).scores, judge.judge(floor).scores
    return {name: (a[name].value - b[name].value) / math.hypot(a[name].uncertainty, b[name].uncertainty) for name in a}


# squared distances


@pytest.mark.parametrize(("delta", "columns"), [(0.0, 30), (0.3, 30), (0.0, 1), (0.3, 1)])
def test_the_squared_gap_is_unbiased_and_its_uncertainty_right(delta: float, columns: int) -> None:
    rng = new_generator(3)
    mix = torch.randn(40, 40, generator=rng) / 40**0.5
    found = []
    for _ in range(300):
        truth = mix @ torch.randn(40, 20, generator=rng)
        other = delta + (mix @ torch.randn(40, columns, generator=rng) if columns > 1 else torch.zeros(40, 1))
        found.append(squared_gap(truth, other))
    values = torch.tensor([one.value for one in found])
    spread = values.std().item()
    assert abs(values.mean().item() - 40 * delta**2) < 3.5 * spread / 300**0.5
    stated = torch.tensor([one.uncertainty for one in found]).square().mean().sqrt().item()
    assert 0.85 < stated / spread < 1.35


def test_a_scale_that_fluctuates_with_the_value_is_taken_into_account() -> None:
    """No model at all: the distance is the scale itself, and the ratio is 1 whatever the truth."""
    truth = 1 + torch.randn(10, 8, generator=new_generator(0))
    result = squared_gap(truth, torch.zeros(10, 1), lambda square: square)
    assert result.value == pytest.approx(1)
    absolute = squared_gap(truth, torch.zeros(10, 1)).uncertainty
    assert result.uncertainty < absolute


def test_signal_counts_standard_deviations_of_noise() -> None:
    rng = new_generator(0)
    noise = [signal(torch.randn(50, 20, generator=rng)) for _ in range(200)]
    assert abs(float(np.mean(noise))) < 0.25
    assert 0.8 < float(np.std(noise)) < 1.2
    assert signal(1 + torch.randn(50, 20, generator=rng)) > 20


@pytest.mark.parametrize("shapes", [((3, 2), (3, 5)), ((3, 5), (3, 2)), ((3, 5), (4, 5))])
def test_blocks_that_do_not_fit_are_refused(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="blocks"):
        squared_gap(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


# estimates from columns


def test_cumulants_of_events_are_k_statistics_of_each_block() -> None:
    bits = toy(260, 0)
    b, size = n_blocks(260), 260 // n_blocks(260)
    signs = (1 - 2 * bits.numpy().astype(float))[: b * size].reshape(b, size, N)
    blocks = Blocks.of(bits)
    pairs, triples = torch.tensor([[0, 1], [2, 9]]), torch.tensor([[0, 2, 4], [1, 5, 7]])
    two, three = blocks.pairs(pairs, N), blocks.triples(triples, N)
    for k, block in enumerate(signs):
        cov = np.cov(block.T)
        assert two[:, k].tolist() == pytest.approx([cov[i, j] for i, j in pairs.tolist()])
        apart = block - block.mean(0)
        expected = [
            size**2 / ((size - 1) * (size - 2)) * (apart[:, i] * apart[:, j] * apart[:, m]).mean()
            for i, j, m in triples.tolist()
        ]
        assert three[:, k].tolist() == pytest.approx(expected)


def noisy(expectation: Callable[[BitSets], Tensor], n: int, seed: int) -> Callable[[BitSets], Tensor]:
    """A model that gives expectation values with noise, which the strings of a call have in common."""
    rng = new_generator(seed)

    def values(strings: BitSets) -> Tensor:
        shared = torch.randn(1, n, generator=rng) + 0.5 * torch.randn(len(strings), n, generator=rng)
        return expectation(strings)[:, None] + 0.7 * shared

    return values


def product(means: Tensor) -> Callable[[BitSets], Tensor]:
    """Expectation values of independent bits."""
    return lambda strings: torch.stack([means[list(string)].prod() for string in strings])


def test_cumulants_of_noisy_values_have_no_bias() -> None:
    """Products of the noisy values themselves would be off by the variance of the noise, here by 100 %."""
    means = torch.linspace(-0.8, 0.8, N)
    pairs, triples = torch.combinations(torch.arange(N))[:20], torch.combinations(torch.arange(N), 3)[:20]
    blocks = Blocks(noisy(product(means), 30_000, 0))
    for found in (blocks.pairs(pairs, N), blocks.triples(triples, N)):
        error = found.std(1) / found.shape[1] ** 0.5
        assert found.mean(1).abs().max() < 4.5 * error.max()
        assert error.max() < 0.03


def test_moments_beyond_means_vanish_for_independent_bits_alone() -> None:
    strings = BitSets.of(N, [(0, 1, 4), (0, 2, 4), (3, 8, 11)])
    bound, alone = (Blocks.of(bits).beyond_means(strings) for bits in (toy(20_000, 0), independent(toy(20_000, 0))))
    signs = 1 - 2 * toy(20_000, 0).double()
    for found, expected in (
        (bound, [signs[:, s].prod(1).mean() - signs[:, s].mean(0).prod() for s in map(list, strings)]),
        (alone, [0.0] * 3),
    ):
        error = found.std(1) / found.shape[1] ** 0.5
        assert ((found.mean(1) - torch.tensor(expected)).abs() < 4 * error).all()


def test_exact_values_make_exact_cumulants() -> None:
    means = torch.linspace(-0.8, 0.8, N, dtype=torch.float64)
    blocks = Blocks(lambda strings: product(means)(strings)[:, None])
    assert blocks.pairs(torch.combinations(torch.arange(N)), N).abs().max() < 1e-12
    assert blocks.triples(torch.combinations(torch.arange(N), 3), N).abs().max() < 1e-12
    assert blocks.means(BitSets.of(N, [(3,)])).item() == pytest.approx(means[3].item())


def test_values_of_bits_do_not_depend_on_how_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    bits, strings = toy(50, 0), strings_of_order(N, 4, 40, new_generator(0))
    whole = BitValues(bits)(strings)
    monkeypatch.setattr("qgen.bits.columns.AT_ONCE", 700)
    assert torch.equal(BitValues(bits)(strings), whole)
    assert torch.equal(whole, strings.signs(bits))


# which strings


def test_pairs_hold_neighbours_and_the_most_correlated_once_each() -> None:
    bits = toy(2000, 0)
    near = torch.tensor([[2, 7], [8, 3]])
    chosen = choose_pairs(bits, 30, near, new_generator(0))
    rows = [tuple(row) for row in chosen.tolist()]
    assert len(set(rows)) == 30
    assert all(a < b for a, b in rows)
    assert {(2, 7), (3, 8), *((k, k + 1) for k in range(0, N, 2))} <= set(rows)
    assert torch.equal(chosen, choose_pairs(bits, 30, near, new_generator(0)))
    assert len(choose_pairs(bits, 66, near, new_generator(0))) == 66


def test_triples_hold_those_with_the_largest_cumulants() -> None:
    chosen = choose_triples(toy(3000, 0), 45, torch.tensor([[0, 2], [2, 4]]), new_generator(0))
    rows = [tuple(row) for row in chosen.tolist()]
    assert len(set(rows)) == 45
    assert all(a < b < c for a, b, c in rows)
    assert (0, 2, 4) in rows
    assert choose_triples(toy(50, 0), 220, torch.empty(0, 2).long(), new_generator(0)).tolist() == [
        list(t) for t in combinations(range(N), 3)
    ]


def test_strings_of_an_order_are_uniform() -> None:
    rows = list(strings_of_order(30, 3, 2000, new_generator(0)))
    assert {len(row) for row in rows} == {3}
    count = np.bincount([bit for row in rows for bit in row], minlength=30)
    assert ((count - 200) ** 2 / 200).sum() < 60  # chi squared of 29 degrees of freedom


# scores


def test_other_true_events_score_zero(judge: StringJudge) -> None:
    each = [judge.judge(toy(1500, seed)).scores for seed in range(10, 16)]
    for name in judge.names:
        pull = np.array([one[name].value / one[name].uncertainty for one in each])
        # all share the truth
        assert abs(pull.mean()) < 2.5
        assert pull.std() < 1.6
    assert {"one_body", "two_body", "three_body", "string_order/2", "string_order/6", "string_mmd"} <= set(judge.names)


def test_independent_bits_score_one(judge: StringJudge) -> None:
    scores = judge.judge(independent(toy(3000, 5))).scores
    for name in ("two_body", "three_body", "string_order/2", "string_order/3", "string_order/4"):
        assert scores[name].value == pytest.approx(1, abs=max(0.1, 4 * scores[name].uncertainty)), name
    assert abs(scores["one_body"].value) < 4 * scores["one_body"].uncertainty


def test_scores_do_not_depend_on_the_number_of_events(judge: StringJudge) -> None:
    wrong = toy(3000, 9)
    wrong[:, 3] = independent(wrong)[:, 3]
    few = [judge.judge(part).scores for part in wrong.split(250)]
    many = judge.judge(wrong).scores
    for name in ("one_body", "two_body", "three_body", "string_mmd", "string_order/2"):
        values = torch.tensor([one[name].value for one in few])
        assert abs(values.mean() - many[name].value) < 4 * max(values.std().item() / 12**0.5, 1e-4), name


def test_scores_do_not_depend_on_the_order_of_events() -> None:
    """All bits follow one number, by which the events are sorted."""
    rng = new_generator(0)

    def events(n: int) -> Tensor:
        common = torch.rand(n, 1, generator=rng)
        return (torch.rand(n, 6, generator=rng) < common).to(torch.uint8)[common[:, 0].argsort()]

    mixed = events(600)[torch.randperm(600, generator=rng)]
    for truth, model in ((events(600), mixed), (mixed, events(600))):
        found = StringJudge.of(truth, events(600), strings=20).judge(model).scores["two_body"]
        assert abs(found.value) < 4 * found.uncertainty < 0.2


def occupied(bits: Tensor) -> Tensor:
    wrong = bits.clone()
    more = torch.rand(len(bits), generator=new_generator(4)) < 0.15
    wrong[more, 0] = 1
    return wrong


def shuffled(bits: Tensor) -> Tensor:
    wrong = bits.clone()
    wrong[:, 2] = independent(bits)[:, 2]
    return wrong


def no_third_order(bits: Tensor) -> Tensor:
    """Pairs as they are, each from another event."""
    rng = new_generator(0)
    parts = [bits[torch.randperm(len(bits), generator=rng), k : k + 2] for k in range(0, N, 2)]
    return torch.cat(parts, 1)


@pytest.mark.parametrize(
    ("fault", "seen", "unseen"),
    [
        (occupied, ["one_body", "string_order/1"], []),
        (shuffled, ["two_body", "string_order/2"], ["one_body", "string_order/1"]),
        (no_third_order, ["three_body"], ["one_body"]),
    ],
)
def test_a_fault_is_seen_at_its_order(
    judge: StringJudge, fault: Callable[[Tensor], Tensor], seen: list[str], unseen: list[str]
) -> None:
    found = pulls(judge, fault(toy(1500, 6)), toy(1500, 7))
    assert all(found[name] > 3 for name in seen), found
    assert all(abs(found[name]) < 3 for name in unseen), found


def test_expectation_values_score_as_the_bits_that_they_are_of(judge: StringJudge) -> None:
    """A model of independent bits, by events, by exact and by noisy expectation values."""
    means = 1 - 2 * toy(200_000, 2).double().mean(0)
    bits = (torch.rand(4000, N, generator=new_generator(8)) < (1 - means) / 2).to(torch.uint8)
    sampled = judge.judge(bits).scores
    exact = judge.judge(lambda strings: product(means)(strings)[:, None]).scores
    estimated = judge.judge(noisy(product(means), 4000, 0)).scores
    for name, score in exact.items():
        for other in (sampled[name], estimated[name]):
            sigma = math.hypot(score.uncertainty, other.uncertainty)
            assert abs(score.value - other.value) < 3.5 * sigma + 1e-12, name


def test_the_discrepancy_is_that_of_the_kernel() -> None:
    truth, other = toy(150, 0), independent(toy(150, 1))
    scale = 1.7
    judge = StringJudge.of(truth, toy(500, 2), scales=[scale], strings=20_000)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a.double(), b.double()).square() / (2 * scale**2))

    n = len(truth)
    own = sum((kernel(x, x).sum().item() - n) / (n * (n - 1)) for x in (truth, other))
    expected = own - 2 * kernel(truth, other).mean().item()
    assert judge.judge(other).scores["string_mmd"].value == pytest.approx(expected, abs=0.05 * abs(expected) + 5e-4)


def test_truth_without_correlations_has_no_scores_of_them() -> None:
    rng = new_generator(0)
    truth, training = (torch.randint(0, 2, (500, 8), generator=rng) for _ in range(2))
    judge = StringJudge.of(truth, training)
    assert {"two_body", "three_body", "string_order/2"} <= set(judge.missing)
    assert {"one_body", "string_order/1", "string_mmd"} <= set(judge.judge(training).scores)


def test_scores_of_several_models_come_with_the_floor() -> None:
    found = string_scores(toy(300, 0), toy(300, 1), {"wrong": independent(toy(300, 2))}, toy(300, 3), strings=20)
    assert set(found) == {"", "wrong"}
    assert found["wrong"].scores["two_body"].value > 0.5 > found[""].scores["two_body"].value
    assert found["wrong"].numbers["two_body"].values.shape == (66,)


def test_bits_that_cannot_be_judged_are_refused(judge: StringJudge) -> None:
    with pytest.raises(ValueError, match="the model has 5 events; at least 20"):
        judge.judge(toy(5, 0))
    with pytest.raises(ValueError, match="expected \\(m, 12\\)"):
        judge.judge(torch.zeros(30, 4))
    with pytest.raises(ValueError, match="truth has 7 events; at least 20"):
        StringJudge.of(toy(7, 0), toy(30, 0))
    with pytest.raises(ValueError, match="true events have the same bits"):
        StringJudge.of(torch.zeros(30, 4), toy(30, 0))
    with pytest.raises(ValueError, match="values of 12 strings have shape"):
        judge.judge(lambda strings: torch.zeros(3, 50))


def test_a_collapsed_model_has_finite_scores(judge: StringJudge) -> None:
    scores = judge.judge(toy(1, 0).expand(100, -1)).scores
    assert all(math.isfinite(one.value) and math.isfinite(one.uncertainty) for one in scores.values())
    assert scores["one_body"].value > 0.5


# layers


@cache
def showers(grid: tuple[int, ...]) -> CalorimeterDataset:
    return load_calorimeter(grid=grid, max_events=1200)


@pytest.mark.parametrize(("code", "bits"), [("binary", 1), ("gray", 2), ("unary", 3)])
@pytest.mark.parametrize("grid", [(4, 2, 2), (6, 3)])
def test_the_profile_is_that_of_decoded_cells(grid: tuple[int, ...], code: str, bits: int) -> None:
    data = showers(grid).take(range(400))
    values = data.transform(data.samples, data.conditions)
    cells = Discretiser.fit(values, bits, "linear", code=code, order="interleaved", numbered=False)  # type: ignore[arg-type]
    indices = cells.indices(values)
    profile = Profile.of(cells, indices, data)
    assert profile is not None
    assert profile.axis == ("layer" if len(grid) == 3 else "x")
    blocks = Blocks.of(cells.indices_to_bits(indices))
    energy, hits = (blocks.sums(profile.strings, weights).mean(1) for weights in (profile.energy, profile.hits))
    inside = n_blocks(400) * (400 // n_blocks(400))
    if inside == 400:
        # the mean over training events of the mean energy of their cells is their mean energy
        assert torch.allclose(energy, data.images.reshape(400, grid[0], -1).sum(2).mean(0))
    assert torch.allclose(hits, (indices[:inside] > 0).double().reshape(inside, grid[0], -1).sum(2).mean(0), atol=1e-6)


def test_a_layer_that_is_too_bright_is_seen_in_the_profile() -> None:
    data = showers((8,))
    values = data.transform(data.samples, data.conditions)
    cells = Discretiser.fit(values, 2, "quantile", code="gray")
    profile = Profile.of(cells, cells.indices(values), data)
    bits = cells.encode(values)
    judge = StringJudge.of(bits[:400], bits[800:], profile=profile)
    bright = data.with_samples(data.samples * torch.tensor([1, 1, 1, 1.3, 1, 1, 1, 1]))
    wrong = cells.encode(data.transform(bright.samples, bright.conditions))[400:800]
    found = pulls(judge, wrong, bits[400:800])
    assert found["expected_profile"] > 3
    assert profile is not None
    assert judge.numbers()["expected_profile"].values.shape == (8,)


def test_a_voxel_of_too_many_bits_has_no_profile() -> None:
    data = showers((8,))
    values = data.transform(data.samples, data.conditions)
    cells = Discretiser.fit(values, [11, *[1] * 7], "linear")
    assert Profile.of(cells, cells.indices(values), data) is None
