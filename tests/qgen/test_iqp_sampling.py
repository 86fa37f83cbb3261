from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor

from circuits import Circuit, Gate
from circuits.backends import Statevector
from circuits.backends.draws import frequencies
from qgen.bits import BitSets
from qgen.models import iqp_sampling, iqp_tables
from qgen.models.elimination_order import elimination_order
from qgen.models.iqp_elimination import Elimination
from qgen.models.iqp_sampling import SamplingPlan
from qgen.models.iqp_tables import Tables
from qgen.random import new_generator


def angles_of(gates: BitSets, seed: int = 0) -> Tensor:
    return math.pi * torch.rand(len(gates), dtype=torch.float64, generator=new_generator(seed))


def exact(gates: BitSets, angles: Tensor, spin_symmetric: bool = False) -> Tensor:
    """Probabilities by the statevector engine, on the circuit as it is defined."""
    n = gates.n_bits
    start = [Gate("H", 0), *(Gate("CNOT", (0, wire)) for wire in range(1, n))] if spin_symmetric else []
    turns = [Gate("H", wire) for wire in range(n)]
    middle = [Gate("MultiRZ", g, [-2.0 * float(a)]) for g, a in zip(gates, angles, strict=True)]
    return Statevector().probs(Circuit(n, [*start, *turns, *middle, *turns]), torch.zeros(0))


def chi_square(bits: Tensor, probabilities: Tensor) -> float:
    """The p-value; cells of fewer than 10 expected draws count as one."""
    expected = len(bits) * probabilities
    counts = len(bits) * frequencies(bits)
    assert (counts[probabilities < 1e-12] == 0).all()
    large = expected >= 10
    found = torch.cat([counts[large], counts[~large].sum()[None]])
    wanted = torch.cat([expected[large], expected[~large].sum()[None].clamp_min(1e-9)])
    statistic = float(((found - wanted).square() / wanted)[wanted >= 1e-6].sum())
    return float(chi2.sf(statistic, max(int((wanted >= 1e-6).sum()) - 1, 1)))


def by(method: str, gates: BitSets, spin_symmetric: bool) -> SamplingPlan:
    """A plan whose blocks all go one way."""
    order = tuple(range(gates.n_bits))
    sampler = Elimination(gates, order) if method == "contraction" else Tables.of(gates, [order])
    return SamplingPlan(gates, spin_symmetric, (), "", (sampler,))


CIRCUITS = {
    "chain": (5, [(0,), (0, 1), (1, 2), (2, 3), (3, 4), (4,)]),
    "two blocks and a bit without gates": (6, [(0, 1), (1,), (2, 4), (3, 4), (2,)]),
    "three-body": (6, [(0, 1, 2), (2, 3, 4), (0, 5), (1, 4), (3,)]),
    "all pairs": (5, list(itertools.combinations(range(5), 2))),
}


@pytest.mark.parametrize("spin_symmetric", [False, True])
@pytest.mark.parametrize("method", ["contraction", "table", "plan"])
@pytest.mark.parametrize("name", CIRCUITS)
def test_samples_have_the_distribution_of_the_circuit(name: str, method: str, spin_symmetric: bool) -> None:
    n, sets = CIRCUITS[name]
    gates = BitSets.of(n, sets)
    angles = angles_of(gates)
    plan = SamplingPlan.of(gates, n, spin_symmetric) if method == "plan" else by(method, gates, spin_symmetric)
    bits = plan.draw(angles, 20_000, new_generator(1))
    assert bits.shape == (20_000, n)
    assert bits.dtype == torch.uint8
    assert chi_square(bits, exact(gates, angles, spin_symmetric)) > 1e-3
    # the test sees other angles
    assert chi_square(bits, exact(gates, angles + 0.1, spin_symmetric)) < 1e-6


@settings(deadline=None)
@given(st.data())
def test_contraction_and_tables_give_the_same_amplitudes(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 6))
    one = st.sets(st.integers(0, n - 1), min_size=1).map(lambda g: tuple(sorted(g)))
    gates = BitSets.of(n, data.draw(st.lists(one, max_size=8, unique=True)))
    order = data.draw(st.permutations(range(n)))
    angles = angles_of(gates)
    bits = torch.randint(0, 2, (7, n), dtype=torch.uint8, generator=new_generator(0))
    table = Tables.of(gates, [tuple(range(n))]).at(angles[None]).amplitude(bits)
    found = Elimination(gates, tuple(order)).at(angles[None]).amplitude(bits[:, order])
    close = [torch.polar(x[0].exp(), x[1]) for x in (table, found)]
    assert torch.allclose(close[0], close[1], atol=1e-12)


@pytest.mark.parametrize("spin_symmetric", [False, True])
@pytest.mark.parametrize("method", ["contraction", "table"])
def test_every_sample_may_have_its_own_angles(method: str, spin_symmetric: bool) -> None:
    n, sets = CIRCUITS["three-body"]
    gates = BitSets.of(n, sets)
    plan = by(method, gates, spin_symmetric)
    different = torch.stack([angles_of(gates, seed) for seed in (0, 1)])
    bits = plan.draw(different.repeat(10_000, 1), 20_000, new_generator(0))
    for k in (0, 1):
        assert chi_square(bits[k::2], exact(gates, different[k], spin_symmetric)) > 1e-3
        assert chi_square(bits[k::2], exact(gates, different[1 - k], spin_symmetric)) < 1e-6


