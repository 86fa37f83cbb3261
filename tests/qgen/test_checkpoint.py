from __future__ import annotations

import contextlib
import errno
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qgen import fit
from qgen.files import remove_stale_parts, write_atomically
from qgen.statefile import load_state, save_state
from qgen.training import NLL, Adversarial
from qgen.training.checkpoint import Checkpoints, DamagedCheckpointWarning
from qgen.training.optimisers import OPTIMISERS, OptimiserName
from qgen_toys import Affine, linear_events

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # children that write files, no more

DATA = linear_events()
SETTINGS: dict[str, Any] = {"steps": 12, "batch_size": 32, "seed": 3, "validate_every": 5, "checkpoint_every": 4}


def train(checkpoint: Path | None = None, until: int | None = None) -> Affine:
    """Train a toy, or up to the record of a step at which the process would have died."""

    class Killed(Exception):
        pass

    def kill(record: dict[str, float]) -> None:
        if until is not None and record["step"] >= until:
            raise Killed

    model = Affine.for_dataset(DATA)
    game = Adversarial(discriminator={"kind": "mlp", "hidden": [8]})
    with contextlib.suppress(Killed):
        fit(model, DATA, game, **SETTINGS, log_every=1, checkpoint=checkpoint, callback=kill)
    return model


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def saved_state(step: int) -> dict[str, Any]:
    return {"settings": {}, "state": {"step": step, "weights": torch.full((50,), float(step))}}


