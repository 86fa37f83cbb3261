from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.studies.gflash import Showers, compared
from qgen.data import SamplingCalorimeter, gflash_events, simulate_gflash
from qgen.data.calorimeter import SAMPLE
from qgen.data.gflash import BLOCK, Tuning, gflash_blocks
from qgen.data.gflash_profile import Longitudinal, Medium, gamma_integral, radial
from qgen.data.gflash_spots import spread
from qgen.data.hdf5 import open_hdf5
from qgen.data.sampling_calorimeter import MATERIALS, energy_blocks, incident_energies, shower_dataset

GEANT4 = Path("../shared/data/calorimeter/geant4_pb_si_electrons.h5")
PDG_CRITICAL = {
    "Be": 113.70,
    "C": 81.74,
    "Al": 42.70,
    "Si": 40.19,
    "LAr": 32.84,
    "Ti": 26.01,
    "Fe": 21.68,
    "Cu": 19.42,
    "Sn": 11.86,
    "W": 7.97,
    "Au": 7.53,
    "Pb": 7.43,
    "U": 6.65,
    "polystyrene": 93.11,
}
"""MeV, of electrons."""

THIN = SamplingCalorimeter(layers=6, pads=7)


# the calorimeter


def test_critical_energies_are_near_those_of_the_particle_data_group() -> None:
    assert set(PDG_CRITICAL) == set(MATERIALS)
    for symbol, known in PDG_CRITICAL.items():
        assert MATERIALS[symbol].critical_energy == pytest.approx(known, rel=0.12)


def test_materials_order_as_nature_does() -> None:
    elements = [material for material in MATERIALS.values() if material.symbol != "polystyrene"]
    for one, other in itertools.pairwise(elements):
        assert one.z < other.z
        assert one.a < other.a
        assert one.radiation_length > other.radiation_length
    plastic = MATERIALS["polystyrene"]
    assert plastic.z / plastic.a == pytest.approx(0.53768, rel=1e-3)  # <Z/A> of the Particle Data Group


def test_effective_quantities_of_lead_and_silicon() -> None:
    stack = SamplingCalorimeter()
    lead, silicon = 5.6 * 11.35, 0.5 * 2.329
    share = lead / (lead + silicon)
    assert stack.weights == pytest.approx((share, 1 - share))
    assert stack.effective_z == pytest.approx(82 * share + 14 * (1 - share))
    assert stack.radiation_length == pytest.approx(1 / (share / 6.37 + (1 - share) / 21.82))
    assert stack.radiation_length_mm == pytest.approx(stack.radiation_length / ((lead + silicon) / 6.1) * 10)
    assert stack.depth == pytest.approx(25 * (5.6 / (63.7 / 11.35) + 0.5 / (218.2 / 2.329)))
    ec = [2.66 * (x * z / a) ** 1.1 for x, z, a in ((6.37, 82, 207.2), (21.82, 14, 28.0855))]
    mean = stack.radiation_length * (share * ec[0] / 6.37 + (1 - share) * ec[1] / 21.82)
    assert stack.critical_energy == pytest.approx(mean)
    assert stack.moliere_radius_mm == pytest.approx(21.2 * stack.radiation_length_mm / mean)
    assert stack.sampling_fraction == pytest.approx(0.0265, rel=0.01)  # dE/dx of the Particle Data Group


