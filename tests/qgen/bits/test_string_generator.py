from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor, nn

from qgen.bits import BitSets, StringGenerator, bit_strings
from qgen.bits.kernels import default_scales
from qgen.data.dataset import Dataset, Feature
from qgen.data.discretiser import Discretiser
from qgen.random import new_generator, uniform
from qgen.training import Own, fit


def cells(n_bits: int) -> Discretiser:
    return Discretiser([[0.0, 0.5, 1.0]] * n_bits)


class Coins(StringGenerator):
    """Independent bits: exact values, or the signs of draws, which are unbiased values with noise."""

    def __init__(self, n_bits: int, n_conditions: int = 0, *, exact: bool, **options: object) -> None:
        super().__init__(cells(n_bits), n_conditions, **options)  # type: ignore[arg-type]
        self.exact_strings = exact
        self.logits = nn.Parameter(torch.linspace(-1.5, 0.5, n_bits, dtype=torch.float64))
        self.largest = 0

    def chances(self, condition: Tensor | None, n: int) -> Tensor:
        shift = 0 if condition is None or not self.uses_condition else condition.sum(1, keepdim=True)
        return (self.logits + shift).expand(n, -1).sigmoid()

    def string_values(self, strings: BitSets, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        if self.exact_strings:
            means = 1 - 2 * self.chances(condition, 1 if condition is None else n)
            inside = strings.dense().bool()
            found = torch.where(inside[:, None], means, 1.0).prod(2)
        else:
            found = strings.signs(self._draw_bits(n, condition, generator))
        self.largest = max(self.largest, found.numel())
        return found

    def _draw_bits(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        chance = self.chances(condition, n)
        return (uniform(tuple(chance.shape), generator, dtype=chance.dtype) < chance).to(torch.uint8)


def mmd_of_tables(p: Tensor, q: Tensor, scale: float) -> float:
    n_bits = len(p).bit_length() - 1
    kernel = torch.from_numpy(rbf_kernel(bit_strings(n_bits).numpy(), gamma=1 / (2 * scale**2)))
    return float((p - q) @ kernel @ (p - q))


def table(chance: Tensor) -> Tensor:
    bits = bit_strings(chance.shape[-1])
    return torch.where(bits.bool(), chance, 1 - chance).prod(1).detach()


@pytest.mark.parametrize("exact", [True, False])
def test_the_own_loss_is_unbiased_for_the_mean_of_the_kernels(exact: bool) -> None:
    scales = (0.6, 1.5)
    model = Coins(5, exact=exact, scales=scales, n_strings=40, n_draws=12)
    truth = torch.full((5,), 0.4, dtype=torch.float64)
    rng, found = new_generator(0), []
    for _ in range(250):
        values = (uniform((20, 5), rng, dtype=torch.float64) < truth).double() * 0.9
        with torch.no_grad():
            found.append(model._own_loss(values, None, rng))
    losses = torch.stack(found)
    known = sum(mmd_of_tables(table(model.chances(None, 1)), table(truth), scale) for scale in scales) / 2
    assert abs(float(losses.mean()) - known) < 4 * float(losses.std()) / 250**0.5


@pytest.mark.parametrize("exact", [True, False])
def test_the_own_loss_under_conditions_sees_which_event_has_which(exact: bool) -> None:
    model = Coins(4, 1, exact=exact, n_strings=60)
    rng = new_generator(1)
    same, shuffled = [], []
    with torch.no_grad():
        for _ in range(150):
            condition = 2 * torch.randn(60, 1, generator=rng, dtype=torch.float64)
            values = model.discretiser.decode(model._draw_bits(60, condition, rng), rng)
            same.append(model._own_loss(values, condition, rng))
            shuffled.append(model._own_loss(values, condition.flip(0), rng))
    a, b = torch.stack(same), torch.stack(shuffled)
    assert abs(float(a.mean())) < 4 * float(a.std()) / 150**0.5
    assert float(b.mean()) > 10 * float(b.std()) / 150**0.5


def test_gradient_of_the_own_loss() -> None:
    model = Coins(4, exact=True, n_strings=30)
    values = uniform((20, 4), new_generator(0), dtype=torch.float64)

    def loss(logits: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(model, {"logits": logits}, (values,))
        return found

    model.forward = lambda values: model._own_loss(values, None, new_generator(3))  # type: ignore[assignment]
    assert torch.autograd.gradcheck(loss, model.logits.detach().requires_grad_())


def test_it_is_trained_by_its_own_loss() -> None:
    rng = new_generator(2)
    truth = torch.tensor([0.1, 0.7, 0.4, 0.9, 0.2, 0.5])
    values = (uniform((3000, 6), rng, dtype=torch.float64) < truth).double() * 0.9
    data = Dataset(values, tuple(Feature(f"bit {i}") for i in range(6)))
    model = Coins(6, exact=True, n_strings=100)
    fit(model, data, Own(), steps=80, learning_rate=0.15, batch_size=200)
    torch.testing.assert_close(model.logits.sigmoid().detach(), truth.double(), atol=0.06, rtol=0)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("at_once", [2**22, 256])
def test_expectations_with_their_errors(conditional: bool, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in many small blocks; the errors are neither too small nor too large."""
    monkeypatch.setattr("qgen.bits.string_generator.VALUES_AT_ONCE", at_once)
    model = Coins(7, int(conditional), exact=True)
    condition = torch.linspace(-2, 2, 20, dtype=torch.float64)[:, None] if conditional else None
    strings = BitSets.from_dense(bit_strings(7))
    known, none = model.expectations(strings, condition, generator=new_generator(0))
    assert not none.any()
    exact = model.string_values(strings, condition, 20, new_generator(0)).mean(1)
    torch.testing.assert_close(known, exact.detach())
    model.exact_strings = False
    model.largest = 0
    found, error = model.expectations(strings, condition, draws=1000, generator=new_generator(1))
    pull = (found - known)[1:] / error[1:]
    assert (found[0], error[0]) == (1, 0)  # the empty string
    assert 0.8 < float(pull.square().mean().sqrt()) < 1.25
    assert error[1:].mean() == pytest.approx(1000**-0.5, rel=0.3)
    assert model.largest <= max(at_once, 64 * 50 * (2 if conditional else 1))


def test_mmd_and_its_variance() -> None:
    """Against the discrepancy of the tables, over many samples of events; also in memory that does not grow."""
    scale, truth = 1.3, torch.full((6,), 0.4, dtype=torch.float64)
    model = Coins(6, exact=True)
    known = mmd_of_tables(table(model.chances(None, 1)), table(truth), scale)
    rng = new_generator(3)
    for exact in (True, False):
        model.exact_strings = exact
        found = []
        for _ in range(60):
            bits = (uniform((80, 6), rng, dtype=torch.float64) < truth).to(torch.uint8)
            found.append(model.mmd(bits, scale=scale, strings=150, draws=60, generator=rng))
        values, variances = torch.tensor(found).T
        assert abs(float(values.mean()) - known) < 4 * float(values.std()) / 60**0.5
        assert 0.6 < float(variances.mean() / values.var()) < 1.7


def test_mmd_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgen.bits.string_generator.VALUES_AT_ONCE", 2000)
    model = Coins(6, exact=False)
    bits = model._draw_bits(40, None, new_generator(0))
    peaks = []
    for strings in (100, 2000):
        model.largest = 0
        value, variance = model.mmd(bits, scale=1.0, strings=strings, draws=50, generator=new_generator(1))
        assert abs(value) < 5 * math.sqrt(variance)
        peaks.append(model.largest)
    assert peaks == [2000, 2000]


@pytest.mark.parametrize("exact", [True, False])
def test_mmd_under_conditions_is_that_of_the_mixture(exact: bool) -> None:
    model = Coins(5, 1, exact=exact)
    rng = new_generator(4)
    condition = torch.randn(400, 1, generator=rng, dtype=torch.float64)
    model.exact_strings = False
    same = model._draw_bits(400, condition, rng)
    other = torch.roll(same, 1, 1)
    model.exact_strings = exact
    value, variance = model.mmd(same, condition, scale=1.0, strings=400, draws=800, generator=rng)
    assert abs(value) < 4 * math.sqrt(variance)
    far, variance = model.mmd(other, condition, scale=1.0, strings=400, draws=800, generator=rng)
    with torch.no_grad():
        mixture = torch.stack([table(row) for row in model.chances(condition, 400)]).mean(0)
    place = 2 ** torch.arange(4, -1, -1)
    events = torch.bincount(other.long() @ place, minlength=32).double() / 400
    assert far == pytest.approx(mmd_of_tables(mixture, events, 1.0), abs=4 * math.sqrt(variance) + 1 / 400)


def test_arguments_and_mistakes() -> None:
    model = Coins(4, 1, exact=False)
    assert model.scales == default_scales(4)
    assert model.arguments()["n_draws"] == 1000
    assert "n_draws" not in Coins(4, exact=True, scales=[1.0]).arguments()
    strings, rng = BitSets.of(4, [(0,)]), new_generator(0)
    with pytest.raises(ValueError, match=r"^Coins needs a condition, 1 columns$"):
        model.expectations(strings, generator=rng)
    with pytest.raises(ValueError, match=r"^condition has shape \(3, 2\); expected \(m, 1\)$"):
        model.expectations(strings, torch.ones(3, 2), generator=rng)
    with pytest.raises(ValueError, match=r"^condition has shape \(3, 1\); expected \(5, 1\)$"):
        model.mmd(torch.ones(5, 4), torch.ones(3, 1), scale=1.0, generator=rng)
    with pytest.raises(ValueError, match=r"^bits row 0, bit 0 is 2; allowed are 0 and 1$"):
        model.mmd(torch.full((5, 4), 2), torch.ones(5, 1), scale=1.0, generator=rng)
    with pytest.raises(ValueError, match=r"^strings is 1; at least 2 are needed$"):
        model.mmd(torch.ones(5, 4), torch.ones(5, 1), scale=1.0, strings=1, generator=rng)
    with pytest.raises(ValueError, match=r"^draws is 1; at least 2 are needed$"):
        model.expectations(strings, torch.ones(5, 1), draws=1, generator=rng)
    for options, message in (
        ({"scales": []}, "scales are empty"),
        ({"scales": [0.0]}, "scale is 0; a bandwidth is positive"),
        ({"n_strings": 0}, "n_strings is 0; at least 1 is needed"),
        ({"n_draws": 1}, "n_draws is 1; at least 2 are needed"),
    ):
        with pytest.raises(ValueError, match=message):
            Coins(4, exact=True, **options)
