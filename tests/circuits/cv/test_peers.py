"""Gates and programs against packages that nobody here wrote, and against closed formulas.

What the peers do, transcribed by hand:

- piquasso: the total basis. Displacements and squeezings are matrix entries of the whole space, cut, and beamsplitters
  conserve the photon number, as here. What is lost depends on the order even of gates on different modes, so that
  programs of the first two agree where little is lost, all others to rounding. The cubic phase is the exponential of a
  cut generator; quadratic phases and two-mode squeezings are squeezings between interferometers, each cut. Their low
  amplitudes are right once the cutoff is large.
- deepquantum: the mode basis, the same; two-mode squeezings are exact there, only the cubic phase is not. Loss by Kraus
  operators on density matrices, ``theta`` with ``cos(theta / 2)**2`` the transmissivity.
- PennyLane's ``default.gaussian``: no truncation, moments only.

All take hbar = 2 and the same signs; the sign of two-mode squeezing is that of their Heisenberg representations. The
first two make a quadratic phase of a rotation and a squeezing, which leaves a phase of the whole state: with that gate
states are compared up to it.
"""

from __future__ import annotations

import math

import numpy as np
import pennylane as qml
import piquasso as pq
import pytest
import torch
from scipy import special

from circuits.cv import CV_GATES, CVGate, Fock, Gaussian, Program

INSIDE = 1e-8
NO_PARAMETERS = torch.zeros(0, dtype=torch.float64)
UNITARY = [name for name, definition in CV_GATES.items() if definition.unitary]
GAUSSIAN = [name for name in UNITARY if CV_GATES[name].gaussian]
CUT_THE_SAME = {
    "piquasso": ["Rotation", "Displacement", "Squeezing", "Kerr", "Beamsplitter", "CrossKerr"],
    "deepquantum": [name for name in UNITARY if name != "CubicPhase"],
}
CONSERVING = ["Rotation", "Kerr", "Beamsplitter", "CrossKerr"]
BASIS = {"piquasso": "total", "deepquantum": "mode"}
SCALES = {"phi": math.pi, "theta": math.pi, "a": 0.8, "r": 0.5, "s": 0.5, "gamma": 0.15, "kappa": 1.0}


def random_gate(name: str, n_modes: int, rng: np.random.Generator, strength: float = 1.0) -> CVGate:
    definition = CV_GATES[name]
    modes = [int(mode) for mode in rng.permutation(n_modes)[: definition.n_modes]]
    free = ("phi", "theta")
    sizes = [SCALES[parameter] * (1 if parameter in free else strength) for parameter in definition.parameters]
    return CVGate(name, modes, [float(rng.uniform(-size, size)) for size in sizes])


def random_program(
    names: list[str], n_modes: int, size: int, seed: int, strength: float = 1.0, photons: tuple[int, ...] | None = None
) -> Program:
    rng = np.random.default_rng(seed)
    gates = [random_gate(names[number % len(names)], n_modes, rng, strength) for number in range(size)]
    return Program(n_modes, [gates[place] for place in rng.permutation(size)], photons=photons)


def fock(program: Program, cutoff: int, basis: str = "mode", **options):
    return Fock(cutoff, basis=basis, warn_above=None, **options).run(program, NO_PARAMETERS)


def values(gate: CVGate) -> list[float]:
    return [slot.offset for slot in gate.parameters]


# the peers: the amplitudes of a program without free parameters, (cutoff,) * n_modes complex


def piquasso_ket(program: Program, cutoff: int) -> np.ndarray:
    names = {"Rotation": "Phaseshifter", "TwoModeSqueezing": "Squeezing2"}
    instructions = [pq.NumberState(program.photons)]
    for gate in program.gates:
        instructions.append(getattr(pq, names.get(gate.name, gate.name))(*values(gate)).on_modes(*gate.modes))
    simulator = pq.PureFockSimulator(program.n_modes, config=pq.Config(cutoff=cutoff, hbar=2.0, validate=False))
    return np.asarray(simulator.execute_instructions(instructions).state.get_tensor_representation())


