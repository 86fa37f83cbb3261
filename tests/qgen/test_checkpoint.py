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
