from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from experiments.report.style import styled
from experiments.report.sweep import write_sweep
from experiments.report.sweep_figures import drawn
from experiments.scores import Score
from experiments.sweep import Sweep, load_sweep, sweep
from experiments.sweep.standing import Standing, ranked, shown_metrics, standings
from sweeps import call

EVIL = "<script>alert('x')</script> $\\frac{"
RAW: dict[str, Any] = {
    "name": f"study {EVIL}",
    "description": f"about {EVIL}",
    "dataset": {"kind": "gaussian", "n": 200},
    "models": {
        "<b>marginals $x": {"kind": "marginals"},
        "gan": {
            "kind": "gan",
            "hidden": [2],
            "objective": {"kind": "adversarial", "discriminator": {"kind": "mlp", "hidden": [2]}},
            "training": {"steps": 1, "batch_size": 32},
        },
    },
    "evaluation": {"bootstrap": 2, "metrics": ["correlation", "wasserstein"]},
}
GRID = {"models.gan.training.learning_rate": [1e-4, 1e-2], "dataset.seed": [0, 1], "seed": [0, 1]}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep with a failure in it, only read."""
    folder = tmp_path_factory.mktemp("report") / "sweep"
    bad = sweep(RAW, GRID, out=folder).jobs[-1]
    (bad.folder / "results.json").unlink()
    record = {"type": "RuntimeError", "message": f"boom {EVIL}", "traceback": f"Traceback {EVIL}", "attempts": 2}
    (bad.folder / "failed.json").write_text(json.dumps(record))
    return load_sweep(folder)


def test_a_page_shows_metrics_best_runs_and_failures(finished: Sweep) -> None:
    page = write_sweep(finished, finished.folder / "page.html").read_text()
    text = html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)))
    for word in (
        "7 jobs are finished, 1 failed.",
        "models.gan.training.learning_rate",
        "0.0001, 0.01",
        "wasserstein",
        f"RuntimeError: boom {EVIL}",
        f"Traceback {EVIL}",
        "2 attempts",
        f"about {EVIL}",
        "gan, dataset.seed=1",
        "Nearest to a perfect generator first",
    ):
        assert word in text
    tags = Tags()
    tags.feed(page)
    assert not {"script", "b"} & {tag for tag, _ in tags.found}
    sources = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert len(sources) == 2
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    links = [str(attributes["href"]) for tag, attributes in tags.found if tag == "a"]
    runs = {link for link in links if not link.startswith("#")}
    assert runs == {f"jobs/{job.id}" for job in finished.jobs}
    assert all((finished.folder / link).is_dir() for link in runs)


def test_metrics_can_be_chosen_and_the_page_may_be_markdown(finished: Sweep, tmp_path: Path) -> None:
    page = tmp_path / "x.md"
    call(["report", str(finished.folder), "--out", str(page), "--metric", "wasserstein/x"])
    text = page.read_text()
    assert "## wasserstein/x" in text
    assert "correlation" not in text
    rows = [line for line in text.splitlines() if line.startswith(r"| \<b>marginals")]
    assert [row.split(" | ")[1] for row in rows] == ["–", "–"]
    assert "boom" in text
    call(["report", str(finished.folder), "--out", str(tmp_path / "x.html")])
    links = re.findall(r'href="([^"#]+)"', (tmp_path / "x.html").read_text())
    assert links
    assert all((tmp_path / link).is_dir() for link in links)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--metric", "wassers"], "metric 'wassers' is unknown; did you mean 'wasserstein'"),
        (["--out", "page.txt"], "--out page.txt: the page is HTML or Markdown"),
        (["jobs"], "a page is about one sweep, or about runs"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], line: str, finished: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["report", str(finished.folder), *words], status=2)
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_metrics_of_a_run_cannot_be_chosen(finished: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    call(["report", str(finished.jobs[0].folder), "--metric", "wasserstein"], status=2)
    assert "--metric: goes with a sweep" in capsys.readouterr().err


def test_a_model_of_which_nothing_is_varied_stands_once(finished: Sweep) -> None:
    assert shown_metrics(finished) == ["correlation", "wasserstein"]
    found = standings(finished, "wasserstein")
    by_model = {name: [one.point for one in found if one.model == name] for name in RAW["models"]}
    assert by_model["<b>marginals $x"] == [{"dataset.seed": 0}, {"dataset.seed": 1}]
    assert len(by_model["gan"]) == 4
    gan = next(one for one in found if one.model == "gan")
    rows = [row for row in finished.table.to_pylist() if row["metric"] == "wasserstein" and row["model"] == "gan"]
    values = [row["value"] for row in rows[:2]]
    assert gan.score.value == pytest.approx(sum(values) / 2)
    assert gan.score.spread == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert [one.distance("wasserstein") for one in ranked(found, "wasserstein")] == sorted(
        one.score.value for one in found
    )


def standing(value: float, point: dict[str, Any], model: str = "m") -> Standing:
    score = Score(value=value, uncertainty=0.1, floor=0.1, floor_uncertainty=0.01)
    return Standing(model, point, score, (value,), 1, 0.0, {0: "job"})


def axes_of(points: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of a figure of as many values as points."""
    kept = []
    from experiments.report import sweep_figures

    real = sweep_figures.picture
    monkeypatch.setattr(sweep_figures, "picture", lambda figure, *rest: (kept.append(figure), real(figure, *rest))[1])
    with styled():
        assert drawn("x", [standing(1.0 + k, point) for k, point in enumerate(points)], list(points[0])) is not None
    return list(kept[0].axes)


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        ([1, 2, 4], "linear", ["1", "2", "4"]),
        ([1e-4, 1e-3, 1e-2], "log", None),
        (["adam", "$gd"], "linear", ["adam", r"\$gd"]),
        ([True, False], "linear", ["true", "false"]),
        ([-1.0, 100.0], "linear", ["-1", "100"]),
    ],
)
def test_an_axis_is_as_its_values_are(
    values: list[Any], scale: str, labels: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (axes,) = axes_of([{"a": value} for value in values], monkeypatch)
    assert axes.get_xscale() == scale
    if labels is not None:
        assert [text.get_text() for text in axes.get_xticklabels()] == labels


def test_too_many_lines_are_averaged() -> None:
    points = [{"a": a, "b": b, "c": c} for a in range(2) for b in range(3) for c in range(7)]
    with styled():
        figure = drawn("x", [standing(1.0 + k, point) for k, point in enumerate(points)], ["a", "b", "c"])
    assert figure is not None
    assert [(panel.quantity, panel.pooled, len(panel.looks)) for panel in figure.panels] == [
        ("a", ["c"], 3),
        ("b", ["c"], 2),
        ("c", [], 6),
    ]


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert drawn("x", [standing(float("nan"), {"a": 1})], ["a"]) is None
    raw = {**RAW, "models": {"m": {"kind": "marginals"}}}
    found = sweep(raw, {"seed": [0]}, out=tmp_path / "sweep")
    assert "seed 0" in write_sweep(found, tmp_path / "page.html").read_text()
    (found.jobs[0].folder / "results.json").unlink()
    assert "No job has results yet" in write_sweep(load_sweep(found.folder), tmp_path / "page.html").read_text()