def deepquantum_circuit(program: Program, cutoff: int, mixed: bool = False):
    photonic = pytest.importorskip("deepquantum.photonic")
    circuit = photonic.QumodeCircuit(
        program.n_modes, [(1.0, list(program.photons))], cutoff=cutoff, backend="fock", basis=False, den_mat=mixed
    )
    one = {
        "Rotation": "ps",
        "QuadraticPhase": "qp",
        "CubicPhase": "cp",
        "Kerr": "k",
        "CrossKerr": "ck",
        "Loss": "loss_t",
    }
    two = {"Displacement": "d", "Squeezing": "s", "TwoModeSqueezing": "s2"}
    for gate in program.gates:
        given = [torch.tensor(value, dtype=torch.float64) for value in values(gate)]
        wires = list(gate.modes)
        if gate.name == "Beamsplitter":
            circuit.bs(wires, given)
        elif gate.name in two:
            getattr(circuit, two[gate.name])(wires if len(wires) == 2 else wires[0], *given)
        else:
            getattr(circuit, one[gate.name])(wires if len(wires) == 2 else wires[0], given[0])
    return circuit.to(torch.double)


def deepquantum_ket(program: Program, cutoff: int) -> np.ndarray:
    return deepquantum_circuit(program, cutoff)().squeeze(0).numpy()


KETS = {"piquasso": piquasso_ket, "deepquantum": deepquantum_ket}


def pennylane_moments(program: Program) -> list[list[float]]:
    """Means and variances of x and p, and mean photon numbers, of each mode."""

    @qml.qnode(qml.device("default.gaussian", wires=program.n_modes, hbar=2.0))
    def measured(what):
        for gate in program.gates:
            getattr(qml, gate.name)(*values(gate), wires=gate.modes)
        return what()

    modes = range(program.n_modes)
    asked = (
        lambda mode: qml.expval(qml.QuadX(mode)),
        lambda mode: qml.var(qml.QuadX(mode)),
        lambda mode: qml.expval(qml.QuadP(mode)),
        lambda mode: qml.var(qml.QuadP(mode)),
        lambda mode: qml.expval(qml.NumberOperator(mode)),
    )
    return [[float(measured(lambda mode=mode, ask=ask: ask(mode))) for mode in modes] for ask in asked]


def moments(state) -> list[np.ndarray]:
    x, p = state.quadratures(0.0), state.quadratures(math.pi / 2)
    return [part.numpy() for part in (*x, *p, state.mean_photons())]


def up_to_a_phase(ket: np.ndarray, expected: np.ndarray) -> np.ndarray:
    overlap = np.vdot(ket, expected)
    return ket * overlap / abs(overlap)


# gates


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("peer", "name"), [(peer, name) for peer in KETS for name in CUT_THE_SAME[peer]])
def test_a_gate_on_photons_has_the_amplitudes_of_a_peer_that_cuts_the_same_way(peer: str, name: str, seed: int) -> None:
    program = random_program([name], 2, 1, seed, strength=2.0, photons=(2, 1))
    ket, expected = fock(program, 7, BASIS[peer]).ket().numpy(), KETS[peer](program, 7)
    if name == "QuadraticPhase":
        ket = up_to_a_phase(ket, expected)
    np.testing.assert_allclose(ket, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("peer", "name"), [(peer, name) for peer in KETS for name in UNITARY if name not in CUT_THE_SAME[peer]]
)
def test_a_gate_is_exact_below_the_cutoff_where_a_peer_needs_a_large_one(peer: str, name: str, seed: int) -> None:
    program = random_program([name], 2, 1, seed, strength=0.4, photons=(1, 1))
    low = np.s_[:4, :4]
    for basis in ("mode", "total"):
        inside = np.add.outer(np.arange(4), np.arange(4)) < (5 if basis == "total" else 9)
        ket, expected = fock(program, 5, basis).ket().numpy()[low][inside], KETS[peer](program, 26)[low][inside]
        if name == "QuadraticPhase":
            ket = up_to_a_phase(ket, expected)
        np.testing.assert_allclose(ket, expected, atol=INSIDE)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("peer", "names"), [("piquasso", CONSERVING), ("deepquantum", CUT_THE_SAME["deepquantum"])])
