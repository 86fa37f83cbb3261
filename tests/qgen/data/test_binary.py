"""The two data sets of 16 bits: against the released ones, their own exact probabilities, and impossible input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from classical_baselines import BoltzmannMachine
from qgen.data import DATASETS, BitDataset, Discretiser, Feature, blob_events, ising_events, load_events, write_events
from qgen.data.binary import Bits, blob_probabilities, couplings, ising_probabilities

STRINGS = (torch.arange(65536)[:, None] >> torch.arange(15, -1, -1)) & 1

# Means over the 50,000 test events released with 2503.02934, in github.com/XanaduAI/scaling-gqml:
# paper/datasets/ising/2d_random_lattice_dataset/ising_4_4_T_3_moments.csv
RELEASED = {"energy": -18.6933, "energy2": 442.778, "magnetisation2": 0.485592, "magnetisation4": 0.352378}


def test_spins_have_the_moments_of_the_released_events() -> None:
    spins = (2 * STRINGS - 1).to(torch.float64)
    p = ising_probabilities()
    energy = -sum(j * spins[:, a] * spins[:, b] for (a, b), j in couplings().items())
    magnetisation = spins.mean(1)
    found = {
        "energy": energy,
        "energy2": energy**2,
        "magnetisation2": magnetisation**2,
        "magnetisation4": magnetisation**4,
    }
    for name, values in found.items():
        mean = float(p @ values)
        error = float(p @ (values - mean) ** 2 / 50_000) ** 0.5
        # neighbours in a Markov chain are not independent
        assert abs(mean - RELEASED[name]) < 4 * error, name
    equal = -sum(spins[:, a] * spins[:, b] for a, b in couplings())
    other = (-equal / 3).softmax(0)
    assert abs(float(other @ equal) - RELEASED["energy"]) > 1  # couplings of 1 are another model


def test_every_spin_has_four_neighbours_and_no_direction() -> None:
    ends = torch.tensor(list(couplings())).flatten()
    assert ends.bincount().tolist() == [4] * 16
    p = ising_probabilities()
    assert torch.allclose(p, p.flip(0))
    assert abs(float(p.sum()) - 1) < 1e-12
    assert ising_probabilities(1e6).log().std() < 1e-4  # so hot that couplings do not matter


def test_blobs_without_noise_are_the_eight_patterns_and_with_most_noise_uniform() -> None:
    p = blob_probabilities(0.0)
    assert (p > 0).sum() == 8
    assert torch.equal(p[p > 0], torch.full((8,), 1 / 8, dtype=torch.float64))
    assert blob_probabilities(0.5).std() < 1e-18
    images = STRINGS[p > 0].reshape(8, 4, 4)
    assert images.sum((1, 2)).tolist() == [4] * 8  # four pixels of each are on
    # the set of patterns is as symmetric as the square
    assert {tuple(i.flatten().tolist()) for i in images} == {tuple(i.T.flatten().tolist()) for i in images}


@pytest.mark.parametrize(
    ("build", "probabilities"), [(blob_events, blob_probabilities), (ising_events, ising_probabilities)]
)
def test_events_follow_the_probabilities(build, probabilities) -> None:
    p = probabilities()
    events = build(n=40_000, seed=3)
    assert isinstance(events, BitDataset)
    assert len(build().train) == 5000
    number = (events.samples.long() << torch.arange(15, -1, -1)).sum(1)
    log_p = p.log()
    entropy = -float(p @ log_p)
    spread = float(p @ (log_p + entropy) ** 2 / 40_000) ** 0.5
    assert abs(-float(log_p[number].mean()) - entropy) < 4 * spread
    top = p.argmax()
    assert abs(float((number == top).double().mean() - p[top])) < 4 * float(p[top] / 40_000) ** 0.5
    assert torch.equal(build(n=50, seed=1).samples, build(n=50, seed=1).samples)
    assert not torch.equal(build(n=50, seed=1).samples, build(n=50, seed=2).samples)


def test_a_model_on_bits_gives_back_bits_and_their_probability(tmp_path: Path) -> None:
    events = blob_events(n=500)
    model = BoltzmannMachine.for_dataset(events, bits=1, hidden=3)
    drawn = model.sample(200, generator=torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(model.discretiser.encode(events.transform(events.samples)).double(), events.samples)
    p = model.log_prob(STRINGS.double()).exp()
    assert abs(float(p.detach().sum()) - 1) < 1e-9
    write_events(tmp_path / "drawn.h5", events.with_samples(drawn))
    again = load_events(tmp_path / "drawn.h5")
    assert isinstance(again, BitDataset)
    assert torch.equal(again.samples, drawn)


def test_any_value_becomes_a_bit() -> None:
    cells = Discretiser.fit(Bits()(torch.tensor([[0.0], [1.0]])), bits=1, edges="linear")
    values = cells.decode(torch.tensor([0, 1]).repeat(500), torch.Generator().manual_seed(0))
    assert Bits().inverse(values).flatten().tolist() == [0.0, 1.0] * 500


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: BitDataset(torch.tensor([[0.0, 1.0], [1.0, -1.0]]), (Feature("a"), Feature("b"))),
            "^samples row 1, column 'b' is -1; bits are 0 or 1$",
        ),
        (
            lambda: BitDataset(torch.tensor([[0.5]]), (Feature("a"),)),
            "samples row 0, column 'a' is 0.5; bits are 0 or 1",
        ),
        (lambda: blob_events(n=0), "n is 0; a whole number"),
        (lambda: blob_events(noise=0.6), "noise is 0.6; a bit is flipped with a probability of 0 to 0.5"),
        (lambda: blob_events(noise=float("nan")), "noise is nan"),
        (lambda: ising_events(temperature=0.0), "temperature is 0.0; it must be positive and finite"),
        (lambda: ising_events(temperature=float("inf")), "temperature is inf"),
        (lambda: ising_events(n=-3), "n is -3"),
    ],
)
def test_the_impossible_is_refused_in_one_line(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_both_are_kinds_of_a_configuration() -> None:
    assert DATASETS["blobs"] is blob_events
    assert DATASETS["ising"] is ising_events