def step_of(checkpoints: Checkpoints) -> int:
    found = checkpoints.load()
    assert found is not None
    return int(found.state["step"])


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "a bit of a weight": lambda path: flip(path, -10),
    "a bit of a name": lambda path: flip(path, 30),
    "other content": lambda path: path.write_text("not a checkpoint"),
}


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c.safetensors")
    assert checkpoints.load() is None
    for step in (1, 2, 3):
        checkpoints.save(saved_state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.previous.safetensors", "c.safetensors"]
    assert load_state(checkpoints.path)["state"]["step"] == 3
    assert load_state(checkpoints.previous)["state"]["step"] == 2


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    train(path, until=11)
    assert load_state(path)["state"]["step"] == 8
    damage(path)
    with pytest.warns(DamagedCheckpointWarning) as caught:
        model = train(path)
    line = str(caught[0].message)
    assert str(path) in line
    assert "the training goes on from the checkpoint before, state.previous.safetensors, of step 4" in line
    assert "\n" not in line
    assert same(model, train())
    found = Checkpoints(path).load()
    assert found is not None
    assert found.problem == ""
    assert found.state["step"] == 12


def test_what_is_damaged_is_never_kept_as_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(saved_state(step))
    os.truncate(checkpoints.path, 20)
    again = Checkpoints(checkpoints.path)
    assert step_of(again) == 1
    again.save(saved_state(5))
    assert load_state(checkpoints.previous)["state"]["step"] == 1
    assert load_state(checkpoints.path)["state"]["step"] == 5


def test_two_damaged_checkpoints_are_one_line_that_names_both(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    train(path, until=11)
    for damaged in (path, Checkpoints(path).previous):
        os.truncate(damaged, 100)
    with pytest.raises(ValueError, match="no checkpoint is whole: delete both to train afresh") as caught:
        train(path)
    assert str(path) in str(caught.value)
    assert str(Checkpoints(path).previous) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(saved_state(step))
    monkeypatch.setattr("qgen.statefile._digest", bad_sector(checkpoints.path))
    found = checkpoints.load()
    assert found is not None
    assert found.state["step"] == 1
    assert "Input/output error" in found.problem


def bad_sector(path: Path) -> Callable[[Path, str], str]:
    from qgen.statefile import _digest

    def read(asked: Path, written: str) -> str:
        if asked == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return _digest(asked, written)

    return read


def test_another_file_is_no_reason_to_go_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(saved_state(step))
    save_state(checkpoints.path, {"spec": {}, "weights": {}})
    with pytest.raises(ValueError, match="c: no checkpoint of a training$"):
        checkpoints.load()


CALLS = ("fsync", "replace")
"""What a checkpoint asks the system for after the bytes are written; a process may die before each of them."""


def dying_before(call: str, number: int) -> None:
    """From now on, let this process be killed before it asks for something of the system for the n-th time."""
    original, calls = getattr(os, call), 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(os, call, counted)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", [1, 2])
def test_killed_at_any_point_of_a_checkpoint_a_whole_one_is_there(call: str, number: int, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(saved_state(step))
    child = os.fork()
    if not child:
        dying_before(call, number)
        checkpoints.save(saved_state(3))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    again = Checkpoints(checkpoints.path)
    assert step_of(again) in (2, 3)
    remove_stale_parts(tmp_path)
    assert not list(tmp_path.glob(".*"))
    again.save(saved_state(3))
    again.save(saved_state(4))
    assert [load_state(path)["state"]["step"] for path in (again.path, again.previous)] == [4, 3]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_disk_that_takes_nothing_ends_a_training_and_loses_nothing(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    train(path, until=9)
    before = {found: found.read_bytes() for found in tmp_path.iterdir()}

    def refused(handle: int) -> None:
        raise OSError(reason, os.strerror(reason))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refused)
        with pytest.raises(OSError, match=f"{os.strerror(reason)}.; what stood there is untouched") as caught:
            train(path)
    assert caught.value.filename == str(path)
    assert {found: found.read_bytes() for found in tmp_path.iterdir()} == before
    assert same(train(path), train())


def test_a_folder_without_permission_is_one_line() -> None:
    """Root may write anywhere: the child gives its rights away first."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        child = os.fork()
        if not child:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            try:
                write_atomically(folder / "file", b"new")
            except BaseException as error:
                os.write(write, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        folder.chmod(0o755)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert said.startswith("PermissionError: [Errno 13] cannot be written (Permission denied); what stood there")
    assert str(folder / "file") in said


@pytest.mark.parametrize("jump", [-30 * 365.25 * 86400, 30 * 365.25 * 86400], ids=["back", "on"])
def test_a_clock_that_jumps_changes_nothing(jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = time.time, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return original() + jump * calls

    quiet = train()
    monkeypatch.setattr("time.time", jumping)
    monkeypatch.setattr("time.monotonic", jumping)
    path = tmp_path / "state.safetensors"
    train(path, until=9)
    os.utime(path, (0, 0))  # older than the checkpoint before it, by the clock
    assert same(train(path), quiet)
    model = Affine.for_dataset(DATA)
    result = fit(model, DATA, NLL(), steps=5, seconds=1000)
    assert result.steps == 5
    assert 0 <= result.cpu_seconds < 1000


def test_only_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / ".model.17.part").touch()
    (tmp_path / "kept.part").touch()
    (tmp_path / ".kept.part").touch()
    (tmp_path / ".link.17.part").symlink_to(tmp_path / "kept.part")
    stop, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:  # in the middle of a file
        os.fsync = lambda handle: (os.write(go[1], b"."), os.read(stop[0], 1))
        write_atomically(tmp_path / "big", b"new")
        os._exit(0)
    os.read(go[0], 1)
    removed = remove_stale_parts(tmp_path)
    os.write(stop[1], b"..")
    os.waitpid(child, 0)
    for handle in (*stop, *go):
        os.close(handle)
    assert [path.name for path in removed] == [".model.17.part"]
    assert (tmp_path / "big").read_bytes() == b"new"
    assert {path.name for path in tmp_path.iterdir()} == {"seed-0", "kept.part", ".kept.part", ".link.17.part", "big"}


def test_a_whole_checkpoint_is_no_reason_for_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    train(path, until=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(path)


def moments(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["optimisers"]["generator"]["state"][0]
    return found


MADE_UP: dict[str, Callable[[dict[str, Any]], object]] = {
    "step is 'seven'": lambda state: state.update(step="seven"),
    "step is True": lambda state: state.update(step=True),
    "step is -1": lambda state: state.update(step=-1),
    "step is 1000": lambda state: state.update(step=10**400),
    "cpu_seconds is inf": lambda state: state.update(cpu_seconds=float("inf")),
    "history is 3": lambda state: state.update(history=3),
    "history.0.seconds": lambda state: state["history"][0].update(seconds=None),
    "damaged .no 'seconds'.; delete it": lambda state: state["history"][-1].pop("seconds"),
    "history.1.loss is 'low'": lambda state: state["history"][1].update(loss="low"),
    "history.1.step is 2.5": lambda state: state["history"][1].update(step=2.5),
    "best is .1.": lambda state: state.update(best=[1]),
    "best.step is None": lambda state: state["best"].update(step=None),
    "best.loss is tensor": lambda state: state["best"].update(loss=torch.zeros(3)),
    "best.weights are not those of the model": lambda state: state["best"]["weights"].update(mean=torch.zeros(9)),
    "'weights'": lambda state: state["best"].pop("weights"),
    "exp_avg of shape .9,. for weights": lambda state: moments(state).update(exp_avg=torch.zeros(9)),
    "generator has kept step, exp_avg_sq": lambda state: moments(state).pop("exp_avg"),
    "optimiser .'step'.": lambda state: moments(state).pop("step"),
    "has taken tensor": lambda state: moments(state).update(step=torch.tensor(-1.0)),
    "no attribute 'shape'": lambda state: moments(state).update(exp_avg="x"),
    "optimisers.generator has other settings": lambda state: state["optimisers"]["generator"]["param_groups"][0].update(
        betas="x"
    ),
    "optimisers.generator has kept": lambda state: state["optimisers"]["generator"]["state"].update(x={"step": 1}),
    "another model, objective or optimiser": lambda state: state.update(rng=[]),
}


@pytest.mark.parametrize(("line", "make_up"), MADE_UP.items(), ids=MADE_UP)
def test_a_checkpoint_that_was_made_up_is_one_line(
    line: str, make_up: Callable[[dict[str, Any]], object], trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    whole = load_state(trained)
    make_up(whole["state"])
    save_state(path, whole)
    with pytest.raises(ValueError, match=rf"state\.safetensors: .*{line}") as caught:
        train(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the eighth step."""
    path = tmp_path_factory.mktemp("trained") / "state.safetensors"
    train(path, until=9)
    return path


def test_settings_that_were_made_up_are_one_line(trained: Path, tmp_path: Path) -> None:
    whole = load_state(trained)
    whole["settings"]["betas"] = [torch.zeros(3), 0.9]
    save_state(tmp_path / "c", whole)
    with pytest.raises(ValueError, match=r"c: damaged \(settings hold numbers of a model\)"):
        train(tmp_path / "c")


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_goes_on_from_its_checkpoint(optimiser: OptimiserName, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["step"] == 5:
            raise Stop

    path = tmp_path / "state.safetensors"
    options: dict[str, Any] = {"steps": 6, "optimiser": optimiser, "checkpoint_every": 3, "log_every": 1}
    with pytest.raises(Stop):
        fit(Affine.for_dataset(DATA), DATA, NLL(), **options, checkpoint=path, callback=stop)
    assert load_state(path)["state"]["step"] == 3
    models = [Affine.for_dataset(DATA), Affine.for_dataset(DATA)]
    fit(models[0], DATA, NLL(), **options, checkpoint=path)
    fit(models[1], DATA, NLL(), **options)
    assert same(*models)