def described(content: Any) -> SamplingCalorimeter | str:
    """The calorimeter, or the line that says why there is none."""
    try:
        return SamplingCalorimeter.of(content)
    except ValueError as error:
        return str(error)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "passive": st.one_of(st.sampled_from(sorted(MATERIALS)), st.text(max_size=3), st.none()),
            "active": st.sampled_from(sorted(MATERIALS)),
            "passive_mm": st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=3)),
            "active_mm": st.floats(0.01, 100),
            "layers": st.one_of(st.integers(-2, 40), st.floats(0, 40), st.none()),
            "pads": st.integers(-1, 2000),
            "pad_mm": st.floats(-1, 1e5),
            "depth": st.just(3),
        },
    )
)
@settings(max_examples=150, deadline=None)
def test_a_calorimeter_is_whole_or_one_line_says_what_is_wrong(content: dict[str, Any]) -> None:
    stack = described(content)
    if isinstance(stack, str):
        assert "\n" not in stack
        assert any(field.name in stack for field in fields(SamplingCalorimeter)) or "'depth'" in stack
        return
    assert SamplingCalorimeter.of(stack.to_dict()) == stack
    assert stack.n_cells == stack.geometry.n_pixels <= 200_000
    for value in (stack.depth, stack.critical_energy, stack.moliere_radius_mm, stack.sampling_fraction, stack.density):
        assert math.isfinite(value)
        assert value > 0
    assert stack.sampling_fraction < 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"passive": "Lar"}, "passive: material 'Lar' is unknown; did you mean 'LAr'?"),
        ({"active_mm": -1}, "active_mm is -1; allowed are 0.001 to 10000 mm"),
        ({"layers": 2.5}, "layers is 2.5; a whole number from 1 to 1000 is needed"),
        ({"pads": 1000}, "layers and pads make 25 x 1000 x 1000 = 25000000 cells; at most 200000 are allowed"),
        ({"pad": 5}, "field of a calorimeter 'pad' is unknown; did you mean 'pads'?"),
        ([1], r"a calorimeter is described by fields and values; found \[1\]"),
    ],
)
def test_a_wrong_field_is_named(content: Any, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}"):
        SamplingCalorimeter.of(content)


def test_incident_energies() -> None:
    assert incident_energies(2, 5.0).tolist() == [5.0, 5.0]
    drawn = incident_energies(4000, (10.0, 20.0), seed=3)
    assert drawn.min() >= 10
    assert drawn.max() < 20
    assert drawn.mean() == pytest.approx(15, abs=5 * 10 / math.sqrt(12 * 4000))
    assert (drawn[:100] == incident_energies(100, (10.0, 20.0), seed=3)).all()
    for n, energy, line in (
        (0, 5.0, "n is 0"),
        (1, [], "energy is empty"),
        (1, [5.0, math.inf], "energy is inf MeV"),
        (1, (5.0, 5.0), r"energy is \(5, 5\) MeV"),
        (1, "much", "energy is 'much'"),
    ):
        with pytest.raises(ValueError, match=f"^{line}"):
            incident_energies(n, energy)  # type: ignore[arg-type]


@pytest.mark.parametrize("energy", [(10.0, 20.0), [1.0, 2.0, 3.0]])
def test_energies_do_not_depend_on_their_blocks_of_which_one_is_in_memory(energy: Any) -> None:
    assert np.array_equal(np.concatenate(list(energy_blocks(300, energy, 64))), incident_energies(300, energy))
    assert len(next(energy_blocks(10**15, energy, 64))) == 64


def test_the_first_of_very_many_showers_come_at_once() -> None:
    many = next(gflash_blocks(10**15, 1000.0, THIN, seed=1))
    assert torch.equal(many.samples, simulate_gflash(BLOCK, 1000.0, THIN, seed=1).samples)


# the formulas, written out once more for lead and silicon at 50 GeV


def test_longitudinal_formulas() -> None:
    stack = SamplingCalorimeter()
    f, z, e_hat = stack.sampling_frequency, stack.effective_z, 1 / (1 + 0.007 * (82 - 14))
    ln_y = math.log(50_000 / stack.critical_energy)
    profile = Longitudinal.of(Medium.of(stack), np.array([50_000.0]))
    t_hom, alpha_hom = ln_y - 0.812, 0.81 + (0.458 + 2.26 / z) * ln_y
    assert profile.depth[0] == pytest.approx(t_hom - 0.55 / f - 0.69 * (1 - e_hat))
    assert profile.alpha[0] == pytest.approx(alpha_hom - 0.476 / f)
    assert profile.sigma_depth[0] == pytest.approx(1 / (-2.5 + 1.25 * ln_y))
    assert profile.sigma_alpha[0] == pytest.approx(1 / (-0.82 + 0.79 * ln_y))
    assert profile.correlation[0] == pytest.approx(0.784 - 0.023 * ln_y)


