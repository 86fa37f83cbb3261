"""The manual as a site: it is built without a warning, holds everything public, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections import defaultdict
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from typer.main import get_command

from experiments.catalogue import CATALOGUES
from experiments.cli import app
from qgen.registry import generators

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = (
    "circuits",
    "circuits.backends",
    "circuits.cv",
    "qgen",
    "qgen.data",
    "qgen.metrics",
    "qgen.training",
    "qgen.models",
    "classical_baselines",
)


class Page(HTMLParser):
    """What a page of HTML refers to and what can be referred to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def built(folder: Path) -> dict[Path, Page]:
    """The site in a folder, page by page."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def inner(pages: dict[Path, Page]) -> list[tuple[Path, str, Path, str]]:
    """Links within a site: where they stand, how they are written, the file and the anchor that they lead to."""
    return [
        (path, link, (path.parent / unquote(parts.path)).resolve() if parts.path else path, unquote(parts.fragment))
        for path, page in pages.items()
        for link in page.links
        for parts in [urlsplit(link)]
        if not parts.scheme and not parts.netloc
    ]


def inventory(folder: Path) -> set[str]:
    """Every documented object, from ``objects.inv``."""
    content = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(content).decode().splitlines()
    return {line.split(" py:")[0] for line in lines if " py:" in line}


def commands(place: Any, words: str) -> list[str]:
    """A command and all below it, as they are typed."""
    below = [commands(command, f"{words} {name}") for name, command in getattr(place, "commands", {}).items()]
    return [words, *(line for lines in below for line in lines)]


def headings(page: Path) -> list[str]:
    """The headings of a page of HTML, without marks."""
    found = re.findall(r"<h[1-6]>(.*?)<a class", page.read_text(encoding="utf-8"), re.DOTALL)
    return [re.sub(r"<[^>]+>", "", text).strip() for text in found]


def test_the_site_is_whole(tmp_path: Path) -> None:
    pages = built(tmp_path)
    assert len(pages) > 80
    places = inner(pages)
    assert len(places) > 5000
    assert [(path.name, link) for path, link, target, _ in places if not target.exists()] == []
    lost = [
        (path.name, link)
        for path, link, target, anchor in places
        if anchor and target in pages and anchor not in pages[target].anchors
    ]
    assert lost == []
    fetched = {link for page in pages.values() for link in page.links if link.startswith("http://")}
    assert fetched <= {"http://www.sphinx-doc.org/"}

    known = inventory(tmp_path)
    public = {f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__}
    assert sorted(name for name in public - known if name.replace("qgen.", "qgen.training.") not in known) == []

    reference = tmp_path / "docs" / "reference"
    assert set(commands(get_command(app), "qgen")) <= set(headings(reference / "commands.html"))
    kinds = {name for rows in CATALOGUES.values() for name, _, _ in rows()}
    assert kinds <= set(headings(reference / "options.html"))


def test_every_model_has_its_page() -> None:
    texts = [page.read_text() for page in (DOCS / "models").glob("*.md")]
    assert [kind for kind in generators() if not any(f"`kind: {kind}`" in text for text in texts)] == []


def test_outer_links_are_well_formed() -> None:
    """Whether they answer is asked by ``make linkcheck``, on a machine with a network."""
    spellings: dict[str, set[str]] = defaultdict(set)
    files = [*DOCS.rglob("*.md"), *(ROOT / "tutorials").glob("*.md"), *ROOT.glob("*.md")]
    for page in files:
        for link in re.findall(r"https?://[^\s)>\"'`\]]+", page.read_text()):
            spellings[link.removeprefix("http://").removeprefix("https://").rstrip("/").lower()].add(link)
    links = {link for found in spellings.values() for link in found}
    assert len(links) >= 10
    assert [link for link in links if not link.startswith("https://") or link[-1] in ".,;:"] == []
    assert [found for found in spellings.values() if len(found) > 1] == []


def test_fractions_without_braces_are_fractions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    mathml = import_module("mathml").mathml
    assert mathml(r"\tfrac12 (x)", block=False) == mathml(r"\tfrac{1}{2} (x)", block=False)
    assert mathml(r"\frac 1n \sum x", block=True) == mathml(r"\frac{1}{n} \sum x", block=True)
