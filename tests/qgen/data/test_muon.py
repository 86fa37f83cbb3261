from __future__ import annotations

import inspect
import math
import typing
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, interpolate, stats

from qgen.data import Dataset, Feature, MuonDataset, load_muon, muon_events, simulate_muon, write_events
from qgen.data.bremsstrahlung import Bremsstrahlung, form_factor
from qgen.data.nuclei import Nucleus

MADGRAPH = Path("../shared/data/muon/mfc_vector_Pb_mV0.2GeV.csv.gz")
MUON, ELECTRON = 0.1056583755, 0.51099895e-3
LEAD = Nucleus(82, 207.2)


def flux_by_quad(t_min: float, t_max: float, nucleus: Nucleus) -> float:
    """chi by adaptive quadrature, with the form factor written out once more."""
    z, mass_number = nucleus.z, nucleus.a
    a, b, d = 111 * z ** (-1 / 3) / ELECTRON, 773 * z ** (-2 / 3) / ELECTRON, 0.164 * mass_number ** (-2 / 3)

    def integrand(log_t: float) -> float:
        t = math.exp(log_t)
        elastic = (a**2 * t / (1 + a**2 * t) / (1 + t / d)) ** 2 * z**2
        moments = 1 + t / (4 * 0.93827208943**2) * (2.79**2 - 1)
        inelastic = (b**2 * t / (1 + b**2 * t)) ** 2 * moments / (1 + t / 0.71) ** 4 * z
        return (t - t_min) / t * (elastic + inelastic)

    low, high = math.log(t_min), math.log(t_max)
    points = np.linspace(low, high, 12)[1:-1]
    return integrate.quad(integrand, low, high, points=points, limit=400, epsrel=1e-10)[0]


@pytest.mark.parametrize("nucleus", [LEAD, Nucleus(1, 1.008), Nucleus(6, 12.011)])
@pytest.mark.parametrize("mass", [0.001, 0.2, 3.0])
def test_photon_flux_agrees_with_scipy(mass: float, nucleus: Nucleus) -> None:
    process = Bremsstrahlung(mass, nucleus)
    t_max = mass**2 + MUON**2
    for t_min in np.geomspace(1e-13, 0.9 * t_max, 12):
        expected = flux_by_quad(t_min, t_max, nucleus)
        assert process.chi(np.array([t_min]))[0] == pytest.approx(expected, rel=1e-6)
    assert process.chi(np.array([2 * t_max]))[0] == 0.0


def test_form_factor_limits() -> None:
    assert form_factor(np.array([1e-4]), Nucleus(1, 1.0))[0] == pytest.approx(2.0, rel=0.02)
    assert form_factor(np.array([1e-16]), LEAD)[0] < 1e-6