def test_depth_and_alpha_are_drawn_with_their_fluctuations_and_correlation() -> None:
    n = 20_000
    profile = Longitudinal.of(Medium.of(SamplingCalorimeter()), np.full(n, 50_000.0))
    depth, alpha = profile.draw(np.random.default_rng(1))
    for drawn, mean, sigma in (
        (depth, profile.depth, profile.sigma_depth),
        (alpha, profile.alpha, profile.sigma_alpha),
    ):
        assert np.log(drawn).mean() == pytest.approx(math.log(mean[0]), abs=5 * sigma[0] / math.sqrt(n))
        assert np.log(drawn).std() == pytest.approx(sigma[0], rel=5 / math.sqrt(2 * n))
    found = np.corrcoef(np.log(depth), np.log(alpha))[0, 1]
    assert found == pytest.approx(profile.correlation[0], abs=5 / math.sqrt(n))


def test_profile_integral_is_that_of_the_gamma_distribution() -> None:
    depth, alpha = np.array([7.0]), np.array([4.5])
    t = np.linspace(0, 60, 60_001)
    beta = 3.5 / 7.0
    density = (beta * t) ** 3.5 * beta * np.exp(-beta * t) / math.gamma(4.5)
    assert t[density.argmax()] == pytest.approx(7.0, abs=0.001)
    within = np.trapezoid(np.where(t <= 9.0, density, 0), t)
    assert gamma_integral(np.array([[-1.0, 9.0, 60.0]]), depth, alpha)[0] == pytest.approx([0, within, 1], abs=1e-3)


def test_radial_formulas() -> None:
    stack, tau, energy = SamplingCalorimeter(), 1.3, 50_000.0
    core, tail, weight = (x[0, 0] for x in radial(Medium.of(stack), np.array([energy]), np.array([[tau]])))
    f, z, less, log_e = stack.sampling_frequency, stack.effective_z, 1 - 1 / (1 + 0.007 * 68), math.log(50)
    hom = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * z) * tau
    assert core == pytest.approx(hom - 0.0203 * less + 0.0397 * math.exp(-tau) / f)
    hom = math.exp(-2.59 * (tau - 0.645)) + math.exp((0.3585 + 0.0412 * log_e) * (tau - 0.645))
    assert tail == pytest.approx((0.659 - 0.00309 * z) * hom - 0.14 * less - 0.495 * math.exp(-tau) / f)
    w = (0.401 + 0.00187 * z - tau) / (1.313 - 0.0686 * log_e)
    hom = (2.632 - 0.00094 * z) * math.exp(w - math.exp(w))
    assert weight == pytest.approx(hom + less * (0.348 - 0.642 * math.exp(-((tau - 1) ** 2)) / f))


def test_spots_have_the_radial_density_exponential_energies_and_are_lost_outside() -> None:
    n, pads = 40_000, 201
    showers = np.zeros((1, 1, pads**2))
    radii = np.array([[[20.0, 1.0]]])
    spread(np.random.default_rng(0), np.array([[[n, 0]]]), radii, 0.5, pads, showers)
    image = showers.reshape(pads, pads)
    x = np.arange(pads) - pads // 2
    distance = np.hypot(*np.meshgrid(x, x))
    for radius in (10.5, 20.5, 60.5):  # half a pad more: the pad's middle stands for it
        wanted = radius**2 / (radius**2 + 20**2)
        error = math.sqrt(wanted * (1 - wanted) * 2 / n)
        assert image[distance <= radius].sum() / (0.5 * n) == pytest.approx(wanted, abs=5 * error + 0.003)
    assert 0.8 < image.sum() / (0.5 * n) < 1 - 20**2 / (20**2 + 142**2)
    for axis in (0, 1):
        assert (image.sum(axis) @ x) / image.sum() == pytest.approx(0, abs=5 * 60 / math.sqrt(n))
    alone = np.zeros((5000, 1, 1))
    spread(np.random.default_rng(0), np.ones((5000, 1, 2), dtype=np.int64), np.full((5000, 1, 2), 1e-6), 0.5, 1, alone)
    assert alone.mean() == pytest.approx(1.0, rel=5 / math.sqrt(10_000))
    assert alone.std() == pytest.approx(0.5 * math.sqrt(2), rel=0.1)  # of two exponentials


# the showers


