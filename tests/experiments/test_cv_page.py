"""The page on continuous variables: its python runs, one block after another, and its numbers are right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from circuits.cv import CV_GATES
from circuits.cv.basis import basis_size

PAGE = (Path(__file__).parents[2] / "docs" / "continuous-variables.md").read_text()


def test_the_python_runs_and_says_what_it_computes() -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "docs/continuous-variables.md", "exec"), names)
    assert names["means"].shape == names["variances"].shape == (2, 2)
    assert names["parameters"].grad is not None
    assert names["pixels"].shape == (100, 2)
    assert names["lost"].item() == pytest.approx(0.0511, abs=1e-4)
    assert names["enough"] == 18
    assert names["wigner"].shape == (101, 101)
    assert names["log_density"].shape == (1000,)


def test_every_gate_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| (yes|no) \|$", PAGE, re.MULTILINE)
    table = {name: gaussian == "yes" for name, gaussian in rows if name in CV_GATES}
    assert table == {name: gate.gaussian for name, gate in CV_GATES.items()}


def test_the_sizes_of_the_bases_are_right() -> None:
    def number(text: str) -> int:
        text = text.strip().replace(",", "").strip("$")
        return 10 ** int(text.removeprefix("10^")) if "^" in text else int(text)

    rows = re.findall(r"^\| (\d) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for modes, cells in rows:
        for cutoff, cell in zip((5, 7, 10), cells.split("|"), strict=True):
            shown = [number(part) for part in cell.split("/")]
            assert shown == [basis_size(int(modes), cutoff, kind) for kind in ("mode", "total")]
