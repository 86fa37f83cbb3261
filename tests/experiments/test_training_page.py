"""What the page on training shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.config import resolve
from qgen.plain import read_yaml
from qgen.training import OBJECTIVES

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def objectives() -> list[str]:
    return [part for block in blocks("yaml") for part in re.split(r"(?m)^(?=objective:)", block) if part]


@pytest.mark.parametrize("text", objectives())
def test_every_objective_is_a_valid_section(text: str) -> None:
    model = {"kind": "born_machine", "bits": 1, **read_yaml(text, "docs/training.md")}
    assert resolve({"name": "page", "dataset": {"kind": "ring"}, "models": {"m": model}})


def test_every_kind_is_shown() -> None:
    assert {read_yaml(text, "page")["objective"]["kind"] for text in objectives()} == set(OBJECTIVES)


def test_the_python_runs() -> None:
    (code,) = blocks("python")
    exec(compile(code, "docs/training.md", "exec"), {})