def test_the_same_seed_gives_the_same_showers_however_many_are_asked_for() -> None:
    energies = [20_000.0, 50_000.0]
    few, many = (simulate_gflash(n, energies, THIN, seed=4) for n in (BLOCK, 2 * BLOCK + 5))
    assert torch.equal(many.samples[:BLOCK], few.samples)
    assert torch.equal(many.conditions[:BLOCK], few.conditions)
    blocks = list(gflash_blocks(2 * BLOCK + 5, energies, THIN, seed=4))
    assert [len(block) for block in blocks] == [BLOCK, BLOCK, 5]
    assert torch.equal(torch.cat([block.samples for block in blocks]), many.samples)
    assert not torch.equal(simulate_gflash(BLOCK, energies, THIN, seed=5).samples, few.samples)
    assert not torch.equal(many.samples[:5], many.samples[BLOCK : BLOCK + 5])


def test_a_grid_is_the_sum_of_the_pads() -> None:
    pads = simulate_gflash(20, 30_000.0, THIN, seed=1)
    coarse = simulate_gflash(20, 30_000.0, THIN, grid=(3, 7), axes=("layer", "x"), seed=1)
    assert coarse.geometry.axes == ("layer", "x")
    assert coarse.geometry.unit("x") == "mm"
    torch.testing.assert_close(coarse.images, pads.images.sum(3).reshape(20, 3, 2, 7).sum(2))
    assert pads.provenance["calorimeter"] == THIN.to_dict()


def test_response_is_linear_and_resolution_falls_with_the_root_of_the_energy() -> None:
    n = 600
    tuning = Tuning()
    c = tuning.sampling_term(SamplingCalorimeter())
    assert c == pytest.approx(0.217, abs=0.003)
    means = []
    for energy in (5_000.0, 20_000.0, 80_000.0):
        response = simulate_gflash(n, energy, grid=(1,), seed=2).samples[:, 0] / energy
        means.append(float(response.mean()))
        error = 5 / math.sqrt(2 * n)
        assert float(response.std() / response.mean()) == pytest.approx(c / math.sqrt(energy / 1000), rel=error + 0.05)
        assert means[-1] == pytest.approx(means[0], rel=0.01 + 5 * c / math.sqrt(5 * n))


def test_each_constant_moves_what_it_is_for() -> None:
    def showers(**changed: float) -> Showers:
        tuning = replace(Tuning(), **changed)
        stack = SamplingCalorimeter(pads=9)
        return Showers.of(gflash_blocks(256, 40_000.0, stack, tuning=tuning, seed=3), stack)

    plain = showers()
    assert showers(response=2 * Tuning().response).visible.mean() == pytest.approx(2 * plain.visible.mean(), rel=0.03)
    assert showers(sampling=2 * Tuning().sampling).visible.std() > 1.5 * plain.visible.std()
    assert showers(start=2.5).centre.mean() == pytest.approx(plain.centre.mean() + 2, abs=0.6)
    halved = showers(last=Tuning().last / 2).layers.mean(0) / plain.layers.mean(0)
    assert halved[-1] == pytest.approx(0.5, abs=0.15)
    assert halved[:-6] == pytest.approx(1, abs=0.25)
    assert showers(core=2.0).windows[:, 0].mean() < plain.windows[:, 0].mean() - 0.1
    assert showers(tail=2.0).visible.mean() < 0.97 * plain.visible.mean()  # more leaves at the sides


def test_what_leaks_is_lost() -> None:
    def visible(**changed: Any) -> float:
        return float(
            simulate_gflash(128, 50_000.0, replace(SamplingCalorimeter(), **changed), seed=0).samples.sum(1).mean()
        )

    whole = visible()
    assert visible(layers=10) < 0.65 * whole
    assert visible(pads=3) == pytest.approx(0.80 * whole, rel=0.05)
    assert visible(pads=41, layers=35) == pytest.approx(1.02 * whole, rel=0.03)


def test_nothing_is_lost_where_all_is_active() -> None:
    whole = SamplingCalorimeter("Si", 0.1, "Si", 20.0, layers=120, pads=25, pad_mm=40.0)
    visible = simulate_gflash(64, 20_000.0, whole, grid=(1,)).samples[:, 0] / 20_000
    assert float(visible.mean()) == pytest.approx(1.0, abs=0.06)


