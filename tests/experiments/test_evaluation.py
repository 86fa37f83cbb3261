"""Files judged against a file: names, options, bins, what is refused and what is reported; the page."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli import main
from experiments.evaluation import judge_files, parse_bins, parse_options
from experiments.report.evaluation import write_evaluation
from qgen.data import load_calorimeter, simulate_muon, write_events
from qgen.data.dataset import Dataset, Feature

FAST = ["ks", "wasserstein"]


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    showers = load_calorimeter(grid=(4,), max_events=1200)
    for k, name in enumerate(("truth", "good", "wide", "more")):
        part = showers.take(range(300 * k, 300 * (k + 1)))
        write_events(folder / f"{name}.h5", part.with_samples(part.samples * (1.5 if name == "wide" else 1.0)))
    write_events(folder / "fine.h5", load_calorimeter(grid=(5,), max_events=60))
    write_events(folder / "muons.h5", simulate_muon(60))
    return folder


def command(*arguments: str | Path) -> None:
    sys.argv = ["qgen", "evaluate", *map(str, arguments)]
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    sys.argv = ["qgen", "evaluate", *map(str, arguments)]
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    *before, line = capsys.readouterr().err.strip().splitlines()
    assert not any(one.startswith("qgen: ") for one in before)
    return line.removeprefix("qgen: ")


def test_several_generators_with_a_page(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, table = tmp_path / "page.html", tmp_path / "table.json"
    given = ["--generated", files / "good.h5", f"<b>wide={files / 'wide.h5'}"]
    more = ["--reference", files / "more.h5", "--bins", "incident_energy=2", "--metric", "ks", "--metric", "separation"]
    command("--truth", files / "truth.h5", *given, *more, "--out", table, "--report", page)
    scores = json.loads(table.read_text())
    assert list(scores) == ["good", "<b>wide"]
    assert {"ks", "separation", "ks/layer_0"} < set(scores["good"])
    assert sum("ks @ incident_energy" in name for name in scores["good"]) == 2
    assert scores["<b>wide"]["separation"]["value"] > scores["good"]["separation"]["value"]
    text = page.read_text()
    assert "<b>wide" not in text
    assert "&lt;b&gt;wide" in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("data:image/png") >= 3
    assert "incident_energy" in text
    printed = capsys.readouterr()
    assert "incident_energy" in printed.out
    assert "beyond truth's range" in printed.out
    for aside in ("reading truth.h5", "ks", str(page)):
        assert aside in printed.err
    assert printed.out.split()[0] == "metric"
    assert "reading" not in printed.out
    assert str(page) not in printed.out


def test_the_table_is_that_of_the_python_function(files: Path) -> None:
    from qgen.data import load_events
    from qgen.metrics import evaluate

    judged = judge_files(files / "truth.h5", [str(files / "good.h5")], metrics=FAST, seed=3)
    table = evaluate(load_events(files / "truth.h5"), {"good": load_events(files / "good.h5")}, metrics=FAST, seed=3)
    assert judged.table == table
    assert list(judged.generated) == ["good"]


def test_events_outside_are_counted() -> None:
    from experiments.evaluation import outside

    x = torch.linspace(0.1, 0.9, 50, dtype=torch.float64)[:, None]
    truth = Dataset(x, (Feature("x", limits=(0.0, 1.0)),))
    beyond = truth.with_samples(torch.cat([x[:48], torch.tensor([[0.95], [1.5]])]))
    range_, limits = outside("gan", truth, beyond)
    assert range_ == "gan: 2 of 50 events (4 %) beyond truth's range, most often in x (2)"
    assert limits == "gan: 1 of 50 events (2 %) beyond the limits of columns, most often in x (1)"
    assert outside("gan", truth, truth) == []


def test_metrics_that_are_not_defined_are_named_with_the_reason(tmp_path: Path) -> None:
    x = torch.rand(100, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    write_events(tmp_path / "one.h5", Dataset(x, (Feature("x"),)))
    path = tmp_path / "one.h5"
    judged = judge_files(path, [f"same={path}"], metrics=["ks", "distributions"], n_bootstrap=2)
    assert judged.left_out["correlation"].startswith("correlation needs at least 2")


def test_weighted_events_and_constant_features_have_a_page(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(200, 2, generator=rng, dtype=torch.float64)
    x[:, 1] = 0.25
    events = replace(Dataset(x, (Feature("x"), Feature("$y"))), weights=torch.rand(200, generator=rng) - 0.1)
    for name in ("a", "b"):
        write_events(tmp_path / f"{name}.h5", events)
    judged = judge_files(tmp_path / "a.h5", [str(tmp_path / "b.h5")], metrics=FAST, n_bootstrap=2)
    text = write_evaluation(judged, tmp_path / "page.html").read_text()
    assert "Weights of events count in the tables" in text


def faulty(folder: Path) -> dict[str, Path]:
    """Files that are refused."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(30, 2, generator=rng, dtype=torch.float64)
    paths = {name: folder / f"{name}.h5" for name in ("plain", "unit", "one", "nan", "empty", "none")}
    plain = Dataset(x, (Feature("a", "GeV"), Feature("b")))
    write_events(paths["plain"], plain)
    write_events(paths["nan"], plain)
    with h5py.File(paths["nan"], "a") as file:
        file["samples"][7, 1] = float("nan")
    write_events(paths["unit"], replace(plain, features=(Feature("a", "MeV"), Feature("b"))))
    write_events(paths["one"], plain.take([0]))
    paths["empty"].touch()
    return paths


