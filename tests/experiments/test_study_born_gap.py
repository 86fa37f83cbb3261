from __future__ import annotations

import json
from pathlib import Path

import pennylane as qml
import pytest
import torch
from typer.testing import CliRunner

from circuits.backends import Statevector
from experiments.cli import app
from experiments.studies.born_gap import CHOICES, PLAIN, Choice, _Judge, _same_significance, born_gap
from qgen.data import Dataset, muon_events


def test_the_command_writes_results_and_a_figure(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["study", "born-gap", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in json.loads((tmp_path / "results.json").read_text())["joint"]}
    assert rows["other true events"]["tv_coarse"][0] == pytest.approx(0.12, abs=0.01)
    assert rows["independent marginals"]["tv_coarse"][0] == pytest.approx(0.76, abs=0.01)
    assert (rows["9 qubits, plain"]["parameters"], rows["plain"]["parameters"]) == (432, 384)
    assert rows["cascade"]["tv_coarse"][0] < rows["plain"]["tv_coarse"][0] - 0.1
    assert (tmp_path / "born-gap.png").read_bytes().startswith(b"\x89PNG")
    assert "16x16x16" in done.output


def test_machines_of_the_study_have_few_parameters() -> None:
    assert all(choice.options["layers"] <= 15 for choice in CHOICES if choice.bits == 4 and "1536" not in choice.name)


def test_a_condition_is_judged_at_each_energy() -> None:
    found = born_gap(seeds=1, steps=2, choices=(), conditional=(Choice("plain", {**PLAIN, "layers": 1}),))
    truth, *_, machine = found["conditional"]
    assert 0.1 < truth["tv_coarse"][0] < 0.3
    assert machine["tv_coarse"][0] > truth["tv_coarse"][0]
    assert len(machine["nll"]) == 1


def test_fine_cells_of_the_judge_add_up_to_coarse_ones() -> None:
    events = muon_events(n=800, beam_energies=(100.0,), features=("x", "pt", "eta"))
    data = Dataset(events.samples, events.features)
    judge = _Judge(data, data.test, data.validation)
    coarse = torch.rand(1, 512, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(judge._coarse(judge._spread(coarse)), coarse)
    one = torch.zeros(1, 16, 16, 16, dtype=torch.float64)
    one[0, 5, 2, 15] = 1
    assert judge._coarse(one.flatten(1)).argmax().item() == 2 * 64 + 1 * 8 + 7


def test_pairs_of_one_significance_are_a_pennylane_transcription() -> None:
    circuit = _same_significance(2, 2, 2)
    angles = torch.randn(circuit.n_angles, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    @qml.qnode(qml.device("default.qubit", wires=4))
    def node() -> object:
        angle = iter(angles)
        for wire in range(4):
            qml.Hadamard(wires=wire)
        for pairs in ([(0, 1), (1, 0), (2, 3), (3, 2)], [(0, 2), (1, 3)]):
            for wire in range(4):
                qml.RY(next(angle), wires=wire)
                qml.RZ(next(angle), wires=wire)
            for pair in pairs:
                qml.CNOT(wires=pair)
        return qml.probs(wires=range(4))

    torch.testing.assert_close(Statevector().probs(circuit, angles), torch.as_tensor(node()), atol=1e-12, rtol=0)
