"""What is written about the project agrees with the project."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
import yaml

from circuits.backends import BACKENDS, Backend, Statevector, make_backend
from circuits.backends.make import MITIGATIONS, NOT_PLAIN
from experiments.cli import app
from experiments.rescore import backend_of_text
from qgen.registry import generators

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MANUAL = (ROOT / "docs" / "backends.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_example_of_the_readme_runs_and_prints_the_table() -> None:
    (code,) = blocks(README, "python")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "correlation" in found.stdout
    assert "truth vs truth" in found.stdout


def backend_lines() -> list[str]:
    """Every ``backend:`` of the README and the manual, by itself."""
    found = [block for text in (README, MANUAL) for block in blocks(text, "yaml")]
    return [one for block in found for one in re.findall(r"^backend:.*\n(?:[ ]+.*\n)*", block, flags=re.MULTILINE)]


def elsewhere(config: dict[str, Any]) -> bool:
    """Whether a backend needs a GPU or an account."""
    device = config.get("device", "")
    return "gpu" in device or "cuda" in device or device.startswith("ibm_")


@pytest.mark.parametrize("line", backend_lines())
def test_every_backend_that_is_written_about_is_one(line: str) -> None:
    config = backend_of_text(line)
    if not elsewhere(config):
        assert isinstance(make_backend(**config), Backend)


def test_every_backend_line_is_found() -> None:
    assert len(backend_lines()) == README.count("\nbackend:") + MANUAL.count("\nbackend:") >= 18


def test_the_examples_of_the_manual_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_ibm_runtime import QiskitRuntimeService

    first, account, own = blocks(MANUAL, "python")
    names: dict[str, Any] = {}
    exec(first, names)
    mentioned = re.findall(r"`engine\.(\w+)", MANUAL)
    assert len(mentioned) >= 4
    assert [name for name in mentioned if not hasattr(names["engine"], name)] == []
    save = create_autospec(QiskitRuntimeService.save_account)
    monkeypatch.setattr(QiskitRuntimeService, "save_account", save)
    exec(account, {})
    save.assert_called_once()
    exec(own, names)
    exact = Statevector().probs(names["circuit"], names["angles"])
    assert torch.allclose(names["probs"], exact, atol=0.1)
    (gradient,) = torch.autograd.grad(exact[0], names["angles"])
    assert torch.allclose(names["angles"].grad, gradient, atol=0.1)


def test_the_manual_has_every_backend_and_every_option_of_a_mitigation() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", MANUAL, flags=re.MULTILINE))
    assert list(rows)[1 : len(BACKENDS) + 1] == list(BACKENDS)
    for name, path in MITIGATIONS.items():
        module, _, cls = path.partition(":")
        options = inspect.signature(getattr(import_module(module), cls)).parameters
        assert re.findall(r"`(\w+)`", rows[name]) == [key for key in options if key not in NOT_PLAIN]


def test_the_model_of_the_contributing_guide_trains_and_is_saved(tmp_path: Path) -> None:
    (code,) = blocks((ROOT / "CONTRIBUTING.md").read_text(), "python")
    script = tmp_path / "gaussian.py"
    script.write_text(
        code
        + """
from qgen import fit, load_generator, save_generator
from qgen.data import muon_events
from qgen.registry import register
from qgen.training import NLL
register("gaussian", Gaussian)
data = muon_events(n=200)
model = Gaussian.for_dataset(data)
fit(model, data, NLL(), steps=3)
save_generator("gaussian.safetensors", model)
print(load_generator("gaussian.safetensors").sample(4, data.conditions[:4]).shape)
"""
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-W", "error", str(script)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert found.stdout == "torch.Size([4, 3])\n", found.stderr


def test_the_readme_lists_every_model() -> None:
    rows = re.findall(r"^\| \[?`(\w+)`(?:\]\(\S+\))? \|", README, flags=re.MULTILINE)
    assert sorted(rows) == generators()


def test_every_command_of_the_readme_exists() -> None:
    from typer.main import get_command

    command = get_command(app)
    lines = [line for block in blocks(README, "sh") for line in block.splitlines() if line.startswith("qgen ")]
    assert len(lines) >= 8
    for line in lines:
        place = command
        words = line.split("#")[0].split()[1:]
        while hasattr(place, "commands"):
            assert words[0] in place.commands, line
            place = place.commands[words.pop(0)]
        known = {option for parameter in place.params for option in parameter.opts}
        assert {word for word in words if re.fullmatch(r"-{1,2}[a-z][a-z-]*", word)} <= known, line


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_page_is_in_the_manuals_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "README.md" and f"]({page})" not in index] == []


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    names = {re.split(r"[>=\[]", one)[0].lower().replace("_", "-") for one in wanted} - {"qgen-hep"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names <= pinned
