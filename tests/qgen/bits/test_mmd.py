from __future__ import annotations

import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor

from qgen.bits import BitSets, bit_strings
from qgen.bits.kernels import draw_strings, flip_rate, share_seen
from qgen.bits.mmd import MMDEstimate, exact_terms, mean_by_kernel, mmd_variance, paired_terms, unbiased_terms
from qgen.random import new_generator, uniform


def events(n: int, n_bits: int, rate: float, rng: torch.Generator) -> Tensor:
    """Bits of which neighbours agree more often than not."""
    bits = (uniform((n, n_bits), rng, dtype=torch.float64) < rate).to(torch.uint8)
    copied = uniform((n, n_bits - 1), rng, dtype=torch.float64) < 0.4
    bits[:, 1:] = torch.where(copied, bits[:, :-1], bits[:, 1:])
    return bits


def direct(x: Tensor, y: Tensor, scale: float) -> float:
    """The unbiased squared discrepancy of two samples, as double sums of the kernel."""
    gamma = 1 / (2 * scale**2)
    among = [rbf_kernel(z.double().numpy(), gamma=gamma) for z in (x, y)]
    within = sum((k.sum() - len(k)) / (len(k) * (len(k) - 1)) for k in among)
    return float(within - 2 * rbf_kernel(x.double().numpy(), y.double().numpy(), gamma=gamma).mean())


def all_strings(n_bits: int, scale: float) -> tuple[BitSets, Tensor]:
    strings = bit_strings(n_bits)
    rate, size = flip_rate(scale), strings.sum(1)
    return BitSets.from_dense(strings), rate**size * (1 - rate) ** (n_bits - size)


@pytest.mark.parametrize("scale", [0.5, 1.5, 4.0])
def test_over_all_strings_it_is_the_discrepancy_of_the_kernel(scale: float) -> None:
    rng = new_generator(0)
    x, y = events(40, 8, 0.3, rng), events(60, 8, 0.5, rng)
    strings, weights = all_strings(8, scale)
    a, b = strings.signs(x).double(), strings.signs(y).double()
    assert float(weights @ unbiased_terms(a, b)) == pytest.approx(direct(x, y, scale), abs=1e-12)
    p = torch.bincount(x.long() @ (2 ** torch.arange(7, -1, -1)), minlength=256).double() / 40
    means = strings.signs(bit_strings(8)).double() @ p  # the sample as a distribution
    kernel = rbf_kernel(bit_strings(8).numpy(), gamma=1 / (2 * scale**2))
    to_events = rbf_kernel(bit_strings(8).numpy(), y.double().numpy(), gamma=1 / (2 * scale**2)).mean(1)
    among = rbf_kernel(y.double().numpy(), gamma=1 / (2 * scale**2))
    known = p.numpy() @ kernel @ p.numpy() - 2 * p.numpy() @ to_events + (among.sum() - 60) / (60 * 59)
    assert float(weights @ exact_terms(means, b)) == pytest.approx(known, abs=1e-12)
    torch.testing.assert_close(paired_terms(means[:, None] - b), exact_terms(means, b))


def test_terms_of_random_strings_are_unbiased() -> None:
    """Over strings, draws and events together; values of the model have any size."""
    rng, scale, n_bits = new_generator(1), 1.3, 6
    strings, weights = all_strings(n_bits, scale)
    truth, model = events(200_000, n_bits, 0.3, rng), events(200_000, n_bits, 0.45, rng)
    difference = strings.signs(truth).mean(1) - strings.signs(model).mean(1)
    known = float(weights @ difference.double().square())
    found: dict[str, list[float]] = {"two samples": [], "pairs": [], "exact": []}
    share = share_seen(n_bits, [scale]).item()
    for _ in range(600):
        some, _ = draw_strings(n_bits, [scale], 20, rng)
        b = some.signs(events(8, n_bits, 0.3, rng))
        a = some.signs(events(8, n_bits, 0.45, rng)) + torch.randn(20, 8, generator=rng)
        found["two samples"].append(share * float(unbiased_terms(a, b).mean()))
        found["pairs"].append(share * float(paired_terms(a - b).mean()))
        found["exact"].append(share * float(exact_terms(some.signs(model[:20_000]).mean(1), b).mean()))
    for name, each in found.items():
        values = torch.tensor(each)
        assert abs(float(values.mean()) - known) < 4 * float(values.std()) / 600**0.5, name


