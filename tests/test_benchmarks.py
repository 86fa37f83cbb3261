"""Small cases of the benchmarks: they run, all contenders agree, and what they say is said right."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import torch

from benchmarks import batch, cuda, cv, gradient_step, iqp, noise, sampling
from benchmarks.__main__ import page
from benchmarks.common import TOLERANCE, Absent, Contender, Goal, Report, Timing, compare, race, ratio, table
from benchmarks.peers import gradient_builders
from benchmarks.work import TorchLoss, Work, kernel_factors

ROOT = Path(__file__).parents[1]


def options(*peers: str) -> argparse.Namespace:
    return argparse.Namespace(quick=True, seconds=0.001, peers=peers, qubits=(4,))


def python(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("n_qubits", [3, 8])
def test_the_loss_is_the_squared_mmd_of_the_dense_kernel(n_qubits: int) -> None:
    work = Work(n_qubits)
    states = range(2**n_qubits)
    kernel = torch.tensor([[(x ^ y).bit_count() for y in states] for x in states], dtype=torch.float64)
    kernel = torch.exp(-kernel / 2)
    p = torch.rand(2**n_qubits, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    difference = p - work.target
    expected = difference @ kernel @ difference
    found = TorchLoss(work)(p)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, p), torch.autograd.grad(expected, p))


def test_kernels_stay_small_on_many_qubits() -> None:
    assert [len(factor) for factor in kernel_factors(20)] == [32, 32, 32, 32]
    assert np.prod([float(len(factor)) for factor in kernel_factors(13)]) == 2**13


@pytest.mark.parametrize("work", [Work(2, layers=2), Work(2, layers=2, batch=3)])
def test_all_packages_that_are_here_have_the_same_gradient(work: Work) -> None:
    results = race(gradient_builders(work), seconds=0, rounds=1)
    here = [name for name, result in results.items() if isinstance(result, Timing)]
    assert {"qgen", "qgen, complex64", "default.qubit", "lightning.qubit"} <= set(here)
    assert {result for result in results.values() if isinstance(result, str)} <= {"not installed"}


def test_the_gradient_that_is_timed_is_the_gradient() -> None:
    work = Work(3, layers=2)
    value, gradient = gradient_builders(work)["qgen"]().run()
    function, loss = work.circuit.to_pennylane(), TorchLoss(work)

    @qml.qnode(qml.device("default.qubit"))
    def probabilities(angles: torch.Tensor):
        function(angles)
        return qml.probs(wires=range(3))

    moved = work.angles.clone()
    moved[4] += 1e-5
    slope = (loss(probabilities(moved)) - loss(probabilities(work.angles))) / 1e-5
    assert float(value) == pytest.approx(float(loss(probabilities(work.angles))))
    assert float(gradient[4]) == pytest.approx(float(slope), abs=1e-5)


@pytest.mark.parametrize(("script", "peer"), [(gradient_step, "lightning"), (batch, "default"), (sampling, "Aer")])
def test_a_small_case_of_each_script(script, peer: str) -> None:
    report = script.measure(options(peer))
    text = report.markdown()
    assert "qgen" in text
    assert peer in text
    assert any(goal.measured is not None and goal.measured > 0 for goal in report.goals)


def test_noise_agrees_with_aer_and_default_mixed() -> None:
    report = noise.measure(options("Aer", "default"))
    assert [len(rows) for _, rows in report.tables] == [3, 2, 2]
    assert all(goal.measured is not None for goal in report.goals)


def test_memory_and_first_call_measure_in_processes_of_their_own() -> None:
    before, peak = json.loads(python("benchmarks.memory", "--one", "lightning.qubit", "--qubits", "4"))
    assert 0 < before <= peak
    first, second = json.loads(python("benchmarks.first_call", "--one", "noisy gradient, 8 qubits"))
    assert first > 0
    assert second > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_one_line_says_so(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda", "--quick"])
    cuda.main()
    assert capsys.readouterr().out == "no CUDA device is available here\n"


def test_contenders_that_disagree_are_not_timed() -> None:
    def builder(value: float):
        return lambda: Contender(lambda: [np.array([1.0, value])])

    with pytest.raises(ArithmeticError, match=r"^other differs from the others by 0.001"):
        race({"qgen": builder(0.5), "other": builder(0.501)}, seconds=0)
    with pytest.raises(ArithmeticError, match="nan"):
        race({"qgen": builder(0.5), "other": builder(float("nan"))}, seconds=0)


def test_who_cannot_take_part_is_named_with_the_reason() -> None:
    def absent() -> Contender:
        raise Absent("not installed")

    results = race({"qgen": lambda: Contender(lambda: [np.zeros(1)]), "other": absent}, seconds=0)
    assert results["other"] == "not installed"
    assert ratio(results) is None


def test_the_page_has_machine_goals_and_sections() -> None:
    goals = [Goal("fast", 2.0, 3.0), Goal("soon", 2.0, 3.0, " s", most=True), Goal("both", 1.0, None)]
    text = page([Report("A section", "What.", [(["a", "b"], [["x", "1"]])], goals)], [("cores", "1")], "python -m b")
    assert [goal.reached for goal in goals] == [True, False, False]
    assert [goal.row()[2:] for goal in goals] == [["3.00 times", "yes"], ["3.00 s", "no"], ["not measured", "-"]]
    rows = table(["a", "b"], [["x", "1"]])
    for part in ("    python -m b\n", "| cores   | 1 |\n", "\n## A section\n\nWhat.\n", rows):
        assert part in text


# continuous variables

SMALL = cv.CVWork(1, 5, layers=1, batch=2)


def cv_found(name: str, work: cv.CVWork, seconds: float, limit: float) -> cv.Found:
    """As the benchmark's own, in this process."""
    contender = cv.CONTENDERS[name](work)
    arrays = [np.asarray(array, np.float64) for array in contender.read(contender.run())]
    return cv.Found(arrays, contender.relative, Timing(2.0 if name.startswith("qgen") else 9.0, 1.0, 1.0, 1))