def test_random_programs_have_the_amplitudes_of_a_peer_that_cuts_the_same_way(peer: str, names, seed: int) -> None:
    program = random_program(names, 3, 4 * len(names), seed, photons=(1, seed % 3, 1))
    state = fock(program, 5, BASIS[peer])
    expected = KETS[peer](program, 5)
    np.testing.assert_allclose(up_to_a_phase(state.ket().numpy(), expected), expected, atol=1e-11)
    assert float(state.norm_lost) == pytest.approx(1 - np.sum(np.abs(expected) ** 2), abs=1e-11)
    assert float(state.norm) > 1e-3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("peer", KETS)
def test_random_programs_of_every_gate_converge_to_what_a_peer_converges_to(peer: str, seed: int) -> None:
    program = random_program(UNITARY, 2, len(UNITARY), seed, strength=0.25)
    low = np.s_[:6, :6]
    expected = KETS[peer](program, 24)[low]
    for basis, cutoff in (("mode", 24), ("total", 30)):
        state = fock(program, cutoff, basis)
        np.testing.assert_allclose(up_to_a_phase(state.ket().numpy()[low], expected), expected, atol=INSIDE)
        assert abs(float(state.norm_lost)) < INSIDE


# Gaussian programs


@pytest.mark.parametrize("name", GAUSSIAN)
def test_a_gaussian_gate_has_the_moments_of_default_gaussian(name: str) -> None:
    first = random_program(["Displacement", "Squeezing", "Beamsplitter"], 2, 6, 0, strength=0.25)
    program = first + random_program([name], 2, 1, 1, strength=0.25)
    expected = pennylane_moments(program)
    np.testing.assert_allclose(moments(Gaussian().run(program, NO_PARAMETERS)), expected, atol=1e-10)
    np.testing.assert_allclose(moments(fock(program, 26)), expected, atol=INSIDE)


@pytest.mark.parametrize("seed", range(4))
def test_random_gaussian_programs_have_the_moments_of_default_gaussian(seed: int) -> None:
    program = random_program(GAUSSIAN, 3, 20, seed)
    np.testing.assert_allclose(
        moments(Gaussian().run(program, NO_PARAMETERS)), pennylane_moments(program), rtol=1e-9, atol=1e-9
    )


# closed formulas


def poisson_amplitudes(alpha: complex, cutoff: int) -> np.ndarray:
    n = np.arange(cutoff)
    return np.exp(-0.5 * abs(alpha) ** 2) * alpha**n / np.sqrt(special.factorial(n))


@pytest.mark.parametrize("alpha", [0.3, -1.1 + 0.4j, 2.0j])
@pytest.mark.parametrize("cutoff", [1, 2, 8, 30])
def test_coherent_states_at_every_cutoff(alpha: complex, cutoff: int) -> None:
    program = Program(1, [CVGate("Displacement", 0, (abs(alpha), float(np.angle(alpha))))])
    state = fock(program, cutoff)
    np.testing.assert_allclose(state.ket(), poisson_amplitudes(alpha, cutoff), atol=1e-12)
    assert float(state.norm_lost) == pytest.approx(special.gammainc(cutoff, abs(alpha) ** 2), abs=1e-12)


@pytest.mark.parametrize(("r", "phi"), [(0.4, 0.0), (-0.9, 0.7), (1.3, 2.0)])
def test_squeezed_vacuum(r: float, phi: float) -> None:
    n = np.arange(12)
    even = np.sqrt(special.factorial(2 * n)) / (2**n * special.factorial(n))
    expected = np.zeros(24, dtype=complex)
    expected[::2] = even * (-np.exp(1j * phi) * np.tanh(r)) ** n / np.sqrt(np.cosh(r))
    state = fock(Program(1, [CVGate("Squeezing", 0, (r, phi))]), 24)
    np.testing.assert_allclose(state.ket(), expected, atol=1e-12)


def test_squeezing_by_its_variances() -> None:
    state = fock(Program(1, [CVGate("Squeezing", 0, (0.6, 0.0))]), 60)
    assert float(state.quadratures()[1]) == pytest.approx(math.exp(-1.2), abs=INSIDE)
    assert float(state.quadratures(math.pi / 2)[1]) == pytest.approx(math.exp(1.2), abs=INSIDE)
    assert float(state.mean_photons()) == pytest.approx(math.sinh(0.6) ** 2, abs=INSIDE)


