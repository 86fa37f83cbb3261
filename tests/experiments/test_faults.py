"""Faults on purpose: what a run loses when its process is killed, its disk fills or its files are damaged (nothing)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.cli import main
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.run import Reporter, run_experiment
from qgen import load_run
from qgen.statefile import load_state

ROOT = Path(__file__).parents[2]
KILLS = 20


def experiment(steps: int = 6) -> Experiment:
    training = {"steps": steps, "batch_size": 32, "log_every": 1, "validate_every": 20}
    return resolve(
        {
            "name": "small",
            "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
            "models": {
                "born": {"kind": "born_machine", "bits": 2, "objective": {"kind": "mmd"}, "training": training},
                "gan": {
                    "kind": "gan",
                    "hidden": [8],
                    "objective": {"kind": "adversarial", "discriminator": {"kind": "mlp", "hidden": [8]}},
                    "training": training,
                },
            },
            "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"]},
            "checkpoint_every": 2,
        }
    )


def weights(folder: Path, model: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_state(folder / "seed-0" / model / "generator.safetensors")["weights"]
    return found


def log(folder: Path, model: str) -> list[dict[str, Any]]:
    lines = (folder / "seed-0" / model / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def check_same(found: Path, expected: Path) -> None:
    for model in ("born", "gan"):
        a, b = weights(found, model), weights(expected, model)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
        assert log(found, model) == log(expected, model)
        assert torch.equal(load_run(found).samples(model).samples, load_run(expected).samples(model).samples)
        scores = [load_run(run).results["models"][model]["metrics"] for run in (found, expected)]
        assert scores[0] == scores[1]


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    import torch._dynamo  # which optimisers import: here, so that no time to die passes with it
    from experiments.run import run_experiment
    from test_faults import KILLS, experiment

    torch.set_num_threads(1)
    folder, work = Path(sys.argv[1]), experiment(steps=120)
    run_experiment(work, folder / "quiet")
    rng = random.Random(7)
    logs = [folder / "killed" / "seed-0" / model / "metrics.jsonl" for model in ("born", "gan")]

    def records():
        return sum(log.read_bytes().count(b"\\n") for log in logs if log.exists())

    kills = 0
    for target in sorted(rng.sample(range(1, 215), KILLS)):
        process = os.fork()
        if not process:
            run_experiment(work, folder / "killed", resume=(folder / "killed" / "config.yaml").exists())
            os._exit(0)
        while records() < target and os.waitpid(process, os.WNOHANG) == (0, 0):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.004))
        os.kill(process, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    run_experiment(work, folder / "killed", resume=True)
    print("killed", kills)
"""


