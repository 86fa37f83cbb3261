from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.experiment import Evaluation
from experiments.judging import Judge
from qgen import files
from qgen.data import Dataset, Feature
from qgen_toys import Affine


@pytest.fixture
def judge() -> Judge:
    events = Dataset(torch.rand(50, 1, generator=torch.Generator().manual_seed(0)), (Feature("a"),))
    return Judge.of(events, Evaluation())


def test_a_fault_of_the_disk_is_an_error_and_no_judgement(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Affine(1)
    assert judge.draw("a", model, 0, tmp_path / "a.h5").events is not None
    with pytest.raises(ValueError, match=r"none does not exist$"):
        judge.draw("a", model, 0, tmp_path / "none" / "a.h5")

    def full(**options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(ValueError, match=r"takes no files \(No space left on device\)$"):
        judge.draw("a", model, 0, tmp_path / "a.h5")


def test_nonsense_of_a_model_is_a_judgement(judge: Judge, tmp_path: Path) -> None:
    model = Affine(1)
    with torch.no_grad():
        model.mean.fill_(torch.inf)
    drawn = judge.draw("a", model, 0, tmp_path / "a.h5")
    assert drawn.events is None
    assert drawn.problem.startswith("not judged: ")
    assert not list(tmp_path.iterdir())