@cache
def quadrature(mediator: str, mass: float, beam: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, log theta and the density in both, from small-angle formulas on a fine grid."""
    t_max = mass**2 + MUON**2
    log_t = np.linspace(math.log(1e-14), math.log(0.999 * t_max), 160)
    spline = interpolate.CubicSpline(log_t, [flux_by_quad(math.exp(v), t_max, LEAD) for v in log_t])
    x = np.linspace(mass / beam, 1 - MUON / beam, 1502)[1:-1]
    log_theta = np.linspace(math.log(1e-4 / beam), math.log(30 / beam), 1200)
    x2, theta = x[:, None], np.exp(log_theta)[None, :]
    u = x2 * beam**2 * theta**2 + mass**2 * (1 - x2) / x2 + MUON**2 * x2
    t_min = (u / (2 * beam * (1 - x2))) ** 2
    flux = np.where(t_min < 0.999 * t_max, spline(np.log(np.minimum(t_min, 0.999 * t_max))), 0.0)
    bracket = mass**2 - u * x2 / (1 - x2) + MUON**2 * x2**2 / (1 - x2)
    if mediator == "vector":
        shape = 2 * (2 - 2 * x2 + x2**2) / u**2 + 4 * (1 - x2) ** 2 * (mass**2 + 2 * MUON**2) * bracket / u**4
    else:
        # as in DMG4, from which the overall factor differs
        shape = x2**2 / (2 * u**2) + (1 - x2) ** 2 * (mass**2 - 4 * MUON**2) * bracket / u**4
    pt = np.sqrt(x2**2 * beam**2 - mass**2) * np.sin(np.minimum(theta, math.pi / 2))
    balanced = pt**2 < (1 - x2) ** 2 * beam**2 - MUON**2
    density = np.sqrt(x2**2 - mass**2 / beam**2) * shape * flux * balanced * theta**2
    return x, log_theta, density


@pytest.mark.parametrize(
    ("mediator", "mass", "beam"),
    [("vector", 0.2, 100.0), ("scalar", 0.2, 100.0), ("vector", 1.0, 20.0), ("scalar", 0.05, 5000.0)],
)
def test_events_follow_the_density(mediator: str, mass: float, beam: float) -> None:
    x, log_theta, density = quadrature(mediator, mass, beam)
    events = simulate_muon(20_000, beam, mass, "Pb", mediator, seed=2)
    for column, nodes, axis in (("x", x, 1), ("theta", log_theta, 0)):
        marginal = integrate.trapezoid(density, log_theta if axis else x, axis=axis)
        below = integrate.cumulative_trapezoid(marginal, nodes, initial=0.0)
        values = events.column(column).numpy()
        values = values if column == "x" else np.log(values)
        statistic = stats.kstest(values, lambda v, n=nodes, c=below: np.interp(v, n, c / c[-1])).statistic
        # 20,000 events: 0.0138 is exceeded once in 1000 times
        assert statistic < 0.0138, column


def test_table_has_converged() -> None:
    x = np.linspace(0.05, 0.99, 20)
    found = []
    for nodes in ((513, 257), (1601, 801)):
        table = Bremsstrahlung(0.2, LEAD, "vector", nodes).table(100.0)
        corners = table.values[1:] + table.values[:-1]
        rows = (corners[:, 1:] + corners[:, :-1]) @ np.diff(table.sigma) * np.diff(table.span)
        share = table.low + (table.high - table.low) / (1 + np.exp(-table.span))
        found.append(np.interp(x, share, np.concatenate([[0], np.cumsum(rows)]) / rows.sum()))
    np.testing.assert_allclose(found[0], found[1], atol=3e-4)


@pytest.mark.parametrize("t_min", [1e-9, 1e-4, 0.02, 0.048])
@pytest.mark.parametrize("largest", [10.0, 0.03])
def test_recoil_follows_the_flux(t_min: float, largest: float) -> None:
    process = Bremsstrahlung(0.2, LEAD)
    q = process.recoil(np.full(20_000, t_min), np.full(20_000, largest), torch.Generator().manual_seed(1))
    t_end = min(process.t_max, t_min + largest**2)
    t = np.linspace(t_min, t_end, 400_001) if t_min > 0.01 else np.geomspace(t_min, t_end, 20_001)
    weight = (t - t_min) / t**2 * form_factor(t, LEAD)
    below = integrate.cumulative_trapezoid(weight, t, initial=0.0)
    assert q.max() <= largest
    assert stats.kstest(q**2 + t_min, lambda v: np.interp(v, t, below / below[-1])).statistic < 0.0138


@pytest.fixture(scope="module")
def madgraph() -> MuonDataset:
    if not MADGRAPH.exists():
        pytest.skip(f"{MADGRAPH} is not here")
    return load_muon(MADGRAPH)


@pytest.mark.parametrize("beam", [50.0, 100.0, 200.0])
def test_agrees_with_madgraph(madgraph: MuonDataset, beam: float) -> None:
    theirs = madgraph.take((madgraph.column("beam_energy") == beam).nonzero()[:, 0])
    assert len(theirs) == 10_000
    ours = simulate_muon(50_000, beam, 0.2, "Pb", seed=1)
    q = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(ours.column("x").quantile(q), theirs.column("x").quantile(q), atol=0.02, rtol=0)
    for name in ("theta", "pt", "muon_pt", "muon_theta"):
        torch.testing.assert_close(ours.column(name).quantile(q), theirs.column(name).quantile(q), atol=0, rtol=0.15)
    # the muon's transverse momentum, which has the nucleus' recoil in it
    torch.testing.assert_close(
        ours.column("muon_pt").quantile(q), theirs.column("muon_pt").quantile(q), atol=0, rtol=0.05
    )


@given(
    beam=st.floats(10, 5000),
    mass=st.floats(-6, 0.4).map(lambda v: 10**v),
    target=st.sampled_from(["H", "C", "Fe", "Pb", "U", (26, 56)]),
    mediator=st.sampled_from(["vector", "scalar"]),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=15, deadline=None)
def test_events_are_possible(beam: float, mass: float, target: object, mediator: str, seed: int) -> None:
    events = simulate_muon(50, beam, mass, target, mediator, seed)
    column = events.column
    assert len(events) == 50
    torch.testing.assert_close(column("energy") + column("muon_energy"), column("beam_energy"))
    torch.testing.assert_close(column("energy"), column("x") * column("beam_energy"))
    momentum = (column("energy") ** 2 - mass**2).sqrt()
    torch.testing.assert_close(column("pt"), momentum * column("theta").sin(), rtol=1e-4, atol=1e-9)
    muon_momentum = column("muon_pt") * column("muon_eta").cosh()
    assert ((column("muon_energy") ** 2 - muon_momentum**2).sqrt() - MUON).abs().max() < 1e-2
    torch.testing.assert_close(column("theta"), 2 * torch.atan(torch.exp(-column("eta"))), rtol=1e-6, atol=1e-12)
    assert (column("x") > mass / beam).all()


def test_seed_and_beam_energies() -> None:
    first, again = (simulate_muon(101, [50.0, 100.0], seed=7) for _ in range(2))
    assert torch.equal(first.samples, again.samples)
    assert not torch.equal(first.samples, simulate_muon(101, [50.0, 100.0], seed=8).samples)
    assert first.column("beam_energy").tolist() == [50.0, 100.0] * 50 + [50.0]


@pytest.mark.parametrize("features", [("energy", "pt", "eta"), ("x", "theta"), ("muon_energy", "muon_theta", "phi")])
def test_transform_is_order_one_and_invertible(features: tuple) -> None:
    data = muon_events(n=3000, features=features)
    values = data.transform(data.samples, data.conditions)
    assert ((values.std(0) > 0.8) & (values.std(0) < 1.2)).all()
    assert values.abs().max() < 8
    back = data.transform.inverse(values, data.conditions)
    torch.testing.assert_close(back, data.samples, rtol=1e-9, atol=1e-12)
    conditions = data.condition_transform(data.conditions)
    assert conditions.abs().max() < 2
    if "energy" in features:
        wild = data.transform.inverse(torch.full_like(values, 10.0), data.conditions)
        assert (wild[:, 0] <= data.conditions[:, 0]).all()


def test_observables() -> None:
    events = simulate_muon(200, [50.0, 200.0])
    for features in (("energy", "pt", "eta"), ("x", "theta")):
        found = events.select(*features).observables()
        for name in {"energy", "eta", "x", "theta"} | set(features):
            torch.testing.assert_close(found.column(name), events.column(name), rtol=1e-9, atol=1e-12)
    assert "pt" not in [f.name for f in events.select("x", "theta").observables().features]


def test_builder_reads_files_and_draws_from_them(tmp_path: Path) -> None:
    if not MADGRAPH.exists():
        pytest.skip(f"{MADGRAPH} is not here")
    data = muon_events(MADGRAPH, n=500, seed=1)
    assert isinstance(data, Dataset)
    assert data.samples.shape == (500, 3)
    assert torch.equal(data.samples, muon_events(MADGRAPH, n=500, seed=1).samples)
    assert set(data.conditions.flatten().tolist()) == {50.0, 100.0, 200.0}


def test_options_are_typed() -> None:
    hints = typing.get_type_hints(muon_events, include_extras=True)
    assert set(inspect.signature(muon_events).parameters) == set(hints) - {"return"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, r"n is 0"),
        ({"beam_energy": 9.9}, r"beam_energy is 9.9 GeV; allowed are 10 to 5000 GeV"),
        ({"beam_energy": [100.0, 5001.0]}, r"beam_energy is 5001 GeV"),
        ({"beam_energy": []}, r"beam_energy is empty"),
        ({"beam_energy": math.nan}, r"beam_energy is nan"),
        ({"mediator_mass": 0.0}, r"mediator_mass is 0.0 GeV; it must be positive"),
        ({"mediator_mass": math.inf}, r"mediator_mass is inf"),
        ({"mediator_mass": 120.0}, r"a carrier of 120 GeV cannot be produced by a beam of 100 GeV"),
        ({"target": "Xx"}, r"target 'Xx' is unknown"),
        ({"target": (5, 2)}, r"nucleus Z = 5, A = 2.0 is impossible"),
        ({"target": (82,)}, r"target is \(82,\); a symbol or the two numbers"),
        ({"target": (82, "x")}, r"target is \(82, 'x'\); a symbol or the two numbers"),
        ({"n": 1e3}, r"n is 1000.0; a whole number"),
        ({"mediator": "axial"}, r"mediator is 'axial'; allowed are 'vector' and 'scalar'"),
    ],
)
def test_impossible_arguments_are_one_clear_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        simulate_muon(**arguments)
    assert "\n" not in str(caught.value)


def test_elements() -> None:
    assert Nucleus.of("Pb") == LEAD
    assert Nucleus.of("W") == Nucleus(74, 183.84)
    assert Nucleus.of("U").z == 92


def test_written_events_are_learned_from_again(tmp_path: Path) -> None:
    write_events(tmp_path / "muons.h5", simulate_muon(n=100))
    events = muon_events(tmp_path / "muons.h5", features=("x", "pt"))
    assert torch.equal(events.samples, simulate_muon(n=100).select("x", "pt").samples)
    write_events(tmp_path / "other.h5", Dataset(torch.rand(30, 1), (Feature("mass", "GeV"),)))
    with pytest.raises(ValueError, match=r"other\.h5: holds no muon events; its columns are mass"):
        muon_events(tmp_path / "other.h5")