def test_mistakes_are_one_line(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = faulty(tmp_path)
    truth, good = files / "truth.h5", files / "good.h5"

    def line(*arguments: str | Path) -> str:
        return refused(capsys, *arguments)

    different = line("--truth", bad["plain"], "--generated", bad["unit"])
    assert f"columns differ: {bad['plain']} has a [GeV], b; {bad['unit']} has a [MeV], b" in different
    same = line("--truth", truth, "--generated", good, "--reference", truth)
    assert f"{truth}: is truth and reference at once" in same
    for other in ("fine.h5", "muons.h5"):
        error = line("--truth", truth, "--generated", files / other)
        assert str(truth) in error
        assert str(files / other) in error
    assert "one': 1 events; at least 20" in line("--truth", bad["plain"], "--generated", bad["one"])
    nan = line("--truth", bad["plain"], "--generated", bad["nan"])
    assert str(bad["nan"]) in nan
    assert "row 7" in nan
    assert "is empty" in line("--truth", bad["plain"], "--generated", bad["empty"])
    assert "no such file" in line("--truth", bad["plain"], "--generated", bad["none"])
    both = ["--truth", truth, "--generated", good]
    assert "are both named 'good'" in line(*both, good)
    assert "metric 'kss' is unknown" in line(*both, "--metric", "kss")
    assert "expected metric.option=value" in line(*both, "--option", "ks=3")
    assert "ks has no options" in line(*both, "--option", "ks.bins=3")
    assert "expected CONDITION=NUMBER" in line(*both, "--bins", "incident_energy=a")
    assert "condition 'energy' is unknown" in line(*both, "--bins", "energy=2", "--metric", "ks")
    few = line(*both, "--bins", "incident_energy=100", "--metric", "ks")
    assert "in incident_energy" in few
    assert "at least 20" in few
    assert "--truth goes with files" in line(tmp_path, *both)
    assert "--bins goes with files" in line(tmp_path, "--bins", "a=1")


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@given(
    st.one_of(names, st.tuples(names, names).map("=".join), st.tuples(names, st.floats()).map("{0[0]}={0[1]}".format))
)
@settings(max_examples=150, deadline=None)
def test_any_text_is_options_and_bins_or_one_line(text: str) -> None:
    for parse in (parse_options, parse_bins):
        message = "one line"
        try:
            parse([text])
        except ValueError as error:
            message = str(error)
        assert len(message.splitlines()) == 1


def test_an_interruption_of_the_report_is_said_and_the_table_stays(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.report.evaluation.write_evaluation", interrupted)
    words = ["--truth", files / "truth.h5", "--generated", files / "good.h5", "--metric", "ks", "--bootstrap", "2"]
    words += ["--out", tmp_path / "t.json", "--report", tmp_path / "p.html"]
    monkeypatch.setattr(sys, "argv", ["qgen", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    told = capsys.readouterr()
    assert "interrupted; the report was not written, the table stands above" in told.err
    assert "ks" in told.out
    assert json.loads((tmp_path / "t.json").read_text())
