"""What the pages of the manual show: configurations that are valid, commands that exist, python with real names."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from experiments.cli import app
from experiments.config import config_names, load_config, resolve
from qgen.data import DATASETS
from qgen.metrics import METRICS
from qgen.plain import read_yaml

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.name != "backends.md" and "_build" not in page.parts)
RUN = [page for page in PAGES if page.parent.name in ("how-to", "explanation") or page.stem == "getting-started"]
"""Pages of which every ``python``, ``yaml`` and ``sh`` block runs, from top to bottom."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def shown(language: str) -> list[Any]:
    """Every block of the pages, under the name of its page."""
    return [
        pytest.param(block, id=f"{page.stem}-{k}")
        for page in PAGES
        for k, block in enumerate(blocks(page, language))
        if language != "yaml" or not block.startswith("objective:")
    ]


def commands() -> list[str]:
    """Lines of blocks and words of the text that call ``qgen``."""
    found = []
    for page in PAGES:
        text = page.read_text()
        found += re.findall(r"^qgen [^#\n]+", text, re.MULTILINE)
        found += [" ".join(words.split()) for words in re.findall(r"`(qgen [a-z][^`]*)`", text)]
    return [line for line in dict.fromkeys(found) if "..." not in line]


@pytest.mark.parametrize("text", shown("yaml"))
def test_a_configuration_is_valid(text: str) -> None:
    assert resolve(read_yaml(text, "page"))


@pytest.mark.parametrize("code", shown("python"))
def test_what_is_imported_is_there(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("line", commands())
def test_a_command_exists_and_its_overrides_fit(line: str) -> None:
    place: Any = get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(place, "commands"):
        assert words[0] in place.commands
        place = place.commands[words.pop(0)]
    known = {option for parameter in place.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if re.fullmatch(r"-{1,2}[a-z][a-z-]*", word)} <= known
    if place.name == "run" and words and words[0] in config_names():
        assert load_config(words[0], [after for word, after in pairwise(words) if word == "--set"])


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.fixture
def a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and registries that are afterwards as they were."""
    monkeypatch.chdir(tmp_path)
    registries: list[dict[str, Any]] = [DATASETS, METRICS]
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


@pytest.mark.usefixtures("a_place_of_its_own")
@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in RUN])
def test_a_guide_runs_from_top_to_bottom(page: Path) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    for language, block in re.findall(r"```(python|yaml|sh)\n(.*?)```", page.read_text(), re.DOTALL):
        if language == "python":
            exec(compile(block, str(page), "exec"), names)
        elif language == "yaml":
            file = re.match(r"# (\S+\.yaml)\n", block)
            assert file, f"{page}: a configuration begins with a comment that names its file"
            Path(file[1]).write_text(block)
        else:
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                assert words[0] == "qgen"
                app(words[1:], standalone_mode=False)


def test_the_pages_are_looked_at() -> None:
    assert len(PAGES) >= 9
    assert len(shown("yaml")) >= 7
    assert len(shown("python")) >= 7
    assert len(commands()) >= 10
