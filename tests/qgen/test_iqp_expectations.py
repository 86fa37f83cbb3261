from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from circuits import ansatz
from circuits.backends import Statevector
from qgen.bits.sets import BitSets
from qgen.models import iqp_expectations
from qgen.models.iqp_expectations import exact_expectations, iqp_cosines, uniform_bits

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture(params=["kernels", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of the products, on the CPU."""
    if request.param == "torch":
        monkeypatch.setattr(iqp_expectations, "_CPU", iqp_expectations._Torch)
        monkeypatch.setattr(iqp_expectations, "AT_ONCE", 100)
    return str(request.param)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng(seed))


def all_bits(n: int, even: bool = False) -> Tensor:
    bits = torch.arange(2**n)[:, None] >> torch.arange(n - 1, -1, -1) & 1
    return bits[bits.sum(1) % 2 == 0].to(torch.uint8) if even else bits.to(torch.uint8)


def random_sets(n: int, count: int, largest: int, seed: int) -> BitSets:
    g = rng(seed)
    sizes = torch.randint(1, largest + 1, (count,), generator=g).tolist()
    return BitSets.of(n, [torch.randperm(n, generator=g)[:size].tolist() for size in sizes])


def simulated(gates: BitSets, angles: Tensor, strings: BitSets, spin_symmetric: bool = False) -> Tensor:
    """From the probabilities of the circuit."""
    probabilities = Statevector().probs(ansatz.iqp(gates.n_bits, list(gates), spin_symmetric=spin_symmetric), angles)
    return strings.signs(all_bits(gates.n_bits)).double() @ probabilities


def dense(gates: BitSets, angles: Tensor, strings: BitSets, draws: Tensor) -> Tensor:
    """Straight from the formula; angles ``(n_gates, n_draws)``."""
    odd = (strings.dense().double() @ gates.dense().double().T) % 2
    signs = 1 - 2 * ((gates.dense().double() @ draws.double().T) % 2)
    return torch.cos(2 * odd @ (angles * signs))


# against exact simulation


@pytest.mark.parametrize("spin_symmetric", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 10, 14])
def test_exact_values_and_gradients_are_those_of_the_circuit(n: int, spin_symmetric: bool) -> None:
    gates, strings = random_sets(n, 3 * n, min(n, 4), seed=1), random_sets(n, 20, n, seed=2)
    angles, weights = normal(3 * n).requires_grad_(), normal(20, seed=3)
    expected = simulated(gates, angles, strings, spin_symmetric)
    found = exact_expectations(gates, angles, strings, spin_symmetric=spin_symmetric)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    gradients = [torch.autograd.grad(weights @ values, angles)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)


@pytest.mark.parametrize("spin_symmetric", [False, True])
@pytest.mark.parametrize("n", [1, 4, 10, 14])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-11), (torch.float32, 3e-6)])
def test_with_all_bit_strings_the_estimate_is_exact(n: int, spin_symmetric: bool, dtype, atol: float) -> None:
    gates, strings = random_sets(n, 3 * n, min(n, 4), seed=1), random_sets(n, 20, n, seed=2)
    angles, weights = normal(3 * n).requires_grad_(), normal(20, seed=3)
    found = iqp_cosines(gates, angles, strings, all_bits(n, spin_symmetric), dtype=dtype).mean(1).double()
    if spin_symmetric:
        found = torch.where(strings.sizes % 2 == 1, 0.0, found)
    expected = exact_expectations(gates, angles, strings, spin_symmetric=spin_symmetric)
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)
    gradients = [torch.autograd.grad(weights @ values, angles)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, atol=10 * atol, rtol=0)


def test_angles_of_each_draw_are_circuits_of_their_own(way: str) -> None:
    n, inputs = 6, 3
    gates, strings, z = random_sets(n, 15, 3, seed=1), random_sets(n, 12, n, seed=2), all_bits(n)
    angles, conditions = normal(15, inputs).requires_grad_(), normal(inputs, 4, seed=3)
    draws = z.repeat(4, 1)
    factors = conditions.repeat_interleave(len(z), 1)
    by_factors = iqp_cosines(gates, angles, strings, draws, factors=factors, dtype=torch.float64)
    by_draw = iqp_cosines(gates, angles @ factors, strings, draws, dtype=torch.float64)
    torch.testing.assert_close(by_factors, by_draw, atol=1e-11, rtol=0)
    found = by_factors.reshape(12, 4, len(z)).mean(2)
    expected = torch.stack([simulated(gates, angles @ one, strings) for one in conditions.T], 1)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    weights = normal(12, 4, seed=5)
    gradients = [torch.autograd.grad((weights * values).sum(), angles)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)


# against closed forms


def ising(n: int, neighbours: int) -> tuple[BitSets, Tensor, Tensor, Tensor]:
    """Fields on all bits and pairs of some: gates, angles, and the pairs' as a symmetric matrix."""
    pairs = sorted({(min(p), max(p)) for p in torch.randint(0, n, (n * neighbours, 2), generator=rng(4)).tolist()})
    pairs = [(a, b) for a, b in pairs if a != b]
    gates = BitSets.of(n, [(bit,) for bit in range(n)] + pairs)
    angles = 0.2 * normal(len(gates))
    a, b = torch.tensor(pairs).T
    return gates, angles, a, b


def one_and_two_bodies(n: int, angles: Tensor, a: Tensor, b: Tensor, strings: list[tuple[int, ...]]) -> Tensor:
    """Products of cosines, summed over the sign that a string of two leaves open."""
    couplings = torch.zeros(n, n, dtype=torch.float64)
    couplings = couplings.index_put((a, b), angles[n:]).index_put((b, a), angles[n:])
    found = []
    for string in strings:
        if len(string) == 1:
            (i,) = string
            found.append(torch.cos(2 * angles[i]) * torch.cos(2 * couplings[i]).prod())
            continue
        i, k = string
        others = torch.ones(n, dtype=torch.bool)
        others[[i, k]] = False
        found.append(
            sum(
                torch.cos(2 * (angles[i] + sign * angles[k]))
                * torch.cos(2 * (couplings[i] + sign * couplings[k]))[others].prod()
                for sign in (1, -1)
            )
            / 2
        )
    return torch.stack(found)


def test_weight_one_is_a_product_of_cosines_at_a_thousand_qubits(way: str) -> None:
    n = 1000
    gates, strings = BitSets.of(n, [(bit,) for bit in range(n)]), random_sets(n, 30, 6, seed=2)
    angles, draws = normal(n), uniform_bits(n, 4000, rng())
    expected = torch.stack([torch.cos(2 * angles[list(string)]).prod() for string in strings])
    found = iqp_cosines(gates, angles, strings, draws).double()
    pulls = (found.mean(1) - expected) / found.std(1) * math.sqrt(4000)
    assert pulls[strings.sizes > 1].abs().max() < 4
    one = strings.sizes == 1  # the sign of a single bit does not matter
    torch.testing.assert_close(found[one], expected[one, None].expand(-1, 4000), atol=1e-6, rtol=0)


def test_fields_and_pairs_have_their_closed_form_at_a_thousand_qubits() -> None:
    n, blocks, size = 1000, 20, 1000
    gates, angles, a, b = ising(n, neighbours=5)
    sets = [(bit,) for bit in range(0, n, 20)]
    sets += [(a[k].item(), b[k].item()) for k in range(0, len(a), len(a) // 50)]
    sets += [(bit, bit + 500) for bit in range(0, 500, 11)]
    strings = BitSets.of(n, sets)
    angles.requires_grad_()
    expected = one_and_two_bodies(n, angles, a, b, sets)
    weights = normal(len(sets), seed=6)
    (slope,) = torch.autograd.grad(weights @ expected, angles)
    values, slopes, g = [], [], rng(8)
    for _ in range(blocks):
        one = iqp_cosines(gates, angles, strings, uniform_bits(n, size, g)).double()
        values.append(one.detach())
        slopes.append(torch.autograd.grad(weights @ one.mean(1), angles)[0])
    found = torch.cat(values, 1)
    pulls = (found.mean(1) - expected.detach()) / found.std(1) * math.sqrt(blocks * size)
    assert found.std(1).max() < 1
    assert pulls.abs().max() < 4.5
    assert pulls.square().mean() == pytest.approx(1, abs=0.5)
    gradients = torch.stack(slopes)
    active = gradients.std(0) > 0
    assert active.sum() > 1000
    torch.testing.assert_close(gradients.mean(0)[~active], slope[~active], atol=1e-6, rtol=0)
    pulls = ((gradients.mean(0) - slope) / gradients.std(0) * math.sqrt(blocks))[active]
    assert pulls.mean().abs() < 5 / math.sqrt(active.sum())
    assert pulls.square().mean() == pytest.approx((blocks - 1) / (blocks - 3), abs=0.2)  # Student's t


def test_even_draws_give_the_closed_form_of_the_symmetric_input() -> None:
    """Even strings in even draws: a product of cosines and one of sines."""
    n = 4
    gates, strings = BitSets.of(n, [(bit,) for bit in range(n)]), BitSets.of(n, [(0, 1), tuple(range(n))])
    angles = normal(n)
    found = iqp_cosines(gates, angles, strings, all_bits(n, even=True), dtype=torch.float64).mean(1)
    whole = torch.cos(2 * angles).prod() + torch.sin(2 * angles).prod()
    expected = torch.stack([torch.cos(2 * angles[:2]).prod(), whole])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


# any sets


@st.composite
def cases(draw: st.DrawFn) -> tuple[BitSets, BitSets, Tensor, Tensor]:
    n = draw(st.integers(1, 9))
    sets = st.lists(st.sets(st.integers(0, n - 1)), max_size=12)
    gates, strings = BitSets.of(n, draw(sets)), BitSets.of(n, draw(sets))
    n_draws = draw(st.integers(0, 300))
    return (
        gates,
        strings,
        uniform_bits(n, n_draws, rng(n_draws)),
        normal(len(gates), n_draws, seed=draw(st.integers(0, 9))),
    )


@given(cases(), st.sampled_from(["_CPU", "_Torch"]), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_sets_follow_the_formula(case: tuple[BitSets, BitSets, Tensor, Tensor], way: str, shared: bool) -> None:
    gates, strings, draws, angles = case
    product = getattr(iqp_expectations, way)
    if shared:
        angles, factors = angles.sum(1)[:, None], torch.ones(1, len(draws), dtype=torch.float64)
    angles.requires_grad_()
    expected = dense(gates, angles, strings, draws)
    made = product.of(gates, strings, draws, factors if shared else None, torch.float64)
    found = iqp_expectations._Phases.apply(angles, made).cos()
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    weights = normal(*found.shape, seed=11)
    gradients = [torch.autograd.grad((weights * values).sum(), angles)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)


@pytest.mark.parametrize("form", ["shared", "each draw", "factors"])
def test_gradients_by_differences(way: str, form: str) -> None:
    gates, strings, draws = random_sets(4, 7, 3, seed=1), random_sets(4, 5, 4, seed=2), uniform_bits(4, 9, rng())
    shape = {"shared": (7,), "each draw": (7, 9), "factors": (7, 2)}[form]
    factors = normal(2, 9, seed=3) if form == "factors" else None

    def cosines(angles: Tensor) -> Tensor:
        return iqp_cosines(gates, angles, strings, draws, factors=factors, dtype=torch.float64)

    assert torch.autograd.gradcheck(cosines, (normal(*shape).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("of_angles", [torch.float32, torch.float64])
def test_types_of_values_and_gradients(way: str, dtype: torch.dtype, of_angles: torch.dtype) -> None:
    gates, strings, draws = random_sets(4, 7, 3, seed=1), random_sets(4, 5, 4, seed=2), uniform_bits(4, 9, rng())
    angles = normal(7).to(of_angles).requires_grad_()
    found = iqp_cosines(gates, angles, strings, draws, dtype=dtype)
    (gradient,) = torch.autograd.grad(found.sum(), angles)
    assert (found.dtype, gradient.dtype) == (dtype, of_angles)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_threads_share_the_work() -> None:
    gates, strings = random_sets(30, 200, 3, seed=1), random_sets(30, 50, 5, seed=2)
    draws, angles = uniform_bits(30, 999, rng()), normal(200).requires_grad_()
    found = iqp_cosines(gates, angles, strings, draws, dtype=torch.float64)
    expected = dense(gates, angles[:, None].expand(-1, 999), strings, draws)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    gradients = [torch.autograd.grad(values.square().sum(), angles)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=0)


@CUDA
def test_cuda_gives_the_same() -> None:
    gates, strings = random_sets(200, 900, 3, seed=1), random_sets(200, 100, 5, seed=2)
    draws, angles = uniform_bits(200, 500, rng()), normal(900)
    results = []
    for device in ("cpu", "cuda"):
        moved = angles.to(device).requires_grad_()
        found = iqp_cosines(gates.to(device), moved, strings.to(device), draws.to(device))
        (gradient,) = torch.autograd.grad(found.square().sum(), moved)
        results.append((found.detach().cpu(), gradient.cpu()))
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)


# memory


def peak() -> int:
    """Largest resident size since it was last asked for, in bytes."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of memory")
def test_memory_stays_far_below_gates_times_draws() -> None:
    gates, strings = random_sets(500, 5000, 2, seed=1), random_sets(500, 10, 4, seed=2)
    angles, draws = normal(5000).requires_grad_(), uniform_bits(500, 40_000, rng())
    iqp_cosines(gates, angles, strings, draws[:8]).sum().backward()
    peak()
    before = peak()
    iqp_cosines(gates, angles, strings, draws).sum().backward()
    assert peak() - before < 0.15 * 4 * 5000 * 40_000


# drawn bits


@pytest.mark.parametrize("even", [False, True])
def test_drawn_bits_are_uniform(even: bool) -> None:
    bits = uniform_bits(4, 20_000, rng(), even=even)
    assert (bits.shape, bits.dtype) == ((20_000, 4), torch.uint8)
    counts = torch.bincount((bits.long() * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16).double()
    allowed = all_bits(4).sum(1) % 2 == 0 if even else torch.ones(16, dtype=torch.bool)
    expected = 20_000 / allowed.sum()
    assert counts[~allowed].sum() == 0
    assert ((counts[allowed] - expected) ** 2 / expected).sum() < 40
    torch.testing.assert_close(bits, uniform_bits(4, 20_000, rng(), even=even))


def test_even_strings_of_many_bits() -> None:
    assert (uniform_bits(1001, 50, rng(), even=True).long().sum(1) % 2 == 0).all()


# mistakes


ONE = BitSets.of(3, [(0,), (1, 2)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strings": BitSets.of(4, [(0,)])}, r"^strings have 4 bits; the gates have 3$"),
        ({"angles": torch.zeros(3)}, r"^angles have shape \(3,\); expected \(2,\) or \(2, 5\)$"),
        ({"draws": torch.zeros(5, 2, dtype=torch.uint8)}, r"shape \(5, 2\); expected torch.uint8, \(n_draws, 3\)$"),
        ({"draws": torch.zeros(5, 3)}, r"^draws are torch.float32 "),
        ({"draws": torch.full((5, 3), 2, dtype=torch.uint8)}, r"^draws have the entry 2; allowed are 0 and 1$"),
        ({"dtype": torch.float16}, r"^dtype is torch.float16; "),
        ({"factors": torch.ones(2, 4)}, r"^factors have shape \(2, 4\); expected \(n_terms, 5\) without a gradient$"),
        ({"factors": torch.ones(1, 5).requires_grad_()}, r"and a gradient; expected"),
        ({"factors": torch.ones(3, 5)}, r"^angles have shape \(2,\); expected \(2, 3\)$"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    draws = torch.zeros(5, 3, dtype=torch.uint8)
    right = {"gates": ONE, "angles": torch.zeros(2), "strings": ONE, "draws": draws}
    with pytest.raises(ValueError, match=message):
        iqp_cosines(**(right | change))  # type: ignore[arg-type]


def test_exact_values_are_for_few_bits() -> None:
    many = BitSets.of(21, [(0,)])
    with pytest.raises(ValueError, match=r"^gates have 21 bits; exact expectation values are for up to 20$"):
        exact_expectations(many, torch.zeros(1), many)
    with pytest.raises(ValueError, match=r"^angles have shape \(3,\); expected \(2,\)$"):
        exact_expectations(ONE, torch.zeros(3), ONE)


def test_a_string_of_no_bits_is_one() -> None:
    strings = BitSets.of(3, list(chain(*(combinations(range(3), k) for k in range(2)))))
    found = iqp_cosines(ONE, normal(2), strings, uniform_bits(3, 10, rng()))
    torch.testing.assert_close(found[0], torch.ones(10))
    assert exact_expectations(ONE, normal(2), strings)[0] == pytest.approx(1)
