"""A run that someone sent: it cannot lead out of its folder, exhaust memory, or bring a page to life."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from experiments.claim import claimed
from experiments.cli import app
from experiments.config import resolve
from experiments.evaluation import judge_files
from experiments.report import write_markdown, write_report
from experiments.report.evaluation import write_evaluation
from experiments.rescore import rescore
from experiments.run import run_experiment
from experiments.runs import entry_of
from qgen.data import Dataset, Feature, write_events
from qgen.plain import read_yaml, read_yaml_file
from qgen.run import load_run, read_json

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(1)"
QUOTES = "\"' onmouseover='alert(1)' x=\""
MATHS = "$\\badcommand{$"
HOSTILE = f"{SCRIPT}</script>{IMAGE}{QUOTES}]]>--><svg/onload=alert(1)>{{{{7*7}}}}{MATHS}"

RAW: dict[str, Any] = {
    "name": HOSTILE,
    "description": HOSTILE,
    "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
    "models": {
        SCRIPT: {
            "kind": "born_machine",
            "bits": 1,
            "layers": 1,
            "objective": {"kind": "mmd"},
            "training": {"steps": 4, "log_every": 2, "validate_every": 2},
        },
        IMAGE: {"kind": "marginals"},
        QUOTES: {"kind": "copula"},
    },
    "seeds": [0],
    "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"], "strings": True},
}


class Page(HTMLParser):
    """What of a page a browser would act on, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {str(value).split(",")[0] for name, value in attrs if name in ("src", "href", "action")}

    def handle_data(self, data: str) -> None:
        self.words += data