@given(
    passive=st.sampled_from(sorted(MATERIALS)),
    active=st.sampled_from(sorted(MATERIALS)),
    passive_mm=st.floats(0.001, 100.0),
    active_mm=st.floats(0.001, 100.0),
    layers=st.integers(1, 1000),
    pads=st.integers(1, 12),
    pad_mm=st.floats(0.001, 1000.0),
    energy=st.floats(1000.0, 200_000.0),
)
@settings(max_examples=60, deadline=None)
def test_any_calorimeter_has_finite_showers_or_is_refused(energy: float, **fields: Any) -> None:
    stack = SamplingCalorimeter(**fields)
    try:
        showers = simulate_gflash(2, energy, stack, grid=(1,))
    except ValueError as error:
        assert "too low for GFLASH in this calorimeter" in str(error)  # noqa: PT017
        return
    assert float(showers.samples.min()) >= 0
    assert float(showers.samples.max()) < 3 * energy


@pytest.mark.parametrize("passive", ["W", "Fe", "Cu", "U"])
@pytest.mark.parametrize("active", ["Si", "LAr", "polystyrene"])
def test_other_calorimeters_contain_their_showers(passive: str, active: str) -> None:
    thickness = 0.8 * MATERIALS[passive].radiation_length_mm
    stack = SamplingCalorimeter(passive, thickness, active, 3.0, layers=40, pads=41, pad_mm=20.0)
    showers = simulate_gflash(64, 30_000.0, stack, grid=(40,))
    share = showers.samples.mean(0)
    assert 5 < int(share.argmax()) < 15
    assert 0.4 < float(showers.samples.sum(1).mean()) / 30_000 / stack.sampling_fraction < 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"energy": 10.0}, r"energy is 10 MeV; allowed are 1000 to 1e\+06 MeV"),
        ({"energy": [50_000.0, 2e6]}, r"energy is 2e\+06 MeV; allowed"),
        ({"n": 0}, "n is 0"),
        ({"grid": (26,)}, "grid along 'layer': 25 cells cannot be summed to 26 pixels"),
        ({"calorimeter": SamplingCalorimeter(passive_mm=60.0)}, "energy is .* too low for GFLASH in this calorimeter"),
    ],
)
def test_a_wrong_argument_is_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}"):
        simulate_gflash(**{"n": 5, **options})


def test_constants_have_bounds() -> None:
    with pytest.raises(ValueError, match=r"^core of the tuning is 0.0; allowed are 0.001 to 1000$"):
        Tuning(core=0.0)


def test_events_of_a_configuration() -> None:
    tungsten: Any = {"passive": "W", "passive_mm": 3.5}
    events = gflash_events(n=50, energy=(20e3, 30e3), calorimeter=tungsten, grid=(5,), threshold=2.0, seed=1)
    assert events.samples.shape == (50, 5)
    assert events.threshold == 2.0
    assert float(events.samples[events.samples > 0].min()) >= 2.0
    assert 20e3 <= float(events.incident_energy.min()) < float(events.incident_energy.max()) <= 30e3
    assert events.provenance["calorimeter"] == SamplingCalorimeter.of(tungsten).to_dict()


# against Geant4


@cache
def parametrised() -> Showers:
    stack = SamplingCalorimeter()
    return Showers.of(gflash_blocks(3000, (10e3, 100e3), stack, seed=11), stack)


def assert_within_bounds(truth: Showers) -> None:
    """Each quantity within its bound and four standard deviations, all but a few within its bound and two."""
    far = []
    for row in compared(truth, parametrised()):
        if row["bound"] is None:
            continue
        error = math.hypot(row["truth"][1], row["gflash"][1])
        if row["relative"]:
            error /= abs(row["truth"][0])
        assert abs(row["off"]) < row["bound"] + 4 * error, row
        far.append(abs(row["off"]) > row["bound"] + 2 * error)
    assert sum(far) <= 0.01 * len(far) + 1


def showers_of(path: Path, rows: slice) -> Showers:
    stack = SamplingCalorimeter()
    with open_hdf5(path) as file:
        energies, showers = (
            np.asarray(file[name][rows], dtype=np.float64) for name in ("incident_energies", "showers")
        )
    return Showers.of([shower_dataset(energies[:, 0], showers, stack)], stack)


def test_installed_showers_that_the_constants_were_not_fitted_to() -> None:
    assert_within_bounds(showers_of(SAMPLE, slice(4400, 5400)))


@pytest.mark.skipif(not GEANT4.exists(), reason="the 8,000 Geant4 showers of ../shared/data are not here")
def test_showers_that_are_not_installed() -> None:
    assert_within_bounds(showers_of(GEANT4, slice(5400, 8000)))
