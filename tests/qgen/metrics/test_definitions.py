"""Every metric stands on a page of its family, and says what it is blind to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qgen.metrics import METRICS, Metric

PAGES = Path(__file__).parents[3] / "docs" / "metrics"
FAMILIES = ("distributions", "physics", "fidelity", "tests")


@pytest.fixture(scope="module")
def defined() -> set[str]:
    """Names in backquotes in headings and in first cells of tables."""
    lines = [line for name in FAMILIES for line in (PAGES / f"{name}.md").read_text("utf-8").splitlines()]
    places = [line for line in lines if line.startswith("## ")]
    places += [line.split("|")[1] for line in lines if line.startswith("| ")]
    return {name for place in places for name in re.findall(r"`(\w+)`", place)}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_it_is_defined_on_a_page_and_says_what_it_is_blind_to(metric: Metric, defined: set[str]) -> None:
    assert metric.name in defined
    assert re.search(r"\b[Bb]lind\b", metric.build.__doc__ or "")