def check_harmless(path: Path) -> Page:
    page = Page(path.read_text())
    assert page.tags.isdisjoint({"script", "svg", "iframe", "object", "embed", "form", "base", "link"})
    assert not {name for name in page.attributes if name.startswith("on")}
    assert page.attributes <= {
        *("lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "style", "scope", "src", "alt"),
        *("width", "height", "aria-label", "colspan", "rowspan", "title", "open"),
    }
    assert all(address.startswith(("#", "data:image/png;base64")) for address in page.addresses)
    return page


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose every name is hostile; it is only read, who changes it takes a copy."""
    folder = run_experiment(resolve(RAW), tmp_path_factory.mktemp("sent") / "run")
    rescore(folder, {IMAGE: "statevector", QUOTES: {"kind": "statevector", "shots": 50}}, [SCRIPT])
    return folder


def poisoned(value: Any, spared: tuple[str, ...]) -> Any:
    """The same JSON with every text hostile, and every number there to be."""
    if isinstance(value, dict):
        return {key: inner if key in spared else poisoned(inner, spared) for key, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, spared) for inner in value]
    return f"{value}; {HOSTILE}" if isinstance(value, str) else value


def test_the_report_shows_what_it_is_given_and_runs_none_of_it(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    for path in sorted(folder.rglob("*.json")):
        spared = ("role", "kind", "weights", "sha256", "basis")
        content = poisoned(json.loads(path.read_text()), spared)
        if path == folder / "results.json":
            for model in content["models"].values():
                model["metrics"][f"wasserstein/{HOSTILE}"] = model["metrics"]["wasserstein"]
                model["metrics"][f"{HOSTILE} @ {HOSTILE}"] = model["metrics"]["wasserstein"]
                model["kind"] = HOSTILE if model["kind"] == "copula" else model["kind"]
        if path == folder / "environment.json":
            content |= {HOSTILE: {HOSTILE: HOSTILE}, "data": {HOSTILE: [HOSTILE]}}
        path.write_text(json.dumps(content))
    page = check_harmless(write_report([load_run(folder)], tmp_path / "report.html"))
    assert page.words.count(HOSTILE) > 20
    assert "49" not in page.words.split(HOSTILE)[0]
    for name in (SCRIPT, IMAGE, QUOTES):
        assert name in page.words
    write_markdown([load_run(folder)], tmp_path / "report.md")


def test_the_page_about_files_shows_their_names_and_runs_none_of_them(tmp_path: Path) -> None:
    names = (Feature(IMAGE, SCRIPT, f"{IMAGE} $x_1$"), Feature(QUOTES, MATHS, MATHS))
    rng = torch.Generator().manual_seed(0)
    for name in ("truth", "made"):
        events = torch.randn(200, 2, generator=rng, dtype=torch.float64)
        conditions = torch.rand(200, 1, generator=rng, dtype=torch.float64)
        data = Dataset(events, names, conditions, (Feature(SCRIPT, IMAGE),), provenance={HOSTILE: HOSTILE})
        write_events(tmp_path / f"{name}.h5", data)
    judged = judge_files(
        tmp_path / "truth.h5",
        [f"{SCRIPT}={tmp_path / 'made.h5'}"],
        metrics=["wasserstein"],
        n_bootstrap=2,
    )
    page = check_harmless(write_evaluation(judged, tmp_path / "page.html"))
    assert IMAGE in page.words
    assert SCRIPT in page.words


def test_what_is_printed_does_not_move_the_cursor(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "runs" / "run")
    results = json.loads((folder / "results.json").read_text())
    results["name"] = "\x1b[2J\x1b]0;title\x07"
    (folder / "results.json").write_text(json.dumps(results))
    for words in (["list", str(tmp_path / "runs")], ["list", str(tmp_path / "runs"), "--csv"]):
        answer = CliRunner().invoke(app, ["runs", *words])
        assert answer.exit_code == 0
        assert "\ufffd[2J" in answer.output
        assert "\x1b]" not in answer.output


def changed(**fields: Any) -> str:
    return yaml.safe_dump({**RAW, **fields})


LAUGHS = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{b}, *{b}, *{b}]\n" for b, c in pairwise("abcdefghijklmn"))
MERGES = "m0: &m0 {x: 1}\n" + "".join(f"m{k + 1}: &m{k + 1} {{<<: [*m{k}, *m{k}], y{k}: 1}}\n" for k in range(60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(models={"../../secret": {"kind": "marginals"}}), "models: '../../secret' is no name for a model"),
        (changed(models={"..": {"kind": "marginals"}}), "models: '..' is no name for a model"),
        (changed(models={"/etc": {"kind": "marginals"}}), "models: '/etc' is no name for a model"),
        (changed(models={"a\nb": {"kind": "marginals"}}), r"models: 'a\\nb' is no name for a model"),
        (changed(models={7: {"kind": "marginals"}}), "models: 7 is no name for a model"),
        (changed(models={}), "damaged \\(models missing or of the wrong kind\\)"),
        (changed(models={"m": {"kind": ["x"]}}), "damaged \\(models"),
        (changed(seeds=["../../etc"]), "damaged \\(seeds"),
        (changed(seeds=[True]), "damaged \\(seeds"),
        (changed(dataset={"n": 3}), "damaged \\(dataset"),
        (changed(evaluation=[1]), "damaged \\(evaluation"),
        (LAUGHS, "more than 100000 values"),
        (MERGES, "damaged \\(dataset, models, seeds"),
        ("[" * 3_000, "not valid YAML"),
        ("seeds: " + "1" * 200_000, "a number is too long"),
        ("#" * 2_000_000, "has 2000000 bytes; a configuration has at most 1000000"),
        ("models: !!python/object/apply:os.system [echo]", "could not determine a constructor"),
    ],
)
def test_a_configuration_that_leads_elsewhere_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(ValueError, match=message) as info:
        load_run(tmp_path)
    assert "\n" not in str(info.value)
    entry = entry_of(tmp_path)
    assert entry is not None
    assert entry.status == "damaged"


def test_unknown_data_of_a_run_are_one_line(finished: Path, tmp_path: Path) -> None:
    for dataset, message in (
        ({"kind": "nowhere"}, "dataset.kind 'nowhere' is unknown"),
        ({"kind": "muon", "m": 1}, "m"),
    ):
        folder = tmp_path / str(len(message))
        folder.mkdir()
        (folder / "config.yaml").write_text(changed(dataset=dataset))
        with pytest.raises(ValueError, match=message):
            _ = load_run(folder).dataset


def test_a_huge_or_deep_file_of_results_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with path.open("wb") as file:
        file.truncate(10**10)  # a hole: it takes no space
    with pytest.raises(ValueError, match="has 10000000000 bytes; at most 100000000 are read"):
        read_json(path)
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match="damaged"):
        read_json(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_json(path)


@pytest.mark.parametrize("place", ["seed-0", "seed-0/m", "seed-0/m/metrics.jsonl", ".lock", "backends"])
def test_links_out_of_the_folder_are_refused_and_nothing_is_written_through(place: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("precious")
    folder = tmp_path / "run"
    (folder / place).parent.mkdir(parents=True)
    (folder / place).symlink_to(secret if "." in place else tmp_path)
    raw = {**RAW, "models": {"m": {"kind": "marginals"}}}
    experiment = resolve(raw)
    (folder / "config.yaml").write_text(experiment.to_yaml())
    with pytest.raises(ValueError, match=r"is a link out of the run's folder|is no file of the lab"):
        run_experiment(experiment, folder, resume=True)
    assert secret.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "secret"]


def test_a_link_within_the_folder_is_fine(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "last").symlink_to(folder / "seed-0")
    assert load_run(folder).seeds == [0]


def test_a_lock_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ValueError, match="is no file of the lab"), claimed(tmp_path):
        pass


TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def said_by(call: Callable[[], object]) -> str:
    try:
        call()
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


@settings(max_examples=60, deadline=None)
@given(field=st.sampled_from(["name", "dataset", "models", "seeds", "evaluation"]), value=TREES)
def test_any_configuration_is_read_or_refused_in_one_line(
    field: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sent")
    small = {**RAW, "name": "x", "models": {"m": {"kind": "marginals"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({**small, field: value}))
    (folder / "environment.json").write_text(json.dumps(value))
    (folder / "results.json").write_text(json.dumps({"name": "x", "seeds": [0], "models": value}))

    def look() -> None:
        run = load_run(folder)
        run.place(run.models[0])
        _ = run.environment, run.results, run.truth

    assert len(said_by(look).splitlines()) <= 1
    entry = entry_of(folder)
    assert entry is not None
    assert len(entry.reason.splitlines()) <= 1


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_what_is_written_as_yaml_is_read_as_it_was(value: Any) -> None:
    text = yaml.safe_dump({"value": value})
    read = said_by(lambda: read_yaml(text, "here"))
    assert len(read.splitlines()) <= 1


def test_a_configuration_of_usual_size_is_far_from_the_limits(finished: Path) -> None:
    assert read_yaml_file(finished / "config.yaml")["seeds"] == [0]
    assert (finished / "config.yaml").stat().st_size < 20_000
