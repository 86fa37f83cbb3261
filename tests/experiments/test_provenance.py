from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import provenance as provenance_module
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.provenance import config_hash, environment, provenance_facts
from experiments.repository import commit_of
from experiments.run import run_experiment
from experiments.trained import Reporter
from qgen.run import load_run

RAW: dict[str, Any] = {
    "name": "traced",
    "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
    "models": {"marginals": {"kind": "marginals"}},
    "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"]},
}


def experiment(**changes: Any) -> Experiment:
    return resolve({**RAW, **changes})


def git(folder: Path, *words: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, env={**os.environ, **own}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "below").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "notes.txt").write_text("one\n")
    git(folder, "add", "notes.txt")
    git(folder, "commit", "-qm", "first")
    return folder


def test_the_commit_is_that_of_git_whatever_way_it_is_kept(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    assert commit_of(repository / "below") == {"commit": first, "dirty": False}
    git(repository, "pack-refs", "--all")
    assert commit_of(repository) == {"commit": first, "dirty": False}
    git(repository, "checkout", "-q", "--detach")
    assert commit_of(repository) == {"commit": first, "dirty": False}
    git(repository, "worktree", "add", "-q", "-b", "side/branch", str(repository.parent / "side"))
    assert commit_of(repository.parent / "side") == {"commit": first, "dirty": False}


def test_changed_and_staged_files_are_dirty_and_untracked_ones_are_not(repository: Path) -> None:
    (repository / "new.txt").write_text("new")
    assert commit_of(repository) == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}
    (repository / "notes.txt").write_text("two\n")
    assert (commit_of(repository) or {})["dirty"]
    git(repository, "add", "notes.txt")
    assert (commit_of(repository) or {})["dirty"]


def test_without_commit_or_repository_there_is_none(tmp_path: Path) -> None:
    assert commit_of(tmp_path / "nowhere") is None
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) is None


def test_without_git_the_commit_is_known_and_the_rest_is_not(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(repository))
    assert commit_of(repository) == {"commit": commit, "dirty": None}


def test_a_strangers_repository_runs_nothing(repository: Path) -> None:
    """Monitors, filters, hooks and drivers that it configures would each leave a mark."""
    mark = repository.parent / "mark"
    program = repository.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    hooks = repository / ".git" / "hooks"
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-commit"):
        shutil.copy(program, hooks / hook)
    (repository / ".gitattributes").write_text("* filter=bad diff=bad\n")
    for key in ("core.fsmonitor", "filter.bad.clean", "filter.bad.process", "diff.bad.command", "core.sshCommand"):
        git(repository, "config", key, str(program))
    git(repository, "config", "core.worktree", "/")
    (repository / "notes.txt").write_text("one\n")  # as it was, at another time: git has to look into it
    os.utime(repository / "notes.txt", (1, 1))
    found = commit_of(repository)
    assert found is not None
    assert found["dirty"] is False
    assert not mark.exists()
    git(repository, "config", "--unset", "core.worktree")
    git(repository, "status")
    assert mark.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("HEAD", "ref: ../../../secret"),
        ("HEAD", "ref: refs/heads/../../../secret"),
        ("HEAD", "\x00" * 100),
        ("HEAD", ""),
        ("refs/heads/main", "not a commit"),
    ],
)
def test_a_damaged_or_strange_repository_has_no_commit(name: str, content: str, repository: Path) -> None:
    (repository.parent / "secret").write_text("0" * 40)
    (repository / ".git" / name).write_text(content)
    assert commit_of(repository) is None


def test_a_repository_that_never_ends_is_not_waited_for(repository: Path) -> None:
    (repository / ".git" / "HEAD").unlink()
    os.mkfifo(repository / ".git" / "HEAD")
    assert commit_of(repository) is None
    shutil.rmtree(repository / ".git")
    (repository / ".git").write_text(f"gitdir: {repository.parent / 'nowhere'}")
    assert commit_of(repository) is None


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True), n=st.integers(100, 120))
def test_the_hash_is_that_of_what_is_run(seeds: list[int], n: int) -> None:
    dataset = {"n": n, "features": ["energy", "pt"], "kind": "muon"}
    changed = experiment(seeds=seeds, dataset=dataset)
    again = resolve(dict(reversed(changed.plain().items())))
    assert config_hash(again) == config_hash(changed)
    assert (config_hash(changed) == config_hash(experiment())) == (changed == experiment())


def test_nothing_names_a_user_or_a_host() -> None:
    facts = json.dumps(environment(torch.device("cpu")))
    assert os.uname().nodename not in facts or len(os.uname().nodename) < 4
    assert str(Path.home()) not in facts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(experiment(), tmp_path_factory.mktemp("finished") / "run")


def test_every_result_says_where_it_comes_from(finished: Path) -> None:
    run = load_run(finished)
    made = run.results["provenance"]
    assert made == run.environment
    assert made["config_sha256"] == config_hash(experiment())
    assert made["seeds"] == [0]
    assert made["data"]["sha256"] == run.dataset.checksum
    assert made["packages"]["torch"] == torch.__version__
    assert made["memory_bytes"] > 1e8
    assert made["cpu"]
    (session,) = made["sessions"]
    assert session["started"] <= session["ended"]
    assert session["packages"] == made["packages"]


def test_a_run_taken_up_with_other_versions_tells_of_both(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "results.json").unlink()
    monkeypatch.setattr(provenance_module, "_version", lambda name: "99.0" if name == "zuko" else None)
    monkeypatch.setattr(provenance_module, "PACKAGES", ("zuko",))
    told: list[str] = []
    run_experiment(experiment(), folder, resume=True, reporter=Reporter(warning=told.append))
    assert any(line.startswith(f"{folder}: goes on with zuko 99.0, before 1.") for line in told)
    sessions = load_run(folder).results["provenance"]["sessions"]
    assert [session["packages"]["zuko"] for session in sessions][1] == "99.0"
    assert sessions[0] == load_run(finished).environment["sessions"][0]
    facts = provenance_facts(load_run(folder).environment)
    assert "zuko 99.0, before" in facts["session 2"]


def test_a_record_of_an_earlier_version_is_kept_as_a_session(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    old = {"python": "3.10.0", "packages": {"torch": "2.0"}, "data": load_run(finished).environment["data"]}
    (folder / "environment.json").write_text(json.dumps(old))
    told: list[str] = []
    run_experiment(experiment(), folder, resume=True, reporter=Reporter(warning=told.append))
    before, now = load_run(folder).environment["sessions"]
    assert (before["python"], before["packages"], before["started"]) == ("3.10.0", {"torch": "2.0"}, None)
    assert now["packages"]["torch"] == torch.__version__
    assert any("before 3.10.0" in line for line in told)


def test_data_that_change_under_a_run_are_an_error(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    facts = json.loads((folder / "environment.json").read_text())
    facts["data"]["sha256"] = "0" * 64
    (folder / "environment.json").write_text(json.dumps(facts))
    before = (folder / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"gives other events now \(SHA-256 [0-9a-f]{12}\) than when the run began"):
        run_experiment(experiment(), folder, resume=True)
    assert (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize("content", ["[]", '{"sessions": 1}', '{"sessions": [1]}', "{"])
def test_a_damaged_record_is_one_line(content: str, finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "environment.json").write_text(content)
    with pytest.raises(ValueError, match=r"environment\.json: damaged"):
        run_experiment(experiment(), folder, resume=True)
