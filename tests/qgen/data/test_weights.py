"""Weights of events in every file that can hold them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen.data import load_calorimeter, load_events, load_muon, simulate_muon, write_events
from qgen.data.dataset import Dataset, Feature

SLOW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.floats(allow_nan=False, allow_infinity=False)


@cache
def datasets() -> dict[str, Dataset]:
    rng = torch.Generator().manual_seed(0)
    plain = Dataset(torch.rand(12, 2, generator=rng), (Feature("a"), Feature("b", "GeV")))
    return {
        "table": plain,
        "muons": simulate_muon(12),
        "showers": load_calorimeter(grid=(4,), max_events=12),
    }


@pytest.mark.parametrize("kind", ["table", "muons", "showers"])
@given(weights=st.lists(numbers, min_size=12, max_size=12))
@SLOW
def test_weights_are_read_back_unchanged(kind: str, weights: list[float], tmp_path: Path) -> None:
    events = replace(datasets()[kind], weights=torch.tensor(weights, dtype=torch.float64))
    write_events(tmp_path / "events.h5", events)
    read = load_events(tmp_path / "events.h5")
    assert torch.equal(read.weights, events.weights)
    assert read.checksum == events.checksum


@pytest.mark.parametrize("kind", ["table", "muons", "showers"])
def test_events_without_weights_have_none(kind: str, tmp_path: Path) -> None:
    write_events(tmp_path / "events.h5", datasets()[kind])
    assert load_events(tmp_path / "events.h5").weights is None


def test_chosen_showers_keep_their_weights(tmp_path: Path) -> None:
    showers = load_calorimeter(grid=(4,), max_events=100)
    weighted = replace(showers, weights=showers.incident_energy / 1000)
    write_events(tmp_path / "showers.h5", weighted)
    some = load_calorimeter(tmp_path / "showers.h5", grid=(2,), max_events=30, energy_window=(2e4, 8e4))
    torch.testing.assert_close(some.weights, some.incident_energy / 1000)


FAULTS = {
    "too few": (np.ones(5), "5 weights|weights have shape"),
    "not finite": (np.array([1.0] * 11 + [np.nan]), "weights row 11: nan is not finite"),
    "a matrix": (np.ones((12, 2)), r"weights has shape \(12, 2\); expected \(N,\)"),
    "text": (np.array([b"a"] * 12), "'weights' is not an array of real numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["table", "showers"])
def test_faulty_weights_are_one_line_with_the_file(kind: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    write_events(path, datasets()[kind])
    values, message = FAULTS[fault]
    with h5py.File(path, "a") as file:
        file["weights"] = values
    with pytest.raises(ValueError, match=message) as caught:
        load_events(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def momenta(n: int) -> list[list[str]]:
    """Beam energy, momenta of muon and carrier of simulated events."""
    rows = []
    for event in datasets()["muons"].samples[:n]:
        energy, pt, eta, _, _, phi, muon_energy, muon_pt, muon_eta, _, muon_phi = event.tolist()
        muon = [muon_pt * np.cos(muon_phi), muon_pt * np.sin(muon_phi), muon_pt * np.sinh(muon_eta), muon_energy]
        carrier = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy]
        rows.append([repr(float(x)) for x in (100.0, *muon, *carrier)])
    return rows


def csv(weights: list[float]) -> str:
    header = ["E0_GeV", *(f"{p}_{c}" for p in ("mu", "V") for c in ("px", "py", "pz", "E")), "weight"]
    rows = [[*row, repr(w)] for row, w in zip(momenta(len(weights)), weights, strict=True)]
    return "\n".join(",".join(row) for row in [header, *rows]) + "\n"


def lhe(weights: list[float]) -> str:
    lines = ['<LesHouchesEvents version="3.0">', "<init>", "13 1000822080 100 193 0 0 0 0 4 1", "1 0 1 1", "</init>"]
    for row, weight in zip(momenta(len(weights)), weights, strict=True):
        particle = "{} {} {} {} {} 0 0 0"
        beam, target = "0 0 100 100", "0 0 0 193"
        muon, carrier = " ".join(row[1:5]), " ".join(row[5:9])
        lines += [
            "<event>",
            f"5 1 {weight!r} 100 0.007 0.1",
            particle.format(13, -1, "0 0", "0 0", beam),
            particle.format(1000822080, -1, "0 0", "0 0", target),
            particle.format(13, 1, "1 2", "0 0", muon),
            particle.format(1000822080, 1, "1 2", "0 0", target),
            particle.format(9900032, 1, "1 2", "0 0", carrier),
            "</event>",
        ]
    return "\n".join([*lines, "</LesHouchesEvents>"]) + "\n"


@pytest.mark.parametrize("text", [csv, lhe])
@given(weights=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
@SLOW
def test_weights_of_text_files_count_unless_all_are_equal(text, weights: list[float], tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text(text(weights))
    read = load_muon(path)
    assert len(read) == len(weights)
    if len(set(weights)) == 1:
        assert read.weights is None
    else:
        assert read.weights.tolist() == weights
        assert load_events(path).select("energy").weights.tolist() == weights


@pytest.mark.parametrize(
    ("word", "message"), [("x", "line 2: weight is 'x', not a number"), ("nan", "line 2: weight is nan, not a finite")]
)
def test_a_weight_that_is_no_number_is_one_line(word: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(csv([0.5, 1.0]).replace(",0.5\n", f",{word}\n"))
    with pytest.raises(ValueError, match=message):
        load_events(path)