def test_killed_20_times_at_random_moments_a_run_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    paths = f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'experiments'}"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert f"killed {KILLS}" in done.stdout
    check_same(tmp_path / "killed", tmp_path / "quiet")
    assert not list((tmp_path / "killed").rglob("*.part"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is only read; who changes it takes a copy."""
    return run_experiment(experiment(), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def resumed(folder: Path) -> list[str]:
    """What is said of damage when a run goes on."""
    said: list[str] = []
    run_experiment(experiment(), folder, resume=True, reporter=Reporter(warning=said.append))
    assert not any("\n" in line for line in said)
    return [line for line in said if "damaged" in line]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("generator.safetensors", cut),
        ("generator.safetensors", flip),
        ("training.json", cut),
        ("training.json", lambda path: path.write_text("[]")),
        ("training.json", lambda path: path.write_text("[" * 100_000)),
        ("training.json", lambda path: path.write_bytes(b"\xff\xfe")),
    ],
)
def test_a_damaged_model_is_made_anew_from_its_checkpoint(
    name: str, damage: Callable[[Path], object], run: Path, finished: Path
) -> None:
    damage(run / "seed-0" / "gan" / name)
    said = resumed(run)
    assert len(said) == 1
    assert f"{run / 'seed-0' / 'gan' / name}: damaged" in said[0]
    assert said[0].endswith("the model is made anew from its checkpoint")
    check_same(run, finished)


@pytest.mark.parametrize("name", ["samples.h5", "metrics.jsonl"])
def test_what_follows_from_a_model_is_made_anew(name: str, run: Path, finished: Path) -> None:
    place = run / "seed-0" / "gan"
    cut(place / name)
    cut(place / "generator.safetensors")
    (run / "results.json").unlink()
    resumed(run)
    check_same(run, finished)


def interrupted(run: Path, steps: int = 4) -> None:
    """Make a finished training one that broke off after the checkpoint before its last, in the middle of a record."""
    place = run / "seed-0" / "gan"
    for name in ("generator.safetensors", "training.json"):
        (place / name).unlink()
    (place / "checkpoint.previous.safetensors").replace(place / "checkpoint.safetensors")
    lines = (place / "metrics.jsonl").read_text().splitlines(keepends=True)
    (place / "metrics.jsonl").write_text("".join(lines[: steps + 1]) + '{"step": 6, "los')


def test_half_a_record_at_the_end_of_the_log_is_laid_down_again(run: Path, finished: Path) -> None:
    interrupted(run)
    seen: list[int] = []
    lines = run / "seed-0" / "gan" / "metrics.jsonl"

    def watch(record: dict[str, float]) -> None:
        seen.extend(json.loads(line)["step"] for line in lines.read_text().splitlines())

    run_experiment(experiment(), run, resume=True, reporter=Reporter(record=watch))
    assert seen == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6]
    check_same(run, finished)


def test_a_truncated_checkpoint_gives_way_to_the_one_before_and_says_so(run: Path, finished: Path) -> None:
    place = run / "seed-0" / "gan"
    (place / "generator.safetensors").unlink()
    cut(place / "checkpoint.safetensors")
    said = resumed(run)
    assert len(said) == 1
    assert said[0].startswith(f"gan, seed 0: {place / 'checkpoint.safetensors'}: damaged")
    assert said[0].endswith("goes on from the checkpoint before, checkpoint.previous.safetensors, of step 4")
    check_same(run, finished)


def test_two_damaged_checkpoints_are_one_line_of_the_command(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run / "seed-0" / "gan"
    (place / "generator.safetensors").unlink()
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        cut(place / name)
    monkeypatch.setattr(sys, "argv", ["qgen", "run", str(run), "--resume"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("qgen: ")
    assert str(place / "checkpoint.safetensors") in line
    assert str(place / "checkpoint.previous.safetensors") in line
    assert line.endswith("delete both to train afresh")


def fails_at(call: int, reason: int) -> Callable[[int], None]:
    """What stands for ``os.fsync`` on a disk that takes nothing more from the n-th file on."""
    calls = 0

    def sync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(reason, os.strerror(reason))

    return sync


@pytest.mark.parametrize(("reason", "call"), [(errno.EROFS, 1), (errno.ENOSPC, 6), (errno.ENOSPC, 20)])
def test_a_disk_that_fills_while_a_run_goes_is_one_line_and_loses_nothing(
    reason: int, call: int, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fails_at(call, reason))
        with pytest.raises(OSError, match=os.strerror(reason)) as caught:
            run_experiment(experiment(), folder)
    assert "\n" not in str(caught.value)
    assert not list(folder.rglob("*.part"))
    run_experiment(experiment(), folder, resume=(folder / "config.yaml").exists())
    check_same(folder, finished)


def test_of_two_writers_in_one_folder_one_is_told(tmp_path: Path, finished: Path) -> None:
    folder, said = tmp_path / "run", []

    def second(model: str, seed: int, steps: int) -> None:
        if model != "born":
            return
        with pytest.raises(BlockingIOError, match=f"run: in use by process {os.getpid()}$") as caught:
            run_experiment(experiment(), folder, resume=True)
        said.append(str(caught.value))

    run_experiment(experiment(), folder, reporter=Reporter(stage=second))
    assert len(said) == 1
    check_same(folder, finished)


def test_what_a_killed_process_left_of_a_file_is_removed(run: Path) -> None:
    left = run / "seed-0" / "gan" / ".checkpoint.safetensors.17.part"
    left.write_bytes(bytes(100))
    resumed(run)
    assert not left.exists()
