from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from circuits.backends import draws
from circuits.backends.draws import draw_bits, draw_counts, frequencies

SOME = settings(max_examples=40, deadline=None)


def _listed(probabilities, shots, generator):
    return (frequencies(draw_bits(probabilities, shots, generator)) * shots).round().long()


def _uneven(shape, rng):
    """Weights over many orders of magnitude, a third of them zero."""
    weights = torch.rand(shape, generator=rng, dtype=torch.float64) ** 8
    weights[torch.rand(shape, generator=rng) < 1 / 3] = 0
    return weights


def _assert_drawn_from(counts, probabilities):
    """A chi-square test of each row, rare states taken together."""
    shots = counts.sum(-1, keepdim=True)
    assert bool((counts[probabilities == 0] == 0).all())
    expected = probabilities / probabilities.sum(-1, keepdim=True) * shots
    for seen, mean in zip(counts.double(), expected, strict=True):
        rare = mean < 10
        seen = torch.cat([seen[~rare], seen[rare].sum()[None]])
        mean = torch.cat([mean[~rare], mean[rare].sum()[None]])
        used = mean > 0
        statistic = ((seen - mean)[used].square() / mean[used]).sum()
        assert float(statistic) < chi2.ppf(1 - 1e-7, max(int(used.sum()) - 1, 1))


@pytest.mark.parametrize("draw", [_listed, draw_counts])
@pytest.mark.parametrize(
    ("n_wires", "rows", "shots"), [(1, 3, 50_000), (5, 2, 30_000), (7, 400, 100), (12, 1, 300_000)]
)
def test_draws_follow_the_probabilities(draw, n_wires, rows, shots, rng):
    probabilities = _uneven((rows, 2**n_wires), rng)
    probabilities[:, -1] = 1e-3
    _assert_drawn_from(draw(probabilities, shots, rng), probabilities)


def test_many_shots_are_split(rng):
    probabilities = _uneven((3, 2**10), rng)
    counts = draw_counts(probabilities, 2**31, rng)
    assert counts.sum(-1).tolist() == [2**31] * 3
    _assert_drawn_from(counts, probabilities)


@SOME
@given(data=st.data(), n_wires=st.integers(1, 12), rows=st.integers(1, 3), few=st.integers(500, 5000))
def test_a_table_finds_what_a_search_finds(data, n_wires, rows, few):
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    probabilities = _uneven((rows, 2**n_wires), rng)
    probabilities[:, data.draw(st.integers(0, 2**n_wires - 1))] = data.draw(st.sampled_from([1.0, 1e-9, 1e6]))
    uniform = torch.rand((rows, 20_000), generator=rng, dtype=torch.float64)
    uniform[:, 0], uniform[:, 1] = 0.0, 1 - 2**-53
    cumulative = draws._cumulative(probabilities)
    by_table = draws._invert(cumulative, uniform)
    by_search = torch.cat([draws._invert(cumulative, part) for part in uniform.split(few, -1)], -1)
    assert torch.equal(by_table, by_search)
    assert bool((probabilities.gather(1, by_table.long()) > 0).all())


@pytest.mark.parametrize("n_wires", [1, 7, 8, 9, 16, 17])
def test_bits_are_the_digits_of_the_states(n_wires, rng):
    states = torch.randint(0, 2**n_wires, (2, 300), generator=rng, dtype=torch.int32)
    fast, slow = (torch.empty((2, 300, n_wires), dtype=torch.uint8) for _ in range(2))
    draws._write_bits(states, fast)
    draws._write_bits(states.long(), slow)
    assert torch.equal(fast, slow)
    assert "".join(map(str, fast[0, 0].tolist())) == f"{int(states[0, 0]):0{n_wires}b}"


@pytest.mark.parametrize("shots", [10, 200_000])
def test_shots_are_in_no_order(shots, rng):
    bits = draw_bits(torch.ones(16), shots, rng)[:, 0].double()
    half = shots // 2
    assert abs(float(bits[:half].mean() - bits[half:].mean())) < 6 / shots**0.5


@pytest.mark.parametrize(("draw", "shots"), [(draw_bits, 30_000), (draw_counts, 30_000), (draw_counts, 10**9)])
def test_the_generator_decides_whatever_the_threads(draw, shots, rng):
    probabilities = _uneven((2, 2**12), rng)
    before = torch.random.get_rng_state()
    results = []
    for seed, threads in ((1, 1), (1, 2), (2, 1)):
        torch.set_num_threads(threads)
        results.append(draw(probabilities, shots, torch.Generator().manual_seed(seed)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("draw", [_listed, draw_counts])
@pytest.mark.parametrize("shots", [1, 2000])
def test_impossible_states_are_never_drawn(draw, shots, rng):
    probabilities = torch.tensor(
        [[0.0, 0.5, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3e-9], [0.0, 2.0, -1e-18, 0]]
    )
    counts = draw(probabilities, shots, rng)
    assert bool((counts[probabilities <= 0] == 0).all())
    assert counts.sum(-1).tolist() == [shots] * 4


@pytest.mark.parametrize("draw", [draw_bits, draw_counts])
@pytest.mark.parametrize("shots", [3, 10**6])
def test_what_is_no_distribution(draw, shots, rng):
    with pytest.raises(ValueError, match="not finite; are the angles"):
        draw(torch.tensor([0.5, torch.nan]), shots, rng)
    with pytest.raises(ValueError, match="all zero"):
        draw(torch.zeros(2, 4), shots, rng)


def test_shapes(rng):
    some = torch.rand((2, 3, 8), generator=rng)
    assert draw_bits(some, 5, rng).shape == (2, 3, 5, 3)
    assert draw_counts(some, 5, rng).shape == (2, 3, 8)
    assert draw_bits(some[:0], 5, rng).shape == (0, 3, 5, 3)
    assert draw_counts(some[:0], 5, rng).shape == draw_counts(some[:0], 5000, rng).shape == (0, 3, 8)


def test_pieces_are_put_together(monkeypatch, rng):
    monkeypatch.setattr(draws, "_CHUNK", 64)
    probabilities = torch.eye(8)[:, torch.arange(8).flip(0)].repeat(5, 1)
    assert torch.equal(draw_counts(probabilities, 7, rng), (7 * probabilities).long())
    assert torch.equal(frequencies(draw_bits(probabilities, 100, rng)), probabilities.double())