def test_two_mode_squeezed_vacuum() -> None:
    r, phi = 0.7, 0.3
    ket = fock(Program(2, [CVGate("TwoModeSqueezing", (0, 1), (r, phi))]), 15).ket()
    n = np.arange(15)
    np.testing.assert_allclose(ket, np.diag((np.exp(1j * phi) * np.tanh(r)) ** n / np.cosh(r)), atol=1e-12)


@pytest.mark.parametrize("basis", ["mode", "total"])
def test_a_kerr_gate_makes_a_cat(basis: str) -> None:
    alpha = 1.4
    program = Program(1, [CVGate("Displacement", 0, (alpha, 0.0)), CVGate("Kerr", 0, (math.pi / 2,))])
    both = [poisson_amplitudes(sign * alpha, 20) for sign in (1, -1)]
    expected = (np.exp(0.25j * np.pi) * both[0] + np.exp(-0.25j * np.pi) * both[1]) / np.sqrt(2)
    np.testing.assert_allclose(fock(program, 20, basis).ket(), expected, atol=1e-12)


@pytest.mark.parametrize("kappa", [0.05, 0.3, 1.0])
def test_the_mean_field_of_a_kerr_state(kappa: float) -> None:
    alpha = 0.9
    program = Program(1, [CVGate("Displacement", 0, (alpha, 0.0)), CVGate("Kerr", 0, (kappa,))])
    state = fock(program, 30)
    expected = alpha * np.exp(1j * kappa - alpha**2 * (1 - np.exp(2j * kappa)))
    found = [float(state.quadratures(phi)[0]) for phi in (0.0, math.pi / 2)]
    np.testing.assert_allclose(found, [2 * expected.real, 2 * expected.imag], atol=INSIDE)


@pytest.mark.parametrize("strength", [-1.5, 0.3])
def test_a_quadratic_phase_has_its_own_phase(strength: float) -> None:
    ket = fock(Program(1, [CVGate("QuadraticPhase", 0, (strength,))]), 4).ket()
    assert complex(ket[0]) == pytest.approx((1 - 0.5j * strength) ** -0.5, abs=1e-12)


def test_a_cubic_phase_moves_the_momentum_by_the_square_of_the_position() -> None:
    gamma, hbar = 0.02, 2.0
    program = Program(1, [CVGate("Displacement", 0, (0.3, 0.0)), CVGate("CubicPhase", 0, (gamma,))])
    state = fock(program, 40, hbar=hbar)
    mean = math.sqrt(2 * hbar) * 0.3
    assert float(state.quadratures(math.pi / 2)[0]) == pytest.approx(gamma * (mean**2 + hbar / 2), abs=INSIDE)
    assert float(state.quadratures()[0]) == pytest.approx(mean, abs=INSIDE)


@pytest.mark.parametrize("basis", ["mode", "total"])
@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_hong_ou_mandel(basis: str, phi: float) -> None:
    program = Program(2, [CVGate("Beamsplitter", (0, 1), (0, phi))], photons=(1, 1))
    theta = np.linspace(0, math.pi / 2, 7)
    probs = Fock(3, basis=basis).run(program, torch.from_numpy(theta)[:, None]).ket().abs().square()
    np.testing.assert_allclose(probs[:, 1, 1], np.cos(2 * theta) ** 2, atol=1e-12)
    np.testing.assert_allclose(probs[:, 2, 0], np.sin(2 * theta) ** 2 / 2, atol=1e-12)


# loss


def test_loss_shrinks_coherent_states_and_thins_photon_numbers() -> None:
    kept, alpha = 0.7, 1.2
    coherent = fock(Program(1, [CVGate("Displacement", 0, (alpha, 0.4)), CVGate("Loss", 0, (kept,))]), 25)
    means = [float(coherent.quadratures(phi)[0]) for phi in (0.0, math.pi / 2)]
    expected = 2 * math.sqrt(kept) * alpha
    np.testing.assert_allclose(means, [expected * math.cos(0.4), expected * math.sin(0.4)], atol=INSIDE)
    np.testing.assert_allclose(coherent.quadratures()[1], [1.0], atol=INSIDE)
    thinned = fock(Program(1, [CVGate("Loss", 0, (kept,))], photons=(5,)), 6).photon_probs(0)
    n = np.arange(6)
    np.testing.assert_allclose(thinned, special.comb(5, n) * kept**n * (1 - kept) ** (5 - n), atol=1e-12)