def test_the_cv_gradient_that_is_timed_is_the_gradient() -> None:
    work = cv.CVWork(2, 6, layers=2, batch=3)
    means, gradient = cv.CONTENDERS["qgen, total basis"](work).run()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        moved, _ = cv.Fock(8).run(work.program, weights, work.inputs).quadratures()
        return ((moved - work.targets) ** 2).mean()

    for place in (0, 9, len(work.weights) - 1):
        step = torch.zeros_like(work.weights)
        step[place] = 1e-5
        slope = (loss(work.weights + step) - loss(work.weights - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(float(slope), abs=1e-6)
    assert means.shape == (3, 2)


def test_cv_peers_agree_and_the_report_has_their_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepquantum")
    monkeypatch.setattr(cv, "run_elsewhere", cv_found)
    asked = argparse.Namespace(quick=True, seconds=0.001, peers=("deepquantum",), sizes=[(2, 5)], layers=1, batch=2)
    report = cv.measure(asked)
    assert [goal.measured for goal in report.goals] == [4.5, None]
    assert "| 2 modes, cutoff 5 | 2.00 |" in report.markdown()


def test_a_cv_peer_in_a_process_of_its_own() -> None:
    pytest.importorskip("jax")
    found = cv.run_elsewhere("piquasso", SMALL, 0.0, 300)
    assert isinstance(found.timing, Timing)
    reference = cv_found("qgen, total basis", SMALL, 0, 0)
    compare("piquasso", found.arrays, reference.arrays, TOLERANCE)
    stopped = cv.run_elsewhere("piquasso", SMALL, 0.0, 0.1)
    assert stopped.timing == "more than 0.100 s"
    assert not stopped.arrays


# IQP circuits

FEW = iqp.Work(12, n_strings=20, n_draws=50)


def test_the_iqp_gradient_that_is_timed_is_the_gradient() -> None:
    value, gradient = iqp.ours(FEW, torch.float64).read(None)
    draws = iqp._shared_draws(FEW)

    def loss(angles: torch.Tensor) -> float:
        values = iqp.iqp_cosines(FEW.gates, angles, FEW.strings, draws, dtype=torch.float64)
        pairs = values.sum(1) ** 2 - (values**2).sum(1)
        data = FEW.signs.double()
        others = data.sum(1) ** 2 - data.shape[1]
        n, m = values.shape[1], data.shape[1]
        terms = pairs / (n * (n - 1)) - 2 * values.mean(1) * data.mean(1) + others / (m * (m - 1))
        return float(terms.mean())

    assert float(value) == pytest.approx(loss(FEW.angles))
    for place in (0, 30, len(FEW.gates) - 1):
        step = torch.zeros_like(FEW.angles)
        step[place] = 1e-5
        slope = (loss(FEW.angles + step) - loss(FEW.angles - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(slope, abs=1e-8)


def test_iqp_circuits_agree_with_the_programs_in_jax() -> None:
    pytest.importorskip("jax")
    results = race(iqp.builders(FEW), seconds=0, rounds=1)
    here = {name for name, result in results.items() if isinstance(result, Timing)}
    assert {"qgen", "qgen, float64", "JAX, sparse", "JAX, dense"} <= here
    assert all(name in here or result == "not installed" for name, result in results.items())


def test_gates_beyond_all_pairs_are_ten_a_qubit() -> None:
    work = iqp.Work(400)
    work.gates.check_distinct()
    assert len(work.gates) == 4000
    assert work.gates.sizes.tolist() == [1] * 400 + [2] * 3600
    assert {(0, 1), (0, 10), (0, 100)} <= set(work.gates)
    assert (9, 10) not in set(work.gates)


def test_the_iqp_report_has_times_memory_and_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iqp, "_elsewhere", lambda name, n, timed: "12.0")
    asked = argparse.Namespace(quick=True, seconds=0.001, peers=("dense",), qubits=(8,))
    pytest.importorskip("jax")
    report = iqp.measure(asked)
    assert [header[0] for header, _ in report.tables] == ["qubits", "qubits, memory of a step"]
    assert [goal.measured is None for goal in report.goals] == [True, False]
    monkeypatch.setattr(iqp, "one_core", lambda: None)
    before, peak = iqp._one("qgen", 40)
    assert 0 < before <= peak
