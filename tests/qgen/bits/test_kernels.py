from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom
from sklearn.metrics.pairwise import rbf_kernel

from qgen.bits import BitSets, bit_strings
from qgen.bits.kernels import default_scales, draw_strings, flip_rate, order_weights, scale_of_order, share_seen
from qgen.random import new_generator


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_strings_of_a_bandwidth_are_the_gaussian_kernel(scale: float) -> None:
    strings = bit_strings(5)
    signs = BitSets.from_dense(strings).signs(strings).double()
    rate, size = flip_rate(scale), strings.sum(1)
    weights = rate**size * (1 - rate) ** (5 - size)
    known = torch.from_numpy(rbf_kernel(strings.numpy(), gamma=1 / (2 * scale**2)))
    torch.testing.assert_close(signs.T @ (weights[:, None] * signs), known)


@pytest.mark.parametrize(("n_bits", "scale"), [(1, 0.1), (7, 1.3), (4000, 20.0), (4000, 0.4)])
def test_orders_are_binomial(n_bits: int, scale: float) -> None:
    known = torch.from_numpy(binom.pmf(range(n_bits + 1), n_bits, flip_rate(scale)))
    torch.testing.assert_close(order_weights(n_bits, scale), known, rtol=1e-9, atol=1e-12)
    seen = torch.tensor([binom.sf(0, n_bits, flip_rate(scale))], dtype=torch.float64)
    torch.testing.assert_close(share_seen(n_bits, [scale]), seen)


@pytest.mark.parametrize("n_bits", [1, 2, 5, 16, 1000, 15_625])
def test_default_scales_see_low_orders_and_a_tail(n_bits: int) -> None:
    scales = default_scales(n_bits)
    mean = [float(order_weights(n_bits, scale) @ torch.arange(n_bits + 1.0).double()) for scale in scales]
    assert mean == pytest.approx([o for o in (1, 2, 4, 8) if o <= n_bits / 4] or [n_bits / 4])
    orders = torch.stack([order_weights(n_bits, scale) for scale in scales]).mean(0)
    if n_bits >= 16:
        assert (orders[1:4] > 0.1).all()
    assert scale_of_order(n_bits, mean[0]) == pytest.approx(scales[0])


@pytest.mark.parametrize("scales", [(1.0, 2.5), (0.4,), (6.0, 30.0)])
def test_drawn_strings_have_the_probabilities_of_strings_that_are_not_empty(scales: tuple[float, ...]) -> None:
    count, places = 60_000, 2 ** torch.arange(5)
    strings, kernel = draw_strings(5, scales, count, new_generator(0))
    number = strings.dense().long() @ places
    seen = share_seen(5, scales)
    for k, scale in enumerate(scales):
        expected = count * seen[k] / seen.sum()
        assert abs(int((kernel == k).sum()) - expected) < 1
        size = bit_strings(5).flip(1).sum(1)
        rate = flip_rate(scale)
        chance = (rate**size * (1 - rate) ** (5 - size))[1:] / seen[k]
        found = torch.bincount(number[kernel == k], minlength=32).double()
        assert found[0] == 0
        chi_square = ((found[1:] - expected * chance).square() / (expected * chance)).sum()
        assert chi_square < 30 + 5 * math.sqrt(60)


def test_thousands_of_bits_take_memory_for_the_members_only() -> None:
    strings, kernel = draw_strings(4000, default_scales(4000), 1000, new_generator(1))
    assert len(strings) == len(kernel) == 1000
    assert len(strings.members) == pytest.approx(4300, rel=0.1)
    assert strings.sizes.min() == 1
    assert (strings.members.diff()[strings.rows.diff() == 0] > 0).all()
    assert strings.members.float().mean() == pytest.approx(1999.5, rel=0.05)
    again, _ = draw_strings(4000, default_scales(4000), 1000, new_generator(1))
    assert torch.equal(again.members, strings.members)


def test_a_bandwidth_that_is_hardly_seen_has_its_share() -> None:
    """Over many draws of few strings: no bandwidth is lost and none favoured."""
    rng, scales = new_generator(2), (100.0, 2.0)
    kernel = torch.cat([draw_strings(50, scales, 3, rng)[1] for _ in range(1000)])
    chance = share_seen(50, scales)[0] / share_seen(50, scales).sum()
    assert float((kernel == 0).double().mean()) == pytest.approx(float(chance), abs=4 * math.sqrt(chance / 3000))


def test_impossible_kernels() -> None:
    rng = new_generator(0)
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^scale is .*; a bandwidth is positive and finite$"):
            flip_rate(scale)
    with pytest.raises(ValueError, match=r"^scale is 1e\+200; the kernel does not tell any bit strings apart$"):
        flip_rate(1e200)
    assert flip_rate(1e-200) == 0.5
    with pytest.raises(ValueError, match=r"^scales are empty; at least one bandwidth is needed$"):
        draw_strings(5, (), 10, rng)
    with pytest.raises(ValueError, match=r"^n_bits is 5 and count 0; at least 1 of each is needed$"):
        draw_strings(5, (1.0,), 0, rng)
    with pytest.raises(ValueError, match=r"^order is 3; with 6 bits it is above 0 and below 3$"):
        scale_of_order(6, 3)
