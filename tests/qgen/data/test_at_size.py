"""What commands do with any number of events, shown with few."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import streaming
from experiments.cli import main
from experiments.config import resolve
from experiments.run import run_experiment
from qgen import run as runs
from qgen.data import load_events, load_muon
from qgen.data.muon_files import _COLUMNS

EVENT = "50,-0.08,0.01,2.17,2.18,0.08,-0.02,47.8,47.81\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {
        "name": "tiny",
        "dataset": {"kind": "muon", "n": 200},
        "models": {"histogram": {"kind": "histogram"}},
        "evaluation": {"metrics": ["wasserstein"]},
    }
    return run_experiment(resolve(config), tmp_path_factory.mktemp("run") / "run")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    sys.argv = ["qgen", *words]
    with pytest.raises(SystemExit) as status:
        main()
    out, err = capsys.readouterr()
    return int(status.value.code or 0), out, err


@pytest.fixture(autouse=True)
def own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(runs, "BLOCK_EVENTS", 50)


def test_samples_are_drawn_block_by_block_and_are_those_of_the_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("sample", str(folder), "--model", "histogram", "-n", "120", "--seed", "3", "--out")
    status, out, err = call(capsys, *words, str(tmp_path / "one.h5"))
    assert status == 0, err
    assert out == f"{tmp_path / 'one.h5'}: 120 events of histogram\n"
    assert "120/120 events of histogram" in err
    call(capsys, *words, str(tmp_path / "two.h5"))
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    events = load_events(tmp_path / "one.h5")
    run = runs.load_run(folder)
    blocks = list(run.sample_blocks("histogram", 120, seed=3))
    assert [len(block) for block in blocks] == [50, 50, 20]
    assert not torch.equal(blocks[0].samples, blocks[1].samples)
    assert torch.equal(run.sample("histogram", 120, seed=3).samples, events.samples)
    assert torch.equal(torch.cat([block.conditions for block in blocks]), events.conditions)
    assert torch.equal(run.sample("histogram", 50, seed=3).samples, events.samples[:50])


def test_an_interrupt_leaves_no_half_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = runs.Run.sample_blocks

    def interrupted(self: runs.Run, *arguments: object, **options: object):
        yield next(drawn(self, *arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Run, "sample_blocks", interrupted)
    words = ("sample", str(folder), "--model", "histogram", "-n", "120", "--out", str(tmp_path / "one.h5"))
    status, _, err = call(capsys, *words)
    assert status == 130
    assert "interrupted; no file was written" in err
    assert list(tmp_path.iterdir()) == []


def test_any_layout_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "events.csv.gz", tmp_path / "events.h5"
    source.write_bytes(gzip.compress(f"{','.join(_COLUMNS)}\n{EVENT * 30}".encode()))
    status, out, err = call(capsys, "data", "convert", str(source), "--out", str(target))
    assert (status, out) == (0, f"{target}: 30 events\n"), err
    assert torch.equal(load_events(target).samples, load_muon(source).samples)
    source.write_bytes(b"nothing of the kind")
    status, _, err = call(capsys, "data", "convert", str(source), "--out", str(target))
    assert status == 2
    assert err.count("\n") == 1
    assert len(load_events(target)) == 30


def test_the_benchmark_does_all_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "QUICK", {"profile": (500, 8), "sparse": (40, 40_500)})

    def here(name: str, path: Path, n: int, pixels: int) -> tuple[float, float, float]:
        assert streaming.JOBS[name](path, n, pixels) == n
        return 1.0, 1e6, 2e6

    monkeypatch.setattr(streaming, "_elsewhere", here)
    report = streaming.measure(SimpleNamespace(quick=True, folder=tmp_path))
    (_, profile), (_, sparse) = report.tables
    assert profile[0] == ["write, event_writer", "500", "1.00", "1.00"]
    assert {row[0] for row in profile} == set(streaming.JOBS)
    assert len(sparse) == len(profile) - 2
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_measures_in_a_process_of_its_own(tmp_path: Path) -> None:
    seconds, before, peak = streaming._elsewhere("write, h5py alone", tmp_path / "x.h5", 100, 8)
    assert 0 < seconds < 60
    assert 50e6 < before <= peak
    with pytest.raises(RuntimeError, match="describe in a process of its own: .*no such file"):
        streaming._elsewhere("describe", tmp_path / "none.h5", 100, 8)