def test_loss_of_a_squeezed_state_in_both_simulations() -> None:
    kept, r = 0.6, 0.5
    program = Program(1, [CVGate("Squeezing", 0, (r, 0.0)), CVGate("Loss", 0, (kept,))])
    for state in (Gaussian().run(program, NO_PARAMETERS), fock(program, 50)):
        assert float(state.quadratures()[1]) == pytest.approx(kept * math.exp(-2 * r) + 1 - kept, abs=INSIDE)
        assert float(state.mean_photons()) == pytest.approx(kept * math.sinh(r) ** 2, abs=INSIDE)


@pytest.mark.parametrize("seed", range(3))
def test_lossy_programs_have_the_density_matrix_of_deepquantum(seed: int) -> None:
    cutoff = 5
    first, second = (random_program(CUT_THE_SAME["deepquantum"], 2, 8, 2 * seed + k, strength=0.5) for k in (0, 1))
    losses = Program(2, [CVGate("Loss", 0, (0.8,)), CVGate("Loss", 1, (0.35,))])
    program = first + losses + second
    state = fock(program, cutoff)
    expected = deepquantum_circuit(program, cutoff, mixed=True)().reshape(cutoff**2, cutoff**2)
    probs = expected.diagonal().real.reshape(cutoff, cutoff)
    norm = float(probs.sum())
    assert 1 - float(state.norm_lost) == pytest.approx(norm, abs=1e-10)
    for mode in range(2):
        np.testing.assert_allclose(state.photon_probs(mode), probs.sum(1 - mode) / norm, atol=1e-10)
    number = torch.arange(1, cutoff, dtype=torch.float64).sqrt().diag(1)
    for mode, lower in enumerate((torch.kron(number, torch.eye(cutoff)), torch.kron(torch.eye(cutoff), number))):
        x = (lower + lower.T).to(expected.dtype)
        mean = float((expected @ x).trace().real) / norm
        assert float(state.quadratures()[0][mode]) == pytest.approx(mean, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_lossy_gaussian_programs_have_the_moments_of_piquasso(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gates = list(random_program(GAUSSIAN, 2, 10, seed, strength=0.5).gates)
    gates.insert(5, CVGate("Loss", 0, (float(rng.uniform()),)))
    gates.append(CVGate("Loss", 1, (float(rng.uniform()),)))
    names = {"Rotation": "Phaseshifter", "TwoModeSqueezing": "Squeezing2"}
    instructions = [pq.Vacuum()]
    for gate in gates:
        if gate.name == "Loss":
            instruction = pq.Attenuator(math.acos(math.sqrt(values(gate)[0])))
        else:
            instruction = getattr(pq, names.get(gate.name, gate.name))(*values(gate))
        instructions.append(instruction.on_modes(*gate.modes))
    found = pq.GaussianSimulator(2, config=pq.Config(hbar=2.0)).execute_instructions(instructions).state
    ours = Gaussian().run(Program(2, gates), NO_PARAMETERS)
    for phi, first in ((0.0, 0), (math.pi / 2, 2)):
        mean, variance = ours.quadratures(phi)
        np.testing.assert_allclose(mean, found.xxpp_mean_vector[first : first + 2], atol=1e-10)
        covariance = np.diag(found.xxpp_covariance_matrix)[first : first + 2]
        np.testing.assert_allclose(variance, covariance / 2, atol=1e-10)


# convergence


@pytest.mark.parametrize("basis", ["mode", "total"])
def test_what_is_lost_falls_with_the_cutoff_and_so_does_the_error(basis: str) -> None:
    program = random_program(UNITARY, 2, 2 * len(UNITARY), 5, strength=0.25)
    wanted = fock(program, 32).quadratures()[0]
    cutoffs = (4, 6, 8, 10, 12)  # beyond is rounding
    states = [fock(program, cutoff, basis) for cutoff in cutoffs]
    lost = [float(state.norm_lost) for state in states]
    errors = [float((state.quadratures()[0] - wanted).abs().max()) for state in states]
    assert lost == sorted(lost, reverse=True)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]