@pytest.mark.parametrize("often", [1, 10_000])
def test_sets_of_angles_are_asked_for_by_number(often: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iqp_sampling, "OFTEN", often)
    monkeypatch.setattr(iqp_sampling, "NUMBERS_AT_ONCE", 500)
    n, sets = CIRCUITS["two blocks and a bit without gates"]
    gates = BitSets.of(n, sets)
    different = torch.stack([angles_of(gates, seed) for seed in (0, 1)])
    row = torch.randint(2, (8000,), generator=new_generator(0))
    bits = SamplingPlan.of(gates, n).draw_rows(lambda some: different[some], row, new_generator(1))
    for k in (0, 1):
        assert chi_square(bits[row == k], exact(gates, different[k])) > 1e-3
        assert chi_square(bits[row == k], exact(gates, different[1 - k])) < 1e-6


def test_amplitudes_are_those_of_aer() -> None:
    from qiskit import QuantumCircuit, transpile
    from qiskit_aer import AerSimulator
    from qiskit_aer.library import SaveAmplitudes

    n = 22
    sets = [*((i,) for i in range(n)), *((i, i + 1) for i in range(n - 1)), *((i, i + 3) for i in range(0, n - 3, 2))]
    gates = BitSets.of(n, sets)
    angles = angles_of(gates)
    plan = SamplingPlan.of(gates, n)
    (block,) = plan.blocks
    assert block.width is not None
    sampler = Elimination(gates, block.bits).at(angles[None])
    bits = sampler.draw(3, new_generator(0))
    logarithm, phase = sampler.amplitude(bits)
    strings = torch.empty_like(bits)
    strings[:, list(block.bits)] = bits

    circuit = QuantumCircuit(n)
    circuit.h(range(n))
    for g, angle in zip(gates, angles.tolist(), strict=True):
        (circuit.rz if len(g) == 1 else circuit.rzz)(-2 * angle, *g)
    circuit.h(range(n))
    numbers = [sum(bit << qubit for qubit, bit in enumerate(row)) for row in strings.tolist()]
    circuit.append(SaveAmplitudes(n, numbers), range(n))
    aer = AerSimulator(method="statevector", precision="double")
    expected = aer.run(transpile(circuit, aer, optimization_level=0)).result().data()["amplitudes"]
    assert torch.polar(logarithm.exp(), phase).tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def chain(n: int) -> BitSets:
    return BitSets.of(n, [*((i,) for i in range(n)), *((i, i + 1) for i in range(n - 1))])


def closed_forms(gates: BitSets, angles: Tensor) -> Tensor:
    """<Z_i> of a circuit of one- and two-body gates, at any width: products of cosines (one term of z at a time)."""
    one = torch.zeros(gates.n_bits, dtype=torch.float64)
    around = torch.ones(gates.n_bits, dtype=torch.float64)
    for g, a in zip(gates, angles, strict=True):
        if len(g) == 1:
            one[g[0]] = a
        for bit in g if len(g) == 2 else ():
            around[bit] *= (2 * a).cos()
    return (2 * one).cos() * around


def pulls(bits: Tensor, expected: Tensor) -> Tensor:
    means = 1 - 2 * bits.double().mean(0)
    return (means - expected) / ((1 - expected.square()).clamp_min(1e-6) / len(bits)).sqrt()


def test_a_chain_of_200_qubits() -> None:
    gates = chain(200)
    angles = angles_of(gates)
    plan = SamplingPlan.of(gates, 200)
    assert plan.problem == ""
    assert [block.width for block in plan.blocks] == [2]
    bits = plan.draw(angles, 4000, new_generator(0))
    assert pulls(bits, closed_forms(gates, angles)).square().mean().item() == pytest.approx(1, abs=0.4)


def test_a_thousand_qubits_in_blocks_against_the_estimator() -> None:
    from qgen.models.iqp_expectations import iqp_cosines, uniform_bits

    sets = []
    for first in range(0, 1000, 10):
        sets += [(first + i, first + i + 1) for i in range(9)] + [(first, first + 4, first + 9), (first + 3,)]
    gates = BitSets.of(1000, sets)
    angles = angles_of(gates)
    plan = SamplingPlan.of(gates, 1000)
    assert len(plan.blocks) == 100
    bits = plan.draw(angles, 2000, new_generator(0))
    strings = BitSets.of(1000, [*((i,) for i in range(0, 1000, 7)), *((i, i + 1) for i in range(0, 999, 7))])
    cosines = iqp_cosines(gates, angles, strings, uniform_bits(1000, 2000, new_generator(1)), dtype=torch.float64)
    signs = strings.signs(bits).double()
    error = (cosines.var(1) + signs.var(1)).clamp_min(1e-6).div(2000).sqrt()
    assert ((cosines.mean(1) - signs.mean(1)) / error).square().mean().item() == pytest.approx(1, abs=0.35)