@pytest.mark.parametrize(
    ("n_bits", "strings", "draws", "n_events", "blocks"),
    [(12, 80, 40, 60, 1), (12, 40, 20, 60, 2), (60, 40, 60, 30, 1)],
)
@pytest.mark.parametrize("rate", [0.3, 0.45, 0.8])
def test_variance_by_simulation(n_bits: int, strings: int, draws: int, n_events: int, blocks: int, rate: float) -> None:
    """At the truth (rate 0.3), near it and far away; the events are the same for all blocks, draws are not."""
    rng, scale = new_generator(2), n_bits**0.5 / 2
    values, predicted = [], []
    for _ in range(200):
        data = events(n_events, n_bits, 0.3, rng)
        estimate = MMDEstimate(share_seen(n_bits, [scale]).item())
        for _ in range(blocks):
            some, _ = draw_strings(n_bits, [scale], strings // blocks, rng)
            estimate.add(some.signs(data), some.signs(events(draws, n_bits, rate, rng)))
        values.append(estimate.value)
        predicted.append(estimate.variance)
    ratio = float(torch.tensor(predicted).mean() / torch.tensor(values).var())
    # the spread of 200 values gives their variance to about 10 %; at the truth what cannot be negative is cut at zero
    assert 0.75 < ratio < (2.2 if rate == 0.3 else 1.35)


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_variance_of_pairs_by_simulation(rate: float) -> None:
    rng, scale, n_bits = new_generator(3), 2.0, 12
    truth = events(50_000, n_bits, rate, rng)
    values, predicted = [], []
    for _ in range(200):
        some, _ = draw_strings(n_bits, [scale], 60, rng)
        differences = some.signs(truth[:5000]).mean(1, keepdim=True) - some.signs(events(50, n_bits, 0.3, rng))
        values.append(float(paired_terms(differences).mean()))
        predicted.append(mmd_variance(differences))
    ratio = float(torch.tensor(predicted).mean() / torch.tensor(values).var())
    assert 0.75 < ratio < (2.2 if rate == 0.3 else 1.35)


def test_terms_taken_as_independent_would_promise_too_much() -> None:
    """The strings share the draws: that is most of the variance."""
    rng = new_generator(4)
    some, _ = draw_strings(12, [2.0], 2000, rng)
    a, b = some.signs(events(50, 12, 0.3, rng)), some.signs(events(50, 12, 0.3, rng))
    independent = float(unbiased_terms(a, b).var() / 2000)
    assert mmd_variance(b, a) > 5 * independent


def test_blocks_are_one_sum() -> None:
    rng = new_generator(5)
    differences = torch.randn(100, 30, generator=rng, dtype=torch.float64)
    whole, parts = MMDEstimate(0.5), MMDEstimate(0.5)
    whole.add(differences)
    for part in differences.split(7):
        parts.add(part)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.variance == pytest.approx(whole.variance, rel=1e-12)
    assert whole.value == pytest.approx(0.5 * float(paired_terms(differences).mean()), rel=1e-12)
    assert whole.variance == mmd_variance(differences, weight=0.5)


def test_blocks_with_the_same_draws_are_one_sum() -> None:
    """Two samples of events, say; taken as fresh ones they would seem to be more than they are."""
    rng = new_generator(9)
    some, _ = draw_strings(12, [2.0], 400, rng)
    a, b = some.signs(events(40, 12, 0.3, rng)), some.signs(events(50, 12, 0.3, rng))
    parts, fresh = MMDEstimate(fresh=False), MMDEstimate()
    for x, y in zip(a.split(90), b.split(90), strict=True):
        parts.add(y, x)
        fresh.add(y, x)
    assert parts.variance == pytest.approx(mmd_variance(b, a), rel=1e-9)
    assert parts.value == fresh.value
    assert fresh.variance < 0.8 * parts.variance
    with pytest.raises(ValueError, match=r"^the block has 9 draws, those before had 40$"):
        parts.add(b[:3], a[:3, :9])


def test_more_events_than_pairs_are_taken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = new_generator(6)
    some, _ = draw_strings(20, [2.0], 300, rng)
    a, b = some.signs(events(400, 20, 0.4, rng)), some.signs(events(500, 20, 0.3, rng))
    every = mmd_variance(b, a)
    monkeypatch.setattr("qgen.bits.mmd.PAIRS_OF", 100)
    assert mmd_variance(b, a) == pytest.approx(every, rel=0.1)


def test_gradients_of_terms() -> None:
    rng = new_generator(7)
    data = torch.randint(2, (3, 5), generator=rng).double() * 2 - 1
    model = torch.randn(3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: unbiased_terms(a, data), model)
    assert torch.autograd.gradcheck(lambda a: exact_terms(a[:, 0], data), model)
    assert torch.autograd.gradcheck(paired_terms, model)


def test_each_kernel_apart() -> None:
    """The strings of two kernels together give the discrepancy of each, and their mean that of both."""
    rng, scales, n_bits = new_generator(8), (1.0, 3.0), 6
    x, y = events(30, n_bits, 0.3, rng), events(30, n_bits, 0.6, rng)
    strings, kernel = draw_strings(n_bits, scales, 40_000, rng)
    terms, shares = unbiased_terms(strings.signs(x), strings.signs(y)), share_seen(n_bits, scales)
    known = [direct(x, y, scale) for scale in scales]
    assert mean_by_kernel(terms, kernel, shares).tolist() == pytest.approx(known, rel=0.05)
    assert float(shares.mean() * terms.mean()) == pytest.approx(sum(known) / 2, rel=0.05)
    with pytest.raises(ValueError, match=r"^kernel 1 has no string; draw more strings, or only its own$"):
        mean_by_kernel(terms[:1], kernel[:1], shares)


def test_too_little_for_an_estimate() -> None:
    one, many = torch.ones(5, 1), torch.ones(5, 6)
    with pytest.raises(ValueError, match=r"have shape \(5, 1\); at least 2 draws of the model are needed$"):
        unbiased_terms(one, many)
    with pytest.raises(ValueError, match=r"at least 2 events are needed$"):
        exact_terms(one[:, 0], one)
    estimate = MMDEstimate()
    with pytest.raises(ValueError, match=r"^no strings were added$"):
        estimate.value  # noqa: B018
    with pytest.raises(ValueError, match=r"at least 4 draws of the model are needed$"):
        estimate.add(many, many[:, :3])
    estimate.add(many[:1])
    with pytest.raises(ValueError, match=r"^1 strings were added; a variance needs at least 2$"):
        estimate.variance  # noqa: B018
    with pytest.raises(ValueError, match=r"^the block has 5 events, those before had 6$"):
        estimate.add(many[:, :5])


def test_values_that_never_change_have_no_variance() -> None:
    estimate = MMDEstimate()
    estimate.add(torch.ones(8, 6), torch.ones(8, 5))
    assert (estimate.value, estimate.variance) == pytest.approx((0.0, 0.0), abs=1e-12)