def test_a_spin_symmetric_chain_is_symmetric_and_has_its_pairs() -> None:
    from qgen.models.iqp_expectations import iqp_cosines, uniform_bits

    gates = BitSets.of(60, [(i, i + 1) for i in range(59)] + [(i,) for i in range(0, 60, 2)])
    angles = angles_of(gates) / 4
    bits = SamplingPlan.of(gates, 60, spin_symmetric=True).draw(angles, 4000, new_generator(0))
    assert pulls(bits, torch.zeros(60)).square().mean().item() == pytest.approx(1, abs=0.5)
    strings = BitSets.of(60, [(i, i + 1) for i in range(59)])
    draws = uniform_bits(60, 4000, new_generator(1), even=True)
    cosines = iqp_cosines(gates, angles, strings, draws, dtype=torch.float64)
    signs = strings.signs(bits).double()
    error = (cosines.var(1) + signs.var(1)).clamp_min(1e-6).div(4000).sqrt()
    assert ((cosines.mean(1) - signs.mean(1)) / error).square().mean().item() == pytest.approx(1, abs=0.5)


def test_samples_follow_from_the_generator() -> None:
    gates = chain(30)
    plan = SamplingPlan.of(gates, 30)
    draws = [plan.draw(angles_of(gates), 20, new_generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_orders_of_graphs_whose_width_is_known() -> None:
    rng = random.Random(0)

    def width(pairs: list[tuple[int, int]], n: int) -> int:
        places = list(range(n))
        rng.shuffle(places)
        rows: list[list[int]] = [[] for _ in range(n)]
        for a, b in pairs:
            rows[places[a]].append(places[b])
            rows[places[b]].append(places[a])
        return elimination_order(rows)[1]

    ring = [(i, (i + 1) % 30) for i in range(30)]
    star = [(0, i) for i in range(1, 30)]
    grid = [(6 * i + j, 6 * i + j + 1) for i in range(10) for j in range(5)]
    grid += [(6 * i + j, 6 * i + 6 + j) for i in range(9) for j in range(6)]
    binary = [(i, (i - 1) // 2) for i in range(1, 127)]  # its depth bounds the width found; the least is 4
    full = list(itertools.combinations(range(9), 2))
    assert width(ring, 30) == 3
    assert width(star, 30) == 2
    assert width(grid, 60) == 7
    assert width(binary, 127) <= 7
    assert width(full, 9) == 9


def test_what_cannot_be_sampled_is_said() -> None:
    n = 200
    dense = BitSets.of(n, list(itertools.combinations(range(n), 2)))
    plan = SamplingPlan.of(dense, n)
    assert plan.problem.startswith("gates join 200 of the circuit's qubits, whose contraction is of width 101 at least")
    with pytest.raises(ValueError, match="no events can be drawn: gates join 200"):
        plan.draw(torch.zeros(len(dense)), 1, new_generator(0))
    side = 40
    grid = [(side * i + j, side * i + j + 1) for i in range(side) for j in range(side - 1)]
    grid += [(side * i + j, side * i + side + j) for i in range(side - 1) for j in range(side)]
    plan = SamplingPlan.of(BitSets.of(side**2, grid), side**2)
    assert "gates join 1600 of the circuit's qubits, whose contraction is of width 41 and" in plan.problem


def test_wrong_angles_and_too_little_memory_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    gates = BitSets.of(20, list(itertools.combinations(range(20), 2)))
    plan = SamplingPlan.of(gates, 20)
    assert [block.width for block in plan.blocks] == [None]
    with pytest.raises(ValueError, match=r"angles have shape \(3,\); expected \(190,\)"):
        plan.draw(torch.zeros(3), 1, new_generator(0))
    with pytest.raises(ValueError, match="angle 4 is not finite"):
        plan.draw(torch.zeros(190).index_fill(0, torch.tensor([4]), torch.nan), 1, new_generator(0))
    with pytest.raises(ValueError, match="gates are on 20 bits; the circuit has 21"):
        SamplingPlan.of(gates, 21)

    def check(needed: int, limit: int | None, device: torch.device, what: str) -> None:
        raise ValueError(f"{what}: needs {needed}")

    monkeypatch.setattr(iqp_tables, "check_memory", check)
    with pytest.raises(ValueError, match="amplitudes of 1 blocks of 20 qubits: needs 50331648"):
        plan.draw(torch.zeros(190), 1, new_generator(0))


def test_the_cheaper_way_is_chosen() -> None:
    assert SamplingPlan.of(chain(26), 26).blocks[0].width == 2
    assert SamplingPlan.of(chain(12), 12).blocks[0].width is None
    ladder = BitSets.of(24, [(i, j) for i in range(24) for j in range(i + 1, min(i + 13, 24))])
    assert SamplingPlan.of(ladder, 24).blocks[0].width == 13
    assert iqp_sampling.LARGEST_TABLE == 26
